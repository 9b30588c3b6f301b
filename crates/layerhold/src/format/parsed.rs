//! Keys taken apart again, for whoever walks over rows that it did not ask for.

use crate::digest::Digest;
use crate::manifest::Role;
use crate::name::{RegistryName, RepositoryName, Tag};
use crate::store::{KeyRange, Location};

use super::codec::Decoder;
use super::keys::{self, Family, KeyBytes, RegistryId, RepositoryId, Scope};

/// What a row's key says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented at the function of `keys` that builds it")]
pub enum Key {
    Meta(u8),
    RegistryName(RegistryName),
    RepositoryName(RegistryId, RepositoryName),
    Repository(Scope),
    DeadRepository(Scope),
    Blob(RegistryId, Digest),
    InlineBytes(Location),
    Groups(Location, u32),
    Removal(Location),
    Suspect(RegistryId, Digest),
    Link(Scope, Digest),
    LinkBack(Scope, Digest),
    Upload([u8; 16]),
    UploadPart([u8; 16], u64),
    UploadBytes([u8; 16]),
    UploadExpiry(u64, [u8; 16]),
    UploadSweep([u8; 16]),
    Manifest(Scope, Digest),
    ManifestBytes(Scope, Digest),
    ManifestReferences(Scope, Digest),
    PullTime(Scope, Digest),
    BackReference { scope: Scope, referenced: Digest, manifest: Digest, role: u8 },
    Referrer { scope: Scope, subject: Digest, referrer: Digest },
    Tag(Scope, Tag),
    TagByDigest(Scope, Digest, Tag),
    TagHistory(Scope, Tag, u64),
    Change(u64),
    Operation([u8; 16]),
    Usage(Scope),
    RegistryUsage(RegistryId),
}

/// Every family, in the order of their rows.
pub const FAMILIES: [Family; 29] = [
    Family::Meta,
    Family::RegistryName,
    Family::RepositoryName,
    Family::Repository,
    Family::DeadRepository,
    Family::Blob,
    Family::InlineBytes,
    Family::Groups,
    Family::Removal,
    Family::Suspect,
    Family::Link,
    Family::LinkBack,
    Family::Upload,
    Family::UploadPart,
    Family::UploadBytes,
    Family::UploadExpiry,
    Family::UploadSweep,
    Family::Manifest,
    Family::ManifestBytes,
    Family::ManifestReferences,
    Family::PullTime,
    Family::BackReference,
    Family::Referrer,
    Family::Tag,
    Family::TagByDigest,
    Family::TagHistory,
    Family::Change,
    Family::Operation,
    Family::Usage,
];

/// Families whose keys begin with both ids of a repository, but for the repository's own.
pub const IN_REPOSITORIES: [Family; 10] = [
    Family::Link,
    Family::Manifest,
    Family::ManifestBytes,
    Family::ManifestReferences,
    Family::PullTime,
    Family::Referrer,
    Family::Tag,
    Family::TagByDigest,
    Family::TagHistory,
    Family::Usage,
];

/// The rows of which a store has one.
const META_IDS: std::ops::RangeInclusive<u8> = 1..=6;

/// Every row of a family.
#[must_use]
pub fn family(family: Family) -> KeyRange {
    keys::prefix(vec![family as u8])
}

/// Every row of a family that belongs to a repository; for families whose keys begin with both ids.
#[must_use]
pub fn in_scope(family: Family, scope: Scope) -> KeyRange {
    let mut key = vec![family as u8];
    key.extend_from_slice(&scope.registry.0.to_be_bytes());
    key.extend_from_slice(&scope.repository.0.to_be_bytes());
    keys::prefix(key)
}

impl Key {
    /// Takes a key apart; `None` for one that no row of ours can have.
    #[must_use]
    pub fn parse(key: &[u8]) -> Option<Self> {
        let (first, rest) = key.split_first()?;
        let family = FAMILIES.into_iter().find(|family| *family as u8 == *first)?;
        let mut rest = Decoder::bare(rest, "key");
        let parsed = Self::parse_rest(family, &mut rest)?;
        rest.end().is_ok().then_some(parsed)
    }

