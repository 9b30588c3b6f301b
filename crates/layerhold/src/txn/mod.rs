//! Transactions: every operation of the engine is one closure, run by [`Transactor::run`].
//!
//! The closure first reads without locks to learn which rows it needs, takes all of them in one call, checks that the
//! rows still name that set, decides, and gives back what to write. It has no side effects, so it can be run again
//! after a conflict. What holds between rows and locks is the table "Guard rows" of docs/format.md.

pub(crate) mod committer;

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::call::{Call, OperationId};
use crate::change::Event;
use crate::clock::Entropy;
use crate::error::Failure;
use crate::format::codec::{Decoder, Encoder};
use crate::format::keys::{self, KeyBytes};
use crate::format::values::{OperationRow, Row};
use crate::name::Principal;
use crate::store::{Batch, CommitError, LockMode, LockSet, MetadataStore, StorageError, Values, View};

use committer::{Committer, Delta, Refusal, Submission};

/// How often an operation is tried before it gives up, and after how many tries it waits for its turn and holds its
/// repository exclusively.
const ATTEMPTS_MAX: u32 = 64;
const ATTEMPTS_SHARED: u32 = 4;

/// A result that is kept with its operation id, so that a retry is told the same.
pub(crate) trait Outcome: Sized {
    fn encode(&self, encoder: &mut Encoder);
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError>;
}

impl Outcome for () {
    fn encode(&self, _: &mut Encoder) {}

    fn decode(_: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(())
    }
}

impl Outcome for bool {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.bool(*self);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        decoder.bool()
    }
}

/// Why a transaction's closure stops without anything to commit.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    /// The rows no longer name the set that was locked.
    Again,
    /// The operation was done before under this id; this is its encoded result.
    Replay(Vec<u8>),
    /// The operation id belongs to another operation.
    Reused(OperationId),
    /// The operation's own refusal.
    Refused(E),
    /// The storage failed.
    Storage(StorageError),
}

impl<E> From<StorageError> for Stop<E> {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// What a decided transaction gives back.
#[derive(Debug)]
pub(crate) enum Decision<T> {
    /// Nothing is to be written; the locks may go.
    Unchanged(T),
    /// This is to be written.
    Commit(Box<Commit<T>>),
}

/// The writes of a decided transaction.
#[derive(Debug)]
pub(crate) struct Commit<T> {
    pub(crate) locks: LockSet,
    pub(crate) batch: Batch,
    pub(crate) sequenced: Vec<(KeyBytes, Vec<u8>)>,
    pub(crate) deltas: Vec<Delta>,
    pub(crate) event: Event,
    pub(crate) result: T,
}

impl<T> Commit<T> {
    pub(crate) fn new(locks: LockSet, event: Event, result: T) -> Self {
        Self { locks, batch: Batch::new(), sequenced: Vec::new(), deltas: Vec::new(), event, result }
    }

    pub(crate) fn add(&mut self, key: KeyBytes, add: [i64; 4]) {
        if add != [0; 4] {
            self.deltas.push(Delta { key, add, cap: None, anew: false });
        }
    }

    pub(crate) fn decided(self) -> Decision<T> {
        Decision::Commit(Box::new(self))
    }
}

/// One try of a transaction.
pub(crate) struct Attempt<'a> {
    store: &'a dyn MetadataStore,
    number: u32,
    operation: Option<(OperationId, [u8; 32])>,
    principal: &'a Principal,
    now_ms: u64,
    wall_ms: u64,
    /// The first row that was asked for.
    contended: RefCell<Vec<u8>>,
}

impl Attempt<'_> {
    /// Whether nothing was tried before.
    pub(crate) fn is_first(&self) -> bool {
        self.number == 0
    }

    /// Reads without locks.
    pub(crate) fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        self.store.view()
    }

    /// Reads without locks what is judged again under them.
    pub(crate) fn peek(&self, keys: &[&[u8]]) -> Result<Values, StorageError> {
        self.store.peek(keys)
    }

    /// Who makes the call.
    pub(crate) fn principal(&self) -> &Principal {
        self.principal
    }

    /// Engine time of this try, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Wall time of this try, in milliseconds.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// How a writer in a repository holds its row: shared, or exclusive once sharing failed too often.
    pub(crate) fn repository_mode(&self) -> LockMode {
        if self.number < ATTEMPTS_SHARED { LockMode::Shared } else { LockMode::Exclusive }
    }

    /// Takes all locks of the transaction, once, and reads the rows; the operation id's row is among them. The first row
    /// is one that the transaction shares with whatever can get in its way.
    pub(crate) fn lock<E>(&self, rows: &[(&[u8], LockMode)]) -> Result<LockSet, Stop<E>> {
        if let Some((key, _)) = rows.first() {
            self.contended.replace(key.to_vec());
        }
        let Some((id, arguments)) = self.operation else {
            return Ok(self.store.lock_and_get(rows)?);
        };
        let operation = keys::operation(&id.0);
        let mut with_operation = rows.to_vec();
        with_operation.push((&operation, LockMode::Exclusive));
        let locks = self.store.lock_and_get(&with_operation)?;
        let earlier = OperationRow::decode_optional(locks.values().iter().next_back().flatten())?;
        match earlier {
            None => Ok(locks),
            Some(row) if row.arguments == arguments => Err(Stop::Replay(row.result)),
            Some(_) => Err(Stop::Reused(id)),
        }
    }
}

