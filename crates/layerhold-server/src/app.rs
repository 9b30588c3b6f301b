//! From a request to an answer: which protocol, which registry, on which thread.
//!
//! The engine's calls block. Those that change something wait for a sync and run on blocking threads; so does whatever
//! reads more than a few rows. Point reads (a manifest, the existence of a blob, a page of tags) answer from memory in
//! single microseconds and run on the thread that has the request in hand: a hop there and back costs more than they do,
//! see `docs/decisions/0004-where-the-servers-calls-run.md`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use layerhold::clock::SystemClock;
use layerhold::{Call, Engine};
use layerhold_ecr::Ecr;
use layerhold_ecr::registry::{RegistryConfig, Scope};
use layerhold_ecr::token::TokenKey;
use tokio::time::Instant;

use crate::answer::{Answer, REQUEST_ID};
use crate::arrival::{Arrival, Pace};
use crate::body::Body;
use crate::budget::Budget;
use crate::config::{Config, ConfigError, CreateOnPush};
use crate::connection::Pulse;
use crate::download::Downloads;
use crate::host::{self, Wanted};
use crate::request_id::{RequestId, RequestIds};
use crate::serve::ServeError;
use crate::{download_url, ecr, oci};

/// Where download URLs lead.
pub const DOWNLOAD_PREFIX: &str = "/download/";

/// A request body that nobody wants is read up to this much, so that its sender gets to see the answer.
const DISCARD_BYTES_MAX: u64 = 8 << 20;

/// Everything that answers requests; one for the whole server.
pub struct App {
    /// The engine behind both protocols.
    pub(crate) engine: Engine,
    /// OCI distribution over the private registry.
    pub(crate) oci_private: layerhold_oci::Adapter,
    /// OCI distribution over the public one, whose names begin with its alias.
    pub(crate) oci_public: layerhold_oci::Adapter,
    /// Both ECR services.
    pub(crate) ecr: Ecr,
    /// Memory of bodies that are held whole.
    pub(crate) budget: Budget,
    /// Buffers of downloads.
    pub(crate) downloads: Downloads,
    account: String,
    pace: Pace,
    ids: RequestIds,
}

/// The connection that a request came over.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its clock.
    pub pulse: Arc<Pulse>,
    /// The other end.
    pub peer: SocketAddr,
    /// The registry that its listener serves by default.
    pub default: Wanted,
}

impl App {
    /// The application over `engine`, whose registries are named by `registries`.
    ///
    /// # Errors
    /// Where the engine cannot make the two registries.
    pub fn new(
        engine: Engine,
        config: &Config,
        registries: RegistryConfig,
        downloads: Downloads,
    ) -> Result<App, ServeError> {
        let key = TokenKey::new(engine.derive_key("tokens of the ECR adapter"));
        let ecr =
            Ecr::new(&engine, registries.clone(), key, Arc::new(SystemClock::default())).map_err(ConfigError::from)?;
        if !config.read_only {
            ecr.create_registries(&Call::anonymous())?;
        }
        let create = match config.create_on_push {
            CreateOnPush::Always => layerhold_oci::CreateOnPush::Always,
            // There are no templates yet, so none says that a push may create.
            CreateOnPush::Templates | CreateOnPush::Never => layerhold_oci::CreateOnPush::Never,
        };
        let mut oci_private =
            layerhold_oci::Adapter::new(ecr.registry(Scope::Private).clone()).with_create_on_push(create);
        let mut oci_public = layerhold_oci::Adapter::new(ecr.registry(Scope::Public).clone())
            .with_create_on_push(create)
            .with_name_prefix(registries.public_alias());
        if let Some(url) = &config.external_url {
            oci_private = oci_private.with_location_base(url.as_str());
        }
        if let Some(url) = &config.public_external_url {
            oci_public = oci_public.with_location_base(url.as_str());
        }
        Ok(App {
            engine,
            oci_private,
            oci_public,
            ecr,
            budget: Budget::new(config.body_memory_bytes),
            downloads,
            account: config.account.clone(),
            pace: Pace { idle: config.idle_timeout, rate_min: config.body_rate_min },
            ids: RequestIds::new(),
        })
    }

