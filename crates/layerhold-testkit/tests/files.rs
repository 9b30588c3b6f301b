//! The file systems and the blob store of local files, held to their contracts, to crashes and to failing calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod files {
    mod contract;
    mod crash;
    mod failing;
    mod sim;
}
