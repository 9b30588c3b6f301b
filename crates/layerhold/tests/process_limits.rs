//! Limits that the system sets on a process: open files and the length of a file. Both are told by an error, and what was
//! acknowledged before and after is there.
#![cfg(feature = "rocksdb")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test tells what went wrong")]

use std::sync::Mutex;

use layerhold::store::real::ignore_file_size_signal;
use layerhold::{Call, Engine, ErrorKind, Expected, RegistryName, Repository, RepositoryName, StorageError};
use layerhold_testkit::witness::{Witness, small_options};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A limit is the whole process's: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

fn set(resource: Resource, current: Option<u64>) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current, maximum }).unwrap();
}

fn repository(engine: &Engine) -> Repository {
    let registry = engine.registry(&RegistryName::parse("witness").unwrap());
    registry.repository(&RepositoryName::parse("app").unwrap())
}

#[test]
fn without_descriptors_calls_answer_and_the_store_stays_as_it_is() {
    let _turn = TURN.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let engine = Engine::create(&path, small_options()).unwrap();
    let mut witness = Witness::begin(&engine).unwrap();
    witness.work(&engine, 3).unwrap();
    let repository = repository(&engine);
    let call = Call::anonymous();
    let large = vec![5; 100_000];

    let before = getrlimit(Resource::Nofile).current;
    set(Resource::Nofile, Some(3));
    let refused = repository.put_blob(&large, &Expected::Computed, &call).unwrap_err();
    let small = repository.put_blob(b"small", &Expected::Computed, &call);
    let looked = witness.check(&engine, witness.sequence);
    let reopened = Engine::open(&path, small_options());
    set(Resource::Nofile, before);

    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    small.unwrap();
    assert!(looked.unwrap_err().contains("NoDescriptors"), "a file of a blob cannot be opened");
    assert!(matches!(reopened, Err(StorageError::NoDescriptors { .. })), "{reopened:?}");
    repository.put_blob(&large, &Expected::Computed, &call).unwrap();
    witness.work(&engine, 1).unwrap();
    drop((repository, engine));

    // A store that cannot even be opened for want of descriptors is opened once there are some.
    // With each number another call is the first to fail, RocksDB's second opening of a file among them.
    for descriptors in 4..=40 {
        set(Resource::Nofile, Some(descriptors));
        let opened = Engine::open(&path, small_options());
        set(Resource::Nofile, before);
        if let Err(error) = opened {
            assert!(matches!(error, StorageError::NoDescriptors { .. }), "{descriptors}: {error:?}");
        }
    }
    let engine = Engine::open(&path, small_options()).unwrap();
    assert_eq!(witness.check(&engine, engine.sequence()).unwrap().damaged, 0);
}

#[test]
fn a_file_that_may_grow_no_further_is_no_space_and_no_signal() {
    let _turn = TURN.lock().unwrap();
    ignore_file_size_signal().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let engine = Engine::create(&path, small_options()).unwrap();
    let mut witness = Witness::begin(&engine).unwrap();
    witness.work(&engine, 3).unwrap();
    let repository = repository(&engine);
    let call = Call::anonymous();

    let before = getrlimit(Resource::Fsize).current;
    set(Resource::Fsize, Some(40_000));
    let refused = repository.put_blob(&vec![5; 100_000], &Expected::Computed, &call).unwrap_err();
    let shorter = repository.put_blob(&[6; 20_000], &Expected::Computed, &call);
    set(Resource::Fsize, before);

    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused:?}");
    shorter.unwrap();
    repository.put_blob(&vec![5; 100_000], &Expected::Computed, &call).unwrap();
    assert_eq!(witness.check(&engine, engine.sequence()).unwrap().damaged, 0);
}
