//! People log in with a browser at an OpenID provider, by authorization code and PKCE; after that a sealed cookie says who they are. Keeps
//! nothing about anybody: a session is in the browser alone, so every gateway with the same secret knows it, and it cannot be ended from
//! here before its time, but by the provider at the next refresh.

mod attempts;
mod login;
mod refreshes;
mod seal;
mod session;

use super::bearer;
use super::client_secret;
use super::jwt::Jwt;
use super::{Authorizer, Decision, Making, Refusal, unauthenticated};
use attempts::LoginCookies;
use login::{Attempt, Brought, RANDOM_BYTES, Tokens, brought, form, of_id_token};
use maitred_core::identity::{Generations, KeyCell, Remembered, Roll, Vouched};
use maitred_core::ports::{Asks, Fetch, FetchRequest};
use maitred_core::wire::Method;
use maitred_core::{Body, Exchange, Fault, Flow, Hook, Kind, Ports, Principal, Response, Scheme};
use maitred_model::{self as model, LoginStep, SameSite};
use refreshes::Refreshes;
use seal::Sealer;
use serde_json::{Map, Value};
use session::{Session, SessionCookie};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of what the token endpoint answers.
const TOKENS_BYTES_MAX: usize = 256 * 1024;
/// An access token that says not how long it holds is asked about after this, in seconds.
const STALE_SECONDS: u64 = 300;

/// How far the provider's clock may be from ours.
const LEEWAY: Duration = Duration::from_secs(30);

/// What became of a refresh: the new session, or why there is none.
type Refreshed = Result<Session, Broken>;

#[derive(Debug, Clone)]
enum Broken {
    /// The provider says that it is over.
    Over(String),
    /// It could not be asked.
    Unknown(String),
}

pub struct Oidc {
    name: Arc<str>,
    number: u64,
    configured: model::Oidc,
    sealer: Sealer,
    cookie: SessionCookie,
    login_cookies: LoginCookies,
    /// The provider's keys, and what it says of itself.
    keys: Arc<KeyCell>,
    /// What its ID tokens must be.
    id_tokens: Jwt,
    fetch: Arc<dyn Fetch>,
    roll: Arc<Roll>,
    refreshes: Refreshes,
}

/// Where a provider answers, by what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoints {
    authorization: String,
    token: String,
    end_session: Option<String>,
}

impl Endpoints {
    /// `None`: it names none that could be used. Whoever asked by TLS does not go on without.
    fn of(document: &Map<String, Value>, issuer: &str) -> Option<Endpoints> {
        let endpoint = |name: &str| {
            let url = document.get(name)?.as_str()?;
            let plain = issuer.starts_with("http://") && url.starts_with("http://");
            let sane = url.bytes().all(|byte| byte.is_ascii_graphic()) && !url.contains('#');
            ((url.starts_with("https://") || plain) && sane).then(|| url.to_owned())
        };
        Some(Endpoints {
            authorization: endpoint("authorization_endpoint")?,
            token: endpoint("token_endpoint")?,
            end_session: endpoint("end_session_endpoint"),
        })
    }
}

impl Oidc {
    /// `None`: there are no keys to verify with, or no cryptography to seal cookies with.
    pub fn compile(name: Arc<str>, configured: &model::Oidc, making: &Making<'_>) -> Option<Oidc> {
        let keys = making.keys.clone()?;
        let id_tokens = Jwt::compile(name.clone(), &rules_of(configured), keys.clone(), making);
        Some(Oidc {
            number: making.number,
            configured: configured.clone(),
            // A session is one of this provider, at which we are this client: a cookie of another is none.
            sealer: Sealer::new(making.secret, &format!("{name}\0{}\0{}", configured.issuer, configured.client_id))?,
            cookie: SessionCookie::new(&configured.session.cookie, configured.session.same_site.word()),
            login_cookies: LoginCookies::new(&configured.session.cookie),
            keys,
            id_tokens,
            fetch: making.fetch.clone(),
            roll: making.roll.clone(),
            refreshes: Refreshes::default(),
            name,
        })
    }

    fn endpoints(&self) -> Option<Endpoints> {
        Endpoints::of(&*self.keys.document()?, &self.configured.issuer)
    }

    fn generations(&self) -> Generations {
        Generations { keys: 0, consumers: self.roll.generation() }
    }

