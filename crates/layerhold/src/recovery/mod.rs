//! What an operator can do about a store that does not open.
//!
//! Opening refuses a store of which something is gone that it once acknowledged, or whose files are damaged, and changes
//! nothing. From then on an operator chooses:
//!
//! - [`Engine::open_read_only`](crate::Engine::open_read_only) shows what can be proved and changes nothing.
//! - [`examine`] says what is wrong, how far the store was, how far it can be brought back, and which choices there are.
//! - [`restore`] brings everything back that was ever acknowledged, from a second copy: it is possible only where one
//!   proves that nothing is lost.
//! - [`accept_loss`] goes on with what can be brought back.
//!
//! A choice takes no file away: what it puts out of use is kept in a directory `aside-…` of the store. It writes who made
//! it, when, and what was expected and recovered into the change log ([`Event::Recovered`](crate::change::Event)). After
//! a loss, sequences and ids go on far above everything that was proven, so that none is used twice. A choice that was
//! cut off is finished by making it again; where that is not possible any more, because files changed meanwhile, [`examine`]
//! shows which other one is.

mod examine;
pub(crate) mod plan;
mod rebuild;

use std::fmt;
use std::path::PathBuf;

use crate::clock::Components;
use crate::directory::{self, Place};
use crate::error::ErrorKind;
use crate::name::Principal;
use crate::options::Options;
use crate::room::Room;
use crate::store::StorageError;
use crate::store::fs::{self, OpenMode};

pub use examine::{Damage, Examination, Part, Verdict};
pub(crate) use examine::{Facts, Shown};
use plan::Plan;

/// How an operator goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Choice {
    /// Bring back everything that was ever acknowledged, from a second copy.
    Restore,
    /// Go on without what cannot be brought back.
    AcceptLoss,
}

impl Choice {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Restore => 1,
            Self::AcceptLoss => 2,
        }
    }

    pub(crate) fn of_code(code: u8) -> Option<Self> {
        [Self::Restore, Self::AcceptLoss].into_iter().find(|choice| choice.code() == code)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restore => "restore",
            Self::AcceptLoss => "accept-loss",
        })
    }
}

/// The loss that an operator agreed to: what [`examine`] said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// [`Examination::expected`].
    pub expected: Option<u64>,
    /// [`Examination::recovered`].
    pub recovered: u64,
}

/// What a choice came to. The store opens now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// What was chosen.
    pub choice: Choice,
    /// Where the change log speaks of it.
    pub sequence: u64,
    /// The highest sequence that anything proved, where anything did.
    pub expected: Option<u64>,
    /// The sequence up to which everything was brought back.
    pub recovered: u64,
    /// The directory with the files that are out of use, relative to the store.
    pub aside: PathBuf,
}

/// Why a choice was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The store opens as it is. There is nothing to choose.
    #[error("the store is whole")]
    Sound,
    /// This choice does not fit what is wrong. Choose among [`Examination::choices`].
    #[error("this choice is not possible")]
    NotPossible {
        /// What is wrong, and what is possible.
        examination: Box<Examination>,
    },
    /// The store is not as the operator was shown it. Look again.
    #[error("the store is not as it was when the loss was agreed to")]
    Changed {
        /// How it is.
        examination: Box<Examination>,
    },
    /// The storage failed. The choice is under way or not begun; make it again once the cause is gone.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl RecoveryError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Sound | Self::NotPossible { .. } => ErrorKind::Invalid,
            Self::Changed { .. } => ErrorKind::Conflict,
            Self::Storage(error) => error.kind(),
        }
    }
}

/// Says what is wrong with the store in `dir`, and what can be done. Changes nothing.
///
/// # Errors
/// [`StorageError::NotAStore`]; [`StorageError::Locked`] where somebody may write to it; [`StorageError::UnknownFormat`];
/// [`StorageError::Io`] where the medium does not even say what is there. Damage is no error but the answer.
#[cfg(feature = "rocksdb")]
pub fn examine(dir: &std::path::Path, options: &Options) -> Result<Examination, StorageError> {
    examine_in(&Place::existing(dir, options)?)
}

/// Brings the store in `dir` back, where a second copy proves that nothing that was acknowledged is lost: FORMAT from the
/// store id in any other file, the mark from the journal, the journal from a table that holds at least as much if the end of
/// the journal is known (its last segment is whole, or the store was closed), the table from a journal that begins with the
/// first change, the table's CURRENT from its one MANIFEST.
///
/// Durable when it returns. Where it was cut off, make the same call again.
///
/// # Errors
/// [`RecoveryError`]; nothing but LOCK was changed where it is [`Sound`](RecoveryError::Sound). Where it is
/// [`NotPossible`](RecoveryError::NotPossible), at most the table's CURRENT was mended.
#[cfg(feature = "rocksdb")]
pub fn restore(dir: &std::path::Path, options: &Options, by: &Principal) -> Result<Recovered, RecoveryError> {
    restore_in(&Place::existing(dir, options)?, options, &Components::default(), by)
}

