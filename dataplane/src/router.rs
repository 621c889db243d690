//! Finds the route of a path within one API: a tree by segments, the most specific first. Pure; knows no hosts and no policies.
//!
//! The rules, in order. (1) Path: segment by segment from the left, a literal beats `{name}` beats `{rest+}`. (2) Method: named
//! beats `GET` serving HEAD beats `ANY`. (3) More `when.headers`. (4) More `when.query`. (5) The earlier in the file. A candidate whose
//! method or conditions do not fit gives way to the next, also at a less specific path.

use maitred_core::exchange::PARAMS_MAX;
use maitred_core::render::query_values;
use maitred_model::{Segment, ValueMatch, When};
use maitred_wire::{Headers, Method, RequestHead, Slice, path};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

type Index = u32;

/// Children up to here are compared one by one; more are hashed.
const SCAN_MAX: usize = 4;

#[derive(Default)]
pub struct Router {
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    literals: Literals,
    param: Option<Index>,
    /// Routes that end here, and routes whose `{rest+}` begins here; best first.
    here: Vec<Candidate>,
    rest: Vec<Candidate>,
}

enum Literals {
    Few(Vec<(Box<[u8]>, Index)>),
    Many(HashMap<Box<[u8]>, Index, BuildHasherDefault<SegmentHasher>>),
}

impl Default for Literals {
    fn default() -> Self {
        Literals::Few(Vec::new())
    }
}

/// A multiply and a rotation for eight bytes. Keys come from the configuration, and lookups insert nothing, so nobody outside
/// can make it collide.
#[derive(Default)]
struct SegmentHasher(u64);

impl Hasher for SegmentHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        let mut last = [0u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, _length: usize) {
        // `write` has it.
    }
}

/// The methods a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods {
    any: bool,
    /// A bit for each known method.
    known: u8,
    others: Box<[Box<str>]>,
}

/// How well a method fits; the lower the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    Named,
    /// A GET route answers HEAD (RFC 9110 §9.3.2).
    HeadByGet,
    Any,
}

impl Methods {
    /// Empty: ANY.
    pub fn new(names: &[String]) -> Methods {
        let known = names.iter().map(|name| Method::of(name.as_bytes())).filter(|&method| method != Method::Other);
        Methods {
            any: names.is_empty(),
            known: known.fold(0, |bits, method| bits | bit(method)),
            others: names
                .iter()
                .filter(|name| Method::of(name.as_bytes()) == Method::Other)
                .map(|name| name.as_str().into())
                .collect(),
        }
    }

    pub fn fit(&self, method: Method, text: &[u8]) -> Option<Fit> {
        let named = match method {
            Method::Other => self.others.iter().any(|other| other.as_bytes() == text),
            _ => self.known & bit(method) != 0,
        };
        if named {
            Some(Fit::Named)
        } else if method == Method::Head && self.known & bit(Method::Get) != 0 {
            Some(Fit::HeadByGet)
        } else {
            self.any.then_some(Fit::Any)
        }
    }

    /// Adds the names for `Allow`.
    pub fn list(&self, into: &mut Vec<String>) {
        const NAMES: [(Method, &str); 7] = [
            (Method::Get, "GET"),
            (Method::Head, "HEAD"),
            (Method::Post, "POST"),
            (Method::Put, "PUT"),
            (Method::Patch, "PATCH"),
            (Method::Delete, "DELETE"),
            (Method::Options, "OPTIONS"),
        ];
        let names = NAMES.iter().filter(|(method, _)| {
            self.known & bit(*method) != 0 || (*method == Method::Head && self.known & bit(Method::Get) != 0)
        });
        for name in names.map(|(_, name)| *name).chain(self.others.iter().map(|name| &**name)) {
            if !into.iter().any(|known| known == name) {
                into.push(name.to_string());
            }
        }
    }
}

fn bit(method: Method) -> u8 {
    match method {
        Method::Other => 0,
        Method::Get | Method::Head | Method::Post | Method::Put | Method::Patch | Method::Delete | Method::Options => {
            1 << method as u8
        }
    }
}

/// More conditions on a request.
#[derive(Debug, Default)]
pub struct Conditions {
    headers: Box<[(Box<str>, ValueMatch)]>,
    query: Box<[(Box<str>, ValueMatch)]>,
}

