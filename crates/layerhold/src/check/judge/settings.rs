//! Which repositories' settings were ever changed, by the change log: only those can have taken sparse images once and not
//! take them now.

use std::collections::HashSet;
use std::ops::ControlFlow;

use crate::change::{ChangeRow, Event, RepositoryEvent, Setting};
use crate::format::keys;
use crate::format::values::{LowWaterRow, RepositoryRow, Row};
use crate::name::RepositoryName;
use crate::store::{Direction, StorageError, View};

/// With more repositories than this nothing is known of any.
const CHANGED_MAX: usize = 100_000;

/// What the change log said so far.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    until: u64,
    changed: HashSet<RepositoryName>,
    unknown: bool,
}

impl Settings {
    /// Whether a repository has certainly never taken sparse images.
    pub(crate) fn never_sparse(&mut self, view: &dyn View, row: &RepositoryRow) -> Result<bool, StorageError> {
        if row.settings.sparse_images || self.unknown {
            return Ok(false);
        }
        self.read_on(view)?;
        Ok(!self.unknown && !self.changed.contains(&row.name))
    }

    fn read_on(&mut self, view: &dyn View) -> Result<(), StorageError> {
        let low = view.get(&keys::meta::low_water())?;
        let low = low.map_or(Ok(LowWaterRow::default()), |bytes| LowWaterRow::decode(&bytes));
        // Changes that are gone may have been any.
        self.unknown |= low.is_err() || low.is_ok_and(|low| low.changes > self.until);
        if self.unknown {
            return Ok(());
        }
        view.scan(&keys::changes(self.until.saturating_add(1)), Direction::Forward, &mut |key, value| {
            let sequence = keys::sequence_of(key);
            // A gap may have held any change, too.
            self.unknown |= sequence != Some(self.until + 1);
            self.until = sequence.unwrap_or(self.until);
            match ChangeRow::decode(value).map(|row| row.event) {
                Ok(Event::Repository {
                    repository,
                    event:
                        RepositoryEvent::SettingsChanged
                        | RepositoryEvent::SettingChanged { setting: Setting::SparseImages(_) },
                    ..
                }) => {
                    // Names are enough: one repository too many is only doubted without need.
                    self.changed.insert(repository);
                }
                Ok(_) => {}
                Err(_) => self.unknown = true,
            }
            self.unknown |= self.changed.len() > CHANGED_MAX;
            if self.unknown { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    }
}
