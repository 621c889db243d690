//! Everything that can go wrong with a request, in one closed table: status, whose side it is on, whether the same request may
//! be tried again, and the words that strangers may read. Detail goes to the log and never out.

use maitred_wire::GrpcCode;
use std::borrow::Cow;
use std::time::Duration;

/// Which side of the gateway is to blame; a label in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Gateway,
    Upstream,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $status:literal, $grpc:ident, $side:ident, retry: $retry:literal, $title:literal;)+) => {
        /// The kind of a fault: metric label, log field, and the last part of its documentation's address.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $kind),+ }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$kind),+];

            /// Lower-case name with underscores.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),+ }
            }

            pub fn status(self) -> u16 {
                match self { $(Kind::$kind => $status),+ }
            }

            /// What a gRPC client is told instead of `status`.
            pub fn grpc(self) -> GrpcCode {
                match self { $(Kind::$kind => GrpcCode::$grpc),+ }
            }

            pub fn side(self) -> Side {
                match self { $(Kind::$kind => Side::$side),+ }
            }

            /// Nothing of the request reached a back end that could have acted on it.
            pub fn is_unsent(self) -> bool {
                match self { $(Kind::$kind => $retry),+ }
            }

            /// What the client is told.
            pub fn title(self) -> &'static str {
                match self { $(Kind::$kind => $title),+ }
            }
        }
    };
}

faults! {
    /// The request breaks HTTP's rules, or could be read in two ways.
    BadRequest = "bad_request", 400, Internal, Client, retry: false, "The request is not valid HTTP.";
    /// The function gets bodies as they are (`event: raw`), and so they must be JSON.
    BodyNotJson = "body_not_json", 400, Internal, Client, retry: false, "The request's body is not JSON.";
    /// No credential that the route asks for, or one that is not valid.
    Unauthenticated = "unauthenticated", 401, Unauthenticated, Client, retry: false, "A valid credential is needed.";
    /// It is known who it is, and that one may not.
    Forbidden = "forbidden", 403, PermissionDenied, Client, retry: false, "You may not do this.";
    AddressDenied = "address_denied", 403, PermissionDenied, Client, retry: false, "Your address may not use this API.";
    NoRoute = "no_route", 404, Unimplemented, Client, retry: false, "There is nothing at this address.";
    MethodNotAllowed = "method_not_allowed", 405, Unimplemented, Client, retry: false, "This address does not answer to that method.";
    /// The client stopped in the middle of its request.
    RequestTimeout = "request_timeout", 408, Cancelled, Client, retry: false, "The request took too long to arrive.";
    BodyTooLarge = "body_too_large", 413, ResourceExhausted, Client, retry: false, "The request's body is too large.";
    /// The Host belongs to another certificate than the one this connection was opened with.
    Misdirected = "misdirected", 421, Unavailable, Client, retry: false, "This connection was opened for another host.";
    /// Too many credentials from this address were wrong.
    TooManyFailures = "too_many_failures", 429, ResourceExhausted, Client, retry: false, "Too many credentials from your address were wrong.";
    /// A `rate_limit` of the API, the route or the caller's plan has no more to give at the moment.
    RateLimited = "rate_limited", 429, ResourceExhausted, Client, retry: false, "Too many requests.";
    /// What the caller's plan gives in this period is used up.
    QuotaExceeded = "quota_exceeded", 429, ResourceExhausted, Client, retry: false, "Your quota for this period is used up.";
    /// The route is a WebSocket's, and the request begins none.
    UpgradeRequired = "upgrade_required", 426, Internal, Client, retry: false, "This address speaks WebSocket.";
    UriTooLong = "uri_too_long", 414, Internal, Client, retry: false, "The request's target is too long.";
    HeadTooLarge = "head_too_large", 431, ResourceExhausted, Client, retry: false, "The request's headers are too large.";
    /// The client went away before it was answered; nobody reads this one.
    ClientGone = "client_gone", 499, Cancelled, Client, retry: false, "The client closed the connection.";
    /// Whoever was asked who it is gave no answer that could be understood.
    AuthorizerFailed = "authorizer_failed", 500, Internal, Gateway, retry: false, "Your credential could not be checked.";
    Internal = "internal", 500, Internal, Gateway, retry: false, "Something went wrong in the gateway.";
    NotImplemented = "not_implemented", 501, Unimplemented, Client, retry: false, "The gateway does not do that.";
    /// The back end's connection broke, or closed, before it answered.
    UpstreamReset = "upstream_reset", 502, Unavailable, Upstream, retry: false, "The service closed the connection without an answer.";
    /// No connection could be made.
    UpstreamUnreachable = "upstream_unreachable", 502, Unavailable, Upstream, retry: true, "The service cannot be reached.";
    /// The back end answered with something that is not HTTP, or could be read in two ways.
    UpstreamProtocol = "upstream_protocol", 502, Internal, Upstream, retry: false, "The service gave an answer that is not valid HTTP.";
    /// The function raised an error, its process ended, or it could not be started.
    FunctionFailed = "function_failed", 502, Internal, Upstream, retry: false, "The function failed.";
    /// The function's result is no response in the format that its `event` asks for.
    FunctionMalformed = "function_malformed", 502, Internal, Upstream, retry: false, "The function gave an answer that is not a response.";
    /// Whoever runs the function in AWS refused, or could not be asked: no permission, no such function.
    FunctionUnavailable = "function_unavailable", 502, Unavailable, Upstream, retry: false, "The function cannot be invoked.";
    /// As many invocations are under way as may be, and no place is left to wait in, or none came free in time.
    FunctionBusy = "function_busy", 503, Unavailable, Upstream, retry: true, "The function is busy.";
    /// The upstream has no address at all: its name resolves to nothing.
    NoEndpoint = "no_endpoint", 503, Unavailable, Upstream, retry: true, "The service has no address at the moment.";
    /// The gateway stopped at the end of its drain; only the log and clients of gRPC see this one.
    CutOff = "cut_off", 503, Unavailable, Gateway, retry: false, "The gateway stopped before the answer was complete.";
    /// The configuration says that the route is closed for now.
    Maintenance = "maintenance", 503, Unavailable, Gateway, retry: true, "The service is closed for maintenance.";
    /// Whoever knows could not be reached, or the gateway is too busy to find out.
    AuthorizerUnavailable = "authorizer_unavailable", 503, Unavailable, Gateway, retry: true, "Your credential cannot be checked at the moment.";
    /// The counts that gateways share could not be asked, and `counters.on_failure` is `closed`.
    CountersUnavailable = "counters_unavailable", 503, Unavailable, Gateway, retry: true, "Your limits cannot be checked at the moment.";
    /// As much of bodies is held whole as `limits.buffered_bytes` allows, or of messages of WebSockets as `limits.websocket_bytes` does.
    BufferFull = "buffer_full", 503, Unavailable, Gateway, retry: true, "The gateway has no room for the request's body at the moment.";
    Overloaded = "overloaded", 503, Unavailable, Gateway, retry: true, "The gateway is at its limit of connections.";
    /// The upstream has as much under way as `concurrency` lets it have, and no place is left to wait in.
    QueueFull = "queue_full", 503, Unavailable, Upstream, retry: true, "The service is busy and too many wait for it.";
    /// Its place in the upstream's queue was given up: `queue.timeout` is over, or others that are fresher were served.
    QueueTimeout = "queue_timeout", 503, Unavailable, Upstream, retry: true, "The service is busy and was not free in time.";
    /// The upstream has as many requests or connections as its `circuit_breaker` allows.
    CircuitOpen = "circuit_open", 503, Unavailable, Gateway, retry: true, "The service is at its limit of requests.";
    ConnectTimeout = "connect_timeout", 504, Unavailable, Upstream, retry: true, "The service did not accept a connection in time.";
    UpstreamTimeout = "upstream_timeout", 504, DeadlineExceeded, Upstream, retry: false, "The service did not answer in time.";
    /// The function took longer than its `timeout`.
    FunctionTimeout = "function_timeout", 504, DeadlineExceeded, Upstream, retry: false, "The function did not answer in time.";
    /// The request has come through a gateway of this kind too often: an upstream leads back here.
    LoopDetected = "loop_detected", 508, Internal, Gateway, retry: true, "The request goes round in a circle.";
    HttpVersion = "http_version", 505, Internal, Client, retry: false, "The gateway does not speak that version of HTTP.";
}