impl Conditions {
    /// `None` where there are none, which is the rule.
    pub fn compile(when: &When) -> Option<Box<Conditions>> {
        (!when.headers.is_empty() || !when.query.is_empty()).then(|| {
            Box::new(Conditions {
                headers: when.headers.iter().map(|(name, value)| (name.as_str().into(), value.clone())).collect(),
                query: when.query.iter().map(|(name, value)| (name.as_str().into(), value.clone())).collect(),
            })
        })
    }

    /// The first condition that does not hold; `None` when all do.
    fn unmet(&self, headers: &Headers, query: &[u8]) -> Option<Unmet<'_>> {
        let holds = |name: &str, wanted: &ValueMatch| headers.get_all(name.as_bytes()).any(|value| matches(wanted, value));
        let header = self.headers.iter().find(|(name, wanted)| !holds(name, wanted));
        header.map(|(name, wanted)| Unmet { part: "header", name, wanted }).or_else(|| self.unmet_query(query))
    }

    /// The same for the query alone.
    fn unmet_query(&self, query: &[u8]) -> Option<Unmet<'_>> {
        let holds =
            |name: &str, wanted: &ValueMatch| query_values(query, name.as_bytes()).any(|value| matches_encoded(wanted, value));
        let parameter = self.query.iter().find(|(name, wanted)| !holds(name, wanted));
        parameter.map(|(name, wanted)| Unmet { part: "query parameter", name, wanted })
    }

    fn rank(&self) -> (usize, usize) {
        (self.headers.len(), self.query.len())
    }
}

fn matches(wanted: &ValueMatch, value: &[u8]) -> bool {
    match wanted {
        ValueMatch::Present => true,
        ValueMatch::Exact(text) => text.as_bytes() == value,
    }
}

/// A query value is decoded only if there is something to decode.
fn matches_encoded(wanted: &ValueMatch, value: &[u8]) -> bool {
    if !value.contains(&b'%') {
        return matches(wanted, value);
    }
    let mut decoded = Vec::with_capacity(value.len());
    path::decode(value, &mut decoded);
    matches(wanted, &decoded)
}

/// A condition that does not hold. A request only asks whether there is one; words are made for `explain` alone.
pub struct Unmet<'a> {
    part: &'static str,
    name: &'a str,
    wanted: &'a ValueMatch,
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unmet { part, name, wanted } = self;
        match wanted {
            ValueMatch::Present => write!(f, "{part} {name} is not present"),
            ValueMatch::Exact(text) => write!(f, "{part} {name} is not {text:?}"),
        }
    }
}

/// One route at a place of the tree.
pub struct Candidate {
    pub route: Index,
    pub methods: Methods,
    pub when: Option<Box<Conditions>>,
}

impl Candidate {
    /// The first of its conditions that the request does not meet.
    pub fn unmet(&self, request: &RequestHead) -> Option<Unmet<'_>> {
        self.when.as_ref()?.unmet(&request.headers, request.query().unwrap_or_default())
    }

    /// The same for conditions on the query alone.
    pub fn unmet_query(&self, request: &RequestHead) -> Option<Unmet<'_>> {
        self.when.as_ref()?.unmet_query(request.query().unwrap_or_default())
    }
}

/// The values of path parameters, in order.
pub type Params = ([Slice; PARAMS_MAX], u8);

impl Router {
    pub fn new() -> Router {
        Router { nodes: vec![Node::default()] }
    }

    /// Routes are added in the order of the file.
    pub fn add(&mut self, segments: &[Segment], candidate: Candidate) {
        let mut at = 0;
        for segment in segments {
            at = match segment {
                Segment::Literal(text) => self.literal(at, text.as_bytes()),
                Segment::Param(_) => match self.nodes[at as usize].param {
                    Some(next) => next,
                    None => {
                        let next = self.push();
                        self.nodes[at as usize].param = Some(next);
                        next
                    }
                },
                Segment::Rest(_) => return insert(&mut self.nodes[at as usize].rest, candidate),
            };
        }
        insert(&mut self.nodes[at as usize].here, candidate);
    }

    fn push(&mut self) -> Index {
        self.nodes.push(Node::default());
        self.nodes.len() as Index - 1
    }

    fn literal(&mut self, at: Index, text: &[u8]) -> Index {
        if let Some(next) = self.nodes[at as usize].literals.get(text) {
            return next;
        }
        let next = self.push();
        self.nodes[at as usize].literals.insert(text, next);
        next
    }

