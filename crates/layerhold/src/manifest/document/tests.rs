use serde_json::{Value, json};

use super::*;
use crate::digest::Digest;

const OCI: MediaType = MediaType::OCI_MANIFEST;
const INDEX: MediaType = MediaType::OCI_INDEX;

fn digest(of: &str) -> String {
    Digest::sha256(of.as_bytes()).to_string()
}

fn pointer(media_type: &MediaType, of: &str, size: u64) -> Value {
    json!({"mediaType": media_type.as_str(), "digest": digest(of), "size": size})
}

/// An OCI image with one layer.
fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI.as_str(),
        "config": pointer(&MediaType::OCI_CONFIG, "config", 2_777),
        "layers": [pointer(&MediaType::OCI_LAYER_GZIP, "layer", 48_315_478)],
    })
}

fn index() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": INDEX.as_str(),
        "manifests": [pointer(&OCI, "a", 10), pointer(&OCI, "b", 20), pointer(&INDEX, "c", 30)],
    })
}

fn schema1() -> Value {
    json!({
        "schemaVersion": 1,
        "name": "library/hello",
        "tag": "latest",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": digest("top")}, {"blobSum": digest("base")}, {"blobSum": digest("base")}],
        "history": [{"v1Compatibility": "{}"}, {"v1Compatibility": "{}"}, {"v1Compatibility": "{}"}],
    })
}

/// `document` with the member at `pointer` set to `value`.
fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
    document
}

/// `document` without the member at `pointer`.
fn without(mut document: Value, pointer: &str) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    document
}

fn parse_as(document: &Value, declared: Option<&MediaType>) -> Result<ManifestDocument, ManifestError> {
    ManifestDocument::parse(document.to_string().as_bytes(), declared, &DocumentLimits::default())
}

fn parse(document: &Value) -> Result<ManifestDocument, ManifestError> {
    parse_as(document, None)
}

fn parse_schema1(document: &Value, declared: &MediaType) -> Result<ManifestDocument, ManifestError> {
    let limits = DocumentLimits { schema1: true, ..DocumentLimits::default() };
    ManifestDocument::parse(document.to_string().as_bytes(), Some(declared), &limits)
}

fn missing(member: &str) -> Result<ManifestDocument, ManifestError> {
    Err(ManifestError::MissingMember { member: member.to_owned() })
}

/// Asserts that `document` is refused for the content of `member`.
#[track_caller]
fn assert_invalid(document: &Value, member: &str) {
    match parse(document) {
        Err(ManifestError::InvalidMember { member: found, .. }) if found == member => {}
        other => panic!("expected an invalid {member}, got {other:?}"),
    }
}

#[test]
fn an_image_lists_its_config_then_its_layers() {
    let document = parse(&image()).unwrap();
    assert_eq!(document.media_type, OCI);
    assert_eq!(document.kind, ManifestKind::ImageManifest);
    let [config, layer] = &document.references[..] else { panic!() };
    assert_eq!((config.role, config.required), (Role::Config, true));
    assert_eq!(config.descriptor, Descriptor::new(MediaType::OCI_CONFIG, Digest::sha256(b"config"), 2_777));
    assert_eq!((layer.role, layer.required), (Role::Layer, true));
    assert_eq!(layer.descriptor.digest, Digest::sha256(b"layer"));
    assert_eq!(document.config_media_type, Some(MediaType::OCI_CONFIG));
    assert_eq!(document.artifact_type.as_deref(), Some(MediaType::OCI_CONFIG.as_str()));
    assert_eq!(document.subject, None);
    assert!(document.annotations.is_empty());
}

#[test]
fn an_index_lists_its_manifests() {
    for (media_type, artifact_type) in [(INDEX, Some("application/vnd.x")), (MediaType::DOCKER_MANIFEST_LIST, None)] {
        let document = with(index(), "/mediaType", json!(media_type.as_str()));
        let document = with(document, "/artifactType", json!("application/vnd.x"));
        let document = parse(&document).unwrap();
        assert_eq!((document.kind, &document.media_type), (ManifestKind::ImageIndex, &media_type));
        let sizes: Vec<u64> = document.references.iter().map(|reference| reference.descriptor.size).collect();
        assert_eq!(sizes, [10, 20, 30]);
        assert!(document.references.iter().all(|r| r.role == Role::Manifest && r.required));
        assert_eq!(document.declared_size(), None);
        assert_eq!(document.artifact_type.as_deref(), artifact_type);
        assert_eq!(document.config_media_type, None);
    }
    assert_eq!(parse(&with(index(), "/manifests", json!([]))).unwrap().references, []);
}

