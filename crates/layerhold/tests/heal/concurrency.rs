//! Readers, pushers and damage at the same time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use layerhold::blob::{OpenError, ReadFault};
use layerhold::{Expected, MediaType, PutManifest};
use layerhold_testkit::fs::damage;

use super::support::{GROUP, Rig, call, read};

#[test]
fn readers_see_what_was_pushed_or_an_error_while_damage_and_healing_go_on() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    let (bystander, bystander_bytes) = rig.pushed(2);
    let stop = AtomicBool::new(false);
    let (right, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for reader in 0..3_u64 {
            let (rig, bytes, stop, right, wrong) = (&rig, &bytes, &stop, &right, &wrong);
            let (bystander, bystander_bytes) = (&bystander, &bystander_bytes);
            scope.spawn(move || {
                let mut round = reader;
                let mut buf = vec![0; bytes.len()];
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    match rig.app().blob(&digest) {
                        Ok(open) => match open.read_at(0, &mut buf) {
                            Ok(read) => {
                                assert!(buf[..read] == bytes[..], "bytes that were never pushed");
                                right.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(ReadFault::Corrupt { .. }) => _ = wrong.fetch_add(1, Ordering::Relaxed),
                            Err(fault) => panic!("{fault}"),
                        },
                        Err(OpenError::Corrupt { .. }) => _ = wrong.fetch_add(1, Ordering::Relaxed),
                        Err(error) => panic!("{error}"),
                    }
                    if round % 8 == 0 {
                        assert!(read(&rig.app(), bystander) == *bystander_bytes);
                    }
                }
            });
        }
        for round in 0..60_u64 {
            let file = rig.file(&digest);
            // It may be gone by now: a heal of the round before took its place.
            let _ = match round % 3 {
                0 => damage::flip_bit(&rig.fs, &file, (round % 5) * GROUP as u64 * 8),
                1 => damage::truncate(&rig.fs, &file, GROUP as u64),
                _ => damage::delete(&rig.fs, &file),
            };
            while rig.is_present(&digest) {
                std::thread::yield_now();
            }
            rig.push(&bytes);
            rig.engine.maintain().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(read(&rig.app(), &digest), bytes);
    let healed = rig.incidents().iter().filter(|incident| *incident == "blob healed").count();
    assert_eq!(healed, 60);
    println!("right={right:?} wrong={wrong:?}");
    assert!(wrong.load(Ordering::Relaxed) > 0);
}

#[test]
fn many_readers_of_one_damage_write_it_down_once() {
    for rebuilt in [false, true] {
        let rig = Rig::new();
        let (digest, bytes) = rig.pushed(1);
        let location = rig.location(&digest);
        if rebuilt {
            rig.set_row(&layerhold::format::keys::groups(location, 0), None);
        } else {
            damage::flip_bit(&rig.fs, &rig.file(&digest), 7).unwrap();
        }
        let readers: Vec<_> = (0..8).map(|_| rig.app().blob(&digest).unwrap()).collect();
        std::thread::scope(|scope| {
            for reader in &readers {
                let bytes = &bytes;
                scope.spawn(move || {
                    let mut buf = vec![0; bytes.len()];
                    assert_eq!(reader.read_at(0, &mut buf).is_ok(), rebuilt);
                    assert!(!rebuilt || buf == *bytes);
                });
            }
        });
        assert_eq!(rig.incidents().len(), 1, "{:?}", rig.incidents());
    }
}

/// Quarantine against the puts that rely on the blob: whichever comes first, no manifest is put that needs a blob of which
/// it was known before that it is damaged.
#[test]
fn a_put_of_a_manifest_and_a_quarantine_are_decided_one_after_the_other() {
    for round in 0..40 {
        let rig = Rig::new();
        let config = rig.push(b"{}");
        let (digest, _) = rig.pushed(round);
        let reader = rig.app().blob(&digest).unwrap();
        damage::flip_bit(&rig.fs, &rig.file(&digest), 7).unwrap();
        let put = PutManifest::new(format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[{{"mediaType":"{}","digest":"{digest}","size":9}}]}}"#,
            MediaType::OCI_MANIFEST,
            MediaType::OCI_CONFIG,
            MediaType::OCI_LAYER
        ));
        let done = std::thread::scope(|scope| {
            let reading = scope.spawn(|| reader.read_at(0, &mut [0; 10]).unwrap_err());
            let done = rig.app().put_manifest(&put, &call());
            reading.join().unwrap();
            done
        });
        let events = rig.events();
        let at = |wanted: fn(&layerhold::change::Event) -> bool| events.iter().position(wanted);
        let quarantined =
            at(|event| matches!(event, layerhold::change::Event::BlobQuarantined { .. })).expect("it was read");
        let put = at(|event| {
            matches!(
                event,
                layerhold::change::Event::Repository {
                    event: layerhold::change::RepositoryEvent::ManifestPut { .. },
                    ..
                }
            )
        });
        assert_eq!(done.is_ok(), put.is_some());
        assert!(put.is_none_or(|put| put < quarantined), "{events:?}");
    }
}

#[test]
fn pushers_of_one_damaged_blob_all_succeed() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    damage::delete(&rig.fs, &rig.file(&digest)).unwrap();
    assert!(rig.app().blob(&digest).is_err());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| rig.app().put_blob(&bytes, &Expected::Digest(digest), &call()).unwrap());
        }
    });
    assert_eq!(read(&rig.app(), &digest), bytes);
    let healed = rig.incidents().iter().filter(|incident| *incident == "blob healed").count();
    assert_eq!(healed, 1, "the others replaced what was right");
    rig.engine.maintain().unwrap();
    let files = damage::files(&rig.fs).unwrap();
    assert_eq!(files.iter().filter(|path| path.starts_with("blobs")).count(), 1);
}
