//! ListImages, DescribeImages, DescribeImageTags, ListImageReferrers.

use std::collections::BTreeSet;

use layerhold_ecr::registry::Scope;
use serde_json::{Value, json};

use crate::harness::{
    ACCOUNT, Answer, Harness, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, descriptor, index_manifest, invalid, no_repository,
    refused, sha256,
};

const BOTH: [Scope; 2] = [Scope::Private, Scope::Public];
const BAD_TOKEN: &str = "Member must be a token that the same request returned";

fn with(mut members: Value, more: &Value) -> Value {
    members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    members
}

/// Follows a listing to its end; gives the items and how many pages there were.
fn all(mut page: impl FnMut(Value) -> Answer, key: &str, size: u32) -> (Vec<Value>, usize) {
    let (mut items, mut pages, mut token) = (Vec::new(), 0, Value::Null);
    loop {
        let answer = page(json!({ "maxResults": size, "nextToken": token })).unwrap();
        let found = answer[key].as_array().unwrap();
        assert!(found.len() <= size as usize);
        items.extend(found.iter().cloned());
        pages += 1;
        token = answer["nextToken"].clone();
        if token.is_null() {
            return (items, pages);
        }
        assert!(pages < 100, "the listing does not end");
    }
}

#[test]
fn images_are_listed_as_pairs_of_digest_and_tag() {
    let harness = Harness::with_repository("app");
    let one = harness.push(Scope::Private, "app", "one", &["v1", "latest"]);
    let two = harness.push(Scope::Private, "app", "two", &["v2"]);
    let untagged = harness.push(Scope::Private, "app", "three", &[]);
    let list = |members: Value| harness.private("ListImages", with(json!({ "repositoryName": "app" }), &members));
    let set = |items: &[Value]| items.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let pair = |digest: &str, tag: &str| json!({ "imageDigest": digest, "imageTag": tag });
    let tagged = [pair(&one, "latest"), pair(&one, "v1"), pair(&two, "v2")];
    let alone = [json!({ "imageDigest": untagged })];
    let everything = [&tagged[..], &alone].concat();
    for (filter, expected) in [
        (json!({}), &everything[..]),
        (json!({ "tagStatus": "ANY" }), &everything),
        (json!({ "tagStatus": "TAGGED", "imageStatus": "ACTIVE" }), &tagged),
        (json!({ "tagStatus": "UNTAGGED", "imageStatus": "ANY" }), &alone),
        (json!({ "imageStatus": "ARCHIVED" }), &[]),
        (json!({ "imageStatus": "ACTIVATING" }), &[]),
    ] {
        for size in [1, 2, 3, 100] {
            let (items, _) = all(|paging| list(with(json!({ "filter": filter }), &paging)), "imageIds", size);
            assert_eq!(items.len(), expected.len(), "{filter} {size}");
            assert_eq!(set(&items), set(expected), "{filter} {size}");
        }
    }
    let token = list(json!({ "maxResults": 1 })).unwrap()["nextToken"].clone();
    for other in [json!({ "filter": { "tagStatus": "TAGGED" } }), json!({ "filter": { "imageStatus": "ARCHIVED" } })] {
        invalid(list(with(other, &json!({ "nextToken": token }))), "nextToken", BAD_TOKEN);
    }
    invalid(list(json!({ "nextToken": "AAAA" })), "nextToken", BAD_TOKEN);
    // The repository is looked up before the token.
    for members in [json!({}), json!({ "nextToken": "AAAA" }), json!({ "filter": { "imageStatus": "ARCHIVED" } })] {
        let answer = harness.private("ListImages", with(json!({ "repositoryName": "none" }), &members));
        no_repository(answer, "none", ACCOUNT);
    }
}