#[test]
fn declared_size_counts_config_and_every_own_layer() {
    assert_eq!(parse(&image()).unwrap().declared_size(), Some(48_318_255));
    let layer = |media_type: &MediaType| pointer(media_type, "layer", 1_000);
    let layers = json!([
        layer(&MediaType::OCI_LAYER),
        layer(&MediaType::OCI_LAYER),
        layer(&MediaType::OCI_NONDISTRIBUTABLE_LAYER_GZIP),
        layer(&MediaType::DOCKER_FOREIGN_LAYER),
    ]);
    let document = parse(&with(image(), "/layers", layers)).unwrap();
    assert_eq!(document.declared_size(), Some(2_777 + 2_000));
    let required: Vec<bool> = document.references.iter().map(|reference| reference.required).collect();
    assert_eq!(required, [true, true, true, false, false]);
    assert_eq!(parse(&with(image(), "/layers", json!([]))).unwrap().declared_size(), Some(2_777));
    let huge = pointer(&MediaType::OCI_LAYER, "layer", i64::MAX as u64);
    let document = parse(&with(image(), "/layers", json!([huge, huge, huge]))).unwrap();
    assert_eq!(document.declared_size(), Some(u64::MAX));
}

#[test]
fn urls_do_not_make_an_ordinary_layer_foreign() {
    let layer = with(pointer(&MediaType::DOCKER_LAYER, "layer", 5), "/urls", json!(["https://example.org/layer"]));
    let document = parse(&with(image(), "/layers", json!([layer]))).unwrap();
    assert!(document.references[1].descriptor.urls_present);
    assert!(document.references[1].required);
    // A foreign type in another role than a layer is no excuse either.
    let config = pointer(&MediaType::DOCKER_FOREIGN_LAYER, "config", 5);
    assert!(parse(&with(image(), "/config", config)).unwrap().references[0].required);
    for (urls, present) in [(json!([]), false), (json!(null), false)] {
        let document = parse(&with(image(), "/config/urls", urls)).unwrap();
        assert_eq!(document.references[0].descriptor.urls_present, present);
    }
    assert_invalid(&with(image(), "/config/urls", json!("https://example.org")), "config.urls");
    assert_invalid(&with(image(), "/config/urls", json!([1])), "config.urls");
}

#[test]
fn an_artifact_names_its_type_and_subject() {
    let document = with(image(), "/artifactType", json!("application/vnd.example.sbom.v1"));
    let document = with(document, "/subject", pointer(&OCI, "subject", 7));
    let document = with(document, "/annotations", json!({"org.example.key": "value", "empty": ""}));
    let document = with(document, "/layers", json!([]));
    let parsed = parse(&document).unwrap();
    assert_eq!(parsed.artifact_type.as_deref(), Some("application/vnd.example.sbom.v1"));
    assert_eq!(parsed.config_media_type, Some(MediaType::OCI_CONFIG));
    assert_eq!(parsed.subject, Some(Descriptor::new(OCI, Digest::sha256(b"subject"), 7)));
    assert_eq!(parsed.annotations.len(), 2);
    assert_eq!(parsed.references.len(), 1, "the subject is not a reference");

    // Docker's types define none of these, so whatever stands there means nothing.
    let docker = with(document, "/mediaType", json!(MediaType::DOCKER_MANIFEST.as_str()));
    let docker = with(docker, "/annotations", json!(17));
    let docker = with(docker, "/artifactType", json!("not a type"));
    let parsed = parse(&docker).unwrap();
    assert_eq!((parsed.subject, parsed.annotations.len()), (None, 0));
    assert_eq!(parsed.artifact_type.as_deref(), Some(MediaType::OCI_CONFIG.as_str()));
}

#[test]
fn an_index_may_have_a_subject() {
    let document = parse(&with(index(), "/subject", pointer(&OCI, "subject", 7))).unwrap();
    assert_eq!(document.subject.unwrap().digest, Digest::sha256(b"subject"));
    assert_eq!(document.artifact_type, None);
}

