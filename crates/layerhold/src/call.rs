//! Who makes a mutating call, and under which operation id.

use std::fmt;

use crate::name::Principal;

/// Names one mutation, so that a retry after a lost answer is told the first outcome instead of acting twice.
///
/// 128 bits, drawn by the caller at random or derived from something unique. Kept for 24 hours by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(pub [u8; 16]);

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Who acts, and the operation id if the caller chose one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// Recorded in the change log and in tag history; an upload session belongs to the principal that began it.
    pub principal: Principal,
    /// Drawn by the engine if absent.
    pub operation_id: Option<OperationId>,
}

impl Call {
    /// A call by nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { principal: Principal::anonymous(), operation_id: None }
    }

    /// A call by `principal`.
    #[must_use]
    pub fn by(principal: Principal) -> Self {
        Self { principal, operation_id: None }
    }

    /// The same call under an operation id.
    #[must_use]
    pub fn with_operation_id(mut self, id: OperationId) -> Self {
        self.operation_id = Some(id);
        self
    }
}
