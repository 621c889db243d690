//! Tokens: what opens, what is told to who is refused, and an issuer that rotates its keys, is slow, down, or serves garbage.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use maitred_testkit::{Backend, Gateway, Latch, PATIENCE, Response, eventually, gateway, gateway_with};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Written once more, so that the gateway's reader is not tested with its own writer.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: Vec<bool> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1 == 1)).collect();
    let digit = |six: &[bool]| {
        let value = (0..6).fold(0usize, |value, at| value << 1 | usize::from(six.get(at).copied().unwrap_or(false)));
        char::from(DIGITS[value])
    };
    bits.chunks(6).map(digit).collect()
}

pub(crate) fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A key of an issuer, by its name.
pub(crate) struct Key {
    name: &'static str,
    pair: Ed25519KeyPair,
}

impl Key {
    pub fn new(name: &'static str) -> Key {
        Key { name, pair: Ed25519KeyPair::generate().expect("a key") }
    }

    fn jwk(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.name, "alg": "EdDSA", "use": "sig", "x": base64url(self.pair.public_key().as_ref()) })
    }

    pub fn token(&self, claims: &Value) -> String {
        let header = json!({ "alg": "EdDSA", "kid": self.name, "typ": "at+jwt" });
        let signed = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
        format!("{signed}.{}", base64url(self.pair.sign(signed.as_bytes()).as_ref()))
    }

    fn good(&self, subject: &str) -> String {
        self.token(&claims(subject))
    }
}

fn claims(subject: &str) -> Value {
    json!({ "iss": "joe", "sub": subject, "aud": ["kitchen"], "exp": unix() + 3600, "iat": unix(), "scope": "read write" })
}

