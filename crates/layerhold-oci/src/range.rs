//! The three range grammars of the protocol, converted once at this edge to a first byte and a length.
//!
//! `Range` and the answer's `Content-Range` are RFC 9110's and carry the unit `bytes`; an upload's `Content-Range` and
//! `Range` are OCI's own, two numbers with a hyphen and no unit. All of them include their last byte.

use http::HeaderValue;

/// What a `Range` header asks for, judged against the size of the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The blob as a whole: no range, a unit that is not bytes, or several ranges, which a server may ignore.
    Whole,
    /// `len` bytes from `first_byte`, at least one, within the blob.
    Part {
        /// Where it begins.
        first_byte: u64,
        /// How long it is.
        len: u64,
    },
    /// A range of bytes that is malformed or lies outside of the blob.
    Unsatisfiable,
}

/// Judges a `Range` header against a blob of `size` bytes.
///
/// RFC 9110 lets a server ignore or refuse a malformed range; refusing tells the client of its mistake.
pub fn wanted(header: &str, size: u64) -> Wanted {
    let Some((unit, ranges)) = header.split_once('=') else {
        return Wanted::Unsatisfiable;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    if ranges.contains(',') {
        return Wanted::Whole;
    }
    match ranges.trim().split_once('-') {
        Some(("", suffix)) => match number(suffix) {
            Some(0) | None => Wanted::Unsatisfiable,
            Some(_) if size == 0 => Wanted::Unsatisfiable,
            Some(suffix) => {
                let len = suffix.min(size);
                Wanted::Part { first_byte: size - len, len }
            }
        },
        Some((first, last)) => {
            let Some(first) = number(first) else {
                return Wanted::Unsatisfiable;
            };
            let last = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            match last {
                Some(last) if first <= last && first < size => {
                    Wanted::Part { first_byte: first, len: last.min(size - 1) - first + 1 }
                }
                _ => Wanted::Unsatisfiable,
            }
        }
        None => Wanted::Unsatisfiable,
    }
}

/// First byte and length of an upload's `Content-Range`, `^[0-9]+-[0-9]+$` with both ends included; `None` where the
/// text is anything else, ends before it begins, or does not fit.
pub fn chunk(header: &str) -> Option<(u64, u64)> {
    let (first, last) = header.split_once('-')?;
    let (first, last) = (exact_number(first)?, exact_number(last)?);
    let len = last.checked_sub(first)?.checked_add(1)?;
    Some((first, len))
}

/// The value of an upload's `Range` header when `offset` bytes are held.
///
/// `0-0` means none or one: the grammar has no word for none, and clients count on these three characters.
pub(crate) fn held(offset: u64) -> HeaderValue {
    header_value(&format!("0-{}", offset.saturating_sub(1)))
}

/// The value of `Content-Range` in a 206.
pub fn content_range(first_byte: u64, len: u64, size: u64) -> HeaderValue {
    header_value(&format!("bytes {first_byte}-{}/{size}", first_byte.saturating_add(len).saturating_sub(1)))
}

/// The value of `Content-Range` in a 416.
pub fn unsatisfied(size: u64) -> HeaderValue {
    header_value(&format!("bytes */{size}"))
}

/// A decimal number; one that does not fit counts as the largest, which is beyond every blob.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

fn exact_number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[expect(clippy::expect_used, reason = "digits, spaces and punctuation, spelled above, are a header value")]
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a range is a header value")
}

#[cfg(test)]
mod tests {
    use super::Wanted::{Part, Unsatisfiable, Whole};
    use super::{chunk, content_range, held, unsatisfied, wanted};

    #[test]
    fn ranges_of_a_blob() {
        let max = u64::MAX;
        let beyond = "18446744073709551616";
        for (header, size, expected) in [
            ("bytes=0-99", 1000, Part { first_byte: 0, len: 100 }),
            ("bytes=0-0", 1000, Part { first_byte: 0, len: 1 }),
            ("bytes=999-999", 1000, Part { first_byte: 999, len: 1 }),
            ("bytes=10-", 1000, Part { first_byte: 10, len: 990 }),
            ("bytes=-10", 1000, Part { first_byte: 990, len: 10 }),
            ("bytes=-2000", 1000, Part { first_byte: 0, len: 1000 }),
            ("bytes=0-5000", 1000, Part { first_byte: 0, len: 1000 }),
            ("BYTES=1-2", 1000, Part { first_byte: 1, len: 2 }),
            ("bytes= 1-2 ", 1000, Part { first_byte: 1, len: 2 }),
            ("bytes=0-18446744073709551615", max, Part { first_byte: 0, len: max }),
            ("bytes=1000-", 1000, Unsatisfiable),
            ("bytes=1000-1001", 1000, Unsatisfiable),
            ("bytes=5-4", 1000, Unsatisfiable),
            ("bytes=-0", 1000, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-1", 0, Unsatisfiable),
            ("bytes=", 1000, Unsatisfiable),
            ("bytes=-", 1000, Unsatisfiable),
            ("bytes=a-b", 1000, Unsatisfiable),
            ("bytes=+1-2", 1000, Unsatisfiable),
            ("bytes=1-2-3", 1000, Unsatisfiable),
            ("bytes", 1000, Unsatisfiable),
            ("", 1000, Unsatisfiable),
            ("bytes=0-1,5-6", 1000, Whole),
            ("lines=0-1", 1000, Whole),
        ] {
            assert_eq!(wanted(header, size), expected, "header={header:?} size={size}");
        }
        assert_eq!(wanted(&format!("bytes=0-{beyond}"), 10), Part { first_byte: 0, len: 10 });
        assert_eq!(wanted(&format!("bytes={beyond}-"), 10), Unsatisfiable);
        assert_eq!(wanted(&format!("bytes=-{beyond}"), 10), Part { first_byte: 0, len: 10 });
    }

    #[test]
    fn every_part_lies_within_the_blob() {
        for size in 0..6 {
            for first in 0..8_u64 {
                for last in 0..8_u64 {
                    if let Part { first_byte, len } = wanted(&format!("bytes={first}-{last}"), size) {
                        assert!(len > 0 && first_byte + len <= size);
                        assert_eq!((first_byte, len), (first, last.min(size - 1) - first + 1));
                    } else {
                        assert!(first >= size || last < first);
                    }
                }
            }
        }
    }

    #[test]
    fn chunks_of_an_upload() {
        assert_eq!(chunk("0-0"), Some((0, 1)));
        assert_eq!(chunk("0-1023"), Some((0, 1024)));
        assert_eq!(chunk("1024-2047"), Some((1024, 1024)));
        assert_eq!(chunk("00-01"), Some((0, 2)));
        for header in [
            "",
            "-",
            "0",
            "0-",
            "-5",
            "5-4",
            "a-b",
            "+0-1",
            "0-+1",
            "0 - 1",
            " 0-1",
            "bytes 0-1",
            "bytes=0-1",
            "0-1/2",
            "0-1-2",
            "0-18446744073709551615",
            "0-99999999999999999999",
        ] {
            assert_eq!(chunk(header), None, "header={header:?}");
        }
        assert_eq!(chunk("1-18446744073709551615"), Some((1, u64::MAX)));
    }

    #[test]
    fn values_of_headers() {
        assert_eq!(held(0), "0-0");
        assert_eq!(held(1), "0-0");
        assert_eq!(held(1024), "0-1023");
        assert_eq!(content_range(5, 10, 100), "bytes 5-14/100");
        assert_eq!(unsatisfied(7), "bytes */7");
    }
}
