//! The routes of one API against one another, and each against its own path. Two routes are compared by their canonical shape, hashed:
//! a hundred thousand of them cost a hundred thousand lookups.

use super::Checker;
use crate::decode::nearest;
use crate::diagnostics::Diagnostic;
use crate::document::{Api, Integration, Policies, Route, Setting, ValueMatch, When};
use crate::span::{Span, Spanned};
use crate::values::{PathTemplate, Segment, Template};
use std::collections::HashMap;
use std::fmt::Write;

pub(super) fn check(api: &Api, checker: &mut Checker<'_>) {
    names(api, checker);
    shadows(api, checker);
    let shared = api.policies.transform.as_ref().map(|transform| transform.span);
    for route in &api.routes {
        templates(route, checker);
        dropped_protection(api, route, checker);
        foreign_patterns(route, checker);
    }
    if shared.is_some() {
        shared_templates(api, checker);
    }
}

/// An inherited protection is dropped in writing, and shown, so that nobody does it without noticing.
fn dropped_protection(api: &Api, route: &Spanned<Route>, checker: &mut Checker<'_>) {
    if let (Some(rules), Some(Setting::None)) = (&api.ip, &route.ip) {
        let warning = Diagnostic::warning("dropped-protection", route.matcher.span, "this route drops the API's `ip` rules");
        checker.diagnostics.push(warning.also(rules.span, "the rules it drops"));
    }
}

/// `*` and `:id` are patterns elsewhere and plain text here; who writes them means the former.
fn foreign_patterns(route: &Spanned<Route>, checker: &mut Checker<'_>) {
    for segment in &route.matcher.path.segments {
        let Segment::Literal(text) = segment else { continue };
        let meant = match text.strip_prefix(':') {
            Some(name) if !name.is_empty() => format!("`{{{name}}}`"),
            _ if text == "*" || text == "**" => "`{rest+}` for the remainder, or `{name}` for one segment".to_owned(),
            _ => continue,
        };
        let message = format!("`{text}` is taken literally: only the path segment `{text}` itself fits");
        let warning = Diagnostic::warning("literal-pattern", route.matcher.span, message);
        checker.diagnostics.push(warning.hint(format!("write {meant}")));
    }
}

fn names(api: &Api, checker: &mut Checker<'_>) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for name in api.routes.iter().filter_map(|route| route.name.as_ref()) {
        match seen.get(name.value.as_str()) {
            Some(first) => {
                let message = format!("two routes have the name {}", checker.quote(&name.value, name.span));
                checker.clash("duplicate-name", (name.span, *first), message, "rename one of them", "first written here");
            }
            None => {
                seen.insert(&name.value, name.span);
            }
        }
    }
}

/// Routes of one shape, and the methods that they have taken. `ANY` is its own method here: it yields to each that is named.
type Taken<'a> = Vec<(&'a str, &'a Spanned<Route>)>;

fn shadows(api: &Api, checker: &mut Checker<'_>) {
    let mut shapes: HashMap<String, Taken<'_>> = HashMap::with_capacity(api.routes.len());
    for route in &api.routes {
        let taken = shapes.entry(shape(&route.matcher.path, &route.when)).or_default();
        let any = ["ANY".to_owned()];
        let methods: &[String] = if route.matcher.methods.is_empty() { &any } else { &route.matcher.methods };
        let mut earlier: Option<&Spanned<Route>> = None;
        let mut left = 0;
        for method in methods {
            match taken.iter().find(|(other, _)| other == method) {
                Some((_, other)) => earlier = earlier.or(Some(other)),
                None => left += 1,
            }
        }
        if let Some(other) = earlier {
            report(route, other, left, checker);
        }
        let methods = if route.matcher.methods.is_empty() { &["ANY"][..] } else { &[] };
        taken.extend(methods.iter().map(|method| (*method, route)));
        taken.extend(route.matcher.methods.iter().map(|method| (method.as_str(), route)));
    }
}

fn report(route: &Spanned<Route>, other: &Spanned<Route>, left: usize, checker: &mut Checker<'_>) {
    if let Integration::Login(name, step) = &route.integration.value {
        return login(route, (name, step.name()), other, checker);
    }
    let spans = (route.matcher.span, other.matcher.span);
    let place = "this one takes its requests";
    let mut mine: Vec<&String> = route.matcher.methods.iter().collect();
    let mut theirs: Vec<&String> = other.matcher.methods.iter().collect();
    mine.sort();
    theirs.sort();
    if mine == theirs {
        let message = "this route can never match: another already takes its requests".to_owned();
        checker.clash("never-matches", spans, message, "remove one of them, or add a condition with `when`", place);
        return;
    }
    let (code, message) = if left == 0 {
        ("never-matches", "this route can never match: for each of its methods another always wins")
    } else {
        ("partly-shadowed", "some methods of this route never reach it: another always wins")
    };
    let diagnostic = crate::diagnostics::Diagnostic::warning(code, spans.0, message);
    checker.diagnostics.push(diagnostic.hint("name each method in one route only").also(spans.1, place));
}

