//! One folder each: what may refuse or alter an exchange. Policies never open a socket; what they wait for comes through ports.

pub mod authenticate;
pub mod authorize;
pub mod body_bytes;
pub mod cors;
pub mod ip;
pub mod maintenance;
pub mod quota;
pub mod rate_limit;
mod registry;
pub mod transform;

pub use registry::{Authentication, Configured, NAMES, Transforms, chain};