    fn principal(&self, session: &Session) -> Arc<Principal> {
        let groups = match session.claims.get(&self.configured.groups_claim) {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(Box::from).collect(),
            Some(Value::String(group)) => Box::from([Box::from(group.as_str())]),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Box::default(),
        };
        Arc::new(Principal {
            authorizer: self.name.clone(),
            issuer: Some(self.configured.issuer.as_str().into()),
            subject: Some(session.subject.as_str().into()),
            consumer: self.roll.by_identity(&self.name, &session.subject),
            claims: session.claims.clone(),
            scopes: session.scopes.iter().map(|scope| scope.as_str().into()).collect(),
            groups,
            vouched: Vouched::Claims,
            ..Principal::default()
        })
    }

    /// A cookie comes along whatever page makes the browser ask: what changes something must come from a page of ours.
    fn comes_from_here(&self, exchange: &Exchange) -> Result<(), Refusal> {
        let request = &exchange.request;
        let is_safe = matches!(request.method, Method::Get | Method::Head | Method::Options);
        if is_safe && request.upgrade.is_none() {
            return Ok(());
        }
        let mut origins = request.headers.get_all(b"origin");
        let (Some(origin), None) = (origins.next(), origins.next()) else {
            return Err(Refusal::Forbidden("a request that changes something has no Origin".into()));
        };
        let listed = self.configured.origins.iter().any(|own| own.as_bytes() == origin);
        match listed || origin.eq_ignore_ascii_case(own_origin(exchange).as_bytes()) {
            true => Ok(()),
            false => Err(Refusal::Forbidden("a request that changes something comes from another site".into())),
        }
    }

    /// For who is not logged in: people are sent to log in, programs are told so.
    fn not_logged_in(&self, exchange: &mut Exchange, ports: &dyn Ports, why: &'static str) -> Refusal {
        match self.invite(exchange, ports) {
            Some(Ok(response)) => Refusal::Invited(Box::new(response)),
            Some(Err(fault)) => Refusal::Failed(fault),
            None => Refusal::invalid(why),
        }
    }

    fn redirect(&self, exchange: &mut Exchange, status: u16, location: &str, set: &[String]) -> Response {
        self.leading(exchange, status, (b"location", location), set)
    }

    /// Leads a browser on from a page of ours. A strict cookie is held back on a way that began at another site, however often that was
    /// redirected: whoever has just logged in would be sent to log in again, for ever.
    fn page_that_leads(&self, exchange: &mut Exchange, path: &str, set: &[String]) -> Response {
        let mut response = self.leading(exchange, 200, (b"refresh", &format!("0;url={path}")), set);
        response.head.headers.add(b"content-type", b"text/html; charset=utf-8");
        // The page's own address has the code.
        response.head.headers.add(b"referrer-policy", b"no-referrer");
        response
    }

    fn leading(&self, exchange: &mut Exchange, status: u16, (name, value): (&[u8], &str), set: &[String]) -> Response {
        let mut response = Response::with_body(exchange.take_head(), status, Body::Empty);
        let headers = &mut response.head.headers;
        headers.add(name, value.as_bytes());
        headers.add(b"cache-control", b"no-store");
        for cookie in set {
            headers.add(b"set-cookie", cookie.as_bytes());
        }
        response
    }

    fn sent_to_log_in(&self, exchange: &mut Exchange, ports: &dyn Ports) -> Result<Response, Fault> {
        let unavailable = |why| Fault::new(Kind::AuthorizerUnavailable, why);
        let endpoints = self.endpoints().ok_or_else(|| unavailable("the provider was not reached yet"))?;
        let random = aws_lc_rs::rand::SystemRandom::new();
        let mut bytes = [[0; RANDOM_BYTES]; 3];
        for one in &mut bytes {
            aws_lc_rs::rand::SecureRandom::fill(&random, one).map_err(|_| unavailable("there is no randomness"))?;
        }
        let request = &exchange.request;
        let mut back = request.path().to_vec();
        if let Some(query) = request.query() {
            back.push(b'?');
            back.extend_from_slice(query);
        }
        let redirect_uri = format!("{}{}{}", own_origin(exchange), base_path(exchange), self.configured.callback);
        let attempt = Attempt::new(&bytes, &back, redirect_uri, seconds(ports));
        let location = attempt.location(&endpoints.authorization, &self.configured.client_id, &self.configured.scopes);
        let set = self.login_cookies.set(&attempt, exchange, &self.sealer, seconds(ports), is_secure(exchange));
        let set = set.ok_or_else(|| unavailable("a login cannot be sealed"))?;
        Ok(self.redirect(exchange, 302, &location, &set))
    }

