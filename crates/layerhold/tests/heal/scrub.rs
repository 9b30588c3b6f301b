//! The scrub: finds every damage, at its pace, over restarts, beside everything else.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use layerhold::blob::Damage;
use layerhold::format::keys::{self, RepositoryId, Scope};
use layerhold::format::rows::well_formed;
use layerhold::format::scrub::ScrubRow;
use layerhold::format::values::{ManifestRow, Row, SuspectRow};
use layerhold::manifest::ManifestRead;
use layerhold::store::{Direction, KeyRange, MetadataStore};
use layerhold::{
    Algorithm, DeleteMode, Digest, MediaType, PartRange, PutManifest, Reference, ScrubBudget, ScrubFinding, Scrubbed,
    Tag,
};
use layerhold_testkit::fs::{Call, Failure, Fault, Repeat, SimFileSystem, damage};
use layerhold_testkit::operation::pool::noise;

use super::odd::Oddity;
use super::support::{GROUP, REGISTRY, Rig, call, name, options, read};

const SCOPE: Scope = Scope { registry: REGISTRY, repository: RepositoryId(1) };
const ALL: ScrubBudget = ScrubBudget::bytes(u64::MAX);

fn image(rig: &Rig, layer: &Digest, subject: Option<&Digest>) -> PutManifest {
    let config = rig.push(b"{}");
    let subject = subject.map_or(String::new(), |subject| {
        format!(r#","subject":{{"mediaType":"{}","digest":"{subject}","size":2}}"#, MediaType::OCI_MANIFEST)
    });
    PutManifest::new(format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[{{"mediaType":"{}","digest":"{layer}","size":9}}]{subject}}}"#,
        MediaType::OCI_MANIFEST,
        MediaType::OCI_CONFIG,
        MediaType::OCI_LAYER
    ))
}

/// A store with a row of nearly every family; the manifest and its referrer.
fn furnished() -> (Rig, Digest, Digest) {
    let rig = Rig::new();
    let app = rig.app();
    let (layer, _) = rig.pushed(1);
    let put = image(&rig, &layer, None).with_tag(Tag::parse("v1").unwrap());
    let manifest = app.put_manifest(&put, &call()).unwrap().digest;
    app.manifest(&Reference::Digest(manifest), ManifestRead::Pull).unwrap();
    let referrer = app.put_manifest(&image(&rig, &layer, Some(&manifest)), &call()).unwrap().digest;
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{manifest}","size":1}}]}}"#,
        MediaType::OCI_INDEX,
        MediaType::OCI_MANIFEST
    );
    app.put_manifest(&PutManifest::new(index), &call()).unwrap();
    // A session with a file, one that is small, and one with more parts than its end takes along.
    for len in [3 * GROUP, 100] {
        let id = app.begin_upload(Algorithm::Sha256, &call()).unwrap();
        app.append_part(&id, PartRange { first_byte: 0, len: len as u64 }, noise(9, len), &call()).unwrap();
    }
    let id = app.begin_upload(Algorithm::Sha256, &call()).unwrap();
    for part in 0..9 {
        app.append_part(&id, PartRange { first_byte: part * 10, len: 10 }, noise(part, 10), &call()).unwrap();
    }
    app.cancel_upload(&id, &call()).unwrap();
    // A location that is given up and still read.
    let (replaced, bytes) = rig.pushed(4);
    let reader = app.blob(&replaced).unwrap();
    rig.push(&bytes);
    drop(reader);
    let (unread, _) = rig.pushed(5);
    let other = app.registry().repository(&name("gone"));
    app.registry().create_repository(&name("gone"), &Default::default(), &call()).unwrap();
    other.put_blob(b"bytes", &layerhold::Expected::Computed, &call()).unwrap();
    app.registry().delete_repository(&name("gone"), DeleteMode::Force, &call()).unwrap();
    rig.engine.close().unwrap();
    let rig = rig.killed();
    // Not synced, so that the kill would have taken it.
    let suspect = SuspectRow { generation: rig.blob_row(&unread).generation, since_ms: 1, looked_ms: 0, failures: 0 };
    rig.set_row(&keys::suspect(REGISTRY, &unread), Some(&suspect.encode()));
    (rig, manifest, referrer)
}

fn pass(rig: &Rig) -> Scrubbed {
    let done = rig.engine.scrub_step(ALL).unwrap();
    assert!(done.pass_completed && !done.busy, "{done:?}");
    done
}

