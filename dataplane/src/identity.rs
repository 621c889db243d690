//! What a document says about identity, compiled: authorizers by name, consumers with their keys hashed, and what each route demands.

use crate::compile::State;
use maitred_core::identity::{Consumer, ConsumerSet, KeyCell, KeyHasher, KeySet, KeySource, Roll};
use maitred_core::quota::Accounts;
use maitred_model::{
    Api, Authenticate, Authorize, Authorizer, AuthorizerKind, Diagnostic, Diagnostics, Document, Integration, Jwt, JwtKeys,
    LimitBy, Policies, Route, Setting, SignatureKey, Span, Spanned,
};
use maitred_policies::Authentication;
use maitred_policies::authenticate::http_signature::read_key;
use maitred_policies::authenticate::{Choice, Failures, Login, Making, Problem, make};
use maitred_policies::authorize::condition::{self, Condition};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// How often a provider's keys and its document are fetched anew.
const PROVIDER_REFRESH: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(crate) struct Identity {
    choices: HashMap<String, Choice>,
    /// Where there is anybody to ask.
    failures: Option<Failures>,
    /// Whose credentials are the gateway's own, on whatever route they come.
    sessions: Box<[Arc<dyn maitred_policies::authenticate::Authorizer>]>,
    /// There are plans that consumers can have.
    has_plans: bool,
    /// What is to be fetched, and how often.
    pub keys: Vec<(Arc<KeyCell>, Duration)>,
}

impl Identity {
    /// `asked`: by authorizer, the index of the upstream that it asks.
    pub fn compile(
        document: &Document,
        state: &State,
        secret: &[u8],
        asked: &HashMap<&str, u32>,
        diagnostics: &mut Diagnostics,
    ) -> Identity {
        let roll = Arc::new(Roll {
            configured: consumers(document, secret, &state.consumers.accounts),
            stored: state.consumers.clone(),
        });
        let listeners = document.listen.iter().filter_map(|listener| listener.tls.as_ref());
        let client_ca: Vec<&[u8]> = listeners.filter_map(|tls| tls.client_ca.as_ref()).map(|ca| &ca.bytes[..]).collect();
        let mut identity = Identity { has_plans: !document.plans.is_empty(), ..Identity::default() };
        for (name, configured) in &document.authorizers {
            let keys = match &configured.kind {
                AuthorizerKind::ApiKey(_)
                | AuthorizerKind::Basic(_)
                | AuthorizerKind::ClientCertificate(_)
                | AuthorizerKind::HttpSignature(_)
                | AuthorizerKind::AwsSignature(_)
                | AuthorizerKind::Introspection(_)
                | AuthorizerKind::Forward(_)
                | AuthorizerKind::Function(_) => None,
                AuthorizerKind::Jwt(jwt) => identity.keys(jwt, configured, state, diagnostics),
                AuthorizerKind::Oidc(oidc) => {
                    let cell = state.keys(KeySource::Discovery(oidc.issuer.as_str().into()));
                    identity.keys.push((cell.clone(), PROVIDER_REFRESH));
                    Some(cell)
                }
            };
            let (number, lasting) = (state.number(), lasting(name, configured, document));
            let making = Making {
                secret,
                roll: &roll,
                compute: &state.compute,
                number,
                lasting,
                keys,
                upstream: asked.get(name.as_str()).copied(),
                function: configured.kind.runs().and_then(|kind| index_of(document, &kind.function)),
                region: crate::functions::region(state),
                fetch: &state.fetch,
                client_ca: &client_ca,
                seen: &state.seen,
            };
            match make(name, configured, &making) {
                Ok(Some(authorizer)) => {
                    let series = state.metrics.authorizer(&name.as_str().into());
                    identity.choices.insert(name.clone(), Choice { authorizer, strip: configured.strip, series });
                }
                Ok(None) => {}
                Err(Problem { span, message, hint }) => {
                    // What it runs is no file of its own.
                    let code = if configured.kind.runs().is_some() { "bad-expression" } else { "bad-file" };
                    diagnostics.push(Diagnostic::error(code, span, message).hint(hint));
                }
            }
        }
        let count = || state.metrics.failed_credentials.clone();
        let failures = || Failures::new(state.failures(), count(), &document.limits.failed_credentials);
        let own = identity.choices.values().map(|choice| &choice.authorizer).filter(|authorizer| authorizer.always_strips());
        identity.sessions = own.cloned().collect();
        identity.failures = (!identity.choices.is_empty()).then(failures);
        identity
    }