#[test]
fn an_image_is_described_member_by_member() {
    let harness = Harness::with_repository("app");
    for scope in BOTH {
        let manifest = harness.image(scope, "app", &[b"one", b"three"]);
        let digest = sha256(manifest.as_bytes());
        harness.put(scope, "app", &manifest, Some("v1")).unwrap();
        harness.put(scope, "app", &manifest, Some("v2")).unwrap();
        let named = json!({ "repositoryName": "app", "imageIds": [{ "imageTag": "v2" }] });
        let answer = harness.in_scope(scope, "DescribeImages", named).unwrap();
        let mut image = answer["imageDetails"][0].clone();
        let members = image.as_object_mut().unwrap();
        assert!(members.remove("imagePushedAt").unwrap().is_number());
        let mut expected = json!({
            "registryId": ACCOUNT, "repositoryName": "app", "imageDigest": digest, "imageTags": ["v1", "v2"],
            "imageSizeInBytes": 37 + 3 + 5, "imageManifestMediaType": OCI_MANIFEST, "artifactMediaType": OCI_CONFIG,
        });
        if scope == Scope::Private {
            expected["imageStatus"] = json!("ACTIVE");
        }
        assert_eq!(image, expected);
        let listed = harness.in_scope(scope, "DescribeImages", json!({ "repositoryName": "app" })).unwrap();
        assert_eq!(listed["imageDetails"], answer["imageDetails"]);
    }
    // Pulling leaves a time, having a subject its digest; an untagged image has no tags, an index no artifact type.
    let first =
        harness.private("DescribeImages", json!({ "repositoryName": "app" })).unwrap()["imageDetails"][0].clone();
    let pull = json!({ "repositoryName": "app", "imageIds": [{ "imageTag": "v1" }] });
    harness.private("BatchGetImage", pull).unwrap();
    let mut artifact: Value = serde_json::from_str(&harness.image(Scope::Private, "app", &[b"sbom"])).unwrap();
    artifact["subject"] = json!({ "mediaType": OCI_MANIFEST, "digest": first["imageDigest"], "size": 1 });
    artifact["artifactType"] = json!("application/spdx+json");
    let artifact = artifact.to_string();
    harness.put(Scope::Private, "app", &artifact, None).unwrap();
    let index = index_manifest(&[&artifact]);
    harness.put(Scope::Private, "app", &index, Some("multi")).unwrap();
    let describe = |id: Value| {
        let answer = harness.private("DescribeImages", json!({ "repositoryName": "app", "imageIds": [id] })).unwrap();
        answer["imageDetails"][0].clone()
    };
    let pulled = describe(json!({ "imageTag": "v1" }));
    assert!(pulled["lastRecordedPullTime"].is_number());
    assert_eq!(pulled["imagePushedAt"], first["imagePushedAt"]);
    let found = describe(json!({ "imageDigest": sha256(artifact.as_bytes()) }));
    assert_eq!(found["subjectManifestDigest"], first["imageDigest"]);
    assert_eq!(found["artifactMediaType"], json!("application/spdx+json"));
    assert!(found.get("imageTags").is_none() && found.get("lastRecordedPullTime").is_none());
    let found = describe(json!({ "imageTag": "multi" }));
    assert_eq!(found["imageManifestMediaType"], json!(OCI_INDEX));
    assert_eq!(found["imageSizeInBytes"], json!(37 + 4), "the largest child's");
    assert!(found.get("artifactMediaType").is_none());
}

#[test]
fn describing_by_id_is_all_or_nothing() {
    let harness = Harness::with_repository("app");
    for scope in BOTH {
        let one = harness.push(scope, "app", "one", &["v1", "latest"]);
        let two = harness.push(scope, "app", "two", &["v2"]);
        let describe =
            |ids: Value| harness.in_scope(scope, "DescribeImages", json!({ "repositoryName": "app", "imageIds": ids }));
        let answer = describe(json!([
            { "imageTag": "v2" }, { "imageTag": "v1" }, { "imageDigest": one }, { "imageTag": "latest", "imageDigest": one }
        ]));
        let answer = answer.unwrap();
        let digests =
            answer["imageDetails"].as_array().unwrap().iter().map(|image| image["imageDigest"].as_str().unwrap());
        assert_eq!(digests.collect::<Vec<_>>(), [two.as_str(), &one]);

        let unknown = sha256(b"unknown");
        for (id, digest, tag) in [
            (json!({ "imageTag": "none" }), "null", "none"),
            (json!({ "imageDigest": unknown }), unknown.as_str(), "null"),
            (json!({ "imageDigest": "md5:00" }), "md5:00", "null"),
            (json!({ "imageDigest": one, "imageTag": "v2" }), one.as_str(), "v2"),
            (json!({ "imageDigest": one, "imageTag": "none" }), one.as_str(), "none"),
        ] {
            let message = format!(
                "The image with imageId {{imageDigest:'{digest}', imageTag:'{tag}'}} does not exist within the repository with \
                 name 'app' in the registry with id '{ACCOUNT}'"
            );
            refused(describe(json!([{ "imageTag": "v1" }, id])), "ImageNotFoundException", &message);
        }
        invalid(describe(json!([{ "imageTag": "v1" }, {}])), "imageIds.2", "both tag and digest cannot be null");
        let digest_text = "must satisfy regular expression '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'";
        invalid(describe(json!([{ "imageDigest": "x" }])), "imageIds.1.imageDigest", digest_text);
        let tag_text = "must satisfy regular expression '[a-zA-Z0-9-_.]+'";
        invalid(describe(json!([{ "imageTag": "a+b" }])), "imageIds.1.imageTag", tag_text);
        let paging = json!({ "repositoryName": "app", "imageIds": [{ "imageTag": "v1" }], "maxResults": 5 });
        let detail = "Member must be null when items are named explicitly";
        invalid(harness.in_scope(scope, "DescribeImages", paging), "maxResults", detail);
        let none = |id: Value| json!({ "repositoryName": "none", "imageIds": [id] });
        for id in [json!({ "imageTag": "v1" }), json!({ "imageDigest": "md5:00" })] {
            no_repository(harness.in_scope(scope, "DescribeImages", none(id)), "none", ACCOUNT);
        }
    }
}

