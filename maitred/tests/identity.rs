//! What the command line says of who may come in. Asks the program itself, offline.

#[expect(dead_code, reason = "a gateway that runs is for cli.rs and others")]
mod process;

use process::Folder;
use serde_json::Value;

#[test]
fn a_condition_that_cannot_be_asked_is_shown_where_it_stands() {
    let folder = Folder::new("condition");
    folder.file(
        "maitred.yaml",
        "listen: 127.0.0.1:0
upstreams: { kitchen: http://127.0.0.1:9001 }
authorizers: { keys: { api_key: {} } }
apis:
  menu:
    policies: { authenticate: [keys], authorize: { condition: \"claim.tenant == 'acme'\" } }
    routes:
      - GET /: kitchen
      - { match: GET /a, authorize: { condition: [\"path.id == 'x'\", \"true &&\"] }, proxy: kitchen }
",
    );
    let done = folder.maitred(&["check"]);
    assert_ne!(done.code, 0);
    for part in [
        "error[bad-condition]: the condition uses a variable that there is not: `claim` at its column 1\n --> maitred.yaml:6:63",
        "= help: did you mean `claims`?",
        "error[bad-condition]: the condition cannot be read at its column ",
        "error[unknown-parameter]: the condition uses `path.id`, and the path has no parameter `{id}`\n",
        "on this route",
    ] {
        assert!(done.stderr.contains(part), "{part} in {}", done.stderr);
    }
}

#[test]
fn explain_says_who_would_decide_and_what_is_demanded() {
    let folder = Folder::new("explain-identity");
    folder.file(
        "maitred.yaml",
        "listen: 127.0.0.1:0
upstreams: { kitchen: http://127.0.0.1:9001 }
authorizers:
  keys: { api_key: {} }
  cookie: { api_key: { in: cookie, name: key } }
apis:
  menu:
    policies:
      authenticate: [keys, cookie]
      authorize: { scopes: [read], groups: { any: [staff, cooks] } }
    routes:
      - { match: GET /open, authenticate: none, proxy: kitchen }
      - { match: GET /perhaps, authenticate: [keys, anonymous], authorize: none, proxy: kitchen }
      - match: \"GET /of/{id}\"
        authorize: { claims: { tenant: [acme, 3], realm.role: \"*\" }, condition: \"path.id == claims.tenant\" }
        proxy: kitchen
        rewrite: \"/{claims.tenant}\"
",
    );
    let explain = |path: &str, more: &[&str]| folder.maitred(&[&["explain", "GET", path], more].concat());
    let done = explain("/of/7", &["-H", "cookie: a=b; key=wrong"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    for part in [
        "identity    keys, then cookie\n",
        "decided by  cookie, whose credential the request has\n",
        "demands     the scope read\n",
        "demands     the group staff or cooks\n",
        "demands     the claim tenant: \"acme\" or 3\n",
        "demands     the claim realm.role\n",
        "demands     that path.id == claims.tenant\n",
    ] {
        assert!(done.stdout.contains(part), "{part} in {}", done.stdout);
    }
    assert!(!done.stdout.contains("asked for"), "that depends on who it is: {}", done.stdout);
    let of = |path: &str, more: &[&str]| {
        let json: Value = serde_json::from_str(&explain(path, &[&["--json"], more].concat()).stdout).unwrap();
        json["identity"].clone()
    };
    let nobody = of("/of/7", &[]);
    assert_eq!((&nobody["decides"], &nobody["status"]), (&Value::Null, &401.into()), "{nobody}");
    assert_eq!(nobody["demands"][1]["conditions"][0], "path.id == claims.tenant");
    let both = of("/of/7", &["-H", "x-api-key: a", "-H", "cookie: key=b"]);
    assert_eq!((&both["decides"], &both["status"]), (&"keys".into(), &Value::Null), "{both}");
    let perhaps = of("/perhaps", &[]);
    assert_eq!(
        (&perhaps["anonymous"], &perhaps["status"], &perhaps["demands"]),
        (&true.into(), &Value::Null, &serde_json::json!([]))
    );
    assert!(explain("/perhaps", &[]).stdout.contains("comes in as anonymous"));
    assert_eq!(of("/open", &["-H", "x-api-key: a"]), Value::Null);
}
