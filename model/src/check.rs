//! What only the whole document shows: names that do not exist, addresses that clash, secrets that are missing. Pure: asks neither the
//! network nor the clock. Routes have a file of their own.

mod functions;
mod identity;
mod limits;
mod logins;
mod protection;
mod routes;
mod shadows;

use crate::decode::{nearest, suggest};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::document::{Api, Authority, Counters, Document, Endpoint, Integration, ListenAddress, ProxyTarget, Route};
use crate::span::{Span, Spanned};
use crate::values::format_size;
use crate::yaml::{Kind, Node};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

/// Comparisons spent on "did you mean" in one load. A file with a hundred thousand wrong names gets no hints for the last of them, and
/// still loads in time.
const SUGGESTION_BUDGET: usize = 500_000;

/// What the text said beyond what the document keeps.
pub(crate) struct Written<'a> {
    pub root: &'a Node,
    /// Scalars that hold a value from elsewhere, which is not to be repeated.
    pub tainted: &'a HashSet<Span>,
}

impl Written<'_> {
    /// Where a value of a section stands, or else the section, or else nowhere.
    fn span(&self, section: &str, key: &str) -> Span {
        let section = self.root.get(section);
        let value = section.and_then(|section| section.get(key));
        value.or(section).map_or(Span::none(), |node| node.span)
    }

    /// Also those that could not be decoded: their names are right.
    fn names(&self, section: &str) -> Vec<&str> {
        match self.root.get(section).map(|node| &node.kind) {
            Some(Kind::Mapping(entries)) => entries.iter().map(|(key, _)| key.value.as_str()).collect(),
            Some(Kind::Scalar(_) | Kind::Sequence(_) | Kind::Poisoned) | None => Vec::new(),
        }
    }
}

/// Where checks put what they find.
struct Checker<'a> {
    written: &'a Written<'a>,
    diagnostics: &'a mut Diagnostics,
    budget: usize,
}

impl Checker<'_> {
    fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(code, span, message).hint(hint));
    }

    fn clash(&mut self, code: &'static str, spans: (Span, Span), message: String, hint: &str, label: &str) {
        self.diagnostics.push(Diagnostic::error(code, spans.0, message).hint(hint).also(spans.1, label));
    }

    fn warning(&mut self, code: &'static str, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(code, span, message).hint(hint));
    }

    /// A name as it may be printed.
    fn quote(&self, name: &str, span: Span) -> String {
        if self.written.tainted.contains(&span) { "that `${…}` gives".to_owned() } else { format!("`{name}`") }
    }
}

pub(crate) fn check(document: &Document, written: &Written<'_>, diagnostics: &mut Diagnostics) {
    let mut checker = Checker { written, diagnostics, budget: SUGGESTION_BUDGET };
    listeners(document, &mut checker);
    limits(document, &mut checker);
    header_count(document, &mut checker);
    admin(document, &mut checker);
    counters(document, &mut checker);
    let used = targets(document, &mut checker);
    functions::check(document, &mut checker);
    places(document, &mut checker);
    protection::contradictions(document, &mut checker);
    identity::check(document, &mut checker);
    logins::check(document, &mut checker);
    limits::check(document, &mut checker);
    for (_, api) in &document.apis {
        routes::check(api, &mut checker);
    }
    // A part that could not be decoded is missing from the document, and a mistyped name uses nothing: both are said already.
    if !checker.diagnostics.has_errors() {
        unused(document, &used, &mut checker);
        functions::unused(document, &mut checker);
        identity::unused(document, &mut checker);
        shadows::check(document, &mut checker);
        protection::without_effect(document, &mut checker);
        limits::without_effect(document, &mut checker);
    }
}

fn listeners(document: &Document, checker: &mut Checker<'_>) {
    let listed =
        checker.written.root.get("listen").filter(|node| matches!(&node.kind, Kind::Sequence(items) if items.is_empty()));
    if let Some(node) = listed {
        checker.error("missing-value", node.span, "no listener: nobody could connect", "write `listen: 127.0.0.1:8080`");
    }
    for (at, listener) in document.listen.iter().enumerate() {
        // Port 0 is any free one, each time another.
        let is_fixed = match &listener.address {
            ListenAddress::Tcp(address) => address.port() != 0,
            ListenAddress::Unix(_) => true,
        };
        let same = |other: &ListenAddress| is_fixed && *other == listener.address;
        if let Some(first) = document.listen[..at].iter().find(|first| same(&first.address)) {
            let message = format!("the address {} is listened on twice", listener.address);
            checker.clash("address-twice", (listener.span, first.span), message, "remove one of them", "first written here");
        }
        if same(&ListenAddress::Tcp(document.admin.listen.value)) {
            let message = format!("the address {} is the admin listener's", listener.address);
            checker.error(
                "address-twice",
                listener.span,
                message,
                "give one of them another port; the admin listener's default is 9080",
            );
        }
    }
}

