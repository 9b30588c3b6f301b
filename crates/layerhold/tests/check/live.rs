//! A check on a store that is in use finds nothing that is not so.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use layerhold::check::{CheckOptions, Finding, Level, Outcome, RepairOptions, Severity};
use layerhold::format::keys::{self, RegistryId};
use layerhold::format::values::{LinkRow, UsageRow};
use layerhold::manifest::ImageId;
use layerhold::registry::DeleteMode;
use layerhold::{
    Algorithm, Call, CompleteUpload, Expected, PartRange, PutManifest, Registry, RepositoryName, RepositorySettings,
};
use layerhold_testkit::engine::memory;
use layerhold_testkit::fs::SimFileSystem;

use crate::scene::{Scene, bytes, image, tag};

/// Everything that clients do, over and over, in a repository of its own; refusals do not matter.
fn busy(registry: &Registry, thread: u64, stop: &AtomicBool) {
    let call = Call::anonymous();
    let name = RepositoryName::parse(&format!("busy/{thread}")).unwrap();
    let shared = RepositoryName::parse("shared").unwrap();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let _ = registry.create_repository(&name, &RepositorySettings::default(), &call);
        let own = registry.repository(&name);
        let config = own.put_blob(&bytes(10, round % 5), &Expected::Computed, &call).unwrap().digest;
        let layer = own.put_blob(&bytes(70_000, round % 3), &Expected::Computed, &call).unwrap().digest;
        let put = |document: String, text: &str| {
            own.put_manifest(&PutManifest::new(document).with_tag(tag(text)), &call).unwrap().digest
        };
        let document = image(&config, 10, &[(layer, 70_000)], "");
        let first = put(document.clone(), &format!("t{}", round % 4));
        put(image(&config, 10, &[], ""), &format!("t{}", (round + 1) % 4));
        let _ = registry.repository(&shared).mount_blob(&layer, &name, &call);
        let upload = own.begin_upload(Algorithm::Sha256, &call).unwrap();
        for part in 0..round % 4 {
            let range = PartRange { first_byte: part * 40_000, len: 40_000 };
            own.append_part(&upload, range, bytes(40_000, round), &call).unwrap();
        }
        match round % 3 {
            0 => drop(own.cancel_upload(&upload, &call)),
            1 => drop(own.complete_upload(&upload, &CompleteUpload::expecting(Expected::Computed), &call)),
            _ => {}
        }
        let _ = own.untag(&tag("t1"), &call);
        let _ = own.delete_image(&ImageId::Digest(first), &call);
        let _ = own.delete_blob(&layer, &call);
        if round % 7 == 0 {
            let _ = registry.delete_repository(&name, DeleteMode::Force, &call);
        }
    }
}

#[test]
fn a_repair_of_a_damaged_store_in_use_mends_what_was_damaged_and_nothing_else() {
    let mut scene = crate::crash::damaged(SimFileSystem::new(1));
    // What is remembered of it is gone, too, as after any damage on the medium.
    scene.edit::<LinkRow>(&keys::link(scene.other, &scene.layer), |row| row.size += 1);
    let (_, damaged) = scene.check(Level::Files);
    assert!(damaged.len() > 10, "{damaged:#?}");
    let registry = scene.test.registry();
    let shared = RepositoryName::parse("shared").unwrap();
    registry.create_repository(&shared, &RepositorySettings::default(), &Call::anonymous()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (registry, stop) = (&registry, &stop);
            scope.spawn(move || busy(registry, thread, stop));
        }
        let engine = scene.test.engine();
        let repairing = scope.spawn(move || {
            let mut all: Vec<(Finding, Outcome)> = Vec::new();
            for level in [Level::Metadata, Level::Files, Level::Bytes].into_iter().cycle().take(12) {
                engine.repair(&RepairOptions::default().with_level(level), &Call::anonymous(), &mut all).unwrap();
                engine.maintain().unwrap();
            }
            all.retain(|(finding, _)| finding.fault.severity() > Severity::Allowed);
            all
        });
        let outcome = repairing.join();
        stop.store(true, Ordering::Relaxed);
        let found = outcome.unwrap();
        // Whatever is found is what was damaged: nothing of the repositories that are in use.
        for (finding, outcome) in &found {
            let touched = finding.touched.repositories.iter().filter_map(|repository| repository.name.as_ref());
            let in_use = touched.filter(|name| !["app", "other"].contains(&name.as_str())).count();
            assert_eq!(in_use, 0, "{finding:#?} {outcome:?}");
        }
    });
    assert_eq!(scene.names(Level::Bytes), [] as [&str; 0]);
    let mut all = vec![0; 200_000];
    scene.app_handle().blob(&scene.layer).unwrap().read_at(0, &mut all).unwrap();
    assert_eq!(layerhold::Digest::sha256(&all), scene.layer);
}

#[test]
fn two_repairs_at_once_correct_a_counter_once() {
    let key = keys::registry_usage(RegistryId(1));
    for round in 0..100 {
        let mut scene = Scene::new();
        scene.edit::<UsageRow>(&key, |row| row.0[3] += 7 + round);
        let together = Barrier::new(2);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    together.wait();
                    scene.repair(Level::Metadata);
                });
            }
        });
        assert_eq!(scene.names(Level::Metadata), [] as [&str; 0], "round {round}");
    }
}

#[test]
fn a_check_in_a_loop_while_everything_happens_finds_nothing() {
    let test = memory();
    let registry = test.registry();
    let shared = RepositoryName::parse("shared").unwrap();
    registry.create_repository(&shared, &RepositorySettings::default(), &Call::anonymous()).unwrap();
    let (stop, checks) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (registry, stop) = (&registry, &stop);
            scope.spawn(move || busy(registry, thread, stop));
        }
        let engine = test.engine();
        let (stop, checks) = (&stop, &checks);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                engine.maintain().unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let checking = scope.spawn(move || {
            let mut wrong: Vec<(Finding, Outcome)> = Vec::new();
            for level in [Level::Metadata, Level::Files, Level::Bytes].into_iter().cycle().take(45) {
                engine.check(&CheckOptions::default().with_level(level), &mut wrong).unwrap();
                if checks.fetch_add(1, Ordering::Relaxed) % 9 == 8 {
                    // A repair of a sound store has nothing to do, and keeps nobody from anything.
                    let options = RepairOptions::default().with_level(level);
                    engine.repair(&options, &Call::anonymous(), &mut wrong).unwrap();
                }
                wrong.retain(|(finding, _)| finding.fault.severity() > Severity::Allowed);
                assert!(wrong.is_empty(), "{wrong:#?}");
            }
        });
        let outcome = checking.join();
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
    println!("checks={} changes={}", checks.load(Ordering::Relaxed), test.engine().sequence());
}
