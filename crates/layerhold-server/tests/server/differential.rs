//! One engine behind two protocols: a manifest pushed over one is the same object over the other, and both give the same
//! verdict on the same tag.
//!
//! The method: two repositories with the same settings get the same steps, one over ECR and one over OCI. After each step
//! the two verdicts are compared in words that both have, and all four views (each repository over each protocol) must
//! show the same tags on the same digests. `LAYERHOLD_SEED` replays a run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::{Client, MANIFEST_TYPE, Reply, digest, manifest, noise};
use crate::harness::Server;

/// A verdict in words that both protocols have.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    Immutable,
    Missing,
    Invalid,
    Referenced,
    Unknown,
}

fn oci(reply: &Reply) -> Verdict {
    match (reply.status, if reply.status < 400 { String::new() } else { reply.code() }.as_str()) {
        (201 | 202, _) => Verdict::Taken,
        (409, "DENIED") => Verdict::Immutable,
        (404, "MANIFEST_BLOB_UNKNOWN") => Verdict::Missing,
        (400, "MANIFEST_INVALID" | "DIGEST_INVALID") => Verdict::Invalid,
        (405, "UNSUPPORTED") => Verdict::Referenced,
        (404, "MANIFEST_UNKNOWN") => Verdict::Unknown,
        _ => panic!("{reply:?}"),
    }
}

fn ecr((status, answer): (u16, Value)) -> Verdict {
    if status == 200 {
        return match answer["failures"][0]["failureCode"].as_str() {
            None => Verdict::Taken,
            Some("ImageReferencedByManifestList") => Verdict::Referenced,
            Some("ImageNotFound") => Verdict::Unknown,
            Some(other) => panic!("{other}"),
        };
    }
    match answer["__type"].as_str().unwrap() {
        "ImageAlreadyExistsException" => Verdict::Taken,
        "ImageTagAlreadyExistsException" => Verdict::Immutable,
        "LayersNotFoundException" | "ReferencedImagesNotFoundException" => Verdict::Missing,
        "InvalidParameterException" | "ImageDigestDoesNotMatchException" => Verdict::Invalid,
        _ => panic!("{answer}"),
    }
}

fn tags_over_oci(client: &mut Client, repository: &str) -> BTreeMap<String, String> {
    let list = client.get(&format!("/v2/{repository}/tags/list")).json();
    let tags = list["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned());
    tags.map(|tag| {
        let head = client.call("HEAD", &format!("/v2/{repository}/manifests/{tag}"), &[], b"");
        let digest = head.header("docker-content-digest").unwrap().to_owned();
        (tag, digest)
    })
    .collect()
}

fn tags_over_ecr(client: &mut Client, repository: &str) -> BTreeMap<String, String> {
    let input = json!({"repositoryName": repository, "filter": {"tagStatus": "TAGGED"}, "maxResults": 1000});
    let (status, list) = client.ecr("ListImages", &input);
    assert_eq!(status, 200, "{list}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let ids = list["imageIds"].as_array().unwrap();
    ids.iter().map(|id| (text(&id["imageTag"]), text(&id["imageDigest"]))).collect()
}

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

struct Document {
    bytes: Vec<u8>,
    media_type: &'static str,
}

/// Documents of every kind: images, one without its layer, indexes with and without their children, and nonsense.
fn documents(client: &mut Client, repositories: [&str; 2]) -> Vec<Document> {
    const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
    let mut documents = Vec::new();
    for n in 0..3 {
        let (config, layer) = (format!("{{\"n\":{n}}}").into_bytes(), noise(n, 100));
        for repository in repositories {
            client.push_blob(repository, &config);
            client.push_blob(repository, &layer);
        }
        documents.push(Document { bytes: manifest(&config, &[&layer]), media_type: MANIFEST_TYPE });
    }
    documents.push(Document { bytes: manifest(b"{\"n\":0}", &[b"never pushed"]), media_type: MANIFEST_TYPE });
    for child in [0, 3] {
        let Document { bytes, .. } = &documents[child];
        let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [
            {"mediaType": MANIFEST_TYPE, "size": bytes.len(), "digest": digest(bytes),
             "platform": {"architecture": "amd64", "os": "linux"}}]});
        documents.push(Document { bytes: index.to_string().into_bytes(), media_type: INDEX_TYPE });
    }
    for nonsense in ["{}", "{\"schemaVersion\":2,", "[]", "{\"schemaVersion\":2,\"schemaVersion\":2}"] {
        documents.push(Document { bytes: nonsense.as_bytes().to_vec(), media_type: MANIFEST_TYPE });
    }
    documents
}

