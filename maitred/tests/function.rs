//! `maitred function`, and the token that a gateway makes where it hosts functions. The function is a script that speaks the Runtime API by
//! itself, as a process of its own.

#![cfg(target_os = "linux")]

#[expect(dead_code, reason = "what a drain shows is for upgrade.rs and systemd.rs")]
mod process;

use maitred_testkit::{Backend, Latch};
use process::{Done, Folder, Maitred, PATIENCE, ask, until};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

const BOOTSTRAP: &str = include_str!("../../tests/peers/live/bootstrap.py");

/// A configuration whose functions have this code, and where its admin listener is.
fn text(admin: u16, functions: &str) -> String {
    format!(
        "listen: 127.0.0.1:0
admin: {{ listen: 127.0.0.1:{admin} }}
telemetry: {{ access_log: none }}
functions: {functions}
apis: {{ all: {{ routes: [ {{ match: GET /, respond: {{ status: 200 }} }} ] }} }}
"
    )
}

const ECHO: &str = "{ echo: { runtime: provided, code: code, timeout: 2s } }";

/// The file says where the admin listener is, as it does for a user: a port that is free now.
fn hosting(test: &str, functions: &str) -> (Folder, Maitred) {
    let folder = Folder::new(test);
    code(&folder, BOOTSTRAP);
    let admin = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
    let gateway = folder.file("maitred.yaml", &text(admin, functions)).run(&["run"]);
    (folder, gateway)
}

fn code(folder: &Folder, bootstrap: &str) {
    let place = folder.path("code/bootstrap");
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    let new = folder.path("code/.new");
    std::fs::write(&new, bootstrap).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, place).unwrap();
}

#[track_caller]
fn done(folder: &Folder, arguments: &[&str]) -> Done {
    let done = folder.maitred(&[&["function"], arguments].concat());
    assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
    done
}

