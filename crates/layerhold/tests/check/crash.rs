//! The power is cut at every call of a repair that changes the medium, and again in the repair that follows: the third one
//! ends what the first began.

use std::path::Path;

use layerhold::check::{CheckOptions, Finding, Level, Outcome, RepairOptions, Severity};
use layerhold::format::keys::{self, RegistryId};
use layerhold::store::fs::FileSystem;
use layerhold::store::{Batch, Location};
use layerhold::{Call, Engine};
use layerhold_testkit::engine::{TestEngine, memory_on};
use layerhold_testkit::fs::{CrashPolicy, SimFileSystem};

use crate::scene::{Scene, tag};

/// A store with damage of which everything can be mended, in rows and in files.
pub(crate) fn damaged(fs: SimFileSystem) -> Scene {
    let mut scene = Scene::on(memory_on(fs));
    let layer = scene.location(&scene.layer);
    let mut batch = Batch::new();
    batch.delete(&keys::link_back(scene.app, &scene.layer));
    batch.delete(&keys::tag(scene.app, &tag("v1")));
    batch.delete(&keys::manifest_references(scene.app, &scene.image));
    batch.delete(&keys::repository_usage(scene.app));
    batch.delete(&keys::registry_usage(RegistryId(1)));
    batch.delete(&keys::groups(layer, 0));
    batch.delete(&keys::blob(RegistryId(1), &scene.thin));
    batch.put(&keys::back_reference(scene.app, &scene.config, &scene.layer, 1), b"a/b");
    batch.put(&keys::inline_bytes(Location([8; 16])), b"left");
    let orphan = "05050505050505050505050505050505";
    let (shard, path) = (Path::new("blobs/05"), format!("blobs/05/{orphan}"));
    let _ = scene.fs().create_dir(shard);
    scene.fs().sync_dir(Path::new("blobs")).unwrap();
    let file = scene.fs().create_new(Path::new(&path)).unwrap();
    file.write_all_at(b"an upload that never was", 0).unwrap();
    file.sync_data().unwrap();
    scene.fs().sync_dir(shard).unwrap();
    scene.plant(&batch);
    scene
}

fn repair(engine: &Engine) -> bool {
    let mut all: Vec<(Finding, Outcome)> = Vec::new();
    engine.repair(&RepairOptions::default().with_level(Level::Files), &Call::anonymous(), &mut all).is_ok()
}

fn assert_clean(test: &TestEngine, story: &str) {
    let mut all: Vec<(Finding, Outcome)> = Vec::new();
    test.engine().check(&CheckOptions::default().with_level(Level::Bytes), &mut all).unwrap();
    all.retain(|(finding, _)| finding.fault.severity() > Severity::Allowed);
    assert!(all.is_empty(), "{story}: {all:#?}");
}

/// How many calls of a repair change the medium, and what is left when the power is cut at each.
fn cut_at(scene: &Scene, fs: &SimFileSystem, cut: u64, states: usize) -> Vec<TestEngine> {
    fs.crash_at(fs.mutating_calls() + cut);
    repair(scene.test.engine());
    let left = fs.crash_states(states).enumerate();
    left.map(|(number, left)| {
        let kept = [0, usize::MAX, number][number % 3];
        scene.test.on_what_is_left(left, kept).unwrap_or_else(|error| panic!("cut {cut} state {number}: {error:?}"))
    })
    .collect()
}

#[test]
fn a_repair_that_is_cut_off_anywhere_is_ended_by_the_next() {
    let fs = SimFileSystem::new(1);
    let scene = damaged(fs.clone());
    let before = fs.mutating_calls();
    assert!(repair(scene.test.engine()));
    let calls = fs.mutating_calls() - before;
    assert_clean(&scene.test, "without a cut");
    assert!(calls > 20, "{calls} calls");
    let mut states = 0;
    for cut in 1..=calls {
        let fs = SimFileSystem::new(1);
        let scene = damaged(fs.clone());
        for (number, left) in cut_at(&scene, &fs, cut, 3).into_iter().enumerate() {
            states += 1;
            let story = format!("cut {cut} state {number}");
            // The second repair is cut as well, at some of its calls.
            if number == 0 && cut % 3 == 0 {
                let copy = left.fs().unwrap().crash(CrashPolicy::KeepAll);
                for second in (1..=calls).step_by(5) {
                    let again = copy.crash(CrashPolicy::KeepAll);
                    let test = left.on_what_is_left(again.clone(), usize::MAX).unwrap();
                    again.crash_at(again.mutating_calls() + second);
                    repair(test.engine());
                    for last in again.crash_states(2) {
                        states += 1;
                        let test = test.on_what_is_left(last, 0).unwrap();
                        assert!(repair(test.engine()), "{story} second cut {second}");
                        assert_clean(&test, &format!("{story} second cut {second}"));
                    }
                }
            }
            assert!(repair(left.engine()), "{story}");
            assert_clean(&left, &story);
        }
    }
    println!("calls={calls} states={states}");
}
