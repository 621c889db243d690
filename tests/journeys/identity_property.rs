//! The one thing that must hold whatever is configured: where a route authenticates, nothing reaches a back end without somebody behind it.
//! Configurations and requests are drawn; what each request may do is worked out here anew, by rules that share no code with the
//! gateway's; the back end tells what reached it.

use maitred_testkit::{Backend, Gateway, gateway};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// Consumers, their keys and their groups.
const CONSUMERS: [(&str, &str, &[&str]); 3] =
    [("alice", "key-of-alice", &["staff", "cooks"]), ("bob", "key-of-bob", &["cooks"]), ("carol", "key-of-carol", &[])];

/// Authorizers: where each looks for a key.
const AUTHORIZERS: [(&str, &str, &str); 3] =
    [("header", "header", "x-api-key"), ("query", "query", "key"), ("cookie", "cookie", "key")];

#[derive(Debug, Clone)]
enum Who {
    Unsaid,
    Open,
    /// Indices of authorizers, in their order, and whether nobody will do.
    Any(Vec<usize>, bool),
}

/// A demand, as it is written, and whom it lets pass.
#[derive(Debug, Clone, Copy)]
struct Demand(&'static str, fn(Option<&Caller>) -> bool);

type Caller = (&'static str, &'static str, &'static [&'static str]);

const DEMANDS: [Demand; 7] = [
    Demand("{ groups: [staff] }", |who| who.is_some_and(|who| who.2.contains(&"staff"))),
    Demand("{ groups: { any: [staff, cooks] } }", |who| who.is_some_and(|who| !who.2.is_empty())),
    Demand("{ scopes: [admin] }", |_| false),
    Demand("{ claims: { tenant: \"*\" } }", |_| false),
    Demand("{ condition: \"consumer.name != 'bob'\" }", |who| who.is_some_and(|who| who.0 != "bob")),
    Demand("{ condition: [\"!principal.anonymous\", \"request.method != 'DELETE' || true\"] }", |who| who.is_some()),
    Demand("{ condition: \"true\" }", |_| true),
];

#[derive(Debug, Clone)]
struct Route {
    who: Who,
    demand: Option<Option<usize>>,
    cors: bool,
    maintenance: bool,
    /// Replaces what the API sets.
    transform: bool,
    rewrite: bool,
    small: bool,
}

#[derive(Debug, Clone)]
struct Api {
    who: Who,
    demand: Option<usize>,
    cors: bool,
    strip: bool,
    transform: bool,
    routes: Vec<Route>,
}

fn who() -> impl Strategy<Value = Who> {
    let any = (subsequence((0..AUTHORIZERS.len()).collect::<Vec<_>>(), 1..=AUTHORIZERS.len()).prop_shuffle(), any::<bool>());
    prop_oneof![
        3 => Just(Who::Unsaid),
        1 => Just(Who::Open),
        4 => any.prop_map(|(list, anonymous)| Who::Any(list, anonymous)),
    ]
}

fn route() -> impl Strategy<Value = Route> {
    let demand = prop_oneof![
        2 => Just(None),
        1 => Just(Some(None)),
        3 => (0..DEMANDS.len()).prop_map(|at| Some(Some(at))),
    ];
    let rarely = || prop::bool::weighted(0.15);
    (who(), demand, any::<bool>(), rarely(), any::<bool>(), rarely(), rarely()).prop_map(
        |(who, demand, cors, maintenance, transform, rewrite, small)| Route {
            who,
            demand,
            cors,
            maintenance,
            transform,
            rewrite,
            small,
        },
    )
}

fn api() -> impl Strategy<Value = Api> {
    let demand = prop::option::weighted(0.3, 0..DEMANDS.len());
    (who(), demand, any::<bool>(), any::<bool>(), any::<bool>(), prop::collection::vec(route(), 1..6)).prop_map(
        |(who, demand, cors, strip, transform, routes)| {
            let mut api = Api { who, demand, cors, strip, transform, routes };
            api.mend();
            api
        },
    )
}

impl Api {
    /// What the gateway refuses to load is made good.
    fn mend(&mut self) {
        if matches!(self.who, Who::Unsaid | Who::Open) {
            // A demand that all inherit needs somebody of whom it is made, on each route.
            self.demand = None;
        }
        let open = !matches!(self.who, Who::Any(..));
        for route in &mut self.routes {
            let is_open = match route.who {
                Who::Unsaid => open,
                Who::Open => true,
                Who::Any(..) => false,
            };
            if is_open {
                route.demand = route.demand.filter(Option::is_none);
                route.rewrite = false;
            }
        }
    }

