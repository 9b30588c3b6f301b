//! Tags.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use layerhold::manifest::PutError;
use layerhold::{Call, Digest, ErrorKind, Principal, PutManifest, RepositorySettings, TagChange, TagMutability};

use super::support::{call, create, image, push_image, store, tag};

fn immutable() -> RepositorySettings {
    RepositorySettings { tag_mutability: TagMutability::IMMUTABLE, ..RepositorySettings::default() }
}

#[test]
fn an_immutable_tag_keeps_its_manifest_and_takes_the_same_again() {
    let store = store();
    let repository = create(&store.test, "fixed", &immutable());
    let first = push_image(&repository, b"one", &["v1"]).digest;
    let again = push_image(&repository, b"one", &["v1"]);
    assert!(again.changed_nothing());

    let other = PutManifest::new(image(&repository, b"two")).with_tag(tag("v1")).with_tag(tag("v2"));
    match repository.put_manifest(&other, &call()) {
        Err(error @ PutError::TagImmutable { .. }) => assert_eq!(error.kind(), ErrorKind::Denied),
        other => panic!("{other:?}"),
    }
    let listed = repository.list_tags(None, 10).expect("tags").items;
    assert_eq!(listed.len(), 1, "the second tag was not made either");
    assert_eq!(listed[0].digest, first);
}

#[test]
fn one_of_many_racing_puts_wins_an_immutable_tag() {
    let store = store();
    let repository = create(&store.test, "fixed", &immutable());
    let manifests: Vec<_> = (0..16).map(|n| image(&repository, format!("layer {n}").as_bytes())).collect();
    let (won, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for bytes in &manifests {
            scope.spawn(|| {
                match repository.put_manifest(&PutManifest::new(bytes.clone()).with_tag(tag("v1")), &call()) {
                    Ok(_) => won.fetch_add(1, Ordering::Relaxed),
                    Err(PutError::TagImmutable { .. }) => refused.fetch_add(1, Ordering::Relaxed),
                    Err(other) => panic!("{other:?}"),
                }
            });
        }
    });
    assert_eq!((won.into_inner(), refused.into_inner()), (1, 15));
}

#[test]
fn a_tag_moves_and_its_history_says_who_moved_it() {
    let store = store();
    let one = push_image(&store.repository, b"one", &["latest"]).digest;
    let somebody = Call::by(Principal::parse("somebody").expect("a principal"));
    let put = PutManifest::new(image(&store.repository, b"two")).with_tag(tag("latest"));
    let moved = store.repository.put_manifest(&put, &somebody).expect("a move");
    assert_eq!(moved.tags, [(tag("latest"), TagChange::Moved { from: one })]);
    store.repository.untag(&tag("latest"), &call()).expect("a tag");

    let history = store.repository.tag_history(&tag("latest"), None, 10).expect("its history");
    let moves: Vec<_> = history.items.iter().map(|event| (event.from, event.to)).collect();
    let two = Some(moved.digest);
    assert_eq!(moves, [(None, Some(one)), (Some(one), two), (two, None)]);
    assert_eq!(history.items[1].principal.as_str(), "somebody");
    let again = push_image(&store.repository, b"three", &["latest"]);
    assert_eq!(again.tags, [(tag("latest"), TagChange::Created)], "an untagged name is free");
}

#[test]
fn a_manifest_that_loses_its_tag_stays() {
    let store = store();
    let one = push_image(&store.repository, b"one", &["latest"]).digest;
    push_image(&store.repository, b"two", &["latest"]);
    let detail = store.repository.describe_image(&layerhold::ImageId::Digest(one)).expect("the first image");
    assert!(detail.tags.is_empty());
    let unknown = Digest::sha256(b"unknown");
    assert!(store.repository.describe_image(&layerhold::ImageId::Both(tag("latest"), unknown)).is_err());
}
