//! Goal: a power cut at any moment loses nothing that was acknowledged and leaves nothing half done.
//!
//! Method: scripts of uploads, puts and deletes run over the simulated file system; the power is cut at every call that
//! changes it, several states that the cut can leave are opened, and each is compared with the reference model. One
//! recovery in each cut is itself cut at every call.
//!
//! `LAYERHOLD_CRASH_SCRIPTS` says how many random scripts there are, `LAYERHOLD_SEED` from which seed.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use layerhold_testkit::crash::{Budget, Cuts, cut_everywhere};
use layerhold_testkit::operation::{
    Declared, ExpectedDigest, ExpectedManifest, Image, Operation, Position, Script, Share, StreamEnd, Through,
};

const BUDGET: Budget = Budget { states: 6, recovery_cuts: u64::MAX };
const SEED: u64 = 20_260_918;

fn begin(content: u8) -> Operation {
    Operation::BeginUpload { repository: 0, content, sha512: false, caller: 0 }
}

fn part(share: Share) -> Operation {
    Operation::AppendPart { upload: 0, through: Through::Own, at: Position::Next, share, declared: Declared::Right }
}

fn stream(share: Share, end: StreamEnd) -> Operation {
    Operation::StreamUpload { upload: 0, through: Through::Own, at: None, share, end }
}

fn complete(expected: ExpectedDigest) -> Operation {
    Operation::CompleteUpload { upload: 0, through: Through::Own, expected, minimum: false, refuse_empty: false }
}

fn push(document: u8, tag: u8) -> Operation {
    Operation::PushImage { repository: 0, document, tag: Some(tag) }
}

fn put(document: u8, tags: &[u8]) -> Operation {
    Operation::PutManifest { repository: 0, document, tags: tags.to_vec(), expected: ExpectedManifest::Any }
}

fn check(name: &str, operations: impl IntoIterator<Item = Operation>) {
    let mut script = Script { small_limits: false, operations: Vec::new() };
    script.operations.push(Operation::CreateRepository { repository: 0, mutability: 0, sparse: false });
    script.operations.extend(operations);
    match cut_everywhere(&script, BUDGET) {
        Ok(done) => println!("{name}: {done:?}"),
        Err(wrong) => panic!("{name}: {wrong}"),
    }
}

#[test]
fn uploads_in_parts() {
    check(
        "uploads in parts",
        [
            begin(9),
            part(Share::Half),
            part(Share::Half),
            part(Share::Rest),
            complete(ExpectedDigest::Right),
            begin(3),
            part(Share::Half),
            part(Share::Rest),
            complete(ExpectedDigest::Wrong),
            begin(6),
            part(Share::Rest),
            Operation::CancelUpload { upload: 0, through: Through::Own },
            Operation::Maintain,
        ],
    );
}

#[test]
fn streamed_uploads() {
    check(
        "streamed uploads",
        [
            begin(8),
            stream(Share::Half, StreamEnd::CommitAndDrop),
            stream(Share::Half, StreamEnd::Finish),
            stream(Share::Rest, StreamEnd::Complete),
            begin(4),
            stream(Share::Rest, StreamEnd::Complete),
        ],
    );
}

#[test]
fn a_blob_that_is_pushed_again_and_replaced() {
    let blob = |content| Operation::PutBlob { repository: 0, content, expected: ExpectedDigest::Right };
    check("replaced blobs", [blob(7), blob(7), Operation::Maintain, blob(2), blob(2), Operation::Maintain]);
}

#[test]
fn an_upload_that_is_resumed_after_a_kill() {
    check(
        "resumed uploads",
        [
            begin(9),
            part(Share::Half),
            Operation::Reopen { close: false },
            part(Share::Half),
            Operation::Reopen { close: true },
            part(Share::Rest),
            complete(ExpectedDigest::OtherAlgorithm),
        ],
    );
}

#[test]
fn puts_that_move_tags() {
    let mutability = |mutability| Operation::PutTagMutability { repository: 0, mutability };
    check(
        "puts",
        [push(0, 0), push(1, 0), put(0, &[1, 2]), push(10, 3), push(7, 4), mutability(1), put(1, &[5]), put(0, &[0])],
    );
}

#[test]
fn deletes() {
    check(
        "deletes",
        [
            push(0, 0),
            put(0, &[1, 2]),
            push(7, 3),
            Operation::Untag { repository: 0, tag: 1 },
            Operation::DeleteImage { repository: 0, image: Image::Tag(2) },
            Operation::DeleteImage { repository: 0, image: Image::Tag(0) },
            Operation::DeleteImage { repository: 0, image: Image::Digest(7) },
            Operation::DeleteBlob { repository: 0, blob: 3 },
            Operation::DeleteBlob { repository: 0, blob: 5 },
            push(0, 0),
            Operation::DeleteRepository { repository: 0, force: true },
            Operation::CreateRepository { repository: 0, mutability: 1, sparse: true },
            put(0, &[0]),
        ],
    );
}

#[test]
fn mounts_and_repositories() {
    check(
        "mounts",
        [
            Operation::CreateRepository { repository: 1, mutability: 0, sparse: false },
            Operation::PutBlob { repository: 0, content: 6, expected: ExpectedDigest::Right },
            Operation::MountBlob { repository: 1, from: 0, blob: 6 },
            Operation::PutAttributes { repository: 1, value: 2 },
            Operation::DeleteRepository { repository: 0, force: false },
            Operation::DeleteBlob { repository: 1, blob: 6 },
        ],
    );
}

#[test]
fn random_scripts() {
    let seed = number("LAYERHOLD_SEED", SEED);
    let scripts = number("LAYERHOLD_CRASH_SCRIPTS", 4);
    let done = layerhold_testkit::crash::random_scripts(seed, scripts, BUDGET);
    let done: Cuts = done.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    println!("seed={seed} scripts={scripts} {done:?}");
}

/// A number from the environment: a test has no other arguments.
#[expect(clippy::disallowed_methods, reason = "this is how a longer run, or a failed one, is asked for")]
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}
