//! The calls of the Runtime API, row by row as the reference has them (lambda-runtime-api.md, sections 1 and 3).

use super::*;
use maitred_core::function::{Failure, PAYLOAD_BYTES_MAX};

#[test]
fn an_event_goes_in_and_a_result_comes_out() {
    block_on(async {
        let house = house(at_once(1, ""));
        assert_eq!(house.returned(json!({"return": {"a": [1, "ä"]}})).await, json!({"a": [1, "ä"]}));
        // A type on a buffered result means nothing: curl sends one of its own.
        assert_eq!(house.returned(json!({"return": 1, "curl": true})).await, json!(1));
        let finished = house.invoke(json!({})).await;
        assert_eq!((finished.payload.as_slice(), &*finished.version), (&b"null"[..], "$LATEST"));
        assert_eq!(finished.content_type, None);
    });
}

#[test]
fn an_event_comes_with_its_fields() {
    block_on(async {
        let house = house(settings(""));
        let given = Invocation {
            trace: "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1".into(),
            client_context: Some("{\"custom\":\n{}}".into()),
            ..invocation(&json!({"headers": true}))
        };
        let before = crate::log::since_1970().as_millis() as u64;
        let (id, trace, length) = (given.id.clone(), given.trace.clone(), given.event.len());
        let fields: Value = serde_json::from_slice(&whole(house.pool.invoke(given).await).payload).unwrap();
        assert_eq!(fields["content-type"], "application/json", "without it two clients die of a null pointer");
        assert_eq!(fields["content-length"], length.to_string());
        assert_eq!(fields["lambda-runtime-aws-request-id"], *id);
        assert_eq!(fields["lambda-runtime-invoked-function-arn"], "arn:aws:lambda:eu-west-1:000000000000:function:test");
        assert_eq!(fields["lambda-runtime-trace-id"], *trace);
        assert_eq!(fields["lambda-runtime-client-context"], "{\"custom\": {}}");
        let deadline: u64 = fields["lambda-runtime-deadline-ms"].as_str().unwrap().parse().unwrap();
        let after = crate::log::since_1970().as_millis() as u64;
        assert!((before + 30_000..=after + 30_000).contains(&deadline), "{deadline}");
        let alias = "arn:aws:lambda:eu-west-1:000000000000:function:test:live";
        let given = Invocation { arn: Some(alias.into()), ..invocation(&json!({"headers": true})) };
        let fields: Value = serde_json::from_slice(&whole(house.pool.invoke(given).await).payload).unwrap();
        assert_eq!(fields["lambda-runtime-invoked-function-arn"], alias, "as it was invoked");
        assert_eq!(fields.get("lambda-runtime-trace-id"), None, "absent where there is none");
        for absent in ["client-context", "cognito-identity", "aws-tenant-id"] {
            assert_eq!(fields.get(format!("lambda-runtime-{absent}")), None);
        }
    });
}

#[test]
fn what_is_taken_is_accepted_in_words_that_curl_shows() {
    block_on(async {
        let house = house(settings(""));
        house.invoke(json!({"return": 1, "print": true})).await;
        house.until_logged("answered 202 {\"status\":\"OK\"}").await;
        house.invoke(json!({"error": {"errorMessage": "m"}, "print": true})).await;
        house
            .until("both answered", |_| {
                house.pool.log_after(0).iter().filter(|line| line.text.contains("answered 202 {\"status\":\"OK\"}")).count() == 2
            })
            .await;
    });
}

#[test]
fn calls_that_have_no_place_are_refused_and_change_nothing() {
    const BASE: &str = "/2018-06-01/runtime/";
    block_on(async {
        let house = house(settings(""));
        let calls: &[(&str, &str, u16, &str)] = &[
            // It has an event, and has not answered.
            ("GET", "invocation/next", 403, "InvalidStateTransition"),
            ("POST", "init/error", 403, "InvalidStateTransition"),
            ("POST", "invocation/other/response", 400, "InvalidRequestID"),
            ("POST", "invocation/other/error", 400, "InvalidRequestID"),
            ("GET", "restore/next", 404, "NotFound"),
            ("POST", "restore/error", 404, "NotFound"),
            ("DELETE", "invocation/next", 405, "MethodNotAllowed"),
        ];
        let steps: Vec<_> =
            calls.iter().map(|(method, path, ..)| json!({"method": method, "path": format!("{BASE}{path}")})).collect();
        let answers = house.returned(json!({ "calls": steps })).await;
        for ((_, path, status, kind), answer) in calls.iter().zip(answers.as_array().unwrap()) {
            assert_eq!(answer[0], *status, "{path}");
            let body: Value = serde_json::from_str(answer[1].as_str().unwrap()).unwrap();
            assert_eq!(body["errorType"], *kind, "{path}");
        }
        let others = json!([
            {"method": "GET", "path": "/ping"},
            {"method": "PUT", "path": "/2020-08-15/logs", "body": "{}"},
            {"method": "PUT", "path": "/2022-07-01/telemetry", "body": "{}"},
        ]);
        let answers = house.returned(json!({ "calls": others })).await;
        assert_eq!(answers[0], json!([200, "pong"]));
        assert_eq!(answers[1][0], 202);
        assert!(answers[1][1].as_str().unwrap().contains("Logs.NotSupported"));
        assert!(answers[2][1].as_str().unwrap().contains("Telemetry.NotSupported"));
    });
}

