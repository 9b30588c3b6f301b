//! Row keys: one family byte, then ids, then what tells rows of the family apart.
//!
//! Names map to ids once; every other key begins with an id, so that deleting and making a name again never mixes
//! rows. Texts inside a key end in a zero byte, which no tag contains; digests begin with their algorithm's code, which
//! fixes their length.

use std::borrow::Borrow;
use std::ops::Deref;

use smallvec::SmallVec;

use crate::digest::Digest;
use crate::name::{RegistryName, RepositoryName, Tag};
use crate::store::{KeyRange, Location};

/// The id of a registry; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryId(pub u32);

/// The id of a repository, unique in the store; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryId(pub u64);

/// A repository's rows: its registry's id, then its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// The registry, which is also the dedupe domain of its blobs.
    pub registry: RegistryId,
    /// The repository.
    pub repository: RepositoryId,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry.0, self.repository.0)
    }
}

/// Row families. The byte is the first of the key; 0 belongs to the table below (docs/format.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is documented at the function that builds its keys")]
pub enum Family {
    Meta = 0x01,
    RegistryName = 0x02,
    RepositoryName = 0x03,
    Repository = 0x04,
    DeadRepository = 0x05,
    Blob = 0x10,
    InlineBytes = 0x11,
    Groups = 0x12,
    Removal = 0x13,
    Suspect = 0x14,
    Link = 0x18,
    LinkBack = 0x19,
    Upload = 0x20,
    UploadPart = 0x21,
    UploadBytes = 0x22,
    UploadExpiry = 0x23,
    UploadSweep = 0x24,
    Manifest = 0x30,
    ManifestBytes = 0x31,
    ManifestReferences = 0x32,
    PullTime = 0x33,
    BackReference = 0x34,
    Referrer = 0x35,
    Tag = 0x40,
    TagByDigest = 0x41,
    TagHistory = 0x42,
    Change = 0x50,
    Operation = 0x51,
    Usage = 0x60,
}

/// The key of a row as it is stored; [`Key`](super::parsed::Key) is what it says.
///
/// A put of an image makes a hundred of them, so those of ordinary length are not on the heap.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyBytes(SmallVec<[u8; KEY_INLINE_BYTES]>);

/// Enough for the key of a back-reference between SHA-256 digests, 80 bytes, the longest of those that are many.
const KEY_INLINE_BYTES: usize = 96;

impl KeyBytes {
    /// Its bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn push(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

impl Deref for KeyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for KeyBytes {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl From<KeyBytes> for Vec<u8> {
    fn from(key: KeyBytes) -> Self {
        key.0.into_vec()
    }
}

fn key(family: Family) -> KeyBytes {
    let mut key = KeyBytes::default();
    key.push(family as u8);
    key
}

fn scoped(family: Family, scope: Scope) -> KeyBytes {
    let mut key = key(family);
    key.extend_from_slice(&scope.registry.0.to_be_bytes());
    key.extend_from_slice(&scope.repository.0.to_be_bytes());
    key
}

fn push_digest(key: &mut KeyBytes, digest: &Digest) {
    key.push(digest.algorithm().code());
    key.extend_from_slice(digest.as_bytes());
}

fn push_tag(key: &mut KeyBytes, tag: &Tag) {
    key.extend_from_slice(tag.as_str().as_bytes());
    key.push(0);
}

/// All keys that begin with `prefix`.
#[must_use]
pub fn prefix(prefix: impl Into<Vec<u8>>) -> KeyRange {
    let start = prefix.into();
    let mut end = start.clone();
    // The family byte is never 0xff, so there is always a byte to raise.
    while end.pop_if(|last| *last == 0xff).is_some() {}
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    KeyRange { start, end }
}

/// The part of `range` behind `key`.
#[must_use]
pub fn after(mut range: KeyRange, key: &[u8]) -> KeyRange {
    let mut start = key.to_vec();
    start.push(0);
    if start > range.start {
        range.start = start;
    }
    range
}

/// Whether a row is locked under its own key whenever it is written. Rows of the other families follow a row that is
/// (docs/format.md, "Guard rows"), or are locked only at times: operation rows where a caller chose their key, removal rows
/// by whoever carries them out.
#[must_use]
pub fn is_guard(key: &[u8]) -> bool {
    const SINGLE: [u8; 3] = [meta::NEXT_IDS, meta::LOW_WATER, meta::SCRUB];
    const GUARDS: [u8; 8] = [
        Family::RegistryName as u8,
        Family::RepositoryName as u8,
        Family::Repository as u8,
        Family::Blob as u8,
        Family::Link as u8,
        Family::Upload as u8,
        Family::Manifest as u8,
        Family::Tag as u8,
    ];
    match key {
        [family, id] if *family == Family::Meta as u8 => SINGLE.contains(id),
        [family, ..] => GUARDS.contains(family),
        [] => false,
    }
}

/// Rows of which the store has one: identity, clock, next ids, download key.
pub mod meta {
    use super::{Family, KeyBytes, key};

