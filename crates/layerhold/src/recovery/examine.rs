//! What can be found out about a store without changing it.

use std::fmt;
use std::ops::ControlFlow;

use super::plan::{self, Plan, Rebuild, Step};
use super::rebuild::Reached;
use super::{Agreed, Choice};
use crate::clock::Components;
use crate::directory::{self, FormatFile, Parts, Place};
use crate::format::FORMAT_VERSION;
use crate::format::keys::{self, Family};
use crate::format::values::{BlobRow, Placement, Row, Staging, UploadRow};
use crate::name::Principal;
use crate::store::fs::OpenMode;
use crate::store::journal::{self, StoreId, Survey};
use crate::store::mem::MemTable;
use crate::store::overlay::{Overlay, over};
use crate::store::table::Table;
use crate::store::{Batch, Direction, StorageError, View};

/// After an accepted loss, sequences and repository ids go on so far above everything proven. What was acknowledged and
/// left no trace is less: it is what a journal holds before the table is flushed.
const GAP: u64 = 1 << 24;

/// Sequences go on from here where nothing says how far the store was: no store has come so far.
const UNHEARD_OF: u64 = 1 << 48;

/// A part of a store that can be damaged as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Part {
    /// The file FORMAT.
    Format,
    /// The segments of the journal.
    Journal,
    /// The second copy of the durable sequence.
    Mark,
    /// The metadata table.
    Table,
    /// The directory of blobs.
    Blobs,
    /// A choice that is under way.
    Recovery,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => "format",
            Self::Journal => "journal",
            Self::Mark => "mark",
            Self::Table => "table",
            Self::Blobs => "blobs",
            Self::Recovery => "recovery",
        })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub part: Part,
    /// What, in words that name the file.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.what)
    }
}

/// How opening would end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It opens, and everything that was ever begun is there.
    Clean,
    /// It opens, and gives up a commit that was begun and never acknowledged.
    TailDropped,
    /// Something that was acknowledged cannot be brought back.
    Loss,
    /// Files are damaged. Nothing says that something acknowledged is lost.
    Damaged,
}

/// What is wrong with a store, and what can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Examination {
    /// How opening would end.
    pub verdict: Verdict,
    /// The highest sequence that anything proves was acknowledged; `None` where nothing that is left says.
    pub expected: Option<u64>,
    /// The sequence up to which everything can be brought back.
    pub recovered: u64,
    /// What is wrong, by file. Empty where the store opens, or where nothing is wrong but what is lost.
    pub damages: Vec<Damage>,
    /// Whether [`Engine::open_read_only`](crate::Engine::open_read_only) shows the state at `recovered`.
    pub readable: bool,
    /// A choice that was begun and not finished: make it again.
    pub unfinished: Option<Choice>,
    /// What can be chosen. Empty where the store opens.
    pub choices: Vec<Choice>,
}

impl Examination {
    /// Whether the store opens as it is.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        matches!(self.verdict, Verdict::Clean | Verdict::TailDropped)
    }

    /// What [`accept_loss`](super::accept_loss) has to be told.
    #[must_use]
    pub fn agreed(&self) -> Agreed {
        Agreed { expected: self.expected, recovered: self.recovered }
    }
}

/// Everything that is known of a store that was looked at.
pub(crate) struct Facts {
    pub(crate) store_id: Option<StoreId>,
    pub(crate) plan: Option<Plan>,
    /// The table's own files can be mended, and only then be read.
    pub(super) mendable: bool,
    /// They were, for a choice that is under way.
    pub(super) mended: bool,
    damages: Vec<Damage>,
    /// Open for reads alone, where it is the store's and can be read.
    table: Option<Box<dyn Table>>,
    applied: u64,
    /// What the journal says, if anything tells whose it is.
    survey: Option<Survey>,
    /// A number that no segment of the journal has.
    next_segment: u64,
    /// Opening judges the store whole; whether it gives a tail up.
    sound: Option<bool>,
    /// The directory of blobs is there, or nothing says that a file should be in it.
    blobs_whole: bool,
}

