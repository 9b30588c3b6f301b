//! layerhold: the storage engine under a container registry.

pub mod blob;
pub mod clock;
pub mod descriptor;
pub mod digest;
pub mod format;
pub mod manifest;
pub mod name;
pub mod store;
pub mod tag;