    pub(super) const NEXT_IDS: u8 = 3;
    pub(super) const LOW_WATER: u8 = 5;
    pub(super) const SCRUB: u8 = 6;

    pub(crate) fn single(id: u8) -> KeyBytes {
        let mut key = key(Family::Meta);
        key.push(id);
        key
    }

    /// Store id, format version, time of creation.
    #[must_use]
    pub fn identity() -> KeyBytes {
        single(1)
    }

    /// Engine time and wall time of the last synced group.
    #[must_use]
    pub fn clock() -> KeyBytes {
        single(2)
    }

    /// The next registry id and the next repository id.
    #[must_use]
    pub fn next_ids() -> KeyBytes {
        single(NEXT_IDS)
    }

    /// The key that signs download tokens.
    #[must_use]
    pub fn download_key() -> KeyBytes {
        single(4)
    }

    /// The lowest change that is kept, and the lowest whose operation id is.
    #[must_use]
    pub fn low_water() -> KeyBytes {
        single(LOW_WATER)
    }

    /// How far the scrub came.
    #[must_use]
    pub fn scrub() -> KeyBytes {
        single(SCRUB)
    }
}

/// Registry name -> registry id.
#[must_use]
pub fn registry_name(name: &RegistryName) -> KeyBytes {
    let mut key = key(Family::RegistryName);
    key.extend_from_slice(name.as_str().as_bytes());
    key
}

/// Every registry name.
#[must_use]
pub fn registry_names() -> KeyRange {
    prefix(key(Family::RegistryName))
}

/// The name in a registry-name key.
#[must_use]
pub fn registry_name_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(1..)?).ok()
}

/// (registry, repository name) -> repository id.
#[must_use]
pub fn repository_name(registry: RegistryId, name: &RepositoryName) -> KeyBytes {
    let mut key = key(Family::RepositoryName);
    key.extend_from_slice(&registry.0.to_be_bytes());
    key.extend_from_slice(name.as_str().as_bytes());
    key
}

/// Every repository name of a registry, in byte order.
#[must_use]
pub fn repository_names(registry: RegistryId) -> KeyRange {
    let mut key = key(Family::RepositoryName);
    key.extend_from_slice(&registry.0.to_be_bytes());
    prefix(key)
}

/// The repository's own row: settings, and whether it is dead.
#[must_use]
pub fn repository(scope: Scope) -> KeyBytes {
    scoped(Family::Repository, scope)
}

/// A repository whose rows wait to be removed.
#[must_use]
pub fn dead_repository(scope: Scope) -> KeyBytes {
    scoped(Family::DeadRepository, scope)
}

/// (registry, digest) -> blob row.
#[must_use]
pub fn blob(registry: RegistryId, digest: &Digest) -> KeyBytes {
    of_registry(Family::Blob, registry, digest)
}

fn of_registry(family: Family, registry: RegistryId, digest: &Digest) -> KeyBytes {
    let mut key = key(family);
    key.extend_from_slice(&registry.0.to_be_bytes());
    push_digest(&mut key, digest);
    key
}

/// Registry and digest in a blob key or a suspect key.
#[must_use]
pub fn blob_of(key: &[u8]) -> Option<(RegistryId, Digest)> {
    let registry = u32::from_be_bytes(key.get(1..5)?.try_into().ok()?);
    let (digest, end) = digest_at(key, 5)?;
    (end == key.len()).then_some((RegistryId(registry), digest))
}

/// A blob of which a read failed, and which a scrub looks at before any other.
#[must_use]
pub fn suspect(registry: RegistryId, digest: &Digest) -> KeyBytes {
    of_registry(Family::Suspect, registry, digest)
}

/// Every blob of which a read failed.
#[must_use]
pub fn suspects() -> KeyRange {
    prefix(key(Family::Suspect))
}

fn located(family: Family, location: Location) -> KeyBytes {
    let mut key = key(family);
    key.extend_from_slice(&location.0);
    key
}

/// The bytes of a small blob.
#[must_use]
pub fn inline_bytes(location: Location) -> KeyBytes {
    located(Family::InlineBytes, location)
}

/// Chaining values of a file's groups, from `first_group` on.
#[must_use]
pub fn groups(location: Location, first_group: u32) -> KeyBytes {
    let mut key = located(Family::Groups, location);
    key.extend_from_slice(&first_group.to_be_bytes());
    key
}

