use super::*;

fn share(percent: &str) -> Share {
    Share::parse(percent).unwrap()
}

#[test]
fn retries_never_exceed_the_share_and_the_reserve() {
    let chance = Chance::seeded(7);
    for percent in ["0.0001%", "1%", "20%", "33.3333%", "100%"] {
        let (budget, share) = (Budget::default(), share(percent));
        let (mut requests, mut retries) = (0u64, 0u64);
        for step in 0..200_000 {
            // Quiet times, storms, and all between.
            let eager = (step / 10_000) % 4;
            if chance.below(4) >= eager {
                budget.deposit(share);
                requests += 1;
            } else if budget.withdraw() {
                retries += 1;
            }
            let paid = requests as f64 * f64::from(share.ppm()) / 1e6;
            assert!(retries as f64 <= paid + RESERVE as f64, "{percent}: {retries} retries of {requests} requests");
        }
    }
}

#[test]
fn an_outage_costs_the_offered_load_and_its_share() {
    let (budget, share) = (Budget::default(), share("20%"));
    // Two retries each, if they are paid for.
    let tries = |_| {
        budget.deposit(share);
        1 + u64::from(budget.withdraw()) + u64::from(budget.withdraw())
    };
    let tried: u64 = (0..12_000).map(tries).sum();
    assert_eq!(tried, 12_000 + 2_400 + RESERVE);
}

#[test]
fn a_quiet_hour_does_not_pay_for_a_storm() {
    let budget = Budget::default();
    assert_eq!(budget.left(), RESERVE, "a quiet upstream may retry");
    (0..1_000_000).for_each(|_| budget.deposit(share("100%")));
    assert_eq!((0..1_000_000).filter(|_| budget.withdraw()).count() as u64, SAVED_MAX);
}

#[test]
fn one_budget_serves_many_threads() {
    let budget = Budget::default();
    let taken: u64 = std::thread::scope(|scope| {
        let work = || (0..50_000).map(|_| budget.deposit(share("1%"))).map(|()| u64::from(budget.withdraw())).sum::<u64>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!((RESERVE..=RESERVE + 2_000).contains(&(taken + budget.left())), "{taken}");
    assert!(taken >= 2_000, "and what was paid in is there: {taken}");
}

#[test]
fn waits_are_spread_and_double_up_to_the_longest() {
    let chance = Chance::seeded(1);
    let (mean, longest) = (Duration::from_millis(25), Duration::from_millis(250));
    for (retry, most) in [(0, 50), (1, 100), (2, 200), (3, 250), (40, 250), (u32::MAX, 250)] {
        let waits: Vec<Duration> = (0..10_000).map(|_| backoff(mean, longest, retry, &chance)).collect();
        let most = Duration::from_millis(most);
        let average = waits.iter().sum::<Duration>() / 10_000;
        assert!(waits.iter().all(|wait| *wait <= most), "retry {retry}");
        assert!(average.abs_diff(most / 2) < most / 50, "retry {retry}: {average:?}");
        assert!(waits.iter().any(|wait| *wait < most / 50) && waits.iter().any(|wait| *wait > most - most / 50));
    }
}
