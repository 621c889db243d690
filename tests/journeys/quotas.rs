//! What consumers may use in a period of the calendar: when it begins, whose it is, what counts, and what it outlives.

use maitred_testkit::{Change, Folder, Gateway, Response, Store, eventually, gateway};
use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Alice and bob have the plan gold, carol has silver, and dave has none. All that is asked for is answered here.
fn text(plans: &str) -> String {
    format!(
        "authorizers: {{ keys: {{ api_key: {{}} }} }}
plans:
{plans}
consumers:
  alice: {{ plan: gold, groups: [staff], api_keys: [alices-key] }}
  bob: {{ plan: gold, api_keys: [bobs-key] }}
  carol: {{ plan: silver, api_keys: [carols-key] }}
  dave: {{ api_keys: [daves-key] }}
apis:
  shop:
    base_path: /shop
    policies: {{ authenticate: [keys] }}
    routes:
      - {{ match: GET /menu, respond: {{ status: 200 }} }}
      - {{ match: GET /orders, respond: {{ status: 200 }} }}
      - {{ match: GET /staff, authorize: {{ groups: [staff] }}, respond: {{ status: 200 }} }}
      - {{ match: GET /open, authenticate: none, respond: {{ status: 200 }} }}
      - {{ match: GET /perhaps, authenticate: [keys, anonymous], respond: {{ status: 200 }} }}
  other:
    policies: {{ authenticate: [keys] }}
    routes:
      - {{ match: GET /, respond: {{ status: 200 }} }}
"
    )
}

fn started(plans: &str) -> Gateway {
    gateway(&text(plans), &[])
}

fn ask(gateway: &Gateway, target: &str, key: &str) -> Response {
    gateway.ask("GET", target, &format!("x-api-key: {key}\r\n"), "")
}

fn status(gateway: &Gateway, target: &str, key: &str) -> u16 {
    ask(gateway, target, key).status
}

/// How many of so many pass.
fn passed(gateway: &Gateway, target: &str, key: &str, tries: usize) -> usize {
    let mut client = gateway.client();
    let headers = format!("x-api-key: {key}\r\n");
    (0..tries).filter(|_| client.request("GET", target, &headers, "").status == 200).count()
}

/// Turns the clock to the next time that is so much after a full hour, or midnight in UTC, as `unit` says.
fn turn_to(gateway: &Gateway, unit: u64, after: u64) {
    let now = gateway.unix_time();
    let next = Duration::from_secs((now.as_secs() / unit + 1) * unit + after);
    gateway.turn(next - now);
}

fn seconds(response: &Response, header: &str) -> u64 {
    response.header(header).unwrap_or_else(|| panic!("no {header}")).parse().expect("a number")
}

#[test]
fn what_is_used_up_is_refused_until_the_period_is_over() {
    let gateway = started("  gold: { quota: 3/hour }\n  silver: { quota: 1/hour }");
    turn_to(&gateway, HOUR, 10 * MINUTE);
    assert_eq!(passed(&gateway, "/shop/menu", "alices-key", 5), 3);
    let refused = ask(&gateway, "/shop/menu", "alices-key");
    assert_eq!(refused.status, 429);
    let wait = seconds(&refused, "retry-after");
    assert!((49 * MINUTE..=50 * MINUTE).contains(&wait), "{wait}");
    assert!(refused.text().contains("urn:maitred:fault:quota_exceeded"), "{}", refused.text());
    assert_eq!(status(&gateway, "/", "alices-key"), 429, "it is one quota for all APIs");
    assert_eq!(passed(&gateway, "/shop/menu", "bobs-key", 5), 3, "bob has one of his own");
    assert_eq!(passed(&gateway, "/shop/menu", "carols-key", 5), 1);
    assert_eq!(passed(&gateway, "/shop/menu", "daves-key", 9), 9, "whoever has no plan has no quota");
    gateway.turn(Duration::from_secs(48 * MINUTE));
    assert_eq!(status(&gateway, "/shop/menu", "alices-key"), 429);
    gateway.turn(Duration::from_secs(2 * MINUTE));
    assert_eq!(passed(&gateway, "/shop/menu", "alices-key", 5), 3);
}

#[test]
fn a_day_begins_at_midnight_in_its_time_zone() {
    let gateway = started("  gold: { quota: { limit: 2/day, time_zone: Asia/Kolkata } }\n  silver: { quota: 2/day }");
    // In Kolkata it is half past eleven at night.
    turn_to(&gateway, DAY, 18 * HOUR);
    for key in ["alices-key", "carols-key"] {
        assert_eq!(passed(&gateway, "/shop/menu", key, 3), 2, "{key}");
    }
    gateway.turn(Duration::from_secs(28 * MINUTE));
    assert_eq!(status(&gateway, "/shop/menu", "alices-key"), 429);
    gateway.turn(Duration::from_secs(2 * MINUTE));
    assert_eq!(status(&gateway, "/shop/menu", "alices-key"), 200);
    let refused = ask(&gateway, "/shop/menu", "carols-key");
    assert_eq!(refused.status, 429);
    let wait = seconds(&refused, "retry-after");
    assert!((5 * HOUR..=5 * HOUR + 30 * MINUTE).contains(&wait), "{wait}");
}

