//! Says, offline, which route takes a request and why, and why the near misses lost. Uses the router that serves.

use crate::compile::cors_of;
use crate::identity;
use crate::snapshot::{RouteView, Snapshot};
use crate::told;
use crate::world::head_limits;
use maitred_core::{Exchange, Fault};
use maitred_integrations::Integration;
use maitred_model::{Ask, Authenticate, Authorize, AuthorizerKind};
use maitred_policies::authenticate::{Choice, Listed};
use maitred_policies::cors::{self, CorsPolicy};
use maitred_wire::Parsed;
use std::time::Instant;

/// The verdict on one request.
#[derive(Debug)]
pub struct Explanation<'a> {
    /// The path that router and back end see.
    pub path: String,
    pub host: String,
    /// The API whose host and base path fit.
    pub api: Option<&'a str>,
    pub route: Option<RouteView<'a>>,
    /// Where the route stands in the document: API and position.
    pub place: Option<(u32, u32)>,
    /// The path and query that a back end would get, behind its endpoint's own path. What depends on who makes the request stands there as
    /// it is written.
    pub forwarded: Option<Result<String, Fault>>,
    /// The values of the route's path parameters.
    pub params: Vec<String>,
    /// Who is asked who it is, where anybody is.
    pub asked: Option<Asked<'a>>,
    /// It asks for permission alone, and the gateway answers by itself.
    pub preflight: Option<Preflight>,
    /// The fault, where no route takes it.
    pub fault: Option<Fault>,
    /// Routes whose path fits and that were passed over, with the reason.
    pub misses: Vec<(RouteView<'a>, String)>,
}

/// Who says who it is, and what that one must be.
#[derive(Debug)]
pub struct Asked<'a> {
    /// In the order in which they are asked whether the request has their credential.
    pub authorizers: Vec<&'a str>,
    /// Who shows no credential comes in all the same.
    pub anonymous: bool,
    /// The first whose credential the request has, be it right or wrong.
    pub decides: Option<&'a str>,
    /// That one is asked about every request, with a credential or without.
    pub is_always_asked: bool,
    /// The first where people log in: who opens a page without a credential is sent there.
    pub login: Option<&'a str>,
    /// All that API and route demand.
    pub demands: Vec<&'a Authorize>,
}

impl Asked<'_> {
    /// Nobody is let in: who shows nothing must, and the request shows nothing.
    pub fn is_refused(&self) -> bool {
        self.decides.is_none() && !self.anonymous
    }
}

/// What a browser is told that asks before it sends a request.
#[derive(Debug)]
pub struct Preflight {
    pub status: u16,
    /// Name and value.
    pub headers: Vec<(String, String)>,
    /// Why the browser does not send it; `None`: it does.
    pub refusal: Option<String>,
}

/// `url`: a path, or a URL with its host. `headers`: name and value. `Err`: the request itself would be refused.
pub fn explain<'a>(
    snapshot: &'a Snapshot,
    method: &str,
    url: &str,
    headers: &[(String, String)],
) -> Result<Explanation<'a>, Fault> {
    let mut exchange = Exchange::new(Instant::now());
    read(snapshot, &mut exchange, method, url, headers)?;
    told::strip(snapshot, &mut exchange);
    let chosen = snapshot.choose(&mut exchange);
    let request = &exchange.request;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let found = snapshot.hosts.find(request.host(), request.path());
    let api = found.map(|(api, _)| &snapshot.apis[api as usize]);
    let winner = chosen.as_ref().ok().copied();
    let mut misses = Vec::new();
    if let (Some(api), Some((_, base))) = (api, found) {
        let path = &request.path()[base..];
        api.router.visit(if path.is_empty() { b"/" } else { path }, 0, &mut |candidates, _| {
            for candidate in candidates.iter().filter(|candidate| Some(candidate.route) != winner) {
                let reason = match candidate.methods.fit(request.method, request.method_text()) {
                    None => format!("it does not take {}", text(request.method_text())),
                    Some(_) => match candidate.unmet(request) {
                        Some(unmet) => unmet.to_string(),
                        None => "the chosen route is more specific".to_string(),
                    },
                };
                misses.push((snapshot.view(&snapshot.routes[candidate.route as usize]), reason));
            }
            None::<()>
        });
    }
    let place = winner.map(|route| snapshot.routes[route as usize].place);
    let asked = place.and_then(|place| asked(snapshot, place, &exchange));
    let preflight = place.and_then(|place| preflight(snapshot, place, &mut exchange));
    // As what the back end is asked for will be.
    let names = asked.iter().flat_map(|asked| &asked.authorizers);
    let stripped = names.filter_map(|name| snapshot.identity.choice(name)).filter(|choice| choice.strip);
    stripped.for_each(|choice| choice.authorizer.strip(&mut exchange));
    let forwarded = winner
        .filter(|_| preflight.is_none())
        .and_then(|route| forwarded(&snapshot.routes[route as usize].integration, &exchange));
    let request = &exchange.request;
    let route = winner.map(|route| snapshot.view(&snapshot.routes[route as usize]));
    let params = (0..usize::from(exchange.params_len)).map(|index| text(exchange.param(index))).collect();
    Ok(Explanation {
        path: text(request.path()),
        host: text(request.host()),
        api: api.map(|api| &*api.name),
        route,
        place,
        forwarded,
        asked,
        preflight,
        params: if winner.is_some() { params } else { Vec::new() },
        fault: chosen.err(),
        misses,
    })
}

