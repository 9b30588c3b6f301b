//! Manifests: stored and served byte for byte, by tag and digest; refused where they are wrong; untagged and deleted.

use crate::fixture::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Oci, descriptor, image, index, name};
use http::StatusCode;
use layerhold::tag::rules::TagMutability;
use layerhold::{Algorithm, Digest, RepositorySettings};
use serde_json::json;

#[test]
fn a_manifest_comes_back_byte_for_byte() {
    let oci = Oci::with("library/app");
    let bytes = oci.image("library/app", b"layer");
    let digest = Digest::sha256(&bytes);
    let answer = oci.put("library/app", "v1", OCI_MANIFEST, &bytes).expect(StatusCode::CREATED);
    assert_eq!(answer.header("location"), "/v2/library/app/manifests/v1");
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    assert_eq!(answer.header("oci-tag"), "v1");
    assert!(answer.headers.get("oci-subject").is_none());
    for reference in ["v1".to_owned(), digest.to_string()] {
        let target = format!("/v2/library/app/manifests/{reference}");
        let head = oci.ask(&format!("HEAD {target}"), &[], b"").expect(StatusCode::OK);
        let get = oci.get(&target).expect(StatusCode::OK);
        assert_eq!(get.body, bytes);
        assert_eq!(head.headers, get.headers);
        assert_eq!(get.header("content-type"), OCI_MANIFEST);
        assert_eq!(get.header("docker-content-digest"), digest.to_string());
        assert_eq!(get.header("etag"), format!("\"{digest}\""));
        let etag = format!("\"{digest}\"");
        for method in ["GET", "HEAD"] {
            let line = format!("{method} {target}");
            oci.ask(&line, &[("if-none-match", &etag)], b"").expect(StatusCode::NOT_MODIFIED);
        }
    }
}

#[test]
fn accept_is_not_asked() {
    let oci = Oci::with("app");
    let (bytes, _) = oci.push_image("app", "v1", b"layer");
    for accept in [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, "text/html", "*/*", ""] {
        let answer = oci.ask("GET /v2/app/manifests/v1", &[("accept", accept)], b"").expect(StatusCode::OK);
        assert_eq!((answer.body.as_slice(), answer.headers["content-type"].to_str().unwrap()), (&*bytes, OCI_MANIFEST));
    }
}

#[test]
fn a_push_again_is_success_and_changes_nothing() {
    let oci = Oci::with("app");
    let (bytes, digest) = oci.push_image("app", "v1", b"layer");
    let sequence = oci.sequence();
    oci.put("app", "v1", OCI_MANIFEST, &bytes).expect(StatusCode::CREATED);
    oci.put("app", &digest.to_string(), OCI_MANIFEST, &bytes).expect(StatusCode::CREATED);
    assert_eq!(oci.sequence(), sequence);
}

#[test]
fn by_digest_with_tags() {
    let oci = Oci::with("app");
    let bytes = oci.image("app", b"layer");
    let digest = Digest::sha256(&bytes);
    let answer = oci.put("app", &digest.to_string(), OCI_MANIFEST, &bytes).expect(StatusCode::CREATED);
    assert_eq!(answer.header("location"), format!("/v2/app/manifests/{digest}"));
    assert!(answer.headers.get("oci-tag").is_none());
    let reference = format!("{digest}?tag=v1&tag=v1.0&tag=latest&tag=v1");
    let answer = oci.put("app", &reference, OCI_MANIFEST, &bytes).expect(StatusCode::CREATED);
    let tags: Vec<_> = answer.headers.get_all("oci-tag").iter().map(|tag| tag.to_str().unwrap()).collect();
    assert_eq!(tags, ["v1", "v1.0", "latest"]);
    for tag in tags {
        assert_eq!(oci.get(&format!("/v2/app/manifests/{tag}")).header("docker-content-digest"), digest.to_string());
    }
    let many: String = (0..101).map(|at| format!("tag=t{at}&")).collect();
    oci.put("app", &format!("{digest}?{many}"), OCI_MANIFEST, &bytes).refuse(414, "TAG_INVALID");
}

#[test]
fn a_digest_that_is_not_the_bytes_is_refused() {
    let oci = Oci::with("app");
    let bytes = oci.image("app", b"layer");
    let sequence = oci.sequence();
    let wrong = Digest::sha256(b"other");
    oci.put("app", &wrong.to_string(), OCI_MANIFEST, &bytes).refuse(400, "DIGEST_INVALID");
    assert_eq!(oci.sequence(), sequence);
    oci.get(&format!("/v2/app/manifests/{wrong}")).refuse(404, "MANIFEST_UNKNOWN");
}

