//! What a host may set, with a default for everything.

use crate::blob::fingerprint::GroupLen;

/// Whether an upload's bytes are read back before they become a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadBack {
    /// They are not: completing never reads them again.
    #[default]
    Never,
    /// All of them are read from the medium, as far as the system can be asked to, and hashed again. What a faulty memory
    /// did to them between hashing and writing, or the medium since, is found while the client still has them. Costs a read
    /// of the upload, so completing takes as long as it is large.
    BeforeCommit,
}

/// Settings of an open store: plain values with their unit in the name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Memory for the metadata (the table's block cache and write buffers, and rows that were locked lately) and for uploads,
    /// which have an eighth of it: it bounds how many are written at a time, and how many of them are hashed by a thread of
    /// their own. Default 128 MiB.
    pub memory_bytes: u64,
    /// Blobs up to this length live in the metadata store, longer ones in files (docs/benchmarks.md has the
    /// measurement). Default 16 KiB.
    pub inline_blob_bytes_max: u64,
    /// Length of a fingerprint group of new blobs: a range read verifies at least this much. Default 64 KiB.
    pub group_len: GroupLen,
    /// An upload session is gone after this long without a part. Default 24 h; no protocol states a term.
    pub upload_idle_ms: u64,
    /// How long an answer that lets a client skip an upload keeps the blob. Default 1 h.
    pub lease_ms: u64,
    /// A streamed body is made durable at least after this many bytes. Default 64 MiB.
    pub upload_commit_bytes: u64,
    /// A streamed body is made durable at least after this long. Default 5 s.
    pub upload_commit_ms: u64,
    /// How long changes are kept. Default 30 days.
    pub change_keep_ms: u64,
    /// How long operation ids are kept. Default 24 h.
    pub operation_keep_ms: u64,
    /// How much time passes for the engine while it is closed, at the most. Default 1 h.
    pub closed_time_ms_max: u64,
    /// A pull time is written again after this long. Default 1 h; ECR's own accuracy is a day.
    pub pull_time_ms: u64,
    /// Length of a journal segment. Default 32 MiB.
    pub journal_segment_bytes: u64,
    /// Whether an upload's bytes are read back before they become a blob. Default never.
    pub read_back: ReadBack,
    /// For how long after all bytes of a blob were last verified they are given out unchecked. Default 0: every byte is
    /// checked each time, which costs about a quarter of a core for each GB/s.
    ///
    /// The risk: what the medium, its cables or a faulty memory does to the bytes within that time reaches clients. They
    /// check digests themselves as a rule; a range, or a client that does not, is wrong without anybody noticing, until
    /// the next full verification. A completed upload counts as verified although its bytes were hashed on their way to
    /// the medium and not read back from it. A missing or shortened file is noticed all the same.
    pub verified_window_ms: u64,
    /// Bytes a second that [`Engine::maintain`](crate::Engine::maintain) reads to find damage before anybody else does.
    /// Default 0: none, and the host calls [`Engine::scrub_step`](crate::Engine::scrub_step) or nobody looks.
    pub scrub_bytes_per_s: u64,
    /// Where [`Engine::maintain`](crate::Engine::maintain) scrubs: how long after the beginning of one pass the next one begins, at the
    /// earliest; blobs of which a read failed are looked at in between. Default 7 days; where the store is too large for the
    /// rate, one pass follows the other.
    pub scrub_interval_ms: u64,
    /// How long a call waits for a row lock, for another writer of the same upload session, or, where the medium hangs, for the
    /// commits before its own. Default 10 s.
    pub lock_wait_ms: u64,
    /// With less room than this on the medium, or where fewer than 256 files can still be made, what needs room is refused with
    /// `NoSpace`; what takes something away, and all reads, go on. With less than a quarter of either a store does not open. 0
    /// turns all of this off. Default 64 MiB.
    pub free_bytes_min: u64,
    /// Length of a file that is given up when the medium is nearly full, so that deletions still find room. 0 for none.
    /// Default 64 MiB.
    pub ballast_bytes: u64,
    /// Whether a store may live where the engine cannot keep its promises: on a network file system, or one without
    /// locks or directory syncs. Default no.
    pub any_medium: bool,
    /// Whether each commit checks that it holds the lock of every row that it writes, and panics where it does not: that
    /// is a mistake in this program. Default yes in builds with debug assertions, no in others.
    pub check_guards: bool,
}