#[test]
fn nothing_can_be_answered_before_there_was_a_question() {
    block_on(async {
        let house = house(at_once(1, "early"));
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
        let lines = house.until_logged("invocation/some/error 403").await;
        assert!(lines.iter().any(|line| line == "invocation/some/response 403"), "{lines:?}");
    });
}

#[test]
fn while_one_says_why_it_cannot_start_another_is_not_heard() {
    block_on(async {
        let house = house(Settings { min_instances: 1, ..at_once(1, "telling") });
        house.until_logged("a second was answered 403").await;
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1), "the first was never told whole");
    });
}

#[test]
fn who_asks_on_two_connections_is_answered_on_the_second() {
    block_on(async {
        let house = house(Settings { min_instances: 1, ..at_once(1, "double") });
        house.until_logged("the first was answered 403").await;
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
        assert_eq!(house.returned(json!({"return": 2})).await, json!(2));
    });
}

#[test]
fn who_loses_its_connection_while_it_waits_may_come_again() {
    block_on(async {
        let house = house(Settings { min_instances: 1, ..at_once(1, "reconnect") });
        house.until_logged("here again").await;
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
        assert_eq!(house.pool.figures().starts.load(std::sync::atomic::Ordering::Relaxed), 1);
    });
}

#[test]
fn a_question_is_held_as_long_as_the_process_lives() {
    block_on(async {
        let house = house(at_once(1, "stubborn"));
        house.returned(json!({})).await;
        house.until_idle().await;
        house.pool.reload();
        house.until("it is gone", |view| view.instances.is_empty()).await;
        let lines: Vec<String> = house.pool.log_after(0).iter().map(|line| line.text.to_string()).collect();
        assert_eq!(lines, Vec::<String>::new(), "it was never answered, nor was its connection closed before it was killed");
    });
}

#[test]
fn a_stranger_is_given_no_event() {
    use std::io::{Read, Write};
    let port = Arc::new(std::sync::Mutex::new(None));
    let (seen, launch) = (port.clone(), launcher(""));
    let launch: Launcher = Box::new(move |api, is_ahead| {
        *seen.lock().unwrap() = Some(api);
        launch(api, is_ahead)
    });
    block_on(async {
        let house = house(Settings { launch, ..at_once(1, "") });
        house.returned(json!({})).await;
        let api = port.lock().unwrap().unwrap();
        assert!(api.ip().is_loopback());
        let mut stranger = std::net::TcpStream::connect(api).unwrap();
        // It may be cut off before it has said anything.
        let _ = stranger.write_all(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut answer = Vec::new();
        let _ = stranger.read_to_end(&mut answer);
        assert_eq!(answer, b"");
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
        house.until_logged("it is not from this process").await;
    });
}

#[test]
fn a_second_answer_to_the_same_event_is_refused() {
    block_on(async {
        let house = house(settings(""));
        assert_eq!(house.returned(json!({"return": 1, "twice": true})).await, json!(1));
        house.until_logged("again 400").await;
        assert_eq!(house.returned(json!({"return": 2})).await, json!(2));
    });
}

#[test]
fn an_error_is_passed_on_as_it_is() {
    block_on(async {
        let house = house(settings(""));
        let error = json!({"errorMessage": "m", "errorType": "KeyError", "stackTrace": ["a", "b"], "requestId": "r"});
        let finished = house.invoke(json!({ "error": error })).await;
        assert_eq!((error_of(&finished), finished.failure), (error, Some(Failure::Raised)));
        // No body: the type is what the field says, as far as AWS keeps it.
        for (fields, wanted) in [
            (vec!["Lambda-Runtime-Function-Error-Type: Runtime.Broken"], "Runtime.Broken"),
            (vec!["Lambda-Runtime-Function-Error-Type: unhandled"], "Runtime.Unknown"),
            (vec!["Lambda-Runtime-Function-Error-Type: Function.bad"], "Function.Unknown"),
            (vec![], "Runtime.Unknown"),
        ] {
            let finished = house.invoke(json!({"error": null, "fields": fields})).await;
            assert_eq!(error_of(&finished)["errorType"], wanted);
        }
    });
}

#[test]
fn an_error_may_have_a_megabyte_of_cause_in_a_field() {
    block_on(async {
        let house = house(at_once(1, ""));
        let cause = format!("Lambda-Runtime-Function-XRay-Error-Cause: {}", "x".repeat(1024 * 1024));
        let fields = [cause.as_str(), "Content-Type: application/vnd.aws.lambda.error.cause+json"];
        let finished = house.invoke(json!({"error": {"errorMessage": "deep"}, "fields": fields})).await;
        assert_eq!(error_of(&finished)["errorMessage"], "deep");
        let pid = house.returned(json!({"pid": true})).await;
        assert!(is_running(pid.as_u64().unwrap() as u32));
        assert_eq!(house.pool.figures().starts.load(std::sync::atomic::Ordering::Relaxed), 1, "the process is the same");
    });
}

#[test]
fn a_result_may_be_six_megabytes_and_a_hundred_bytes() {
    block_on(async {
        let house = house(at_once(1, ""));
        let finished = house.invoke(json!({"bytes": PAYLOAD_BYTES_MAX})).await;
        assert_eq!((finished.payload.len(), finished.failure), (PAYLOAD_BYTES_MAX, None));
        // Some processes live on after a refusal, and some do not.
        for (dies, same) in [(false, true), (true, false)] {
            let pid = house.returned(json!({"pid": true})).await;
            let finished = house.invoke(json!({"bytes": PAYLOAD_BYTES_MAX + 1, "dies": dies, "print": true})).await;
            assert_eq!(finished.failure, Some(Failure::TooLarge));
            let error = json!({
                "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
                "errorType": "Function.ResponseSizeTooLarge",
            });
            assert_eq!(error_of(&finished), error);
            house.until_logged("answered 413").await;
            assert_eq!(house.returned(json!({"pid": true})).await == pid, same);
        }
    });
}

#[test]
fn an_event_that_is_too_long_is_not_run() {
    block_on(async {
        let house = house(settings(""));
        let long = Invocation { event: vec![b' '; PAYLOAD_BYTES_MAX + 1], ..invocation(&json!(1)) };
        assert_eq!(house.pool.invoke(long).await.unwrap_err(), NotRun::TooLarge);
        let mut event = json!({"return": 1}).to_string().into_bytes();
        event.resize(PAYLOAD_BYTES_MAX, b' ');
        let finished = whole(house.pool.invoke(Invocation { event, ..invocation(&json!(1)) }).await);
        assert_eq!(finished.payload, b"1");
    });
}

#[test]
fn a_client_that_asks_before_it_sends_is_told() {
    block_on(async {
        let house = house(at_once(1, ""));
        let finished = house.invoke(json!({"expect": 100_000})).await;
        assert_eq!((finished.payload.len(), finished.failure), (100_000, None));
        let finished = house.invoke(json!({"expect": PAYLOAD_BYTES_MAX + 1})).await;
        assert_eq!(finished.failure, Some(Failure::TooLarge), "without a byte of it");
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1), "on another connection");
    });
}

