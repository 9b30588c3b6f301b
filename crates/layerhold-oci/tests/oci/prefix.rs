//! A registry whose names begin with an alias, and URLs that name a host.

use crate::fixture::{OCI_MANIFEST, Oci};
use http::StatusCode;
use serde_json::json;

fn public() -> Oci {
    Oci::new().adapted(|adapter| adapter.with_name_prefix("local").with_location_base("https://registry.example:5000/"))
}

#[test]
fn names_and_urls_carry_the_alias() {
    let oci = public();
    let answer = oci.ask("POST /v2/local/library/app/blobs/uploads/", &[], b"").expect(StatusCode::ACCEPTED);
    let id = answer.header("docker-upload-uuid").to_owned();
    let base = "https://registry.example:5000/v2/local/library/app";
    assert_eq!(answer.header("location"), format!("{base}/blobs/uploads/{id}"));
    assert!(oci.exists("library/app"));
    let bytes = oci.image("local/library/app", b"layer");
    let answer = oci.put("local/library/app", "v1", OCI_MANIFEST, &bytes).expect(StatusCode::CREATED);
    assert_eq!(answer.header("location"), format!("{base}/manifests/v1"));
    oci.put("local/library/app", "v2", OCI_MANIFEST, &bytes).expect(StatusCode::CREATED);
    let answer = oci.get("/v2/local/library/app/tags/list?n=1").expect(StatusCode::OK);
    assert_eq!(answer.json(), json!({ "name": "local/library/app", "tags": ["v1"] }));
    assert_eq!(answer.next(), Some(format!("{base}/tags/list?n=1&last=v1")));
    oci.begin("local/other");
    let answer = oci.get("/v2/_catalog?n=1").expect(StatusCode::OK);
    assert_eq!(answer.json(), json!({ "repositories": ["local/library/app"] }));
    let next = answer.next().unwrap();
    assert_eq!(next, "https://registry.example:5000/v2/_catalog?n=1&last=local%2Flibrary%2Fapp");
    let answer = oci.get(next.strip_prefix("https://registry.example:5000").unwrap()).expect(StatusCode::OK);
    assert_eq!(answer.json(), json!({ "repositories": ["local/other"] }));
}

#[test]
fn names_without_the_alias_do_not_exist_and_are_not_created() {
    let oci = public();
    let sequence = oci.sequence();
    oci.ask("POST /v2/library/app/blobs/uploads/", &[], b"").refuse(404, "NAME_UNKNOWN");
    oci.ask("POST /v2/other/library/app/blobs/uploads/", &[], b"").refuse(404, "NAME_UNKNOWN");
    oci.get("/v2/library/app/tags/list").refuse(404, "NAME_UNKNOWN");
    oci.get("/v2/_catalog?last=library/app").refuse(400, "NAME_INVALID");
    assert_eq!(oci.sequence(), sequence);
}

#[test]
fn mounts_name_their_source_with_the_alias() {
    let oci = public();
    let digest = oci.push_blob("local/source", b"layer");
    let mount =
        |from: &str| oci.ask(&format!("POST /v2/local/target/blobs/uploads/?mount={digest}&from={from}"), &[], b"");
    mount("source").expect(StatusCode::ACCEPTED);
    mount("other/source").expect(StatusCode::ACCEPTED);
    mount("local/source").expect(StatusCode::CREATED);
}
