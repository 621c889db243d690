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
        "error[bad-condition]: the condition uses a variable that there is not: `claim`\n --> maitred.yaml:6:64\n",
        "= help: did you mean `claims`?",
        "error[bad-condition]: the condition cannot be read: ",
        "--> maitred.yaml:9:77\n",
        "error[unknown-parameter]: the condition uses `path.id`, and the path has no parameter `{id}`\n",
        "on this route",
    ] {
        assert!(done.stderr.contains(part), "{part} in {}", done.stderr);
    }
}

#[test]
fn what_is_wrong_with_conditions_is_told_with_everything_else_in_the_order_of_the_file() {
    let folder = Folder::new("conditions");
    folder.file(
        "maitred.yaml",
        "listen: 127.0.0.1:0
upstreams: { kitchen: http://127.0.0.1:9001 }
authorizers: { keys: { api_key: {} } }
apis:
  menu:
    policies: { authenticate: [keyz] }
    routes:
      - { match: GET /a, authorize: { condition: 'true && consumer.name' }, proxy: kitchen }
      - match: GET /b
        authorize:
          condition: |
            claims.level > 3 && principal.groups
        proxy: kitchen
      - match: GET /c
        authorize:
          condition: |
            claims.level > 3 &&
              request.headers
        proxy: kitchen
      - { match: GET /d, proxy: kitschen }
",
    );
    let done = folder.maitred(&["check"]);
    assert_eq!(done.code, 1);
    let mut rest = done.stderr.as_str();
    for part in [
        "error[unknown-authorizer]",
        "--> maitred.yaml:6:",
        "error[bad-condition]: the condition has a text where it needs true or false\n",
        "--> maitred.yaml:8:",
        "                 ^^^^^^^^^^^^^",
        "error[bad-condition]: the condition has a list where it needs true or false\n",
        "--> maitred.yaml:12:33\n",
        "error[bad-condition]: the condition has a map where it needs true or false at its line 2, column 3\n",
        "--> maitred.yaml:17:13\n",
        "error[unknown-upstream]",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part} in {rest}\n\nof {}", done.stderr));
        rest = &rest[at + part.len()..];
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
  web: { oidc: { issuer: \"https://id.example.com/\", client_id: web } }
  query: { api_key: { in: query, name: key }, strip: true }
  elsewhere: { forward: { url: http://127.0.0.1:9002/auth } }
apis:
  menu:
    policies:
      authenticate: [keys, cookie]
      authorize: { scopes: [read], groups: { any: [staff, cooks] } }
    routes:
      - { match: GET /open, authenticate: none, proxy: kitchen }
      - { match: GET /page, authenticate: [web], authorize: none, proxy: kitchen }
      - { match: GET /stripped, authenticate: [query, anonymous], authorize: none, proxy: kitchen }
      - { match: GET /elsewhere, authenticate: [elsewhere], authorize: none, proxy: kitchen }
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
        "goes to     proxy kitchen\n",
        "asked for   /{claims.tenant}\n",
    ] {
        assert!(done.stdout.contains(part), "{part} in {}", done.stdout);
    }
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
    let stripped = explain("/stripped?a=1&key=zzz&b=2", &[]).stdout;
    assert!(stripped.contains("decided by  query, whose") && stripped.contains("asked for   /stripped?a=1&b=2\n"), "{stripped}");
    let elsewhere = explain("/elsewhere", &[]).stdout;
    assert!(elsewhere.contains("decided by  elsewhere, which is asked about every request\n"), "{elsewhere}");
    assert_eq!(of("/open", &["-H", "x-api-key: a"]), Value::Null);
    let open = explain("/open", &["-H", "x-api-key: a"]).stdout;
    assert!(open.contains("identity    nobody is asked\n") && open.contains("goes to     proxy kitchen\n"), "{open}");
    let page = explain("/page", &[]).stdout;
    assert!(page.contains("is answered with 401; who opens a page is sent to log in by web\n"), "{page}");
    let step = explain("/oauth2/callback?code=x", &[]).stdout;
    assert!(step.contains("identity    nobody is asked\n") && step.contains("goes to     login web callback\n"), "{step}");
    let refused = explain("/of/7?a=b", &[]).stdout;
    for part in [
        "decided by  nobody: the request has no credential, and is answered with 401\n",
        "goes to     nobody, without a credential\n",
        "would go to proxy kitchen\n",
        "asked for   /{claims.tenant}?a=b\n",
    ] {
        assert!(refused.contains(part), "{part} in {refused}");
    }
}
