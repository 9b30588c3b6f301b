//! Right bytes whose chaining values or root are damaged, in a store that cannot write down what they are.

use std::sync::Arc;

use layerhold::blob::ReadFault;
use layerhold::directory::Place;
use layerhold::format::keys;
use layerhold::format::values::{BlobRow, Placement, Row};
use layerhold::store::fs::FileSystem;
use layerhold::store::home::TableHome;
use layerhold::store::{Batch, View};
use layerhold::{Components, Digest, Engine, Expected, RegistryName, Repository, RepositorySettings};
use layerhold_testkit::file_table::FileTableHome;
use layerhold_testkit::fs::{Call, FailingFileSystem, SimFileSystem, damage};
use layerhold_testkit::operation::pool::noise;

use super::support::{GROUP, REGISTRY, Rig, call, name, options, read};

fn app(engine: &Engine) -> Repository {
    engine.registry(&RegistryName::parse("test").unwrap()).repository(&name("app"))
}

/// Takes away the first row of chaining values of one blob, and turns a bit of the roots of others.
fn harm(view: &dyn View, valued: &Digest, others: &[Digest]) -> Batch {
    let row = |digest| BlobRow::decode(&view.get(&keys::blob(REGISTRY, digest)).unwrap().unwrap()).unwrap();
    let mut batch = Batch::new();
    let Placement::File(location) = row(valued).placement else { panic!("it has no file") };
    assert!(view.get(&keys::groups(location, 0)).unwrap().is_some());
    batch.delete(&keys::groups(location, 0));
    for digest in others {
        let mut row = row(digest);
        row.root[0] ^= 1;
        batch.put(&keys::blob(REGISTRY, digest), &row.encode());
    }
    batch
}

#[test]
fn a_store_that_is_open_for_reads_alone_serves_what_its_digest_proves() {
    let fs = SimFileSystem::new(1);
    let failing = FailingFileSystem::new(Arc::new(fs.clone()));
    let shared: Arc<dyn FileSystem> = Arc::new(failing.clone());
    let home = FileTableHome::new(Arc::clone(&shared));
    let place = Place::new(shared, Arc::new(home.clone()));
    let components = || Components { spawner: None, ..Components::default() };
    let blobs = [noise(1, 300 * GROUP), noise(2, GROUP - 1), noise(3, 300)];
    let engine = Engine::create_in(&place, options(), components()).unwrap();
    engine.create_registry(&RegistryName::parse("test").unwrap(), &call()).unwrap();
    let registry = engine.registry(&RegistryName::parse("test").unwrap());
    registry.create_repository(&name("app"), &RepositorySettings::default(), &call()).unwrap();
    let digests =
        blobs.each_ref().map(|bytes| app(&engine).put_blob(bytes, &Expected::Computed, &call()).unwrap().digest);
    // So much that the journal has handed the rows of these on to the table.
    for number in 0..2_000 {
        app(&engine).put_blob(&noise(number, 900), &Expected::Computed, &call()).unwrap();
    }
    engine.maintain().unwrap();
    engine.close().unwrap();
    drop((engine, registry));
    let table = home.open().unwrap();
    let batch = harm(table.view().unwrap().as_ref(), &digests[0], &digests[1..]);
    table.apply(&[&batch], None).unwrap();
    table.flush().unwrap();
    drop(table);

    let engine = Engine::open_read_only_in(&place, options(), components()).unwrap();
    for (digest, bytes) in digests.iter().zip(&blobs) {
        let reader = app(&engine).blob(digest).unwrap();
        let mut found = vec![0; bytes.len()];
        reader.read_at(0, &mut found).unwrap();
        assert!(found == *bytes);
        let before = failing.calls(Call::Read);
        assert_eq!(reader.read_at(10, &mut found[..100]).unwrap(), 100);
        assert!(found[..100] == bytes[10..110]);
        assert!(failing.calls(Call::Read) <= before + 1, "what was proved once is known");
        assert_eq!(reader.try_read_at(10, &mut found[..100]), Some(100));
    }
    // Bytes are compared with what was proved.
    let reader = app(&engine).blob(&digests[0]).unwrap();
    let mut found = vec![0; blobs[0].len()];
    reader.read_at(0, &mut found).unwrap();
    let files = damage::files(&fs).unwrap().into_iter().filter(|path| path.starts_with("blobs"));
    let largest = files.max_by_key(|path| fs.file_len(path).unwrap()).unwrap();
    damage::flip_bit(&fs, &largest, 8 * 100 * GROUP as u64).unwrap();
    let fault = reader.read_at(0, &mut found).unwrap_err();
    assert!(matches!(fault, ReadFault::Corrupt { offset, .. } if offset == 100 * GROUP as u64), "{fault}");
}

#[test]
fn a_store_that_was_closed_or_cannot_sync_serves_what_its_digest_proves() {
    for poison in [false, true] {
        let rig = Rig::new();
        let (digest, bytes) = rig.pushed(1);
        rig.set_row(&keys::groups(rig.location(&digest), 0), None);
        if poison {
            rig.fs.fail_sync(1);
        } else {
            rig.engine.close().unwrap();
        }
        let reader = rig.app().blob(&digest).unwrap();
        let mut found = vec![0; bytes.len()];
        assert_eq!(reader.try_read_at(0, &mut found), None);
        for _ in 0..2 {
            assert_eq!(reader.read_at(0, &mut found).unwrap(), bytes.len());
            assert_eq!(found, bytes);
        }
        assert!(rig.incidents().is_empty());
        assert_eq!(read(&rig.killed().app(), &digest), bytes);
    }
}
