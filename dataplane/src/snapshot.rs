//! The compiled configuration: immutable, shared by all workers, replaced as a whole. Everything in it is `Send + Sync`.

use crate::gateway::{overlap, place};
use crate::hosts::Hosts;
use crate::identity::Identity;
use crate::router::{Candidate, Params, Router, choose};
use crate::told::Told;
use maitred_core::aws::CredentialCell;
use maitred_core::identity::KeyCell;
use maitred_core::limits::AskQuota;
use maitred_core::limits::series::{LimitView, RateLeft};
use maitred_core::metrics::{Metrics, RouteSeries};
use maitred_core::quota::Grant;
use maitred_core::{Chain, Exchange, Fault, Kind, Room};
use maitred_host::Pool;
use maitred_integrations::Integration;
use maitred_integrations::function::run::{Place, Runner};
use maitred_model::{Acme, Diagnostics, Document, Endpoint, GatewayResponses, IpNet, Limits, ListenAddress};
use maitred_policies::quota::Shared;
use maitred_policies::rate_limit::PlanLimits;
use maitred_transport::{CountersSpec, Door, Expiry, HttpChallenges, IssuedCertificates, UpstreamSpec};
use maitred_wire::{Method, Name, Slice};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub struct Snapshot {
    pub document: Arc<Document>,
    /// Where redirects to https lead.
    pub(crate) https_port: u16,
    pub(crate) hosts: Hosts,
    /// One for each listener, in the document's order.
    pub(crate) doors: Vec<(ListenAddress, Arc<Door>)>,
    /// For each listener with `acme`, where its certificates are put.
    pub(crate) issued: Vec<(Acme, Arc<IssuedCertificates>)>,
    /// Whoever orders certificates puts there what the authority asks for.
    pub(crate) challenges: Arc<HttpChallenges>,
    pub(crate) apis: Vec<Api>,
    pub(crate) routes: Vec<Route>,
    /// The counters of each route, by its index.
    pub(crate) series: Vec<Arc<RouteSeries>>,
    pub(crate) upstreams: Vec<Upstream>,
    /// In the document's order.
    pub(crate) functions: Vec<Arc<Runner>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) identity: Identity,
    /// Rate limits, each once.
    pub(crate) limits: Vec<LimitView>,
    /// Of every plan.
    pub(crate) quotas: Vec<Arc<Grant>>,
    pub(crate) shared_quotas: Option<Shared>,
    /// What plans limit, on routes or on all routes of an API.
    pub(crate) plan_limits: Vec<Arc<PlanLimits>>,
    /// Headers that no client may send.
    pub(crate) told: Told,
    /// Parameters of the query that no log shows.
    pub(crate) masked: Box<[String]>,
    /// Where bodies are held whole.
    pub(crate) room: Room,
    /// Where messages of clients that stay are held.
    pub(crate) sockets_room: Room,
    /// What whoever wrote the document should know.
    pub warnings: Diagnostics,
    /// Where gateways count together, as it was when this one was started.
    pub(crate) counters: Option<Arc<CountersSpec>>,
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Snapshot>();
};

pub(crate) struct Upstream {
    pub spec: Arc<UpstreamSpec>,
    pub endpoints: Vec<Endpoint>,
}

pub(crate) struct Api {
    pub name: Arc<str>,
    /// How it speaks of what goes wrong.
    pub responses: GatewayResponses,
    pub router: Router,
}

pub(crate) struct Route {
    pub name: Arc<str>,
    pub chain: Arc<Chain>,
    pub integration: Integration,
    pub timeout: Option<Duration>,
    /// Answers preflights for its path.
    pub cors: bool,
    /// Where it stands in the document: API and position.
    pub place: (u32, u32),
}

/// What is known of a route, for lists.
#[derive(Debug)]
pub struct RouteView<'a> {
    pub api: &'a str,
    pub hosts: Vec<String>,
    pub base_path: &'a str,
    pub name: &'a str,
    pub methods: String,
    pub path: &'a str,
    pub when: Vec<String>,
    pub integration: String,
    pub policies: Vec<&'static str>,
}

impl Snapshot {
    pub fn listen(&self) -> Vec<ListenAddress> {
        self.document.listen.iter().map(|listener| listener.address.clone()).collect()
    }

    /// Listeners that speak HTTP/3.
    #[cfg(feature = "http3")]
    pub(crate) fn listen_h3(&self) -> Vec<ListenAddress> {
        self.document.listen.iter().filter(|listener| listener.http3.is_some()).map(|listener| listener.address.clone()).collect()
    }

    /// What the listener at `address` asks of those who come in; `None`: there is none any more.
    #[cfg(feature = "http3")]
    pub(crate) fn door(&self, address: &ListenAddress) -> Option<&Arc<Door>> {
        door(&self.doors, address)
    }