/// A route that somebody wrote where a login has one that nobody wrote, or two logins that have the same. `route` stands behind `other`, and
/// logins behind all that is written.
fn login(route: &Spanned<Route>, (name, key): (&str, &str), other: &Spanned<Route>, checker: &mut Checker<'_>) {
    let path = &route.matcher.path;
    checker.diagnostics.push(match &other.integration.value {
        // Two paths of one login were held against each other before.
        Integration::Login(first, _) if first == name => return,
        Integration::Login(first, first_step) => {
            let message = format!("`{path}` is the {key} of `{name}`, and the {} of `{first}`", first_step.name());
            let diagnostic = Diagnostic::error("never-matches", route.matcher.span, message);
            let hint = format!("write another `{key}` in one of the two authorizers");
            diagnostic.hint(hint).also(other.matcher.span, "the other login")
        }
        Integration::Proxy(_)
        | Integration::Function(_)
        | Integration::WebSocket(_)
        | Integration::Respond(_)
        | Integration::Redirect(_) => {
            let message = format!("`{path}` is the {key} of the login `{name}`, which adds that route by itself");
            let diagnostic = Diagnostic::error("never-matches", other.matcher.span, message);
            let hint = format!("give this route another path, or write another `{key}` in the authorizer `{name}`");
            diagnostic.hint(hint).also(route.matcher.span, "the login")
        }
    });
}

/// Equal for two routes exactly when they match the same requests, methods aside.
fn shape(path: &PathTemplate, when: &When) -> String {
    let mut shape = String::with_capacity(path.source.len() + 8);
    for segment in &path.segments {
        shape.push('/');
        match segment {
            Segment::Literal(text) => shape.push_str(text),
            // No canonical literal holds a brace.
            Segment::Param(_) => shape.push_str("{}"),
            Segment::Rest(_) => shape.push_str("{+}"),
        }
    }
    let mut conditions: Vec<String> = Vec::new();
    conditions.extend(when.headers.iter().map(|(name, value)| condition("h", name.as_str(), value)));
    conditions.extend(when.query.iter().map(|(name, value)| condition("q", name, value)));
    conditions.sort();
    for condition in conditions {
        // No path holds a space, and the lengths keep two conditions from reading as one.
        let _ = write!(shape, " {}:{condition}", condition.len());
    }
    shape
}

fn condition(kind: &str, name: &str, value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(text) => format!("{kind}{}:{name}={text}", name.len()),
        ValueMatch::Present => format!("{kind}{}:{name}", name.len()),
    }
}

fn templates(route: &Route, checker: &mut Checker<'_>) {
    let path = &route.matcher.path;
    if let Some(rewrite) = &route.rewrite {
        params(rewrite, rewrite.span, path, checker);
    }
    match &route.integration.value {
        Integration::Redirect(redirect) => params(&redirect.to, route.integration.span, path, checker),
        Integration::Proxy(_)
        | Integration::Function(_)
        | Integration::WebSocket(_)
        | Integration::Respond(_)
        | Integration::Login(..) => {}
    }
    for template in header_templates(&route.policies) {
        params(template, template.span, path, checker);
    }
}

pub(super) fn header_templates(policies: &Policies) -> impl Iterator<Item = &Spanned<Template>> {
    let edits = policies.transform.iter().flat_map(|transform| [&transform.request, &transform.response]);
    edits.flat_map(|edits| edits.set.iter().chain(&edits.add)).map(|(_, template)| template)
}

fn params(template: &Template, span: Span, path: &PathTemplate, checker: &mut Checker<'_>) {
    for name in template.params() {
        if path.params().any(|known| known == name) {
            continue;
        }
        let hint = match nearest(name, path.params()) {
            Some(near) => format!("did you mean `{{{near}}}`?"),
            None => match path.params().map(|known| format!("`{{{known}}}`")).collect::<Vec<_>>() {
                known if known.is_empty() => "the path has none; write `{{` for a brace itself".to_owned(),
                known => format!("the path has {}", known.join(", ")),
            },
        };
        checker.error("unknown-parameter", span, format!("the path `{path}` has no parameter `{{{name}}}`"), hint);
    }
}

/// A template of the API must fit every route that does not replace it. One complaint for each name, at the first route without it.
fn shared_templates(api: &Api, checker: &mut Checker<'_>) {
    for template in header_templates(&api.policies) {
        for name in template.params() {
            let without = |route: &&Spanned<Route>| {
                route.policies.transform.is_none() && !route.matcher.path.params().any(|known| known == name)
            };
            if let Some(route) = api.routes.iter().find(without) {
                let message = format!("not every route has the parameter `{{{name}}}`");
                let spans = (template.span, route.matcher.span);
                checker.clash(
                    "unknown-parameter",
                    spans,
                    message,
                    "set this header in the routes that have it",
                    "this one has not",
                );
            }
        }
    }
}
