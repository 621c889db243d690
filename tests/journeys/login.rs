//! People who log in with a browser, at a provider that is scripted: the way there and back, the session after it, and those who try to
//! come in another way.

use crate::jwt::{Key, jwks, unix};
use maitred_testkit::{Backend, Gateway, Response, gateway, nobody};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the provider does when it is asked for tokens.
#[derive(Clone)]
struct Provider {
    backend: Arc<Backend>,
    /// What the next ID token says beside the usual; `null` takes a claim away.
    claims: Arc<Mutex<Value>>,
    /// Of the answer of the token endpoint, beside the ID token.
    tokens: Arc<Mutex<Value>>,
    /// Status and body instead of tokens.
    refuses: Arc<Mutex<Option<(u16, String)>>>,
    asked: Arc<Mutex<Vec<BTreeMap<String, String>>>>,
    /// The nonce that the browser brought to the provider.
    nonce: Arc<Mutex<String>>,
}

fn fields(form: &str) -> BTreeMap<String, String> {
    let decoded = |text: &str| {
        let mut bytes = Vec::new();
        maitred_core::wire::path::decode(text.as_bytes(), &mut bytes);
        String::from_utf8(bytes).expect("UTF-8")
    };
    form.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decoded(name), decoded(value))).collect()
}

impl Provider {
    fn start() -> Provider {
        let key = Key::new("one");
        let (claims, tokens) = (Arc::new(Mutex::new(json!({}))), Arc::new(Mutex::new(json!({}))));
        let (refuses, asked, nonce) =
            (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(String::new())));
        let script = (claims.clone(), tokens.clone(), refuses.clone(), asked.clone(), nonce.clone());
        let backend = Backend::new(move |request, conn| {
            let (claims, tokens, refuses, asked, nonce) = &script;
            let issuer = format!("http://{}", request.header("host").expect("a host"));
            let answer = match request.target.as_str() {
                "/.well-known/openid-configuration" => json!({
                    "issuer": issuer, "jwks_uri": format!("{issuer}/jwks"),
                    "authorization_endpoint": format!("{issuer}/auth?tenant=1"), "token_endpoint": format!("{issuer}/token"),
                    "end_session_endpoint": format!("{issuer}/logout"),
                })
                .to_string(),
                "/jwks" => jwks(&[&key]),
                "/token" => {
                    let mut form = fields(&String::from_utf8_lossy(&conn.body()));
                    form.insert("authorization".to_owned(), request.header("authorization").unwrap_or_default().to_owned());
                    asked.lock().expect("no one panics here").push(form);
                    let refused: Option<(u16, String)> = refuses.lock().expect("no one panics here").clone();
                    if let Some((status, body)) = refused {
                        conn.answer(status, "", body);
                        return;
                    }
                    let mut id = json!({
                        "iss": issuer, "sub": "alice", "aud": "web", "exp": unix() + 600, "iat": unix(),
                        "nonce": *nonce.lock().expect("no one panics here"), "groups": ["staff"], "email": "alice@example.com",
                    });
                    for (name, value) in claims.lock().expect("no one panics here").as_object().expect("a mapping") {
                        id[name] = value.clone();
                    }
                    id.as_object_mut().expect("a mapping").retain(|_, value| !value.is_null());
                    let mut answer = json!({ "token_type": "Bearer", "access_token": "opaque", "expires_in": 300, "id_token": key.token(&id) });
                    for (name, value) in tokens.lock().expect("no one panics here").as_object().expect("a mapping") {
                        answer[name] = value.clone();
                    }
                    answer.to_string()
                }
                other => panic!("the provider has no {other}"),
            };
            conn.answer(200, "content-type: application/json\r\n", answer);
        });
        Provider { backend: Arc::new(backend), claims, tokens, refuses, asked, nonce }
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.backend.address())
    }

    fn says(&self, claims: Value) {
        *self.claims.lock().expect("no one panics here") = claims;
    }

    fn gives(&self, tokens: Value) {
        *self.tokens.lock().expect("no one panics here") = tokens;
    }

    fn refuses(&self, answer: Option<(u16, &str)>) {
        *self.refuses.lock().expect("no one panics here") = answer.map(|(status, body)| (status, body.to_owned()));
    }

    fn last(&self) -> BTreeMap<String, String> {
        self.asked.lock().expect("no one panics here").last().cloned().expect("it was asked")
    }

    fn times(&self) -> usize {
        self.asked.lock().expect("no one panics here").len()
    }
}