    /// Offers the routes whose template fits, the most specific place first, until `accept` takes one. `path` is canonical
    /// and stands at `offset` in the buffer that the parameters' slices are for.
    pub fn visit<T>(&self, path: &[u8], offset: usize, accept: &mut impl FnMut(&[Candidate], &Params) -> Option<T>) -> Option<T> {
        if path.first() != Some(&b'/') {
            return None;
        }
        let mut params = ([Slice::default(); PARAMS_MAX], 0);
        self.descend(0, path, 1, offset, &mut params, accept)
    }

    /// `at`: where the next segment begins; one past the end when there is none left.
    fn descend<T>(
        &self,
        node: Index,
        path: &[u8],
        at: usize,
        offset: usize,
        params: &mut Params,
        accept: &mut impl FnMut(&[Candidate], &Params) -> Option<T>,
    ) -> Option<T> {
        let node = &self.nodes[node as usize];
        if at > path.len() {
            return if node.here.is_empty() { None } else { accept(&node.here, params) };
        }
        let end = path[at..].iter().position(|&byte| byte == b'/').map_or(path.len(), |length| at + length);
        let segment = &path[at..end];
        if let Some(next) = node.literals.get(segment)
            && let Some(found) = self.descend(next, path, end + 1, offset, params, accept)
        {
            return Some(found);
        }
        if let Some(next) = node.param.filter(|_| !segment.is_empty())
            && let Some(found) = self.with_param(params, Slice::new(offset + at, offset + end), |params| {
                self.descend(next, path, end + 1, offset, params, accept)
            })
        {
            return Some(found);
        }
        if node.rest.is_empty() || at == path.len() {
            return None;
        }
        self.with_param(params, Slice::new(offset + at, offset + path.len()), |params| accept(&node.rest, params))
    }

    fn with_param<T>(&self, params: &mut Params, value: Slice, then: impl FnOnce(&mut Params) -> Option<T>) -> Option<T> {
        let depth = usize::from(params.1);
        if let Some(slot) = params.0.get_mut(depth) {
            *slot = value;
            params.1 += 1;
        }
        let found = then(params);
        params.1 = depth as u8;
        found
    }
}

/// Keeps candidates in order: more header conditions first, then more query conditions, then the earlier.
fn insert(list: &mut Vec<Candidate>, candidate: Candidate) {
    let rank = |candidate: &Candidate| candidate.when.as_ref().map_or((0, 0), |when| when.rank());
    let at = list.partition_point(|other| rank(other) >= rank(&candidate));
    list.insert(at, candidate);
}

impl Literals {
    fn get(&self, segment: &[u8]) -> Option<Index> {
        match self {
            Literals::Few(few) => few.iter().find(|(text, _)| **text == *segment).map(|(_, next)| *next),
            Literals::Many(many) => many.get(segment).copied(),
        }
    }

    fn insert(&mut self, text: &[u8], next: Index) {
        match self {
            Literals::Few(few) if few.len() < SCAN_MAX => few.push((text.into(), next)),
            Literals::Few(few) => {
                let mut many: HashMap<_, _, _> = std::mem::take(few).into_iter().collect();
                many.insert(text.into(), next);
                *self = Literals::Many(many);
            }
            Literals::Many(many) => {
                many.insert(text.into(), next);
            }
        }
    }
}

