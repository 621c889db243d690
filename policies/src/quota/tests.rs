//! What a request takes of it, here and of counts that others keep, and what becomes of it while those do not answer.

use super::*;
use maitred_core::identity::{Flights, Principal, Verdicts};
use maitred_core::limit_table::{Table, Verdict};
use maitred_core::limits::{Ask, Counting, SharedCounts};
use maitred_core::quota::{Accounts, SlotKey};
use maitred_core::{Call, Calling, Room, Waiting};
use maitred_model::{Period as Unit, WeekStart};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// 22 November 2026, noon.
const NOON: u64 = 1_795_348_800;

struct Fixed {
    verdicts: RefCell<Verdicts>,
    /// What is answered elsewhere; `None`: nobody is asked.
    elsewhere: Option<Elsewhere>,
}

#[derive(Default)]
struct Elsewhere {
    used: Cell<u64>,
    is_silent: Cell<bool>,
    asked: RefCell<Vec<AskQuota>>,
}

impl Ports for Fixed {
    fn flights(&self) -> &Flights {
        unreachable!("nobody waits for another")
    }

    fn room(&self) -> &Room {
        unreachable!("nothing is held")
    }

    fn until(&self, _: Instant) -> Waiting<'_> {
        unreachable!("nothing is waited for")
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_time(&self, _: Instant) -> Duration {
        Duration::from_secs(NOON)
    }

    fn verdicts(&self) -> &RefCell<Verdicts> {
        &self.verdicts
    }

    fn call<'a>(&'a self, _: Call<'a>) -> Calling<'a> {
        unreachable!("nobody is asked")
    }

    fn shared_counts(&self) -> Option<&dyn SharedCounts> {
        self.elsewhere.as_ref().map(|elsewhere| elsewhere as &dyn SharedCounts)
    }
}

impl SharedCounts for Elsewhere {
    fn take<'a>(&'a self, _: &'a [Ask]) -> Counting<'a, Vec<Verdict>> {
        unreachable!("there are no limits")
    }

    fn give_back(&self, _: &[Ask]) {
        unreachable!("there are no limits")
    }

    fn owe(&self, _: Ask) {
        unreachable!("there are no limits")
    }

    fn spend(&self, ask: AskQuota) -> Counting<'_, Result<u64, u64>> {
        self.asked.borrow_mut().push(ask);
        if !self.is_silent.get() {
            self.used.set(self.used.get() + ask.owed);
        }
        let answer = match (self.is_silent.get(), self.used.get()) {
            (true, _) => Err(Unanswered),
            (false, used) if used >= ask.most => Ok(Err(used)),
            (false, used) => {
                self.used.set(used + 1);
                Ok(Ok(used + 1))
            }
        };
        Box::pin(async move { answer })
    }
}

fn fixed(elsewhere: Option<Elsewhere>) -> Fixed {
    Fixed { verdicts: RefCell::default(), elsewhere }
}

fn offered(accounts: &Accounts, plan: &str, by: QuotaBy, most: u64) -> Offered {
    let key = SlotKey {
        plan: plan.into(),
        api: None,
        route: None,
        by,
        per: Unit::Day,
        time_zone: "UTC".to_owned(),
        week_starts: WeekStart::Monday,
    };
    let grant = Arc::new(Grant { most, slot: accounts.slot(key) });
    Offered { grant, series: Arc::new(QuotaSeries::new(plan.into(), 1)) }
}

fn quota(plans: Vec<Offered>, on_failure: Option<CountersFailure>) -> Quota {
    let keys = Table::new(1, [1, 2], Instant::now());
    let shared = on_failure.map(|on_failure| Shared { key: Arc::new(move |name| keys.key(name.as_bytes())), on_failure });
    Quota::compile(&Quotas { plans, shared }, None).expect("a quota")
}

fn exchange(accounts: &Accounts, name: &str, plan: Option<&str>) -> Exchange {
    let consumer = Consumer {
        name: name.into(),
        plan: plan.map(Into::into),
        account: accounts.of(name),
        groups: [].into(),
        disabled: false,
    };
    let principal = Principal { authorizer: "keys".into(), consumer: Some(Arc::new(consumer)), ..Principal::default() };
    let mut exchange = Exchange::new(Instant::now());
    exchange.principal = Some(Arc::new(principal));
    exchange
}

/// What it was refused with, and what is left.
fn entered(quota: &Quota, exchange: &mut Exchange, ports: &Fixed) -> (Option<Fault>, Option<QuotaLeft>) {
    let entered = match quota.enter(exchange, ports) {
        Hook::Ready(entered) => entered,
        Hook::Pending(later) => match pin!(later).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(entered) => entered,
            Poll::Pending => panic!("nobody lets it wait"),
        },
    };
    let fault = match entered {
        Ok(Flow::Go(())) => None,
        Ok(Flow::Reply(_)) => panic!("it answers nobody"),
        Err(fault) => Some(fault),
    };
    (fault, exchange.taken.quota)
}

