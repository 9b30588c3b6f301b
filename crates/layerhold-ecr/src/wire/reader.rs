//! A strict reader of one JSON text in a buffer that it may overwrite behind itself.
//!
//! It knows tokens, not shapes: strings, numbers, literals, the punctuation of arrays and objects, and how to pass over
//! a value that nobody asked for. Everything before the place it reads may have been overwritten by a decoded blob.

use std::collections::BTreeSet;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How deep arrays and objects may nest. The deepest input of any operation needs six levels.
pub const DEPTH_MAX: usize = 32;
/// How many members one object may have, known or not. The largest input structure has eight.
pub const OBJECT_MEMBERS_MAX: usize = 1_024;

/// Base64 text decoded in one step; a multiple of four, so that only the last step sees padding.
const STEP: usize = 8 * 1024;

/// Why a text is not the JSON that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What is wrong, as a clause.
    pub(crate) what: String,
    /// The byte at which it was noticed.
    pub(crate) at: usize,
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

/// A number as it was written, judged by the grammar only.
#[derive(Debug)]
pub(crate) struct Number {
    text: String,
}

impl Number {
    /// The value, if it is whole and fits 64 bits. `100.0` and `1e2` are whole.
    pub(crate) fn integer(&self) -> Option<i64> {
        let (negative, unsigned) = self.text.strip_prefix('-').map_or((false, self.text.as_str()), |rest| (true, rest));
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_end_matches('0');
        if significant.is_empty() {
            return Some(0);
        }
        // An exponent too long to parse moves the point past anything that fits, one way or the other.
        let exponent: i64 = exponent.parse().ok()?;
        let point = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        let zeros = point.checked_add(i64::try_from(digits.len() - significant.len()).ok()?)?;
        let zeros = usize::try_from(zeros).ok().filter(|z| *z <= 19)?;
        let sign = if negative { "-" } else { "" };
        format!("{sign}{significant}{:0<zeros$}", "").parse().ok()
    }

    /// The nearest double, if it is finite.
    pub(crate) fn double(&self) -> Option<f64> {
        self.text.parse().ok().filter(|value: &f64| value.is_finite())
    }
}

/// What a value starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

