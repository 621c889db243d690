//! The top of the document: limits, admin, telemetry.

use super::authorizers::AuthorizerShape;
use super::counters::CountersShape;
use super::functions::FunctionForm;
use super::limits::PlanShape;
use super::listeners::ListenerForm;
use super::upstreams::UpstreamForm;
use super::values::{Address, Name, Network, RateText, SecretKey, SecretText, Size, SmallSize, Text, Timeout, WindowSize};
use crate::decode::{
    Cx, Defs, List, NamedMap, Null, OneOrMany, ScalarOr, Shape, default_of, or_reference, record, text, whole, words,
};
use crate::document::{
    AccessLog, Admin, Api, Consumer, Document, FailedCredentials, HalfClose, Limits, MetricsAccess, Telemetry, Underscores,
};
use crate::span::Spanned;
use crate::values::{IpNet, ValueError};
use crate::yaml::Node;
use serde_json::{Value, json};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;

words! {
    /// What a client's FIN after a complete request means.
    HalfClose {
        /// The answer is still delivered.
        Deliver = "deliver",
        /// The client is gone.
        Abort = "abort",
    }
}

words! {
    /// What becomes of header names with `_`, which impersonate `-` behind WSGI and CGI.
    Underscores {
        /// They are dropped.
        Drop = "drop",
        /// They are passed on.
        Allow = "allow",
    }
}

words! {
    /// Who may read /metrics.
    MetricsAccess {
        /// Everyone who reaches the admin address.
        Open = "open",
        /// Who has the token.
        Protected = "protected",
    }
}

pub(crate) enum LogFormat {
    Json,
}

words! {
    /// How a line of the access log is written.
    LogFormat {
        /// One JSON object a line.
        Json = "json",
    }
}

record! {
    /// Bounds on what clients may ask for.
    "`limits`" => Limits {
        /// Client connections open at once.
        connections: NonZeroU32 = "50000",
        /// Client connections open at once from one address.
        connections_per_ip: NonZeroU32 = "1000",
        /// The head of a request: request line and headers.
        header_bytes: SmallSize = "64KiB",
        /// Headers of a request.
        headers: NonZeroU32 = "100",
        /// The target of a request: path and query.
        uri_bytes: SmallSize = "16KiB",
        /// The body of a request. It is streamed: a limit and not a buffer. A route may have its own.
        body_bytes: Size = "10MiB",
        /// All bodies that must be held whole at once, over all workers: those with a digest to verify.
        buffered_bytes: Size = "256MiB",
        /// All messages of WebSockets that functions answer, over all workers: those that come, and those that wait for a function or a client.
        websocket_bytes: Size = "256MiB",
        /// For a whole head to arrive.
        header_timeout: Timeout = "10s",
        /// Between two reads of a body.
        body_timeout: Timeout = "30s",
        /// Between two writes to a client.
        write_timeout: Timeout = "30s",
        /// For the next request on a kept connection.
        idle_timeout: Timeout = "75s",
        /// For requests under way when the gateway stops.
        drain_timeout: Timeout = "30s",
        /// For a TLS handshake, a PROXY header, or the preface of HTTP/2.
        handshake_timeout: Timeout = "10s",
        /// TLS handshakes in progress at once, over all workers.
        handshakes: NonZeroU32 = "256",
        /// Concurrent streams of one HTTP/2 connection.
        h2_streams: NonZeroU32 = "100",
        /// The flow control window of one HTTP/2 stream; its connection's is that of all its streams.
        h2_window: WindowSize = "64KiB",
        /// Streams of one HTTP/2 connection that a client may reset, or have reset by its own errors, in 10 s.
        h2_resets: NonZeroU32 = "100",
        /// Frames of one HTTP/2 connection that carry nothing, in 10 s: SETTINGS, PING, PRIORITY, empty DATA, and more WINDOW_UPDATE than
        /// streams need.
        h2_control_frames: NonZeroU32 = "1000",
        /// Without a byte in either direction of a WebSocket or another upgraded connection.
        tunnel_idle_timeout: Timeout = "5min",
        /// For a WebSocket or another upgraded connection in all.
        tunnel_lifetime: Timeout = "24h",
        /// What a client's FIN after a complete request means.
        half_close: HalfClose = "deliver",
        /// What becomes of header names with `_`.
        underscores: Underscores = "drop",
        /// Wrong credentials of one address: beyond it none is looked at, unless a worker knows it already.
        failed_credentials: FailedCredentials = empty,
    }
}

record! {
    /// Wrong credentials of one address: an IPv4 address, or a /64 of IPv6.
    "`failed_credentials`" => FailedCredentials {
        /// How many, in the long run.
        rate: RateText = "1/s",
        /// How many at once.
        burst: NonZeroU32 = "20",
    }
}

