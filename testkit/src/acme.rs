//! An authority that speaks ACME (RFC 8555) and is strict about it: nonces, keys, URLs and signatures are checked, and challenges are
//! validated by really connecting to the gateway. What a client does that the RFC forbids is remembered as a complaint.

mod jose;
mod validate;

use crate::backend::{Backend, Conn, Received};
use crate::door::Door;
use crate::tls::{Authority, ServerTls};
use crate::wait::PATIENCE;
use jose::{Jws, encode, sha256};
use maitred_core::Clock;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

const ERROR: &str = "urn:ietf:params:acme:error:";

/// An ACME server on a port of its own, with a root that it issues below. Dropped, it closes everything.
pub struct AcmeServer {
    backend: Backend,
    shared: Arc<Shared>,
}

struct Shared {
    /// Where it is; known once it listens.
    address: Mutex<Option<SocketAddr>>,
    root: Authority,
    intermediate: Authority,
    clock: Clock,
    state: Mutex<State>,
    /// Where the domains lead is known.
    found: Condvar,
}

/// What is done instead of taking an order.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    /// What follows `urn:ietf:params:acme:error:`.
    pub kind: &'static str,
    /// The value of Retry-After.
    pub retry_after: Option<String>,
}

/// A look at what a domain leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// `http-01` or `tls-alpn-01`.
    pub challenge: &'static str,
    pub domain: String,
    pub result: Result<(), String>,
}

struct State {
    /// Where port 80 and port 443 of every domain are.
    places: Option<(SocketAddr, SocketAddr)>,
    offers: Vec<&'static str>,
    lifetime: Duration,
    refusal: Option<Refusal>,
    bad_nonces: usize,
    window: Option<(i64, i64)>,
    serial: u64,
    nonces: HashSet<String>,
    accounts: Vec<Account>,
    orders: Vec<Order>,
    authorizations: Vec<Authorization>,
    validations: Vec<Validation>,
    missed: Vec<String>,
    complaints: Vec<String>,
    replaced: Vec<String>,
}

struct Account {
    jwk: Value,
    contact: Value,
}

struct Order {
    account: usize,
    domains: Vec<String>,
    authorizations: Vec<usize>,
    replaces: Option<Value>,
    chain: Option<String>,
}

struct Authorization {
    account: usize,
    domain: String,
    token: String,
    status: &'static str,
    error: Option<(usize, Value)>,
}

/// What is answered: status, more headers as lines, body.
type Answer = (u16, String, String);

