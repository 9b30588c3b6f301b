//! Putting a manifest: the document, its references, its referrer row and its tags appear in one commit.

use std::collections::{BTreeMap, HashSet};

use crate::call::Call;
use crate::change::RepositoryEvent;
use crate::descriptor::MediaType;
use crate::digest::{Algorithm, Digest};
use crate::engine::{Needs, value};
use crate::format::codec::{Decoder, Encoder};
use crate::format::keys::{self, KeyBytes, Scope};
use crate::format::values::{
    BlobRow, BlobState, LinkRow, ManifestRow, ManifestState, ReferenceEntry, ReferencesRow, ReferrerRow, RepositoryRow,
    Row, TagHistoryRow, TagRow, UsageRow, decode_tag,
};
use crate::name::Tag;
use crate::options::Limits;
use crate::repository::{Repository, live_row};
use crate::store::{LockMode, LockSet, StorageError};
use crate::tag::rules::{TagDecision, TagFacts, decide};
use crate::txn::committer::Delta;
use crate::txn::{Attempt, Commit, Decision, Outcome, Stop};

use super::document::{DocumentLimits, ManifestDocument, Role};
use super::errors::PutError;

/// What a row of a reference takes in a batch, about, its share of the list of references included; and how many rows
/// of about that size a put writes besides.
const ROW_BYTES: usize = 224;
const OTHER_ROWS: usize = 12;

/// A manifest to be put, with the tags that are to name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutManifest {
    /// The document, kept byte for byte.
    pub bytes: Vec<u8>,
    /// The type that came with it; needed where the document names none.
    pub media_type: Option<MediaType>,
    /// The tags; none puts it untagged.
    pub tags: Vec<Tag>,
    /// The digest that it must have.
    pub expected: Option<Digest>,
    /// Whether Docker schema 1 is taken.
    pub schema1: bool,
}

/// A manifest that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestPut {
    /// Its digest: of the algorithm of [`PutManifest::expected`], else SHA-256.
    pub digest: Digest,
    /// The type that is pinned to the digest.
    pub media_type: MediaType,
    /// Whether the repository did not hold it before.
    pub created: bool,
    /// Whether it took the place of stored bytes that were damaged, noticed before or not.
    pub healed: bool,
    /// What became of each tag, in the order given. With `created` and `healed` false and every tag
    /// [`TagChange::AlreadyThere`], nothing was changed.
    pub tags: Vec<(Tag, TagChange)>,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
}

/// What became of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagChange {
    /// It is new.
    Created,
    /// It named the manifest before.
    AlreadyThere,
    /// It named another manifest.
    Moved {
        /// That one.
        from: Digest,
    },
}

impl PutManifest {
    /// A document without declared type, tags or expected digest.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), media_type: None, tags: Vec::new(), expected: None, schema1: false }
    }

    /// The same with a declared type.
    #[must_use]
    pub fn with_media_type(mut self, media_type: MediaType) -> Self {
        self.media_type = Some(media_type);
        self
    }

    /// The same with one more tag.
    #[must_use]
    pub fn with_tag(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// The same with the digest that it must have.
    #[must_use]
    pub fn with_expected(mut self, digest: Digest) -> Self {
        self.expected = Some(digest);
        self
    }

    /// The document and its digest, judged by everything that needs no repository: the number of tags, the document itself,
    /// the digest that it must have. [`Repository::put_manifest`] judges the same first.
    ///
    /// # Errors
    /// [`PutError::TooManyTags`], [`PutError::Manifest`], [`PutError::DigestMismatch`].
    pub fn judge(&self, limits: &Limits) -> Result<(ManifestDocument, Digest), PutError> {
        if self.tags.len() > limits.tags_per_put as usize {
            return Err(PutError::TooManyTags { count: self.tags.len(), limit: limits.tags_per_put });
        }
        let document_limits = DocumentLimits {
            size_bytes_max: limits.manifest_bytes,
            references_max: limits.references as usize,
            schema1: self.schema1,
            ..DocumentLimits::default()
        };
        let document = ManifestDocument::parse(&self.bytes, self.media_type.as_ref(), &document_limits)?;
        let algorithm = self.expected.map_or(Algorithm::Sha256, |digest| digest.algorithm());
        let digest = Digest::of(algorithm, &self.bytes);
        match self.expected.filter(|expected| *expected != digest) {
            Some(expected) => Err(PutError::DigestMismatch { expected, computed: digest }),
            None => Ok((document, digest)),
        }
    }
}

