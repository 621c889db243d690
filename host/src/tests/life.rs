//! From the start of a process to its end (lambda-runtime-api.md, section 3).

use super::*;
use crate::log::LogSource;
use maitred_core::function::Failure;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

#[test]
fn more_at_once_are_more_processes_up_to_the_most() {
    block_on(async {
        let house = house(at_once(3, ""));
        let slow = || house.returned(json!({"pid": true, "sleep": 0.3}));
        let pids = tokio::join!(slow(), slow(), slow(), slow(), slow(), slow());
        let pids: HashSet<_> = [pids.0, pids.1, pids.2, pids.3, pids.4, pids.5].iter().map(ToString::to_string).collect();
        assert!((2..=3).contains(&pids.len()), "{pids:?}");
        assert!(house.pool.figures().starts.load(Ordering::Relaxed) <= 3);
        assert_eq!(house.pool.figures().invocations.load(Ordering::Relaxed), 6);
    });
}

#[test]
fn the_process_that_worked_last_works_next() {
    block_on(async {
        let house = house(at_once(2, ""));
        let slow = || house.returned(json!({"pid": true, "sleep": 0.3}));
        tokio::join!(slow(), slow());
        house.until("both are idle", |view| view.instances.iter().filter(|one| one.state == "idle").count() == 2).await;
        let last = house.returned(json!({"pid": true})).await;
        for _ in 0..5 {
            house.until("both are idle", |view| view.instances.iter().all(|one| one.state == "idle")).await;
            assert_eq!(house.returned(json!({"pid": true})).await, last);
        }
    });
}

#[test]
fn the_queue_has_an_end_and_a_time() {
    block_on(async {
        let queue = FunctionQueue { length: 1, timeout: Duration::from_millis(100) };
        let house = house(Settings { queue, ..at_once(1, "") });
        house.returned(json!({})).await;
        house.until_idle().await;
        let long = house.pool.invoke(invocation(&json!({"sleep": 1.0})));
        let waits = house.pool.invoke(invocation(&json!({})));
        let too_many = house.pool.invoke(invocation(&json!({})));
        let (long, waits, too_many) = tokio::join!(biased; long, waits, too_many);
        whole(long);
        assert_eq!(waits.unwrap_err(), NotRun::Waited);
        assert_eq!(too_many.unwrap_err(), NotRun::QueueFull);
        assert_eq!(house.pool.figures().throttles.load(Ordering::Relaxed), 2);
        // The time that a process takes to start is no time in the queue.
        let queue = FunctionQueue { length: 0, timeout: Duration::ZERO };
        let house = super::house(Settings { queue, ..at_once(2, "") });
        let (one, other) = tokio::join!(house.returned(json!({"return": 1})), house.returned(json!({"return": 2})));
        assert_eq!((one, other), (json!(1), json!(2)));
    });
}

#[test]
fn who_waits_for_one_that_never_asks_again_waits_no_longer_than_the_queue_allows() {
    block_on(async {
        let queue = FunctionQueue { length: 1, timeout: Duration::from_millis(100) };
        let house = house(Settings { queue, timeout: PATIENCE / 2, ..at_once(1, "") });
        house.returned(json!({"linger": 1000})).await;
        let started = std::time::Instant::now();
        assert_eq!(house.pool.invoke(invocation(&json!({}))).await.unwrap_err(), NotRun::Waited);
        assert!(started.elapsed() < PATIENCE / 4, "{:?}", started.elapsed());
    });
}

#[test]
fn whoever_goes_leaves_the_queue_and_what_runs_runs_on() {
    block_on(async {
        let queue = FunctionQueue { length: 1, timeout: PATIENCE };
        let house = house(Settings { queue, ..at_once(1, "") });
        let pid = house.returned(json!({"pid": true})).await;
        house.until_idle().await;
        {
            let running = house.pool.invoke(invocation(&json!({"sleep": 0.3, "stdout": "ran on", "print": true})));
            let waiting = house.pool.invoke(invocation(&json!({"stdout": "never ran"})));
            let mut both = std::pin::pin!(async { tokio::join!(running, waiting) });
            tokio::select! {
                _ = &mut both => panic!("it was to take longer"),
                _ = house.until("one waits", |view| view.waiting == 1) => {}
            }
        }
        assert_eq!(house.returned(json!({"pid": true})).await, pid);
        let lines = house.until_logged("answered 202").await;
        assert!(lines.iter().any(|line| line == "ran on") && !lines.iter().any(|line| line == "never ran"), "{lines:?}");
    });
}