struct House {
    provider: Provider,
    kitchen: Backend,
    gateway: Gateway,
}

fn house(options: &str) -> House {
    let (provider, kitchen) = (Provider::start(), Backend::status(200));
    let yaml = format!(
        "upstreams: {{ kitchen: \"http://$kitchen\" }}
authorizers:
  web: {{ oidc: {{ issuer: \"{}\", client_id: web, client_secret: \"a:secret\"{options} }} }}
  keys: {{ api_key: {{}} }}
consumers:
  alice: {{ identities: [{{ authorizer: web, subject: alice }}], api_keys: [alices-key] }}
apis:
  shop:
    base_path: /shop
    policies: {{ authenticate: [web, keys] }}
    routes:
      - ANY /{{path+}}: kitchen
      - {{ match: GET /staff, authorize: {{ groups: [staff] }}, proxy: kitchen }}
      - {{ match: GET /open, authenticate: none, proxy: kitchen }}
      - {{ match: GET /owners, authorize: {{ groups: [owners] }}, proxy: kitchen }}
",
        provider.issuer()
    );
    let gateway = gateway(&yaml, &[("kitchen", kitchen.address())]);
    House { provider, kitchen, gateway }
}

/// Keeps what it is told to keep, and sends it.
#[derive(Default)]
struct Browser {
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn ask(&mut self, gateway: &Gateway, method: &str, target: &str, headers: &str) -> Response {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookie = if pairs.is_empty() { String::new() } else { format!("Cookie: {}\r\n", pairs.join("; ")) };
        let response = gateway.ask(method, target, &format!("{cookie}{headers}"), "");
        for line in response.headers.all("set-cookie") {
            assert!(line.contains("; HttpOnly") && line.contains("; Path=/"), "{line}");
            let (name, rest) = line.split_once('=').expect("a pair");
            let value = rest.split(';').next().expect("a value");
            match line.contains("Max-Age=0;") {
                true => _ = self.cookies.remove(name),
                false => _ = self.cookies.insert(name.to_owned(), value.to_owned()),
            }
        }
        response
    }

    fn page(&mut self, gateway: &Gateway, target: &str) -> Response {
        self.ask(gateway, "GET", target, "Accept: text/html,*/*;q=0.8\r\n")
    }

    /// Goes to a page, to the provider, and back; gives the answer of the callback.
    fn log_in(&mut self, house: &House, target: &str) -> Response {
        let sent = self.page(&house.gateway, target);
        assert_eq!(sent.status, 302, "{sent:?}");
        let asked = self.at_the_provider(house, &sent);
        self.page(&house.gateway, &format!("/shop/oauth2/callback?code=a%2Fcode&state={}", asked["state"]))
    }

    /// What the provider is asked when the browser comes there.
    fn at_the_provider(&self, house: &House, sent: &Response) -> BTreeMap<String, String> {
        let location = sent.header("location").expect("a way");
        let query = location.strip_prefix(&format!("{}/auth?tenant=1&", house.provider.issuer())).expect("to the provider");
        let asked = fields(query);
        *house.provider.nonce.lock().expect("no one panics here") = asked["nonce"].clone();
        asked
    }
}

#[test]
fn a_browser_is_sent_to_log_in_and_comes_back_to_where_it_was() {
    let house = house("");
    let mut browser = Browser::default();
    let sent = browser.page(&house.gateway, "/shop/menu?day=1");
    let asked = browser.at_the_provider(&house, &sent);
    assert_eq!(sent.header("cache-control"), Some("no-store"));
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "web"),
        ("scope", "openid"),
        ("code_challenge_method", "S256"),
        ("redirect_uri", "http://gateway.test/shop/oauth2/callback"),
    ] {
        assert_eq!(asked[name], value, "{name}");
    }
    let back = browser.page(&house.gateway, &format!("/shop/oauth2/callback?code=a%2Fcode&state={}", asked["state"]));
    assert_eq!((back.status, back.header("location")), (303, Some("/shop/menu?day=1")), "{back:?}");
    let token = house.provider.last();
    assert_eq!((token["grant_type"].as_str(), token["code"].as_str()), ("authorization_code", "a/code"));
    assert_eq!(token["redirect_uri"], asked["redirect_uri"]);
    assert_eq!(token["authorization"], "Basic d2ViOmElM0FzZWNyZXQ=", "each half is encoded before they are joined");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token["code_verifier"].as_bytes());
    assert_eq!(asked["code_challenge"], crate::jwt::base64url(digest.as_ref()));
    assert_eq!(house.kitchen.count(), 0, "nothing reached a back end so far");

    assert_eq!(browser.page(&house.gateway, "/shop/menu?day=1").status, 200);
    assert_eq!(house.kitchen.last().target, "/menu?day=1");
    assert!(!house.kitchen.last().headers.has("cookie"), "{:?}", house.kitchen.last().headers);
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["maitred_session"], "the login's own cookie is gone");
    assert_eq!(browser.page(&house.gateway, "/shop/staff").status, 200);
    assert_eq!(browser.page(&house.gateway, "/shop/owners").status, 403);
    assert_eq!(house.provider.times(), 1);
}

