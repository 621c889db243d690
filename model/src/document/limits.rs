//! How often, how much in all, and for whom: `rate_limit`, `quota`, `plans` and `counters`. Counts nothing.

use super::UpstreamTls;
use crate::span::Spanned;
use crate::values::{HeaderName, Rate, Secret};
use indexmap::IndexMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

/// So often, for each key.
#[derive(Debug, Clone)]
pub struct RateLimit {
    pub rate: Rate,
    /// At once, from who has rested. Default what a second gives, and at least one.
    pub burst: NonZeroU32,
    /// Never empty. All of them together are the key.
    pub by: Vec<Spanned<LimitBy>>,
    pub cost: Cost,
    /// How long a request may wait for its turn before it is refused.
    pub wait: Option<Duration>,
    /// Keys that are counted apart at the same time. Only where there is more than one.
    pub keys_max: NonZeroU32,
}

/// Who is counted apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitBy {
    /// The consumer; without one whoever the credential names, and without that the address.
    Consumer,
    /// The client's address; of an IPv6 address so many bits.
    Ip {
        ipv6_prefix: u8,
    },
    Header(HeaderName),
    /// By its path, as in `authorize`.
    Claim(String),
    /// All requests of the API together.
    Api,
    /// All requests of the route together.
    Route,
    /// What an expression in CEL yields.
    Expression(String),
}

impl LimitBy {
    /// It can be told only when it is known who asks. An expression: if what it names is.
    pub fn needs_identity(&self) -> bool {
        match self {
            LimitBy::Consumer | LimitBy::Claim(_) => true,
            LimitBy::Expression(source) => ["principal", "claims", "consumer"].iter().any(|name| source.contains(name)),
            LimitBy::Ip { .. } | LimitBy::Header(_) | LimitBy::Api | LimitBy::Route => false,
        }
    }
}

/// What a request takes of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cost {
    Units(NonZeroU32),
    /// One at first; what it was in the end, the back end says in this header of its response.
    ResponseHeader(HeaderName),
}

/// How answers say what is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitHeaders {
    /// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-09).
    Draft,
    /// `RateLimit-Limit`, `-Remaining` and `-Reset` (draft 06 and before).
    Split,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    X,
}

/// What consumers are given.
#[derive(Debug, Clone)]
pub struct Plan {
    pub terms: Terms,
    /// By API: what is said here counts in place of the plan's, and is counted apart.
    pub apis: IndexMap<String, Spanned<ApiTerms>>,
}

#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// For each consumer.
    pub rate_limit: Vec<Spanned<RateLimit>>,
    pub quota: Option<Spanned<Quota>>,
    /// 0 to 15; the higher of this and the route's counts.
    pub priority: Option<u8>,
}

#[derive(Debug, Clone)]
pub struct ApiTerms {
    pub terms: Terms,
    /// By the route's name, or its match as it is written: in place of the API's.
    pub routes: IndexMap<String, Spanned<Terms>>,
}

/// So much in each period of the calendar.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Quota {
    pub limit: NonZeroU64,
    pub per: Period,
    /// A name of the IANA's database; default UTC.
    pub time_zone: String,
    pub week_starts: WeekStart,
    pub by: QuotaBy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    Hour,
    Day,
    Week,
    Month,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WeekStart {
    #[default]
    Monday,
    Sunday,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum QuotaBy {
    #[default]
    Consumer,
    /// All consumers of the plan together.
    Plan,
}

/// Where counts are kept.
#[derive(Debug, Clone, Default)]
pub enum Counters {
    /// Of this gateway alone.
    #[default]
    Memory,
    /// Of all gateways that name the same.
    Redis(Box<RedisCounters>),
}

#[derive(Debug, Clone)]
pub struct RedisCounters {
    pub servers: Spanned<RedisServers>,
    pub mode: CountingMode,
    /// No request waits longer for its counts.
    pub timeout: Duration,
    pub on_failure: CountersFailure,
    /// What keys begin with.
    pub prefix: String,
    /// Only where connections are encrypted; without it whoever the system trusts is believed.
    pub tls: Option<Spanned<UpstreamTls>>,
}

#[derive(Debug, Clone)]
pub struct RedisServers {
    pub kind: RedisKind,
    pub is_encrypted: bool,
    /// Host and port; an IPv6 address without brackets. Empty only for a socket.
    pub hosts: Vec<(String, u16)>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub database: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisKind {
    Single,
    Cluster,
    /// The hosts are sentinels, and this is what they call the server.
    Sentinel(String),
    /// A server at a Unix socket.
    Socket(PathBuf),
}

impl Counters {
    /// Whether whoever runs with the one need not be started anew for the other.
    pub fn is_same(&self, other: &Counters) -> bool {
        match (self, other) {
            (Counters::Memory, Counters::Memory) => true,
            (Counters::Redis(one), Counters::Redis(other)) => one.is_same(other),
            (Counters::Memory, Counters::Redis(_)) | (Counters::Redis(_), Counters::Memory) => false,
        }
    }
}

impl RedisCounters {
    fn is_same(&self, other: &RedisCounters) -> bool {
        let RedisCounters { servers, mode, timeout, on_failure, prefix, tls } = self;
        let tls_of = |tls: &Option<Spanned<UpstreamTls>>| tls.as_ref().map(|tls| tls.value.clone());
        servers.value.is_same(&other.servers.value)
            && (mode, timeout, on_failure, prefix) == (&other.mode, &other.timeout, &other.on_failure, &other.prefix)
            && tls_of(tls) == tls_of(&other.tls)
    }
}

impl RedisServers {
    fn is_same(&self, other: &RedisServers) -> bool {
        let RedisServers { kind, is_encrypted, hosts, user, password, database } = self;
        let exposed = |password: &Option<Secret>| password.as_ref().map(|password| password.expose().to_owned());
        (kind, is_encrypted, hosts, user, database)
            == (&other.kind, &other.is_encrypted, &other.hosts, &other.user, &other.database)
            && exposed(password) == exposed(&other.password)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountingMode {
    /// Each request asks.
    Exact,
    /// Requests take from slices that were asked for ahead.
    LocalFirst,
}

/// What becomes of requests while the counts cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountersFailure {
    /// Each gateway counts for itself.
    Local,
    /// They pass uncounted.
    Open,
    /// They are refused.
    Closed,
}
