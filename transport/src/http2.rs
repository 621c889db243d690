//! What both sides of HTTP/2 share: the bytes of a connection on their way, and fields between our form and `http`'s.

pub(crate) mod body;
pub(crate) mod fields;
pub(crate) mod line;

/// No flow-control window is larger (RFC 9113 §6.9.1).
pub(crate) const WINDOW_MAX: u32 = i32::MAX as u32;
/// What a stream may have handed over that its peer has not taken yet.
pub(crate) const SEND_BUFFER_MAX: usize = 64 * 1024;
/// Bytes handed over at once: one DATA frame of the size that every peer takes.
pub(crate) const CHUNK_BYTES_MAX: usize = 16 * 1024;
