//! Manifests and tags: documents kept byte for byte, and the names that move between them.

use std::collections::BTreeSet;

use layerhold::descriptor::MediaType;
use layerhold::digest::Digest;
use layerhold::manifest::document::{DocumentLimits, ManifestDocument, Role};
use layerhold::name::{Reference, RepositoryName, Tag};
use layerhold::tag::rules::{Mutability, TagMutability};

use super::answer::{Answer, Refusal, TagMove};
use super::{Model, Outcome, Repository, TagRow};
use crate::operation::request::{ImageName, PutManifest};

#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
    pub(super) document: ManifestDocument,
    pub(super) image_bytes: u64,
    pub(super) pushed_ms: u64,
    pub(super) last_pull_ms: Option<u64>,
}

impl Image {
    /// Digest and media type of each blob that the document names.
    pub(super) fn blobs(&self) -> impl Iterator<Item = (Digest, &MediaType)> {
        let blobs = self.document.references.iter().filter(|reference| reference.role != Role::Manifest);
        blobs.map(|reference| (reference.descriptor.digest, &reference.descriptor.media_type))
    }

    /// Whether the document is an index that names this manifest.
    fn names(&self, manifest: &Digest) -> bool {
        let references = &mut self.document.references.iter();
        references.any(|reference| reference.role == Role::Manifest && reference.descriptor.digest == *manifest)
    }
}

impl Model {
    /// The manifest with all its tags, or nothing. Where the manifest is stored and every tag names it already, nothing
    /// changes, and whatever rule would stand in the way of a change does not matter.
    pub(super) fn put_manifest(&mut self, name: &RepositoryName, put: &PutManifest) -> Outcome {
        let (limits, now) = (self.limits, self.now);
        let repository = self.repository_mut(name)?;
        let document_limits = DocumentLimits { schema1: put.schema1, ..DocumentLimits::default() };
        let document = ManifestDocument::parse(&put.bytes, put.media_type.as_ref(), &document_limits)
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let digest = match put.expected {
            Some(expected) => Digest::of(expected.algorithm(), &put.bytes),
            None => Digest::sha256(&put.bytes),
        };
        if let Some(expected) = put.expected.filter(|expected| *expected != digest) {
            return Err(Refusal::ManifestDigestMismatch { expected, computed: digest });
        }

        let stored = repository.images.get(&digest);
        // A tag named twice is named once.
        let tags: Vec<&Tag> = unique(&put.tags);
        let holder = |tag: &Tag| repository.tags.get(tag).map(|row| row.digest);
        let new_tags: Vec<&Tag> = tags.iter().copied().filter(|tag| holder(tag) != Some(digest)).collect();
        if stored.is_none() || !new_tags.is_empty() {
            for tag in &new_tags {
                if let Some(current) = holder(tag).filter(|_| !may_move(&repository.tag_mutability, tag)) {
                    return Err(Refusal::TagImmutable { tag: (*tag).clone(), current });
                }
            }
            if stored.is_none() && repository.images.len() as u64 >= limits.images {
                return Err(Refusal::ImageLimit { limit: limits.images });
            }
            let held = repository.tags.values().filter(|row| row.digest == digest).count() as u64;
            for (tag, count) in new_tags.iter().zip(held + 1..) {
                if count > limits.tags_per_image {
                    return Err(Refusal::TagLimit { tag: (*tag).clone(), limit: limits.tags_per_image });
                }
            }
        }
        if stored.is_none() && !repository.sparse_images {
            let required = || document.references.iter().filter(|reference| reference.required);
            let missing_blobs = required().filter(|reference| reference.role != Role::Manifest);
            let missing_blobs: Vec<_> = missing_blobs.map(|reference| reference.descriptor.digest).collect();
            let digests = absent(missing_blobs, |digest| repository.links.contains_key(digest));
            if !digests.is_empty() {
                return Err(Refusal::BlobsMissing { digests });
            }
            let children = required().filter(|reference| reference.role == Role::Manifest);
            let children: Vec<_> = children.map(|reference| reference.descriptor.digest).collect();
            let digests = absent(children, |digest| repository.images.contains_key(digest));
            if !digests.is_empty() {
                return Err(Refusal::ManifestsMissing { digests });
            }
        }

        let moves = tags.iter().map(|tag| {
            let change = match holder(tag) {
                None => TagMove::Created,
                Some(current) if current == digest => TagMove::AlreadyThere,
                Some(from) => TagMove::Moved { from },
            };
            ((*tag).clone(), change)
        });
        let tags: Vec<_> = moves.collect();
        let created = stored.is_none();
        if created {
            let image_bytes = repository.image_bytes(&document);
            let (bytes, pushed_ms) = (put.bytes.clone(), now.wall_ms);
            let image = Image { bytes, document, image_bytes, pushed_ms, last_pull_ms: None };
            // What names a blob first says what it is.
            for (blob, media_type) in image.blobs() {
                if let Some(link) = repository.links.get_mut(&blob) {
                    link.media_type.get_or_insert_with(|| media_type.clone());
                }
            }
            repository.images.insert(digest, image);
        }
        for (tag, change) in &tags {
            if *change != TagMove::AlreadyThere {
                repository.point(tag, Some(digest), now.wall_ms);
            }
        }
        let document = &repository.images[&digest].document;
        let subject = document.subject.as_ref().map(|subject| subject.digest);
        Ok(Answer::ManifestPut { digest, media_type: document.media_type.clone(), created, tags, subject })
    }

