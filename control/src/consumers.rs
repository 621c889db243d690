//! Registered callers as an administrator sees them: those of the configuration, which nobody changes here, and those of the store. Knows
//! no keys: the store shows each once, when it is made.

#[cfg(test)]
mod tests;

use crate::store::{BroughtKey, Change, Changed, Name, NotChanged, Store, StoredConsumer, StoredKey};
use crate::times::of_millis;
use maitred_model::{Authenticate, AuthorizerKind, Document, Secret, Spanned, suggest};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Names listed where none is near to what was asked for.
const LISTED_MAX: usize = 20;

/// With a key that opens nothing.
const NOBODY_ASKS: &str = "no route lets anybody in by an API key, and so this one opens nothing: name an authorizer of the kind `api_key` in \
                           `authenticate`, or add the consumer with an identity and without a key";

const SHORT: &str =
    "a key of fewer than 16 bytes can be guessed: give it a new one with `maitred consumer rotate-key` and the consumer's name";
/// As `check` warns of keys in the configuration.
const KEY_BYTES_MIN: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    File,
    Store,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Source::File => "file",
            Source::Store => "store",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerView {
    pub name: String,
    pub source: Source,
    pub groups: Vec<String>,
    pub plan: Option<String>,
    /// The configuration has no such plan.
    pub planless: bool,
    pub disabled: bool,
    /// One of the same name stands in the configuration, and counts.
    pub hidden: bool,
    /// Milliseconds since 1970, as all times here; the configuration does not say.
    pub created: Option<i64>,
    pub changed: Option<i64>,
    pub keys: Vec<KeyView>,
    pub identities: Vec<Name>,
}

/// A key; of those of the configuration nothing is known but that they are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyView {
    pub id: Option<String>,
    pub prefix: Option<String>,
    pub created: Option<i64>,
    pub ends: Option<i64>,
    /// It was hashed with a secret that is not there any more, and opens nothing.
    pub unusable: bool,
}

/// For the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsumerCounts {
    pub file: usize,
    pub store: usize,
    pub store_errors: u64,
}

impl ConsumerCounts {
    pub fn of(document: &Document, store: &Store) -> ConsumerCounts {
        ConsumerCounts { file: document.consumers.len(), store: store.count(), store_errors: store.errors() }
    }
}

/// The configuration's in their order, and the store's by name.
pub fn all(document: &Document, store: &Store) -> Vec<ConsumerView> {
    let configured = document.consumers.iter().map(|(name, consumer)| of_file(name, consumer));
    configured.chain(store.consumers().into_iter().map(|stored| of_store(document, store, stored))).collect()
}

pub fn one(document: &Document, store: &Store, name: &str) -> Result<ConsumerView, NotChanged> {
    if let Some(consumer) = document.consumers.get(name) {
        return Ok(of_file(name, consumer));
    }
    store.consumer(name).map(|stored| of_store(document, store, stored)).ok_or_else(|| unknown(document, store, name))
}

/// Makes a change, unless the configuration stands against it.
pub fn change(document: &Document, store: &Store, change: Change) -> Result<Changed, NotChanged> {
    let name = change.name();
    // One that is hidden may go: that is how it is tidied up.
    let may_go = matches!(change, Change::Remove { .. }) && store.consumer(name).is_some();
    if document.consumers.contains_key(name) && !may_go {
        return Err(NotChanged::Conflict(format!("consumer `{name}` stands in the configuration: change it there")));
    }
    for identity in change.new_identities() {
        check_identity(document, identity)?;
    }
    change.new_plan().map_or(Ok(()), |plan| check_plan(document, plan))?;
    change.brought().iter().try_for_each(|key| check_key(document, key))?;
    if !matches!(change, Change::Add { .. }) && store.consumer(name).is_none() {
        // Another gateway may have added it a moment ago: the store knows best, and this knows what there is.
        let words = unknown(document, store, name);
        return store.change(change).map_err(|not| if matches!(not, NotChanged::Unknown(_)) { words } else { not });
    }
    let kind = done(&change);
    let name = name.to_owned();
    let (has_brought, is_short) = (!change.brought().is_empty(), change.brought().iter().any(is_short));
    let mut changed = store.change(change)?;
    tracing::info!(consumer = name, "a consumer {kind}");
    let is_asked = !(has_brought || changed.key.is_some()) || asks_for_keys(document);
    changed.warning = if is_asked { is_short.then_some(SHORT) } else { Some(NOBODY_ASKS) };
    Ok(changed)
}