#[test]
fn who_logs_in_from_two_windows_comes_back_to_both() {
    let house = house("");
    let mut browser = Browser::default();
    let targets = ["/shop/menu?day=1", "/shop/menu?day=2"];
    let ways: Vec<_> = targets.map(|target| browser.page(&house.gateway, target)).into_iter().collect();
    for (way, target) in ways.iter().zip(targets) {
        let asked = browser.at_the_provider(&house, way);
        let back = browser.page(&house.gateway, &format!("/shop/oauth2/callback?code=x&state={}", asked["state"]));
        assert_eq!((back.status, back.header("location")), (303, Some(target)), "{back:?}");
    }
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["maitred_session"], "neither left anything behind");
    assert_eq!(browser.page(&house.gateway, "/shop/menu").status, 200);
}

#[test]
fn logins_that_nobody_ends_do_not_fill_a_browser() {
    let house = house("");
    let mut browser = Browser::default();
    let ways: Vec<_> = (0..12).map(|_| browser.page(&house.gateway, "/shop/menu")).collect();
    assert_eq!(browser.cookies.len(), 8, "{:?}", browser.cookies.keys());
    let last = browser.at_the_provider(&house, &ways[11]);
    let back = browser.page(&house.gateway, &format!("/shop/oauth2/callback?code=x&state={}", last["state"]));
    assert_eq!(back.status, 303, "{back:?}");
    browser.page(&house.gateway, "/shop/oauth2/logout");
    assert!(browser.cookies.is_empty(), "{:?}", browser.cookies);
}

/// Browsers hold such a cookie back on every redirect of a way that began at the provider.
#[test]
fn a_strict_session_goes_on_from_a_page_of_ours() {
    let house = house(", session: { same_site: strict }");
    let mut browser = Browser::default();
    let back = browser.log_in(&house, "/shop/menu?day=1");
    assert_eq!((back.status, back.header("refresh")), (200, Some("0;url=/shop/menu?day=1")), "{back:?}");
    assert_eq!((back.header("location"), back.header("content-type")), (None, Some("text/html; charset=utf-8")));
    assert_eq!((back.header("cache-control"), back.header("referrer-policy")), (Some("no-store"), Some("no-referrer")));
    assert!(back.headers.all("set-cookie")[0].contains("; SameSite=Strict"), "{back:?}");
    assert_eq!(browser.page(&house.gateway, "/shop/menu?day=1").status, 200);
}