/// Every row of a file's chaining values.
#[must_use]
pub fn all_groups(location: Location) -> KeyRange {
    prefix(located(Family::Groups, location))
}

/// The first group that a chaining-value row speaks of.
#[must_use]
pub fn first_group_of(key: &[u8]) -> Option<u32> {
    key.get(17..21)?.try_into().ok().map(u32::from_be_bytes)
}

/// A location whose file and chaining values are to be removed.
#[must_use]
pub fn removal(location: Location) -> KeyBytes {
    located(Family::Removal, location)
}

/// Every location that is to be removed.
#[must_use]
pub fn removals() -> KeyRange {
    prefix(key(Family::Removal))
}

/// The location in a removal key.
#[must_use]
pub fn location_of(key: &[u8]) -> Option<Location> {
    key.get(1..17)?.try_into().ok().map(Location)
}

/// (repository, digest): the right to read a blob through a repository.
#[must_use]
pub fn link(scope: Scope, digest: &Digest) -> KeyBytes {
    let mut key = scoped(Family::Link, scope);
    push_digest(&mut key, digest);
    key
}

/// (registry, digest, repository): the way back from a blob to those who may read it.
#[must_use]
pub fn link_back(scope: Scope, digest: &Digest) -> KeyBytes {
    let mut key = of_registry(Family::LinkBack, scope.registry, digest);
    key.extend_from_slice(&scope.repository.0.to_be_bytes());
    key
}

/// Every repository of a registry that links a blob.
#[must_use]
pub fn link_backs(registry: RegistryId, digest: &Digest) -> KeyRange {
    prefix(of_registry(Family::LinkBack, registry, digest))
}

fn uploading(family: Family, id: &[u8; 16]) -> KeyBytes {
    let mut key = key(family);
    key.extend_from_slice(id);
    key
}

/// An upload session.
#[must_use]
pub fn upload(id: &[u8; 16]) -> KeyBytes {
    uploading(Family::Upload, id)
}

/// Every upload session.
#[must_use]
pub fn uploads() -> KeyRange {
    prefix(key(Family::Upload))
}

/// A part of an upload session, by the offset of its first byte.
#[must_use]
pub fn upload_part(id: &[u8; 16], first_byte: u64) -> KeyBytes {
    let mut key = uploading(Family::UploadPart, id);
    key.extend_from_slice(&first_byte.to_be_bytes());
    key
}

/// Every part of an upload session.
#[must_use]
pub fn upload_parts(id: &[u8; 16]) -> KeyRange {
    prefix(uploading(Family::UploadPart, id))
}

/// The bytes of a session that is still small.
#[must_use]
pub fn upload_bytes(id: &[u8; 16]) -> KeyBytes {
    uploading(Family::UploadBytes, id)
}

/// A session in the order in which sessions expire.
#[must_use]
pub fn upload_expiry(expires_ms: u64, id: &[u8; 16]) -> KeyBytes {
    let mut key = key(Family::UploadExpiry);
    key.extend_from_slice(&expires_ms.to_be_bytes());
    key.extend_from_slice(id);
    key
}

/// Every session that expires at `until_ms` or before.
#[must_use]
pub fn upload_expiries(until_ms: u64) -> KeyRange {
    let mut end = key(Family::UploadExpiry);
    end.extend_from_slice(&until_ms.saturating_add(1).to_be_bytes());
    KeyRange { start: key(Family::UploadExpiry).into(), end: end.into() }
}

/// Time and session id in an expiry key.
#[must_use]
pub fn upload_expiry_of(key: &[u8]) -> Option<(u64, [u8; 16])> {
    let at = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
    Some((at, key.get(9..25)?.try_into().ok()?))
}

/// An ended session whose part rows wait to be removed.
#[must_use]
pub fn upload_sweep(id: &[u8; 16]) -> KeyBytes {
    uploading(Family::UploadSweep, id)
}

/// Every ended session whose part rows wait to be removed.
#[must_use]
pub fn upload_sweeps() -> KeyRange {
    prefix(key(Family::UploadSweep))
}

/// The session id in a key that ends in one.
#[must_use]
pub fn upload_id_of(key: &[u8]) -> Option<[u8; 16]> {
    key.get(1..17)?.try_into().ok()
}

fn by_digest(family: Family, scope: Scope, digest: &Digest) -> KeyBytes {
    let mut key = scoped(family, scope);
    push_digest(&mut key, digest);
    key
}

