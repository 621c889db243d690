//! The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt, §2): what a load balancer says, ahead of a connection's first byte,
//! about who opened it. Reads and writes that header; trusts nobody: from whom it may be read is for the caller to decide.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a connection starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyParsed {
    /// More bytes are needed.
    Partial,
    Complete {
        /// How many bytes of the input were the header.
        length: usize,
        /// Source and destination of the connection, IPv4 never dressed as IPv6. `None` where the sender speaks for itself (LOCAL) or
        /// of a family without ports (UNKNOWN, UNSPEC, UNIX): then the connection's own addresses hold.
        source: Option<(SocketAddr, SocketAddr)>,
    },
}

/// Why a header is refused; the connection is worth nothing then. The text is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyError(pub &'static str);

/// The longest line of version 1, its CRLF included (§2.1).
const V1_BYTES_MAX: usize = 107;
const V1_START: &[u8; 6] = b"PROXY ";

/// What version 2 starts with: no line of any text protocol (§2.2).
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const V2_START_BYTES: usize = 16;

/// Above this a header of version 2 is refused: addresses are 216 bytes at most, the rest is a certificate's names and less.
const V2_BYTES_MAX: usize = 4096;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// The type of the checksum's TLV (§2.2.3).
const CRC32C: u8 = 0x03;

/// Reads the header at the start of `input`. After `Partial`, call again with the same bytes and more.
pub fn read_proxy(input: &[u8]) -> Result<ProxyParsed, ProxyError> {
    if starts_as(input, V2_SIGNATURE) {
        read_v2(input)
    } else if starts_as(input, V1_START) {
        read_v1(input)
    } else {
        Err(ProxyError("no PROXY header"))
    }
}

/// Whether `input` starts with `start`, as far as it goes.
fn starts_as(input: &[u8], start: &[u8]) -> bool {
    let length = input.len().min(start.len());
    input[..length] == start[..length]
}

/// §2.1: one line of ASCII, which the first CRLF ends.
fn read_v1(input: &[u8]) -> Result<ProxyParsed, ProxyError> {
    let window = &input[..input.len().min(V1_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if window.len() == V1_BYTES_MAX { Err(ProxyError("a line that is too long")) } else { Ok(ProxyParsed::Partial) };
    };
    match &window[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if window.len() < V1_BYTES_MAX => return Ok(ProxyParsed::Partial),
        _ => return Err(ProxyError("a line that does not end in CRLF")),
    }
    let line = std::str::from_utf8(&input[V1_START.len()..end]).map_err(|_| ProxyError("a line that is not ASCII"))?;
    Ok(ProxyParsed::Complete { length: end + 2, source: v1_addresses(line)? })
}

fn v1_addresses(line: &str) -> Result<Option<(SocketAddr, SocketAddr)>, ProxyError> {
    let mut words = line.split(' ');
    let family = words.next();
    let address: fn(&str) -> Option<IpAddr> = match family {
        // What follows it is to be ignored.
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => |word| Some(IpAddr::V4(word.parse().ok()?)),
        Some("TCP6") => |word| Some(IpAddr::V6(word.parse().ok()?)),
        Some(_) | None => return Err(ProxyError("a family other than TCP4, TCP6 and UNKNOWN")),
    };
    let mut address = || words.next().and_then(address).ok_or(ProxyError("a malformed address"));
    let (source, destination) = (address()?, address()?);
    let mut port = || words.next().and_then(decimal_port).ok_or(ProxyError("a malformed port"));
    let (source, destination) = (endpoint(source, port()?), endpoint(destination, port()?));
    if words.next().is_some() { Err(ProxyError("more words than addresses and ports")) } else { Ok(Some((source, destination))) }
}

/// 0 to 65535 without sign or leading zero.
fn decimal_port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if is_plain { word.parse().ok() } else { None }
}

