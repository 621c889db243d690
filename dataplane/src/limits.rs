//! What a document says of rate limits, compiled: those of APIs, of routes and of plans, on counts that outlive reloads. Knows nobody's key.

use crate::compile::State;
use crate::identity;
use maitred_core::identity::KeyHasher;
use maitred_core::limit_table::Table;
use maitred_core::limits::LimitId;
use maitred_core::limits::series::{LimitName, LimitView};
use maitred_model::{
    Api, Closest, Counters, CountersFailure, Diagnostic, Diagnostics, Document, HeaderName, KeyPlace, LimitBy, LimitHeaders,
    Plan, RateLimit, Route, Span, Spanned,
};
use maitred_policies::authorize::condition::Condition;
use maitred_policies::rate_limit::{Counted, KeyMaking, Keys, Limit, Limits, PlanLimits, PlanTerms, Ways};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What the tables of all limits may come to take together. The system gives it as keys come, but has to promise it at once.
const TABLES_BYTES_MAX: usize = 8 << 30;

/// Keys of a limit that counts each route of an API apart: an API that gets some more keeps the counts of those it has.
const ROUTES_FORESEEN: usize = 1024;

/// What a table counts, whatever its limit is at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TablePlace {
    owner: Owner,
    /// Which of the owner's limits.
    position: usize,
    by: String,
    bytes: usize,
    seed: [u64; 2],
}

/// Whose a limit is. Routes have the number of those before them that are called the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Owner {
    Api(String),
    Route(String, String, u32),
    Plan(String),
    PlanInApi(String, String),
    PlanOnRoute(String, String, String, u32),
}

impl Owner {
    /// API, route and what the limit is called in metrics.
    fn labels(&self) -> [&str; 3] {
        match self {
            Owner::Api(api) => [api, "", "api"],
            Owner::Route(api, route, _) => [api, route, "route"],
            Owner::Plan(plan) => ["", "", plan],
            Owner::PlanInApi(plan, api) => [api, "", plan],
            Owner::PlanOnRoute(plan, api, route, _) => [api, route, plan],
        }
    }

    fn is_plan(&self) -> bool {
        match self {
            Owner::Api(_) | Owner::Route(..) => false,
            Owner::Plan(_) | Owner::PlanInApi(..) | Owner::PlanOnRoute(..) => true,
        }
    }

    /// What answers call its limits.
    fn word(&self) -> &'static str {
        match self {
            Owner::Api(_) => "api",
            Owner::Route(..) => "route",
            Owner::Plan(_) | Owner::PlanInApi(..) | Owner::PlanOnRoute(..) => "plan",
        }
    }

    /// The same for all gateways that have the same limit and `seed`, and a name that tells nobody else whose it is.
    fn id(&self, position: usize, by: &str, seed: [u64; 2]) -> LimitId {
        let [api, route, limit] = self.labels();
        let same = match self {
            Owner::Route(.., same) | Owner::PlanOnRoute(.., same) => *same,
            Owner::Api(_) | Owner::Plan(_) | Owner::PlanInApi(..) => 0,
        };
        let kind = self.word();
        LimitId::of(&format!("{kind}\0{api}\0{route}\0{limit}\0{same}\0{position}\0{by}"), seed)
    }
}

/// All limits of a document while it is compiled.
pub(crate) struct LimitsCompiler {
    seed: [u64; 2],
    masked: Vec<HeaderName>,
    elsewhere: Option<CountersFailure>,
    /// What plans give on the routes of an API for which they say nothing else.
    of_plans: HashMap<u32, Arc<PlanLimits>>,
    /// Routes of one API that are called the same, so far.
    called: HashMap<(u32, String), u32>,
    /// What was promised to tables.
    bytes: usize,
    known: HashSet<TablePlace>,
    pub views: Vec<LimitView>,
    /// What plans give anywhere.
    pub all_plans: Vec<Arc<PlanLimits>>,
}

/// One route.
pub(crate) struct Place<'a> {
    pub index: u32,
    pub name: &'a str,
    pub api: &'a Api,
    pub route: &'a Route,
    pub route_name: &'a str,
    /// Of its match.
    pub span: Span,
    pub params: &'a [&'a str],
}

/// What the rest of the compiler has.
pub(crate) struct Around<'a> {
    pub document: &'a Document,
    pub state: &'a State,
    pub conditions: &'a HashMap<String, Arc<Condition>>,
    pub diagnostics: &'a mut Diagnostics,
}