fn rows(rig: &Rig) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let all = KeyRange { start: vec![1], end: vec![0xff] };
    let view = rig.metadata.view().unwrap();
    view.scan(&all, Direction::Forward, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

#[test]
fn a_sound_store_has_no_findings_and_changes_nothing_that_counts() {
    let (rig, ..) = furnished();
    let sequence = rig.engine.sequence();
    let families: BTreeSet<u8> = rows(&rig).iter().map(|(key, _)| key[0]).collect();
    assert!(families.len() >= 25, "{families:x?}");
    let done = pass(&rig);
    assert_eq!(done.findings, []);
    assert_eq!((done.manifests, done.pass), (3, 1));
    // The layer, the config, the replaced blob, the one of the repository that is gone, and the one that was not read, which
    // was looked at out of turn and in its turn.
    assert_eq!(done.blobs, 6);
    assert!(done.rows >= rows(&rig).len() as u64 - 1 && done.bytes > 10 * GROUP as u64);
    assert_eq!(rig.engine.sequence(), sequence);
    assert_eq!(pass(&rig).pass, 2);
}

#[test]
fn damage_to_a_file_is_found_before_anybody_reads_it() {
    type Harm = fn(&Rig, &Digest);
    let expected = 5 * GROUP as u64 + 77 + 128;
    let harms: [(Harm, Damage); 6] = [
        (
            |rig, digest| damage::flip_bit(&rig.fs, &rig.file(digest), 4 * GROUP as u64 * 8).unwrap(),
            Damage::Bytes { offset: 4 * GROUP as u64 },
        ),
        (|rig, digest| damage::zero(&rig.fs, &rig.file(digest), 0, 10).unwrap(), Damage::Bytes { offset: 0 }),
        (|rig, digest| damage::truncate(&rig.fs, &rig.file(digest), 9).unwrap(), Damage::Length { expected, found: 9 }),
        (
            |rig, digest| damage::append(&rig.fs, &rig.file(digest), b"x").unwrap(),
            Damage::Length { expected, found: expected + 1 },
        ),
        (|rig, digest| damage::delete(&rig.fs, &rig.file(digest)).unwrap(), Damage::Missing),
        (
            |rig, digest| {
                let (other, _) = rig.pushed(77);
                damage::swap(&rig.fs, &rig.file(digest), &rig.file(&other)).unwrap();
            },
            Damage::Bytes { offset: 0 },
        ),
    ];
    for (number, (harm, expected)) in harms.into_iter().enumerate() {
        for budget in [1, 3_000, u64::MAX] {
            let rig = Rig::new();
            let (digest, bytes) = rig.pushed(1);
            let (bystander, _) = rig.pushed(2);
            harm(&rig, &digest);
            let mut findings = Vec::new();
            while !rig.engine.scrub_progress().unwrap().pass.gt(&1) {
                let done = rig.engine.scrub_step(ScrubBudget::bytes(budget)).unwrap();
                findings.extend(done.findings);
            }
            let found = findings.iter().find_map(|finding| match finding {
                ScrubFinding::BlobQuarantined { digest: found, damage, .. } if *found == digest => Some(*damage),
                _ => None,
            });
            assert_eq!(found, Some(expected), "harm {number} {findings:?}");
            let footers = findings.iter().filter(|finding| matches!(finding, ScrubFinding::Footer { .. })).count();
            assert_eq!(findings.len() - footers, if number == 5 { 2 } else { 1 }, "{findings:?}");
            assert!(!rig.is_present(&digest));
            assert!(rig.is_present(&bystander));
            rig.push(&bytes);
            assert_eq!(read(&rig.app(), &digest), bytes);
        }
    }
}

#[test]
fn chaining_values_roots_footers_and_small_blobs_are_looked_at() {
    let rig = Rig::new();
    let (one, bytes) = rig.pushed(1);
    let (two, _) = rig.pushed(2);
    let (three, _) = rig.pushed(3);
    let (small, lost) = (rig.push(b"small and damaged"), rig.push(b"small and lost"));
    let row = rig.row(&keys::groups(rig.location(&one), 0)).unwrap();
    let mut harmed = row.clone();
    harmed[40] ^= 1;
    rig.set_row(&keys::groups(rig.location(&one), 0), Some(&harmed));
    let mut blob = rig.blob_row(&two);
    blob.root[0] ^= 1;
    rig.set_row(&keys::blob(REGISTRY, &two), Some(&blob.encode()));
    damage::flip_bit(&rig.fs, &rig.file(&three), (bytes.len() as u64 + 30) * 8).unwrap();
    rig.set_row(&keys::inline_bytes(rig.location(&small)), Some(b"small and dam_ged"));
    rig.set_row(&keys::inline_bytes(rig.location(&lost)), None);

    let found = pass(&rig).findings;
    let is = |wanted: &dyn Fn(&ScrubFinding) -> bool| found.iter().filter(|found| wanted(found)).count() == 1;
    assert!(is(&|f| matches!(f, ScrubFinding::BlobRebuilt { digest, .. } if *digest == one)), "{found:?}");
    assert!(is(&|f| matches!(f, ScrubFinding::BlobRebuilt { digest, .. } if *digest == two)), "{found:?}");
    assert!(is(&|f| matches!(f, ScrubFinding::Footer { digest, .. } if *digest == three)), "{found:?}");
    assert!(is(
        &|f| matches!(f, ScrubFinding::BlobQuarantined { digest, damage: Damage::Bytes { offset: 0 }, .. } if *digest == small)
    ));
    assert!(is(
        &|f| matches!(f, ScrubFinding::BlobQuarantined { digest, damage: Damage::Missing, .. } if *digest == lost)
    ));
    // The damaged row itself comes by in its place, too, unless the blob's came first.
    assert_eq!(found.len(), 5, "{found:?}");
    assert_eq!(rig.row(&keys::groups(rig.location(&one), 0)).unwrap(), row);
    assert_eq!(pass(&rig).findings.len(), 1, "only the footer is still as it was");
    assert!(rig.incidents().iter().any(|what| what.starts_with("footer is damaged")));
}

#[test]
fn manifests_are_compared_with_their_digests_and_their_rows() {
    let (rig, manifest, referrer) = furnished();
    let layer = Digest::sha256(&noise(1, 5 * GROUP + 77));
    let what = |rig: &Rig| match pass(rig).findings.as_slice() {
        [ScrubFinding::ManifestRows { digest, what, repository, .. }] if *repository == name("app") => (*digest, *what),
        other => panic!("{other:?}"),
    };
    let harmed = |key: keys::KeyBytes, value: Option<&[u8]>, found: (Digest, &'static str)| {
        let before = rig.row(&key).unwrap();
        rig.set_row(&key, value);
        assert_eq!(what(&rig), found);
        rig.set_row(&key, Some(&before));
        assert_eq!(pass(&rig).findings, []);
    };
    let none = layerhold::format::values::ReferencesRow(Vec::new()).encode();
    harmed(keys::manifest_references(SCOPE, &manifest), Some(&none), (manifest, "references"));
    harmed(keys::manifest_references(SCOPE, &manifest), None, (manifest, "references"));
    harmed(keys::back_reference(SCOPE, &layer, &manifest, 2), None, (manifest, "back-reference"));
    harmed(keys::back_reference(SCOPE, &layer, &manifest, 2), Some(b"text/plain"), (manifest, "back-reference"));
    harmed(keys::referrer(SCOPE, &manifest, &referrer), None, (referrer, "referrer"));
    let mut row = ManifestRow::decode(&rig.row(&keys::manifest(SCOPE, &manifest)).unwrap()).unwrap();
    row.image_bytes += 1;
    harmed(keys::manifest(SCOPE, &manifest), Some(&row.encode()), (manifest, "manifest"));

    rig.set_row(&keys::manifest_bytes(SCOPE, &manifest), Some(b"{}"));
    let found = pass(&rig).findings;
    assert!(matches!(found.as_slice(), [ScrubFinding::ManifestQuarantined { digest, .. }] if *digest == manifest));
    assert!(rig.app().manifest_head(&Reference::Digest(manifest)).is_err());
    assert_eq!(pass(&rig).findings, [], "it is said once");
}

#[test]
fn a_row_of_any_family_that_is_none_is_found() {
    // Bytes of clients, of which any are as good as any.
    const OPAQUE: [u8; 3] = [0x11, 0x22, 0x31];
    let (rig, ..) = furnished();
    let mut harmed = BTreeSet::new();
    for (key, value) in rows(&rig) {
        well_formed(&key, &value).unwrap();
        if !OPAQUE.contains(&key[0]) {
            assert!(well_formed(&key, &[0xff; 5]).is_err(), "{key:x?}");
            // In the log, a length that says nothing of the row would still be found.
            let longer = [value.as_slice(), &[0xff]].concat();
            assert!(well_formed(&key, &longer).is_err(), "{key:x?}");
        }
        // One of each family, in the store itself; what the engine needs to go on is left alone.
        let needed = [1, 3, 0x10, 0x30, 0x50, 0x60].contains(&key[0]);
        if !OPAQUE.contains(&key[0]) && !needed && harmed.insert(key[0]) {
            rig.set_row(&key, Some(&[0xff; 5]));
        }
    }
    assert!(well_formed(&[0x77, 1], b"").is_err() && well_formed(b"", b"").is_err());
    let found: BTreeSet<u8> = pass(&rig)
        .findings
        .iter()
        .filter_map(|finding| match finding {
            ScrubFinding::Row { key, .. } => Some(key[0]),
            _ => None,
        })
        .collect();
    assert!(harmed.is_superset(&BTreeSet::from([2, 4, 0x14])), "{harmed:x?}");
    // The chaining values of a blob are right again by the time the scrub comes to their row, and the blob was read.
    let missed: Vec<_> = harmed.difference(&found).copied().collect();
    assert!(missed.iter().all(|family| [0x12, 0x14].contains(family)), "{missed:x?}");
    assert!(rig.incidents().len() >= harmed.len() - 2);
}

#[test]
fn no_damaged_row_keeps_a_pass_from_what_lies_behind_it() {
    let registry_name = keys::registry_name(&layerhold::RegistryName::parse("test").unwrap());
    let suspect = keys::suspect(REGISTRY, &Digest::sha256(&noise(5, 5 * GROUP + 77)));
    let wrong: &[u8] = &[0xff; 5];
    for (number, (key, harm)) in [
        (registry_name.clone(), Some(wrong)),
        (registry_name, None),
        (keys::repository(SCOPE), Some(wrong)),
        (keys::repository(SCOPE), None),
        (suspect, Some(wrong)),
        (keys::meta::scrub(), Some(wrong)),
    ]
    .into_iter()
    .enumerate()
    {
        let (rig, manifest, _) = furnished();
        pass(&rig);
        let rig = {
            rig.engine.close().unwrap();
            rig.killed()
        };
        let (digest, bytes) = rig.pushed(6);
        let (unread, _) = rig.pushed(7);
        rig.set_row(&key, harm);
        damage::flip_bit(&rig.fs, &rig.file(&digest), 2 * GROUP as u64 * 8).unwrap();
        rig.odd.oddity.tell(Some((rig.file(&unread), Oddity::Refused(5))));
        rig.set_row(&keys::manifest_bytes(SCOPE, &manifest), Some(b"{}"));

        rig.engine.scrub_progress().unwrap();
        rig.engine.maintain().unwrap();
        let found = pass(&rig).findings;
        let is = |wanted: &dyn Fn(&ScrubFinding) -> bool| found.iter().filter(|found| wanted(found)).count() == 1;
        let row = is(&|f| matches!(f, ScrubFinding::Row { key: found, .. } if **found == *key));
        assert_eq!(row, harm.is_some() && key[0] != 0x14, "{number} {found:?}");
        let named = number > 1;
        assert!(
            is(
                &|f| matches!(f, ScrubFinding::BlobQuarantined { digest: found, registry, .. } if *found == digest && registry.is_some() == named)
            ),
            "{number} {found:?}"
        );
        assert!(
            is(&|f| matches!(f, ScrubFinding::Unreadable { digest: found, .. } if *found == unread)),
            "{number} {found:?}"
        );
        let quarantined = is(&|f| matches!(f, ScrubFinding::ManifestQuarantined { digest, .. } if *digest == manifest));
        assert_eq!(quarantined, key != keys::repository(SCOPE), "{number} {found:?}");
        let event = |what: &str| rig.incidents().iter().filter(|incident| incident.starts_with(what)).count();
        assert_eq!(event("blob quarantined"), 1, "{number}");
        assert_eq!(
            event(if named { "manifest quarantined" } else { "manifest is damaged and quarantined registry=(lost)" }),
            usize::from(quarantined)
        );
        if named && key != keys::repository(SCOPE) {
            rig.push(&bytes);
            assert_eq!(read(&rig.app(), &digest), bytes);
        }
        let progress = rig.engine.scrub_progress().unwrap();
        assert!(!progress.running && progress.pass >= 1, "{progress:?}");
    }
}

#[test]
fn a_row_that_is_damaged_while_its_blob_is_read_is_found_and_passed_by() {
    let rig = Rig::new();
    let digest = rig.push(&noise(5, 100 * GROUP));
    let row = |rig: &Rig| ScrubRow::decode(&rig.row(&keys::meta::scrub()).unwrap()).unwrap();
    loop {
        rig.engine.scrub_step(ScrubBudget::bytes(5_000)).unwrap();
        if row(&rig).blob.is_some_and(|blob| blob.offset > 0) {
            break;
        }
    }
    rig.set_row(&keys::blob(REGISTRY, &digest), Some(&[0xff; 5]));
    let done = pass(&rig);
    assert!(matches!(done.findings.as_slice(), [ScrubFinding::Row { .. }]), "{done:?}");
    assert!(pass(&rig).findings.iter().all(|found| matches!(found, ScrubFinding::Row { .. })));
}

/// Permissions that were changed, say: no reason to believe that bytes are lost, and none to stop.
#[test]
fn a_file_that_the_process_may_not_read_is_passed_by_and_never_given_up() {
    const EACCES: i32 = 13;
    const EISDIR: i32 = 21;
    for number in [EACCES, EISDIR] {
        let rig = Rig::new();
        rig.clock.advance(1_000);
        let blobs: Vec<_> = (0..6).map(|seed| rig.pushed(seed)).collect();
        let mut digests: Vec<_> = blobs.iter().map(|(digest, _)| *digest).collect();
        digests.sort();
        let refused = digests[0];
        rig.odd.oddity.tell(Some((rig.file(&refused), Oddity::Refused(number))));
        damage::delete(&rig.fs, &rig.file(&digests[5])).unwrap();
        let found = pass(&rig).findings;
        assert!(
            matches!(found.as_slice(), [ScrubFinding::Unreadable { digest: one, .. }, ScrubFinding::BlobQuarantined { digest: other, .. }] if (*one, *other) == (refused, digests[5])),
            "{found:?}"
        );
        for _ in 0..5 {
            rig.clock.advance(60_000);
            let found = pass(&rig).findings;
            assert!(matches!(found.as_slice(), [ScrubFinding::Unreadable { .. }]), "{found:?}");
        }
        rig.odd.oddity.tell(None);
        assert_eq!(pass(&rig).findings, []);
        let bytes = &blobs.iter().find(|(digest, _)| *digest == refused).unwrap().1;
        assert!(rig.is_present(&refused) && read(&rig.app(), &refused) == *bytes);
        assert_eq!(rig.engine.scrub_progress().unwrap().suspects, 0);
    }
}

#[test]
fn a_pass_goes_on_where_it_was_over_restarts_and_inside_a_blob() {
    let mut rig = Rig::new();
    let large = noise(5, 300 * GROUP);
    let digest = rig.push(&large);
    let whole = pass(&rig).bytes;
    let (mut read, mut steps, mut offsets) = (0, 0, BTreeSet::new());
    loop {
        let done = rig.engine.scrub_step(ScrubBudget::bytes(10_000)).unwrap();
        assert_eq!(done.findings, []);
        (read, steps) = (read + done.bytes, steps + 1);
        assert!(done.bytes < 10_000 + 300 * 32 + 2 * GROUP as u64, "{done:?}");
        let row = ScrubRow::decode(&rig.row(&keys::meta::scrub()).unwrap()).unwrap();
        offsets.extend(row.blob.map(|blob| blob.offset));
        if done.pass_completed {
            break;
        }
        // What RocksDB flushed by itself, say.
        layerhold::store::table::Table::flush(&rig.table).unwrap();
        rig = rig.killed();
    }
    assert!(offsets.len() > 80, "{offsets:?}");
    // Each step proves the chaining values once more, as a new process does.
    assert!(read < whole + steps * (300 * 32 + 400), "{read} {whole} {steps}");
    assert!(rig.blob_row(&digest).verified_ms <= rig.engine.now_ms());
}

#[test]
fn damage_behind_the_place_of_a_restart_is_found_in_the_same_pass() {
    let rig = Rig::new();
    let digest = rig.push(&noise(5, 300 * GROUP));
    let mut done = Scrubbed::default();
    let offset = |rig: &Rig| {
        let row = rig.row(&keys::meta::scrub()).unwrap();
        ScrubRow::decode(&row).unwrap().blob.map_or(0, |blob| blob.offset)
    };
    while done.pass == 0 || offset(&rig) < 100 * GROUP as u64 {
        done = rig.engine.scrub_step(ScrubBudget::bytes(10_000)).unwrap();
    }
    layerhold::store::table::Table::flush(&rig.table).unwrap();
    let rig = rig.killed();
    damage::flip_bit(&rig.fs, &rig.file(&digest), 200 * GROUP as u64 * 8).unwrap();
    let done = rig.engine.scrub_step(ALL).unwrap();
    assert!(done.pass == 1 && done.bytes < 250 * GROUP as u64, "{done:?}");
    assert!(matches!(done.findings.as_slice(), [ScrubFinding::BlobQuarantined { .. }]), "{done:?}");
}

#[test]
fn a_blob_that_is_replaced_or_deleted_meanwhile_is_no_finding() {
    for remove in [false, true] {
        let rig = Rig::new();
        let bytes = noise(5, 100 * GROUP);
        let digest = rig.push(&bytes);
        let row = |rig: &Rig| ScrubRow::decode(&rig.row(&keys::meta::scrub()).unwrap()).unwrap();
        loop {
            rig.engine.scrub_step(ScrubBudget::bytes(5_000)).unwrap();
            if row(&rig).blob.is_some_and(|blob| blob.offset > 0) {
                break;
            }
        }
        let old = rig.file(&digest);
        if remove {
            rig.set_row(&keys::blob(REGISTRY, &digest), None);
        } else {
            rig.push(&bytes);
        }
        damage::zero(&rig.fs, &old, 0, 1).ok();
        let done = rig.engine.scrub_step(ALL).unwrap();
        assert!(done.pass_completed && done.findings.is_empty(), "{done:?}");
        rig.engine.maintain().unwrap();
        assert_eq!(rig.exists(&old), remove);
    }
}

#[test]
fn an_iterator_that_fails_ends_the_step_and_not_the_pass() {
    let (rig, manifest, _) = furnished();
    rig.set_row(&keys::manifest_bytes(SCOPE, &manifest), Some(b"{}"));
    let mut failures = 0;
    for rows in 0..400 {
        rig.metadata.fail_after(rows);
        match rig.engine.scrub_step(ScrubBudget::bytes(500)) {
            Err(_) => failures += 1,
            Ok(done) => assert!(!done.pass_completed || rig.incidents() == ["manifest quarantined"], "{rows}"),
        }
        rig.metadata.recover();
    }
    assert!(failures > 3, "{failures}");
    while !rig.engine.scrub_step(ALL).unwrap().pass_completed {}
    assert_eq!(rig.incidents(), ["manifest quarantined"]);
}

#[test]
fn a_blob_that_cannot_be_read_is_looked_at_again_before_its_bytes_count_as_lost() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    let (other, _) = rig.pushed(2);
    let suspect_key = keys::suspect(REGISTRY, &digest);
    let sticky = |rig: &Rig| {
        rig.failing.arm(Fault { call: Some(Call::Read), nth: 1, failure: Failure::Eio, repeat: Repeat::Sticky })
    };

    // A reader meets it, and it passes.
    rig.failing.arm(Fault { call: Some(Call::Read), nth: 1, failure: Failure::Eio, repeat: Repeat::Once });
    assert!(rig.app().blob(&digest).unwrap().read_at(0, &mut [0; 10]).is_err());
    assert_eq!(rig.engine.scrub_progress().unwrap().suspects, 1);
    assert_eq!(pass(&rig).findings, []);
    assert_eq!(rig.row(&suspect_key), None, "it was read");

    // It stays.
    rig.clock.advance(1_000);
    let verified_ms = rig.engine.scrub_progress().unwrap().verified_since_ms;
    sticky(&rig);
    let first = pass(&rig).findings;
    assert_eq!(first.iter().filter(|found| matches!(found, ScrubFinding::Unreadable { .. })).count(), 2, "{first:?}");
    assert_eq!(pass(&rig).findings, [], "not before some time has passed");
    assert!(rig.engine.scrub_progress().unwrap().verified_since_ms <= verified_ms, "nothing was verified");
    rig.clock.advance(60_000);
    assert_eq!(pass(&rig).findings.len(), 2);
    assert!(rig.is_present(&digest) && rig.is_present(&other), "it may still pass");
    rig.clock.advance(60_000);
    let lost = pass(&rig).findings;
    let lost =
        lost.iter().filter(|found| matches!(found, ScrubFinding::BlobQuarantined { damage: Damage::Unreadable, .. }));
    assert_eq!(lost.count(), 2);
    assert!(!rig.is_present(&digest));
    assert_eq!(rig.row(&suspect_key), None);
    rig.failing.disarm();
    rig.push(&bytes);
    assert_eq!(read(&rig.app(), &digest), bytes);
}

