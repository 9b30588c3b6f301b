//! One registry over an engine in memory, and requests to it as a client would make them.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use layerhold::{Call, Digest, Engine, Principal, Registry, RepositoryName, RepositorySettings};
use layerhold_oci::{Adapter, Body, RequestBody, Response, Route};
use layerhold_testkit::engine::TestEngine;
use serde_json::{Value, json};

/// Media types that tests push.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A registry and its adapter.
pub(crate) struct Oci {
    /// What the engine stands on lives as long as anybody asks it.
    pub(crate) medium: Arc<TestEngine>,
    pub(crate) engine: Engine,
    pub(crate) registry: Registry,
    pub(crate) adapter: Adapter,
    pub(crate) call: Call,
}

/// A response whose body has been read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Oci {
    pub(crate) fn new() -> Oci {
        let medium = Arc::new(layerhold_testkit::engine::memory());
        let engine = medium.engine().clone();
        let registry = medium.registry();
        engine.create_registry(registry.name(), &Call::anonymous()).unwrap();
        let adapter = Adapter::new(registry.clone());
        Oci { medium, engine, registry, adapter, call: Call::anonymous() }
    }

    /// The same with a repository in it.
    pub(crate) fn with(repository: &str) -> Oci {
        let oci = Oci::new();
        oci.create(repository, &RepositorySettings::default());
        oci
    }

    pub(crate) fn create(&self, repository: &str, settings: &RepositorySettings) {
        self.registry.create_repository(&name(repository), settings, &self.call).unwrap();
    }

    pub(crate) fn exists(&self, repository: &str) -> bool {
        self.registry.describe_repository(&name(repository)).is_ok()
    }

    /// The same registry, asked by someone else.
    pub(crate) fn by(&self, principal: &str) -> Oci {
        let call = Call::by(Principal::parse(principal).unwrap());
        Oci { call, ..self.with_adapter(self.adapter.clone()) }
    }

    /// The same registry, asked through another adapter.
    pub(crate) fn with_adapter(&self, adapter: Adapter) -> Oci {
        Oci {
            medium: Arc::clone(&self.medium),
            engine: self.engine.clone(),
            registry: self.registry.clone(),
            adapter,
            call: self.call.clone(),
        }
    }

    pub(crate) fn adapted(mut self, adapt: impl FnOnce(Adapter) -> Adapter) -> Oci {
        self.adapter = adapt(self.adapter);
        self
    }

    /// Makes a request such as `GET /v2/`, with the body whole, and checks what holds for every answer.
    #[track_caller]
    pub(crate) fn ask(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let (method, route) = match self.route(line) {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        let answer = self.adapter.respond(&route, &header_map(headers), Bytes::copy_from_slice(body), &self.call);
        read(&method, answer)
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Answer {
        self.ask(&format!("GET {target}"), &[], b"")
    }

    /// The status of a request without a body that is answered at once, if it is.
    #[track_caller]
    pub(crate) fn at_once(&self, line: &str) -> Option<StatusCode> {
        let (method, route) = self.route(line).unwrap();
        let answer = self.adapter.respond_at_once(&route, &HeaderMap::new(), &self.call)?;
        Some(read(&method, answer).status)
    }

    /// Makes the same request with the body streamed in pieces of `piece` bytes.
    #[track_caller]
    pub(crate) fn stream(&self, line: &str, headers: &[(&str, &str)], body: &[u8], piece: usize) -> Answer {
        let (method, route) = match self.route(line) {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        assert_eq!(route.body(), RequestBody::Stream, "line={line}");
        let mut sink = match self.adapter.begin_body(&route, &header_map(headers), &self.call) {
            Ok(sink) => sink,
            Err(error) => return read(&method, error.into_response()),
        };
        for bytes in body.chunks(piece) {
            if let Err(error) = sink.write(Bytes::copy_from_slice(bytes)) {
                return read(&method, error.into_response());
            }
        }
        read(&method, sink.finish())
    }

    /// Streams a body in pieces of `piece` bytes; gives how many were taken before one was refused.
    #[track_caller]
    pub(crate) fn pieces_taken(&self, line: &str, headers: &[(&str, &str)], body: &[u8], piece: usize) -> usize {
        let (_, route) = self.route(line).unwrap();
        let mut sink = self.adapter.begin_body(&route, &header_map(headers), &self.call).unwrap();
        let taken = body.chunks(piece).take_while(|bytes| sink.write(Bytes::copy_from_slice(bytes)).is_ok()).count();
        sink.finish();
        taken
    }

    /// Streams a body, then loses the client.
    #[track_caller]
    pub(crate) fn lose(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) {
        let (_, route) = self.route(line).unwrap();
        let mut sink = self.adapter.begin_body(&route, &header_map(headers), &self.call).unwrap();
        sink.write(Bytes::copy_from_slice(body)).unwrap();
        sink.disconnected();
    }

    fn route(&self, line: &str) -> Result<(Method, Route), Answer> {
        let (method, target) = line.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        match self.adapter.route(&method, path, query) {
            Ok(route) => Ok((method, route)),
            Err(error) => Err(read(&method, error.into_response())),
        }
    }

    /// Begins an upload; gives its location.
    #[track_caller]
    pub(crate) fn begin(&self, repository: &str) -> String {
        let answer = self.ask(&format!("POST /v2/{repository}/blobs/uploads/"), &[], b"");
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        answer.header("location").to_owned()
    }

    /// Pushes a blob in one request; gives its digest.
    #[track_caller]
    pub(crate) fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let answer = self.ask(&format!("POST /v2/{repository}/blobs/uploads/?digest={digest}"), &[], bytes);
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        digest
    }

    /// Pushes a small image with a layer of its own; gives its bytes and digest.
    #[track_caller]
    pub(crate) fn push_image(&self, repository: &str, reference: &str, layer: &[u8]) -> (Vec<u8>, Digest) {
        let bytes = self.image(repository, layer);
        self.put(repository, reference, OCI_MANIFEST, &bytes).expect(StatusCode::CREATED);
        let digest = Digest::sha256(&bytes);
        (bytes, digest)
    }

    /// Pushes what an image needs; gives its manifest.
    #[track_caller]
    pub(crate) fn image(&self, repository: &str, layer: &[u8]) -> Vec<u8> {
        self.push_blob(repository, b"{}");
        self.push_blob(repository, layer);
        image(layer, &json!({}))
    }

    #[track_caller]
    pub(crate) fn put(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) -> Answer {
        self.ask(&format!("PUT /v2/{repository}/manifests/{reference}"), &[("content-type", media_type)], bytes)
    }

    /// A number that grows with every committed change: equal means that nothing happened.
    pub(crate) fn sequence(&self) -> u64 {
        self.engine.sequence()
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        match self.headers.get(name) {
            Some(value) => value.to_str().unwrap(),
            None => panic!("no {name} in {self:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn expect(self, status: StatusCode) -> Answer {
        assert_eq!(self.status, status, "body={}", String::from_utf8_lossy(&self.body));
        self
    }

    /// Expects an error of this status and code; gives its message.
    #[track_caller]
    pub(crate) fn refuse(self, status: u16, code: &str) -> String {
        assert_eq!(self.status.as_u16(), status, "body={}", String::from_utf8_lossy(&self.body));
        let body = self.json();
        let error = &body["errors"][0];
        assert_eq!(error["code"], code, "body={body}");
        let message = error["message"].as_str().unwrap().to_owned();
        assert!(!message.is_empty());
        message
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The path and query of the next page, if there is one.
    pub(crate) fn next(&self) -> Option<String> {
        let link = self.headers.get("link")?.to_str().unwrap();
        let (target, relation) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
        assert_eq!(relation, "; rel=\"next\"");
        Some(target.to_owned())
    }
}

/// An image of the config `{}` and one layer, with more members.
pub(crate) fn image(layer: &[u8], more: &Value) -> Vec<u8> {
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", b"{}"),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    for (key, value) in more.as_object().unwrap() {
        document[key] = value.clone();
    }
    serde_json::to_vec_pretty(&document).unwrap()
}

/// An index of manifests.
pub(crate) fn index(manifests: &[&[u8]]) -> Vec<u8> {
    let manifests: Vec<Value> = manifests.iter().map(|bytes| descriptor(OCI_MANIFEST, bytes)).collect();
    serde_json::to_vec(&json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests })).unwrap()
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(bytes).to_string(), "size": bytes.len() })
}

