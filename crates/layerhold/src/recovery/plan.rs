//! The file RECOVERY: what an operator chose, written before anything is done about it and removed last.
//!
//! docs/format.md, "When a store does not open", has its layout.

use std::io;
use std::path::{Path, PathBuf};

use super::Choice;
use crate::clock::Components;
use crate::format::codec::{Decoder, Encoder};
use crate::name::Principal;
use crate::store::StorageError;
use crate::store::fs::{self, FileSystem, OpenMode};
use crate::store::journal::StoreId;

/// Its name below the root of the store.
pub(crate) const PATH: &str = "RECOVERY";
const PATH_NEW: &str = "RECOVERY.new";
const MAGIC: &[u8; 8] = b"LHRECOV\n";
const VERSION: u32 = 1;
const ASIDE: &str = "aside-";
/// No plan is longer: principals and names are bounded.
const LEN_MAX: usize = 4096;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) choice: Choice,
    pub(crate) by: Principal,
    /// The operation id that the change log gets.
    pub(crate) operation_id: [u8; 16],
    pub(crate) wall_ms: u64,
    /// The number of the directory that takes what is put out of use: one more than that of every earlier choice, as far as
    /// theirs are still there.
    pub(crate) aside: u64,
    pub(crate) step: Step,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The table's own files are mended first; what follows depends on what is in them.
    Mend,
    /// The table gets everything that can be brought back and the journal begins anew behind it.
    Rebuild(Rebuild),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rebuild {
    pub(crate) store_id: StoreId,
    pub(crate) expected: Option<u64>,
    pub(crate) recovered: u64,
    /// The sequence of the event, which is the table's last and the one before the new journal's first.
    pub(crate) sequence: u64,
    /// The number of the new journal's first segment.
    pub(crate) segment: u64,
    /// Whether the table that is there is of no use and another one takes its place.
    pub(crate) new_table: bool,
}

impl Plan {
    /// To mend the table, for [`Choice::Restore`].
    pub(super) fn mend(by: &Principal, components: &Components, aside: u64) -> Self {
        Self::new(Choice::Restore, by, components, aside, Step::Mend)
    }

    pub(super) fn new(choice: Choice, by: &Principal, components: &Components, aside: u64, step: Step) -> Self {
        let mut operation_id = [0; 16];
        components.entropy.fill(&mut operation_id);
        Self { choice, by: by.clone(), operation_id, wall_ms: components.clock.wall_ms(), aside, step }
    }

    /// The directory that takes what is put out of use, below the root of the store.
    pub(super) fn aside(&self) -> PathBuf {
        PathBuf::from(aside_name(self.aside))
    }

    /// Makes it what is under way. Durable when it returns.
    pub(super) fn write(&self, fs: &dyn FileSystem) -> Result<(), StorageError> {
        let bytes = self.encode();
        let write = || {
            fs::remove_if_there(fs, Path::new(PATH_NEW))?;
            let file = fs.create_new(Path::new(PATH_NEW))?;
            file.write_all_at(&bytes, 0)?;
            file.sync_data()?;
            fs.rename_replace(Path::new(PATH_NEW), Path::new(PATH))?;
            fs.sync_dir(Path::new(""))
        };
        write().map_err(|e| StorageError::io("write", PATH, e))
    }

    fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::bare();
        encoder.raw(MAGIC).u32(VERSION).u8(self.choice.code()).str(self.by.as_str());
        encoder.raw(&self.operation_id).u64(self.wall_ms).str(&aside_name(self.aside));
        let rebuild = match &self.step {
            Step::Mend => None,
            Step::Rebuild(rebuild) => Some(rebuild),
        };
        encoder.option(rebuild, |encoder, rebuild| {
            encoder.raw(&rebuild.store_id).option(rebuild.expected, |encoder, expected| {
                encoder.u64(expected);
            });
            encoder.u64(rebuild.recovered).u64(rebuild.sequence).u64(rebuild.segment).bool(rebuild.new_table);
        });
        let mut bytes = encoder.finish();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    /// `None` for bytes that are damaged.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, checksum) = bytes.split_last_chunk::<4>()?;
        if *checksum != crc32fast::hash(body).to_be_bytes() {
            return None;
        }
        Self::decode_fields(&mut Decoder::bare(body, "RECOVERY file")).ok()
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        if decoder.array()? != *MAGIC || decoder.u32()? != VERSION {
            return Err(decoder.malformed());
        }
        let choice = Choice::of_code(decoder.u8()?).ok_or_else(|| decoder.malformed())?;
        let by = decoder.parsed(|text| Principal::parse(text).ok())?;
        let operation_id = decoder.array()?;
        let wall_ms = decoder.u64()?;
        let aside = decoder.parsed(|text| text.strip_prefix(ASIDE)?.parse().ok())?;
        let rebuild = decoder.option(|decoder| {
            Ok(Rebuild {
                store_id: decoder.array()?,
                expected: decoder.option(|decoder| decoder.u64())?,
                recovered: decoder.u64()?,
                sequence: decoder.u64()?,
                segment: decoder.u64()?,
                new_table: decoder.bool()?,
            })
        })?;
        let step = rebuild.map_or(Step::Mend, Step::Rebuild);
        Ok(Self { choice, by, operation_id, wall_ms, aside, step })
    }
}

/// The name of the directory `number` that takes what a choice puts out of use.
pub(crate) fn aside_name(number: u64) -> String {
    format!("{ASIDE}{number}")
}

/// Whether a choice is under way, readable or not.
pub(crate) fn is_there(fs: &dyn FileSystem) -> Result<bool, StorageError> {
    fs::exists(fs, Path::new(PATH)).map_err(|e| StorageError::io("look for", PATH, e))
}

/// The choice that is under way; `Err` with words where nobody can tell which.
pub(super) fn read(fs: &dyn FileSystem) -> Result<Option<Result<Plan, String>>, StorageError> {
    let io = |e| StorageError::io("read", PATH, e);
    let file = match fs.open(Path::new(PATH), OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    let len = usize::try_from(file.len().map_err(io)?).unwrap_or(usize::MAX).min(LEN_MAX);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    Ok(Some(Plan::decode(&bytes).ok_or_else(|| "the file RECOVERY is damaged".to_owned())))
}

/// Nothing is under way any more. Durable when it returns.
pub(super) fn remove(fs: &dyn FileSystem) -> Result<(), StorageError> {
    let removed = fs::remove_if_there(fs, Path::new(PATH));
    removed.and_then(|()| fs.sync_dir(Path::new(""))).map_err(|e| StorageError::io("remove", PATH, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_comes_back_and_a_damaged_one_does_not() {
        let rebuild =
            Rebuild { store_id: [7; 16], expected: Some(9), recovered: 8, sequence: 10, segment: 3, new_table: true };
        for step in [Step::Mend, Step::Rebuild(rebuild), Step::Rebuild(Rebuild { expected: None, ..rebuild })] {
            let plan = Plan {
                choice: Choice::AcceptLoss,
                by: Principal::anonymous(),
                operation_id: [1; 16],
                wall_ms: 5,
                aside: 1,
                step,
            };
            let bytes = plan.encode();
            assert_eq!(Plan::decode(&bytes), Some(plan));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Plan::decode(&flipped), None, "bit {bit}");
            }
            assert_eq!(Plan::decode(&bytes[..bytes.len() - 1]), None);
        }
    }
}