    /// The bytes as they came. A pull is noted, but not more often than a term says.
    pub(super) fn get_manifest(&mut self, name: &RepositoryName, reference: &Reference, pull: bool) -> Outcome {
        let (terms, now) = (self.terms, self.now);
        let repository = self.repository_mut(name)?;
        let digest = repository.resolve(&reference.clone().into())?;
        let image = repository.images.get_mut(&digest).ok_or(Refusal::ManifestNotFound)?;
        let due = |last: u64| now.wall_ms >= last + terms.pull_record_ms;
        if pull && image.last_pull_ms.is_none_or(due) {
            image.last_pull_ms = Some(now.wall_ms);
        }
        let media_type = image.document.media_type.clone();
        Ok(Answer::Manifest { digest, media_type, bytes: image.bytes.clone() })
    }

    /// Follows an engine that lost a pull time, which is never durable.
    pub fn set_last_pull(&mut self, name: &RepositoryName, digest: &Digest, last_pull_ms: Option<u64>) {
        let repository = self.repositories.get_mut(name);
        if let Some(image) = repository.and_then(|repository| repository.images.get_mut(digest)) {
            image.last_pull_ms = last_pull_ms;
        }
    }

    pub(super) fn head_manifest(&self, name: &RepositoryName, reference: &Reference) -> Outcome {
        let repository = self.repository(name)?;
        let digest = repository.resolve(&reference.clone().into())?;
        let image = &repository.images[&digest];
        let media_type = image.document.media_type.clone();
        Ok(Answer::Descriptor { digest, media_type, size: image.bytes.len() as u64 })
    }

    pub(super) fn resolve_image(&self, name: &RepositoryName, image: &ImageName) -> Outcome {
        self.repository(name)?.resolve(image).map(Answer::Digest)
    }

    /// By tag: the tag goes, and the image with it if that was its last one. By digest: the image goes with all its tags.
    /// An image that an index names stays, and its last tag with it. Neither tag rules nor referrers stand in the way.
    pub(super) fn delete_image(&mut self, name: &RepositoryName, image: &ImageName) -> Outcome {
        let wall_ms = self.now.wall_ms;
        let repository = self.repository_mut(name)?;
        let digest = repository.resolve(image)?;
        let all: Vec<Tag> = repository.tags_of(&digest);
        let (tags, manifest_deleted) = match image {
            ImageName::Tag(tag) | ImageName::Both(tag, _) if all.len() > 1 => (vec![tag.clone()], false),
            _ => (all, true),
        };
        if manifest_deleted {
            let manifests = repository.images.iter().filter(|(_, image)| image.names(&digest));
            let manifests: Vec<_> = manifests.map(|(parent, _)| *parent).collect();
            if !manifests.is_empty() {
                return Err(Refusal::ReferencedBy { manifests });
            }
            repository.images.remove(&digest);
        }
        for tag in &tags {
            repository.point(tag, None, wall_ms);
        }
        Ok(Answer::DeletedImage { digest, tags, manifest_deleted })
    }

