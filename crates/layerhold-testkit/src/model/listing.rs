//! Listings, always whole: pages are a matter of the caller.

use std::collections::{BTreeMap, BTreeSet};

use layerhold::digest::Digest;
use layerhold::manifest::document::{ManifestDocument, ManifestKind};
use layerhold::name::{RepositoryName, Tag};

use super::answer::{Answer, ImageFacts, ReferrerFacts, RepositoryFacts, TagFacts};
use super::manifest::Image;
use super::{HistoryEntry, Model, Outcome, Repository};
use crate::operation::request::ImageName;

/// Everything that can be seen of one repository, for comparing a whole store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryState {
    /// The repository itself.
    pub facts: RepositoryFacts,
    /// Its tags.
    pub tags: Vec<TagFacts>,
    /// Its images.
    pub images: Vec<ImageFacts>,
    /// The bytes of every manifest.
    pub manifests: BTreeMap<Digest, Vec<u8>>,
    /// The bytes of every linked blob.
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    /// The moves of every tag that has any.
    pub history: BTreeMap<Tag, Vec<HistoryEntry>>,
}

impl Model {
    pub(super) fn list_repositories(&self) -> Answer {
        Answer::Repositories(self.repositories.iter().map(|(name, repository)| repository.facts(name)).collect())
    }

    /// Lexical order, after a text that need not be a tag.
    pub(super) fn list_tags(&self, name: &RepositoryName, after: &str) -> Outcome {
        let rows = self.repository(name)?.tags.iter().filter(|(tag, _)| tag.as_str() > after);
        let facts = rows.map(|(tag, row)| TagFacts { tag: tag.clone(), digest: row.digest, tagged_ms: row.tagged_ms });
        Ok(Answer::Tags(facts.collect()))
    }

    /// One entry for each tag of an image, one for an image without tags; images by digest, tags lexically.
    pub(super) fn list_images(&self, name: &RepositoryName, tagged: Option<bool>) -> Outcome {
        let repository = self.repository(name)?;
        let mut entries = Vec::new();
        for digest in repository.images.keys() {
            let tags = repository.tags_of(digest);
            if tags.is_empty() && tagged != Some(true) {
                entries.push((*digest, None));
            }
            if tagged != Some(false) {
                entries.extend(tags.into_iter().map(|tag| (*digest, Some(tag))));
            }
        }
        Ok(Answer::Images(entries))
    }

    pub(super) fn describe_images(&self, name: &RepositoryName, tagged: Option<bool>) -> Outcome {
        let repository = self.repository(name)?;
        let facts = repository.images.iter().map(|(digest, image)| repository.describe(digest, image));
        let selected = facts.filter(|facts| tagged.is_none_or(|tagged| tagged != facts.tags.is_empty()));
        Ok(Answer::ImageDetails(selected.collect()))
    }

    pub(super) fn describe_image(&self, name: &RepositoryName, image: &ImageName) -> Outcome {
        let repository = self.repository(name)?;
        let digest = repository.resolve(image)?;
        Ok(Answer::ImageDetails(vec![repository.describe(&digest, &repository.images[&digest])]))
    }

    /// The subject need not exist. Several artifact types mean any of them, none means all.
    pub(super) fn list_referrers(&self, name: &RepositoryName, subject: &Digest, artifact_types: &[String]) -> Outcome {
        let mut referrers = Vec::new();
        for (digest, image) in &self.repository(name)?.images {
            let document = &image.document;
            let wanted = artifact_types.is_empty()
                || document.artifact_type.as_ref().is_some_and(|artifact_type| artifact_types.contains(artifact_type));
            if wanted && document.subject.as_ref().is_some_and(|descriptor| descriptor.digest == *subject) {
                referrers.push(ReferrerFacts {
                    digest: *digest,
                    media_type: document.media_type.clone(),
                    size: image.bytes.len() as u64,
                    artifact_type: document.artifact_type.clone(),
                    annotations: document.annotations.clone(),
                });
            }
        }
        Ok(Answer::Referrers(referrers))
    }

    /// Oldest first; a tag that never was has no history.
    pub(super) fn tag_history(&self, name: &RepositoryName, tag: &Tag) -> Outcome {
        Ok(Answer::History(self.repository(name)?.history.get(tag).cloned().unwrap_or_default()))
    }

    /// Everything that can be seen of the registry.
    pub fn state(&self) -> BTreeMap<RepositoryName, RepositoryState> {
        let state = |(name, repository): (&RepositoryName, &Repository)| {
            let Ok(Answer::Tags(tags)) = self.list_tags(name, "") else { unreachable!("the repository is there") };
            let images = repository.images.iter();
            let state = RepositoryState {
                facts: repository.facts(name),
                tags,
                images: images.clone().map(|(digest, image)| repository.describe(digest, image)).collect(),
                manifests: images.map(|(digest, image)| (*digest, image.bytes.clone())).collect(),
                blobs: repository.links.iter().map(|(digest, link)| (*digest, link.bytes.to_vec())).collect(),
                history: repository.history.clone(),
            };
            (name.clone(), state)
        };
        self.repositories.iter().map(state).collect()
    }

    /// The durable length of every open upload session, by number.
    pub fn open_uploads(&self) -> BTreeMap<u64, u64> {
        self.sessions.iter().map(|(number, session)| (*number, session.offset())).collect()
    }
}

impl Repository {
    fn describe(&self, digest: &Digest, image: &Image) -> ImageFacts {
        let document = &image.document;
        ImageFacts {
            digest: *digest,
            media_type: document.media_type.clone(),
            tags: self.tags_of(digest),
            image_bytes: image.image_bytes,
            manifest_bytes: image.bytes.len() as u64,
            pushed_ms: image.pushed_ms,
            last_pull_ms: image.last_pull_ms,
            artifact_type: document.artifact_type.clone(),
            config_media_type: document.config_media_type.as_ref().map(ToString::to_string),
            subject: document.subject.as_ref().map(|subject| subject.digest),
        }
    }

    /// What clients are told an image's size is (spec 3.11), as of its push: config and layers as declared, each as often as
    /// it is named and foreign layers left out; for an index the largest manifest it names; for schema 1, which declares
    /// nothing, the blobs' own sizes, each once.
    pub(super) fn image_bytes(&self, document: &ManifestDocument) -> u64 {
        let required = document.references.iter().filter(|reference| reference.required);
        let descriptors = required.map(|reference| &reference.descriptor);
        match document.kind {
            ManifestKind::ImageManifest => descriptors.map(|descriptor| descriptor.size).sum(),
            ManifestKind::ImageIndex => {
                let children = descriptors.filter_map(|descriptor| self.images.get(&descriptor.digest));
                children.map(|child| child.image_bytes).max().unwrap_or(0)
            }
            ManifestKind::Schema1 => {
                let blobs: BTreeSet<_> = descriptors.map(|descriptor| descriptor.digest).collect();
                let links = blobs.iter().filter_map(|blob| self.links.get(blob));
                links.map(|link| link.bytes.len() as u64).sum()
            }
        }
    }
}
