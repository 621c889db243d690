//! One folder each: what may refuse or alter an exchange. Policies never open a socket; what they wait for comes through ports.

pub mod body_bytes;
pub mod cors;
pub mod ip;
pub mod maintenance;
mod registry;
pub mod transform;

pub use registry::{Configured, NAMES, Transforms, chain};
