//! Routes: what a request asks for, with every name in it parsed.
//!
//! A route is the only thing that later code looks at, so that what is authorised is what is done.

mod request_line;

use layerhold::{Algorithm, Digest, Reference, RepositoryName, Tag, UploadId};

use crate::query::PageQuery;

pub(crate) use request_line::route;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// Does the registry speak this protocol?
    Version {
        /// With the document or without.
        fetch: Fetch,
    },
    /// The repositories of the registry, by name.
    Catalog {
        /// Which page.
        page: PageQuery,
        /// With the document or without.
        fetch: Fetch,
    },
    /// The tags of a repository, by their bytes.
    Tags {
        /// The repository.
        repository: RepositoryName,
        /// Which page.
        page: PageQuery,
        /// With the document or without.
        fetch: Fetch,
    },
    /// The manifests of a repository whose subject is this one.
    Referrers {
        /// The repository.
        repository: RepositoryName,
        /// The subject, which need not exist.
        subject: Digest,
        /// Artifact types to keep; all where there is none.
        artifact_types: Vec<String>,
        /// Which page; `last` is the digest that an earlier answer gives.
        page: PageQuery,
        /// With the document or without.
        fetch: Fetch,
    },
    /// A blob, or whether it is there.
    ReadBlob {
        /// The repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
        /// With its bytes or without.
        fetch: Fetch,
    },
    /// Takes a blob out of a repository.
    DeleteBlob {
        /// The repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
    },
    /// Begins an upload, or does a whole one.
    BeginUpload {
        /// The repository.
        repository: RepositoryName,
        /// How.
        begin: Begin,
    },
    /// Adds bytes to an upload.
    AppendUpload {
        /// The repository.
        repository: RepositoryName,
        /// The session.
        upload: UploadId,
    },
    /// Adds the last bytes, if there are any, and makes the upload a blob.
    CompleteUpload {
        /// The repository.
        repository: RepositoryName,
        /// The session.
        upload: UploadId,
        /// What the bytes must be.
        digest: Digest,
    },
    /// How far an upload has come.
    UploadStatus {
        /// The repository.
        repository: RepositoryName,
        /// The session.
        upload: UploadId,
    },
    /// Gives an upload up.
    CancelUpload {
        /// The repository.
        repository: RepositoryName,
        /// The session.
        upload: UploadId,
    },
    /// A manifest, or whether it is there.
    ReadManifest {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        reference: Reference,
        /// With its bytes or without.
        fetch: Fetch,
    },
    /// Stores a manifest.
    PutManifest {
        /// The repository.
        repository: RepositoryName,
        /// The digest that the bytes must have, if the path names one.
        expected: Option<Digest>,
        /// The tags that it gets, without repetition: the one in the path, or those in the query.
        tags: Vec<Tag>,
    },
    /// Takes away a tag (the manifest stays) or a manifest with all its tags.
    DeleteManifest {
        /// The repository.
        repository: RepositoryName,
        /// What to take away.
        reference: Reference,
    },
}

/// Whether the bytes of an object are wanted or only its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// `GET`.
    Body,
    /// `HEAD`.
    Head,
}

/// How an upload begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// A session; its bytes come later.
    Session {
        /// What it hashes with while bytes arrive.
        algorithm: Algorithm,
    },
    /// The body is the whole blob.
    Whole {
        /// What the bytes must be.
        digest: Digest,
    },
    /// The blob is in another repository already; a session where it cannot be had from there.
    Mount {
        /// The blob.
        digest: Digest,
        /// Where it is; without a name nothing is searched.
        from: Option<MountSource>,
    },
}

/// The repository that a mount names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// One of this registry.
    Here(RepositoryName),
    /// A well-formed name that lies outside of this registry, where nothing can be had.
    Elsewhere,
}

/// How a route takes its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestBody {
    /// It has none; one that comes is ignored.
    None,
    /// Whole, up to [`manifest_body_bytes_max`](crate::Adapter::manifest_body_bytes_max).
    Collect,
    /// Of any length: streamed through [`BodySink`](crate::BodySink), or whole where it is small.
    Stream,
}

/// What a route costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// A few point reads, or one bounded scan: no sync, no file of any length. Through
    /// [`respond_at_once`](crate::Adapter::respond_at_once), no lock either.
    Point,
    /// Waits for the medium.
    Blocking,
}

impl Route {
    /// How the route takes its body.
    pub fn body(&self) -> RequestBody {
        match self {
            Route::PutManifest { .. } => RequestBody::Collect,
            Route::AppendUpload { .. }
            | Route::CompleteUpload { .. }
            | Route::BeginUpload { begin: Begin::Whole { .. }, .. } => RequestBody::Stream,
            _ => RequestBody::None,
        }
    }

    /// What the route costs.
    pub fn cost(&self) -> Cost {
        match self {
            Route::Version { .. }
            | Route::Catalog { .. }
            | Route::Tags { .. }
            | Route::ReadBlob { fetch: Fetch::Head, .. }
            | Route::UploadStatus { .. }
            | Route::ReadManifest { .. } => Cost::Point,
            _ => Cost::Blocking,
        }
    }

    /// Whether the answer's body is wanted; `None` where the answer has none of interest.
    pub(crate) fn fetch(&self) -> Option<Fetch> {
        match self {
            Route::Version { fetch }
            | Route::Catalog { fetch, .. }
            | Route::Tags { fetch, .. }
            | Route::Referrers { fetch, .. }
            | Route::ReadBlob { fetch, .. }
            | Route::ReadManifest { fetch, .. } => Some(*fetch),
            _ => None,
        }
    }

    /// A word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Route::Version { .. } => "version",
            Route::Catalog { .. } => "list_repositories",
            Route::Tags { .. } => "list_tags",
            Route::Referrers { .. } => "list_referrers",
            Route::ReadBlob { fetch: Fetch::Body, .. } => "get_blob",
            Route::ReadBlob { fetch: Fetch::Head, .. } => "head_blob",
            Route::DeleteBlob { .. } => "delete_blob",
            Route::BeginUpload { begin: Begin::Session { .. }, .. } => "begin_upload",
            Route::BeginUpload { begin: Begin::Whole { .. }, .. } => "put_blob",
            Route::BeginUpload { begin: Begin::Mount { .. }, .. } => "mount_blob",
            Route::AppendUpload { .. } => "append_upload",
            Route::CompleteUpload { .. } => "complete_upload",
            Route::UploadStatus { .. } => "upload_status",
            Route::CancelUpload { .. } => "cancel_upload",
            Route::ReadManifest { fetch: Fetch::Body, .. } => "get_manifest",
            Route::ReadManifest { fetch: Fetch::Head, .. } => "head_manifest",
            Route::PutManifest { .. } => "put_manifest",
            Route::DeleteManifest { .. } => "delete_manifest",
        }
    }

    /// The repository that the route is about, without the prefix that the registry may ask for.
    pub fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Route::Version { .. } | Route::Catalog { .. } => None,
            Route::Tags { repository, .. }
            | Route::Referrers { repository, .. }
            | Route::ReadBlob { repository, .. }
            | Route::DeleteBlob { repository, .. }
            | Route::BeginUpload { repository, .. }
            | Route::AppendUpload { repository, .. }
            | Route::CompleteUpload { repository, .. }
            | Route::UploadStatus { repository, .. }
            | Route::CancelUpload { repository, .. }
            | Route::ReadManifest { repository, .. }
            | Route::PutManifest { repository, .. }
            | Route::DeleteManifest { repository, .. } => Some(repository),
        }
    }
}