#[test]
fn whoever_has_a_plan_takes_one_until_nothing_is_left() {
    let accounts = Accounts::default();
    let quota =
        quota(vec![offered(&accounts, "silver", QuotaBy::Consumer, 9), offered(&accounts, "gold", QuotaBy::Consumer, 2)], None);
    let ports = fixed(None);
    let ask = |name: &str, plan: Option<&str>| entered(&quota, &mut exchange(&accounts, name, plan), &ports);
    let (day, ends_in) = (Duration::from_secs(86_400), Duration::from_secs(43_200));
    for left in [1, 0] {
        let (fault, told) = ask("alice", Some("gold"));
        assert_eq!((fault.map(|fault| fault.kind), told), (None, Some(QuotaLeft { most: 2, left, ends_in, window: day })));
    }
    let (fault, told) = ask("alice", Some("gold"));
    let fault = fault.expect("it is used up");
    assert_eq!((fault.kind, fault.retry_after, told.map(|told| told.left)), (Kind::QuotaExceeded, Some(ends_in), Some(0)));
    assert_eq!(ask("bob", Some("gold")).1.map(|told| told.left), Some(1));
    assert_eq!(ask("alice", Some("silver")).1.map(|told| told.left), Some(8), "another plan's is another count");
    // That there is no such plan, or that it gives none here.
    for plan in [None, Some("bronze")] {
        assert_eq!(ask("alice", plan).1, None);
    }
    let nobody = &mut Exchange::new(Instant::now());
    assert_eq!(entered(&quota, nobody, &ports).1, None);
    assert_eq!(quota.plans.iter().map(|offered| offered.series.counts()).collect::<Vec<_>>(), [[3, 1], [1, 0]]);
}

#[test]
fn counts_that_gateways_share_are_asked_and_learned_from() {
    let accounts = Accounts::default();
    let gold = offered(&accounts, "gold", QuotaBy::Consumer, 5);
    let quota = quota(vec![gold.clone()], Some(CountersFailure::Local));
    let ports = fixed(Some(Elsewhere { used: Cell::new(3), ..Elsewhere::default() }));
    let elsewhere = ports.elsewhere.as_ref().expect("counts");
    let ask = || entered(&quota, &mut exchange(&accounts, "alice", Some("gold")), &ports);
    assert_eq!(ask().1.map(|told| told.left), Some(1));
    assert_eq!(gold.grant.used(&accounts.of("alice"), NOON).1, 4, "what others used is known here");
    assert_eq!(ask().1.map(|told| told.left), Some(0));
    assert_eq!(ask().0.map(|fault| fault.kind), Some(Kind::QuotaExceeded));
    let asked = elsewhere.asked.borrow()[0];
    assert_eq!((asked.period, asked.ends_in, asked.most, asked.units), (NOON - 43_200, Duration::from_secs(43_200), 5, 1));
    entered(&quota, &mut exchange(&accounts, "bob", Some("gold")), &ports);
    let bobs = elsewhere.asked.borrow()[3];
    assert!(bobs.key != asked.key && bobs.limit == asked.limit);
}

#[test]
fn while_they_do_not_answer_it_is_as_the_configuration_says() {
    for (on_failure, wanted) in [
        (CountersFailure::Local, [None, Some(Kind::QuotaExceeded)]),
        (CountersFailure::Open, [None, None]),
        (CountersFailure::Closed, [Some(Kind::CountersUnavailable), Some(Kind::CountersUnavailable)]),
    ] {
        let accounts = Accounts::default();
        let quota = quota(vec![offered(&accounts, "gold", QuotaBy::Consumer, 4)], Some(on_failure));
        let ports = fixed(Some(Elsewhere { used: Cell::new(2), ..Elsewhere::default() }));
        let ask = || entered(&quota, &mut exchange(&accounts, "alice", Some("gold")), &ports).0.map(|fault| fault.kind);
        assert_eq!(ask(), None);
        ports.elsewhere.as_ref().expect("counts").is_silent.set(true);
        // Three are used; it goes on from there.
        assert_eq!([ask(), ask()], wanted, "{on_failure:?}");
    }
}

#[test]
fn what_is_spent_while_nobody_answers_is_told_once_they_do() {
    let accounts = Accounts::default();
    let gold = offered(&accounts, "gold", QuotaBy::Consumer, 5);
    let quota = quota(vec![gold.clone()], Some(CountersFailure::Local));
    let ports = fixed(Some(Elsewhere::default()));
    let elsewhere = ports.elsewhere.as_ref().expect("counts");
    let ask = || entered(&quota, &mut exchange(&accounts, "alice", Some("gold")), &ports);
    ask();
    elsewhere.is_silent.set(true);
    assert_eq!([ask(), ask()].map(|(_, told)| told.map(|told| told.left)), [Some(3), Some(2)]);
    elsewhere.is_silent.set(false);
    assert_eq!(ask().1.map(|told| told.left), Some(1), "three were used before");
    assert_eq!((elsewhere.used.get(), gold.grant.used(&accounts.of("alice"), NOON).1), (4, 4));
    assert_eq!(ask().1.map(|told| told.left), Some(0), "it is told once");
    assert_eq!(ask().0.map(|fault| fault.kind), Some(Kind::QuotaExceeded));
    // Whoever goes while he asks leaves it for the next.
    elsewhere.is_silent.set(true);
    gold.grant.count(&accounts.of("bob")).meter.owe(gold.grant.slot.calendar.period(NOON), 2);
    entered(&quota, &mut exchange(&accounts, "bob", Some("gold")), &ports);
    elsewhere.is_silent.set(false);
    entered(&quota, &mut exchange(&accounts, "bob", Some("gold")), &ports);
    let told: Vec<u64> = elsewhere.asked.borrow().iter().rev().take(2).map(|asked| asked.owed).collect();
    assert_eq!(told, [3, 2]);
}

#[test]
fn a_route_on_which_no_plan_gives_one_has_no_such_policy() {
    assert!(Quota::compile(&Quotas::default(), None).is_none());
}
