//! Functions in AWS: what is asked of AWS on the wire and how it is signed, what its answers become, and what is never asked twice. AWS is a
//! scripted back end here; signatures are verified by the code that verifies clients'.

mod elsewhere;

use maitred_core::aws::sigv4::{Claim, Parts, SecretKey, canonical_request, hash, stamp};
use maitred_testkit::{Backend, Client, Conn, Folder, Gateway, Latch, Received, eventually, gateway_in, nobody, stays};
use maitred_wire::event_frame;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:bill:live";
const PATH: &str = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Abill%3Alive/invocations";
const STREAM_PATH: &str =
    "/2021-11-15/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Abill%3Alive/response-streaming-invocations";
const JSON: &str = "content-type: application/json\r\n";

fn keys() -> Vec<(&'static str, String)> {
    vec![("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()), ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned())]
}

fn yaml(more: &str) -> String {
    format!(
        "
functions:
  bill: {{ arn: \"{ARN}\", endpoint: \"http://$aws\", event: raw{more} }}
apis:
  all:
    routes:
      - POST /bill: function bill
"
    )
}

fn invoking(aws: SocketAddr, more: &str) -> Gateway {
    gateway_in(&yaml(more), &[("aws", aws)], &[], &keys())
}

fn ask(gateway: &Gateway) -> maitred_testkit::Response {
    gateway.ask("POST", "/bill", "Content-Type: application/json\r\n", r#"{"a":1}"#)
}

/// Whether a request was signed with this secret for Lambda in the region, as AWS would look at it.
#[track_caller]
fn is_signed(request: &Received, key_id: &str, secret: &str) -> bool {
    let authorization = request.header("authorization").expect("an Authorization");
    let time = stamp::parse(request.header("x-amz-date").expect("a date").as_bytes()).expect("a date");
    let claim = Claim::from_header(authorization.as_bytes(), time).expect("a signature");
    assert_eq!((&*claim.key_id, &*claim.region, &*claim.service), (key_id, "eu-west-1", "lambda"));
    let amz = request.headers.0.iter().filter(|(name, _)| name.starts_with("x-amz-"));
    assert!(amz.into_iter().all(|(name, _)| claim.has_signed(name)), "{authorization}");
    let headers: Vec<_> = request.headers.0.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let (path, query, host) = (path.as_bytes(), query.as_bytes(), request.header("host").expect("a Host").as_bytes());
    let parts = Parts { method: request.method.as_bytes(), path, query, host, headers: &headers };
    let mut text = canonical_request(&parts, &claim).expect("all signed headers");
    text.extend_from_slice(&hash(&request.body));
    claim.is_by(&SecretKey::new(secret), &text)
}

/// Answers every request so.
fn aws(status: u16, headers: &'static str, body: &'static str) -> Backend {
    Backend::new(move |_, conn| {
        conn.body();
        conn.answer(status, headers, body);
    })
}

#[test]
fn an_invocation_is_what_aws_s_own_clients_send() {
    let aws = aws(200, "x-amz-executed-version: 7\r\n", r#"{"total":2}"#);
    let context = ", client_context: { custom: { shop: north } }";
    let gateway = gateway_in(&yaml(context), &[("aws", aws.address())], &[], &keys());
    let response = ask(&gateway);
    assert_eq!((response.status, response.text()), (200, r#"{"total":2}"#.to_owned()));
    let request = aws.only();
    assert_eq!((&*request.method, &*request.target, &request.body[..]), ("POST", PATH, &br#"{"a":1}"#[..]));
    assert_eq!(request.header("host"), Some(&*aws.address().to_string()));
    assert_eq!(request.header("x-amz-invocation-type"), Some("RequestResponse"));
    assert_eq!(request.header("x-amz-client-context"), Some("eyJjdXN0b20iOnsic2hvcCI6Im5vcnRoIn19"));
    assert!(request.header("x-amzn-trace-id").is_some_and(|trace| trace.starts_with("Root=1-")));
    assert!(request.header("x-amz-security-token").is_none() && request.header("x-forwarded-for").is_none());
    assert!(is_signed(&request, KEY_ID, SECRET) && !is_signed(&request, KEY_ID, "another"));
    assert!(aws.complaints().is_empty(), "{:?}", aws.complaints());
}

#[test]
fn an_endpoint_may_have_a_path_which_is_signed_too() {
    let aws = aws(200, "", "{}");
    let text = yaml("").replace("http://$aws", "http://$aws/of/mine");
    let gateway = gateway_in(&text, &[("aws", aws.address())], &[], &keys());
    assert_eq!(ask(&gateway).status, 200);
    assert_eq!(aws.only().target, format!("/of/mine{PATH}"));
    assert!(is_signed(&aws.only(), KEY_ID, SECRET));
}

#[test]
fn where_aws_is_the_environment_may_say() {
    let aws = aws(200, "", "{}");
    let text = yaml("").replace(", endpoint: \"http://$aws\"", "");
    let (nobody, _socket) = nobody();
    let (lambda, all) = (format!("http://{}", aws.address()), format!("http://{nobody}"));
    let variables: Vec<_> = keys().into_iter().chain([("AWS_ENDPOINT_URL_LAMBDA", lambda), ("AWS_ENDPOINT_URL", all)]).collect();
    let gateway = gateway_in(&text, &[], &[], &variables);
    assert_eq!(ask(&gateway).status, 200);
    assert!(is_signed(&aws.only(), KEY_ID, SECRET));
}

#[test]
fn connections_to_aws_are_used_again() {
    let aws = aws(200, "", "{}");
    let gateway = invoking(aws.address(), "");
    for _ in 0..5 {
        assert_eq!(ask(&gateway).status, 200);
    }
    assert_eq!((aws.count(), aws.connections()), (5, 1));
}

#[test]
fn what_goes_wrong_is_told_as_of_a_function_here() {
    const FAILED: &str = "x-amz-function-error: Unhandled\r\n";
    for (status, headers, body, expected, kind) in [
        (200, FAILED, r#"{"errorType":"KeyError","errorMessage":"'a'"}"#, 502, "function_failed"),
        (200, FAILED, r#"{"errorType":"Runtime.ExitError","errorMessage":"exit status 1"}"#, 502, "function_failed"),
        (
            200,
            FAILED,
            r#"{"errorType":"Sandbox.Timedout","errorMessage":"Task timed out after 3.00 seconds"}"#,
            504,
            "function_timeout",
        ),
        (200, FAILED, r#"{"errorMessage":"2026-11-22T00:00:00Z x Task timed out after 3.00 seconds"}"#, 504, "function_timeout"),
        (200, FAILED, "null", 502, "function_failed"),
        (
            404,
            "x-amzn-errortype: ResourceNotFoundException\r\n",
            r#"{"Message":"Function not found"}"#,
            502,
            "function_unavailable",
        ),
        (
            403,
            "x-amzn-errortype: AccessDeniedException:http://x\r\n",
            r#"{"Message":"User arn:aws:iam::123456789012:user/x may not"}"#,
            502,
            "function_unavailable",
        ),
        (400, "x-amzn-errortype: InvalidParameterValueException\r\n", r#"{"message":"no"}"#, 502, "function_unavailable"),
        (400, "x-amzn-errortype: InvalidRequestContentException\r\n", r#"{"message":"no JSON"}"#, 400, "bad_request"),
        (413, "x-amzn-errortype: RequestTooLargeException\r\n", "{}", 413, "body_too_large"),
        (500, "x-amzn-errortype: ServiceException\r\n", "{}", 502, "function_unavailable"),
        (502, "x-amzn-errortype: EC2UnexpectedException\r\n", "{}", 502, "function_unavailable"),
        (302, "location: http://elsewhere/\r\n", "", 502, "function_unavailable"),
        (503, "", "<html>", 502, "function_unavailable"),
        (202, "", "", 502, "function_unavailable"),
    ] {
        let aws = aws(status, headers, body);
        let gateway = invoking(aws.address(), "");
        let response = ask(&gateway);
        let text = response.text();
        assert_eq!(response.status, expected, "{status} {headers}: {text}");
        assert!(text.contains(kind), "{status} {headers}: {text}");
        assert!(!text.contains("123456789012"), "AWS's words are for the log: {text}");
        assert_eq!(aws.count(), 1, "{status} {headers}: asked once");
    }
}

#[test]
fn a_throttle_is_busy_and_says_for_how_long() {
    let throttle = "x-amzn-errortype: TooManyRequestsException\r\nretry-after: 7\r\n";
    let aws = aws(429, throttle, r#"{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#);
    let gateway = invoking(aws.address(), "");
    let response = ask(&gateway);
    assert_eq!((response.status, response.header("retry-after"), aws.count()), (503, Some("7"), 1));
    assert!(response.text().contains("function_busy"));
}

#[test]
fn an_invocation_that_may_have_run_is_not_sent_again() {
    let aws = Backend::new(|_, conn| {
        conn.body();
        conn.reset();
    });
    let gateway = invoking(aws.address(), "");
    let response = ask(&gateway);
    assert_eq!((response.status, aws.count()), (502, 1));
    assert!(response.text().contains("function_unavailable"));
}

#[test]
fn a_result_that_breaks_off_is_none() {
    let aws = Backend::new(|_, conn| {
        conn.body();
        conn.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"half\":");
        conn.close();
    });
    let gateway = invoking(aws.address(), "");
    assert_eq!((ask(&gateway).status, aws.count()), (502, 1));
}

#[test]
fn a_connection_that_aws_closed_while_it_was_idle_costs_nobody_an_answer() {
    let aws = aws(200, "", "{}");
    let gateway = invoking(aws.address(), "");
    assert_eq!(ask(&gateway).status, 200);
    aws.close_connections();
    assert_eq!((ask(&gateway).status, aws.count()), (200, 2));
}

#[test]
fn where_nobody_is_the_function_cannot_be_invoked() {
    let (address, _socket) = nobody();
    let response = ask(&invoking(address, ""));
    assert_eq!(response.status, 502);
    assert!(response.text().contains("function_unavailable"));
}

#[test]
fn a_function_has_its_time_and_no_more() {
    let (asked, end) = (Latch::new(), Latch::new());
    let (told, wait) = (asked.clone(), end.clone());
    let aws = Backend::new(move |_, conn| {
        conn.body();
        told.open();
        conn.wait(&wait);
    });
    let gateway = invoking(aws.address(), ", timeout: 40s");
    let mut client = gateway.client();
    client.send("POST /bill HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
    asked.wait();
    gateway.turn(Duration::from_secs(39));
    assert!(client.is_quiet());
    gateway.turn(Duration::from_secs(2));
    let response = client.response();
    assert_eq!(response.status, 504);
    assert!(response.text().contains("function_timeout"));
    end.open();
}

#[test]
fn an_event_is_handed_over_and_nobody_waits_for_its_result() {
    let taken = aws(202, "", "");
    let gateway = invoking(taken.address(), ", invocation: event");
    assert_eq!(ask(&gateway).status, 202);
    let request = taken.only();
    assert_eq!(request.header("x-amz-invocation-type"), Some("Event"));
    assert!(request.target == PATH && is_signed(&request, KEY_ID, SECRET));
    let refused = aws(429, "x-amzn-errortype: TooManyRequestsException\r\n", "{}");
    assert_eq!(ask(&invoking(refused.address(), ", invocation: event")).status, 503);
}

fn chunk(payload: &[u8]) -> Vec<u8> {
    frame(&[(":message-type", "event"), (":event-type", "PayloadChunk"), (":content-type", "application/octet-stream")], payload)
}

fn complete(json: &str) -> Vec<u8> {
    frame(
        &[(":message-type", "event"), (":event-type", "InvokeComplete"), (":content-type", "application/json")],
        json.as_bytes(),
    )
}

fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    event_frame(headers, payload, &mut out).expect("a frame");
    out
}

const STREAM: &str = "content-type: application/vnd.amazon.eventstream\r\nx-amzn-remapped-content-type: text/plain\r\n";

/// Answers by a stream that the closure writes, and ends it.
fn streaming(write: impl Fn(&mut Conn) + Send + Sync + 'static) -> Backend {
    Backend::new(move |_, conn| {
        conn.body();
        conn.chunked_head(200, STREAM);
        write(conn);
        conn.chunk(b"");
    })
}

const STREAMED: &str = ", response: streamed";

#[test]
fn a_streamed_result_comes_as_it_is_written() {
    let seen = Latch::new();
    let wait = seen.clone();
    let aws = streaming(move |conn| {
        conn.chunk(chunk(b"one "));
        conn.wait(&wait);
        let (two, end) = (chunk(b"two"), complete(r#"{"LogResult":"YQ=="}"#));
        // Frames have nothing to do with chunks.
        let (head, rest) = two.split_at(7);
        conn.chunk(head);
        conn.chunk([rest, &end[..5]].concat());
        conn.chunk(&end[5..]);
    });
    let gateway = invoking(aws.address(), STREAMED);
    let mut client = gateway.client();
    client.send("POST /bill HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
    let head = client.head();
    assert_eq!(&*head.start[1], "200");
    assert_eq!(client.read_exactly(9), b"4\r\none \r\n");
    seen.open();
    assert_eq!(client.read_exactly(13), b"3\r\ntwo\r\n0\r\n\r\n");
    let request = aws.only();
    assert!(request.target == STREAM_PATH && is_signed(&request, KEY_ID, SECRET));
    // The connection is as good as new.
    assert_eq!(ask(&gateway).text(), "one two");
    assert_eq!((aws.count(), aws.connections()), (2, 1));
}

#[test]
fn a_function_that_fails_before_it_writes_fails_like_any_other() {
    for (frames, status, kind) in [
        (complete(r#"{"ErrorCode":"Unhandled","ErrorDetails":"{\"errorType\":\"KeyError\"}"}"#), 502, "function_failed"),
        (complete(r#"{"ErrorCode":"Unhandled","ErrorDetails":"{\"errorType\":\"Sandbox.Timedout\"}"}"#), 504, "function_timeout"),
        (frame(&[(":message-type", "exception"), (":exception-type", "ServiceException")], b"{}"), 502, "function_failed"),
        (b"this is no event stream at all".to_vec(), 502, "function_malformed"),
        (chunk(b"one")[..9].to_vec(), 502, "function_failed"),
        (Vec::new(), 502, "function_failed"),
    ] {
        let aws = streaming(move |conn| {
            if !frames.is_empty() {
                conn.chunk(&frames);
            }
        });
        let response = ask(&invoking(aws.address(), STREAMED));
        assert_eq!(response.status, status, "{}", response.text());
        assert!(response.text().contains(kind), "{}", response.text());
        assert_eq!(aws.count(), 1);
    }
}

#[test]
fn a_stream_that_ends_badly_does_not_end_well_for_the_client() {
    let good = chunk(b"one");
    let mut altered = chunk(b"two");
    *altered.last_mut().expect("a checksum") ^= 1;
    for ending in [
        complete(r#"{"ErrorCode":"Unhandled","ErrorDetails":"{}"}"#),
        frame(&[(":message-type", "exception"), (":exception-type", "ServiceException")], b"{}"),
        frame(&[(":message-type", "error"), (":error-code", "x")], b""),
        altered,
        chunk(b"two")[..20].to_vec(),
        Vec::new(),
        [complete("{}"), chunk(b"more")].concat(),
    ] {
        let (seen, good) = (Latch::new(), good.clone());
        let wait = seen.clone();
        let aws = streaming(move |conn| {
            conn.chunk(&good);
            conn.wait(&wait);
            if !ending.is_empty() {
                conn.chunk(&ending);
            }
        });
        let gateway = invoking(aws.address(), STREAMED);
        let mut client = gateway.client();
        client.send("POST /bill HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
        assert_eq!(&*client.head().start[1], "200");
        assert_eq!(client.read_exactly(8), b"3\r\none\r\n");
        seen.open();
        let (rest, _) = client.read_to_end();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", rest.escape_ascii());
    }
}

#[test]
fn who_does_not_read_is_not_read_for() {
    let aws = streaming(|conn| {
        let frame = chunk(&vec![b'x'; 256 * 1024]);
        for _ in 0..256 {
            if !conn.chunk(&frame) {
                return;
            }
        }
        conn.chunk(complete("{}"));
    });
    let gateway = invoking(aws.address(), STREAMED);
    let mut client = Client::connect_slow_reader(gateway.address());
    client.send("POST /bill HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
    let written = stays("what AWS could write", || aws.written());
    assert!(written < 32 * 1024 * 1024, "{written} bytes were taken for a client that reads nothing");
    let response = client.response();
    assert_eq!((response.status, response.body.len()), (200, 64 * 1024 * 1024));
}

#[test]
fn a_stream_is_over_when_the_function_s_time_is() {
    let end = Latch::new();
    let wait = end.clone();
    let aws = streaming(move |conn| {
        conn.chunk(chunk(b"one"));
        conn.wait(&wait);
    });
    let gateway = invoking(aws.address(), ", response: streamed, timeout: 40s");
    let mut client = gateway.client();
    client.send("POST /bill HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(&*client.head().start[1], "200");
    assert_eq!(client.read_exactly(8), b"3\r\none\r\n");
    gateway.turn(Duration::from_secs(41));
    let (rest, _) = client.read_to_end();
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
    end.open();
}

#[test]
fn without_keys_the_function_cannot_be_invoked_and_aws_is_not_asked() {
    let aws = aws(200, "", "{}");
    let nothing = [("AWS_EC2_METADATA_DISABLED", "true".to_owned())];
    let gateway = gateway_in(&yaml(""), &[("aws", aws.address())], &[], &nothing);
    let response = ask(&gateway);
    assert_eq!((response.status, aws.count()), (502, 0));
    assert!(response.text().contains("function_unavailable"));
}

/// Gives out keys as STS does, numbered, each for an hour by the clock of the gateway's.
struct Sts {
    backend: Backend,
    given: Arc<AtomicUsize>,
}

impl Sts {
    /// `ends`: when the next keys expire, since 1970.
    fn new(ends: Arc<Mutex<u64>>) -> Sts {
        let given = Arc::new(AtomicUsize::new(0));
        let counter = given.clone();
        let backend = Backend::new(move |_, conn| {
            conn.body();
            let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
            let stamp = stamp::format(*ends.lock().unwrap());
            let text = String::from_utf8(stamp.to_vec()).unwrap();
            let (day, time) = (&text[..8], &text[9..15]);
            let expiration = format!("{}-{}-{}T{}:{}:{}Z", &day[..4], &day[4..6], &day[6..], &time[..2], &time[2..4], &time[4..]);
            let xml = format!(
                "<AssumeRoleWithWebIdentityResponse><R><Credentials><AccessKeyId>ASIA{number}</AccessKeyId>\
                 <SecretAccessKey>secret{number}</SecretAccessKey><SessionToken>token{number}</SessionToken>\
                 <Expiration>{expiration}</Expiration></Credentials></R></AssumeRoleWithWebIdentityResponse>"
            );
            conn.answer(200, "content-type: text/xml\r\n", xml);
        });
        Sts { backend, given }
    }

    fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }

    fn variables(&self, token: &std::path::Path) -> Vec<(&'static str, String)> {
        std::fs::write(token, "a.signed.token\n").expect("a file");
        vec![
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string()),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/bill".to_owned()),
            ("AWS_ENDPOINT_URL_STS", format!("http://{}", self.backend.address())),
        ]
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn keys_of_a_role_are_used_and_renewed_before_they_expire() {
    let aws = aws(200, "", "{}");
    let ends = Arc::new(Mutex::new(unix_now() + 3600));
    let (sts, folder) = (Sts::new(ends.clone()), Folder::new());
    let gateway = gateway_in(&yaml(""), &[("aws", aws.address())], &[], &sts.variables(&folder.path("token")));
    // The first request may come before there are keys: it waits for them.
    assert_eq!(ask(&gateway).status, 200);
    let request = aws.last();
    assert_eq!(request.header("x-amz-security-token"), Some("token1"));
    assert!(is_signed(&request, "ASIA1", "secret1"));
    let asked = sts.backend.only();
    let form = String::from_utf8_lossy(&asked.body).into_owned();
    for field in ["Action=AssumeRoleWithWebIdentity", "WebIdentityToken=a.signed.token", "role%2Fbill", "Version=2011-06-15"] {
        assert!(form.contains(field), "{form}");
    }
    assert_eq!(ask(&gateway).status, 200);
    assert_eq!(sts.given(), 1);
    *ends.lock().unwrap() = unix_now() + 3600 + 3300;
    gateway.turn(Duration::from_secs(3300));
    eventually("there are new keys", || sts.given() == 2);
    eventually("they are used", || {
        assert_eq!(ask(&gateway).status, 200);
        aws.last().header("x-amz-security-token") == Some("token2")
    });
    assert!(is_signed(&aws.last(), "ASIA2", "secret2"));
}

#[test]
fn keys_that_aws_takes_no_more_are_replaced_and_the_request_goes_out_once_more() {
    let aws = Backend::new(|request, conn| {
        conn.body();
        match request.header("x-amz-security-token") {
            Some("token1") => conn.answer(403, "x-amzn-errortype: ExpiredTokenException\r\n", "{}"),
            _ => conn.answer(200, JSON, "{}"),
        };
    });
    let ends = Arc::new(Mutex::new(unix_now() + 3600));
    let (sts, folder) = (Sts::new(ends), Folder::new());
    let gateway = gateway_in(&yaml(""), &[("aws", aws.address())], &[], &sts.variables(&folder.path("token")));
    assert_eq!((ask(&gateway).status, aws.count(), sts.given()), (200, 2, 2));
    assert!(is_signed(&aws.last(), "ASIA2", "secret2"));
    assert_eq!((ask(&gateway).status, aws.count(), sts.given()), (200, 3, 2));
}

#[test]
fn keys_that_are_refused_for_good_are_not_asked_for_with_every_request() {
    let aws = aws(403, "x-amzn-errortype: UnrecognizedClientException\r\n", "{}");
    let ends = Arc::new(Mutex::new(unix_now() + 3600));
    let (sts, folder) = (Sts::new(ends), Folder::new());
    let gateway = gateway_in(&yaml(""), &[("aws", aws.address())], &[], &sts.variables(&folder.path("token")));
    for _ in 0..5 {
        assert_eq!(ask(&gateway).status, 502);
    }
    assert_eq!(sts.given(), 2, "one at the start, and one because of a refusal");
}

#[test]
fn a_clock_that_is_wrong_is_set_by_aws_s() {
    let aws = Backend::new(move |request, conn| {
        conn.body();
        let date = request.header("x-amz-date").unwrap_or_default().to_owned();
        let sent = stamp::parse(date.as_bytes()).unwrap_or_default();
        if sent > unix_now() + 1800 {
            conn.answer(200, JSON, "{}");
            return;
        }
        let ahead = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
        let headers = format!("x-amzn-errortype: InvalidSignatureException\r\ndate: {ahead}\r\n");
        conn.answer(403, &headers, r#"{"message":"Signature expired: 20261122T223000Z is now earlier than 20261122T232500Z"}"#);
    });
    let gateway = invoking(aws.address(), "");
    assert_eq!((ask(&gateway).status, aws.count()), (200, 2));
    assert_eq!((ask(&gateway).status, aws.count()), (200, 3), "it is known from now on");
    assert!(is_signed(&aws.last(), KEY_ID, SECRET));
}
