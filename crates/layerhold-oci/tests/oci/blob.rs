//! Blobs: HEAD, GET whole and by range, conditions, DELETE.

use crate::fixture::{Oci, noise};
use http::StatusCode;
use layerhold::{Algorithm, Digest};

#[test]
fn the_protocol_is_spoken_here() {
    let oci = Oci::new();
    for target in ["/v2/", "/v2"] {
        let answer = oci.get(target).expect(StatusCode::OK);
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    }
    oci.ask("HEAD /v2/", &[], b"").expect(StatusCode::OK);
}

#[test]
fn head_and_get_agree() {
    let oci = Oci::with("app");
    for bytes in [Vec::new(), noise(1, 1), noise(70_000, 2), noise(600_000, 3)] {
        let digest = oci.push_blob("app", &bytes);
        let target = format!("/v2/app/blobs/{digest}");
        let head = oci.ask(&format!("HEAD {target}"), &[], b"").expect(StatusCode::OK);
        let get = oci.get(&target).expect(StatusCode::OK);
        assert_eq!(get.body, bytes);
        assert_eq!(head.headers, get.headers);
        assert_eq!(get.header("content-length"), bytes.len().to_string());
        assert_eq!(get.header("docker-content-digest"), digest.to_string());
        assert_eq!(get.header("content-type"), "application/octet-stream");
        assert_eq!(get.header("accept-ranges"), "bytes");
        assert_eq!(get.header("etag"), format!("\"{digest}\""));
        assert_eq!(get.header("x-content-type-options"), "nosniff");
    }
}

#[test]
fn ranges() {
    let oci = Oci::with("app");
    let bytes = noise(300_000, 4);
    let digest = oci.push_blob("app", &bytes);
    let target = format!("GET /v2/app/blobs/{digest}");
    for (range, first, len) in [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99999", 0, 100_000),
        ("bytes=65535-65537", 65_535, 3),
        ("bytes=200000-", 200_000, 100_000),
        ("bytes=-1", 299_999, 1),
        ("bytes=-999999", 0, 300_000),
        ("bytes=299999-999999", 299_999, 1),
    ] {
        let answer = oci.ask(&target, &[("range", range)], b"").expect(StatusCode::PARTIAL_CONTENT);
        assert_eq!(answer.body, bytes[first..first + len], "range={range}");
        assert_eq!(answer.header("content-range"), format!("bytes {first}-{}/300000", first + len - 1));
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    }
    for range in ["bytes=300000-", "bytes=5-4", "bytes=-0", "bytes=x", "nonsense"] {
        let answer = oci.ask(&target, &[("range", range)], b"");
        assert_eq!(answer.header("content-range"), "bytes */300000", "range={range}");
        answer.refuse(416, "RANGE_INVALID");
    }
    for range in ["bytes=0-1,5-6", "lines=0-1"] {
        let answer = oci.ask(&target, &[("range", range)], b"").expect(StatusCode::OK);
        assert_eq!(answer.body, bytes, "range={range}");
    }
    // A range of nothing does not exist.
    let empty = oci.push_blob("app", b"");
    let answer = oci.ask(&format!("GET /v2/app/blobs/{empty}"), &[("range", "bytes=0-")], b"");
    assert_eq!(answer.header("content-range"), "bytes */0");
    answer.refuse(416, "RANGE_INVALID");
}

#[test]
fn conditions() {
    let oci = Oci::with("app");
    let digest = oci.push_blob("app", b"bytes");
    let target = format!("GET /v2/app/blobs/{digest}");
    let etag = format!("\"{digest}\"");
    for condition in [etag.clone(), format!("W/{etag}"), digest.to_string(), format!("\"other\", {etag}"), "*".into()] {
        let answer = oci.ask(&target, &[("if-none-match", &condition)], b"").expect(StatusCode::NOT_MODIFIED);
        assert_eq!(answer.header("etag"), etag, "condition={condition}");
    }
    oci.ask(&target, &[("if-none-match", "\"other\"")], b"").expect(StatusCode::OK);
    let ranged = |condition: &str| oci.ask(&target, &[("range", "bytes=0-1"), ("if-range", condition)], b"");
    assert_eq!(ranged(&etag).expect(StatusCode::PARTIAL_CONTENT).body, b"by");
    assert_eq!(ranged("\"other\"").expect(StatusCode::OK).body, b"bytes");
}

#[test]
fn a_blob_that_no_manifest_names_can_be_deleted() {
    let oci = Oci::with("app");
    let digest = oci.push_blob("app", b"bytes");
    let target = format!("/v2/app/blobs/{digest}");
    oci.ask(&format!("DELETE {target}"), &[], b"").expect(StatusCode::ACCEPTED);
    oci.get(&target).refuse(404, "BLOB_UNKNOWN");
    oci.ask(&format!("HEAD {target}"), &[], b"").expect(StatusCode::NOT_FOUND);
    oci.ask(&format!("DELETE {target}"), &[], b"").refuse(404, "BLOB_UNKNOWN");
}

#[test]
fn a_blob_of_a_manifest_cannot_be_deleted() {
    let oci = Oci::with("app");
    let (_, manifest) = oci.push_image("app", "v1", b"layer");
    let target = format!("/v2/app/blobs/{}", Digest::sha256(b"layer"));
    let sequence = oci.sequence();
    let answer = oci.ask(&format!("DELETE {target}"), &[], b"");
    assert_eq!(answer.header("allow"), "GET, HEAD");
    assert_eq!(answer.json()["errors"][0]["detail"]["manifests"][0], manifest.to_string());
    answer.refuse(405, "UNSUPPORTED");
    assert_eq!(oci.sequence(), sequence);
    oci.get(&target).expect(StatusCode::OK);
}

#[test]
fn the_same_bytes_under_two_algorithms_are_two_blobs() {
    let oci = Oci::with("app");
    let sha256 = oci.push_blob("app", b"bytes");
    let sha512 = Digest::of(Algorithm::Sha512, b"bytes");
    oci.get(&format!("/v2/app/blobs/{sha512}")).refuse(404, "BLOB_UNKNOWN");
    let line = format!("POST /v2/app/blobs/uploads/?digest={sha512}");
    oci.ask(&line, &[], b"bytes").expect(StatusCode::CREATED);
    for digest in [sha256, sha512] {
        assert_eq!(oci.get(&format!("/v2/app/blobs/{digest}")).expect(StatusCode::OK).body, b"bytes");
    }
}
