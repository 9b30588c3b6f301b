//! A manifest: its document proves every other row about it.

use crate::digest::Digest;
use crate::format::keys::{self, Family, KeyBytes, Scope};
use crate::format::parsed::Key;
use crate::format::values::{
    LinkRow, ManifestRow, ManifestState, ReferenceEntry, ReferencesRow, ReferrerRow, RepositoryRow, Row,
};
use crate::manifest::document::{DocumentLimits, ManifestDocument, Role};
use crate::manifest::name_once;
use crate::store::{Direction, StorageError, View};

use super::super::case::{Remedy, Verdict};
use super::super::finding::{Fault, RowKey};
use super::super::walk::{Slot, look};
use super::Judge;

const PUSH_AGAIN: &str = "pushing the manifest again heals it";
const FROM_DOCUMENT: &str = "made anew from the document";

/// What a document says, as rows say it.
pub(in super::super) struct Document {
    pub(in super::super) row: ManifestRow,
    /// Whether the document itself says how much its image weighs.
    weighed: bool,
    pub(in super::super) entries: Vec<ReferenceEntry>,
    /// What must be in the repository.
    pub(in super::super) required: Vec<(Digest, Role)>,
    pub(in super::super) referrer: Option<(Digest, ReferrerRow)>,
}

impl Document {
    /// Reads a document whose bytes have the digest. Nothing that could be put once may be refused here, so limits are those
    /// of nobody.
    pub(in super::super) fn read(bytes: &[u8], row: Option<&ManifestRow>) -> Result<Self, String> {
        let limits = DocumentLimits {
            size_bytes_max: u64::MAX,
            references_max: usize::MAX,
            schema1: true,
            ..DocumentLimits::default()
        };
        let declared = row.map(|row| &row.media_type);
        let document = ManifestDocument::parse(bytes, declared, &limits).map_err(|error| error.to_string())?;
        let named = name_once(&document);
        let required = named.iter().filter(|named| named.required);
        let required = required.map(|named| (named.entry.digest, named.entry.role)).collect();
        let size = bytes.len() as u64;
        let referrer = document.subject.as_ref().map(|subject| {
            let referrer = ReferrerRow {
                media_type: document.media_type.clone(),
                size,
                artifact_type: document.artifact_type.clone(),
                annotations: document.annotations.clone(),
            };
            (subject.digest, referrer)
        });
        let weight = document.declared_size();
        Ok(Self {
            weighed: weight.is_some(),
            row: ManifestRow {
                image_bytes: weight.or(row.map(|row| row.image_bytes)).unwrap_or(0),
                media_type: document.media_type,
                size,
                artifact_type: document.artifact_type,
                config_media_type: document.config_media_type,
                subject: document.subject.map(|subject| subject.digest),
                pushed_wall_ms: row.map_or(0, |row| row.pushed_wall_ms),
                tags: row.map_or(0, |row| row.tags),
                // Whose bytes have the digest.
                state: ManifestState::Live,
            },
            entries: named.into_iter().map(|named| named.entry).collect(),
            required,
            referrer,
        })
    }

    /// What a manifest's row says that the document does not.
    pub(in super::super) fn difference(&self, row: &ManifestRow) -> Option<&'static str> {
        let differences = [
            (row.media_type != self.row.media_type, "media type"),
            (row.size != self.row.size, "size"),
            (self.weighed && row.image_bytes != self.row.image_bytes, "image bytes"),
            (row.artifact_type != self.row.artifact_type, "artifact type"),
            (row.config_media_type != self.row.config_media_type, "config media type"),
            (row.subject != self.row.subject, "subject"),
            (row.state != self.row.state, "state"),
        ];
        differences.into_iter().find_map(|(differs, what)| differs.then_some(what))
    }
}

/// What a manifest's rows look like together.
struct Around {
    row: Slot<ManifestRow>,
    bytes: Option<Vec<u8>>,
    references: Slot<ReferencesRow>,
    document: Option<Result<Document, String>>,
}

impl Around {
    fn look(view: &dyn View, scope: Scope, digest: &Digest) -> Result<Self, StorageError> {
        let row = look::<ManifestRow>(view, &keys::manifest(scope, digest))?;
        let bytes = view.get(&keys::manifest_bytes(scope, digest))?;
        let references = look::<ReferencesRow>(view, &keys::manifest_references(scope, digest))?;
        let intact = bytes.as_ref().filter(|bytes| Digest::of(digest.algorithm(), bytes) == *digest);
        let known = match &row {
            Slot::There(row) => Some(row),
            Slot::Absent | Slot::Unreadable(_) => None,
        };
        let document = intact.map(|bytes| Document::read(bytes, known));
        Ok(Self { row, bytes, references, document })
    }