    /// Asks the token endpoint (RFC 6749 §4.1.3, §6).
    async fn ask(&self, fields: &[(&str, &str)]) -> Result<Tokens, Broken> {
        let endpoints = self.endpoints().ok_or_else(|| Broken::Unknown("the provider was not reached yet".to_owned()))?;
        let (mut fields, mut headers) = (fields.to_vec(), vec![("accept", "application/json".to_owned())]);
        match &self.configured.client_secret {
            Some(secret) => {
                let value = client_secret::basic(&self.configured.client_id, secret.expose());
                headers.push(("authorization", String::from_utf8_lossy(&value).into_owned()));
            }
            None => fields.push(("client_id", &self.configured.client_id)),
        }
        let request = FetchRequest {
            url: endpoints.token.clone(),
            headers,
            asks: Asks::Form(form(&fields)),
            time_max: self.configured.timeout,
            body_bytes_max: TOKENS_BYTES_MAX,
        };
        let fetched = self.fetch.fetch(request).await.map_err(Broken::Unknown)?;
        match fetched.status {
            200 => Tokens::read(&fetched.body).map_err(|why| Broken::Unknown(format!("the token endpoint's answer: {why}"))),
            // RFC 6749 §5.2. Whatever else it says concerns this gateway, and nobody's session.
            400 | 401 if error_word(&fetched.body) == "invalid_grant" => {
                Err(Broken::Over(format!("the token endpoint says {}", error_word(&fetched.body))))
            }
            status => Err(Broken::Unknown(format!("the token endpoint answers {status}"))),
        }
    }

    fn session(&self, tokens: Tokens, claims: Map<String, Value>, ends: u64, now: u64) -> Result<Session, String> {
        let subject =
            claims.get("sub").and_then(Value::as_str).filter(|sub| !sub.is_empty()).ok_or("the ID token has no `sub`")?;
        let stale = match &tokens.refresh {
            Some(_) => now.saturating_add(tokens.expires_in.unwrap_or(STALE_SECONDS)).min(ends),
            None => ends,
        };
        Ok(Session {
            subject: subject.to_owned(),
            scopes: tokens.scopes.unwrap_or_else(|| self.configured.scopes.clone()),
            claims,
            ends,
            stale,
            refresh: tokens.refresh,
        })
    }

    async fn claims(&self, token: Option<&str>, nonce: Option<&str>, ports: &dyn Ports) -> Result<Map<String, Value>, Broken> {
        let token = token.ok_or_else(|| Broken::Over("the provider gave no ID token".to_owned()))?;
        let claims = self.id_tokens.verify(token.as_bytes(), ports).await;
        let claims = claims.map_err(|flaw| {
            let why = format!("the ID token: {}", flaw.detail());
            if flaw.is_want_of_keys() { Broken::Unknown(why) } else { Broken::Over(why) }
        })?;
        of_id_token(claims, &self.configured.client_id, nonce).map_err(|why| Broken::Over(format!("the ID token: {why}")))
    }