#[test]
fn descriptors_keep_what_referrers_need() {
    let layer = json!({
        "mediaType": "application/vnd.example",
        "digest": Digest::of(crate::digest::Algorithm::Sha512, b"layer").to_string(),
        "size": 0,
        "artifactType": "application/vnd.example.kind",
        "annotations": {"a": "b"},
        "data": 5,
        "platform": "ignored",
        "x-new": [1.5],
    });
    let document = parse(&with(image(), "/layers", json!([layer]))).unwrap();
    let descriptor = &document.references[1].descriptor;
    assert_eq!(descriptor.artifact_type.as_ref().unwrap().as_str(), "application/vnd.example.kind");
    assert_eq!(descriptor.annotations["a"], "b");
    assert_eq!(descriptor.digest.algorithm(), crate::digest::Algorithm::Sha512);
}

#[test]
fn the_type_is_the_documents_then_the_clients_and_both_agree() {
    let untyped = without(image(), "/mediaType");
    for (document, declared, expected) in [
        (image(), None, Ok(OCI)),
        (image(), Some(OCI), Ok(OCI)),
        (untyped.clone(), Some(OCI), Ok(OCI)),
        (untyped.clone(), Some(MediaType::DOCKER_MANIFEST), Ok(MediaType::DOCKER_MANIFEST)),
        (with(image(), "/mediaType", Value::Null), Some(OCI), Ok(OCI)),
        (untyped.clone(), None, Err(ManifestError::MediaTypeMissing)),
        (
            image(),
            Some(MediaType::DOCKER_MANIFEST),
            Err(ManifestError::MediaTypeMismatch { declared: MediaType::DOCKER_MANIFEST, document: OCI }),
        ),
        (
            untyped.clone(),
            Some(MediaType::OCTET_STREAM),
            Err(ManifestError::MediaTypeUnknown { media_type: MediaType::OCTET_STREAM }),
        ),
        (
            with(image(), "/mediaType", json!("application/json")),
            None,
            Err(ManifestError::MediaTypeUnknown { media_type: "application/json".parse().unwrap() }),
        ),
    ] {
        let found = parse_as(&document, declared.as_ref()).map(|document| document.media_type);
        assert_eq!(found, expected, "{document} {declared:?}");
    }
    assert_invalid(&with(image(), "/mediaType", json!(format!("{OCI};charset=utf-8"))), "mediaType");
    assert_invalid(&with(image(), "/mediaType", json!("")), "mediaType");
    assert_invalid(&with(image(), "/mediaType", json!(["a/b"])), "mediaType");
}

#[test]
fn a_document_of_two_kinds_is_refused_whatever_it_is_called() {
    for empty in [json!([]), json!({}), json!(null), json!(0)] {
        for (document, second) in [(image(), "manifests"), (index(), "layers"), (index(), "config")] {
            let both = with(document, &format!("/{second}"), empty.clone());
            for declared in [OCI, INDEX, MediaType::DOCKER_MANIFEST, MediaType::DOCKER_MANIFEST_LIST] {
                for document in
                    [with(both.clone(), "/mediaType", json!(declared.as_str())), without(both.clone(), "/mediaType")]
                {
                    let found = parse_as(&document, Some(&declared));
                    assert!(matches!(found, Err(ManifestError::Ambiguous { .. })), "{document} {found:?}");
                }
            }
        }
    }
    let old = with(image(), "/fsLayers", json!([]));
    assert_eq!(parse(&old), Err(ManifestError::Ambiguous { first: "fsLayers", second: "layers" }));
    let both = with(schema1(), "/manifests", json!([]));
    let found = parse_schema1(&both, &MediaType::DOCKER_MANIFEST_V1);
    assert_eq!(found, Err(ManifestError::Ambiguous { first: "manifests", second: "fsLayers" }));
}

#[test]
fn keys_that_differ_in_case_alone_are_refused() {
    for (document, member) in [
        (with(image(), "/Layers", json!([])), "layers"),
        (with(image(), "/MEDIATYPE", json!("a/b")), "mediaType"),
        (with(image(), "/manife\u{17f}ts", json!([])), "manifests"),
        (with(image(), "/config/Digest", json!("x")), "config.digest"),
        (with(image(), "/layers/0/\u{17f}ize", json!(1)), "layers[0].size"),
        (with(index(), "/manifests/2/mediatype", json!("a/b")), "manifests[2].mediaType"),
    ] {
        match parse(&document) {
            Err(ManifestError::CaseVariant { member: found, .. }) => assert_eq!(found, member),
            other => panic!("{document}: {other:?}"),
        }
    }
}

