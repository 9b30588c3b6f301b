//! What each fuzz target does with its input. A panic is a finding.
//!
//! The bodies are here and not in `fuzz_targets/`, so that an ordinary test can run every saved input through them
//! (`crates/layerhold-testkit/tests/fuzz_inputs.rs`).

use std::sync::Arc;

use arbitrary::{Arbitrary as _, Unstructured};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use layerhold::Call;
use layerhold::descriptor::MediaType;
use layerhold::digest::Digest;
use layerhold::manifest::document::{DocumentLimits, ManifestDocument, REFERENCES_MAX};
use layerhold::name::{Reference, RepositoryName, Tag};
use layerhold::upload::UploadId;
use layerhold_ecr::Ecr;
use layerhold_ecr::registry::{ExternalUrl, RegistryConfig};
use layerhold_ecr::token::TokenKey;
use layerhold_oci::{Adapter, Body, OciError, RequestBody, Response, Route};
use layerhold_testkit::crash::{Budget, cut_at};
use layerhold_testkit::engine::{ManualClock, memory};
use layerhold_testkit::operation::{Operation, Script};
use layerhold_testkit::runner::Runner;

/// Digests, names, tags, references, media types and upload ids: what is taken comes back as it was written and is legal
/// by a slow reading of the grammar.
pub fn grammar(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.to_string(), text);
        let (algorithm, hex) = text.split_once(':').expect("a digest has a colon");
        let len = if algorithm == "sha256" { 64 } else { 128 };
        assert!(hex.len() == len && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert_eq!(Digest::from_bytes(digest.algorithm(), digest.as_bytes()), Some(digest));
    }
    if let Ok(name) = RepositoryName::parse(text) {
        assert_eq!(name.as_str(), text);
        assert!(text.len() <= 256 && text.split('/').all(is_name_component), "{text:?}");
    }
    if let Ok(tag) = Tag::parse(text) {
        assert_eq!(tag.as_str(), text);
        assert!(
            (1..=300).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        );
    }
    if let Ok(reference) = Reference::parse(text) {
        assert_eq!(reference.to_string(), text);
        assert_eq!(matches!(reference, Reference::Digest(_)), text.contains(':'));
    }
    if let Ok(media_type) = MediaType::parse(text) {
        assert_eq!(media_type.as_str(), text);
        assert!(!text.contains(';') && text.contains('/') && text.is_ascii());
    }
    if let Ok(id) = UploadId::parse(text) {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, read from left to right.
fn is_name_component(component: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators: Vec<&str> = component.split(plain).filter(|separator| !separator.is_empty()).collect();
    component.starts_with(plain)
        && component.ends_with(plain)
        && separators
            .iter()
            .all(|&separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

/// The manifest parser: the first byte says what is declared and whether schema 1 is taken, the rest is the document.
pub fn manifest(data: &[u8]) {
    let Some((&choice, document)) = data.split_first() else { return };
    let declared = [
        None,
        Some(MediaType::OCI_MANIFEST),
        Some(MediaType::OCI_INDEX),
        Some(MediaType::DOCKER_MANIFEST),
        Some(MediaType::DOCKER_MANIFEST_LIST),
        Some(MediaType::DOCKER_MANIFEST_V1),
        Some(MediaType::DOCKER_MANIFEST_V1_SIGNED),
        Some(MediaType::OCTET_STREAM),
    ];
    let declared = declared[usize::from(choice & 7)].as_ref();
    let limits = DocumentLimits { schema1: choice & 8 != 0, ..DocumentLimits::default() };
    let Ok(parsed) = ManifestDocument::parse(document, declared, &limits) else { return };
    let value: serde_json::Value =
        serde_json::from_slice(document).expect("what the engine reads, others read as JSON");
    // Whoever reads it by its shape alone must come to the same kind (CVE-2021-41190).
    let has = |key| value.get(key).is_some();
    assert!(!(has("manifests") && (has("layers") || has("config"))), "two shapes in one document");
    assert!(parsed.references.len() <= REFERENCES_MAX + 1);
    if let Some(inside) = value.get("mediaType").and_then(serde_json::Value::as_str) {
        assert_eq!(parsed.media_type.as_str(), inside);
    }
    let again = ManifestDocument::parse(document, Some(&parsed.media_type), &limits).expect("its own type fits it");
    assert_eq!(again, parsed);
}

/// ECR requests, one after another: a line with the operation, then the body, then a line `--`. The first operation is sent
/// with the prefix of its service where it has none; `$UPLOAD` stands for the latest upload id.
pub fn ecr(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let store = memory();
    let url = ExternalUrl::parse("http://127.0.0.1:5000").expect("a url");
    let config = RegistryConfig::new("000000000000", "us-east-1", "local", url.clone(), url).expect("a configuration");
    let ecr =
        Ecr::new(store.engine(), config, TokenKey::new([7; 32]), Arc::new(ManualClock::default())).expect("an adapter");
    ecr.create_registries(&Call::anonymous()).expect("registries");
    let mut upload = String::from("00000000-0000-0000-0000-000000000000");
    for request in text.split("\n--\n").take(16) {
        let (target, body) = request.split_once('\n').unwrap_or((request, ""));
        let target = match target.contains('.') {
            true => target.to_owned(),
            false => format!("AmazonEC2ContainerRegistry_V20150921.{target}"),
        };
        let request = layerhold_ecr::wire::Request {
            target: Some(&target),
            content_type: Some("application/x-amz-json-1.1"),
            body: body.replace("$UPLOAD", &upload).into_bytes(),
            request_id: "fuzz",
        };
        let response = ecr.respond(request, &Call::anonymous());
        let body: serde_json::Value = serde_json::from_slice(&response.body).expect("an answer is JSON");
        assert!(
            matches!(response.status, 200 | 400 | 404 | 501),
            "{} {target} {body} {:?}",
            response.status,
            response.cause
        );
        assert_eq!(response.status == 200, body.get("__type").is_none());
        if let Some(id) = body.get("uploadId").and_then(serde_json::Value::as_str) {
            upload = id.to_owned();
        }
    }
}

/// OCI requests, one after another: a line with method and path, header lines, an empty line, the body, then a line `--`.
/// `$LOCATION` stands for the latest `Location`. A header line `X-Piece: 7` streams the body in pieces of 7 bytes where the
/// route takes a stream; `X-Public: 1` asks the same registry where its names begin with `public/`.
pub fn oci(data: &[u8]) {
    let store = memory();
    let private = Adapter::new(store.registry());
    let public = Adapter::new(store.registry()).with_name_prefix("public");
    let mut location = String::from("/v2/app/blobs/uploads/");
    for request in split(data, b"\n--\n").take(16) {
        let (head, body) = split_once(request, b"\n\n").unwrap_or((request, &[]));
        let Ok(head) = std::str::from_utf8(head) else { continue };
        let mut lines = head.lines();
        let Some((method, target)) = lines.next().and_then(|line| line.split_once(' ')) else { continue };
        let Ok(method) = Method::from_bytes(method.as_bytes()) else { continue };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        }
        let target = target.replace("$LOCATION", &location);
        let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
        let adapter = if headers.contains_key("x-public") { &public } else { &private };
        let piece = headers.get("x-piece").and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
        let response = match adapter.route(&method, path, query) {
            Ok(route) if piece > 0 && route.body() == RequestBody::Stream => {
                stream(adapter, &route, &headers, body, piece).unwrap_or_else(OciError::into_response)
            }
            Ok(route) => adapter.respond(&route, &headers, bytes::Bytes::copy_from_slice(body), &Call::anonymous()),
            Err(error) => error.into_response(),
        };
        assert!(response.status.as_u16() < 500, "{} {method} {target} {:?}", response.status, response.cause);
        if let Some(value) = response.headers.get("location").and_then(|value| value.to_str().ok()) {
            location = value.to_owned();
        }
        match response.body {
            Body::Blob { reader, first_byte, len } => {
                let mut bytes = vec![0; usize::try_from(len).expect("a small blob")];
                assert!(first_byte + len <= reader.size() && len > 0);
                let mut at = 0;
                while at < bytes.len() {
                    at += reader.read_at(first_byte + at as u64, &mut bytes[at..]).expect("a verified read");
                }
                if first_byte == 0 && len == reader.size() {
                    assert_eq!(Digest::of(reader.digest().algorithm(), &bytes), reader.digest());
                }
            }
            Body::Bytes(bytes) if response.status.is_client_error() => {
                let errors: serde_json::Value = serde_json::from_slice(&bytes).expect("an error is JSON");
                assert!(errors["errors"][0]["code"].is_string(), "{errors}");
            }
            _ => {}
        }
    }
}

fn stream(
    adapter: &Adapter,
    route: &Route,
    headers: &HeaderMap,
    body: &[u8],
    piece: usize,
) -> Result<Response, OciError> {
    let mut sink = adapter.begin_body(route, headers, &Call::anonymous())?;
    for bytes in body.chunks(piece) {
        sink.write(bytes::Bytes::copy_from_slice(bytes))?;
    }
    Ok(sink.finish())
}

/// Upload sessions against the reference model.
pub fn uploads(data: &[u8]) {
    let mut unstructured = Unstructured::new(data);
    let mut operations = vec![Operation::CreateRepository { repository: 0, mutability: 0, sparse: false }];
    let small_limits = unstructured.arbitrary().unwrap_or(false);
    while !unstructured.is_empty() && operations.len() < 100 {
        let Ok(operation) = Operation::arbitrary_upload(&mut unstructured) else { return };
        operations.push(operation);
    }
    agrees(&Script { small_limits, operations });
}

/// Whole sequences of operations against the reference model.
pub fn operations(data: &[u8]) {
    if let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(data)) {
        agrees(&script);
    }
}

/// A short sequence, a power cut somewhere in it, and the reference model. The first two bytes say where.
pub fn crash(data: &[u8]) {
    let Some((cut, script)) = data.split_first_chunk::<2>() else { return };
    let Ok(mut script) = Script::arbitrary_take_rest(Unstructured::new(script)) else { return };
    script.operations.truncate(24);
    let budget = Budget { states: 4, recovery_cuts: 2 };
    let cut = 1 + u64::from(u16::from_le_bytes(*cut)) % 200;
    if let Err(disagreement) = cut_at(&script, cut, budget) {
        panic!("{disagreement}");
    }
}

fn agrees(script: &Script) {
    if let Err(disagreement) = Runner::new(memory(), script.small_limits).run(script) {
        panic!("{disagreement}");
    }
}

fn split<'a>(data: &'a [u8], separator: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let data = rest?;
        let (first, after) = split_once(data, separator).map_or((data, None), |(first, after)| (first, Some(after)));
        rest = after;
        Some(first)
    })
}

fn split_once<'a>(data: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = data.windows(separator.len()).position(|window| window == separator)?;
    Some((&data[..at], &data[at + separator.len()..]))
}
