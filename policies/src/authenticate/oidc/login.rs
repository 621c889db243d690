//! The steps of a login: where a browser is sent, what it brings back, and what that is changed for (OpenID Connect Core §3.1, PKCE by
//! RFC 7636, `iss` of RFC 9207). Pure: talks to nobody, and takes the time and random bytes.

use super::seal::{Purpose, Sealer};
use maitred_core::identity::base64url;
use maitred_core::wire::path;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

/// For somebody to find a password, and a second factor.
pub const LOGIN_SECONDS: u64 = 600;
/// Bytes of the path that a browser comes back to. A longer one loses its query, and becomes `/` if that is not enough: it is kept in a cookie.
const RETURN_BYTES_MAX: usize = 1024;
/// Of each of `code` and `state`, as providers send them.
const ANSWER_BYTES_MAX: usize = 4096;
/// Random bytes in each of state, nonce and verifier: RFC 7636 §7.1 wants 256 bits.
pub const RANDOM_BYTES: usize = 32;

/// A login under way, as the browser keeps it for us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub state: String,
    pub nonce: String,
    pub verifier: String,
    /// Path and query to which the browser returns.
    pub back: String,
    /// What the provider was told; it must hear the same again.
    pub redirect_uri: String,
    /// Seconds since 1970.
    pub began: u64,
}

impl Attempt {
    pub fn new(random: &[[u8; RANDOM_BYTES]; 3], back: &[u8], redirect_uri: String, now: u64) -> Attempt {
        let [state, nonce, verifier] = random;
        Attempt {
            state: base64url::encode(state),
            nonce: base64url::encode(nonce),
            verifier: base64url::encode(verifier),
            back: own_path(back),
            redirect_uri,
            began: now,
        }
    }

    /// RFC 7636 §4.2, method S256.
    fn challenge(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.verifier.as_bytes());
        base64url::encode(digest.as_ref())
    }

    /// Where the browser is sent. `endpoint` may have a query of its own.
    pub fn location(&self, endpoint: &str, client_id: &str, scopes: &[String]) -> String {
        let challenge = self.challenge();
        let fields = [
            ("response_type", "code"),
            ("client_id", client_id),
            ("redirect_uri", &self.redirect_uri),
            ("scope", &scopes.join(" ")),
            ("state", &self.state),
            ("nonce", &self.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let separator = if endpoint.contains('?') { '&' } else { '?' };
        format!("{endpoint}{separator}{}", form(&fields))
    }

    pub fn seal(&self, sealer: &Sealer) -> Option<String> {
        sealer.seal(Purpose::Login, &serde_json::to_vec(self).ok()?)
    }

    /// `None`: it is not ours, or took too long.
    pub fn open(sealed: &[u8], sealer: &Sealer, now: u64) -> Option<Attempt> {
        let attempt: Attempt = serde_json::from_slice(&sealer.open(Purpose::Login, sealed)?).ok()?;
        (now.saturating_sub(attempt.began) <= LOGIN_SECONDS).then_some(attempt)
    }
}

/// Only a path of this host: a browser that logs in is led nowhere else.
fn own_path(back: &[u8]) -> String {
    let text = std::str::from_utf8(back).unwrap_or("/");
    let plain = text.bytes().all(|byte| byte > b' ' && byte != 0x7f && byte != b'\\');
    let path = text.split('?').next().unwrap_or_default();
    let short = [text, path].into_iter().find(|part| part.len() <= RETURN_BYTES_MAX);
    let own = text.starts_with('/') && !text.starts_with("//") && plain;
    short.filter(|_| own).unwrap_or("/").to_owned()
}

/// Fields as `application/x-www-form-urlencoded`, each byte that is not plain escaped.
pub fn form(fields: &[(&str, &str)]) -> String {
    let mut out = Vec::new();
    for (name, value) in fields {
        if !out.is_empty() {
            out.push(b'&');
        }
        path::encode(name.as_bytes(), &mut out);
        out.push(b'=');
        path::encode(value.as_bytes(), &mut out);
    }
    String::from_utf8(out).unwrap_or_default()
}

/// What a browser brings back from the provider.
#[derive(Debug, PartialEq, Eq)]
pub enum Brought {
    Code(String),
    /// The provider's word for why not: the log may know it.
    Error(String),
}

/// Reads the query of a callback. `Err`: it does not belong to this attempt, or to nobody's.
pub fn brought(query: &[u8], attempt: &Attempt, issuer: &str) -> Result<Brought, &'static str> {
    if !bool::from(state(query)?.as_bytes().ct_eq(attempt.state.as_bytes())) {
        return Err("`state` is that of another login");
    }
    if one(query, "iss")?.is_some_and(|iss| iss != issuer) {
        return Err("`iss` is another issuer");
    }
    if let Some(error) = one(query, "error")? {
        let plain: String = error.chars().filter(|c| c.is_ascii_graphic()).take(100).collect();
        return Ok(Brought::Error(plain));
    }
    one(query, "code")?.filter(|code| !code.is_empty()).map(Brought::Code).ok_or("there is no `code`")
}

