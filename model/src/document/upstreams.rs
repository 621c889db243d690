//! Where requests go: upstreams and their endpoints, and what is spoken to them.

use super::{Affinity, PemFile, Protection};
use crate::span::Spanned;
use crate::values::HeaderName;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Upstream {
    /// One or more, all of one scheme.
    pub endpoints: Vec<Spanned<Endpoint>>,
    pub balance: Balance,
    /// Present exactly where `balance` goes by keys.
    pub hash_by: Option<HashBy>,
    pub host: UpstreamHost,
    pub timeouts: UpstreamTimeouts,
    pub protocol: UpstreamProtocol,
    /// Only with endpoints of `https`, which have the usual rules without it.
    pub tls: Option<Spanned<UpstreamTls>>,
    /// The PROXY header that each connection begins with. Only with HTTP/1.1.
    pub proxy_protocol: Option<ProxyVersion>,
    /// The cookie that sends a client where it was before.
    pub affinity: Option<Affinity>,
    pub protection: Protection,
}

/// How requests are dealt out among endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Balance {
    #[default]
    RoundRobin,
    Random,
    LeastRequest,
    PeakEwma,
    RingHash,
    Maglev,
}

impl Balance {
    pub const ALL: [Balance; 6] =
        [Balance::RoundRobin, Balance::Random, Balance::LeastRequest, Balance::PeakEwma, Balance::RingHash, Balance::Maglev];

    pub fn as_str(self) -> &'static str {
        match self {
            Balance::RoundRobin => "round_robin",
            Balance::Random => "random",
            Balance::LeastRequest => "least_request",
            Balance::PeakEwma => "peak_ewma",
            Balance::RingHash => "ring_hash",
            Balance::Maglev => "maglev",
        }
    }

    /// Whether requests of one key go to one endpoint.
    pub fn is_by_key(self) -> bool {
        match self {
            Balance::RingHash | Balance::Maglev => true,
            Balance::RoundRobin | Balance::Random | Balance::LeastRequest | Balance::PeakEwma => false,
        }
    }
}

/// What of a request is its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HashBy {
    Header(HeaderName),
    Cookie(String),
    Query(String),
    Path,
    Ip,
    /// Who calls: the consumer, or else whom an authorizer vouches for.
    Consumer,
}

impl fmt::Display for HashBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashBy::Header(name) => write!(f, "header:{name}"),
            HashBy::Cookie(name) => write!(f, "cookie:{name}"),
            HashBy::Query(name) => write!(f, "query:{name}"),
            HashBy::Path => f.write_str("path"),
            HashBy::Ip => f.write_str("ip"),
            HashBy::Consumer => f.write_str("consumer"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// Default.
    Http1,
    /// HTTP/2 over TLS, agreed on by ALPN.
    H2,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// PROXY protocol, versions 1 (text) and 2 (binary).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    V1,
    V2,
}

/// How endpoints are believed, and what is shown to them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// Whom to trust instead of the authorities that the system trusts.
    pub ca: Option<Spanned<PemFile>>,
    /// Present exactly when `key` is.
    pub cert: Option<Spanned<PemFile>>,
    pub key: Option<Spanned<PemFile>>,
    /// The name asked for (SNI) and verified, instead of the endpoint's own: a DNS name in lower case, or an address without brackets.
    pub server_name: Option<Spanned<String>>,
    pub dangerously_skip_verification: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub scheme: Scheme,
    pub authority: Authority,
    /// The URL's own path, prefixed to every request's path: "" or "/base", never ending in `/`.
    pub path: String,
    /// Default 1.
    pub weight: NonZeroU32,
    /// Where it stands: requests of gateways of the same zone go there first.
    pub zone: Option<String>,
    /// Endpoints of a higher number are for when those of the lower ones are not enough. Default 0.
    pub priority: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port that a URL of this scheme leaves out.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// An address written as numbers.
    Address(SocketAddr),
    /// A DNS name and port. `every`: all addresses behind it are endpoints (`dns:` form); else the name is one endpoint
    /// whose addresses are tried in turn (`http://name:port`).
    Name { host: String, port: u16, every: bool },
    /// A name with SRV records (RFC 2782), which say hosts, ports, priorities and weights.
    Service(String),
    /// A socket of this machine, `unix:/run/app.sock`: always of scheme `http`.
    Unix(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The endpoint's own authority (default).
    Upstream,
    /// What the client sent.
    Client,
    Literal(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// Default 5s.
    pub connect: Duration,
    /// From the request fully sent to the response head. Default 15s.
    pub response: Duration,
    /// A connection on which no byte moves for so long is closed, be it pooled or in the middle of a body. Default 60s.
    pub idle: Duration,
}
