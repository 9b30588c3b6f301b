//! BatchDeleteImage.

use layerhold_ecr::registry::Scope;
use serde_json::{Value, json};

use crate::harness::{ACCOUNT, Harness, index_manifest, no_repository, sha256};

const BOTH: [Scope; 2] = [Scope::Private, Scope::Public];

fn delete(harness: &Harness, scope: Scope, ids: Value) -> Value {
    harness.in_scope(scope, "BatchDeleteImage", json!({ "repositoryName": "app", "imageIds": ids })).unwrap()
}

/// Tags and digests of all images, as DescribeImages tells them.
fn images(harness: &Harness, scope: Scope) -> Vec<(String, Vec<String>)> {
    let answer = harness.in_scope(scope, "DescribeImages", json!({ "repositoryName": "app" })).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let tags = |image: &Value| image["imageTags"].as_array().map(|tags| tags.iter().map(text).collect());
    let image = |image: &Value| (text(&image["imageDigest"]), tags(image).unwrap_or_default());
    answer["imageDetails"].as_array().unwrap().iter().map(image).collect()
}

#[test]
fn a_tag_goes_alone_and_the_last_one_takes_the_image_along() {
    let harness = Harness::with_repository("app");
    for scope in BOTH {
        let digest = harness.push(scope, "app", "one", &["v1", "v2"]);
        let entry = |tag: &str| json!({ "imageDigest": digest, "imageTag": tag });
        let answer = delete(&harness, scope, json!([{ "imageTag": "v1" }]));
        assert_eq!(answer, json!({ "imageIds": [entry("v1")], "failures": [] }));
        assert_eq!(images(&harness, scope), [(digest.clone(), vec!["v2".to_owned()])]);
        // Tag and digest together are the tag, once they agree.
        let answer = delete(&harness, scope, json!([{ "imageTag": "v2", "imageDigest": digest }]));
        assert_eq!(answer["imageIds"], json!([entry("v2")]));
        assert_eq!(images(&harness, scope), []);
    }
}

#[test]
fn a_digest_takes_all_of_its_tags_along() {
    let harness = Harness::with_repository("app");
    for scope in BOTH {
        let digest = harness.push(scope, "app", "one", &["v3", "v1", "v2"]);
        let answer = delete(&harness, scope, json!([{ "imageDigest": digest }]));
        let mut tags =
            answer["imageIds"].as_array().unwrap().iter().map(|id| id["imageTag"].as_str()).collect::<Vec<_>>();
        tags.sort_unstable();
        assert_eq!(tags, [Some("v1"), Some("v2"), Some("v3")]);
        let untagged = harness.push(scope, "app", "two", &[]);
        let answer = delete(&harness, scope, json!([{ "imageDigest": untagged }]));
        assert_eq!(answer, json!({ "imageIds": [{ "imageDigest": untagged }], "failures": [] }));
        assert_eq!(images(&harness, scope), []);
    }
}

#[test]
fn every_id_fails_for_itself() {
    let harness = Harness::with_repository("app");
    for scope in BOTH {
        let first = harness.push(scope, "app", "one", &["v1"]);
        let second = harness.push(scope, "app", "two", &["v2"]);
        let ids = json!([
            {}, { "imageDigest": "nonsense" }, { "imageTag": "a+b" }, { "imageTag": "none" },
            { "imageDigest": sha256(b"unknown") }, { "imageDigest": "md5:00" },
            { "imageDigest": first, "imageTag": "v2" }, { "imageDigest": sha256(b"unknown"), "imageTag": "v2" },
            { "imageTag": "v1" }, { "imageTag": "v1" },
        ]);
        let answer = delete(&harness, scope, ids.clone());
        assert_eq!(answer["imageIds"], json!([{ "imageDigest": first, "imageTag": "v1" }]));
        let codes = answer["failures"].as_array().unwrap().iter().map(|f| f["failureCode"].as_str().unwrap());
        assert_eq!(
            codes.collect::<Vec<_>>(),
            [
                "MissingDigestAndTag",
                "InvalidImageDigest",
                "InvalidImageTag",
                "ImageNotFound",
                "ImageNotFound",
                "ImageNotFound",
                "ImageTagDoesNotMatchDigest",
                "ImageNotFound",
                "ImageNotFound",
            ]
        );
        assert_eq!(answer["failures"][3]["failureReason"], json!("Requested image not found"));
        assert_eq!(answer["failures"][6]["imageId"], ids[6]);
        assert_eq!(images(&harness, scope), [(second, vec!["v2".to_owned()])]);
        let all = delete(&harness, scope, json!([{ "imageTag": "none" }]));
        assert_eq!(all["imageIds"], json!([]), "empty, not absent");
        let none = json!({ "repositoryName": "none", "imageIds": [{ "imageTag": "v1" }] });
        no_repository(harness.in_scope(scope, "BatchDeleteImage", none), "none", ACCOUNT);
    }
    // The public operation does not model an unknown registry.
    let foreign = json!({ "registryId": "stranger", "repositoryName": "app", "imageIds": [{ "imageTag": "v1" }] });
    no_repository(harness.public("BatchDeleteImage", foreign), "app", "stranger");
}

#[test]
fn children_of_an_index_stay_until_it_goes() {
    let harness = Harness::with_repository("app");
    for scope in BOTH {
        let child = harness.image(scope, "app", &[b"one"]);
        harness.put(scope, "app", &child, Some("child")).unwrap();
        let index = index_manifest(&[&child]);
        harness.put(scope, "app", &index, Some("multi")).unwrap();
        let (child, index) = (sha256(child.as_bytes()), sha256(index.as_bytes()));
        for id in [json!({ "imageDigest": child }), json!({ "imageTag": "child" })] {
            let answer = delete(&harness, scope, json!([id]));
            assert_eq!(
                answer["failures"],
                json!([{ "imageId": id, "failureCode": "ImageReferencedByManifestList",
                         "failureReason": format!("Requested image referenced by manifest list: [{index}]") }])
            );
        }
        assert!(images(&harness, scope).contains(&(child.clone(), vec!["child".to_owned()])), "the tag stays too");
        // In one call, with the index first.
        let answer = delete(&harness, scope, json!([{ "imageDigest": index }, { "imageDigest": child }]));
        assert_eq!(answer["failures"], json!([]));
        assert_eq!(images(&harness, scope), []);
    }
}

#[test]
fn mutability_never_keeps_an_image() {
    let harness = Harness::with_repository("app");
    harness.push(Scope::Private, "app", "one", &["v1"]);
    let members = json!({ "repositoryName": "app", "imageTagMutability": "IMMUTABLE" });
    harness.private("PutImageTagMutability", members).unwrap();
    delete(&harness, Scope::Private, json!([{ "imageTag": "v1" }]));
    // The tag is free again.
    harness.push(Scope::Private, "app", "two", &["v1"]);
}