#[test]
fn a_suspect_is_looked_at_before_all_others() {
    let rig = Rig::new();
    let blobs: Vec<_> = (0..20).map(|seed| rig.pushed(seed).0).collect();
    let last = blobs.iter().max().unwrap();
    let suspect = SuspectRow { generation: rig.blob_row(last).generation, since_ms: 1, looked_ms: 0, failures: 0 };
    rig.set_row(&keys::suspect(REGISTRY, last), Some(&suspect.encode()));
    rig.clock.advance(500);
    damage::delete(&rig.fs, &rig.file(last)).unwrap();
    let done = rig.engine.scrub_step(ScrubBudget::bytes(1)).unwrap();
    assert!(matches!(done.findings.as_slice(), [ScrubFinding::BlobQuarantined { digest, .. }] if digest == last));
}

/// The clock never says that something was verified later than it was.
#[test]
fn the_coverage_clock_is_the_age_of_the_oldest_verification_or_more() {
    let mut rig = Rig::new();
    let blobs: Vec<_> = (0..12).map(|seed| rig.pushed(seed).0).collect();
    assert_eq!(rig.engine.scrub_progress().unwrap().verified_since_ms, 0);
    let (mut completed, mut steps) = (0_u32, 0_u64);
    let mut ages = Vec::new();
    while completed < 4 {
        rig.clock.advance(1_000);
        let done = rig.engine.scrub_step(ScrubBudget::bytes(7_000)).unwrap();
        completed += u32::from(done.pass_completed);
        steps += 1;
        if steps.is_multiple_of(7) {
            layerhold::store::table::Table::flush(&rig.table).unwrap();
        }
        if steps.is_multiple_of(11) {
            // Loses what was not flushed; the clock may only get older by it.
            rig = rig.killed();
        }
        let progress = rig.engine.scrub_progress().unwrap();
        let oldest = blobs.iter().map(|digest| rig.blob_row(digest).verified_ms).min().unwrap();
        assert!(progress.verified_since_ms <= oldest, "{progress:?} oldest={oldest}");
        assert_eq!(progress.age_ms, rig.engine.now_ms() - progress.verified_since_ms);
        if completed > 1 {
            ages.push(progress.age_ms);
        }
    }
    let pass_ms = rig.engine.now_ms() / 4;
    // After each pass the oldest verification is about one pass old; a store that is never finished would count from 0.
    assert!(ages.iter().all(|age| *age < 2 * pass_ms), "{ages:?} {pass_ms}");
}