#[test]
fn two_workers_together_let_through_what_is_written_and_not_one_more() {
    let text = format!("workers: 2\n{}", text("  gold: { quota: 500/day }\n  silver: {}"));
    let gateway = gateway(&text, &[]);
    turn_to(&gateway, DAY, 12 * HOUR);
    let counts: Vec<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| passed(&gateway, "/shop/menu", "alices-key", 100))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a count")).collect()
    });
    assert_eq!(counts.iter().sum::<usize>(), 500, "{counts:?}");
    let [allowed, limited] = gateway.metrics().quotas()[0].counts();
    assert_eq!((allowed, limited), (500, 300));
}

#[test]
fn consumers_share_what_is_the_plans() {
    let gateway = started("  gold: { quota: { limit: 4/month, by: plan } }\n  silver: {}");
    assert_eq!(passed(&gateway, "/shop/menu", "alices-key", 3), 3);
    assert_eq!(passed(&gateway, "/shop/menu", "bobs-key", 3), 1);
    assert_eq!(status(&gateway, "/shop/menu", "alices-key"), 429);
}

#[test]
fn what_is_said_of_an_api_or_a_route_counts_in_its_place_and_is_counted_apart() {
    let gateway = started(
        "  gold:
    quota: 2/month
    apis: { shop: { quota: 3/month, routes: { GET /orders: { quota: 1/month } } } }
  silver: { apis: { other: { quota: 1/month } } }",
    );
    assert_eq!(passed(&gateway, "/shop/orders", "alices-key", 5), 1);
    assert_eq!(passed(&gateway, "/shop/menu", "alices-key", 2), 2);
    assert_eq!(passed(&gateway, "/shop/staff", "alices-key", 5), 1, "all other routes of the API have one together");
    assert_eq!(passed(&gateway, "/", "alices-key", 5), 2);
    assert_eq!(passed(&gateway, "/", "carols-key", 5), 1);
    assert_eq!(passed(&gateway, "/shop/menu", "carols-key", 5), 5);
}

#[test]
fn what_is_refused_and_whoever_is_nobody_takes_nothing_of_it() {
    let gateway = started("  gold: { quota: 2/month, rate_limit: { rate: 100/h, burst: 4 } }\n  silver: {}");
    let folder = Folder::new();
    let store = gateway.store(&folder.path("maitred.db"));
    let used = || gateway.usage(&store, "bob")["quotas"][0]["used"].clone();
    assert_eq!(status(&gateway, "/shop/staff", "bobs-key"), 403);
    assert_eq!(status(&gateway, "/shop/nothing", "bobs-key"), 404);
    assert_eq!(status(&gateway, "/shop/open", "bobs-key"), 200);
    assert_eq!(gateway.get("/shop/perhaps").status, 200);
    assert_eq!(used(), 0);
    assert_eq!(passed(&gateway, "/shop/perhaps", "bobs-key", 6), 2);
    assert_eq!(used(), 2);
    // What the quota refused took nothing of the rate limit: two of its four are left.
    assert_eq!(gateway.usage(&store, "bob")["rate_limits"][0]["left"], 2);
    gateway.publish(&text("  gold: { quota: 100/month, rate_limit: { rate: 100/h, burst: 4 } }\n  silver: {}"));
    let left = passed(&gateway, "/shop/menu", "bobs-key", 6);
    assert!((2..=3).contains(&left), "{left}");
    let refused = ask(&gateway, "/shop/menu", "bobs-key");
    assert!(refused.text().contains("rate_limited"), "{}", refused.text());
    assert_eq!(used(), 2 + left, "what the rate limit refused took nothing of the quota");
}

#[test]
fn answers_tell_what_is_left_of_it() {
    let gateway = started("  gold: { quota: 4/day, rate_limit: { rate: 100/s, burst: 200 } }\n  silver: { quota: 5/day }");
    turn_to(&gateway, DAY, 23 * HOUR);
    let told = |key: &str| {
        let answer = ask(&gateway, "/shop/menu", key);
        (answer.header("ratelimit").unwrap_or_default().to_owned(), answer.headers.all("ratelimit-policy").join(", "))
    };
    let (left, policy) = told("alices-key");
    assert_eq!(policy, "\"plan\";q=200;w=2, \"quota\";q=4;w=86400");
    assert!(left.starts_with("\"quota\";r=3;t=3"), "{left}");
    assert_eq!(told("carols-key").1, "\"quota\";q=5;w=86400");
    for _ in 0..3 {
        told("alices-key");
    }
    let refused = ask(&gateway, "/shop/menu", "alices-key");
    assert_eq!(refused.status, 429);
    assert!(
        refused.header("ratelimit").is_some_and(|left| left.starts_with("\"quota\";r=0;t=3")),
        "{:?}",
        refused.header("ratelimit")
    );
}