#[test]
fn a_client_that_cannot_be_told_to_go_on_has_answered() {
    use crate::pool::desk::Desk;
    use crate::pool::instance::{Instance, Start};
    use std::io::Write;
    use std::rc::Rc;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (call, streamed) in [("response", false), ("response", true), ("error", false)] {
        let told = tokio::task::LocalSet::new().block_on(&runtime, async {
            let (pool, orders) = Pool::new(Arc::new(crate::log::Log::new("test".into())), Code::nowhere());
            let spawner = Rc::new(crate::process::Spawner::hiding(Vec::new(), None).unwrap());
            let desk = Desk::new(pool.shared().clone(), settings(""), spawner, &Rc::default());
            let (_stop, stopped) = tokio::sync::watch::channel(None);
            tokio::task::spawn_local(desk.clone().run(orders, stopped));
            let instance = Instance::new(&desk, 1, 0, Start { limit: PATIENCE, is_again: false, is_ahead: false });
            let given = instance.park().unwrap();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            // Whatever is written to it fails.
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let event = Invocation { streamed, ..invocation(&json!({})) };
            let mode = if streamed { "Lambda-Runtime-Function-Response-Mode: streaming\r\n" } else { "" };
            let path = format!("/2018-06-01/runtime/invocation/{}/{call}", event.id);
            let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{mode}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
            client.write_all(head.as_bytes()).unwrap();
            let served = async {
                given.await.unwrap();
                crate::api::connection::serve(tokio::net::TcpStream::from_std(stream).unwrap(), instance).await;
            };
            let both = async { tokio::join!(pool.invoke(event), served).0 };
            tokio::time::timeout(PATIENCE / 6, both).await.expect("nobody was told")
        });
        assert_eq!(whole(told).failure, Some(Failure::Raised), "{call} {streamed}");
    }
}

#[test]
fn what_is_no_request_is_answered_and_ends_the_connection() {
    block_on(async {
        let house = house(at_once(1, ""));
        for (garbage, status) in [("what is this\r\n\r\n", 400), ("GET / HTTP/3.7\r\nHost: x\r\n\r\n", 505)] {
            let finished = house.invoke(json!({ "garbage": garbage })).await;
            assert_eq!(finished.failure, Some(Failure::Exited));
            house.until_logged(&format!("garbage was answered {status}")).await;
            house.until_logged("next was answered 403").await;
        }
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
    });
}

#[test]
fn a_result_whose_connection_ends_is_truncated() {
    block_on(async {
        let house = house(at_once(1, ""));
        let finished = house.invoke(json!({"half": true})).await;
        assert_eq!(
            (&error_of(&finished)["errorType"], finished.failure),
            (&json!("Runtime.TruncatedResponse"), Some(Failure::Raised))
        );
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
    });
}
