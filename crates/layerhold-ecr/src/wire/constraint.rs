//! The constraints of the tables, judged before anything else is.

use std::fmt;

use super::decode::LIST_ITEMS_MAX;
use super::value::Value;
use crate::messages;
use crate::shape::{Shape, Structure};

/// The first constraint that a request breaks, in the model's order of members.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The member, as messages name it: `imageIds.2.imageTag`.
    pub(crate) path: String,
    /// What must hold, as messages say it.
    pub(crate) detail: String,
    /// Whether a value is too short, too long, too small, too large or of the wrong form, rather than missing.
    pub(crate) out_of_range: bool,
}

/// Where a value stands in its request. Written out only when something is wrong with it.
#[derive(Clone, Copy)]
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Member(&'a str),
    /// Counted from 1.
    Element(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        match self.step {
            Step::Member(name) => f.write_str(name),
            Step::Element(number) => write!(f, "{number}"),
        }
    }
}

type Judgement = Result<(), Violation>;

/// Judges every constraint on `value`, the members of the structure `shape`.
pub(crate) fn check(shape: &'static Shape, value: &Value) -> Judgement {
    match shape {
        Shape::Structure(structure) => members(structure, value, None),
        _ => Ok(()),
    }
}

fn members(structure: &'static Structure, value: &Value, parent: Option<&Path<'_>>) -> Judgement {
    for member in structure.members {
        let path = Path { parent, step: Step::Member(member.name) };
        match value.member(member.name) {
            Some(present) => judge(member.shape, present, &path)?,
            None if member.required => return missing(&path),
            None => {}
        }
    }
    Ok(())
}

fn judge(shape: &'static Shape, value: &Value, path: &Path<'_>) -> Judgement {
    match (shape, value) {
        (_, Value::Null) => missing(path),
        (Shape::String { min, max, pattern }, Value::String(text)) => {
            // Counting characters reads the text: only where a bound can be broken, which its bytes already tell.
            if min.is_some() || max.is_some_and(|max| text.len() as u64 > max) {
                length(text.chars().count() as u64, *min, *max, path)?;
            }
            match pattern {
                Some(pattern) if !pattern.matches(text) => broken(path, messages::must_match(pattern.source())),
                _ => Ok(()),
            }
        }
        (Shape::Enum { values }, Value::String(text)) if !values.contains(&text.as_str()) => {
            broken(path, messages::must_be_one_of(values))
        }
        (Shape::Integer { min, max } | Shape::Long { min, max }, Value::Integer(number)) => {
            if let Some(min) = min.filter(|min| number < min) {
                return broken(path, messages::value_at_least(min));
            }
            if let Some(max) = max.filter(|max| number > max) {
                return broken(path, messages::value_at_most(max));
            }
            Ok(())
        }
        (Shape::Blob { min, max }, Value::Bytes(bytes)) => length(bytes.len() as u64, *min, *max, path),
        (Shape::List { member, min, max }, Value::List(items)) => {
            length(items.len() as u64, *min, max.or(Some(LIST_ITEMS_MAX)), path)?;
            for (index, item) in items.iter().enumerate() {
                judge(member, item, &Path { parent: Some(path), step: Step::Element(index + 1) })?;
            }
            Ok(())
        }
        (Shape::Map { key, value: shape }, Value::Map(entries)) => {
            for (name, entry) in entries {
                let inner = Path { parent: Some(path), step: Step::Member(name) };
                judge(key, &Value::String(name.clone()), &inner)?;
                judge(shape, entry, &inner)?;
            }
            Ok(())
        }
        (Shape::Structure(structure), value) => members(structure, value, Some(path)),
        _ => Ok(()),
    }
}

fn length(length: u64, min: Option<u64>, max: Option<u64>, path: &Path<'_>) -> Judgement {
    if let Some(min) = min.filter(|min| length < *min) {
        return broken(path, messages::length_at_least(min));
    }
    if let Some(max) = max.filter(|max| length > *max) {
        return broken(path, messages::length_at_most(max));
    }
    Ok(())
}

fn broken(path: &Path<'_>, detail: String) -> Judgement {
    Err(Violation { path: path.to_string(), detail, out_of_range: true })
}

fn missing(path: &Path<'_>) -> Judgement {
    Err(Violation { path: path.to_string(), detail: messages::MUST_NOT_BE_NULL.to_owned(), out_of_range: false })
}
