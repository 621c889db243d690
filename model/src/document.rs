//! The configuration document: what a user wrote, decoded and checked for shape, with the span of everything that a later
//! check may want to point at. Knows no sockets, no other crate of ours, and resolves no references: `compile` does.

mod authorizers;
mod cedar;
mod functions;
mod identity;
mod limits;
mod listeners;
pub(crate) mod logins;
mod protection;
mod upstreams;
mod websocket;

pub use authorizers::{
    ApiKey, Ask, Asked, Authorizer, AuthorizerForm, AuthorizerKind, AwsSignature, Basic, CertificatePrincipal, ClientCertificate,
    Component, ContextValue, Forward, FunctionAuthorizer, HtpasswdFile, HttpSignature, IdentitySource, Introspection, Jwt,
    JwtAlgorithm, JwtKeys, KeyPlace, Oidc, OidcSession, PublicAlgorithm, Replay, SameSite, SignatureKey,
};
pub use cedar::{Cedar, DecisionLog, TextFile};
pub use functions::{
    AwsFunction, EventForm, Function, FunctionPlace, FunctionQueue, FunctionRuntime, Hosted, InvocationType, ResponseMode,
};
pub use identity::{Authenticate, Authorize, ClaimDemand, Consumer, Demand, Identity};
pub use limits::{
    ApiTerms, Closest, Cost, Counters, CountersFailure, CountingMode, Given, LIMITS_MAX, LimitBy, LimitHeaders, Period, Plan,
    QUOTAS_MAX, Quota, QuotaBy, RateLimit, RedisCounters, RedisKind, RedisServers, Terms, WeekStart,
};
pub use listeners::{
    Acme, AcmeChallenge, CertificateFiles, ClientAuth, ListenAddress, Listener, ListenerTls, PemFile, ProxyProtocolIn, TlsVersion,
};
pub use protection::{
    Affinity, CircuitBreaker, Concurrency, ConcurrencyLimit, ConcurrencyScope, HealthCheck, Hedge, HedgeAfter, Maintenance,
    OutlierDetection, Priority, Probe, Protection, Queue, Retry, RetryOn,
};
pub use upstreams::{
    Authority, Balance, Endpoint, HashBy, ProxyVersion, Scheme, Upstream, UpstreamHost, UpstreamProtocol, UpstreamTimeouts,
    UpstreamTls,
};
pub use websocket::{CONNECT, DEFAULT, DISCONNECT, SocketRoute, WebSocket};

use crate::span::Spanned;
use crate::values::{HeaderName, HeaderValue, HostPattern, IpNet, PathTemplate, Rate, Secret, Share, Template};
use indexmap::IndexMap;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

/// One whole configuration, all `include`d files merged into it.
#[derive(Debug, Clone)]
pub struct Document {
    /// `None` is `auto`: one worker per core.
    pub workers: Option<NonZeroU16>,
    /// At least 32 bytes; what else is secret is derived from it.
    pub secret_key: Option<Secret>,
    pub listen: Vec<Spanned<Listener>>,
    pub trusted_proxies: Vec<IpNet>,
    pub limits: Limits,
    /// Where this gateway stands: endpoints of its own zone are preferred.
    pub zone: Option<String>,
    pub admin: Admin,
    /// The file of the embedded store. Default `maitred.db` beside the main file.
    pub store: PathBuf,
    pub upstreams: IndexMap<String, Spanned<Upstream>>,
    /// By name: Lambda functions, here or in AWS.
    pub functions: IndexMap<String, Spanned<Function>>,
    /// By name: who can say who somebody is.
    pub authorizers: IndexMap<String, Spanned<Authorizer>>,
    /// By name: callers that are known.
    pub consumers: IndexMap<String, Spanned<Consumer>>,
    /// By name: what consumers are given.
    pub plans: IndexMap<String, Spanned<Plan>>,
    /// Where limits and quotas are counted.
    pub counters: Counters,
    pub apis: IndexMap<String, Spanned<Api>>,
    pub telemetry: Telemetry,
}

