//! The rows of consumers: read as a whole, changed one by one. Whether a change may be made at all, beside what is stored, its caller
//! has decided.

use super::change::{BroughtKey, Change, Changed, Name, NotChanged};
use super::new_key::{NewKey, new_id};
use super::{Contents, StoreError, StoredConsumer, StoredKey, layout};
use maitred_core::identity::{KeyHash, KeyHasher};
use rusqlite::{Connection, OptionalExtension, Row};
use std::collections::BTreeMap;
use std::time::Duration;

/// Consumers in one store: each change reads all of them, and is live in under a second.
const CONSUMERS_MAX: i64 = 100_000;
/// Keys of one consumer, those that end soon too: more are forgotten ones.
const KEYS_MAX: i64 = 20;
/// Identities of one consumer: one for each system that it logs in to, and room.
const IDENTITIES_MAX: i64 = 100;

/// All of them, in one moment. Keys that have ended are left out.
pub(super) fn read(connection: &Connection, now: i64) -> Result<Contents, StoreError> {
    let transaction = connection.unchecked_transaction()?;
    layout::still_ours(&transaction)?;
    let secret = layout::secret(&transaction)?;
    let mut consumers = BTreeMap::new();
    for consumer in some(&transaction, "SELECT name, group_names, disabled, created, changed, plan FROM consumers", [], consumer)?
    {
        let (consumer, groups) = consumer;
        let groups = serde_json::from_str(&groups).map_err(|_| StoreError::Damaged("the groups of a consumer are no list"))?;
        consumers.insert(consumer.name.clone(), StoredConsumer { groups, ..consumer });
    }
    let of = "SELECT consumer, id, prefix, hash, hashed_by, created, ends FROM api_keys";
    for (name, key) in some(&transaction, &format!("{of} WHERE ends IS NULL OR ends > ?1 ORDER BY created, id"), [now], key)? {
        let consumer: Option<&mut StoredConsumer> = consumers.get_mut(&name);
        consumer.ok_or(StoreError::Damaged("a key belongs to nobody"))?.keys.push(key);
    }
    let of = "SELECT consumer, authorizer, subject FROM identities ORDER BY authorizer, subject";
    for (name, identity) in some(&transaction, of, [], identity)? {
        let consumer: Option<&mut StoredConsumer> = consumers.get_mut(&name);
        consumer.ok_or(StoreError::Damaged("an identity belongs to nobody"))?.identities.push(identity);
    }
    Ok(Contents { consumers, hasher: Some(KeyHasher::new(&secret)) })
}

fn some<T>(
    connection: &Connection,
    sql: &str,
    arguments: impl rusqlite::Params,
    of: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map(arguments, of)?.collect()
}

/// With its groups as they are stored.
fn consumer(row: &Row<'_>) -> rusqlite::Result<(StoredConsumer, String)> {
    let name: String = row.get(0)?;
    let consumer = StoredConsumer {
        name,
        groups: Vec::new(),
        plan: row.get(5)?,
        disabled: row.get(2)?,
        created: row.get(3)?,
        changed: row.get(4)?,
        keys: Vec::new(),
        identities: Vec::new(),
    };
    Ok((consumer, row.get(1)?))
}

fn key(row: &Row<'_>) -> rusqlite::Result<(String, StoredKey)> {
    let (hash, hashed_by): (KeyHash, _) = (row.get(3)?, row.get(4)?);
    let key = StoredKey { id: row.get(1)?, prefix: row.get(2)?, hash, hashed_by, created: row.get(5)?, ends: row.get(6)? };
    Ok((row.get(0)?, key))
}

fn identity(row: &Row<'_>) -> rusqlite::Result<(String, Name)> {
    Ok((row.get(0)?, Name { authorizer: row.get(1)?, subject: row.get(2)? }))
}

/// One change, within a transaction that its caller ends.
pub(super) struct Changing<'c> {
    pub transaction: &'c Connection,
    pub hasher: &'c KeyHasher,
    /// Milliseconds since 1970.
    pub now: i64,
}

