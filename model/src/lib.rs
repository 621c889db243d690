//! The configuration of a gateway: the document, the language it is written in, and what is said about a wrong one. Pure but for the
//! trait `Sources`: no tokio, no sockets, and nothing here knows how a request is served.

mod check;
mod decode;
pub mod diagnostics;
pub mod document;
mod interpolate;
mod language;
pub mod load;
pub mod print;
pub mod schema;
mod secrets;
mod sources;
pub mod span;
#[cfg(test)]
mod tests;
pub mod values;
mod yaml;

pub use decode::suggest;
pub use diagnostics::{Diagnostic, Diagnostics, Files, LineColumn, Severity, render};
pub use document::*;
pub use language::{parse_address, parse_endpoint};
pub use load::{Loaded, fuzz_load, load, load_text};
pub use print::{function_to_json, to_json};
pub use schema::schema;
pub use sources::{Disk, Memory, Sources};
pub use span::{FileId, Span, Spanned};
pub use values::*;
