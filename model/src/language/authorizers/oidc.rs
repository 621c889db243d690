//! `oidc`: a login with a browser, and the session after it.

use super::super::protection::CookieName;
use super::super::values::{SecretText, Text, Timeout, parse_origin};
use super::issuer::IssuerUrl;
use crate::decode::{Cx, Defs, List, Shape, record, texts, words};
use crate::document::{Oidc, OidcSession, SameSite};
use crate::span::Spanned;
use crate::values::{ValueError, canonical_path};
use crate::yaml::Node;
use serde_json::Value;

texts! {
    /// An origin as browsers send it, such as `https://app.example.com`.
    SiteOrigin => String, parse_site, "an origin such as `https://app.example.com`", "^https?://[^/]+$";
    /// A path without parameters, as in `/oauth2/callback`.
    OwnPath => String, parse_own_path, "a path such as `/oauth2/callback`", "^/";
}

words! {
    /// From which sites browsers send a cookie along.
    SameSite {
        /// From others only where somebody follows a link.
        Lax = "lax",
        /// Never from others: who follows a link must log in again.
        Strict = "strict",
        /// From all; browsers want TLS for that.
        None = "none",
    }
}

record! {
    /// What a browser keeps after a login.
    "`session`" => OidcSession {
        /// After that somebody must log in again.
        ttl: Timeout = "8h",
        /// The name of its cookie. A large session takes several, with `_1` and so on behind it.
        cookie: CookieName = "maitred_session",
        /// From which sites browsers send it along.
        same_site: SameSite = "lax",
    }
}

record! {
    /// People log in with a browser, at an OpenID provider.
    "`oidc`" => struct RawOidc {
        /// The provider: exactly as its tokens say it.
        issuer: IssuerUrl = required,
        /// What the provider calls this gateway.
        client_id: Text = required,
        /// What proves that, by reference; left out for a public client.
        client_secret: Option<SecretText> = absent,
        /// What is asked for; `openid` is among them.
        scopes: Spanned<List<Text>> = "[openid]",
        /// The claim that holds groups.
        groups_claim: Text = "groups",
        /// Where the provider sends browsers back to, below the API's base path.
        callback: OwnPath = "/oauth2/callback",
        /// Where a session ends, below the API's base path.
        logout: OwnPath = "/oauth2/logout",
        /// What a browser keeps after a login.
        session: OidcSession = empty,
        /// Other sites whose pages may ask for changes, and open WebSockets.
        origins: List<SiteOrigin> = absent,
        /// For one request to the provider.
        timeout: Timeout = "5s",
    }
}

pub(crate) struct OidcShape;

impl Shape for OidcShape {
    type Out = Oidc;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Oidc> {
        if !cx.is_mapping(node, "`oidc`", "write `{ issuer: \"https://id.example.com/\", client_id: web }`") {
            return None;
        }
        let RawOidc { issuer, client_id, client_secret, scopes, groups_claim, callback, logout, session, origins, timeout } =
            RawOidc::decode(node, cx)?;
        if !scopes.value.iter().any(|scope| scope == "openid") {
            let message = "without the scope `openid` no provider says who somebody is";
            cx.error("missing-value", scopes.span, message, "add it: `scopes: [openid, …]`");
        }
        if callback == logout {
            cx.error("contradiction", node.span, "`callback` and `logout` are the same path", "give one of them another");
        }
        Some(Oidc {
            issuer,
            client_id,
            client_secret,
            scopes: scopes.value,
            groups_claim,
            callback,
            logout,
            session,
            origins,
            timeout,
        })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawOidc::schema(defs)
    }
}

fn parse_site(text: &str) -> Result<String, ValueError> {
    match text {
        "*" => Err(ValueError::new("every site could act as its visitor").hint("list the origins")),
        text => parse_origin(text),
    }
}

fn parse_own_path(text: &str) -> Result<String, ValueError> {
    if text.contains(['{', '}', '?']) {
        return Err(ValueError::new("the path has neither parameters nor a query").hint("write `/oauth2/callback`"));
    }
    canonical_path(text)
}
