//! The phases by hand: what is asked of counts that are kept elsewhere, what becomes of requests when those do not answer, and what is given
//! back where. How it looks from outside is in tests/journeys/rate_limits.rs.

use super::*;
use crate::authorize::condition::Condition;
use maitred_core::identity::{Consumer, Flights, Verdicts};
use maitred_core::limits::series::LimitName;
use maitred_core::limits::{Ask, AskQuota, Counting, SharedCounts, Unanswered};
use maitred_core::ports::{Call, Calling, Waiting};
use maitred_core::wire::ResponseHead;
use maitred_core::{Body, Exchange, Fault, Flow, Hook, Kind, Policy, Ports, Principal, Response, Room};
use maitred_model::{LimitBy, Rate, RateLimit as Configured, Spanned};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Counts that gateways share, as a test wants them.
#[derive(Default)]
struct Elsewhere {
    is_down: Cell<bool>,
    /// Of the n-th that is asked.
    refuses: Cell<Option<usize>>,
    waits: Cell<Duration>,
    asked: Cell<usize>,
    given_back: RefCell<Vec<u32>>,
    owed: RefCell<Vec<u32>>,
}

impl SharedCounts for Elsewhere {
    fn take<'a>(&'a self, asks: &'a [Ask]) -> Counting<'a, Vec<Verdict>> {
        self.asked.set(self.asked.get() + asks.len());
        let verdict = |at: usize| {
            let allowed = self.refuses.get() != Some(at);
            let retry_nanos = if allowed { self.waits.get() } else { Duration::from_secs(7) }.as_nanos() as u64;
            Verdict { allowed, retry_nanos, remaining: if allowed { 5 - at as u32 } else { 0 }, full_nanos: 3_000_000_000 }
        };
        let answer = if self.is_down.get() { Err(Unanswered) } else { Ok((0..asks.len()).map(verdict).collect()) };
        Box::pin(std::future::ready(answer))
    }

    fn give_back(&self, asks: &[Ask]) {
        self.given_back.borrow_mut().extend(asks.iter().map(|ask| ask.units));
    }

    fn owe(&self, ask: Ask) {
        self.owed.borrow_mut().push(ask.units);
    }

    fn spend(&self, _: AskQuota) -> Counting<'_, Result<u64, u64>> {
        unreachable!("no quota here")
    }
}

struct Here {
    now: Cell<Instant>,
    counts: Option<Elsewhere>,
    verdicts: RefCell<Verdicts>,
}

impl Ports for Here {
    fn now(&self) -> Instant {
        self.now.get()
    }

    fn unix_time(&self, _: Instant) -> Duration {
        Duration::from_secs(1_700_000_000)
    }

    fn verdicts(&self) -> &RefCell<Verdicts> {
        &self.verdicts
    }

    fn flights(&self) -> &Flights {
        unreachable!("nobody waits for another")
    }

    fn room(&self) -> &Room {
        unreachable!("nothing is held")
    }

    fn until(&self, moment: Instant) -> Waiting<'_> {
        Box::pin(std::future::poll_fn(move |_| if self.now.get() >= moment { Poll::Ready(()) } else { Poll::Pending }))
    }

    fn shared_counts(&self) -> Option<&dyn SharedCounts> {
        self.counts.as_ref().map(|counts| counts as &dyn SharedCounts)
    }

    fn call<'a>(&'a self, _: Call<'a>) -> Calling<'a> {
        unreachable!("nobody is asked")
    }
}

fn here(counts: Option<Elsewhere>) -> Here {
    Here { now: Cell::new(Instant::now()), counts, verdicts: RefCell::default() }
}

fn limit(name: &str, burst: u32, by: LimitBy, change: impl FnOnce(&mut Configured)) -> Limit {
    let mut configured = Configured {
        rate: Rate::parse("1/min").expect("a rate"),
        burst: burst.try_into().expect("a burst"),
        by: vec![Spanned::builtin(by)],
        cost: Cost::Units(1.try_into().expect("a number")),
        wait: None,
        keys_max: 100.try_into().expect("a number"),
    };
    change(&mut configured);
    let table = Arc::new(Table::new(100, [1, 2], Instant::now()));
    let making = KeyMaking { route: "r", conditions: &HashMap::new(), params: &[], masked: &[] };
    let keys = Keys::compile(&configured.by, &table, &making);
    let name_of = LimitName { api: "a".into(), route: "r".into(), limit: name.into() };
    let series = Arc::new(LimitSeries::new(name_of, 1));
    Limit::compile(name.to_owned(), &configured, keys, Counted { table, series, id: LimitId(7) })
}

