//! Every byte that reaches the disk is spelled here; docs/format.md says the same in words.
//!
//! [`keys`] builds row keys and [`parsed`] takes them apart, [`values`] has the rows behind them, [`scrub`] the one that says
//! how far the scrub came, [`rows`] tells whether a row is one at all, [`footer`] is the end of a blob file, and [`codec`] the
//! few primitive encodings that all of them share. Integers are big-endian, so that keys sort as numbers do.

pub mod codec;
pub mod footer;
pub mod keys;
pub mod parsed;
pub mod rows;
pub mod scrub;
pub mod values;

/// The version of everything on disk. A store of another version is refused.
pub const FORMAT_VERSION: u32 = 1;