impl ManifestPut {
    /// Whether the call found everything as it was asked for.
    #[must_use]
    pub fn changed_nothing(&self) -> bool {
        !self.created && !self.healed && self.tags.iter().all(|(_, change)| *change == TagChange::AlreadyThere)
    }
}

impl Outcome for ManifestPut {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.digest(&self.digest).str(self.media_type.as_str()).bool(self.created).bool(self.healed);
        encoder.list(self.tags.iter(), |e, (tag, change)| {
            e.str(tag.as_str());
            match change {
                TagChange::Created => e.u8(0),
                TagChange::AlreadyThere => e.u8(1),
                TagChange::Moved { from } => e.u8(2).digest(from),
            };
        });
        encoder.option(self.subject.as_ref(), |e, digest| {
            e.digest(digest);
        });
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self {
            digest: decoder.digest()?,
            media_type: decoder.parsed(|text| MediaType::parse(text).ok())?,
            created: decoder.bool()?,
            healed: decoder.bool()?,
            tags: decoder.list(|d| {
                let tag = decode_tag(d)?;
                Ok((
                    tag,
                    match d.u8()? {
                        0 => TagChange::Created,
                        1 => TagChange::AlreadyThere,
                        2 => TagChange::Moved { from: d.digest()? },
                        _ => return Err(d.malformed()),
                    },
                ))
            })?,
            subject: decoder.option(Decoder::digest)?,
        })
    }
}

/// What a put knows before it looks at the store.
struct Put<'a> {
    repository: &'a Repository,
    /// Where the repository was found before the first try.
    scope: Option<Scope>,
    call: &'a Call,
    bytes: &'a [u8],
    digest: Digest,
    document: ManifestDocument,
    /// Each thing named once per role, in the document's order.
    references: Vec<Named>,
    tags: Vec<Tag>,
}

/// One thing that the manifest names, with whether the repository must hold it.
pub(crate) struct Named {
    pub(crate) entry: ReferenceEntry,
    pub(crate) required: bool,
}

/// The rows that a put locks, in the order in which it asks for them.
struct Rows {
    keys: Vec<(KeyBytes, LockMode)>,
    /// What the tags named when the rows were chosen.
    tags_before: Vec<Option<Digest>>,
    /// The manifests that lose a tag, each once, and where their rows begin among the keys.
    losers: Vec<Digest>,
    /// Whether the stored bytes are the document's, where the manifest was there. They change in no other way than by damage.
    intact: Option<bool>,
}

impl Repository {
    /// Stores a manifest with its tags, back-references and referrer row in one transaction. Durable when it returns.
    ///
    /// Everything that the document references must be in the repository (unless it takes sparse images), except its
    /// subject and foreign layers. A tag is moved only if the repository's rule allows it. The errors are judged in the
    /// order of [`PutError`]; a put that would change nothing succeeds before tags and references are judged. Putting a
    /// manifest whose stored bytes are damaged replaces them.
    pub fn put_manifest(&self, put: &PutManifest, call: &Call) -> Result<ManifestPut, PutError> {
        let inner = self.inner();
        let scope = self.peek()?;
        // An absent repository is judged before the document, except for a call that may have been carried out before:
        // that one had a document without fault.
        if scope.is_none() && call.operation_id.is_none() {
            return Err(self.not_found().into());
        }
        let (document, digest) = match put.judge(&self.registry.limits) {
            Ok(judged) => judged,
            // Without a lock, what was found may be gone by now.
            Err(error) => {
                let exists = self.find(inner.txn.store.view()?.as_ref())?.is_some();
                return Err(if exists { error } else { self.not_found().into() });
            }
        };
        let mut tags: Vec<Tag> = Vec::with_capacity(put.tags.len());
        put.tags.iter().for_each(|tag| {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        });
        let references = name_once(&document);
        let put = Put { repository: self, scope, call, bytes: &put.bytes, digest, document, references, tags };
        let mut arguments = self.arguments("put manifest");
        arguments.digest(&digest).str(put.document.media_type.as_str()).list(put.tags.iter(), |e, tag| {
            e.str(tag.as_str());
        });
        let over = |limit| Some(PutError::ImageLimit { limit });
        inner.run(Needs::Room, call, &mut arguments, over, |attempt| put.attempt(attempt))
    }
}

