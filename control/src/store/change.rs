//! What may be asked of the store, and what comes of it. Whether a change fits what is stored, it finds out when it makes it.

use super::StoreError;
use maitred_model::Secret;
use std::fmt;
use std::time::Duration;

/// Groups of one consumer.
const GROUPS_MAX: usize = 100;
/// Bytes of a group or of an authorizer's word for somebody: names in directories have a few hundred.
const TEXT_BYTES_MAX: usize = 1024;
/// Bytes of a key that was made elsewhere: one that comes in a header has fewer.
const KEY_BYTES_MAX: usize = 4096;
/// As in the configuration.
const NAME_BYTES_MAX: usize = 64;
/// Bytes of a key's id, all letters and digits: what is longer, or has other characters, is a key or a part of one.
pub(super) const ID_BYTES_MAX: usize = 10;
/// Until an old key ends. Longer, and it is not being replaced.
const GRACE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// What an authorizer calls a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub authorizer: String,
    pub subject: String,
}

/// A key that was made elsewhere.
#[derive(Debug, Clone)]
pub struct BroughtKey(pub Secret);

/// For tests, which compare what was asked for.
impl PartialEq for BroughtKey {
    fn eq(&self, other: &BroughtKey) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl Eq for BroughtKey {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Add {
        name: String,
        groups: Vec<String>,
        plan: Option<String>,
        identities: Vec<Name>,
        /// Whether a key is made.
        with_key: bool,
        /// Keys that it has already, from elsewhere.
        brought: Vec<BroughtKey>,
    },
    /// What is `None` stays.
    Set {
        name: String,
        groups: Option<Vec<String>>,
        /// `Some(None)` takes it away.
        plan: Option<Option<String>>,
        disabled: Option<bool>,
    },
    Remove {
        name: String,
    },
    AddKey {
        name: String,
    },
    /// The keys from before end after the grace.
    RotateKey {
        name: String,
        grace: Duration,
    },
    RemoveKey {
        name: String,
        id: String,
    },
    AddIdentity {
        name: String,
        identity: Name,
    },
    RemoveIdentity {
        name: String,
        identity: Name,
    },
}

/// It was done.
#[derive(Debug, Clone, Default)]
pub struct Changed {
    /// What who asked should know.
    pub warning: Option<&'static str>,
    /// The key that was made, with its id: it is shown once, and cannot be found out again.
    pub key: Option<(String, Secret)>,
}

/// It was not done, and nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotChanged {
    /// There is no such consumer, key or identity.
    Unknown(String),
    /// It makes no sense.
    Wrong(String),
    /// It does not go together with what there is.
    Conflict(String),
    /// The store failed.
    Failed(String),
}

impl NotChanged {
    pub(super) fn unknown(name: &str) -> NotChanged {
        NotChanged::Unknown(format!("there is no consumer `{name}` in the store"))
    }
}

impl fmt::Display for NotChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotChanged::Unknown(words) | NotChanged::Wrong(words) | NotChanged::Conflict(words) | NotChanged::Failed(words) => {
                f.write_str(words)
            }
        }
    }
}

impl From<StoreError> for NotChanged {
    fn from(error: StoreError) -> NotChanged {
        NotChanged::Failed(format!("the store cannot be written: {error}"))
    }
}

impl Change {
    /// The consumer's.
    pub fn name(&self) -> &str {
        match self {
            Change::Add { name, .. }
            | Change::Set { name, .. }
            | Change::Remove { name }
            | Change::AddKey { name }
            | Change::RotateKey { name, .. }
            | Change::RemoveKey { name, .. }
            | Change::AddIdentity { name, .. }
            | Change::RemoveIdentity { name, .. } => name,
        }
    }

