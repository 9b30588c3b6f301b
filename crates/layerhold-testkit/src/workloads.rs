//! Twelve workloads that between them make every kind of call that the engine makes of its files.

use crate::operation::{
    Declared, ExpectedDigest, ExpectedManifest, Image, Operation, Position, Share, StreamEnd, Through,
};

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

fn blob(content: u8) -> Operation {
    Operation::PutBlob { repository: 0, content, expected: ExpectedDigest::Right }
}

fn push(document: u8, tag: u8) -> Operation {
    Operation::PushImage { repository: 0, document, tag: Some(tag) }
}

fn put(document: u8, tags: &[u8]) -> Operation {
    Operation::PutManifest { repository: 0, document, tags: tags.to_vec(), expected: ExpectedManifest::Any }
}

fn read(blob: u8) -> Operation {
    Operation::ReadBlob { repository: 0, blob, offset: 0, len: 400_000 }
}

/// The workloads, by name. Each begins with a new store that has its first repository.
#[must_use]
pub fn workloads() -> Vec<(&'static str, Vec<Operation>)> {
    use Operation as Op;
    let made = |repository| Op::CreateRepository { repository, mutability: 0, sparse: false };
    let mutability = |mutability| Op::PutTagMutability { repository: 0, mutability };
    let pull = |tag| Op::GetManifest { repository: 0, image: Image::Tag(tag), pull: true };
    let workloads = vec![
        (
            "an upload in parts",
            vec![
                begin(6),
                part(Share::Half),
                part(Share::Half),
                part(Share::Rest),
                complete(ExpectedDigest::Right),
                read(6),
            ],
        ),
        (
            "a streamed upload",
            vec![begin(8), stream(Share::Half, StreamEnd::Finish), stream(Share::Rest, StreamEnd::Complete), read(8)],
        ),
        (
            "a body that ends early",
            vec![
                begin(6),
                stream(Share::Half, StreamEnd::CommitAndDrop),
                stream(Share::Rest, StreamEnd::Complete),
                read(6),
            ],
        ),
        (
            "uploads that come to nothing",
            vec![
                begin(6),
                part(Share::Half),
                complete(ExpectedDigest::Wrong),
                begin(5),
                part(Share::Rest),
                Op::CancelUpload { upload: 0, through: Through::Own },
                Op::Maintain,
            ],
        ),
        (
            "small blobs",
            vec![blob(3), blob(2), blob(3), read(3), Op::DeleteBlob { repository: 0, blob: 3 }, Op::Maintain],
        ),
        (
            "a large blob replaced",
            vec![blob(6), blob(6), Op::Maintain, read(6), Op::DeleteBlob { repository: 0, blob: 6 }, Op::Maintain],
        ),
        (
            "images and moving tags",
            vec![push(0, 0), push(1, 0), put(0, &[1, 2]), pull(0), mutability(1), put(1, &[5]), put(0, &[0])],
        ),
        (
            "an index and referrers",
            vec![
                push(10, 3),
                push(7, 4),
                Op::ListReferrers { repository: 0, subject: 0, artifact_types: vec![], limit: 2 },
            ],
        ),
        (
            "deleting images",
            vec![
                push(0, 0),
                put(0, &[1, 2]),
                Op::Untag { repository: 0, tag: 1 },
                Op::DeleteImage { repository: 0, image: Image::Tag(2) },
                Op::DeleteImage { repository: 0, image: Image::Digest(0) },
                Op::DeleteBlob { repository: 0, blob: 3 },
            ],
        ),
        (
            "repositories and mounts",
            vec![
                made(1),
                blob(6),
                Op::MountBlob { repository: 1, from: 0, blob: 6 },
                Op::PutAttributes { repository: 1, value: 2 },
                Op::DeleteRepository { repository: 0, force: true },
                made(0),
                Op::DeleteBlob { repository: 1, blob: 6 },
            ],
        ),
        (
            "kills and closings",
            vec![
                begin(6),
                part(Share::Half),
                Op::Reopen { close: false },
                part(Share::Half),
                Op::Reopen { close: true },
                part(Share::Rest),
                complete(ExpectedDigest::OtherAlgorithm),
                Op::Reopen { close: false },
                read(6),
            ],
        ),
        (
            "journal segments that fill",
            [
                vec![push(0, 0), push(1, 1), Op::Maintain, push(10, 2), blob(4), Op::Maintain, push(7, 3), push(12, 4)],
                vec![blob(4), Op::Maintain, blob(4), Op::Maintain, blob(4), Op::Maintain],
                vec![blob(4), Op::Maintain, Op::Reopen { close: false }, push(13, 5), Op::Maintain],
            ]
            .concat(),
        ),
    ];
    workloads.into_iter().map(|(name, operations)| (name, [vec![made(0)], operations].concat())).collect()
}