/// Picks among the candidates of one place: the best fit of the method, and within it the first whose conditions hold.
pub fn choose<'a>(
    candidates: &'a [Candidate],
    method: Method,
    text: &[u8],
    holds: impl Fn(&Candidate) -> bool,
) -> Option<&'a Candidate> {
    let mut best: Option<(Fit, &Candidate)> = None;
    for candidate in candidates {
        let Some(fit) = candidate.methods.fit(method, text) else { continue };
        if best.is_none_or(|(other, _)| fit < other) && holds(candidate) {
            if fit == Fit::Named {
                return Some(candidate);
            }
            best = Some((fit, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_model::PathTemplate;
    use proptest::prelude::*;

    fn router(templates: &[&str]) -> Router {
        let mut router = Router::new();
        for (index, template) in templates.iter().enumerate() {
            let template = PathTemplate::parse(template).unwrap();
            router.add(&template.segments, Candidate { route: index as u32, methods: Methods::new(&[]), when: None });
        }
        router
    }

    fn find(router: &Router, path: &str) -> Option<(u32, Vec<String>)> {
        router.visit(path.as_bytes(), 0, &mut |candidates, params| {
            let values =
                params.0[..params.1 as usize].iter().map(|slice| String::from_utf8_lossy(slice.of(path.as_bytes())).into_owned());
            Some((candidates[0].route, values.collect()))
        })
    }

    #[test]
    fn the_most_specific_path_wins() {
        let templates = ["/", "/a", "/a/", "/a/{x}", "/a/b", "/a/{x}/c", "/a/b/{y}", "/{rest+}", "/a/{rest+}", "/f/{rest+}"];
        let router = router(&templates);
        for (path, wanted, values) in [
            ("/", 0, vec![]),
            ("/a", 1, vec![]),
            ("/a/", 2, vec![]),
            ("/a/z", 3, vec!["z"]),
            ("/a/b", 4, vec![]),
            ("/a/b/c", 6, vec!["c"]),
            ("/a/z/c", 5, vec!["z"]),
            ("/a/z/d", 8, vec!["z/d"]),
            ("/a//", 8, vec!["/"]),
            ("/x", 7, vec!["x"]),
            ("/f/a//b/", 9, vec!["a//b/"]),
        ] {
            let values: Vec<String> = values.into_iter().map(str::to_string).collect();
            assert_eq!(find(&router, path), Some((wanted, values)), "{path}");
        }
        assert_eq!(find(&self::router(&["/f/{rest+}", "/a/{x}"]), "/f/"), None, "a remainder is never empty");
        assert_eq!(find(&self::router(&["/f/{rest+}", "/a/{x}"]), "/a/"), None, "a parameter is never empty");
    }

    #[test]
    fn a_named_method_beats_head_by_get_beats_any() {
        let methods = |names: &[&str]| Methods::new(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        assert_eq!(methods(&["GET"]).fit(Method::Get, b"GET"), Some(Fit::Named));
        assert_eq!(methods(&["GET"]).fit(Method::Head, b"HEAD"), Some(Fit::HeadByGet));
        assert_eq!(methods(&[]).fit(Method::Other, b"PURGE"), Some(Fit::Any));
        assert_eq!(methods(&["PURGE"]).fit(Method::Other, b"PURGE"), Some(Fit::Named));
        assert_eq!(methods(&["PURGE"]).fit(Method::Other, b"LINK"), None);
        assert_eq!(methods(&["POST"]).fit(Method::Get, b"GET"), None);
    }

    /// The plain meaning of a template, to hold the tree against.
    fn fits(template: &[Segment], segments: &[&str]) -> bool {
        match (template, segments) {
            ([], []) => true,
            ([Segment::Rest(_)], [first, more @ ..]) => !(first.is_empty() && more.is_empty()),
            ([Segment::Literal(text), template @ ..], [first, more @ ..]) => text == first && fits(template, more),
            ([Segment::Param(_), template @ ..], [first, more @ ..]) => !first.is_empty() && fits(template, more),
            _ => false,
        }
    }

    fn specificity(template: &[Segment]) -> Vec<u8> {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Param(_) => 1,
            Segment::Rest(_) => 2,
        };
        template.iter().map(rank).collect()
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_the_rules(
            templates in proptest::collection::vec("(/(a|b|c|d|e|f|)|/\\{x\\}){1,4}(/\\{rest\\+\\})?", 1..20),
            path in "(/[a-f]?){1,5}",
        ) {
            let parsed: Vec<PathTemplate> = templates.iter()
                // Parameter names must differ within a template.
                .map(|text| { let mut n = 0; text.split("{x}").map(str::to_string).reduce(|a, b| { n += 1; format!("{a}{{x{n}}}{b}") }).unwrap() })
                .filter_map(|text| PathTemplate::parse(&text).ok())
                .collect();
            let mut router = Router::new();
            for (index, template) in parsed.iter().enumerate() {
                router.add(&template.segments, Candidate { route: index as u32, methods: Methods::new(&[]), when: None });
            }
            let segments: Vec<&str> = path[1..].split('/').collect();
            let best = parsed.iter().enumerate()
                .filter(|(_, template)| fits(&template.segments, &segments))
                .min_by_key(|(index, template)| (specificity(&template.segments), *index))
                .map(|(index, _)| index as u32);
            let found = router.visit(path.as_bytes(), 0, &mut |candidates, _| Some(candidates[0].route));
            prop_assert_eq!(found, best);
        }
    }
}
