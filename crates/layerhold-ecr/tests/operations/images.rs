//! PutImage and BatchGetImage.

use layerhold::Limits;
use layerhold_ecr::registry::Scope;
use serde_json::{Value, json};

use crate::harness::{
    ACCOUNT, Answer, Harness, OCI_INDEX, OCI_MANIFEST, descriptor, image_manifest, index_manifest, invalid,
    no_repository, refused, sha256,
};

const BOTH: [Scope; 2] = [Scope::Private, Scope::Public];
const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux"}"#;
const SYNTAX: &str = "Invalid JSON syntax";

#[test]
fn an_image_is_pushed_and_echoed() {
    let harness = Harness::with_repository("app");
    for scope in BOTH {
        // White space and order are the client's and stay as they are.
        let manifest = format!(" {}\n", harness.image(scope, "app", &[b"one", b"two"]));
        let digest = sha256(manifest.as_bytes());
        let image = |id: Value| {
            json!({ "image": { "registryId": ACCOUNT, "repositoryName": "app", "imageId": id,
                               "imageManifest": manifest, "imageManifestMediaType": OCI_MANIFEST } })
        };
        assert_eq!(harness.put(scope, "app", &manifest, None).unwrap(), image(json!({ "imageDigest": digest })));
        let tagged = json!({ "imageDigest": digest, "imageTag": "v1" });
        assert_eq!(harness.put(scope, "app", &manifest, Some("v1")).unwrap(), image(tagged));
        let members = json!({ "registryId": ACCOUNT, "repositoryName": "app", "imageManifest": manifest, "imageTag": ".-_",
                              "imageManifestMediaType": OCI_MANIFEST, "imageDigest": digest });
        harness.in_scope(scope, "PutImage", members).unwrap();
    }
}

#[test]
fn what_is_there_already_is_said_so() {
    let harness = Harness::with_repository("app");
    let manifest = harness.image(Scope::Private, "app", &[b"one"]);
    let digest = sha256(manifest.as_bytes());
    let place = "already exists in the repository with name 'app' in registry with id '012345678901'";
    harness.put(Scope::Private, "app", &manifest, Some("v1")).unwrap();
    refused(
        harness.put(Scope::Private, "app", &manifest, Some("v1")),
        "ImageAlreadyExistsException",
        &format!("Image with digest '{digest}' and tag 'v1' {place}"),
    );
    refused(
        harness.put(Scope::Private, "app", &manifest, None),
        "ImageAlreadyExistsException",
        &format!("Image with digest '{digest}' {place}"),
    );
    harness.put(Scope::Private, "app", &manifest, Some("v2")).unwrap();
    // The tag moves: it is another image's now, and the first one has it no more.
    let other = harness.image(Scope::Private, "app", &[b"two"]);
    harness.put(Scope::Private, "app", &other, Some("v1")).unwrap();
    harness.put(Scope::Private, "app", &manifest, Some("v1")).unwrap();
}

#[test]
fn immutable_tags_stay_where_they_are() {
    let harness = Harness::with_repository("app");
    let first = harness.image(Scope::Private, "app", &[b"one"]);
    let second = harness.image(Scope::Private, "app", &[b"two"]);
    for tag in ["v1", "dev-1"] {
        harness.put(Scope::Private, "app", &first, Some(tag)).unwrap();
    }
    let refused_tag = |tag: &str| {
        let answer = harness.put(Scope::Private, "app", &second, Some(tag));
        let message = format!(
            "The image tag '{tag}' already exists in the 'app' repository and cannot be overwritten because the tag is immutable"
        );
        refused(answer, "ImageTagAlreadyExistsException", &message);
    };
    let set = |members: Value| {
        let mut all = json!({ "repositoryName": "app" });
        all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        harness.private("PutImageTagMutability", all).unwrap();
    };
    let filters = json!([{ "filterType": "WILDCARD", "filter": "dev-*" }]);
    set(json!({ "imageTagMutability": "IMMUTABLE" }));
    refused_tag("v1");
    refused_tag("dev-1");
    // The same image under the same tag is "already exists", whatever the setting.
    assert_eq!(harness.put(Scope::Private, "app", &first, Some("v1")).unwrap_err().name, "ImageAlreadyExistsException");
    // New tags may be added.
    harness.put(Scope::Private, "app", &first, Some("v2")).unwrap();
    set(json!({ "imageTagMutability": "MUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": filters }));
    refused_tag("dev-1");
    harness.put(Scope::Private, "app", &second, Some("v2")).unwrap();
    set(json!({ "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": filters }));
    refused_tag("v1");
    harness.put(Scope::Private, "app", &second, Some("dev-1")).unwrap();
    // A tag is judged before missing layers.
    let missing = image_manifest(CONFIG, &[b"missing"]);
    assert_eq!(
        harness.put(Scope::Private, "app", &missing, Some("v1")).unwrap_err().name,
        "ImageTagAlreadyExistsException"
    );
}

