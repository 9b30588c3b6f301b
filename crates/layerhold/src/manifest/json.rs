//! A strict, bounded reader of JSON.
//!
//! What a registry believes of a manifest must be what every client believes of it, so documents that two readers could
//! understand in two ways are refused: the same key twice in one object, bytes behind the document, a byte order mark.
//! Integers are kept exactly. Depth and number of values are bounded, so that no document costs more stack than a fixed
//! amount, nor more memory than a fixed multiple of its length.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::digest::excerpt;

/// Deepest nesting that a document may have by default. Ours: real manifests stay below 8.
pub const DEPTH_MAX: usize = 64;

/// Most values that a document may hold by default, keys of objects not counted. Ours: a manifest with 1,000 layers and
/// ten annotations each holds about 15,000.
pub const VALUES_MAX: usize = 200_000;

/// Bounds on a document. Its length is the caller's to bound, before the bytes are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonLimits {
    /// Objects and arrays inside each other, the outermost counted; above 127 the parser's own limit holds.
    pub depth_max: usize,
    /// Values of every kind, objects and arrays included.
    pub values_max: usize,
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self { depth_max: DEPTH_MAX, values_max: VALUES_MAX }
    }
}

/// A JSON value. Texts without escapes are the document's own bytes, so that reading a manifest costs few allocations.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer from 0 to 2^64 - 1, exactly.
    Unsigned(u64),
    /// An integer from -2^63 to -1, exactly.
    Negative(i64),
    /// Any other number: with a fraction or an exponent, or too large. It is rounded, so nothing may rest on it.
    Inexact(f64),
    /// A string, escapes resolved.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object.
    Object(Object<'a>),
}

impl<'a> Json<'a> {
    /// Reads one document from the whole of `bytes`; white space around it is allowed.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn parse(bytes: &'a [u8], limits: &JsonLimits) -> Result<Self, JsonError> {
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return Err(JsonError::ByteOrderMark);
        }
        let text = std::str::from_utf8(bytes).map_err(|error| JsonError::NotUtf8 { offset: error.valid_up_to() })?;
        let reading = Reading { limits, state: RefCell::default() };
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = match (Value { reading: &reading, depth: 0 }.deserialize(&mut deserializer)) {
            Ok(value) => value,
            Err(error) => {
                return Err(reading.state.into_inner().fault.unwrap_or_else(|| JsonError::from_syntax(&error)));
            }
        };
        match deserializer.end() {
            Ok(()) => Ok(value),
            Err(error) => Err(JsonError::TrailingBytes { line: error.line(), column: error.column() }),
        }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    /// The exact integer, if it is one and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The members, if it is an object.
    pub fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The member called `key`, if it is an object and has one.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?.get(key)
    }

    /// Whether it is `null`.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// What kind of value it is, in words for a message.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Unsigned(_) | Self::Negative(_) | Self::Inexact(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// The members of an object, each key once. Their order in the document says nothing in JSON and is forgotten.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object<'a> {
    /// Ascending by key. One piece of memory: most objects of a manifest have three members.
    members: Vec<(Cow<'a, str>, Json<'a>)>,
}

impl<'a> Object<'a> {
    /// Takes members in any order; the first key in order that is there twice, where there is one.
    fn new(mut members: Vec<(Cow<'a, str>, Json<'a>)>) -> Result<Self, Cow<'a, str>> {
        members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let twice = members.windows(2).find_map(|pair| match pair {
            [(first, _), (second, _)] if first == second => Some(first.clone()),
            _ => None,
        });
        twice.map_or(Ok(Self { members }), Err)
    }

    /// The member called `key`, if there is one.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        let at = self.members.binary_search_by(|(member, _)| member.as_ref().cmp(key)).ok()?;
        self.members.get(at).map(|(_, value)| value)
    }

    /// The members, ascending by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Json<'a>)> {
        self.members.iter().map(|(key, value)| (key.as_ref(), value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// Bytes that are not one unambiguous JSON document within the limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The bytes are not UTF-8.
    #[error("text is not UTF-8 offset={offset}")]
    NotUtf8 {
        /// Bytes that are, from the beginning.
        offset: usize,
    },
    /// A byte order mark stands before the document (RFC 8259, section 8.1: must not).
    #[error("text begins with a byte order mark")]
    ByteOrderMark,
    /// The text is not JSON.
    #[error("text is not JSON line={line} column={column} reason={reason:?}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1; 0 where the line ends too early.
        column: usize,
        /// The parser's words.
        reason: String,
    },
    /// Something follows the document.
    #[error("text goes on behind the document line={line} column={column}")]
    TrailingBytes {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
    },
    /// An object has one key twice, however it is escaped.
    #[error("an object has a key twice key={key:?}")]
    DuplicateKey {
        /// The first 80 characters of the key.
        key: String,
    },
    /// Objects and arrays are nested too deeply.
    #[error("document is nested too deeply limit={limit}")]
    TooDeep {
        /// Levels allowed.
        limit: usize,
    },
    /// There are too many values.
    #[error("document has too many values limit={limit}")]
    TooManyValues {
        /// Values allowed.
        limit: usize,
    },
}

