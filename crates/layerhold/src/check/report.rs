//! How a check is asked for, watched, and what it comes to.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::finding::{Finding, Severity};

/// How deep a check goes; each level holds the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// Rows alone, among them manifests, whose documents are compared with their digests, and small blobs, whose bytes are
    /// compared with their fingerprint roots.
    #[default]
    Metadata,
    /// And files: that each is there, its length, its footer; and that there are no others.
    Files,
    /// And the bytes of all blobs: they are read from the medium and compared with digest, fingerprint root and chaining values.
    Bytes,
}

/// What [`Engine::check`](crate::Engine::check) does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CheckOptions {
    /// How deep it goes; metadata alone by default.
    pub level: Level,
}

impl CheckOptions {
    /// The same with another level.
    #[must_use]
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }
}

/// What [`Engine::repair`](crate::Engine::repair) does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RepairOptions {
    /// How deep it looks; metadata alone by default.
    pub level: Level,
    /// Whether it only says what it would do.
    pub dry_run: bool,
}

impl RepairOptions {
    /// The same with another level.
    #[must_use]
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// The same, changing nothing.
    #[must_use]
    pub fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

/// What becomes of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was only looked for.
    Found,
    /// It is repaired; durable.
    Mended {
        /// How, in words.
        how: &'static str,
    },
    /// It would be repaired, if this were not a dry run.
    Mendable {
        /// How, in words.
        how: &'static str,
    },
    /// It is left as it is.
    Left {
        /// Why, in words, and what an operator can do.
        why: &'static str,
    },
}

/// What a check is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Names, ids, repositories.
    Names,
    /// Blobs and links.
    Blobs,
    /// Upload sessions.
    Uploads,
    /// Manifests and what they reference.
    Manifests,
    /// Tags.
    Tags,
    /// The change log.
    Changes,
    /// Counters.
    Usage,
    /// Files.
    Files,
    /// The bytes of files.
    Bytes,
}

impl Stage {
    /// The word for it in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Blobs => "blobs",
            Self::Uploads => "uploads",
            Self::Manifests => "manifests",
            Self::Tags => "tags",
            Self::Changes => "changes",
            Self::Usage => "usage",
            Self::Files => "files",
            Self::Bytes => "bytes",
        }
    }
}

/// How far a check is. Totals are estimates, made from counters when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What it is at.
    pub stage: Stage,
    /// Rows read so far.
    pub rows: u64,
    /// About how many there are to read.
    pub rows_total: u64,
    /// Bytes of blobs read so far.
    pub bytes: u64,
    /// About how many there are to read; 0 below [`Level::Bytes`].
    pub bytes_total: u64,
    /// Findings so far.
    pub findings: u64,
}

/// Who is told of a check while it runs.
pub trait Observer {
    /// A finding, and what became of it.
    fn finding(&mut self, finding: &Finding, outcome: &Outcome);

    /// Called every few thousand rows and every MiB of bytes; breaking stops the check soon after.
    fn progress(&mut self, progress: &Progress) -> ControlFlow<()> {
        let _ = progress;
        ControlFlow::Continue(())
    }
}

/// Keeps all findings; for stores that are expected to be sound.
impl Observer for Vec<(Finding, Outcome)> {
    fn finding(&mut self, finding: &Finding, outcome: &Outcome) {
        self.push((finding.clone(), outcome.clone()));
    }
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// Rows read.
    pub rows: u64,
    /// Files looked at.
    pub files: u64,
    /// Bytes of blobs read and hashed.
    pub bytes: u64,
    /// How many findings of each kind there were, by the kind's name. What several rounds of a repair leave counts once.
    pub findings: BTreeMap<&'static str, u64>,
    /// The worst of them, if there were any.
    pub worst: Option<Severity>,
    /// How many were repaired, or would be.
    pub mended: u64,
    /// How many that are wrong or lost were left as they are; all of them in a check.
    pub left: u64,
    /// Whether the observer stopped it, so that it says nothing of the rest.
    pub stopped: bool,
}

impl Report {
    /// Whether nothing is wrong or lost, as far as the check came. Leftovers are allowed: a crash may leave some.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.worst.is_none_or(|worst| worst <= Severity::Leftover)
    }

    /// Whether there is not even a leftover.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.worst.is_none_or(|worst| worst <= Severity::Allowed)
    }

    /// Notes what became of a finding.
    pub(super) fn note(&mut self, severity: Severity, outcome: &Outcome) {
        self.worst = self.worst.max(Some(severity));
        match outcome {
            Outcome::Mended { .. } | Outcome::Mendable { .. } => self.mended += 1,
            Outcome::Found | Outcome::Left { .. } => self.left += u64::from(severity >= Severity::Wrong),
        }
    }
}
