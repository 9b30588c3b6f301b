//! The adapter: one registry, spoken to in OCI distribution.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use layerhold::{Call, Digest, Reference, Registry, Repository, RepositoryName, RepositorySettings, UploadId};

use crate::code::{ErrorCode, OciError};
use crate::response::Response;
use crate::route::{Cost, Fetch, Route, route};
use crate::{error, percent};

/// Longest body of a manifest that is taken, in bytes: what the specification asks every registry to take, and ECR's
/// own limit.
pub const MANIFEST_BODY_BYTES_MAX: u64 = 4 << 20;

/// Whether a push makes the repository that it pushes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CreateOnPush {
    /// A push to a repository that does not exist creates it with default settings.
    #[default]
    Always,
    /// A push to a repository that does not exist answers `NAME_UNKNOWN`.
    Never,
}

/// One registry, spoken to in OCI distribution 1.1: a request in, a response out.
///
/// Holds no lock and no state of its own, so that one value serves every connection; a clone is cheap. Every call
/// blocks as the engine does.
#[derive(Debug, Clone)]
pub struct Adapter {
    pub(crate) registry: Registry,
    prefix: Option<Arc<str>>,
    base: Arc<str>,
    create_on_push: CreateOnPush,
    manifest_body_bytes_max: u64,
}

impl Adapter {
    /// Speaks for `registry`, whose limits are the handle's.
    pub fn new(registry: Registry) -> Adapter {
        Adapter {
            registry,
            prefix: None,
            base: Arc::from(""),
            create_on_push: CreateOnPush::default(),
            manifest_body_bytes_max: MANIFEST_BODY_BYTES_MAX,
        }
    }

    /// Makes every repository name begin with `prefix` and a slash, as a public registry's do with its alias: asked for
    /// and stripped on the way in, put back on the way out.
    #[must_use]
    pub fn with_name_prefix(mut self, prefix: impl Into<String>) -> Adapter {
        self.prefix = Some(Arc::from(prefix.into()));
        self
    }

    /// Makes the URLs in answers absolute, such as `https://registry.example:5000`. Without it they are relative to the
    /// request, which the specification allows and which stays right behind any proxy.
    #[must_use]
    pub fn with_location_base(mut self, base: impl Into<String>) -> Adapter {
        // A header holds visible ASCII alone; what is not that has no business in an authority.
        let base: String = base.into().chars().filter(char::is_ascii_graphic).collect();
        self.base = Arc::from(base.trim_end_matches('/'));
        self
    }

    /// Says whether a push makes the repository that it pushes to.
    #[must_use]
    pub fn with_create_on_push(mut self, policy: CreateOnPush) -> Adapter {
        self.create_on_push = policy;
        self
    }

    /// Sets the longest body of a manifest that is taken, in bytes. Default [`MANIFEST_BODY_BYTES_MAX`].
    #[must_use]
    pub fn with_manifest_body_bytes_max(mut self, bytes: u64) -> Adapter {
        self.manifest_body_bytes_max = bytes;
        self
    }

    /// The longest body of a manifest that is taken, in bytes; beyond it,
    /// [`OciError::manifest_too_large`] is the answer.
    pub fn manifest_body_bytes_max(&self) -> u64 {
        self.manifest_body_bytes_max
    }

    /// Reads a request line: the method, and path and query as they came, percent-encoded.
    ///
    /// Looks at nothing but its arguments. Paths are taken literally: what holds an empty piece, a dot segment, an
    /// encoded slash or a NUL is refused rather than tidied up.
    ///
    /// # Errors
    /// A finished answer: 404 for a path that is not the protocol's, 405 with `Allow` for a method that is not the
    /// path's, 400 or 404 for names, digests, tags and numbers that break their grammar.
    pub fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Result<Route, OciError> {
        route(method, path, query, self.prefix.as_deref())
    }

    /// Does what `route` asks where that takes a few point reads or one bounded scan: it waits for nobody's lock and nobody's
    /// sync, so a server may call it on the thread that has the request in hand. `None` for every other route, and where
    /// the answer is to be noted (the lease of a blob that a client need not push, the time of a pull, damage), which is
    /// seldom: then [`Adapter::respond`] gives the answer, on a thread that may wait.
    pub fn respond_at_once(&self, route: &Route, headers: &HeaderMap, call: &Call) -> Option<Response> {
        if route.cost() != Cost::Point {
            return None;
        }
        let answer = match route {
            Route::ReadBlob { repository, digest, fetch: Fetch::Head } => self.head_blob_at_once(repository, digest),
            Route::ReadManifest { repository, reference, fetch: Fetch::Body } => {
                self.get_manifest_at_once(repository, reference, headers)
            }
            _ => return Some(self.respond(route, headers, Bytes::new(), call)),
        };
        let answer = answer.unwrap_or_else(|error| Some(error.into_response()))?;
        Some(if route.fetch() == Some(Fetch::Head) { answer.without_body() } else { answer })
    }