    fn who<'a>(&'a self, route: &'a Route) -> &'a Who {
        match &route.who {
            Who::Unsaid => &self.who,
            own => own,
        }
    }

    fn demands(&self, route: &Route) -> Vec<Demand> {
        let (inherited, own) = match route.demand {
            Some(None) => (None, None),
            None => (self.demand, None),
            Some(own) => (self.demand, own),
        };
        inherited.into_iter().chain(own).map(|at| DEMANDS[at]).collect()
    }

    fn yaml(&self) -> String {
        let strip = self.strip;
        let mut out = "limits: { underscores: allow }\nupstreams: { kitchen: \"http://$kitchen\" }\nauthorizers:\n".to_owned();
        for (name, place, word) in AUTHORIZERS {
            out += &format!("  {name}: {{ api_key: {{ in: {place}, name: {word} }}, strip: {strip} }}\n");
        }
        out += "consumers:\n";
        for (name, key, groups) in CONSUMERS {
            out += &format!("  {name}: {{ groups: [{}], api_keys: [{key}] }}\n", groups.join(", "));
        }
        // One route that is always there tells back ends who it is: by that no client may say it anywhere.
        let told = "{ request: { headers: { set: { x-user: \"{principal.subject}\", x-consumer: \"{consumer}\" } } } }";
        out += &format!(
            "apis:\n  other:\n    hosts: [other.test]\n    policies: {{ authenticate: [header], transform: {told} }}\n    routes: [GET /: kitchen]\n"
        );
        out += "  all:\n    hosts: [gateway.test]\n";
        if self.cors {
            out += "    cors: { origins: [\"https://app.example.com\"], methods: [GET, POST, DELETE] }\n";
        }
        let mut policies = words(&self.who).map(|who| format!("authenticate: {who}")).into_iter().collect::<Vec<_>>();
        policies.extend(self.demand.map(|at| format!("authorize: {}", DEMANDS[at].0)));
        policies.extend(self.transform.then(|| format!("transform: {told}")));
        out += &format!("    policies: {{ {} }}\n    routes:\n", policies.join(", "));
        for (at, route) in self.routes.iter().enumerate() {
            let mut keys = vec![format!("match: ANY /r{at}"), "proxy: kitchen".to_owned()];
            keys.extend(words(&route.who).map(|who| format!("authenticate: {who}")));
            keys.extend(route.demand.map(|own| format!("authorize: {}", own.map_or("none", |at| DEMANDS[at].0))));
            keys.extend((!route.cors && self.cors).then(|| "cors: none".to_owned()));
            keys.extend(route.maintenance.then(|| "maintenance: true".to_owned()));
            keys.extend(route.transform.then(|| format!("transform: {told}")));
            keys.extend(route.rewrite.then(|| format!("rewrite: \"/r{at}/{{principal.subject}}\"")));
            keys.extend(route.small.then(|| "body_bytes: 1B".to_owned()));
            out += &format!("      - {{ {} }}\n", keys.join(", "));
        }
        out
    }
}

fn words(who: &Who) -> Option<String> {
    match who {
        Who::Unsaid => None,
        Who::Open => Some("none".to_owned()),
        Who::Any(list, anonymous) => {
            let names = list.iter().map(|at| AUTHORIZERS[*at].0).chain(anonymous.then_some("anonymous"));
            Some(format!("[{}]", names.collect::<Vec<_>>().join(", ")))
        }
    }
}

