//! The owner's way into a running server: a Unix socket in the data directory, for what must not be asked over the network.
//!
//! The socket `control.sock` lies beside the store with permissions 0600, so that whoever can connect could open the files as
//! well; and the peer's user is looked at all the same. A client sends one line of JSON, a [`Request`], and gets lines of
//! JSON back, [`Line`]s, the last of which is [`Line::Done`] or [`Line::Failed`]. A client that goes away stops what it asked
//! for. One request is carried out at a time.

pub mod ask;
pub mod line;
pub mod serve;
pub mod socket;
pub mod work;

use layerhold::check::Level;
use serde::{Deserialize, Serialize};

pub use line::Line;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Prove the store's invariants.
    Check {
        /// How deep.
        level: Depth,
    },
    /// Mend what can be proved right.
    Repair {
        /// How deep to look.
        level: Depth,
        /// Only say what would be done.
        dry_run: bool,
    },
    /// Read everything once, as the scrub does, and quarantine what is damaged.
    Scrub,
}

/// How deep a check goes; each level holds the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Rows alone, small blobs and manifests among them
    Metadata,
    /// And that every file is there, with its length and its footer, and no other
    #[default]
    Files,
    /// And every byte of every blob, hashed
    Bytes,
}

impl From<Depth> for Level {
    fn from(depth: Depth) -> Level {
        match depth {
            Depth::Metadata => Level::Metadata,
            Depth::Files => Level::Files,
            Depth::Bytes => Level::Bytes,
        }
    }
}