#[test]
fn the_coverage_clock_asks_every_suspect() {
    let rig = Rig::new();
    rig.clock.advance(1_000);
    pass(&rig);
    pass(&rig);
    let (digest, _) = rig.pushed(1);
    let mut blob = rig.blob_row(&digest);
    let verified_ms = rig.engine.scrub_progress().unwrap().verified_since_ms;
    assert!(verified_ms >= 1_000);
    let suspect = SuspectRow { generation: 1, since_ms: 1, looked_ms: 0, failures: 0 }.encode();
    for number in 0..=1_000_u16 {
        let mut raw = [0; 32];
        raw[..2].copy_from_slice(&number.to_be_bytes());
        let digest = Digest::from_bytes(Algorithm::Sha256, &raw).unwrap();
        // The last one of all was verified before the others.
        blob.verified_ms = verified_ms - u64::from(number == 1_000);
        rig.set_row(&keys::blob(REGISTRY, &digest), Some(&blob.encode()));
        rig.set_row(&keys::suspect(REGISTRY, &digest), Some(&suspect));
    }
    let progress = rig.engine.scrub_progress().unwrap();
    assert_eq!((progress.suspects, progress.verified_since_ms), (1_001, verified_ms - 1));
}

#[test]
fn maintenance_scrubs_at_its_rate_and_rests_between_passes() {
    let options = options().with_scrub_bytes_per_s(20_000).with_scrub_interval_ms(3_600_000);
    let rig = Rig::with(options);
    for seed in 0..10 {
        rig.pushed(seed);
    }
    rig.engine.maintain().unwrap();
    rig.clock.advance(1_000);
    assert_eq!(
        rig.engine.maintain().unwrap().scrubbed,
        Scrubbed::default(),
        "a new store has just verified everything"
    );
    rig.clock.advance(3_600_000);
    let (mut read, mut seconds) = (0, 0);
    loop {
        let done = rig.engine.maintain().unwrap().scrubbed;
        read += done.bytes;
        if done.pass_completed {
            break;
        }
        seconds += 1;
        rig.clock.advance(1_000);
    }
    assert!(read > 200_000);
    let least = read / 20_000 - 1;
    assert!((least..=least + 3).contains(&seconds), "{read} bytes in {seconds} s");
    rig.clock.advance(10_000);
    assert_eq!(rig.engine.maintain().unwrap().scrubbed.bytes, 0, "the next pass is not due");
    rig.clock.advance(3_600_000);
    assert!(rig.engine.maintain().unwrap().scrubbed.bytes > 0);
}