/// Which login a browser comes back from, by its own words.
pub fn state(query: &[u8]) -> Result<String, &'static str> {
    one(query, "state")?.ok_or("there is no `state`")
}

/// A field that stands there once at most.
fn one(query: &[u8], name: &str) -> Result<Option<String>, &'static str> {
    let mut values = maitred_core::render::query_values(query, name.as_bytes());
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() || value.len() > ANSWER_BYTES_MAX {
        return Err("a field stands twice, or is too long");
    }
    // Here, and nowhere else, a plus is a space.
    let spaced: Vec<u8> = value.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    let mut decoded = Vec::new();
    path::decode(&spaced, &mut decoded);
    String::from_utf8(decoded).map(Some).map_err(|_| "a field is not UTF-8")
}

/// What the token endpoint gave (RFC 6749 §5.1).
#[derive(Debug, PartialEq)]
pub struct Tokens {
    pub id_token: Option<String>,
    pub refresh: Option<String>,
    /// Seconds that the access token holds.
    pub expires_in: Option<u64>,
    pub scopes: Option<Vec<String>>,
}

impl Tokens {
    pub fn read(json: &[u8]) -> Result<Tokens, &'static str> {
        let object: Map<String, Value> = serde_json::from_slice(json).map_err(|_| "it is no JSON object")?;
        let text = |name: &str| match object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Err("a token is no text"),
        };
        let kind = text("token_type")?.ok_or("it has no `token_type`")?;
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err("its `token_type` is not Bearer");
        }
        Ok(Tokens {
            id_token: text("id_token")?,
            refresh: text("refresh_token")?,
            expires_in: object.get("expires_in").and_then(Value::as_u64),
            scopes: text("scope")?.map(|scope| scope.split_ascii_whitespace().map(str::to_owned).collect()),
        })
    }
}

/// Claims that concern the making of an ID token and nobody's identity; they are not kept.
const OF_THE_TOKEN: [&str; 10] = ["aud", "azp", "at_hash", "c_hash", "nonce", "exp", "iat", "nbf", "jti", "s_hash"];