#[test]
fn at_the_deadline_the_process_is_killed_with_all_that_it_started() {
    block_on(async {
        let house = house(Settings { timeout: Duration::from_millis(500), ..at_once(1, "stubborn") });
        let pid = house.returned(json!({"pid": true})).await.as_u64().unwrap() as u32;
        let finished = house.invoke(json!({"child": true, "sleep": 1000})).await;
        assert_eq!(finished.failure, Some(Failure::TimedOut));
        let error = error_of(&finished);
        assert_eq!(error["errorType"], "Sandbox.Timedout");
        assert!(error["errorMessage"].as_str().unwrap().ends_with("Error: Task timed out after 0.50 seconds"), "{error}");
        house.until("it is gone", |view| view.instances.is_empty()).await;
        assert!(!is_running(pid));
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1), "another is started");
        let figures = house.pool.figures();
        assert_eq!((figures.timeouts.load(Ordering::Relaxed), figures.failures.load(Ordering::Relaxed)), (1, 1));
    });
}

#[test]
fn one_that_calls_without_end_leaves_time_for_others_and_has_its_deadline() {
    block_on(async {
        let house = house(Settings { timeout: Duration::from_millis(1500), ..at_once(3, "") });
        let mut flood = std::pin::pin!(house.invoke(json!({"flood": true})));
        tokio::select! {
            finished = &mut flood => panic!("it was to take longer: {finished:?}"),
            _ = house.until("it is at work", |view| view.instances.iter().any(|one| one.state == "busy")) => {}
        }
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
        assert_eq!(flood.await.failure, Some(Failure::TimedOut));
    });
}

#[test]
fn a_process_that_ends_during_an_event_is_an_exit_error() {
    block_on(async {
        let house = house(at_once(1, ""));
        for (event, message) in [
            (json!({"exit": 3}), "Runtime exited with error: exit status 3"),
            (json!({"exit": 0}), "Runtime exited without providing a reason"),
            (json!({"signal": 9}), "Runtime exited with error: signal: killed"),
        ] {
            let finished = house.invoke(event).await;
            assert_eq!(finished.failure, Some(Failure::Exited));
            let error = error_of(&finished);
            assert_eq!(error["errorType"], "Runtime.ExitError");
            assert!(error["errorMessage"].as_str().unwrap().ends_with(message), "{error}");
        }
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
    });
}

#[test]
fn a_start_that_fails_is_tried_once_more_and_then_told() {
    block_on(async {
        for (mode, kind, starts) in [("fail", "ImportError", 2), ("exit", "Runtime.ExitError", 2)] {
            let house = house(settings(mode));
            let finished = house.invoke(json!({})).await;
            assert_eq!((&error_of(&finished)["errorType"], finished.failure), (&json!(kind), Some(Failure::NotStarted)));
            assert_eq!(house.pool.figures().starts.load(Ordering::Relaxed), starts, "{mode}");
        }
        let mark = std::env::temp_dir().join(format!("maitred-once-{}", uuid::Uuid::now_v7()));
        let house = house(settings(&format!("once:{}", mark.display())));
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1), "the second start went well");
        std::fs::remove_file(mark).unwrap();
    });
}

#[test]
fn init_error_is_accepted_and_each_waiting_event_is_told_once() {
    block_on(async {
        let house = house(at_once(2, "fail"));
        let fail = || house.invoke(json!({}));
        let all = tokio::join!(fail(), fail(), fail(), fail(), fail());
        for finished in [all.0, all.1, all.2, all.3, all.4] {
            assert_eq!(error_of(&finished)["errorType"], "ImportError");
        }
        let lines = house.until_logged("init/error 202 {\"status\":\"OK\"}").await;
        assert!(lines.iter().any(|line| line.contains("`absent` is not there: add it to requirements.txt")), "{lines:?}");
        house.until("all are gone", |view| view.instances.is_empty()).await;
        assert_eq!(house.pool.figures().failures.load(Ordering::Relaxed), 5);
    });
}

#[test]
fn a_process_that_never_asks_for_work_is_ended() {
    block_on(async {
        let limits =
            || Settings { init_timeout: Duration::from_millis(300), timeout: Duration::from_millis(400), ..at_once(1, "hang") };
        let house = house(limits());
        let started = std::time::Instant::now();
        let finished = house.invoke(json!({})).await;
        // The second start is part of the invocation.
        assert_eq!((&error_of(&finished)["errorType"], finished.failure), (&json!("Sandbox.Timedout"), Some(Failure::TimedOut)));
        assert!(started.elapsed() >= Duration::from_millis(700));
        house.until("it is gone", |view| view.instances.is_empty()).await;
    });
}

