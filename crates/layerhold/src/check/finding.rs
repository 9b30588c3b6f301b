//! What a check can find: every kind of fault with its name, its facts and how bad it is.

use std::fmt;

use crate::call::OperationId;
use crate::digest::Digest;
use crate::format::keys::Scope;
use crate::name::{RegistryName, RepositoryName, Tag};
use crate::store::Location;
use crate::upload::UploadId;

/// How bad a finding is, from the least to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// As it should be, and worth knowing: it goes by itself, or an operator asked for it.
    Allowed,
    /// Something too many that takes room and harms nobody.
    Leftover,
    /// A row or a file does not say what is true; what clients stored is still there.
    Wrong,
    /// Something that was stored is gone or damaged.
    Lost,
}

impl Severity {
    /// The word for it in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Leftover => "leftover",
            Self::Wrong => "wrong",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A row's key, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowKey(pub Vec<u8>);

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The four counters of a usage row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Counters(pub [u64; 4]);

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([a, b, c, d]) = self;
        write!(f, "{a},{b},{c},{d}")
    }
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub fault: Fault,
    /// Whom it concerns.
    pub touched: Touched,
}

/// What a finding concerns, as far as rows tell: some of it where there is much.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    /// Repositories, at most [`TOUCHED_MAX`].
    pub repositories: Vec<TouchedRepository>,
    /// Whether there are more.
    pub more: bool,
}

/// A repository that a finding concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TouchedRepository {
    /// Its registry's name, where that is known.
    pub registry: Option<RegistryName>,
    /// Its name, where it has one.
    pub name: Option<RepositoryName>,
    /// Its ids.
    pub scope: Scope,
    /// Manifests in it, at most [`TOUCHED_MAX`].
    pub manifests: Vec<Digest>,
    /// Tags in it, at most [`TOUCHED_MAX`].
    pub tags: Vec<Tag>,
}

/// So many repositories, and so many manifests and tags of each, are named by a finding.
pub const TOUCHED_MAX: usize = 10;

