//! The bundled bootstraps under the python3 and node of this machine, asking a Runtime API that is played from a script: no pool and no
//! host is here. Where an interpreter is missing the test says so and passes, but never in CI.

mod api;
mod node;
mod python;

pub use api::{Post, Session, folder_with, is_there};