impl AcmeServer {
    #[expect(clippy::new_without_default, reason = "it listens, which a default should not")]
    pub fn new() -> AcmeServer {
        let root = Authority::new("the root of a test");
        let intermediate = root.below("the intermediate of a test");
        let state = State {
            places: None,
            offers: vec!["dns-01", "http-01", "tls-alpn-01"],
            lifetime: Duration::from_secs(90 * 24 * 3600),
            refusal: None,
            bad_nonces: 0,
            window: None,
            serial: 0,
            nonces: HashSet::new(),
            accounts: Vec::new(),
            orders: Vec::new(),
            authorizations: Vec::new(),
            validations: Vec::new(),
            missed: Vec::new(),
            complaints: Vec::new(),
            replaced: Vec::new(),
        };
        let tls = ServerTls::new(&root.server(&["127.0.0.1"]));
        let shared = Arc::new(Shared {
            address: Mutex::default(),
            root,
            intermediate,
            clock: Clock::default(),
            state: Mutex::new(state),
            found: Condvar::new(),
        });
        let serving = shared.clone();
        let backend = Backend::behind(Door::tls(tls), move |request, conn| serving.serve(request, conn));
        *shared.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(backend.address());
        AcmeServer { backend, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.backend.address()
    }

    pub fn directory(&self) -> String {
        format!("https://{}/directory", self.address())
    }

    /// Who vouches for its own TLS, and for all that it issues.
    pub fn root(&self) -> &Authority {
        &self.shared.root
    }

    /// Where every domain leads: ports 80 and 443. Until it is told, validations wait.
    pub fn lead(&self, http: SocketAddr, tls: SocketAddr) {
        self.state().places = Some((http, tls));
        self.shared.found.notify_all();
    }

    /// The challenges that it offers, in this order.
    pub fn offer(&self, challenges: &[&'static str]) {
        self.state().offers = challenges.to_vec();
    }

    /// How long what it issues from now on is valid.
    pub fn issue_for(&self, lifetime: Duration) {
        self.state().lifetime = lifetime;
    }

    /// Takes no order any more; `None`: takes them again.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.state().refusal = refusal;
    }

    /// Of the next requests so many have a nonce that is not good any more.
    pub fn forget_nonces(&self, count: usize) {
        self.state().bad_nonces = count;
    }

    /// Finds nobody behind this domain.
    pub fn miss(&self, domain: &str) {
        self.state().missed.push(domain.to_owned());
    }

    /// Says when it would like renewals, in seconds since 1970 (RFC 9773).
    pub fn suggest(&self, start: i64, end: i64) {
        self.state().window = Some((start, end));
    }

    /// Its clock goes forward.
    pub fn turn(&self, by: Duration) {
        self.shared.clock.turn(by);
    }

    /// Orders begun, refused ones not counted.
    pub fn orders(&self) -> usize {
        self.state().orders.len()
    }

    pub fn issued(&self) -> usize {
        self.state().orders.iter().filter(|order| order.chain.is_some()).count()
    }

    pub fn accounts(&self) -> usize {
        self.state().accounts.len()
    }

    /// Where an account's holder is to be written to.
    pub fn contact(&self, account: usize) -> Value {
        self.state().accounts[account].contact.clone()
    }

    /// Knows no account any more, as a staging server after a cleanup.
    pub fn forget_accounts(&self) {
        for account in &mut self.state().accounts {
            account.jwk = Value::Null;
        }
    }

    /// The token of the last authorization.
    #[track_caller]
    pub fn token(&self) -> String {
        self.state().authorizations.last().expect("an authorization").token.clone()
    }

    pub fn validations(&self) -> Vec<Validation> {
        self.state().validations.clone()
    }

    /// What orders were said to replace.
    pub fn replaced(&self) -> Vec<String> {
        self.state().replaced.clone()
    }

    /// Requests to this path so far.
    pub fn asked(&self, path: &str) -> usize {
        self.backend.requests().iter().filter(|request| request.target == path).count()
    }

    /// What clients did that they may not.
    pub fn complaints(&self) -> Vec<String> {
        self.state().complaints.iter().cloned().chain(self.backend.complaints()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, path: &str) -> String {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner).expect("it listens");
        format!("https://{address}{path}")
    }

    fn now(&self) -> i64 {
        self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64
    }

    fn serve(self: &Arc<Self>, request: &Received, conn: &mut Conn) {
        let body = conn.body();
        let (status, headers, body) = match (request.method.as_str(), request.target.as_str()) {
            ("GET", "/directory") => (200, String::new(), self.directory()),
            ("HEAD", "/new-nonce") => (200, String::new(), String::new()),
            ("GET", target) if target.starts_with("/renewal-info/") => self.renewal_info(),
            ("POST", target) => self.post(request, target, &body).unwrap_or_else(|refused| refused),
            (method, target) => self.wrong(format!("{method} {target}")),
        };
        let nonce = self.state().nonce();
        conn.answer(status, &format!("{headers}replay-nonce: {nonce}\r\ncache-control: no-store\r\n"), body);
    }

    fn directory(&self) -> String {
        let mut directory = json!({
            "newNonce": self.url("/new-nonce"),
            "newAccount": self.url("/new-account"),
            "newOrder": self.url("/new-order"),
            "revokeCert": self.url("/revoke"),
            "keyChange": self.url("/key-change"),
            "meta": { "termsOfService": self.url("/terms") },
        });
        if self.state().window.is_some() {
            directory["renewalInfo"] = self.url("/renewal-info").into();
        }
        directory.to_string()
    }

    fn renewal_info(&self) -> Answer {
        let Some((start, end)) = self.state().window else { return self.wrong("nothing is suggested".to_owned()) };
        let time = |seconds: i64| rfc3339(seconds);
        let body = json!({ "suggestedWindow": { "start": time(start), "end": time(end) } });
        (200, "retry-after: 21600\r\n".to_owned(), body.to_string())
    }

    /// Whatever is signed.
    fn post(self: &Arc<Self>, request: &Received, target: &str, body: &[u8]) -> Result<Answer, Answer> {
        let wrong = |why: String| self.wrong(format!("{target}: {why}"));
        if request.header("content-type") != Some("application/jose+json") {
            return Err(wrong("not application/jose+json".to_owned()));
        }
        let jws = Jws::read(body).map_err(wrong)?;
        if jws.header["url"] != json!(self.url(target)) {
            return Err(wrong(format!("signed for {}", jws.header["url"])));
        }
        self.use_nonce(&jws)?;
        if target == "/new-account" {
            return self.new_account(&jws);
        }
        let account = self.account(&jws)?;
        let parts: Vec<&str> = target.trim_start_matches('/').split('/').collect();
        let number = parts.get(1).and_then(|text| text.parse::<usize>().ok());
        match (parts[0], number, parts.get(2)) {
            ("new-order", None, None) => self.new_order(account, &jws),
            ("account", Some(number), None) if number == account => Ok(self.update_account(account, &jws)),
            ("order", Some(number), None) => self.own_order(number, account).map(|()| self.order(number)),
            ("order", Some(number), Some(&"finalize")) => {
                self.own_order(number, account)?;
                self.finalize(number, &jws)
            }
            ("authorization", Some(number), None) => Ok((200, String::new(), self.authorization(number).to_string())),
            ("challenge", Some(number), Some(kind)) => self.challenge(number, kind, account),
            ("certificate", Some(number), None) => {
                self.own_order(number, account)?;
                let chain = self.state().orders[number].chain.clone();
                chain.map(|chain| (200, String::new(), chain)).ok_or_else(|| self.wrong("nothing was issued".to_owned()))
            }
            _ => Err(self.wrong(format!("POST {target}"))),
        }
    }

    /// A request that no good client sends.
    fn wrong(&self, what: String) -> Answer {
        let answer = problem(400, "malformed", &what, None);
        self.state().complaints.push(what);
        answer
    }

    fn use_nonce(&self, jws: &Jws) -> Result<(), Answer> {
        let mut state = self.state();
        let nonce = jws.header["nonce"].as_str().unwrap_or_default();
        let known = state.nonces.remove(nonce);
        if state.bad_nonces > 0 {
            state.bad_nonces -= 1;
            return Err(problem(400, "badNonce", "the nonce is too old", None));
        }
        if !known {
            state.complaints.push(format!("a nonce that was never given, or twice: {nonce}"));
            return Err(problem(400, "badNonce", "no such nonce", None));
        }
        Ok(())
    }

    fn new_account(&self, jws: &Jws) -> Result<Answer, Answer> {
        let key = jws.header["jwk"].clone();
        jws.verify(&key).map_err(|why| self.wrong(why))?;
        let mut state = self.state();
        if jws.payload["termsOfServiceAgreed"] != json!(true) {
            return Err(problem(403, "userActionRequired", "the terms are not agreed to", None));
        }
        let known = state.accounts.iter().position(|account| account.jwk == key);
        let (status, number) = match known {
            Some(number) => (200, number),
            None => {
                state.accounts.push(Account { jwk: key, contact: jws.payload["contact"].clone() });
                (201, state.accounts.len() - 1)
            }
        };
        drop(state);
        let location = format!("location: {}\r\n", self.url(&format!("/account/{number}")));
        Ok((status, location, json!({ "status": "valid" }).to_string()))
    }

    fn account(&self, jws: &Jws) -> Result<usize, Answer> {
        let kid = jws.header["kid"].as_str().unwrap_or_default();
        let prefix = self.url("/account/");
        let number = kid.strip_prefix(&prefix).and_then(|number| number.parse::<usize>().ok());
        let key = number.and_then(|number| self.state().accounts.get(number).map(|account| account.jwk.clone()));
        match (number, key) {
            (Some(number), Some(key)) if !key.is_null() => {
                jws.verify(&key).map_err(|why| self.wrong(why))?;
                Ok(number)
            }
            (Some(_), Some(_)) => Err(problem(400, "accountDoesNotExist", "no such account", None)),
            _ => Err(self.wrong(format!("the kid {kid}"))),
        }
    }

    fn update_account(&self, number: usize, jws: &Jws) -> Answer {
        let account = &mut self.state().accounts[number];
        if !jws.payload["contact"].is_null() {
            account.contact = jws.payload["contact"].clone();
        }
        (200, String::new(), json!({ "status": "valid", "contact": account.contact }).to_string())
    }

    fn new_order(&self, account: usize, jws: &Jws) -> Result<Answer, Answer> {
        let mut state = self.state();
        if let Some(Refusal { status, kind, retry_after }) = state.refusal.clone() {
            return Err(problem(status, kind, "no orders now", retry_after.as_deref()));
        }
        let named =
            |identifier: &Value| (identifier["type"] == "dns").then(|| identifier["value"].as_str().map(str::to_owned)).flatten();
        let identifiers = jws.payload["identifiers"].as_array().cloned().unwrap_or_default();
        let domains: Option<Vec<String>> = identifiers.iter().map(named).collect();
        let Some(domains) = domains.filter(|domains| !domains.is_empty()) else {
            drop(state);
            return Err(self.wrong(format!("an order for {identifiers:?}")));
        };
        let mut authorizations = Vec::new();
        for domain in &domains {
            let token = state.secret();
            authorizations.push(state.authorizations.len());
            let domain = domain.clone();
            state.authorizations.push(Authorization { account, domain, token, status: "pending", error: None });
        }
        let replaces = jws.payload.get("replaces").cloned();
        state.replaced.extend(replaces.as_ref().and_then(Value::as_str).map(str::to_owned));
        state.orders.push(Order { account, domains, authorizations, replaces, chain: None });
        let number = state.orders.len() - 1;
        drop(state);
        let (_, _, body) = self.order(number);
        Ok((201, format!("location: {}\r\n", self.url(&format!("/order/{number}"))), body))
    }

    fn own_order(&self, number: usize, account: usize) -> Result<(), Answer> {
        let owned = self.state().orders.get(number).is_some_and(|order| order.account == account);
        if owned { Ok(()) } else { Err(self.wrong(format!("order {number} of another account"))) }
    }

    fn order(&self, number: usize) -> Answer {
        let state = self.state();
        let order = &state.orders[number];
        let statuses: Vec<&str> = order.authorizations.iter().map(|number| state.authorizations[*number].status).collect();
        let status = match () {
            () if order.chain.is_some() => "valid",
            () if statuses.contains(&"invalid") => "invalid",
            () if statuses.iter().all(|status| *status == "valid") => "ready",
            () => "pending",
        };
        let mut body = json!({
            "status": status,
            "identifiers": order.domains.iter().map(|domain| json!({ "type": "dns", "value": domain })).collect::<Vec<_>>(),
            "authorizations":
                order.authorizations.iter().map(|number| self.url(&format!("/authorization/{number}"))).collect::<Vec<_>>(),
            "finalize": self.url(&format!("/order/{number}/finalize")),
        });
        if let Some(replaces) = &order.replaces {
            body["replaces"] = replaces.clone();
        }
        if order.chain.is_some() {
            body["certificate"] = self.url(&format!("/certificate/{number}")).into();
        }
        (200, String::new(), body.to_string())
    }

    fn authorization(&self, number: usize) -> Value {
        let state = self.state();
        let authorization = &state.authorizations[number];
        let challenge = |(index, kind): (usize, &&str)| {
            let mut challenge = json!({
                "type": kind, "url": self.url(&format!("/challenge/{number}/{kind}")), "token": authorization.token,
                "status": authorization.status,
            });
            if let Some((failed, error)) = &authorization.error
                && *failed == index
            {
                challenge["error"] = error.clone();
            }
            challenge
        };
        json!({
            "status": authorization.status,
            "identifier": { "type": "dns", "value": authorization.domain },
            "challenges": state.offers.iter().enumerate().map(challenge).collect::<Vec<_>>(),
        })
    }

    /// The client says that it is ready: off to see.
    fn challenge(self: &Arc<Self>, number: usize, kind: &str, account: usize) -> Result<Answer, Answer> {
        let state = self.state();
        let offered = state.offers.iter().position(|offer| *offer == kind);
        let known = state.authorizations.get(number).filter(|authorization| authorization.account == account);
        let (Some(index), Some(authorization)) = (offered, known) else {
            drop(state);
            return Err(self.wrong(format!("challenge {kind} of authorization {number}")));
        };
        let challenge = state.offers[index];
        let (domain, token) = (authorization.domain.clone(), authorization.token.clone());
        let proof = format!("{token}.{}", jose::thumbprint(&state.accounts[account].jwk));
        drop(state);
        let body = json!({ "type": kind, "url": self.url(&format!("/challenge/{number}/{kind}")), "token": token, "status": "processing" });
        let shared = self.clone();
        std::thread::spawn(move || {
            let result = shared.look(challenge, &domain, &token, &proof);
            let mut state = shared.state();
            state.authorizations[number].status = if result.is_ok() { "valid" } else { "invalid" };
            if let Err(why) = &result {
                let error = json!({ "type": format!("{ERROR}unauthorized"), "detail": why, "status": 403 });
                state.authorizations[number].error = Some((index, error));
            }
            state.validations.push(Validation { challenge, domain, result });
        });
        Ok((200, String::new(), body.to_string()))
    }

    fn look(&self, challenge: &str, domain: &str, token: &str, proof: &str) -> Result<(), String> {
        let unknown = |state: &mut State| state.places.is_none();
        let waited = self.found.wait_timeout_while(self.state(), PATIENCE, unknown);
        let places = waited.unwrap_or_else(PoisonError::into_inner).0.places;
        let (http, tls) = places.ok_or("nobody said where the domains lead")?;
        if self.state().missed.iter().any(|missed| missed == domain) {
            return Err("nobody is there".to_owned());
        }
        match challenge {
            "http-01" => validate::http(http, domain, token, proof),
            "tls-alpn-01" => validate::tls(tls, domain, &sha256(proof.as_bytes())),
            other => Err(format!("{other} is not spoken here")),
        }
    }

    fn finalize(&self, number: usize, jws: &Jws) -> Result<Answer, Answer> {
        let (_, _, order) = self.order(number);
        if !order.contains("\"status\":\"ready\"") {
            return Err(problem(403, "orderNotReady", "not all is validated", None));
        }
        let request = jose::decode(jws.payload["csr"].as_str().unwrap_or_default()).unwrap_or_default();
        let (now, domains) = (self.now(), self.state().orders[number].domains.clone());
        let lifetime = self.state().lifetime.as_secs() as i64;
        // A little before now, as clocks differ.
        let life = (now - 3600, now - 3600 + lifetime);
        let leaf = self.intermediate.issue(&request, &domains, life).map_err(|why| self.wrong(why))?;
        self.state().orders[number].chain = Some(leaf + &self.intermediate.pem());
        Ok(self.order(number))
    }
}

impl State {
    /// What nobody can guess, as far as a test is concerned.
    fn secret(&mut self) -> String {
        self.serial += 1;
        encode(&sha256(format!("{} {:p}", self.serial, self).as_bytes()))
    }

    fn nonce(&mut self) -> String {
        let nonce = self.secret();
        self.nonces.insert(nonce.clone());
        nonce
    }
}

fn problem(status: u16, kind: &str, detail: &str, retry_after: Option<&str>) -> Answer {
    let retry_after = retry_after.map(|value| format!("retry-after: {value}\r\n")).unwrap_or_default();
    let body = json!({ "type": format!("{ERROR}{kind}"), "detail": detail, "status": status });
    (status, format!("content-type: application/problem+json\r\n{retry_after}"), body.to_string())
}

/// `2026-05-01T00:00:00Z`, by the civil calendar (Hinnant's algorithm).
fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        for (seconds, text) in
            [(0, "1970-01-01T00:00:00Z"), (951_782_400, "2000-02-29T00:00:00Z"), (1_777_593_599, "2026-04-30T23:59:59Z")]
        {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
