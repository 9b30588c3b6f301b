//! The few names, blobs and manifests that random operations choose from, so that they meet each other often.
//!
//! Everything here is a fixed function of its number: a number in a saved sequence means the same for ever. Add at the
//! end of a pool; never change what stands there.

use std::sync::{Arc, LazyLock};

use layerhold::descriptor::MediaType;
use layerhold::digest::{Algorithm, Digest};
use layerhold::name::{Principal, RepositoryName, Tag};
use layerhold::tag::rules::{ExclusionFilter, Mutability, TagMutability};

/// Blobs up to this length live in the metadata store in every test engine, so that the pool has both kinds.
pub const INLINE_BYTES_MAX: u64 = 4_096;

/// Repository names: nested ones, and one that is a prefix of another.
const REPOSITORIES: [&str; 4] = ["app", "app/base", "team/tool", "zz"];

/// Tags: prefixes of one another, and two that differ by case alone.
const TAGS: [&str; 6] = ["latest", "v1", "v1.1", "release-1", "dev", "V1"];

/// Lengths of blob contents: none, tiny, both sides of the inline threshold, both sides of 64 KiB, several groups.
const CONTENT_LENGTHS: [usize; 10] = [0, 2, 37, 1_000, 4_096, 4_097, 20_000, 65_536, 65_537, 300_000];

/// How many repository names there are.
pub const REPOSITORY_COUNT: u8 = REPOSITORIES.len() as u8;
/// How many tags there are.
pub const TAG_COUNT: u8 = TAGS.len() as u8;
/// How many blob contents there are.
pub const CONTENT_COUNT: u8 = CONTENT_LENGTHS.len() as u8;
/// How many tag settings there are.
pub const MUTABILITY_COUNT: u8 = 4;

/// One blob content.
#[derive(Debug)]
pub struct Content {
    /// The bytes.
    pub bytes: Arc<[u8]>,
    /// Their sha256.
    pub sha256: Digest,
    /// Their sha512.
    pub sha512: Digest,
}

impl Content {
    /// The digest by `algorithm`.
    pub fn digest(&self, algorithm: Algorithm) -> Digest {
        match algorithm {
            Algorithm::Sha512 => self.sha512,
            _ => self.sha256,
        }
    }
}

/// One document to put.
#[derive(Debug)]
pub struct Document {
    /// What it is, for the reader of a failing sequence.
    pub what: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their sha256.
    pub digest: Digest,
    /// The media type that a client sends beside it.
    pub media_type: Option<MediaType>,
    /// Whether the caller admits schema 1.
    pub schema1: bool,
    /// The contents it needs, by number.
    pub contents: Vec<u8>,
    /// The documents it needs, by number.
    pub documents: Vec<u8>,
}

/// The repository name with this number, taken round the pool.
pub fn repository(number: u8) -> RepositoryName {
    RepositoryName::parse(round(&REPOSITORIES, number)).expect("the pool's names are legal")
}

/// The tag with this number, taken round the pool.
pub fn tag(number: u8) -> Tag {
    Tag::parse(round(&TAGS, number)).expect("the pool's tags are legal")
}

/// The content with this number, taken round the pool.
pub fn content(number: u8) -> &'static Content {
    static CONTENTS: LazyLock<Vec<Content>> = LazyLock::new(|| {
        let contents = CONTENT_LENGTHS.iter().zip(1_u64..).map(|(&len, seed)| {
            // Two bytes are the OCI empty descriptor's `{}`; the rest only has to differ from the others.
            let bytes = if len == 2 { b"{}".to_vec() } else { noise(seed, len) };
            Content {
                sha256: Digest::sha256(&bytes),
                sha512: Digest::of(Algorithm::Sha512, &bytes),
                bytes: bytes.into(),
            }
        });
        contents.collect()
    });
    &CONTENTS[usize::from(number) % CONTENTS.len()]
}

/// The document with this number, taken round the pool.
pub fn document(number: u8) -> &'static Document {
    &DOCUMENTS[usize::from(number) % DOCUMENTS.len()]
}

/// How many documents there are.
pub fn document_count() -> u8 {
    u8::try_from(DOCUMENTS.len()).unwrap_or(u8::MAX)
}

/// The caller with this number: 0 is nobody in particular.
pub fn principal(number: u8) -> Principal {
    match number % 2 {
        0 => Principal::anonymous(),
        _ => Principal::parse("arn:aws:iam::000000000000:user/other").expect("a legal principal"),
    }
}

/// The tag setting with this number, taken round the pool.
pub fn mutability(number: u8) -> TagMutability {
    let except = |mode, patterns: &[&str]| {
        let filters = patterns.iter().map(|text| ExclusionFilter::parse(text).expect("a legal filter"));
        TagMutability::new(mode, filters.collect()).expect("filters belong to these modes")
    };
    match number % MUTABILITY_COUNT {
        0 => TagMutability::MUTABLE,
        1 => TagMutability::IMMUTABLE,
        2 => except(Mutability::ImmutableWithExclusion, &["dev*", "l*t"]),
        _ => except(Mutability::MutableWithExclusion, &["v*", "release-*", "*1.1"]),
    }
}