#[test]
fn who_is_no_page_is_told_and_not_sent_away() {
    let house = house("");
    for (method, headers) in [
        ("GET", "Accept: application/json\r\n"),
        ("GET", ""),
        ("POST", "Accept: text/html\r\n"),
        ("GET", "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n"),
        ("GET", "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n"),
    ] {
        let answer = house.gateway.ask(method, "/shop/menu", headers, "");
        assert_eq!(answer.status, 401, "{method} {headers}");
        assert_eq!(answer.headers.all("www-authenticate").len(), 2);
    }
    assert_eq!(house.gateway.ask("GET", "/shop/menu", "X-Api-Key: alices-key\r\nAccept: text/html\r\n", "").status, 200);
}

#[test]
fn what_changes_something_must_come_from_a_page_of_ours() {
    let house = house(", origins: [\"https://app.example.com\"]");
    let mut browser = Browser::default();
    browser.log_in(&house, "/shop/menu");
    let own = "http://gateway.test";
    let websocket = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for round in 0..2 {
        for (method, headers, status) in [
            ("POST", String::new(), 403),
            ("POST", "Origin: https://evil.example\r\n".to_owned(), 403),
            ("POST", "Origin: null\r\n".to_owned(), 403),
            ("POST", format!("Origin: {own}\r\nOrigin: {own}\r\n"), 403),
            ("POST", format!("Origin: {own}.evil.example\r\n"), 403),
            ("POST", format!("Origin: {own}\r\n"), 200),
            ("DELETE", "Origin: https://app.example.com\r\n".to_owned(), 200),
            ("GET", "Origin: https://evil.example\r\n".to_owned(), 200),
            ("GET", format!("{websocket}Origin: https://evil.example\r\n"), 403),
            ("GET", websocket.to_owned(), 403),
        ] {
            assert_eq!(
                browser.ask(&house.gateway, method, "/shop/orders", &headers).status,
                status,
                "{round}: {method} {headers}"
            );
        }
    }
}

#[test]
fn a_callback_opens_nothing_without_its_own_login() {
    let house = house("");
    let callback = |query: &str| format!("/shop/oauth2/callback?{query}");
    let mut stranger = Browser::default();
    assert_eq!(stranger.page(&house.gateway, &callback("code=x&state=y")).status, 401, "nobody is logging in");

    let (mut victim, mut attacker) = (Browser::default(), Browser::default());
    let sent = attacker.page(&house.gateway, "/shop/menu");
    let asked = attacker.at_the_provider(&house, &sent);
    victim.page(&house.gateway, "/shop/menu");
    let answer = victim.page(&house.gateway, &callback(&format!("code=x&state={}", asked["state"])));
    assert_eq!(answer.status, 401, "another's state");

    for (query, status) in [
        ("code=x".to_owned(), 401),
        (format!("state={}", asked["state"]), 401),
        (format!("code=x&code=y&state={}", asked["state"]), 401),
        (format!("code=x&state={}&iss=https%3A%2F%2Fevil.example", asked["state"]), 401),
        (format!("error=access_denied&state={}", asked["state"]), 403),
    ] {
        assert_eq!(attacker.page(&house.gateway, &callback(&query)).status, status, "{query}");
    }
    house.gateway.turn(Duration::from_secs(601));
    let late = attacker.page(&house.gateway, &callback(&format!("code=x&state={}", asked["state"])));
    assert_eq!(late.status, 401, "it took too long");
    assert_eq!(house.provider.times(), 0, "the provider was asked for nothing");
}

#[test]
fn an_id_token_that_is_not_for_us_opens_nothing() {
    for (claims, why) in [
        (json!({ "aud": "other" }), "another audience"),
        (json!({ "iss": "https://evil.example" }), "another issuer"),
        (json!({ "nonce": "other" }), "another login"),
        (json!({ "nonce": null }), "no login"),
        (json!({ "exp": unix() - 100 }), "it is over"),
        (json!({ "aud": ["web", "other"] }), "made for nobody in particular"),
        (json!({ "aud": ["web", "other"], "azp": "other" }), "made for another"),
        (json!({ "sub": null }), "nobody"),
    ] {
        let house = house("");
        house.provider.says(claims);
        let mut browser = Browser::default();
        assert_eq!(browser.log_in(&house, "/shop/menu").status, 401, "{why}");
        assert!(!browser.cookies.contains_key("maitred_session"), "{why}");
    }
}