impl Changing<'_> {
    pub fn make(&self, change: &Change) -> Result<Changed, NotChanged> {
        let name = change.name();
        if let Change::Add { groups, plan, identities, with_key, brought, .. } = change {
            self.add(name, (groups, plan.as_deref()), identities)?;
            brought.iter().try_for_each(|key| self.bring_key(name, key))?;
            return Ok(Changed { key: with_key.then(|| self.add_key(name)).transpose()?, warning: None });
        }
        if !self.has("SELECT 1 FROM consumers WHERE name = ?1", [name])? {
            return Err(NotChanged::unknown(name));
        }
        let key = match change {
            Change::Add { .. } => None,
            Change::Set { groups, plan, disabled, .. } => {
                if let Some(groups) = groups {
                    self.run("UPDATE consumers SET group_names = ?2 WHERE name = ?1", (name, list(groups)))?;
                }
                if let Some(plan) = plan {
                    self.run("UPDATE consumers SET plan = ?2 WHERE name = ?1", (name, plan))?;
                }
                if let Some(disabled) = disabled {
                    self.run("UPDATE consumers SET disabled = ?2 WHERE name = ?1", (name, disabled))?;
                }
                None
            }
            Change::Remove { .. } => {
                self.run("DELETE FROM consumers WHERE name = ?1", [name])?;
                return Ok(Changed::default());
            }
            Change::AddKey { .. } => Some(self.add_key(name)?),
            Change::RotateKey { grace, .. } => {
                self.end_keys(name, *grace)?;
                Some(self.add_key(name)?)
            }
            Change::RemoveKey { id, .. } => {
                if self.run("DELETE FROM api_keys WHERE consumer = ?1 AND id = ?2", (name, id))? == 0 {
                    return Err(NotChanged::Unknown(format!("consumer `{name}` has no key `{id}` in the store")));
                }
                None
            }
            Change::AddIdentity { identity, .. } => {
                self.add_identity(name, identity)?;
                None
            }
            Change::RemoveIdentity { identity, .. } => {
                let Name { authorizer, subject } = identity;
                let sql = "DELETE FROM identities WHERE consumer = ?1 AND authorizer = ?2 AND subject = ?3";
                if self.run(sql, (name, authorizer, subject))? == 0 {
                    return Err(NotChanged::Unknown(format!("`{authorizer}` does not call consumer `{name}` `{subject}`")));
                }
                None
            }
        };
        self.run("UPDATE consumers SET changed = ?2 WHERE name = ?1", (name, self.now))?;
        Ok(Changed { key, warning: None })
    }

    fn add(&self, name: &str, (groups, plan): (&[String], Option<&str>), identities: &[Name]) -> Result<(), NotChanged> {
        if self.has("SELECT 1 FROM consumers WHERE name = ?1", [name])? {
            return Err(NotChanged::Conflict(format!("there is a consumer `{name}` already")));
        }
        if self.count("SELECT count(*) FROM consumers", [])? >= CONSUMERS_MAX {
            return Err(NotChanged::Conflict(format!("the store holds {CONSUMERS_MAX} consumers, and takes no more")));
        }
        let sql = "INSERT INTO consumers (name, group_names, disabled, created, changed, plan) VALUES (?1, ?2, 0, ?3, ?3, ?4)";
        self.run(sql, (name, list(groups), self.now, plan))?;
        for identity in identities {
            self.add_identity(name, identity)?;
        }
        Ok(())
    }

    fn add_key(&self, name: &str) -> Result<(String, maitred_model::Secret), NotChanged> {
        let NewKey { id, prefix, key } = NewKey::make()?;
        self.keep_key(name, &id, &prefix, self.hasher.hash(key.expose().as_bytes()))?;
        Ok((id, key))
    }

    /// Nothing of it is kept but its hash: who knows how much of such a key can be shown.
    fn bring_key(&self, name: &str, BroughtKey(key): &BroughtKey) -> Result<(), NotChanged> {
        let hash = self.hasher.hash(key.expose().as_bytes());
        if self.has("SELECT 1 FROM api_keys WHERE hash = ?1", [hash])? {
            return Err(NotChanged::Conflict("that key is another consumer's already, or stands there twice".to_owned()));
        }
        self.keep_key(name, &new_id()?, "", hash)
    }

    fn keep_key(&self, name: &str, id: &str, prefix: &str, hash: KeyHash) -> Result<(), NotChanged> {
        if self.count("SELECT count(*) FROM api_keys WHERE consumer = ?1", [name])? >= KEYS_MAX {
            let words = format!(
                "consumer `{name}` has {KEYS_MAX} keys, and takes no more: remove one with `maitred consumer remove-key`"
            );
            return Err(NotChanged::Conflict(words));
        }
        let sql = "INSERT INTO api_keys (id, consumer, prefix, hash, hashed_by, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.run(sql, (id, name, prefix, hash, self.hasher.fingerprint(), self.now))?;
        Ok(())
    }

    /// One that ends sooner already goes on to.
    fn end_keys(&self, name: &str, grace: Duration) -> Result<(), NotChanged> {
        if grace.is_zero() {
            self.run("DELETE FROM api_keys WHERE consumer = ?1", [name])?;
            return Ok(());
        }
        let ends = self.now.saturating_add(i64::try_from(grace.as_millis()).unwrap_or(i64::MAX));
        self.run("UPDATE api_keys SET ends = min(coalesce(ends, ?2), ?2) WHERE consumer = ?1", (name, ends))?;
        Ok(())
    }

    fn add_identity(&self, name: &str, identity: &Name) -> Result<(), NotChanged> {
        let Name { authorizer, subject } = identity;
        let sql = "SELECT consumer FROM identities WHERE authorizer = ?1 AND subject = ?2";
        let owner: Option<String> =
            self.transaction.query_row(sql, (authorizer, subject), |row| row.get(0)).optional().map_err(StoreError::from)?;
        if let Some(owner) = owner {
            return Err(NotChanged::Conflict(format!("`{authorizer}` calls consumer `{owner}` `{subject}` already")));
        }
        if self.count("SELECT count(*) FROM identities WHERE consumer = ?1", [name])? >= IDENTITIES_MAX {
            let words = format!("consumer `{name}` has {IDENTITIES_MAX} identities, and takes no more");
            return Err(NotChanged::Conflict(words));
        }
        self.run("INSERT INTO identities (authorizer, subject, consumer) VALUES (?1, ?2, ?3)", (authorizer, subject, name))?;
        Ok(())
    }

    /// How many rows it changed.
    fn run(&self, sql: &str, arguments: impl rusqlite::Params) -> Result<usize, StoreError> {
        Ok(self.transaction.prepare(sql)?.execute(arguments)?)
    }

    fn has(&self, sql: &str, arguments: impl rusqlite::Params) -> Result<bool, StoreError> {
        Ok(self.transaction.prepare(sql)?.exists(arguments)?)
    }

    fn count(&self, sql: &str, arguments: impl rusqlite::Params) -> Result<i64, StoreError> {
        Ok(self.transaction.prepare(sql)?.query_row(arguments, |row| row.get(0))?)
    }
}

fn list(groups: &[String]) -> String {
    serde_json::Value::from(groups).to_string()
}
