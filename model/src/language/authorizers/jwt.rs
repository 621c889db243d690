//! `jwt`: who issues the tokens, for whom, and where the keys are that they are verified with. Keys of a file are read here, and parsed
//! by whoever compiles.

use super::super::values::{Duration, SecretText, Text, Timeout};
use super::issuer::{Asked, url};
use super::place::{Place, Usual, place};
use crate::decode::{Cx, Defs, List, OneOrMany, Shape, record, words};
use crate::diagnostics::Diagnostic;
use crate::document::{Jwt, JwtAlgorithm, JwtKeys};
use crate::span::{Span, Spanned};
use crate::values::{Secret, format_duration};
use crate::yaml::{Kind, Node};
use serde_json::Value;
use std::time;

/// More often and the issuer is a back end of every worker's leisure; more rarely and a withdrawn key opens for a day.
const REFRESH_MIN: time::Duration = time::Duration::from_secs(10);
const REFRESH_MAX: time::Duration = time::Duration::from_secs(24 * 3600);
/// With more a token has no end to speak of.
const LEEWAY_MAX: time::Duration = time::Duration::from_secs(600);
/// Longer than the issuer is given to answer.
const TIMEOUT_MAX: time::Duration = time::Duration::from_secs(30);

words! {
    /// How a token is signed.
    JwtAlgorithm {
        /// RSA with SHA-256, PKCS #1 v1.5.
        Rs256 = "RS256",
        /// RSA with SHA-384, PKCS #1 v1.5.
        Rs384 = "RS384",
        /// RSA with SHA-512, PKCS #1 v1.5.
        Rs512 = "RS512",
        /// RSA with SHA-256, PSS.
        Ps256 = "PS256",
        /// RSA with SHA-384, PSS.
        Ps384 = "PS384",
        /// RSA with SHA-512, PSS.
        Ps512 = "PS512",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// ECDSA on P-384 with SHA-384.
        Es384 = "ES384",
        /// ECDSA on P-521 with SHA-512.
        Es512 = "ES512",
        /// Ed25519.
        EdDsa = "EdDSA",
        /// HMAC with SHA-256 and a shared secret.
        Hs256 = "HS256",
        /// HMAC with SHA-384 and a shared secret.
        Hs384 = "HS384",
        /// HMAC with SHA-512 and a shared secret.
        Hs512 = "HS512",
    }
}

record! {
    /// A signed token of an issuer.
    "`jwt`" => struct RawJwt {
        /// `iss` must be exactly this. Without `jwks` the keys are found by OpenID Connect Discovery: at `/.well-known/openid-configuration` below it.
        issuer: Option<Spanned<Text>> = absent,
        /// One of them must be in `aud`. Without it, a token that has an `aud` is refused: it is meant for others.
        audience: OneOrMany<Text> = absent,
        /// How tokens may be signed [default: each of RS, PS, ES and EdDSA; with `secret`, HS256].
        algorithms: Option<Spanned<List<Spanned<JwtAlgorithm>>>> = absent,
        /// Where the issuer's keys are: a URL, or a file that is read when the configuration is.
        jwks: Option<Spanned<Text>> = absent,
        /// What issuer and gateway share, by reference, for HS256, HS384 and HS512.
        secret: Option<Spanned<SecretText>> = absent,
        /// How far the issuer's clock may be from ours, at most 10min.
        leeway: Spanned<Duration> = "30s",
        /// Claims that must be there, besides `exp`.
        required_claims: List<Text> = absent,
        /// What the header's `typ` must be, as in `at+jwt`.
        typ: Option<Text> = absent,
        /// In what part of a request it is.
        place as "in": Spanned<Place> = "header",
        /// The name of the header, the query parameter or the cookie [default: in a header `authorization`, where it stands behind `Bearer`; in the query `access_token`].
        name: Option<Spanned<Text>> = absent,
        /// The claim that says who it is.
        subject_claim: Text = "sub",
        /// The claim that has the scopes, as a list or as words with spaces between them; of several the first that is there.
        scopes_claim: OneOrMany<Text> = "[scope, scp]",
        /// The claim that has the groups: `groups`, or a path such as `realm_access.roles`.
        groups_claim: Text = "groups",
        /// How often the keys are fetched anew: 10s to 24h.
        refresh: Spanned<Duration> = "10min",
        /// How long a request waits for keys that are being fetched, at most 30s.
        timeout: Spanned<Timeout> = "2s",
    }
}