    fn entries(self) -> Option<Vec<ReferenceEntry>> {
        match (self.document, self.references) {
            (Some(Ok(document)), _) => Some(document.entries),
            (_, Slot::There(ReferencesRow(entries))) => Some(entries),
            _ => None,
        }
    }
}

/// What a manifest references: by its document, else by the row that repeats it; `None` where neither can be read.
pub(in super::super) fn expected_entries(
    view: &dyn View,
    scope: Scope,
    digest: &Digest,
) -> Result<Option<Vec<ReferenceEntry>>, StorageError> {
    Ok(Around::look(view, scope, digest)?.entries())
}

/// The first row about a manifest that does not say what its bytes say, in words; nothing where the bytes are not its own.
pub(crate) fn differing_row(
    view: &dyn View,
    scope: Scope,
    digest: &Digest,
) -> Result<Option<&'static str>, StorageError> {
    let around = Around::look(view, scope, digest)?;
    let document = match &around.document {
        None => return Ok(None),
        Some(Err(_)) => return Ok(Some("manifest")),
        Some(Ok(document)) => document,
    };
    if !matches!(&around.row, Slot::There(row) if document.difference(row).is_none()) {
        return Ok(Some("manifest"));
    }
    if wrong_references(scope, *digest, &around).is_some() {
        return Ok(Some("references"));
    }
    if !missing_back_references(view, scope, *digest, &document.entries)?.is_empty() {
        return Ok(Some("back-reference"));
    }
    let referrer = match &document.referrer {
        Some((subject, row)) => missing_referrer(view, scope, *digest, subject, row)?,
        None => None,
    };
    Ok(referrer.map(|_| "referrer"))
}

/// What a manifest could not have been put without; nothing where its document cannot be read.
pub(super) fn required(view: &dyn View, scope: Scope, digest: &Digest) -> Result<Vec<(Digest, Role)>, StorageError> {
    Ok(match Around::look(view, scope, digest)?.document {
        Some(Ok(document)) => document.required,
        _ => Vec::new(),
    })
}

