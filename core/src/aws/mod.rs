//! What AWS's own clients and services expect: how requests are signed, where keys and addresses are configured, and how faults are worded.
//! Opens no sockets and reads no files.

pub mod clock;
mod credentials;
mod profiles;
mod settings;
pub mod sigv4;
pub mod sts;
mod words;

pub use credentials::{CredentialCell, CredentialSource, Credentials, moment};
pub use profiles::Profiles;
pub use settings::Settings;
pub use words::Words;