record! {
    /// The admin listener.
    "`admin`" => Admin {
        /// Where the admin API, /metrics, /healthz and /readyz answer.
        listen: Spanned<Address> = "127.0.0.1:9080",
        /// What callers of the admin API must send; required unless the address is loopback.
        token: Option<SecretText> = absent,
        /// Who may read /metrics.
        metrics: MetricsAccess = "open",
    }
}

record! {
    /// Where the access log goes, in long form.
    "`access_log`" => struct RawAccessLog {
        /// `stdout`, `stderr`, `none`, or the path of a file.
        to: LogTarget = "stdout",
        /// How a line is written.
        format: LogFormat = "json",
    }
}

record! {
    /// What the gateway tells about itself.
    "`telemetry`" => Telemetry {
        /// One line for each request: `stdout`, `stderr`, `none`, or a mapping.
        access_log: ScalarOr<LogWord, AccessLogLong> = "stdout",
    }
}

record! {
    /// The configuration of a gateway.
    "the configuration" => struct RawDocument {
        /// The version of this language.
        version: Version = "1",
        /// Worker threads: `auto` for one per core. A change needs a restart.
        workers: Workers = "auto",
        /// What sessions, tickets and hashes of keys are derived from: at least 32 bytes, by reference.
        secret_key: Option<SecretKey> = absent,
        /// More files, relative to this one; `*` and `?` stand for characters. They may hold `upstreams`, `functions`, `authorizers`, `consumers`, `plans`, `apis` and `include`.
        include: Option<OneOrMany<Text>> = absent,
        /// Where clients connect: one address, or a list.
        listen: OneOrMany<Spanned<ListenerForm>> = needed,
        /// Networks whose X-Forwarded-For and Forwarded are believed.
        trusted_proxies: List<TrustedNetwork> = absent,
        /// Where this gateway stands: endpoints of the same `zone` are preferred.
        zone: Option<Name> = absent,
        /// Bounds on what clients may ask for.
        limits: Limits = empty,
        /// The admin listener.
        admin: Admin = empty,
        /// The file in which the gateway keeps what is changed at run time, such as consumers. It is made when there is something to keep. A change needs a restart.
        store: StoreFile = "./maitred.db",
        /// Where requests are sent: names, each with a URL or a mapping.
        upstreams: Null<NamedMap<UpstreamForm>> = absent,
        /// Lambda functions: names, each with its code or its ARN.
        functions: Null<NamedMap<FunctionForm>> = absent,
        /// Who can say who somebody is: names, each with one kind.
        authorizers: Null<NamedMap<AuthorizerShape>> = absent,
        /// Callers that are known: names, each with keys and identities.
        consumers: Null<NamedMap<Consumer>> = absent,
        /// What consumers are given: names, each with rate, quota and priority.
        plans: Null<NamedMap<PlanShape>> = absent,
        /// Where limits and quotas are counted: `memory` of this gateway, or servers that gateways share. A change needs a restart.
        counters: CountersShape = "memory",
        /// What is served: names, each with routes.
        apis: Null<NamedMap<Api>> = absent,
        /// What the gateway tells about itself.
        telemetry: Telemetry = empty,
    }
}

impl Default for Limits {
    fn default() -> Limits {
        default_of::<Limits>()
    }
}

impl Default for Admin {
    fn default() -> Admin {
        default_of::<Admin>()
    }
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        default_of::<Telemetry>()
    }
}

/// The document of a tree. A part that is wrong is left out, having been complained about, so that the rest can be checked.
pub(crate) fn into_document(raw: RawDocument) -> Document {
    // `include` was followed before; it is declared so that it has its place in the schema.
    let RawDocument {
        version: (),
        workers,
        secret_key,
        include: _included,
        listen,
        trusted_proxies,
        zone,
        limits,
        admin,
        store,
        upstreams,
        functions,
        authorizers,
        consumers,
        plans,
        counters,
        apis,
        telemetry,
    } = raw;
    Document {
        workers,
        secret_key,
        listen,
        trusted_proxies,
        zone,
        limits,
        admin,
        store,
        upstreams,
        functions,
        authorizers,
        consumers,
        plans,
        counters,
        apis,
        telemetry,
    }
}

/// Never everyone: who is trusted may say that it is anybody.
pub(crate) struct TrustedNetwork;

impl Shape for TrustedNetwork {
    type Out = IpNet;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<IpNet> {
        let network = Network::decode(node, cx)?;
        if network.prefix() == 0 {
            let message = format!("`{network}` is everyone, who could then pass for anyone by X-Forwarded-For");
            let hint = "write the networks of your proxies: `trusted_proxies: [10.0.0.0/8]`";
            cx.error("believes-everyone", node.span, message, hint);
            return None;
        }
        Some(network)
    }

    fn schema(defs: &mut Defs) -> Value {
        Network::schema(defs)
    }
}

pub(crate) struct Version;

