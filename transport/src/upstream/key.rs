//! The key of a request: what sends it where others of the same key went. Picks nothing.

use maitred_core::Exchange;
use maitred_core::balance::hash;
use maitred_core::render::query_values;
use maitred_core::wire::cookies;
use maitred_model::HashBy;
use std::net::IpAddr;

/// `None`: the request has no such thing, or an empty one.
pub(super) fn key(by: &HashBy, exchange: &Exchange) -> Option<u64> {
    let request = &exchange.request;
    let value = match by {
        HashBy::Header(name) => request.headers.get(name.as_str().as_bytes()),
        HashBy::Cookie(name) => cookies(&request.headers, name.as_bytes()).next(),
        HashBy::Query(name) => query_values(request.query().unwrap_or_default(), name.as_bytes()).next(),
        HashBy::Path => Some(request.path()),
        HashBy::Ip => {
            return Some(match exchange.client_ip() {
                IpAddr::V4(address) => hash(&address.octets(), 0),
                IpAddr::V6(address) => hash(&address.octets(), 0),
            });
        }
    };
    value.filter(|value| !value.is_empty()).map(|value| hash(value, 0))
}