    /// The tag goes, whatever the tag setting, and its manifest stays.
    pub(super) fn untag(&mut self, name: &RepositoryName, tag: &Tag) -> Outcome {
        let wall_ms = self.now.wall_ms;
        let repository = self.repository_mut(name)?;
        let digest = repository.tags.get(tag).ok_or(Refusal::TagNotFound)?.digest;
        repository.point(tag, None, wall_ms);
        Ok(Answer::Digest(digest))
    }
}

impl Repository {
    /// An unknown digest or tag is not found; a tag that names another image does not match.
    pub(super) fn resolve(&self, image: &ImageName) -> Result<Digest, Refusal> {
        let current = |tag| self.tags.get(tag).map(|row| row.digest).ok_or(Refusal::ManifestNotFound);
        let stored = |digest| self.images.contains_key(digest).then_some(*digest).ok_or(Refusal::ManifestNotFound);
        match image {
            ImageName::Tag(tag) => current(tag),
            ImageName::Digest(digest) => stored(digest),
            ImageName::Both(tag, digest) => match (stored(digest)?, current(tag)?) {
                (digest, current) if digest == current => Ok(digest),
                (_, current) => Err(Refusal::TagMismatch { tag: tag.clone(), current }),
            },
        }
    }

    pub(super) fn tags_of(&self, digest: &Digest) -> Vec<Tag> {
        self.tags.iter().filter(|(_, row)| row.digest == *digest).map(|(tag, _)| tag.clone()).collect()
    }

    /// Every move of a tag is kept in its history. When it was put there changes with each move.
    fn point(&mut self, tag: &Tag, to: Option<Digest>, wall_ms: u64) {
        let before = match to {
            Some(digest) => self.tags.insert(tag.clone(), TagRow { digest, tagged_ms: wall_ms }),
            None => self.tags.remove(tag),
        };
        let from = before.map(|row| row.digest);
        self.history.entry(tag.clone()).or_default().push((wall_ms, from, to));
    }
}

/// The table of spec 3.6.1, for a tag that names another manifest.
fn may_move(setting: &TagMutability, tag: &Tag) -> bool {
    let excluded = setting.filters().iter().any(|filter| wildcard(filter.as_str().as_bytes(), tag.as_str().as_bytes()));
    match setting.mode() {
        Mutability::Mutable => true,
        Mutability::Immutable => false,
        Mutability::ImmutableWithExclusion => excluded,
        Mutability::MutableWithExclusion => !excluded,
    }
}

/// Whether a pattern covers a whole tag: `*` is any run of characters, everything else stands for itself.
fn wildcard(pattern: &[u8], tag: &[u8]) -> bool {
    match pattern.split_first() {
        None => tag.is_empty(),
        Some((b'*', rest)) => (0..=tag.len()).any(|skipped| wildcard(rest, &tag[skipped..])),
        Some((first, rest)) => tag.split_first().is_some_and(|(head, tail)| head == first && wildcard(rest, tail)),
    }
}

/// Each digest once, in the document's order, that is not there.
fn absent(digests: Vec<Digest>, there: impl Fn(&Digest) -> bool) -> Vec<Digest> {
    unique(&digests).into_iter().copied().filter(|digest| !there(digest)).collect()
}

fn unique<T: Ord>(items: &[T]) -> Vec<&T> {
    let mut seen = BTreeSet::new();
    items.iter().filter(|item| seen.insert(*item)).collect()
}
