//! The PROXY protocol: whole or in pieces the verdict is the same, what is read stands in the bytes, and written anew it reads the same.

use crate::cuts;
use maitred_wire::{ProxyParsed, read_proxy, write_proxy_v1, write_proxy_v2};
use std::net::{IpAddr, SocketAddr};

pub fn proxy_protocol(data: &[u8]) {
    let whole = read_proxy(data);
    for cut in cuts(data.len()) {
        match (read_proxy(&data[..cut]), whole) {
            (Ok(ProxyParsed::Partial), _) => {}
            (early @ Ok(ProxyParsed::Complete { .. }), _) => {
                assert_eq!(early, whole, "what follows the first {cut} bytes changes it")
            }
            (Err(_), _) => assert!(whole.is_err(), "the first {cut} bytes are refused, and all are not"),
        }
    }
    let Ok(ProxyParsed::Complete { length, source }) = whole else { return };
    let header = &data[..length];
    assert_eq!(read_proxy(header), whole, "what follows a header changes it");
    if header.starts_with(b"PROXY ") {
        assert!(length <= 107 && header.ends_with(b"\r\n"));
        assert!(!header[..length - 2].iter().any(|byte| matches!(byte, b'\r' | b'\n')), "two lines were taken for one");
    } else {
        assert!(length == 16 + usize::from(header[14]) * 256 + usize::from(header[15]) && length <= 4096);
        assert_eq!(header[12] >> 4, 2);
    }
    let Some((from, to)) = source else { return };
    stands_in(header, from, to);
    for write in [write_proxy_v1, write_proxy_v2] {
        let mut out = Vec::new();
        write(&mut out, from, to);
        assert_eq!(read_proxy(&out), Ok(ProxyParsed::Complete { length: out.len(), source }), "{}", out.escape_ascii());
    }
}

/// The addresses that were read, looked for where they must be: no code in common with the parser.
fn stands_in(header: &[u8], from: SocketAddr, to: SocketAddr) {
    if header.starts_with(b"PROXY TCP4 ") {
        let line = format!("PROXY TCP4 {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
        assert_eq!(header.escape_ascii().to_string(), line.as_bytes().escape_ascii().to_string(), "another line says the same");
        return;
    }
    let v6 = |address: SocketAddr| match address.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    if let Some(line) = header.strip_prefix(b"PROXY TCP6 ") {
        let words: Vec<&str> = std::str::from_utf8(line).expect("ASCII").trim_end().split(' ').collect();
        assert_eq!((words[0].parse(), words[1].parse()), (Ok(v6(from)), Ok(v6(to))));
        assert_eq!(words[2..], [from.port().to_string(), to.port().to_string()]);
        return;
    }
    assert_eq!(header[12], 0x21, "an address that the sender did not vouch for");
    let (addresses, ports) = match header[13] {
        0x11 => {
            let octets = |address: SocketAddr| v6(address).octets()[12..].to_vec();
            assert!(from.is_ipv4() && to.is_ipv4());
            ([octets(from), octets(to)].concat(), 24)
        }
        0x21 => ([v6(from).octets(), v6(to).octets()].concat(), 48),
        family => panic!("addresses of family {family}"),
    };
    assert_eq!(header[16..ports], addresses);
    assert_eq!(header[ports..ports + 4], [from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
}
