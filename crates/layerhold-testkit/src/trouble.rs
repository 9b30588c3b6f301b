//! What befalls a store and what the engine then does about it, as steps of a workload whose power is cut: so that
//! quarantine and healing, the scrub, repair and an operator's choice are cut as requests are.

use std::path::Path;

use layerhold::call::Call;
use layerhold::check::{Finding, Level, Outcome, RepairOptions};
use layerhold::error::Failure;
use layerhold::format::keys;
use layerhold::name::RepositoryName;
use layerhold::registry::Registry;
use layerhold::scrub::ScrubBudget;
use layerhold::store::fs::{FileSystem as _, OpenMode};
use layerhold::store::table::Table as _;
use layerhold::store::{Batch, Direction, KeyRange};

use crate::engine::TestEngine;
use crate::fs::{class_of, damage};
use crate::model::{Answer, Refusal};
use crate::operation::pool::{self, Content};
use crate::operation::request::{Expected, RepositoryRequest, Request};
use crate::perform::{Handles, perform};
use crate::runner::Runner;

/// The blob whose file is damaged: the large one of the short workloads.
const SPOILED: u8 = 6;

/// Bytes of one step of the scrub: about a third of what a short workload leaves.
const SCRUBBED_BYTES: u64 = 16 << 10;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A bit of a blob's file turns; the blob is read, and pushed again.
    SpoiledBlob,
    /// The row is gone that says who names a blob or manifest; the store is repaired.
    LostBackReference,
    /// The file FORMAT is gone; the store is restored and opened again.
    LostFormat,
    /// None: the scrub takes a step.
    Scrub,
}

impl Trouble {
    /// The content that may be found damaged until it is pushed again.
    pub(crate) fn spoils(self) -> Option<&'static Content> {
        (self == Self::SpoiledBlob).then(|| pool::content(SPOILED))
    }

    /// Does the harm, durably. Whether there was anything to harm.
    pub(crate) fn harm(self, runner: &Runner) -> bool {
        let (Some(fs), Some(table)) = (runner.test.fs(), runner.test.table()) else { return false };
        match self {
            Self::SpoiledBlob => {
                let content = pool::content(SPOILED);
                if holder(runner).is_none() {
                    return false;
                }
                let paths = damage::files(fs).expect("memory");
                let holds = |path: &Path| damage::read(fs, path).expect("memory").starts_with(&content.bytes);
                let mut holding = paths.iter().filter(|path| class_of(path) == "blob" && holds(path));
                // With two it is not known which one is read.
                let (Some(path), None) = (holding.next(), holding.next()) else { return false };
                damage::flip_bit(fs, path, content.bytes.len() as u64 * 4).expect("memory");
                fs.open(path, OpenMode::ReadWrite).and_then(|file| file.sync_data()).expect("memory");
                true
            }
            Self::LostBackReference => {
                let digest = pool::content(0).sha256;
                let scope = keys::Scope { registry: keys::RegistryId(0), repository: keys::RepositoryId(0) };
                let family = keys::back_reference(scope, &digest, &digest, 0)[0];
                let mut found = None;
                let range = KeyRange { start: vec![family], end: vec![family + 1] };
                let view = table.view().expect("memory");
                let scanned = view.scan(&range, Direction::Forward, &mut |key, _| {
                    found = Some(key.to_vec());
                    std::ops::ControlFlow::Break(())
                });
                scanned.expect("memory");
                drop(view);
                let Some(key) = found else { return false };
                let mut batch = Batch::new();
                batch.delete(&key);
                table.apply(&[&batch], None).and_then(|()| table.flush()).expect("memory");
                true
            }
            Self::LostFormat => {
                fs.remove_file(Path::new("FORMAT")).and_then(|()| fs.sync_dir(Path::new(""))).expect("memory");
                true
            }
            Self::Scrub => true,
        }
    }

    /// What is then done about it, whole; what was wrong with how it went.
    pub(crate) fn work(self, runner: &mut Runner) -> Result<(), String> {
        match self {
            Self::SpoiledBlob => {
                let name = holder(runner).expect("it was harmed");
                let (registry, mut handles) = (runner.registry(), runner.handles());
                if !is_damaged(&registry, &mut handles, &name)? {
                    return Err("a damaged blob is read".to_owned());
                }
                push(&registry, &mut handles, &name)
            }
            Self::LostBackReference => {
                repair(&runner.test)?.then_some(()).ok_or_else(|| "nothing was mended".to_owned())
            }
            Self::LostFormat => {
                runner.test.restore().map_err(|error| format!("is not restored: {error:?}"))?;
                runner.test.kill().map_err(|error| format!("restored, does not open: {error:?}"))?;
                runner.forget_what_was_never_durable().map_err(|wrong| wrong.to_string())
            }
            Self::Scrub => {
                let scrubbed = runner.test.engine().scrub_step(ScrubBudget::bytes(SCRUBBED_BYTES));
                match scrubbed.map_err(|failure| format!("{failure:?}"))?.findings {
                    found if found.is_empty() => Ok(()),
                    found => Err(format!("a scrub finds {found:?}")),
                }
            }
        }
    }

    /// Makes good, in a store that a cut left, for what the work had not done yet.
    pub(crate) fn mend(self, test: &TestEngine, runner: &Runner) -> Result<(), String> {
        match self {
            Self::SpoiledBlob => {
                let name = holder(runner).expect("it was harmed");
                let registry = test.registry().with_limits(runner.registry_limits());
                push(&registry, &mut runner.handles(), &name)
            }
            Self::LostBackReference => repair(test).map(drop),
            Self::LostFormat | Self::Scrub => Ok(()),
        }
    }
}

