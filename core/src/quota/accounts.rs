//! Whose quotas they are: each consumer has an account, with one line for each quota that it ever used. They outlive reloads, since a quota that is
//! changed goes on with what was used. A request finds its line without a lock; who keeps what was used asks here what it lacks.

use super::calendar::{Calendar, Period};
use super::{Meter, Used};
use crate::limits::LimitId;
use maitred_model::{Period as Unit, Quota, QuotaBy, WeekStart};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What a quota is, apart from how much: another one has counts of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SlotKey {
    pub plan: Arc<str>,
    /// Of this API alone.
    pub api: Option<Arc<str>>,
    /// Of this route of it alone.
    pub route: Option<Arc<str>>,
    pub by: QuotaBy,
    pub per: Unit,
    pub time_zone: String,
    pub week_starts: WeekStart,
}

impl SlotKey {
    pub fn new(plan: &str, api: Option<&str>, route: Option<&str>, quota: &Quota) -> SlotKey {
        let Quota { limit: _, per, time_zone, week_starts, by } = quota;
        SlotKey {
            plan: plan.into(),
            api: api.map(Into::into),
            route: route.map(Into::into),
            by: *by,
            per: *per,
            time_zone: time_zone.clone(),
            week_starts: *week_starts,
        }
    }

    /// The same for all gateways that have the same quota and `seed`, as that of a limit.
    fn id(&self, seed: [u64; 2]) -> LimitId {
        let SlotKey { plan, api, route, by, per, time_zone, week_starts } = self;
        LimitId::of(&format!("quota\0{plan}\0{api:?}\0{route:?}\0{by:?}\0{per:?}\0{time_zone}\0{week_starts:?}"), seed)
    }
}

/// A quota that consumers have, or share.
#[derive(Debug)]
pub struct Slot {
    pub key: SlotKey,
    pub id: LimitId,
    pub calendar: Calendar,
    /// Of all consumers of the plan, where they share it.
    shared: Count,
}

/// A quota as one configuration has it.
#[derive(Debug)]
pub struct Grant {
    pub most: u64,
    pub slot: Arc<Slot>,
}

/// What was used, and what of that is kept.
#[derive(Debug, Default)]
pub struct Count {
    pub meter: Meter,
    /// What whoever keeps it has of it. Written by that one alone.
    kept: AtomicU64,
}

/// What a store lacks: so much more, or less, in that period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    pub number: u64,
    pub more: i64,
}

impl Count {
    fn kept(&self) -> Used {
        Used::of(self.kept.load(Ordering::Acquire))
    }

    /// Of the period before, if it has turned, and of this one.
    pub fn owed(&self) -> [Option<Owed>; 2] {
        let (now, before, kept) = (self.meter.now(), self.meter.before(), self.kept());
        let owed = |number: u64, used: u64, kept: u64| {
            let more = used as i64 - kept as i64;
            (more != 0).then_some(Owed { number, more })
        };
        if now.number == kept.number {
            return [None, owed(now.number, now.used, kept.used)];
        }
        let of_now = owed(now.number, now.used, 0);
        match before.number {
            number if number == kept.number => [owed(number, before.used, kept.used), of_now],
            number if number > kept.number => [owed(number, before.used, 0), of_now],
            // It turns at this moment: the next time both are there.
            _ => [None, None],
        }
    }

    /// It was written that so much more was used, which makes `total` with what others wrote.
    pub fn settle(&self, owed: Owed, total: u64) {
        let kept = self.kept();
        let had = if kept.number == owed.number { kept.used as i64 } else { 0 };
        self.agree(owed.number, total, total as i64 - (had + owed.more));
    }

    /// So much was used in that period, as a store has it.
    pub fn restore(&self, number: u64, total: u64) {
        let kept = self.kept();
        if kept.number != number && self.owed()[0].is_some() {
            // It has turned, and what the store lacks of the period before is written first.
            return;
        }
        let had = if kept.number == number { kept.used as i64 } else { 0 };
        self.agree(number, total, total as i64 - had);
    }

    fn agree(&self, number: u64, total: u64, of_others: i64) {
        // What has passed is over, unless clocks were put back.
        if number < self.kept().number && number != self.meter.now().number {
            return;
        }
        self.kept.store(Used { number, used: total }.word(), Ordering::Release);
        self.meter.adjust(number, of_others);
    }

    /// Nothing was used, here and in the store.
    fn reset(&self) {
        self.kept.store(self.meter.reset().word(), Ordering::Release);
    }

    /// Nothing is kept any more: the store begins anew.
    fn forget(&self) {
        self.kept.store(0, Ordering::Release);
    }
}

/// One quota of a consumer.
#[derive(Debug)]
struct Line {
    slot: Arc<Slot>,
    count: Count,
    next: OnceLock<Box<Line>>,
}

/// What one consumer used of its quotas.
#[derive(Debug, Default)]
pub struct Account {
    first: OnceLock<Box<Line>>,
}

/// It is nothing that tells one consumer from another: their names do.
impl PartialEq for Account {
    fn eq(&self, _: &Account) -> bool {
        true
    }
}

impl Eq for Account {}

impl Account {
    /// Few lines, since no plan has many quotas, and nobody waits: a new one is put behind the last.
    pub fn count(&self, slot: &Arc<Slot>) -> &Count {
        let mut place = &self.first;
        loop {
            let new = || Box::new(Line { slot: slot.clone(), count: Count::default(), next: OnceLock::new() });
            let line = place.get_or_init(new);
            if Arc::ptr_eq(&line.slot, slot) {
                return &line.count;
            }
            place = &line.next;
        }
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        std::iter::successors(self.first.get(), |line| line.next.get()).map(|line| &**line)
    }

