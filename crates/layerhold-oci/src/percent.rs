//! Percent-encoding, each way once.
//!
//! A request's path and query are decoded exactly once, piece by piece and after splitting, so that an encoded slash
//! can never become a separator and what was routed is what was authorised.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text is not a percent-encoding of UTF-8 text without NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Gives `text` with every `%XY` replaced by its byte. A plus sign stays a plus sign: no parameter of this protocol
/// holds a space, and media types hold pluses that clients forget to encode.
pub(crate) fn decode(text: &str) -> Result<Cow<'_, str>, Malformed> {
    if !text.contains('%') {
        return if text.contains('\0') { Err(Malformed) } else { Ok(Cow::Borrowed(text)) };
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let high = rest.next().and_then(hex_value).ok_or(Malformed)?;
            let low = rest.next().and_then(hex_value).ok_or(Malformed)?;
            high * 16 + low
        } else {
            byte
        };
        if byte == 0 {
            return Err(Malformed);
        }
        bytes.push(byte);
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Malformed)
}

/// Appends `text` to `out` as it may stand in a query value: everything but RFC 3986's unreserved characters encoded.
pub(crate) fn encode_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn hex_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Malformed, decode, encode_into};

    #[test]
    fn decodes_once() {
        assert_eq!(decode("sha256%3Aab").as_deref(), Ok("sha256:ab"));
        assert_eq!(decode("sha256%3aab").as_deref(), Ok("sha256:ab"));
        assert_eq!(decode("%252e").as_deref(), Ok("%2e"));
        assert_eq!(decode("a+b").as_deref(), Ok("a+b"));
        assert_eq!(decode("%C3%BC").as_deref(), Ok("ü"));
    }

    #[test]
    fn refuses_what_is_no_encoding() {
        for text in ["%", "%2", "a%zz", "%+1", "%00", "a\0b", "%ff", "%C3"] {
            assert_eq!(decode(text), Err(Malformed), "text={text:?}");
        }
    }

    #[test]
    fn encoding_is_undone_by_decoding() {
        for text in ["v1.0_x-y~z", "a/b c&d=e+f%", "ü\u{1F600}", ""] {
            let mut out = String::new();
            encode_into(&mut out, text);
            assert!(out.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)), "out={out}");
            assert_eq!(decode(&out).as_deref(), Ok(text));
        }
    }
}
