//! A store whose every state is known, and the check of what is found of it after damage.
//!
//! Each call of [`Witness::work`] makes changes one by one and remembers the sequence of each. What must be found of a
//! store that was brought back to some sequence are exactly the changes up to it.

use layerhold::engine::Engine;
use layerhold::{
    Call, Digest, ErrorKind, Expected, ManifestRead, Options, PutManifest, Reference, RegistryName, Repository,
    RepositoryName, RepositorySettings, Tag,
};

use crate::engine::options;
use crate::operation::pool;

/// Blobs longer than this are in files.
pub const INLINE_BYTES_MAX: u64 = 4096;

/// Settings under which a few changes fill several segments of the journal.
#[must_use]
pub fn small_options() -> Options {
    options().with_journal_segment_bytes(8 << 10).with_inline_blob_bytes_max(INLINE_BYTES_MAX)
}

/// What was acknowledged.
#[derive(Debug, Clone)]
pub struct Witness {
    made: u64,
    blobs: Vec<(u64, Digest, Vec<u8>)>,
    tags: Vec<(u64, Tag, Digest)>,
    /// The sequence of the last change.
    pub sequence: u64,
}

/// What a read of one thing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Right,
    Absent,
    /// An error that has a name for damage.
    Damaged,
}

/// How much of a store was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Things that are as they were.
    pub right: usize,
    /// Things that answer that they are damaged.
    pub damaged: usize,
}

fn registry() -> RegistryName {
    RegistryName::parse("witness").expect("a legal name")
}

fn repository(engine: &Engine) -> Repository {
    engine.registry(&registry()).repository(&RepositoryName::parse("app").expect("a legal name"))
}

impl Witness {
    /// Makes a registry and a repository in a new store.
    pub fn begin(engine: &Engine) -> Result<Self, Box<dyn std::error::Error>> {
        engine.create_registry(&registry(), &Call::anonymous())?;
        let name = RepositoryName::parse("app")?;
        let settings = RepositorySettings::default();
        engine.registry(&registry()).create_repository(&name, &settings, &Call::anonymous())?;
        Ok(Self { made: 0, blobs: Vec::new(), tags: Vec::new(), sequence: engine.sequence() })
    }

    /// Pushes `images` images of an inline config, a layer in a file and a tag each.
    pub fn work(&mut self, engine: &Engine, images: u64) -> Result<(), Box<dyn std::error::Error>> {
        let repository = repository(engine);
        for _ in 0..images {
            self.made += 1;
            let config = format!("{{\"number\":{}}}", self.made).into_bytes();
            let layer = pool::noise(self.made, usize::try_from(INLINE_BYTES_MAX)? + 100);
            let mut put = |bytes: &[u8]| -> Result<Digest, Box<dyn std::error::Error>> {
                let digest = repository.put_blob(bytes, &Expected::Computed, &Call::anonymous())?.digest;
                self.blobs.push((engine.sequence(), digest, bytes.to_vec()));
                Ok(digest)
            };
            let (config_digest, layer_digest) = (put(&config)?, put(&layer)?);
            let document = format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{}}}]}}"#,
                config.len(),
                layer.len(),
            );
            let tag = Tag::parse(&format!("v{}", self.made))?;
            let put = repository.put_manifest(&PutManifest::new(document).with_tag(tag.clone()), &Call::anonymous())?;
            self.tags.push((engine.sequence(), tag, put.digest));
            self.sequence = engine.sequence();
        }
        Ok(())
    }

    /// Compares what is there with the state after the change `sequence`.
    ///
    /// # Errors
    /// What is silently wrong, in words.
    pub fn check(&self, engine: &Engine, sequence: u64) -> Result<Found, String> {
        let repository = repository(engine);
        let mut found = Found::default();
        let mut judge = |what: &dyn std::fmt::Display, since: u64, look: Look| match look {
            Look::Damaged => {
                found.damaged += 1;
                Ok(())
            }
            Look::Right if since <= sequence => {
                found.right += 1;
                Ok(())
            }
            Look::Absent if since > sequence => Ok(()),
            look => Err(format!("{what} of sequence {since} is {look:?} at sequence {sequence}")),
        };
        for (since, digest, bytes) in &self.blobs {
            judge(digest, *since, blob(&repository, digest, bytes)?)?;
        }
        for (since, tag, digest) in &self.tags {
            judge(tag, *since, manifest(&repository, tag, digest)?)?;
        }
        Ok(found)
    }

    /// What will have been acknowledged once the store goes on from `sequence`.
    #[must_use]
    pub fn at(&self, sequence: u64) -> Self {
        let mut left = self.clone();
        left.blobs.retain(|(since, ..)| *since <= sequence);
        left.tags.retain(|(since, ..)| *since <= sequence);
        left.sequence = sequence;
        left
    }
}

fn refusal(kind: ErrorKind, error: &dyn std::fmt::Debug) -> Result<Look, String> {
    match kind {
        ErrorKind::Corrupt => Ok(Look::Damaged),
        ErrorKind::NotFound => Ok(Look::Absent),
        _ => Err(format!("{error:?}")),
    }
}

fn blob(repository: &Repository, digest: &Digest, expected: &[u8]) -> Result<Look, String> {
    let reader = match repository.blob(digest) {
        Ok(reader) => reader,
        Err(error) => return refusal(error.kind(), &error),
    };
    let mut bytes = vec![0; expected.len()];
    let mut at = 0;
    while at < bytes.len() {
        match reader.read_at(at as u64, &mut bytes[at..]) {
            Ok(0) => return Err(format!("{digest} ends at {at}")),
            Ok(read) => at += read,
            Err(error) => return refusal(error.kind(), &error),
        }
    }
    if bytes == expected { Ok(Look::Right) } else { Err(format!("{digest} has other bytes")) }
}

fn manifest(repository: &Repository, tag: &Tag, digest: &Digest) -> Result<Look, String> {
    match repository.manifest(&Reference::Tag(tag.clone()), ManifestRead::Peek) {
        Ok(manifest) if manifest.digest == *digest => Ok(Look::Right),
        Ok(other) => Err(format!("{tag} names {}", other.digest)),
        Err(error) => refusal(error.kind(), &error),
    }
}