/// Runs transactions over a store and its committer.
pub(crate) struct Transactor {
    pub(crate) store: Arc<dyn MetadataStore>,
    pub(crate) committer: Committer,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// The ids of callers whose commits may be there once the store is opened again.
    pub(crate) in_doubt: Mutex<HashSet<OperationId>>,
}

impl Transactor {
    /// Runs `body` until it is committed or refused. `arguments` tells one use of an operation id from another;
    /// `over_limit` names the refusal of a counter.
    pub(crate) fn run<T, E>(
        &self,
        call: &Call,
        arguments: &mut Encoder,
        over_limit: impl Fn(u64) -> Option<E>,
        mut body: impl FnMut(&Attempt<'_>) -> Result<Decision<T>, Stop<E>>,
    ) -> Result<T, E>
    where
        T: Outcome,
        E: From<Failure>,
    {
        let arguments = hash(arguments);
        let mut contended = Vec::new();
        let mut turn = None;
        for number in 0..ATTEMPTS_MAX {
            if number >= ATTEMPTS_SHARED && turn.is_none() {
                turn = Some(self.wait_for_turn(&contended).map_err(Failure::Storage)?);
            }
            let attempt = Attempt {
                store: self.store.as_ref(),
                number,
                operation: call.operation_id.map(|id| (id, arguments)),
                principal: &call.principal,
                now_ms: self.committer.now_ms(),
                wall_ms: self.committer.wall_ms(),
                contended: RefCell::new(contended),
            };
            let decided = body(&attempt);
            contended = attempt.contended.into_inner();
            let commit = match decided {
                Ok(Decision::Unchanged(result)) => return Ok(result),
                Ok(Decision::Commit(commit)) => *commit,
                Err(Stop::Again) => continue,
                Err(Stop::Replay(result)) => return Ok(decode_outcome(&result)?),
                Err(Stop::Reused(operation_id)) => return Err(Failure::OperationIdReused { operation_id }.into()),
                Err(Stop::Refused(error)) => return Err(error),
                Err(Stop::Storage(error)) => return Err(Failure::Storage(error).into()),
            };
            let operation_id = call.operation_id.unwrap_or_else(|| OperationId(self.random()));
            let mut result = Encoder::bare();
            commit.result.encode(&mut result);
            let submission = Submission {
                locks: commit.locks,
                batch: commit.batch,
                sequenced: commit.sequenced,
                deltas: commit.deltas,
                operation_id,
                arguments,
                result: result.finish(),
                principal: call.principal.clone(),
                event: commit.event,
            };
            return match self.committer.submit(submission) {
                Ok(_) => Ok(commit.result),
                Err(Refusal::Store(CommitError::Conflict)) => continue,
                Err(Refusal::Store(CommitError::Failed(error))) => Err(Failure::Storage(error).into()),
                Err(Refusal::Store(CommitError::Unknown(source))) => {
                    self.in_doubt.lock().extend(call.operation_id);
                    Err(Failure::OutcomeUnknown { operation_id, source }.into())
                }
                Err(Refusal::OverLimit { limit }) => Err(over_limit(limit).unwrap_or_else(|| {
                    let what = format!("a counter without a limit was refused at {limit}");
                    Failure::Storage(StorageError::corrupt(what)).into()
                })),
            };
        }
        Err(Failure::Contended { attempts: ATTEMPTS_MAX }.into())
    }

    /// Those who failed often over the same row go one after another from then on: what one of them reads before it holds
    /// its locks, no other changes. Without it, of many who want one tag all but one find it moved, each time.
    ///
    /// Whoever waits here holds nothing else, and the key is no row's, so nobody who holds a row waits for it.
    fn wait_for_turn(&self, contended: &[u8]) -> Result<LockSet, StorageError> {
        let mut key = vec![u8::MAX];
        key.extend_from_slice(contended);
        self.store.lock_and_get(&[(&key, LockMode::Exclusive)])
    }

    /// The outcome of an earlier call under the same operation id, for operations that begin with something that cannot
    /// be found or done twice, and where nothing new is taken. Waits for one that is under way.
    pub(crate) fn replayed<T: Outcome>(&self, call: &Call, arguments: &mut Encoder) -> Result<Option<T>, Failure> {
        let Some(operation_id) = call.operation_id else { return Ok(None) };
        let key = keys::operation(&operation_id.0);
        let locks = self.store.lock_and_get(&[(&key, LockMode::Shared)])?;
        match OperationRow::decode_optional(locks.values().get(0))? {
            None if self.in_doubt.lock().contains(&operation_id) => {
                let cause = "its first outcome is not known".to_owned();
                Err(Failure::OutcomeUnknown { operation_id, source: StorageError::Poisoned { cause } })
            }
            None => Ok(None),
            Some(row) if row.arguments == hash(arguments) => decode_outcome(&row.result).map(Some),
            Some(_) => Err(Failure::OperationIdReused { operation_id }),
        }
    }

    /// 128 bits that nobody can guess.
    pub(crate) fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        bytes
    }
}

/// What tells one use of an operation id from another.
fn hash(arguments: &mut Encoder) -> [u8; 32] {
    *blake3::hash(&arguments.finish()).as_bytes()
}

fn decode_outcome<T: Outcome>(result: &[u8]) -> Result<T, Failure> {
    Ok(T::decode(&mut Decoder::bare(result, "operation result"))?)
}

/// No counter of the operation has a limit.
pub(crate) fn no_limit<E>(_: u64) -> Option<E> {
    None
}