/// Whether a route lets anybody in by a key.
fn asks_for_keys(document: &Document) -> bool {
    let takes_keys = |name: &Spanned<String>| {
        let authorizer = document.authorizers.get(&name.value);
        authorizer.is_some_and(|authorizer| matches!(authorizer.kind, AuthorizerKind::ApiKey(_)))
    };
    let mut routes = document.apis.values().flat_map(|api| api.routes.iter().map(move |route| (api, route)));
    routes.any(|(api, route)| match route.policies.authenticate.as_ref().or(api.policies.authenticate.as_ref()) {
        Some(Spanned { value: Authenticate::Any { authorizers, .. }, .. }) => authorizers.iter().any(takes_keys),
        Some(Spanned { value: Authenticate::Open, .. }) | None => false,
    })
}

/// What the log says. Of a key nothing.
fn done(change: &Change) -> &'static str {
    match change {
        Change::Add { .. } => "was added",
        Change::Set { disabled: Some(true), .. } => "was disabled",
        Change::Set { disabled: Some(false), .. } => "was enabled",
        Change::Set { disabled: None, plan: Some(_), .. } => "has another plan",
        Change::Set { disabled: None, plan: None, .. } => "has other groups",
        Change::Remove { .. } => "was removed",
        Change::AddKey { .. } => "has a new key",
        Change::RotateKey { .. } => "has a new key in place of those from before",
        Change::RemoveKey { .. } => "has lost a key",
        Change::AddIdentity { .. } => "has a new identity",
        Change::RemoveIdentity { .. } => "has lost an identity",
    }
}

/// Those that stand in both: the configuration's count, and who added the others should know.
pub fn warn_hidden(document: &Document, store: &Store) {
    let configured = document.consumers.values().flat_map(|consumer| &consumer.identities);
    let configured: HashSet<(&str, &str)> =
        configured.map(|identity| (identity.authorizer.value.as_str(), identity.subject.as_str())).collect();
    for stored in store.consumers() {
        for Name { authorizer, subject } in &stored.identities {
            if configured.contains(&(authorizer.as_str(), subject.as_str())) {
                tracing::warn!(
                    consumer = stored.name,
                    authorizer,
                    subject,
                    "an identity stands in the configuration and in the store; the configuration's counts"
                );
            }
        }
        if document.consumers.contains_key(&stored.name) {
            tracing::warn!(
                consumer = stored.name,
                "it stands in the configuration and in the store; the configuration's counts, and keys of the other open nothing"
            );
        }
    }
}

fn check_identity(document: &Document, identity: &Name) -> Result<(), NotChanged> {
    let Name { authorizer, subject } = identity;
    if !document.authorizers.contains_key(authorizer) {
        let known = document.authorizers.keys().map(String::as_str).take(LISTED_MAX);
        let hint = suggest(authorizer, known, "the authorizers are");
        let hint = if document.authorizers.is_empty() { "the configuration has none".to_owned() } else { hint };
        return Err(NotChanged::Wrong(format!("there is no authorizer `{authorizer}`; {hint}")));
    }
    let same = |other: &maitred_model::Identity| other.authorizer.value == *authorizer && other.subject == *subject;
    match document.consumers.iter().find(|(_, consumer)| consumer.identities.iter().any(|other| same(other))) {
        None => Ok(()),
        Some((owner, _)) => {
            let words = format!("`{authorizer}` calls consumer `{owner}` `{subject}`, and that one stands in the configuration");
            Err(NotChanged::Conflict(words))
        }
    }
}

/// Of two consumers with one key neither would know whose request it is.
fn check_key(document: &Document, BroughtKey(key): &BroughtKey) -> Result<(), NotChanged> {
    let same = |other: &Spanned<Secret>| other.value.expose() == key.expose();
    match document.consumers.values().any(|consumer| consumer.api_keys.iter().any(same)) {
        false => Ok(()),
        true => Err(NotChanged::Conflict("that key is another consumer's, which stands in the configuration".to_owned())),
    }
}

fn is_short(BroughtKey(key): &BroughtKey) -> bool {
    key.expose().len() < KEY_BYTES_MIN
}

fn check_plan(document: &Document, plan: &str) -> Result<(), NotChanged> {
    if document.plans.contains_key(plan) {
        return Ok(());
    }
    let hint = match document.plans.len() {
        0 => "the configuration has none".to_owned(),
        _ => suggest(plan, document.plans.keys().map(String::as_str).take(LISTED_MAX), "the plans are"),
    };
    Err(NotChanged::Wrong(format!("there is no plan `{plan}`; {hint}")))
}

