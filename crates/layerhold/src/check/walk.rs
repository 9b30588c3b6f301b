//! Walking over rows: with a visitor that may fail, or a row at a time so that several families can be walked together.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::error::Failure;
use crate::format::keys;
use crate::format::values::Row;
use crate::store::{Direction, KeyRange, StorageError, View};

/// Why a check ends before its end.
#[derive(Debug)]
pub(super) enum Halt {
    /// The observer asked for it.
    Stopped,
    /// Rows or files cannot be read, so nothing more can be said. An error of an iterator is one of these: it is never
    /// taken for the end of the rows.
    Failed(Failure),
}

impl From<StorageError> for Halt {
    fn from(error: StorageError) -> Self {
        Self::Failed(Failure::Storage(error))
    }
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Key and value.
pub(super) type RowBytes = (Vec<u8>, Vec<u8>);

/// Called with key and value of one row after another.
pub(super) type VisitRow<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), Halt>;

/// Visits each row of a range in order, until the visitor fails.
pub(super) fn each(view: &dyn View, range: &KeyRange, visit: VisitRow<'_>) -> Result<(), Halt> {
    let mut failed = None;
    view.scan(range, Direction::Forward, &mut |key, value| match visit(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(halt) => {
            failed = Some(halt);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// The first row of a range.
pub(super) fn first(view: &dyn View, range: &KeyRange) -> Result<Option<RowBytes>, StorageError> {
    end_of(view, range, Direction::Forward)
}

/// The last row of a range.
pub(super) fn last(view: &dyn View, range: &KeyRange) -> Result<Option<RowBytes>, StorageError> {
    end_of(view, range, Direction::Backward)
}

fn end_of(view: &dyn View, range: &KeyRange, direction: Direction) -> Result<Option<RowBytes>, StorageError> {
    let mut found = None;
    view.scan(range, direction, &mut |key, value| {
        found = Some((key.to_vec(), value.to_vec()));
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// A row as a lookup found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot<T> {
    Absent,
    Unreadable(String),
    There(T),
}

impl<T> Slot<T> {
    pub(super) fn there(self) -> Option<T> {
        match self {
            Self::There(row) => Some(row),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable(_))
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// Reads bytes that may be absent or damaged.
pub(super) fn slot<T: Row>(bytes: Option<&[u8]>) -> Slot<T> {
    match bytes.map(T::decode) {
        None => Slot::Absent,
        Some(Ok(row)) => Slot::There(row),
        Some(Err(error)) => Slot::Unreadable(error.to_string()),
    }
}

/// Looks a row up.
pub(super) fn look<T: Row>(view: &dyn View, key: &[u8]) -> Result<Slot<T>, StorageError> {
    Ok(slot(view.get(key)?.as_deref()))
}

/// Rows and bytes that a cursor takes out of a view at a time.
const PAGE_ROWS: usize = 512;
const PAGE_BYTES: usize = 1 << 20;

/// The rows of a range, one after another.
pub(super) struct Rows<'v> {
    view: &'v dyn View,
    range: KeyRange,
    page: VecDeque<RowBytes>,
    done: bool,
}

impl<'v> Rows<'v> {
    pub(super) fn new(view: &'v dyn View, range: KeyRange) -> Self {
        Self { view, range, page: VecDeque::new(), done: false }
    }

    /// The next row, which stays the next.
    pub(super) fn peek(&mut self) -> Result<Option<&RowBytes>, StorageError> {
        if self.page.is_empty() && !self.done {
            self.load()?;
        }
        Ok(self.page.front())
    }

    /// The next row.
    pub(super) fn next(&mut self) -> Result<Option<RowBytes>, StorageError> {
        self.peek()?;
        Ok(self.page.pop_front())
    }

    fn load(&mut self) -> Result<(), StorageError> {
        let Self { page, .. } = self;
        let mut bytes = 0;
        let mut whole = true;
        self.view.scan(&self.range, Direction::Forward, &mut |key, value| {
            bytes += key.len() + value.len();
            page.push_back((key.to_vec(), value.to_vec()));
            whole = page.len() < PAGE_ROWS && bytes < PAGE_BYTES;
            if whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        self.done = whole;
        if let Some((key, _)) = self.page.back() {
            self.range = keys::after(self.range.clone(), key);
        }
        Ok(())
    }
}