#[track_caller]
fn refused(folder: &Folder, arguments: &[&str], words: &str) -> Done {
    let done = folder.maitred(&[&["function"], arguments].concat());
    assert!(done.code == 1 && done.stderr.contains(words), "{arguments:?}: {} {}", done.code, done.stderr);
    done
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_function_is_run_and_says_what_came_of_it_and_what_it_wrote() {
    let (folder, _gateway) = hosting("function-invoke", ECHO);
    let result = json(&done(&folder, &["invoke", "echo", "--event", "{\"plum\": 1}"]).stdout);
    assert_eq!(result["event"]["plum"], 1);
    let first = result["request_id"].as_str().unwrap().to_owned();
    folder.file("event.json", "[1, 2]");
    assert_eq!(json(&done(&folder, &["invoke", "echo", "--event-file", "event.json"]).stdout)["event"][1], 2);
    assert_eq!(json(&done(&folder, &["invoke", "echo"]).stdout)["event"], json("{}"));
    let logged = done(&folder, &["invoke", "echo", "--event", "3", "--logs"]);
    let second = json(&logged.stdout)["request_id"].as_str().unwrap().to_owned();
    assert!(logged.stderr.contains(&format!("heard {second} b'3'")), "{}", logged.stderr);

    let failed = refused(&folder, &["invoke", "echo", "--event", "\"fail\""], "`echo` failed");
    assert_eq!(json(&failed.stdout)["errorType"], "Plums");
    let late = refused(&folder, &["invoke", "echo", "--event", "\"sleep\""], "took longer than it may");
    assert_eq!(json(&late.stdout)["errorType"], "Sandbox.Timedout");
    let ended = refused(&folder, &["invoke", "echo", "--event", "\"exit\""], "its process ended");
    assert_eq!(json(&ended.stdout)["errorType"], "Runtime.ExitError");
    assert_eq!(refused(&folder, &["invoke", "soup"], "there is no function `soup`; the functions are: `echo`").stdout, "");
    refused(&folder, &["invoke", "echo", "--event", "{"], "not JSON");
    refused(&folder, &["invoke", "echo", "--event-file", "nothing.json"], "nothing.json");

    let log = done(&folder, &["logs", "echo"]).stdout;
    for id in [&first, &second] {
        assert!(log.contains(&format!("heard {id}")), "{log}");
    }
    let one = done(&folder, &["logs", "echo", "--request-id", &first]).stdout;
    assert!(one.contains(&first) && !one.contains(&second), "{one}");
    let none = done(&folder, &["logs", "echo", "--request-id", "another"]);
    assert!(none.stdout.is_empty() && none.stderr.contains("nothing in an invocation another"), "{}", none.stderr);
    let line = done(&folder, &["logs", "echo", "--request-id", &first, "--json"]).stdout;
    assert_eq!(json(line.lines().next().unwrap())["request_id"], first.as_str());
}

/// Tries to read the files that it is told of, and says what came of it.
const CURIOUS: &str = r#"#!/usr/bin/env python3
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    event = api.getresponse()
    told = {}
    for path in json.loads(event.read()):
        try:
            told[path] = len(open(path).read(1))
        except OSError as error:
            told[path] = error.strerror
    name = event.headers["Lambda-Runtime-Aws-Request-Id"]
    api.request("POST", f"/2018-06-01/runtime/invocation/{name}/response", json.dumps(told))
    api.getresponse().read()
"#;

#[test]
fn what_the_gateway_keeps_is_hidden_from_functions_of_its_own_user_too() {
    // What lies below a folder in which everybody may write cannot be hidden.
    let is_shared = |folder: &Path| std::fs::metadata(folder).is_ok_and(|metadata| metadata.mode() & 0o1002 == 0o1002);
    let places = [Some(env!("CARGO_TARGET_TMPDIR").to_owned()), std::env::var("HOME").ok()];
    let place = places.into_iter().flatten().find(|place| !Path::new(place).ancestors().any(is_shared));
    let Some(place) = place else { return eprintln!("all folders are everybody's: this test does nothing") };
    let folder = Folder::within(place, "function-hidden");
    code(&folder, CURIOUS);
    folder.file("other.txt", "open to all");
    let admin = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
    let functions = "{ echo: { runtime: provided, code: code, user: root } }";
    let gateway = folder.file("maitred.yaml", &text(admin, functions)).run(&["run"]);
    let path = |name: &str| folder.path(name).display().to_string();
    let event = serde_json::json!([path("other.txt"), path("maitred.yaml"), path("maitred.db-token")]).to_string();
    let told = json(&done(&folder, &["invoke", "echo", "--event", &event]).stdout);
    assert_eq!(told[path("other.txt")], 1, "{told}");
    if gateway.says("no Landlock") {
        return;
    }
    for name in ["maitred.yaml", "maitred.db-token"] {
        assert_eq!(told[path(name)], "Permission denied", "{name}: {told}");
    }
}

#[test]
fn an_event_may_come_from_stdin_and_a_log_is_followed() {
    let (folder, _gateway) = hosting("function-pipes", ECHO);
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder.path(".")).env("MAITRED", env!("CARGO_BIN_EXE_maitred"));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for rest in ["-", "--event-file -"] {
        let (code, out) = shell(&format!("echo 7 | \"$MAITRED\" function invoke echo {rest}"));
        assert_eq!((code, &json(&out)["event"]), (Some(0), &json("7")));
    }
    // Ends with its reader, and shows what came after it began.
    let script = "\"$MAITRED\" function logs echo -f | (read -r first; \"$MAITRED\" function invoke echo --event '\"new\"' >&2; grep -m 1 new)";
    let (code, out) = shell(script);
    assert!(code == Some(0) && out.contains("b'\"new\"'"), "{out}");
}

/// Answers with what is no response, or fails.
const CLUMSY: &str = r#"#!/usr/bin/env python3
import http.client, json, os
print("hello", flush=True)
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    event = api.getresponse()
    call, told = "response", {"statusCode": 200, "body": {"a": 1}}
    if json.loads(event.read())["rawPath"] == "/fail":
        call, told = "error", {"errorType": "Plums", "errorMessage": "there are none", "stackTrace": ["  in the basket"]}
    name = event.headers["Lambda-Runtime-Aws-Request-Id"]
    api.request("POST", f"/2018-06-01/runtime/invocation/{name}/{call}", json.dumps(told))
    api.getresponse().read()
"#;

#[test]
fn what_goes_wrong_is_told_at_warn_and_where_one_looks_for_it() {
    let folder = Folder::new("function-wrong");
    code(&folder, CLUMSY);
    let admin = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
    let soup = "{ soup: { runtime: provided, code: code, timeout: 30s, init_timeout: 30s } }";
    let text = text(admin, soup).replace("match: GET /, respond: { status: 200 }", "match: 'GET /{path+}', function: soup");
    let gateway = folder.file("maitred.yaml", &text).run(&["run", "--log-level", "warn"]);
    for path in ["/fail", "/body"] {
        let answer = gateway.get(path);
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }
    let why = "The result is no response: `body` must be a string; an object is here";
    gateway.wait_for(why);
    gateway.wait_for("The invocation failed: Plums: there are none");
    gateway.wait_for("in the basket");
    assert!(!gateway.says("hello"), "that is of the level info");
    let log = done(&folder, &["logs", "soup", "--json"]).stdout;
    let line =
        log.lines().map(json).find(|line| line["text"].as_str().unwrap().starts_with(why)).expect("it is in the function's log");
    assert_eq!((&line["source"], line["request_id"].as_str().map(str::len)), (&json("\"platform\""), Some(36)));
    let list = done(&folder, &["list"]).stdout;
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[7..9], ["2", "2"], "{list}");
    refused(&folder, &["logs", "soop"], "there is no function `soop`; did you mean `soup`?");
}

