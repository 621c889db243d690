//! What a reload changed, in words for the log: how many of each kind, and the first of them by name. Compares values and not texts: a
//! comment is no change. Tells no value, for some are secret.

use maitred_dataplane::Snapshot;
use maitred_host::Pool;
use maitred_model::{Api, Authorizer, Consumer, Document, Function, FunctionPlace, Listener, PemFile, Route, Spanned, Upstream};
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// A value that came by reference is not in a dump, and may be another.
const NOTHING: &str = "nothing changed, unless behind `${}`";
/// Of what is new, changed or gone; the file has the others.
const NAMED_MAX: usize = 3;

/// `routes: 1 new (shop GET /menu), 2 changed (…); upstreams: 1 gone (cellar); limits`
pub fn changes(before: &Snapshot, after: &Snapshot) -> String {
    let hashes: HashMap<&str, &str> = before.pools().map(|pool| (&**pool.name(), &*pool.code().hash)).collect();
    // Which functions are new and which are gone, the document says.
    let is_other = |pool: &&Arc<Pool>| hashes.get(&**pool.name()).is_some_and(|hash| *hash != pool.code().hash);
    let recoded: Vec<&str> = after.pools().filter(is_other).map(|pool| &**pool.name()).collect();
    told(&before.document, &after.document, (!recoded.is_empty()).then(|| some("changed", &recoded)))
}

/// `code`: of functions.
fn told(before: &Document, after: &Document, code: Option<String>) -> String {
    let kinds = [
        ("routes", difference(&routes(before), &routes(after))),
        ("APIs", difference(&apis(before), &apis(after))),
        ("upstreams", difference(&upstreams(before), &upstreams(after))),
        ("functions", difference(&functions(before), &functions(after))),
        ("code", code),
        ("authorizers", difference(&authorizers(before), &authorizers(after))),
        ("consumers", difference(&consumers(before), &consumers(after))),
        ("plans", difference(&plans(before), &plans(after))),
        ("listeners", difference(&listeners(before), &listeners(after))),
        ("certificates", difference(&certificates(before), &certificates(after))),
    ];
    let counted = kinds.into_iter().filter_map(|(kind, told)| Some(format!("{kind}: {}", told?)));
    let others = others(before).into_iter().zip(others(after));
    let others = others.filter(|((_, before), (_, after))| before != after).map(|(_, (key, _))| key.to_owned());
    let all: Vec<String> = counted.chain(others).collect();
    if all.is_empty() { NOTHING.to_owned() } else { all.join("; ") }
}

/// One of a kind, in the order of the document.
struct Thing {
    name: String,
    /// Tells it from others of its name.
    id: u64,
    /// Of its value.
    print: u64,
}

impl Thing {
    fn new(name: impl Into<String>, print: u64) -> Thing {
        Thing { name: name.into(), id: 0, print }
    }

    fn key(&self) -> (&str, u64) {
        (&self.name, self.id)
    }
}

fn routes(document: &Document) -> Vec<Thing> {
    document.apis.iter().flat_map(|(name, api)| api.routes.iter().map(|route| one(name, route))).collect()
}

/// A route is what it matches. Of its conditions only the names are told: the values may be secret.
fn one(api: &str, route: &Route) -> Thing {
    let methods = if route.matcher.methods.is_empty() { "ANY".to_owned() } else { route.matcher.methods.join(",") };
    let mut name = format!("{api} {methods} {}", route.matcher.path);
    let headers = route.when.headers.iter().map(|(name, _)| name.as_str());
    for (at, condition) in headers.chain(route.when.query.iter().map(|(name, _)| name.as_str())).enumerate() {
        let _ = write!(name, "{} {condition}", if at == 0 { " when" } else { "," });
    }
    Thing { id: print(&route.when), ..Thing::new(name, print(route)) }
}

/// Without its routes.
fn apis(document: &Document) -> Vec<Thing> {
    let of = |(name, api): (&String, &Spanned<Api>)| {
        let Api { hosts, base_path, cors, ip, policies, maintenance, gateway_responses, routes: _ } = &api.value;
        Thing::new(name, print(&(hosts, base_path, cors, ip, policies, maintenance, gateway_responses)))
    };
    document.apis.iter().map(of).collect()
}

fn upstreams(document: &Document) -> Vec<Thing> {
    let of = |(name, upstream): (&String, &Spanned<Upstream>)| {
        let tls = upstream.tls.as_ref();
        let files = tls.into_iter().flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]).flatten();
        let bytes: Vec<u64> = files.map(|file| content(file)).collect();
        Thing::new(name, print(&(&upstream.value, bytes)))
    };
    document.upstreams.iter().map(of).collect()
}