/// A repository that has the blob which is damaged.
fn holder(runner: &Runner) -> Option<RepositoryName> {
    let states = runner.model.state();
    let has = |(name, state): (&RepositoryName, &crate::model::RepositoryState)| {
        state.blobs.contains_key(&pool::content(SPOILED).sha256).then(|| name.clone())
    };
    states.iter().find_map(has)
}

fn ask(
    registry: &Registry,
    handles: &mut Handles,
    name: &RepositoryName,
    request: RepositoryRequest,
) -> Result<Answer, Failure> {
    perform(registry, handles, &Request::Repository(name.clone(), request), &Call::anonymous())
}

fn is_damaged(registry: &Registry, handles: &mut Handles, name: &RepositoryName) -> Result<bool, String> {
    let read = RepositoryRequest::ReadBlob { digest: pool::content(SPOILED).sha256, offset: 0, len: u64::MAX };
    match ask(registry, handles, name, read) {
        Ok(Answer::Refused(Refusal::Unexpected(text))) if text.to_lowercase().starts_with("corrupt") => Ok(true),
        Ok(Answer::Bytes(bytes)) if bytes == pool::content(SPOILED).bytes[..] => Ok(false),
        other => Err(format!("a damaged blob is answered {other:?}")),
    }
}

/// Pushes the blob again; then it is whole.
fn push(registry: &Registry, handles: &mut Handles, name: &RepositoryName) -> Result<(), String> {
    let content = pool::content(SPOILED);
    // Where nobody has met the damage yet, a push would be told that the blob is there.
    is_damaged(registry, handles, name)?;
    let put = RepositoryRequest::PutBlob { bytes: content.bytes.clone(), expected: Expected::Digest(content.sha256) };
    match ask(registry, handles, name, put) {
        Ok(Answer::Completed { digest, .. }) if digest == content.sha256 => {}
        other => return Err(format!("pushed again: {other:?}")),
    }
    match is_damaged(registry, handles, name)? {
        true => Err("still damaged after it was pushed again".to_owned()),
        false => Ok(()),
    }
}

/// Whether anything was mended.
fn repair(test: &TestEngine) -> Result<bool, String> {
    let mut findings: Vec<(Finding, Outcome)> = Vec::new();
    let options = RepairOptions::default().with_level(Level::Bytes);
    let repaired = test.engine().repair(&options, &Call::anonymous(), &mut findings);
    let report = repaired.map_err(|failure| format!("is not repaired: {failure:?}"))?;
    Ok(report.mended > 0)
}
