//! `maitred token` as a user runs it: what it says of each rule, whom it asks, and that the token itself is written nowhere.

#[expect(dead_code, reason = "what serves, and follows a process, is for cli.rs, upgrade.rs and systemd.rs")]
mod process;

use process::Folder;
use serde_json::Value;

/// RFC 7515 appendix A.1, with its key: long over.
const OLD_TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// Signed with the secret of `TOKENS`, for alice, until 2200.
const TOKEN: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6NzI1ODExODQwMH0.Xke45Ies15NbmNzUaB8LSWueZlH2HaXGUCe1F77E3ck";
const TOKENS: &str = "
listen: 127.0.0.1:0
authorizers:
  staff: { jwt: { secret: 0123456789abcdef0123456789abcdef } }
  joe: { jwt: { jwks: \"http://127.0.0.1:1/keys\", issuer: joe } }
  keys: { api_key: {} }
apis: {}
";

#[test]
fn a_token_is_held_against_an_authorizer_rule_by_rule() {
    let folder = Folder::new("token");
    folder.file("maitred.yaml", TOKENS);
    let token = |arguments: &[&str]| folder.maitred(&[&["token"], arguments].concat());
    let good = token(&["--authorizer", "staff", TOKEN]);
    assert_eq!(good.code, 0, "{}{}", good.stdout, good.stderr);
    assert!(good.stdout.starts_with("valid for the authorizer `staff`") && good.stdout.contains("\"alice\""), "{}", good.stdout);
    assert!(!good.stdout.contains(TOKEN) && !good.stderr.contains(TOKEN), "the token itself is written nowhere");
    let old = token(&["--authorizer", "staff", "--json", OLD_TOKEN]);
    let told: Value = serde_json::from_str(&old.stdout).expect("JSON");
    assert_eq!((old.code, &told["valid"], &told["claims"]["iss"]), (1, &Value::from(false), &Value::from("joe")));
    let checks = told["checks"].as_array().expect("a list");
    let failed: Vec<_> = checks.iter().filter(|check| check["ok"] == false).map(|check| check["check"].clone()).collect();
    assert_eq!(failed, ["signature", "exp"]);
    // Nobody is asked for keys unless the user says so, and then it is told why there are none.
    let unasked = token(&["--authorizer", "joe", OLD_TOKEN]);
    assert!(unasked.code == 1 && unasked.stdout.contains("--fetch"), "{}", unasked.stdout);
    let asked = token(&["--authorizer", "joe", "--fetch", OLD_TOKEN]);
    assert!(asked.code == 1 && asked.stdout.contains("cannot be fetched"), "{}", asked.stdout);
    for (arguments, words) in [
        (&["x.y.z"][..], "several authorizers take tokens"),
        (&["--authorizer", "keys", "x.y.z"], "no authorizer `keys` takes tokens"),
        (&["--authorizer", "staf", "x.y.z"], "did you mean `staff`?"),
    ] {
        let done = token(arguments);
        assert!(done.code == 1 && done.stderr.contains(words), "{arguments:?}: {}", done.stderr);
    }
}