#[test]
fn a_manifest_by_sha512() {
    let oci = Oci::with("app");
    let bytes = oci.image("app", b"layer");
    let digest = Digest::of(Algorithm::Sha512, &bytes);
    let answer = oci.put("app", &format!("{digest}?tag=v1"), OCI_MANIFEST, &bytes).expect(StatusCode::CREATED);
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    for reference in ["v1".to_owned(), digest.to_string()] {
        let answer = oci.get(&format!("/v2/app/manifests/{reference}")).expect(StatusCode::OK);
        assert_eq!(
            (answer.header("docker-content-digest"), answer.body.clone()),
            (&*digest.to_string(), bytes.clone())
        );
    }
}

#[test]
fn documents_that_are_no_manifests_are_refused_and_change_nothing() {
    let oci = Oci::with("app");
    let good = oci.image("app", b"layer");
    let sequence = oci.sequence();
    let text = String::from_utf8(good.clone()).unwrap();
    let deep = format!("{{\"schemaVersion\":2,\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    let schema1 = json!({ "schemaVersion": 1, "name": "app", "tag": "v1", "fsLayers": [], "history": [] }).to_string();
    let both = image(b"layer", &json!({ "manifests": [] }));
    for (media_type, body) in [
        (OCI_MANIFEST, &b""[..]),
        (OCI_MANIFEST, b"{"),
        (OCI_MANIFEST, b"null"),
        (OCI_MANIFEST, b"[]"),
        (OCI_MANIFEST, b"{}"),
        (OCI_MANIFEST, b"\xff\xfe{}"),
        (OCI_MANIFEST, b"\xef\xbb\xbf{}"),
        (OCI_MANIFEST, text.replacen('{', "{\"schemaVersion\":2,", 1).as_bytes()),
        (OCI_MANIFEST, text.replace("\"schemaVersion\": 2", "\"schemaVersion\": 3").as_bytes()),
        (OCI_MANIFEST, text.replace("sha256:", "md5:").as_bytes()),
        (OCI_MANIFEST, deep.as_bytes()),
        (OCI_MANIFEST, &both),
        (OCI_INDEX, &good),
        (DOCKER_MANIFEST, &good),
        ("application/json", &good),
        ("text/html", &good),
        ("not a media type", &good),
        ("application/vnd.docker.distribution.manifest.v1+json", schema1.as_bytes()),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", schema1.as_bytes()),
    ] {
        oci.put("app", "v1", media_type, body).refuse(400, "MANIFEST_INVALID");
    }
    assert_eq!(oci.sequence(), sequence);
    oci.get("/v2/app/manifests/v1").refuse(404, "MANIFEST_UNKNOWN");
    // Parameters of the content type are ignored, and a document may name its own type.
    oci.put("app", "v1", &format!("{OCI_MANIFEST}; charset=utf-8"), &good).expect(StatusCode::CREATED);
    oci.ask("PUT /v2/app/manifests/v2", &[], &good).expect(StatusCode::CREATED);
}

#[test]
fn a_manifest_that_is_too_large_is_413() {
    let oci = Oci::with("app");
    let bytes = vec![b' '; (4 << 20) + 1];
    oci.put("app", "v1", OCI_MANIFEST, &bytes).refuse(413, "MANIFEST_INVALID");
    let oci = oci.adapted(|adapter| adapter.with_manifest_body_bytes_max(10));
    assert_eq!(oci.adapter.manifest_body_bytes_max(), 10);
    oci.put("app", "v1", OCI_MANIFEST, b"{          ").refuse(413, "MANIFEST_INVALID");
}

#[test]
fn missing_references_are_named() {
    let oci = Oci::with("app");
    oci.create("elsewhere", &RepositorySettings::default());
    oci.push_blob("elsewhere", b"layer");
    oci.push_blob("app", b"{}");
    let sequence = oci.sequence();
    let manifest = image(b"layer", &json!({}));
    let answer = oci.put("app", "v1", OCI_MANIFEST, &manifest);
    let missing = Digest::sha256(b"layer").to_string();
    assert_eq!(answer.json()["errors"][0]["detail"]["digest"], missing);
    answer.refuse(404, "MANIFEST_BLOB_UNKNOWN");
    let list = index(&[b"one", b"two"]);
    let answer = oci.put("app", "list", OCI_INDEX, &list);
    assert_eq!(answer.json()["errors"].as_array().unwrap().len(), 2);
    answer.refuse(404, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(oci.sequence(), sequence);
    oci.push_blob("app", b"layer");
    oci.put("app", "v1", OCI_MANIFEST, &manifest).expect(StatusCode::CREATED);
}

#[test]
fn a_sparse_repository_takes_what_is_not_there() {
    let oci = Oci::new();
    let settings = RepositorySettings { sparse_images: true, ..Default::default() };
    oci.create("app", &settings);
    oci.put("app", "v1", OCI_INDEX, &index(&[b"one"])).expect(StatusCode::CREATED);
}

#[test]
fn a_subject_is_acknowledged() {
    let oci = Oci::with("app");
    oci.push_blob("app", b"{}");
    oci.push_blob("app", b"signature");
    let subject = Digest::sha256(b"not pushed yet");
    let bytes = image(b"signature", &json!({ "subject": descriptor(OCI_MANIFEST, b"not pushed yet") }));
    let answer = oci.put("app", &Digest::sha256(&bytes).to_string(), OCI_MANIFEST, &bytes);
    assert_eq!(answer.expect(StatusCode::CREATED).header("oci-subject"), subject.to_string());
    // Also where nothing changes any more.
    let answer = oci.put("app", "again", OCI_MANIFEST, &bytes);
    assert_eq!(answer.expect(StatusCode::CREATED).header("oci-subject"), subject.to_string());
}

#[test]
fn an_immutable_tag_stays() {
    let oci = Oci::new();
    let settings = RepositorySettings { tag_mutability: TagMutability::IMMUTABLE, ..Default::default() };
    oci.create("library/app", &settings);
    let (first, digest) = oci.push_image("library/app", "v1", b"one");
    oci.put("library/app", "v1", OCI_MANIFEST, &first).expect(StatusCode::CREATED);
    let second = oci.image("library/app", b"two");
    let sequence = oci.sequence();
    let message = oci.put("library/app", "v1", OCI_MANIFEST, &second).refuse(409, "DENIED");
    assert_eq!(
        message,
        "The image tag 'v1' already exists in the 'library/app' repository and cannot be overwritten because the tag \
         is immutable"
    );
    assert_eq!(oci.sequence(), sequence);
    assert_eq!(oci.get("/v2/library/app/manifests/v1").header("docker-content-digest"), digest.to_string());
}

#[test]
fn limits_are_denied() {
    let mut oci = Oci::with("app");
    let mut limits = oci.registry.limits().clone();
    (limits.images, limits.tags_per_image) = (1, 1);
    oci.adapter = layerhold_oci::Adapter::new(oci.registry.clone().with_limits(limits));
    let (bytes, _) = oci.push_image("app", "v1", b"one");
    let sequence = oci.sequence();
    oci.put("app", "v2", OCI_MANIFEST, &bytes).refuse(403, "DENIED");
    assert_eq!(oci.sequence(), sequence);
    let other = oci.image("app", b"two");
    let sequence = oci.sequence();
    oci.put("app", "other", OCI_MANIFEST, &other).refuse(403, "DENIED");
    assert_eq!(oci.sequence(), sequence);
}

#[test]
fn a_tag_moves_and_the_old_manifest_stays() {
    let oci = Oci::with("app");
    let (_, first) = oci.push_image("app", "v1", b"one");
    let (_, second) = oci.push_image("app", "v1", b"two");
    assert_eq!(oci.get("/v2/app/manifests/v1").header("docker-content-digest"), second.to_string());
    oci.get(&format!("/v2/app/manifests/{first}")).expect(StatusCode::OK);
}

#[test]
fn delete_by_tag_takes_the_tag_alone() {
    let oci = Oci::with("app");
    let (_, digest) = oci.push_image("app", "v1", b"layer");
    oci.ask("DELETE /v2/app/manifests/v1", &[], b"").expect(StatusCode::ACCEPTED);
    oci.get("/v2/app/manifests/v1").refuse(404, "MANIFEST_UNKNOWN");
    oci.get(&format!("/v2/app/manifests/{digest}")).expect(StatusCode::OK);
    oci.ask("DELETE /v2/app/manifests/v1", &[], b"").refuse(404, "MANIFEST_UNKNOWN");
}

#[test]
fn delete_by_digest_takes_the_manifest_and_its_tags() {
    let oci = Oci::with("app");
    let (_, digest) = oci.push_image("app", "v1", b"layer");
    let target = format!("/v2/app/manifests/{digest}");
    oci.ask(&format!("DELETE {target}"), &[], b"").expect(StatusCode::ACCEPTED);
    oci.get(&target).refuse(404, "MANIFEST_UNKNOWN");
    oci.get("/v2/app/manifests/v1").refuse(404, "MANIFEST_UNKNOWN");
    oci.ask(&format!("DELETE {target}"), &[], b"").refuse(404, "MANIFEST_UNKNOWN");
    // Its blobs are free to go now.
    let layer = Digest::sha256(b"layer");
    oci.ask(&format!("DELETE /v2/app/blobs/{layer}"), &[], b"").expect(StatusCode::ACCEPTED);
}

#[test]
fn a_child_of_an_index_cannot_be_deleted() {
    let oci = Oci::with("app");
    let (bytes, child) = oci.push_image("app", "amd64", b"layer");
    let list = index(&[&bytes]);
    oci.put("app", "multi", OCI_INDEX, &list).expect(StatusCode::CREATED);
    let sequence = oci.sequence();
    let answer = oci.ask(&format!("DELETE /v2/app/manifests/{child}"), &[], b"");
    assert_eq!(answer.json()["errors"][0]["detail"]["manifests"][0], Digest::sha256(&list).to_string());
    answer.refuse(405, "UNSUPPORTED");
    assert_eq!(oci.sequence(), sequence);
    oci.ask(&format!("DELETE /v2/app/manifests/{}", Digest::sha256(&list)), &[], b"").expect(StatusCode::ACCEPTED);
    oci.ask(&format!("DELETE /v2/app/manifests/{child}"), &[], b"").expect(StatusCode::ACCEPTED);
}

#[test]
fn what_is_not_there_is_404() {
    let oci = Oci::with("app");
    let digest = Digest::sha256(b"unknown");
    for reference in ["v1".to_owned(), digest.to_string(), ".INVALID_MANIFEST_NAME".to_owned()] {
        oci.get(&format!("/v2/app/manifests/{reference}")).refuse(404, "MANIFEST_UNKNOWN");
        oci.ask(&format!("HEAD /v2/app/manifests/{reference}"), &[], b"").expect(StatusCode::NOT_FOUND);
        oci.ask(&format!("DELETE /v2/app/manifests/{reference}"), &[], b"").refuse(404, "MANIFEST_UNKNOWN");
    }
    for line in ["GET", "HEAD", "DELETE"] {
        oci.ask(&format!("{line} /v2/missing/manifests/v1"), &[], b"").expect(StatusCode::NOT_FOUND);
    }
    oci.get("/v2/missing/manifests/v1").refuse(404, "NAME_UNKNOWN");
}

#[test]
fn a_manifest_pushed_here_is_the_engines_own() {
    let oci = Oci::with("app");
    let (bytes, digest) = oci.push_image("app", "v1", b"layer");
    let stored = oci
        .registry
        .repository(&name("app"))
        .manifest(&digest.into(), layerhold::manifest::ManifestRead::Peek)
        .unwrap();
    assert_eq!(stored.bytes.as_ref() as &[u8], bytes);
}

/// Goal: what a server may ask on the thread that serves sockets neither waits for a row nor for a sync. Method: wherever
/// something is to be written, the answer is left to a thread that may wait; afterwards it is at hand.
#[test]
fn what_is_to_be_noted_is_not_answered_at_once() {
    let oci = Oci::with("app");
    oci.push_image("app", "v1", b"layer");
    let hour_ms = layerhold::Options::default().lease_ms;
    let layer = format!("/v2/app/blobs/{}", Digest::sha256(b"layer"));
    let absent = format!("/v2/app/blobs/{}", Digest::sha256(b"absent"));
    for round in 0..2 {
        assert_eq!(oci.at_once("GET /v2/app/manifests/v1"), None, "a pull to be noted round={round}");
        oci.get("/v2/app/manifests/v1").expect(StatusCode::OK);
        assert_eq!(oci.at_once("GET /v2/app/manifests/v1"), Some(StatusCode::OK));
        if round > 0 {
            assert_eq!(oci.at_once(&format!("HEAD {layer}")), None, "a lease to be extended");
            oci.ask(&format!("HEAD {layer}"), &[], b"").expect(StatusCode::OK);
        }
        assert_eq!(oci.at_once(&format!("HEAD {layer}")), Some(StatusCode::OK));
        assert_eq!(oci.at_once(&format!("HEAD {absent}")), Some(StatusCode::NOT_FOUND));
        oci.medium.clock().advance(hour_ms);
    }
    for line in ["HEAD /v2/app/manifests/v1", "GET /v2/app/tags/list", "GET /v2/_catalog", "GET /v2/"] {
        assert_eq!(oci.at_once(line), Some(StatusCode::OK), "line={line}");
    }
    for line in [format!("GET {layer}"), format!("DELETE {layer}"), "DELETE /v2/app/manifests/v1".to_owned()] {
        assert_eq!(oci.at_once(&line), None, "line={line}");
    }
}
