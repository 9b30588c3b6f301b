//! BatchCheckLayerAvailability, InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload, GetDownloadUrlForLayer.

use layerhold::Limits;
use layerhold_ecr::registry::Scope;
use serde_json::{Value, json};

use crate::harness::{ACCOUNT, Harness, OCI_LAYER, PART_MIN, Refusal, no_repository, refused, sha256};

const BOTH: [Scope; 2] = [Scope::Private, Scope::Public];
const NO_UPLOAD: &str = "6cb64b8a-9378-0e33-2ab1-b780fab8a9e9";

fn upload_not_found(id: &str) -> String {
    format!(
        "Upload with id '{id}' could not be found for the repository with name 'app' in the registry with id '{ACCOUNT}'"
    )
}

fn complete(harness: &Harness, scope: Scope, id: &str, digests: &[&str]) -> Result<Value, Refusal> {
    let members = json!({ "repositoryName": "app", "uploadId": id, "layerDigests": digests });
    harness.in_scope(scope, "CompleteLayerUpload", members)
}

#[test]
fn a_layer_is_pushed_in_parts() {
    let harness = Harness::with_repository("app");
    for scope in BOTH {
        let members = json!({ "registryId": ACCOUNT, "repositoryName": "app" });
        let begun = harness.in_scope(scope, "InitiateLayerUpload", members).unwrap();
        assert_eq!(begun["partSize"], json!(10_485_760));
        let id = begun["uploadId"].as_str().unwrap();
        assert_eq!((id.len(), id.to_lowercase()), (36, id.to_owned()));

        let (first, second) = (vec![1; PART_MIN], b"the rest".to_vec());
        let answer = harness.upload_part(scope, "app", id, 0, &first).unwrap();
        let last = PART_MIN - 1;
        let expected =
            json!({ "registryId": ACCOUNT, "repositoryName": "app", "uploadId": id, "lastByteReceived": last });
        assert_eq!(answer, expected);
        // The id may be written in capitals, and is echoed as it was written.
        let capitals = id.to_uppercase();
        let answer = harness.upload_part(scope, "app", &capitals, PART_MIN as u64, &second).unwrap();
        assert_eq!((&answer["uploadId"], &answer["lastByteReceived"]), (&json!(capitals), &json!(PART_MIN + 7)));

        let digest = sha256(&[first, second].concat());
        let answer = complete(&harness, scope, id, &[&digest]).unwrap();
        let expected = json!({ "registryId": ACCOUNT, "repositoryName": "app", "uploadId": id, "layerDigest": digest });
        assert_eq!(answer, expected);
        refused(complete(&harness, scope, id, &[&digest]), "UploadNotFoundException", &upload_not_found(id));
    }
}

#[test]
fn availability_has_an_entry_for_every_digest() {
    let harness = Harness::with_repository("app");
    harness.create("other");
    for scope in BOTH {
        let digest = harness.push_layer(scope, "app", b"layer");
        let check = |repository: &str, digests: &[&str]| {
            let members = json!({ "repositoryName": repository, "layerDigests": digests });
            harness.in_scope(scope, "BatchCheckLayerAvailability", members)
        };
        let unknown = sha256(b"unknown");
        let answer = check("app", &[&unknown, &digest, "", "nonsense", "md5:00ff", &digest, " "]).unwrap();
        let available = json!({ "layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": 5 });
        let unavailable = |digest: &str| json!({ "layerDigest": digest, "layerAvailability": "UNAVAILABLE" });
        assert_eq!(answer["layers"], json!([unavailable(&unknown), available, unavailable("md5:00ff"), available]));
        let invalid =
            "Invalid request parameters: layer digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'";
        let missing = "Invalid request parameters: layer digest cannot be null or empty";
        let failure = |digest: &str, code: &str, reason: &str| json!({ "layerDigest": digest, "failureCode": code, "failureReason": reason });
        assert_eq!(
            answer["failures"],
            json!([
                failure("", "MissingLayerDigest", missing),
                failure("nonsense", "InvalidLayerDigest", invalid),
                failure(" ", "MissingLayerDigest", missing),
            ])
        );
        // What another repository holds is not here.
        let other = check("other", &[&digest]).unwrap();
        assert_eq!(other, json!({ "layers": [unavailable(&digest)], "failures": [] }));
        // The repository is looked up even if no digest is usable.
        no_repository(check("none", &["nonsense"]), "none", ACCOUNT);
        // Once a manifest has named it, its media type is known.
        harness.push(scope, "app", "layer", &["v1"]);
        assert_eq!(check("app", &[&digest]).unwrap()["layers"][0]["mediaType"], json!(OCI_LAYER));
    }
}