/// `jwt`, with keys that fit its algorithms.
pub(crate) struct JwtShape;

impl Shape for JwtShape {
    type Out = Jwt;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Jwt> {
        if !cx.is_mapping(node, "`jwt`", "write `{ issuer: \"https://id.example.com/\", audience: [kitchen] }`") {
            return None;
        }
        let raw = RawJwt::decode(node, cx)?;
        // One of these that was wrong is no reason to take the keys from elsewhere.
        let lost = |key, is_there: bool| node.get(key).is_some() && !is_there;
        let parts = [("issuer", raw.issuer.is_some()), ("jwks", raw.jwks.is_some()), ("secret", raw.secret.is_some())];
        if parts.into_iter().any(|(key, is_there)| lost(key, is_there))
            || lost("typ", raw.typ.is_some())
            || lost("name", raw.name.is_some())
        {
            return None;
        }
        // A list that lost a word would ask for less, or let in more, than was written.
        let written = |key| match node.get(key).map(|list| &list.kind) {
            Some(Kind::Sequence(items)) => items.len(),
            Some(Kind::Scalar(_) | Kind::Mapping(_) | Kind::Poisoned) => 1,
            None => 0,
        };
        let kept = [
            ("audience", raw.audience.len()),
            ("required_claims", raw.required_claims.len()),
            ("algorithms", raw.algorithms.as_ref().map_or(0, |list| list.value.len())),
        ];
        if kept.into_iter().any(|(key, count)| count < written(key)) {
            return None;
        }
        let keys = keys(&raw, node, cx)?;
        let algorithms = algorithms(raw.algorithms, raw.secret.is_some(), cx)?;
        if let JwtKeys::Secret(secret) = &keys.value {
            long_enough(secret, keys.span, &algorithms, cx)?;
        }
        let in_range = bounded("leeway", &raw.leeway, time::Duration::ZERO, LEEWAY_MAX, cx)
            & bounded("refresh", &raw.refresh, REFRESH_MIN, REFRESH_MAX, cx)
            & bounded("timeout", &raw.timeout, time::Duration::ZERO, TIMEOUT_MAX, cx);
        // RFC 6750 §2.1 and §2.3.
        let usual = Usual { header: "authorization", query: Some("access_token"), example: "session" };
        let place = place(raw.place, raw.name, &usual, cx)?;
        in_range.then_some(Jwt {
            issuer: raw.issuer.map(|issuer| issuer.value),
            audience: raw.audience,
            algorithms,
            keys: keys.value,
            leeway: raw.leeway.value,
            required_claims: raw.required_claims,
            typ: raw.typ,
            place,
            subject_claim: raw.subject_claim,
            scopes_claim: raw.scopes_claim,
            groups_claim: raw.groups_claim,
            refresh: raw.refresh.value,
            timeout: raw.timeout.value,
        })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawJwt::schema(defs)
    }
}

