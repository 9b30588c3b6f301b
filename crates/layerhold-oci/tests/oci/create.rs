//! Repositories made by a push, or not.

use crate::fixture::{OCI_INDEX, OCI_MANIFEST, Oci, image, index};
use http::StatusCode;
use layerhold::{Digest, Limits, RepositorySettings};
use layerhold_oci::CreateOnPush;
use serde_json::json;

#[test]
fn an_upload_creates_its_repository() {
    for query in [
        String::new(),
        format!("?digest={}", Digest::sha256(b"bytes")),
        format!("?mount={}&from=other", Digest::sha256(b"bytes")),
    ] {
        let oci = Oci::new();
        oci.ask(&format!("POST /v2/library/app/blobs/uploads/{query}"), &[], b"bytes");
        assert!(oci.exists("library/app"), "query={query}");
    }
}

/// Goal: of many pushes to a missing repository none sees another's creation as its own failure.
#[test]
fn pushes_at_once_all_find_a_repository() {
    for _ in 0..20 {
        let oci = Oci::new();
        let oci = &oci;
        std::thread::scope(|scope| {
            let pushes: Vec<_> = (0..8_u8).map(|at| scope.spawn(move || oci.push_blob("app", &[at]))).collect();
            for push in pushes {
                let digest = push.join().unwrap();
                oci.get(&format!("/v2/app/blobs/{digest}")).expect(StatusCode::OK);
            }
        });
    }
}

#[test]
fn reading_creates_nothing() {
    let oci = Oci::new();
    let digest = Digest::sha256(b"bytes");
    let sequence = oci.sequence();
    for line in [
        format!("GET /v2/app/blobs/{digest}"),
        format!("DELETE /v2/app/blobs/{digest}"),
        "GET /v2/app/manifests/v1".to_owned(),
        "DELETE /v2/app/manifests/v1".to_owned(),
        format!("DELETE /v2/app/manifests/{digest}"),
        "GET /v2/app/tags/list".to_owned(),
        "PATCH /v2/app/blobs/uploads/6cb64b8a-9378-4e33-8102-0304050607ff".to_owned(),
    ] {
        oci.ask(&line, &[], b"").refuse(404, "NAME_UNKNOWN");
    }
    assert_eq!(oci.sequence(), sequence);
    assert!(!oci.exists("app"));
}

#[test]
fn a_manifest_that_needs_nothing_creates_its_repository() {
    let oci = Oci::new();
    oci.put("app", "empty", OCI_INDEX, &index(&[])).expect(StatusCode::CREATED);
    assert!(oci.exists("app"));
}

#[test]
fn a_push_that_must_fail_creates_nothing() {
    let oci = Oci::new();
    let sequence = oci.sequence();
    oci.put("app", "v1", OCI_MANIFEST, b"{}").refuse(400, "MANIFEST_INVALID");
    oci.put("app", "v1", OCI_MANIFEST, &image(b"layer", &json!({}))).refuse(404, "MANIFEST_BLOB_UNKNOWN");
    oci.put("app", "v1", OCI_INDEX, &index(&[b"child"])).refuse(404, "MANIFEST_BLOB_UNKNOWN");
    oci.put("app", ".bad", OCI_INDEX, &index(&[])).refuse(400, "TAG_INVALID");
    oci.ask("POST /v2/app/blobs/uploads/?digest=sha256:00", &[], b"").refuse(400, "DIGEST_INVALID");
    oci.ask("POST /v2/UPPER/blobs/uploads/", &[], b"").refuse(400, "NAME_INVALID");
    let (empty, wrong) = (index(&[]), Digest::sha256(b"wrong"));
    oci.put("app", &wrong.to_string(), OCI_INDEX, &empty).refuse(400, "DIGEST_INVALID");
    let tags: String = (0..101).map(|at| format!("tag=t{at}&")).collect();
    oci.put("app", &format!("{}?{tags}", Digest::sha256(&empty)), OCI_INDEX, &empty).refuse(414, "TAG_INVALID");
    oci.ask(&format!("POST /v2/app/blobs/uploads/?digest={wrong}"), &[], b"right").refuse(400, "DIGEST_INVALID");
    for narrow in [|limits: &mut Limits| limits.manifest_bytes = 10, |limits: &mut Limits| limits.tags_per_put = 0] {
        let mut limits = oci.registry.limits().clone();
        narrow(&mut limits);
        let adapter = layerhold_oci::Adapter::new(oci.registry.clone().with_limits(limits));
        let answer = oci.with_adapter(adapter).put("app", "v1", OCI_INDEX, &empty);
        assert!(matches!(answer.status.as_u16(), 413 | 414), "{answer:?}");
    }
    assert_eq!(oci.sequence(), sequence);
    assert!(!oci.exists("app"));
}

#[test]
fn never_is_never() {
    let oci = Oci::new().adapted(|adapter| adapter.with_create_on_push(CreateOnPush::Never));
    let sequence = oci.sequence();
    oci.ask("POST /v2/app/blobs/uploads/", &[], b"").refuse(404, "NAME_UNKNOWN");
    oci.put("app", "v1", OCI_INDEX, &index(&[])).refuse(404, "NAME_UNKNOWN");
    assert_eq!(oci.sequence(), sequence);
}

#[test]
fn a_registry_that_is_full_denies() {
    let mut oci = Oci::new();
    let mut limits = oci.registry.limits().clone();
    limits.repositories = 1;
    oci.registry = oci.registry.clone().with_limits(limits);
    oci.adapter = layerhold_oci::Adapter::new(oci.registry.clone());
    oci.create("first", &RepositorySettings::default());
    oci.ask("POST /v2/second/blobs/uploads/", &[], b"").refuse(403, "DENIED");
    assert!(!oci.exists("second"));
    oci.begin("first");
}
