//! From a request's bytes to typed values, by the tables.

use super::reader::{Fault, Number, Reader, Result, Token};
use super::value::Value;
use crate::shape::{Shape, Structure};

/// How many elements a list may have where the model names no maximum.
pub const LIST_ITEMS_MAX: u64 = 1_000;

/// Reads the members of `shape`, a structure, from `body`. An empty body is an empty object. The buffer is used up.
pub(crate) fn decode(shape: &'static Shape, body: &mut Vec<u8>) -> std::result::Result<Value, Fault> {
    let Shape::Structure(root) = shape else { return Ok(Value::Structure(Vec::new())) };
    if body.is_empty() {
        return Ok(Value::Structure(Vec::new()));
    }
    let mut reader = Reader::new(body);
    if reader.peek()? != Token::Object {
        return reader.fault("the body must be an object");
    }
    let mut value = structure(&mut reader, root)?;
    reader.end()?;
    value.take_blobs(body);
    Ok(value)
}

fn structure(reader: &mut Reader<'_>, structure: &'static Structure) -> Result<Value> {
    let mut members = Vec::new();
    reader.object(|reader, key| match structure.member(key) {
        None => reader.ignore(),
        Some(member) => {
            match value(reader, member.shape, member.name)? {
                Value::Null => {}
                present => members.push((member.name, present)),
            }
            Ok(())
        }
    })?;
    Ok(Value::Structure(members))
}

/// One value of `shape`; `name` is what a message calls it.
fn value(reader: &mut Reader<'_>, shape: &'static Shape, name: &'static str) -> Result<Value> {
    let token = reader.peek()?;
    if token == Token::Null {
        reader.null()?;
        return Ok(Value::Null);
    }
    match (shape, token) {
        (Shape::String { .. } | Shape::Enum { .. }, Token::String) => reader.string().map(Value::String),
        (Shape::Integer { .. }, Token::Number) => {
            let number = reader.number()?;
            match whole(reader, &number, name)? {
                wide if i32::try_from(wide).is_ok() => Ok(Value::Integer(wide)),
                _ => reader.fault(format!("{name} must be a whole number of 32 bits")),
            }
        }
        (Shape::Long { .. }, Token::Number) => {
            let number = reader.number()?;
            whole(reader, &number, name).map(Value::Integer)
        }
        (Shape::Double | Shape::Timestamp, Token::Number) => match reader.number()?.double() {
            Some(value) => Ok(Value::Double(value)),
            None => reader.fault(format!("{name} is out of range")),
        },
        (Shape::Boolean, Token::Boolean) => reader.boolean().map(Value::Boolean),
        (Shape::Blob { .. }, Token::String) => reader.blob().map(Value::Blob),
        (Shape::List { member, max, .. }, Token::Array) => list(reader, member, max.unwrap_or(LIST_ITEMS_MAX), name),
        (Shape::Map { value, .. }, Token::Object) => map(reader, value, name),
        (Shape::Structure(inner), Token::Object) => structure(reader, inner),
        _ => reader.fault(format!("{name} must be {}", expected(shape))),
    }
}

fn whole(reader: &Reader<'_>, number: &Number, name: &str) -> Result<i64> {
    number.integer().map_or_else(|| reader.fault(format!("{name} must be a whole number of 64 bits")), Ok)
}

fn list(reader: &mut Reader<'_>, member: &'static Shape, max: u64, name: &'static str) -> Result<Value> {
    let mut items = Vec::new();
    reader.array(|reader, index| {
        let item = value(reader, member, name)?;
        // One element too many proves the violation; keeping millions would let a small body fill the memory.
        if index as u64 <= max {
            items.push(item);
        }
        Ok(())
    })?;
    Ok(Value::List(items))
}

fn map(reader: &mut Reader<'_>, shape: &'static Shape, name: &'static str) -> Result<Value> {
    let mut entries = Vec::new();
    reader.object(|reader, key| {
        entries.push((key.to_owned(), value(reader, shape, name)?));
        Ok(())
    })?;
    Ok(Value::Map(entries))
}

fn expected(shape: &Shape) -> &'static str {
    match shape {
        Shape::String { .. } | Shape::Enum { .. } => "a string",
        Shape::Integer { .. } | Shape::Long { .. } => "a whole number",
        Shape::Double => "a number",
        Shape::Timestamp => "a number of seconds",
        Shape::Boolean => "true or false",
        Shape::Blob { .. } => "a string of base64",
        Shape::List { .. } => "an array",
        Shape::Map { .. } | Shape::Structure(_) => "an object",
    }
}
