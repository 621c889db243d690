use super::*;
use maitred_core::identity::{Flights, Verdicts};
use maitred_core::limit_table::Table;
use maitred_core::testing::Fixed;
use maitred_core::wire::HeadLimits;
use maitred_core::{Call, Calling, Room, Waiting};
use maitred_model::{FailedCredentials, Rate, RateUnit};
use std::cell::{Cell, RefCell};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const LIMITS: HeadLimits = HeadLimits { head_bytes: 4096, fields: 10, target_bytes: 1024, drop_underscores: false };

/// A worker on which a turn comes when the test says so.
struct Busy {
    fixed: Fixed,
    is_free: Cell<bool>,
    turns_asked: Cell<u32>,
}

impl Busy {
    fn new() -> Busy {
        Busy { fixed: Fixed::at(1_700_000_000), is_free: Cell::new(false), turns_asked: Cell::new(0) }
    }

    fn pass(&self, time: Duration) {
        self.fixed.now.set(self.fixed.now.get() + time);
    }
}

impl Ports for Busy {
    fn now(&self) -> Instant {
        self.fixed.now()
    }

    fn unix_time(&self, now: Instant) -> Duration {
        self.fixed.unix_time(now)
    }

    fn verdicts(&self) -> &RefCell<Verdicts> {
        self.fixed.verdicts()
    }

    fn flights(&self) -> &Flights {
        self.fixed.flights()
    }

    fn turn(&self) -> Waiting<'_> {
        self.turns_asked.set(self.turns_asked.get() + 1);
        Box::pin(poll_fn(|_| if self.is_free.get() { Poll::Ready(()) } else { Poll::Pending }))
    }

    fn until(&self, moment: Instant) -> Waiting<'_> {
        Box::pin(poll_fn(move |_| if self.now() >= moment { Poll::Ready(()) } else { Poll::Pending }))
    }

    fn room(&self) -> &Room {
        self.fixed.room()
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Calling<'a> {
        self.fixed.call(call)
    }
}

/// Finds a wrong credential in every request.
struct Wrong {
    name: Arc<str>,
    looked: Arc<AtomicU64>,
}

impl Authorizer for Wrong {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn finds(&self, _: &Exchange) -> bool {
        true
    }

    fn recall(&self, _: &Exchange, _: &dyn Ports) -> Option<Decision> {
        None
    }

    fn decide<'a>(&'a self, _: &'a mut Exchange, _: &'a dyn Ports) -> Hook<'a, Decision> {
        self.looked.fetch_add(1, Ordering::Relaxed);
        Hook::Ready(Err(Refusal::invalid("it is wrong")))
    }

    fn challenge(&self) -> Option<String> {
        None
    }

    fn strip(&self, _: &mut Exchange) {}
}

/// A route that looks at `burst` wrong credentials of an address, and how many it looked at.
fn route(burst: u32, now: Instant) -> (Authenticate, Arc<AtomicU64>) {
    let looked = Arc::new(AtomicU64::new(0));
    let one = NonZeroU32::MIN;
    let configured =
        FailedCredentials { rate: Rate { count: one, per: RateUnit::Minute }, burst: NonZeroU32::new(burst).expect("some") };
    let failures = Failures::new(Arc::new(Table::new(1000, [1, 2], now)), Arc::default(), &configured);
    let choice = Choice {
        authorizer: Arc::new(Wrong { name: "keys".into(), looked: looked.clone() }),
        strip: false,
        series: Arc::new(AuthorizerSeries::new("keys".into(), 1)),
    };
    (Authenticate::compile(&[choice], false, Some(failures), &[], false), looked)
}

fn exchange(ports: &Busy, timeout: Option<Duration>) -> Exchange {
    let mut exchange = Exchange::new(ports.now());
    exchange.request.parse(HEAD, &LIMITS).expect("a good head");
    exchange.deadline = timeout.map(|timeout| ports.now() + timeout);
    exchange
}

type Entered = Result<Flow<()>, Fault>;

fn poll(hook: &mut Hook<'_, Entered>) -> Option<Kind> {
    let entered = match hook {
        Hook::Ready(entered) => entered.as_ref().err().map(|fault| fault.kind),
        Hook::Pending(later) => match later.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(entered) => entered.err().map(|fault| fault.kind),
            Poll::Pending => return None,
        },
    };
    Some(entered.expect("nobody is let in"))
}

#[test]
fn who_waits_for_a_turn_beyond_its_time_is_told_so_and_not_looked_at() {
    for comes_late in [false, true] {
        let ports = Busy::new();
        let (route, looked) = route(10, ports.now());
        let mut exchange = exchange(&ports, Some(Duration::from_secs(1)));
        let mut entering = route.enter(&mut exchange, &ports);
        assert_eq!(poll(&mut entering), None);
        ports.pass(Duration::from_millis(999));
        assert_eq!(poll(&mut entering), None);
        ports.pass(Duration::from_millis(1));
        ports.is_free.set(comes_late);
        assert_eq!(poll(&mut entering), Some(Kind::AuthorizerUnavailable), "{comes_late}");
        assert_eq!(looked.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn who_has_a_turn_in_time_or_all_the_time_in_the_world_is_looked_at() {
    for timeout in [Some(Duration::from_secs(1)), None] {
        let ports = Busy::new();
        let (route, looked) = route(10, ports.now());
        let mut exchange = exchange(&ports, timeout);
        let mut entering = route.enter(&mut exchange, &ports);
        assert_eq!(poll(&mut entering), None);
        ports.pass(timeout.map_or(Duration::from_secs(3600), |timeout| timeout / 2));
        ports.is_free.set(true);
        assert_eq!(poll(&mut entering), Some(Kind::Unauthenticated));
        assert_eq!(looked.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn an_address_over_its_limit_stands_in_no_line() {
    let ports = Busy::new();
    let (route, looked) = route(2, ports.now());
    let mut late = exchange(&ports, None);
    let mut in_line = route.enter(&mut late, &ports);
    assert_eq!(poll(&mut in_line), None);
    ports.is_free.set(true);
    for _ in 0..2 {
        assert_eq!(poll(&mut route.enter(&mut exchange(&ports, None), &ports)), Some(Kind::Unauthenticated));
    }
    ports.is_free.set(false);
    let before = ports.turns_asked.get();
    let refused = |entering: &mut Hook<'_, _>| {
        // Whoever guesses is in no hurry.
        assert_eq!(poll(entering), None);
        ports.pass(PAUSE);
        assert_eq!(poll(entering), Some(Kind::TooManyFailures));
    };
    for _ in 0..3 {
        refused(&mut route.enter(&mut exchange(&ports, None), &ports));
    }
    assert_eq!((ports.turns_asked.get(), looked.load(Ordering::Relaxed)), (before, 2));
    // It was under the limit when it came, and is not when its turn comes.
    ports.is_free.set(true);
    refused(&mut in_line);
    assert_eq!(looked.load(Ordering::Relaxed), 2);
    ports.pass(Duration::from_secs(60));
    assert_eq!(poll(&mut route.enter(&mut exchange(&ports, None), &ports)), Some(Kind::Unauthenticated));
}