#[test]
fn a_log_that_is_followed_goes_on_over_another_state_of_the_code() {
    let (folder, _gateway) = hosting("function-follow", ECHO);
    for _ in 0..5 {
        done(&folder, &["invoke", "echo", "--event", "\"old\""]);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_maitred"));
    command.args(["function", "logs", "echo", "-f"]).current_dir(folder.path(".")).stdout(Stdio::piped());
    let mut follower = command.spawn().unwrap();
    let (lines, told) = std::sync::mpsc::sync_channel(100);
    let stdout = BufReader::new(follower.stdout.take().unwrap());
    let reading = std::thread::spawn(move || stdout.lines().try_for_each(|line| lines.send(line.unwrap())));
    for _ in 0..5 {
        assert!(told.recv_timeout(PATIENCE).unwrap().contains("old"));
    }
    code(&folder, &BOOTSTRAP.replace("print(f\"heard", "print(f\"understood"));
    done(&folder, &["reload", "echo"]);
    let invoked = || done(&folder, &["invoke", "echo", "--event", "\"new\"", "--logs"]).stderr.contains("understood");
    until(invoked);
    while !told.recv_timeout(PATIENCE).unwrap().contains("understood") {}
    follower.kill().unwrap();
    follower.wait().unwrap();
    drop(told);
    let _ = reading.join().unwrap();
}

#[test]
fn functions_are_listed_and_their_processes_replaced() {
    let (folder, gateway) = hosting("function-list", ECHO);
    done(&folder, &["invoke", "echo"]);
    let list = done(&folder, &["list"]).stdout;
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        (rows[0][0], &rows[1][..2], &rows[1][3..9]),
        ("FUNCTION", &["echo", "provided"][..], &["0", "1", "0", "0", "1", "0"][..])
    );
    let one = || json(&done(&folder, &["list", "echo", "--json"]).stdout);
    let before = one();
    let instance = &before["instances"][0];
    assert_eq!((&instance["state"], &instance["invocations"]), (&json("\"idle\""), &json("1")));

    assert!(done(&folder, &["reload", "echo"]).stdout.contains("has the same code"));
    done(&folder, &["invoke", "echo"]);
    let after = one();
    assert_eq!(after["code"]["hash"], before["code"]["hash"]);
    assert_ne!(after["instances"][0]["pid"], instance["pid"]);

    code(&folder, &BOOTSTRAP.replace("\"event\": event", "\"event\": \"other\""));
    assert!(done(&folder, &["reload", "echo"]).stdout.starts_with("echo has "));
    until(|| json(&done(&folder, &["invoke", "echo"]).stdout)["event"] == "other");
    assert_ne!(one()["code"]["hash"], before["code"]["hash"]);
    refused(&folder, &["reload", "soup"], "no function `soup`");

    let metrics = ask(gateway.address("admin"), "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(metrics.contains("\nmaitred_function_invocations_total{function=\"echo\"} "), "{metrics}");
}

#[test]
fn the_token_is_asked_for_from_the_moment_that_a_function_is_hosted() {
    let (folder, gateway) = hosting("function-token", "{}");
    let bare = |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        ask(gateway.address("admin"), &head)[9..12].to_owned()
    };
    assert_eq!((bare("/config"), folder.path("maitred.db-token").exists()), ("200".to_owned(), false));
    let written = folder.read("maitred.yaml");
    folder.file("maitred.yaml", &written.replace("functions: {}", &format!("functions: {ECHO}")));
    until(|| bare("/config") == "401");
    let file = folder.path("maitred.db-token");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    gateway.wait_for("maitred.db-token");
    assert_eq!((bare("/readyz"), bare("/metrics"), bare("/functions")), ("200".to_owned(), "200".to_owned(), "401".to_owned()));
    gateway.eventually("/functions", |functions| functions[0]["name"] == "echo");
    done(&folder, &["invoke", "echo"]);

    // Whoever has no file says it himself.
    let admin = gateway.address("admin").to_string();
    refused(&folder, &["list", "--admin", &admin], "wants its token");
    let mut command = Command::new(env!("CARGO_BIN_EXE_maitred"));
    command.args(["function", "list", "--admin", &admin]).env("MAITRED_ADMIN_TOKEN", folder.read("maitred.db-token").trim());
    assert!(command.output().unwrap().status.success());

    // It is kept over a restart, and over a configuration that hosts nothing any more.
    let token = folder.read("maitred.db-token");
    folder.file("maitred.yaml", &written);
    gateway.wait_for_times("reloaded:", 2);
    assert_eq!(bare("/config"), "401");
    assert_eq!(done(&folder, &["list"]).stdout.lines().count(), 1);
    gateway.terminate();
    assert_eq!(folder.read("maitred.db-token"), token);
}