impl LimitsCompiler {
    pub fn new(document: &Document, state: &State) -> LimitsCompiler {
        let (seed, elsewhere) = match &document.counters {
            Counters::Memory => (state.limit_seed, None),
            // All gateways of a fleet make the same keys, and nobody else does.
            Counters::Redis(redis) => (fleet_seed(document), Some(redis.on_failure)),
        };
        let places = document.authorizers.values().flat_map(|authorizer| authorizer.kind.places());
        let headers = places.filter_map(|place| match place {
            KeyPlace::Header(name) => Some(name),
            KeyPlace::Query(_) | KeyPlace::Cookie(_) => None,
        });
        let always =
            ["authorization", "cookie", "proxy-authorization"].into_iter().filter_map(|name| HeaderName::parse(name).ok());
        LimitsCompiler {
            seed,
            masked: headers.chain(always).collect(),
            elsewhere,
            of_plans: HashMap::new(),
            called: HashMap::new(),
            bytes: 0,
            known: HashSet::new(),
            views: Vec::new(),
            all_plans: Vec::new(),
        }
    }

    /// Whether a route without words of its own can have the same policies as others of its API.
    pub fn is_shareable(document: &Document, name: &str, api: &Api, route: &Route) -> bool {
        let own_to_route = |limit: &Spanned<RateLimit>| {
            limit.by.iter().any(|by| match by.value {
                LimitBy::Route | LimitBy::Expression(_) => true,
                LimitBy::Consumer | LimitBy::Ip { .. } | LimitBy::Header(_) | LimitBy::Claim(_) | LimitBy::Api => false,
            })
        };
        let in_plans = document.plans.values().any(|plan| says_of(plan, name, route));
        !api.limits_of(route).iter().any(own_to_route) && !in_plans
    }

    /// `None`: nothing is limited there, and it is not asked who comes in.
    pub fn route(&mut self, place: &Place<'_>, around: &mut Around<'_>) -> Option<Arc<Limits>> {
        let Place { name, api, route, route_name, .. } = *place;
        let same = self.called.entry((place.index, route_name.to_owned())).and_modify(|same| *same += 1).or_insert(0);
        let own = Owner::Route(name.to_owned(), route_name.to_owned(), *same);
        let same = *same;
        let mut limits = self.limits(&Owner::Api(name.to_owned()), api.limits_of(route), place, around);
        limits.extend(self.limits(&own, route.own_limits(), place, around));
        let is_asked = !route.is_login() && identity::asks(api, route);
        // Where there are none, `authenticate` sees to it that nobody has one.
        let plans = (is_asked && !around.document.plans.is_empty()).then(|| self.plans(place, same, around));
        if limits.is_empty() && plans.is_none() {
            return None;
        }
        let configured = route.policies.rate_limit_headers.as_ref().or(api.policies.rate_limit_headers.as_ref());
        let ways = Ways::of(configured.map_or(&[LimitHeaders::Draft][..], Vec::as_slice));
        Some(Arc::new(Limits::new(limits, plans, ways, self.elsewhere)))
    }

    fn plans(&mut self, place: &Place<'_>, same: u32, around: &mut Around<'_>) -> Arc<PlanLimits> {
        let document = around.document;
        let is_own = document.plans.values().any(|plan| says_of(plan, place.name, place.route));
        if let (false, Some(shared)) = (is_own, self.of_plans.get(&place.index)) {
            return shared.clone();
        }
        let terms = document.plans.iter().map(|(plan, configured)| {
            let given = configured.terms_of(place.name, place.route);
            let (api, route) = (place.name.to_owned(), place.route_name.to_owned());
            let limits = given.rate_limit.map_or_else(Vec::new, |(closest, limits)| {
                let owner = match closest {
                    Closest::Plan => Owner::Plan(plan.clone()),
                    Closest::Api => Owner::PlanInApi(plan.clone(), api),
                    Closest::Route => Owner::PlanOnRoute(plan.clone(), api, route, same),
                };
                self.limits(&owner, limits, place, around)
            });
            PlanTerms { plan: plan.as_str().into(), priority: given.priority.unwrap_or(0), limits }
        });
        let plans = Arc::new(PlanLimits::new(terms.collect()));
        self.all_plans.push(plans.clone());
        if !is_own {
            self.of_plans.insert(place.index, plans.clone());
        }
        plans
    }

    fn limits(&mut self, owner: &Owner, limits: &[Spanned<RateLimit>], place: &Place<'_>, around: &mut Around<'_>) -> Vec<Limit> {
        let one = |(position, limit): (usize, &Spanned<RateLimit>)| self.limit(owner, position, limit, place, around);
        limits.iter().enumerate().map(one).collect()
    }

