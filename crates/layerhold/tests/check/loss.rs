//! What a check says of a store of which an operator accepted that its newest changes are lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use layerhold::check::{CheckOptions, Finding, Level, Outcome, RepairOptions, Severity};
use layerhold::directory::Place;
use layerhold::name::Principal;
use layerhold::recovery;
use layerhold::store::fs::FileSystem;
use layerhold::{Components, Engine, Expected, PutManifest, RegistryName, RepositoryName, RepositorySettings};
use layerhold_testkit::engine::options;
use layerhold_testkit::file_table::FileTableHome;
use layerhold_testkit::fs::{SimFileSystem, damage};

use crate::scene::{bytes, call, image, names, tag};

fn place(fs: &SimFileSystem) -> Place {
    let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
    Place::new(Arc::clone(&shared), Arc::new(FileTableHome::new(shared)))
}

fn components() -> Components {
    Components { spawner: None, ..Components::default() }
}

/// The journal's one segment, and how much of it is used.
fn journal(fs: &SimFileSystem) -> (PathBuf, u64) {
    let mut segments = damage::files(fs).unwrap();
    segments.retain(|path| path.starts_with("journal") && damage::read(fs, path).unwrap().len() > 100_000);
    segments.retain(|path| !path.to_string_lossy().contains("spare"));
    assert_eq!(segments.len(), 1, "{segments:?}");
    let bytes = damage::read(fs, &segments[0]).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at as u64 + 1);
    (segments.remove(0), used)
}

fn check(engine: &Engine, level: Level) -> Vec<Finding> {
    let mut all: Vec<(Finding, Outcome)> = Vec::new();
    engine.check(&CheckOptions::default().with_level(level), &mut all).unwrap();
    let findings = all.into_iter().map(|(finding, _)| finding);
    findings.filter(|finding| finding.fault.severity() > Severity::Allowed).collect()
}

#[test]
fn after_an_accepted_loss_a_blob_is_read_from_the_file_of_the_push_that_was_lost() {
    let fs = SimFileSystem::new(3);
    let engine = Engine::create_in(&place(&fs), options(), components()).unwrap();
    let registry_name = RegistryName::parse("test").unwrap();
    engine.create_registry(&registry_name, &call()).unwrap();
    let (registry, app) = (engine.registry(&registry_name), RepositoryName::parse("app").unwrap());
    registry.create_repository(&app, &RepositorySettings::default(), &call()).unwrap();
    let repository = registry.repository(&app);
    let push =
        |len: usize, seed: u64| repository.put_blob(&bytes(len, seed), &Expected::Computed, &call()).unwrap().digest;
    let (config, layer) = (push(10, 1), push(200_000, 2));
    let document = image(&config, 10, &[(layer, 200_000)], "");
    repository.put_manifest(&PutManifest::new(document).with_tag(tag("v1")), &call()).unwrap();
    let (segment, kept) = journal(&fs);
    let kept_sequence = engine.sequence();
    // Pushed again, into another file; the first one goes. Then something else.
    assert_eq!(push(200_000, 2), layer);
    push(100_000, 3);
    drop((repository, registry, engine));

    let fs = fs.kill();
    damage::zero(&fs, &segment, kept, 64).unwrap();
    let examination = recovery::examine_in(&place(&fs)).unwrap();
    assert_eq!(examination.recovered, kept_sequence, "{examination:?}");
    let by = Principal::parse("operator").unwrap();
    recovery::accept_loss_in(&place(&fs), &options(), &components(), &by, examination.agreed()).unwrap();

    let engine = Engine::open_in(&place(&fs), options(), components()).unwrap();
    assert_eq!(names(&check(&engine, Level::Metadata)), [] as [&str; 0]);
    // The file of the layer's first push is gone, that of the second one and that of the other blob are nobody's.
    let found = check(&engine, Level::Files);
    assert_eq!(names(&found), ["file-missing", "unclaimed-file"], "{found:#?}");
    let mut all: Vec<(Finding, Outcome)> = Vec::new();
    engine.repair(&RepairOptions::default().with_level(Level::Files), &call(), &mut all).unwrap();
    let left = check(&engine, Level::Bytes);
    assert_eq!((names(&left), left.len()), (vec!["unclaimed-file"], 1), "{all:#?}");
    let mut read = vec![0; 200_000];
    engine.registry(&registry_name).repository(&app).blob(&layer).unwrap().read_at(0, &mut read).unwrap();
    assert_eq!(read, bytes(200_000, 2));
    assert!(fs.file_len(Path::new("RECOVERY")).is_err());
}
