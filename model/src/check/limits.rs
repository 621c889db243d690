//! Limits and plans beside all the rest: names that do not exist, limits that count nobody, more than fit, and those that do nothing.
//! How often is how often, nobody here judges.

use super::{Checker, identity::is_open};
use crate::decode::suggest;
use crate::diagnostics::Diagnostic;
use crate::document::{Api, ApiTerms, Document, LIMITS_MAX, LimitBy, Plan, QUOTAS_MAX, RateLimit, Route, Setting, Terms};
use crate::span::Spanned;
use crate::values::format_duration;

/// Names that do not exist, and what cannot be meant.
pub(super) fn check(document: &Document, checker: &mut Checker<'_>) {
    for consumer in document.consumers.values() {
        if let Some(plan) = &consumer.plan {
            known_plan(document, plan, checker);
        }
    }
    for (name, plan) in &document.plans {
        places(document, name, plan, checker);
        too_many_quotas(name, plan, checker);
    }
    for (name, api) in &document.apis {
        for route in api.routes.iter().filter(|route| !route.is_login()) {
            nobody(api, route, checker);
            too_many(document, name, api, route, checker);
            dropped(api, route, checker);
        }
        never_asked(api, checker);
    }
}

fn known_plan(document: &Document, plan: &Spanned<String>, checker: &mut Checker<'_>) {
    // One that could not be decoded has been complained about.
    let written = checker.written.root.get("plans").and_then(|plans| plans.get(&plan.value));
    if document.plans.contains_key(&plan.value) || written.is_some() {
        return;
    }
    let hint = if checker.written.tainted.contains(&plan.span) {
        "add it under `plans`".to_owned()
    } else if document.plans.is_empty() {
        format!("add it: `plans: {{ {}: {{ rate_limit: {{ rate: 100/s }} }} }}`", plan.value)
    } else {
        suggest(&plan.value, document.plans.keys().map(String::as_str), "the plans are")
    };
    let message = format!("there is no plan {}", checker.quote(&plan.value, plan.span));
    checker.error("unknown-plan", plan.span, message, hint);
}

/// The APIs and routes for which a plan has terms of their own.
fn places(document: &Document, name: &str, plan: &Plan, checker: &mut Checker<'_>) {
    let written = |api: &str| checker.written.root.get("apis").is_some_and(|apis| apis.get(api).is_some());
    let mut found = Vec::new();
    for (api_name, terms) in &plan.apis {
        let Some(api) = document.apis.get(api_name) else {
            if !written(api_name) {
                let hint = match document.apis.is_empty() {
                    true => "add the API, or remove these terms".to_owned(),
                    false => suggest(api_name, document.apis.keys().map(String::as_str), "the APIs are"),
                };
                let message = format!("the plan `{name}` has terms for the API `{api_name}`, which there is not");
                found.push(Diagnostic::error("unknown-api", terms.span, message).hint(hint));
            }
            continue;
        };
        for (at, (word, own)) in terms.routes.iter().enumerate() {
            let Some(route) = api.routes.iter().find(|route| !route.is_login() && route.is_called(word)) else {
                // One that could not be decoded may be the one.
                if !checker.diagnostics.has_errors() {
                    let message = format!("the plan `{name}` has terms for the route `{word}`, which `{api_name}` has not");
                    found.push(Diagnostic::error("unknown-route", own.span, message).hint(routes_of(api, word)));
                }
                continue;
            };
            let other = match &route.name {
                Some(name) if name.value == *word => Some(route.matcher.to_string()),
                Some(name) => Some(name.value.clone()),
                None => None,
            };
            let first = other.and_then(|other| terms.routes.get_full(&other)).filter(|(first, ..)| *first < at);
            if let Some((_, _, first)) = first {
                let message = "the same route stands twice, by its name and by its match";
                let diagnostic = Diagnostic::error("duplicate-key", own.span, message).hint("remove one of them");
                found.push(diagnostic.also(first.span, "first written here"));
            }
        }
    }
    for diagnostic in found {
        checker.diagnostics.push(diagnostic);
    }
}

/// Each stands by itself, and a consumer may come to have used all of them.
fn too_many_quotas(name: &str, plan: &Plan, checker: &mut Checker<'_>) {
    let of_routes = |terms: &ApiTerms| terms.routes.values().filter(|terms| terms.quota.is_some()).count();
    let mut quotas = usize::from(plan.terms.quota.is_some());
    for terms in plan.apis.values() {
        let before = quotas;
        quotas += usize::from(terms.terms.quota.is_some()) + of_routes(terms);
        if before <= QUOTAS_MAX && quotas > QUOTAS_MAX {
            let message = format!("the plan `{name}` has more than {QUOTAS_MAX} quotas up to this API");
            let hint = "write one for the API in place of those of its routes, or remove some";
            checker.error("too-many-quotas", terms.span, message, hint);
        }
    }
}