fn one_failed_read(rig: &Rig, digest: &Digest) {
    rig.failing.arm(Fault { call: Some(Call::Read), nth: 1, failure: Failure::Eio, repeat: Repeat::Once });
    assert!(rig.app().blob(digest).unwrap().read_at(0, &mut [0; 10]).is_err());
    assert!(rig.row(&keys::suspect(REGISTRY, digest)).is_some());
}

#[test]
fn a_failed_read_between_passes_is_looked_at_and_begins_no_pass() {
    let rig = Rig::with(options().with_scrub_bytes_per_s(20_000).with_scrub_interval_ms(3_600_000));
    let blobs: Vec<_> = (0..4).map(|seed| rig.pushed(seed).0).collect();
    rig.clock.advance(1_000);
    pass(&rig);
    let before = rig.engine.scrub_progress().unwrap();
    // One that cannot be read comes first in the order of keys, and its time has not come again.
    let first = blobs.iter().min().unwrap();
    let row = SuspectRow {
        generation: rig.blob_row(first).generation,
        since_ms: 1,
        looked_ms: rig.engine.now_ms(),
        failures: 1,
    };
    rig.set_row(&keys::suspect(REGISTRY, first), Some(&row.encode()));
    one_failed_read(&rig, blobs.iter().max().unwrap());
    rig.engine.maintain().unwrap();
    rig.clock.advance(10_000);
    let done = rig.engine.maintain().unwrap().scrubbed;
    // A blob of six groups is more than a second's worth, and is read to its end.
    assert!(done.bytes > 0 && !done.pass_completed && done.findings.is_empty(), "{done:?}");
    rig.clock.advance(10_000);
    rig.engine.maintain().unwrap();
    let after = rig.engine.scrub_progress().unwrap();
    assert_eq!((after.pass, after.running, after.started_ms), (before.pass, false, before.started_ms));
    assert_eq!(after.suspects, 1, "only the first one is left");
    rig.clock.advance(60_000);
    rig.engine.maintain().unwrap();
    rig.clock.advance(10_000);
    rig.engine.maintain().unwrap();
    let after = rig.engine.scrub_progress().unwrap();
    assert_eq!((after.pass, after.running, after.suspects), (before.pass, false, 0));
    assert!(after.verified_since_ms >= before.verified_since_ms);
}