fn endpoint(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

/// §2.2: sixteen bytes, addresses, TLVs.
fn read_v2(input: &[u8]) -> Result<ProxyParsed, ProxyError> {
    let command = input.get(12).copied();
    if command.is_some_and(|command| command >> 4 != 2) {
        return Err(ProxyError("a version other than 2"));
    }
    if command.is_some_and(|command| command != LOCAL && command != PROXY) {
        return Err(ProxyError("a command other than LOCAL and PROXY"));
    }
    let family = input.get(13).copied();
    let is_known = |family| matches!(family, UNSPEC | TCP4 | TCP6 | UNIX_STREAM);
    if command == Some(PROXY) && family.is_some_and(|family| !is_known(family)) {
        return Err(ProxyError("a family or transport that no TCP connection has"));
    }
    let (Some(command), Some(family), Some(&[high, low])) = (command, family, input.get(14..V2_START_BYTES)) else {
        return Ok(ProxyParsed::Partial);
    };
    let length = V2_START_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > V2_BYTES_MAX {
        return Err(ProxyError("a header that is too long"));
    }
    let Some(header) = input.get(..length) else { return Ok(ProxyParsed::Partial) };
    // LOCAL and UNSPEC: what follows is to be discarded, whatever it is.
    let source = if command == LOCAL || family == UNSPEC { None } else { v2_addresses(header, family)? };
    Ok(ProxyParsed::Complete { length, source })
}

fn v2_addresses(header: &[u8], family: u8) -> Result<Option<(SocketAddr, SocketAddr)>, ProxyError> {
    const SHORT: ProxyError = ProxyError("a header too short for its addresses");
    let body = &header[V2_START_BYTES..];
    let (source, tlvs) = match family {
        TCP4 => {
            let (addresses, tlvs) = body.split_first_chunk::<12>().ok_or(SHORT)?;
            let &[a, b, c, d, e, f, g, h, ports @ ..] = addresses;
            (Some((IpAddr::from([a, b, c, d]), IpAddr::from([e, f, g, h]), ports)), tlvs)
        }
        TCP6 => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(SHORT)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(SHORT)?;
            let (ports, tlvs) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
            (Some((IpAddr::from(*source), IpAddr::from(*destination), *ports)), tlvs)
        }
        // Two paths of a socket, which say nothing to us.
        _ => (None, body.get(216..).ok_or(SHORT)?),
    };
    check_tlvs(header, tlvs)?;
    Ok(source.map(|(source, destination, [a, b, c, d])| {
        (endpoint(source, u16::from_be_bytes([a, b])), endpoint(destination, u16::from_be_bytes([c, d])))
    }))
}