impl Judge<'_> {
    pub(super) fn manifest(
        &self,
        view: &dyn View,
        scope: Scope,
        digest: &Digest,
    ) -> Result<Vec<Verdict>, StorageError> {
        let around = Around::look(view, scope, digest)?;
        let digest = *digest;
        let mut verdicts = Vec::new();
        match (&around.row, &around.document, &around.bytes) {
            (Slot::Absent, _, None) => return rows_left_over(view, scope, digest),
            (Slot::There(row), Some(Ok(document)), _) => {
                if let Some(what) = document.difference(row) {
                    let fault = Fault::ManifestRowDiffers { scope, digest, what };
                    let value = document.row.encode();
                    verdicts.push(Verdict::put(fault, FROM_DOCUMENT, &keys::manifest(scope, &digest), &value));
                }
            }
            (row, None, bytes) if !row.is_unreadable() || bytes.is_some() => {
                let fault = match bytes {
                    None => Fault::ManifestBytesMissing { scope, digest },
                    Some(_) => Fault::ManifestBytesDamaged { scope, digest },
                };
                verdicts.push(match row {
                    Slot::There(row) if row.state == ManifestState::Live => {
                        Verdict { fault, remedy: Remedy::QuarantineManifest { scope, digest } }
                    }
                    _ => Verdict::leave(fault, PUSH_AGAIN),
                });
            }
            (_, Some(Err(what)), _) => {
                let fault = Fault::ManifestNotOne { scope, digest, what: what.clone() };
                verdicts.push(Verdict::leave(fault, "this program cannot have taken it"));
            }
            (Slot::Absent | Slot::Unreadable(_), Some(Ok(document)), _) => {
                verdicts.push(lost_row(view, scope, digest, &around.row, document)?);
            }
            (row, None, _) => {
                if let Slot::Unreadable(what) = row {
                    verdicts.push(super::unreadable_row(&Key::Manifest(scope, digest), what));
                }
            }
        }
        verdicts.extend(wrong_references(scope, digest, &around));
        if let Slot::There(row) = &around.row {
            let counted = count_tags(view, scope, &digest)?;
            if counted != row.tags {
                let fault = Fault::TagCount { scope, digest, stored: row.tags, counted };
                let mut right = row.clone();
                right.tags = counted;
                let key = keys::manifest(scope, &digest);
                verdicts.push(Verdict::put(fault, "counted anew", &key, &right.encode()));
            }
        }
        let is_there = !around.row.is_absent();
        if is_there && let Some(Ok(document)) = &around.document {
            verdicts.extend(self.unmet(view, scope, digest, document)?);
            if let Some((subject, referrer)) = &document.referrer {
                verdicts.extend(missing_referrer(view, scope, digest, subject, referrer)?);
            }
        }
        let pull_time = view.get(&keys::pull_time(scope, &digest))?;
        if pull_time.is_some_and(|value| value.len() != 8) {
            let key = Key::PullTime(scope, digest);
            let fault =
                Fault::UnreadableDerivedRow { key: RowKey(key.encode().into()), what: "pull time row".to_owned() };
            verdicts.push(Verdict::delete(fault, "removed: the next pull writes it", &key.encode()));
        }
        if is_there && let Some(entries) = around.entries() {
            verdicts.extend(missing_back_references(view, scope, digest, &entries)?);
        }
        Ok(verdicts)
    }

    pub(super) fn back_reference(
        &self,
        view: &dyn View,
        scope: Scope,
        referenced: &Digest,
        manifest: &Digest,
        role: u8,
    ) -> Result<Vec<Verdict>, StorageError> {
        let key = keys::back_reference(scope, referenced, manifest, role);
        if view.get(&key)?.is_none() {
            return Ok(Vec::new());
        }
        let around = Around::look(view, scope, manifest)?;
        let gone = around.row.is_absent() && around.bytes.is_none();
        let entries = if gone { Some(Vec::new()) } else { around.entries() };
        let is_there = |entry: &ReferenceEntry| entry.digest == *referenced && entry.role.code() == role;
        Ok(match entries {
            Some(entries) if entries.iter().any(is_there) => missing_back_references(view, scope, *manifest, &entries)?,
            Some(_) => {
                let (manifest, referenced) = (*manifest, *referenced);
                let fault = Fault::BackReferenceExcess { scope, manifest, referenced, role };
                vec![Verdict::delete(fault, "removed: no manifest references it so", &key)]
            }
            None => Vec::new(),
        })
    }

    pub(super) fn referrer(
        &self,
        view: &dyn View,
        scope: Scope,
        subject: &Digest,
        referrer: &Digest,
    ) -> Result<Vec<Verdict>, StorageError> {
        let key = keys::referrer(scope, subject, referrer);
        if view.get(&key)?.is_none() {
            return Ok(Vec::new());
        }
        let around = Around::look(view, scope, referrer)?;
        let gone = around.row.is_absent() && around.bytes.is_none();
        let own = match (&around.document, &around.row) {
            (Some(Ok(document)), _) => document.row.subject,
            (_, Slot::There(row)) => row.subject,
            // Nothing says whether it is right.
            _ if !gone => return Ok(Vec::new()),
            _ => None,
        };
        if gone || own != Some(*subject) {
            let fault = Fault::ReferrerExcess { scope, subject: *subject, referrer: *referrer };
            return Ok(vec![Verdict::delete(fault, "removed: no manifest refers to it", &key)]);
        }
        Ok(match &around.document {
            Some(Ok(Document { referrer: Some((subject, row)), .. })) => {
                missing_referrer(view, scope, *referrer, subject, row)?.into_iter().collect()
            }
            _ => Vec::new(),
        })
    }

    /// What the manifest requires and its repository does not hold.
    fn unmet(
        &self,
        view: &dyn View,
        scope: Scope,
        digest: Digest,
        document: &Document,
    ) -> Result<Vec<Verdict>, StorageError> {
        let repository = look::<RepositoryRow>(view, &keys::repository(scope))?.there();
        let Some(repository) = repository.filter(|row| row.dead_since_ms.is_none() && !row.settings.sparse_images)
        else {
            return Ok(Vec::new());
        };
        let mut verdicts = Vec::new();
        for (referenced, role) in &document.required {
            let there = match role {
                Role::Manifest => !look::<ManifestRow>(view, &keys::manifest(scope, referenced))?.is_absent(),
                Role::Config | Role::Layer => !look::<LinkRow>(view, &keys::link(scope, referenced))?.is_absent(),
            };
            if there {
                continue;
            }
            let (manifest, referenced, role) = (digest, *referenced, role.code());
            verdicts.push(if self.settings.borrow_mut().never_sparse(view, &repository)? {
                let fault = Fault::ReferenceUnmet { scope, manifest, referenced, role };
                Verdict::leave(fault, "push what is missing again")
            } else {
                let fault = Fault::ReferenceOpen { scope, manifest, referenced, role };
                Verdict::leave(fault, "the repository may have taken sparse images when the manifest was put")
            });
        }
        Ok(verdicts)
    }
}