/// What an ID token says beyond its signature, issuer, audience and times, which are checked before (§3.1.3.7). Gives what is kept.
pub fn of_id_token(
    mut claims: Map<String, Value>,
    client_id: &str,
    nonce: Option<&str>,
) -> Result<Map<String, Value>, &'static str> {
    let said = claims.get("nonce").and_then(Value::as_str);
    // At a refresh there need be none (§12.2).
    if let Some(nonce) = nonce
        && !said.is_some_and(|said| said.as_bytes().ct_eq(nonce.as_bytes()).into())
    {
        return Err("its `nonce` is that of another login");
    }
    let several = matches!(claims.get("aud"), Some(Value::Array(list)) if list.len() > 1);
    match claims.get("azp") {
        Some(azp) if azp.as_str() != Some(client_id) => return Err("its `azp` is another client"),
        None if several => return Err("it is for several, and does not say for whom it was made"),
        Some(_) | None => {}
    }
    for name in OF_THE_TOKEN {
        claims.remove(name);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attempt() -> Attempt {
        Attempt::new(&[[1; 32], [2; 32], [3; 32]], b"/menu?a=1", "https://x.example/cb".to_owned(), 1000)
    }

    #[test]
    fn a_browser_is_sent_with_everything_the_provider_needs() {
        let location = attempt().location("https://id.example/auth?tenant=1", "web", &["openid".to_owned(), "a b".to_owned()]);
        let (endpoint, rest) = location.split_once("&response_type=code&").unwrap();
        assert_eq!(endpoint, "https://id.example/auth?tenant=1");
        assert!(
            rest.starts_with("client_id=web&redirect_uri=https%3A%2F%2Fx.example%2Fcb&scope=openid%20a%20b&state="),
            "{rest}"
        );
        assert!(rest.ends_with("&code_challenge_method=S256"), "{rest}");
    }

    /// RFC 7636, appendix B.
    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned();
        assert_eq!(Attempt { verifier, ..attempt() }.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn nobody_is_led_to_another_host() {
        for (asked, back) in [
            ("/menu?a=1", "/menu?a=1"),
            ("//evil.example/", "/"),
            ("https://evil.example/", "/"),
            ("/\\evil.example", "/"),
            ("/a b", "/"),
            ("/a\r\nSet-Cookie: x", "/"),
            ("", "/"),
        ] {
            assert_eq!(own_path(asked.as_bytes()), back, "{asked}");
        }
        let long = "x".repeat(RETURN_BYTES_MAX);
        assert_eq!(own_path(format!("/{long}").as_bytes()), "/");
        assert_eq!(own_path(format!("/shop/menu?{long}").as_bytes()), "/shop/menu");
        assert_eq!(own_path(format!("//evil.example?{long}").as_bytes()), "/");
    }

    #[test]
    fn what_a_browser_brings_must_belong_to_its_own_login() {
        let attempt = attempt();
        let state = &attempt.state;
        for (query, wanted) in [
            (format!("code=a%2Bb&state={state}"), Ok(Brought::Code("a+b".to_owned()))),
            (format!("state={state}&code=x&iss=https%3A%2F%2Fid.example"), Ok(Brought::Code("x".to_owned()))),
            (format!("state={state}&error=access+denied\r\n"), Ok(Brought::Error("accessdenied".to_owned()))),
            (format!("state={state}&code=x&iss=https://evil.example"), Err("`iss` is another issuer")),
            (format!("state={state}&code="), Err("there is no `code`")),
            (format!("state={state}&code=1&code=2"), Err("a field stands twice, or is too long")),
            (format!("state={state}&state={state}&code=1"), Err("a field stands twice, or is too long")),
            ("code=1".to_owned(), Err("there is no `state`")),
            (format!("state={state}x&code=1"), Err("`state` is that of another login")),
            (String::new(), Err("there is no `state`")),
        ] {
            assert_eq!(brought(query.as_bytes(), &attempt, "https://id.example"), wanted, "{query}");
        }
    }

    #[test]
    fn an_attempt_opens_for_its_time_alone() {
        let sealer = Sealer::new(b"secret", "web").unwrap();
        let sealed = attempt().seal(&sealer).unwrap();
        assert_eq!(Attempt::open(sealed.as_bytes(), &sealer, 1000 + LOGIN_SECONDS), Some(attempt()));
        assert_eq!(Attempt::open(sealed.as_bytes(), &sealer, 1001 + LOGIN_SECONDS), None);
        assert_eq!(Attempt::open(b"x", &sealer, 1000), None);
    }

    #[test]
    fn what_the_token_endpoint_gives_is_read_strictly() {
        let read = |value: Value| Tokens::read(value.to_string().as_bytes());
        let whole = read(
            json!({ "token_type": "bearer", "id_token": "a.b.c", "refresh_token": "r", "expires_in": 60, "scope": "openid x" }),
        );
        let scopes = Some(vec!["openid".to_owned(), "x".to_owned()]);
        assert_eq!(
            whole,
            Ok(Tokens { id_token: Some("a.b.c".to_owned()), refresh: Some("r".to_owned()), expires_in: Some(60), scopes })
        );
        for wrong in [json!([]), json!({}), json!({ "token_type": "mac" }), json!({ "token_type": "Bearer", "id_token": 1 })] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(Tokens::read(b"<html>").is_err());
    }

    #[test]
    fn an_id_token_is_for_this_login_and_this_client() {
        let of = |claims: Value, nonce| match claims {
            Value::Object(claims) => of_id_token(claims, "web", nonce),
            _ => unreachable!(),
        };
        let kept = of(json!({ "sub": "a", "aud": "web", "nonce": "n", "exp": 1, "email": "a@example.com" }), Some("n")).unwrap();
        assert_eq!(Value::Object(kept), json!({ "sub": "a", "email": "a@example.com" }));
        for (claims, nonce) in [
            (json!({ "sub": "a", "aud": "web" }), Some("n")),
            (json!({ "sub": "a", "aud": "web", "nonce": "m" }), Some("n")),
            (json!({ "sub": "a", "aud": "web", "nonce": 1 }), Some("n")),
            (json!({ "sub": "a", "aud": ["web", "b"] }), None),
            (json!({ "sub": "a", "aud": ["web", "b"], "azp": "b" }), None),
            (json!({ "sub": "a", "aud": "web", "azp": "b" }), None),
        ] {
            assert!(of(claims.clone(), nonce).is_err(), "{claims}");
        }
        assert!(of(json!({ "sub": "a", "aud": ["web", "b"], "azp": "web" }), None).is_ok());
    }
}
