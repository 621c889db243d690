//! Document → snapshot. Pure but for one thing: counters and address lists that outlive a reload are looked up by what they are.
//! `check`, `run` and a reload all call this one function.

mod state;

use crate::aws;
use crate::cedar::{Asking, Library};
use crate::hosts::Hosts;
use crate::identity::{self, Identity};
use crate::limits::{Around, LimitsCompiler, Place};
use crate::plans::Plans;
use crate::router::{Candidate, Conditions, Methods, Router};
use crate::secure;
use crate::snapshot::{Api, Route, Snapshot, Upstream, endpoint_url};
use maitred_core::Chain;
use maitred_core::exchange::PARAMS_MAX;
use maitred_core::metrics::{UpstreamPart, UpstreamSeries};
use maitred_core::render::Text;
use maitred_integrations::Integration;
use maitred_integrations::function::aws::AwsFunction;
use maitred_integrations::proxy::Proxy;
use maitred_integrations::proxy::mirror::Mirror;
use maitred_integrations::redirect::Redirect;
use maitred_integrations::respond::Respond;
use maitred_model as model;
use maitred_model::{Diagnostic, Diagnostics, Document, Endpoint, ProxyTarget, Scheme, Setting, Spanned};
use maitred_policies::authorize::Demands;
use maitred_policies::authorize::condition::Condition;
use maitred_policies::quota::Quotas;
use maitred_policies::{Authentication, Configured, Transforms};
use maitred_transport::{AffinityCookie, CountersSpec, Order, UpstreamSpec};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use state::State;

/// Compiles a checked document. What `check` cannot know, because it needs the parts' own rules, is reported here.
pub fn compile(document: Arc<Document>, state: &State) -> Result<Snapshot, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let library = Library::load(&document, state, &mut diagnostics);
    let mut compiler = Compiler {
        document: &document,
        state,
        diagnostics,
        upstreams: Vec::new(),
        upstream_index: HashMap::new(),
        routes: Vec::new(),
        identity: Identity::default(),
        plans: Plans::default(),
        conditions: HashMap::new(),
        library,
        key_expressions: HashMap::new(),
        limits: LimitsCompiler::new(&document, state),
        keys: Vec::new(),
    };
    compiler.conditions = identity::conditions(&document, &mut compiler.diagnostics);
    compiler.key_expressions = identity::keys(&document, &mut compiler.diagnostics);
    identity::check(&document, &mut compiler.diagnostics);
    for (name, upstream) in &document.upstreams {
        compiler.upstream(name, &upstream.value, upstream.span);
    }
    let in_aws = compiler.lambdas();
    let functions = crate::functions::runners(&document, state, in_aws, &mut compiler.diagnostics);
    let secret = compiler.secret();
    let asks = document.authorizers.iter().filter_map(|(name, authorizer)| Some((name.as_str(), authorizer.kind.asks()?)));
    let asked: HashMap<&str, u32> =
        asks.filter_map(|(name, asked)| Some((name, compiler.proxy_upstream(&asked.upstream, asked.span)?))).collect();
    compiler.plans = Plans::compile(&document, state);
    compiler.identity = Identity::compile(&document, state, &secret, &asked, &mut compiler.diagnostics);
    let tickets = state.tickets(document.secret_key.as_ref().map(|secret| secret.expose().as_bytes()));
    let mut doors = Vec::with_capacity(document.listen.len());
    let mut issued = Vec::new();
    for listener in &document.listen {
        let acme = listener.tls.as_ref().and_then(|tls| tls.acme.as_ref());
        let certificates = acme.map(|acme| state.issued(acme));
        issued.extend(acme.map(|acme| acme.value.clone()).zip(certificates.clone()));
        let door = secure::door(listener, &tickets, certificates, &document.limits, &mut compiler.diagnostics);
        doors.push((listener.address.clone(), Arc::new(door.unwrap_or_default())));
    }
    let mut hosts = Hosts::default();
    let mut apis = Vec::with_capacity(document.apis.len());
    for (index, (name, api)) in document.apis.iter().enumerate() {
        hosts.add(api.hosts.iter().map(|host| &host.value), &api.base_path, index as u32);
        apis.push(compiler.api(index as u32, name, &api.value));
    }
    let counters = compiler.counters();
    let Compiler { diagnostics, upstreams, routes, keys, identity, plans, limits, .. } = compiler;
    let LimitsCompiler { views: limits, all_plans: plan_limits, .. } = limits;
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    let warnings = diagnostics;
    let series = state.metrics.series(keys.iter().map(|(api, route)| (api, route)));
    state.metrics.snapshots.fetch_add(1, Ordering::Relaxed);
    let https_port = https_port(&document);
    let (metrics, challenges) = (state.metrics.clone(), state.challenges.clone());
    let (told, masked) = (document.identity_headers().into(), document.credential_queries().into());
    let room = state.room.with(document.limits.buffered_bytes);
    let sockets_room = state.sockets_room.with(document.limits.websocket_bytes);
    Ok(Snapshot {
        https_port,
        hosts,
        doors,
        issued,
        challenges,
        apis,
        routes,
        series,
        upstreams,
        functions,
        metrics,
        told,
        masked,
        identity,
        limits,
        quotas: plans.grants,
        shared_quotas: plans.shared,
        plan_limits,
        room,
        sockets_room,
        warnings,
        counters: state.counters.get_or_init(|| counters).clone(),
        document,
    })
}