/// Artifact types that referrers are asked for.
pub fn artifact_type(number: u8) -> &'static str {
    round(
        &["application/vnd.example.sbom", "application/vnd.example.config+json", "application/vnd.example.none"],
        number,
    )
}

/// The blob digest with this number: sha256 of each content, then sha512 of each, then one that nothing has.
pub fn blob_digest(number: u8) -> Digest {
    match number {
        0..CONTENT_COUNT => content(number).sha256,
        CONTENT_COUNT..TWICE_CONTENT_COUNT => content(number - CONTENT_COUNT).sha512,
        _ => never(),
    }
}

/// Every blob digest that an operation can store.
pub fn all_blob_digests() -> impl Iterator<Item = Digest> {
    (0..TWICE_CONTENT_COUNT).map(blob_digest)
}

/// Every tag that an operation can put.
pub fn all_tags() -> impl Iterator<Item = Tag> {
    (0..TAG_COUNT).map(tag)
}

const TWICE_CONTENT_COUNT: u8 = 2 * CONTENT_COUNT;

/// The digest of the document with this number; one that nothing has beyond the pool.
pub fn document_digest(number: u8) -> Digest {
    if number < document_count() { document(number).digest } else { never() }
}

/// Texts after which tags are listed: tags, texts between them, and one that no tag can be.
pub fn last(number: u8) -> &'static str {
    round(&["", "V", "dev", "m", "v1", "v1.0 \u{e4}", "v1.1", "zzz"], number)
}