#[test]
fn a_reload_changes_the_limit_and_keeps_what_was_used() {
    let gateway = started("  gold: { quota: 3/month }\n  silver: {}");
    assert_eq!(passed(&gateway, "/shop/menu", "alices-key", 5), 3);
    gateway.publish(&text("  gold: { quota: 5/month }\n  silver: {}"));
    assert_eq!(passed(&gateway, "/shop/menu", "alices-key", 5), 2);
    gateway.publish(&text("  gold: { quota: 1/month }\n  silver: {}"));
    assert_eq!(status(&gateway, "/shop/menu", "alices-key"), 429);
    gateway.publish(&text("  gold: {}\n  silver: {}"));
    assert_eq!(passed(&gateway, "/shop/menu", "alices-key", 5), 5);
    gateway.publish(&text("  gold: { quota: 6/month }\n  silver: {}"));
    assert_eq!(passed(&gateway, "/shop/menu", "alices-key", 5), 1, "it goes on where it was when there was one");
}

#[test]
fn a_consumer_of_the_configuration_that_gets_another_plan_has_it_at_once() {
    let gateway = started("  gold: { quota: 100/month }\n  silver: { quota: 2/month }");
    assert_eq!(passed(&gateway, "/shop/menu", "alices-key", 5), 5);
    let other = text("  gold: { quota: 100/month }\n  silver: { quota: 2/month }")
        .replace("alice: { plan: gold", "alice: { plan: silver");
    gateway.publish(&other);
    assert_eq!(passed(&gateway, "/shop/menu", "alices-key", 5), 2);
}

#[test]
fn what_was_used_is_there_after_a_restart() {
    let (folder, plans) = (Folder::new(), "  gold: { quota: 5/day }\n  silver: { quota: { limit: 4/day, by: plan } }");
    let path = folder.path("maitred.db");
    // Its clock is not turned: a restart knows nothing of that.
    let first = started(plans);
    let store = first.store(&path);
    let before = first.unix_time().as_secs() / DAY;
    assert_eq!(passed(&first, "/shop/menu", "alices-key", 3), 3);
    assert_eq!(passed(&first, "/shop/menu", "carols-key", 3), 3);
    drop((first, store));
    let second = started(plans);
    let store = second.store(&path);
    let counts = [passed(&second, "/shop/menu", "alices-key", 5), passed(&second, "/shop/menu", "carols-key", 5)];
    // It began at midnight, if that was now.
    if second.unix_time().as_secs() / DAY == before {
        assert_eq!(counts, [2, 1]);
        assert_eq!(second.usage(&store, "alice")["quotas"][0]["left"], 0);
    }
}

fn added(store: &Store, name: &str, plan: &str) -> String {
    let (groups, plan) = (Vec::new(), Some(plan.to_owned()));
    let add = Change::Add { name: name.to_owned(), groups, plan, identities: Vec::new(), with_key: true, brought: Vec::new() };
    let (_, key) = store.change(add).expect("it is added").key.expect("a key");
    key.expose().to_owned()
}

#[test]
fn a_consumer_that_was_added_has_its_plan_and_another_one_at_once() {
    let gateway = started("  gold: { quota: 3/month }\n  silver: { quota: 1/month }");
    let folder = Folder::new();
    let store = gateway.store(&folder.path("maitred.db"));
    let key = added(&store, "erin", "gold");
    assert_eq!(passed(&gateway, "/shop/menu", &key, 5), 3);
    let set = |plan: Option<&str>| {
        let plan = Some(plan.map(str::to_owned));
        store.change(Change::Set { name: "erin".to_owned(), groups: None, plan, disabled: None }).expect("it is set");
    };
    set(Some("silver"));
    assert_eq!(passed(&gateway, "/shop/menu", &key, 5), 1);
    set(Some("gold"));
    assert_eq!(status(&gateway, "/shop/menu", &key), 429, "what it used of it is not forgotten");
    set(None);
    assert_eq!(passed(&gateway, "/shop/menu", &key, 5), 5);
    set(Some("gold"));
    store.reset_usage("erin").expect("it is reset");
    assert_eq!(passed(&gateway, "/shop/menu", &key, 5), 3);
}

#[test]
fn a_consumer_whose_plan_is_gone_does_not_come_in() {
    let gateway = started("  gold: {}\n  silver: {}\n  bronze: {}");
    let folder = Folder::new();
    let store = gateway.store(&folder.path("maitred.db"));
    let key = added(&store, "erin", "bronze");
    assert_eq!(status(&gateway, "/shop/menu", &key), 200);
    gateway.publish(&text("  gold: {}\n  silver: {}"));
    assert_eq!(status(&gateway, "/shop/menu", &key), 403, "at once: its limits are not known");
    assert_eq!(status(&gateway, "/shop/open", &key), 200);
    store.configure(gateway.settings());
    eventually("it is refused everywhere", || status(&gateway, "/", &key) == 403);
    gateway.publish(&text("  gold: {}\n  silver: {}\n  bronze: {}"));
    store.configure(gateway.settings());
    eventually("it comes in again", || status(&gateway, "/shop/menu", &key) == 200);
}