/// One fault, with what the log may know about it.
#[derive(Debug, Clone)]
pub struct Fault {
    pub kind: Kind,
    pub detail: Cow<'static, str>,
    /// Headers that the answer has besides: Allow, WWW-Authenticate.
    pub headers: Vec<(&'static [u8], Vec<u8>)>,
    /// What the client is told to wait before it tries again, where more is known than that it should; sent in whole seconds.
    pub retry_after: Option<Duration>,
    /// What a gRPC client is told, where more is known than the kind says.
    pub grpc: Option<GrpcCode>,
}

impl Fault {
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Fault {
        Fault { kind, detail: detail.into(), headers: Vec::new(), retry_after: None, grpc: None }
    }

    /// One of its headers, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(own, _)| *own == name.as_bytes())?;
        std::str::from_utf8(value).ok()
    }
}

impl From<maitred_wire::Refusal> for Fault {
    fn from(refusal: maitred_wire::Refusal) -> Fault {
        use maitred_wire::Refusal;
        match refusal {
            Refusal::Bad(why) | Refusal::Malformed(why) => Fault::new(Kind::BadRequest, why),
            Refusal::HeadTooLarge => Fault::new(Kind::HeadTooLarge, "over limits.header_bytes or limits.headers"),
            Refusal::TargetTooLong => Fault::new(Kind::UriTooLong, "over limits.uri_bytes"),
            Refusal::NotImplemented(why) => Fault::new(Kind::NotImplemented, why),
            Refusal::Version => Fault::new(Kind::HttpVersion, "not HTTP/1.0 or HTTP/1.1"),
        }
    }
}
