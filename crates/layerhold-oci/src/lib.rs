//! OCI distribution 1.1 over the layerhold engine: a request in, a response out.
//!
//! Opens no socket, starts no runtime, reads no clock. A server parses HTTP, says who asks, and moves bytes; this crate
//! knows the paths, headers, codes and bodies of the protocol and asks the engine, which decides. Every call blocks as the
//! engine does, so a server gives it a thread that may wait.
//!
//! # A request, step by step
//!
//! 1. [`Adapter::route`] turns method, path and query into a [`Route`], or into the answer to a request line that is
//!    wrong. It looks at nothing but its arguments; all that is authorised and done follows from the route.
//! 2. [`Route::body`] says how the body is taken. [`RequestBody::None`] and [`RequestBody::Collect`] go through
//!    [`Adapter::respond`] in one call. So may a [`RequestBody::Stream`] that is small; a large one goes piece by piece
//!    through [`Adapter::begin_body`] and a [`BodySink`], and memory stays the same whatever its length.
//! 3. A [`Response`] is status, headers and a [`Body`]: nothing, bytes, or a blob to be read while it is sent, each read
//!    verified before it gives a byte.
//!
//! ```
//! use bytes::Bytes;
//! use http::{HeaderMap, Method, StatusCode};
//! use layerhold::{Call, Registry};
//! use layerhold_oci::{Adapter, Body, Response};
//!
//! /// Answers a request whose body, if it has one, is at hand.
//! fn serve(adapter: &Adapter, method: &Method, path: &str, headers: &HeaderMap, body: Bytes) -> Response {
//!     match adapter.route(method, path, None) {
//!         Ok(route) => adapter.respond(&route, headers, body, &Call::anonymous()),
//!         Err(error) => error.into_response(),
//!     }
//! }
//!
//! # let medium = layerhold_testkit::engine::memory();
//! # let registry: Registry = medium.registry();
//! let adapter = Adapter::new(registry);
//! let response = serve(&adapter, &Method::GET, "/v2/", &HeaderMap::new(), Bytes::new());
//! assert_eq!(response.status, StatusCode::OK);
//! assert!(matches!(response.body, Body::Bytes(_)));
//! ```
//!
//! # Where the specification leaves room
//!
//! - **Bad paths** are refused, never tidied up: empty pieces, dot segments, encoded slashes, NUL, a parameter given twice.
//! - **Tags** follow OCI's grammar here, although the engine takes more for ECR's sake; a listing leaves the others out.
//! - **`Accept`** is not asked: the stored document goes out with the type that was pinned to it.
//! - **Chunks**: a `Content-Range` must begin where the session ends, else 416 with the session's `Range`; a body without
//!   one is appended. What arrived before a client went away is kept.
//! - **Mounts** need `from`, and the blob must be linked there; everything else is 202 with a session.
//! - **Deleting** a blob that a manifest of the repository names, or a manifest that an index names, is 405.
//! - **Referrers** of anything are 200, an empty index at least.
//! - **Several tags** may be given with a manifest that is put by digest, as `?tag=` again and again; each comes back in an
//!   `OCI-Tag` header.
//! - **Pages** hold 1,000 items at the most, and that many where the client names no number.

mod adapter;
mod blob;
mod code;
mod error;
mod listing;
mod manifest;
mod percent;
mod query;
pub mod range;
mod response;
mod route;
mod upload;

pub use adapter::{Adapter, CreateOnPush, MANIFEST_BODY_BYTES_MAX};
pub use code::{ErrorCode, OciError};
pub use error::blob_read_error;
pub use query::{PAGE_ITEMS_MAX, PageQuery};
pub use response::{Body, Response};
pub use route::{Begin, Cost, Fetch, MountSource, RequestBody, Route};
pub use upload::BodySink;