/// §2.2.1: type, length, value, up to the end. One of them may be the header's checksum.
fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), ProxyError> {
    let mut is_checked = false;
    while !tlvs.is_empty() {
        let [kind, high, low, rest @ ..] = tlvs else { return Err(ProxyError("a TLV that is cut off")) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(ProxyError("a TLV that is cut off"))?;
        if *kind == CRC32C {
            if std::mem::replace(&mut is_checked, true) {
                return Err(ProxyError("two checksums"));
            }
            let wanted = value.try_into().map(u32::from_be_bytes).map_err(|_| ProxyError("a malformed checksum"))?;
            let at = header.len() - rest.len() - value.len();
            if checksum(header, at) != wanted {
                return Err(ProxyError("a checksum that does not hold"));
            }
        }
        tlvs = rest;
    }
    Ok(())
}

/// CRC32c (RFC 4960, appendix B) of the header with the four bytes of the checksum, which stand `at`, taken for zeroes.
fn checksum(header: &[u8], at: usize) -> u32 {
    let update =
        |crc: u32, bytes: &[u8]| bytes.iter().fold(crc, |crc, &byte| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8);
    let crc = update(!0, &header[..at]);
    let crc = update(crc, &[0; 4]);
    !update(crc, &header[at + 4..])
}

static CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    const POLYNOMIAL: u32 = 0x82f6_3b78; // Castagnoli's, its bits turned round
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { POLYNOMIAL ^ crc >> 1 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// Both addresses in one family: IPv4 where both are, which an IPv4 address dressed as IPv6 is too, else IPv6.
enum Pair {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Pair {
    fn of(source: SocketAddr, destination: SocketAddr) -> Pair {
        let v6 = |address| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Pair::V4(source, destination),
            (source, destination) => Pair::V6(v6(source), v6(destination)),
        }
    }
}

/// Writes to memory, which takes everything.
macro_rules! put {
    ($out:expr, $($text:tt)+) => { let _ = write!($out, $($text)+); };
}

/// Appends a header of version 1: `source` opened a connection to `destination`.
pub fn write_proxy_v1(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    match Pair::of(source, destination) {
        Pair::V4(from, to) => {
            put!(out, "PROXY TCP4 {from} {to}");
        }
        Pair::V6(from, to) => {
            out.extend_from_slice(b"PROXY TCP6 ");
            put_v6(out, from);
            out.push(b' ');
            put_v6(out, to);
        }
    }
    put!(out, " {} {}\r\n", source.port(), destination.port());
}

/// §2.1 has hexadecimal groups only: none of the dots with which an IPv4 address inside is mostly written.
fn put_v6(out: &mut Vec<u8>, address: Ipv6Addr) {
    if address.to_ipv4_mapped().is_some() {
        let [.., high, low] = address.segments();
        put!(out, "::ffff:{high:x}:{low:x}");
    } else {
        put!(out, "{address}");
    }
}

/// Appends the header of version 1 of a connection that the gateway opens for itself, as for a probe.
pub fn write_proxy_v1_unknown(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PROXY UNKNOWN\r\n");
}

/// Appends a header of version 2: `source` opened a connection to `destination`.
pub fn write_proxy_v2(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    match Pair::of(source, destination) {
        Pair::V4(from, to) => {
            start_v2(out, PROXY, TCP4, 12);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        Pair::V6(from, to) => {
            start_v2(out, PROXY, TCP6, 36);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// Appends the header of version 2 of a connection that the gateway opens for itself, as for a probe.
pub fn write_proxy_v2_local(out: &mut Vec<u8>) {
    start_v2(out, LOCAL, UNSPEC, 0);
}

fn start_v2(out: &mut Vec<u8>, command: u8, family: u8, length: u16) {
    out.extend_from_slice(V2_SIGNATURE);
    out.extend_from_slice(&[command, family]);
    out.extend_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn complete(length: usize, source: Option<(&str, &str)>) -> Result<ProxyParsed, ProxyError> {
        let source = source.map(|(source, destination)| (source.parse().unwrap(), destination.parse().unwrap()));
        Ok(ProxyParsed::Complete { length, source })
    }

    fn v2(command: u8, family: u8, body: &[&[u8]]) -> Vec<u8> {
        let body = body.concat();
        let mut out = Vec::new();
        start_v2(&mut out, command, family, body.len() as u16);
        out.extend_from_slice(&body);
        out
    }

    /// 10.0.0.1:4660 to 10.0.0.2:443.
    const V4: &[u8] = &[10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0x01, 0xbb];
    const V4_TEXT: Option<(&str, &str)> = Some(("10.0.0.1:4660", "10.0.0.2:443"));

    #[test]
    fn lines_of_version_1() {
        for (line, source) in [
            ("PROXY TCP4 10.0.0.1 10.0.0.2 4660 443\r\n", V4_TEXT),
            ("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", Some(("255.255.255.255:65535", "0.0.0.0:0"))),
            ("PROXY TCP6 ::1 2001:DB8::2 1 2\r\n", Some(("[::1]:1", "[2001:db8::2]:2"))),
            ("PROXY TCP6 ::ffff:10.0.0.1 ::ffff:a00:2 4660 443\r\n", V4_TEXT),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ::1 what ever\r\n", None),
            (
                "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
                None,
            ),
        ] {
            let wanted = complete(line.len(), source);
            assert_eq!(read_proxy(line.as_bytes()), wanted, "{line:?}");
            assert_eq!(read_proxy(format!("{line}GET /").as_bytes()), wanted, "{line:?} and what follows");
            for cut in 0..line.len() {
                assert_eq!(read_proxy(&line.as_bytes()[..cut]), Ok(ProxyParsed::Partial), "{line:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn lines_that_are_none_of_version_1() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY TCP5 10.0.0.1 10.0.0.2 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UDP4 10.0.0.1 10.0.0.2 1 2\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 1\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 2 \r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 2 3\r\n",
            "PROXY TCP4  10.0.0.1 10.0.0.2 1 2\r\n",
            "PROXY  TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
            "PROXY TCP4\t10.0.0.1 10.0.0.2 1 2\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 01 2\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 +1 2\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 -1 2\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 65536 2\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 0x1 2\r\n",
            "PROXY TCP4 10.0.0.01 10.0.0.2 1 2\r\n",
            "PROXY TCP4 10.0.0 10.0.0.2 1 2\r\n",
            "PROXY TCP4 10.0.0.256 10.0.0.2 1 2\r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY TCP6 10.0.0.1 10.0.0.2 1 2\r\n",
            "PROXY TCP6 [::1] ::2 1 2\r\n",
            "PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
            "PROXY TCP6 :::1 ::2 1 2\r\n",
            "PROXY TCP4 é 10.0.0.2 1 2\r\n",
        ] {
            assert!(read_proxy(line.as_bytes()).is_err(), "{line:?}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 15));
        assert_eq!(long.len(), V1_BYTES_MAX + 1);
        assert!(read_proxy(long.as_bytes()).is_err() && read_proxy(&long.as_bytes()[..V1_BYTES_MAX]).is_err());
    }

    #[test]
    fn headers_of_version_2() {
        let v6 =
            [&Ipv6Addr::LOCALHOST.octets()[..], &"2001:db8::2".parse::<Ipv6Addr>().unwrap().octets(), &[0, 1, 0, 2]].concat();
        let mapped =
            [&Ipv6Addr::from_bits(0xffff_0a00_0001).octets()[..], &Ipv6Addr::from_bits(0xffff_0a00_0002).octets(), &V4[8..]];
        for (why, header, source) in [
            ("TCP4", v2(PROXY, TCP4, &[V4]), V4_TEXT),
            ("TCP4 and a TLV", v2(PROXY, TCP4, &[V4, &[1, 0, 2], b"h2"]), V4_TEXT),
            ("an empty TLV", v2(PROXY, TCP4, &[V4, &[4, 0, 0]]), V4_TEXT),
            ("TCP6", v2(PROXY, TCP6, &[&v6]), Some(("[::1]:1", "[2001:db8::2]:2"))),
            ("TCP6 and a TLV", v2(PROXY, TCP6, &[&v6, &[0xea, 0, 1, 0]]), Some(("[::1]:1", "[2001:db8::2]:2"))),
            ("IPv4 as IPv6", v2(PROXY, TCP6, &mapped), V4_TEXT),
            ("UNIX", v2(PROXY, UNIX_STREAM, &[&[b'/'; 216]]), None),
            ("UNIX and a TLV", v2(PROXY, UNIX_STREAM, &[&[b'/'; 216], &[4, 0, 0]]), None),
            ("UNSPEC", v2(PROXY, UNSPEC, &[]), None),
            ("UNSPEC and what is ignored", v2(PROXY, UNSPEC, &[b"x"]), None),
            ("LOCAL", v2(LOCAL, UNSPEC, &[]), None),
            ("LOCAL with addresses", v2(LOCAL, TCP4, &[V4]), None),
            ("LOCAL with nonsense", v2(LOCAL, 0xff, &[b"x"]), None),
            ("the longest", v2(PROXY, TCP4, &[V4, &[4, 0x0f, 0xe1], &[0; 4065]]), V4_TEXT),
        ] {
            let wanted = complete(header.len(), source);
            assert_eq!(read_proxy(&header), wanted, "{why}");
            assert_eq!(read_proxy(&[&header[..], b"GET /"].concat()), wanted, "{why} and what follows");
            for cut in 0..header.len() {
                assert_eq!(read_proxy(&header[..cut]), Ok(ProxyParsed::Partial), "{why} cut at {cut}");
            }
        }
    }

    #[test]
    fn headers_that_are_none_of_version_2() {
        for (why, header) in [
            ("version 1", v2(0x11, TCP4, &[V4])),
            ("version 3", v2(0x31, TCP4, &[V4])),
            ("another command", v2(0x22, TCP4, &[V4])),
            ("datagrams", v2(PROXY, 0x12, &[V4])),
            ("datagrams of UNIX", v2(PROXY, 0x32, &[&[0; 216]])),
            ("no transport", v2(PROXY, 0x10, &[V4])),
            ("no family", v2(PROXY, 0x01, &[V4])),
            ("another family", v2(PROXY, 0x41, &[V4])),
            ("too short for TCP4", v2(PROXY, TCP4, &[&V4[..11]])),
            ("too short for TCP6", v2(PROXY, TCP6, &[&[0; 35]])),
            ("too short for UNIX", v2(PROXY, UNIX_STREAM, &[&[0; 215]])),
            ("half a TLV's start", v2(PROXY, TCP4, &[V4, &[1, 0]])),
            ("a TLV beyond the end", v2(PROXY, TCP4, &[V4, &[1, 0, 3], b"h2"])),
            ("a checksum of no length", v2(PROXY, TCP4, &[V4, &[CRC32C, 0, 0]])),
            ("a long checksum", v2(PROXY, TCP4, &[V4, &[CRC32C, 0, 5, 0, 0, 0, 0, 0]])),
            ("a wrong checksum", v2(PROXY, TCP4, &[V4, &[CRC32C, 0, 4, 0, 0, 0, 0]])),
            ("too long", v2(PROXY, TCP4, &[V4, &[4, 0x0f, 0xe2], &[0; 4066]])),
            ("another signature", b"\r\n\r\n\0\r\nQUIT\r".to_vec()),
            ("an empty line", b"\r\nGET".to_vec()),
        ] {
            assert!(read_proxy(&header).is_err(), "{why}");
        }
        // What can be known early is refused early.
        assert!(read_proxy(&v2(PROXY, 0x12, &[V4])[..14]).is_err());
        assert!(read_proxy(&v2(PROXY, TCP4, &[&[0; 5000]])[..16]).is_err());
    }

    #[test]
    fn the_checksum_covers_all_but_itself() {
        assert_eq!(checksum(&[0; 32], 28), 0x8a91_36aa, "RFC 3720, B.4: 32 bytes of zeroes");
        let mut header = v2(PROXY, TCP4, &[V4, &[CRC32C, 0, 4, 0, 0, 0, 0], &[4, 0, 1, 9]]);
        let at = V2_START_BYTES + 12 + 3;
        let crc = checksum(&header, at).to_be_bytes();
        header[at..at + 4].copy_from_slice(&crc);
        assert_eq!(read_proxy(&header), complete(header.len(), V4_TEXT));
        for place in V2_START_BYTES..header.len() {
            let mut broken = header.clone();
            broken[place] ^= 0x40;
            let is_no_checksum = place == at - 3;
            assert_eq!(read_proxy(&broken).is_ok(), is_no_checksum, "byte {place}");
        }
        let twice = v2(PROXY, TCP4, &[V4, &[CRC32C, 0, 4, 0, 0, 0, 0], &[CRC32C, 0, 4, 0, 0, 0, 0]]);
        assert!(read_proxy(&twice).is_err());
    }

    #[test]
    fn headers_as_they_are_written() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (source, destination, line, bytes) in [
            ("10.0.0.1:4660", "10.0.0.2:443", "PROXY TCP4 10.0.0.1 10.0.0.2 4660 443\r\n", 28),
            ("[::ffff:10.0.0.1]:1", "10.0.0.2:2", "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", 28),
            ("[::1]:1", "[2001:db8::2]:2", "PROXY TCP6 ::1 2001:db8::2 1 2\r\n", 52),
            ("10.0.0.1:1", "[::1]:2", "PROXY TCP6 ::ffff:a00:1 ::1 1 2\r\n", 52),
            ("[::1]:1", "10.0.0.1:2", "PROXY TCP6 ::1 ::ffff:a00:1 1 2\r\n", 52),
        ] {
            let mut out = Vec::new();
            write_proxy_v1(&mut out, address(source), address(destination));
            assert_eq!(std::str::from_utf8(&out), Ok(line));
            out.clear();
            write_proxy_v2(&mut out, address(source), address(destination));
            assert_eq!(out.len(), bytes, "{source} to {destination}");
        }
        let mut out = Vec::new();
        write_proxy_v1_unknown(&mut out);
        assert_eq!(read_proxy(&out), complete(15, None));
        out.clear();
        write_proxy_v2_local(&mut out);
        assert_eq!(read_proxy(&out), complete(16, None));
    }

    fn an_address() -> impl Strategy<Value = SocketAddr> {
        let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
        let mapped = any::<[u8; 4]>().prop_map(|octets| IpAddr::V6(Ipv4Addr::from(octets).to_ipv6_mapped()));
        let v6 = any::<[u8; 16]>().prop_map(IpAddr::from);
        let low = any::<u32>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits.into())));
        (prop_oneof![v4, mapped, v6, low], any::<u16>()).prop_map(|(address, port)| SocketAddr::new(address, port))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(source in an_address(), destination in an_address()) {
            let plain = |address: SocketAddr| endpoint(address.ip(), address.port());
            for write in [write_proxy_v1, write_proxy_v2] {
                let mut out = Vec::new();
                write(&mut out, source, destination);
                let wanted = ProxyParsed::Complete { length: out.len(), source: Some((plain(source), plain(destination))) };
                prop_assert_eq!(read_proxy(&out), Ok(wanted));
            }
        }
    }
}
