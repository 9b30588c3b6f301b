//! Registries and repositories.

use layerhold::change::{Event, RepositoryEvent, Setting};
use layerhold::registry::{CreateError, DeleteError};
use layerhold::repository::ReadError;
use layerhold::{
    Algorithm, Call, DeleteMode, ErrorKind, RegistryName, RepositorySettings, StorageError, TagMutability,
};
use layerhold_testkit::engine::memory;

use super::support::{call, create, name, push_blob, push_image, store, tag};

#[test]
fn a_registry_is_made_once_and_an_unknown_one_holds_nothing() {
    let test = memory();
    let registry = RegistryName::parse("private/000000000000/us-east-1").expect("a name");
    assert!(test.engine().create_registry(&registry, &call()).expect("a registry"));
    assert!(!test.engine().create_registry(&registry, &call()).expect("the same"));
    let unknown = test.engine().registry(&RegistryName::parse("unknown").expect("a name"));
    let refused = unknown.create_repository(&name("app"), &RepositorySettings::default(), &call());
    assert!(matches!(refused, Err(CreateError::RegistryNotFound { .. })), "{refused:?}");
    assert!(unknown.list_repositories(None, 10).expect("a listing").items.is_empty());
}

#[test]
fn names_are_unique_and_prefixes_are_not_parents() {
    let store = store();
    let again = store.test.registry().create_repository(&name("app"), &RepositorySettings::default(), &call());
    assert_eq!(again.expect_err("it exists").kind(), ErrorKind::AlreadyExists);
    create(&store.test, "app/base", &RepositorySettings::default());
    store.test.registry().delete_repository(&name("app"), DeleteMode::IfEmpty, &call()).expect("it is empty");
    store.test.registry().describe_repository(&name("app/base")).expect("another repository");
}

#[test]
fn only_force_deletes_images_and_a_new_repository_of_the_name_is_empty() {
    let store = store();
    let registry = store.test.registry();
    push_image(&store.repository, b"layer", &["v1"]);
    let upload = store.repository.begin_upload(Algorithm::Sha256, &call()).expect("a session");
    match registry.delete_repository(&name("app"), DeleteMode::IfEmpty, &call()) {
        Err(DeleteError::NotEmpty { images, .. }) => assert_eq!(images, 1),
        other => panic!("{other:?}"),
    }
    let was = registry.delete_repository(&name("app"), DeleteMode::Force, &call()).expect("forced");
    assert_eq!((was.usage.images, was.usage.blobs), (1, 2));
    assert!(matches!(registry.describe_repository(&name("app")), Err(ReadError::RepositoryNotFound(_))));

    let made = create(&store.test, "app", &RepositorySettings::default());
    let detail = made.describe().expect("the new one");
    assert_eq!(detail.usage, layerhold::RepositoryUsage::default());
    assert_ne!(detail.id, was.id);
    assert!(made.manifest_head(&tag("v1").into()).is_err());
    assert!(made.upload_status(&upload, &call()).is_err());
}

#[test]
fn blobs_alone_do_not_keep_a_repository() {
    let store = store();
    push_blob(&store.repository, b"blob");
    store.test.registry().delete_repository(&name("app"), DeleteMode::IfEmpty, &call()).expect("it holds no image");
}

#[test]
fn settings_and_contents_survive_reopening_and_a_kill() {
    let mut store = store();
    push_image(&store.repository, b"layer", &["v1"]);
    store.repository.put_tag_mutability(&TagMutability::IMMUTABLE, &call()).expect("a setting");
    let attributes = [("host.key".to_owned(), vec![0, 1, 2])].into();
    let detail = store.repository.put_attributes(&attributes, &call()).expect("attributes");
    for kill in [false, true] {
        match kill {
            true => store.test.kill().expect("the store opens"),
            false => store.test.reopen().expect("the store opens"),
        }
        let repository = store.test.registry().repository(&name("app"));
        assert_eq!(repository.describe().expect("the repository"), detail, "kill={kill}");
        repository.manifest_head(&tag("v1").into()).expect("the image");
    }
}

#[test]
fn a_closed_engine_refuses_changes() {
    let store = store();
    store.test.engine().close().expect("the first close");
    store.test.engine().close().expect("the second does nothing");
    let refused = store.repository.put_tag_mutability(&TagMutability::IMMUTABLE, &call()).expect_err("it is closed");
    assert_eq!(refused.kind(), ErrorKind::Closed);
}

#[test]
fn usage_counts_each_linked_blob_once() {
    let store = store();
    push_image(&store.repository, b"shared layer", &["v1"]);
    push_image(&store.repository, b"shared layer", &["v2"]);
    let usage = store.repository.describe().expect("the repository").usage;
    assert_eq!((usage.images, usage.tags, usage.blobs, usage.logical_bytes), (1, 2, 2, 2 + 12));
}

#[test]
fn every_change_is_in_the_log_with_its_caller_and_its_id() {
    let store = store();
    let before = store.test.engine().sequence();
    let id = layerhold::OperationId([3; 16]);
    let by = Call::by(layerhold::Principal::parse("operator").expect("a principal")).with_operation_id(id);
    store.repository.put_tag_mutability(&TagMutability::IMMUTABLE, &by).expect("a setting");
    let changes = store.test.engine().changes(before, 10).expect("the log");
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].operation_id, changes[0].principal.as_str()), (id, "operator"));
    assert_eq!(changes[0].sequence, store.test.engine().sequence());
}

#[test]
fn a_store_is_made_once() {
    let test = memory();
    let fs = test.fs().expect("a simulated file system").clone();
    let again = layerhold_testkit::engine::TestEngine::try_memory(fs);
    assert!(matches!(again.err(), Some(StorageError::NotEmpty { .. })));
}

#[test]
fn a_change_of_settings_says_which_and_to_what() {
    let store = store();
    let before = store.test.engine().sequence();
    let mutability = TagMutability::IMMUTABLE;
    let attributes = [("policy".to_owned(), b"secret".to_vec()), ("a".to_owned(), Vec::new())].into();
    store.repository.put_tag_mutability(&mutability, &call()).expect("a repository");
    store.repository.put_sparse_images(true, &call()).expect("a repository");
    store.repository.put_attributes(&attributes, &call()).expect("a repository");
    let changes = store.test.engine().changes(before, 10).expect("the changes");
    let settings: Vec<_> = changes
        .into_iter()
        .filter_map(|change| match change.event {
            Event::Repository { event: RepositoryEvent::SettingChanged { setting }, .. } => Some(setting),
            _ => None,
        })
        .collect();
    let names = vec!["a".to_owned(), "policy".to_owned()];
    assert_eq!(settings, [Setting::TagMutability(mutability), Setting::SparseImages(true), Setting::Attributes(names)]);
}
