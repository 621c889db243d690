//! `oidc`: a login with a browser.

use crate::values::Secret;
use std::time::Duration;

/// People log in with a browser, at an OpenID provider.
#[derive(Debug, Clone)]
pub struct Oidc {
    /// Exactly as its tokens say it.
    pub issuer: String,
    pub client_id: String,
    /// `None`: a public client; the code is safe by PKCE alone.
    pub client_secret: Option<Secret>,
    /// `openid` is among them.
    pub scopes: Vec<String>,
    /// The claim that holds groups.
    pub groups_claim: String,
    /// Paths below the API's base path.
    pub callback: String,
    pub logout: String,
    pub session: OidcSession,
    /// Other sites whose pages may ask for changes.
    pub origins: Vec<String>,
    /// For one request to the provider.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcSession {
    /// After that somebody must log in again.
    pub ttl: Duration,
    pub cookie: String,
    pub same_site: SameSite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    Lax,
    Strict,
    None,
}

impl SameSite {
    /// As a cookie says it.
    pub fn word(self) -> &'static str {
        match self {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        }
    }
}