impl JsonError {
    fn from_syntax(error: &serde_json::Error) -> Self {
        let reason = error.to_string();
        // The parser repeats the position at the end of its message.
        let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
        Self::Syntax { line: error.line(), column: error.column(), reason }
    }
}

/// What the values of one document share while it is read.
struct Reading<'a> {
    limits: &'a JsonLimits,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    values: usize,
    /// Our own reason for stopping: the parser's error type cannot carry it.
    fault: Option<JsonError>,
}

impl Reading<'_> {
    fn stop<E: de::Error>(&self, fault: JsonError) -> E {
        self.state.borrow_mut().fault = Some(fault);
        E::custom("stopped")
    }

    fn count_value<E: de::Error>(&self) -> Result<(), E> {
        let limit = self.limits.values_max;
        let values = {
            let mut state = self.state.borrow_mut();
            state.values += 1;
            state.values
        };
        if values > limit { Err(self.stop(JsonError::TooManyValues { limit })) } else { Ok(()) }
    }
}

/// Reads one value, which stands inside `depth` objects and arrays.
#[derive(Clone, Copy)]
struct Value<'a> {
    reading: &'a Reading<'a>,
    depth: usize,
}

impl Value<'_> {
    /// The reader for what is inside, unless that is too deep.
    fn inside<E: de::Error>(self) -> Result<Self, E> {
        let limit = self.reading.limits.depth_max;
        if self.depth >= limit {
            return Err(self.reading.stop(JsonError::TooDeep { limit }));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        self.reading.count_value()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(u64::try_from(value).map_or(Json::Negative(value), Json::Unsigned))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Inexact(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(value)))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json<'de>, A::Error> {
        let inside = self.inside()?;
        let mut values = Vec::new();
        while let Some(value) = elements.next_element_seed(inside)? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json<'de>, A::Error> {
        let inside = self.inside()?;
        let mut members = Vec::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            members.push((key, entries.next_value_seed(inside)?));
        }
        let twice = |key: Cow<'_, str>| self.reading.stop(JsonError::DuplicateKey { key: excerpt(&key) });
        Object::new(members).map(Json::Object).map_err(twice)
    }
}

