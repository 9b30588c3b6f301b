//! A request's members once they are typed, and the way from there to the Rust types.

use std::fmt;
use std::ops::Range;

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer, StringDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// A typed value: its JSON fits the shape it was read by; its constraints may not be judged yet.
#[derive(Debug)]
pub(crate) enum Value {
    /// `null`, which counts as absent. Members that are `null` are left out of their structure.
    Null,
    Boolean(bool),
    Integer(i64),
    Double(f64),
    String(String),
    /// Where in the request's buffer the decoded bytes are; becomes [`Value::Bytes`] when the reading is over.
    Blob(Range<usize>),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    Structure(Vec<(&'static str, Value)>),
}

impl Value {
    /// The member of this name, if it is present.
    pub(crate) fn member(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Structure(members) => members.iter().find(|(n, _)| *n == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Gives blobs their bytes. The buffer itself becomes the first blob, which starts it; another blob is copied.
    pub(crate) fn take_blobs(&mut self, buffer: &mut Vec<u8>) {
        let mut ranges = Vec::new();
        self.visit_blobs(&mut |value| {
            if let Self::Blob(range) = value {
                ranges.push(range.clone());
            }
        });
        let mut copies =
            ranges.iter().skip(1).map(|r| buffer.get(r.clone()).unwrap_or_default().to_vec()).collect::<Vec<_>>();
        buffer.truncate(ranges.first().map_or(0, |first| first.end));
        let mut bytes = std::iter::once(std::mem::take(buffer)).chain(copies.drain(..));
        self.visit_blobs(&mut |value| *value = Self::Bytes(bytes.next().unwrap_or_default()));
    }

    /// Visits every blob in the order in which it was read.
    fn visit_blobs(&mut self, visit: &mut impl FnMut(&mut Value)) {
        match self {
            Self::Blob(_) => visit(self),
            Self::List(items) => items.iter_mut().for_each(|v| v.visit_blobs(visit)),
            Self::Map(entries) => entries.iter_mut().for_each(|(_, v)| v.visit_blobs(visit)),
            Self::Structure(members) => members.iter_mut().for_each(|(_, v)| v.visit_blobs(visit)),
            _ => {}
        }
    }
}

/// A typed value that a Rust type cannot hold. It means that tables and types disagree, which is our fault, not the
/// client's.
#[derive(Debug)]
pub(crate) struct Mismatch(String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

impl serde::de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl<'de> IntoDeserializer<'de, Mismatch> for Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

struct Members(std::vec::IntoIter<(&'static str, Value)>, Option<Value>);

impl<'de> MapAccess<'de> for Members {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        let Some((name, value)) = self.0.next() else { return Ok(None) };
        self.1 = Some(value);
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        seed.deserialize(self.1.take().unwrap_or(Value::Null))
    }
}

impl<'de> Deserializer<'de> for Value {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Self::Null | Self::Blob(_) => visitor.visit_unit(),
            Self::Boolean(value) => visitor.visit_bool(value),
            Self::Integer(value) => visitor.visit_i64(value),
            Self::Double(value) => visitor.visit_f64(value),
            Self::String(value) => visitor.visit_string(value),
            Self::Bytes(value) => visitor.visit_byte_buf(value),
            Self::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            Self::Map(entries) => visitor.visit_map(MapDeserializer::new(entries.into_iter())),
            Self::Structure(members) => visitor.visit_map(Members(members.into_iter(), None)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Self::Null => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Self::String(value) => StringDeserializer::new(value).deserialize_enum(name, variants, visitor),
            other => other.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_becomes_the_first_blob() {
        let mut buffer = vec![1, 2, 3, 4, 5, 6, 7, 8];
        let place = buffer.as_ptr();
        let mut value = Value::List(vec![Value::Blob(0..3), Value::Structure(vec![("b", Value::Blob(3..5))])]);
        value.take_blobs(&mut buffer);
        let Value::List(items) = value else { panic!() };
        let Value::Bytes(first) = &items[0] else { panic!() };
        assert_eq!((first.as_slice(), first.as_ptr()), (&[1, 2, 3][..], place), "moved, not copied");
        assert!(matches!(items[1].member("b"), Some(Value::Bytes(b)) if b == &[4, 5]));
    }
}