/// What a request shows at each place: nothing, one key, or two.
#[derive(Debug, Clone)]
struct Request {
    route: usize,
    method: &'static str,
    shown: [Vec<&'static str>; 3],
    preflight: bool,
    spoofed: bool,
    body: bool,
    trick: &'static str,
    h2: bool,
}

fn request() -> impl Strategy<Value = Request> {
    let keys = || {
        let key = || select(vec!["key-of-alice", "key-of-bob", "key-of-carol", "wrong", "KEY-OF-ALICE", "key-of-alice2", ""]);
        prop_oneof![4 => Just(vec![]), 5 => key().prop_map(|key| vec![key]), 1 => (key(), key()).prop_map(|(a, b)| vec![a, b])]
    };
    let methods = select(vec!["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH", "BREW"]);
    let tricks = select(vec!["", "/", "//", "/.", "/../r0", "%2f", "?", ";a", "/%2e%2e/r0"]);
    let trick = prop_oneof![4 => Just(""), 1 => tricks];
    let rarely = || prop::bool::weighted(0.25);
    ((0..6usize, methods, [keys(), keys(), keys()]), (rarely(), any::<bool>(), rarely(), trick, rarely())).prop_map(
        |((route, method, shown), (preflight, spoofed, body, trick, h2))| Request {
            route,
            method: if preflight { "OPTIONS" } else { method },
            shown,
            preflight,
            spoofed,
            body,
            trick,
            h2,
        },
    )
}

impl Request {
    fn target(&self) -> String {
        let mut target = format!("/r{}{}", self.route, self.trick);
        for key in &self.shown[1] {
            target += if target.contains('?') { "&" } else { "?" };
            target += &format!("key={key}");
        }
        target
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers: Vec<(&str, String)> = self.shown[0].iter().map(|key| ("x-api-key", (*key).to_owned())).collect();
        headers.extend(self.shown[2].iter().map(|key| ("cookie", format!("a=b; key={key}"))));
        if self.preflight {
            headers.push(("origin", "https://app.example.com".to_owned()));
            headers.push(("access-control-request-method", "GET".to_owned()));
        }
        if self.spoofed {
            for name in ["x-user", "x_user", "x-consumer", "x_consumer"] {
                headers.push((name, "alice".to_owned()));
            }
        }
        headers
    }

    fn send(&self, gateway: &Gateway) -> u16 {
        let (target, headers) = (self.target(), self.headers());
        let body = if self.body { "body" } else { "" };
        if self.h2 {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            return gateway.h2().request(self.method, &target, &headers, body).status;
        }
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        gateway.ask(self.method, &target, &format!("Host: gateway.test\r\n{lines}"), body).status
    }

    /// Who it is, by the rules of docs/authentication.md: the first whose credential is there decides. `Err`: nobody may come in.
    fn caller(&self, list: &[usize], anonymous: bool) -> Result<Option<&'static Caller>, ()> {
        match list.iter().find(|at| !self.shown[**at].is_empty()) {
            Some(at) => match &self.shown[*at][..] {
                [key] => CONSUMERS.iter().find(|(_, own, _)| own == key).map(Some).ok_or(()),
                _ => Err(()),
            },
            None if anonymous => Ok(None),
            None => Err(()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_reaches_a_back_end_without_somebody_behind_it(api in api(), requests in prop::collection::vec(request(), 12)) {
        let backend = Backend::echo();
        let gateway = gateway(&api.yaml(), &[("kitchen", backend.address())]);
        for request in requests {
            let before = backend.count();
            let status = request.send(&gateway);
            let reached = backend.count() > before;
            if !reached {
                // Nor is anybody kept out who may come in, by an ordinary request.
                let ordinary = request.trick.is_empty() && !request.preflight && !request.body && request.route < api.routes.len();
                if let Some(route) = api.routes.get(request.route).filter(|route| ordinary && !route.maintenance) {
                    let refused = match api.who(route) {
                        Who::Unsaid | Who::Open => false,
                        Who::Any(list, anonymous) => match request.caller(list, *anonymous) {
                            Err(()) => true,
                            Ok(caller) => {
                                route.rewrite && caller.is_none() || api.demands(route).iter().any(|demand| !(demand.1)(caller))
                            }
                        },
                    };
                    prop_assert!(refused, "{status}: {request:?} was kept out of {route:?}");
                    prop_assert!([401, 403].contains(&status), "{status}");
                }
                continue;
            }
            let received = backend.last();
            // By what it arrived at, not by what was asked for: a path may have been read in a way of its own.
            let at: usize = received.target[2..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a route");
            let route = &api.routes[at];
            prop_assert!(!route.maintenance, "{request:?}");
            let told = |name: &str| received.headers.all(name).iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
            let caller = match api.who(route) {
                Who::Unsaid | Who::Open => None,
                Who::Any(list, anonymous) => {
                    let caller = request.caller(list, *anonymous);
                    prop_assert!(caller.is_ok(), "{request:?} came through {route:?} without a valid credential");
                    let caller = caller.expect("just asked");
                    for demand in api.demands(route) {
                        prop_assert!((demand.1)(caller), "{request:?} came through {route:?} against {}", demand.0);
                    }
                    caller
                }
            };
            let sets = route.transform || api.transform;
            let user: Vec<String> = caller.filter(|_| sets).map(|caller| caller.0.to_owned()).into_iter().collect();
            prop_assert_eq!((told("x-user"), told("x-consumer")), (user.clone(), user), "{:?} through {:?}", request, route);
            prop_assert!(!received.headers.has("x_user") && !received.headers.has("x_consumer"));
        }
    }
}
