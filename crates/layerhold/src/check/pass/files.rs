//! Files: each blob's is there and ends in its footer, and no other file is.

use std::collections::HashSet;
use std::ops::ControlFlow;

use crate::digest::Digest;
use crate::format::keys::{self, Family, RegistryId};
use crate::format::parsed::{self, Key};
use crate::format::values::{BlobRow, BlobState, Placement, Row};
use crate::store::local::FOOTER_LEN;
use crate::store::{Location, StorageError};

use super::super::case::Case;
use super::super::examination::Examination;
use super::super::judge::footer_fault;
use super::super::medium::of_one_file;
use super::super::relation::Relation;
use super::super::report::Stage;
use super::super::walk::Halt;
use super::strays::{LOCATIONS_AT_ONCE, each_owner, locations_after, session_locations};

/// Blobs that are taken out of one view at a time.
const BLOBS_AT_ONCE: usize = 256;

impl Examination<'_> {
    pub(super) fn files(&mut self) -> Result<(), Halt> {
        self.enter(Stage::Files)?;
        let inner = self.inner;
        // A session's file may or may not be there yet, a removed one may or may not be there still. Whatever becomes of
        // them later is looked at again by those in doubt.
        let mut loose = HashSet::new();
        {
            let view = inner.txn.store.view()?;
            locations_after(view.as_ref(), Family::Removal, None, LOCATIONS_AT_ONCE, &mut loose)?;
            session_locations(view.as_ref(), None, &mut loose, &mut HashSet::new())?;
        }
        let mut files = self.relation();
        self.each_blob(|exam, registry, digest, row| {
            let Placement::File(location) = row.placement else { return Ok(()) };
            exam.report.files += 1;
            exam.read_rows(1)?;
            if !loose.contains(&location) {
                files.left(&location.0);
            }
            if row.state == BlobState::Live && !exam.is_whole(&digest, row, location)? {
                return exam.suspect(&Case::Row(Key::Blob(registry, digest)));
            }
            Ok(())
        })?;
        list(inner.blobs.as_ref(), &mut |location| {
            if !loose.contains(&location) {
                files.right(&location.0);
            }
            Ok(())
        })?;
        if files.is_even() { Ok(()) } else { self.doubted_files(&files, &loose) }
    }

    /// Whether a blob's file is as its row says, at a first look.
    fn is_whole(&self, digest: &Digest, row: &BlobRow, location: Location) -> Result<bool, StorageError> {
        let expected = row.stored_size.saturating_add(FOOTER_LEN);
        if of_one_file(self.inner.blobs.len(location))? != Ok(Some(expected)) {
            return Ok(false);
        }
        // It may go between both looks; a second one under the blob's row tells why.
        let Ok(file) = of_one_file(self.inner.blobs.open(location, row.stored_size))? else { return Ok(false) };
        Ok(file.read_footer().is_ok_and(|bytes| footer_fault(&bytes, digest, row).is_none()))
    }

    fn doubted_files(&mut self, files: &Relation, loose: &HashSet<Location>) -> Result<(), Halt> {
        let inner = self.inner;
        let mut doubted = HashSet::new();
        list(inner.blobs.as_ref(), &mut |location| {
            if loose.contains(&location) || !files.doubts(&location.0) {
                return Ok(());
            }
            doubted.insert(location);
            if doubted.len() < LOCATIONS_AT_ONCE { Ok(()) } else { self.judge_files(std::mem::take(&mut doubted)) }
        })?;
        self.judge_files(doubted)
    }

    /// Each of these files was there before this is called, so that whatever has it had it then: a row comes before the
    /// file and goes after it. A file that is still there behind a view in which nothing has it is nobody's.
    fn judge_files(&mut self, mut doubted: HashSet<Location>) -> Result<(), Halt> {
        if doubted.is_empty() {
            return Ok(());
        }
        let inner = self.inner;
        {
            let view = inner.txn.store.view()?;
            let mut shared = HashSet::new();
            let mut used = HashSet::new();
            each_owner(view.as_ref(), &mut |location, owner| {
                if doubted.contains(&location) && !used.insert(location) && !matches!(owner, Key::Removal(_)) {
                    shared.insert(location);
                }
            })?;
            doubted.retain(|location| !used.contains(location));
            self.judge_strays(view.as_ref(), shared)?;
        }
        for location in doubted {
            if of_one_file(inner.blobs.len(location))? != Ok(None) {
                self.suspect(&Case::Stray(location))?;
            }
        }
        Ok(())
    }

    /// Visits every blob, without one view that lasts for all of it.
    pub(super) fn each_blob(
        &mut self,
        mut visit: impl FnMut(&mut Self, RegistryId, Digest, &BlobRow) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let mut range = parsed::family(Family::Blob);
        loop {
            let mut blobs = Vec::new();
            {
                let view = self.inner.txn.store.view()?;
                let mut last = None;
                view.scan(&range, crate::store::Direction::Forward, &mut |key, value| {
                    last = Some(key.to_vec());
                    // What does not decode was found by the walk over rows.
                    if let (Some(Key::Blob(registry, digest)), Ok(row)) = (Key::parse(key), BlobRow::decode(value)) {
                        blobs.push((registry, digest, row));
                    }
                    if blobs.len() < BLOBS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })?;
                match last {
                    Some(last) => range = keys::after(range, &last),
                    None => return Ok(()),
                }
            }
            for (registry, digest, row) in &blobs {
                visit(self, *registry, *digest, row)?;
            }
        }
    }
}

fn list(blobs: &dyn crate::store::BlobStore, visit: &mut dyn FnMut(Location) -> Result<(), Halt>) -> Result<(), Halt> {
    let mut failed = None;
    blobs.list(&mut |location| match visit(location) {
        Ok(()) => ControlFlow::Continue(()),
        Err(halt) => {
            failed = Some(halt);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), Err)
}