/// What the parts' own rules say of a document that is wrong already, so that whoever mends it is told everything at once.
pub fn also_wrong(document: &Document, state: &State) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    identity::conditions(document, &mut diagnostics);
    identity::check(document, &mut diagnostics);
    Library::load(document, state, &mut diagnostics);
    let tickets = state.tickets(document.secret_key.as_ref().map(|secret| secret.expose().as_bytes()));
    secure::check(document, &tickets, &mut diagnostics);
    diagnostics
}

/// The port of the first listener with TLS, 443 if there is any; where there is none at all, somebody else ends TLS.
fn https_port(document: &Document) -> u16 {
    let ports = document.listen.iter().filter(|listener| listener.tls.is_some()).filter_map(|listener| match listener.address {
        model::ListenAddress::Tcp(address) => Some(address.port()),
        model::ListenAddress::Unix(_) => None,
    });
    let mut first = None;
    for port in ports {
        if port == HTTPS {
            return HTTPS;
        }
        first.get_or_insert(port);
    }
    first.unwrap_or(HTTPS)
}

const HTTPS: u16 = 443;

struct Compiler<'a> {
    document: &'a Document,
    state: &'a State,
    diagnostics: Diagnostics,
    upstreams: Vec<Upstream>,
    upstream_index: HashMap<String, u32>,
    routes: Vec<Route>,
    identity: Identity,
    plans: Plans,
    /// By what is written: many routes may have the same.
    conditions: HashMap<String, Arc<Condition>>,
    /// Policies in Cedar.
    library: Library,
    /// The same of keys of limits.
    key_expressions: HashMap<String, Arc<Condition>>,
    limits: LimitsCompiler,
    /// API and route names, for the counters.
    keys: Vec<(Arc<str>, Arc<str>)>,
}

