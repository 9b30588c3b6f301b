//! Operations on a registry, as small values that can be drawn, shrunk, saved and replayed.
//!
//! An [`Operation`] names its arguments by their number in a small [`pool`] and by their relation to what happened before
//! ("the next part of the latest upload"), so that random sequences are mostly meaningful and a shrunk one still is.
//! [`Operation::requests`] turns it into [`Request`]s with the real arguments, which the model and the engine are given
//! alike. One type serves property tests, crash tests and fuzzing; [`generate`] draws it from bytes.

use serde::{Deserialize, Serialize};

pub mod generate;
pub mod pool;
pub mod request;

pub use request::Request;

/// One step of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are numbers into the pools that their names say")]
pub enum Operation {
    /// Makes a repository.
    CreateRepository { repository: u8, mutability: u8, sparse: bool },
    /// Deletes one.
    DeleteRepository { repository: u8, force: bool },
    /// Describes one.
    DescribeRepository { repository: u8 },
    /// Lists all, in pages.
    ListRepositories { limit: u8 },
    /// Changes the tag setting.
    PutTagMutability { repository: u8, mutability: u8 },
    /// Changes what the adapters keep with a repository.
    PutAttributes { repository: u8, value: u8 },
    /// Begins an upload that is going to carry a content of the pool.
    BeginUpload { repository: u8, content: u8, sha512: bool, caller: u8 },
    /// Appends a part to the n-th latest upload.
    AppendPart { upload: u8, through: Through, at: Position, share: Share, declared: Declared },
    /// Streams a body to the n-th latest upload.
    StreamUpload { upload: u8, through: Through, at: Option<Position>, share: Share, end: StreamEnd },
    /// Asks how far the n-th latest upload is.
    UploadStatus { upload: u8, through: Through },
    /// Completes the n-th latest upload.
    CompleteUpload { upload: u8, through: Through, expected: ExpectedDigest, minimum: bool, refuse_empty: bool },
    /// Cancels the n-th latest upload.
    CancelUpload { upload: u8, through: Through },
    /// Pushes a blob in one call.
    PutBlob { repository: u8, content: u8, expected: ExpectedDigest },
    /// Asks which of three blobs are there.
    CheckBlobs { repository: u8, blobs: [u8; 3] },
    /// Reads a range of a blob.
    ReadBlob { repository: u8, blob: u8, offset: u32, len: u32 },
    /// Mounts a blob from another repository.
    MountBlob { repository: u8, from: u8, blob: u8 },
    /// Deletes a blob.
    DeleteBlob { repository: u8, blob: u8 },
    /// Gives a download token out.
    GrantDownload { repository: u8, blob: u8 },
    /// Uses the n-th latest download token.
    OpenDownload { grant: u8 },
    /// Puts a manifest.
    PutManifest { repository: u8, document: u8, tags: Vec<u8>, expected: ExpectedManifest },
    /// Pushes everything a manifest needs, then the manifest.
    PushImage { repository: u8, document: u8, tag: Option<u8> },
    /// Reads a manifest.
    GetManifest { repository: u8, image: Image, pull: bool },
    /// Asks for a manifest's digest, media type and size.
    HeadManifest { repository: u8, image: Image },
    /// Deletes an image.
    DeleteImage { repository: u8, image: Image },
    /// Drops a tag and keeps its manifest.
    Untag { repository: u8, tag: u8 },
    /// Resolves tag and digest to an image.
    ResolveImage { repository: u8, image: Image },
    /// Lists tags, in pages.
    ListTags { repository: u8, limit: u8 },
    /// Lists tags after any text.
    ListTagsAfter { repository: u8, last: u8, limit: u8 },
    /// Lists images, in pages.
    ListImages { repository: u8, filter: u8, limit: u8 },
    /// Describes images, in pages.
    DescribeImages { repository: u8, filter: u8, limit: u8 },
    /// Describes one image.
    DescribeImage { repository: u8, image: Image },
    /// Lists referrers, in pages.
    ListReferrers { repository: u8, subject: u8, artifact_types: Vec<u8>, limit: u8 },
    /// Lists the moves of a tag, in pages.
    TagHistory { repository: u8, tag: u8, limit: u8 },
    /// Sends the latest change once more, as a client does that never saw the answer.
    Repeat,
    /// Lets time pass.
    AdvanceClock { step: u8 },
    /// Lets the engine do its background work.
    Maintain,
    /// Closes the engine and opens it again; without `close` it is dropped as it stands.
    Reopen { close: bool },
}

/// How an upload session is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Through {
    /// As it was begun.
    Own,
    /// Through another repository.
    OtherRepository,
    /// By another caller.
    OtherCaller,
}

/// Where a part begins, in relation to what is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// Where the session stands.
    Next,
    /// Where the latest part began, with its bytes.
    Latest,
    /// At the first byte.
    Start,
    /// One byte too far.
    Gap,
}

/// How much of the content a part carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// All that is left.
    Rest,
    /// Half of what is left.
    Half,
    /// One byte.
    One,
    /// Nothing.
    Nothing,
    /// All that is left, and bytes that do not belong there.
    Over,
    /// As much as is left, and all of it wrong.
    Wrong,
}

/// The length that is said to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Declared {
    /// The length that comes.
    Right,
    /// One less.
    Short,
    /// One more.
    Long,
}

/// How a streamed body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamEnd {
    /// The writer keeps what came.
    Finish,
    /// The writer keeps what came and completes the blob with its right digest.
    Complete,
    /// The writer is dropped after an explicit commit.
    CommitAndDrop,
}

/// The digest that a completion expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpectedDigest {
    /// None: whatever comes out.
    Computed,
    /// The content's, by the session's algorithm.
    Right,
    /// The content's, by the other algorithm.
    OtherAlgorithm,
    /// Another content's.
    Wrong,
    /// A list with the right one.
    AnyWithRight,
    /// A list of wrong ones.
    AnyWrong,
}

/// The digest that a put expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpectedManifest {
    /// None.
    Any,
    /// The document's.
    Right,
    /// Another document's.
    Wrong,
}

/// How an image is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Image {
    /// By a tag.
    Tag(u8),
    /// By the digest of a document.
    Digest(u8),
    /// By both.
    Both(u8, u8),
}

/// A whole test: the limits it runs under, and its steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Whether limits are so small that they are met often.
    pub small_limits: bool,
    /// The steps.
    pub operations: Vec<Operation>,
}