    /// The identities that it adds.
    pub fn new_identities(&self) -> &[Name] {
        match self {
            Change::Add { identities, .. } => identities,
            Change::AddIdentity { identity, .. } => std::slice::from_ref(identity),
            Change::Set { .. }
            | Change::Remove { .. }
            | Change::AddKey { .. }
            | Change::RotateKey { .. }
            | Change::RemoveKey { .. }
            | Change::RemoveIdentity { .. } => &[],
        }
    }

    /// The keys that were made elsewhere.
    pub fn brought(&self) -> &[BroughtKey] {
        match self {
            Change::Add { brought, .. } => brought,
            Change::Set { .. }
            | Change::Remove { .. }
            | Change::AddKey { .. }
            | Change::RotateKey { .. }
            | Change::RemoveKey { .. }
            | Change::AddIdentity { .. }
            | Change::RemoveIdentity { .. } => &[],
        }
    }

    /// The plan that it gives.
    pub fn new_plan(&self) -> Option<&str> {
        match self {
            Change::Add { plan, .. } => plan.as_deref(),
            Change::Set { plan, .. } => plan.as_ref()?.as_deref(),
            Change::Remove { .. }
            | Change::AddKey { .. }
            | Change::RotateKey { .. }
            | Change::RemoveKey { .. }
            | Change::AddIdentity { .. }
            | Change::RemoveIdentity { .. } => None,
        }
    }

    /// Whether it makes sense at all, whatever is stored.
    pub(super) fn check(&self) -> Result<(), NotChanged> {
        match self {
            Change::Add { name, groups, plan: _, identities: _, with_key: _, brought } => {
                check_name(name).and_then(|()| check_groups(groups))?;
                brought.iter().try_for_each(check_key)?;
            }
            Change::Set { groups: Some(groups), .. } => check_groups(groups)?,
            Change::RotateKey { grace, .. } if *grace > GRACE_MAX => {
                return Err(NotChanged::Wrong("a grace has at most 366 days: old keys must end".to_owned()));
            }
            Change::RemoveKey { name, id } => check_id(name, id)?,
            Change::Set { groups: None, .. }
            | Change::Remove { .. }
            | Change::AddKey { .. }
            | Change::RotateKey { .. }
            | Change::AddIdentity { .. }
            | Change::RemoveIdentity { .. } => {}
        }
        self.new_identities().iter().try_for_each(|Name { authorizer: _, subject }| check_text("a subject", subject))
    }
}

fn check_name(name: &str) -> Result<(), NotChanged> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_good) {
        return Ok(());
    }
    Err(NotChanged::Wrong(format!("a consumer's name has 1 to {NAME_BYTES_MAX} letters, digits, `-` and `_`")))
}

/// A whole key is a secret: no answer, and so no log, repeats it.
fn check_id(name: &str, id: &str) -> Result<(), NotChanged> {
    if (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(NotChanged::Wrong(format!(
        "that is no id of a key, but perhaps the key itself: `maitred consumer show {name}` lists the ids, of at most {ID_BYTES_MAX} letters \
         and digits"
    )))
}

/// No answer repeats it, whatever is wrong.
fn check_key(BroughtKey(key): &BroughtKey) -> Result<(), NotChanged> {
    let key = key.expose();
    // No header can bring spaces around it.
    if (1..=KEY_BYTES_MAX).contains(&key.len()) && !key.contains(char::is_control) && key.trim() == key {
        return Ok(());
    }
    Err(NotChanged::Wrong(format!("a key has 1 to {KEY_BYTES_MAX} bytes, no control characters, and no spaces around it")))
}

fn check_groups(groups: &[String]) -> Result<(), NotChanged> {
    if groups.len() > GROUPS_MAX {
        return Err(NotChanged::Wrong(format!("a consumer is in at most {GROUPS_MAX} groups")));
    }
    groups.iter().try_for_each(|group| check_text("a group", group))
}

fn check_text(what: &str, text: &str) -> Result<(), NotChanged> {
    if (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control) {
        return Ok(());
    }
    Err(NotChanged::Wrong(format!("{what} has 1 to {TEXT_BYTES_MAX} bytes, and no control characters")))
}