impl Default for Options {
    fn default() -> Self {
        const HOUR_MS: u64 = 3_600_000;
        Self {
            memory_bytes: 128 << 20,
            inline_blob_bytes_max: 16 << 10,
            group_len: GroupLen::default(),
            upload_idle_ms: 24 * HOUR_MS,
            lease_ms: HOUR_MS,
            upload_commit_bytes: 64 << 20,
            upload_commit_ms: 5_000,
            change_keep_ms: 30 * 24 * HOUR_MS,
            operation_keep_ms: 24 * HOUR_MS,
            closed_time_ms_max: HOUR_MS,
            pull_time_ms: HOUR_MS,
            journal_segment_bytes: 32 << 20,
            read_back: ReadBack::Never,
            verified_window_ms: 0,
            scrub_bytes_per_s: 0,
            scrub_interval_ms: 7 * 24 * HOUR_MS,
            lock_wait_ms: 10_000,
            free_bytes_min: 64 << 20,
            ballast_bytes: 64 << 20,
            any_medium: false,
            check_guards: cfg!(debug_assertions),
        }
    }
}

macro_rules! setters {
    ($($setter:ident $field:ident: $type:ty),+ $(,)?) => {$(
        #[doc = concat!("The same options with [`", stringify!($field), "`](Self::", stringify!($field), ") set.")]
        #[must_use]
        pub fn $setter(mut self, value: $type) -> Self {
            self.$field = value;
            self
        }
    )+};
}

impl Options {
    setters! {
        with_memory_bytes memory_bytes: u64,
        with_inline_blob_bytes_max inline_blob_bytes_max: u64,
        with_group_len group_len: GroupLen,
        with_upload_idle_ms upload_idle_ms: u64,
        with_lease_ms lease_ms: u64,
        with_upload_commit_bytes upload_commit_bytes: u64,
        with_upload_commit_ms upload_commit_ms: u64,
        with_change_keep_ms change_keep_ms: u64,
        with_operation_keep_ms operation_keep_ms: u64,
        with_closed_time_ms_max closed_time_ms_max: u64,
        with_pull_time_ms pull_time_ms: u64,
        with_journal_segment_bytes journal_segment_bytes: u64,
        with_read_back read_back: ReadBack,
        with_verified_window_ms verified_window_ms: u64,
        with_scrub_bytes_per_s scrub_bytes_per_s: u64,
        with_scrub_interval_ms scrub_interval_ms: u64,
        with_lock_wait_ms lock_wait_ms: u64,
        with_free_bytes_min free_bytes_min: u64,
        with_ballast_bytes ballast_bytes: u64,
        with_any_medium any_medium: bool,
        with_check_guards check_guards: bool,
    }
}

/// Quotas of a registry. The defaults are ECR's published ones (Amazon ECR service quotas; docs/ecr.md), but where it is said
/// otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Repositories in a registry.
    pub repositories: u64,
    /// Manifests in a repository.
    pub images: u64,
    /// Tags on one manifest.
    pub tags_per_image: u32,
    /// Tags given in one put.
    pub tags_per_put: u32,
    /// Upload sessions that a registry has open, abandoned ones included until they expire. ECR publishes no such quota; the
    /// default, 100,000, is this engine's own.
    pub open_uploads: u64,
    /// Parts in one upload session.
    pub upload_parts: u32,
    /// Bytes in one part.
    pub part_bytes: u64,
    /// Bytes in one blob.
    pub blob_bytes: u64,
    /// Bytes in one manifest.
    pub manifest_bytes: u64,
    /// Descriptors in one manifest.
    pub references: u32,
    /// Items on one page of a listing.
    pub page_items: u32,
    /// Rows that a filtered listing looks at before it gives a short page and a token.
    pub page_rows: u32,
    /// Bytes of rows that a listing of referrers, whose rows hold annotations, looks at before it gives a short page and a
    /// token; it looks at one row in any case.
    pub page_bytes: u64,
    /// Bytes of host data on one repository.
    pub attribute_bytes: u64,
}

impl Limits {
    /// The quotas of a private ECR registry.
    #[must_use]
    pub fn ecr_private() -> Self {
        Self {
            repositories: 100_000,
            images: 100_000,
            tags_per_image: 1_000,
            tags_per_put: 100,
            open_uploads: 100_000,
            upload_parts: 4_200,
            part_bytes: 20_971_520,
            blob_bytes: 52_000 << 20,
            manifest_bytes: 4_194_304,
            references: 1_000,
            page_items: 1_000,
            page_rows: 10_000,
            page_bytes: 1 << 20,
            attribute_bytes: 64 << 10,
        }
    }

    /// The quotas of a public ECR registry.
    #[must_use]
    pub fn ecr_public() -> Self {
        Self { repositories: 10_000, upload_parts: 1_000, blob_bytes: 10_000 << 20, ..Self::ecr_private() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::ecr_private()
    }
}