pub(crate) fn jwks(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

/// What the issuer answers, and how often it was asked at once.
#[derive(Clone, Default)]
struct Issuer {
    answer: Arc<Mutex<(u16, String)>>,
    /// Whoever asks waits until it is open.
    held: Arc<Mutex<Option<Latch>>>,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Issuer {
    fn answers(&self, status: u16, text: impl Into<String>) {
        *self.answer.lock().expect("no one panics here") = (status, text.into());
    }

    /// From here on it says nothing until the latch is open.
    fn hold(&self) -> Latch {
        let latch = Latch::new();
        *self.held.lock().expect("no one panics here") = Some(latch.clone());
        latch
    }

    fn serve(&self) -> Backend {
        let issuer = self.clone();
        Backend::new(move |_, conn| {
            let now = issuer.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            issuer.most.fetch_max(now, Ordering::SeqCst);
            let held = issuer.held.lock().expect("no one panics here").clone();
            if let Some(latch) = held {
                latch.opens();
            }
            let (status, text) = issuer.answer.lock().expect("no one panics here").clone();
            // Whoever has the answer may ask again before this thread has its next turn.
            issuer.under_way.fetch_sub(1, Ordering::SeqCst);
            conn.answer(status, "content-type: application/json\r\n", text);
        })
    }
}

fn ask(gateway: &Gateway, token: &str) -> Response {
    gateway.ask("GET", "/", &format!("Authorization: Bearer {token}\r\n"), "")
}

const KITCHEN: &str = "upstreams: { kitchen: \"http://$kitchen\" }
authorizers:
  staff: { jwt: { jwks: \"http://$issuer/keys\", issuer: joe, audience: kitchen, timeout: 1s } }
apis:
  all:
    policies: { authenticate: [staff] }
    routes: [ GET /: kitchen ]
";

struct House {
    kitchen: Backend,
    issuer: Issuer,
    keys: Backend,
    gateway: Gateway,
}

fn house(issuer: Issuer) -> House {
    let (kitchen, keys) = (Backend::status(200), issuer.serve());
    // Here it is tokens that are to be looked at, each of them.
    let text = format!("limits: {{ failed_credentials: {{ rate: 1000/s, burst: 1000 }} }}\n{KITCHEN}");
    let gateway = gateway(&text, &[("kitchen", kitchen.address()), ("issuer", keys.address())]);
    House { kitchen, issuer, keys, gateway }
}

fn house_with(keys: &[&Key]) -> House {
    let issuer = Issuer::default();
    issuer.answers(200, jwks(keys));
    house(issuer)
}

#[test]
fn a_token_opens_and_anything_else_is_told_why_in_few_words() {
    let key = Key::new("one");
    let House { kitchen, gateway, keys, .. } = &house_with(&[&key]);
    let nothing = gateway.get("/");
    assert_eq!((nothing.status, nothing.header("www-authenticate")), (401, Some("Bearer realm=\"staff\"")));
    for _ in 0..3 {
        assert_eq!(ask(gateway, &key.good("alice")).status, 200);
    }
    let with = |name: &str, value: Value| {
        let mut claims = claims("alice");
        claims[name] = value;
        key.token(&claims)
    };
    let stranger = Key::new("one");
    for (token, words) in [
        ("x".to_owned(), "the token is malformed"),
        (with("exp", 1.into()), "the token has expired"),
        (with("nbf", (unix() + 3600).into()), "the token is not valid yet"),
        (with("iss", "Joe".into()), "the token is not valid here"),
        (with("aud", "bar".into()), "the token is not valid here"),
        (stranger.good("alice"), "the token is not valid"),
    ] {
        let refused = ask(gateway, &token);
        let expected = format!("Bearer realm=\"staff\", error=\"invalid_token\", error_description=\"{words}\"");
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some(expected.as_str())));
        assert!(!refused.text().contains("alice"), "{refused:?}");
    }
    assert_eq!(gateway.ask("GET", "/", "Authorization: Basic YTpi\r\n", "").status, 401);
    let (one, two) = (key.good("alice"), key.good("bob"));
    let several = gateway.ask("GET", "/", &format!("Authorization: Bearer {one}\r\nAuthorization: Bearer {two}\r\n"), "");
    assert_eq!(several.status, 401);
    assert_eq!((kitchen.count(), keys.count()), (3, 1), "no token but the good ones, and the issuer was asked once");
}

#[test]
fn what_was_verified_is_not_believed_after_its_end() {
    let key = Key::new("one");
    let House { gateway, .. } = &house_with(&[&key]);
    let mut claims = claims("alice");
    claims["exp"] = (unix() + 100).into();
    let token = key.token(&claims);
    assert_eq!(ask(gateway, &token).status, 200);
    gateway.turn(Duration::from_secs(60));
    assert_eq!(ask(gateway, &token).status, 200);
    // Its end, and the leeway.
    gateway.turn(Duration::from_secs(75));
    let refused = ask(gateway, &token);
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").is_some_and(|words| words.contains("expired")), "{refused:?}");
}

#[test]
fn keys_rotate_without_a_refused_request() {
    let (one, two, three) = (Key::new("one"), Key::new("two"), Key::new("three"));
    let House { gateway, issuer, keys, .. } = &house_with(&[&one]);
    assert_eq!(ask(gateway, &one.good("alice")).status, 200);
    issuer.answers(200, jwks(&[&one, &two]));
    for _ in 0..5 {
        assert_eq!(ask(gateway, &two.good("alice")).status, 200, "a name that is not known is asked for at once");
        assert_eq!(ask(gateway, &one.good("alice")).status, 200);
    }
    assert_eq!(keys.count(), 2);
    // And in its time, without being asked: then what was verified with a key that is gone is worth nothing.
    issuer.answers(200, jwks(&[&two, &three]));
    gateway.turn(Duration::from_secs(601));
    keys.wait_for(3);
    eventually("the old key opens no more", || ask(gateway, &one.good("alice")).status == 401);
    assert_eq!(ask(gateway, &three.good("alice")).status, 200);
    let counted = gateway.metrics().keys_ok.load(Ordering::Relaxed);
    assert_eq!(counted, keys.count() as u64);
}

#[test]
fn invented_names_of_keys_do_not_hammer_the_issuer() {
    let (key, stranger) = (Key::new("one"), Key::new("invented"));
    let House { gateway, keys, kitchen, .. } = &house_with(&[&key]);
    for _ in 0..50 {
        assert_eq!(ask(gateway, &stranger.good("alice")).status, 401);
    }
    assert_eq!(keys.count(), 2, "the first, and one for the first of them");
    // A token that would be refused anyway is no reason to ask.
    gateway.turn(Duration::from_secs(11));
    let mut expired = claims("alice");
    expired["exp"] = 1.into();
    assert_eq!(ask(gateway, &stranger.token(&expired)).status, 401);
    assert_eq!(keys.count(), 2);
    for _ in 0..50 {
        assert_eq!(ask(gateway, &stranger.good("alice")).status, 401);
    }
    assert_eq!((keys.count(), kitchen.count()), (3, 0));
}

#[test]
fn an_issuer_that_is_slow_holds_up_nobody_it_need_not() {
    let (key, new) = (Key::new("one"), Key::new("new"));
    let House { gateway, issuer, keys, kitchen } = &house_with(&[&key]);
    let latch = issuer.hold();
    issuer.answers(200, jwks(&[&key, &new]));
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| (ask(gateway, &new.good("alice")).status, Instant::now()))).collect();
        keys.wait_for(2);
        for _ in 0..20 {
            assert_eq!(ask(gateway, &key.good("alice")).status, 200, "whose key is known waits for nobody");
        }
        let begun = Instant::now();
        // Their second is over by the gateway's clock.
        gateway.turn(Duration::from_secs(2));
        for waiting in waiting {
            let (status, at) = waiting.join().expect("an answer");
            assert_eq!(status, 503, "it may be a good one: nobody could find out");
            assert!(at.saturating_duration_since(begun) < PATIENCE);
        }
    });
    assert_eq!((keys.count(), issuer.most.load(Ordering::SeqCst)), (2, 1), "one fetch in flight, whoever asks");
    latch.open();
    eventually("the new key is there", || ask(gateway, &new.good("alice")).status == 200);
    assert!(kitchen.count() >= 21);
}