const IP: LimitBy = LimitBy::Ip { ipv6_prefix: 64 };

fn draft() -> Ways {
    Ways { draft: true, ..Ways::default() }
}

fn entered(policy: &RateLimit, exchange: &mut Exchange, ports: &Here) -> Result<(), Fault> {
    exchange.record.started = ports.now();
    let flow = match policy.enter(exchange, ports) {
        Hook::Ready(flow) => flow,
        Hook::Pending(later) => match pin!(later).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(flow) => flow,
            Poll::Pending => panic!("it waits"),
        },
    };
    flow.map(|flow| assert!(matches!(flow, Flow::Go(()))))
}

fn left(policy: &RateLimit, exchange: &Exchange, ports: &Here, headers: &[(&str, &str)]) -> Option<String> {
    let mut response = Response { head: Box::new(ResponseHead::default()), body: Body::Empty };
    headers.iter().for_each(|(name, value)| response.head.headers.add(name.as_bytes(), value.as_bytes()));
    policy.leave(exchange, &mut response, ports);
    response.head.headers.get(b"ratelimit").map(|value| String::from_utf8_lossy(value).into_owned())
}

fn exchange() -> Exchange {
    Exchange::new(Instant::now())
}

/// One that begins now.
fn begun(ports: &Here) -> Exchange {
    Exchange::new(ports.now())
}

#[test]
fn counts_elsewhere_are_asked_together_and_what_was_granted_is_given_back_there() {
    let limits = vec![
        limit("api", 10, IP, |_| {}),
        limit("route", 10, LimitBy::Route, |limit| limit.cost = Cost::Units(3.try_into().unwrap())),
    ];
    let limits = Arc::new(Limits::new(limits, None, draft(), Some(CountersFailure::Local)));
    let early = limits.early().expect("an early phase");
    let ports = here(Some(Elsewhere::default()));
    let counts = ports.counts.as_ref().unwrap();
    let mut own = exchange();
    assert!(entered(&early, &mut own, &ports).is_ok());
    assert_eq!((counts.asked.get(), left(&early, &own, &ports, &[]).as_deref()), (2, Some("\"route\";r=4;t=3")));
    limits.give_back(&mut own, &ports);
    limits.give_back(&mut own, &ports);
    assert_eq!(*counts.given_back.borrow(), [1, 3], "once");
    // The second refuses: the first is given back.
    counts.refuses.set(Some(1));
    let fault = entered(&early, &mut own, &ports).expect_err("a refusal");
    assert_eq!((fault.kind, fault.retry_after), (Kind::RateLimited, Some(Duration::from_secs(7))));
    assert_eq!(
        (&counts.given_back.borrow()[2..], left(&early, &own, &ports, &[]).as_deref()),
        (&[1][..], Some("\"route\";r=0;t=3"))
    );
    assert_eq!(limits.own.iter().map(|limit| limit.series.counts()).collect::<Vec<_>>(), [[1, 0, 0], [1, 0, 1]]);
}