macro_rules! faults {
    ($(
        $(#[doc = $doc:literal])+
        $severity:ident $variant:ident $name:literal { $($field:ident: $type:ty),* $(,)? }
    )+) => {
        /// What is wrong: one variant for each kind, with what it is about. The names, severities and remedies of all kinds
        /// are a table in docs/errors.md.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "fields are named for what they are")]
        pub enum Fault {
            $($(#[doc = $doc])+ $variant { $($field: $type),* },)+
        }

        impl Fault {
            /// The names of all kinds, in the order of the variants.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The kind's name: lower case, words joined by hyphens; stays the same for ever.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $name),+ }
            }

            /// How bad it is.
            #[must_use]
            pub fn severity(&self) -> Severity {
                match self { $(Self::$variant { .. } => Severity::$severity),+ }
            }

            /// What it is about: name and value of each fact.
            #[must_use]
            pub fn facts(&self) -> Vec<(&'static str, String)> {
                match self {
                    $(Self::$variant { $($field),* } => vec![$((stringify!($field), $field.to_string())),*],)+
                }
            }
        }
    };
}

faults! {
    // Rows as such.
    /// A row of a key that no version writes.
    Wrong UnknownRow "unknown-row" { key: RowKey }
    /// A row that does not decode.
    Lost UnreadableRow "unreadable-row" { key: RowKey, what: String }
    /// A row that can be made again from others does not decode.
    Wrong UnreadableDerivedRow "unreadable-derived-row" { key: RowKey, what: String }
    /// A row that every store has is not there.
    Lost MetaRowMissing "meta-row-missing" { row: &'static str }

    // Names and ids.
    /// Ids are in use that would be given once more.
    Wrong IdsBehind "ids-behind" { registry: u32, repository: u64 }
    /// Two names lead to one registry.
    Wrong RegistryShared "registry-shared" { registry: u32 }
    /// Repositories of a registry that has no name.
    Lost RegistryUnnamed "registry-unnamed" { registry: u32 }
    /// A name leads to a repository that is not there.
    Lost NameWithoutRepository "name-without-repository" { registry: u32, repository: RepositoryName, id: u64 }
    /// A name leads to a repository that is dead, or has another name.
    Wrong NameExcess "name-excess" { registry: u32, repository: RepositoryName, id: u64 }
    /// A repository that is not dead has no name.
    Wrong RepositoryWithoutName "repository-without-name" { scope: Scope, repository: RepositoryName }
    /// A dead repository is not in the list of the dead.
    Wrong DeadRepositoryUnlisted "dead-repository-unlisted" { scope: Scope }
    /// A repository is in the list of the dead and is not dead.
    Wrong DeadRepositoryExcess "dead-repository-excess" { scope: Scope }
    /// The rows of a deleted repository, which wait to be removed.
    Allowed DeadRepository "dead-repository" { scope: Scope }
    /// Rows of a repository that has no row of its own.
    Lost RowsWithoutRepository "rows-without-repository" { scope: Scope, family: u8 }

    // Blobs and links.
    /// A link to a blob that is not there.
    Lost DanglingLink "dangling-link" { scope: Scope, digest: Digest }
    /// A link and its blob have different sizes.
    Wrong LinkSize "link-size" { scope: Scope, digest: Digest, link: u64, blob: u64 }
    /// A link without the way back.
    Wrong LinkBackMissing "link-back-missing" { scope: Scope, digest: Digest }
    /// A way back to a link that is not there.
    Wrong LinkBackExcess "link-back-excess" { scope: Scope, digest: Digest }
    /// A link is gone: its way back is still there, and a manifest that needs it or the counters say that it was there.
    Lost LinkMissing "link-missing" { scope: Scope, digest: Digest }
    /// A blob's row contradicts itself, or its bytes, which have the digest.
    Lost BlobRowDamaged "blob-row-damaged" { registry: u32, digest: Digest, what: String }
    /// The bytes of a blob are known to be damaged; pushing them again heals it.
    Lost BlobQuarantined "blob-quarantined" { registry: u32, digest: Digest }
    /// A note that a blob could not be read, and no such blob.
    Leftover SuspectLeftOver "suspect-left-over" { registry: u32, digest: Digest }
    /// The bytes of a small blob are gone.
    Lost InlineBytesMissing "inline-bytes-missing" { registry: u32, digest: Digest, location: Location }
    /// The bytes of a small blob are not those that were pushed.
    Lost InlineBytesDamaged "inline-bytes-damaged" { registry: u32, digest: Digest, location: Location }
    /// Bytes of a small blob that no blob has.
    Leftover InlineBytesLeftOver "inline-bytes-left-over" { location: Location }
    /// The chaining values of a blob are missing or do not lead to its root.
    Wrong GroupsWrong "groups-wrong" { registry: u32, digest: Digest, location: Location, what: String }
    /// Chaining values of a location that nothing has.
    Leftover GroupsLeftOver "groups-left-over" { location: Location }
    /// Two blobs or sessions claim one location.
    Wrong LocationShared "location-shared" { location: Location }
    /// A file waits to be removed.
    Allowed RemovalPending "removal-pending" { location: Location }
    /// A file that is in use waits to be removed.
    Wrong RemovalOfLive "removal-of-live" { location: Location }

    // Files.
    /// The file of a blob is gone.
    Lost FileMissing "file-missing" { registry: u32, digest: Digest, location: Location }
    /// The file of a blob has the wrong length.
    Lost FileSize "file-size" { registry: u32, digest: Digest, location: Location, expected: u64, found: u64 }
    /// The footer of a blob's file is not the blob's.
    Wrong FooterDiffers "footer-differs" { registry: u32, digest: Digest, location: Location, what: String }
    /// The medium does not give the file of a blob.
    Wrong FileUnreadable "file-unreadable" { registry: u32, digest: Digest, location: Location, what: String }
    /// The medium does not give a file of which no blob is known: the staged one of a session, or one that nothing speaks of.
    Wrong OtherFileUnreadable "other-file-unreadable" { location: Location, what: String }
    /// The bytes of a blob are not those that were pushed.
    Lost FileDamaged "file-damaged" { registry: u32, digest: Digest, location: Location, offset: u64 }
    /// A file that nothing speaks of, and that does not end as a blob's does.
    Leftover OrphanFile "orphan-file" { location: Location, size: u64 }
    /// The file of a blob that no row speaks of.
    Leftover UnclaimedFile "unclaimed-file" { location: Location, digest: Digest, size: u64 }
    /// The file of a blob whose row is gone while links to it are there.
    Lost LostBlob "lost-blob" { registry: u32, digest: Digest, location: Location, size: u64 }

    // Upload sessions.
    /// A session that would never expire.
    Wrong UploadWithoutExpiry "upload-without-expiry" { upload: UploadId, expires_ms: u64 }
    /// An expiry of a session that is gone or went on.
    Leftover UploadExpiryExcess "upload-expiry-excess" { upload: UploadId, expires_ms: u64 }
    /// The staged bytes of a small session are gone or of another length.
    Lost UploadBytes "upload-bytes" { upload: UploadId, expected: u64, found: u64 }
    /// The parts of a session are not those that it accepted.
    Lost UploadParts "upload-parts" { upload: UploadId, expected: u32, found: u32 }
    /// What a session goes on from is damaged.
    Lost UploadState "upload-state" { upload: UploadId, what: String }
    /// The chaining values of a session's bytes are not as many as it has, or not those.
    Lost UploadGroups "upload-groups" { upload: UploadId, location: Location, what: String }
    /// The staged file of a session is missing or shorter than what was acknowledged.
    Lost UploadFile "upload-file" { upload: UploadId, location: Location, expected: u64, found: u64 }
    /// Rows of a session that is gone.
    Leftover UploadRowsLeftOver "upload-rows-left-over" { upload: UploadId, family: u8 }

    // Manifests.
    /// A manifest without its document.
    Lost ManifestBytesMissing "manifest-bytes-missing" { scope: Scope, digest: Digest }
    /// A document that is not the one that was pushed.
    Lost ManifestBytesDamaged "manifest-bytes-damaged" { scope: Scope, digest: Digest }
    /// A document that cannot be a manifest.
    Wrong ManifestNotOne "manifest-not-one" { scope: Scope, digest: Digest, what: String }
    /// A document whose manifest row is gone or unreadable.
    Lost ManifestRowMissing "manifest-row-missing" { scope: Scope, digest: Digest }
    /// Rows of a manifest that is gone.
    Leftover ManifestRowsLeftOver "manifest-rows-left-over" { scope: Scope, digest: Digest, family: u8 }
    /// A manifest's row does not say what the document does.
    Wrong ManifestRowDiffers "manifest-row-differs" { scope: Scope, digest: Digest, what: &'static str }
    /// A manifest's references are missing, or not the document's.
    Wrong ManifestReferences "manifest-references" { scope: Scope, digest: Digest }
    /// A manifest's row counts tags that are not there, or not all that are.
    Wrong TagCount "tag-count" { scope: Scope, digest: Digest, stored: u32, counted: u32 }
    /// A reference without the way back.
    Wrong BackReferenceMissing "back-reference-missing" { scope: Scope, manifest: Digest, referenced: Digest, role: u8 }
    /// A way back from a reference that is not there.
    Wrong BackReferenceExcess "back-reference-excess" { scope: Scope, manifest: Digest, referenced: Digest, role: u8 }
    /// A manifest with a subject is not among the subject's referrers, or not as it is.
    Wrong ReferrerMissing "referrer-missing" { scope: Scope, subject: Digest, referrer: Digest }
    /// A referrer that is not there.
    Wrong ReferrerExcess "referrer-excess" { scope: Scope, subject: Digest, referrer: Digest }
    /// What a manifest requires is not in its repository.
    Lost ReferenceUnmet "reference-unmet" { scope: Scope, manifest: Digest, referenced: Digest, role: u8 }
    /// What a manifest requires is not in its repository, which may have taken sparse images once.
    Allowed ReferenceOpen "reference-open" { scope: Scope, manifest: Digest, referenced: Digest, role: u8 }

    // Tags.
    /// A tag that leads to no manifest.
    Lost DanglingTag "dangling-tag" { scope: Scope, tag: Tag, digest: Digest }
    /// A tag without the way back.
    Wrong TagByDigestMissing "tag-by-digest-missing" { scope: Scope, tag: Tag, digest: Digest }
    /// A way back to a tag that is not there, or names another manifest.
    Wrong TagByDigestExcess "tag-by-digest-excess" { scope: Scope, tag: Tag, digest: Digest }
    /// A tag's row is gone: history and the way back say where it was.
    Lost TagMissing "tag-missing" { scope: Scope, tag: Tag, digest: Digest }
    /// The history of a tag does not end where the tag is.
    Wrong TagHistory "tag-history" { scope: Scope, tag: Tag }

    // The change log and the counters.
    /// Changes are gone that should be kept.
    Lost ChangeGap "change-gap" { first: u64, last: u64 }
    /// The change log does not reach the last sequence that was acknowledged.
    Lost ChangesBehind "changes-behind" { last: u64, applied: u64 }
    /// The operation id of a change is forgotten too early: a retry would act twice.
    Wrong OperationMissing "operation-missing" { sequence: u64 }
    /// An operation id without a change.
    Leftover OperationExcess "operation-excess" { operation: OperationId, sequence: u64 }
    /// A repository's counters are not what a count gives: images, tags, blobs, bytes.
    Wrong Usage "usage" { scope: Scope, stored: Counters, counted: Counters }
    /// A registry's counters are not what a count gives: repositories, nothing, blobs, bytes.
    Wrong RegistryUsage "registry-usage" { registry: u32, stored: Counters, counted: Counters }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        self.facts().iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.fault.severity(), self.fault)
    }
}