impl Put<'_> {
    fn attempt(&self, attempt: &Attempt<'_>) -> Result<Decision<ManifestPut>, Stop<PutError>> {
        let scope = match self.scope {
            Some(scope) if attempt.is_first() => scope,
            _ => self.repository.find_or_refuse(attempt)?,
        };
        let rows = self.choose_rows(attempt, scope)?;
        let wanted: Vec<_> = rows.keys.iter().map(|(key, mode)| (key.as_slice(), *mode)).collect();
        let locks = attempt.lock(&wanted)?;
        let repository = live_row(value(&locks, 0))?.ok_or(Stop::Again)?;
        let stored = ManifestRow::decode_optional(value(&locks, 1))?;
        let current = self.read_tags(&locks)?;
        if current.iter().map(|row| row.map(|row| row.digest)).ne(rows.tags_before.iter().copied()) {
            return Err(Stop::Again);
        }
        let changes = match self.judge_tags(&repository, &current) {
            Ok(changes) => changes,
            // A put that would change nothing is not judged by the rule of any tag, so this one would change something.
            Err(refused) => return Err(Stop::Refused(refused)),
        };
        // A document without `mediaType` is what the first put called it, whatever this one calls it.
        let (media_type, subject) = match &stored {
            Some(row) => (row.media_type.clone(), row.subject),
            None => (self.document.media_type.clone(), self.document.subject.as_ref().map(|subject| subject.digest)),
        };
        let healed = match (&stored, rows.intact) {
            (None, _) => false,
            (Some(row), Some(true)) => row.state == ManifestState::Quarantined,
            // Another call put it meanwhile.
            (Some(_), None) => return Err(Stop::Again),
            // Perhaps another call removed it just now, and put it again.
            (Some(_), Some(false)) if attempt.is_first() => return Err(Stop::Again),
            (Some(_), Some(false)) => true,
        };
        let result = ManifestPut {
            digest: self.digest,
            media_type,
            created: stored.is_none(),
            healed,
            tags: self.tags.iter().cloned().zip(changes.iter().copied()).collect(),
            subject,
        };
        if result.changed_nothing() {
            return Ok(Decision::Unchanged(result));
        }
        let at = 2 + self.tags.len() + rows.losers.len();
        let judged = self.judge_tag_limit(stored.as_ref(), &changes).and_then(|()| {
            if stored.is_none() && !repository.settings.sparse_images {
                self.judge_references(&locks, at)?;
            }
            Ok(())
        });
        if let Err(refusal) = judged {
            // The committer judges the quota, exactly; it is read here only where something that comes after it among the
            // checks refuses.
            if stored.is_none() {
                self.judge_image_limit(attempt, scope)?;
            }
            return Err(refusal);
        }
        let mut commit = self.write(attempt, scope, &rows, locks, stored, result)?;
        if healed {
            commit.batch.put(&keys::manifest_bytes(scope, &self.digest), self.bytes);
        }
        Ok(commit.decided())
    }

    /// Reads without locks which rows the put is about.
    fn choose_rows(&self, attempt: &Attempt<'_>, scope: Scope) -> Result<Rows, StorageError> {
        let tag_keys: Vec<_> = self.tags.iter().map(|tag| keys::tag(scope, tag)).collect();
        let link_keys: Vec<_> = self.references.iter().map(|named| named.link_key(scope)).collect();
        let manifest_key = keys::manifest(scope, &self.digest);
        let wanted = tag_keys.iter().chain(&link_keys).chain([&manifest_key]);
        let values = attempt.peek(&wanted.map(KeyBytes::as_slice).collect::<Vec<_>>())?;
        let mut values = values.iter();
        let intact = match values.next_back().flatten() {
            Some(_) => {
                let stored = attempt.peek(&[&keys::manifest_bytes(scope, &self.digest)])?;
                Some(stored.get(0).is_some_and(|stored| stored == self.bytes))
            }
            None => None,
        };
        let tags_before = values
            .by_ref()
            .take(tag_keys.len())
            .map(|row| Ok(TagRow::decode_optional(row)?.map(|row| row.digest)))
            .collect::<Result<Vec<_>, StorageError>>()?;
        let mut losers: Vec<_> =
            tags_before.iter().flatten().filter(|digest| **digest != self.digest).copied().collect();
        losers.sort_unstable();
        losers.dedup();
        let mut keys = vec![(keys::repository(scope), attempt.repository_mode()), (manifest_key, LockMode::Exclusive)];
        keys.extend(tag_keys.into_iter().map(|key| (key, LockMode::Exclusive)));
        keys.extend(losers.iter().map(|digest| (keys::manifest(scope, digest), LockMode::Exclusive)));
        for ((named, link_key), link) in self.references.iter().zip(link_keys).zip(values) {
            match named.entry.role {
                // The guard of a manifest is its own row.
                Role::Manifest => keys.push((link_key, LockMode::Shared)),
                Role::Config | Role::Layer => {
                    let untyped = LinkRow::decode_optional(link)?.is_some_and(|link| link.media_type.is_none());
                    let mode = if untyped { LockMode::Exclusive } else { LockMode::Shared };
                    keys.push((link_key, mode));
                    keys.push((keys::blob(scope.registry, &named.entry.digest), LockMode::Shared));
                }
            }
        }
        Ok(Rows { keys, tags_before, losers, intact })
    }

    fn read_tags(&self, locks: &LockSet) -> Result<Vec<Option<TagRow>>, StorageError> {
        (0..self.tags.len()).map(|index| TagRow::decode_optional(value(locks, 2 + index))).collect()
    }

    fn judge_tags(&self, repository: &RepositoryRow, current: &[Option<TagRow>]) -> Result<Vec<TagChange>, PutError> {
        self.tags
            .iter()
            .zip(current)
            .map(|(tag, row)| {
                let facts = TagFacts { current: row.map(|row| row.digest), requested: self.digest };
                match decide(&repository.settings.tag_mutability, tag, facts) {
                    TagDecision::Create => Ok(TagChange::Created),
                    TagDecision::AlreadyThere => Ok(TagChange::AlreadyThere),
                    TagDecision::Move { from } => Ok(TagChange::Moved { from }),
                    TagDecision::Refuse { current } => Err(PutError::TagImmutable { tag: tag.clone(), current }),
                }
            })
            .collect()
    }

    fn judge_image_limit(&self, attempt: &Attempt<'_>, scope: Scope) -> Result<(), Stop<PutError>> {
        let limit = self.repository.registry.limits.images;
        let usage = attempt.view()?.get(&keys::repository_usage(scope))?;
        let UsageRow([images, ..]) = UsageRow::decode_optional(usage.as_deref())?.unwrap_or_default();
        if images >= limit { Err(Stop::Refused(PutError::ImageLimit { limit })) } else { Ok(()) }
    }

    fn judge_tag_limit(&self, stored: Option<&ManifestRow>, changes: &[TagChange]) -> Result<(), Stop<PutError>> {
        let limits = &self.repository.registry.limits;
        let mut tags = stored.map_or(0, |row| row.tags);
        for (tag, change) in self.tags.iter().zip(changes) {
            if *change != TagChange::AlreadyThere {
                tags += 1;
                if tags > limits.tags_per_image {
                    let (tag, limit) = (tag.clone(), limits.tags_per_image);
                    return Err(Stop::Refused(PutError::TagLimit { tag, limit }));
                }
            }
        }
        Ok(())
    }

    /// Everything that must be there is there, under locks that keep it there.
    fn judge_references(&self, locks: &LockSet, mut at: usize) -> Result<(), Stop<PutError>> {
        let (mut blobs, mut manifests) = (Vec::new(), Vec::new());
        for named in &self.references {
            let digest = named.entry.digest;
            let (present, missing) = match named.entry.role {
                Role::Manifest => {
                    at += 1;
                    let child = ManifestRow::decode_optional(value(locks, at - 1))?;
                    // One that is damaged counts as absent, so that the client pushes it again.
                    (child.is_some_and(|child| child.state == ManifestState::Live), &mut manifests)
                }
                Role::Config | Role::Layer => {
                    at += 2;
                    let blob = BlobRow::decode_optional(value(locks, at - 1))?;
                    let live = blob.is_some_and(|blob| blob.state == BlobState::Live);
                    (live && value(locks, at - 2).is_some(), &mut blobs)
                }
            };
            if named.required && !present && !missing.contains(&digest) {
                missing.push(digest);
            }
        }
        if !blobs.is_empty() {
            return Err(Stop::Refused(PutError::BlobsMissing { digests: blobs }));
        }
        if !manifests.is_empty() {
            return Err(Stop::Refused(PutError::ManifestsMissing { digests: manifests }));
        }
        Ok(())
    }

    fn write(
        &self,
        attempt: &Attempt<'_>,
        scope: Scope,
        rows: &Rows,
        locks: LockSet,
        stored: Option<ManifestRow>,
        result: ManifestPut,
    ) -> Result<Commit<ManifestPut>, StorageError> {
        let (digest, tags) = (self.digest, self.tags.clone());
        let event = if result.healed {
            RepositoryEvent::ManifestHealed { digest, tags }
        } else {
            RepositoryEvent::ManifestPut { digest, tags }
        };
        let mut commit = Commit::new(locks, self.repository.event(event), result);
        let created = stored.is_none();
        let mut row = match stored {
            Some(row) => ManifestRow { state: ManifestState::Live, ..row },
            None => {
                let row = self.new_row(attempt, &commit.locks, rows)?;
                self.write_document(scope, rows, &mut commit)?;
                row
            }
        };

        let losers_at = 2 + self.tags.len();
        let mut losers = BTreeMap::new();
        for (index, digest) in rows.losers.iter().enumerate() {
            let stored = ManifestRow::decode_optional(value(&commit.locks, losers_at + index))?;
            losers
                .insert(*digest, stored.ok_or_else(|| StorageError::corrupt("a tag names a manifest without a row"))?);
        }
        let mut added = 0;
        for (tag, change) in &commit.result.tags {
            let from = match change {
                TagChange::AlreadyThere => continue,
                TagChange::Created => {
                    added += 1;
                    None
                }
                TagChange::Moved { from } => {
                    commit.batch.delete(&keys::tag_by_digest(scope, from, tag));
                    if let Some(loser) = losers.get_mut(from) {
                        loser.tags = loser.tags.saturating_sub(1);
                    }
                    Some(*from)
                }
            };
            row.tags += 1;
            let tag_row = TagRow { digest: self.digest, tagged_wall_ms: attempt.wall_ms() };
            commit.batch.put(&keys::tag(scope, tag), &tag_row.encode());
            commit.batch.put(&keys::tag_by_digest(scope, &self.digest, tag), &[]);
            let history = TagHistoryRow {
                principal: self.call.principal.clone(),
                wall_ms: attempt.wall_ms(),
                from,
                to: Some(self.digest),
            };
            commit.sequenced.push((keys::tag_history_stem(scope, tag), history.encode()));
        }
        for (digest, loser) in &losers {
            commit.batch.put(&keys::manifest(scope, digest), &loser.encode());
        }
        commit.batch.put(&keys::manifest(scope, &self.digest), &row.encode());
        let cap = created.then_some((0, self.repository.registry.limits.images));
        let add = [i64::from(created), added, 0, 0];
        if add != [0; 4] {
            commit.deltas.push(Delta { key: keys::repository_usage(scope), add, cap, anew: false });
        }
        Ok(commit)
    }

    fn new_row(&self, attempt: &Attempt<'_>, locks: &LockSet, rows: &Rows) -> Result<ManifestRow, StorageError> {
        let image_bytes = match self.document.declared_size() {
            Some(bytes) => bytes,
            None => self.largest_child(locks, rows)?,
        };
        Ok(ManifestRow {
            media_type: self.document.media_type.clone(),
            size: self.bytes.len() as u64,
            image_bytes,
            artifact_type: self.document.artifact_type.clone(),
            config_media_type: self.document.config_media_type.clone(),
            subject: self.document.subject.as_ref().map(|subject| subject.digest),
            pushed_wall_ms: attempt.wall_ms(),
            tags: 0,
            state: ManifestState::Live,
        })
    }

    /// An image index weighs as much as its largest child; documents without declared sizes weigh what their blobs do.
    fn largest_child(&self, locks: &LockSet, rows: &Rows) -> Result<u64, StorageError> {
        let mut at = 2 + self.tags.len() + rows.losers.len();
        let (mut largest, mut sum) = (0, 0u64);
        for named in &self.references {
            match named.entry.role {
                Role::Manifest => {
                    let child = ManifestRow::decode_optional(value(locks, at))?;
                    largest = largest.max(child.map_or(0, |child| child.image_bytes));
                    at += 1;
                }
                Role::Config | Role::Layer => {
                    let link = LinkRow::decode_optional(value(locks, at))?;
                    sum = sum.saturating_add(link.map_or(0, |link| link.size));
                    at += 2;
                }
            }
        }
        Ok(largest.max(sum))
    }

    /// The rows that stand beside the manifest's own for as long as it is stored.
    fn write_document(&self, scope: Scope, rows: &Rows, commit: &mut Commit<ManifestPut>) -> Result<(), StorageError> {
        let batch = &mut commit.batch;
        batch.reserve(self.bytes.len() + (self.references.len() + OTHER_ROWS) * ROW_BYTES);
        batch.put(&keys::manifest_bytes(scope, &self.digest), self.bytes);
        let entries = self.references.iter().map(|named| named.entry.clone()).collect();
        batch.put(&keys::manifest_references(scope, &self.digest), &ReferencesRow(entries).encode());
        let mut at = 2 + self.tags.len() + rows.losers.len();
        for Named { entry, .. } in &self.references {
            let key = keys::back_reference(scope, &entry.digest, &self.digest, entry.role.code());
            batch.put(&key, entry.media_type.as_str().as_bytes());
            if entry.role == Role::Manifest {
                at += 1;
                continue;
            }
            let held_exclusive = rows.keys.get(at).is_some_and(|(_, mode)| *mode == LockMode::Exclusive);
            if let Some(mut link) = LinkRow::decode_optional(value(&commit.locks, at))?.filter(|_| held_exclusive)
                && link.media_type.is_none()
            {
                link.media_type = Some(entry.media_type.clone());
                batch.put(&keys::link(scope, &entry.digest), &link.encode());
            }
            at += 2;
        }
        if let Some(subject) = &self.document.subject {
            let referrer = ReferrerRow {
                media_type: self.document.media_type.clone(),
                size: self.bytes.len() as u64,
                artifact_type: self.document.artifact_type.clone(),
                annotations: self.document.annotations.clone(),
            };
            batch.put(&keys::referrer(scope, &subject.digest, &self.digest), &referrer.encode());
        }
        Ok(())
    }
}

impl Named {
    /// The row whose presence says that the repository holds the thing.
    fn link_key(&self, scope: Scope) -> KeyBytes {
        match self.entry.role {
            Role::Manifest => keys::manifest(scope, &self.entry.digest),
            Role::Config | Role::Layer => keys::link(scope, &self.entry.digest),
        }
    }
}

/// Each (digest, role) once, in the document's order.
pub(crate) fn name_once(document: &ManifestDocument) -> Vec<Named> {
    let mut seen = HashSet::with_capacity(document.references.len());
    let fresh =
        document.references.iter().filter(|reference| seen.insert((reference.descriptor.digest, reference.role)));
    fresh
        .map(|reference| Named {
            entry: ReferenceEntry {
                digest: reference.descriptor.digest,
                role: reference.role,
                media_type: reference.descriptor.media_type.clone(),
            },
            required: reference.required,
        })
        .collect()
}