#[test]
fn who_waits_for_a_key_comes_in_when_it_is_there() {
    let (key, new) = (Key::new("one"), Key::new("new"));
    let House { gateway, issuer, keys, .. } = &house_with(&[&key]);
    let latch = issuer.hold();
    issuer.answers(200, jwks(&[&key, &new]));
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| ask(gateway, &new.good("alice")).status)).collect();
        keys.wait_for(2);
        latch.open();
        for waiting in waiting {
            assert_eq!(waiting.join().expect("an answer"), 200);
        }
    });
    assert_eq!(keys.count(), 2);
}

#[test]
fn an_issuer_that_is_down_or_serves_garbage_takes_no_key_away() {
    let key = Key::new("one");
    let House { gateway, issuer, keys, .. } = &house_with(&[&key]);
    let mut asked = keys.count();
    let answers = [
        (500, String::new()),
        (200, "<html>".to_owned()),
        (200, "{}".to_owned()),
        (200, "{\"keys\":[]}".to_owned()),
        (200, "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}".to_owned()),
        (200, "x".repeat(300 * 1024)),
        (404, jwks(&[&Key::new("other")])),
        (302, jwks(&[&Key::new("other")])),
    ];
    for (failed, (status, text)) in (1..).zip(answers) {
        issuer.answers(status, text);
        gateway.turn(Duration::from_secs(601));
        keys.wait_for(asked + 1);
        asked = keys.count();
        eventually("the failure is counted", || gateway.metrics().keys_failed.load(Ordering::Relaxed) >= failed);
        let mut long = claims("alice");
        long["exp"] = (unix() + 1_000_000).into();
        assert_eq!(ask(gateway, &key.token(&long)).status, 200, "after {status}");
        assert_eq!(ask(gateway, &Key::new("one").token(&long)).status, 401);
    }
}

#[test]
fn a_token_of_a_key_that_cannot_be_fetched_may_be_shown_again_later() {
    let (key, new) = (Key::new("one"), Key::new("new"));
    let House { gateway, issuer, kitchen, .. } = &house_with(&[&key]);
    assert_eq!(ask(gateway, &key.good("alice")).status, 200);
    issuer.answers(500, "");
    let refused = ask(gateway, &new.good("alice"));
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("10")));
    assert!(refused.text().contains("authorizer_unavailable"));
    let wrong = Key::new("one");
    assert_eq!(ask(gateway, &wrong.good("alice")).status, 401, "its key is known, and did not sign it");
    issuer.answers(200, jwks(&[&key, &new]));
    gateway.turn(Duration::from_secs(11));
    assert_eq!(ask(gateway, &new.good("alice")).status, 200);
    assert_eq!(ask(gateway, &Key::new("nobodys").good("alice")).status, 401, "the keys are all there");
    assert_eq!(kitchen.count(), 2);
}