#[test]
fn a_program_that_cannot_be_started_is_told() {
    block_on(async {
        let launch: Launcher = Box::new(|_, _| {
            Ok(Launch {
                command: vec!["/no/such/bootstrap".into()],
                environment: Vec::new(),
                directory: "/".into(),
                user: None,
                memory: None,
            })
        });
        let house = house(Settings { launch, ..settings("") });
        let finished = house.invoke(json!({})).await;
        assert_eq!(error_of(&finished)["errorType"], "Runtime.InvalidEntrypoint");
        assert_eq!(finished.failure, Some(Failure::NotStarted));
    });
}

#[test]
fn an_idle_process_ends_after_a_while_and_those_kept_warm_do_not() {
    block_on(async {
        let house = house(Settings { idle: Duration::from_millis(100), min_instances: 1, ..at_once(3, "") });
        house.until("one is warm", |view| view.instances.iter().filter(|one| one.state == "idle").count() == 1).await;
        let slow = || house.returned(json!({"pid": true, "sleep": 1.5}));
        let (one, other) = tokio::join!(slow(), slow());
        assert_ne!(one, other);
        let view = house.until("one has ended", |view| view.instances.len() == 1).await;
        assert!([one, other].contains(&json!(view.instances[0].pid)));
        house.until_idle().await;
        assert_eq!(house.pool.figures().idle.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn one_that_does_not_heed_the_request_to_end_is_killed() {
    block_on(async {
        let house = house(Settings { idle: Duration::from_millis(50), ..at_once(1, "stubborn") });
        house.returned(json!({})).await;
        house.until("it is ending", |view| view.instances.iter().all(|one| one.state == "ending")).await;
        house.until("it is gone", |view| view.instances.is_empty()).await;
    });
}

#[test]
fn a_warm_process_that_dies_is_replaced() {
    block_on(async {
        let house = house(Settings { min_instances: 1, ..at_once(2, "") });
        let view = house.until("one is warm", |view| view.instances.iter().any(|one| one.state == "idle")).await;
        let pid = view.instances[0].pid;
        Command::new("kill").arg("-9").arg(pid.to_string()).status().unwrap();
        house.until("another is warm", |view| view.instances.iter().any(|one| one.state == "idle" && one.pid != pid)).await;
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
    });
}

#[test]
fn warm_ones_that_die_of_themselves_are_not_started_without_pause() {
    block_on(async {
        let started = std::time::Instant::now();
        let house = house(Settings { min_instances: 1, ..at_once(2, "mortal") });
        while house.pool.figures().starts.load(Ordering::Relaxed) < 3 {
            assert!(started.elapsed() < PATIENCE);
            tokio::task::yield_now().await;
        }
        assert!(started.elapsed() >= Duration::from_secs(2), "a second after each: {:?}", started.elapsed());
    });
}

#[test]
fn after_an_answer_a_process_is_busy_until_it_asks_again() {
    block_on(async {
        let house = house(at_once(1, ""));
        house.returned(json!({})).await;
        let started = std::time::Instant::now();
        house.returned(json!({"return": 1, "linger": 1.5})).await;
        assert!(started.elapsed() < Duration::from_millis(1500), "the caller does not wait for that");
        assert_eq!(house.pool.view().await.instances[0].state, "busy");
        house.returned(json!({"return": 2})).await;
        assert!(started.elapsed() >= Duration::from_millis(1500));
    });
}

#[test]
fn one_that_has_just_answered_is_waited_for_and_one_that_lingers_is_not() {
    block_on(async {
        let house = house(at_once(50, ""));
        for _ in 0..100 {
            house.returned(json!({})).await;
        }
        let starts = house.pool.figures().starts.load(Ordering::Relaxed);
        assert!(starts < 20, "one after another need one process, and a few more on a machine that has much to do: {starts}");
        house.until_idle().await;
        let pid = house.returned(json!({"pid": true, "linger": 1000})).await;
        assert_ne!(house.returned(json!({"pid": true})).await, pid);
    });
}

#[test]
fn one_that_never_asks_again_is_ended_at_its_deadline() {
    block_on(async {
        let house = house(Settings { timeout: Duration::from_millis(400), ..at_once(1, "") });
        let pid = house.returned(json!({"return": 1, "pid": true, "linger": 1000})).await;
        assert_ne!(house.returned(json!({"pid": true})).await, pid);
    });
}

#[test]
fn new_code_is_new_processes_and_the_old_ones_end_their_work() {
    block_on(async {
        let house = house(at_once(1, ""));
        let old = house.returned(json!({"pid": true})).await;
        house.until_idle().await;
        let slow = house.returned(json!({"pid": true, "sleep": 0.5}));
        let reload = async {
            house.until("it works", |view| view.instances.iter().any(|one| one.state == "busy")).await;
            house.pool.reload();
            house.returned(json!({"pid": true})).await
        };
        let (slow, new) = tokio::join!(slow, reload);
        assert_eq!(slow, old, "it was not disturbed");
        assert_ne!(new, old);
        house.until("the old one is gone", |view| view.instances.iter().all(|one| json!(one.pid) != old)).await;
    });
}

#[test]
fn a_pool_without_handles_ends_its_processes_and_those_at_work_after_it() {
    block_on(async {
        let house = house(at_once(2, ""));
        let (one, other) =
            tokio::join!(house.returned(json!({"pid": true, "sleep": 0.2})), house.returned(json!({"pid": true, "sleep": 0.2})));
        let pids = [one, other].map(|pid| pid.as_u64().unwrap() as u32);
        let House { host, pool } = house;
        // The event is with the process; nobody waits for what comes of it.
        drop(tokio::time::timeout(Duration::from_millis(50), pool.invoke(invocation(&json!({"sleep": 0.3})))).await);
        drop(pool);
        let started = std::time::Instant::now();
        while pids.iter().any(|pid| is_running(*pid)) {
            assert!(started.elapsed() < PATIENCE);
            tokio::task::yield_now().await;
        }
        drop(host);
    });
}

#[test]
fn a_host_that_stops_waits_for_what_is_under_way_and_no_longer_than_it_may() {
    let House { host, pool } = house(at_once(2, ""));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (short, long) = runtime.block_on(async {
        let warm = |sleep: f64| whole_of(&pool, json!({"pid": true, "sleep": sleep}));
        tokio::join!(warm(0.2), warm(0.2));
        let pool = &pool;
        let stop = async {
            while pool.figures().busy.load(Ordering::Relaxed) < 2 {
                tokio::task::yield_now().await;
            }
            std::thread::scope(|scope| {
                scope.spawn(|| host.stop(Duration::from_millis(1500))).join().unwrap();
            });
        };
        let (short, long, ()) = tokio::join!(whole_of(pool, json!({"sleep": 0.3})), whole_of(pool, json!({"sleep": 1000})), stop);
        (short, long)
    });
    assert_eq!(short.failure, None);
    assert_eq!(long.failure, Some(Failure::Exited));
    let after = runtime.block_on(pool.invoke(invocation(&json!({}))));
    assert_eq!(after.unwrap_err(), NotRun::Closed);
}

#[test]
fn who_has_less_patience_ends_a_stop_sooner() {
    let House { host, pool } = house(at_once(1, ""));
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        let runs = scope.spawn(|| block_on(pool.invoke(invocation(&json!({"sleep": 1000})))));
        while pool.figures().busy.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        let stops = scope.spawn(|| host.stop(10 * PATIENCE));
        while pool.figures().busy.load(Ordering::Relaxed) > 0 {
            host.stop(Duration::from_millis(100));
            std::thread::yield_now();
        }
        stops.join().unwrap();
        assert_eq!(whole(runs.join().unwrap()).failure, Some(Failure::Exited));
    });
    assert!(started.elapsed() < PATIENCE);
}

async fn whole_of(pool: &Pool, event: Value) -> Finished {
    whole(pool.invoke(invocation(&event)).await)
}

#[test]
fn events_for_which_nobody_waits_are_tried_three_times() {
    block_on(async {
        let house = house(at_once(2, ""));
        house.pool.submit(invocation(&json!({"stdout": "well", "return": 1}))).await.unwrap();
        house.until_logged("well").await;
        house.pool.submit(invocation(&json!({"stdout": "badly", "error": {"errorMessage": "m"}}))).await.unwrap();
        house.until_logged("is given up").await;
        let count = |text: &str| house.pool.log_after(0).iter().filter(|line| &*line.text == text).count();
        assert_eq!((count("well"), count("badly")), (1, 3));
        let figures = house.pool.figures();
        assert_eq!((figures.invocations.load(Ordering::Relaxed), figures.failures.load(Ordering::Relaxed)), (4, 3));
    });
}

/// Another pool of the same name, as other code has.
fn next_pool(house: &House, settings: Settings) -> Arc<Pool> {
    house.host.open("test", Code::nowhere(), settings).unwrap()
}

async fn until_so(what: &str, is_so: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never {what}");
        tokio::task::yield_now().await;
    }
}

fn texts(pool: &Pool) -> Vec<String> {
    pool.log_after(0).iter().map(|line| line.text.to_string()).collect()
}

#[test]
fn an_event_that_failed_is_tried_again_at_its_time_and_with_the_code_in_force() {
    block_on(async {
        const LATER: Duration = Duration::from_millis(500);
        let mut house = house(Settings { retries: vec![LATER; 2], ..at_once(2, "") });
        let began = std::time::Instant::now();
        house.pool.submit(invocation(&json!({"stdout": "tried", "error": {"errorMessage": "m"}}))).await.unwrap();
        let old = house.pool.shared().clone();
        until_so("failed", || old.figures.failures.load(Ordering::Relaxed) == 1).await;
        house.pool = next_pool(&house, Settings { retries: vec![LATER; 2], ..at_once(2, "") });
        house.until_logged("is given up").await;
        assert!(began.elapsed() >= 2 * LATER, "{:?}", began.elapsed());
        assert_eq!(old.figures.invocations.load(Ordering::Relaxed), 1, "no more with the old code");
        assert_eq!(texts(&house.pool)[..3], ["tried"; 3]);
    });
}

#[test]
fn events_that_wait_for_a_process_go_to_the_code_in_force() {
    block_on(async {
        let mut house = house(at_once(1, ""));
        house.pool.submit(invocation(&json!({"stdout": "long", "sleep": 1}))).await.unwrap();
        house.until_logged("long").await;
        house.pool.submit(invocation(&json!({"stdout": "waits"}))).await.unwrap();
        let old = house.pool.shared().clone();
        house.pool = next_pool(&house, at_once(1, ""));
        house.until_logged("waits").await;
        let began_by = |pool: &crate::pool::Shared| pool.figures.invocations.load(Ordering::Relaxed);
        until_so("over", || began_by(&old) == 1 && began_by(house.pool.shared()) == 1).await;
    });
}

#[test]
fn an_event_whose_function_is_gone_is_not_tried_again() {
    block_on(async {
        let house = house(Settings { retries: vec![Duration::from_millis(100)], ..at_once(1, "") });
        house.pool.submit(invocation(&json!({"error": {"errorMessage": "m"}}))).await.unwrap();
        let (old, House { host, pool }) = (house.pool.shared().clone(), house);
        until_so("failed", || old.figures.failures.load(Ordering::Relaxed) == 1).await;
        drop(pool);
        let said = |text: &str| old.log.after(0).iter().any(|line| line.text.contains(text) && line.source == LogSource::Failure);
        until_so("told", || said("is not configured any more")).await;
        assert_eq!(old.figures.invocations.load(Ordering::Relaxed), 1);
        drop(host);
    });
}

#[test]
fn a_host_that_stops_forgets_events_that_wait_for_another_try_and_says_so() {
    let house = house(Settings { retries: vec![PATIENCE; 2], ..at_once(1, "") });
    let pool = &house.pool;
    block_on(async {
        pool.submit(invocation(&json!({"error": {"errorMessage": "m"}}))).await.unwrap();
        until_so("failed", || pool.figures().failures.load(Ordering::Relaxed) == 1).await;
    });
    house.host.stop(PATIENCE);
    assert_eq!(texts(pool), ["The host stops: an event that failed is not tried again"]);
}

#[test]
fn events_for_which_nobody_waits_have_bounds() {
    block_on(async {
        let house = house(at_once(1, ""));
        let long = Invocation { event: vec![b' '; (1 << 20) + 1], ..invocation(&json!({})) };
        assert_eq!(house.pool.submit(long).await, Err(NotRun::TooLarge));
        house.returned(json!({})).await;
        house.pool.submit(invocation(&json!({"sleep": 1000}))).await.unwrap();
        for _ in 1..1000 {
            house.pool.submit(invocation(&json!({}))).await.unwrap();
        }
        assert_eq!(house.pool.submit(invocation(&json!({}))).await, Err(NotRun::QueueFull));
    });
}

#[test]
fn those_that_are_waited_for_go_first() {
    block_on(async {
        let house = house(at_once(1, ""));
        house.returned(json!({})).await;
        house.pool.submit(invocation(&json!({"stdout": "first", "sleep": 0.3}))).await.unwrap();
        house.until_logged("first").await;
        house.pool.submit(invocation(&json!({"stdout": "third"}))).await.unwrap();
        house.returned(json!({"stdout": "second"})).await;
        let lines = house.until_logged("third").await;
        assert_eq!(lines, ["first", "second", "third"]);
    });
}