#[test]
fn missing_layers_and_children_are_all_named() {
    let harness = Harness::with_repository("app");
    for scope in BOTH {
        harness.push_layer(scope, "app", CONFIG);
        let manifest = image_manifest(CONFIG, &[b"a", b"b"]);
        let refusal = harness.put(scope, "app", &manifest, Some("v1")).unwrap_err();
        assert_eq!(refusal.name, "LayersNotFoundException");
        let text = |first: &str, second: &str| {
            format!(
                "Layers with digests '[{first}, {second}]' required for pushing image into repository with name 'app' in the \
                 registry with id '{ACCOUNT}' do not exist"
            )
        };
        let (a, b) = (sha256(b"a"), sha256(b"b"));
        assert!([text(&a, &b), text(&b, &a)].contains(&refusal.message), "{}", refusal.message);

        let index = index_manifest(&[&manifest]);
        let message = format!(
            "Images with digests '[{}]' required for pushing image into repository with name 'app' in the registry with id \
             '{ACCOUNT}' do not exist",
            sha256(manifest.as_bytes())
        );
        refused(harness.put(scope, "app", &index, None), "ReferencedImagesNotFoundException", &message);
        harness.push_layer(scope, "app", b"a");
        harness.push_layer(scope, "app", b"b");
        harness.put(scope, "app", &manifest, None).unwrap();
        let answer = harness.put(scope, "app", &index, Some("multi")).unwrap();
        assert_eq!(answer["image"]["imageManifestMediaType"], json!(OCI_INDEX));
    }
    // A subject need not exist.
    let mut artifact: Value = serde_json::from_str(&image_manifest(CONFIG, &[])).unwrap();
    artifact["subject"] = descriptor(OCI_MANIFEST, b"not here");
    harness.put(Scope::Private, "app", &artifact.to_string(), None).unwrap();
}

