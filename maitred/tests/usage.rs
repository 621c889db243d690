//! `maitred usage`, and plans of consumers that are added at run time: what they used is shown, reset, and kept over restarts and upgrades.

#![cfg(target_os = "linux")]

#[expect(dead_code, reason = "what a drain shows is for upgrade.rs and systemd.rs")]
mod process;

use process::heir::{Heir, Kept, upgrade};
use process::{Done, Folder, Maitred, ask, until};
use serde_json::Value;

const TEXT: &str = "listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
telemetry: { access_log: none }
authorizers: { keys: { api_key: {} } }
plans:
  gold: { quota: 100/month, apis: { all: { routes: { GET /dear: { quota: 5/month } } } } }
  pool: { quota: { limit: 50/month, by: plan } }
consumers:
  alice: { plan: gold, api_keys: [alices-key] }
  carol: { plan: pool, api_keys: [carols-key] }
  dave: { api_keys: [daves-key] }
apis:
  all:
    policies: { authenticate: [keys] }
    routes:
      - { match: GET /, respond: { status: 200, text: hello } }
      - { match: GET /dear, respond: { status: 200 } }
";

fn desk(folder: &Folder, gateway: &Maitred, arguments: &[&str]) -> Done {
    let admin = gateway.address("admin").to_string();
    folder.maitred(&[arguments, &["--admin", &admin]].concat())
}

#[track_caller]
fn done(folder: &Folder, gateway: &Maitred, arguments: &[&str]) -> String {
    let done = desk(folder, gateway, arguments);
    assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
    done.stdout
}

#[track_caller]
fn refused(folder: &Folder, gateway: &Maitred, arguments: &[&str], words: &str) {
    let done = desk(folder, gateway, arguments);
    assert!(done.code == 1 && done.stderr.contains(words), "{arguments:?}: {} {}", done.code, done.stderr);
}

fn status(gateway: &Maitred, path: &str, key: &str) -> u16 {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n");
    ask(gateway.listening(), &request)[9..12].parse().unwrap()
}

fn spend(gateway: &Maitred, path: &str, key: &str, times: usize) {
    for _ in 0..times {
        assert_eq!(status(gateway, path, key), 200);
    }
}

/// Of the first of its quotas.
fn used(gateway: &Maitred, name: &str) -> Value {
    gateway.admin_json(&format!("/usage/{name}"))["quotas"][0]["used"].clone()
}

/// Without what depends on the day.
fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty() && !cell.ends_with('Z')).collect())
        .collect()
}

