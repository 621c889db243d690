//! Functions and the process: what `check`, `explain` and `routes` say of them.

#[expect(dead_code, reason = "what follows a process that replaces itself is for upgrade.rs and systemd.rs")]
mod process;

use process::Folder;

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
        done.code != 0 && done.stderr.contains("error[bad-function]: `functions/dessert` has no `desert.py`"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("maitred.yaml:5:67") && done.stderr.contains("write `dessert.handler`"), "{}", done.stderr);
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
