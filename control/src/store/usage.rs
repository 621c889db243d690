//! The rows of what was used of quotas, by consumer and period. Several processes may write at once, so that each adds what it counted, and
//! is told what it makes together. Decides nothing about what may be used.

use super::StoreError;
use super::layout;
use maitred_core::quota::{Accounts, Slot, Unkept};
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::Arc;

/// For how long periods that have passed are kept: a year, and the month after it in which somebody asks.
const KEPT_MILLIS: i64 = 400 * 24 * 3600 * 1000;
const SECOND: i64 = 1000;

/// What was used in a period that has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    pub plan: String,
    /// Of this API or route alone.
    pub api: Option<String>,
    pub route: Option<String>,
    /// Milliseconds since 1970, as all times here.
    pub start: i64,
    pub end: i64,
    pub used: u64,
}

/// What is milliseconds here is seconds to who counts.
pub(super) fn seconds(millis: i64) -> u64 {
    u64::try_from(millis / SECOND).unwrap_or(0)
}

fn millis(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX / SECOND).saturating_mul(SECOND)
}

/// Adds what is not kept: what each makes with what others wrote.
pub(super) fn add(transaction: &Connection, unkept: &[Unkept]) -> Result<Vec<u64>, StoreError> {
    let sql = "
        INSERT INTO usage (consumer, plan, api, route, period_start, period_end, used) VALUES (?1, ?2, ?3, ?4, ?5, ?6, max(?7, 0))
        ON CONFLICT DO UPDATE SET used = max(used + ?7, 0) RETURNING used";
    let mut statement = transaction.prepare(sql)?;
    let mut totals = Vec::with_capacity(unkept.len());
    for Unkept { consumer, slot, owed, .. } in unkept {
        let period = slot.calendar.numbered(owed.number);
        let (plan, api, route) = place(slot);
        let (start, end) = (millis(period.start), millis(period.end));
        let used: i64 = statement.query_row((&**consumer, plan, api, route, start, end, owed.more), |row| row.get(0))?;
        totals.push(u64::try_from(used).unwrap_or(0));
    }
    Ok(totals)
}

/// Which quota it is, in a row.
fn place(slot: &Slot) -> (&str, &str, &str) {
    (&slot.key.plan, slot.key.api.as_deref().unwrap_or_default(), slot.key.route.as_deref().unwrap_or_default())
}

/// Puts what is there of periods that last where it is counted.
pub(super) fn restore(connection: &Connection, accounts: &Accounts, now: i64) -> Result<(), StoreError> {
    layout::still_ours(connection)?;
    let slots = accounts.slots();
    let mut by_place: HashMap<(&str, &str, &str), Vec<&Arc<Slot>>> = HashMap::new();
    for slot in &slots {
        by_place.entry(place(slot)).or_default().push(slot);
    }
    let sql = "SELECT consumer, plan, api, route, period_start, period_end, used FROM usage WHERE period_end > ?1";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([now])?;
    while let Some(row) = rows.next()? {
        let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
        let Some(slots) = by_place.get(&(text(1)?, text(2)?, text(3)?)) else { continue };
        let (start, end, used): (i64, i64, i64) = (row.get(4)?, row.get(5)?, row.get(6)?);
        for slot in slots {
            // A quota of another period, or of another time zone, counts anew.
            let period = slot.calendar.period(seconds(now));
            if (millis(period.start), millis(period.end)) == (start, end) {
                let used = u64::try_from(used).unwrap_or(0);
                accounts.with_count(slot, text(0)?, |count| count.restore(period.number(), used));
            }
        }
    }
    Ok(())
}

/// Nothing was used in the periods that last.
pub(super) fn reset(connection: &Connection, consumer: &str, now: i64) -> Result<(), StoreError> {
    connection.execute("UPDATE usage SET used = 0 WHERE consumer = ?1 AND period_end > ?2", (consumer, now))?;
    Ok(())
}

/// The latest first.
pub(super) fn past(connection: &Connection, consumer: &str, most: usize, now: i64) -> Result<Vec<Past>, StoreError> {
    let sql = "
        SELECT plan, api, route, period_start, period_end, used FROM usage WHERE consumer = ?1 AND period_end <= ?2
        ORDER BY period_end DESC, period_start, plan, api, route LIMIT ?3";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let filled = |text: String| (!text.is_empty()).then_some(text);
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map((consumer, now, most), |row| {
        Ok(Past {
            plan: row.get(0)?,
            api: filled(row.get(1)?),
            route: filled(row.get(2)?),
            start: row.get(3)?,
            end: row.get(4)?,
            used: u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Deletes what is too old to be asked for.
pub(super) fn tidy(connection: &Connection, now: i64) -> Result<(), StoreError> {
    connection.execute("DELETE FROM usage WHERE period_end < ?1", [now.saturating_sub(KEPT_MILLIS)])?;
    Ok(())
}