/// What the routes of an API are called; a list that is long would bury the hint.
fn routes_of(api: &Api, word: &str) -> String {
    let called = |route: &Spanned<Route>| match &route.name {
        Some(name) => name.value.clone(),
        None => route.matcher.to_string(),
    };
    let names: Vec<String> = api.routes.iter().filter(|route| !route.is_login()).map(called).collect();
    if names.len() <= super::LISTED_MAX {
        return suggest(word, names.iter().map(String::as_str), "its routes are");
    }
    match crate::decode::nearest(word, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write a route's `name`, or its `match` as it stands there".to_owned(),
    }
}

/// Keys that need somebody, on a route where nobody is asked who it is.
fn nobody(api: &Api, route: &Spanned<Route>, checker: &mut Checker<'_>) {
    if !is_open(api, route) {
        return;
    }
    for by in route.own_limits().iter().flat_map(|limit| &limit.by).filter(|by| by.value.needs_identity()) {
        let message = format!("`{by}` is counted apart, and nothing on this route says who it is");
        let hint = "add `authenticate: [NAME]` to the route or its API, or write `by: ip`";
        checker.error("no-identity", by.span, message, hint);
    }
}

/// The same of the API's limits. A route that is opened counts consumers by their address; what else is asked for is not there.
fn never_asked(api: &Api, checker: &mut Checker<'_>) {
    let Some(Setting::Some(limits)) = &api.policies.rate_limit else { return };
    for by in limits.iter().flat_map(|limit| &limit.by).filter(|by| by.value.needs_identity()) {
        let inherits = |route: &&Spanned<Route>| !route.is_login() && !api.limits_of(route).is_empty();
        let is_consumer = by.value == LimitBy::Consumer;
        let nobody = |route: &&Spanned<Route>| {
            let is_opened = route.policies.authenticate.is_some();
            is_open(api, route) && !(is_consumer && is_opened)
        };
        if let Some(route) = api.routes.iter().filter(inherits).find(nobody) {
            let message = format!("`{by}` is counted apart, and not every route says who it is");
            let hint = match api.policies.authenticate.is_some() {
                true => "write `rate_limit: none` in routes that are open, or say it in those that are not",
                false => "add `authenticate: [NAME]` to the API's `policies`, or write `by: ip`",
            };
            let spans = (by.span, route.matcher.span);
            checker.clash("no-identity", spans, message, hint, "nobody is asked on this one");
        }
    }
}