#[test]
fn what_is_used_is_shown_and_reset_for_those_whose_own_it_is() {
    let folder = Folder::new("usage");
    let gateway = folder.file("maitred.yaml", TEXT).run(&["run"]);
    spend(&gateway, "/", "alices-key", 3);
    spend(&gateway, "/dear", "alices-key", 5);
    assert_eq!(status(&gateway, "/dear", "alices-key"), 429);
    spend(&gateway, "/", "carols-key", 2);
    spend(&gateway, "/", "daves-key", 1);
    let all = done(&folder, &gateway, &["usage"]);
    assert_eq!(
        table(&all),
        [
            vec!["CONSUMER", "PLAN", "WHERE", "QUOTA", "USED", "LEFT", "RESETS AT"],
            vec!["alice", "gold", "everywhere", "100/month", "3", "97"],
            vec!["alice", "gold", "all: GET /dear", "5/month", "5", "0"],
            vec!["carol", "pool", "everywhere", "50/month, for all of the plan", "2", "48"],
        ],
        "{all}"
    );
    let one: Value = serde_json::from_str(&done(&folder, &gateway, &["usage", "alice", "--json"])).unwrap();
    assert_eq!((&one["plan"], &one["quotas"][1]["left"], &one["past"]), (&"gold".into(), &0.into(), &serde_json::json!([])));
    assert_eq!(done(&folder, &gateway, &["usage", "reset", "alice"]), "alice has used nothing\n");
    assert_eq!(status(&gateway, "/dear", "alices-key"), 200);
    assert_eq!(used(&gateway, "alice"), 0);
    let admin = gateway.address("admin").to_string();
    let early = folder.maitred(&["usage", "--admin", &admin, "reset", "alice"]);
    assert_eq!((early.code, early.stdout.as_str()), (0, "alice has used nothing\n"), "{}", early.stderr);
    refused(&folder, &gateway, &["usage", "bob", "reset", "alice"], "write `maitred usage reset alice`");
    refused(&folder, &gateway, &["usage", "reset", "carol"], "belong to all its consumers together");
    refused(&folder, &gateway, &["usage", "reset", "dave"], "has no plan");
    refused(&folder, &gateway, &["usage", "alise"], "did you mean `alice`?");
    let metrics = gateway.admin("GET", "/metrics");
    for line in
        ["{plan=\"gold\",result=\"allowed\"} 9", "{plan=\"gold\",result=\"limited\"} 1", "{plan=\"pool\",result=\"allowed\"} 2"]
    {
        assert!(metrics.contains(&format!("\nmaitred_quota_total{line}\n")), "{line}");
    }
    let bare = ask(gateway.address("admin"), "POST /usage/alice/reset HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(bare.starts_with("HTTP/1.1 403 "), "a write is marked: {bare}");
    gateway.terminate();
}

#[test]
fn a_consumer_that_is_added_has_a_plan_that_there_is_and_that_stays() {
    let folder = Folder::new("usage-plans");
    let gateway = folder.file("maitred.yaml", TEXT).run(&["run"]);
    refused(&folder, &gateway, &["consumer", "add", "erin", "--plan", "glod"], "there is no plan `glod`; did you mean `gold`?");
    let key = done(&folder, &gateway, &["consumer", "add", "erin", "--plan", "gold"]).trim_end().to_owned();
    spend(&gateway, "/dear", &key, 5);
    assert_eq!(status(&gateway, "/dear", &key), 429);
    refused(&folder, &gateway, &["consumer", "set-plan", "erin", "silver"], "there is no plan `silver`");
    refused(&folder, &gateway, &["consumer", "set-plan", "alice", "pool"], "stands in the configuration");
    assert_eq!(done(&folder, &gateway, &["consumer", "set-plan", "erin", "pool"]), "erin has plan pool\n");
    assert_eq!(status(&gateway, "/dear", &key), 200, "at once");
    let listed = done(&folder, &gateway, &["consumer", "list"]);
    let row = |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{listed}")).to_owned();
    assert!(row("alice").contains("gold") && row("erin").contains("pool"), "{listed}");
    assert!(done(&folder, &gateway, &["consumer", "show", "erin"]).contains("pool"));

    let without = TEXT
        .replace("  pool: { quota: { limit: 50/month, by: plan } }\n", "")
        .replace("carol: { plan: pool", "carol: { plan: gold");
    folder.file("maitred.yaml", &without);
    let answer = gateway.admin("POST", "/reload");
    assert!(answer.contains("plan `pool` is gone, and consumers in the store have it: erin"), "{answer}");
    assert_eq!(status(&gateway, "/", &key), 200, "what was live goes on");
    assert_eq!(done(&folder, &gateway, &["consumer", "set-plan", "erin"]), "erin has no plan\n");
    assert!(gateway.admin("POST", "/reload").starts_with("HTTP/1.1 200 "));
    folder.file("maitred.yaml", TEXT);
    assert!(gateway.admin("POST", "/reload").starts_with("HTTP/1.1 200 "));
    done(&folder, &gateway, &["consumer", "set-plan", "erin", "pool"]);
    gateway.terminate();

    // A start goes on without whoever it cannot judge.
    let gateway = folder.file("maitred.yaml", &without).run(&["run"]);
    assert_eq!((status(&gateway, "/", &key), status(&gateway, "/", "alices-key")), (403, 200));
    assert!(done(&folder, &gateway, &["consumer", "list"]).contains("refused: the configuration lacks its plan"));
    assert!(gateway.terminate().stderr.contains("have plans that the configuration lacks"));
}

#[test]
fn what_was_used_is_there_after_a_restart() {
    let folder = Folder::new("usage-restart");
    let gateway = folder.file("maitred.yaml", TEXT).run(&["run"]);
    spend(&gateway, "/", "alices-key", 4);
    spend(&gateway, "/", "carols-key", 2);
    gateway.terminate();
    let gateway = folder.run(&["run"]);
    assert_eq!((used(&gateway, "alice"), used(&gateway, "carol")), (4.into(), 2.into()));
    spend(&gateway, "/", "alices-key", 1);
    assert_eq!(used(&gateway, "alice"), 5);
    gateway.terminate();
}

#[test]
fn the_next_process_goes_on_counting_and_learns_what_the_one_before_it_still_counts() {
    Heir::adopt();
    let folder = Folder::new("usage-upgrade");
    let mut gateway = folder.file("maitred.yaml", TEXT).run(&["run"]);
    let key = "x-api-key: alices-key\r\n";
    // It stays with the process that took it.
    let mut kept = Kept::open(gateway.listening()).unwrap();
    kept.round("/", key, "hello").unwrap();
    spend(&gateway, "/", "alices-key", 3);
    let heir = upgrade(&gateway);
    assert_eq!(used(&gateway, "alice"), 4, "it is known from the first moment");
    kept.round("/", key, "hello").unwrap();
    spend(&gateway, "/", "alices-key", 2);
    until(|| used(&gateway, "alice") == 7);
    assert_eq!(gateway.exit_code(), 0);
    assert_eq!(used(&gateway, "alice"), 7);
    heir.signal(libc::SIGTERM);
    assert_eq!(heir.end(), 0);
    let gateway = folder.run(&["run"]);
    assert_eq!(used(&gateway, "alice"), 7);
    gateway.terminate();
}

#[test]
fn where_shared_counts_cannot_be_asked_that_is_said_wherever_somebody_looks() {
    let folder = Folder::new("usage-shared");
    // Takes connections and ends them: no server of counts.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let counters = format!(
        "secret_key: 0123456789abcdef0123456789abcdef\ncounters: {{ url: redis://127.0.0.1:{port}, on_failure: closed }}\n"
    );
    let gateway = folder.file("maitred.yaml", &format!("{TEXT}{counters}")).run(&["run"]);
    let words = "the counts that gateways share cannot be asked: requests that would be counted are refused";
    gateway.eventually("/readyz", |ready| ready["status"] == "ready" && ready["warning"] == words);
    let head = "GET / HTTP/1.1\r\nhost: localhost\r\nx-api-key: alices-key\r\nconnection: close\r\n\r\n";
    let answer = ask(gateway.listening(), head);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("counters_unavailable"), "{answer}");
    for arguments in [["usage"].as_slice(), &["usage", "alice"]] {
        assert!(done(&folder, &gateway, arguments).contains("heard last"), "{arguments:?}");
    }
    assert_eq!(gateway.admin_json("/usage/alice")["quotas"][0]["stale"], true);
    gateway.terminate();
}
