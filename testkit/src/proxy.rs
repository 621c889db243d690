//! PROXY headers, written and read a second time (haproxy's proxy-protocol.txt): they share nothing with the gateway's.

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Above this, version 1 is no header (its section 2.1).
const LINE_MAX: usize = 107;

/// What a connection says of the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHeader {
    pub version: u8,
    /// Source and destination; `None` for UNKNOWN and LOCAL.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    pub raw: Vec<u8>,
}

/// A header of version 1 for TCP.
pub fn proxy_v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port()).into_bytes()
}

/// A header of version 2 for TCP, with these bytes of TLVs behind the addresses.
pub fn proxy_v2(source: SocketAddr, destination: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
    let mut addresses = Vec::new();
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => addresses.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => addresses.extend_from_slice(&ip.octets()),
        }
    }
    addresses.extend_from_slice(&source.port().to_be_bytes());
    addresses.extend_from_slice(&destination.port().to_be_bytes());
    addresses.extend_from_slice(tlvs);
    binary(1, if source.is_ipv4() { 0x11 } else { 0x21 }, &addresses)
}

/// A header of version 2 that says LOCAL: a health check of the proxy's own.
pub fn proxy_v2_local() -> Vec<u8> {
    binary(0, 0, &[])
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend_from_slice(&[0x20 | command, family]);
    bytes.extend_from_slice(&u16::try_from(rest.len()).expect("a short header").to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

/// Reads one header, asking for exactly as many bytes as belong to it.
pub(crate) fn read(mut exactly: impl FnMut(usize) -> Option<Vec<u8>>) -> Result<ProxyHeader, String> {
    let mut raw = Vec::new();
    let mut more = |count: usize, raw: &mut Vec<u8>| {
        raw.extend(exactly(count).ok_or_else(|| format!("a PROXY header that broke off: {:?}", raw.escape_ascii().to_string()))?);
        Ok::<(), String>(())
    };
    more(1, &mut raw)?;
    if raw == b"P" {
        while !raw.ends_with(b"\r\n") {
            if raw.len() >= LINE_MAX {
                return Err("a PROXY line without end".into());
            }
            more(1, &mut raw)?;
        }
        return text(raw);
    }
    more(SIGNATURE.len() - 1 + 4, &mut raw)?;
    if !raw.starts_with(SIGNATURE) {
        return Err(format!("no PROXY header: \"{}\"", raw.escape_ascii()));
    }
    let length = u16::from_be_bytes([raw[14], raw[15]]);
    more(usize::from(length), &mut raw)?;
    let rest = &raw[16..];
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let addresses = match (raw[12], raw[13]) {
        (0x20, _) => None,
        (0x21, 0x11) if rest.len() >= 12 => {
            let ip = |at: usize| IpAddr::from([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
            Some((SocketAddr::new(ip(0), port(8)), SocketAddr::new(ip(4), port(10))))
        }
        (0x21, 0x21) if rest.len() >= 36 => {
            let ip = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&rest[at..at + 16]).expect("sixteen bytes"));
            Some((SocketAddr::new(ip(0), port(32)), SocketAddr::new(ip(16), port(34))))
        }
        other => return Err(format!("a PROXY header of command and family {other:02x?}")),
    };
    Ok(ProxyHeader { version: 2, addresses, raw })
}

fn text(raw: Vec<u8>) -> Result<ProxyHeader, String> {
    let line = String::from_utf8_lossy(&raw[..raw.len() - 2]).into_owned();
    let wrong = || format!("a malformed PROXY line: {line:?}");
    let words: Vec<&str> = line.split(' ').collect();
    let addresses = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let source = SocketAddr::new(source.parse().map_err(|_| wrong())?, from.parse().map_err(|_| wrong())?);
            let destination = SocketAddr::new(destination.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
            if source.is_ipv4() != (family == "TCP4") || destination.is_ipv4() != source.is_ipv4() {
                return Err(wrong());
            }
            Some((source, destination))
        }
        _ => return Err(wrong()),
    };
    Ok(ProxyHeader { version: 1, addresses, raw })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were_written() {
        for (source, destination) in [("192.0.2.1:1000", "192.0.2.9:443"), ("[2001:db8::1]:1000", "[2001:db8::9]:443")] {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            for bytes in [proxy_v1(source, destination), proxy_v2(source, destination, &[4, 0, 1, 0])] {
                let mut input = bytes.clone().into_iter().chain(*b"GET");
                let header = read(|count| Some(input.by_ref().take(count).collect())).unwrap();
                assert_eq!((header.addresses, header.raw), (Some((source, destination)), bytes));
                assert_eq!(input.collect::<Vec<_>>(), b"GET", "and nothing behind it");
            }
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for bytes in [b"GET / HTTP/1.1\r\n\r\n\r\n".as_slice(), b"PROXY TCP4 a b c d\r\n", b"PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n"]
        {
            let mut input = bytes.iter().copied();
            assert!(read(|count| Some(input.by_ref().take(count).collect())).is_err());
        }
    }
}
