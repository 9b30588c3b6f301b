//! The workloads that are killed at each of their calls.

use crate::operation::{
    Declared, ExpectedDigest, ExpectedManifest, Image, Operation, Position, Script, Share, StreamEnd, Through,
};

/// What is done before the calls are counted, and what while they are.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    /// What it is for, in a word or two.
    pub(super) name: &'static str,
    /// What the counted process does.
    pub(super) part: Part,
    setup: Vec<Operation>,
    counted: Vec<Operation>,
}

/// Which part of a store's life is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Requests, in the process that did the setup.
    Requests,
    /// Opening what the process that did the setup left when it was killed.
    Recovery,
    /// Making the store.
    Making,
}

impl Workload {
    /// The whole script.
    pub(super) fn script(&self) -> Script {
        Script { small_limits: false, operations: [self.setup.as_slice(), &self.counted].concat() }
    }

    /// The operations before the calls are counted, and those while they are.
    pub(super) fn halves(&self) -> [Script; 2] {
        [&self.setup, &self.counted].map(|operations| Script { small_limits: false, operations: operations.clone() })
    }
}

/// All workloads, in an order that stays.
pub(super) fn all() -> Vec<Workload> {
    let requests = |name, setup: &[Operation], counted: &[Operation]| {
        let made = [Operation::CreateRepository { repository: 0, mutability: 0, sparse: false }];
        let setup = [&made[..], setup].concat();
        Workload { name, part: Part::Requests, setup, counted: counted.to_vec() }
    };
    let busy = [push(0, 0), put(0, &[1, 2]), blob(7), blob(8), push(7, 3), begin(9), part(Share::Half)];
    let mut all = vec![
        requests("push small", &[], &[blob(3), blob(2), blob(4), blob(0), blob(3), push(3, 0)]),
        requests(
            "push large in parts",
            &[],
            &[
                begin(9),
                part(Share::Half),
                part(Share::Half),
                part(Share::Rest),
                complete(ExpectedDigest::Right),
                blob(9),
            ],
        ),
        requests(
            "streamed push",
            &[],
            &[
                begin(8),
                stream(Share::Half, StreamEnd::CommitAndDrop),
                stream(Share::Half, StreamEnd::Finish),
                stream(Share::Rest, StreamEnd::Complete),
                begin(4),
                stream(Share::Rest, StreamEnd::Complete),
            ],
        ),
        requests(
            "complete",
            &[begin(9), part(Share::Rest), begin(6), part(Share::Rest), begin(3), part(Share::Rest)],
            &[
                complete(ExpectedDigest::OtherAlgorithm),
                complete_nth(0, ExpectedDigest::Wrong),
                complete_nth(0, ExpectedDigest::Right),
                Operation::Maintain,
            ],
        ),
        requests("put image", &[blob(3), blob(5), blob(2), blob(8), blob(1)], &[push(0, 0), push(10, 1), push(7, 2)]),
        requests(
            "move tags",
            &[push(0, 0), push(1, 1)],
            &[
                put(0, &[1, 2]),
                put(1, &[0]),
                Operation::PutTagMutability { repository: 0, mutability: 1 },
                put(1, &[5]),
                put(0, &[0]),
                Operation::PutTagMutability { repository: 0, mutability: 0 },
                put(0, &[0, 5]),
            ],
        ),
        requests(
            "untag and delete",
            &[push(0, 0), put(0, &[1, 2]), push(7, 3), blob(9)],
            &[
                Operation::Untag { repository: 0, tag: 1 },
                Operation::DeleteImage { repository: 0, image: Image::Tag(2) },
                Operation::DeleteImage { repository: 0, image: Image::Tag(0) },
                Operation::DeleteImage { repository: 0, image: Image::Digest(7) },
                Operation::DeleteBlob { repository: 0, blob: 3 },
                Operation::DeleteBlob { repository: 0, blob: 9 },
                Operation::Maintain,
            ],
        ),
        requests(
            "delete a repository",
            &busy,
            &[
                Operation::CreateRepository { repository: 1, mutability: 0, sparse: false },
                Operation::MountBlob { repository: 1, from: 0, blob: 8 },
                Operation::DeleteRepository { repository: 0, force: true },
                Operation::Maintain,
                Operation::CreateRepository { repository: 0, mutability: 1, sparse: true },
                put(0, &[0]),
            ],
        ),
        requests(
            "resume",
            &[begin(9), part(Share::Half), Operation::Reopen { close: false }],
            &[
                part(Share::Half),
                Operation::Reopen { close: true },
                stream(Share::Half, StreamEnd::CommitAndDrop),
                part(Share::Rest),
                complete(ExpectedDigest::Right),
            ],
        ),
        requests(
            "maintain",
            // Just short of the fifth full journal segment, with which the table is flushed.
            &vec![blob(4); 280],
            &[&vec![blob(4); 50][..], &[blob(9), blob(9), Operation::Maintain, Operation::Maintain]].concat(),
        ),
    ];
    let recovered = [&busy[..], &vec![blob(4); 70], &[Operation::Untag { repository: 0, tag: 1 }]].concat();
    all.push(Workload { part: Part::Recovery, ..requests("open and recover", &recovered, &[]) });
    all.push(requests("close", &busy, &[put(0, &[4]), Operation::Reopen { close: true }, put(0, &[5])]));
    all.push(Workload { part: Part::Making, ..requests("make a store", &[], &[]) });
    all
}

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
    complete_nth(0, expected)
}

fn complete_nth(upload: u8, expected: ExpectedDigest) -> Operation {
    Operation::CompleteUpload { upload, through: Through::Own, expected, minimum: false, refuse_empty: false }
}

fn blob(content: u8) -> Operation {
    Operation::PutBlob { repository: 0, content, expected: ExpectedDigest::Right }
}

fn push(document: u8, tag: u8) -> Operation {
    Operation::PushImage { repository: 0, document, tag: Some(tag) }
}

fn put(document: u8, tags: &[u8]) -> Operation {
    Operation::PutManifest { repository: 0, document, tags: tags.to_vec(), expected: ExpectedManifest::Any }
}
