//! Policies in Cedar and the process: what `check` and `explain` say, and the decision log.
#![cfg(feature = "cedar")]

#[expect(dead_code, reason = "what follows a process that replaces itself is for upgrade.rs and systemd.rs")]
mod process;

use process::{Folder, ask};

const TEXT: &str = "listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
telemetry: { access_log: none }
authorizers: { keys: { api_key: {} } }
consumers: { alice: { api_keys: [\"${env:PATH}\"] } }
apis:
  all:
    policies: { authenticate: [keys] }
    routes:
      - match: \"GET /orders/{id}\"
        authorize: { cedar: { policies: kitchen.cedar, schema: kitchen.cedarschema, action: GetOrder, resource: 'Order::\"{id}\"', log: all } }
        respond: { text: hello }
";
const SCHEMA: &str =
    "entity User { authorizer: String };\nentity Order;\naction GetOrder appliesTo { principal: User, resource: Order };\n";
const POLICIES: &str = "@id(\"seventh\")\npermit (principal, action, resource == Order::\"7\");\n";

fn folder(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.file("maitred.yaml", TEXT).file("kitchen.cedarschema", SCHEMA).file("kitchen.cedar", POLICIES);
    folder
}

#[test]
fn check_points_into_the_policies_and_explain_names_them() {
    let folder = folder("cedar-words");
    let done = folder.maitred(&["explain", "GET", "/orders/7", "-H", "x-api-key: whatever"]);
    let demand = "demands     that a policy of kitchen.cedar permits the action GetOrder on Order::\"{id}\", and none forbids it";
    assert!(done.code == 0 && done.stdout.contains(demand), "{}{}", done.stdout, done.stderr);
    folder.file("kitchen.cedar", "permit (principal, action, resource) when { principal.nme == \"a\" };\n");
    let done = folder.maitred(&["check"]);
    assert!(done.code != 0 && done.stderr.contains("kitchen.cedar:1:45"), "{}", done.stderr);
    folder.file("kitchen.cedar", "permit (principal, action == Action::\"GetOrder\", resource in User::\"a\");\n");
    let done = folder.maitred(&["check"]);
    assert!(done.code == 0 && done.stderr.contains("warning[odd-policy]"), "{}", done.stderr);
}

#[test]
fn check_tells_of_policies_beside_what_else_is_wrong() {
    let folder = folder("cedar-beside");
    folder.file("maitred.yaml", &TEXT.replace("respond: { text: hello }", "respond: { text: hello }\n        cors: 7"));
    folder.file("kitchen.cedar", "permit (principal, action, resource) when { principal.nme == \"a\" };\n");
    let done = folder.maitred(&["check"]);
    let is_told = done.stderr.contains("maitred.yaml:13:") && done.stderr.contains("kitchen.cedar:1:45");
    assert!(done.code != 0 && is_told, "{}", done.stderr);
}

#[test]
fn the_decision_log_has_a_line_for_each() {
    let folder = folder("cedar-log");
    let gateway = folder.run(&["run", "--log-format", "json"]);
    let key = std::env::var("PATH").expect("there is one");
    let get = |id: &str| {
        let headers = format!("X-Api-Key: {key}\r\nX-Request-Id: of-{id}\r\nConnection: close");
        ask(gateway.listening(), &format!("GET /orders/{id} HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n"))
    };
    let logged = |decision: &str, policies: &str, id: &str| {
        let request = format!(r#""request_id":"of-{id}","api":"all","route":"GET /orders/{{id}}""#);
        let asked =
            format!(r#""authorizer":"keys","subject":"alice","action":"Action::\"GetOrder\"","resource":"Order::\"{id}\"""#);
        gateway.wait_for(&format!(r#""decision":"{decision}",{request},{asked},"policies":"{policies}","errors":"""#));
    };
    assert!(get("7").starts_with("HTTP/1.1 200 "));
    logged("permit", "seventh", "7");
    assert!(get("8").starts_with("HTTP/1.1 403 "));
    logged("deny", "", "8");
}
