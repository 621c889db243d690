//! What was used of quotas: over restarts, beside other processes, and after an older program.

use super::*;
use maitred_core::identity::Stored;
use maitred_core::quota::{Account, Grant, SlotKey};
use maitred_model::{Period, QuotaBy, WeekStart};

fn key(per: Period, by: QuotaBy) -> SlotKey {
    let time_zone = "UTC".to_owned();
    SlotKey { plan: "gold".into(), api: None, route: None, by, per, time_zone, week_starts: WeekStart::Monday }
}

/// A store, and one that counts beside it.
struct Counting {
    store: Store,
    stored: Arc<Stored>,
    clock: Clock,
    grant: Grant,
    alice: Arc<Account>,
}

fn counting_in(path: &Path, per: Period, by: QuotaBy, clock: Clock) -> Counting {
    let stored: Arc<Stored> = Arc::default();
    let grant = Grant { most: 1000, slot: stored.accounts.slot(key(per, by)) };
    let alice = stored.accounts.of("alice");
    let settings = Settings { plans: ["gold".to_owned()].into(), ..Settings::default() };
    let store = Store::open(path, settings, stored.clone(), clock.clone()).unwrap();
    Counting { store, stored, clock, grant, alice }
}

fn counting(path: &Path) -> Counting {
    counting_in(path, Period::Month, QuotaBy::Consumer, Clock::default())
}

impl Counting {
    fn moment(&self) -> u64 {
        self.clock.wall().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    }

    fn spend(&self, units: u64) {
        let period = self.grant.slot.calendar.period(self.moment());
        self.grant.count(&self.alice).meter.spend(period, units, self.grant.most).unwrap();
    }

    fn used(&self) -> u64 {
        self.grant.used(&self.alice, self.moment()).1
    }
}

#[test]
fn what_was_used_is_there_after_a_restart_and_within_a_second_or_two_on_the_disk() {
    for by in [QuotaBy::Consumer, QuotaBy::Plan] {
        let folder = Folder::new();
        let first = counting_in(&folder.path(), Period::Month, by, Clock::default());
        assert!(folder.names().is_empty(), "nothing was used, and nothing is kept");
        first.spend(5);
        let rows = || Connection::open(folder.path()).ok()?.query_row("SELECT used FROM usage", [], |row| row.get(0)).ok();
        eventually(|| rows() == Some(5));
        first.spend(2);
        drop(first);
        let second = counting_in(&folder.path(), Period::Month, by, Clock::default());
        assert_eq!(second.used(), 7, "what the last second brought was written at the end");
        second.spend(1);
        second.store.keep_usage();
        assert_eq!(rows(), Some(8));
        assert_eq!(second.store.errors(), 0);
    }
}

#[test]
fn processes_that_count_side_by_side_add_up() {
    let folder = Folder::new();
    let (old, new) = (counting(&folder.path()), counting(&folder.path()));
    old.spend(10);
    old.store.keep_usage();
    new.store.keep_usage();
    assert_eq!(new.used(), 10, "the next process goes on from there");
    old.spend(3);
    new.spend(4);
    old.store.keep_usage();
    new.store.keep_usage();
    assert_eq!(new.used(), 17);
    eventually(|| old.used() == 17);
    new.store.reset_usage("alice").unwrap();
    assert_eq!(new.used(), 0);
    old.spend(1);
    old.store.keep_usage();
    assert_eq!(old.used(), 1);
    eventually(|| new.used() == 1);
}

#[test]
fn a_consumer_that_is_reset_has_used_nothing_after_a_restart_either() {
    let folder = Folder::new();
    let first = counting(&folder.path());
    first.store.reset_usage("alice").unwrap();
    first.spend(5);
    first.store.reset_usage("alice").unwrap();
    assert_eq!(first.used(), 0);
    first.spend(2);
    drop(first);
    assert_eq!(counting(&folder.path()).used(), 2);
}

#[test]
fn periods_that_have_passed_can_be_asked_for_until_they_are_too_old() {
    let folder = Folder::new();
    let hours = counting_in(&folder.path(), Period::Hour, QuotaBy::Consumer, Clock::default());
    for units in [5, 7] {
        hours.spend(units);
        hours.store.keep_usage();
        hours.clock.turn(Duration::from_secs(3600));
    }
    hours.spend(1);
    hours.clock.turn(Duration::from_secs(3600));
    // What was counted before the turn and not written yet is written after it, as that hour's.
    hours.spend(2);
    hours.store.keep_usage();
    assert_eq!(hours.used(), 2);
    let past = hours.store.past_usage("alice", 10).unwrap();
    assert_eq!(
        past.iter().map(|past| (past.used, past.end - past.start)).collect::<Vec<_>>(),
        [1, 7, 5].map(|used| (used, 3_600_000))
    );
    assert!(past.windows(2).all(|pair| pair[0].start == pair[1].end));
    assert_eq!(hours.store.past_usage("alice", 1).unwrap().len(), 1);
    assert!(hours.store.past_usage("bob", 10).unwrap().is_empty());
    hours.clock.turn(Duration::from_secs(401 * 24 * 3600));
    eventually(|| hours.store.past_usage("alice", 10).unwrap().is_empty());
}