    /// The browser is back from the provider.
    async fn called_back(&self, exchange: &mut Exchange, ports: &dyn Ports) -> Result<Response, Fault> {
        let refused = |why: String| unauthenticated(format!("{}: {why}", self.name), self.challenge());
        let broken = |broken| match broken {
            Broken::Over(why) => refused(why),
            Broken::Unknown(why) => Fault::new(Kind::AuthorizerUnavailable, format!("{}: {why}", self.name)),
        };
        let now = seconds(ports);
        let query = exchange.request.query().unwrap_or_default();
        let state = login::state(query).map_err(|why| refused(why.to_owned()))?;
        let sealed = self.login_cookies.of(&state, exchange).ok_or_else(|| {
            refused("the browser has no login under way that `state` belongs to, or keeps no cookies".to_owned())
        })?;
        let attempt = Attempt::open(sealed, &self.sealer, now).ok_or_else(|| refused("the login took too long".to_owned()))?;
        let code = match brought(query, &attempt, &self.configured.issuer).map_err(|why| refused(why.to_owned()))? {
            Brought::Code(code) => code,
            Brought::Error(word) => return Err(Fault::new(Kind::Forbidden, format!("{}: the provider says {word}", self.name))),
        };
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &attempt.redirect_uri),
            ("code_verifier", &attempt.verifier),
        ];
        let tokens = self.ask(&fields).await.map_err(broken)?;
        let claims = self.claims(tokens.id_token.as_deref(), Some(&attempt.nonce), ports).await.map_err(broken)?;
        let session = self.session(tokens, claims, now + self.configured.session.ttl.as_secs(), now).map_err(refused)?;
        let secure = is_secure(exchange);
        let mut set = self.cookie.set(&session, &self.sealer, now, secure).ok_or_else(|| {
            Fault::new(
                Kind::AuthorizerFailed,
                format!("{}: the session is too large for cookies: ask for fewer claims", self.name),
            )
        })?;
        set.extend(self.login_cookies.clear(&attempt.state, secure));
        Ok(match self.configured.session.same_site {
            SameSite::Strict => self.page_that_leads(exchange, &attempt.back, &set),
            SameSite::Lax | SameSite::None => self.redirect(exchange, 303, &attempt.back, &set),
        })
    }

    fn logged_out(&self, exchange: &mut Exchange) -> Response {
        let secure = is_secure(exchange);
        let mut set = self.cookie.clear(secure);
        set.extend(self.login_cookies.clear_all(exchange, secure));
        let home = format!("{}{}/", own_origin(exchange), base_path(exchange));
        let endpoints = self.endpoints();
        let location = match endpoints.as_ref().and_then(|endpoints| endpoints.end_session.as_deref()) {
            // RP-Initiated Logout 1.0 §2.
            Some(endpoint) => {
                let separator = if endpoint.contains('?') { '&' } else { '?' };
                let fields = [("client_id", self.configured.client_id.as_str()), ("post_logout_redirect_uri", &home)];
                format!("{endpoint}{separator}{}", form(&fields))
            }
            None => home,
        };
        self.redirect(exchange, 303, &location, &set)
    }

    /// One request to the provider, however many of a browser's come at once, on whatever worker.
    async fn refreshed(&self, sealed: &[u8], session: &Session, ports: &dyn Ports) -> Refreshed {
        let Some(refresh) = self.refreshes.join(Refreshes::of(sealed), ports.now()) else {
            return Err(Broken::Unknown("too many sessions are being refreshed".to_owned()));
        };
        refresh.get_or_init(|| self.refresh(session, ports)).await.clone()
    }

    async fn refresh(&self, session: &Session, ports: &dyn Ports) -> Refreshed {
        let Some(refresh) = session.refresh.as_deref() else { return Ok(session.clone()) };
        let mut tokens = self.ask(&[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await?;
        // One that is not replaced goes on being good (RFC 6749 §6).
        tokens.refresh.get_or_insert_with(|| refresh.to_owned());
        tokens.scopes.get_or_insert_with(|| session.scopes.clone());
        let claims = match tokens.id_token.as_deref() {
            None => session.claims.clone(),
            Some(token) => self.claims(Some(token), None, ports).await?,
        };
        let new = self.session(tokens, claims, session.ends, seconds(ports)).map_err(Broken::Over)?;
        match new.subject == session.subject {
            true => Ok(new),
            false => Err(Broken::Over("the provider speaks of somebody else".to_owned())),
        }
    }

    async fn decided(&self, exchange: &mut Exchange, ports: &dyn Ports) -> Decision {
        let now = seconds(ports);
        let mut whole = Vec::new();
        let opened = self.cookie.open(exchange, &self.sealer);
        let Some(session) = opened.filter(|session| now < session.ends) else {
            return Err(self.not_logged_in(exchange, ports, "the session is over, or none of ours"));
        };
        self.comes_from_here(exchange)?;
        let sealed = self.cookie.sealed(exchange, &mut whole).unwrap_or_default().to_vec();
        if now < session.stale {
            let principal = self.principal(&session);
            let (at, remembered) = (ports.now(), Remembered::Valid(principal.clone()));
            let until = at + Duration::from_secs(session.stale.min(session.ends) - now);
            ports.verdicts().borrow_mut().put(self.number, &sealed, self.generations(), remembered, (at, until));
            return Ok(principal);
        }
        match self.refreshed(&sealed, &session, ports).await {
            Ok(new) => {
                let set = self.cookie.set(&new, &self.sealer, now, is_secure(exchange));
                exchange.set_cookies.extend(set.into_iter().flatten());
                Ok(self.principal(&new))
            }
            Err(Broken::Over(why)) => {
                tracing::debug!(authorizer = %self.name, %why, "a session was not refreshed");
                Err(self.not_logged_in(exchange, ports, "the provider has ended the session"))
            }
            Err(Broken::Unknown(why)) => Err(Refusal::Failed(Fault::new(Kind::AuthorizerUnavailable, why))),
        }
    }
}

impl Authorizer for Oidc {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn finds(&self, exchange: &Exchange) -> bool {
        self.cookie.is_there(exchange)
    }

    fn recall(&self, exchange: &Exchange, ports: &dyn Ports) -> Option<Decision> {
        let mut whole = Vec::new();
        let sealed = self.cookie.sealed(exchange, &mut whole)?;
        let verdicts = ports.verdicts().borrow();
        let Remembered::Valid(principal) = verdicts.get(self.number, sealed, self.generations(), ports.now())? else {
            return None;
        };
        Some(self.comes_from_here(exchange).map(|()| principal.clone()))
    }

    fn decide<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Decision> {
        Hook::Pending(Box::pin(self.decided(exchange, ports)))
    }

    /// No scheme is registered for a login by browser.
    fn challenge(&self) -> Option<String> {
        Some(format!(r#"Login realm="{}""#, self.name))
    }

    fn strip(&self, exchange: &mut Exchange) {
        self.cookie.strip(exchange);
        self.login_cookies.strip(exchange);
    }

    /// It is the gateway's own.
    fn always_strips(&self) -> bool {
        true
    }

    /// Only for a browser that shows a page: a script could do nothing with another site's form.
    fn invite(&self, exchange: &mut Exchange, ports: &dyn Ports) -> Option<Result<Response, Fault>> {
        shows_a_page(exchange).then(|| self.sent_to_log_in(exchange, ports))
    }

    fn serve<'a>(
        &'a self,
        step: LoginStep,
        exchange: &'a mut Exchange,
        ports: &'a dyn Ports,
    ) -> Hook<'a, Result<Flow<()>, Fault>> {
        match step {
            LoginStep::Logout => Hook::Ready(Ok(Flow::Reply(self.logged_out(exchange)))),
            LoginStep::Callback => {
                Hook::Pending(Box::pin(async move { self.called_back(exchange, ports).await.map(Flow::Reply) }))
            }
        }
    }
}

/// What every ID token of a provider must be (OpenID Connect Core §3.1.3.7).
fn rules_of(configured: &model::Oidc) -> model::Jwt {
    model::Jwt {
        issuer: Some(configured.issuer.clone()),
        audience: vec![configured.client_id.clone()],
        algorithms: model::JwtAlgorithm::SIGNATURES.to_vec(),
        keys: model::JwtKeys::Discovery(configured.issuer.clone()),
        leeway: LEEWAY,
        required_claims: vec!["sub".to_owned(), "iat".to_owned()],
        typ: None,
        // It comes from the provider, and never from a request.
        place: bearer::IN_AUTHORIZATION.clone(),
        subject_claim: "sub".to_owned(),
        scopes_claim: Vec::new(),
        groups_claim: configured.groups_claim.clone(),
        refresh: configured.timeout,
        timeout: configured.timeout,
    }
}

fn seconds(ports: &dyn Ports) -> u64 {
    ports.unix_time(ports.now()).as_secs()
}

/// RFC 6749 §5.2: the word alone, and only its plain characters.
fn error_word(body: &[u8]) -> String {
    let object: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
    let word = object.as_ref().and_then(|object| object.get("error")?.as_str()).unwrap_or("no");
    word.chars().filter(|c| c.is_ascii_graphic()).take(100).collect()
}

/// A document for a window, and no picture, script or fetch.
fn shows_a_page(exchange: &Exchange) -> bool {
    let headers = &exchange.request.headers;
    let is_page = headers.get(b"sec-fetch-mode").is_none_or(|mode| mode == b"navigate")
        && headers.get(b"sec-fetch-dest").is_none_or(|dest| dest == b"document");
    let takes_html =
        headers.get(b"accept").is_some_and(|accept| accept.windows(9).any(|part| part.eq_ignore_ascii_case(b"text/html")));
    exchange.request.method == Method::Get && exchange.request.upgrade.is_none() && is_page && takes_html
}

/// Whether the client's own connection is encrypted: this one, or, if a trusted proxy says so, that to it.
fn is_secure(exchange: &Exchange) -> bool {
    let told = exchange.request.headers.get(b"x-forwarded-proto").filter(|_| exchange.forwarded.trusted);
    match told {
        Some(proto) => proto.eq_ignore_ascii_case(b"https"),
        None => exchange.scheme == Scheme::Https,
    }
}

/// As browsers say it: without the port that is usual (RFC 6454 §6.2).
fn own_origin(exchange: &Exchange) -> String {
    let secure = is_secure(exchange);
    let authority = String::from_utf8_lossy(exchange.request.authority()).to_ascii_lowercase();
    let (scheme, usual) = if secure { ("https", ":443") } else { ("http", ":80") };
    format!("{scheme}://{}", authority.strip_suffix(usual).unwrap_or(&authority))
}

/// The API's base path, which stands before the route's in the request.
fn base_path(exchange: &Exchange) -> String {
    let (path, local) = (exchange.request.path(), exchange.local_path());
    let base = path.len().saturating_sub(local.len());
    String::from_utf8_lossy(&path[..base]).into_owned()
}