    /// Does what `route` asks, with the whole body at hand: empty where the route has none.
    ///
    /// `call` says who asks; it carries no operation id, since one request may be several calls of the engine. What the
    /// answer says was done is durable.
    pub fn respond(&self, route: &Route, headers: &HeaderMap, body: Bytes, call: &Call) -> Response {
        let answer = self.answer(route, headers, body, call).unwrap_or_else(OciError::into_response);
        match route.fetch() {
            Some(Fetch::Head) => answer.without_body(),
            _ => answer,
        }
    }

    fn answer(&self, route: &Route, headers: &HeaderMap, body: Bytes, call: &Call) -> Result<Response, OciError> {
        match route {
            Route::Version { .. } => Ok(Response::json(StatusCode::OK, &serde_json::json!({}))),
            Route::Catalog { page, .. } => self.catalog(page),
            Route::Tags { repository, page, .. } => self.tags(repository, page),
            Route::Referrers { repository, subject, artifact_types, page, .. } => {
                self.referrers(repository, subject, artifact_types, page)
            }
            Route::ReadBlob { repository, digest, fetch: Fetch::Head } => self.head_blob(repository, digest),
            Route::ReadBlob { repository, digest, fetch: Fetch::Body } => self.get_blob(repository, digest, headers),
            Route::DeleteBlob { repository, digest } => self.delete_blob(repository, digest, call),
            Route::BeginUpload { repository, begin } => self.begin(repository, begin, body, call),
            Route::AppendUpload { repository, upload } => self.append(repository, upload, headers, body, call),
            Route::CompleteUpload { repository, upload, digest } => {
                self.complete(repository, upload, digest, headers, body, call)
            }
            Route::UploadStatus { repository, upload } => self.upload_status(repository, upload, call),
            Route::CancelUpload { repository, upload } => self.cancel_upload(repository, upload, call),
            Route::ReadManifest { repository, reference, fetch: Fetch::Head } => {
                self.head_manifest(repository, reference, headers)
            }
            Route::ReadManifest { repository, reference, fetch: Fetch::Body } => {
                self.get_manifest(repository, reference, headers)
            }
            Route::PutManifest { repository, expected, tags } => {
                self.put_manifest(repository, expected.as_ref(), tags, headers, body, call)
            }
            Route::DeleteManifest { repository, reference } => self.delete_manifest(repository, reference, call),
        }
    }

    pub(crate) fn repository(&self, name: &RepositoryName) -> Repository {
        self.registry.repository(name)
    }

    /// Runs one step of a push; where the repository is missing and the policy says so, creates it and runs the step
    /// again, unless `judge` says that this must fail whatever the repository: such a push creates none. The repository
    /// that exists, which is nearly always, costs nothing.
    pub(crate) fn pushing<T>(
        &self,
        repository: &RepositoryName,
        call: &Call,
        judge: impl FnOnce() -> Result<(), OciError>,
        mut step: impl FnMut() -> Result<T, OciError>,
    ) -> Result<T, OciError> {
        match step() {
            Err(error) if error.code() == ErrorCode::NameUnknown && self.creates() => {
                judge()?;
                self.create(repository, call)?;
                step()
            }
            result => result,
        }
    }

    fn creates(&self) -> bool {
        self.create_on_push == CreateOnPush::Always
    }

    fn create(&self, repository: &RepositoryName, call: &Call) -> Result<(), OciError> {
        match self.registry.create_repository(repository, &RepositorySettings::default(), call) {
            // Another push was first: just what was wanted.
            Ok(_) | Err(layerhold::repository::CreateError::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error::create_repository(&error, &self.spelled(repository))),
        }
    }

    /// A repository's name as the registry's clients know it.
    pub(crate) fn spelled(&self, repository: &RepositoryName) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{repository}"),
            None => repository.to_string(),
        }
    }

    /// The repository that a client's spelling means, if it is one of this registry.
    pub(crate) fn unspelled(&self, name: &str) -> Option<RepositoryName> {
        let name = match &self.prefix {
            Some(prefix) => name.strip_prefix(prefix.as_ref())?.strip_prefix('/')?,
            None => name,
        };
        RepositoryName::parse(name).ok()
    }

    pub(crate) fn blob_location(&self, repository: &RepositoryName, digest: &Digest) -> String {
        format!("{}/v2/{}/blobs/{digest}", self.base, self.spelled(repository))
    }

    pub(crate) fn upload_location(&self, repository: &RepositoryName, upload: &UploadId) -> String {
        format!("{}/v2/{}/blobs/uploads/{upload}", self.base, self.spelled(repository))
    }

    pub(crate) fn manifest_location(&self, repository: &RepositoryName, reference: &Reference) -> String {
        format!("{}/v2/{}/manifests/{reference}", self.base, self.spelled(repository))
    }

    /// The value of a `Link` header that names the next page of a listing (RFC 8288).
    pub(crate) fn next_page(&self, path: &str, parameters: &[(&str, &str)]) -> String {
        let mut link = format!("<{}/v2/{path}", self.base);
        for (at, (name, value)) in parameters.iter().enumerate() {
            link.push(if at == 0 { '?' } else { '&' });
            link.push_str(name);
            link.push('=');
            percent::encode_into(&mut link, value);
        }
        link.push_str(">; rel=\"next\"");
        link
    }
}