    fn limit(
        &mut self,
        owner: &Owner,
        position: usize,
        limit: &Spanned<RateLimit>,
        place: &Place<'_>,
        around: &mut Around<'_>,
    ) -> Limit {
        lacking(limit, place, around);
        let suffix = if position == 0 { String::new() } else { format!("-{}", position + 1) };
        let counted = self.counted(owner, (position, &suffix), limit, place, around);
        let making =
            KeyMaking { route: place.route_name, conditions: around.conditions, params: place.params, masked: &self.masked };
        let keys = Keys::compile(&limit.by, &counted.table, &making);
        Limit::compile(format!("{}{suffix}", owner.word()), limit, keys, counted)
    }

    fn counted(
        &mut self,
        owner: &Owner,
        (position, suffix): (usize, &str),
        limit: &Spanned<RateLimit>,
        place: &Place<'_>,
        around: &mut Around<'_>,
    ) -> Counted {
        let by: Vec<String> = limit.by.iter().map(|by| by.value.to_string()).collect();
        let by = by.join(", ");
        let [api, route, word] = owner.labels();
        let word = if owner.is_plan() { format!("plan:{word}{suffix}") } else { format!("{word}{suffix}") };
        let name = LimitName { api: api.into(), route: route.into(), limit: word.into() };
        let series = around.state.metrics.limit(&name);
        let id = owner.id(position, &by, self.seed);
        let keys_max = keys_max(owner, limit, place.api);
        let bytes = Table::bytes(keys_max);
        let table_place = TablePlace { owner: owner.clone(), position, by, bytes, seed: self.seed };
        if self.known.insert(table_place.clone()) {
            self.views.push(LimitView { series: series.clone(), limit: limit.value.clone() });
            self.promise(bytes, limit, around);
        }
        // Of what is refused nothing is asked of the system.
        let keys_max = if self.bytes > TABLES_BYTES_MAX { 1 } else { keys_max };
        let table = || {
            let table = Table::new(keys_max, self.seed, around.state.clock.now());
            Arc::new(table.counted_by(around.state.metrics.limit_tables.clone()))
        };
        Counted { table: around.state.limits.of(table_place, table), series, id }
    }

    fn promise(&mut self, bytes: usize, limit: &Spanned<RateLimit>, around: &mut Around<'_>) {
        let before = self.bytes;
        self.bytes = before.saturating_add(bytes);
        if before <= TABLES_BYTES_MAX && self.bytes > TABLES_BYTES_MAX {
            let message = format!("the limits up to this one may come to hold more than {} GiB", TABLES_BYTES_MAX >> 30);
            let hint = "write a smaller `keys_max`, of which each takes 32 bytes, in limits that need no more";
            around.diagnostics.push(Diagnostic::error("too-large", limit.span, message).hint(hint));
        }
    }
}

/// There are no more keys than this, or they share.
fn keys_max(owner: &Owner, limit: &RateLimit, api: &Api) -> usize {
    let is_one = limit.by.iter().all(|by| by.value.is_one());
    let by_route = limit.by.iter().any(|by| by.value == LimitBy::Route);
    match owner {
        Owner::Api(_) if is_one && by_route => api.routes.len().max(ROUTES_FORESEEN),
        _ if is_one => 1,
        Owner::Api(_) | Owner::Route(..) | Owner::Plan(_) | Owner::PlanInApi(..) | Owner::PlanOnRoute(..) => {
            limit.keys_max.get() as usize
        }
    }
}

/// Whether a plan says something of that route alone.
fn says_of(plan: &Plan, api: &str, route: &Route) -> bool {
    plan.apis.get(api).is_some_and(|terms| terms.routes.keys().any(|word| route.is_called(word)))
}

/// A path without a parameter that an expression needs.
fn lacking(limit: &RateLimit, place: &Place<'_>, around: &mut Around<'_>) {
    for by in &limit.by {
        let LimitBy::Expression(source) = &by.value else { continue };
        let Some(condition) = around.conditions.get(source) else { continue };
        for param in condition.params().filter(|param| !place.params.contains(param)) {
            let message = format!("the expression uses `path.{param}`, and the path has no parameter `{{{param}}}`");
            let hint = format!("ask `has(path.{param})` before, or put the limit where the path has it");
            let diagnostic = Diagnostic::error("unknown-parameter", by.span, message).hint(hint);
            around.diagnostics.push(diagnostic.also(place.span, "on this route"));
        }
    }
}

/// What the keys of a fleet are made with: a hash of the secret that all of it has, and that `check` demands.
pub(crate) fn fleet_seed(document: &Document) -> [u64; 2] {
    let secret = document.secret_key.as_ref().map_or("", |secret| secret.expose());
    let hash = KeyHasher::new(secret.as_bytes()).hash(b"maitred: keys of limits");
    let word = |at: usize| hash[at..at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    [word(0), word(8)]
}
