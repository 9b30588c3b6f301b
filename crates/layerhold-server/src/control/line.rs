//! What a check says, line by line: over the socket and as the JSON output of the commands, in the same words.

use std::collections::BTreeMap;

use layerhold::check::{Finding, Outcome, Progress, Report, TouchedRepository};
use layerhold::recovery::{Examination, Recovered};
use layerhold::scrub::ScrubFinding;
use serde::{Deserialize, Serialize};

/// One line. A reader passes over members and kinds of lines that it does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// How far it is; totals are estimates.
    Progress {
        /// What it is at.
        stage: String,
        /// Rows read.
        rows: u64,
        /// About how many there are.
        rows_total: u64,
        /// Bytes of blobs read.
        bytes: u64,
        /// About how many there are; 0 where bytes are not read.
        bytes_total: u64,
        /// Findings so far.
        findings: u64,
    },
    /// Something that was found.
    Finding {
        /// The kind's name (docs/errors.md).
        name: String,
        /// `allowed`, `leftover`, `wrong` or `lost`.
        severity: String,
        /// What it is about.
        facts: BTreeMap<String, String>,
        /// Whom it concerns.
        repositories: Vec<Touched>,
        /// Whether it concerns more than these.
        more: bool,
        /// `found`, `mended`, `mendable` or `left`.
        outcome: String,
        /// How it was mended, or why it was left.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        remark: String,
    },
    /// The store does not open. What can be read of it is looked at after this, if anything can.
    Refused {
        /// What is wrong, file by file.
        damages: Vec<String>,
        /// The highest sequence that anything proves was acknowledged, where anything does.
        expected: Option<u64>,
        /// The sequence up to which everything can be brought back.
        recovered: u64,
        /// Whether anything can be read of it.
        readable: bool,
        /// A choice that was begun and has to be made again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unfinished: Option<String>,
        /// What an operator can choose: `restore`, `accept-loss`.
        choices: Vec<String>,
    },
    /// A choice was carried out; the store opens now.
    Recovered {
        /// What was chosen.
        choice: String,
        /// Where the change log speaks of it.
        sequence: u64,
        /// The sequence up to which everything was brought back.
        recovered: u64,
        /// The directory with the old files, in the store's.
        aside: String,
    },
    /// The end: what it came to.
    Done {
        /// Whether nothing is wrong or lost, or nothing any more.
        sound: bool,
        /// Whether there is not even a leftover.
        clean: bool,
        /// Whether it was stopped, and says nothing of the rest.
        stopped: bool,
        /// Rows read.
        rows: u64,
        /// Files looked at.
        files: u64,
        /// Bytes of blobs read.
        bytes: u64,
        /// How many findings of each kind.
        findings: BTreeMap<String, u64>,
        /// How many were mended, or could be.
        mended: u64,
        /// How many that are wrong or lost are left.
        left: u64,
    },
    /// The end: it could not be done.
    Failed {
        /// Why.
        cause: String,
    },
}

/// A repository that a finding concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Its registry, where its name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Its name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Registry id and repository id.
    pub id: String,
    /// Manifests in it.
    pub manifests: Vec<String>,
    /// Tags in it.
    pub tags: Vec<String>,
}

impl From<&TouchedRepository> for Touched {
    fn from(touched: &TouchedRepository) -> Touched {
        Touched {
            registry: touched.registry.as_ref().map(ToString::to_string),
            name: touched.name.as_ref().map(ToString::to_string),
            id: touched.scope.to_string(),
            manifests: touched.manifests.iter().map(ToString::to_string).collect(),
            tags: touched.tags.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Line {
    /// The line for how far a check is.
    #[must_use]
    pub fn progress(progress: &Progress) -> Line {
        Line::Progress {
            stage: progress.stage.name().to_owned(),
            rows: progress.rows,
            rows_total: progress.rows_total,
            bytes: progress.bytes,
            bytes_total: progress.bytes_total,
            findings: progress.findings,
        }
    }

    /// The line for a finding.
    #[must_use]
    pub fn finding(finding: &Finding, outcome: &Outcome) -> Line {
        let (outcome, remark) = match outcome {
            Outcome::Found => ("found", ""),
            Outcome::Mended { how } => ("mended", *how),
            Outcome::Mendable { how } => ("mendable", *how),
            Outcome::Left { why } => ("left", *why),
            _ => ("found", ""),
        };
        Line::Finding {
            name: finding.fault.name().to_owned(),
            severity: finding.fault.severity().name().to_owned(),
            facts: finding.fault.facts().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            repositories: finding.touched.repositories.iter().map(Touched::from).collect(),
            more: finding.touched.more,
            outcome: outcome.to_owned(),
            remark: remark.to_owned(),
        }
    }

    /// The line for something that a scrub found, in the words of a check.
    #[must_use]
    pub fn scrub_finding(finding: &ScrubFinding) -> Line {
        let (name, severity, outcome) = match finding {
            ScrubFinding::BlobQuarantined { .. } => ("blob-quarantined", "lost", "found"),
            ScrubFinding::BlobRebuilt { .. } => ("groups-wrong", "wrong", "mended"),
            ScrubFinding::Footer { .. } => ("footer-differs", "wrong", "found"),
            ScrubFinding::Unreadable { .. } => ("file-unreadable", "wrong", "found"),
            ScrubFinding::ManifestQuarantined { .. } => ("manifest-bytes-damaged", "lost", "found"),
            ScrubFinding::ManifestRows { .. } => ("manifest-row-differs", "wrong", "found"),
            _ => ("unreadable-row", "lost", "found"),
        };
        Line::Finding {
            name: name.to_owned(),
            severity: severity.to_owned(),
            facts: [("what".to_owned(), finding.to_string())].into(),
            repositories: Vec::new(),
            more: false,
            outcome: outcome.to_owned(),
            remark: String::new(),
        }
    }

    /// The line for a store that does not open.
    #[must_use]
    pub fn refused(examination: &Examination) -> Line {
        Line::Refused {
            damages: examination.damages.iter().map(ToString::to_string).collect(),
            expected: examination.expected,
            recovered: examination.recovered,
            readable: examination.readable,
            unfinished: examination.unfinished.map(|choice| choice.to_string()),
            choices: examination.choices.iter().map(ToString::to_string).collect(),
        }
    }

    /// The line for a choice that was carried out.
    #[must_use]
    pub fn recovered(recovered: &Recovered) -> Line {
        Line::Recovered {
            choice: recovered.choice.to_string(),
            sequence: recovered.sequence,
            recovered: recovered.recovered,
            aside: recovered.aside.display().to_string(),
        }
    }

    /// The line for the end.
    #[must_use]
    pub fn done(report: &Report) -> Line {
        Line::Done {
            sound: report.is_sound(),
            clean: report.is_clean(),
            stopped: report.stopped,
            rows: report.rows,
            files: report.files,
            bytes: report.bytes,
            findings: report.findings.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            mended: report.mended,
            left: report.left,
        }
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Line::Done { .. } | Line::Failed { .. })
    }
}
