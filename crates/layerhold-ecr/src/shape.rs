//! How the generated tables describe a service: operations, exceptions, and shapes with their constraints.
//!
//! A shape says which JSON a member takes and which constraints hold for it. [`crate::wire`] reads requests by these
//! tables; the Rust types in [`crate::generated::types`] carry the values once they are judged.

mod pattern;
mod scalar;

pub use pattern::Pattern;
pub use scalar::{Blob, Timestamp};

use crate::generated::types::ErrorCode;
use crate::generated::{private, public};

/// One of the two services, as its model describes it.
#[derive(Debug)]
pub struct Service {
    /// The name under which requests are signed: `ecr` or `ecr-public`.
    pub name: &'static str,
    /// What stands before the dot in `X-Amz-Target`.
    pub target_prefix: &'static str,
    /// Every operation, sorted by name.
    pub operations: &'static [Operation],
    /// Every exception that some operation may answer, sorted by name.
    pub exceptions: &'static [Exception],
}

impl Service {
    /// The operation of this name, spelled exactly.
    pub fn operation(&self, name: &str) -> Option<&'static Operation> {
        let operations = self.operations;
        operations.binary_search_by(|o| o.name.cmp(name)).ok().and_then(|at| operations.get(at))
    }
}

/// Both services, the private one first.
pub fn services() -> [&'static Service; 2] {
    [&private::SERVICE, &public::SERVICE]
}

/// One operation of a service.
#[derive(Debug)]
pub struct Operation {
    /// The name as the wire spells it.
    pub name: &'static str,
    /// The structure that a request holds.
    pub input: &'static Shape,
    /// The structure that an answer holds.
    pub output: &'static Shape,
    /// The exceptions this operation may answer, besides those that every operation may.
    pub errors: &'static [ErrorCode],
}

impl Operation {
    /// Whether the model lists `code` for this operation.
    pub fn models(&self, code: ErrorCode) -> bool {
        self.errors.contains(&code)
    }
}

/// One exception of a service.
#[derive(Debug)]
pub struct Exception {
    /// Its name.
    pub code: ErrorCode,
    /// Whether it is the service's own fault (status 500) and not the caller's (400).
    pub fault: bool,
    /// The structure of its members; `message` is one of them.
    pub shape: &'static Shape,
}

/// What a member may hold. Lengths of strings count Unicode scalar values, lengths of blobs decoded bytes; all bounds
/// are inclusive.
#[derive(Debug)]
pub enum Shape {
    /// Text.
    String {
        /// The least length.
        min: Option<u64>,
        /// The greatest length.
        max: Option<u64>,
        /// An expression that the whole text must match.
        pattern: Option<Pattern>,
    },
    /// Text out of a fixed set.
    Enum {
        /// The set, in the model's order.
        values: &'static [&'static str],
    },
    /// A whole number of 32 bits.
    Integer {
        /// The least value.
        min: Option<i64>,
        /// The greatest value.
        max: Option<i64>,
    },
    /// A whole number of 64 bits.
    Long {
        /// The least value.
        min: Option<i64>,
        /// The greatest value.
        max: Option<i64>,
    },
    /// A number.
    Double,
    /// `true` or `false`.
    Boolean,
    /// Seconds since 1970-01-01 UTC.
    Timestamp,
    /// Bytes, in base64.
    Blob {
        /// The least length.
        min: Option<u64>,
        /// The greatest length.
        max: Option<u64>,
    },
    /// An array.
    List {
        /// What each element holds.
        member: &'static Shape,
        /// The least number of elements.
        min: Option<u64>,
        /// The greatest number of elements.
        max: Option<u64>,
    },
    /// An object with keys of the caller's choice.
    Map {
        /// What each key holds.
        key: &'static Shape,
        /// What each value holds.
        value: &'static Shape,
    },
    /// An object with named members.
    Structure(Structure),
}

/// An object with named members.
#[derive(Debug)]
pub struct Structure {
    /// The name that the model gives it.
    pub name: &'static str,
    /// Its members, in the model's order.
    pub members: &'static [Member],
}

impl Structure {
    /// The member of this name, spelled exactly.
    pub fn member(&self, name: &str) -> Option<&'static Member> {
        self.members.iter().find(|m| m.name == name)
    }
}

/// One member of a structure.
#[derive(Debug)]
pub struct Member {
    /// The name as the wire spells it.
    pub name: &'static str,
    /// Whether a request must give it.
    pub required: bool,
    /// What it may hold.
    pub shape: &'static Shape,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_models() {
        let errors = |s: &Service| s.operations.iter().map(|o| o.errors.len()).sum::<usize>();
        assert_eq!((private::SERVICE.operations.len(), public::SERVICE.operations.len()), (62, 23));
        assert_eq!((private::SERVICE.exceptions.len(), public::SERVICE.exceptions.len()), (50, 24));
        assert_eq!((errors(&private::SERVICE), errors(&public::SERVICE)), (282, 118));
    }

    #[test]
    fn operations_are_found_by_exact_name() {
        for service in services() {
            for operation in service.operations {
                assert_eq!(service.operation(operation.name).map(|o| o.name), Some(operation.name));
            }
            assert!(service.operation("putImage").is_none());
            assert!(service.operation("").is_none());
        }
    }

    #[test]
    fn one_exception_is_a_fault_and_two_carry_more_than_a_message() {
        let extra = |s: &Service| {
            s.exceptions
                .iter()
                .filter_map(|e| match e.shape {
                    Shape::Structure(s) if s.members.iter().any(|m| m.name != "message") => Some(e.code.as_str()),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(extra(&private::SERVICE), ["InvalidLayerPartException", "KmsException"]);
        assert_eq!(extra(&public::SERVICE), ["InvalidLayerPartException"]);
        for exception in services().iter().flat_map(|s| s.exceptions) {
            assert_eq!(exception.fault, exception.code == ErrorCode::ServerException);
            assert_eq!(exception.fault, exception.code.is_fault());
        }
    }

    /// Every pattern of the models compiles, also those that no request reaches today.
    #[test]
    fn every_pattern_compiles() {
        fn visit(shape: &'static Shape, seen: &mut Vec<*const Shape>, found: &mut Vec<&'static str>) {
            if seen.contains(&std::ptr::from_ref(shape)) {
                return;
            }
            seen.push(std::ptr::from_ref(shape));
            match shape {
                Shape::String { pattern: Some(pattern), .. } => {
                    pattern.matches("");
                    found.push(pattern.source());
                }
                Shape::List { member, .. } => visit(member, seen, found),
                Shape::Map { key, value } => {
                    visit(key, seen, found);
                    visit(value, seen, found);
                }
                Shape::Structure(structure) => structure.members.iter().for_each(|m| visit(m.shape, seen, found)),
                _ => {}
            }
        }
        let (mut seen, mut found) = (Vec::new(), Vec::new());
        for operation in services().iter().flat_map(|s| s.operations) {
            visit(operation.input, &mut seen, &mut found);
            visit(operation.output, &mut seen, &mut found);
        }
        assert_eq!(found.len(), 23, "17 in the private model, 6 in the public one");
    }
}
