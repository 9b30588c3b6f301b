//! Whether a row is one at all: its key one of ours, its value of the layout of its family.
//!
//! What rows say of one another is another question; this one needs no other row.

use crate::blob::fingerprint::GroupLen;
use crate::change::ChangeRow;
use crate::descriptor::MediaType;
use crate::store::StorageError;

use super::parsed::Key;
use super::scrub::ScrubRow;
use super::values::{
    BlobRow, ClockRow, GroupsRow, IdentityRow, LinkRow, LowWaterRow, ManifestRow, NextIdsRow, OperationRow,
    ReferencesRow, ReferrerRow, RepositoryRow, Row, SuspectRow, TagHistoryRow, TagRow, UploadPartRow, UploadRow,
    UsageRow,
};

/// Reads a row of any family and gives its key taken apart.
///
/// # Errors
/// [`StorageError::Corrupt`], which names the row's kind, or the first byte of a key that is none of ours.
pub fn parse(key: &[u8], value: &[u8]) -> Result<Key, StorageError> {
    let parsed = Key::parse(key).ok_or_else(|| match key.first() {
        Some(family) => StorageError::corrupt(format!("row of no known kind family={family:#04x}")),
        None => StorageError::corrupt("row without a key"),
    })?;
    check_value(&parsed, value)?;
    Ok(parsed)
}

/// Reads a row of any family and gives nothing of it but what is wrong.
///
/// # Errors
/// As [`parse`].
pub fn well_formed(key: &[u8], value: &[u8]) -> Result<(), StorageError> {
    parse(key, value).map(drop)
}

fn check_value(key: &Key, value: &[u8]) -> Result<(), StorageError> {
    match key {
        Key::Meta(1) => IdentityRow::decode(value).map(drop),
        Key::Meta(2) => ClockRow::decode(value).map(drop),
        Key::Meta(3) => NextIdsRow::decode(value).map(drop),
        Key::Meta(4) => sized(value, 32, "download key row"),
        Key::Meta(5) => LowWaterRow::decode(value).map(drop),
        Key::Meta(6) => ScrubRow::decode(value).map(drop),
        Key::Meta(_) => Err(bad("row of the store itself")),
        Key::RegistryName(_) => sized(value, 4, "registry name row"),
        Key::RepositoryName(..) => sized(value, 8, "repository name row"),
        Key::Repository(_) => RepositoryRow::decode(value).map(drop),
        Key::DeadRepository(_) => sized(value, 8, "dead repository row"),
        Key::Blob(..) => {
            let row = BlobRow::decode(value)?;
            GroupLen::new(row.group_len).map(drop).map_err(|error| StorageError::corrupt(format!("blob row: {error}")))
        }
        // Bytes of clients, of which any are as good as any.
        Key::InlineBytes(_) | Key::UploadBytes(_) | Key::ManifestBytes(..) => Ok(()),
        Key::Groups(location, first) => GroupsRow::decode(value, *location, *first).map(drop),
        Key::Removal(_) => sized(value, 0, "removal row"),
        Key::Suspect(..) => SuspectRow::decode(value).map(drop),
        Key::Link(..) => LinkRow::decode(value).map(drop),
        Key::LinkBack(..) => sized(value, 0, "link-back row"),
        Key::Upload(_) => match UploadRow::decode(value)? {
            row if row.frontier.is_empty() => Err(bad("upload row")),
            _ => Ok(()),
        },
        Key::UploadPart(..) => UploadPartRow::decode(value).map(drop),
        Key::UploadExpiry(..) => sized(value, 0, "upload expiry row"),
        Key::UploadSweep(_) => sized(value, 0, "upload sweep row"),
        Key::Manifest(..) => ManifestRow::decode(value).map(drop),
        Key::ManifestReferences(..) => ReferencesRow::decode(value).map(drop),
        Key::PullTime(..) => sized(value, 8, "pull time row"),
        Key::BackReference { .. } => {
            let media_type = std::str::from_utf8(value).ok().and_then(|text| MediaType::parse(text).ok());
            media_type.map(drop).ok_or_else(|| bad("back-reference row"))
        }
        Key::Referrer { .. } => ReferrerRow::decode(value).map(drop),
        Key::Tag(..) => TagRow::decode(value).map(drop),
        Key::TagByDigest(..) => sized(value, 0, "tag-by-digest row"),
        Key::TagHistory(..) => TagHistoryRow::decode(value).map(drop),
        Key::Change(_) => ChangeRow::decode(value).map(drop),
        Key::Operation(_) => OperationRow::decode(value).map(drop),
        Key::Usage(_) | Key::RegistryUsage(_) => UsageRow::decode(value).map(drop),
    }
}

fn bad(row: &str) -> StorageError {
    StorageError::corrupt(format!("{row}: malformed"))
}

fn sized(bytes: &[u8], len: usize, row: &str) -> Result<(), StorageError> {
    if bytes.len() == len { Ok(()) } else { Err(bad(row)) }
}