    /// The key's bytes.
    #[must_use]
    pub fn encode(&self) -> KeyBytes {
        match self {
            Self::Meta(id) => keys::meta::single(*id),
            Self::RegistryName(name) => keys::registry_name(name),
            Self::RepositoryName(registry, name) => keys::repository_name(*registry, name),
            Self::Repository(scope) => keys::repository(*scope),
            Self::DeadRepository(scope) => keys::dead_repository(*scope),
            Self::Blob(registry, digest) => keys::blob(*registry, digest),
            Self::InlineBytes(location) => keys::inline_bytes(*location),
            Self::Groups(location, first) => keys::groups(*location, *first),
            Self::Removal(location) => keys::removal(*location),
            Self::Suspect(registry, digest) => keys::suspect(*registry, digest),
            Self::Link(scope, digest) => keys::link(*scope, digest),
            Self::LinkBack(scope, digest) => keys::link_back(*scope, digest),
            Self::Upload(id) => keys::upload(id),
            Self::UploadPart(id, first_byte) => keys::upload_part(id, *first_byte),
            Self::UploadBytes(id) => keys::upload_bytes(id),
            Self::UploadExpiry(at_ms, id) => keys::upload_expiry(*at_ms, id),
            Self::UploadSweep(id) => keys::upload_sweep(id),
            Self::Manifest(scope, digest) => keys::manifest(*scope, digest),
            Self::ManifestBytes(scope, digest) => keys::manifest_bytes(*scope, digest),
            Self::ManifestReferences(scope, digest) => keys::manifest_references(*scope, digest),
            Self::PullTime(scope, digest) => keys::pull_time(*scope, digest),
            Self::BackReference { scope, referenced, manifest, role } => {
                keys::back_reference(*scope, referenced, manifest, *role)
            }
            Self::Referrer { scope, subject, referrer } => keys::referrer(*scope, subject, referrer),
            Self::Tag(scope, tag) => keys::tag(*scope, tag),
            Self::TagByDigest(scope, digest, tag) => keys::tag_by_digest(*scope, digest, tag),
            Self::TagHistory(scope, tag, sequence) => keys::tag_history(*scope, tag, *sequence),
            Self::Change(sequence) => keys::change(*sequence),
            Self::Operation(id) => keys::operation(id),
            Self::Usage(scope) => keys::repository_usage(*scope),
            Self::RegistryUsage(registry) => keys::registry_usage(*registry),
        }
    }

    fn parse_rest(family: Family, d: &mut Decoder<'_>) -> Option<Self> {
        Some(match family {
            Family::Meta => Self::Meta(d.u8().ok().filter(|id| META_IDS.contains(id))?),
            Family::RegistryName => Self::RegistryName(RegistryName::parse(text(d)?).ok()?),
            Family::RepositoryName => {
                let registry = registry(d)?;
                Self::RepositoryName(registry, RepositoryName::parse(text(d)?).ok()?)
            }
            Family::Repository => Self::Repository(scope(d)?),
            Family::DeadRepository => Self::DeadRepository(scope(d)?),
            Family::Blob => Self::Blob(registry(d)?, d.digest().ok()?),
            Family::InlineBytes => Self::InlineBytes(location(d)?),
            Family::Groups => Self::Groups(location(d)?, d.u32().ok()?),
            Family::Removal => Self::Removal(location(d)?),
            Family::Suspect => Self::Suspect(registry(d)?, d.digest().ok()?),
            Family::Link => Self::Link(scope(d)?, d.digest().ok()?),
            Family::LinkBack => {
                let (registry, digest) = (registry(d)?, d.digest().ok()?);
                Self::LinkBack(Scope { registry, repository: repository(d)? }, digest)
            }
            Family::Upload => Self::Upload(d.array().ok()?),
            Family::UploadPart => Self::UploadPart(d.array().ok()?, d.u64().ok()?),
            Family::UploadBytes => Self::UploadBytes(d.array().ok()?),
            Family::UploadExpiry => Self::UploadExpiry(d.u64().ok()?, d.array().ok()?),
            Family::UploadSweep => Self::UploadSweep(d.array().ok()?),
            Family::Manifest => Self::Manifest(scope(d)?, d.digest().ok()?),
            Family::ManifestBytes => Self::ManifestBytes(scope(d)?, d.digest().ok()?),
            Family::ManifestReferences => Self::ManifestReferences(scope(d)?, d.digest().ok()?),
            Family::PullTime => Self::PullTime(scope(d)?, d.digest().ok()?),
            Family::BackReference => {
                let (registry, referenced) = (registry(d)?, d.digest().ok()?);
                let scope = Scope { registry, repository: repository(d)? };
                let manifest = d.digest().ok()?;
                let role = d.u8().ok().filter(|code| Role::from_code(*code).is_some())?;
                Self::BackReference { scope, referenced, manifest, role }
            }
            Family::Referrer => {
                Self::Referrer { scope: scope(d)?, subject: d.digest().ok()?, referrer: d.digest().ok()? }
            }
            Family::Tag => Self::Tag(scope(d)?, tag(d, 0)?),
            Family::TagByDigest => {
                let (scope, digest) = (scope(d)?, d.digest().ok()?);
                Self::TagByDigest(scope, digest, tag(d, 0)?)
            }
            Family::TagHistory => Self::TagHistory(scope(d)?, tag(d, 8)?, d.u64().ok()?),
            Family::Change => Self::Change(d.u64().ok()?),
            Family::Operation => Self::Operation(d.array().ok()?),
            Family::Usage => {
                let registry = registry(d)?;
                match d.rest() {
                    [] => Self::RegistryUsage(registry),
                    _ => Self::Usage(Scope { registry, repository: repository(d)? }),
                }
            }
        })
    }
}

fn registry(d: &mut Decoder<'_>) -> Option<RegistryId> {
    d.u32().ok().map(RegistryId)
}

fn repository(d: &mut Decoder<'_>) -> Option<RepositoryId> {
    d.u64().ok().map(RepositoryId)
}

fn scope(d: &mut Decoder<'_>) -> Option<Scope> {
    Some(Scope { registry: registry(d)?, repository: repository(d)? })
}