#[test]
fn required_members() {
    for pointer in ["/schemaVersion", "/config", "/layers"] {
        assert_eq!(parse(&without(image(), pointer)), missing(&pointer[1..]));
    }
    for pointer in ["/schemaVersion", "/manifests"] {
        assert_eq!(parse(&without(index(), pointer)), missing(&pointer[1..]));
    }
    for member in ["mediaType", "digest", "size"] {
        assert_eq!(parse(&without(image(), &format!("/config/{member}"))), missing(&format!("config.{member}")));
        let found = parse(&without(image(), &format!("/layers/0/{member}")));
        assert_eq!(found, missing(&format!("layers[0].{member}")));
        let subject = without(with(image(), "/subject", pointer(&OCI, "s", 1)), &format!("/subject/{member}"));
        assert_eq!(parse(&subject), missing(&format!("subject.{member}")));
    }
    assert_eq!(parse(&without(index(), "/manifests/1/digest")), missing("manifests[1].digest"));
}

#[test]
fn members_of_the_wrong_form() {
    for version in [json!(1), json!(3), json!("2"), json!(2.0), json!(-2), json!(null)] {
        assert_invalid(&with(image(), "/schemaVersion", version), "schemaVersion");
    }
    for (pointer, member, values) in [
        ("/config", "config", [json!([]), json!("x"), json!(null)]),
        ("/layers", "layers", [json!({}), json!("x"), json!(null)]),
        ("/layers/0", "layers[0]", [json!([]), json!("x"), json!(null)]),
        ("/config/mediaType", "config.mediaType", [json!("a/b;c=d"), json!("ab"), json!(null)]),
        ("/config/digest", "config.digest", [json!("sha256:ab"), json!(7), json!(null)]),
        ("/config/size", "config.size", [json!(-1), json!("5"), json!(1.5)]),
        ("/layers/0/size", "layers[0].size", [json!(1_u64 << 63), json!(1e3), json!(null)]),
        ("/artifactType", "artifactType", [json!("a/b;c=d"), json!(""), json!(5)]),
        ("/subject", "subject", [json!("x"), json!([]), json!(false)]),
        ("/annotations", "annotations", [json!([]), json!({"a": 1}), json!({"a": null})]),
        ("/config/annotations", "config.annotations", [json!("x"), json!({"a": {}}), json!(1)]),
    ] {
        for value in values {
            let document = match pointer.strip_suffix("/0") {
                Some(list) => with(image(), list, json!([value])),
                None => with(image(), pointer, value),
            };
            assert_invalid(&document, member);
        }
    }
    let upper = Digest::sha256(b"a").to_string().to_uppercase();
    assert_invalid(&with(image(), "/config/digest", json!(upper)), "config.digest");
    let max = with(image(), "/config/size", json!(i64::MAX));
    assert_eq!(parse(&max).unwrap().references[0].descriptor.size, i64::MAX as u64);
}

#[test]
fn optional_members_may_be_null_and_unknown_ones_anything() {
    let mut document = image();
    for pointer in ["/artifactType", "/subject", "/annotations", "/config/urls", "/config/annotations"] {
        document = with(document, pointer, Value::Null);
    }
    document = with(document, "/x-unknown", json!({"deep": [1.5, -7, {"manifests": []}]}));
    assert_eq!(parse(&document), parse(&image()));
}

#[test]
fn the_number_of_references_is_bounded() {
    let layers = |count: usize| vec![pointer(&MediaType::OCI_LAYER, "layer", 1); count];
    assert_eq!(parse(&with(image(), "/layers", json!(layers(1_000)))).unwrap().references.len(), 1_001);
    assert_eq!(
        parse(&with(image(), "/layers", json!(layers(1_001)))),
        Err(ManifestError::TooManyReferences { member: "layers", count: 1_001, limit: 1_000 })
    );
    assert_eq!(
        parse(&with(index(), "/manifests", json!(vec![0; 1_001]))),
        Err(ManifestError::TooManyReferences { member: "manifests", count: 1_001, limit: 1_000 })
    );
}