    /// Answers one request.
    ///
    /// # Errors
    /// None: whatever goes wrong has an answer.
    pub async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        origin: Origin,
    ) -> Result<Response<Body>, Infallible> {
        origin.pulse.request_arrived();
        let started = Instant::now();
        let id = self.ids.draw();
        let (parts, body) = request.into_parts();
        let mut arrival = Arrival::new(body, self.pace);
        let answer = self.dispatch(&parts, &mut arrival, &origin, id).await;
        log(&parts, &answer, &origin, id, started.elapsed());
        if !arrival.is_complete() {
            tokio::spawn(arrival.discard(DISCARD_BYTES_MAX));
        }

        let mut response = Response::new(Body::new(answer.payload, id, origin.pulse));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response.headers_mut().insert(request_id_header(&parts), id.header());
        Ok(response)
    }

    async fn dispatch(&self, parts: &Parts, arrival: &mut Arrival<Incoming>, origin: &Origin, id: RequestId) -> Answer {
        let path = parts.uri.path();
        if path == "/v2" || path.starts_with("/v2/") {
            let adapter = match host::wanted(parts, &self.account, origin.default) {
                Wanted::Private => &self.oci_private,
                Wanted::Public => &self.oci_public,
                Wanted::Unknown => return oci::no_such_registry(self),
            };
            return oci::answer(self, adapter, parts, arrival).await;
        }
        if let Some(token) = path.strip_prefix(DOWNLOAD_PREFIX) {
            return download_url::answer(self, token, parts).await;
        }
        match (path, &parts.method) {
            ("/", &Method::POST) => ecr::answer(self, parts, arrival, id).await,
            ("/healthz", &(Method::GET | Method::HEAD)) => Answer::text("health", StatusCode::OK, "ok\n"),
            ("/" | "/healthz", _) => Answer::text("none", StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n")
                .with(http::header::ALLOW, HeaderValue::from_static(if path == "/" { "POST" } else { "GET, HEAD" })),
            _ => Answer::text("none", StatusCode::NOT_FOUND, "not found\n"),
        }
    }
}

/// Runs `call` on a blocking thread; `None` where the call panicked or the server is stopping.
pub(crate) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(call).await.ok()
}

/// The length that a request announces for its body; no header and no chunks mean none, an unreadable one was refused by
/// the HTTP library.
pub(crate) fn announced(parts: &Parts) -> Option<u64> {
    if parts.headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    match parts.headers.get(CONTENT_LENGTH) {
        None => Some(0),
        Some(length) => length.to_str().ok()?.trim().parse().ok(),
    }
}

fn request_id_header(parts: &Parts) -> HeaderName {
    const AMZN: HeaderName = HeaderName::from_static("x-amzn-requestid");
    if parts.uri.path() == "/" { AMZN } else { REQUEST_ID }
}

fn log(parts: &Parts, answer: &Answer, origin: &Origin, id: RequestId, took: Duration) {
    let status = answer.status.as_u16();
    macro_rules! line {
        ($level:ident, $words:literal $(, $cause:expr)?) => {
            tracing::$level!(
                request = %id,
                peer = %origin.peer,
                method = %parts.method,
                path = crate::log::loggable_path(parts.uri.path()),
                operation = answer.operation,
                status,
                took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                $(cause = $cause,)?
                $words
            )
        };
    }
    match &answer.cause {
        Some(cause) => line!(error, "failed", cause.as_str()),
        None if status >= 500 => line!(error, "failed"),
        None if status >= 400 && status != 404 => line!(info, "refused"),
        None if only_reads(parts, answer) => line!(debug, "answered"),
        None => line!(info, "answered"),
    }
}

/// Whether a request changes nothing: it is logged at a level of its own, for there are many.
fn only_reads(parts: &Parts, answer: &Answer) -> bool {
    parts.method == Method::GET || parts.method == Method::HEAD || is_read(answer.operation)
}

/// Whether an ECR operation of this name changes nothing.
pub(crate) fn is_read(operation: &str) -> bool {
    const READING: [&str; 5] = ["BatchCheck", "BatchGet", "Describe", "Get", "List"];
    READING.iter().any(|verb| operation.starts_with(verb))
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("account", &self.account).finish_non_exhaustive()
    }
}