fn limits(document: &Document, checker: &mut Checker<'_>) {
    let limits = &document.limits;
    if limits.uri_bytes > limits.header_bytes {
        let [uri, header] = [limits.uri_bytes, limits.header_bytes].map(|size| format_size(size.get().into()));
        let key = if checker.written.root.get("limits").is_some_and(|limits| limits.get("uri_bytes").is_some()) {
            "uri_bytes"
        } else {
            "header_bytes"
        };
        let span = checker.written.span("limits", key);
        let message = format!("`uri_bytes` of {uri} is more than `header_bytes` of {header}, which counts the target too");
        checker.error("contradiction", span, message, format!("write `uri_bytes: {header}` or less"));
    }
}

/// Most fields that the parser has room for, whatever the configuration says: they are read on the stack.
const HEADERS_MAX: u32 = 256;

fn header_count(document: &Document, checker: &mut Checker<'_>) {
    if document.limits.headers.get() > HEADERS_MAX {
        let span = checker.written.span("limits", "headers");
        let message = format!("`headers` is at most {HEADERS_MAX}");
        checker.error("out-of-range", span, message, format!("write `headers: {HEADERS_MAX}` or less"));
    }
}

fn admin(document: &Document, checker: &mut Checker<'_>) {
    let admin = &document.admin;
    let broken_token = checker.written.root.get("admin").is_some_and(|admin| admin.get("token").is_some());
    if admin.token.is_none() && !broken_token {
        if !admin.listen.ip().to_canonical().is_loopback() {
            let message = format!("the admin listener on {} is open to others, and has no token", admin.listen.value);
            checker.error(
                "open-admin",
                admin.listen.span,
                message,
                "add `token: ${env:MAITRED_ADMIN_TOKEN}`, or listen on 127.0.0.1",
            );
        }
        // Where functions are hosted a token is made at the start.
        if admin.metrics == crate::document::MetricsAccess::Protected && !functions::are_hosted(document) {
            let span = checker.written.span("admin", "metrics");
            checker.error("contradiction", span, "protected metrics need a token", "add `token: ${env:MAITRED_ADMIN_TOKEN}`");
        }
    }
    let endpoints =
        document.upstreams.values().flat_map(|upstream| upstream.endpoints.iter().map(|endpoint| (endpoint, endpoint.span)));
    let direct = all_targets(document).filter_map(|(target, span)| match target {
        ProxyTarget::Url(endpoint) => Some((endpoint, span)),
        ProxyTarget::Named(_) => None,
    });
    let endpoints = endpoints.map(|(endpoint, span)| (&endpoint.value, span));
    for (_, span) in endpoints.chain(direct).filter(|(endpoint, _)| reaches(endpoint, admin.listen.value)) {
        checker.error(
            "admin-exposed",
            span,
            "this is the admin listener: clients would reach it",
            "name the address of the upstream",
        );
    }
}

/// Whether an endpoint is plainly the admin listener. Names other than `localhost` are compared when they are resolved.
/// Gateways that count together must know a key by the same name, and nobody else shall find out whose it is.
fn counters(document: &Document, checker: &mut Checker<'_>) {
    let is_missing = document.secret_key.is_none() && checker.written.root.get("secret_key").is_none();
    match document.counters {
        Counters::Redis(_) if is_missing => {
            let message = "counts that gateways share need a `secret_key`, the same for all of them";
            let hint = "make one with `openssl rand -hex 32 > secret.key`, and write `secret_key: ${file:secret.key}` in each of their files";
            checker.error("missing-key", checker.written.span("counters", "url"), message, hint);
        }
        Counters::Redis(_) | Counters::Memory => {}
    }
}

fn reaches(endpoint: &Endpoint, admin: SocketAddr) -> bool {
    let (ip, port) = (admin.ip().to_canonical(), admin.port());
    if port == 0 {
        return false;
    }
    match &endpoint.authority {
        Authority::Address(address) => {
            let other = address.ip().to_canonical();
            let here = other.is_loopback() || other.is_unspecified();
            address.port() == port
                && (other == ip || (ip.is_unspecified() && here) || (ip.is_loopback() && other.is_unspecified()))
        }
        Authority::Name { host, port: other, every: _ } => {
            *other == port && host == "localhost" && (ip.is_loopback() || ip.is_unspecified())
        }
        Authority::Unix(_) | Authority::Service(_) => false,
    }
}

/// Every upstream that a route or an authorizer names, having looked for each.
fn targets<'d>(document: &'d Document, checker: &mut Checker<'_>) -> HashSet<&'d str> {
    let names = checker.written.names("upstreams");
    let known: HashSet<&str> = names.iter().copied().collect();
    let mut used = HashSet::new();
    for (target, span) in all_targets(document) {
        let ProxyTarget::Named(name) = target else { continue };
        if !known.contains(name.as_str()) {
            unknown_upstream(name, span, &names, checker);
        }
        used.insert(name.as_str());
    }
    used
}

