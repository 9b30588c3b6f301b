//! Amazon ECR operations, private and public, over the layerhold engine.

pub mod failure;
pub mod generated;
pub mod messages;
pub mod registry;
pub mod shape;
pub mod token;
pub mod wire;
