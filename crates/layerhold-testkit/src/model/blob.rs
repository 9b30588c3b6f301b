//! Blobs: bytes addressed by digest, visible through a repository that links them.

use std::sync::Arc;

use layerhold::descriptor::MediaType;
use layerhold::digest::Digest;
use layerhold::name::RepositoryName;

use super::answer::{Answer, BlobFacts, Refusal};
use super::{Download, Model, Outcome, Repository};

#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) bytes: Arc<[u8]>,
    /// What the first manifest that named the blob calls it, here or where it was mounted from.
    pub(super) media_type: Option<MediaType>,
}

impl Link {
    /// A blob that no manifest has named yet.
    pub(super) fn new(bytes: Arc<[u8]>) -> Self {
        Self { bytes, media_type: None }
    }
}

impl Model {
    /// A digest without a link in this repository is absent, whoever else has it.
    pub(super) fn check_blobs(&self, name: &RepositoryName, digests: &[Digest]) -> Outcome {
        let repository = self.repository(name)?;
        let facts = |digest| {
            let link = repository.links.get(digest)?;
            Some(BlobFacts { size: link.bytes.len() as u64, media_type: link.media_type.clone() })
        };
        Ok(Answer::Blobs(digests.iter().map(facts).collect()))
    }

    /// A range is cut to what there is; beyond the end there are no bytes.
    pub(super) fn read_blob(&self, name: &RepositoryName, digest: &Digest, offset: u64, len: u64) -> Outcome {
        let bytes = &self.repository(name)?.links.get(digest).ok_or(Refusal::BlobNotFound)?.bytes;
        let cut = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        Ok(Answer::Bytes(bytes[cut(offset)..cut(offset.saturating_add(len))].to_vec()))
    }

    /// Whoever could read the blob through the source can read it through the target, under the same media type.
    pub(super) fn mount_blob(&mut self, name: &RepositoryName, digest: &Digest, from: &RepositoryName) -> Outcome {
        self.repository(name)?;
        let source = self.repositories.get(from).and_then(|source| source.links.get(digest));
        let link = source.ok_or(Refusal::MountSourceNotFound)?.clone();
        let size = link.bytes.len() as u64;
        Ok(Answer::Mounted { size, already_linked: self.repository_mut(name)?.link(*digest, link) })
    }

    /// A blob that a manifest of the repository references stays.
    pub(super) fn delete_blob(&mut self, name: &RepositoryName, digest: &Digest) -> Outcome {
        let repository = self.repository_mut(name)?;
        if !repository.links.contains_key(digest) {
            return Err(Refusal::BlobNotFound);
        }
        let manifests = repository.referencing(digest);
        if !manifests.is_empty() {
            return Err(Refusal::BlobReferenced { manifests });
        }
        repository.links.remove(digest);
        Ok(Answer::Done)
    }

    /// A token reads the bytes until it expires, whatever becomes of the link, the image or the repository.
    pub(super) fn grant_download(&mut self, name: &RepositoryName, grant: u64, digest: &Digest) -> Outcome {
        let link = self.repository(name)?.links.get(digest).ok_or(Refusal::BlobNotFound)?;
        let expires_ms = self.now.engine_ms + self.terms.download_ms;
        let download = Download { bytes: Arc::clone(&link.bytes), expires_ms };
        let referenced = !self.repository(name)?.referencing(digest).is_empty();
        self.downloads.insert(grant, download);
        Ok(Answer::Granted { expires_ms, referenced })
    }

    pub(super) fn open_download(&self, grant: u64) -> Outcome {
        let now_ms = self.now.engine_ms;
        let download = self.downloads.get(&grant).filter(|download| now_ms < download.expires_ms);
        let download = download.ok_or(Refusal::GrantExpired)?;
        Ok(Answer::Bytes(download.bytes.to_vec()))
    }
}

impl Repository {
    /// Makes a blob readable through the repository; whether it was before. An existing link keeps its media type.
    pub(super) fn link(&mut self, digest: Digest, link: Link) -> bool {
        let already_linked = self.links.contains_key(&digest);
        self.links.entry(digest).or_insert(link);
        already_linked
    }

    /// The manifests that name a blob, in digest order.
    pub(super) fn referencing(&self, blob: &Digest) -> Vec<Digest> {
        let names = |image: &super::Image| image.blobs().any(|(digest, _)| digest == *blob);
        self.images.iter().filter(|(_, image)| names(image)).map(|(digest, _)| *digest).collect()
    }
}