#[test]
fn unknown_registries_and_repositories_are_named() {
    let harness = Harness::with_repository("app");
    let requests = [
        ("BatchCheckLayerAvailability", json!({ "layerDigests": ["a:00"] })),
        ("InitiateLayerUpload", json!({})),
        ("CompleteLayerUpload", json!({ "uploadId": NO_UPLOAD, "layerDigests": ["a:00"] })),
        (
            "UploadLayerPart",
            json!({ "uploadId": NO_UPLOAD, "partFirstByte": 7, "partLastByte": 3, "layerPartBlob": "" }),
        ),
    ];
    for (operation, mut members) in requests {
        members["repositoryName"] = json!("none");
        for scope in BOTH {
            no_repository(harness.in_scope(scope, operation, members.clone()), "none", ACCOUNT);
        }
        members["repositoryName"] = json!("app");
        members["registryId"] = json!("999999999999");
        no_repository(harness.private(operation, members.clone()), "app", "999999999999");
        members["registryId"] = json!("stranger");
        let message = "The registry with id 'stranger' does not exist";
        refused(harness.public(operation, members.clone()), "RegistryNotFoundException", message);
        // The alias of the public registry is a name of it.
        members["registryId"] = json!("local");
        let outcome = harness.public(operation, members).map_err(|refusal| refusal.name);
        assert_ne!(outcome, Err("RegistryNotFoundException".to_owned()), "{operation}");
    }
    let digest = sha256(b"x");
    let members = json!({ "repositoryName": "none", "layerDigest": digest });
    no_repository(harness.private("GetDownloadUrlForLayer", members), "none", ACCOUNT);
    let members = json!({ "repositoryName": "none", "layerDigest": "md5:00" });
    no_repository(harness.private("GetDownloadUrlForLayer", members), "none", ACCOUNT);
}

#[test]
fn parts_come_in_order_or_the_answer_says_where_to_go_on() {
    let harness = Harness::with_repository("app");
    let id = harness.initiate(Scope::Private, "app");
    let send = |first: u64, bytes: &[u8]| harness.upload_part(Scope::Private, "app", &id, first, bytes);
    let out_of_order = |answer: Result<Value, Refusal>, given: u64, expected: u64| {
        let refusal = answer.unwrap_err();
        assert_eq!((refusal.status, refusal.name.as_str()), (400, "InvalidLayerPartException"));
        assert_eq!(refusal.message, format!("First byte of the layer part is {given} instead of {expected}"));
        let mut members = json!({ "registryId": ACCOUNT, "repositoryName": "app", "uploadId": id });
        if expected > 0 {
            members["lastValidByteReceived"] = json!(expected - 1);
        }
        members["__type"] = json!("InvalidLayerPartException");
        members["message"] = json!(refusal.message);
        assert_eq!(refusal.body, members);
    };
    out_of_order(send(5, b"later"), 5, 0);
    send(0, b"first").unwrap();
    out_of_order(send(0, b"first"), 0, 5); // a repetition
    out_of_order(send(4, b"over"), 4, 5); // an overlap
    out_of_order(send(6, b"gap"), 6, 5); // a gap
    send(5, b"second").unwrap();
    complete(&harness, Scope::Private, &id, &[&sha256(b"firstsecond")]).unwrap_err();
    // The place was refused four times and nothing of it is in the session: only the first part is too small.
    let message = "Layer part 1 has 5 bytes; every part but the last must have at least 5242880 bytes";
    refused(complete(&harness, Scope::Private, &id, &["x:00"]), "LayerPartTooSmallException", message);
}

#[test]
fn a_part_has_the_length_of_its_range() {
    let harness = Harness::with_repository("app");
    let id = harness.initiate(Scope::Private, "app");
    let send = |first: u64, last: u64, blob: &str| {
        let members = json!({ "repositoryName": "app", "uploadId": id, "partFirstByte": first, "partLastByte": last,
                              "layerPartBlob": blob });
        harness.private("UploadLayerPart", members)
    };
    let wrong = |answer: Result<Value, Refusal>, received: u64, first: u64, last: u64| {
        let message = format!(
            "The layer part has {received} bytes, which is not the length of the range from byte {first} to byte {last}"
        );
        refused(answer, "InvalidLayerPartException", &message);
    };
    wrong(send(0, 3, "AAAA"), 3, 0, 3);
    wrong(send(0, 1, "AAAA"), 3, 0, 1);
    wrong(send(0, 0, ""), 0, 0, 0);
    // A range that ends before it begins: empty, or shorter than that.
    let members = json!({ "repositoryName": "app", "uploadId": id, "partFirstByte": 9, "partLastByte": 3, "layerPartBlob": "AAAA" });
    refused(
        harness.private("UploadLayerPart", members),
        "InvalidLayerPartException",
        "First byte of the layer part is 9 instead of 0",
    );
    wrong(send(0, u64::try_from(i64::MAX).unwrap(), "AAAA"), 3, 0, u64::try_from(i64::MAX).unwrap());
    send(0, 2, "AAAA").unwrap();
    wrong(send(3, 2, ""), 0, 3, 2);
    let refusal = send(3, 3, "AAAA").unwrap_err();
    assert_eq!(refusal.body["lastValidByteReceived"], json!(2));
}