#[test]
fn a_provider_that_fails_lets_nobody_in() {
    let house = house("");
    for (answer, status) in [((500, "oops"), 503), ((200, "<html>"), 503), ((400, "{\"error\":\"invalid_grant\"}"), 401)] {
        house.provider.refuses(Some(answer));
        assert_eq!(Browser::default().log_in(&house, "/shop/menu").status, status, "{answer:?}");
    }
    house.provider.refuses(None);
    assert_eq!(Browser::default().log_in(&house, "/shop/menu").status, 303);
}

#[test]
fn an_altered_cookie_or_one_of_another_kind_is_none() {
    let house = house("");
    let mut browser = Browser::default();
    browser.log_in(&house, "/shop/menu");
    let sealed = browser.cookies["maitred_session"].clone();
    browser.page(&house.gateway, "/shop/menu");
    let login = {
        let mut other = Browser::default();
        other.page(&house.gateway, "/shop/menu");
        other.cookies.values().next().expect("its login").clone()
    };
    let mut altered = sealed.clone();
    altered.replace_range(40..41, if &sealed[40..41] == "A" { "B" } else { "A" });
    for cookie in [altered, login, sealed[..sealed.len() - 4].to_owned(), String::new(), "x".repeat(5000)] {
        let answer = house.gateway.ask("GET", "/shop/menu", &format!("Cookie: maitred_session={cookie}\r\n"), "");
        assert_eq!(answer.status, 401, "{cookie}");
    }
    let twice = format!("Cookie: maitred_session={sealed}; maitred_session={sealed}\r\n");
    assert_eq!(house.gateway.ask("GET", "/shop/menu", &twice, "").status, 401);
}

#[test]
fn a_session_ends_after_its_time() {
    let house = house(", session: { ttl: 10min }");
    let mut browser = Browser::default();
    browser.log_in(&house, "/shop/menu");
    house.gateway.turn(Duration::from_secs(590));
    assert_eq!(browser.page(&house.gateway, "/shop/menu").status, 200);
    house.gateway.turn(Duration::from_secs(11));
    assert_eq!(browser.page(&house.gateway, "/shop/menu").status, 302, "a person may log in again");
    assert_eq!(browser.ask(&house.gateway, "GET", "/shop/menu", "").status, 401, "a program is told");
}

#[test]
fn a_stale_session_is_refreshed_once_and_then_goes_on() {
    let house = house("");
    house.provider.gives(json!({ "refresh_token": "first", "expires_in": 300 }));
    let mut browser = Browser::default();
    browser.log_in(&house, "/shop/menu");
    assert_eq!(browser.page(&house.gateway, "/shop/menu").status, 200);
    let old = browser.cookies.clone();
    house.gateway.turn(Duration::from_secs(301));
    house.provider.gives(json!({ "refresh_token": "second", "expires_in": 300 }));
    house.provider.says(json!({ "nonce": null, "groups": ["owners"] }));
    // A browser asks for several things at once, all with the old cookie.
    for _ in 0..5 {
        let answer = Browser { cookies: old.clone() }.page(&house.gateway, "/shop/owners");
        assert_eq!(answer.status, 200, "the groups are those of now: {answer:?}");
        assert_eq!(answer.headers.all("set-cookie").len(), 2);
    }
    assert_eq!(house.provider.times(), 2, "the provider was asked once more");
    let asked = house.provider.last();
    assert_eq!((asked["grant_type"].as_str(), asked["refresh_token"].as_str()), ("refresh_token", "first"));
    browser.page(&house.gateway, "/shop/menu");
    assert_ne!(browser.cookies, old);
    assert_eq!(browser.page(&house.gateway, "/shop/owners").status, 200);
    assert_eq!(house.provider.times(), 2);
}

#[test]
fn a_session_that_the_provider_ended_is_over_and_one_it_cannot_speak_of_waits() {
    let house = house("");
    house.provider.gives(json!({ "refresh_token": "first", "expires_in": 60 }));
    let mut browser = Browser::default();
    browser.log_in(&house, "/shop/menu");
    house.gateway.turn(Duration::from_secs(61));
    house.provider.refuses(Some((500, "oops")));
    assert_eq!(browser.page(&house.gateway, "/shop/menu").status, 503, "nobody is let in because nobody can be asked");
    house.provider.refuses(Some((400, "{\"error\":\"invalid_grant\"}")));
    assert_eq!(browser.page(&house.gateway, "/shop/menu").status, 302);
    assert_eq!(browser.ask(&house.gateway, "GET", "/shop/menu", "").status, 401);
}

