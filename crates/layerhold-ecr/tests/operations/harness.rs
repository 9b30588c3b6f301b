//! An adapter over an engine in memory, and the few things that most tests begin with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layerhold::clock::Clock;
use layerhold::digest::Digest;
use layerhold::{Call, Limits};
use layerhold_ecr::Ecr;
use layerhold_ecr::registry::{ExternalUrl, RegistryConfig, Scope};
use layerhold_ecr::shape::{Service, Shape, services};
use layerhold_ecr::token::TokenKey;
use layerhold_ecr::wire::{CONTENT_TYPE, Request};
use layerhold_testkit::engine::TestEngine;
use serde_json::{Value, json};

pub(crate) const ACCOUNT: &str = "012345678901";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const PART_MIN: usize = 5 * 1024 * 1024;

/// A wall clock that a test sets.
#[derive(Debug, Default)]
pub(crate) struct WallClock(pub(crate) AtomicU64);

impl Clock for WallClock {
    fn monotonic_ms(&self) -> u64 {
        0
    }

    fn wall_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct Harness {
    pub(crate) ecr: Ecr,
    /// Keeps the store for as long as the adapter.
    _engine: TestEngine,
}

/// What an operation answered: its members, or the error's name, text and members.
pub(crate) type Answer = Result<Value, Refusal>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) name: String,
    pub(crate) message: String,
    pub(crate) body: Value,
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with_limits(Limits::ecr_private())
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        let engine = layerhold_testkit::engine::memory();
        let url = |text| ExternalUrl::parse(text).unwrap();
        let config = RegistryConfig::new(
            ACCOUNT,
            "eu-west-1",
            "local",
            url("http://127.0.0.1:5000"),
            url("https://public.example"),
        );
        let clock = Arc::new(WallClock(AtomicU64::new(1_700_000_000_250)));
        let ecr = Ecr::new(engine.engine(), config.unwrap(), TokenKey::new([7; 32]), clock).unwrap();
        let ecr = ecr.with_private_limits(limits.clone()).with_public_limits(limits);
        ecr.create_registries(&Call::anonymous()).unwrap();
        Self { ecr, _engine: engine }
    }

    /// Sends a request to one of the services and checks that the answer has the form that the service's model gives it.
    fn send(&self, service: &'static Service, operation: &str, members: &Value) -> Answer {
        let target = format!("{}.{operation}", service.target_prefix);
        let request = Request {
            target: Some(&target),
            content_type: Some(CONTENT_TYPE),
            body: members.to_string().into_bytes(),
            request_id: "request",
        };
        let response = self.ecr.respond(request, &Call::anonymous());
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        let model = service.operation(operation).unwrap();
        if response.status == 200 {
            conforms(model.output, &body, operation);
            return Ok(body);
        }
        let name = body["__type"].as_str().unwrap().to_owned();
        let modelled = model.errors.iter().any(|code| code.as_str() == name);
        assert!(modelled || name == "NotImplemented", "{operation} does not model {name}: {body}");
        let message = body["message"].as_str().unwrap().to_owned();
        Err(Refusal { status: response.status, name, message, body })
    }

    pub(crate) fn private(&self, operation: &str, members: Value) -> Answer {
        self.send(services()[0], operation, &members)
    }

    pub(crate) fn public(&self, operation: &str, members: Value) -> Answer {
        self.send(services()[1], operation, &members)
    }

    pub(crate) fn in_scope(&self, scope: Scope, operation: &str, members: Value) -> Answer {
        match scope {
            Scope::Private => self.private(operation, members),
            Scope::Public => self.public(operation, members),
        }
    }

    /// A harness with a private and a public repository of this name.
    pub(crate) fn with_repository(name: &str) -> Self {
        let harness = Self::new();
        harness.create(name);
        harness
    }

    pub(crate) fn create(&self, name: &str) {
        for scope in [Scope::Private, Scope::Public] {
            self.in_scope(scope, "CreateRepository", json!({ "repositoryName": name })).unwrap();
        }
    }

    pub(crate) fn initiate(&self, scope: Scope, repository: &str) -> String {
        let answer = self.in_scope(scope, "InitiateLayerUpload", json!({ "repositoryName": repository })).unwrap();
        answer["uploadId"].as_str().unwrap().to_owned()
    }

    pub(crate) fn upload_part(&self, scope: Scope, repository: &str, id: &str, first: u64, bytes: &[u8]) -> Answer {
        let last = first + bytes.len() as u64 - 1;
        self.in_scope(
            scope,
            "UploadLayerPart",
            json!({ "repositoryName": repository, "uploadId": id, "partFirstByte": first, "partLastByte": last,
                    "layerPartBlob": STANDARD.encode(bytes) }),
        )
    }

    /// Pushes a layer in one part; gives its digest.
    pub(crate) fn push_layer(&self, scope: Scope, repository: &str, bytes: &[u8]) -> String {
        let digest = Digest::sha256(bytes).to_string();
        let id = self.initiate(scope, repository);
        self.upload_part(scope, repository, &id, 0, bytes).unwrap();
        let members = json!({ "repositoryName": repository, "uploadId": id, "layerDigests": [digest] });
        match self.in_scope(scope, "CompleteLayerUpload", members) {
            Ok(answer) => assert_eq!(answer["layerDigest"], json!(digest)),
            Err(refusal) => assert_eq!(refusal.name, "LayerAlreadyExistsException", "{refusal:?}"),
        }
        digest
    }

    /// An OCI image over one config and these layers, which are pushed first; gives the manifest's text.
    pub(crate) fn image(&self, scope: Scope, repository: &str, layers: &[&[u8]]) -> String {
        let config = br#"{"architecture":"amd64","os":"linux"}"#;
        self.push_layer(scope, repository, config);
        for layer in layers {
            self.push_layer(scope, repository, layer);
        }
        image_manifest(config, layers)
    }

    pub(crate) fn put(&self, scope: Scope, repository: &str, manifest: &str, tag: Option<&str>) -> Answer {
        let mut members = json!({ "repositoryName": repository, "imageManifest": manifest });
        if let Some(tag) = tag {
            members["imageTag"] = json!(tag);
        }
        self.in_scope(scope, "PutImage", members)
    }

    /// Pushes an image that differs from every other by `seed`, under these tags; gives its digest.
    pub(crate) fn push(&self, scope: Scope, repository: &str, seed: &str, tags: &[&str]) -> String {
        let manifest = self.image(scope, repository, &[seed.as_bytes()]);
        if tags.is_empty() {
            self.put(scope, repository, &manifest, None).unwrap();
        }
        for tag in tags {
            self.put(scope, repository, &manifest, Some(tag)).unwrap();
        }
        Digest::sha256(manifest.as_bytes()).to_string()
    }
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(bytes).to_string(), "size": bytes.len() })
}

