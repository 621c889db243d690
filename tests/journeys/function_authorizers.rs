//! A function says who may come in: what it is asked and how often, what its answer does, and that nobody comes in without one. The functions are
//! real processes, which speak the Runtime API.

use maitred_testkit::{Backend, Gateway, gateway};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Answers as the token says, and counts its invocations in the context.
const CHECKER: &str = r#"#!/usr/bin/env python3
import http.client, json, os

asked = 0

def handler(event):
    global asked
    asked += 1
    if os.environ.get("ANSWERS") == "routes":
        context = event["requestContext"]
        return {"statusCode": 200, "body": json.dumps([context.get("authorizer"), context.get("identity", {}).get("apiKey")])}
    if os.environ.get("ANSWERS") == "isAuthorized":
        return {"isAuthorized": event["identitySource"][0] == "yes", "context": {"tenant": "acme", "asked": asked}}
    token = event.get("authorizationToken") or event["headers"]["Authorization"]
    if token == "wrong":
        raise Exception("Unauthorized")
    if token == "broken":
        raise Exception("oops")
    resource = event["methodArn"] if token == "this" else "arn:aws:execute-api:*:*:all/*"
    statement = {"Action": "execute-api:Invoke", "Effect": "Deny" if token == "denied" else "Allow", "Resource": resource}
    policy = {"Version": "2012-10-17", "Statement": [] if token == "nothing" else [statement]}
    said = {"principalId": "user-7", "policyDocument": policy, "context": {"tenant": "acme", "asked": asked}}
    if token == "counted":
        said["usageIdentifierKey"] = "a-key-of-acme-inc-1"
    return said

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

def call(method, path, body=None):
    connection.request(method, "/2018-06-01/runtime" + path, body)
    answer = connection.getresponse()
    return answer.headers, answer.read()

while True:
    headers, raw = call("GET", "/invocation/next")
    here = "/invocation/" + headers["Lambda-Runtime-Aws-Request-Id"]
    try:
        call("POST", here + "/response", json.dumps(handler(json.loads(raw))))
    except Exception as error:
        call("POST", here + "/error", json.dumps({"errorType": "Exception", "errorMessage": str(error)}))
"#;

/// Where the code is, until the test is over.
struct Code(PathBuf);

