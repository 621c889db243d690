//! Keys of AWS: finds them as AWS's own tools do, puts them into their cells, and brings new ones before the old expire. One search of a source
//! at a time. Never takes keys away because the next search fails, and signs no request of a client.

mod container;
mod process;
mod search;
mod settings;
mod sts;
#[cfg(test)]
mod tests;

pub use settings::{settings, settings_of};

use crate::keys::{rung, until};
use maitred_core::aws::{CredentialCell, CredentialSource, Settings};
use maitred_core::identity::keys::Bell;
use maitred_core::ports::Fetch;
use maitred_core::{Chance, Clock};
use search::{Found, Search};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// For one search, with everybody who is asked in it.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(60);
/// Between a failure and the next try; doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// So long before they expire others are looked for, or in the middle of their life if that is later.
const BEFORE_END: Duration = Duration::from_secs(10 * 60);
/// Keys that last are looked up again now and then: somebody may have written others into the file.
const LOOK_AGAIN: Duration = Duration::from_secs(5 * 60);
/// A search comes so much sooner by chance, in thousandths: gateways that were started together do not ask together for long.
const JITTER: usize = 100;

/// What says where AWS is and who we are there.
pub type Surroundings = Arc<dyn Fn() -> Settings + Send + Sync>;

/// Searches, and goes on until it is dropped.
pub struct AwsKeys {
    shared: Arc<Shared>,
}

struct Shared {
    runtime: Handle,
    clock: Clock,
    fetch: Arc<dyn Fetch>,
    surroundings: Surroundings,
    sources: Mutex<HashMap<CredentialSource, Source>>,
    /// Moves when the clock was turned by hand.
    turned: watch::Sender<()>,
}

/// One source, and the task that looks after it.
struct Source {
    cell: Weak<CredentialCell>,
    task: AbortHandle,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AwsKeys {
    /// `runtime`: of the control side.
    pub fn new(runtime: Handle, clock: Clock, fetch: Arc<dyn Fetch>, surroundings: Surroundings) -> AwsKeys {
        let (sources, turned) = (Mutex::default(), watch::Sender::new(()));
        AwsKeys { shared: Arc::new(Shared { runtime, clock, fetch, surroundings, sources, turned }) }
    }

    /// Fills these cells, and keeps them filled for as long as anyone has them. Waits for nothing.
    pub fn keep<'a>(&self, cells: impl Iterator<Item = &'a Arc<CredentialCell>>) {
        let mut sources = self.shared.sources();
        sources.retain(|_, known| known.cell.strong_count() > 0);
        for cell in cells {
            let weak = Arc::downgrade(cell);
            if sources.get(cell.source()).is_some_and(|known| known.cell.ptr_eq(&weak)) {
                continue;
            }
            // Whoever comes before the first search is over waits for it.
            cell.begin();
            let following = follow(weak.clone(), Arc::downgrade(&self.shared), cell.wanted().clone());
            let task = self.shared.runtime.spawn(following).abort_handle();
            sources.insert(cell.source().clone(), Source { cell: weak, task });
        }
    }

    /// The clock was turned.
    pub fn look_again(&self) {
        self.shared.turned.send_replace(());
    }
}

impl Drop for AwsKeys {
    fn drop(&mut self) {
        // Stops the tasks, which hold `shared` only while they work.
        self.shared.sources().clear();
    }
}

impl Shared {
    fn sources(&self) -> MutexGuard<'_, HashMap<CredentialSource, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unix_time(&self) -> Duration {
        unix_time(&self.clock)
    }
}

fn unix_time(clock: &Clock) -> Duration {
    clock.wall().duration_since(UNIX_EPOCH).unwrap_or_else(|_| SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

/// For as long as anyone wants the keys.
async fn follow(cell: Weak<CredentialCell>, shared: Weak<Shared>, wanted: Arc<Bell>) {
    let chance = Chance::default();
    let (mut retry, mut failed) = (RETRY_MIN, false);
    loop {
        // What asks while a search is under way waits for that one.
        let (Some(cell), Some(house)) = (cell.upgrade(), shared.upgrade()) else { return };
        cell.begin();
        let search = Search { settings: (house.surroundings)(), cell: &cell, fetch: &*house.fetch, time: house.unix_time() };
        let late = |_| format!("nobody answered within {} s", SEARCH_TIME_MAX.as_secs());
        let found = timeout(SEARCH_TIME_MAX, search.find()).await.map_err(late).and_then(|found| found);
        drop(search);
        let asked = wanted.count();
        let wait = match &found {
            Ok(found) => {
                retry = RETRY_MIN;
                let wait = next_search(found, cell.aws_time(house.unix_time()));
                wait - wait * chance.below(JITTER) as u32 / 1000
            }
            Err(_) => {
                let wait = retry;
                retry = (retry * 2).min(RETRY_MAX);
                wait
            }
        };
        tell(&found, std::mem::replace(&mut failed, found.is_err()), &cell, cell.aws_time(house.unix_time()));
        let (clock, turned) = (house.clock.clone(), house.turned.subscribe());
        // From the answer on, and not from when it was told: a clock that is turned then is not too early.
        let due = clock.now() + wait;
        cell.end(found.map(|found| found.credentials));
        drop((cell, house));
        tokio::select! {
            () = rung(&wanted, asked) => {}
            () = until(due, &clock, turned) => {}
        }
    }
}

fn next_search(found: &Found, now: Duration) -> Duration {
    match found.credentials.expires {
        None => LOOK_AGAIN,
        Some(expires) => {
            let life = expires.saturating_sub(now);
            life.saturating_sub(BEFORE_END).max(life / 2).max(RETRY_MIN)
        }
    }
}

/// Says in the log what changed, once. Nothing of the keys but their id is in it.
fn tell(found: &Result<Found, String>, failed_before: bool, cell: &CredentialCell, now: Duration) {
    let profile = cell.source().profile.as_deref().unwrap_or("");
    let before = cell.load();
    match found {
        Ok(Found { credentials, from }) => {
            if failed_before || before.is_none_or(|before| before.key_id != credentials.key_id) {
                tracing::info!(profile, key = &*credentials.key_id, from, "credentials of AWS");
            }
        }
        Err(why) if !failed_before => {
            let keys = match before {
                Some(before) if before.are_good_at(now) => "the old ones go on being used until they expire",
                Some(_) | None => "there are none, and functions in AWS are answered 502",
            };
            tracing::warn!(profile, why, keys, "no credentials of AWS were found");
        }
        Err(_) => {}
    }
}
