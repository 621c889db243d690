//! `maitred consumer`: registered callers of a gateway that runs, who come in at once, stay over restarts and upgrades, and are gone when
//! they should be.

#[expect(dead_code, reason = "what follows a process that replaces itself is for upgrade.rs and systemd.rs")]
mod process;

use process::{Done, Folder, Maitred, ask, back_end, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn text() -> String {
    format!(
        "listen: 127.0.0.1:0
admin: {{ listen: 127.0.0.1:0 }}
telemetry: {{ access_log: none }}
upstreams: {{ kitchen: \"http://{}\" }}
authorizers:
  keys: {{ api_key: {{}} }}
consumers:
  alice: {{ groups: [staff], api_keys: [\"${{env:PATH}}\"] }}
apis:
  all:
    policies: {{ authenticate: [keys] }}
    routes:
      - GET /: kitchen
      - {{ match: GET /staff, authorize: {{ groups: [staff] }}, proxy: kitchen }}
",
        back_end()
    )
}

/// Commands to the gateway at this address.
struct Desk<'a>(&'a Folder, String);

impl Desk<'_> {
    fn consumer(&self, arguments: &[&str]) -> Done {
        self.0.maitred(&[&["consumer"], arguments, &["--admin", &self.1]].concat())
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let done = self.consumer(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
        done.stdout
    }

    /// Which has a line of its own.
    #[track_caller]
    fn key(&self, arguments: &[&str]) -> String {
        let key = self.done(arguments);
        assert!(key.starts_with("mk_") && key.ends_with('\n') && key.lines().count() == 1, "{key:?}");
        key.trim_end().to_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[arguments, &["--json"]].concat())).unwrap()
    }
}

fn desk<'a>(folder: &'a Folder, gateway: &Maitred) -> Desk<'a> {
    Desk(folder, gateway.address("admin").to_string())
}

fn status(gateway: &Maitred, path: &str, key: &str) -> u16 {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n");
    ask(gateway.listening(), &request)[9..12].parse().unwrap()
}

/// A change is live in under a second: here it is live when the command has ended.
#[test]
fn a_consumer_comes_in_at_once_and_no_more_when_it_is_disabled_rotated_or_removed() {
    let folder = Folder::new("consumer");
    let gateway = folder.file("maitred.yaml", &text()).run(&["run"]);
    let desk = desk(&folder, &gateway);
    assert!(!folder.path("maitred.db").exists(), "there is nothing to keep yet");

    let added = desk.consumer(&["add", "shop-app", "--group", "partners"]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    assert_eq!(added.stderr, "consumer shop-app was added; its key is shown this once:\n");
    let first = added.stdout.trim_end().to_owned();
    for _ in 0..3 {
        assert_eq!(status(&gateway, "/", &first), 200);
    }
    assert_eq!((status(&gateway, "/", "wrong"), status(&gateway, "/staff", &first)), (401, 403));
    desk.done(&["set-groups", "shop-app", "partners", "staff"]);
    assert_eq!(status(&gateway, "/staff", &first), 200);

    assert_eq!(desk.done(&["disable", "shop-app"]), "shop-app is disabled\n");
    assert_eq!(status(&gateway, "/", &first), 403);
    assert_eq!(desk.done(&["enable", "shop-app"]), "shop-app is enabled\n");
    assert_eq!(status(&gateway, "/", &first), 200);

    let second = desk.key(&["rotate-key", "shop-app"]);
    assert_eq!((status(&gateway, "/", &first), status(&gateway, "/", &second)), (401, 200));
    let third = desk.key(&["rotate-key", "shop-app", "--grace", "24h"]);
    assert_eq!((status(&gateway, "/", &second), status(&gateway, "/", &third)), (200, 200));
    let fourth = desk.key(&["add-key", "shop-app"]);
    let shown = desk.json(&["show", "shop-app"]);
    let ids: Vec<&str> = shown["api_keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap()).collect();
    let id = |key: &str| *ids.iter().find(|id| key.starts_with(&format!("mk_{id}_"))).unwrap();
    assert_eq!(shown["api_keys"].as_array().unwrap().iter().filter(|key| key["ends"].is_null()).count(), 2);
    let whole = desk.consumer(&["remove-key", "shop-app", &fourth]);
    assert!(whole.code == 1 && whole.stderr.contains("perhaps the key itself"), "{}", whole.stderr);
    assert!(!whole.stderr.contains(fourth.rsplit('_').next().unwrap()), "a secret is not repeated: {}", whole.stderr);
    desk.done(&["remove-key", "shop-app", id(&fourth)]);
    assert_eq!((status(&gateway, "/", &fourth), status(&gateway, "/", &third)), (401, 200));

    let short = desk.key(&["rotate-key", "shop-app", "--grace", "100ms"]);
    let since = Instant::now();
    until(|| status(&gateway, "/", &third) == 401);
    assert!(since.elapsed() < Duration::from_secs(10));
    assert_eq!(status(&gateway, "/", &short), 200);
    assert_eq!(desk.done(&["remove", "shop-app"]), "shop-app is removed\n");
    assert_eq!(status(&gateway, "/", &short), 401);
    let done = gateway.terminate();
    for key in [&first, &second, &third, &fourth, &short] {
        assert!(!done.stderr.contains(key.as_str()), "no key is logged: {}", done.stderr);
    }
}

/// One request on a connection that is kept; its status.
#[test]
fn who_makes_a_key_that_opens_nothing_or_has_no_token_is_told() {
    let folder = Folder::new("consumer-told");
    let text = text().replace("authenticate: [keys]", "authenticate: none").replace(", authorize: { groups: [staff] }", "");
    let gateway = folder.file("maitred.yaml", &text).run(&["run"]);
    let told = desk(&folder, &gateway).consumer(&["add", "shop-app"]);
    assert!(told.code == 0 && told.stdout.starts_with("mk_") && told.stdout.lines().count() == 1, "{}", told.stdout);
    assert!(told.stderr.contains("warning: no route lets anybody in by an API key"), "{}", told.stderr);
    let quiet = desk(&folder, &gateway).consumer(&["add", "other-app", "--no-key"]);
    assert!(!quiet.stderr.contains("warning"), "{}", quiet.stderr);
    drop(gateway);

    let text = text.replace("admin: { listen: 127.0.0.1:0 }", "admin: { listen: 127.0.0.1:0, token: \"${env:PATH}\" }");
    let gateway = folder.file("maitred.yaml", &text).run(&["run"]);
    let place = gateway.address("admin").to_string();
    for verb in [&["consumer", "list"][..], &["upstream", "list"], &["upgrade"]] {
        let refused = folder.maitred(&[verb, &["--admin", &place]].concat());
        assert!(refused.code == 1 && refused.stderr.contains("put it in MAITRED_ADMIN_TOKEN"), "{verb:?}: {}", refused.stderr);
        assert!(!refused.stderr.contains("Authorization"), "{verb:?}: {}", refused.stderr);
    }
}

fn again(connection: &mut BufReader<TcpStream>, key: &str) -> u16 {
    let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).unwrap();
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        assert!(connection.read_line(&mut line).unwrap() > 0, "it ended");
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().unwrap();
        }
        if let Some(rest) = line.strip_prefix("content-length: ") {
            length = rest.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    connection.read_exact(&mut vec![0; length]).unwrap();
    status
}

#[test]
fn every_worker_forgets_what_it_remembered() {
    let folder = Folder::new("consumer-workers");
    let generous = "limits: { failed_credentials: { rate: 1000/s, burst: 1000 } }";
    let gateway = folder.file("maitred.yaml", &format!("workers: 3\n{generous}\n{}", text())).run(&["run"]);
    let desk = desk(&folder, &gateway);
    let key = desk.key(&["add", "shop-app"]);
    let connect = || BufReader::new(TcpStream::connect(gateway.listening()).unwrap());
    let mut connections: Vec<_> = std::iter::repeat_with(connect).take(12).collect();
    let mut all = |status: u16| {
        for connection in &mut connections {
            assert_eq!((again(connection, &key), again(connection, &key)), (status, status));
        }
    };
    for _ in 0..3 {
        all(200);
        desk.done(&["disable", "shop-app"]);
        all(403);
        desk.done(&["enable", "shop-app"]);
    }
    desk.done(&["remove", "shop-app"]);
    all(401);
}

#[test]
fn what_was_added_survives_a_kill_and_a_new_secret() {
    let folder = Folder::new("consumer-kill");
    let gateway = folder.file("maitred.yaml", &text()).run(&["run"]);
    let key = desk(&folder, &gateway).key(&["add", "shop-app"]);
    // Nothing is tidied up.
    gateway.signal(libc::SIGKILL);
    drop(gateway);
    let gateway = folder.run(&["run"]);
    assert_eq!(status(&gateway, "/", &key), 200, "without a secret_key the store keeps its own");
    gateway.terminate();
    let secret = "0123456789abcdef0123456789abcdef0123456789abc";
    let gateway =
        folder.file("secret", secret).file("maitred.yaml", &format!("secret_key: ${{file:secret}}\n{}", text())).run(&["run"]);
    assert_eq!(status(&gateway, "/", &key), 200);
    let other = desk(&folder, &gateway).key(&["add", "other"]);
    gateway.terminate();
    let gateway = folder.file("maitred.yaml", &text()).run(&["run"]);
    assert_eq!((status(&gateway, "/", &key), status(&gateway, "/", &other)), (200, 401));
    let list = desk(&folder, &gateway).done(&["list"]);
    assert!(list.contains("enabled; 1 key of another secret_key"), "{list}");
    let done = gateway.terminate();
    assert!(done.stderr.contains("keys in the store were made under another secret_key"), "{}", done.stderr);
}

/// The key, if it was answered.
fn add_over_http(admin: SocketAddr, name: &str) -> Option<String> {
    let body = format!("{{\"name\":\"{name}\"}}");
    let length = body.len();
    let head = format!(
        "POST /consumers HTTP/1.1\r\nhost: localhost\r\nx-maitred: 1\r\ncontent-length: {length}\r\nconnection: close\r\n"
    );
    let mut stream = TcpStream::connect(admin).ok()?;
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let body: Value = serde_json::from_str(body).ok()?;
    Some(body["key"].as_str()?.to_owned())
}

#[test]
fn what_was_answered_outlives_a_kill_in_the_middle_of_writing() {
    let folder = Folder::new("consumer-writing");
    let gateway = folder.file("maitred.yaml", &text()).run(&["run"]);
    let (admin, answered) = (gateway.address("admin"), AtomicUsize::new(0));
    let add_many = |writer: usize| {
        let keys = (0..).map_while(|number| {
            let key = add_over_http(admin, &format!("c-{writer}-{number}"));
            answered.fetch_add(usize::from(key.is_some()), Ordering::Relaxed);
            key
        });
        keys.collect::<Vec<String>>()
    };
    let keys: Vec<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4).map(|writer| scope.spawn(move || add_many(writer))).collect();
        until(|| answered.load(Ordering::Relaxed) >= 40);
        gateway.signal(libc::SIGKILL);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    drop(gateway);
    let gateway = folder.run(&["run"]);
    assert!(keys.len() >= 40);
    for key in &keys {
        assert_eq!(status(&gateway, "/", key), 200);
    }
}

#[test]
fn a_store_that_is_taken_away_is_told_and_takes_nobody_with_it() {
    let folder = Folder::new("consumer-gone");
    let gateway = folder.file("maitred.yaml", &text()).run(&["run"]);
    let key = desk(&folder, &gateway).key(&["add", "shop-app"]);
    assert!(!gateway.admin("GET", "/readyz").contains("warning"));
    std::fs::rename(folder.path("maitred.db"), folder.path("aside.db")).unwrap();
    until(|| gateway.admin("GET", "/readyz").contains("the store cannot be read"));
    assert!(gateway.admin("GET", "/readyz").starts_with("HTTP/1.1 200"), "traffic may be sent here still");
    assert_eq!(status(&gateway, "/", &key), 200);
    let failed = desk(&folder, &gateway).consumer(&["add", "other"]);
    assert!(failed.code == 1 && failed.stderr.contains("its file is gone"), "{}", failed.stderr);
    std::fs::rename(folder.path("aside.db"), folder.path("maitred.db")).unwrap();
    until(|| !gateway.admin("GET", "/readyz").contains("warning"));
    desk(&folder, &gateway).key(&["add", "other"]);
}

#[test]
fn they_are_listed_beside_those_of_the_configuration_which_are_read_only() {
    let folder = Folder::new("consumer-list");
    let gateway = folder.file("maitred.yaml", &text()).run(&["run"]);
    let desk = desk(&folder, &gateway);
    desk.key(&["add", "shop-app", "--group", "partners", "--identity", "keys=shop@example.com"]);
    assert_eq!(desk.consumer(&["add", "quiet", "--no-key"]).stdout, "");
    let list = desk.done(&["list"]);
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["CONSUMER", "SOURCE", "STATE", "PLAN", "GROUPS", "KEYS", "IDENTITIES"]);
    assert_eq!(lines[1], ["alice", "file", "enabled", "-", "staff", "1", "0"]);
    assert_eq!(lines[2], ["quiet", "store", "enabled", "-", "-", "0", "0"]);
    assert_eq!(lines[3], ["shop-app", "store", "enabled", "-", "partners", "1", "1"]);
    assert_eq!(desk.json(&["list"])[0]["source"], "file");
    let show = desk.done(&["show", "shop-app"]);
    assert!(show.contains("keys=shop@example.com") && show.contains("_…), made "), "{show}");
    let metrics = gateway.admin("GET", "/metrics");
    for line in ["maitred_consumers{source=\"file\"} 1", "maitred_consumers{source=\"store\"} 2", "maitred_store_errors_total 0"]
    {
        assert!(metrics.lines().any(|other| other == line), "{line}\n{metrics}");
    }
    for (arguments, words) in [
        (&["disable", "alice"][..], "consumer `alice` stands in the configuration: change it there"),
        (&["add", "shop-app"], "there is a consumer `shop-app` already"),
        (&["add", "a/b"], "a consumer's name has 1 to 64 letters, digits, `-` and `_`"),
        (&["remove", "shop-ap"], "there is no consumer `shop-ap`; did you mean `shop-app`?"),
        (&["add-identity", "quiet", "--identity", "kyes=q"], "there is no authorizer `kyes`; did you mean `keys`?"),
        (&["add-identity", "quiet", "--identity", "keys=shop@example.com"], "calls consumer `shop-app`"),
        (&["remove-key", "quiet", "nothing"], "consumer `quiet` has no key `nothing`"),
        (&["show", "nobody-at-all"], "there is no consumer `nobody-at-all`"),
    ] {
        let done = desk.consumer(arguments);
        assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(done.stderr.contains(words), "{arguments:?}: {}", done.stderr);
    }
    desk.done(&["remove-identity", "shop-app", "--identity", "keys=shop@example.com"]);
    desk.done(&["add-identity", "quiet", "--identity", "keys=shop@example.com"]);
    for wrong in [&["rotate-key", "quiet", "--grace", "soon"][..], &["add-identity", "quiet", "--identity", "x"], &["add"]] {
        assert_eq!(desk.consumer(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn a_reload_that_brings_one_of_the_same_name_wins_and_says_so() {
    let folder = Folder::new("consumer-hidden");
    let gateway = folder.file("maitred.yaml", &text()).run(&["run"]);
    let desk = desk(&folder, &gateway);
    let key = desk.key(&["add", "bob"]);
    assert_eq!(status(&gateway, "/", &key), 200);
    let before = text();
    let with_bob = before.replace("consumers:\n", "consumers:\n  bob: { api_keys: [\"${file:bobs-key}\"] }\n");
    folder.file("bobs-key", "a-key-of-bobs-own").file("maitred.yaml", &with_bob);
    gateway.wait_for("it stands in the configuration and in the store");
    until(|| status(&gateway, "/", &key) == 401);
    assert_eq!(status(&gateway, "/", "a-key-of-bobs-own"), 200);
    assert!(desk.done(&["list"]).contains("hidden by the configuration"));
    folder.file("maitred.yaml", &before.replace("consumers:\n", "store: other.db\nconsumers:\n"));
    gateway.wait_for("`store` changed, which needs a restart");
    until(|| status(&gateway, "/", &key) == 200);
    assert_eq!(gateway.admin_json("/status")["needs_restart"], serde_json::json!(["store"]));
}

#[test]
fn a_store_that_cannot_be_read_lets_nothing_start() {
    let folder = Folder::new("consumer-broken");
    folder.file("maitred.yaml", &text()).file("maitred.db", &"no database ".repeat(100));
    let done = folder.maitred(&["run"]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("cannot use the store maitred.db") && done.stderr.contains("not a database"), "{}", done.stderr);
    assert_eq!(folder.maitred(&["check"]).code, 0, "the configuration is right");
    std::fs::remove_file(folder.path("maitred.db")).unwrap();
    let gateway = folder.file("maitred.yaml", &format!("store: nowhere/maitred.db\n{}", text())).run(&["run"]);
    let failed = desk(&folder, &gateway).consumer(&["add", "bob"]);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("the store cannot be written"), "{}", failed.stderr);
    assert!(gateway.admin("GET", "/metrics").contains("\nmaitred_store_errors_total 1\n"));
}

#[test]
fn two_gateways_on_one_file_see_what_the_other_writes() {
    let folder = Folder::new("consumer-two");
    let (one, two) = (folder.file("maitred.yaml", &text()).run(&["run"]), folder.run(&["run"]));
    let key = desk(&folder, &one).key(&["add", "shop-app"]);
    until(|| status(&two, "/", &key) == 200);
    desk(&folder, &two).done(&["disable", "shop-app"]);
    until(|| status(&one, "/", &key) == 403);
    let second = desk(&folder, &two).key(&["rotate-key", "shop-app"]);
    desk(&folder, &two).done(&["enable", "shop-app"]);
    until(|| status(&one, "/", &second) == 200);
    assert_eq!(status(&one, "/", &key), 401);
}

#[cfg(target_os = "linux")]
#[test]
fn they_are_known_to_the_process_that_takes_over() {
    use process::heir::{Heir, upgrade};
    Heir::adopt();
    let folder = Folder::new("consumer-upgrade");
    let mut gateway = folder.file("maitred.yaml", &text()).run(&["run"]);
    let key = desk(&folder, &gateway).key(&["add", "shop-app"]);
    let heir = upgrade(&gateway);
    assert_eq!(gateway.exit_code(), 0);
    assert_eq!(status(&gateway, "/", &key), 200);
    let next = desk(&folder, &gateway).key(&["rotate-key", "shop-app"]);
    assert_eq!((status(&gateway, "/", &key), status(&gateway, "/", &next)), (401, 200));
    heir.signal(libc::SIGTERM);
    assert_eq!(heir.end(), 0);
}

#[test]
fn a_consumer_brings_the_key_along_that_it_has() {
    let folder = Folder::new("consumer-brought");
    let gateway = folder.file("maitred.yaml", &text()).run(&["run"]);
    let desk = desk(&folder, &gateway);
    let key = "sk_live_of-another-gateway";
    folder.file("old.key", &format!("{key}\n")).file("short.key", "short").file("broken.key", "first line of it\nsecond\n");
    let added = desk.consumer(&["add", "shop-app", "--key-file", "old.key"]);
    assert_eq!((added.code, added.stdout.as_str(), added.stderr.as_str()), (0, "", "consumer shop-app was added\n"));
    assert_eq!(status(&gateway, "/", key), 200);
    assert_eq!(status(&gateway, "/", &key[..key.len() - 1]), 401);
    let shown = desk.done(&["show", "shop-app"]);
    assert!(shown.contains("brought along") && !shown.contains("sk_"), "{shown}");
    let file = std::fs::read(folder.path("maitred.db")).unwrap();
    assert!(!file.windows(key.len()).any(|part| part == key.as_bytes()), "it is kept as it is");

    for (name, file, words) in [
        ("other", "old.key", "that key is another consumer's already"),
        ("other", "broken.key", "a key has 1 to 4096 bytes, no control characters, and no spaces"),
        ("other", "no.key", "cannot read the key in no.key"),
    ] {
        let refused = desk.consumer(&["add", name, "--key-file", file]);
        assert!(refused.code == 1 && refused.stderr.contains(words), "{file}: {}", refused.stderr);
        assert!(!refused.stderr.contains("second") && !refused.stderr.contains(key), "{}", refused.stderr);
    }
    let short = desk.consumer(&["add", "short", "--key-file", "short.key"]);
    assert!(short.code == 0 && short.stderr.contains("warning: a key of fewer than 16 bytes can be guessed"), "{}", short.stderr);
    assert_eq!(status(&gateway, "/", "short"), 200);

    let post = |body: &str| {
        let length = body.len();
        let head = format!(
            "POST /consumers HTTP/1.1\r\nhost: localhost\r\nx-maitred: 1\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        ask(gateway.address("admin"), &format!("{head}{body}"))
    };
    let wrong = post("{\"name\": \"x\", \"api_keys\": \"SUPERSECRET\"}");
    assert!(wrong.contains("`api_keys` is a list of texts") && !wrong.contains("SUPERSECRET"), "{wrong}");
    let both = post("{\"name\": \"x\", \"api_keys\": [\"another-key-from-elsewhere\"], \"key\": true}");
    assert!(both.starts_with("HTTP/1.1 201 ") && both.contains("\"key\":\"mk_"), "{both}");
    assert_eq!(status(&gateway, "/", "another-key-from-elsewhere"), 200);
    gateway.terminate();
}