/// The text of an OCI image manifest.
pub(crate) fn image_manifest(config: &[u8], layers: &[&[u8]]) -> String {
    let layers = layers.iter().map(|layer| descriptor(OCI_LAYER, layer)).collect::<Vec<_>>();
    json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, config), "layers": layers })
        .to_string()
}

/// The text of an OCI index over manifests.
pub(crate) fn index_manifest(manifests: &[&str]) -> String {
    let manifests = manifests.iter().map(|text| descriptor(OCI_MANIFEST, text.as_bytes())).collect::<Vec<_>>();
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests }).to_string()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Digest::sha256(bytes).to_string()
}

/// That an answer is refused with this name and, where given, this text.
#[track_caller]
pub(crate) fn refused(answer: Answer, name: &str, message: &str) {
    let refusal = answer.expect_err(name);
    let status = if name == "ServerException" { 500 } else { 400 };
    assert_eq!((refusal.status, refusal.name.as_str(), refusal.message.as_str()), (status, name, message));
}

#[track_caller]
pub(crate) fn invalid(answer: Answer, path: &str, detail: &str) {
    let message = format!("Invalid parameter at '{path}' failed to satisfy constraint: '{detail}'");
    refused(answer, "InvalidParameterException", &message);
}

#[track_caller]
pub(crate) fn no_repository(answer: Answer, name: &str, registry: &str) {
    let message = format!("The repository with name '{name}' does not exist in the registry with id '{registry}'");
    refused(answer, "RepositoryNotFoundException", &message);
}

/// Panics if `value` holds a member that the shape does not know, or JSON of another type.
fn conforms(shape: &Shape, value: &Value, path: &str) {
    match (shape, value) {
        (Shape::String { .. } | Shape::Blob { .. }, Value::String(_)) | (Shape::Boolean, Value::Bool(_)) => {}
        (Shape::Enum { values }, Value::String(text)) => assert!(values.contains(&text.as_str()), "{path}: {text}"),
        (Shape::Integer { .. } | Shape::Long { .. }, Value::Number(n)) => assert!(n.is_i64(), "{path}: {n}"),
        (Shape::Double | Shape::Timestamp, Value::Number(_)) => {}
        (Shape::List { member, .. }, Value::Array(items)) => {
            items.iter().enumerate().for_each(|(i, item)| conforms(member, item, &format!("{path}.{}", i + 1)));
        }
        (Shape::Map { value: shape, .. }, Value::Object(entries)) => {
            entries.iter().for_each(|(name, entry)| conforms(shape, entry, &format!("{path}.{name}")));
        }
        (Shape::Structure(structure), Value::Object(members)) => {
            for (name, member) in members {
                let known = structure.member(name).unwrap_or_else(|| panic!("{path}.{name} is not in the model"));
                conforms(known.shape, member, &format!("{path}.{name}"));
            }
            for member in structure.members.iter().filter(|member| member.required) {
                assert!(members.contains_key(member.name), "{path}.{} is required", member.name);
            }
        }
        _ => panic!("{path} holds JSON of another type: {value}"),
    }
}