#[test]
fn a_token_that_others_may_read_keeps_a_gateway_from_starting_and_check_says_so() {
    let folder = Folder::new("function-open-token");
    code(&folder, BOOTSTRAP);
    folder.file("maitred.yaml", &text(0, ECHO)).file("maitred.db-token", "0123456789abcdef0123456789abcdef0123456789a\n");
    let file = folder.path("maitred.db-token");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    for (arguments, code) in [(&["check"][..], 1), (&["run"], 3)] {
        let done = folder.maitred(arguments);
        assert!(done.code == code && done.stderr.contains("may be read by others"), "{} {}", done.code, done.stderr);
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let checked = folder.maitred(&["check"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    // A token of the configuration's own leaves the file alone.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    folder.file("maitred.yaml", &text(0, ECHO).replace("listen: 127.0.0.1:0 }", "listen: 127.0.0.1:0, token: of-my-own }"));
    assert_eq!(folder.maitred(&["check"]).code, 0);
}

/// A configuration whose only function is in AWS, which is played by this, and how a gateway is started with it.
fn in_aws(test: &str, aws: &Backend) -> (Folder, String, fn(&Folder) -> Maitred) {
    let admin = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
    let functions = format!(
        "{{ remote: {{ arn: \"arn:aws:lambda:eu-west-1:123456789012:function:remote\", endpoint: \"http://{}\" }} }}",
        aws.address()
    );
    let start = |folder: &Folder| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maitred"));
        command.arg("run").env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "secret");
        folder.start(command)
    };
    (Folder::new(test), text(admin, &functions), start)
}

fn with_token(text: &str) -> String {
    text.replacen(" }\ntelemetry", ", token: s3cret }\ntelemetry", 1)
}

#[test]
fn a_function_in_aws_is_run_by_hand_for_who_has_a_token() {
    let aws = Backend::new(|request, conn| {
        let event = conn.body();
        if event == b"\"refuse\"" {
            conn.answer(403, "x-amzn-errortype: AccessDeniedException\r\n", r#"{"Message":"not authorized to perform"}"#);
            return;
        }
        assert!(request.target.starts_with("/2015-03-31/functions/arn%3Aaws%3Alambda"), "{}", request.target);
        conn.answer(200, "x-amz-log-result: U1RBUlQKRU5ECg==\r\n", event);
    });
    let (folder, open, start) = in_aws("in-aws", &aws);
    folder.file("maitred.yaml", &open);
    let gateway = start(&folder);
    refused(&folder, &["invoke", "remote"], "admin.token");
    assert_eq!(aws.count(), 0);
    gateway.terminate();
    folder.file("maitred.yaml", &with_token(&open));
    let _gateway = start(&folder);
    let ran = done(&folder, &["invoke", "remote", "--event", "{\"plum\": 1}", "--logs"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("{\"plum\": 1}\n", "START\nEND\n"));
    refused(&folder, &["invoke", "remote", "--event", "\"refuse\""], "AccessDeniedException");
    refused(&folder, &["logs", "remote"], "runs in AWS");
}

#[test]
fn who_waits_for_a_function_when_the_gateway_stops_is_answered() {
    let go = Latch::new();
    let wait = go.clone();
    let aws = Backend::new(move |_, conn| {
        let event = conn.body();
        if conn.wait(&wait) {
            conn.answer(200, "", event);
        }
    });
    let (folder, text, start) = in_aws("stops", &aws);
    folder.file("maitred.yaml", &with_token(&text));
    let gateway = start(&folder);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| done(&folder, &["invoke", "remote", "--event", "7"]));
        aws.wait_for(1);
        gateway.signal(libc::SIGTERM);
        gateway.wait_for("every connection ended by itself");
        go.open();
        assert_eq!(asking.join().unwrap().stdout, "7\n");
    });
    assert_eq!(gateway.end().code, 0);
}