    /// The cell of an issuer's keys. `None`: it was complained about.
    fn keys(
        &mut self,
        jwt: &Jwt,
        configured: &Spanned<Authorizer>,
        state: &State,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<KeyCell>> {
        let source = match &jwt.keys {
            JwtKeys::Url(url) => KeySource::Url(url.as_str().into()),
            JwtKeys::Discovery(issuer) => KeySource::Discovery(issuer.as_str().into()),
            JwtKeys::Secret(secret) => {
                let set = KeySet::shared(secret.expose().as_bytes(), &jwt.algorithms);
                return Some(Arc::new(KeyCell::fixed(set, state.clock.now())));
            }
            JwtKeys::File { path, bytes } => {
                let set = KeySet::parse(bytes).map_err(|why| {
                    let message = format!("`{}` has no keys: {why}", path.display());
                    let hint = "it is to be a JWK set, such as `{ \"keys\": [{ \"kty\": \"EC\", … }] }`";
                    diagnostics.push(Diagnostic::error("bad-keys", configured.span, message).hint(hint));
                });
                let set = set.ok()?;
                for remark in set.remarks() {
                    let message = format!("`{}`: {remark}", path.display());
                    diagnostics.push(Diagnostic::warning("odd-key", configured.span, message));
                }
                return Some(Arc::new(KeyCell::fixed(set, state.clock.now())));
            }
        };
        let cell = state.keys(source);
        self.keys.push((cell.clone(), jwt.refresh));
        Some(cell)
    }

    pub fn choice(&self, name: &str) -> Option<&Choice> {
        self.choices.get(name)
    }

    /// Who decides on a route, where anybody does. `check` saw to it that every name is known.
    pub fn authentication(&self, api: &Api, route: &Route) -> Option<Authentication> {
        if let Integration::Login(name, step) = &route.integration.value {
            let authorizer = self.choices.get(name)?.authorizer.clone();
            return Some(Authentication::Login(Login { authorizer, step: *step, failures: self.failures.clone() }));
        }
        let sessions = self.sessions.clone();
        match decides(api, route).unwrap_or(&Authenticate::Open) {
            Authenticate::Open => (!sessions.is_empty()).then_some(Authentication::Open { sessions }),
            Authenticate::Any { authorizers, anonymous } => {
                let choices = authorizers.iter().filter_map(|name| self.choices.get(&name.value)).cloned().collect();
                let (anonymous, failures) = (*anonymous, self.failures.clone());
                Some(Authentication::Demanded { choices, anonymous, failures, sessions, has_plans: self.has_plans })
            }
        }
    }
}

fn index_of(document: &Document, function: &str) -> Option<u32> {
    document.functions.get_index_of(function).map(|index| index as u32)
}

/// A route's own `authenticate` replaces that of its API.
pub(crate) fn decides<'a>(api: &'a Api, route: &'a Route) -> Option<&'a Authenticate> {
    route.policies.authenticate.as_ref().or(api.policies.authenticate.as_ref()).map(|configured| &configured.value)
}

/// Whether it is asked on a route who comes in.
pub(crate) fn asks(api: &Api, route: &Route) -> bool {
    decides(api, route).is_some_and(|decides| *decides != Authenticate::Open)
}

/// What only the parts' own rules can tell of authorizers: whether a file holds the key that its algorithm wants.
pub(crate) fn check(document: &Document, diagnostics: &mut Diagnostics) {
    for authorizer in document.authorizers.values() {
        let AuthorizerKind::HttpSignature(signature) = &authorizer.value.kind else { continue };
        for key in signature.keys.values() {
            let (SignatureKey::Public(algorithm, file), Err(why)) = (&key.value, read_key(&key.value)) else { continue };
            let message = format!("`{}` is no key for `{}`: {why}", file.value.path.display(), algorithm.name());
            let hint = "see what it is with `openssl pkey -pubin -text -in FILE`";
            diagnostics.push(Diagnostic::error("bad-pem", file.span, message).hint(hint));
        }
    }
}

/// A number that an authorizer keeps through reloads for as long as it would find out the same: what was hashed at some cost need not be hashed
/// again because a route has changed. Never one that `State` counts.
fn lasting(name: &str, configured: &maitred_model::Authorizer, document: &Document) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, configured.kind.name(), configured.kind.hidden()).hash(&mut hasher);
    for (consumer, configured) in &document.consumers {
        (consumer, &configured.groups, configured.plan.as_ref().map(|plan| &plan.value)).hash(&mut hasher);
        for identity in &configured.identities {
            (&identity.authorizer.value, &identity.subject).hash(&mut hasher);
        }
    }
    hasher.finish() | 1 << 63
}