/// A document whose row is gone. It is made anew where something else says that the manifest was not deleted: a tag, or an
/// index that names it.
fn lost_row(
    view: &dyn View,
    scope: Scope,
    digest: Digest,
    row: &Slot<ManifestRow>,
    document: &Document,
) -> Result<Verdict, StorageError> {
    let tags = count_tags(view, scope, &digest)?;
    let fault = match row {
        Slot::Unreadable(what) => {
            Fault::UnreadableRow { key: RowKey(keys::manifest(scope, &digest).into()), what: what.clone() }
        }
        _ => Fault::ManifestRowMissing { scope, digest },
    };
    let named = tags > 0
        || matches!(row, Slot::Unreadable(_))
        || !crate::manifest::referencing(view, scope, &digest, |role| role == Role::Manifest)?.is_empty();
    if !named {
        return Ok(Verdict::leave(fault, "nothing says that the manifest was not deleted; push it again"));
    }
    let mut right = document.row.clone();
    right.tags = tags;
    if !document.weighed {
        right.image_bytes = weight(view, scope, &document.entries)?;
    }
    let how = "made anew from the document; its time of push is lost";
    Ok(Verdict::put(fault, how, &keys::manifest(scope, &digest), &right.encode()))
}

/// As a put weighs an index or a document without declared sizes.
fn weight(view: &dyn View, scope: Scope, entries: &[ReferenceEntry]) -> Result<u64, StorageError> {
    let (mut largest, mut sum) = (0, 0u64);
    for entry in entries {
        match entry.role {
            Role::Manifest => {
                let child = look::<ManifestRow>(view, &keys::manifest(scope, &entry.digest))?.there();
                largest = largest.max(child.map_or(0, |child| child.image_bytes));
            }
            Role::Config | Role::Layer => {
                let link = look::<LinkRow>(view, &keys::link(scope, &entry.digest))?.there();
                sum = sum.saturating_add(link.map_or(0, |link| link.size));
            }
        }
    }
    Ok(largest.max(sum))
}

fn rows_left_over(view: &dyn View, scope: Scope, digest: Digest) -> Result<Vec<Verdict>, StorageError> {
    let families = [
        (Family::ManifestReferences, keys::manifest_references(scope, &digest)),
        (Family::PullTime, keys::pull_time(scope, &digest)),
    ];
    let mut verdicts = Vec::new();
    for (family, key) in families {
        if view.get(&key)?.is_some() {
            let fault = Fault::ManifestRowsLeftOver { scope, digest, family: family as u8 };
            verdicts.push(Verdict::delete(fault, "removed: the manifest is gone", &key));
        }
    }
    Ok(verdicts)
}

fn wrong_references(scope: Scope, digest: Digest, around: &Around) -> Option<Verdict> {
    let fault = Fault::ManifestReferences { scope, digest };
    match (&around.document, &around.references) {
        (Some(Ok(document)), Slot::There(ReferencesRow(found))) if *found == document.entries => None,
        (Some(Ok(document)), _) if !around.row.is_absent() => {
            let value = ReferencesRow(document.entries.clone()).encode();
            Some(Verdict::put(fault, FROM_DOCUMENT, &keys::manifest_references(scope, &digest), &value))
        }
        (Some(Ok(_)), _) | (_, Slot::There(_)) => None,
        (_, Slot::Absent | Slot::Unreadable(_)) => Some(Verdict::leave(fault, PUSH_AGAIN)),
    }
}

fn count_tags(view: &dyn View, scope: Scope, digest: &Digest) -> Result<u32, StorageError> {
    let mut count = 0u32;
    view.scan(&keys::tags_by_digest(scope, digest), Direction::Forward, &mut |_, _| {
        count = count.saturating_add(1);
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(count)
}

fn missing_back_references(
    view: &dyn View,
    scope: Scope,
    manifest: Digest,
    entries: &[ReferenceEntry],
) -> Result<Vec<Verdict>, StorageError> {
    let keys_of: Vec<_> =
        entries.iter().map(|entry| keys::back_reference(scope, &entry.digest, &manifest, entry.role.code())).collect();
    let found = view.get_many(&keys_of.iter().map(KeyBytes::as_slice).collect::<Vec<_>>())?;
    let mut verdicts = Vec::new();
    for ((entry, key), found) in entries.iter().zip(&keys_of).zip(found) {
        let expected = entry.media_type.as_str().as_bytes();
        if found.as_deref() != Some(expected) {
            let (referenced, role) = (entry.digest, entry.role.code());
            let fault = Fault::BackReferenceMissing { scope, manifest, referenced, role };
            verdicts.push(Verdict::put(fault, "made anew from the manifest", key, expected));
        }
    }
    Ok(verdicts)
}

fn missing_referrer(
    view: &dyn View,
    scope: Scope,
    referrer: Digest,
    subject: &Digest,
    row: &ReferrerRow,
) -> Result<Option<Verdict>, StorageError> {
    let key = keys::referrer(scope, subject, &referrer);
    let expected = row.encode();
    let fault = Fault::ReferrerMissing { scope, subject: *subject, referrer };
    Ok((view.get(&key)?.as_deref() != Some(&expected[..])).then(|| Verdict::put(fault, FROM_DOCUMENT, &key, &expected)))
}
