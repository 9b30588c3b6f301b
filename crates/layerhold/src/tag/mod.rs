//! Tags: names for manifests, the rules that move them, and where they have been.

mod history;
mod listing;
pub mod rules;
mod untag;

pub use history::TagEvent;
pub use listing::TagDetail;
pub use untag::UntagError;