/// Why a configuration cannot become live: consumers of the store have plans that it lacks, and would not come in any more. Those that
/// are disabled do not come in anyway.
pub fn lost_plans(document: &Document, store: &Store) -> Option<String> {
    let is_lost = |stored: &StoredConsumer| {
        let plan = stored.plan.as_ref().filter(|plan| !document.plans.contains_key(*plan));
        plan.filter(|_| !stored.disabled && !document.consumers.contains_key(&stored.name)).cloned()
    };
    let lost: Vec<(String, String)> =
        store.consumers().into_iter().filter_map(|stored| Some((is_lost(&stored)?, stored.name))).collect();
    let (plan, _) = lost.first()?;
    let names: Vec<&str> = lost.iter().filter(|(other, _)| other == plan).map(|(_, name)| name.as_str()).collect();
    let (listed, rest) = names.split_at(names.len().min(LISTED_MAX));
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    Some(format!(
        "plan `{plan}` is gone, and consumers in the store have it: {}{more}; give them another with `maitred consumer set-plan`, or \
         leave the plan in the configuration",
        listed.join(", ")
    ))
}

pub(crate) fn unknown(document: &Document, store: &Store, name: &str) -> NotChanged {
    let stored = store.consumers();
    let mut known: Vec<&str> = document.consumers.keys().map(String::as_str).collect();
    known.extend(stored.iter().map(|consumer| consumer.name.as_str()));
    let what = format!("there is no consumer `{name}`");
    NotChanged::Unknown(match known.as_slice() {
        [] => format!("{what}, nor any other"),
        known if known.len() > LISTED_MAX => what,
        known => format!("{what}; {}", suggest(name, known.iter().copied(), "the consumers are")),
    })
}

fn of_file(name: &str, consumer: &maitred_model::Consumer) -> ConsumerView {
    let maitred_model::Consumer { plan, groups, api_keys, identities } = consumer;
    let identity = |identity: &maitred_model::Identity| Name {
        authorizer: identity.authorizer.value.clone(),
        subject: identity.subject.clone(),
    };
    ConsumerView {
        name: name.to_owned(),
        source: Source::File,
        groups: groups.clone(),
        plan: plan.as_ref().map(|plan| plan.value.clone()),
        // `check` saw to it.
        planless: false,
        disabled: false,
        hidden: false,
        created: None,
        changed: None,
        keys: vec![KeyView::default(); api_keys.len()],
        identities: identities.iter().map(|spanned| identity(spanned)).collect(),
    }
}

fn of_store(document: &Document, store: &Store, stored: StoredConsumer) -> ConsumerView {
    let key = |key: &StoredKey| KeyView {
        id: Some(key.id.clone()),
        prefix: Some(key.prefix.clone()).filter(|prefix| !prefix.is_empty()),
        created: Some(key.created),
        ends: key.ends,
        unusable: !store.is_usable(key),
    };
    ConsumerView {
        hidden: document.consumers.contains_key(&stored.name),
        keys: stored.keys.iter().map(key).collect(),
        name: stored.name,
        source: Source::Store,
        groups: stored.groups,
        planless: stored.plan.as_ref().is_some_and(|plan| !document.plans.contains_key(plan)),
        plan: stored.plan,
        disabled: stored.disabled,
        created: Some(stored.created),
        changed: Some(stored.changed),
        identities: stored.identities,
    }
}

impl ConsumerView {
    pub fn to_json(&self) -> Value {
        let ConsumerView { name, source, groups, plan, planless, disabled, hidden, created, changed, keys, identities } = self;
        let identity = |Name { authorizer, subject }: &Name| json!({ "authorizer": authorizer, "subject": subject });
        json!({
            "name": name,
            "source": source.as_str(),
            "groups": groups,
            "plan": plan,
            "plan_unknown": planless,
            "disabled": disabled,
            "hidden": hidden,
            "created": created.and_then(of_millis),
            "changed": changed.and_then(of_millis),
            "api_keys": keys.iter().map(KeyView::to_json).collect::<Value>(),
            "identities": identities.iter().map(identity).collect::<Value>(),
        })
    }
}

impl KeyView {
    fn to_json(&self) -> Value {
        let KeyView { id, prefix, created, ends, unusable } = self;
        json!({
            "id": id,
            "prefix": prefix,
            "created": created.and_then(of_millis),
            "ends": ends.and_then(of_millis),
            "unusable": unusable,
        })
    }
}