/// Every limit has a default; the field docs become the schema's descriptions.
#[derive(Debug, Clone)]
pub struct Limits {
    pub connections: NonZeroU32,
    pub connections_per_ip: NonZeroU32,
    /// bytes
    pub header_bytes: NonZeroU32,
    pub headers: NonZeroU32,
    /// bytes
    pub uri_bytes: NonZeroU32,
    /// bytes; streamed, so a limit and not a buffer
    pub body_bytes: u64,
    /// bytes; of all bodies that are held whole at once
    pub buffered_bytes: u64,
    /// bytes; of all messages of WebSockets that functions answer
    pub websocket_bytes: u64,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub write_timeout: Duration,
    pub idle_timeout: Duration,
    pub drain_timeout: Duration,
    /// For a TLS handshake, a PROXY header, or the preface of HTTP/2.
    pub handshake_timeout: Duration,
    /// TLS handshakes in progress at once, over all workers.
    pub handshakes: NonZeroU32,
    /// Concurrent streams of one HTTP/2 connection.
    pub h2_streams: NonZeroU32,
    /// bytes; the flow control window of one HTTP/2 stream, 65535 to 16 MiB. The connection's is that of all its streams.
    pub h2_window: NonZeroU32,
    /// Streams that a client may reset, or have reset by its own errors, in 10 s.
    pub h2_resets: NonZeroU32,
    /// Frames that carry nothing (SETTINGS, PING, PRIORITY, empty DATA, WINDOW_UPDATE beyond what streams need), in 10 s.
    pub h2_control_frames: NonZeroU32,
    pub tunnel_idle_timeout: Duration,
    pub tunnel_lifetime: Duration,
    pub half_close: HalfClose,
    pub underscores: Underscores,
    pub failed_credentials: FailedCredentials,
}

/// Wrong credentials of one client address: more are not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedCredentials {
    pub rate: Rate,
    pub burst: NonZeroU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfClose {
    Deliver,
    Abort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underscores {
    Drop,
    Allow,
}

#[derive(Debug, Clone)]
pub struct Admin {
    /// Default 127.0.0.1:9080.
    pub listen: Spanned<SocketAddr>,
    pub token: Option<Secret>,
    pub metrics: MetricsAccess,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAccess {
    Open,
    Protected,
}

#[derive(Debug, Clone)]
pub struct Api {
    /// Empty: any host.
    pub hosts: Vec<Spanned<HostPattern>>,
    /// "" or "/shop": canonical, never ending in `/`.
    pub base_path: Spanned<String>,
    pub cors: Option<Spanned<Cors>>,
    pub ip: Option<Spanned<IpRules>>,
    /// `policies:` of the API, which every route has unless it says otherwise.
    pub policies: Policies,
    pub maintenance: Option<Maintenance>,
    pub gateway_responses: GatewayResponses,
    pub routes: Vec<Spanned<Route>>,
}

/// How an API speaks of what goes wrong before or instead of a back end's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GatewayResponses {
    /// RFC 9457.
    #[default]
    Problem,
    /// As a REST API of AWS API Gateway.
    AwsRest,
    /// As an HTTP API of AWS API Gateway.
    AwsHttp,
}

/// What an API's `policies:` and a route itself may both say.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    pub timeout: Option<Duration>,
    pub body_bytes: Option<u64>,
    pub transform: Option<Spanned<Transform>>,
    /// A route's replaces its API's.
    pub authenticate: Option<Spanned<Authenticate>>,
    /// A route's adds to its API's, or drops it in writing.
    pub authorize: Option<Setting<Spanned<Authorize>>>,
    /// A route's add to its API's, or drop them in writing.
    pub rate_limit: Option<Setting<Vec<Spanned<RateLimit>>>>,
    /// How answers say what is left; empty: they do not. A route's replaces its API's; default `draft`.
    pub rate_limit_headers: Option<Vec<LimitHeaders>>,
}

#[derive(Debug, Clone)]
pub struct Route {
    pub matcher: Spanned<Match>,
    pub name: Option<Spanned<String>>,
    pub when: When,
    pub integration: Spanned<Integration>,
    pub rewrite: Option<Spanned<Template>>,
    pub policies: Policies,
    pub cors: Option<Setting<Spanned<Cors>>>,
    pub ip: Option<Setting<Spanned<IpRules>>>,
    /// Only beside `proxy`. Its span is that of `to`.
    pub mirror: Option<Spanned<Mirror>>,
    /// Who is served first where requests wait for their upstream.
    pub priority: Option<Priority>,
    /// Whether a request may be repeated, whatever its method says.
    pub idempotent: Option<bool>,
    /// Replaces the API's.
    pub maintenance: Option<Maintenance>,
}