#[test]
fn tokens_of_two_issuers_and_of_none_find_who_knows_them() {
    let (first, second) = (Key::new("one"), Key::new("one"));
    let kitchen = Backend::status(200);
    let (joe, sue) = (Issuer::default(), Issuer::default());
    joe.answers(200, jwks(&[&first]));
    sue.answers(200, jwks(&[&second]));
    let server = Backend::new(|_, conn| {
        let known = conn.body().windows(6).any(|bytes| bytes == b"opaque");
        conn.answer(200, "content-type: application/json\r\n", format!("{{\"active\":{known},\"sub\":\"someone\"}}"));
    });
    let (joes, sues) = (joe.serve(), sue.serve());
    let text = "upstreams: { kitchen: \"http://$kitchen\" }
authorizers:
  joe: { jwt: { jwks: \"http://$joe/keys\", issuer: joe, audience: kitchen, timeout: 1s } }
  sue: { jwt: { jwks: \"http://$sue/keys\", issuer: sue, audience: kitchen, timeout: 1s } }
  opaque: { introspection: { endpoint: \"http://$server/introspect\", client_id: gateway, client_secret: a-secret-of-a-test } }
apis:
  all:
    policies: { authenticate: [joe, sue, anonymous] }
    routes:
      - GET /: kitchen
      - { match: GET /any, authenticate: [joe, sue, opaque], proxy: kitchen }
";
    let gateway = gateway(
        text,
        &[("kitchen", kitchen.address()), ("joe", joes.address()), ("sue", sues.address()), ("server", server.address())],
    );
    let issued = |key: &Key, issuer: &str| {
        let mut claims = claims("alice");
        claims["iss"] = issuer.into();
        key.token(&claims)
    };
    let ask = |path: &str, token: &str| {
        let refused = gateway.ask("GET", path, &format!("Authorization: Bearer {token}\r\n"), "");
        (refused.status, refused.header("www-authenticate").unwrap_or_default().split(',').next().unwrap_or_default().to_owned())
    };
    let (by_joe, by_sue, by_opaque) = ("Bearer realm=\"joe\"", "Bearer realm=\"sue\"", "Bearer realm=\"opaque\"");
    for (path, token, wanted) in [
        ("/", issued(&first, "joe"), (200, "")),
        ("/", issued(&second, "sue"), (200, "")),
        // Signed by one and told to be of another: whose name stands in it looks at it.
        ("/", issued(&second, "joe"), (401, by_joe)),
        ("/", issued(&first, "sue"), (401, by_sue)),
        // Nobody's: it is wrong, and not none.
        ("/", issued(&first, "eve"), (401, by_sue)),
        ("/", "opaque".to_owned(), (401, by_sue)),
        ("/any", issued(&second, "sue"), (200, "")),
        ("/any", "opaque".to_owned(), (200, "")),
        ("/any", "another".to_owned(), (401, by_opaque)),
        ("/any", issued(&first, "sue"), (401, by_sue)),
    ] {
        // And once more, when it is remembered.
        for _ in 0..2 {
            assert_eq!(ask(path, &token), (wanted.0, wanted.1.to_owned()), "{path} {token}");
        }
    }
    let twice = format!("Authorization: Bearer {0}\r\nAuthorization: Bearer {0}\r\n", issued(&second, "sue"));
    assert_eq!(gateway.ask("GET", "/", &twice, "").status, 401, "one of them might be read by somebody else");
}

#[test]
fn under_load_nobody_notices_what_the_issuer_goes_through() {
    let (key, second) = (Key::new("one"), Key::new("two"));
    let (issuer, kitchen) = (Issuer::default(), Backend::status(200));
    issuer.answers(200, jwks(&[&key]));
    let keys = issuer.serve();
    // No other time than that of the keys is to run out when the clock is turned, and there are as many wrong tokens as the machine is fast.
    let limits = "limits: { header_timeout: 1h, idle_timeout: 1h, failed_credentials: { rate: 100000/s, burst: 100000 } }";
    let text = format!("workers: 2\n{limits}\n{KITCHEN}")
        .replace("GET /: kitchen", "{ match: GET /, respond: { status: 200 } }")
        .replace("timeout: 1s", "refresh: 10s");
    let gateway = gateway(&text, &[("kitchen", kitchen.address()), ("issuer", keys.address())]);
    let over = Latch::new();
    let mut long = claims("alice");
    long["exp"] = (unix() + 1_000_000).into();
    let failures = || gateway.metrics().keys_failed.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|client| {
                let (gateway, over, key, long) = (&gateway, &over, &key, &long);
                scope.spawn(move || {
                    let mut connection = gateway.client();
                    let mut asked = 0u64;
                    while !over.is_open() {
                        // Each another token, so that none of them is remembered.
                        let mut claims = long.clone();
                        claims["jti"] = format!("{client} {asked}").into();
                        let token = format!("Authorization: Bearer {}\r\n", key.token(&claims));
                        assert_eq!(connection.request("GET", "/", &token, "").status, 200);
                        let bad = format!("Authorization: Bearer {}\r\n", Key::new("one").token(&claims));
                        assert_eq!(connection.request("GET", "/", &bad, "").status, 401);
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        for (round, (status, text)) in [(500, ""), (200, "garbage"), (200, "{\"keys\":[]}")].into_iter().enumerate() {
            issuer.answers(status, text);
            gateway.turn(Duration::from_secs(11));
            eventually("a fetch failed", || failures() > round as u64);
        }
        let latch = issuer.hold();
        let before = keys.count();
        gateway.turn(Duration::from_secs(11));
        keys.wait_for(before + 1);
        issuer.answers(200, jwks(&[&key, &second]));
        latch.open();
        eventually("the second key opens", || ask(&gateway, &second.token(&long)).status == 200);
        over.open();
        let asked: u64 = asking.into_iter().map(|client| client.join().expect("every answer was right")).sum();
        assert!(asked > 0);
    });
    assert_eq!(issuer.most.load(Ordering::SeqCst), 1, "one fetch in flight");
}

#[test]
fn without_any_keys_nobody_comes_in_and_it_says_so() {
    let key = Key::new("one");
    let issuer = Issuer::default();
    issuer.answers(503, "");
    let House { gateway, issuer, keys, kitchen } = &house(issuer);
    let refused = ask(gateway, &key.good("alice"));
    assert_eq!((refused.status, refused.text().contains("authorizer_unavailable")), (503, true));
    assert_eq!(ask(gateway, "nonsense").status, 401);
    issuer.answers(200, jwks(&[&key]));
    gateway.turn(Duration::from_secs(11));
    eventually("the keys are there", || ask(gateway, &key.good("alice")).status == 200);
    assert!(keys.count() >= 2 && kitchen.count() == 1);
}

#[test]
fn a_reload_keeps_the_keys_and_asks_nobody() {
    let key = Key::new("one");
    let House { gateway, issuer, keys, .. } = &house_with(&[&key]);
    issuer.answers(500, "");
    gateway.publish(&KITCHEN.replace("timeout: 1s", "timeout: 500ms, leeway: 10s"));
    assert_eq!(ask(gateway, &key.good("alice")).status, 200);
    assert_eq!(keys.count(), 1);
}

#[test]
fn an_issuer_says_where_its_keys_are() {
    let key = Key::new("one");
    let (kitchen, set) = (Backend::status(200), jwks(&[&key]));
    let wrong = Arc::new(AtomicUsize::new(1));
    let told = wrong.clone();
    let issuer = Backend::new(move |request, conn| {
        let host = request.header("host").unwrap_or_default().to_owned();
        let name =
            if told.load(Ordering::SeqCst) == 1 { "http://other.example".to_owned() } else { format!("http://{host}/realm/") };
        match request.target.as_str() {
            "/realm/.well-known/openid-configuration" => {
                conn.answer(200, "", json!({ "issuer": name, "jwks_uri": format!("http://{host}/k") }).to_string())
            }
            "/k" => conn.answer(200, "", set.clone()),
            _ => conn.answer(404, "", ""),
        };
    });
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\" }
authorizers: { staff: { jwt: { issuer: \"http://$issuer/realm/\", audience: kitchen }, strip: true } }
apis: { all: { policies: { authenticate: [staff], authorize: { scopes: [read] } }, routes: [ GET /: kitchen ] } }
",
        &[("kitchen", kitchen.address()), ("issuer", issuer.address())],
    );
    let mut claims = claims("alice");
    claims["iss"] = format!("http://{}/realm/", issuer.address()).into();
    assert_eq!(ask(&gateway, &key.token(&claims)).status, 503, "what another issuer says is nothing to go by");
    wrong.store(0, Ordering::SeqCst);
    gateway.turn(Duration::from_secs(11));
    eventually("the keys are found", || ask(&gateway, &key.token(&claims)).status == 200);
    assert!(!kitchen.last().headers.has("authorization"), "the token is taken out");
    claims["scope"] = "write".into();
    assert_eq!(ask(&gateway, &key.token(&claims)).status, 403);
    claims["iss"] = "joe".into();
    assert_eq!(ask(&gateway, &key.token(&claims)).status, 401);
}

#[test]
fn a_token_stands_in_a_cookie_or_the_query_and_names_a_consumer() {
    let key = Key::new("one");
    let kitchen = Backend::status(200);
    let gateway = gateway_with(
        "upstreams: { kitchen: \"http://$kitchen\" }
authorizers:
  cookie: { jwt: { jwks: keys.json, audience: kitchen, in: cookie, name: token }, strip: true }
  query: { jwt: { jwks: keys.json, audience: kitchen, in: query, name: access_token }, strip: true }
consumers:
  alice: { groups: [cooks], identities: [{ authorizer: cookie, subject: alice }] }
apis: { all: { policies: { authenticate: [cookie, query] }, routes: [ GET /: kitchen, { match: GET /cooks, authorize: { groups: [cooks] }, proxy: kitchen } ] } }
",
        &[("kitchen", kitchen.address())],
        &[("keys.json", jwks(&[&key]))],
    );
    let (alice, bob) = (key.good("alice"), key.good("bob"));
    let status = |target: &str, headers: &str| gateway.ask("GET", target, headers, "").status;
    assert_eq!(status("/cooks", &format!("Cookie: a=b; token={alice}\r\n")), 200);
    assert_eq!(kitchen.last().header("cookie"), Some("a=b"));
    assert_eq!(status("/cooks", &format!("Cookie: token={bob}\r\n")), 403);
    assert_eq!(status(&format!("/?x=1&access_token={bob}"), ""), 200);
    assert_eq!(kitchen.last().target, "/?x=1");
    assert_eq!(status(&format!("/cooks?access_token={alice}"), ""), 403, "an identity names who vouches for it");
    assert_eq!(status("/", &format!("Authorization: Bearer {alice}\r\n")), 401);
}

#[test]
fn a_file_without_keys_is_refused_when_it_is_loaded() {
    let key = Key::new("one");
    let (kitchen, text) = (Backend::status(200), KITCHEN.replace("\"http://$issuer/keys\"", "keys.json"));
    let gateway = gateway_with(&text, &[("kitchen", kitchen.address())], &[("keys.json", jwks(&[&key]))]);
    for wrong in ["", "{}", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"] {
        let refused = gateway.try_publish_with(&text, &[("keys.json", wrong.to_owned())]).expect_err("no keys");
        assert!(refused.contains("bad-keys"), "{refused}");
        assert_eq!(ask(&gateway, &key.good("alice")).status, 200);
    }
    let other = Key::new("other");
    gateway.publish_with(&text, &[("keys.json", jwks(&[&other]))]);
    assert_eq!((ask(&gateway, &key.good("alice")).status, ask(&gateway, &other.good("alice")).status), (401, 200));
}