#[test]
fn an_upload_belongs_to_its_repository_and_registry() {
    let harness = Harness::with_repository("app");
    harness.create("other");
    for scope in BOTH {
        let id = harness.initiate(scope, "other");
        refused(harness.upload_part(scope, "app", &id, 0, b"x"), "UploadNotFoundException", &upload_not_found(&id));
        refused(complete(&harness, scope, &id, &["a:00"]), "UploadNotFoundException", &upload_not_found(&id));
        let answer = harness.upload_part(scope, "app", NO_UPLOAD, 0, b"x");
        refused(answer, "UploadNotFoundException", &upload_not_found(NO_UPLOAD));
    }
    let id = harness.initiate(Scope::Private, "app");
    refused(harness.upload_part(Scope::Public, "app", &id, 0, b"x"), "UploadNotFoundException", &upload_not_found(&id));
}

#[test]
fn completing_judges_bytes_then_parts_then_digests() {
    let harness = Harness::with_repository("app");
    for scope in BOTH {
        let id = harness.initiate(scope, "app");
        let empty = format!(
            "The upload with id '{id}' in the repository with name 'app' in registry with id '{ACCOUNT}' cannot be completed \
             because it does not have any parts"
        );
        refused(complete(&harness, scope, &id, &[&sha256(b"")]), "EmptyUploadException", &empty);
        // The session is still there.
        harness.upload_part(scope, "app", &id, 0, b"small").unwrap();
        harness.upload_part(scope, "app", &id, 5, b"last").unwrap();
        let too_small = "Layer part 1 has 5 bytes; every part but the last must have at least 5242880 bytes";
        // Also with a wrong digest: the parts are judged first.
        refused(complete(&harness, scope, &id, &[&sha256(b"wrong")]), "LayerPartTooSmallException", too_small);
        refused(complete(&harness, scope, &id, &[&sha256(b"smalllast")]), "LayerPartTooSmallException", too_small);

        let mismatch = "None of the provided layer digests match the calculated layer digest";
        let right = sha256(b"layer");
        let capitals = format!("sha256:{}", right["sha256:".len()..].to_uppercase());
        for wrong in [&[sha256(b"x").as_str()][..], &["sha256:ab"], &[&capitals], &["sha256:00", "md5:00ff"]] {
            let id = harness.initiate(scope, "app");
            harness.upload_part(scope, "app", &id, 0, b"layer").unwrap();
            refused(complete(&harness, scope, &id, wrong), "InvalidLayerException", mismatch);
            refused(complete(&harness, scope, &id, &[&right]), "UploadNotFoundException", &upload_not_found(&id));
        }
        // One right digest among others is enough; without any sha256 digest nothing is checked.
        for (bytes, digests) in [
            (&b"one"[..], vec![sha256(b"x"), sha256(b"one"), "md5:00".to_owned()]),
            (b"two", vec!["md5:00".to_owned(), format!("{NO_UPLOAD}:00ff")]),
        ] {
            let id = harness.initiate(scope, "app");
            harness.upload_part(scope, "app", &id, 0, bytes).unwrap();
            let digests = digests.iter().map(String::as_str).collect::<Vec<_>>();
            let answer = complete(&harness, scope, &id, &digests).unwrap();
            assert_eq!(answer["layerDigest"], json!(sha256(bytes)));
        }
    }
}

#[test]
fn a_layer_that_is_there_already_is_reported_after_its_digest_was_checked() {
    let harness = Harness::with_repository("app");
    let digest = harness.push_layer(Scope::Private, "app", b"layer");
    let again = |digests: &[&str]| {
        let id = harness.initiate(Scope::Private, "app");
        harness.upload_part(Scope::Private, "app", &id, 0, b"layer").unwrap();
        (complete(&harness, Scope::Private, &id, digests), id)
    };
    let (answer, id) = again(&[&digest]);
    let message = format!(
        "The layer with digest '{digest}' already exists in the repository with name 'app' in registry with id '{ACCOUNT}'"
    );
    refused(answer, "LayerAlreadyExistsException", &message);
    let answer = complete(&harness, Scope::Private, &id, &[&digest]);
    refused(answer, "UploadNotFoundException", &upload_not_found(&id));
    refused(again(&["md5:00"]).0, "LayerAlreadyExistsException", &message);
    let (answer, _) = again(&[&sha256(b"other")]);
    assert_eq!(answer.unwrap_err().name, "InvalidLayerException");
}