/// Goes on with what can be brought back of the store in `dir`, as the operator agreed. Where nothing of the metadata can
/// be, that is an empty store; its blobs stay in their files.
///
/// Durable when it returns. Where it was cut off, make the same call again.
///
/// # Errors
/// [`RecoveryError`]; nothing but LOCK was changed where it is not [`Storage`](RecoveryError::Storage).
#[cfg(feature = "rocksdb")]
pub fn accept_loss(
    dir: &std::path::Path,
    options: &Options,
    by: &Principal,
    agreed: Agreed,
) -> Result<Recovered, RecoveryError> {
    accept_loss_in(&Place::existing(dir, options)?, options, &Components::default(), by, agreed)
}

/// [`examine`] in a place of the caller's.
///
/// # Errors
/// As there.
pub fn examine_in(place: &Place) -> Result<Examination, StorageError> {
    let lock = directory::lock_shared(place)?;
    let examination = Facts::gather(place)?.examination();
    drop(lock);
    Ok(examination)
}

/// [`restore`] in a place of the caller's.
///
/// # Errors
/// As there.
pub fn restore_in(
    place: &Place,
    options: &Options,
    components: &Components,
    by: &Principal,
) -> Result<Recovered, RecoveryError> {
    choose(place, options, components, by, Choice::Restore, None)
}

/// [`accept_loss`] in a place of the caller's.
///
/// # Errors
/// As there.
pub fn accept_loss_in(
    place: &Place,
    options: &Options,
    components: &Components,
    by: &Principal,
    agreed: Agreed,
) -> Result<Recovered, RecoveryError> {
    choose(place, options, components, by, Choice::AcceptLoss, Some(agreed))
}

fn choose(
    place: &Place,
    options: &Options,
    components: &Components,
    by: &Principal,
    choice: Choice,
    agreed: Option<Agreed>,
) -> Result<Recovered, RecoveryError> {
    directory::Parts::look(place)?.is_store(place)?;
    let lock = directory::lock(place)?;
    let mut facts = Facts::gather(place)?;
    let not_possible = |facts: &Facts| RecoveryError::NotPossible { examination: Box::new(facts.examination()) };
    let plan = match facts.plan.take() {
        Some(plan) if plan.choice != choice => {
            facts.plan = Some(plan);
            return Err(not_possible(&facts));
        }
        Some(plan @ Plan { step: plan::Step::Rebuild(_), .. }) => {
            Room::before_open(&place.fs, options)?;
            plan
        }
        begun => {
            let examination = facts.examination();
            if examination.is_sound() && begun.is_none() {
                return Err(RecoveryError::Sound);
            }
            if !examination.choices.contains(&choice) && begun.is_none() {
                return Err(not_possible(&facts));
            }
            if agreed.is_some_and(|agreed| agreed != examination.agreed()) {
                return Err(RecoveryError::Changed { examination: Box::new(examination) });
            }
            // A choice that is written down holds the store shut, so it is not made where it could not be carried out.
            Room::before_open(&place.fs, options)?;
            if facts.mendable || begun.is_some() {
                facts = mend(place, begun, by, components)?;
            }
            let examination = facts.examination();
            // What could be mended may still not be enough.
            if choice == Choice::Restore && !examination.is_sound() && !facts.is_restorable() {
                plan::remove(&*place.fs)?;
                return Err(not_possible(&facts));
            }
            let aside = directory::Parts::look(place)?.free_aside();
            let plan = facts.plan(choice, by, components, aside);
            plan.write(&*place.fs)?;
            plan
        }
    };
    drop(facts);
    let recovered = rebuild::carry_out(place, options, components, &plan)?;
    // Nothing that was set aside is needed: it must open now.
    directory::judge(place, OpenMode::Read)?;
    drop(lock);
    Ok(recovered)
}

/// Makes the file of the table anew that points to the others, and looks again. That it was done is written down first, so
/// that the change log will say so.
fn mend(place: &Place, begun: Option<Plan>, by: &Principal, components: &Components) -> Result<Facts, RecoveryError> {
    let plan = match begun {
        Some(plan) => plan,
        None => {
            let aside = directory::Parts::look(place)?.free_aside();
            let plan = Plan::mend(by, components, aside);
            plan.write(&*place.fs)?;
            plan
        }
    };
    let aside = plan.aside();
    fs::make_dir(&*place.fs, &aside).map_err(|e| StorageError::io("create directory", &aside, e))?;
    place.table.mend(&aside)?;
    let mut facts = Facts::gather(place)?;
    facts.plan = None;
    facts.mended = true;
    Ok(facts)
}