pub(crate) struct Reader<'a> {
    bytes: &'a mut [u8],
    at: usize,
    /// Everything before this offset belongs to decoded blobs.
    decoded: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0, decoded: 0, depth: 0 }
    }

    pub(crate) fn fault<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(Fault { what: what.into(), at: self.at })
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn next(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.next(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes `byte` if it comes next, after white space.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let there = self.next() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<()> {
        if self.take(byte) { Ok(()) } else { self.fault(what) }
    }

    /// What the next value is, without taking it.
    pub(crate) fn peek(&mut self) -> Result<Token> {
        self.skip_space();
        match self.next() {
            Some(b'n') => Ok(Token::Null),
            Some(b't' | b'f') => Ok(Token::Boolean),
            Some(b'-' | b'0'..=b'9') => Ok(Token::Number),
            Some(b'"') => Ok(Token::String),
            Some(b'[') => Ok(Token::Array),
            Some(b'{') => Ok(Token::Object),
            Some(_) => self.fault("a value was expected"),
            None => self.fault("the text ends too early"),
        }
    }

    fn literal(&mut self, word: &str) -> Result<()> {
        if self.rest().starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            self.fault("a value was expected")
        }
    }

    pub(crate) fn null(&mut self) -> Result<()> {
        self.literal("null")
    }

    pub(crate) fn boolean(&mut self) -> Result<bool> {
        let value = self.next() == Some(b't');
        self.literal(if value { "true" } else { "false" })?;
        Ok(value)
    }

    pub(crate) fn number(&mut self) -> Result<Number> {
        let start = self.at;
        self.at += usize::from(self.next() == Some(b'-'));
        if self.next() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.next() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.next(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.next(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let text = self.bytes.get(start..self.at).unwrap_or_default();
        Ok(Number { text: String::from_utf8_lossy(text).into_owned() })
    }

    fn digits(&mut self) -> Result<()> {
        let count = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { self.fault("a digit was expected") } else { Ok(()) }
    }

    /// A string, with its escapes resolved.
    pub(crate) fn string(&mut self) -> Result<String> {
        self.expect(b'"', "a string was expected")?;
        let mut text = Vec::new();
        loop {
            let rest = self.rest();
            let Some(run) = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)) else {
                return self.fault("a string does not end");
            };
            text.extend_from_slice(rest.get(..run).unwrap_or_default());
            let stop = rest.get(run).copied();
            self.at += run;
            match stop {
                Some(b'"') => break,
                Some(b'\\') => {
                    let escaped = self.escape()?;
                    text.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => return self.fault("a control character stands in a string"),
            }
        }
        self.at += 1;
        match String::from_utf8(text) {
            Ok(text) => Ok(text),
            Err(_) => self.fault("a string is not UTF-8"),
        }
    }

    fn escape(&mut self) -> Result<char> {
        self.at += 1; // the backslash
        let kind = self.next();
        self.at += 1;
        match kind {
            Some(plain @ (b'"' | b'\\' | b'/')) => Ok(char::from(plain)),
            Some(b'b') => Ok('\u{8}'),
            Some(b'f') => Ok('\u{c}'),
            Some(b'n') => Ok('\n'),
            Some(b'r') => Ok('\r'),
            Some(b't') => Ok('\t'),
            Some(b'u') => {
                let first = self.four_hex()?;
                let code = match first {
                    0xd800..=0xdbff if self.rest().starts_with(br"\u") => {
                        self.at += 2;
                        match self.four_hex()? {
                            second @ 0xdc00..=0xdfff => 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                            _ => return self.fault("half of a surrogate pair stands alone"),
                        }
                    }
                    other => other,
                };
                char::from_u32(code).map_or_else(|| self.fault("half of a surrogate pair stands alone"), Ok)
            }
            _ => self.fault("an unknown escape stands in a string"),
        }
    }

    fn four_hex(&mut self) -> Result<u32> {
        let digits = self.rest().get(..4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let code = digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u32::from_str_radix(d, 16).ok());
        match code {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => self.fault("four hexadecimal digits were expected"),
        }
    }

    /// A string of base64, decoded where it stands.
    ///
    /// Gives where in the buffer the bytes are. They lie after those of every blob before, and the first blob starts the
    /// buffer, so that the caller can make the buffer itself the blob.
    pub(crate) fn blob(&mut self) -> Result<Range<usize>> {
        self.expect(b'"', "a string was expected")?;
        let from = self.at;
        let to = self.blob_text()?;
        let start = self.decoded;
        let (mut read, mut write) = (from, start);
        let mut step = [0; STEP];
        while read < to {
            let text = self.bytes.get(read..to.min(read + STEP)).unwrap_or_default();
            let Some(copy) = step.get_mut(..text.len()) else { return self.fault("a blob is not base64") };
            copy.copy_from_slice(text);
            // The decoded bytes of a step are fewer than its text and start no later, so nothing unread is overwritten.
            let room = self.bytes.get_mut(write..read + copy.len()).unwrap_or_default();
            let Ok(count) = STANDARD.decode_slice(&*copy, room) else { return self.fault("a blob is not base64") };
            read += copy.len();
            write += count;
            if read < to && count != STEP / 4 * 3 {
                return self.fault("a blob is not base64"); // padding before the end
            }
        }
        self.decoded = write;
        Ok(start..write)
    }

    /// Finds the end of the blob's text and moves past it; gives the end of the text with its escapes resolved in place.
    fn blob_text(&mut self) -> Result<usize> {
        let mut write = self.at;
        loop {
            let Some(run) = memchr::memchr2(b'"', b'\\', self.rest()) else {
                return self.fault("a string does not end");
            };
            if write != self.at {
                self.bytes.copy_within(self.at..self.at + run, write);
            }
            self.at += run;
            write += run;
            if self.next() == Some(b'"') {
                self.at += 1;
                return Ok(write);
            }
            let escaped = self.escape()?;
            // Base64 is ASCII. Anything else is replaced by a byte that the decoder refuses.
            if let Some(slot) = self.bytes.get_mut(write) {
                *slot = u8::try_from(escaped).unwrap_or(0);
            }
            write += 1;
        }
    }

    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fault(format!("arrays and objects nest deeper than {DEPTH_MAX}"));
        }
        Ok(())
    }

    /// An array; `element` takes each of its values.
    pub(crate) fn array(&mut self, mut element: impl FnMut(&mut Self, usize) -> Result<()>) -> Result<()> {
        self.expect(b'[', "an array was expected")?;
        self.enter()?;
        let mut count = 0;
        if !self.take(b']') {
            loop {
                element(self, count)?;
                count += 1;
                if self.take(b']') {
                    break;
                }
                self.expect(b',', "a comma or the end of an array was expected")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// An object; `member` takes each of its values. A key that comes twice is refused.
    pub(crate) fn object(&mut self, mut member: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        self.expect(b'{', "an object was expected")?;
        self.enter()?;
        let mut keys = BTreeSet::new();
        if !self.take(b'}') {
            loop {
                self.skip_space();
                let key = self.string()?;
                if keys.contains(&key) {
                    return self.fault("a key stands twice in one object");
                }
                if keys.len() == OBJECT_MEMBERS_MAX {
                    return self.fault(format!("an object has more than {OBJECT_MEMBERS_MAX} members"));
                }
                self.expect(b':', "a colon was expected")?;
                member(self, &key)?;
                keys.insert(key);
                if self.take(b'}') {
                    break;
                }
                self.expect(b',', "a comma or the end of an object was expected")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Passes over one value, judging its grammar.
    pub(crate) fn ignore(&mut self) -> Result<()> {
        match self.peek()? {
            Token::Null => self.null(),
            Token::Boolean => self.boolean().map(drop),
            Token::Number => self.number().map(drop),
            Token::String => self.string().map(drop),
            Token::Array => self.array(|reader, _| reader.ignore()),
            Token::Object => self.object(|reader, _| reader.ignore()),
        }
    }

    /// Refuses anything after the value.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.skip_space();
        if self.next().is_some() { self.fault("text follows the value") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<()> {
        let mut bytes = text.as_bytes().to_vec();
        let mut reader = Reader::new(&mut bytes);
        reader.ignore()?;
        reader.end()
    }

    #[test]
    fn the_grammar_is_that_of_json() {
        for good in [
            "null",
            "true",
            " false ",
            "0",
            "-0",
            "-0.5e-7",
            "1E+2",
            "\"\"",
            r#""\u00e9\ud83d\ude00\/""#,
            "[]",
            "[1,[2]]",
            "{}",
            "{\"a\":{\"a\":1}}",
            "\t\r\n{ \"a\" : [ ] }",
            "\"é\"",
        ] {
            assert_eq!(whole(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            " ",
            "nul",
            "nulll",
            "True",
            "01",
            "-",
            "+1",
            ".5",
            "1.",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            r#""\ud800""#,
            r#""\ud800A""#,
            r#""\udc00""#,
            "\"\n\"",
            "[",
            "[1",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{",
            "{a:1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1,\"a\":2}",
            "{\"x\":{\"a\":1,\"\\u0061\":2}}",
            "1 1",
            "{} x",
            "\u{feff}{}",
            "'a'",
        ] {
            assert!(whole(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let mut bytes = b"\"\xff\"".to_vec();
        assert_eq!(Reader::new(&mut bytes).ignore().unwrap_err().what, "a string is not UTF-8");
    }

    #[test]
    fn depth_and_members_are_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(whole(&nested(DEPTH_MAX)), Ok(()));
        assert!(whole(&nested(DEPTH_MAX + 1)).unwrap_err().what.contains("nest deeper"));
        let members = |n: usize| format!("{{{}}}", (0..n).map(|i| format!("\"{i}\":1")).collect::<Vec<_>>().join(","));
        assert_eq!(whole(&members(OBJECT_MEMBERS_MAX)), Ok(()));
        assert!(whole(&members(OBJECT_MEMBERS_MAX + 1)).unwrap_err().what.contains("more than 1024 members"));
        // Hundreds of thousands of open brackets must not exhaust the stack.
        assert!(whole(&"[".repeat(500_000)).is_err());
    }

    #[test]
    fn integers_are_exact() {
        let integer = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            Reader::new(&mut bytes).number().unwrap().integer()
        };
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("0.000", 0),
            ("0e999999999999999999999", 0),
            ("100.0", 100),
            ("1e2", 100),
            ("1.5e1", 15),
            ("1500e-2", 15),
            ("-7", -7),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("9.223372036854775807e18", i64::MAX),
        ] {
            assert_eq!(integer(text), Some(value), "{text}");
        }
        for text in [
            "1.5",
            "1e-1",
            "9223372036854775808",
            "1e19",
            "1e999999999999999999999",
            "0.1",
            "-0.5",
            "1e-999999999999999999999",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    fn blob(text: &str) -> Result<Vec<u8>> {
        let mut bytes = format!("{{\"blob\":\"{text}\"").into_bytes();
        let mut reader = Reader::new(&mut bytes);
        reader.at = 8;
        let range = reader.blob()?;
        assert_eq!(reader.next(), None, "the reader stands after the closing quote");
        assert_eq!(range.start, 0);
        Ok(bytes[range].to_vec())
    }

    #[test]
    fn blobs_are_decoded_in_place() {
        for len in [0, 1, 2, 3, 4, 100, STEP / 4 * 3 - 1, STEP / 4 * 3, STEP / 4 * 3 + 1, 3 * STEP, 100_000] {
            let data: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
            let text = STANDARD.encode(&data);
            assert_eq!(blob(&text).unwrap(), data, "length {len}");
            assert_eq!(blob(&text.replace('/', r"\/").replace('+', r"\u002b")).unwrap(), data, "length {len}, escaped");
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for bad in [
            "A",
            "AA",
            "AAA",
            "AA=",
            "A===",
            "AA==AAAA",
            "AA A",
            "AAA\u{e9}",
            "-_-_",
            "AAAA\n",
            r"AAA\u00e9",
            r"AA\n",
            "AB==",
        ] {
            assert!(blob(bad).is_err(), "{bad}");
        }
        let early_padding = format!("{}AA=={}", "A".repeat(STEP - 4), "AAAA");
        assert!(blob(&early_padding).is_err());
        let mut open = b"\"AAAA".to_vec();
        assert!(Reader::new(&mut open).blob().is_err());
    }

    #[test]
    fn a_second_blob_lies_behind_the_first() {
        let mut bytes = br#"["AAEC","AwQF"]"#.to_vec();
        let mut reader = Reader::new(&mut bytes);
        let mut ranges = Vec::new();
        reader.array(|r, _| r.blob().map(|range| ranges.push(range))).unwrap();
        assert_eq!(ranges, [0..3, 3..6]);
        assert_eq!(bytes[..6], [0, 1, 2, 3, 4, 5]);
    }
}
