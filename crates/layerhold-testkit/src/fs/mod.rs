//! File systems that can be crashed, made to fail, and damaged.

pub mod damage;
mod failing;
mod odd;
mod rng;
mod sim;

pub use failing::{Call, FailingFileSystem, Failure, Fault, Repeat, Site, class_of};
pub use odd::{HeldLock, OddFileSystem, Oddity};
pub(crate) use rng::{Rng, mix};
pub use sim::{CrashPolicy, CrashStates, SimFileSystem, is_crash};
