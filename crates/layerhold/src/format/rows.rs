//! Whether a row is one at all: its key of the shape of its family, its value of the layout of it.
//!
//! What rows say of one another is another question; this one needs no other row.

use crate::blob::fingerprint::GroupLen;
use crate::change::ChangeRow;
use crate::descriptor::MediaType;
use crate::manifest::Role;
use crate::name::{RegistryName, RepositoryName};
use crate::store::StorageError;

use super::keys::{self, Family};
use super::scrub::ScrubRow;
use super::values::{
    BlobRow, ClockRow, GroupsRow, IdentityRow, LinkRow, LowWaterRow, ManifestRow, NextIdsRow, OperationRow,
    ReferencesRow, ReferrerRow, RepositoryRow, Row, SuspectRow, TagHistoryRow, TagRow, UploadPartRow, UploadRow,
    UsageRow,
};

/// Reads a row of any family and gives nothing of it but what is wrong.
///
/// # Errors
/// [`StorageError::Corrupt`], which names the row's kind.
pub fn well_formed(key: &[u8], value: &[u8]) -> Result<(), StorageError> {
    let Some(family) = key.first() else { return Err(bad("row without a key")) };
    match *family {
        // The table's own.
        0 => Ok(()),
        f if f == Family::Meta as u8 => meta(key, value),
        f if f == Family::RegistryName as u8 => {
            keys::registry_name_of(key)
                .and_then(|name| RegistryName::parse(name).ok())
                .ok_or_else(|| bad("registry name row"))?;
            sized(value, 4, "registry name row")
        }
        f if f == Family::RepositoryName as u8 => {
            let name = keys::repository_name_of(key).and_then(|name| RepositoryName::parse(name).ok());
            name.ok_or_else(|| bad("repository name row"))?;
            sized(value, 8, "repository name row")
        }
        f if f == Family::Repository as u8 => {
            sized(key, 13, "repository row")?;
            RepositoryRow::decode(value).map(drop)
        }
        f if f == Family::DeadRepository as u8 => {
            sized(key, 13, "dead repository row")?;
            sized(value, 8, "dead repository row")
        }
        f if f == Family::Blob as u8 => {
            keys::blob_of(key).ok_or_else(|| bad("blob row"))?;
            let row = BlobRow::decode(value)?;
            GroupLen::new(row.group_len).map(drop).map_err(|error| StorageError::corrupt(format!("blob row: {error}")))
        }
        f if f == Family::InlineBytes as u8 => sized(key, 17, "inline bytes row"),
        f if f == Family::Groups as u8 => {
            sized(key, 21, "groups row")?;
            let place = keys::location_of(key).zip(keys::first_group_of(key)).ok_or_else(|| bad("groups row"))?;
            GroupsRow::decode(value, place.0, place.1).map(drop)
        }
        f if f == Family::Removal as u8 => {
            sized(key, 17, "removal row")?;
            sized(value, 0, "removal row")
        }
        f if f == Family::Suspect as u8 => {
            keys::blob_of(key).ok_or_else(|| bad("suspect row"))?;
            SuspectRow::decode(value).map(drop)
        }
        f if f == Family::Link as u8 => {
            keys::scoped_digest_of(key).ok_or_else(|| bad("link row"))?;
            LinkRow::decode(value).map(drop)
        }
        f if f == Family::LinkBack as u8 => {
            keys::link_back_of(key).ok_or_else(|| bad("link-back row"))?;
            sized(value, 0, "link-back row")
        }
        f if f == Family::Upload as u8 => {
            sized(key, 17, "upload row")?;
            match UploadRow::decode(value)? {
                row if row.frontier.is_empty() => Err(bad("upload row")),
                _ => Ok(()),
            }
        }
        f if f == Family::UploadPart as u8 => {
            sized(key, 25, "upload part row")?;
            UploadPartRow::decode(value).map(drop)
        }
        f if f == Family::UploadBytes as u8 => sized(key, 17, "upload bytes row"),
        f if f == Family::UploadExpiry as u8 => {
            sized(key, 25, "upload expiry row")?;
            sized(value, 0, "upload expiry row")
        }
        f if f == Family::UploadSweep as u8 => {
            sized(key, 17, "upload sweep row")?;
            sized(value, 0, "upload sweep row")
        }
        f if f == Family::Manifest as u8 => {
            keys::scoped_digest_of(key).ok_or_else(|| bad("manifest row"))?;
            ManifestRow::decode(value).map(drop)
        }
        f if f == Family::ManifestBytes as u8 => {
            keys::scoped_digest_of(key).map(drop).ok_or_else(|| bad("manifest bytes row"))
        }
        f if f == Family::ManifestReferences as u8 => {
            keys::scoped_digest_of(key).ok_or_else(|| bad("references row"))?;
            ReferencesRow::decode(value).map(drop)
        }
        f if f == Family::PullTime as u8 => {
            keys::scoped_digest_of(key).ok_or_else(|| bad("pull time row"))?;
            sized(value, 8, "pull time row")
        }
        f if f == Family::BackReference as u8 => {
            let role = keys::back_reference_of(key).and_then(|(_, role)| Role::from_code(role));
            role.ok_or_else(|| bad("back-reference row"))?;
            let media_type = std::str::from_utf8(value).ok().and_then(|text| MediaType::parse(text).ok());
            media_type.map(drop).ok_or_else(|| bad("back-reference row"))
        }
        f if f == Family::Referrer as u8 => {
            keys::referrer_of(key).ok_or_else(|| bad("referrer row"))?;
            ReferrerRow::decode(value).map(drop)
        }
        f if f == Family::Tag as u8 => {
            keys::tag_of(key).ok_or_else(|| bad("tag row"))?;
            TagRow::decode(value).map(drop)
        }
        f if f == Family::TagByDigest as u8 => {
            keys::tag_by_digest_of(key).ok_or_else(|| bad("tag-by-digest row"))?;
            sized(value, 0, "tag-by-digest row")
        }
        f if f == Family::TagHistory as u8 => {
            keys::tag_of(key).ok_or_else(|| bad("tag history row"))?;
            TagHistoryRow::decode(value).map(drop)
        }
        f if f == Family::Change as u8 => {
            sized(key, 9, "change row")?;
            ChangeRow::decode(value).map(drop)
        }
        f if f == Family::Operation as u8 => {
            sized(key, 17, "operation row")?;
            OperationRow::decode(value).map(drop)
        }
        f if f == Family::Usage as u8 => {
            if !matches!(key.len(), 5 | 13) {
                return Err(bad("usage row"));
            }
            UsageRow::decode(value).map(drop)
        }
        family => Err(StorageError::corrupt(format!("row of an unknown family {family:#04x}"))),
    }
}

fn meta(key: &[u8], value: &[u8]) -> Result<(), StorageError> {
    match key {
        [_, 1] => IdentityRow::decode(value).map(drop),
        [_, 2] => ClockRow::decode(value).map(drop),
        [_, 3] => NextIdsRow::decode(value).map(drop),
        [_, 4] => sized(value, 32, "download key row"),
        [_, 5] => LowWaterRow::decode(value).map(drop),
        [_, 6] => ScrubRow::decode(value).map(drop),
        _ => Err(bad("row of the store itself")),
    }
}

fn bad(row: &str) -> StorageError {
    StorageError::corrupt(format!("{row}: malformed"))
}

fn sized(bytes: &[u8], len: usize, row: &str) -> Result<(), StorageError> {
    if bytes.len() == len { Ok(()) } else { Err(bad(row)) }
}
