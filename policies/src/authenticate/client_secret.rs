//! How the gateway says who it is to those it asks about others: `client_secret_basic` of OAuth.

use maitred_core::wire::{base64, path};

/// The value of Authorization. Both parts are form-encoded first (RFC 6749 §2.3.1), else a colon in one of them would move the border.
pub fn basic(id: &str, secret: &str) -> Vec<u8> {
    let mut pair = Vec::new();
    path::encode(id.as_bytes(), &mut pair);
    pair.push(b':');
    path::encode(secret.as_bytes(), &mut pair);
    let mut value = b"Basic ".to_vec();
    base64::encode(&pair, &mut value);
    value
}