#[test]
fn a_suspect_waits_for_no_large_blob_and_the_large_blob_goes_on_where_it_was() {
    let rig = Rig::new();
    let large = rig.push(&noise(5, 300 * GROUP));
    let (other, _) = rig.pushed(1);
    let row = |rig: &Rig| ScrubRow::decode(&rig.row(&keys::meta::scrub()).unwrap()).unwrap();
    let in_the_middle = |rig: &Rig| row(rig).blob.filter(|blob| *blob.key == *keys::blob(REGISTRY, &large));
    rig.engine.scrub_step(ScrubBudget::bytes(1)).unwrap();
    while in_the_middle(&rig).is_none_or(|blob| blob.offset < 100 * GROUP as u64) {
        rig.engine.scrub_step(ScrubBudget::bytes(10_000)).unwrap();
    }
    let (offset, marks) = (in_the_middle(&rig).unwrap().offset, row(&rig).marks);
    rig.clock.advance(1_000);
    one_failed_read(&rig, &other);
    while rig.row(&keys::suspect(REGISTRY, &other)).is_some() {
        let done = rig.engine.scrub_step(ScrubBudget::bytes(5_000)).unwrap();
        assert!(!done.pass_completed);
        assert_eq!(row(&rig).marks, marks, "the large blob was begun before");
    }
    rig.engine.scrub_step(ScrubBudget::bytes(1)).unwrap();
    let after = in_the_middle(&rig).unwrap().offset;
    assert!((offset..=offset + 4 * GROUP as u64).contains(&after), "{offset} {after}");
    let done = pass(&rig);
    assert_eq!((done.pass, done.findings.len()), (1, 0));
    assert!(done.bytes < 250 * GROUP as u64, "{done:?}");
}

