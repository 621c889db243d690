//! Networks, host patterns and sockets: whom to believe, which Host an API answers, where on this machine one is met. Resolves no names.

use super::ValueError;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// A network or a single address. An IPv4 address inside IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

impl IpNet {
    /// `10.0.0.0/8`, `2001:db8::/32`, or one address.
    pub fn parse(text: &str) -> Result<IpNet, ValueError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| {
            ValueError::new(format!("`{text}` is not a network")).hint("write `10.0.0.0/8`, `2001:db8::/32` or one address")
        })?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) => plain_number(digits).filter(|prefix| *prefix <= bits).ok_or_else(|| {
                ValueError::new(format!("`/{digits}` is not a prefix length")).hint(format!("write `/0` to `/{bits}`"))
            })?,
        };
        let network = mask(address, prefix);
        if network != address {
            return Err(ValueError::new(format!("`{text}` has bits set beyond its prefix"))
                .hint(format!("the network is `{network}/{prefix}`; one address is `{address}`")));
        }
        Ok(IpNet::unmapped(network, prefix))
    }

    fn unmapped(address: IpAddr, prefix: u8) -> IpNet {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) if address.is_ipv6() && prefix >= 96 => IpNet { address: v4, prefix: prefix - 96 },
            _ => IpNet { address, prefix },
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && mask(address, self.prefix) == self.address
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits, 0 to 32 or 128.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == whole { write!(f, "{}", self.address) } else { write!(f, "{}/{}", self.address, self.prefix) }
    }
}

fn plain_number(digits: &str) -> Option<u8> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().ok() } else { None }
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & keep).into())
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & keep).into())
        }
    }
}

/// Which Host an API answers. Lower-case, without port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(String),
    /// The suffix without its `*.`: `*.example.com` is `Wildcard("example.com")`, and covers one or more labels before it.
    Wildcard(String),
}

impl HostPattern {
    /// `api.example.com`, `*.example.com`, `127.0.0.1`, `[::1]`.
    pub fn parse(text: &str) -> Result<HostPattern, ValueError> {
        if text == "*" {
            return Err(ValueError::new("`*` is not a host").hint("leave out `hosts` to answer any host"));
        }
        let (suffix, wildcard) = match text.strip_prefix("*.") {
            Some(suffix) => (suffix, true),
            None => (text, false),
        };
        let host = parse_host(text, suffix)?;
        if wildcard && (host.starts_with('[') || host.parse::<IpAddr>().is_ok()) {
            return Err(ValueError::new(format!("`{text}` puts a wildcard before an address")));
        }
        Ok(if wildcard { HostPattern::Wildcard(host) } else { HostPattern::Exact(host) })
    }

    /// Whether a host, lower-case and without port, is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(exact) => exact == host,
            HostPattern::Wildcard(suffix) => {
                host.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(host) => f.write_str(host),
            HostPattern::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

fn parse_host(text: &str, host: &str) -> Result<String, ValueError> {
    if !text.is_ascii() {
        return Err(ValueError::new(format!("`{text}` is not ASCII")).hint("write the name in punycode: `xn--…`"));
    }
    if let Some((_, rest)) = text.split_once("://") {
        return Err(
            ValueError::new(format!("`{text}` is a URL, not a host")).hint(format!("write `{}`", rest.trim_end_matches('/')))
        );
    }
    if let Some(inner) = host.strip_prefix('[') {
        return match inner.split_once(']') {
            Some((address, "")) => match address.parse::<std::net::Ipv6Addr>() {
                Ok(address) => Ok(format!("[{address}]")),
                Err(_) => Err(ValueError::new(format!("`{text}` is not an IPv6 address in brackets"))),
            },
            Some((address, _)) => Err(port_refused(text, &format!("[{address}]"))),
            None => Err(ValueError::new(format!("`{text}` opens a bracket and does not close it"))),
        };
    }
    if let Some((name, _)) = host.split_once(':') {
        if host.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err(ValueError::new("an IPv6 host stands in brackets").hint(format!("write `[{host}]`")));
        }
        return Err(port_refused(text, &format!("{}{name}", if text.starts_with("*.") { "*." } else { "" })));
    }
    check_labels(text, host)?;
    Ok(host.to_ascii_lowercase())
}

fn port_refused(text: &str, fix: &str) -> ValueError {
    ValueError::new(format!("`{text}` has a port; a host is matched whatever its port")).hint(format!("write `{fix}`"))
}

fn check_labels(text: &str, host: &str) -> Result<(), ValueError> {
    if let Some(name) = host.strip_suffix('.').filter(|name| !name.is_empty()) {
        return Err(ValueError::new(format!("`{text}` ends in a dot")).hint(format!("write `{name}`")));
    }
    if host.contains('*') {
        let message = format!("`{text}` has a wildcard where none can stand");
        return Err(ValueError::new(message).hint("a wildcard is the whole first label: `*.example.com`"));
    }
    let good = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if host.len() > 253 || !host.split('.').all(good) {
        return Err(ValueError::new(format!("`{text}` is not a host name")).hint("write a name such as `api.example.com`"));
    }
    Ok(())
}

/// What follows `unix:`, the path of a socket.
pub(crate) fn parse_socket(path: &str) -> Result<PathBuf, ValueError> {
    if path.is_empty() {
        return Err(ValueError::new("`unix:` names no socket").hint("write its path: `unix:/run/app.sock`"));
    }
    if let Some(rest) = path.strip_prefix("//") {
        let hint = format!("write `unix:/{}`", rest.trim_start_matches('/'));
        return Err(ValueError::new("the path of a socket follows `unix:` at once").hint(hint));
    }
    if path.starts_with('@') {
        return Err(ValueError::new("abstract sockets are not known").hint("write the path of a file: `unix:/run/app.sock`"));
    }
    if path.contains('\0') {
        return Err(ValueError::new("the path of a socket holds a null byte").hint("write its path: `unix:/run/app.sock`"));
    }
    Ok(PathBuf::from(path.strip_prefix("./").unwrap_or(path)))
}