/// A manifest's row: everything about it but its bytes.
#[must_use]
pub fn manifest(scope: Scope, digest: &Digest) -> KeyBytes {
    by_digest(Family::Manifest, scope, digest)
}

/// Every manifest of a repository, in digest order.
#[must_use]
pub fn manifests(scope: Scope) -> KeyRange {
    prefix(scoped(Family::Manifest, scope))
}

/// Registry and repository in a key that begins with them.
#[must_use]
pub fn scope_of(key: &[u8]) -> Option<Scope> {
    let registry = RegistryId(u32::from_be_bytes(key.get(1..5)?.try_into().ok()?));
    let repository = RepositoryId(u64::from_be_bytes(key.get(5..13)?.try_into().ok()?));
    Some(Scope { registry, repository })
}

/// The digest at the end of a scoped key (manifests, links, referrers' own digest is elsewhere).
#[must_use]
pub fn scoped_digest_of(key: &[u8]) -> Option<Digest> {
    digest_at(key, 13).map(|(digest, _)| digest)
}

fn digest_at(key: &[u8], at: usize) -> Option<(Digest, usize)> {
    let algorithm = crate::digest::Algorithm::from_code(*key.get(at)?)?;
    let end = at + 1 + algorithm.digest_len();
    Digest::from_bytes(algorithm, key.get(at + 1..end)?).map(|digest| (digest, end))
}

/// A manifest's exact bytes.
#[must_use]
pub fn manifest_bytes(scope: Scope, digest: &Digest) -> KeyBytes {
    by_digest(Family::ManifestBytes, scope, digest)
}

/// What a manifest references.
#[must_use]
pub fn manifest_references(scope: Scope, digest: &Digest) -> KeyBytes {
    by_digest(Family::ManifestReferences, scope, digest)
}

/// When a manifest was last pulled.
#[must_use]
pub fn pull_time(scope: Scope, digest: &Digest) -> KeyBytes {
    by_digest(Family::PullTime, scope, digest)
}

/// (registry, referenced digest, repository, manifest, role): who references a blob or a manifest.
#[must_use]
pub fn back_reference(scope: Scope, referenced: &Digest, manifest: &Digest, role: u8) -> KeyBytes {
    let mut key = back_reference_prefix(scope, referenced);
    push_digest(&mut key, manifest);
    key.push(role);
    key
}

/// Every reference to a digest from one repository.
#[must_use]
pub fn back_references(scope: Scope, referenced: &Digest) -> KeyRange {
    prefix(back_reference_prefix(scope, referenced))
}

fn back_reference_prefix(scope: Scope, referenced: &Digest) -> KeyBytes {
    let mut key = of_registry(Family::BackReference, scope.registry, referenced);
    key.extend_from_slice(&scope.repository.0.to_be_bytes());
    key
}

/// (repository, subject, referrer).
#[must_use]
pub fn referrer(scope: Scope, subject: &Digest, referrer: &Digest) -> KeyBytes {
    let mut key = by_digest(Family::Referrer, scope, subject);
    push_digest(&mut key, referrer);
    key
}

/// Every referrer of a subject, in digest order.
#[must_use]
pub fn referrers(scope: Scope, subject: &Digest) -> KeyRange {
    prefix(by_digest(Family::Referrer, scope, subject))
}

/// A tag.
#[must_use]
pub fn tag(scope: Scope, tag: &Tag) -> KeyBytes {
    let mut key = scoped(Family::Tag, scope);
    push_tag(&mut key, tag);
    key
}

/// Every tag of a repository, in byte order.
#[must_use]
pub fn tags(scope: Scope) -> KeyRange {
    prefix(scoped(Family::Tag, scope))
}

/// The tags of a repository that sort after `text`, which need not be one.
#[must_use]
pub fn tags_after(scope: Scope, text: &str) -> KeyRange {
    let mut key = scoped(Family::Tag, scope);
    key.extend_from_slice(text.as_bytes());
    // A tag's key ends in a zero byte, so this is past the tag itself and before every longer one.
    key.push(0);
    after(tags(scope), &key)
}

/// (repository, digest, tag): the way back from a manifest to its tags.
#[must_use]
pub fn tag_by_digest(scope: Scope, digest: &Digest, tag: &Tag) -> KeyBytes {
    let mut key = by_digest(Family::TagByDigest, scope, digest);
    push_tag(&mut key, tag);
    key
}

/// Every tag of a manifest, in byte order.
#[must_use]
pub fn tags_by_digest(scope: Scope, digest: &Digest) -> KeyRange {
    prefix(by_digest(Family::TagByDigest, scope, digest))
}