#[test]
fn the_size_is_bounded_before_anything_is_read() {
    let limit = usize::try_from(MANIFEST_BYTES_MAX).unwrap();
    let mut bytes = image().to_string().into_bytes();
    bytes.resize(limit, b'\n');
    assert!(ManifestDocument::parse(&bytes, None, &DocumentLimits::default()).is_ok());
    bytes.push(b'\n');
    assert_eq!(
        ManifestDocument::parse(&bytes, None, &DocumentLimits::default()),
        Err(ManifestError::TooLarge { size: MANIFEST_BYTES_MAX + 1, limit: MANIFEST_BYTES_MAX })
    );
    let garbage = vec![0xff; limit + 1];
    let found = ManifestDocument::parse(&garbage, None, &DocumentLimits::default());
    assert!(matches!(found, Err(ManifestError::TooLarge { .. })));
}

#[test]
fn faults_of_the_form_come_through() {
    let parse = |text: &str| ManifestDocument::parse(text.as_bytes(), None, &DocumentLimits::default());
    assert!(matches!(parse(""), Err(ManifestError::NotJson { .. })));
    assert!(matches!(parse("{} {}"), Err(ManifestError::NotJson { .. })));
    assert!(matches!(parse("\u{feff}{}"), Err(ManifestError::NotJson { .. })));
    assert_eq!(parse("[]"), Err(ManifestError::NotAnObject { found: "an array" }));
    assert_eq!(parse("null"), Err(ManifestError::NotAnObject { found: "null" }));
    assert_eq!(parse(r#"{"layers":[],"layers":[]}"#), Err(ManifestError::DuplicateKey { key: "layers".into() }));
    assert_eq!(parse(&"[".repeat(100)), Err(ManifestError::TooDeep { limit: 64 }));
    let few = DocumentLimits { values_max: 3, ..DocumentLimits::default() };
    let found = ManifestDocument::parse(b"[1,2,3]", None, &few);
    assert_eq!(found, Err(ManifestError::TooManyValues { limit: 3 }));
    let error = parse("{").unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert!(!error.to_string().contains(&source.to_string()), "the cause is not said twice");
}

#[test]
fn schema_1_is_taken_on_request_only() {
    let (unsigned, signed) = (MediaType::DOCKER_MANIFEST_V1, MediaType::DOCKER_MANIFEST_V1_SIGNED);
    let refused = Err(ManifestError::MediaTypeUnknown { media_type: unsigned.clone() });
    assert_eq!(parse_as(&schema1(), Some(&unsigned)), refused);
    assert_eq!(parse(&schema1()), Err(ManifestError::MediaTypeMissing));

    let document = parse_schema1(&schema1(), &unsigned).unwrap();
    assert_eq!((document.kind, &document.media_type), (ManifestKind::Schema1, &unsigned));
    let layers: Vec<Digest> = document.references.iter().map(|reference| reference.descriptor.digest).collect();
    assert_eq!(layers, [b"top".as_slice(), b"base", b"base"].map(Digest::sha256));
    assert!(document.references.iter().all(|r| r.role == Role::Layer && r.required));
    assert_eq!((document.declared_size(), document.artifact_type), (None, None));

    assert_eq!(parse_schema1(&schema1(), &signed), missing("signatures"));
    let empty = with(schema1(), "/signatures", json!([]));
    assert!(matches!(parse_schema1(&empty, &signed), Err(ManifestError::InvalidMember { .. })));
    let jws = with(schema1(), "/signatures", json!([{"protected": "x"}]));
    assert_eq!(parse_schema1(&jws, &signed).unwrap().media_type, signed);

    assert_eq!(parse_schema1(&without(schema1(), "/fsLayers"), &unsigned), missing("fsLayers"));
    let found = parse_schema1(&with(schema1(), "/fsLayers", json!([{}])), &unsigned);
    assert_eq!(found, missing("fsLayers[0].blobSum"));
    for (pointer, value) in [("/schemaVersion", json!(2)), ("/fsLayers", json!(["x"]))] {
        let found = parse_schema1(&with(schema1(), pointer, value), &unsigned);
        assert!(matches!(found, Err(ManifestError::InvalidMember { .. })), "{found:?}");
    }
}

#[test]
fn role_codes_are_fixed() {
    for (role, code) in [(Role::Config, 1), (Role::Layer, 2), (Role::Manifest, 3)] {
        assert_eq!(role.code(), code);
        assert_eq!(Role::from_code(code), Some(role));
    }
    assert_eq!(Role::from_code(0), None);
    assert_eq!(Role::from_code(4), None);
}
