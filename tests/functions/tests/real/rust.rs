//! `lambda_runtime` and `lambda_http`, from crates.io.

use crate::{hosting, json};
use serde_json::json;

fn echo(more: &str) -> maitred_testkit::Gateway {
    let program = env!("CARGO_BIN_EXE_function-echo");
    hosting(&format!("    runtime: provided\n    code: {program}\n    event: raw\n{more}"))
}

#[test]
fn an_event_goes_in_and_comes_out_again() {
    let gateway = echo("");
    for event in [json!({}), json!({ "a": [1, 2.5, null, "é\u{1F370}"] }), json!("text"), json!(7)] {
        let response = gateway.ask("POST", "/", "Content-Type: application/json\r\n", &event.to_string());
        assert_eq!((response.status, json(&response.body)), (200, event));
    }
}

#[test]
fn a_function_knows_its_run_its_name_and_its_deadline() {
    let gateway = echo("    memory: 256MiB\n");
    let response = gateway.ask("POST", "/", "", r#"{"do":"tell"}"#);
    let told = json(&response.body);
    assert_eq!(told["function"], "it");
    assert_eq!(told["memory"], 256);
    assert_eq!(told["request_id"].as_str().map(str::len), Some(36));
    assert!(told["arn"].as_str().is_some_and(|arn| arn.ends_with(":function:it")), "{told}");
    assert!(told["deadline"].as_u64().is_some_and(|deadline| deadline > 1_700_000_000_000), "{told}");
}

#[test]
fn an_error_and_a_process_that_ends_are_told_apart_from_a_result_and_the_next_one_is_served() {
    let gateway = echo("    concurrency: 1\n");
    for what in ["fail", "exit", "fail", "exit"] {
        let response = gateway.ask("POST", "/", "", &format!(r#"{{"do":"{what}"}}"#));
        assert_eq!(response.status, 502, "{what}");
        assert_eq!(json(&response.body)["type"], "urn:maitred:fault:function_failed", "{what}");
        assert_eq!(gateway.ask("POST", "/", "", "1").status, 200, "after {what}");
    }
}

#[test]
fn a_web_service_on_lambda_http_answers_whatever_kind_of_event_it_is_given() {
    let program = env!("CARGO_BIN_EXE_function-web");
    for event in ["v2", "v1", "alb", "url"] {
        let gateway = hosting(&format!(
            "    runtime: provided\n    code: {program}\n    event: {event}\n    environment: {{ AWS_LAMBDA_HTTP_IGNORE_STAGE_IN_PATH: \"true\" }}"
        ));
        let response = gateway.ask("PUT", "/menu/3?name=alice", "Content-Type: text/plain\r\n", "twelve bytes");
        let said = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!((response.status, said.as_str()), (201, "PUT /menu/3 for alice: 12 bytes"), "{event}");
        assert_eq!(response.header("x-made-by"), Some("lambda_http"), "{event}");
        assert_eq!(response.header("content-type"), Some("text/plain"), "{event}");
    }
}
