//! Functions in AWS that no request of a client asks for: somebody asks the admin listener, and a worker asks AWS for him.

use super::*;
use maitred_core::Kind;
use maitred_core::function::{Failure, Invocation};

/// A run for somebody who is not a client.
fn run(event: &str) -> Invocation {
    Invocation {
        id: "6bf1c9d2-5a37-4e0f-9d5c-1f2f1f0e8a11".into(),
        event: event.into(),
        arn: None,
        trace: "Root=1-67891233-abcdef012345678912345678".into(),
        client_context: Some(r#"{"custom":{"shop":"south"}}"#.into()),
        streamed: false,
        log_tail: true,
    }
}

#[test]
fn who_is_no_client_runs_a_function_as_its_clients_do() {
    let aws = aws(200, "x-amz-executed-version: 7\r\nx-amz-log-result: U1RBUlQKRU5ECg==\r\n", r#"{"total":2}"#);
    let gateway = invoking(aws.address(), "");
    for turn in 1..4 {
        let finished = gateway.run_function("bill", run(r#"{"a":1}"#)).expect("it runs");
        assert_eq!((&finished.payload[..], finished.failure, &*finished.version), (&br#"{"total":2}"#[..], None, "7"));
        assert_eq!(finished.log_tail.as_deref(), Some(&b"START\nEND\n"[..]));
        assert_eq!((aws.count(), aws.connections()), (turn, 1), "on the connection that requests have");
    }
    let request = aws.last();
    assert_eq!((&*request.target, &request.body[..]), (PATH, &br#"{"a":1}"#[..]));
    assert_eq!(request.header("x-amz-log-type"), Some("Tail"));
    assert_eq!(request.header("x-amz-client-context"), Some("eyJjdXN0b20iOnsic2hvcCI6InNvdXRoIn19"));
    assert_eq!(request.header("x-amzn-trace-id"), Some("Root=1-67891233-abcdef012345678912345678"));
    assert!(is_signed(&request, KEY_ID, SECRET));
    assert_eq!(ask(&gateway).status, 200);
    assert_eq!(aws.connections(), 1);
    let gone = gateway.run_function("soup", run("{}")).expect_err("there is none");
    assert_eq!(gone.kind, Kind::FunctionUnavailable);
}

#[test]
fn what_goes_wrong_is_told_to_who_is_no_client() {
    const FAILED: &str = "x-amz-function-error: Unhandled\r\n";
    for (status, headers, body, wanted) in [
        (200, FAILED, r#"{"errorType":"KeyError"}"#, Ok(Failure::Raised)),
        (200, FAILED, r#"{"errorType":"Sandbox.Timedout"}"#, Ok(Failure::TimedOut)),
        (404, "x-amzn-errortype: ResourceNotFoundException\r\n", "{}", Err(Kind::FunctionUnavailable)),
        (429, "x-amzn-errortype: TooManyRequestsException\r\n", "{}", Err(Kind::FunctionBusy)),
        (413, "x-amzn-errortype: RequestTooLargeException\r\n", "{}", Err(Kind::BodyTooLarge)),
    ] {
        let aws = aws(status, headers, body);
        let gateway = invoking(aws.address(), "");
        let ran = gateway.run_function("bill", run("{}"));
        assert_eq!(ran.map(|finished| finished.failure.expect("a failure")).map_err(|fault| fault.kind), wanted, "{headers}");
        assert_eq!(aws.count(), 1, "{headers}: asked once");
    }
    // What AWS took may have run: whoever asks is not told that nothing did.
    let silent = Latch::new();
    let wait = silent.clone();
    let aws = Backend::new(move |_, conn| {
        conn.body();
        conn.wait(&wait);
    });
    let gateway = invoking(aws.address(), ", timeout: 2s");
    let late = std::thread::scope(|scope| {
        let asking = scope.spawn(|| gateway.run_function("bill", run("{}")));
        eventually("AWS is asked", || aws.count() == 1);
        gateway.turn(Duration::from_secs(3));
        asking.join().expect("it only asks").expect("a run that failed")
    });
    silent.open();
    assert_eq!(late.failure, Some(Failure::TimedOut));
    assert!(String::from_utf8_lossy(&late.payload).contains("Sandbox.Timedout"));
}

#[test]
fn a_result_streams_to_who_is_no_client() {
    let large = vec![b'x'; 300_000];
    let told = large.clone();
    let aws = streaming(move |conn| {
        for piece in told.chunks(100_000) {
            conn.chunk(chunk(piece));
        }
        conn.chunk(complete("{}"));
    });
    let gateway = invoking(aws.address(), "");
    let finished = gateway.run_function("bill", Invocation { streamed: true, ..run("{}") }).expect("it runs");
    assert!(finished.payload == large && finished.failure.is_none());
    assert_eq!(aws.only().target, STREAM_PATH);

    let late = r#"{"ErrorCode":"Unhandled","ErrorDetails":"{\"errorType\":\"Late\"}"}"#;
    let aws = streaming(move |conn| {
        conn.chunk(chunk(b"first"));
        conn.chunk(complete(late));
    });
    let gateway = invoking(aws.address(), "");
    let finished = gateway.run_function("bill", Invocation { streamed: true, ..run("{}") }).expect("it ran");
    assert!(finished.failure.is_some(), "half is not taken for the whole");
}

#[test]
fn an_event_is_left_by_who_is_no_client_and_a_run_is_taken_back() {
    let taken = aws(202, "", "");
    let gateway = invoking(taken.address(), "");
    gateway.send_function("bill", run("7")).expect("it is taken");
    let request = taken.only();
    assert_eq!((request.header("x-amz-invocation-type"), &request.body[..]), (Some("Event"), &b"7"[..]));

    let (asked, left) = (Latch::new(), Latch::new());
    let (is_asked, has_left) = (asked.clone(), left.clone());
    let aws = Backend::new(move |_, conn| {
        conn.body();
        is_asked.open();
        if conn.peer_leaves() {
            has_left.open();
        }
    });
    let gateway = invoking(aws.address(), ", timeout: 60s");
    gateway.give_up_function("bill", run("{}"), || asked.wait());
    left.wait();
}