fn keys(raw: &RawJwt, node: &Node, cx: &mut Cx<'_>) -> Option<Spanned<JwtKeys>> {
    match (&raw.jwks, &raw.secret, &raw.issuer) {
        (Some(jwks), Some(secret), _) => {
            let message = "`secret` and `jwks`: a token signed with one would be verified with the other";
            let hint = "keep one of them; for tokens of two issuers make two authorizers";
            let diagnostic = Diagnostic::error("contradiction", secret.span, message);
            cx.push(diagnostic.hint(hint).also(jwks.span, "the other stands here"));
            None
        }
        (None, Some(secret), _) => Some(Spanned::new(JwtKeys::Secret(secret.value.clone()), secret.span)),
        (Some(jwks), None, _) if jwks.value.contains("://") => {
            url(node.get("jwks")?, Asked::Keys, cx)?;
            Some(Spanned::new(JwtKeys::Url(jwks.value.clone()), jwks.span))
        }
        (Some(jwks), None, _) => {
            let path = cx.outside.path(jwks.span, &jwks.value);
            match cx.outside.read(&path) {
                Ok(bytes) => Some(Spanned::new(JwtKeys::File { path, bytes }, jwks.span)),
                Err(why) => {
                    let message = format!("cannot read the keys in `{}`: {why}", path.display());
                    cx.error("unreadable", jwks.span, message, "write the path of a JWK set, or the URL of one");
                    None
                }
            }
        }
        (None, None, Some(issuer)) => {
            url(node.get("issuer")?, Asked::Issuer, cx)?;
            Some(Spanned::new(JwtKeys::Discovery(issuer.value.clone()), issuer.span))
        }
        (None, None, None) => {
            let hint = "add `issuer: \"https://…\"`, or `jwks:` with a URL or a file, or `secret:`";
            cx.error("missing-key", node.span, "`jwt` has nothing to verify tokens with", hint);
            None
        }
    }
}

fn algorithms(written: Option<Spanned<Vec<Spanned<JwtAlgorithm>>>>, shared: bool, cx: &mut Cx<'_>) -> Option<Vec<JwtAlgorithm>> {
    let Some(written) = written else {
        return Some(if shared { vec![JwtAlgorithm::Hs256] } else { JwtAlgorithm::SIGNATURES.to_vec() });
    };
    if written.value.is_empty() {
        cx.error("missing-value", written.span, "`algorithms` names none", "write `[RS256, ES256]`, or remove the key");
        return None;
    }
    if let Some(wrong) = written.value.iter().find(|word| word.value.secret_bytes_min().is_some() != shared) {
        let name = wrong.value.as_str();
        let (message, hint) = match shared {
            true => {
                (format!("`{name}` verifies with a public key, and here is a secret"), "write `[HS256]`, or `jwks` for `secret`")
            }
            false => {
                (format!("`{name}` needs a `secret`, and public keys are none"), "write `[RS256, ES256]`, or `secret` for `jwks`")
            }
        };
        cx.error("contradiction", wrong.span, message, hint);
        return None;
    }
    Some(written.value.iter().map(|word| word.value).collect())
}

/// RFC 7518 §3.2: a key has as many bits as the hash.
fn long_enough(secret: &Secret, span: Span, algorithms: &[JwtAlgorithm], cx: &mut Cx<'_>) -> Option<()> {
    let bytes = secret.expose().len();
    let needs = |algorithm: &&JwtAlgorithm| algorithm.secret_bytes_min().is_some_and(|least| bytes < least);
    let Some(short) = algorithms.iter().filter(needs).max_by_key(|algorithm| algorithm.secret_bytes_min()) else {
        return Some(());
    };
    let least = short.secret_bytes_min().unwrap_or_default();
    let message = format!("the secret has fewer than the {least} bytes that {} needs", short.as_str());
    cx.error("bad-value", span, message, format!("make one with `openssl rand -base64 {least}`, for the issuer too"));
    None
}

fn bounded(key: &str, value: &Spanned<time::Duration>, least: time::Duration, most: time::Duration, cx: &mut Cx<'_>) -> bool {
    if (least..=most).contains(&value.value) {
        return true;
    }
    let (least, most) = (format_duration(least), format_duration(most));
    cx.error("bad-value", value.span, format!("`{key}` is out of range"), format!("write a duration from `{least}` to `{most}`"));
    false
}
