//! The smallest runtime there is: a shell script with curl, as AWS's own tutorial has it.

use crate::{folder, hosting, is_there};

const BOOTSTRAP: &str = r#"#!/bin/sh
set -eu
while true; do
    head=$(mktemp)
    event=$(curl -sS -L -D "$head" "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next")
    id=$(grep -i '^Lambda-Runtime-Aws-Request-Id:' "$head" | tr -d '\r' | cut -d' ' -f2)
    rm -f "$head"
    curl -sS -o /dev/null -d "{\"said\": $event, \"by\": \"$AWS_LAMBDA_FUNCTION_NAME\"}" \
        "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response"
done
"#;

#[test]
fn a_shell_script_with_curl_is_a_function() {
    if !is_there("curl", &["--version"], "curl") {
        return;
    }
    let code = folder(&[("bootstrap", BOOTSTRAP)]);
    let path = code.path("bootstrap");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a file of ours");
    let gateway = hosting(&format!("    runtime: provided\n    code: {}\n    event: raw", code.path("").display()));
    for event in ["1", "{\"a\":\"b c\"}", "[]"] {
        let response = gateway.ask("POST", "/", "", event);
        let said = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!((response.status, said), (200, format!("{{\"said\": {event}, \"by\": \"it\"}}")));
    }
}