/// Goal: a session that was begun over the other protocol, which lets a client choose sha512, ends as every other here.
#[test]
fn a_session_of_another_algorithm_is_judged_by_sha256() {
    let harness = Harness::with_repository("app");
    let name = layerhold::RepositoryName::parse("app").unwrap();
    let repository = harness.ecr.registry(Scope::Private).repository(&name);
    let begin = || repository.begin_upload(layerhold::Algorithm::Sha512, &layerhold::Call::anonymous()).unwrap();
    for (bytes, given) in [(&b"one"[..], sha256(b"one")), (b"two", "md5:00".to_owned())] {
        let id = begin().to_string();
        harness.upload_part(Scope::Private, "app", &id, 0, bytes).unwrap();
        let answer = complete(&harness, Scope::Private, &id, &[&given]).unwrap();
        assert_eq!(answer["layerDigest"], json!(sha256(bytes)));
    }
    let id = begin().to_string();
    harness.upload_part(Scope::Private, "app", &id, 0, b"three").unwrap();
    let sha512 = layerhold::Digest::of(layerhold::Algorithm::Sha512, b"three").to_string();
    let wrong = complete(&harness, Scope::Private, &id, &[&sha256(b"x"), &sha512]);
    assert_eq!(wrong.unwrap_err().name, "InvalidLayerException");
}

#[test]
fn uploads_have_limits() {
    let mut limits = Limits::ecr_private();
    (limits.upload_parts, limits.blob_bytes, limits.part_bytes) = (2, 10, 8);
    let harness = Harness::with_limits(limits);
    harness.create("app");
    for scope in BOTH {
        let id = harness.initiate(scope, "app");
        let message = |what: &str| {
            format!(
                "Adding a part to the upload with id '{id}' in the repository with name 'app' in registry with id '{ACCOUNT}' \
                 exceeds the maximum allowed {what}"
            )
        };
        harness.upload_part(scope, "app", &id, 0, b"1234567").unwrap();
        let answer = harness.upload_part(scope, "app", &id, 7, b"8901");
        refused(answer, "LimitExceededException", &message("layer size which is '10' bytes"));
        harness.upload_part(scope, "app", &id, 7, b"89").unwrap();
        let answer = harness.upload_part(scope, "app", &id, 9, b"0");
        refused(answer, "LimitExceededException", &message("number of layer parts which is '2'"));
        // The place is judged before the limits.
        let answer = harness.upload_part(scope, "app", &id, 0, b"0");
        assert_eq!(answer.unwrap_err().name, "InvalidLayerPartException");
    }
}

#[test]
fn download_urls_are_for_layers_that_an_image_references() {
    let harness = Harness::with_repository("app");
    harness.create("other");
    let url = |repository: &str, digest: &str| {
        harness.private("GetDownloadUrlForLayer", json!({ "repositoryName": repository, "layerDigest": digest }))
    };
    let place = "within the repository with name 'app' in the registry with id '012345678901'";
    for absent in [sha256(b"absent").as_str(), "md5:00ff", "sha256:00"] {
        let message = format!("The layer with digest {absent} does not exist {place}");
        refused(url("app", absent), "LayersNotFoundException", &message);
    }
    let digest = harness.push_layer(Scope::Private, "app", b"layer");
    let message = format!("The layer with digest {digest} {place} is not referenced by any image");
    refused(url("app", &digest), "LayerInaccessibleException", &message);
    let image = harness.push(Scope::Private, "app", "layer", &["v1"]);
    let answer = url("app", &digest).unwrap();
    assert_eq!(answer["layerDigest"], json!(digest));
    let token =
        answer["downloadUrl"].as_str().unwrap().strip_prefix("http://127.0.0.1:5000/download/").unwrap().to_owned();
    assert_eq!(url("other", &digest).unwrap_err().name, "LayersNotFoundException");

    let read = || {
        let reader = harness.ecr.registry(Scope::Private).engine().open_download(&token).unwrap();
        let mut bytes = vec![0; usize::try_from(reader.size()).unwrap()];
        let mut at = 0;
        while at < bytes.len() {
            at += reader.read_at(at as u64, &mut bytes[at..]).unwrap();
        }
        bytes
    };
    assert_eq!(read(), b"layer");
    // It outlives the image.
    let members = json!({ "repositoryName": "app", "imageIds": [{ "imageDigest": image }] });
    harness.private("BatchDeleteImage", members).unwrap();
    assert_eq!(read(), b"layer");
}