    fn used(&self, slot: &Arc<Slot>, period: Period) -> u64 {
        let line = self.lines().find(|line| Arc::ptr_eq(&line.slot, slot));
        line.map_or(0, |line| line.count.meter.used(period))
    }

    /// What it used of its own quotas is forgotten, and was in the store.
    pub fn reset(&self) {
        self.lines().for_each(|line| line.count.reset());
    }

    fn is_needed(&self, moment: u64) -> bool {
        self.lines().any(|line| {
            let now = line.count.meter.now();
            line.count.owed().iter().any(Option::is_some) || line.slot.calendar.period(moment).number() <= now.number
        })
    }
}

impl Grant {
    pub fn count<'a>(&'a self, account: &'a Account) -> &'a Count {
        match self.slot.key.by {
            QuotaBy::Consumer => account.count(&self.slot),
            QuotaBy::Plan => &self.slot.shared,
        }
    }

    /// `moment`: seconds since 1970. Makes nothing that is not there.
    pub fn used(&self, account: &Account, moment: u64) -> (Period, u64) {
        let period = self.slot.calendar.period(moment);
        let used = match self.slot.key.by {
            QuotaBy::Consumer => account.used(&self.slot, period),
            QuotaBy::Plan => self.slot.shared.meter.used(period),
        };
        (period, used)
    }
}

/// All accounts of a process, and all quotas that there ever were. Asked where configurations are loaded, consumers change, and counts are
/// kept: not where requests go.
#[derive(Debug, Default)]
pub struct Accounts {
    accounts: Mutex<HashMap<Arc<str>, Arc<Account>>>,
    slots: Mutex<HashMap<SlotKey, Arc<Slot>>>,
    has_slots: AtomicBool,
}

/// A count that a store lacks something of. `consumer` is empty where all of a plan share it.
#[derive(Debug, Clone)]
pub struct Unkept {
    pub consumer: Arc<str>,
    pub slot: Arc<Slot>,
    account: Option<Arc<Account>>,
    pub owed: Owed,
}

impl Unkept {
    pub fn count(&self) -> &Count {
        match &self.account {
            Some(account) => account.count(&self.slot),
            None => &self.slot.shared,
        }
    }
}

impl Accounts {
    pub fn of(&self, consumer: &str) -> Arc<Account> {
        let mut accounts = lock(&self.accounts);
        if let Some(account) = accounts.get(consumer) {
            return account.clone();
        }
        let account = Arc::new(Account::default());
        accounts.insert(consumer.into(), account.clone());
        account
    }

    pub fn known(&self, consumer: &str) -> Option<Arc<Account>> {
        lock(&self.accounts).get(consumer).cloned()
    }

    pub fn slot(&self, key: SlotKey) -> Arc<Slot> {
        self.fleet_slot(key, [0; 2])
    }

    /// The same, with what a fleet makes its keys with. That of a slot stays what it was first.
    pub fn fleet_slot(&self, key: SlotKey, seed: [u64; 2]) -> Arc<Slot> {
        self.has_slots.store(true, Ordering::Release);
        let new = |key: &SlotKey| {
            let quota = Quota {
                limit: std::num::NonZeroU64::MIN,
                per: key.per,
                time_zone: key.time_zone.clone(),
                week_starts: key.week_starts,
                by: key.by,
            };
            Arc::new(Slot { id: key.id(seed), calendar: Calendar::new(&quota), key: key.clone(), shared: Count::default() })
        };
        let mut slots = lock(&self.slots);
        let slot = slots.entry(key).or_insert_with_key(new);
        slot.clone()
    }

    /// There is no quota, and never was.
    pub fn is_idle(&self) -> bool {
        !self.has_slots.load(Ordering::Acquire)
    }

    pub fn slots(&self) -> Vec<Arc<Slot>> {
        lock(&self.slots).values().cloned().collect()
    }

    /// The count of a slot: the consumer's, if it is known, or the one that all share.
    pub fn with_count(&self, slot: &Arc<Slot>, consumer: &str, then: impl FnOnce(&Count)) {
        match slot.key.by {
            QuotaBy::Plan if consumer.is_empty() => then(&slot.shared),
            QuotaBy::Consumer if !consumer.is_empty() => {
                if let Some(account) = self.known(consumer) {
                    then(account.count(slot));
                }
            }
            QuotaBy::Plan | QuotaBy::Consumer => {}
        }
    }

    /// All that a store lacks at the moment.
    pub fn unkept(&self) -> Vec<Unkept> {
        let mut unkept = Vec::new();
        for slot in self.slots() {
            for owed in slot.shared.owed().into_iter().flatten() {
                unkept.push(Unkept { consumer: "".into(), slot: slot.clone(), account: None, owed });
            }
        }
        for (consumer, account) in &*lock(&self.accounts) {
            for line in account.lines() {
                for owed in line.count.owed().into_iter().flatten() {
                    let (consumer, account, slot) = (consumer.clone(), Some(account.clone()), line.slot.clone());
                    unkept.push(Unkept { consumer, slot, account, owed });
                }
            }
        }
        unkept
    }

    /// The store is a new one, and has nothing.
    pub fn forget_kept(&self) {
        self.slots().iter().for_each(|slot| slot.shared.forget());
        for account in lock(&self.accounts).values() {
            account.lines().for_each(|line| line.count.forget());
        }
    }

    /// Forgets the accounts that nobody has any more and that used nothing in a period that lasts.
    pub fn sweep(&self, moment: u64) {
        lock(&self.accounts).retain(|_, account| Arc::strong_count(account) > 1 || account.is_needed(moment));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
