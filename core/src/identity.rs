//! Who it is: the principal that an authorizer found, the consumers that are known by name, and what was verified a moment ago. How a
//! credential is verified is not known on this floor.

pub mod base64url;
pub mod consumers;
mod flights;
pub mod json;
mod key_hasher;
pub mod keys;
mod principal;
mod verdicts;

pub use consumers::{Consumer, ConsumerSet, Roll, Stored, Taken};
pub use flights::{Finding, Flights};
pub use key_hasher::{Fingerprint, KeyHash, KeyHasher};
pub use keys::{KeyCell, KeySet, KeySource};
pub use principal::{Principal, Vouched};
pub use verdicts::{Generations, Remembered, Verdicts};
