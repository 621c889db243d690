//! How endpoints are, by what checks and requests saw of them. Asks no endpoint itself, and picks none.

mod outliers;
mod standing;
#[cfg(test)]
mod tests;

pub(crate) use outliers::let_in;
pub use outliers::{Cause, Ejection, attempted};
pub(crate) use standing::Standing;
pub use standing::{EndpointState, News};