/// Whom routes and authorizers ask.
fn all_targets(document: &Document) -> impl Iterator<Item = (&ProxyTarget, Span)> {
    let routes = document.apis.values().flat_map(|api| &api.routes).flat_map(|route| route_targets(route));
    let asked = document.authorizers.values().filter_map(|authorizer| authorizer.kind.asks());
    routes.chain(asked.map(|asked| (&asked.upstream, asked.span)))
}

/// Where a route sends requests, and copies of them.
fn route_targets(route: &Route) -> impl Iterator<Item = (&ProxyTarget, Span)> {
    let answers = match &route.integration.value {
        Integration::Proxy(target) => Some((target, route.integration.span)),
        Integration::Function(_)
        | Integration::WebSocket(_)
        | Integration::Respond(_)
        | Integration::Redirect(_)
        | Integration::Login(..) => None,
    };
    answers.into_iter().chain(route.mirror.iter().map(|mirror| (&mirror.to, mirror.span)))
}

/// Names listed in a hint; more would bury it.
const LISTED_MAX: usize = 12;

fn unknown_upstream(name: &str, span: Span, names: &[&str], checker: &mut Checker<'_>) {
    let cost = names.len().max(1);
    let hint = if checker.written.tainted.contains(&span) || checker.budget < cost {
        "add it under `upstreams`".to_owned()
    } else {
        checker.budget -= cost;
        match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if (1..=LISTED_MAX).contains(&names.len()) => suggest(name, names.iter().copied(), "the upstreams are"),
            None => format!("add it under `upstreams`: `{name}: http://127.0.0.1:9001`"),
        }
    };
    let message = format!("no upstream has the name {}", checker.quote(name, span));
    checker.error("unknown-upstream", span, message, hint);
}

/// The same host and base path twice: neither API would know which requests are its own.
fn places(document: &Document, checker: &mut Checker<'_>) {
    let mut seen: HashMap<(String, &str), Span> = HashMap::new();
    let uncertain = uncertain_places(document, checker.written);
    for (_, api) in document.apis.iter().filter(|(name, _)| !uncertain.contains(name.as_str())) {
        let base = api.base_path.value.as_str();
        for (host, span) in hosts(api) {
            let host_text = if host.is_empty() { "any host".to_owned() } else { format!("host `{host}`") };
            match seen.insert((host, base), span) {
                None => {}
                Some(first) => {
                    let base = if base.is_empty() { "no base path".to_owned() } else { format!("base path `{base}`") };
                    let message = format!("{host_text} with {base} is served twice");
                    checker.clash(
                        "place-twice",
                        (span, first),
                        message,
                        "give one of them another host or `base_path`",
                        "first written here",
                    );
                }
            }
        }
    }
}

/// APIs whose host or base path was wrong, and is already complained about: where they are served is not known.
fn uncertain_places<'a>(document: &Document, written: &Written<'a>) -> HashSet<&'a str> {
    let Some(Kind::Mapping(entries)) = written.root.get("apis").map(|node| &node.kind) else { return HashSet::new() };
    let uncertain = |(key, node): &&'a (Spanned<String>, Node)| {
        document.apis.get(&key.value).is_some_and(|api| {
            let listed = match node.get("hosts").map(|hosts| &hosts.kind) {
                Some(Kind::Sequence(items)) => items.len(),
                Some(Kind::Scalar(_) | Kind::Mapping(_) | Kind::Poisoned) => usize::MAX,
                None => 0,
            };
            listed != api.hosts.len() || (node.get("base_path").is_some() && api.base_path.span.is_none())
        })
    };
    entries.iter().filter(uncertain).map(|(key, _)| key.value.as_str()).collect()
}

fn hosts(api: &Spanned<Api>) -> Vec<(String, Span)> {
    if api.hosts.is_empty() {
        let span = if api.base_path.span.is_none() { api.span } else { api.base_path.span };
        return vec![(String::new(), span)];
    }
    api.hosts.iter().map(|host| (host.value.to_string(), host.span)).collect()
}

fn unused(document: &Document, used: &HashSet<&str>, checker: &mut Checker<'_>) {
    for (name, upstream) in &document.upstreams {
        if !used.contains(name.as_str()) {
            checker.warning(
                "unused-upstream",
                upstream.span,
                format!("no route uses the upstream `{name}`"),
                "remove it, or name it in a route",
            );
        }
    }
    if document.apis.is_empty() {
        checker.warning("no-apis", checker.written.root.span, "no API: every request is answered with 404", "add `apis:`");
    }
    for (name, api) in document.apis.iter().filter(|(_, api)| api.routes.is_empty()) {
        checker.warning(
            "no-routes",
            api.span,
            format!("the API `{name}` has no routes"),
            "add `- GET /menu: kitchen` under `routes`",
        );
    }
}