#[test]
fn when_counts_elsewhere_do_not_answer_it_goes_as_it_was_chosen() {
    for (failure, wanted, told) in [
        (CountersFailure::Local, [None, None, Some(Kind::RateLimited)], Some("\"api\";r=1;t=60")),
        (CountersFailure::Open, [None; 3], None),
        (CountersFailure::Closed, [Some(Kind::CountersUnavailable); 3], None),
    ] {
        let limits = Arc::new(Limits::new(vec![limit("api", 2, IP, |_| {})], None, draft(), Some(failure)));
        let early = limits.early().expect("an early phase");
        let ports = here(Some(Elsewhere { is_down: Cell::new(true), ..Elsewhere::default() }));
        let mut first = exchange();
        let met = wanted.map(|_| entered(&early, &mut exchange(), &ports).err().map(|fault| fault.kind));
        assert_eq!(met, wanted, "{failure:?}");
        let counted = match failure {
            CountersFailure::Local => [2, 0, 1],
            CountersFailure::Open => [3, 0, 0],
            CountersFailure::Closed => [0; 3],
        };
        assert_eq!(limits.own[0].series.counts(), counted, "{failure:?}");
        ports.now.set(ports.now.get() + Duration::from_secs(600));
        assert_eq!(entered(&early, &mut first, &ports).is_err(), failure == CountersFailure::Closed);
        assert_eq!(left(&early, &first, &ports, &[]).as_deref(), told, "{failure:?}");
        // What was taken here is given back here.
        limits.give_back(&mut first, &ports);
        assert!(ports.counts.as_ref().unwrap().given_back.borrow().is_empty());
    }
}

#[test]
fn what_an_answer_cost_is_settled_where_it_was_taken() {
    let by_answer = |limit: &mut Configured| limit.cost = Cost::ResponseHeader(HeaderName::parse("x-cost").unwrap());
    for is_shared in [true, false] {
        let limits = vec![limit("api", 10, IP, by_answer)];
        let limits = Arc::new(Limits::new(limits, None, draft(), is_shared.then_some(CountersFailure::Local)));
        let early = limits.early().expect("an early phase");
        let ports = here(is_shared.then(Elsewhere::default));
        for (said, owed, back, told) in [
            ("4", &[3][..], &[][..], "\"api\";r=2;t=240"),
            ("0", &[3], &[1], "\"api\";r=6;t=0"),
            ("1", &[3], &[1], "\"api\";r=5;t=60"),
        ] {
            let mut own = exchange();
            assert!(entered(&early, &mut own, &ports).is_ok());
            let line = left(&early, &own, &ports, &[("x-cost", said)]);
            let Some(counts) = &ports.counts else { continue };
            assert_eq!(line.as_deref(), Some(told));
            assert_eq!((&*counts.owed.borrow(), &*counts.given_back.borrow()), (&owed.to_vec(), &back.to_vec()), "{said}");
        }
        let taken_here = limits.own[0].table.peek(
            limits.own[0].keys.of(&exchange(), &ports, &limits.own[0].table),
            &limits.own[0].pace,
            ports.now(),
        );
        assert_eq!(taken_here.remaining, if is_shared { 10 } else { 5 });
    }
}

#[test]
fn what_expressions_make_of_headers_and_queries_is_in_no_list() {
    let table = Table::new(100, [1, 2], Instant::now());
    let ports = here(None);
    for (source, wanted) in [
        ("'a' + request.client_ip", Some("cel a")),
        ("request.headers['x-api-key']", None),
        ("request.method + request.query.token", None),
        ("has(request.query.token) ? 'token' : request.headers['x-api-key']", None),
    ] {
        let condition = Arc::new(Condition::compile_key(source).unwrap_or_else(|problem| panic!("{source}: {problem:?}")));
        let conditions = HashMap::from([(source.to_owned(), condition)]);
        let making = KeyMaking { route: "r", conditions: &conditions, params: &[], masked: &[] };
        let keys = Keys::compile(&[Spanned::builtin(LimitBy::Expression(source.to_owned()))], &table, &making);
        let mut exchange = exchange();
        exchange.request.headers.add(b"x-api-key", b"secret");
        let key = keys.of(&exchange, &ports, &table);
        let text = keys.text(&exchange, &ports, key);
        match wanted {
            Some(wanted) => assert!(text.starts_with(wanted), "{source}: {text}"),
            None => assert!(text.starts_with("cel ***") && text.len() == 11, "{source}: {text}"),
        }
    }
}