/// Whose credential the request has: nobody is asked whether it is a good one.
fn asked<'a>(snapshot: &'a Snapshot, (api, position): (u32, u32), exchange: &Exchange) -> Option<Asked<'a>> {
    let (_, api) = snapshot.document.apis.get_index(api as usize)?;
    let route = &api.routes.get(position as usize)?.value;
    // Who is on the way to a login is nobody yet.
    let decides = identity::decides(api, route).filter(|_| !route.is_login())?;
    let Authenticate::Any { authorizers, anonymous } = decides else { return None };
    let choices: Vec<Choice> = authorizers.iter().filter_map(|name| snapshot.identity.choice(&name.value)).cloned().collect();
    let listed = Listed::all(&choices);
    let decider = Listed::decider(&listed, exchange).map(|choice| choice.authorizer.name());
    let authorizers: Vec<&str> = authorizers.iter().map(|name| name.value.as_str()).collect();
    let decides = decider.and_then(|decider| authorizers.iter().copied().find(|name| **name == **decider));
    let is_login = |name: &&str| {
        let authorizer = snapshot.document.authorizers.get(*name);
        authorizer.is_some_and(|authorizer| matches!(authorizer.kind, AuthorizerKind::Oidc(_)))
    };
    let login = authorizers.iter().copied().find(is_login).filter(|_| !anonymous);
    let is_always_asked = decides
        .and_then(|name| snapshot.document.authorizers.get(name))
        .is_some_and(|authorizer| matches!(&authorizer.kind, AuthorizerKind::Forward(forward) if forward.ask == Ask::Always));
    Some(Asked { decides, is_always_asked, login, authorizers, anonymous: *anonymous, demands: identity::demands(api, route) })
}

/// Asks the policy that would answer.
fn preflight(snapshot: &Snapshot, (api, position): (u32, u32), exchange: &mut Exchange) -> Option<Preflight> {
    let (_, api) = snapshot.document.apis.get_index(api as usize)?;
    let cors = cors_of(api, &api.routes.get(position as usize)?.value).filter(|_| cors::is_preflight(exchange))?;
    let policy = CorsPolicy::compile(cors);
    let head = policy.answer(exchange).head;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = head.headers.iter().map(|entry| (text(head.headers.name(entry)), text(head.headers.value(entry))));
    Some(Preflight { status: head.status, headers: headers.collect(), refusal: policy.refusal(exchange) })
}

/// What a back end would be asked for; nothing where no back end is asked.
fn forwarded(integration: &Integration, exchange: &Exchange) -> Option<Result<String, Fault>> {
    let Integration::Proxy(proxy) = integration else { return None };
    let mut path = Vec::new();
    match &proxy.rewrite {
        // Who it is, nobody was asked.
        Some(rewrite) if rewrite.says_who() => match rewrite.path_unasked(exchange) {
            Ok(shown) => path = shown,
            Err(fault) => return Some(Err(fault)),
        },
        Some(rewrite) => {
            if let Err(fault) = rewrite.path(exchange, &mut path) {
                return Some(Err(fault));
            }
        }
        None => path.extend_from_slice(if exchange.local_path().is_empty() { b"/" } else { exchange.local_path() }),
    }
    if let Some(query) = exchange.request.query() {
        path.push(b'?');
        path.extend_from_slice(query);
    }
    Some(Ok(String::from_utf8_lossy(&path).into_owned()))
}

/// Builds the head that such a request would have, and has it parsed as any other.
fn read(
    snapshot: &Snapshot,
    exchange: &mut Exchange,
    method: &str,
    url: &str,
    headers: &[(String, String)],
) -> Result<(), Fault> {
    let (host, target) = match url.split_once("://") {
        Some((_, rest)) => match rest.find(['/', '?']) {
            Some(at) => (&rest[..at], rest[at..].to_string()),
            None => (rest, "/".to_string()),
        },
        None => ("localhost", url.to_string()),
    };
    let target = if target.starts_with('?') { format!("/{target}") } else { target };
    let given_host = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !given_host {
        head.push_str(&format!("host: {host}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let limits = head_limits(snapshot.limits());
    match exchange.request.parse(head.as_bytes(), &limits)? {
        Parsed::Complete(length) if length == head.len() => Ok(()),
        Parsed::Complete(_) | Parsed::Partial => {
            Err(Fault::new(maitred_core::Kind::BadRequest, "the method, URL or a header has a line break in it"))
        }
    }
}
