//! What AWS's own clients and services expect: how requests are signed, and how faults are worded. Opens no sockets and finds no keys.

pub mod sigv4;
mod words;

pub use words::Words;