    /// The same for one who came in at `local`. A listener that has just gone may have another at its place, which would have taken them a moment
    /// later.
    pub(crate) fn door_at(&self, address: &ListenAddress, local: SocketAddr) -> Option<&Arc<Door>> {
        door(&self.doors, address).or_else(|| successor(&self.doors, address, local))
    }

    /// Every listener with TLS, and when its certificates end.
    pub fn certificates(&self) -> impl Iterator<Item = (&ListenAddress, Vec<Expiry>)> {
        self.doors.iter().filter_map(|(address, door)| Some((address, door.tls.as_ref()?.expiries())))
    }

    /// What is to be obtained by ACME, and where each set of certificates is put.
    pub fn issued(&self) -> impl Iterator<Item = (&Acme, &Arc<IssuedCertificates>)> {
        self.issued.iter().map(|(acme, issued)| (acme, issued))
    }

    /// The keys that are to be fetched, and how often.
    pub fn keys(&self) -> impl Iterator<Item = (&Arc<KeyCell>, Duration)> {
        self.identity.keys.iter().map(|(cell, refresh)| (cell, *refresh))
    }

    /// Where the keys of functions in AWS are put.
    pub fn credentials(&self) -> impl Iterator<Item = &Arc<CredentialCell>> {
        self.functions.iter().filter_map(|runner| match &runner.place {
            Place::Aws(function) => Some(&function.keys),
            Place::Hosted(_) | Place::Nowhere => None,
        })
    }

    /// Every quota of every plan.
    pub fn quotas(&self) -> &[Arc<Grant>] {
        &self.quotas
    }

    /// How to ask what consumers used of quotas, where gateways count together. `unix`: since 1970.
    pub fn quotas_elsewhere(&self, quotas: &[(&Grant, &str)], unix: Duration) -> Option<Vec<AskQuota>> {
        let shared = self.shared_quotas.as_ref()?;
        let ask =
            |(grant, consumer): &(&Grant, &str)| shared.ask(grant, consumer, grant.slot.calendar.period(unix.as_secs()), unix);
        Some(quotas.iter().map(ask).collect())
    }

    /// What a consumer may still take of its plan's rate limits; each once, though many routes have it.
    pub fn rates_left(&self, plan: &str, consumer: &str, now: Instant) -> Vec<RateLeft> {
        let limits = self.plan_limits.iter().filter_map(|limits| limits.limits_of(plan)).flatten();
        let mut seen = HashSet::new();
        limits.filter(|limit| seen.insert(limit.id())).filter_map(|limit| limit.rate_left(consumer, now)).collect()
    }

    pub fn limits(&self) -> &Limits {
        &self.document.limits
    }

    /// Every rate limit.
    pub fn rate_limits(&self) -> &[LimitView] {
        &self.limits
    }

    pub fn trusted_proxies(&self) -> &[IpNet] {
        &self.document.trusted_proxies
    }

    /// Upstreams whose addresses must be looked up, with their endpoints.
    pub fn upstreams(&self) -> impl Iterator<Item = (&Arc<UpstreamSpec>, &[Endpoint])> {
        self.upstreams.iter().map(|upstream| (&upstream.spec, &upstream.endpoints[..]))
    }