impl Shape for Version {
    type Out = ();

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<()> {
        let scalar = cx.scalar(node, "the number 1")?;
        if scalar.text != "1" {
            cx.error(
                "bad-version",
                node.span,
                format!("version `{}` of the language is not known", scalar.shown()),
                "write `version: 1`",
            );
            return None;
        }
        Some(())
    }

    fn schema(_: &mut Defs) -> Value {
        json!({ "enum": [1, "1"] })
    }
}

/// The path of the store. Other kinds of store are written as URLs.
pub(crate) struct StoreFile;

impl Shape for StoreFile {
    type Out = PathBuf;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<PathBuf> {
        let path = text(node, cx, "the path of a file", |scalar| {
            let text = scalar.text.as_str();
            let hint = "name a file, relative to this one: `store: ./maitred.db`";
            if text.starts_with("postgres://") || text.starts_with("postgresql://") {
                Err(ValueError::new("a store in PostgreSQL is not in this version").hint(hint))
            } else if text.contains("://") {
                Err(ValueError::new("the store is a file, and no URL").hint(hint))
            } else if text.is_empty() || text.ends_with('/') || text.contains('\0') {
                Err(ValueError::new(format!("`{text}` is not the path of a file")).hint(hint))
            } else {
                Ok(text.strip_prefix("./").unwrap_or(text).to_owned())
            }
        })?;
        Some(cx.outside.path(node.span, path))
    }

    fn schema(defs: &mut Defs) -> Value {
        or_reference(defs, json!({ "type": "string", "pattern": "^([^:]|:[^/]|:/[^/])*[^/]$" }))
    }
}

/// More threads than this is a slip of the finger.
const WORKERS_MAX: u64 = 1024;

pub(crate) struct Workers;

impl Shape for Workers {
    type Out = Option<NonZeroU16>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Option<NonZeroU16>> {
        let scalar = cx.scalar(node, "`auto` or a number")?;
        if scalar.text == "auto" {
            return Some(None);
        }
        if !scalar.text.starts_with(|c: char| c.is_ascii_digit()) {
            let message = format!("`{}` is no number of workers", scalar.shown());
            cx.error("unknown-word", node.span, message, format!("write `auto`, or a number from 1 to {WORKERS_MAX}"));
            return None;
        }
        let number = whole(node, cx, 1, WORKERS_MAX)?;
        u16::try_from(number).ok().and_then(NonZeroU16::new).map(Some)
    }

    fn schema(defs: &mut Defs) -> Value {
        let number = json!({ "type": "integer", "minimum": 1, "maximum": WORKERS_MAX });
        or_reference(defs, json!({ "anyOf": [{ "const": "auto" }, number] }))
    }
}

/// `access_log` as one word. A file is named in the long form, so that `stdot` is a slip and no file.
pub(crate) struct LogWord;

impl Shape for LogWord {
    type Out = AccessLog;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<AccessLog> {
        text(node, cx, "`stdout`, `stderr` or `none`", |scalar| {
            log_word(&scalar.text).ok_or_else(|| {
                let message = format!("`{}` is not known here", scalar.text);
                ValueError::new(message)
                    .hint(format!("write `stdout`, `stderr` or `none`; a file is `{{ to: \"{}\" }}`", scalar.text))
            })
        })
    }

    fn schema(defs: &mut Defs) -> Value {
        or_reference(defs, json!({ "enum": ["none", "stdout", "stderr"] }))
    }
}

fn log_word(text: &str) -> Option<AccessLog> {
    match text {
        "none" => Some(AccessLog::None),
        "stdout" => Some(AccessLog::Stdout),
        "stderr" => Some(AccessLog::Stderr),
        _ => None,
    }
}

pub(crate) struct LogTarget;

impl Shape for LogTarget {
    type Out = AccessLog;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<AccessLog> {
        let log = text(node, cx, "`stdout`, `stderr`, `none` or a file", |scalar| match log_word(&scalar.text) {
            Some(word) => Ok(word),
            None if scalar.text.is_empty() || scalar.text.contains('\0') => Err(ValueError::new("the path of a file is empty")),
            None => Ok(AccessLog::File(scalar.text.as_str().into())),
        })?;
        Some(match log {
            AccessLog::File(path) => AccessLog::File(cx.outside.path(node.span, path)),
            AccessLog::None | AccessLog::Stdout | AccessLog::Stderr => log,
        })
    }

    fn schema(_: &mut Defs) -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

pub(crate) struct AccessLogLong;

impl Shape for AccessLogLong {
    type Out = AccessLog;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<AccessLog> {
        let RawAccessLog { to, format: LogFormat::Json } = RawAccessLog::decode(node, cx)?;
        Some(to)
    }

    fn schema(defs: &mut Defs) -> Value {
        RawAccessLog::schema(defs)
    }
}