fn location(d: &mut Decoder<'_>) -> Option<Location> {
    d.array().ok().map(Location)
}

fn text<'a>(d: &mut Decoder<'a>) -> Option<&'a str> {
    let len = d.rest().len();
    std::str::from_utf8(d.raw(len).ok()?).ok()
}

/// A tag and its zero byte, with so many bytes of the key behind it.
fn tag(d: &mut Decoder<'_>, behind: usize) -> Option<Tag> {
    let len = d.rest().len().checked_sub(behind)?;
    let text = d.raw(len).ok()?.strip_suffix(&[0])?;
    Tag::parse(std::str::from_utf8(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One key of each kind, with what it says.
    fn samples() -> Vec<(KeyBytes, Key)> {
        let scope = Scope { registry: RegistryId(7), repository: RepositoryId(9) };
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        let location = Location([3; 16]);
        let v1 = Tag::parse("v1").unwrap();
        let name = RepositoryName::parse("team/app").unwrap();
        let registry = RegistryName::parse("main").unwrap();
        vec![
            (keys::meta::identity(), Key::Meta(1)),
            (keys::meta::clock(), Key::Meta(2)),
            (keys::registry_name(&registry), Key::RegistryName(registry)),
            (keys::repository_name(RegistryId(7), &name), Key::RepositoryName(RegistryId(7), name)),
            (keys::repository(scope), Key::Repository(scope)),
            (keys::dead_repository(scope), Key::DeadRepository(scope)),
            (keys::blob(RegistryId(7), &a), Key::Blob(RegistryId(7), a)),
            (keys::inline_bytes(location), Key::InlineBytes(location)),
            (keys::groups(location, 5), Key::Groups(location, 5)),
            (keys::removal(location), Key::Removal(location)),
            (keys::suspect(RegistryId(7), &a), Key::Suspect(RegistryId(7), a)),
            (keys::link(scope, &a), Key::Link(scope, a)),
            (keys::link_back(scope, &a), Key::LinkBack(scope, a)),
            (keys::upload(&[1; 16]), Key::Upload([1; 16])),
            (keys::upload_part(&[1; 16], 4), Key::UploadPart([1; 16], 4)),
            (keys::upload_bytes(&[1; 16]), Key::UploadBytes([1; 16])),
            (keys::upload_expiry(4, &[1; 16]), Key::UploadExpiry(4, [1; 16])),
            (keys::upload_sweep(&[1; 16]), Key::UploadSweep([1; 16])),
            (keys::manifest(scope, &a), Key::Manifest(scope, a)),
            (keys::manifest_bytes(scope, &a), Key::ManifestBytes(scope, a)),
            (keys::manifest_references(scope, &a), Key::ManifestReferences(scope, a)),
            (keys::pull_time(scope, &a), Key::PullTime(scope, a)),
            (keys::back_reference(scope, &a, &b, 2), Key::BackReference { scope, referenced: a, manifest: b, role: 2 }),
            (keys::referrer(scope, &a, &b), Key::Referrer { scope, subject: a, referrer: b }),
            (keys::tag(scope, &v1), Key::Tag(scope, v1.clone())),
            (keys::tag_by_digest(scope, &a, &v1), Key::TagByDigest(scope, a, v1.clone())),
            (keys::tag_history(scope, &v1, 12), Key::TagHistory(scope, v1, 12)),
            (keys::change(8), Key::Change(8)),
            (keys::operation(&[2; 16]), Key::Operation([2; 16])),
            (keys::repository_usage(scope), Key::Usage(scope)),
            (keys::registry_usage(RegistryId(7)), Key::RegistryUsage(RegistryId(7))),
        ]
    }

    #[test]
    fn every_key_is_taken_apart_into_what_it_was_made_of_and_a_longer_or_shorter_one_is_none() {
        for (key, expected) in samples() {
            assert_eq!(Key::parse(&key), Some(expected.clone()));
            assert_eq!(expected.encode(), key);
            assert_ne!(Key::parse(&key[..key.len() - 1]), Some(expected.clone()));
            let longer = [key.as_slice(), &[1]].concat();
            assert_ne!(Key::parse(&longer), Some(expected));
        }
        let mut families: Vec<u8> = samples().iter().map(|(key, _)| key[0]).collect();
        families.dedup();
        assert_eq!(families, FAMILIES.map(|family| family as u8), "each family has a sample, in order");
        assert_eq!(Key::parse(b""), None);
        assert_eq!(Key::parse(b"\x09any"), None);
    }

    #[test]
    fn an_id_of_no_row_of_the_store_and_a_role_that_is_none_are_no_keys() {
        assert_eq!(Key::parse(&keys::meta::single(0)), None);
        assert_eq!(Key::parse(&keys::meta::single(6)), Some(Key::Meta(6)));
        assert_eq!(Key::parse(&keys::meta::single(7)), None);
        let scope = Scope { registry: RegistryId(7), repository: RepositoryId(9) };
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        assert_eq!(Key::parse(&keys::back_reference(scope, &a, &b, 9)), None);
    }
}
