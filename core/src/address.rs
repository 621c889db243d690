//! Who the client is. Forwarding headers are believed only from trusted proxies, and only as far as trust reaches:
//! read from the right, the first address that is not a trusted proxy is the client (RFC 7239 §7.4).

use maitred_model::IpNet;
use maitred_wire::{Headers, Name};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// Where a back end is: what a connection goes to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Remote {
    Tcp(SocketAddr),
    Unix(Arc<Path>),
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Tcp(address) => address.fmt(f),
            Remote::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What back ends believe because a proxy is thought to have written it; so nobody else may.
#[inline]
pub fn is_vouched_for(name: &[u8]) -> bool {
    matches!(name.first(), Some(b'x' | b'X')) && (begins(name, b"x-forwarded-") || begins(name, b"x-real-ip"))
}

/// The same of what functions believe, because in AWS a load balancer writes it: who signed in, what a certificate says, what TLS is spoken,
/// and which trace it belongs to.
pub fn is_vouched_for_by_aws(name: &[u8]) -> bool {
    let families = [&b"x-amzn-oidc-"[..], b"x-amzn-mtls-", b"x-amzn-tls-", b"x-amzn-trace-id"];
    is_vouched_for(name) || families.iter().any(|family| begins(name, family))
}

/// Back ends that make variables of names know no `-` from `_`.
fn begins(name: &[u8], prefix: &[u8]) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() >= prefix.len() && name.iter().zip(prefix).all(|(&byte, &wanted)| fold(byte) == wanted)
}

/// The first `prefix` bits of an address, zeros behind them.
pub fn ipv6_network(address: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let host_bits = u32::from(128u8.saturating_sub(prefix));
    Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0))
}

/// What the peer and the headers it may set say about the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarded {
    pub client: IpAddr,
    /// The peer is a trusted proxy: what it forwarded is passed on, with the peer appended.
    pub trusted: bool,
}

impl Forwarded {
    pub fn read(peer: IpAddr, headers: &Headers, trusted_proxies: &[IpNet]) -> Forwarded {
        let peer = peer.to_canonical();
        if !is_trusted(peer, trusted_proxies) {
            return Forwarded { client: peer, trusted: false };
        }
        let name = if headers.has(Name::XForwardedFor) { Name::XForwardedFor } else { Name::Forwarded };
        let mut client = peer;
        let values: Vec<&[u8]> = headers.all_known(name).collect();
        for value in values.into_iter().rev() {
            for element in value.rsplit(|&byte| byte == b',') {
                let text = if name == Name::Forwarded { forwarded_for(element) } else { Some(element.trim_ascii()) };
                // What can't be read ends the chain: the nearest address that is known stays the client.
                let Some(address) = text.and_then(node_address) else { return Forwarded { client, trusted: true } };
                client = address;
                if !is_trusted(address, trusted_proxies) {
                    return Forwarded { client, trusted: true };
                }
            }
        }
        Forwarded { client, trusted: true }
    }
}

fn is_trusted(address: IpAddr, trusted_proxies: &[IpNet]) -> bool {
    trusted_proxies.iter().any(|net| net.contains(address))
}

/// The `for` parameter of one element of Forwarded.
fn forwarded_for(element: &[u8]) -> Option<&[u8]> {
    element.split(|&byte| byte == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let (name, value) = pair.split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then(|| value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
    })
}

/// `1.2.3.4`, `1.2.3.4:5`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:5`.
fn node_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    inside.parse::<std::net::Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, fields: &[(&str, &str)]) -> String {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.add(name.as_bytes(), value.as_bytes());
        }
        let trusted = [IpNet::parse("10.0.0.0/8").unwrap()];
        Forwarded::read(peer.parse().unwrap(), &headers, &trusted).client.to_string()
    }

    #[test]
    fn the_client_is_the_first_untrusted_from_the_right() {
        let xff = "x-forwarded-for";
        assert_eq!(client("192.0.2.1", &[(xff, "1.1.1.1")]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &[(xff, "1.1.1.1")]), "1.1.1.1");
        assert_eq!(client("::ffff:10.0.0.1", &[(xff, "1.1.1.1")]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &[(xff, "6.6.6.6, 1.1.1.1, 10.0.0.2")]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &[(xff, "6.6.6.6"), (xff, "1.1.1.1")]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &[(xff, "6.6.6.6, unknown, 10.0.0.2")]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &[("forwarded", "for=6.6.6.6, for=\"[2001:db8::1]:4711\";proto=http")]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &[("forwarded", "for=6.6.6.6"), (xff, "1.1.1.1")]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }
}
