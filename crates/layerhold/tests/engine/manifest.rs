//! Manifests.

use std::sync::Barrier;
use std::thread;

use layerhold::manifest::{DeleteError, PutError, ReadError};
use layerhold::{
    Algorithm, Digest, ErrorKind, ImageId, Limits, ManifestRead, MediaType, OperationId, PutManifest, Reference,
    RepositorySettings, TagChange,
};

use super::support::{call, create, image, push_image, push_index, store, tag};

#[test]
fn a_manifest_comes_back_byte_for_byte_under_its_pinned_type() {
    let store = store();
    let mut bytes = image(&store.repository, b"layer");
    bytes.extend_from_slice(b"\n \r\n");
    let put =
        store.repository.put_manifest(&PutManifest::new(bytes.clone()).with_tag(tag("v1")), &call()).expect("an image");
    assert_eq!(put.digest, Digest::sha256(&bytes));
    for reference in [Reference::Tag(tag("v1")), Reference::Digest(put.digest)] {
        let manifest = store.repository.manifest(&reference, ManifestRead::Peek).expect("a manifest");
        assert_eq!((manifest.bytes.as_slice(), &manifest.media_type), (bytes.as_slice(), &MediaType::OCI_MANIFEST));
        let head = store.repository.manifest_head(&reference).expect("its head");
        assert_eq!((head.digest, head.size), (put.digest, bytes.len() as u64));
    }
}

