//! What is true of one case: the rows around it are looked up in one view, and each fault comes with what mends it.
//!
//! A judge reads and never writes. Whoever mends holds the case's guards, asks the judge again, and writes what it says,
//! so that a remedy never rests on what was seen without them.

mod blobs;
mod links;
mod log;
mod manifests;
mod missed;
mod names;
mod settings;
mod strays;
mod tags;
mod uploads;
mod usage;

use std::cell::RefCell;

use crate::engine::Inner;
use crate::format::parsed::Key;
use crate::format::rows::well_formed;
use crate::store::{StorageError, View};

use super::case::{Case, Verdict};
use super::finding::{Fault, RowKey};
use super::report::Level;
use super::row::is_derived;

pub(super) use blobs::{FROM_BYTES, contradiction, footer_fault};
pub(super) use log::low_water;
pub(crate) use manifests::differing_row;
pub(super) use manifests::{Document, expected_entries};
pub(super) use missed::Missed;
pub(super) use settings::Settings;
pub(super) use strays::Stored;

/// Why nothing is done about a row that no other row repeats.
const ONLY_COPY: &str = "no other row says what it said; a backup may";

/// See the module.
pub(super) struct Judge<'a> {
    pub(super) inner: &'a Inner,
    pub(super) level: Level,
    pub(super) settings: &'a RefCell<Settings>,
    pub(super) missed: &'a RefCell<Missed>,
}

impl Judge<'_> {
    /// Everything that is wrong with a case.
    pub(super) fn judge(&self, case: &Case, view: &dyn View) -> Result<Vec<Verdict>, StorageError> {
        match case {
            Case::Raw(key) => {
                let there = view.get(key)?.is_some();
                let fault = Fault::UnknownRow { key: RowKey(key.clone()) };
                Ok(Vec::from_iter(there.then(|| Verdict::leave(fault, "no version of this program writes such a row"))))
            }
            Case::Stray(location) => self.stray(view, *location),
            Case::Row(key) => self.row(key, view),
        }
    }

    fn row(&self, key: &Key, view: &dyn View) -> Result<Vec<Verdict>, StorageError> {
        match key {
            Key::Meta(id) => self.meta(view, *id),
            Key::RegistryName(_) | Key::TagHistory(..) => unreadable(view, key),
            Key::RepositoryName(registry, name) => self.repository_name(view, *registry, name),
            Key::Repository(scope) | Key::DeadRepository(scope) => self.repository(view, *scope),
            Key::Blob(registry, digest) => self.blob(view, *registry, digest),
            Key::InlineBytes(location) | Key::Groups(location, _) | Key::Removal(location) => {
                self.removal(view, key, *location)
            }
            Key::Suspect(registry, digest) => self.suspect(view, *registry, digest),
            Key::Link(scope, digest) | Key::LinkBack(scope, digest) => self.link(view, *scope, digest),
            Key::Upload(id) | Key::UploadPart(id, _) | Key::UploadBytes(id) | Key::UploadSweep(id) => {
                self.upload(view, id)
            }
            Key::UploadExpiry(at_ms, id) => self.upload_expiry(view, *at_ms, id),
            Key::Manifest(scope, digest)
            | Key::ManifestBytes(scope, digest)
            | Key::ManifestReferences(scope, digest)
            | Key::PullTime(scope, digest) => self.manifest(view, *scope, digest),
            Key::BackReference { scope, referenced, manifest, role } => {
                self.back_reference(view, *scope, referenced, manifest, *role)
            }
            Key::Referrer { scope, subject, referrer } => self.referrer(view, *scope, subject, referrer),
            Key::Tag(scope, tag) => self.tag(view, *scope, tag),
            Key::TagByDigest(scope, digest, tag) => self.tag_by_digest(view, *scope, digest, tag),
            Key::Change(sequence) => self.change(view, *sequence),
            Key::Operation(id) => self.operation(view, id),
            Key::Usage(scope) => self.usage(view, *scope),
            Key::RegistryUsage(registry) => self.registry_usage(view, *registry),
        }
    }
}

/// The verdict on a row that does not decode and that has no judge of its own.
fn unreadable(view: &dyn View, key: &Key) -> Result<Vec<Verdict>, StorageError> {
    let raw = key.encode();
    let Some(value) = view.get(&raw)? else { return Ok(Vec::new()) };
    Ok(well_formed(&raw, &value).err().map(|error| unreadable_row(key, &error.to_string())).into_iter().collect())
}

/// A row that does not decode, and about which nothing can be done here.
fn unreadable_row(key: &Key, what: &str) -> Verdict {
    let (raw, what) = (RowKey(key.encode().into()), what.to_owned());
    let fault = if is_derived(key) {
        Fault::UnreadableDerivedRow { key: raw, what }
    } else {
        Fault::UnreadableRow { key: raw, what }
    };
    Verdict::leave(fault, ONLY_COPY)
}

/// A derived row that does not decode, and what it must be.
fn rewritten(key: &Key, what: &str, value: &[u8]) -> Verdict {
    let raw = key.encode();
    let fault = Fault::UnreadableDerivedRow { key: RowKey(raw.to_vec()), what: what.to_owned() };
    Verdict::put(fault, "written anew from the rows that it follows", &raw, value)
}