    /// Of each function that runs here.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.functions.iter().filter_map(|runner| match &runner.place {
            Place::Hosted(pool) => Some(pool),
            Place::Aws(_) | Place::Nowhere => None,
        })
    }

    /// The processes of a function, by its place in the document; `None`: it runs elsewhere.
    pub fn pool(&self, function: usize) -> Option<&Arc<Pool>> {
        let Place::Hosted(pool) = &self.functions.get(function)?.place else { return None };
        Some(pool)
    }

    /// Limits of requests in flight count from now on. Those of upstreams that are gone are let be: who still waits there is called as
    /// before, or the back end would get the whole queue at once.
    pub(crate) fn settle_queues(&self, now: Instant) {
        for upstream in &self.upstreams {
            upstream.spec.settle_queue(now);
        }
    }

    /// Finds the route of an exchange: host and base path → API, then path, method and conditions → route. Leaves the path without
    /// its base, and the parameters, in the exchange.
    pub(crate) fn choose(&self, exchange: &mut Exchange) -> Result<u32, Fault> {
        let nothing = || Fault::new(Kind::NoRoute, "no API has this host and base path");
        let (api, base) = self.hosts.find(exchange.request.host(), exchange.request.path()).ok_or_else(nothing)?;
        let api = &self.apis[api as usize];
        exchange.gateway_responses = api.responses;
        let request = &exchange.request;
        let start = request.path.start as usize + base;
        let local = Slice::new(start, start + request.path.len as usize - base);
        // A request for the base path itself is one for its root.
        let path: &[u8] = if local.is_empty() { b"/" } else { request.headers.slice(local) };
        let (route, params) = match self.find(api, path, start, request.method, exchange) {
            Some(found) => found,
            None => self.preflight(api, path, start, exchange).ok_or_else(|| self.miss(api, path, exchange))?,
        };
        exchange.local_path = local;
        (exchange.params, exchange.params_len) = params;
        Ok(route)
    }

    fn find(&self, api: &Api, path: &[u8], offset: usize, method: Method, exchange: &Exchange) -> Option<(u32, Params)> {
        let request = &exchange.request;
        let holds = |candidate: &Candidate| candidate.unmet(request).is_none();
        api.router.visit(path, offset, &mut |candidates, params| {
            choose(candidates, method, request.method_text(), holds).map(|candidate| (candidate.route, *params))
        })
    }

    /// A preflight asks about another method, with the URL of the request to come and none of its headers: the first route with CORS
    /// that would take method and query answers it.
    fn preflight(&self, api: &Api, path: &[u8], offset: usize, exchange: &Exchange) -> Option<(u32, Params)> {
        if !maitred_policies::cors::is_preflight(exchange) {
            return None;
        }
        let asked = exchange.request.headers.known(Name::AccessControlRequestMethod)?;
        let method = Method::of(asked);
        let holds = |candidate: &Candidate| {
            self.routes[candidate.route as usize].cors && candidate.unmet_query(&exchange.request).is_none()
        };
        api.router.visit(path, offset, &mut |candidates, params| {
            choose(candidates, method, asked, holds).map(|candidate| (candidate.route, *params))
        })
    }

    /// Why nothing took the request: 405 if another method would have been taken.
    fn miss(&self, api: &Api, path: &[u8], exchange: &Exchange) -> Fault {
        let request = &exchange.request;
        let mut allow = Vec::new();
        api.router.visit(path, 0, &mut |candidates, _| {
            for candidate in candidates {
                if candidate.unmet(request).is_none() && candidate.methods.fit(request.method, request.method_text()).is_none() {
                    candidate.methods.list(&mut allow);
                }
            }
            None::<()>
        });
        if allow.is_empty() {
            return Fault::new(Kind::NoRoute, format!("API {} has no route for this path", api.name));
        }
        let fault = Fault::new(Kind::MethodNotAllowed, "the path has routes for other methods");
        Fault { headers: vec![(b"allow", allow.join(", ").into_bytes())], ..fault }
    }

    /// Every route, in the order of the document.
    pub fn routes(&self) -> impl Iterator<Item = RouteView<'_>> {
        self.routes.iter().map(|route| self.view(route))
    }

    pub(crate) fn view<'a>(&'a self, route: &'a Route) -> RouteView<'a> {
        let (api_index, position) = route.place;
        let (api, spec) = self.document.apis.get_index(api_index as usize).expect("a route's API is in its document");
        let source = &spec.routes[position as usize];
        let condition = |kind: &str, name: &str, value: &maitred_model::ValueMatch| match value {
            maitred_model::ValueMatch::Exact(text) => format!("{kind} {name}: {text}"),
            maitred_model::ValueMatch::Present => format!("{kind} {name}"),
        };
        let headers = source.when.headers.iter().map(|(name, value)| condition("header", name.as_str(), value));
        let query = source.when.query.iter().map(|(name, value)| condition("query", name, value));
        RouteView {
            api,
            hosts: spec.hosts.iter().map(|host| host.value.to_string()).collect(),
            base_path: &spec.base_path,
            name: &route.name,
            methods: if source.matcher.methods.is_empty() { "ANY".to_string() } else { source.matcher.methods.join(",") },
            path: &source.matcher.path.source,
            when: headers.chain(query).collect(),
            integration: describe(&source.integration),
            policies: route.chain.names().collect(),
        }
    }
}

fn describe(integration: &maitred_model::Integration) -> String {
    use maitred_model::{Integration, ProxyTarget};
    match integration {
        Integration::Proxy(ProxyTarget::Named(name)) => format!("proxy {name}"),
        Integration::Proxy(ProxyTarget::Url(endpoint)) => format!("proxy {}", endpoint_url(endpoint)),
        Integration::Function(name) => format!("function {name}"),
        Integration::WebSocket(socket) => {
            let keys: Vec<&str> = socket.routes.iter().map(|(key, _)| key.as_str()).collect();
            format!("websocket {}", keys.join(", "))
        }
        Integration::Respond(respond) => format!("respond {}", respond.status),
        Integration::Login(name, step) => format!("login {name} {}", step.name()),
        Integration::Redirect(redirect) => format!("redirect {} {}", redirect.status, redirect.to.source),
    }
}