#[test]
fn who_logs_out_is_out() {
    let house = house("");
    let mut browser = Browser::default();
    browser.log_in(&house, "/shop/menu");
    let out = browser.page(&house.gateway, "/shop/oauth2/logout");
    let home = "http%3A%2F%2Fgateway.test%2Fshop%2F";
    let wanted = format!("{}/logout?client_id=web&post_logout_redirect_uri={home}", house.provider.issuer());
    assert_eq!((out.status, out.header("location")), (303, Some(wanted.as_str())));
    assert!(browser.cookies.is_empty(), "{:?}", browser.cookies);
    assert_eq!(browser.page(&house.gateway, "/shop/menu").status, 302);
}

#[test]
fn a_large_session_takes_several_cookies() {
    let house = house("");
    house.provider.says(json!({ "roles": "x".repeat(4000) }));
    let mut browser = Browser::default();
    assert_eq!(browser.log_in(&house, "/shop/menu").status, 303);
    assert!(browser.cookies.len() > 1, "{:?}", browser.cookies.keys());
    assert_eq!(browser.page(&house.gateway, "/shop/menu").status, 200);
    assert!(!house.kitchen.last().headers.has("cookie"));
    house.provider.gives(json!({ "refresh_token": "x".repeat(12_000) }));
    assert_eq!(Browser::default().log_in(&house, "/shop/menu").status, 500, "it would fill every request");
}

#[test]
fn a_session_reaches_no_back_end_whoever_decides() {
    let house = house("");
    let mut browser = Browser::default();
    browser.log_in(&house, "/shop/menu");
    browser.cookies.insert("a".to_owned(), "1".to_owned());
    browser.cookies.insert("maitred_session_login_AAAAAAAA".to_owned(), "x".to_owned());
    for (target, headers) in [("/shop/menu", ""), ("/shop/menu", "X-Api-Key: alices-key\r\n"), ("/shop/open", "")] {
        assert_eq!(browser.ask(&house.gateway, "GET", target, headers).status, 200);
        assert_eq!(house.kitchen.last().header("cookie"), Some("a=1"), "{target} {headers}");
    }
}

#[test]
fn a_session_at_one_provider_is_none_at_another() {
    let house = house("");
    let mut browser = Browser::default();
    browser.log_in(&house, "/shop/menu");
    let other = Provider::start();
    let yaml = format!(
        "upstreams: {{ kitchen: \"http://$kitchen\" }}
authorizers: {{ web: {{ oidc: {{ issuer: \"{}\", client_id: web }} }} }}
apis: {{ shop: {{ base_path: /shop, policies: {{ authenticate: [web] }}, routes: [ \"ANY /{{path+}}\": kitchen ] }} }}
",
        other.issuer()
    );
    house.gateway.publish(&yaml);
    assert_eq!(browser.ask(&house.gateway, "GET", "/shop/menu", "").status, 401);
}

#[test]
fn a_provider_that_was_never_reached_is_no_reason_to_be_refused_for_good() {
    let ((nowhere, _held), kitchen) = (nobody(), Backend::status(200));
    let yaml = format!(
        "upstreams: {{ kitchen: \"http://$kitchen\" }}
authorizers: {{ web: {{ oidc: {{ issuer: \"http://{nowhere}\", client_id: web }} }} }}
apis: {{ shop: {{ policies: {{ authenticate: [web] }}, routes: [ \"ANY /{{path+}}\": kitchen ] }} }}
"
    );
    let gateway = gateway(&yaml, &[("kitchen", kitchen.address())]);
    assert_eq!(Browser::default().page(&gateway, "/menu").status, 503);
    assert_eq!(Browser::default().ask(&gateway, "GET", "/menu", "").status, 401, "a program could not log in anyway");
}
