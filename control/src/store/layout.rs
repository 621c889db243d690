//! How the store is laid out, and how a file of an older program becomes one of this. What the rows mean is the affair of `consumers` and `usage`.

use super::StoreError;
use super::new_key::random;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

/// `Mait`: tells our files from those of other programs (sqlite.org/pragma.html#pragma_application_id).
const APPLICATION: i64 = 0x4d61_6974;
/// Bytes at the beginning of a file of SQLite until behind the application's number (sqlite.org/fileformat.html#the_database_header).
pub(super) const HEADER_BYTES: usize = 72;

/// Whether a file begins as one of ours.
pub(super) fn begins(header: &[u8; HEADER_BYTES]) -> bool {
    header.starts_with(b"SQLite format 3\0") && header.ends_with(&(APPLICATION as u32).to_be_bytes())
}

/// What makes each version of the layout from the one before. Only ever added to: the number of a version is its place, from 1.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (
        name TEXT NOT NULL PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE consumers (
        name TEXT NOT NULL PRIMARY KEY,
        -- A JSON array of texts.
        group_names TEXT NOT NULL,
        disabled INTEGER NOT NULL,
        -- Times are milliseconds since 1970.
        created INTEGER NOT NULL,
        changed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE api_keys (
        id TEXT NOT NULL PRIMARY KEY,
        consumer TEXT NOT NULL REFERENCES consumers (name) ON DELETE CASCADE,
        -- Of the key, to know it by; nothing else of the key is kept.
        prefix TEXT NOT NULL,
        hash BLOB NOT NULL UNIQUE,
        -- The fingerprint of what it was hashed with.
        hashed_by BLOB NOT NULL,
        created INTEGER NOT NULL,
        -- Null: it does not end by itself.
        ends INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX api_keys_of_consumers ON api_keys (consumer);
    CREATE TABLE identities (
        authorizer TEXT NOT NULL,
        subject TEXT NOT NULL,
        consumer TEXT NOT NULL REFERENCES consumers (name) ON DELETE CASCADE,
        PRIMARY KEY (authorizer, subject)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX identities_of_consumers ON identities (consumer);
",
    "
    -- Null: none.
    ALTER TABLE consumers ADD COLUMN plan TEXT;
    CREATE TABLE usage (
        -- Empty: all consumers of the plan together.
        consumer TEXT NOT NULL,
        plan TEXT NOT NULL,
        -- Empty: of all APIs, or of all routes of this one.
        api TEXT NOT NULL,
        route TEXT NOT NULL,
        period_start INTEGER NOT NULL,
        period_end INTEGER NOT NULL,
        used INTEGER NOT NULL,
        PRIMARY KEY (consumer, plan, api, route, period_start, period_end)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX usage_by_end ON usage (period_end);
",
];

/// The version that this program reads and writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// As the first program laid it out.
#[cfg(test)]
pub(super) fn first() -> &'static str {
    MIGRATIONS[0]
}

/// What hashes of keys are derived from where no `secret_key` is configured.
const KEY_SECRET: &str = "key_secret";
const KEY_SECRET_BYTES: usize = 32;

/// Brings a file to this program's layout. One of a newer program, or of another one, is left alone.
pub(super) fn bring_up(connection: &mut Connection) -> Result<(), StoreError> {
    if is_ours(connection)? && version(connection)? == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Somebody else may have done it meanwhile.
    is_ours(&transaction)?;
    for step in version(&transaction)?..VERSION {
        transaction.execute_batch(MIGRATIONS[step as usize])?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    keep_secret(&transaction)?;
    Ok(transaction.commit()?)
}

/// False: an empty file, which may become ours.
fn is_ours(connection: &Connection) -> Result<bool, StoreError> {
    let found = version(connection)?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (found, application, tables) {
        (0, 0, 0) => Ok(false),
        (1.., APPLICATION, _) if found <= VERSION => Ok(true),
        (_, APPLICATION, _) => Err(StoreError::Newer(found)),
        _ => Err(StoreError::Foreign),
    }
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// A newer program may have taken the file over since it was opened.
pub(super) fn still_ours(connection: &Connection) -> Result<(), StoreError> {
    match version(connection)? {
        VERSION => Ok(()),
        found => Err(StoreError::Newer(found)),
    }
}

fn keep_secret(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let secret: [u8; KEY_SECRET_BYTES] = random()?;
    transaction.execute("INSERT OR IGNORE INTO meta (name, value) VALUES (?1, ?2)", (KEY_SECRET, &secret[..]))?;
    Ok(())
}

pub(super) fn secret(connection: &Connection) -> Result<Vec<u8>, StoreError> {
    let secret: Option<Vec<u8>> =
        connection.query_row("SELECT value FROM meta WHERE name = ?1", [KEY_SECRET], |row| row.get(0)).optional()?;
    secret.filter(|secret| secret.len() == KEY_SECRET_BYTES).ok_or(StoreError::Damaged("its secret is missing"))
}