impl Facts {
    /// Looks at everything.
    ///
    /// # Errors
    /// [`StorageError::NotAStore`], [`StorageError::UnknownFormat`] and those of the medium.
    pub(crate) fn gather(place: &Place) -> Result<Self, StorageError> {
        let parts = Parts::look(place)?;
        parts.is_store(place)?;
        let mut damages = Vec::new();
        let plan = match plan::read(&*place.fs)? {
            None => None,
            Some(Ok(plan)) => Some(plan),
            Some(Err(what)) => {
                damages.push(Damage { part: Part::Recovery, what });
                None
            }
        };
        let mut store_id = match directory::read_format(&*place.fs)? {
            FormatFile::Whole(id) => Some(id),
            FormatFile::OtherVersion(found) => {
                return Err(StorageError::UnknownFormat { found, supported: FORMAT_VERSION });
            }
            FormatFile::Missing => {
                damages.push(Damage { part: Part::Format, what: "the file FORMAT is missing".to_owned() });
                None
            }
            FormatFile::Foreign => {
                let what = "FORMAT file: it does not begin as one".to_owned();
                damages.push(Damage { part: Part::Format, what });
                None
            }
            FormatFile::Damaged(what) => {
                damages.push(Damage { part: Part::Format, what });
                None
            }
        };
        let missing = parts.missing();
        let blobs_there = missing.iter().all(|(part, _)| *part != Part::Blobs);
        damages.extend(missing.into_iter().map(|(part, what)| Damage { part, what }));

        let mut table = readable_table(place, &mut damages)?;
        match (store_id, agreed_id(place, table.as_deref())?) {
            (None, agreed) => store_id = agreed.map(|(id, _)| id),
            // Journal and table are of one store, and it is not the one that FORMAT names.
            (Some(id), Some((agreed, Said::ByBoth))) if id != agreed => {
                let what = "FORMAT file: it belongs to another store".to_owned();
                damages.push(Damage { part: Part::Format, what });
                store_id = Some(agreed);
            }
            _ => {}
        }
        if let (Some(id), Some(found)) = (&store_id, &table)
            && let Err(error) = directory::check_identity(&**found, id)
        {
            damages.push(Damage { part: Part::Table, what: words(error)? });
            table = None;
        }
        let applied = table.as_ref().map_or(Ok(0), |table| table.applied_sequence())?;
        let mendable = table.is_none() && place.table.mendable()?;
        let survey = store_id.map(|id| journal::survey(&place.fs, &id, applied)).transpose()?;
        let next_segment = match &survey {
            Some(survey) => survey.next_number,
            None => journal::next_number(&*place.fs)?,
        };
        let sound = match directory::judge(place, OpenMode::Read) {
            Ok(judged) => Some(judged.journal.tail_dropped()),
            Err(StorageError::AcknowledgedDataLoss { .. }) => None,
            Err(error) => {
                // The other damages say it better; where there are none, this is the one.
                let what = words(error)?;
                if damages.is_empty() && survey.as_ref().is_none_or(|survey| !survey.is_damaged()) && plan.is_none() {
                    damages.push(Damage { part: Part::Journal, what });
                }
                None
            }
        };
        if let Some(survey) = survey.as_ref().filter(|_| sound.is_none()) {
            let journal = |what: &String| Damage { part: Part::Journal, what: what.clone() };
            let new: Vec<_> = survey.damages.iter().map(journal).filter(|damage| !damages.contains(damage)).collect();
            damages.extend(new);
            damages.extend(survey.mark_damage.iter().map(|what| Damage { part: Part::Mark, what: what.clone() }));
        }
        let mut facts = Self {
            store_id,
            plan,
            mendable,
            mended: false,
            damages,
            table,
            applied,
            survey,
            next_segment,
            sound,
            blobs_whole: blobs_there,
        };
        if !blobs_there {
            // Rows that cannot be read may name one.
            facts.blobs_whole = match facts.names_a_file() {
                Err(StorageError::Corrupt { .. }) => false,
                named => !named?,
            };
        }
        facts.drop_hopeless_plan(place)?;
        Ok(facts)
    }

