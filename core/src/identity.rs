//! Who it is: the principal that an authorizer found, the consumers that are known by name, and what was verified a moment ago. How a
//! credential is verified is not known on this floor.

pub mod consumers;
mod flights;
mod principal;
mod verdicts;

pub use consumers::{Consumer, ConsumerSet, KeyHash, Roll, Stored, Taken};
pub use flights::{Finding, Flights};
pub use principal::Principal;
pub use verdicts::{Generations, Remembered, Verdicts};