/// What limits took has a place in each request, and there are so many.
fn too_many(document: &Document, name: &str, api: &Api, route: &Spanned<Route>, checker: &mut Checker<'_>) {
    let (shared, own) = (api.limits_of(route).len(), route.own_limits().len());
    let plans = document.plans.iter().filter(|_| !is_open(api, route));
    let of_plan = |plan: &Plan| plan.terms_of(name, route).rate_limit.map_or(0, |(_, limits)| limits.len());
    let most = plans.map(|(name, plan)| (of_plan(plan), name)).max_by_key(|(limits, _)| *limits);
    let given = most.map_or(0, |(limits, _)| limits);
    let all = shared + own + given;
    if all <= LIMITS_MAX {
        return;
    }
    let parts = [
        (shared > 0).then(|| format!("{shared} of the API")),
        (own > 0).then(|| format!("{own} of its own")),
        most.filter(|(limits, _)| *limits > 0).map(|(limits, plan)| format!("{limits} of the plan `{plan}`")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let message = format!("{all} limits come together on this route: {}", parts.join(", "));
    checker.error("too-many-limits", route.matcher.span, message, format!("{LIMITS_MAX} may: remove some"));
}

/// An inherited protection is dropped in writing, and shown.
fn dropped(api: &Api, route: &Spanned<Route>, checker: &mut Checker<'_>) {
    if let (Some(Setting::Some(limits)), Some(Setting::None)) = (&api.policies.rate_limit, &route.policies.rate_limit)
        && let Some(first) = limits.first()
    {
        let message = "this route drops the API's `rate_limit`";
        let warning = Diagnostic::warning("dropped-protection", route.matcher.span, message);
        checker.diagnostics.push(warning.also(first.span, "what it drops"));
    }
}

/// What does nothing, or not what it seems to. Only of a document without errors: what is missing for one would show here too.
pub(super) fn without_effect(document: &Document, checker: &mut Checker<'_>) {
    for api in document.apis.values() {
        if let Some(Setting::Some(limits)) = &api.policies.rate_limit {
            outdone(limits, &[], checker);
        }
        for route in api.routes.iter().filter(|route| !route.is_login()) {
            outdone(route.own_limits(), api.limits_of(route), checker);
            own_api(route, checker);
            impatient(api, route, checker);
        }
    }
    for (name, plan) in &document.plans {
        for terms in plan.all_terms() {
            outdone(&terms.rate_limit, &[], checker);
        }
        nowhere(document, name, plan, checker);
        in_no_line(document, name, plan, checker);
    }
    given_to_nobody(document, checker);
}

/// A limit beside one that has the same keys and never admits more. One of an API counts more requests, and so refuses first.
fn outdone(limits: &[Spanned<RateLimit>], shared: &[Spanned<RateLimit>], checker: &mut Checker<'_>) {
    for (at, limit) in limits.iter().enumerate() {
        let others = limits.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other);
        if let Some(tighter) = others.chain(shared).find(|other| outdoes(other, limit)) {
            let message = "this limit does nothing: another one with the same keys refuses before it";
            let warning = Diagnostic::warning("no-effect", limit.span, message).hint("remove it, or make it the tighter one");
            checker.diagnostics.push(warning.also(tighter.span, "this one refuses first"));
        }
    }
}

fn outdoes(tight: &RateLimit, wide: &RateLimit) -> bool {
    // Units of one in the time of the other: neither is rounded.
    let units = |limit: &RateLimit, other: &RateLimit| u64::from(limit.rate.count.get()) * other.rate.per.duration().as_secs();
    let is_tighter = units(tight, wide) <= units(wide, tight) && tight.burst <= wide.burst;
    tight.counts_as(wide) && is_tighter && tight.cost == wide.cost && tight.wait <= wide.wait
}

/// A route's limit counts the route's requests, whatever it is called.
fn own_api(route: &Spanned<Route>, checker: &mut Checker<'_>) {
    for by in route.own_limits().iter().flat_map(|limit| &limit.by).filter(|by| by.value == LimitBy::Api) {
        let message = "`by: api` of a route counts that route alone";
        let hint = "write `by: route`, or put the limit under the API's `policies`, where it counts all of its routes together";
        checker.warning("no-effect", by.span, message, hint);
    }
}

/// A wait that a route's `timeout` ends before its time.
fn impatient(api: &Api, route: &Spanned<Route>, checker: &mut Checker<'_>) {
    let Some(timeout) = route.policies.timeout.or(api.policies.timeout) else { return };
    for limit in route.own_limits() {
        if let Some(wait) = limit.wait.filter(|wait| *wait >= timeout) {
            let message = format!(
                "`wait` of {} is no shorter than the route's `timeout` of {}",
                format_duration(wait),
                format_duration(timeout)
            );
            checker.warning("no-effect", limit.span, message, "write a shorter wait, or a longer `timeout`");
        }
    }
}

/// Terms for an API of which no route asks who it is.
fn nowhere(document: &Document, name: &str, plan: &Plan, checker: &mut Checker<'_>) {
    for (api_name, terms) in &plan.apis {
        let Some(api) = document.apis.get(api_name) else { continue };
        let mut routes = api.routes.iter().filter(|route| !route.is_login());
        if routes.all(|route| is_open(api, route)) {
            let message = format!("`{name}` gives nothing here: no route of `{api_name}` says who it is");
            let hint = format!("add `authenticate: [NAME]` to the `policies` of `{api_name}`, or remove these terms");
            checker.warning("no-identity", terms.span, message, hint);
        }
    }
}

/// A priority where nobody waits in line.
fn in_no_line(document: &Document, name: &str, plan: &Spanned<Plan>, checker: &mut Checker<'_>) {
    let has_line = document.upstreams.values().any(|upstream| upstream.protection.concurrency.is_some());
    let says = |terms: &Terms| terms.priority.is_some();
    if has_line || !plan.all_terms().any(says) {
        return;
    }
    let written = checker.written.root.get("plans").and_then(|plans| plans.get(name)).and_then(|plan| plan.get("priority"));
    let span = written.map_or(plan.span, |node| node.span);
    let message = "`priority` does nothing: no upstream has `concurrency`, so that nobody waits for one";
    checker.warning("no-effect", span, message, "add `concurrency: { limit: adaptive }` to an upstream, or remove it");
}

/// Plans that no consumer of the file has. Where all consumers are added at run time, so are their plans.
fn given_to_nobody(document: &Document, checker: &mut Checker<'_>) {
    if document.consumers.is_empty() {
        return;
    }
    for (name, plan) in &document.plans {
        let has = |plan: &Spanned<String>| plan.value == *name;
        if !document.consumers.values().any(|consumer| consumer.plan.as_ref().is_some_and(has)) {
            let message = format!("no consumer of the configuration has the plan `{name}`");
            let hint =
                format!("give it to one, `plan: {name}`, or to one at run time: `maitred consumer add NAME --plan {name}`");
            checker.warning("unused-plan", plan.span, message, hint);
        }
    }
}
