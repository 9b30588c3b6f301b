//! What a caller may not see and what does not exist are one answer: a registry that answers them differently tells
//! strangers what others have pushed.

use crate::fixture::{Answer, Oci};
use layerhold::{Digest, RepositorySettings};

/// Answers to a foreign and to an unknown digest must not differ in anything but the digest that was asked for.
#[track_caller]
fn same(foreign: (&Answer, &Digest), unknown: (&Answer, &Digest)) {
    let plain = |(answer, digest): (&Answer, &Digest)| {
        (
            answer.status,
            answer.headers.clone(),
            String::from_utf8(answer.body.clone()).unwrap().replace(&digest.to_string(), "D"),
        )
    };
    assert_eq!(plain(foreign), plain(unknown));
}

#[test]
fn a_foreign_digest_and_an_unknown_digest_are_one_answer() {
    let oci = Oci::with("mine");
    oci.create("theirs", &RepositorySettings::default());
    let (_, foreign_manifest) = oci.push_image("theirs", "v1", b"secret layer");
    let foreign_blob = Digest::sha256(b"secret layer");
    let unknown = Digest::sha256(b"nobody has this");
    for (foreign, what) in [(foreign_blob, "blobs"), (foreign_manifest, "manifests"), (foreign_manifest, "blobs")] {
        for method in ["GET", "HEAD", "DELETE"] {
            let ask = |digest: &Digest| oci.ask(&format!("{method} /v2/mine/{what}/{digest}"), &[], b"");
            same((&ask(&foreign), &foreign), (&ask(&unknown), &unknown));
        }
        let ranged =
            |digest: &Digest| oci.ask(&format!("GET /v2/mine/{what}/{digest}"), &[("range", "bytes=999999999-")], b"");
        same((&ranged(&foreign), &foreign), (&ranged(&unknown), &unknown));
        let conditional =
            |digest: &Digest| oci.ask(&format!("GET /v2/mine/{what}/{digest}"), &[("if-none-match", "*")], b"");
        same((&conditional(&foreign), &foreign), (&conditional(&unknown), &unknown));
    }
}

#[test]
fn a_mount_tells_nothing_of_other_repositories() {
    let oci = Oci::with("mine");
    oci.create("theirs", &RepositorySettings::default());
    let theirs = oci.push_blob("theirs", b"secret");
    let unknown = Digest::sha256(b"nobody has this");
    // Without the right source, a blob that exists somewhere is answered as one that exists nowhere.
    for (digest, from) in [(theirs, ""), (unknown, ""), (theirs, "&from=missing"), (unknown, "&from=theirs")] {
        let answer = oci.ask(&format!("POST /v2/mine/blobs/uploads/?mount={digest}{from}"), &[], b"");
        assert_eq!(answer.status.as_u16(), 202, "from={from}");
        let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "content-length",
                "docker-distribution-api-version",
                "docker-upload-uuid",
                "location",
                "range",
                "x-content-type-options"
            ]
        );
    }
}

#[test]
fn after_a_delete_nothing_is_served() {
    let oci = Oci::with("mine");
    oci.create("theirs", &RepositorySettings::default());
    let digest = oci.push_blob("mine", b"shared");
    oci.push_blob("theirs", b"shared");
    oci.ask(&format!("DELETE /v2/mine/blobs/{digest}"), &[], b"");
    // Somebody else reads it: that must not bring it back here.
    assert_eq!(oci.get(&format!("/v2/theirs/blobs/{digest}")).status.as_u16(), 200);
    oci.get(&format!("/v2/mine/blobs/{digest}")).refuse(404, "BLOB_UNKNOWN");
}
