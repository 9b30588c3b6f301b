//! File systems that can be crashed, made to fail, and damaged.

pub mod damage;
mod failing;
mod rng;
mod sim;

pub use failing::{Call, FailingFileSystem, Failure, Fault, Repeat};
pub(crate) use rng::mix;
pub use sim::{CrashPolicy, CrashStates, SimFileSystem, is_crash};
