//! Functions and the process: what `check`, `explain` and `routes` say of them.

#[expect(dead_code, reason = "what follows a process that replaces itself is for upgrade.rs and systemd.rs")]
mod process;

use process::Folder;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

const TEXT: &str = "listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
telemetry: { access_log: none }
functions:
  dessert: { runtime: python, code: ./functions/dessert, handler: dessert.handler, concurrency: 2 }
  bill: { arn: \"arn:aws:lambda:eu-west-1:123456789012:function:bill:live\", endpoint: \"http://127.0.0.1:4566\", event: raw, timeout: 5s }
apis:
  all:
    routes:
      - POST /desserts: function dessert
      - match: GET /bill
        function: bill
        timeout: 2s
";

fn folder(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.file("maitred.yaml", TEXT).file("functions/dessert/dessert.py", "def handler(event, context):\n    return {}\n");
    folder
}

#[test]
fn explain_and_routes_say_what_runs_and_where() {
    let folder = folder("functions-words");
    let dessert = folder.maitred(&["explain", "POST", "/desserts"]);
    let lines = [
        "goes to     function dessert",
        "runs        here: python functions/dessert, dessert.handler",
        "invocations 2 at most at once, each in a process of its own; 100 more wait up to 10s",
        "is told     an event of an HTTP API (2.0)",
        "answer      the function's, whole",
        "timeout     3s for an invocation",
    ];
    assert_eq!(dessert.code, 0, "{}", dessert.stderr);
    for line in lines {
        assert!(dessert.stdout.contains(line), "{line}\n{}", dessert.stdout);
    }
    let bill = folder.maitred(&["explain", "GET", "/bill", "--json"]);
    let bill: serde_json::Value = serde_json::from_str(&bill.stdout).expect("JSON");
    assert_eq!(bill["function"]["runs"], "in AWS: arn:aws:lambda:eu-west-1:123456789012:function:bill:live");
    assert_eq!((&bill["function"]["endpoint"], &bill["timeouts"][0]), (&"http://127.0.0.1:4566".into(), &"2s in all".into()));
    let routes = folder.maitred(&["routes"]);
    assert!(routes.stdout.contains("function dessert") && routes.stdout.contains("function bill"), "{}", routes.stdout);
    let checked = folder.maitred(&["check"]);
    assert!(checked.code == 0 && checked.stdout.contains("2 routes in 1 API, 0 upstreams, 2 functions"), "{}", checked.stdout);
}

#[test]
fn check_points_at_a_handler_that_is_not_there() {
    let folder = folder("functions-handler");
    folder.file("maitred.yaml", &TEXT.replace("dessert.handler", "desert.handler"));
    let done = folder.maitred(&["check"]);
    assert!(
        done.code != 0 && done.stderr.contains("error[bad-function]: there is no module `desert` in functions/dessert"),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr.contains("maitred.yaml:5:67") && done.stderr.contains("write `handler: dessert.handler`"),
        "{}",
        done.stderr
    );
}

#[test]
fn check_tells_of_an_expression_that_is_none() {
    let folder = folder("functions-expression");
    let authorizers = "authorizers: { checker: { function: { name: bill, kind: token, validation: \"Bearer (\" } } }\napis:";
    folder.file("maitred.yaml", &TEXT.replace("apis:", authorizers));
    let done = folder.maitred(&["check"]);
    assert!(
        done.code != 0 && done.stderr.contains("error[bad-expression]: `validation` is no expression: unclosed group"),
        "{}",
        done.stderr
    );
}

const RUNNING: &str = "listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
telemetry: { access_log: none }
functions:
  checker: { runtime: provided, code: ./functions/checker, concurrency: 1, init_timeout: 30s, timeout: 30s }
  steady: { runtime: provided, code: ./functions/steady, concurrency: 1, init_timeout: 30s, timeout: 30s }
authorizers:
  checker: { function: { name: checker, simple: true, identity: [] } }
  steady: { function: { name: steady, simple: true, identity: [] } }
apis:
  all:
    routes:
      - match: GET /checker
        authenticate: [checker]
        redirect: \"/?{claims.version}-{claims.asked}\"
      - match: GET /steady
        authenticate: [steady]
        redirect: \"/?{claims.version}-{claims.asked}\"
";

/// A runtime, and a function that counts its invocations.
const COUNTING: &str = r#"#!/usr/bin/env python3
import http.client, json, os
asked = 0
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = connection.getresponse()
    answer.read()
    asked += 1
    said = json.dumps({"isAuthorized": True, "context": {"version": "VERSION", "asked": asked}})
    connection.request("POST", "/2018-06-01/runtime/invocation/" + answer.headers["Lambda-Runtime-Aws-Request-Id"] + "/response", said)
    connection.getresponse().read()
"#;

fn write(folder: &Folder, name: &str, version: &str) {
    let file = format!("functions/{name}/bootstrap");
    // Complete before it has its name: a watcher never sees a program that cannot be run.
    folder.file(&format!("{file}.new"), &COUNTING.replace("VERSION", version));
    std::fs::set_permissions(folder.path(&format!("{file}.new")), Permissions::from_mode(0o755)).expect("executable");
    std::fs::rename(folder.path(&format!("{file}.new")), folder.path(&file)).expect("one folder");
}

fn said(gateway: &process::Maitred, path: &str) -> String {
    let answer = gateway.get(path);
    let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
    location.unwrap_or_else(|| panic!("{answer}")).trim().to_owned()
}

#[test]
fn changed_code_is_taken_over_and_what_is_as_it_was_runs_on() {
    let folder = Folder::new("functions-reload");
    folder.file("maitred.yaml", RUNNING);
    write(&folder, "checker", "one");
    write(&folder, "steady", "one");
    let gateway = folder.run(&["run"]);
    assert_eq!((said(&gateway, "/checker"), said(&gateway, "/steady")), ("/?one-1".to_owned(), "/?one-1".to_owned()));
    write(&folder, "checker", "two");
    gateway.wait_for("code: 1 changed (checker)");
    assert_eq!((said(&gateway, "/checker"), said(&gateway, "/steady")), ("/?two-1".to_owned(), "/?one-2".to_owned()));
    // A configuration in which they are the same is no reason to start them anew.
    folder.file("maitred.yaml", &RUNNING.replace("/steady\n", "/steadily\n"));
    gateway.wait_for("routes: 1 new (all GET /steadily)");
    assert_eq!((said(&gateway, "/checker"), said(&gateway, "/steadily")), ("/?two-2".to_owned(), "/?one-3".to_owned()));
    let pid = gateway.pid();
    let done = gateway.terminate();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    let children = std::fs::read_dir("/proc").expect("Linux").flatten().filter(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("functions-reload") && process.file_name() != *pid.to_string()
    });
    assert_eq!(children.count(), 0, "no function outlives the gateway");
}
