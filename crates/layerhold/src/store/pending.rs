//! The groups that are durable and on their way into the table.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use super::overlay::{Overlay, over};
use super::table::Table;
use super::{Batch, Member, StorageError, View};

/// Shows groups to readers from the moment when their members may be told that they are committed, which is before the table
/// has them.
#[derive(Default)]
pub(super) struct Pending {
    /// In the order of the journal, in which they are applied.
    groups: RwLock<VecDeque<Arc<Group>>>,
    /// The table did not take a group and takes no other.
    stuck: AtomicBool,
}

/// The writes of a group. Most groups are applied before anybody looks, so the rows are sorted out only by who does.
struct Group {
    batches: Vec<Arc<Batch>>,
    rows: OnceLock<Overlay>,
}

impl AsRef<Overlay> for Group {
    fn as_ref(&self) -> &Overlay {
        self.rows.get_or_init(|| {
            let mut rows = Overlay::default();
            self.batches.iter().for_each(|batch| rows.apply(batch));
            rows
        })
    }
}

impl Pending {
    /// From now on every view shows the group.
    pub(super) fn show(&self, group: &[Member]) {
        let batches = group.iter().map(|member| Arc::clone(&member.batch)).collect();
        self.groups.write().push_back(Arc::new(Group { batches, rows: OnceLock::new() }));
    }

    /// The table has the first of the groups.
    pub(super) fn applied(&self) {
        let group = self.groups.write().pop_front();
        // Its memory is freed here, where nobody waits for the lock.
        drop(group);
    }

    /// The table does not have the groups and never will, in this process: they are shown for good.
    pub(super) fn stick(&self) {
        self.stuck.store(true, Ordering::Release);
    }

    /// Whether the table may lack rows that were acknowledged, now and for good.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire)
    }

    /// The table with the groups over it.
    pub(super) fn view<'a>(&self, table: &'a impl Table) -> Result<Box<dyn View + 'a>, StorageError> {
        // Held until the view below is taken: it may hold the first of these groups, which is shown as the same, but none
        // that comes after the last.
        let groups = self.groups.read();
        let below = table.view()?;
        Ok(groups.iter().fold(below, |below, group| over(Arc::clone(group), below)))
    }
}