    /// A choice that cannot be finished as it was planned, because the table was damaged after it was filled or files came
    /// back before it was: there is another one to make.
    fn drop_hopeless_plan(&mut self, place: &Place) -> Result<(), StorageError> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let Step::Rebuild(rebuild) = &plan.step else { return Ok(()) };
        let hopeless = match Reached::by(place, plan, rebuild, self.table.as_deref()) {
            Err(StorageError::Corrupt { .. }) => true,
            reached => matches!(reached?, Reached::Elsewhere),
        };
        if hopeless {
            let what = "the choice that is under way cannot be finished: the store is not as it was".to_owned();
            self.damages.push(Damage { part: Part::Recovery, what });
            self.plan = None;
        }
        Ok(())
    }

    /// Says it to an operator.
    pub(crate) fn examination(&self) -> Examination {
        let (expected, recovered) = (self.expected(), self.recovered());
        let verdict = match self.sound {
            Some(true) => Verdict::TailDropped,
            Some(false) => Verdict::Clean,
            None if expected.is_none_or(|expected| expected > recovered) => Verdict::Loss,
            None => Verdict::Damaged,
        };
        let unfinished = self.plan.as_ref().map(|plan| plan.choice);
        let choices = match (unfinished, self.sound) {
            (Some(choice), _) => vec![choice],
            (None, Some(_)) => Vec::new(),
            (None, None) if self.mendable => vec![Choice::Restore],
            (None, None) if self.is_restorable() => vec![Choice::Restore, Choice::AcceptLoss],
            (None, None) => vec![Choice::AcceptLoss],
        };
        let readable = recovered > 0;
        let damages = self.damages.clone();
        Examination { verdict, expected, recovered, damages, readable, unfinished, choices }
    }

    fn expected(&self) -> Option<u64> {
        let survey = self.survey.as_ref()?;
        (survey.has_statement || self.table.is_some()).then_some(survey.proven)
    }

    fn recovered(&self) -> u64 {
        self.survey.as_ref().map_or(0, |survey| survey.recovered)
    }

    /// Whether everything that was acknowledged can be brought back, as far as anything says what that is.
    pub(super) fn is_restorable(&self) -> bool {
        // Without the end of the journal nobody knows what the table lacks.
        let said = self.survey.as_ref().is_some_and(|survey| survey.end_is_known);
        let whole = self.expected().is_some_and(|expected| expected <= self.recovered()) && self.recovered() > 0;
        said && whole && self.blobs_whole
    }

    /// Whether any row says that there should be a file of a blob: of the table, or of the groups that it does not hold yet.
    fn names_a_file(&self) -> Result<bool, StorageError> {
        let mut above = Overlay::default();
        if let Some(survey) = &self.survey {
            survey.replay(&mut |batch: Batch, _| {
                above.apply(&batch);
                Ok(())
            })?;
        }
        let nothing = MemTable::new();
        let below = self.table.as_ref().map_or_else(|| nothing.view(), |table| table.view())?;
        names_a_file(&*over(&above, below))
    }

    /// The table, what it holds, and the journal over it, for those who only look.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] where there is nothing to be seen.
    pub(crate) fn shown(self) -> Result<Shown, StorageError> {
        let Self { table, applied, survey, store_id, damages, .. } = self;
        let recovered = survey.as_ref().map_or(0, |survey| survey.recovered);
        match table {
            Some(table) if recovered > 0 => Ok(Shown { table, applied, survey, store_id }),
            None if recovered > 0 => Ok(Shown { table: Box::new(MemTable::new()), applied: 0, survey, store_id }),
            _ => {
                let what = damages.first().map_or_else(|| "nothing can be shown".to_owned(), Damage::to_string);
                Err(StorageError::Corrupt { what })
            }
        }
    }

    /// What is to be done for a choice.
    pub(super) fn plan(&self, choice: Choice, by: &Principal, components: &Components, aside: u64) -> Plan {
        let (expected, recovered) = (self.expected(), self.recovered());
        let sequence = match (choice, expected) {
            (Choice::Restore, _) => expected.unwrap_or(0).max(recovered).saturating_add(1),
            (Choice::AcceptLoss, Some(expected)) => expected.max(recovered).saturating_add(GAP),
            (Choice::AcceptLoss, None) => above_earlier_losses(components.clock.wall_ms(), aside),
        };
        let store_id = self.store_id.unwrap_or_else(|| {
            let mut drawn = [0; 16];
            components.entropy.fill(&mut drawn);
            drawn
        });
        let segment = self.next_segment;
        let new_table = self.table.is_none();
        let rebuild = Rebuild { store_id, expected, recovered, sequence, segment, new_table };
        Plan::new(choice, by, components, aside, Step::Rebuild(rebuild))
    }
}

