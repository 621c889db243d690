//! How endpoints are, by what checks and requests saw of them. Asks no endpoint itself, and picks none.

mod standing;

pub use standing::{EndpointState, Standing};