/// What API and route demand of whoever comes in: it adds up. A route that is open makes no demands on anybody.
pub(crate) fn demands<'a>(api: &'a Api, route: &'a Route) -> Vec<&'a Authorize> {
    if route.is_login() {
        return Vec::new();
    }
    if route.policies.authenticate.as_ref().is_some_and(|own| own.value == Authenticate::Open) {
        return Vec::new();
    }
    let inherited = match (&api.policies.authorize, &route.policies.authorize) {
        (Some(Setting::Some(inherited)), None | Some(Setting::Some(_))) => Some(&inherited.value),
        (_, Some(Setting::None)) | (None | Some(Setting::None), _) => None,
    };
    let own = match &route.policies.authorize {
        Some(Setting::Some(own)) => Some(&own.value),
        Some(Setting::None) | None => None,
    };
    inherited.into_iter().chain(own).collect()
}

fn policies(document: &Document) -> impl Iterator<Item = &Policies> {
    let apis = document.apis.values().map(|api| &api.value);
    apis.flat_map(|api| std::iter::once(&api.policies).chain(api.routes.iter().map(|route| &route.value.policies)))
}

/// Every condition of a document, by what is written. Those that cannot be read are complained about, each where it stands.
pub(crate) fn conditions(document: &Document, diagnostics: &mut Diagnostics) -> HashMap<String, Arc<Condition>> {
    let mut compiled = HashMap::new();
    for authorize in policies(document).filter_map(|policies| policies.authorize.as_ref()) {
        let Setting::Some(rules) = authorize else { continue };
        for source in &rules.condition {
            if compiled.contains_key(&source.value) {
                continue;
            }
            match Condition::compile(&source.value) {
                Ok(condition) => {
                    compiled.insert(source.value.clone(), Arc::new(condition));
                }
                Err(problem) => diagnostics.push(unreadable(source, problem)),
            }
        }
    }
    compiled
}

/// The same of expressions that are keys of limits.
pub(crate) fn keys(document: &Document, diagnostics: &mut Diagnostics) -> HashMap<String, Arc<Condition>> {
    let mut compiled = HashMap::new();
    for limits in policies(document).filter_map(|policies| policies.rate_limit.as_ref()) {
        let Setting::Some(limits) = limits else { continue };
        for by in limits.iter().flat_map(|limit| &limit.by) {
            let LimitBy::Expression(source) = &by.value else { continue };
            if compiled.contains_key(source) {
                continue;
            }
            match Condition::compile_key(source) {
                Ok(key) => {
                    compiled.insert(source.clone(), Arc::new(key));
                }
                Err(problem) => {
                    // What is said of conditions holds for keys.
                    let message = problem.placed(source).replace("the condition", "the expression");
                    diagnostics.push(Diagnostic::error("bad-expression", by.span, message).hint(problem.hint));
                }
            }
        }
    }
    compiled
}

/// Points at the part that is wrong, where the file has the condition as it reads; else it says where in the condition that is.
fn unreadable(source: &Spanned<String>, problem: condition::Problem) -> Diagnostic {
    let Spanned { value: text, span } = source;
    let is_plain = (span.end - span.start) as usize == text.len();
    let (span, message) = match &problem.at {
        Some(at) if is_plain => (Span::new(span.file, span.start + at.start as u32, span.start + at.end as u32), problem.message),
        Some(_) | None => (*span, problem.placed(text)),
    };
    Diagnostic::error("bad-condition", span, message).hint(problem.hint)
}

/// The consumers of a document. That no key and no identity is anybody else's, `check` saw to.
fn consumers(document: &Document, secret: &[u8], accounts: &Accounts) -> ConsumerSet {
    let hasher = KeyHasher::new(secret);
    let mut set = ConsumerSet::new(vec![hasher.clone()]);
    for (name, configured) in &document.consumers {
        let consumer = Arc::new(Consumer {
            name: name.as_str().into(),
            plan: configured.plan.as_ref().map(|plan| plan.as_str().into()),
            account: accounts.of(name),
            groups: configured.groups.iter().map(|group| group.as_str().into()).collect(),
            disabled: false,
        });
        let _ = set.add(&consumer);
        for key in &configured.api_keys {
            let _ = set.add_key(hasher.hash(key.value.expose().as_bytes()), &consumer);
        }
        for identity in &configured.identities {
            let _ = set.add_identity(&identity.authorizer.value, &identity.subject, &consumer);
        }
    }
    set
}