/// Reads the key of a member.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(value.to_owned()))
    }

    fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Json<'_>, JsonError> {
        Json::parse(text.as_bytes(), &JsonLimits::default())
    }

    #[test]
    fn values_of_every_kind() {
        let value = parse(r#" {"a":[null,true,1,-1,1.5,"x\u0041\n"],"b":{}} "#).unwrap();
        let elements = value.get("a").unwrap().as_array().unwrap();
        assert_eq!(
            elements,
            [
                Json::Null,
                Json::Bool(true),
                Json::Unsigned(1),
                Json::Negative(-1),
                Json::Inexact(1.5),
                Json::String("xA\n".into()),
            ]
        );
        assert_eq!(value.get("b"), Some(&Json::Object(Object::default())));
        assert_eq!(value.get("c"), None);
        assert_eq!(elements[2].as_u64(), Some(1));
        assert_eq!(elements[5].as_str(), Some("xA\n"));
        assert!(elements[0].is_null());
        assert_eq!(parse("\"\\ud83d\\udc0b\""), Ok(Json::String("\u{1f40b}".into())));
    }

    #[test]
    fn integers_are_kept_exactly_or_not_as_integers() {
        assert_eq!(parse("18446744073709551615"), Ok(Json::Unsigned(u64::MAX)));
        assert_eq!(parse("9007199254740993"), Ok(Json::Unsigned(9_007_199_254_740_993)));
        assert_eq!(parse("-9223372036854775808"), Ok(Json::Negative(i64::MIN)));
        assert_eq!(parse("0"), Ok(Json::Unsigned(0)));
        for text in ["18446744073709551616", "-9223372036854775809", "1e3", "1.0", "0.0", "1E+2", "-0.0"] {
            let value = parse(text).unwrap();
            assert!(matches!(value, Json::Inexact(_)), "{text} {value:?}");
            assert_eq!(value.as_u64(), None);
        }
        assert_eq!(parse("-0").unwrap().as_u64(), None);
        assert!(matches!(parse("1e400"), Err(JsonError::Syntax { .. })));
        assert!(matches!(parse(&"9".repeat(100_000)), Err(JsonError::Syntax { .. })));
    }

    #[test]
    fn text_that_is_not_json() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "'a'",
            "nul",
            "NaN",
            "Infinity",
            "01",
            "+1",
            ".5",
            "1.",
            "\"a",
            "\"\t\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "[1 2]",
            "{\"a\" 1}",
            "{1:2}",
            "// c\n1",
            "\u{a0}1",
        ] {
            assert!(matches!(parse(text), Err(JsonError::Syntax { .. })), "{text:?} {:?}", parse(text));
        }
        assert_eq!(
            parse("{\n  x"),
            Err(JsonError::Syntax { line: 2, column: 3, reason: "key must be a string".into() })
        );
    }

    #[test]
    fn encodings_other_than_plain_utf_8() {
        let limits = JsonLimits::default();
        assert_eq!(Json::parse(b"\xef\xbb\xbf{}", &limits), Err(JsonError::ByteOrderMark));
        assert_eq!(Json::parse(b"\"ab\xff\"", &limits), Err(JsonError::NotUtf8 { offset: 3 }));
        assert_eq!(Json::parse(b"{\"\xed\xa0\x80\":1}", &limits), Err(JsonError::NotUtf8 { offset: 2 }));
        assert_eq!(Json::parse(b"\xff\xfe{\0}\0", &limits), Err(JsonError::NotUtf8 { offset: 0 }));
        assert!(matches!(Json::parse(b"{\0}\0", &limits), Err(JsonError::Syntax { .. })));
    }

    #[test]
    fn nothing_may_follow_the_document_but_white_space() {
        assert!(parse("{} \r\n\t ").is_ok());
        for text in ["{}{}", "{},", "{}\0", "{} x", "1 2", "[]]", "0x1", "\"a\"\"b\""] {
            assert!(matches!(parse(text), Err(JsonError::TrailingBytes { line: 1, .. })), "{text:?}");
        }
    }

    #[test]
    fn a_key_may_not_come_twice_at_any_level() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"a":3}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"[[{"x":[{"a":1,"a":2}]}]]"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":null,"a":null}"#,
        ] {
            assert_eq!(parse(text), Err(JsonError::DuplicateKey { key: "a".into() }), "{text}");
        }
        assert!(parse(r#"{"a":{"a":{"a":1}},"A":2,"":3}"#).is_ok());
        assert_eq!(parse(r#"{"":1,"":2}"#), Err(JsonError::DuplicateKey { key: String::new() }));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(parse(&nested(DEPTH_MAX + 1)), Err(JsonError::TooDeep { limit: DEPTH_MAX }));
        let objects = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert!(parse(&objects(DEPTH_MAX)).is_ok());
        assert_eq!(parse(&objects(DEPTH_MAX + 1)), Err(JsonError::TooDeep { limit: DEPTH_MAX }));
        // Far deeper than any stack, and never closed.
        assert_eq!(parse(&"[".repeat(4 << 20)), Err(JsonError::TooDeep { limit: DEPTH_MAX }));
        assert_eq!(parse(&"{\"a\":[".repeat(500_000)), Err(JsonError::TooDeep { limit: DEPTH_MAX }));
        let wide = JsonLimits { depth_max: 1_000_000, ..JsonLimits::default() };
        assert!(matches!(Json::parse("[".repeat(1 << 20).as_bytes(), &wide), Err(JsonError::Syntax { .. })));
        let flat = JsonLimits { depth_max: 0, ..JsonLimits::default() };
        assert_eq!(Json::parse(b"1", &flat), Ok(Json::Unsigned(1)));
        assert_eq!(Json::parse(b"[]", &flat), Err(JsonError::TooDeep { limit: 0 }));
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        let limits = JsonLimits { values_max: 4, ..JsonLimits::default() };
        assert!(Json::parse(b"[1,2,3]", &limits).is_ok());
        assert_eq!(Json::parse(b"[1,2,3,4]", &limits), Err(JsonError::TooManyValues { limit: 4 }));
        assert_eq!(Json::parse(br#"{"a":1,"b":[1,2]}"#, &limits), Err(JsonError::TooManyValues { limit: 4 }));
        let wide = format!("[{}0]", "0,".repeat(1_000_000));
        assert_eq!(parse(&wide), Err(JsonError::TooManyValues { limit: VALUES_MAX }));
        let keys: Vec<String> = (0..VALUES_MAX).map(|i| format!("\"{i}\":0")).collect();
        assert_eq!(parse(&format!("{{{}}}", keys.join(","))), Err(JsonError::TooManyValues { limit: VALUES_MAX }));
    }
}