fn functions(document: &Document) -> Vec<Thing> {
    let of = |(name, function): (&String, &Spanned<Function>)| {
        let environment: Vec<(&str, &str)> = match &function.place {
            FunctionPlace::Hosted(hosted) => {
                hosted.environment.iter().map(|(name, value)| (name.as_str(), value.expose())).collect()
            }
            FunctionPlace::Aws(_) => Vec::new(),
        };
        Thing::new(name, print(&(&function.value, environment)))
    };
    document.functions.iter().map(of).collect()
}

fn authorizers(document: &Document) -> Vec<Thing> {
    let of = |(name, authorizer): (&String, &Spanned<Authorizer>)| {
        Thing::new(name, print(&(&authorizer.value, authorizer.kind.hidden())))
    };
    document.authorizers.iter().map(of).collect()
}

fn consumers(document: &Document) -> Vec<Thing> {
    let of = |(name, consumer): (&String, &Spanned<Consumer>)| {
        let keys: Vec<&str> = consumer.api_keys.iter().map(|key| key.expose()).collect();
        Thing::new(name, print(&(&consumer.value, keys)))
    };
    document.consumers.iter().map(of).collect()
}

fn plans(document: &Document) -> Vec<Thing> {
    document.plans.iter().map(|(name, plan)| Thing::new(name, print(&plan.value))).collect()
}

fn listeners(document: &Document) -> Vec<Thing> {
    let of = |listener: &Spanned<Listener>| {
        let tls = listener.tls.as_ref();
        let ca = tls.and_then(|tls| tls.client_ca.as_ref()).map(|ca| content(ca));
        let acme = tls.and_then(|tls| tls.acme.as_ref()?.ca.as_ref()).map(|ca| content(ca));
        Thing::new(listener.address.to_string(), print(&(&listener.value, ca, acme)))
    };
    document.listen.iter().map(of).collect()
}

/// By file: a new certificate at its old place is what reloads are made for.
fn certificates(document: &Document) -> Vec<Thing> {
    let tls = document.listen.iter().filter_map(|listener| listener.tls.as_ref());
    let pairs = tls.flat_map(|tls| &tls.certificates).map(|pair| (&pair.cert, &pair.key));
    let mut told = HashSet::new();
    // Listeners may share one: it is one file that changes.
    let pairs = pairs.filter(|(cert, key)| told.insert((&cert.path, &key.path)));
    pairs.map(|(cert, key)| Thing::new(cert.path.display().to_string(), print(&(content(cert), content(key))))).collect()
}