#[test]
fn what_is_missing_is_named_all_together_and_nothing_is_stored() {
    let store = store();
    let other = create(&store.test, "other", &RepositorySettings::default());
    let bytes = image(&other, b"layer");
    let sequence = store.test.engine().sequence();
    match store.repository.put_manifest(&PutManifest::new(bytes).with_tag(tag("v1")), &call()) {
        Err(PutError::BlobsMissing { digests }) => {
            assert_eq!(digests, [Digest::sha256(b"{}"), Digest::sha256(b"layer")], "a sibling's blobs do not count");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.test.engine().sequence(), sequence);
    assert!(store.repository.list_tags(None, 10).expect("tags").items.is_empty());
}

#[test]
fn a_sparse_repository_takes_what_references_nothing_that_is_there() {
    let store = store();
    let settings = RepositorySettings { sparse_images: true, ..RepositorySettings::default() };
    let sparse = create(&store.test, "sparse", &settings);
    let index = push_index(&sparse, &[Digest::sha256(b"nowhere")]);
    assert!(index.created);
}

#[test]
fn an_image_that_an_index_names_stays_until_the_index_goes() {
    let store = store();
    let child = push_image(&store.repository, b"layer", &["v1"]).digest;
    let index = push_index(&store.repository, &[child]).digest;
    for image in [ImageId::Digest(child), ImageId::Tag(tag("v1"))] {
        match store.repository.delete_image(&image, &call()) {
            Err(DeleteError::ReferencedBy { digest, manifests }) => {
                assert_eq!((digest, manifests), (child, vec![index]))
            }
            other => panic!("{other:?}"),
        }
    }
    store.repository.manifest_head(&tag("v1").into()).expect("the tag stays too");
    store.repository.delete_manifest(&index, &call()).expect("nothing names the index");
    let deleted = store.repository.delete_image(&ImageId::Tag(tag("v1")), &call()).expect("nothing names the image");
    assert!(deleted.manifest_deleted);
}

#[test]
fn the_last_tag_takes_the_image_along_and_untag_does_not() {
    let store = store();
    let digest = push_image(&store.repository, b"layer", &["v1", "v2", "v3"]).digest;
    let deleted = store.repository.delete_image(&ImageId::Tag(tag("v1")), &call()).expect("a tag");
    assert_eq!((deleted.tags.as_slice(), deleted.manifest_deleted), ([tag("v1")].as_slice(), false));
    assert_eq!(store.repository.untag(&tag("v2"), &call()).expect("a tag"), digest);
    assert_eq!(store.repository.untag(&tag("v3"), &call()).expect("a tag"), digest);
    store.repository.manifest_head(&digest.into()).expect("untag keeps the manifest");

    push_image(&store.repository, b"layer", &["v4"]);
    let deleted = store.repository.delete_image(&ImageId::Tag(tag("v4")), &call()).expect("the last tag");
    assert!(deleted.manifest_deleted);
    assert!(matches!(store.repository.manifest_head(&digest.into()), Err(ReadError::NotFound { .. })));
}

#[test]
fn a_digest_that_does_not_match_is_refused_and_another_algorithm_is_kept() {
    let store = store();
    let bytes = image(&store.repository, b"layer");
    let wrong = PutManifest::new(bytes.clone()).with_expected(Digest::sha256(b"other"));
    let refused = store.repository.put_manifest(&wrong, &call()).expect_err("another digest");
    assert!(matches!(refused, PutError::DigestMismatch { .. }));
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let sha512 = Digest::of(Algorithm::Sha512, &bytes);
    let put = store.repository.put_manifest(&PutManifest::new(bytes).with_expected(sha512), &call()).expect("an image");
    assert_eq!(put.digest, sha512);
}

#[test]
fn one_put_under_one_id_happens_once_and_the_id_serves_nothing_else() {
    let store = store();
    let bytes = image(&store.repository, b"layer");
    let call = call().with_operation_id(OperationId([7; 16]));
    let put = PutManifest::new(bytes).with_tag(tag("v1"));
    let first = store.repository.put_manifest(&put, &call).expect("an image");
    let sequence = store.test.engine().sequence();
    let again = store.repository.put_manifest(&put, &call).expect("the same answer");
    assert_eq!((again, store.test.engine().sequence()), (first, sequence));

    let reused = store.repository.put_manifest(&put.with_tag(tag("v2")), &call).expect_err("other arguments");
    assert_eq!(reused.kind(), ErrorKind::Invalid);
    assert!(store.repository.manifest_head(&tag("v2").into()).is_err());
}

#[test]
fn puts_from_many_threads_all_arrive_and_are_counted() {
    const THREADS: u64 = 8;
    const EACH: u64 = 12;
    let store = store();
    let before = store.test.engine().sequence();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let repository = &store.repository;
            scope.spawn(move || {
                for number in 0..EACH {
                    let put = push_image(repository, format!("{thread} {number}").as_bytes(), &["latest", "shared"]);
                    assert!(put.created && put.tags.iter().all(|(_, change)| *change != TagChange::AlreadyThere));
                }
            });
        }
    });
    let usage = store.repository.describe().expect("the repository").usage;
    assert_eq!((usage.images, usage.tags, usage.blobs), (THREADS * EACH, 2, THREADS * EACH + 1));
    // Each put is three changes: two blobs and a manifest. The log has no gap.
    let changes = store.test.engine().changes(before, 1_000).expect("the change log");
    let sequences: Vec<u64> = changes.iter().map(|change| change.sequence).collect();
    assert_eq!(sequences, (before + 1..=before + 3 * THREADS * EACH).collect::<Vec<_>>());
}

#[test]
fn of_many_puts_at_the_limit_of_images_one_is_the_last() {
    const CALLERS: usize = 16;
    let store = store();
    let mut limits = Limits::default();
    limits.images = 3;
    let app = store.test.registry().with_limits(limits).repository(store.repository.name());
    push_image(&app, b"one", &[]);
    push_image(&app, b"two", &[]);
    let images: Vec<_> = (0..CALLERS).map(|n| image(&app, format!("layer {n}").as_bytes())).collect();
    let start = Barrier::new(CALLERS);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let (app, start) = (&app, &start);
        let put = move |bytes: &Vec<u8>| {
            start.wait();
            app.put_manifest(&PutManifest::new(bytes.clone()), &call())
        };
        let callers: Vec<_> = images.iter().map(|bytes| scope.spawn(move || put(bytes))).collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, PutError::ImageLimit { limit: 3 }), "{refused:?}");
    }
    assert_eq!(app.describe().expect("a repository").usage.images, 3);
}
