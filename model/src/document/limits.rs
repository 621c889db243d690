//! How often, how much in all, and for whom: `rate_limit`, `quota`, `plans` and `counters`. Counts nothing.

use super::{Api, Match, Route, Setting, UpstreamTls};
use crate::span::Spanned;
use crate::values::{HeaderName, Rate, Secret};
use indexmap::IndexMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

/// Most limits of one request, those of its plan too: what each took has its place in the exchange, and clients are told of all of them.
pub const LIMITS_MAX: usize = 8;

/// Quotas that one plan may have, over all APIs and routes: a consumer's are looked through one by one.
pub const QUOTAS_MAX: usize = 64;

/// So often, for each key.
#[derive(Debug, Clone)]
pub struct RateLimit {
    pub rate: Rate,
    /// At once, from who has rested. Default what one period of the rate gives.
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

/// Two are the same that refuse the same, in whatever order they name their keys and wherever they stand.
impl PartialEq for RateLimit {
    fn eq(&self, other: &RateLimit) -> bool {
        let RateLimit { rate, burst, by: _, cost, wait, keys_max: _ } = self;
        (rate, burst, cost, wait) == (&other.rate, &other.burst, &other.cost, &other.wait) && self.counts_as(other)
    }
}

impl RateLimit {
    /// Whether both have the same keys.
    pub fn counts_as(&self, other: &RateLimit) -> bool {
        let holds = |limit: &RateLimit, by: &LimitBy| limit.by.iter().any(|own| own.value == *by);
        self.by.iter().all(|by| holds(other, by)) && other.by.iter().all(|by| holds(self, by))
    }
}

impl LimitBy {
    /// All requests are one key.
    pub fn is_one(&self) -> bool {
        match self {
            LimitBy::Api | LimitBy::Route => true,
            LimitBy::Consumer | LimitBy::Ip { .. } | LimitBy::Header(_) | LimitBy::Claim(_) | LimitBy::Expression(_) => false,
        }
    }

    /// It can be told only when it is known who asks. An expression: if what it names is.
    pub fn needs_identity(&self) -> bool {
        match self {
            LimitBy::Consumer | LimitBy::Claim(_) => true,
            LimitBy::Expression(source) => names_identity(source),
            LimitBy::Ip { .. } | LimitBy::Header(_) | LimitBy::Api | LimitBy::Route => false,
        }
    }
}

/// Whether an expression in CEL names who asks. What stands in quotes, or behind a dot, is no such name.
fn names_identity(source: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = source;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => quoted(rest, first),
            _ if is_word(first) => {
                let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
                if before != '.' && ["principal", "claims", "consumer"].contains(&word) {
                    return true;
                }
                word.len()
            }
            _ => first.len_utf8(),
        };
        if !first.is_whitespace() {
            before = first;
        }
        rest = &rest[length..];
    }
    false
}

/// Bytes of a text in quotes, with them.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let is_end = *c == quote && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |(at, _)| at + 1)
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
    /// By the route's name, or its match as it is written: in place of the API's. A span is that of the word.
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

impl CountersFailure {
    /// What becomes of requests then.
    pub fn words(self) -> &'static str {
        match self {
            CountersFailure::Local => "each gateway counts for itself",
            CountersFailure::Open => "requests pass uncounted",
            CountersFailure::Closed => "requests that would be counted are refused",
        }
    }
}

impl Api {
    /// The limits that the API gives a route: none where the route drops them.
    pub fn limits_of<'a>(&'a self, route: &Route) -> &'a [Spanned<RateLimit>] {
        match (&self.policies.rate_limit, &route.policies.rate_limit) {
            (Some(Setting::Some(limits)), None | Some(Setting::Some(_))) => limits,
            (Some(Setting::None) | None, _) | (Some(Setting::Some(_)), Some(Setting::None)) => &[],
        }
    }
}

impl Route {
    /// Limits of the route alone.
    pub fn own_limits(&self) -> &[Spanned<RateLimit>] {
        match &self.policies.rate_limit {
            Some(Setting::Some(limits)) => limits,
            Some(Setting::None) | None => &[],
        }
    }

    /// Whether a plan means this route by that word: its name, or its match as it is written.
    pub fn is_called(&self, word: &str) -> bool {
        self.name.as_ref().is_some_and(|name| name.value == word) || self.matcher.is_written(word)
    }
}

impl Match {
    /// Whether that is how it is written.
    fn is_written(&self, text: &str) -> bool {
        let Some((methods, path)) = text.split_once(' ') else { return false };
        path == self.path.source
            && match self.methods.is_empty() {
                true => methods == "ANY",
                false => methods.split(',').eq(self.methods.iter().map(String::as_str)),
            }
    }
}

impl Plan {
    /// What it says anywhere.
    pub fn all_terms(&self) -> impl Iterator<Item = &Terms> {
        let whole = self.apis.values().map(|api| &api.value.terms);
        let routes = self.apis.values().flat_map(|api| api.value.routes.values().map(|terms| &terms.value));
        std::iter::once(&self.terms).chain(whole).chain(routes)
    }

    /// What it gives on a route, kind by kind: what is said of the route, else of its API, else of the whole plan.
    pub fn terms_of<'a>(&'a self, api: &str, route: &Route) -> Given<'a> {
        let of_api = self.apis.get(api);
        let of_route = of_api.and_then(|api| api.routes.iter().find(|(word, _)| route.is_called(word)));
        let places = [
            of_route.map(|(_, terms)| (Closest::Route, &terms.value)),
            of_api.map(|api| (Closest::Api, &api.terms)),
            Some((Closest::Plan, &self.terms)),
        ];
        let said = || places.iter().flatten();
        let limits = |terms: &'a Terms| (!terms.rate_limit.is_empty()).then_some(&terms.rate_limit[..]);
        Given {
            rate_limit: said().find_map(|(place, terms)| Some((*place, limits(terms)?))),
            quota: said().find_map(|(place, terms)| Some((*place, terms.quota.as_ref()?))),
            priority: said().find_map(|(_, terms)| terms.priority),
        }
    }
}

/// Where in a plan something is said. What is said in two places is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Closest {
    Route,
    Api,
    Plan,
}

/// What a plan gives on one route.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    pub rate_limit: Option<(Closest, &'a [Spanned<RateLimit>])>,
    pub quota: Option<(Closest, &'a Spanned<Quota>)>,
    pub priority: Option<u8>,
}

/// As it is written.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.methods.is_empty() {
            true => write!(f, "ANY {}", self.path),
            false => write!(f, "{} {}", self.methods.join(","), self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_needs_identity_where_it_names_it() {
        for (source, needs) in [
            ("claims.tenant", true),
            ("request.method + consumer.name", true),
            ("has(principal.subject) ? 'a' : 'b'", true),
            ("request.headers['x'] + string( claims . sub )", true),
            ("request.path.startsWith('/claims')", false),
            ("request.headers[\"consumer\"]", false),
            ("request.headers['it\\'s consumer']", false),
            ("path.consumer", false),
            ("path . consumer", false),
            ("request.path + claimsx + xconsumer", false),
            ("'claims", false),
            ("'é' + 'claims' + path.id", false),
        ] {
            assert_eq!(LimitBy::Expression(source.to_owned()).needs_identity(), needs, "{source}");
        }
    }
}