/// Keys of which the value is one.
fn others(document: &Document) -> [(&'static str, u64); 9] {
    let Document {
        workers,
        secret_key,
        listen: _,
        trusted_proxies,
        zone,
        limits,
        admin,
        store,
        upstreams: _,
        functions: _,
        authorizers: _,
        consumers: _,
        plans: _,
        counters,
        apis: _,
        telemetry,
    } = document;
    let token = admin.token.as_ref().map(|token| token.expose().to_owned());
    [
        ("workers", print(workers)),
        ("secret_key", print(&secret_key.as_ref().map(|secret| secret.expose().to_owned()))),
        ("trusted_proxies", print(trusted_proxies)),
        ("zone", print(zone)),
        ("limits", print(limits)),
        ("admin", print(&(admin, token))),
        ("store", print(store)),
        ("counters", print(counters)),
        ("telemetry", print(telemetry)),
    ]
}

/// A print of a value as a dump shows it: without the places where it was written. Equal values have the same in one process.
fn print(value: &impl Debug) -> u64 {
    struct Print(DefaultHasher);
    impl Write for Print {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut print = Print(DefaultHasher::new());
    // It takes whatever it is given.
    let _ = write!(print, "{value:?}");
    print.0.finish()
}

/// Of a PEM file, which a dump tells by its path alone.
fn content(file: &PemFile) -> u64 {
    let mut hasher = DefaultHasher::new();
    file.bytes.hash(&mut hasher);
    hasher.finish()
}

/// `1 new (a), 2 changed (b, c)`; `None`: they are the same.
fn difference(before: &[Thing], after: &[Thing]) -> Option<String> {
    let old: HashMap<(&str, u64), u64> = before.iter().map(|thing| (thing.key(), thing.print)).collect();
    let new: HashMap<(&str, u64), u64> = after.iter().map(|thing| (thing.key(), thing.print)).collect();
    let told = [
        ("new", those(after, |thing| !old.contains_key(&thing.key()))),
        ("changed", those(after, |thing| old.get(&thing.key()).is_some_and(|print| *print != thing.print))),
        ("gone", those(before, |thing| !new.contains_key(&thing.key()))),
    ];
    let words: Vec<String> = told.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| some(what, names)).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn those(things: &[Thing], is: impl Fn(&Thing) -> bool) -> Vec<&str> {
    things.iter().filter(|thing| is(thing)).map(|thing| thing.name.as_str()).collect()
}

fn some(what: &str, names: &[&str]) -> String {
    let (named, others) = names.split_at(names.len().min(NAMED_MAX));
    let more = if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
    format!("{} {what} ({}{more})", names.len(), named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_model::{Memory, load_text};

    const OLD: &str = "
listen: [ 127.0.0.1:8080, { address: 127.0.0.1:8443, tls: { certificates: { cert: api.pem, key: api.key } } } ]
upstreams: { kitchen: http://127.0.0.1:9001, cellar: http://127.0.0.1:9002 }
apis:
  shop:
    routes:
      - GET /menu: kitchen
      - { match: GET /menu, proxy: cellar, when: { headers: { x-beta: \"1\" } } }
      - { match: GET /closed, respond: { text: closed } }
";

    fn document(text: &str, certificate: &str) -> Document {
        let pem = format!("-----BEGIN CERTIFICATE-----\n{certificate}\n");
        let files = Memory::default().file("api.pem", pem).file("api.key", "-----BEGIN PRIVATE KEY-----\n");
        let loaded = load_text("test.yaml", text, &files);
        loaded.document.unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn what_changed_is_counted_and_named() {
        let old = document(OLD, "one");
        let told = |from: &str, to: &str| super::told(&old, &document(&OLD.replace(from, to), "one"), None);
        let more = (0..5).map(|at| format!("      - GET /new/{at}: kitchen\n")).collect::<String>();
        for (from, to, wanted) in [
            ("listen:", "# a comment\n\nlisten:", NOTHING),
            ("text: closed", "text: open", "routes: 1 changed (shop GET /closed)"),
            ("proxy: cellar", "proxy: kitchen", "routes: 1 changed (shop GET /menu when x-beta)"),
            (
                "x-beta: \"1\" ",
                "x-beta: \"2\" ",
                "routes: 1 new (shop GET /menu when x-beta), 1 gone (shop GET /menu when x-beta)",
            ),
            ("GET /closed", "GET /open", "routes: 1 new (shop GET /open), 1 gone (shop GET /closed)"),
            (
                "      - GET /menu: kitchen\n",
                &format!("{more}      - GET /menu: cellar\n"),
                "routes: 5 new (shop GET /new/0, shop GET /new/1, shop GET /new/2, and 2 more), 1 changed (shop GET /menu)",
            ),
            ("    routes", "    base_path: /shop\n    routes", "APIs: 1 changed (shop)"),
            (":9002", ":9003", "upstreams: 1 changed (cellar)"),
            (
                "cellar: http://127.0.0.1:9002",
                "cellar: { endpoints: [ http://127.0.0.1:9002 ], retry: {} }",
                "upstreams: 1 changed (cellar)",
            ),
            ("    routes", "    maintenance: true\n    routes", "APIs: 1 changed (shop)"),
            ("proxy: cellar", "proxy: cellar, maintenance: true", "routes: 1 changed (shop GET /menu when x-beta)"),
            ("apis:", "zone: b\napis:", "zone"),
            ("listen: [ 127.0.0.1:8080,", "listen: [", "listeners: 1 gone (127.0.0.1:8080)"),
            ("api.key }", "api.key }, min_version: 1.3", "listeners: 1 changed (127.0.0.1:8443)"),
            ("apis:", "limits: { headers: 50 }\nworkers: 3\napis:", "workers; limits"),
            ("apis:", "store: ./other.db\napis:", "store"),
            ("apis:", "functions: { a: { runtime: provided, code: ./a } }\napis:", "functions: 1 new (a)"),
            ("apis:", "secret_key: ooooooooooooooooooooooooooooooooooooooooooo\napis:", "secret_key"),
            (
                "      - GET /menu: kitchen\n",
                "      - GET /menu: cellar\n  bar: { base_path: /bar, routes: [] }\n  shop2:\n    base_path: /2\n    routes:\n",
                "routes: 2 new (shop2 GET /menu when x-beta, shop2 GET /closed), 1 changed (shop GET /menu), \
                 2 gone (shop GET /menu when x-beta, shop GET /closed); APIs: 2 new (bar, shop2)",
            ),
        ] {
            assert_eq!(told(from, to), wanted, "{from} → {to}");
        }
        assert_eq!(super::told(&old, &document(OLD, "two"), None), "certificates: 1 changed (api.pem)");
        let twice = OLD.replace(
            "listen: [",
            "listen: [ { address: 127.0.0.1:8444, tls: { certificates: { cert: api.pem, key: api.key } } },",
        );
        let (old, new) = (document(&twice, "one"), document(&twice, "two"));
        assert_eq!(super::told(&old, &new, None), "certificates: 1 changed (api.pem)", "one file of two listeners");
        let key = |letter: &str| document(&format!("secret_key: {}\n{OLD}", letter.repeat(43)), "one");
        assert_eq!(super::told(&key("a"), &key("b"), None), "secret_key", "of which a dump shows nothing");
    }
}
