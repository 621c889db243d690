//! The router against the plain meaning of its rules: every route is looked at, and the best one chosen by comparing.

use maitred_core::Kind;
use maitred_dataplane::{Explanation, Snapshot, State, compile, explain};
use maitred_model::{Memory, PathTemplate, Segment, load_text};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;

const ROUTES_MAX: usize = 12; // each is loaded, checked and compiled for each input
const SEGMENTS_MAX: usize = 12; // a path has at most 16 parameters

struct Route {
    /// Empty: ANY.
    methods: Vec<String>,
    template: PathTemplate,
}

/// Lines of `METHOD,METHOD /template`; the last is the request: `METHOD /path`. Lines that are no routes are passed over.
pub fn router(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((routes, request)) = text.trim_end_matches('\n').rsplit_once('\n') else { return };
    let Some((method, path)) = request.split_once(' ') else { return };
    // A query is no part of the question, `://` is of `explain`'s own language, and a blank would end the target.
    if !is_method(method) || !path.starts_with('/') || path.contains(['?', ' ', '\r']) || path.contains("://") {
        return;
    }
    let routes = read(routes);
    if routes.is_empty() {
        return;
    }
    let snapshot = snapshot(&routes);
    match explain(&snapshot, method, path, &[]) {
        Ok(explanation) => holds(&routes, method, &explanation),
        Err(fault) => {
            assert!(matches!(fault.kind, Kind::BadRequest | Kind::UriTooLong | Kind::HeadTooLarge | Kind::NotImplemented))
        }
    }
}

fn is_method(text: &str) -> bool {
    !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_uppercase()) && text != "ANY"
}

fn read(text: &str) -> Vec<Route> {
    let mut taken: HashSet<(String, Vec<u8>, Vec<String>)> = HashSet::new();
    let mut routes = Vec::new();
    for line in text.lines() {
        let Some((methods, path)) = line.split_once(' ') else { continue };
        let methods: Vec<String> = if methods == "ANY" { Vec::new() } else { methods.split(',').map(str::to_owned).collect() };
        let distinct: HashSet<&String> = methods.iter().collect();
        let plain = methods.iter().all(|method| is_method(method) && method != "CONNECT" && method != "TRACE");
        // A `$` begins a substitution of the file's language, which is the target `config`'s to try.
        if !plain || distinct.len() != methods.len() || path.contains(['$', ' ', '\t']) || !path.is_ascii() {
            continue;
        }
        let Ok(template) = PathTemplate::parse(path) else { continue };
        if template.segments.len() > SEGMENTS_MAX || routes.len() == ROUTES_MAX {
            continue;
        }
        // Two of one shape and the same methods are an error of the file.
        let mut sorted = methods.clone();
        sorted.sort();
        if taken.insert((literals(&template), specificity(&template), sorted)) {
            routes.push(Route { methods, template });
        }
    }
    routes
}

fn literals(template: &PathTemplate) -> String {
    let text = |segment: &Segment| match segment {
        Segment::Literal(text) => text.clone(),
        Segment::Param(_) | Segment::Rest(_) => String::new(),
    };
    template.segments.iter().map(text).collect::<Vec<_>>().join("/")
}

fn specificity(template: &PathTemplate) -> Vec<u8> {
    let rank = |segment: &Segment| match segment {
        Segment::Literal(_) => 0,
        Segment::Param(_) => 1,
        Segment::Rest(_) => 2,
    };
    template.segments.iter().map(rank).collect()
}

fn snapshot(routes: &[Route]) -> Snapshot {
    let entries: Vec<_> = routes
        .iter()
        .enumerate()
        .map(|(index, route)| {
            let methods = if route.methods.is_empty() { "ANY".to_owned() } else { route.methods.join(",") };
            json!({ "match": format!("{methods} {}", route.template.source), "name": format!("r{index}"), "respond": { "status": 204 } })
        })
        .collect();
    let document = json!({ "listen": "127.0.0.1:0", "apis": { "a": { "routes": entries } } });
    let loaded = load_text("router.yaml", &document.to_string(), &Memory::default());
    let complaints = || maitred_model::render(&loaded.diagnostics, &loaded.files, false);
    let document = loaded.document.as_ref().unwrap_or_else(|| panic!("the routes are refused:\n{}", complaints()));
    compile(Arc::new(document.clone()), &State::new(1)).unwrap_or_else(|_| panic!("the routes do not compile"))
}

/// The rules as words have them: what fits, then the most specific path, then the closest method, then the earlier.
fn holds(routes: &[Route], method: &str, explanation: &Explanation<'_>) {
    let segments: Vec<&str> = explanation.path[1..].split('/').collect();
    let fitting: Vec<usize> = (0..routes.len()).filter(|&index| fits(&routes[index].template.segments, &segments)).collect();
    let best = fitting
        .iter()
        .filter_map(|&index| Some((specificity(&routes[index].template), fit(&routes[index].methods, method)?, index)))
        .min();
    match (best, &explanation.route) {
        (Some((_, _, index)), Some(view)) => {
            assert_eq!(view.name, format!("r{index}"), "another route takes {}", explanation.path);
            assert_eq!(explanation.params, values(&routes[index].template.segments, &segments), "other parameters");
        }
        (None, None) => {
            let kind = if fitting.is_empty() { Kind::NoRoute } else { Kind::MethodNotAllowed };
            assert_eq!(explanation.fault.as_ref().map(|fault| fault.kind), Some(kind));
        }
        (Some((_, _, index)), None) => panic!("route {index} should take {}, and none does", explanation.path),
        (None, Some(view)) => panic!("no route should take {}, and {} does", explanation.path, view.name),
    }
}

fn fits(template: &[Segment], segments: &[&str]) -> bool {
    match (template, segments) {
        ([], []) => true,
        ([Segment::Rest(_)], [first, more @ ..]) => !(first.is_empty() && more.is_empty()),
        ([Segment::Literal(text), template @ ..], [first, more @ ..]) => text == first && fits(template, more),
        ([Segment::Param(_), template @ ..], [first, more @ ..]) => !first.is_empty() && fits(template, more),
        ([] | [Segment::Literal(_) | Segment::Param(_) | Segment::Rest(_), ..], _) => false,
    }
}

fn values(template: &[Segment], segments: &[&str]) -> Vec<String> {
    let mut values = Vec::new();
    for (at, segment) in template.iter().enumerate() {
        match segment {
            Segment::Literal(_) => {}
            Segment::Param(_) => values.push(segments[at].to_owned()),
            Segment::Rest(_) => values.push(segments[at..].join("/")),
        }
    }
    values
}

fn fit(methods: &[String], asked: &str) -> Option<u8> {
    let has = |name: &str| methods.iter().any(|method| method == name);
    if has(asked) {
        Some(0)
    } else if asked == "HEAD" && has("GET") {
        Some(1)
    } else {
        methods.is_empty().then_some(2)
    }
}
