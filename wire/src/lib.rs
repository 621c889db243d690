//! HTTP as pure functions over bytes: parse a head, decide its framing once, emit what is forwarded as HTTP/1.1.
//! No sockets, no clock, no async: what is here can be fuzzed byte by byte and replayed exactly.
//!
//! Strictness is the point (RFC 9112 §11.2): whatever two implementations could read differently is refused, and what is
//! forwarded is written anew from what was understood, never copied raw.

pub mod base64;
mod chunked;
mod cookie;
mod emit;
mod event_stream;
mod field_h2;
mod grpc;
mod h2;
mod h2_reader;
#[cfg(feature = "http3")]
mod h3;
mod headers;
mod host;
mod hpack;
mod names;
mod parse;
pub mod path;
mod proxy_protocol;
#[cfg(feature = "http3")]
mod qpack;
mod request;
mod request_fields;
mod request_h2;
mod request_own;
mod resp;
mod response;
mod response_h2;
pub mod structured;
mod websocket;

pub use chunked::{ChunkError, Chunked, ChunkedStep, TRAILER_BYTES_MAX, chunk_head, forward_trailers};
pub use cookie::{cookies, cookies_beginning, remove_cookie, remove_cookies_beginning};
pub use emit::{LAST_CHUNK, decimal, digits, field, reason, request_line, status_line};
pub use event_stream::{EVENT_PAYLOAD_BYTES_MAX, EventError, EventReader, EventStep, EventValue, event_frame};
pub use field_h2::h2_trailer;
pub use grpc::{GrpcCode, is_grpc, parse_timeout, percent_encode_message, reset_to_grpc, status_to_grpc, write_timeout};
pub use h2::{
    FRAME_BYTES_MAX, H2Code, H2Setting, PREFACE, Preface, WINDOW_AT_FIRST, WINDOW_MAX, h2_data, h2_goaway, h2_headers, h2_ping,
    h2_reset, h2_settings, h2_settings_ack, h2_window_update, starts_preface,
};
pub use h2_reader::{H2Frame, H2Reader, H2Settings};
#[cfg(feature = "http3")]
pub use h3::{
    FrameKind, Frames, H3Code, Piece, QpackStream, check_settings, control_preface, data_head, goaway_frame, headers_frame,
    put_varint, varint,
};
pub use headers::{Entry, Headers, Slice};
pub use host::{Authority, split_authority};
pub use hpack::{HpackDecoder, HpackError, hpack_field, hpack_known, hpack_no_table, hpack_status};
pub use names::Name;
pub use parse::{HeadLimits, Parsed, Refusal};
pub use proxy_protocol::{
    ProxyError, ProxyParsed, read_proxy, write_proxy_v1, write_proxy_v1_unknown, write_proxy_v2, write_proxy_v2_local,
};
#[cfg(feature = "http3")]
pub use qpack::{QpackError, begin_section, read_section, write_field, write_status};
pub use request::{Framing, Method, RequestHead, Version};
pub use request_fields::RequestFields;
pub use request_h2::H2Parts;
pub use request_own::OwnParts;
pub use resp::{Reply, RespError, SLOTS, resp_command, resp_list, resp_part, resp_slot};
pub use response::{ResponseHead, ResponseRefusal};
pub use websocket::{
    Incoming, MessageLimits, MessageReader, Opcode, Side, Tracker, Violation, accept_key, close_frame, is_websocket_key,
    make_key, websocket_frame,
};

#[cfg(test)]
mod tests;