#[test]
fn manifests_that_are_none_are_refused() {
    let harness = Harness::with_repository("app");
    let good = harness.image(Scope::Private, "app", &[b"a"]);
    let put = |manifest: &str, media_type: Option<&str>| {
        let mut members = json!({ "repositoryName": "app", "imageManifest": manifest, "imageTag": "v1" });
        if let Some(media_type) = media_type {
            members["imageManifestMediaType"] = json!(media_type);
        }
        harness.private("PutImage", members)
    };
    let mut untyped: Value = serde_json::from_str(&good).unwrap();
    untyped.as_object_mut().unwrap().remove("mediaType");
    let untyped = untyped.to_string();
    let mut no_config: Value = serde_json::from_str(&good).unwrap();
    no_config.as_object_mut().unwrap().remove("config");
    for (manifest, media_type) in [
        ("not json", None),
        ("[]", None),
        ("{}", Some(OCI_MANIFEST)),
        (untyped.as_str(), None),
        (untyped.as_str(), Some("text/plain")),
        (untyped.as_str(), Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")),
        (good.as_str(), Some(OCI_INDEX)),
        (no_config.to_string().as_str(), None),
        (good.replacen('{', "{\"schemaVersion\":2,", 1).as_str(), None),
    ] {
        invalid(put(manifest, media_type), "ImageManifest", SYNTAX);
    }
    put(&untyped, Some(OCI_MANIFEST)).unwrap();
    let many = vec![&b"a"[..]; 1_001];
    invalid(put(&image_manifest(CONFIG, &many), None), "ImageManifest", "Limit on number of layers per image exceeded");
    // Fewer characters than the limit, more bytes than the store takes.
    let wide = format!("{{\"a\":\"{}\"}}", "é".repeat(2_200_000));
    invalid(put(&wide, Some(OCI_MANIFEST)), "imageManifest", "Member must have length less than or equal to 4194304");
    // The repository is looked up before the manifest is read, a tag's characters before the repository.
    for media_type in [None, Some("nonsense")] {
        let mut members = json!({ "repositoryName": "none", "imageManifest": "x" });
        media_type.into_iter().for_each(|media_type| members["imageManifestMediaType"] = json!(media_type));
        no_repository(harness.private("PutImage", members), "none", ACCOUNT);
    }
    let members = json!({ "repositoryName": "none", "imageManifest": "x", "imageTag": "a+b" });
    let detail = "must satisfy regular expression '[a-zA-Z0-9-_.]+'";
    invalid(harness.private("PutImage", members), "imageTag", detail);
}

#[test]
fn schema_1_manifests_come_in() {
    let harness = Harness::with_repository("app");
    let layer = harness.push_layer(Scope::Private, "app", b"layer");
    let manifest = json!({
        "schemaVersion": 1, "name": "app", "tag": "old", "architecture": "amd64",
        "fsLayers": [{ "blobSum": layer }], "history": [{ "v1Compatibility": "{}" }],
    })
    .to_string();
    let media_type = "application/vnd.docker.distribution.manifest.v1+json";
    let members = json!({ "repositoryName": "app", "imageManifest": manifest, "imageTag": "old",
                          "imageManifestMediaType": media_type });
    let answer = harness.private("PutImage", members).unwrap();
    assert_eq!(answer["image"]["imageId"]["imageDigest"], json!(sha256(manifest.as_bytes())));
    assert_eq!(answer["image"]["imageManifestMediaType"], json!(media_type));
}

#[test]
fn a_digest_that_is_given_must_be_the_image_s() {
    let harness = Harness::with_repository("app");
    let manifest = harness.image(Scope::Private, "app", &[b"a"]);
    let put = |manifest: &str, digest: &str| -> Answer {
        harness
            .private("PutImage", json!({ "repositoryName": "app", "imageManifest": manifest, "imageDigest": digest }))
    };
    let sha512 = layerhold::digest::Digest::of(layerhold::digest::Algorithm::Sha512, manifest.as_bytes()).to_string();
    let capitals = format!("sha256:{}", sha256(manifest.as_bytes())["sha256:".len()..].to_uppercase());
    for wrong in [sha256(b"other").as_str(), "nonsense", "", "md5:00", &sha512, &capitals] {
        let message = format!(
            "The image with digest '{wrong}' in repository 'app' and registry ID '{ACCOUNT}' does not match the image digest \
             that Amazon ECR has calculated"
        );
        refused(put(&manifest, wrong), "ImageDigestDoesNotMatchException", &message);
        // What the document is comes first.
        invalid(put("not json", wrong), "ImageManifest", SYNTAX);
    }
    put(&manifest, &sha256(manifest.as_bytes())).unwrap();
}

#[test]
fn images_and_tags_are_limited() {
    let mut limits = Limits::ecr_private();
    (limits.images, limits.tags_per_image) = (1, 2);
    let harness = Harness::with_limits(limits);
    harness.create("app");
    for scope in BOTH {
        let first = harness.image(scope, "app", &[b"one"]);
        harness.put(scope, "app", &first, Some("v1")).unwrap();
        harness.put(scope, "app", &first, Some("v2")).unwrap();
        refused(
            harness.put(scope, "app", &first, Some("v3")),
            "LimitExceededException",
            "Adding tag 'v3' to an image in the repository with name 'app' in registry with id '012345678901' exceeds the \
             maximum allowed number of tags per image which is '2'",
        );
        // Limits are judged before missing layers.
        let second = image_manifest(CONFIG, &[b"missing"]);
        refused(
            harness.put(scope, "app", &second, None),
            "LimitExceededException",
            "Adding an image to the repository with name 'app' in registry with id '012345678901' exceeds the maximum allowed \
             number of images per repository which is '1'",
        );
    }
}

#[test]
fn images_are_read_back_byte_for_byte() {
    let harness = Harness::with_repository("app");
    let manifest = format!("\n{}", harness.image(Scope::Private, "app", &[b"a"]));
    harness.put(Scope::Private, "app", &manifest, Some("v1")).unwrap();
    let digest = sha256(manifest.as_bytes());
    let get =
        |ids: Value| harness.private("BatchGetImage", json!({ "repositoryName": "app", "imageIds": ids })).unwrap();
    let image = |id: Value| {
        json!({ "registryId": ACCOUNT, "repositoryName": "app", "imageId": id, "imageManifest": manifest,
                "imageManifestMediaType": OCI_MANIFEST })
    };
    let answer = get(json!([
        { "imageTag": "v1" }, { "imageDigest": digest }, { "imageDigest": digest, "imageTag": "v1" }, { "imageTag": "v1" }
    ]));
    let both = json!({ "imageDigest": digest, "imageTag": "v1" });
    let images = [image(both.clone()), image(json!({ "imageDigest": digest })), image(both.clone()), image(both)];
    assert_eq!(answer, json!({ "images": images, "failures": [] }));
}

#[test]
fn every_id_of_a_batch_fails_for_itself() {
    let harness = Harness::with_repository("app");
    let first = harness.push(Scope::Private, "app", "one", &["v1"]);
    let second = harness.push(Scope::Private, "app", "two", &["v2"]);
    let unknown = sha256(b"unknown");
    let ids = json!([
        {}, { "imageDigest": "nonsense" }, { "imageTag": "a+b" }, { "imageDigest": "nonsense", "imageTag": "a+b" },
        { "imageTag": "none" }, { "imageDigest": unknown }, { "imageDigest": "md5:00" },
        { "imageDigest": first, "imageTag": "v2" }, { "imageDigest": second, "imageTag": "none" },
        { "imageDigest": unknown, "imageTag": "v1" }, { "imageTag": "v2" },
    ]);
    let answer = harness.private("BatchGetImage", json!({ "repositoryName": "app", "imageIds": ids })).unwrap();
    assert_eq!(answer["images"].as_array().unwrap().len(), 1);
    assert_eq!(answer["images"][0]["imageId"]["imageDigest"], json!(second));
    let digest_text =
        "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'";
    let not_found = ("ImageNotFound", "Requested image not found".to_owned());
    let mismatch = |tag: &str, digest: &str| {
        let reason = format!("Requested image tag '{tag}' does not name the image with digest '{digest}'");
        ("ImageTagDoesNotMatchDigest", reason)
    };
    let expected = [
        ("MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null".to_owned()),
        ("InvalidImageDigest", digest_text.to_owned()),
        (
            "InvalidImageTag",
            "Invalid request parameters: image tag should satisfy the regex '[a-zA-Z0-9-_.]+'".to_owned(),
        ),
        ("InvalidImageDigest", digest_text.to_owned()),
        not_found.clone(),
        not_found.clone(),
        not_found.clone(),
        mismatch("v2", &first),
        mismatch("none", &second),
    ];
    for (at, (code, reason)) in expected.into_iter().enumerate() {
        let failure = json!({ "imageId": ids[at], "failureCode": code, "failureReason": reason });
        assert_eq!(answer["failures"][at], failure);
    }
    // A tag that names an image beside a digest that names none: both given, the digest unknown.
    let last = &answer["failures"][9];
    assert_eq!(last["imageId"], ids[9]);
    assert_eq!(last["failureCode"], json!("ImageNotFound"));
    assert_eq!(answer["failures"].as_array().unwrap().len(), 10);
    let none = json!({ "repositoryName": "none", "imageIds": [{}] });
    no_repository(harness.private("BatchGetImage", none), "none", ACCOUNT);
}

#[test]
fn accepted_media_types_bind_lookups_by_tag() {
    let harness = Harness::with_repository("app");
    let digest = harness.push(Scope::Private, "app", "one", &["v1"]);
    let get = |id: Value, accepted: &[&str]| {
        let members = json!({ "repositoryName": "app", "imageIds": [id], "acceptedMediaTypes": accepted });
        harness.private("BatchGetImage", members).unwrap()
    };
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let refusal = get(json!({ "imageTag": "v1" }), &[docker]);
    assert_eq!(refusal["images"], json!([]));
    assert_eq!(refusal["failures"][0]["failureCode"], json!("ImageNotFound"));
    assert_eq!(get(json!({ "imageTag": "v1" }), &[docker, OCI_MANIFEST])["failures"], json!([]));
    assert_eq!(get(json!({ "imageDigest": digest }), &[docker])["failures"], json!([]));
    assert_eq!(get(json!({ "imageDigest": digest, "imageTag": "v1" }), &[docker])["failures"], json!([]));
}

#[test]
fn an_answer_has_a_size() {
    let harness = Harness::with_repository("app");
    harness.push_layer(Scope::Private, "app", CONFIG);
    let mut manifest: Value = serde_json::from_str(&image_manifest(CONFIG, &[])).unwrap();
    manifest["annotations"] = json!({ "filler": "x".repeat(4_000_000) });
    harness.put(Scope::Private, "app", &manifest.to_string(), Some("big")).unwrap();
    let get = |count: usize| {
        let ids = vec![json!({ "imageTag": "big" }); count];
        harness.private("BatchGetImage", json!({ "repositoryName": "app", "imageIds": ids }))
    };
    assert_eq!(get(8).unwrap()["images"].as_array().unwrap().len(), 8);
    let message = "The requested manifests together have more than 33554432 bytes; ask for fewer images at once";
    refused(get(9), "LimitExceededException", message);
}