#[test]
fn images_are_described_in_pages_and_by_filter() {
    let harness = Harness::with_repository("app");
    for scope in BOTH {
        let mut digests = BTreeSet::new();
        for number in 0..5 {
            let tags = [format!("v{number}"), format!("w{number}")];
            let tags = if number % 2 == 0 { vec![tags[0].as_str(), &tags[1]] } else { Vec::new() };
            digests.insert(harness.push(scope, "app", &format!("image {number}"), &tags));
        }
        let describe =
            |more: Value| harness.in_scope(scope, "DescribeImages", with(json!({ "repositoryName": "app" }), &more));
        for size in [1, 2, 5, 100] {
            let (items, _) = all(describe, "imageDetails", size);
            let found = items.iter().map(|image| image["imageDigest"].as_str().unwrap().to_owned());
            assert_eq!((items.len(), found.collect::<BTreeSet<_>>()), (5, digests.clone()));
        }
        invalid(describe(json!({ "nextToken": "AAAA" })), "nextToken", BAD_TOKEN);
        if scope == Scope::Private {
            for (status, count) in [("TAGGED", 3), ("UNTAGGED", 2), ("ANY", 5)] {
                let filter = json!({ "filter": { "tagStatus": status } });
                let (items, _) = all(|paging| describe(with(filter.clone(), &paging)), "imageDetails", 2);
                assert_eq!(items.len(), count, "{status}");
            }
            let archived = describe(json!({ "filter": { "imageStatus": "ARCHIVED" } })).unwrap();
            assert_eq!(archived, json!({ "imageDetails": [] }));
        }
    }
}

