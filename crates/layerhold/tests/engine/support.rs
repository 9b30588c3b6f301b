//! What the cases share: an engine, a repository in it, and images to push.

use layerhold::{
    Call, Digest, Expected, ManifestPut, MediaType, PutManifest, Repository, RepositoryName, RepositorySettings, Tag,
};
use layerhold_testkit::engine::{TestEngine, memory};

/// An engine in memory with a repository in it.
pub(crate) struct Store {
    pub(crate) test: TestEngine,
    pub(crate) repository: Repository,
}

pub(crate) fn store() -> Store {
    let test = memory();
    let repository = create(&test, "app", &RepositorySettings::default());
    Store { test, repository }
}

pub(crate) fn create(test: &TestEngine, name: &str, settings: &RepositorySettings) -> Repository {
    let name = self::name(name);
    test.registry().create_repository(&name, settings, &call()).expect("a new repository");
    test.registry().repository(&name)
}

pub(crate) fn call() -> Call {
    Call::anonymous()
}

pub(crate) fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).expect("a legal name")
}

pub(crate) fn tag(text: &str) -> Tag {
    Tag::parse(text).expect("a legal tag")
}

pub(crate) fn push_blob(repository: &Repository, bytes: &[u8]) -> Digest {
    repository.put_blob(bytes, &Expected::Computed, &call()).expect("a blob").digest
}

/// The bytes of an OCI image whose layer holds `layer`; its blobs are pushed.
pub(crate) fn image(repository: &Repository, layer: &[u8]) -> Vec<u8> {
    let config = push_blob(repository, b"{}");
    let digest = push_blob(repository, layer);
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[{{"mediaType":"{}","digest":"{digest}","size":{}}}]}}"#,
        MediaType::OCI_MANIFEST,
        MediaType::OCI_CONFIG,
        MediaType::OCI_LAYER,
        layer.len(),
    )
    .into_bytes()
}

/// Pushes an image whose layer holds `layer`, under `tags`.
pub(crate) fn push_image(repository: &Repository, layer: &[u8], tags: &[&str]) -> ManifestPut {
    let mut put = PutManifest::new(image(repository, layer));
    put.tags = tags.iter().map(|text| tag(text)).collect();
    repository.put_manifest(&put, &call()).expect("an image")
}

/// Pushes an image index over `children`.
pub(crate) fn push_index(repository: &Repository, children: &[Digest]) -> ManifestPut {
    let child =
        |digest: &Digest| format!(r#"{{"mediaType":"{}","digest":"{digest}","size":10}}"#, MediaType::OCI_MANIFEST);
    let children: Vec<_> = children.iter().map(child).collect();
    let text =
        format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#, MediaType::OCI_INDEX, children.join(","));
    repository.put_manifest(&PutManifest::new(text), &call()).expect("an index")
}

/// All bytes of a blob.
pub(crate) fn read(repository: &Repository, digest: &Digest) -> Vec<u8> {
    let reader = repository.blob(digest).expect("a blob");
    let mut bytes = vec![0; usize::try_from(reader.size()).expect("a small blob")];
    let mut at = 0;
    while at < bytes.len() {
        at += reader.read_at(at as u64, &mut bytes[at..]).expect("a verified read");
    }
    bytes
}
