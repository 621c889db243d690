//! Calls, refusals and heads as tables: each line one row of the reference, "Lambda Runtime API".

use super::*;

#[test]
fn each_path_with_its_method_is_one_call() {
    const BASE: &str = "/2018-06-01/runtime";
    let next = format!("{BASE}/invocation/next");
    let response = format!("{BASE}/invocation/8476a536/response");
    let error = format!("{BASE}/invocation/8476a536/error");
    let init = format!("{BASE}/init/error");
    for (method, path, wanted) in [
        (Method::Get, next.as_str(), Call::Next),
        (Method::Post, &next, Call::WrongMethod),
        (Method::Post, &response, Call::Response(b"8476a536")),
        (Method::Get, &response, Call::WrongMethod),
        (Method::Post, &error, Call::Error(b"8476a536")),
        (Method::Put, &error, Call::WrongMethod),
        (Method::Post, &init, Call::InitError),
        (Method::Get, "/ping", Call::Ping),
        (Method::Post, "/ping", Call::WrongMethod),
        (Method::Put, "/2020-08-15/logs", Call::NoLogs),
        (Method::Put, "/2022-07-01/telemetry", Call::NoTelemetry),
        // SnapStart is not offered.
        (Method::Get, "/2018-06-01/runtime/restore/next", Call::Unknown),
        (Method::Post, "/2018-06-01/runtime/restore/error", Call::Unknown),
        (Method::Get, "/", Call::Unknown),
        (Method::Get, "/2018-06-01/runtime/", Call::Unknown),
        (Method::Post, "/2018-06-01/runtime/invocation/response", Call::Unknown),
        (Method::Post, "/2018-06-01/runtime/invocation/a/b/response", Call::Unknown),
        // A prefix in AWS_LAMBDA_RUNTIME_API tells nobody apart: each process has its own port.
        (Method::Get, "/fn/2018-06-01/runtime/invocation/next", Call::Unknown),
        (Method::Post, "/2020-01-01/extension/register", Call::Extension(ExtensionCall::Register)),
        (Method::Get, "/2020-01-01/extension/event/next", Call::Extension(ExtensionCall::Next)),
        (Method::Post, "/2020-01-01/extension/event/next", Call::WrongMethod),
        (Method::Post, "/2020-01-01/extension/init/error", Call::Extension(ExtensionCall::InitError)),
        (Method::Post, "/2020-01-01/extension/exit/error", Call::Extension(ExtensionCall::ExitError)),
        (Method::Get, "/2020-01-01/extension/", Call::Unknown),
    ] {
        assert_eq!(Call::of(method, path.as_bytes()), wanted, "{method:?} {path}");
    }
}

#[test]
fn refusals_have_status_type_and_message_of_aws() {
    for (refused, status, kind) in [
        (Refused::State, 403, "InvalidStateTransition"),
        (Refused::RequestId, 400, "InvalidRequestID"),
        (Refused::ResponseMode, 400, "InvalidFunctionResponseMode"),
        (Refused::Truncated, 400, "TruncatedHTTPRequest"),
        (Refused::TooLarge, 413, "RequestEntityTooLarge"),
        (Refused::Malformed(431), 431, "InvalidRequest"),
        (Refused::Unknown, 404, "NotFound"),
        (Refused::WrongMethod, 405, "MethodNotAllowed"),
    ] {
        let mut out = Vec::new();
        refused.write(&mut out, false);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())) && head.contains("Content-Type: application/json"));
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["errorType"], kind);
        assert!(!body["errorMessage"].as_str().unwrap().is_empty());
    }
    assert_eq!(Refused::TooLarge.told().2, "Exceeded maximum allowed payload size (6291556 bytes).");
}

#[test]
fn an_event_has_its_fields_and_nothing_in_them_begins_another() {
    let mut out = Vec::new();
    let head = EventHead {
        id: "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
        deadline_ms: 1_542_409_706_888,
        arn: "arn:aws:lambda:us-east-1:000000000000:function:hello:live",
        trace: "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
        client_context: Some("{\n  \"custom\":\r\n{\"ä\":1}}"),
        length: 2,
    };
    head.write(&mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nLambda-Runtime-Deadline-Ms: 1542409706888\r\n\
         Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n\
         Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:hello:live\r\n\
         Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n\
         Lambda-Runtime-Client-Context: {   \"custom\":  {\"ä\":1}}\r\n\r\n"
    );
    let mut out = Vec::new();
    EventHead { trace: "", client_context: None, ..head }.write(&mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(
        !text.contains("Trace-Id") && !text.contains("Client-Context") && !text.contains("Cognito"),
        "absent where there is none"
    );
}

#[test]
fn error_types_are_kept_or_unknown() {
    for (given, wanted) in [
        (Some("Runtime.HandlerNotFound"), "Runtime.HandlerNotFound"),
        (Some("Function.MyError"), "Function.MyError"),
        (Some("Function.myError"), "Function.Unknown"),
        (Some("Function."), "Function.Unknown"),
        (Some("Function.A1"), "Function.Unknown"),
        (Some("unhandled"), "Runtime.Unknown"),
        (Some("KeyError"), "Runtime.Unknown"),
        (Some("Runtime.X"), "Runtime.Unknown"),
        (Some("Runtime.Bad Name"), "Runtime.Unknown"),
        (None, "Runtime.Unknown"),
    ] {
        assert_eq!(error_type(given.map(str::as_bytes)), wanted, "{given:?}");
    }
    assert_eq!(error_type(Some(b"\xff")), "Runtime.Unknown");
}