impl Code {
    fn new() -> Code {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("maitred-checker-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("everyone may read");
        fs::write(folder.join("bootstrap"), CHECKER).expect("writable");
        fs::set_permissions(folder.join("bootstrap"), Permissions::from_mode(0o755)).expect("executable");
        Code(folder)
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn guarded(authorizer: &str, more: &str) -> (Backend, Gateway, Code) {
    let (kitchen, code) = (Backend::status(200), Code::new());
    let yaml = format!(
        "upstreams: {{ kitchen: \"http://$kitchen\" }}
functions:
  checker: {{ runtime: provided, code: \"{0}\", concurrency: 1, init_timeout: 30s, timeout: 30s }}
  simple: {{ runtime: provided, code: \"{0}\", concurrency: 1, init_timeout: 30s, timeout: 30s, environment: {{ ANSWERS: isAuthorized }} }}
  who: {{ runtime: provided, code: \"{0}\", concurrency: 1, init_timeout: 30s, timeout: 30s, environment: {{ ANSWERS: routes }} }}
  who_v1: {{ runtime: provided, code: \"{0}\", event: v1, concurrency: 1, init_timeout: 30s, timeout: 30s, environment: {{ ANSWERS: routes }} }}
authorizers:
  checker: {{ function: {authorizer} }}
consumers:
  acme: {{ api_keys: [a-key-of-acme-inc-1] }}
  alice: {{ groups: [staff], identities: [{{ authorizer: checker, subject: user-7 }}] }}
apis:
  all:
    {more}
    policies:
      authenticate: [checker]
      transform: {{ request: {{ headers: {{ set: {{ x-tenant: \"{{claims.tenant}}\", x-asked: \"{{claims.asked}}\", x-consumer: \"{{consumer}}\" }} }} }} }}
    routes:
      - GET /menu: kitchen
      - GET /orders: kitchen
      - GET /who: function who
      - GET /who1: function who_v1
      - {{ match: \"GET /tenants/{{id}}\", proxy: kitchen, authorize: {{ groups: [staff], condition: \"claims.tenant == path.id\" }} }}
",
        code.0.display()
    );
    let gateway = gateway(&yaml, &[("kitchen", kitchen.address())]);
    (kitchen, gateway, code)
}

fn ask(gateway: &Gateway, target: &str, token: &str) -> (u16, String) {
    let answer = gateway.ask("GET", target, &format!("Authorization: {token}\r\n"), "");
    (answer.status, answer.text())
}

#[test]
fn a_policy_lets_in_and_is_remembered() {
    let (kitchen, gateway, _code) = guarded("{ name: checker, kind: token, ttl: 60s }", "");
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "/menu", "all").0, 200);
    }
    for request in kitchen.requests() {
        let told = ["x-tenant", "x-asked", "x-consumer"].map(|name| request.header(name).unwrap_or_default().to_owned());
        assert_eq!(told, ["acme", "1", "alice"], "asked once");
    }
    assert_eq!(ask(&gateway, "/tenants/acme", "all").0, 200);
    assert_eq!(ask(&gateway, "/tenants/other", "all").0, 403);
    assert_eq!(ask(&gateway, "/menu", "this").0, 200);
    assert_eq!(ask(&gateway, "/orders", "this").0, 403, "what allows one allows no other");
    gateway.turn(Duration::from_secs(60));
    assert_eq!(ask(&gateway, "/orders", "this").0, 200, "asked anew");
    assert_eq!(gateway.get("/menu").status, 401, "nobody is asked about nothing");
}

#[test]
fn yes_and_no_will_do() {
    let (kitchen, gateway, _code) = guarded("{ name: simple, simple: true }", "");
    assert_eq!(ask(&gateway, "/menu", "yes").0, 200);
    assert_eq!(kitchen.only().header("x-tenant"), Some("acme"));
    assert_eq!(ask(&gateway, "/menu", "no").0, 403);
    assert_eq!(gateway.get("/menu").status, 401);
}

#[test]
fn a_function_that_answers_is_told_what_the_other_said() {
    let (_kitchen, gateway, _code) = guarded("{ name: checker, event: v1, identity: [\"header:Authorization\"] }", "");
    let said = |target: &str, token: &str| serde_json::from_str::<Value>(&ask(&gateway, target, token).1).expect("JSON");
    assert_eq!(said("/who", "all"), json!([{ "lambda": { "tenant": "acme", "asked": 1 } }, null]));
    let v1 = said("/who1", "all");
    assert_eq!((&v1[0]["principalId"], &v1[0]["tenant"], &v1[0]["asked"]), (&json!("user-7"), &json!("acme"), &json!("1")));
    assert_eq!(said("/who1", "counted")[1], "a-key-of-acme-inc-1");
}

#[test]
fn what_clients_are_told() {
    const DENIED: &str = r#"{"Message":"User is not authorized to access this resource"}"#;
    const EXPLICITLY: &str = r#"{"Message":"User is not authorized to access this resource with an explicit deny"}"#;
    let rows = [
        ("wrong", (401, r#"{"message":"Unauthorized"}"#), (401, r#"{"message":"Unauthorized"}"#), "unauthenticated"),
        ("nothing", (403, DENIED), (403, r#"{"message":"Forbidden"}"#), "forbidden"),
        ("denied", (403, EXPLICITLY), (403, r#"{"message":"Forbidden"}"#), "forbidden"),
        ("broken", (500, r#"{"message":null}"#), (500, r#"{"message":"Internal Server Error"}"#), "authorizer_failed"),
    ];
    for (at, responses) in ["aws_rest", "aws_http", "problem"].iter().enumerate() {
        let (kitchen, gateway, _code) = guarded("{ name: checker, event: rest }", &format!("gateway_responses: {responses}"));
        for (token, rest, http, kind) in rows {
            let (status, body) = ask(&gateway, "/menu", token);
            let wanted = [rest, http, (rest.0, "")][at];
            assert_eq!(status, wanted.0, "{responses} {token}");
            match wanted.1 {
                "" => assert!(body.contains(&format!("urn:maitred:fault:{kind}")), "{body}"),
                words => assert_eq!(body, words, "{responses} {token}"),
            }
        }
        assert!(kitchen.requests().is_empty());
    }
}
