use super::errors::{Refused, failure};
use super::request::{Kind as Asked, Request};
use super::{AwsFunction, AwsPlace, finished};
use maitred_core::aws::sigv4::hash;
use maitred_core::aws::{CredentialCell, CredentialSource, Credentials};
use maitred_core::function::{Failure, Invocation};
use maitred_core::{Called, Kind};
use maitred_model::FunctionArn;
use maitred_wire::ResponseHead;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// 2026-11-22 22:30:00
const NOW: u64 = 1_795_386_600;

fn function(context: Option<serde_json::Value>) -> AwsFunction {
    let source = CredentialSource { profile: None, partition: "aws".into(), region: "eu-west-1".into() };
    let arn = FunctionArn::parse("arn:aws:lambda:eu-west-1:123456789012:function:bill:live").expect("an ARN");
    AwsFunction::new(AwsPlace {
        upstream: 0,
        host: "lambda.eu-west-1.amazonaws.com",
        prefix: "",
        arn: &arn,
        client_context: context.as_ref(),
        keys: Arc::new(CredentialCell::new(source, Instant::now())),
    })
}

fn invocation() -> Invocation {
    Invocation {
        id: "1".into(),
        event: Vec::new(),
        arn: None,
        trace: "Root=1-5759e988-bd862e3fe1be46a994272793".into(),
        client_context: Some(r#"{"custom":{}}"#.into()),
        streamed: false,
        log_tail: true,
    }
}

fn keys(token: Option<&str>) -> Credentials {
    Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token, None).expect("keys")
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let found = request.headers().into_iter().find(|(known, _)| *known == name.as_bytes());
    found.map(|(_, value)| std::str::from_utf8(value).expect("text"))
}