#[test]
fn a_suspect_that_leads_nowhere_keeps_no_other_waiting() {
    let rig = Rig::new();
    let blobs: Vec<_> = (0..3).map(|seed| rig.pushed(seed).0).collect();
    let suspect = |digest: &Digest| keys::suspect(REGISTRY, digest);
    let mut ordered = blobs;
    ordered.sort();
    for digest in &ordered {
        let generation = rig.blob_row(digest).generation;
        let row = SuspectRow { generation, since_ms: 1, looked_ms: 0, failures: 0 };
        rig.set_row(&suspect(digest), Some(&row.encode()));
    }
    rig.set_row(&keys::blob(REGISTRY, &ordered[0]), None);
    rig.set_row(&keys::blob(REGISTRY, &ordered[1]), Some(&[0xff; 5]));
    let done = pass(&rig);
    assert!(done.findings.iter().all(|found| matches!(found, ScrubFinding::Row { .. })), "{done:?}");
    let left: Vec<_> = ordered.iter().map(|digest| rig.row(&suspect(digest)).is_some()).collect();
    assert_eq!(left, [false, true, false]);
}

/// What a whole blob costs is charged, whatever comes of it.
#[test]
fn a_judgement_of_a_whole_blob_counts_as_bytes_that_were_read() {
    for damaged in [false, true] {
        let rig = Rig::new();
        let size = 300 * GROUP as u64;
        let digest = rig.push(&noise(5, 300 * GROUP));
        rig.set_row(&keys::groups(rig.location(&digest), 0), None);
        if damaged {
            damage::flip_bit(&rig.fs, &rig.file(&digest), 8).unwrap();
        }
        let done = rig.engine.scrub_step(ScrubBudget::bytes(10_000)).unwrap();
        assert_eq!(done.findings.len(), 1, "{done:?}");
        // Wrong bytes are read twice.
        assert!((size..=size + 20_000).contains(&(done.bytes / (1 + u64::from(damaged)))), "{done:?}");
    }
}