impl Compiler<'_> {
    fn upstream(&mut self, name: &str, upstream: &model::Upstream, span: model::Span) -> u32 {
        let endpoints: Vec<Endpoint> = upstream.endpoints.iter().map(|endpoint| endpoint.value.clone()).collect();
        // `check` saw to it that all have one scheme.
        let encrypted = endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Https);
        let dial = secure::dial(upstream, span, encrypted, &mut self.diagnostics).unwrap_or_default();
        let order = Order { balance: upstream.balance, zone: self.document.zone.as_deref().map(Arc::from) };
        let shared = self.state.shared(name);
        let concurrency = upstream.protection.concurrency.as_ref();
        let spec = UpstreamSpec {
            name: name.into(),
            host: upstream.host.clone(),
            timeouts: upstream.timeouts,
            targets: self.state.cell(name, order, &endpoints),
            hash_by: upstream.hash_by.clone(),
            affinity: upstream.affinity.as_ref().map(|affinity| AffinityCookie::new(affinity, &self.secret(), name)),
            dial: Arc::new(dial),
            protection: upstream.protection.clone(),
            gate: concurrency.map(|concurrency| shared.gate(concurrency, &self.state.clock)),
            shared,
            series: self.series(name, &upstream.protection),
        };
        let index = self.upstreams.len() as u32;
        self.upstreams.push(Upstream { spec: Arc::new(spec), endpoints });
        self.upstream_index.insert(name.to_string(), index);
        index
    }

    /// Its counts, those it had before the reload.
    fn series(&self, name: &str, protection: &model::Protection) -> Arc<UpstreamSeries> {
        let series = self.state.metrics.upstream(&name.into());
        let parts = [
            (UpstreamPart::Retries, protection.retry.is_some()),
            (UpstreamPart::Hedges, protection.hedge.is_some()),
            (UpstreamPart::Breaker, protection.circuit_breaker.is_some()),
        ];
        parts.iter().filter(|(_, is_there)| *is_there).for_each(|(part, _)| series.has(*part));
        series
    }

    /// Functions in AWS, by name.
    fn lambdas(&mut self) -> HashMap<String, AwsFunction> {
        let lambdas = aws::lambdas(self.document, &(self.state.aws)(), &mut self.diagnostics);
        let mut functions = HashMap::new();
        for (name, lambda) in &lambdas {
            let upstream = self.upstream(name, &lambda.upstream.value, lambda.upstream.span);
            for name in &lambda.functions {
                if let Some(model::FunctionPlace::Aws(aws)) = self.document.functions.get(name).map(|function| &function.place) {
                    functions.insert(name.clone(), aws::function(aws, lambda, upstream, self.state));
                }
            }
        }
        functions
    }

    /// What keys follow from that others with the same secret share.
    fn secret(&self) -> Vec<u8> {
        self.state.tickets(self.document.secret_key.as_ref().map(|secret| secret.expose().as_bytes())).secret
    }

    /// Where gateways count together.
    fn counters(&mut self) -> Option<Arc<CountersSpec>> {
        match &self.document.counters {
            model::Counters::Memory => None,
            model::Counters::Redis(counters) => secure::counters(counters, &mut self.diagnostics),
        }
    }

    fn api(&mut self, index: u32, name: &str, api: &model::Api) -> Api {
        let name: Arc<str> = name.into();
        let mut router = Router::new();
        // Most routes have no policies of their own: they share one chain.
        let mut shared = None;
        for (position, route) in api.routes.iter().enumerate() {
            let place = (index, position as u32);
            if let Some(compiled) = self.route((&name, api), route, place, &mut shared) {
                let candidate = Candidate {
                    route: self.routes.len() as u32,
                    methods: Methods::new(&route.matcher.methods),
                    when: Conditions::compile(&route.when),
                };
                router.add(&route.matcher.path.segments, candidate);
                self.keys.push((name.clone(), compiled.name.clone()));
                self.routes.push(compiled);
            }
        }
        Api { name, responses: api.gateway_responses, router }
    }

    fn route(
        &mut self,
        (api_name, api): (&Arc<str>, &model::Api),
        route: &Spanned<model::Route>,
        place: (u32, u32),
        shared: &mut Option<Arc<Chain>>,
    ) -> Option<Route> {
        let params: Vec<&str> = route.matcher.path.params().collect();
        if params.len() > PARAMS_MAX {
            let message = format!("a path has at most {PARAMS_MAX} parameters, this one has {}", params.len());
            self.diagnostics.push(Diagnostic::error("too-many-parameters", route.matcher.span, message));
            return None;
        }
        let name: Arc<str> = match &route.name {
            Some(name) => name.value.as_str().into(),
            None => match_text(&route.matcher).into(),
        };
        let chain = self.chain(api, route, (place.0, api_name, &name), &params, shared)?;
        let integration = self.integration(route, place, &params)?;
        let cors = cors_of(api, route).is_some();
        let timeout = route.policies.timeout.or(api.policies.timeout);
        Some(Route { name, chain, integration, timeout, cors, place })
    }

    fn chain(
        &mut self,
        api: &model::Api,
        route: &Spanned<model::Route>,
        (index, api_name, name): (u32, &Arc<str>, &Arc<str>),
        params: &[&str],
        shared: &mut Option<Arc<Chain>>,
    ) -> Option<Arc<Chain>> {
        let own = route.is_login()
            || route.policies.body_bytes.is_some()
            || route.policies.authenticate.is_some()
            || route.policies.authorize.is_some()
            || route.policies.rate_limit.is_some()
            || route.policies.rate_limit_headers.is_some()
            || route.policies.transform.is_some()
            || route.cors.is_some()
            || route.maintenance.is_some()
            || route.ip.is_some();
        // Parameters are the route's, so a chain with what may name them is not shared.
        let names_some = |rules: &model::Authorize| !rules.condition.is_empty() || rules.cedar.is_some();
        let conditions = matches!(&api.policies.authorize, Some(Setting::Some(rules)) if names_some(rules));
        let (document, state) = (self.document, self.state);
        let alike = LimitsCompiler::is_shareable(document, api_name, api, route);
        let shareable = !own && api.policies.transform.is_none() && !conditions && alike;
        if let (true, Some(chain)) = (shareable, &*shared) {
            return Some(chain.clone());
        }
        let transform = route.policies.transform.as_ref().or(api.policies.transform.as_ref());
        let ip = match &route.ip {
            Some(Setting::None) => Vec::new(),
            Some(Setting::Some(rules)) => api.ip.iter().map(|rules| &rules.value).chain([&rules.value]).collect(),
            None => api.ip.iter().map(|rules| &rules.value).collect(),
        };
        let authorize = self.demands(api, route, (api_name, name), params);
        let span = route.matcher.span;
        let place = Place { index, name: api_name, api, route, route_name: name, span, params };
        let mut around = Around { document, state, conditions: &self.key_expressions, diagnostics: &mut self.diagnostics };
        let limits = self.limits.route(&place, &mut around);
        let authenticate = self.identity.authentication(api, route);
        let quotas = match &authenticate {
            Some(Authentication::Demanded { .. }) => self.plans.quotas(document, api_name, route),
            Some(Authentication::Open { .. } | Authentication::Login(_)) | None => Quotas::default(),
        };
        let configured = Configured {
            body_bytes: route.policies.body_bytes.or(api.policies.body_bytes).unwrap_or(self.document.limits.body_bytes),
            ip,
            cors: cors_of(api, route),
            maintenance: route.maintenance.as_ref().or(api.maintenance.as_ref()),
            authenticate,
            authorize,
            limits,
            quotas,
            transform: transform.map(|transform| Transforms { request: &transform.request, response: &transform.response }),
            params,
        };
        match maitred_policies::chain(&configured) {
            Ok(chain) => {
                let chain = Arc::new(chain);
                if shareable {
                    *shared = Some(chain.clone());
                }
                Some(chain)
            }
            Err(param) => {
                let span = transform.map_or(route.span, |transform| transform.span);
                self.unknown_param(span, &param);
                None
            }
        }
    }

    /// What a route demands of whoever comes in, with conditions that its path has the parameters for.
    fn demands<'a>(
        &mut self,
        api: &'a model::Api,
        route: &'a model::Route,
        (api_name, name): (&Arc<str>, &Arc<str>),
        params: &[&str],
    ) -> Vec<Demands<'a>> {
        let mut demands = Vec::new();
        for configured in identity::demands(api, route) {
            let mut conditions = Vec::with_capacity(configured.condition.len());
            for source in &configured.condition {
                // One that cannot be read has been complained about: nothing is published.
                let Some(condition) = self.conditions.get(&source.value) else { continue };
                conditions.push(condition.clone());
                let lacking: Vec<String> = condition.params().filter(|name| !params.contains(name)).map(str::to_owned).collect();
                for param in lacking {
                    let message = format!("the condition uses `path.{param}`, and the path has no parameter `{{{param}}}`");
                    let diagnostic = Diagnostic::error("unknown-parameter", source.span, message);
                    let hint = format!("ask `has(path.{param})` before, or put the condition where the path has it");
                    self.diagnostics.push(diagnostic.hint(hint).also(route.matcher.span, "on this route"));
                }
            }
            let asking = Asking { api_name, api, name, route, params };
            let rule = |cedar| self.library.rule(cedar, &asking, &mut self.diagnostics);
            let cedar = configured.cedar.as_ref().and_then(rule);
            demands.push(Demands { configured, conditions, cedar });
        }
        demands
    }

    fn integration(&mut self, route: &Spanned<model::Route>, place: (u32, u32), params: &[&str]) -> Option<Integration> {
        let span = route.integration.span;
        match &route.integration.value {
            model::Integration::Proxy(target) => {
                let rewrite = match &route.rewrite {
                    None => None,
                    Some(template) => match Text::compile(template, params) {
                        Ok(text) => Some(Box::new(text)),
                        Err(param) => {
                            self.unknown_param(template.span, &param);
                            return None;
                        }
                    },
                };
                let upstream = self.proxy_upstream(target, span)?;
                let mirror = match &route.mirror {
                    None => None,
                    Some(mirror) => {
                        let upstream = self.proxy_upstream(&mirror.to, mirror.span)?;
                        self.upstreams[upstream as usize].spec.series.has(UpstreamPart::Mirror);
                        Some(Box::new(Mirror { upstream, share: mirror.share.ppm() }))
                    }
                };
                Some(Integration::Proxy(Proxy {
                    upstream,
                    rewrite,
                    mirror,
                    idempotent: route.idempotent,
                    priority: route.priority.clone(),
                }))
            }
            model::Integration::Function(name) => crate::functions::integration(self.document, name, route, place, self.state)
                .map(Box::new)
                .map(Integration::Function),
            model::Integration::WebSocket(socket) => {
                crate::functions::websocket(self.document, socket, place).map(Arc::new).map(Integration::WebSocket)
            }
            model::Integration::Respond(respond) => Some(Integration::Respond(Box::new(Respond::compile(respond)))),
            // Its policy answers.
            model::Integration::Login(..) => Some(Integration::Respond(Box::new(Respond::compile(&model::Respond::nothing())))),
            model::Integration::Redirect(redirect) => match Redirect::compile(redirect, params) {
                Ok(redirect) => Some(Integration::Redirect(Box::new(redirect))),
                Err(param) => {
                    self.unknown_param(span, &param);
                    None
                }
            },
        }
    }

    fn proxy_upstream(&mut self, target: &ProxyTarget, span: model::Span) -> Option<u32> {
        match target {
            ProxyTarget::Named(name) => {
                let found = self.upstream_index.get(name).copied();
                if found.is_none() {
                    self.diagnostics.push(Diagnostic::error("unknown-upstream", span, format!("there is no upstream `{name}`")));
                }
                found
            }
            ProxyTarget::Url(endpoint) => {
                let url = endpoint_url(endpoint);
                if let Some(index) = self.upstream_index.get(&url) {
                    return Some(*index);
                }
                let upstream = model::Upstream::of(Spanned::new(endpoint.clone(), span));
                Some(self.upstream(&url, &upstream, span))
            }
        }
    }

    fn unknown_param(&mut self, span: model::Span, param: &str) {
        self.diagnostics.push(Diagnostic::error("unknown-parameter", span, format!("the path has no parameter `{{{param}}}`")));
    }
}

pub(crate) fn cors_of<'a>(api: &'a model::Api, route: &'a model::Route) -> Option<&'a model::Cors> {
    match &route.cors {
        Some(Setting::None) => None,
        Some(Setting::Some(cors)) => Some(&cors.value),
        None => api.cors.as_ref().map(|cors| &cors.value),
    }
}

fn match_text(matcher: &model::Match) -> String {
    if matcher.methods.is_empty() {
        return format!("ANY {}", matcher.path.source);
    }
    format!("{} {}", matcher.methods.join(","), matcher.path.source)
}
