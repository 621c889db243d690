//! `maitred upstream`: the endpoints of a gateway that runs, as a user sees them, and what the metrics say of them.

#[expect(dead_code, reason = "what follows a process that replaces itself is for upgrade.rs and systemd.rs")]
mod process;

use process::{Folder, Maitred, back_end};
use serde_json::Value;
use std::net::SocketAddr;

fn orders(a: SocketAddr, b: SocketAddr) -> String {
    format!(
        "listen: 127.0.0.1:0
admin: {{ listen: 127.0.0.1:0 }}
telemetry: {{ access_log: none }}
upstreams:
  orders:
    balance: least_request
    endpoints: [ \"http://{a}\", {{ url: \"http://{b}\", weight: 2, zone: b }} ]
    health_check: {{ path: /healthz }}
apis: {{ all: {{ routes: [ \"ANY /{{path+}}\": orders ] }} }}
"
    )
}

fn checked(gateway: &Maitred) {
    let is_checked = |one: &Value| one["health_check"]["passed"].as_u64() > Some(0);
    gateway.eventually("/upstreams/orders", |orders| orders["endpoints"].as_array().unwrap().iter().all(is_checked));
}

#[test]
fn endpoints_are_listed_taken_out_and_let_in_again() {
    let (a, b) = (back_end(), back_end());
    let folder = Folder::new("upstream");
    let gateway = folder.file("maitred.yaml", &orders(a, b)).run(&["run"]);
    checked(&gateway);
    assert!(gateway.get("/x").contains("GET /x"));
    let admin = gateway.address("admin").to_string();
    let upstream = |arguments: &[&str]| folder.maitred(&[&["upstream"], arguments, &["--admin", &admin]].concat());
    let (a, b) = (a.to_string(), b.to_string());

    let list = upstream(&["list"]);
    assert_eq!((list.code, list.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert!(lines[0].starts_with("UPSTREAM  ENDPOINT"), "{}", list.stdout);
    assert!(lines.len() == 3 && lines[1].contains(&a) && lines[1].contains("healthy"), "{}", list.stdout);
    let json: Value = serde_json::from_str(&upstream(&["list", "orders", "--json"]).stdout).unwrap();
    assert_eq!((&json["name"], &json["balance"], &json["panic"]), (&"orders".into(), &"least_request".into(), &false.into()));
    assert_eq!((&json["endpoints"][1]["weight"], &json["endpoints"][1]["zone"]), (&2.into(), &"b".into()));

    let drained = upstream(&["drain", "orders", &a]);
    assert_eq!((drained.code, drained.stdout, drained.stderr.as_str()), (0, format!("orders {a} is drained\n"), ""));
    assert!(upstream(&["list"]).stdout.lines().nth(1).unwrap().contains("drained"));
    let metrics = gateway.admin("GET", "/metrics");
    for line in [
        format!("maitred_upstream_endpoint_up{{upstream=\"orders\",endpoint=\"{a}\"}} 0"),
        format!("maitred_upstream_endpoint_up{{upstream=\"orders\",endpoint=\"{b}\"}} 1"),
        "maitred_upstream_endpoints_unlisted 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line}\n{metrics}");
    }
    assert!(
        metrics.contains(&format!(
            "maitred_upstream_endpoint_checks_total{{upstream=\"orders\",endpoint=\"{a}\",result=\"passed\"}}"
        ))
    );

    let last = upstream(&["drain", "orders", &b]);
    assert_eq!(last.code, 0);
    assert!(last.stderr.starts_with("warning: no endpoint of upstream `orders`"), "{}", last.stderr);
    assert!(gateway.get("/x").starts_with("HTTP/1.1 503"));
    gateway.admin("POST", "/reload");
    assert!(gateway.get("/x").starts_with("HTTP/1.1 503"), "a reload lets nobody in");
    let enabled = upstream(&["enable", "orders", &format!("http://{a}")]);
    assert_eq!((enabled.code, enabled.stdout), (0, format!("orders http://{a} is healthy\n")));
    assert!(gateway.get("/x").contains("GET /x"));
    gateway.terminate();
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let (a, b) = (back_end(), back_end());
    let folder = Folder::new("upstream-wrong");
    let gateway = folder.file("maitred.yaml", &orders(a, b)).run(&["run"]);
    let admin = gateway.address("admin").to_string();
    let a = a.to_string();
    for (arguments, words) in [
        (&["drain", "ordres", a.as_str()][..], "there is no upstream `ordres`; did you mean `orders`?"),
        (&["list", "bakery"], "there is no upstream `bakery`; the upstreams are: `orders`"),
        (&["enable", "orders", "10.9.9.9:1"], "upstream `orders` has no endpoint `10.9.9.9:1`"),
    ] {
        let done = folder.maitred(&[&["upstream"], arguments, &["--admin", &admin]].concat());
        assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(done.stderr.contains(words), "{}", done.stderr);
    }
    for wrong in [&["upstream"][..], &["upstream", "drain", "orders"], &["upstream", "list", "--admin", "localhost:1"]] {
        assert_eq!(folder.maitred(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(gateway.terminate().code, 0);
    let nobody = folder.maitred(&["upstream", "list", "--admin", &admin]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.stderr.contains("no answer from the admin listener"), "{}", nobody.stderr);
    assert!(!nobody.stderr.contains("--admin"), "{}", nobody.stderr);
    let moved =
        orders(back_end(), back_end()).replace("admin: { listen: 127.0.0.1:0 }", &format!("admin: {{ listen: \"{admin}\" }}"));
    folder.file("maitred.yaml", &moved);
    for verb in [&["upstream", "list"][..], &["upgrade"]] {
        let asked = folder.maitred(verb).stderr;
        assert!(asked.contains("still on its old address: name it with --admin ADDRESS"), "{asked}");
    }
}

#[test]
fn who_is_ejected_is_told_by_that_word_and_so_is_who_comes_back() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = Folder::new("upstream-ejected");
    let rules = "outlier_detection: { consecutive_failures: 2, eject_for: 1ms }";
    let text = orders(nobody, back_end()).replace("health_check: { path: /healthz }", rules);
    let gateway = folder.file("maitred.yaml", &text).run(&["run"]);
    process::until(|| {
        assert!(gateway.get("/x").contains("GET /x"));
        gateway.says("an ejected endpoint is let in again")
    });
    let log = gateway.terminate().stderr;
    let line = log.lines().find(|line| line.contains("an endpoint was ejected")).unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains(&format!("upstream=\"orders\" endpoint=\"{nobody}\" seconds=0.001 cause=\"2 failures in a row\"")),
        "{line}"
    );
}

#[test]
fn an_upstream_without_an_address_is_listed_and_so_is_who_waits() {
    let folder = Folder::new("upstream-nowhere");
    let text = "listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
telemetry: { access_log: none }
upstreams: { gone: { endpoints: [ http://nowhere.invalid:1 ], concurrency: { limit: 7 } } }
apis: { all: { routes: [ GET /: gone ] } }
";
    let gateway = folder.file("maitred.yaml", text).run(&["run"]);
    let list = folder.maitred(&["upstream", "list", "--admin", &gateway.address("admin").to_string()]);
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert_eq!(lines[1..], ["gone      (no address)", "", "gone: 0 waiting, 0 in flight, limit 7"], "{}", list.stdout);
    let log = gateway.terminate().stderr;
    let [first, ..] = log.lines().collect::<Vec<_>>()[..] else { panic!("it said nothing") };
    let said = format!("INFO maitred {} starts from maitred.yaml, process ", env!("CARGO_PKG_VERSION"));
    assert!(first.contains(&said), "{first}");
    let has_time = |line: &str| line.len() > 27 && line[..27].ends_with('Z') && line.starts_with("20");
    assert!(log.lines().all(has_time), "{log}");
}

#[test]
fn what_checks_find_is_told_once_and_with_the_reason() {
    let back_end = back_end();
    let folder = Folder::new("upstream-told");
    let check = "health_check: { interval: 20ms, timeout: 10s, expect: 204 }";
    let text = orders(back_end, back_end).replace("health_check: { path: /healthz }", check);
    let gateway = folder.file("maitred.yaml", &text).run(&["run"]);
    let failed = |orders: &Value| orders["endpoints"][0]["health_check"]["failed"].as_u64() > Some(3);
    gateway.eventually("/upstreams/orders", failed);
    let orders = gateway.admin_json("/upstreams/orders");
    assert_eq!((&orders["panic"], &orders["endpoints"][0]["reason"]), (&true.into(), &"status 200, expected 204".into()));
    assert!(gateway.get("/x").contains("GET /x"), "where all are sick all are used");
    assert!(gateway.admin("GET", "/metrics").contains("\nmaitred_upstream_panic{upstream=\"orders\"} 1\n"));
    assert!(gateway.admin("GET", "/readyz").starts_with("HTTP/1.1 200"), "the gateway itself is ready");
    let list = folder.maitred(&["upstream", "list", "--admin", &gateway.address("admin").to_string()]);
    assert!(
        list.stdout.ends_with("\n\norders: panic; too few endpoints are usable, and requests go to all of them\n"),
        "{}",
        list.stdout
    );
    for _ in 0..20 {
        assert!(gateway.get("/x").contains("GET /x"), "whichever worker it is");
    }
    let well = text.replace("expect: 204", "expect: 200");
    folder.file("maitred.yaml", &well);
    gateway.admin("POST", "/reload");
    gateway.eventually("/upstreams/orders", |orders| orders["panic"] == false);
    assert!(gateway.get("/x").contains("GET /x"));
    gateway.wait_for("panic is over");
    let done = gateway.terminate();
    for (words, numbers) in
        [("panic: too few", "upstream=\"orders\" usable=0 of=2"), ("panic is over", "upstream=\"orders\" usable=")]
    {
        let told: Vec<&str> = done.stderr.lines().filter(|line| line.contains(words)).collect();
        assert!(matches!(told[..], [line] if line.contains(numbers)), "{}", done.stderr);
    }
    let told: Vec<&str> = done.stderr.lines().filter(|line| line.contains("an endpoint is unhealthy")).collect();
    assert_eq!(told.len(), 1, "{}", done.stderr);
    assert!(told[0].contains("upstream=\"orders\"") && told[0].contains("status 200, expected 204"), "{}", told[0]);
}