/// `http://host:port/path` of an endpoint, or `unix:/path`.
pub fn endpoint_url(endpoint: &Endpoint) -> String {
    match &endpoint.authority {
        maitred_model::Authority::Unix(path) => format!("unix:{}", path.display()),
        maitred_model::Authority::Address(_) | maitred_model::Authority::Name { .. } | maitred_model::Authority::Service(_) => {
            format!("{}://{}{}", endpoint.scheme.as_str(), authority(endpoint), endpoint.path)
        }
    }
}

/// The Host that an endpoint is sent: without the port where it is the scheme's own.
pub fn authority(endpoint: &Endpoint) -> String {
    use maitred_model::Authority;
    let usual = endpoint.scheme.default_port();
    match &endpoint.authority {
        Authority::Address(address) if address.port() == usual => match address.ip() {
            std::net::IpAddr::V4(v4) => v4.to_string(),
            std::net::IpAddr::V6(v6) => format!("[{v6}]"),
        },
        Authority::Address(address) => address.to_string(),
        Authority::Name { host, port, .. } if *port == usual => host.clone(),
        Authority::Name { host, port, .. } => format!("{host}:{port}"),
        Authority::Service(name) => name.clone(),
        Authority::Unix(_) => "localhost".to_owned(),
    }
}

fn door<'a, T>(doors: &'a [(ListenAddress, T)], address: &ListenAddress) -> Option<&'a T> {
    doors.iter().find(|(other, _)| other == address).map(|(_, door)| door)
}

/// Who listens now where a listener was: at that address, or else at all of them. A Unix socket has no place that another could have.
fn successor<'a, T>(doors: &'a [(ListenAddress, T)], gone: &ListenAddress, local: SocketAddr) -> Option<&'a T> {
    place(gone)?;
    let here = doors.iter().filter_map(|(address, door)| Some((place(address)?, door))).filter(|(at, _)| overlap(*at, local));
    here.min_by_key(|(at, _)| at.ip().is_unspecified()).map(|(_, door)| door)
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.metrics.snapshots.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_port_of_a_scheme_is_left_out_and_a_socket_is_localhost() {
        for (written, url, host) in [
            ("http://127.0.0.1:9001/v1/", "http://127.0.0.1:9001/v1", "127.0.0.1:9001"),
            ("http://127.0.0.1:80", "http://127.0.0.1", "127.0.0.1"),
            ("http://127.0.0.1:443", "http://127.0.0.1:443", "127.0.0.1:443"),
            ("https://127.0.0.1", "https://127.0.0.1", "127.0.0.1"),
            ("https://[::1]:443/x", "https://[::1]/x", "[::1]"),
            ("https://[::1]:80", "https://[::1]:80", "[::1]:80"),
            ("https://orders.internal:443", "https://orders.internal", "orders.internal"),
            ("https://orders.internal:9443", "https://orders.internal:9443", "orders.internal:9443"),
            ("unix:/run/app.sock", "unix:/run/app.sock", "localhost"),
        ] {
            let text = format!("listen: 127.0.0.1:0\nupstreams: {{ a: \"{written}\" }}");
            let loaded = maitred_model::load_text("test.yaml", &text, &maitred_model::Memory::default());
            let document = loaded.document.expect("a good configuration");
            let endpoint = &document.upstreams["a"].endpoints[0];
            assert_eq!((endpoint_url(endpoint).as_str(), authority(endpoint).as_str()), (url, host), "{written}");
        }
    }

    #[test]
    fn who_came_in_where_a_listener_was_is_let_in_by_the_one_that_is_there_now() {
        let tcp = |address: &str| ListenAddress::Tcp(address.parse().expect("an address"));
        let doors = [tcp("10.0.0.1:80"), tcp("0.0.0.0:80"), tcp("0.0.0.0:81"), tcp("[::]:82"), ListenAddress::Unix("/s".into())];
        let doors = doors.map(|address| (address.clone(), address.to_string()));
        let at =
            |gone: &ListenAddress, local: &str| successor(&doors, gone, local.parse().expect("an address")).map(String::as_str);
        let gone = tcp("127.0.0.1:0");
        assert_eq!(at(&gone, "10.0.0.1:80"), Some("10.0.0.1:80"), "the nearest");
        assert_eq!(at(&gone, "10.0.0.2:80"), Some("0.0.0.0:80"));
        assert_eq!(at(&gone, "127.0.0.1:81"), Some("0.0.0.0:81"));
        assert_eq!(at(&gone, "[::1]:82"), Some("[::]:82"));
        assert_eq!(at(&gone, "127.0.0.1:82"), None, "a socket of IPv6 takes none of IPv4");
        assert_eq!(at(&gone, "127.0.0.1:83"), None);
        assert_eq!(at(&ListenAddress::Unix("/t".into()), "0.0.0.0:80"), None, "it has no port");
    }
}