fn round<T: ?Sized>(pool: &[&'static T], number: u8) -> &'static T {
    pool[usize::from(number) % pool.len()]
}

/// `len` bytes that look random and depend on `seed` alone.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

static DOCUMENTS: LazyLock<Vec<Document>> = LazyLock::new(|| {
    let mut pool = Pool { documents: Vec::new() };
    let plain = pool.image("an OCI image", CONFIG, 2, &[3, 5], "");
    let shared = pool.image("an OCI image that shares a layer", CONFIG, 1, &[3, 8], "");
    let twice = pool.image("one layer named twice", CONFIG, 2, &[6, 6], "");
    let text = format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, blob(1, CONFIG), blob(4, LAYER));
    pool.push("an OCI image without mediaType", Some(OCI_IMAGE), &[1, 4], &[], text + "\n");
    let config = blob(2, "application/vnd.docker.container.image.v1+json");
    let text = image(DOCKER_IMAGE, &config, &[blob(9, "application/vnd.docker.image.rootfs.diff.tar.gzip")], "");
    let docker = pool.push("a Docker image", Some(DOCKER_IMAGE), &[2, 9], &[], text);

    let foreign = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip","digest":"{}","size":77,"urls":["https://example.org/l"]}}"#,
        Digest::sha256(b"foreign")
    );
    let text = image(OCI_IMAGE, &blob(2, CONFIG), &[foreign], "");
    pool.push("a foreign layer that nobody pushes", Some(OCI_IMAGE), &[2], &[], text);
    let text = image(OCI_IMAGE, &blob(2, CONFIG), &[descriptor(LAYER, &never(), 5), blob(3, LAYER)], "");
    pool.push("a layer that never comes", Some(OCI_IMAGE), &[2, 3], &[], text);

    let subject = format!(r#","subject":{}"#, pool.child(plain));
    let kind = artifact_type(0);
    let sbom = format!(r#","artifactType":"{kind}","annotations":{{"org.example.kind":"sbom","a":""}}{subject}"#);
    pool.image("an artifact with a subject", EMPTY, 1, &[4], &sbom);
    pool.image("a referrer typed by its config", artifact_type(1), 3, &[], &subject);
    let orphan = format!(r#","artifactType":"{kind}","subject":{}"#, descriptor(OCI_IMAGE, &never(), 9));
    pool.image("a referrer of what never comes", EMPTY, 1, &[], &orphan);

    let index = pool.index("an OCI index", OCI_INDEX, &[plain, shared], "");
    pool.index("a Docker list", DOCKER_LIST, &[docker, plain], "");
    pool.index("an index of an index", OCI_INDEX, &[index, twice], "");
    pool.index("an index with a subject", OCI_INDEX, &[shared], &sbom);
    pool.index("an index of nothing", OCI_INDEX, &[], "");
    let children = format!("{},{}", descriptor(OCI_IMAGE, &never(), 5), pool.child(plain));
    let text = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{children}]}}"#);
    pool.push("an index with a child that never comes", Some(OCI_INDEX), &[], &[plain], text);

    let text = image(OCI_IMAGE, &blob(1, CONFIG), &[descriptor(LAYER, &content(6).sha512, 20_000)], "");
    pool.push("an image over a sha512 layer", Some(OCI_IMAGE), &[1], &[], text);
    let layers = [content(3).sha256, content(6).sha256].map(|digest| format!(r#"{{"blobSum":"{digest}"}}"#)).join(",");
    let history = r#"[{"v1Compatibility":"{\"id\":\"b\"}"},{"v1Compatibility":"{\"id\":\"a\"}"}]"#;
    let text = format!(
        r#"{{"schemaVersion":1,"name":"app","tag":"latest","architecture":"amd64","fsLayers":[{layers}],"history":{history}}}"#
    );
    pool.push("schema 1 where it is not admitted", Some(DOCKER_SCHEMA1), &[3, 6], &[], format!("{text} "));
    let old = pool.push("schema 1", Some(DOCKER_SCHEMA1), &[3, 6], &[], text);
    pool.documents[usize::from(old)].schema1 = true;

    let empty = blob(1, CONFIG);
    let text = image(OCI_IMAGE, &empty, &[blob(3, LAYER)], "");
    pool.push("an image sent as an index", Some(OCI_INDEX), &[1, 3], &[], text);
    let text = format!(r#"{{"schemaVersion":2,"config":{empty},"layers":[]}}"#);
    pool.push("no media type anywhere", None, &[1], &[], text);
    let text = image(OCI_IMAGE, &empty, &[], r#","manifests":[]"#);
    pool.push("an index and an image at once", Some(OCI_IMAGE), &[1], &[], text);
    let text = image(OCI_IMAGE, &empty, &[], r#","schemaVersion":2"#);
    pool.push("a duplicate key", Some(OCI_IMAGE), &[1], &[], text);
    pool.push("not JSON", Some(OCI_IMAGE), &[], &[], "{]".to_owned());
    pool.push("nothing", Some(OCI_IMAGE), &[], &[], String::new());
    let text = format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, blob(1, CONFIG), blob(4, LAYER));
    pool.push("the untyped OCI image sent as a Docker one", Some(DOCKER_IMAGE), &[1, 4], &[], text + "\n");
    let layer = format!(r#"{{"blobSum":"{}"}}"#, content(6).sha256);
    let text = format!(
        r#"{{"schemaVersion":1,"name":"a","tag":"b","architecture":"c","fsLayers":[{layer},{layer}],"history":{history}}}"#
    );
    let old = pool.push("schema 1 over one layer twice", Some(DOCKER_SCHEMA1), &[6], &[], text);
    pool.documents[usize::from(old)].schema1 = true;
    pool.documents
});

struct Pool {
    documents: Vec<Document>,
}

impl Pool {
    fn push(
        &mut self,
        what: &'static str,
        media_type: Option<&str>,
        contents: &[u8],
        documents: &[u8],
        text: String,
    ) -> u8 {
        let number = u8::try_from(self.documents.len()).expect("a small pool");
        self.documents.push(Document {
            what,
            digest: Digest::sha256(text.as_bytes()),
            bytes: text.into_bytes(),
            media_type: media_type.map(|text| MediaType::parse(text).expect("a legal media type")),
            schema1: false,
            contents: contents.to_vec(),
            documents: documents.to_vec(),
        });
        number
    }

    fn image(&mut self, what: &'static str, config_type: &str, config: u8, layers: &[u8], extra: &str) -> u8 {
        let mut contents = layers.to_vec();
        contents.push(config);
        let layers: Vec<_> = layers.iter().map(|&layer| blob(layer, LAYER)).collect();
        self.push(what, Some(OCI_IMAGE), &contents, &[], image(OCI_IMAGE, &blob(config, config_type), &layers, extra))
    }

    fn index(&mut self, what: &'static str, media_type: &str, children: &[u8], extra: &str) -> u8 {
        let manifests: Vec<_> = children.iter().map(|&child| self.child(child)).collect();
        let manifests = manifests.join(",");
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{manifests}]{extra}}}"#);
        self.push(what, Some(media_type), &[], children, text)
    }

    fn child(&self, number: u8) -> String {
        let child = &self.documents[usize::from(number)];
        let media_type = child.media_type.as_ref().map(|media_type| media_type.as_str()).unwrap_or_default();
        descriptor(media_type, &child.digest, child.bytes.len())
    }
}

fn image(media_type: &str, config: &str, layers: &[String], extra: &str) -> String {
    let layers = layers.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layers}]{extra}}}"#)
}

fn blob(number: u8, media_type: &str) -> String {
    let content = content(number);
    descriptor(media_type, &content.sha256, content.bytes.len())
}

fn descriptor(media_type: &str, digest: &Digest, size: usize) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

/// The digest of something that no operation ever stores.
pub fn never() -> Digest {
    Digest::sha256(b"never")
}