pub(crate) fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

/// Bytes that do not repeat within a group.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

/// Reads a response as a server would, and holds it to what every response must be.
#[track_caller]
fn read(method: &Method, response: Response) -> Answer {
    let Response { status, headers, body, .. } = response;
    let length = headers.get("content-length").map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
    let body = match body {
        Body::Empty => Vec::new(),
        Body::Bytes(bytes) => bytes.to_vec(),
        Body::Blob { reader, first_byte, len } => {
            let mut bytes = Vec::new();
            let mut piece = vec![0_u8; 10_007];
            let mut at = first_byte;
            while at < first_byte + len {
                let wanted = piece.len().min(usize::try_from(first_byte + len - at).unwrap());
                let got = reader.read_at(at, &mut piece[..wanted]).unwrap();
                assert!(got > 0, "the blob ends early at={at}");
                bytes.extend_from_slice(&piece[..got]);
                at += got as u64;
            }
            bytes
        }
    };
    assert_eq!(headers["docker-distribution-api-version"], "registry/2.0");
    match (status.as_u16(), method.as_str()) {
        (204 | 304, _) => assert_eq!((length, body.len()), (None, 0)),
        (200, "HEAD") => assert!(length.is_some() && body.is_empty()),
        (_, "HEAD") => {}
        _ => assert_eq!(length, Some(body.len() as u64), "status={status}"),
    }
    if !status.is_success() && status != StatusCode::NOT_MODIFIED && method != Method::HEAD {
        assert_eq!(headers["content-type"], "application/json");
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert!(!value["errors"].as_array().unwrap().is_empty());
    }
    Answer { status, headers, body }
}
