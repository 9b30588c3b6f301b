//! OCI distribution 1.1 over the layerhold engine.
#![doc = ""]

mod adapter;
mod blob;
mod code;
mod error;
mod listing;
mod manifest;
mod percent;
mod query;
mod range;
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