fn seed() -> u64 {
    std::env::var("LAYERHOLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121)
}

#[test]
fn both_protocols_judge_alike() {
    let seed = seed();
    println!("LAYERHOLD_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, &[]);
    let mut client = server.client();
    let filters = json!([{"filterType": "WILDCARD", "filter": "dev*"}]);
    let modes = ["MUTABLE", "IMMUTABLE", "MUTABLE_WITH_EXCLUSION", "IMMUTABLE_WITH_EXCLUSION"];
    let mut numbers = Numbers(seed);
    for mode in modes {
        let names = ["ecr", "oci"].map(|side| format!("{side}/{}", mode.to_lowercase()));
        let [by_ecr, by_oci] = names.each_ref().map(String::as_str);
        for name in [by_ecr, by_oci] {
            let mut input = json!({"repositoryName": name, "imageTagMutability": mode});
            if mode.ends_with("EXCLUSION") {
                input["imageTagMutabilityExclusionFilters"] = filters.clone();
            }
            let (status, answer) = client.ecr("CreateRepository", &input);
            assert_eq!(status, 200, "{answer}");
        }
        let documents = documents(&mut client, [by_ecr, by_oci]);
        let mut seen = [0; 2];
        for step in 0..120 {
            let document = numbers.of(&documents);
            let at = format!("LAYERHOLD_SEED={seed} mode={mode} step={step}");
            if numbers.below(8) == 0 {
                let digest = digest(&document.bytes);
                let input = json!({"repositoryName": by_ecr, "imageIds": [{"imageDigest": digest}]});
                let verdict = ecr(client.ecr("BatchDeleteImage", &input));
                let path = format!("/v2/{by_oci}/manifests/{digest}");
                assert_eq!(verdict, oci(&client.call("DELETE", &path, &[], b"")), "delete {at}");
            } else {
                let tag = *numbers.of(&["v1", "v2", "latest", "dev", "dev-1"]);
                let input = json!({"repositoryName": by_ecr, "imageTag": tag,
                    "imageManifest": String::from_utf8(document.bytes.clone()).unwrap(),
                    "imageManifestMediaType": document.media_type});
                let verdict = ecr(client.ecr("PutImage", &input));
                let path = format!("/v2/{by_oci}/manifests/{tag}");
                let put = client.call("PUT", &path, &[("Content-Type", document.media_type)], &document.bytes);
                assert_eq!(verdict, oci(&put), "put {tag} {at}: {}", put.text());
                seen[usize::from(verdict != Verdict::Taken)] += 1;
            }
            let views = [
                tags_over_oci(&mut client, by_ecr),
                tags_over_ecr(&mut client, by_ecr),
                tags_over_oci(&mut client, by_oci),
                tags_over_ecr(&mut client, by_oci),
            ];
            assert!(views.windows(2).all(|pair| pair[0] == pair[1]), "{at}: {views:#?}");
        }
        assert!(seen.iter().all(|&count| count > 10), "{seen:?} {mode}: the steps say little");
    }
}

#[test]
fn an_image_is_the_same_object_over_both() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, &[]);
    let mut client = server.client();
    let (config, layer) = (b"{}".to_vec(), noise(1, 50_000));
    client.push_blob("app", &config);
    client.push_blob("app", &layer);
    // Spaces and key order are the client's, and stay.
    let over_oci = manifest(&config, &[&layer]);
    let over_ecr = [b"  ".as_slice(), &over_oci, b"\n"].concat();
    assert_eq!(client.push_manifest("app", "oci", &over_oci).status, 201);
    let input = json!({"repositoryName": "app", "imageTag": "ecr", "imageManifestMediaType": MANIFEST_TYPE,
        "imageManifest": String::from_utf8(over_ecr.clone()).unwrap()});
    let (status, answer) = client.ecr("PutImage", &input);
    assert_eq!(status, 200, "{answer}");

    for (tag, bytes) in [("oci", over_oci), ("ecr", over_ecr)] {
        let pulled = client.get(&format!("/v2/app/manifests/{tag}"));
        assert_eq!((pulled.status, &pulled.body), (200, &bytes));
        assert_eq!(pulled.header("content-type"), Some(MANIFEST_TYPE));
        let (_, got) = client.ecr("BatchGetImage", &json!({"repositoryName": "app", "imageIds": [{"imageTag": tag}]}));
        let image = &got["images"][0];
        assert_eq!(image["imageManifest"].as_str().map(str::as_bytes), Some(bytes.as_slice()));
        assert_eq!(image["imageManifestMediaType"], MANIFEST_TYPE);
        assert_eq!(image["imageId"]["imageDigest"], digest(&bytes));
        let (_, details) =
            client.ecr("DescribeImages", &json!({"repositoryName": "app", "imageIds": [{"imageTag": tag}]}));
        let detail = &details["imageDetails"][0];
        assert_eq!(detail["imageTags"], json!([tag]));
        assert_eq!(detail["imageDigest"], digest(&bytes));
    }
    let (_, checked) = client.ecr(
        "BatchCheckLayerAvailability",
        &json!({"repositoryName": "app", "layerDigests": [digest(&layer), digest(b"absent")]}),
    );
    assert_eq!(checked["layers"][0]["layerAvailability"], "AVAILABLE");
    assert_eq!(client.call("HEAD", &format!("/v2/app/blobs/{}", digest(&layer)), &[], b"").status, 200);
    assert_eq!(client.call("HEAD", &format!("/v2/app/blobs/{}", digest(b"absent")), &[], b"").status, 404);
}
