//! What a file of a store on RocksDB is for, by its name.

use std::path::Path;

/// What a file or directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Format,
    Lock,
    Segment,
    Mark,
    Spare,
    Sst,
    TableBlob,
    Manifest,
    Current,
    Options,
    Identity,
    TableLog,
    TableOther,
    Blob,
    Root,
    JournalDirectory,
    TableDirectory,
    BlobsDirectory,
    Shard,
    Other,
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Format => "FORMAT",
            Self::Lock => "LOCK",
            Self::Segment => "journal segment",
            Self::Mark => "journal mark",
            Self::Spare => "journal spare",
            Self::Sst => "table SST",
            Self::TableBlob => "table blob file",
            Self::Manifest => "table MANIFEST",
            Self::Current => "table CURRENT",
            Self::Options => "table OPTIONS",
            Self::Identity => "table IDENTITY",
            Self::TableLog => "table log of writes",
            Self::TableOther => "table LOG and LOCK",
            Self::Blob => "blob",
            Self::Root => "store directory",
            Self::JournalDirectory => "journal directory",
            Self::TableDirectory => "table directory",
            Self::BlobsDirectory => "blobs directory",
            Self::Shard => "shard of blobs",
            Self::Other => "other",
        })
    }
}

impl Class {
    const ALL: [Self; 20] = [
        Self::Format,
        Self::Lock,
        Self::Segment,
        Self::Mark,
        Self::Spare,
        Self::Sst,
        Self::TableBlob,
        Self::Manifest,
        Self::Current,
        Self::Options,
        Self::Identity,
        Self::TableLog,
        Self::TableOther,
        Self::Blob,
        Self::Root,
        Self::JournalDirectory,
        Self::TableDirectory,
        Self::BlobsDirectory,
        Self::Shard,
        Self::Other,
    ];

    /// The class with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.to_string() == name)
    }

    /// The class of `path`, which begins at the root of the store.
    pub(super) fn of(path: &Path) -> Self {
        let text = path.to_string_lossy();
        let (directory, name) = text.rsplit_once('/').unwrap_or(("", &text));
        match (directory, name) {
            ("", "") => Self::Root,
            ("", "journal") => Self::JournalDirectory,
            ("", "table") => Self::TableDirectory,
            ("", "blobs") => Self::BlobsDirectory,
            ("", "LOCK") => Self::Lock,
            ("", name) if name.starts_with("FORMAT") => Self::Format,
            ("journal", "mark") => Self::Mark,
            ("journal", name) if name.starts_with("spare") => Self::Spare,
            ("journal", _) => Self::Segment,
            ("table", "IDENTITY") => Self::Identity,
            // RocksDB writes CURRENT and OPTIONS under another name first.
            ("table", name) if name == "CURRENT" || name.ends_with(".dbtmp") => Self::Current,
            ("table", name) if name.ends_with(".sst") => Self::Sst,
            ("table", name) if name.ends_with(".blob") => Self::TableBlob,
            ("table", name) if name.starts_with("MANIFEST") => Self::Manifest,
            ("table", name) if name.starts_with("OPTIONS") => Self::Options,
            // RocksDB's own, which nothing is written to.
            ("table", name) if name.ends_with(".log") => Self::TableLog,
            ("table", _) => Self::TableOther,
            ("blobs", _) => Self::Shard,
            (directory, _) if directory.starts_with("blobs/") => Self::Blob,
            _ => Self::Other,
        }
    }

    /// Whether the store can do without what files of this class hold.
    pub(super) fn is_needless(self) -> bool {
        matches!(self, Self::Lock | Self::Spare | Self::Options | Self::Identity | Self::TableOther)
    }

    /// Whether files of this class are not read as a whole before the store opens, so that it opens and then cannot answer.
    pub(super) fn is_read_when_asked(self) -> bool {
        matches!(self, Self::Sst | Self::TableBlob | Self::Blob)
    }

    /// How many of some mutations are of this class: most where most is to be lost.
    pub(super) fn weight(self) -> u64 {
        match self {
            Self::Sst | Self::Segment | Self::Blob => 5,
            Self::Manifest | Self::TableBlob => 4,
            Self::Mark | Self::Current | Self::Format => 2,
            _ => 1,
        }
    }

    /// Whether the engine writes files of this class itself, and never syncs one again whose sync failed.
    pub(super) fn is_written_by_the_engine(self) -> bool {
        matches!(self, Self::Format | Self::Segment | Self::Mark | Self::Spare | Self::Blob)
    }
}