/// As botocore 1.44.5 asks for the same: see `core/src/aws/sigv4/tests.rs`.
#[test]
fn a_request_is_botocore_s_own() {
    let request = Request::new(&function(None), &invocation(), Asked::Whole, (&keys(None), NOW), &hash(br#"{"a":1}"#));
    let request = request.expect("a request");
    assert_eq!(
        request.target,
        "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Abill%3Alive/invocations"
    );
    assert_eq!(
        header(&request, "authorization"),
        Some(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/eu-west-1/lambda/aws4_request, SignedHeaders=host;x-amz-client-context;x-amz-date;x-amz-invocation-type;x-amz-log-type, Signature=0ba5a609ac551f911ae7bdad2dcd05a33d7e94fc55c2b7a65f85f2f3220c27e7"
        )
    );
    assert_eq!(header(&request, "x-amzn-trace-id"), Some("Root=1-5759e988-bd862e3fe1be46a994272793"));
}

#[test]
fn what_a_request_says_beside_its_event() {
    let shop = serde_json::json!({ "custom": { "shop": "north" } });
    let function = function(Some(shop));
    let ask = |invocation: &Invocation, kind, token| {
        Request::new(&function, invocation, kind, (&keys(token), NOW), &hash(b"")).map_err(|fault| fault.kind)
    };
    let own = ask(&invocation(), Asked::Stream, Some("token")).expect("a request");
    assert!(own.target.ends_with("/response-streaming-invocations"));
    assert_eq!(header(&own, "x-amz-client-context"), Some("eyJjdXN0b20iOnt9fQ=="));
    assert_eq!(header(&own, "x-amz-security-token"), Some("token"));
    let plain = Invocation { client_context: None, trace: "".into(), ..invocation() };
    let event = ask(&plain, Asked::Event, None).expect("a request");
    assert_eq!(header(&event, "x-amz-client-context"), Some("eyJjdXN0b20iOnsic2hvcCI6Im5vcnRoIn19"));
    assert_eq!(header(&event, "x-amz-invocation-type"), Some("Event"));
    assert_eq!((header(&event, "x-amz-log-type"), header(&event, "x-amzn-trace-id")), (None, None));
    let long = Invocation { client_context: Some("x".repeat(3000).into()), ..invocation() };
    assert_eq!(ask(&long, Asked::Whole, None).err(), Some(Kind::BadRequest));
}

fn called(status: u16, headers: &[(&str, &str)], body: &str) -> Called {
    let mut head = Box::new(ResponseHead { status, ..ResponseHead::default() });
    headers.iter().for_each(|(name, value)| head.headers.add(name.as_bytes(), value.as_bytes()));
    Called { head, body: body.as_bytes().to_vec() }
}

#[test]
fn a_result_has_its_version_and_the_end_of_its_log() {
    let headers = [("X-Amz-Executed-Version", "7"), ("X-Amz-Log-Result", "YSBsaW5l")];
    let run = finished(called(200, &headers, "null"), Duration::from_millis(3)).expect("a result");
    assert_eq!((&*run.version, run.log_tail.as_deref(), run.failure), ("7", Some(&b"a line"[..]), None));
    assert_eq!((&run.payload[..], run.duration), (&b"null"[..], Duration::from_millis(3)));
    let long = "YWFh".repeat(2000);
    for log in ["!", long.as_str()] {
        let run = finished(called(200, &[("X-Amz-Log-Result", log)], "{}"), Duration::ZERO).expect("a result");
        assert!(run.log_tail.is_none());
    }
}

#[test]
fn failures_have_their_names() {
    for (payload, expected) in [
        (r#"{"errorType":"ValueError","errorMessage":"Task timed out after"}"#, Failure::Raised),
        (r#"{"errorType":"Sandbox.Timedout"}"#, Failure::TimedOut),
        (r#"{"errorMessage":"2026-11-22T22:30:00.000Z 1 Task timed out after 3.00 seconds"}"#, Failure::TimedOut),
        (r#"{"errorType":"Runtime.ExitError"}"#, Failure::Exited),
        (r#"{"errorType":"Function.ResponseSizeTooLarge"}"#, Failure::TooLarge),
        ("null", Failure::Raised),
        ("", Failure::Raised),
        ("\u{fffd}", Failure::Raised),
    ] {
        assert_eq!(failure(payload.as_bytes()), expected, "{payload}");
    }
}

#[test]
fn a_refusal_says_what_would_put_it_right() {
    let date = ("date", "Sun, 22 Nov 2026 22:30:00 GMT");
    let late = r#"{"message":"Signature expired: 20261122T210000Z is now earlier than 20261122T222500Z"}"#;
    let wrong = r#"{"message":"The request signature we calculated does not match the signature you provided."}"#;
    for (status, name, body, clock, keys) in [
        (403, "InvalidSignatureException", late, true, false),
        (403, "InvalidSignatureException", r#"{"message":"Signature not yet current: x"}"#, true, false),
        (403, "InvalidSignatureException", wrong, false, false),
        (400, "RequestExpired", "{}", true, false),
        (500, "RequestExpired", "{}", false, false),
        (403, "ExpiredTokenException:http://x", "{}", false, true),
        (403, "UnrecognizedClientException", "{}", false, true),
        (403, "AccessDeniedException", "{}", false, false),
        (500, "ExpiredTokenException", "{}", false, false),
    ] {
        let refused = Refused::read(&called(status, &[("x-amzn-ErrorType", name), date], body));
        assert_eq!(refused.clock().is_some(), clock, "{name} {body}");
        assert_eq!(refused.is_for_keys(), keys, "{name} {body}");
    }
    let in_body = called(403, &[], r#"{"__type":"com.amazonaws.lambda#ExpiredTokenException","Message":"old"}"#);
    assert!(Refused::read(&in_body).is_for_keys());
    let undated = Refused::read(&called(403, &[("x-amzn-ErrorType", "RequestExpired")], "{}"));
    assert_eq!(undated.clock(), None);
    let throttled =
        called(429, &[("retry-after", "99999999")], r#"{"Reason":"CallerRateLimitExceeded","message":"Rate Exceeded."}"#);
    let fault = Refused::read(&throttled).fault("bill");
    assert_eq!((fault.kind, fault.retry_after), (Kind::FunctionBusy, Some(Duration::from_secs(3600))));
    assert!(fault.detail.contains("CallerRateLimitExceeded: Rate Exceeded."), "{}", fault.detail);
}