#[test]
fn pushes_pulls_and_deletions_go_on_beside_a_scrub() {
    let rig = Rig::new();
    let blobs: Vec<_> = (0..6).map(|seed| rig.pushed(seed)).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scrubs: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut passes = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let done = rig.engine.scrub_step(ScrubBudget::bytes(9_000)).unwrap();
                        for finding in &done.findings {
                            assert!(matches!(finding, ScrubFinding::BlobQuarantined { .. }), "{finding}");
                        }
                        passes += u32::from(done.pass_completed);
                    }
                    passes
                })
            })
            .collect();
        for round in 0..80 {
            let (digest, bytes) = &blobs[round % blobs.len()];
            if round % 5 == 0 {
                damage::flip_bit(&rig.fs, &rig.file(digest), 77).unwrap();
            } else {
                rig.push(bytes);
                assert_eq!(read(&rig.app(), digest), *bytes);
            }
            let put = image(&rig, &rig.push(&round.to_be_bytes()), None);
            let put = rig.app().put_manifest(&put, &call()).unwrap();
            rig.app().delete_manifest(&put.digest, &call()).unwrap();
            rig.engine.maintain().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        let passes: u32 = scrubs.into_iter().map(|scrub| scrub.join().unwrap()).sum();
        assert!(passes > 0);
    });
    for (_, bytes) in &blobs {
        rig.push(bytes);
    }
    assert_eq!(pass(&rig).findings, []);
    assert_eq!(pass(&rig).findings, []);
}

#[test]
fn a_power_cut_at_any_call_of_a_scrub_leaves_a_store_whose_scrub_finds_the_rest() {
    let start = |fs: SimFileSystem| {
        let rig = Rig::on(fs, options());
        let blobs: Vec<_> = (0..4).map(|seed| rig.pushed(seed)).collect();
        rig.engine.maintain().unwrap();
        damage::flip_bit(&rig.fs, &rig.file(&blobs[0].0), 8).unwrap();
        damage::delete(&rig.fs, &rig.file(&blobs[1].0)).unwrap();
        (rig, blobs)
    };
    let fs = SimFileSystem::new(4);
    let (rig, _) = start(fs.clone());
    let before = fs.mutating_calls();
    pass(&rig);
    let calls = fs.mutating_calls() - before;
    assert!(calls >= 2, "{calls}");
    let mut states = 0;
    for cut in 1..=calls {
        let fs = SimFileSystem::new(4);
        let (rig, blobs) = start(fs.clone());
        fs.crash_at(fs.mutating_calls() + cut);
        while !fs.crashed() && rig.engine.scrub_step(ScrubBudget::bytes(4_000)).is_ok_and(|done| !done.pass_completed) {
        }
        for left in fs.crash_states(16) {
            states += 1;
            let after = rig.over(left);
            while !after.engine.scrub_step(ALL).unwrap().pass_completed {}
            let quarantined = after.incidents();
            assert_eq!(quarantined.len(), 2, "cut {cut}: {quarantined:?}");
            for (digest, bytes) in &blobs {
                after.push(bytes);
                assert_eq!(read(&after.app(), digest), *bytes);
            }
            assert_eq!(pass(&after).findings, []);
        }
    }
    println!("cuts={calls} states={states}");
}