/// (repository, tag, sequence): one move of a tag.
#[must_use]
pub fn tag_history(scope: Scope, tag: &Tag, sequence: u64) -> KeyBytes {
    let mut key = tag_history_stem(scope, tag);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// A history key without its sequence, which the committer gives.
#[must_use]
pub fn tag_history_stem(scope: Scope, tag: &Tag) -> KeyBytes {
    let mut key = scoped(Family::TagHistory, scope);
    push_tag(&mut key, tag);
    key
}

/// Every move of a tag, oldest first.
#[must_use]
pub fn tag_histories(scope: Scope, tag: &Tag) -> KeyRange {
    prefix(tag_history_stem(scope, tag))
}

/// The sequence at the end of a key.
#[must_use]
pub fn sequence_of(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// A committed mutation.
#[must_use]
pub fn change(sequence: u64) -> KeyBytes {
    let mut key = key(Family::Change);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// The changes from `first` on.
#[must_use]
pub fn changes(first: u64) -> KeyRange {
    KeyRange { start: change(first).into(), end: vec![Family::Change as u8 + 1] }
}

/// The result of an operation, by its id.
#[must_use]
pub fn operation(id: &[u8; 16]) -> KeyBytes {
    uploading(Family::Operation, id)
}

/// Counters of one repository.
#[must_use]
pub fn repository_usage(scope: Scope) -> KeyBytes {
    scoped(Family::Usage, scope)
}

/// Counters of a registry: how many repositories, and its blobs' physical bytes.
#[must_use]
pub fn registry_usage(registry: RegistryId) -> KeyBytes {
    let mut key = key(Family::Usage);
    key.extend_from_slice(&registry.0.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope = Scope { registry: RegistryId(7), repository: RepositoryId(9) };

    #[test]
    fn keys_give_back_what_they_were_made_of() {
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        let v1 = Tag::parse("v1").unwrap();
        assert_eq!(scoped_digest_of(&manifest(SCOPE, &a)), Some(a));
        assert_eq!(sequence_of(&tag_history(SCOPE, &v1, 12)), Some(12));
        assert_eq!(first_group_of(&groups(Location([3; 16]), 77)), Some(77));
        assert_eq!(location_of(&removal(Location([3; 16]))), Some(Location([3; 16])));
        assert_eq!(upload_expiry_of(&upload_expiry(5, &[1; 16])), Some((5, [1; 16])));
        assert_eq!(blob_of(&blob(SCOPE.registry, &a)), Some((SCOPE.registry, a)));
        assert_eq!(blob_of(&suspect(SCOPE.registry, &b)), Some((SCOPE.registry, b)));
        assert_eq!(scope_of(&manifest(SCOPE, &a)), Some(SCOPE));
    }

    #[test]
    fn rows_that_are_written_under_their_own_lock_are_told_from_those_that_follow() {
        let digest = Digest::sha256(b"a");
        let location = Location([3; 16]);
        let guards = [
            meta::next_ids(),
            meta::low_water(),
            meta::scrub(),
            repository(SCOPE),
            blob(SCOPE.registry, &digest),
            link(SCOPE, &digest),
            upload(&[1; 16]),
            manifest(SCOPE, &digest),
            tag(SCOPE, &Tag::parse("v1").unwrap()),
        ];
        assert!(guards.iter().all(|key| is_guard(key)));
        let followers = [
            meta::clock(),
            meta::identity(),
            removal(location),
            inline_bytes(location),
            upload_expiry(5, &[1; 16]),
            operation(&[1; 16]),
            change(1),
            repository_usage(SCOPE),
        ];
        assert!(!followers.iter().any(|key| is_guard(key)));
    }

    #[test]
    fn a_prefix_holds_its_keys_and_no_neighbour() {
        let v1 = Tag::parse("v1").unwrap();
        let v10 = Tag::parse("v10").unwrap();
        let inside = |range: &KeyRange, key: &[u8]| range.start.as_slice() <= key && key < range.end.as_slice();
        assert!(inside(&tags(SCOPE), &tag(SCOPE, &v1)));
        let neighbour = Scope { repository: RepositoryId(10), ..SCOPE };
        assert!(!inside(&tags(SCOPE), &tag(neighbour, &v1)));
        assert!(!inside(&tag_histories(SCOPE, &v1), &tag_history(SCOPE, &v10, 1)));
        assert!(!inside(&tags_after(SCOPE, "v1"), &tag(SCOPE, &v1)));
        assert!(inside(&tags_after(SCOPE, "v1"), &tag(SCOPE, &v10)));
        assert!(inside(&tags_after(SCOPE, "v0"), &tag(SCOPE, &v1)));
        assert_eq!(prefix(vec![1, 0xff, 0xff]).end, vec![2]);
    }
}