#[test]
fn a_quota_of_another_period_counts_anew_and_the_same_goes_on() {
    let folder = Folder::new();
    let first = counting_in(&folder.path(), Period::Month, QuotaBy::Consumer, Clock::default());
    first.spend(5);
    // As after a reload.
    let daily = Grant { most: 9, slot: first.stored.accounts.slot(key(Period::Week, QuotaBy::Consumer)) };
    first.store.configure(Settings::default());
    first.store.keep_usage();
    let is_first_of_both = first.grant.slot.calendar.period(first.moment()) == daily.slot.calendar.period(first.moment());
    assert!(is_first_of_both || daily.used(&first.alice, first.moment()).1 == 0);
    let again = Grant { most: 3, slot: first.stored.accounts.slot(key(Period::Month, QuotaBy::Consumer)) };
    assert_eq!(again.used(&first.alice, first.moment()).1, 5);
}

#[test]
fn a_quota_that_comes_with_a_reload_goes_on_with_what_was_used_before() {
    let folder = Folder::new();
    let first = counting(&folder.path());
    first.spend(5);
    drop(first);
    let stored: Arc<Stored> = Arc::default();
    let clock = Clock::default();
    let store = Store::open(&folder.path(), Settings::default(), stored.clone(), clock.clone()).unwrap();
    let alice = stored.accounts.of("alice");
    let grant = Grant { most: 9, slot: stored.accounts.slot(key(Period::Month, QuotaBy::Consumer)) };
    let later = Counting { store, stored, clock, grant, alice };
    later.spend(1);
    later.store.configure(Settings { plans: ["gold".to_owned()].into(), ..Settings::default() });
    later.store.keep_usage();
    assert_eq!(later.used(), 6);
}

#[test]
fn a_store_that_is_made_anew_gets_all_that_is_known() {
    let folder = Folder::new();
    let counting = counting(&folder.path());
    counting.spend(5);
    counting.store.keep_usage();
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", folder.path().display()));
    }
    counting.spend(1);
    counting.store.keep_usage();
    assert_eq!(counting.used(), 6);
    drop(counting);
    assert_eq!(self::counting(&folder.path()).used(), 6);
}

#[test]
fn what_another_process_used_verifies_no_credential_anew() {
    let folder = Folder::new();
    let one = counting(&folder.path());
    one.store.change(add("bob")).unwrap();
    let two = opened(&folder.path());
    let before = two.roll.generation();
    for round in 1..=3 {
        one.spend(1);
        one.store.keep_usage();
        two.store.keep_usage();
        assert_eq!((one.used(), two.roll.generation()), (round, before));
    }
    one.store.change(disabled("bob", true)).unwrap();
    eventually(|| two.roll.generation() != before);
}

#[test]
fn a_consumer_whose_plan_does_not_exist_does_not_come_in() {
    let folder = Folder::new();
    let opened = opened(&folder.path());
    let known = Settings { plans: ["gold".to_owned()].into(), ..Settings::default() };
    opened.store.configure(known.clone());
    let key = opened.key(add("alice"));
    let set = |plan: Option<&str>| Change::Set {
        name: "alice".to_owned(),
        groups: None,
        plan: Some(plan.map(str::to_owned)),
        disabled: None,
    };
    opened.store.change(set(Some("gold"))).unwrap();
    let consumer = opened.roll.by_key(key.as_bytes()).unwrap();
    assert_eq!((consumer.plan.as_deref(), consumer.disabled), (Some("gold"), false));
    let before = opened.roll.generation();
    opened.store.configure(Settings::default());
    eventually(|| opened.who(&key).as_deref() == Some("alice!"));
    assert_ne!(opened.roll.generation(), before);
    opened.store.configure(known);
    eventually(|| opened.who(&key).as_deref() == Some("alice"));
    opened.store.change(set(None)).unwrap();
    assert_eq!(opened.roll.by_key(key.as_bytes()).unwrap().plan, None);
    assert_eq!(opened.store.consumer("alice").unwrap().groups, ["staff"], "the rest stays");
}

/// As the first version of the layout made it: what its program wrote is read, and more is written beside it.
#[test]
fn a_store_of_the_version_before_is_brought_up() {
    let folder = Folder::new();
    let hash = "x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f'";
    let by = "zeroblob(8)";
    meddle(
        &folder.path(),
        &format!(
            "{}
            INSERT INTO meta VALUES ('key_secret', randomblob(32));
            INSERT INTO consumers VALUES ('alice', '[\"staff\"]', 1, 1000, 2000);
            INSERT INTO api_keys VALUES ('k1', 'alice', 'mk_k1', {hash}, {by}, 1000, NULL);
            INSERT INTO identities VALUES ('corporate', 'a', 'alice');
            PRAGMA application_id = 1298229620;
            PRAGMA user_version = 1;",
            layout::first()
        ),
    );
    let counting = counting(&folder.path());
    let alice = counting.store.consumer("alice").unwrap();
    assert_eq!((alice.plan, alice.groups, alice.disabled, alice.keys.len()), (None, vec!["staff".to_owned()], true, 1));
    counting.spend(5);
    let gold = Change::Set { name: "alice".to_owned(), groups: None, plan: Some(Some("gold".to_owned())), disabled: None };
    counting.store.change(gold).unwrap();
    drop(counting);
    let again = self::counting(&folder.path());
    assert_eq!((again.used(), again.store.consumer("alice").unwrap().plan.as_deref()), (5, Some("gold")));
}