/// The sequence that a store goes on from of which nothing is left that says how far it was, for the choice with this number.
/// It is above that of every earlier one, and above whatever came behind that: for as long as the wall clock shows that time
/// has passed (no store makes 1,024 changes in every millisecond), or the directories of earlier choices are there.
fn above_earlier_losses(wall_ms: u64, number: u64) -> u64 {
    // A clock that is out of its mind, or somebody's own directory with a strange number, must not use all sequences up.
    const WALL_MS_MAX: u64 = 1 << 43;
    const NUMBER_MAX: u64 = 1 << 24;
    UNHEARD_OF + (wall_ms.min(WALL_MS_MAX) << 10) + number.min(NUMBER_MAX) * GAP
}

/// What there is to be seen.
pub(crate) struct Shown {
    pub(crate) table: Box<dyn Table>,
    pub(crate) applied: u64,
    pub(crate) survey: Option<Survey>,
    pub(crate) store_id: Option<StoreId>,
}

/// The table, where it opens for reads.
fn readable_table(place: &Place, damages: &mut Vec<Damage>) -> Result<Option<Box<dyn Table>>, StorageError> {
    match directory::readable_table(place) {
        Ok(table) => Ok(Some(table)),
        Err(error) => {
            let what = words(error)?;
            // That its directory is missing was said before.
            if damages.iter().all(|damage| damage.part != Part::Table) {
                damages.push(Damage { part: Part::Table, what });
            }
            Ok(None)
        }
    }
}

/// Who names the id of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    ByOne,
    /// The journal and the table.
    ByBoth,
}

/// The id that every file but FORMAT names; the table's where they name several. Without the table's rows there is nothing that
/// a journal could be put behind.
fn agreed_id(place: &Place, table: Option<&dyn Table>) -> Result<Option<(StoreId, Said)>, StorageError> {
    let mut ids = journal::store_ids(&*place.fs)?;
    let by_table = table.map(directory::identity).transpose()?.flatten().map(|row| row.store_id);
    let said = if by_table.is_some() && !ids.is_empty() { Said::ByBoth } else { Said::ByOne };
    ids.extend(by_table);
    ids.sort_unstable();
    ids.dedup();
    Ok(match (ids.as_slice(), by_table) {
        ([id], _) => Some((*id, said)),
        (_, Some(id)) => Some((id, Said::ByOne)),
        _ => None,
    })
}

/// Damage in words; any other error is the medium's and stays one.
fn words(error: StorageError) -> Result<String, StorageError> {
    match error {
        StorageError::Corrupt { what } => Ok(what),
        StorageError::AcknowledgedDataLoss { .. } | StorageError::UnknownFormat { .. } => Ok(error.to_string()),
        error => Err(error),
    }
}

/// Whether any row says that there should be a file of a blob.
fn names_a_file(view: &dyn View) -> Result<bool, StorageError> {
    let mut found = false;
    let mut failed = None;
    let mut look = |family: Family, is_file: fn(&[u8]) -> Result<bool, StorageError>| {
        view.scan(&keys::prefix(vec![family as u8]), Direction::Forward, &mut |_, value| match is_file(value) {
            Ok(false) => ControlFlow::Continue(()),
            Ok(true) => {
                found = true;
                ControlFlow::Break(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })
    };
    look(Family::Blob, |value| Ok(matches!(BlobRow::decode(value)?.placement, Placement::File(_))))?;
    look(Family::Upload, |value| {
        let row = UploadRow::decode(value)?;
        Ok(row.staging == Staging::File && row.offset > 0)
    })?;
    failed.map_or(Ok(found), Err)
}