#[test]
fn public_tags_are_described_with_their_images() {
    let harness = Harness::with_repository("app");
    let one = harness.push(Scope::Public, "app", "one", &["b", "a"]);
    harness.push(Scope::Public, "app", "two", &["c"]);
    harness.push(Scope::Public, "app", "three", &[]);
    let describe = |more: Value| harness.public("DescribeImageTags", with(json!({ "repositoryName": "app" }), &more));
    for size in [1, 2, 100] {
        let (items, _) = all(describe, "imageTagDetails", size);
        let tags = items.iter().map(|tag| tag["imageTag"].as_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(tags, ["a", "b", "c"]);
    }
    let mut first = describe(json!({})).unwrap()["imageTagDetails"][0].clone();
    assert!(first["createdAt"].is_number());
    assert!(first["imageDetail"].as_object_mut().unwrap().remove("imagePushedAt").unwrap().is_number());
    assert_eq!(
        first["imageDetail"],
        json!({ "imageDigest": one, "imageSizeInBytes": 37 + 3, "imageManifestMediaType": OCI_MANIFEST,
                "artifactMediaType": OCI_CONFIG })
    );
    invalid(describe(json!({ "nextToken": "AAAA" })), "nextToken", BAD_TOKEN);
    for more in [json!({}), json!({ "nextToken": "AAAA" })] {
        let answer = harness.public("DescribeImageTags", with(json!({ "repositoryName": "none" }), &more));
        no_repository(answer, "none", ACCOUNT);
    }
}

#[test]
fn referrers_are_listed_by_subject_and_type() {
    let harness = Harness::with_repository("app");
    let subject = descriptor(OCI_MANIFEST, b"a subject that nobody pushed");
    let artifact = |seed: &str, artifact_type: Option<&str>| {
        let mut manifest: Value =
            serde_json::from_str(&harness.image(Scope::Private, "app", &[seed.as_bytes()])).unwrap();
        manifest["subject"] = subject.clone();
        if let Some(artifact_type) = artifact_type {
            manifest["artifactType"] = json!(artifact_type);
            manifest["annotations"] = json!({ "seed": seed });
        }
        let text = manifest.to_string();
        harness.put(Scope::Private, "app", &text, None).unwrap();
        (sha256(text.as_bytes()), text.len())
    };
    let (sbom, sbom_size) = artifact("1", Some("application/spdx+json"));
    let (signature, _) = artifact("2", Some("application/signature"));
    let (plain, plain_size) = artifact("3", None);
    let list = |more: Value| {
        let members = json!({ "repositoryName": "app", "subjectId": { "imageDigest": subject["digest"] } });
        harness.private("ListImageReferrers", with(members, &more))
    };
    let digests =
        |items: &[Value]| items.iter().map(|item| item["digest"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    for size in [1, 2, 50] {
        let (items, _) = all(&list, "referrers", size);
        assert_eq!(digests(&items), BTreeSet::from([sbom.clone(), signature.clone(), plain.clone()]));
    }
    let answer = list(json!({})).unwrap();
    let find = |digest: &str| {
        answer["referrers"].as_array().unwrap().iter().find(|item| item["digest"] == json!(digest)).unwrap().clone()
    };
    assert_eq!(
        find(&sbom),
        json!({ "digest": sbom, "mediaType": OCI_MANIFEST, "artifactType": "application/spdx+json", "size": sbom_size,
                "annotations": { "seed": "1" }, "artifactStatus": "ACTIVE" })
    );
    assert_eq!(
        find(&plain),
        json!({ "digest": plain, "mediaType": OCI_MANIFEST, "artifactType": OCI_CONFIG, "size": plain_size,
                "artifactStatus": "ACTIVE" })
    );
    for (filter, expected) in [
        (json!({ "artifactTypes": ["application/signature"] }), vec![signature.clone()]),
        (json!({ "artifactTypes": ["application/signature", OCI_CONFIG] }), vec![signature.clone(), plain.clone()]),
        (json!({ "artifactTypes": ["none/none"] }), vec![]),
        (json!({ "artifactTypes": [], "artifactStatus": "ANY" }), vec![sbom.clone(), signature.clone(), plain.clone()]),
        (json!({ "artifactStatus": "ARCHIVED" }), vec![]),
    ] {
        let (items, _) = all(|paging| list(with(json!({ "filter": filter }), &paging)), "referrers", 2);
        assert_eq!(digests(&items), expected.into_iter().collect(), "{filter}");
    }

    for nobody in [sha256(b"unknown").as_str(), "md5:00"] {
        let members = json!({ "repositoryName": "app", "subjectId": { "imageDigest": nobody } });
        assert_eq!(harness.private("ListImageReferrers", members).unwrap(), json!({ "referrers": [] }));
        let members = json!({ "repositoryName": "none", "subjectId": { "imageDigest": nobody } });
        no_repository(harness.private("ListImageReferrers", members), "none", ACCOUNT);
    }
    let sentence =
        |path: &str, detail: &str| format!("Invalid parameter at '{path}' failed to satisfy constraint: '{detail}'");
    let token = sentence("nextToken", BAD_TOKEN);
    refused(list(json!({ "nextToken": "AAAA" })), "ValidationException", &token);
    let members = json!({ "repositoryName": "app", "subjectId": { "imageDigest": "nonsense" } });
    let pattern = "must satisfy regular expression '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'";
    let text = sentence("subjectId.imageDigest", pattern);
    refused(harness.private("ListImageReferrers", members), "ValidationException", &text);
}

/// Goal: what one page holds in memory is bounded by bytes as well, however long the annotations are.
#[test]
fn referrers_with_long_annotations_come_one_by_one() {
    let harness = Harness::with_repository("app");
    let subject = descriptor(OCI_MANIFEST, b"a subject that nobody pushed");
    let image = harness.image(Scope::Private, "app", &[b"layer"]);
    let expected = (0..8)
        .map(|number| {
            let mut manifest: Value = serde_json::from_str(&image).unwrap();
            manifest["subject"] = subject.clone();
            manifest["annotations"] = json!({ "note": number.to_string().repeat(3 << 20) });
            let text = manifest.to_string();
            harness.put(Scope::Private, "app", &text, None).unwrap();
            sha256(text.as_bytes())
        })
        .collect::<BTreeSet<_>>();
    let mut found = BTreeSet::new();
    let mut members = json!({ "repositoryName": "app", "subjectId": { "imageDigest": subject["digest"] } });
    loop {
        let answer = harness.private("ListImageReferrers", members.clone()).unwrap();
        let items = answer["referrers"].as_array().unwrap();
        assert!(items.len() <= 1 && answer.to_string().len() <= 4 << 20, "{}", items.len());
        found.extend(items.iter().map(|item| item["digest"].as_str().unwrap().to_owned()));
        match answer.get("nextToken") {
            Some(token) => members["nextToken"] = token.clone(),
            None => break,
        }
    }
    assert_eq!(found, expected);
    let target = "AmazonEC2ContainerRegistry_V20150921.ListImageReferrers";
    assert_eq!(layerhold_ecr::Ecr::cost(Some(target)), layerhold_ecr::Cost::Blocking);
}