impl Route {
    /// Nobody wrote it: it is a step of a login.
    pub fn is_login(&self) -> bool {
        matches!(&self.integration.value, Integration::Login(..))
    }
}

/// A copy of requests, whose answers nobody sees.
#[derive(Debug, Clone)]
pub struct Mirror {
    pub to: ProxyTarget,
    /// Default all.
    pub share: Share,
}

/// A protection inherited from the API may be dropped in writing: `cors: none`.
#[derive(Debug, Clone)]
pub enum Setting<T> {
    None,
    Some(T),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Empty: ANY.
    pub methods: Vec<String>,
    pub path: PathTemplate,
}

/// More conditions; all must hold.
#[derive(Debug, Clone, Default)]
pub struct When {
    pub headers: Vec<(HeaderName, ValueMatch)>,
    pub query: Vec<(String, ValueMatch)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueMatch {
    Exact(String),
    /// `*`: present, whatever its value.
    Present,
}

#[derive(Debug, Clone)]
pub enum Integration {
    /// The name of an upstream, or a URL of its own.
    Proxy(ProxyTarget),
    /// The name of a function.
    Function(String),
    /// Messages of clients that stay.
    WebSocket(Box<WebSocket>),
    Respond(Respond),
    Redirect(Redirect),
    /// A step of the login of an authorizer; nobody writes these, they follow from `oidc`.
    Login(String, LoginStep),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginStep {
    /// The provider sends the browser back.
    Callback,
    /// The session ends.
    Logout,
}

impl LoginStep {
    pub fn name(self) -> &'static str {
        match self {
            LoginStep::Callback => "callback",
            LoginStep::Logout => "logout",
        }
    }
}

#[derive(Debug, Clone)]
pub enum ProxyTarget {
    Named(String),
    Url(Endpoint),
}

#[derive(Debug, Clone)]
pub struct Respond {
    /// Default 200.
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `text:` (text/plain; charset=utf-8), `json:` (application/json), or none. A `content-type` in `headers` wins.
    pub body: RespondBody,
}

impl Respond {
    pub fn nothing() -> Respond {
        Respond { status: 404, headers: Vec::new(), body: RespondBody::Empty }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum RespondBody {
    Empty,
    Text(String),
    Json(serde_json::Value),
}

#[derive(Debug, Clone)]
pub struct Redirect {
    /// An absolute URL or a path; `{name}` is replaced as in `rewrite`. The query is kept unless `to` has one.
    pub to: Template,
    /// 301, 302, 303, 307 or 308 (default).
    pub status: u16,
}

#[derive(Debug, Clone)]
pub struct Cors {
    /// Exact origins such as `https://app.example.com`, or the one entry `*`.
    pub origins: Vec<String>,
    /// Default GET, HEAD, POST.
    pub methods: Vec<String>,
    /// Request headers allowed; `*` allows whatever is asked for. Default none.
    pub headers: Vec<String>,
    /// Response headers scripts may read.
    pub expose: Vec<String>,
    pub credentials: bool,
    pub max_age: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpRules {
    /// Empty: everyone not denied.
    pub allow: Vec<IpNet>,
    /// Wins over `allow`.
    pub deny: Vec<IpNet>,
}

#[derive(Debug, Clone, Default)]
pub struct Transform {
    pub request: HeaderEdits,
    pub response: HeaderEdits,
}

/// Applied in this order: remove, set, add.
#[derive(Debug, Clone, Default)]
pub struct HeaderEdits {
    pub remove: Vec<HeaderName>,
    pub set: Vec<(HeaderName, Spanned<Template>)>,
    pub add: Vec<(HeaderName, Spanned<Template>)>,
}

#[derive(Debug, Clone)]
pub struct Telemetry {
    pub access_log: AccessLog,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    None,
    Stdout,
    Stderr,
    File(PathBuf),
}
