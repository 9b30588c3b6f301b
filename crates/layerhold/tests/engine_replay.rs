//! The same call under the same operation id is told its first outcome, whatever happened since; another call under it is
//! refused.
#![expect(clippy::unwrap_used, reason = "a panic is how a test tells what went wrong")]

use layerhold::{
    Algorithm, Call, CompleteUpload, DeleteMode, Expected, Failure, OperationId, PartRange, Registry, RegistryName,
    Repository, RepositoryName, RepositorySettings, TagMutability,
};
use layerhold_testkit::engine::{self, TestEngine};

const LEN: usize = 40_000;

fn name() -> RepositoryName {
    RepositoryName::parse("app").unwrap()
}

fn repository(test: &TestEngine) -> (Registry, Repository) {
    let registry = test.registry();
    registry.create_repository(&name(), &RepositorySettings::default(), &Call::anonymous()).unwrap();
    let repository = registry.repository(&name());
    (registry, repository)
}

fn under(id: u8) -> Call {
    Call::anonymous().with_operation_id(OperationId([id; 16]))
}

fn is_reuse(error: &dyn std::error::Error) -> bool {
    error.to_string() == Failure::OperationIdReused { operation_id: OperationId([1; 16]) }.to_string()
}

#[test]
fn a_registry_that_this_call_made_was_made_by_it() {
    let test = engine::memory();
    let name = RegistryName::parse("other").unwrap();
    assert!(test.engine().create_registry(&name, &under(1)).unwrap());
    assert!(test.engine().create_registry(&name, &under(1)).unwrap());
    assert!(!test.engine().create_registry(&name, &under(2)).unwrap());
    let another = RegistryName::parse("another").unwrap();
    assert!(is_reuse(&test.engine().create_registry(&another, &under(1)).unwrap_err()));
}

#[test]
fn a_repository_with_other_settings_is_another_call() {
    let test = engine::memory();
    let registry = test.registry();
    let made = registry.create_repository(&name(), &RepositorySettings::default(), &under(1)).unwrap();
    registry.delete_repository(&name(), DeleteMode::IfEmpty, &Call::anonymous()).unwrap();
    assert_eq!(registry.create_repository(&name(), &RepositorySettings::default(), &under(1)).unwrap(), made);
    let immutable = RepositorySettings { tag_mutability: TagMutability::IMMUTABLE, ..RepositorySettings::default() };
    assert!(is_reuse(&registry.create_repository(&name(), &immutable, &under(1)).unwrap_err()));
}

#[test]
fn a_blob_in_one_step_is_put_once() {
    let test = engine::memory();
    let (registry, repository) = repository(&test);
    for (id, len) in [(1, 40), (2, LEN)] {
        let put = repository.put_blob(&vec![id; len], &Expected::Computed, &under(id)).unwrap();
        let sequence = test.engine().sequence();
        assert_eq!(repository.put_blob(&vec![id; len], &Expected::Computed, &under(id)).unwrap(), put);
        assert_eq!(test.engine().sequence(), sequence);
    }
    assert!(is_reuse(&repository.put_blob(b"other bytes", &Expected::Computed, &under(1)).unwrap_err()));
    registry.delete_repository(&name(), DeleteMode::Force, &Call::anonymous()).unwrap();
    assert_eq!(repository.put_blob(&[1; 40], &Expected::Computed, &under(1)).unwrap().size, 40);
}

#[test]
fn a_part_is_accepted_once_and_told_again_after_its_session() {
    let test = engine::memory();
    let (registry, repository) = repository(&test);
    let id = repository.begin_upload(Algorithm::Sha256, &Call::anonymous()).unwrap();
    let part = |n: usize| PartRange { first_byte: (n * LEN) as u64, len: LEN as u64 };
    let first = repository.append_part(&id, part(0), vec![0; LEN], &under(1)).unwrap();
    let second = repository.append_part(&id, part(1), vec![1; LEN], &under(2)).unwrap();
    assert_eq!((first.part, second.part, second.durable_offset), (1, 2, 2 * LEN as u64));
    let sequence = test.engine().sequence();
    assert_eq!(repository.append_part(&id, part(0), vec![0; LEN], &under(1)).unwrap(), first);
    assert!(is_reuse(&repository.append_part(&id, part(0), vec![9; LEN], &under(1)).unwrap_err()));
    assert!(is_reuse(&repository.append_part(&id, part(2), vec![9; LEN], &under(1)).unwrap_err()));
    assert_eq!(test.engine().sequence(), sequence);
    let complete = CompleteUpload::expecting(Expected::Computed);
    let completed = repository.complete_upload(&id, &complete, &under(3)).unwrap();
    assert_eq!(repository.append_part(&id, part(1), vec![1; LEN], &under(2)).unwrap(), second);
    assert_eq!(repository.complete_upload(&id, &complete, &under(3)).unwrap(), completed);
    registry.delete_repository(&name(), DeleteMode::Force, &Call::anonymous()).unwrap();
    assert_eq!(repository.append_part(&id, part(1), vec![1; LEN], &under(2)).unwrap(), second);
    assert_eq!(repository.complete_upload(&id, &complete, &under(3)).unwrap(), completed);
}