#[test]
fn a_turn_far_away_is_waited_for_and_beyond_the_timeout_it_is_not() {
    let patient = |limit: &mut Configured| limit.wait = Some(Duration::from_secs(60));
    let limits = Arc::new(Limits::new(vec![limit("api", 1, IP, patient)], None, draft(), None));
    let early = limits.early().expect("an early phase");
    let ports = here(None);
    assert!(entered(&early, &mut exchange(), &ports).is_ok());
    let mut hasty = exchange();
    hasty.deadline = Some(ports.now() + Duration::from_secs(30));
    let fault = entered(&early, &mut hasty, &ports).expect_err("no time to wait");
    assert_eq!((fault.kind, fault.retry_after), (Kind::RateLimited, Some(Duration::from_secs(60))));
    assert_eq!(limits.own[0].series.counts(), [1, 0, 1], "it was refused, and did not wait");
    assert_eq!(left(&early, &hasty, &ports, &[]).as_deref(), Some("\"api\";r=0;t=60"), "and gave its turn back");
    let mut waiting = begun(&ports);
    let Hook::Pending(mut later) = early.enter(&mut waiting, &ports) else { panic!("its turn comes later") };
    let mut context = Context::from_waker(Waker::noop());
    assert!(later.as_mut().poll(&mut context).is_pending());
    ports.now.set(ports.now.get() + Duration::from_secs(60));
    assert!(matches!(later.as_mut().poll(&mut context), Poll::Ready(Ok(Flow::Go(())))));
    drop(later);
    // Whoever stops waiting gives its turn back.
    let mut gone = begun(&ports);
    let Hook::Pending(mut later) = early.enter(&mut gone, &ports) else { panic!("its turn comes later") };
    assert!(later.as_mut().poll(&mut context).is_pending());
    drop(later);
    assert_eq!(gone.taken.as_slice().len(), 0);
    let Hook::Pending(_) = early.enter(&mut gone, &ports) else { panic!("the turn is free again") };
}

#[test]
fn a_caller_without_the_plan_that_it_was_given_does_not_come_in() {
    let of = |plan: &str| {
        let consumer = Consumer {
            name: "alice".into(),
            plan: Some(plan.into()),
            account: Arc::default(),
            groups: Box::default(),
            disabled: false,
        };
        let mut exchange = exchange();
        let principal = Principal { authorizer: "keys".into(), consumer: Some(Arc::new(consumer)), ..Principal::default() };
        exchange.principal = Some(Arc::new(principal));
        exchange
    };
    let gold = PlanTerms { plan: "gold".into(), priority: 9, limits: vec![limit("plan", 1, LimitBy::Consumer, |_| {})] };
    let free = PlanTerms { plan: "free".into(), priority: 0, limits: Vec::new() };
    let plans = Arc::new(PlanLimits::new(vec![gold, free]));
    let limits = Arc::new(Limits::new(Vec::new(), Some(plans), draft(), None));
    assert!(limits.early().is_none());
    let (late, ports) = (limits.late().expect("a late phase"), here(None));
    let mut exchange = of("gold");
    assert!(entered(&late, &mut exchange, &ports).is_ok());
    assert_eq!((exchange.priority, left(&late, &exchange, &ports, &[]).as_deref()), (9, Some("\"plan\";r=0;t=60")));
    assert_eq!(entered(&late, &mut of("gold"), &ports).map_err(|fault| fault.kind), Err(Kind::RateLimited));
    assert_eq!(entered(&late, &mut of("free"), &ports).map_err(|fault| fault.kind), Ok(()));
    assert_eq!(entered(&late, &mut of("silver"), &ports).map_err(|fault| fault.kind), Err(Kind::Forbidden));
    let shown = limits
        .plans
        .as_ref()
        .and_then(|plans| plans.limits_of("gold"))
        .and_then(|limits| limits[0].left_for("alice", ports.now()));
    assert_eq!(shown.map(|verdict| (verdict.allowed, verdict.remaining)), Some((false, 0)));
}

#[test]
fn a_cost_is_digits_and_nothing_else() {
    for (text, cost) in [
        ("0", Some(0)),
        ("7", Some(7)),
        (" 12\t", Some(12)),
        ("0012", Some(12)),
        ("4294967295", Some(u32::MAX)),
        ("4294967296", Some(u32::MAX)),
        ("99999999999999999999999999", Some(u32::MAX)),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1, 2", None),
        ("one", None),
        ("１", None),
    ] {
        assert_eq!(read_cost(text.as_bytes()), cost, "{text:?}");
    }
}
