//! Uploads: bytes on their way to becoming a blob, durable part by part.
//!
//! A session is a row ([`UploadRow`](crate::format::values::UploadRow)) bound to a repository and a principal. Its
//! bytes are staged in a row while they are few and in a file once they are more; digest and fingerprint are computed
//! once, while bytes arrive, and their state is committed with each part. So a session goes on after a restart, or in
//! another process, from its last durable byte, and completing never reads the bytes again.

mod complete;
mod errors;
pub(crate) mod lane;
pub(crate) mod open;
mod part;
mod session;
mod staging;
mod writer;
pub(crate) mod writers;

use std::fmt;

use crate::hex;

pub use complete::{CompleteUpload, Completed, EmptyUpload, Expected};
pub use errors::{
    AppendError, BeginError, CancelError, CompleteError, StatusError, TooManyUploads, UploadDamaged, UploadNotFound,
};
pub use part::{PartAccepted, PartRange};
pub use session::UploadStatus;
pub(crate) use session::drop_session;
pub use writer::UploadWriter;

/// Names an upload session: 128 random bits. Printed and parsed in UUID form, lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(pub [u8; 16]);

/// A text that is not an upload id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("upload id is not a UUID length={len}")]
pub struct InvalidUploadId {
    /// Length of the text in bytes.
    pub len: usize,
}

impl UploadId {
    /// Reads the UUID form: 32 hexadecimal digits of either case with hyphens after the 8th, 12th, 16th and 20th.
    pub fn parse(text: &str) -> Result<Self, InvalidUploadId> {
        let invalid = || InvalidUploadId { len: text.len() };
        let (hyphens, digits): (Vec<_>, Vec<_>) =
            text.bytes().enumerate().partition(|(at, _)| matches!(at, 8 | 13 | 18 | 23));
        if text.len() != 36 || hyphens.iter().any(|(_, byte)| *byte != b'-') {
            return Err(invalid());
        }
        let digits: Vec<u8> = digits.into_iter().map(|(_, byte)| byte.to_ascii_lowercase()).collect();
        hex::decode_array(&digits).map(Self).map_err(|_| invalid())
    }
}

impl std::str::FromStr for UploadId {
    type Err = InvalidUploadId;

    fn from_str(text: &str) -> Result<Self, InvalidUploadId> {
        Self::parse(text)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, byte)| {
            let hyphen = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_id_is_a_uuid_and_nothing_else() {
        let id = UploadId([0x6c, 0xb6, 0x4b, 0x8a, 0x93, 0x78, 0x0e, 0x33, 1, 2, 3, 4, 5, 6, 7, 0xff]);
        let text = "6cb64b8a-9378-0e33-0102-0304050607ff";
        assert_eq!(id.to_string(), text);
        assert_eq!(UploadId::parse(text), Ok(id));
        assert_eq!(UploadId::parse(&text.to_uppercase()), Ok(id));
        for wrong in ["", "6cb64b8a93780e3301020304050607ff", "6cb64b8a-9378-0e33-0102-0304050607f", "../etc/passwd"] {
            assert!(UploadId::parse(wrong).is_err(), "{wrong}");
        }
        assert!(UploadId::parse("6cb64b8a-9378-0e33-0102-0304050607fg").is_err());
        assert!(UploadId::parse("6cb64b8a-9378-0e33-0102-0304050607ff0").is_err());
    }
}
