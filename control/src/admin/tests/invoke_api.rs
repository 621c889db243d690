//! AWS's Invoke API as bytes. What AWS's own clients make of it is tried in `tests/peers/live`.

use super::*;
use maitred_core::aws::sigv4::{Parts, SecretKey, Signing, authorization, hash, stamp};
use maitred_core::function::{Failure, Finished};
use maitred_core::wire::{EventReader, EventStep};
use maitred_core::{Fault, Kind};
use maitred_host::{Answer, FunctionKey, NotRun, Piece, Streamed};
use std::time::UNIX_EPOCH;
use tokio::sync::mpsc as pieces;

const INVOKE: &str = "POST /2015-03-31/functions/dessert/invocations";
const STREAM: &str = "POST /2021-11-15/functions/dessert/response-streaming-invocations";

/// How a request is signed.
#[derive(Clone)]
pub(super) struct Signer {
    pub id: String,
    pub secret: String,
    pub service: &'static str,
    /// seconds, added to the time that it is
    pub off: i64,
}

pub(super) fn admin_key() -> Signer {
    Signer { id: "maitred".to_owned(), secret: "s3cret".to_owned(), service: "lambda", off: 0 }
}

pub(super) async fn hosting() -> (Admin, Arc<Fake>) {
    let fake: Arc<Fake> = Arc::default();
    (start(Some("s3cret"), fake.clone()).await, fake)
}

/// A signed request; `headers` are signed too.
pub(super) fn signed(signer: &Signer, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let now = Clock::default().wall().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let time = now.checked_add_signed(signer.off).unwrap();
    let date = String::from_utf8(stamp::format(time).to_vec()).unwrap();
    let mut all = headers.to_vec();
    all.push(("x-amz-date", &date));
    let raw: Vec<(&[u8], &[u8])> = all.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let parts =
        Parts { method: method.as_bytes(), path: path.as_bytes(), query: query.as_bytes(), host: b"127.0.0.1", headers: &raw };
    let secret = SecretKey::new(&signer.secret);
    let signing = Signing { key_id: &signer.id, secret: &secret, region: "eu-west-1", service: signer.service, time };
    let authorization = authorization(&parts, &signing, &hash(body)).unwrap();
    let lines: String = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\nAuthorization: {authorization}\r\n{lines}\r\n"
    );
    [head.as_bytes(), body].concat()
}

pub(super) struct Raw {
    pub status: u16,
    head: String,
    body: Vec<u8>,
}

impl Raw {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(known, _)| known.eq_ignore_ascii_case(name)))
            .map(|(_, value)| value)
    }

    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    /// What went wrong, in AWS's words.
    pub fn error(&self) -> (u16, &str, String) {
        let body = self.json();
        let message = body["message"].as_str().or(body["Message"].as_str()).unwrap_or_default().to_owned();
        (self.status, self.header("x-amzn-errortype").unwrap_or_default(), message)
    }
}

pub(super) async fn exchange(admin: &Admin, request: &[u8]) -> Raw {
    let mut stream = TcpStream::connect(admin.address()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    Raw { status: head[9..12].parse().unwrap(), head, body: bytes.split_off(end + 4) }
}

async fn call(admin: &Admin, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Raw {
    exchange(admin, &signed(&admin_key(), line, headers, body)).await
}

fn finished(payload: &str, failure: Option<Failure>) -> Finished {
    Finished { payload: payload.into(), failure, version: "".into(), ..Finished::default() }
}

#[tokio::test]
async fn an_invocation_answers_the_result_and_what_aws_says_of_it() {
    let (admin, fake) = hosting().await;
    let answer = call(&admin, INVOKE, &[], b"{\"plum\": 1}").await;
    assert_eq!((answer.status, answer.text()), (200, "{\"plum\": 1}"));
    let asked = fake.dessert.asked.lock().unwrap().pop().unwrap();
    for (name, value) in [
        ("x-amz-executed-version", Some("$LATEST")),
        ("content-type", Some("application/json")),
        ("x-amzn-remapped-content-length", Some("0")),
        ("x-amzn-requestid", Some(&*asked.id)),
        ("x-amzn-trace-id", Some(&*asked.trace)),
        ("x-amz-function-error", None),
        ("x-amz-log-result", None),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert_eq!(asked.arn.as_deref(), Some("arn:aws:lambda:eu-west-1:000000000000:function:dessert"));
    assert!(!asked.streamed && !asked.log_tail && asked.client_context.is_none());
    let (root, rest) = asked.trace.split_once(";Parent=").unwrap();
    assert!(
        root.starts_with("Root=1-") && root.len() == 40 && rest.len() == 26 && rest.ends_with(";Sampled=0"),
        "{}",
        asked.trace
    );
}

#[tokio::test]
async fn what_a_caller_says_beside_the_event_comes_to_the_function() {
    let (admin, fake) = hosting().await;
    let headers = [
        ("x-amz-log-type", "Tail"),
        // {"custom":{"a":1}}
        ("x-amz-client-context", "eyJjdXN0b20iOnsiYSI6MX19"),
        ("x-amzn-trace-id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"),
    ];
    let line = "POST /2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Adessert/invocations?Qualifier=live";
    let answer = call(&admin, line, &headers, b"").await;
    assert_eq!((answer.status, answer.text()), (200, "{}"), "no event is an empty one");
    assert_eq!(answer.header("x-amz-log-result"), Some("U1RBUlQKRU5ECg=="));
    let asked = fake.dessert.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked.client_context.as_deref(), Some("{\"custom\":{\"a\":1}}"));
    assert_eq!(&*asked.trace, "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1");
    assert_eq!(asked.arn.as_deref(), Some("arn:aws:lambda:eu-west-1:000000000000:function:dessert:live"));
}

#[tokio::test]
async fn a_function_that_fails_is_still_200() {
    let (admin, fake) = hosting().await;
    fake.dessert.answer(Ok(Answer::Whole(finished("{\"errorType\":\"Oops\"}", Some(Failure::TimedOut)))));
    let answer = call(&admin, INVOKE, &[], b"{}").await;
    assert_eq!((answer.status, answer.text()), (200, "{\"errorType\":\"Oops\"}"));
    assert_eq!(answer.header("x-amz-function-error"), Some("Unhandled"));
}

#[tokio::test]
async fn nobody_waits_for_an_event_and_nothing_runs_dry() {
    let (admin, fake) = hosting().await;
    let answer = call(&admin, INVOKE, &[("x-amz-invocation-type", "Event")], b"[1]").await;
    assert_eq!((answer.status, answer.text()), (202, ""));
    let later = fake.dessert.later.lock().unwrap().pop().unwrap();
    assert_eq!((&*later.event, answer.header("x-amzn-requestid")), (&b"[1]"[..], Some(&*later.id)));
    let answer = call(&admin, INVOKE, &[("x-amz-invocation-type", "DryRun")], b"[1]").await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    let answer = call(&admin, STREAM, &[("x-amz-invocation-type", "DryRun")], b"[1]").await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    let large = format!("\"{}\"", "x".repeat(1024 * 1024));
    let answer = call(&admin, INVOKE, &[("x-amz-invocation-type", "Event")], large.as_bytes()).await;
    assert_eq!(answer.error().1, "RequestTooLargeException");
    fake.dessert.answer(Err(NotRun::QueueFull));
    let answer = call(&admin, INVOKE, &[("x-amz-invocation-type", "Event")], b"{}").await;
    assert_eq!(answer.error().1, "TooManyRequestsException");
    assert!(fake.dessert.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_wrong_is_said_in_aws_s_words() {
    let (admin, fake) = hosting().await;
    let long = "A".repeat(3584);
    for (line, header, body, wanted) in [
        ("POST /2015-03-31/functions/salad/invocations", None, "{}", (404, "ResourceNotFoundException", "function:salad")),
        ("POST /2015-03-31/functions/remote:7/invocations", None, "{}", (404, "ResourceNotFoundException", "function:remote")),
        (
            "POST /2015-03-31/functions/salad:live/invocations",
            None,
            "{",
            (404, "ResourceNotFoundException", "function:salad:live"),
        ),
        (INVOKE, None, "{", (400, "InvalidRequestContentException", "Could not parse request body into json")),
        (INVOKE, None, "plum", (400, "InvalidRequestContentException", "Could not parse request body into json")),
        (INVOKE, Some(("x-amz-invocation-type", "event")), "{}", (400, "ValidationException", "'invocationType'")),
        (STREAM, Some(("x-amz-invocation-type", "Event")), "{}", (400, "ValidationException", "[RequestResponse, DryRun]")),
        (INVOKE, Some(("x-amz-log-type", "All")), "{}", (400, "ValidationException", "'logType'")),
        (INVOKE, Some(("x-amz-client-context", "!")), "{}", (400, "InvalidRequestContentException", "Client context")),
        (INVOKE, Some(("x-amz-client-context", "WzFd")), "{}", (400, "InvalidRequestContentException", "Client context")),
        (INVOKE, Some(("x-amz-client-context", &*long)), "{}", (400, "InvalidParameterValueException", "3583")),
        ("POST /2015-03-31/functions/a%20b/invocations", None, "{}", (400, "ValidationException", "'functionName'")),
        (
            "POST /2015-03-31/functions/dessert/invocations?Qualifier=a%20b",
            None,
            "{}",
            (400, "ValidationException", "'qualifier'"),
        ),
        (
            "POST /2015-03-31/functions/dessert:live/invocations?Qualifier=dev",
            None,
            "{}",
            (400, "InvalidParameterValueException", "derived qualifier"),
        ),
        ("GET /2015-03-31/functions/dessert/invocations", None, "", (404, "UnknownOperationException", "Invoke")),
        ("DELETE /2015-03-31/functions/dessert", None, "", (404, "UnknownOperationException", "Invoke")),
        ("GET /2015-03-31/layers", None, "", (404, "UnknownOperationException", "Invoke")),
        ("GET /2015-03-31/functions?MaxItems=0", None, "", (400, "InvalidParameterValueException", "MaxItems")),
    ] {
        let answer = call(&admin, line, &header.into_iter().collect::<Vec<_>>(), body.as_bytes()).await;
        let (status, name, message) = answer.error();
        assert_eq!((status, name), (wanted.0, wanted.1), "{line} {header:?} {message}");
        assert!(message.contains(wanted.2), "{message}");
    }
    assert!(fake.dessert.asked.lock().unwrap().is_empty());
    for (not_run, name) in [
        (NotRun::QueueFull, (429, "TooManyRequestsException")),
        (NotRun::Waited, (429, "TooManyRequestsException")),
        (NotRun::TooLarge, (413, "RequestTooLargeException")),
        (NotRun::Closed, (500, "ServiceException")),
    ] {
        fake.dessert.answer(Err(not_run.clone()));
        let answer = call(&admin, INVOKE, &[], b"{}").await;
        let (status, error, _) = answer.error();
        assert_eq!((status, error), name);
        assert_eq!(answer.header("retry-after").is_some(), not_run == NotRun::QueueFull || not_run == NotRun::Waited);
        assert!(answer.header("x-amzn-requestid").is_some());
    }
}

#[tokio::test]
async fn an_event_that_is_too_large_is_read_to_its_end_so_that_its_sender_hears_why() {
    let (admin, fake) = hosting().await;
    let answer = call(&admin, INVOKE, &[], &vec![b'1'; 7 * 1024 * 1024]).await;
    let (status, name, message) = answer.error();
    assert_eq!((status, name), (413, "RequestTooLargeException"));
    assert_eq!(message, "Request must be smaller than 6291456 bytes for the InvokeFunction operation");
    assert!(fake.dessert.asked.lock().unwrap().is_empty());
    let large = format!("\"{}\"", "x".repeat(6 * 1024 * 1024 - 2));
    assert_eq!(call(&admin, INVOKE, &[], large.as_bytes()).await.body.len(), 6 * 1024 * 1024);
}

#[tokio::test]
async fn only_who_has_a_key_of_this_gateway_runs_anything() {
    let (admin, fake) = hosting().await;
    let own = of_functions(&[7; 32]);
    let function = Signer { id: own.id, secret: own.secret.expose().to_owned(), service: "lambda", off: 0 };
    for good in [admin_key(), function.clone(), Signer { off: -240, ..admin_key() }, Signer { off: 240, ..admin_key() }] {
        assert_eq!(exchange(&admin, &signed(&good, INVOKE, &[], b"{}")).await.status, 200, "{}", good.off);
    }
    fake.dessert.asked.lock().unwrap().clear();
    let strange = Signer { id: "AKIDEXAMPLE".to_owned(), ..admin_key() };
    for (bad, headers, name) in [
        (Signer { secret: "s3cre".to_owned(), ..admin_key() }, vec![], "InvalidSignatureException"),
        (Signer { secret: "s3cret".to_owned(), ..function.clone() }, vec![], "InvalidSignatureException"),
        (strange, vec![], "UnrecognizedClientException"),
        (Signer { service: "s3", ..admin_key() }, vec![], "InvalidSignatureException"),
        (Signer { off: -360, ..admin_key() }, vec![], "InvalidSignatureException"),
        (Signer { off: 360, ..admin_key() }, vec![], "InvalidSignatureException"),
        (admin_key(), vec![("x-amz-security-token", "t")], "UnrecognizedClientException"),
    ] {
        let answer = exchange(&admin, &signed(&bad, INVOKE, &headers, b"{}")).await;
        let (status, error, _) = answer.error();
        assert_eq!((status, error), (403, name), "{} {}", bad.id, bad.off);
    }
    // One byte of the body, of the path, of a header.
    let good = String::from_utf8(signed(&admin_key(), INVOKE, &[("x-amz-log-type", "None")], b"{}")).unwrap();
    for (from, to) in [("{}", "[]"), ("/dessert/", "/soup/"), ("x-amz-log-type: None", "x-amz-log-type: Tail")] {
        let answer = exchange(&admin, good.replacen(from, to, 1).as_bytes()).await;
        assert_eq!(answer.error().1, "InvalidSignatureException", "{from}");
    }
    let head = "Host: localhost\r\nConnection: close\r\nX-Maitred: 1\r\n";
    for (headers, name) in [
        ("", "MissingAuthenticationTokenException"),
        ("Authorization: Bearer s3cre\r\n", "IncompleteSignatureException"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=x\r\n", "IncompleteSignatureException"),
        ("Authorization: AWS4-ECDSA-P256-SHA256 Credential=x\r\n", "IncompleteSignatureException"),
    ] {
        let answer = exchange(&admin, format!("{INVOKE} HTTP/1.1\r\n{head}{headers}Content-Length: 0\r\n\r\n").as_bytes()).await;
        assert_eq!((answer.status, answer.error().1), (403, name), "{headers}");
    }
    assert!(fake.dessert.asked.lock().unwrap().is_empty());
    let bearer = format!("{INVOKE} HTTP/1.1\r\n{head}Authorization: Bearer s3cret\r\nContent-Length: 2\r\n\r\n[]");
    assert_eq!(exchange(&admin, bearer.as_bytes()).await.text(), "[]");
}

#[tokio::test]
async fn loopback_alone_opens_nothing_and_the_functions_key_opens_nothing_else() {
    let admin = start(None, Arc::default()).await;
    for headers in ["", "Authorization: Bearer \r\n"] {
        let request = format!("{INVOKE} HTTP/1.1\r\nHost: localhost\r\nX-Maitred: 1\r\nConnection: close\r\n{headers}\r\n");
        assert_eq!(exchange(&admin, request.as_bytes()).await.status, 403);
    }
    let (empty, named) = (Signer { secret: String::new(), ..admin_key() }, admin_key());
    for signer in [empty, named] {
        assert_eq!(exchange(&admin, &signed(&signer, INVOKE, &[], b"{}")).await.error().1, "UnrecognizedClientException");
    }
    let (admin, _) = hosting().await;
    let own = of_functions(&[7; 32]);
    let function = Signer { id: own.id, secret: own.secret.expose().to_owned(), service: "lambda", off: 0 };
    for line in ["GET /functions", "GET /config", "POST /functions/dessert/invoke", "POST /reload"] {
        assert_eq!(exchange(&admin, &signed(&function, line, &[], b"")).await.status, 401, "{line}");
    }
}

/// `(event type, payload)` of each event.
fn events(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut reader, mut events) = (EventReader::default(), Vec::new());
    loop {
        let (count, step) = reader.read(bytes).unwrap();
        let (taken, rest) = bytes.split_at(count);
        bytes = rest;
        match step {
            EventStep::Headers => events.push((reader.text(":event-type").unwrap().to_owned(), Vec::new())),
            EventStep::Payload => events.last_mut().unwrap().1.extend_from_slice(taken),
            EventStep::End if bytes.is_empty() => break,
            EventStep::End => {}
            EventStep::More => panic!("half an event"),
        }
    }
    assert!(reader.is_between());
    events
}

fn end(value: &Value) -> (String, Vec<u8>) {
    ("InvokeComplete".to_owned(), value.to_string().into_bytes())
}

fn piece(text: &str) -> (String, Vec<u8>) {
    ("PayloadChunk".to_owned(), text.as_bytes().to_vec())
}

#[tokio::test]
async fn a_result_that_comes_whole_is_streamed_too() {
    let (admin, fake) = hosting().await;
    let answer = call(&admin, STREAM, &[("x-amz-log-type", "Tail")], b"[1]").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/vnd.amazon.eventstream")));
    assert_eq!(answer.header("x-amz-executed-version"), Some("$LATEST"));
    assert_eq!(events(&answer.body), [piece("[1]"), end(&json!({ "LogResult": "U1RBUlQKRU5ECg==" }))]);
    assert!(fake.dessert.asked.lock().unwrap().pop().unwrap().streamed);
    fake.dessert.answer(Ok(Answer::Whole(finished("{\"errorType\":\"Oops\"}", Some(Failure::Raised)))));
    let answer = call(&admin, STREAM, &[], b"[1]").await;
    assert!(answer.header("x-amz-function-error").is_none());
    let wanted = json!({ "ErrorCode": "Unhandled", "ErrorDetails": "{\"errorType\":\"Oops\"}" });
    assert_eq!(events(&answer.body), [end(&wanted)]);
    let long = "x".repeat(150_000);
    fake.dessert.answer(Ok(Answer::Whole(finished(&long, None))));
    let answer = call(&admin, STREAM, &[], b"[1]").await;
    let pieces = events(&answer.body);
    assert_eq!(pieces.len(), 4);
    assert_eq!(pieces[..3].iter().flat_map(|(_, piece)| piece.clone()).collect::<Vec<u8>>(), long.as_bytes());
}

/// The body of a chunked answer, which comes to its end.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = usize::from_str_radix(str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 4 + length..];
    }
}

#[tokio::test]
async fn a_result_that_is_written_is_passed_on_piece_by_piece() {
    let (admin, fake) = hosting().await;
    let error = |details: &str| json!({ "ErrorCode": "Unhandled", "ErrorDetails": details });
    let cut = "{\"errorType\":\"Runtime.TruncatedResponse\",\"errorMessage\":\"The response was cut off before its end.\"}";
    for (last, wanted) in [
        (Some(Finished::default()), json!({})),
        (Some(finished("{\"errorType\":\"Late\"}", Some(Failure::Raised))), error("{\"errorType\":\"Late\"}")),
        (None, error(cut)),
    ] {
        let (sender, receiver) = pieces::channel(4);
        let content_type = Some("text/html".into());
        fake.dessert.answer(Ok(Answer::Streamed(Streamed { content_type, pieces: receiver })));
        sender.send(Piece::Data("plum".into())).await.unwrap();
        sender.send(Piece::Data("cake".into())).await.unwrap();
        if let Some(last) = last {
            sender.send(Piece::End(last)).await.unwrap();
        }
        drop(sender);
        let answer = call(&admin, STREAM, &[], b"{}").await;
        assert_eq!((answer.status, answer.header("x-amzn-remapped-content-type")), (200, Some("text/html")));
        assert_eq!(events(&unchunked(&answer.body)), [piece("plum"), piece("cake"), end(&wanted)]);
    }
}

#[tokio::test]
async fn functions_are_listed_page_by_page_and_described() {
    let (admin, _) = hosting().await;
    let names = async |query: &str| {
        let answer = call(&admin, &format!("GET /2015-03-31/functions{query}"), &[], b"").await.json();
        let names = answer["Functions"].as_array().unwrap().iter().map(|one| one["FunctionName"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), answer["NextMarker"].clone())
    };
    assert_eq!(names("/").await, (["dessert", "remote", "soup"].map(str::to_owned).to_vec(), Value::Null));
    assert_eq!(names("?MaxItems=1").await, (vec!["dessert".to_owned()], json!("dessert")));
    assert_eq!(names("?MaxItems=1&Marker=remote").await, (vec!["soup".to_owned()], Value::Null));
    assert_eq!(names("?Marker=soup").await, (vec![], Value::Null));
    let got = call(&admin, "GET /2015-03-31/functions/dessert?Qualifier=live", &[], b"").await;
    let configuration = &got.json()["Configuration"];
    for (key, value) in [
        ("FunctionName", json!("dessert")),
        ("FunctionArn", json!("arn:aws:lambda:eu-west-1:000000000000:function:dessert:live")),
        ("Runtime", json!("python")),
        ("Handler", json!("app.handler")),
        ("Timeout", json!(5)),
        ("MemorySize", json!(128)),
        ("Version", json!("$LATEST")),
    ] {
        assert_eq!(configuration[key], value, "{key}");
    }
    assert!(!got.text().contains("secret"), "what is in an environment is not told");
    let alone = call(&admin, "GET /2015-03-31/functions/dessert/configuration", &[], b"").await.json();
    assert_eq!(alone["FunctionArn"], "arn:aws:lambda:eu-west-1:000000000000:function:dessert");
    assert_eq!(call(&admin, "GET /2015-03-31/functions/salad", &[], b"").await.status, 404);
}

#[tokio::test]
async fn functions_in_aws_are_the_administrator_s() {
    const REMOTE: &str = "POST /2015-03-31/functions/remote/invocations";
    let (admin, fake) = hosting().await;
    for line in [
        REMOTE.to_owned(),
        format!("{REMOTE}?Qualifier=live"),
        REMOTE.replace("remote/", "remote%3Alive/"),
        REMOTE.replace("2015-03-31", "2021-11-15").replace("/invocations", "/response-streaming-invocations"),
    ] {
        let answer = call(&admin, &line, &[("x-amz-log-type", "Tail")], b"[7]").await;
        assert_eq!(answer.status, 200, "{line}");
        let asked = fake.remote.asked.lock().unwrap().pop().unwrap();
        assert_eq!((&asked.event[..], asked.log_tail, asked.streamed), (&b"[7]"[..], true, line.contains("stream")));
    }
    assert_eq!(call(&admin, REMOTE, &[("x-amz-invocation-type", "Event")], b"1").await.status, 202);
    assert_eq!(fake.remote.later.lock().unwrap().pop().unwrap().event, b"1");
    // Another version would be other code than the configuration says.
    let other = call(&admin, &format!("{REMOTE}?Qualifier=7"), &[], b"").await;
    assert_eq!((other.status, other.header("x-amzn-errortype")), (404, Some("ResourceNotFoundException")));
    for (kind, status, name) in [
        (Kind::FunctionBusy, 429, "TooManyRequestsException"),
        (Kind::BodyTooLarge, 413, "RequestTooLargeException"),
        (Kind::BadRequest, 400, "InvalidRequestContentException"),
        (Kind::FunctionUnavailable, 500, "ServiceException"),
    ] {
        fake.remote.refuse(Fault::new(kind, "AWS says so"));
        let answer = call(&admin, REMOTE, &[], b"{}").await;
        assert_eq!((answer.status, answer.header("x-amzn-errortype")), (status, Some(name)));
    }
    fake.remote.asked.lock().unwrap().clear();
    let names = |list: &Raw| -> Vec<String> {
        let functions = list.json()["Functions"].as_array().unwrap().clone();
        functions.iter().map(|one| one["FunctionName"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&call(&admin, "GET /2015-03-31/functions", &[], b"").await), ["dessert", "remote", "soup"]);
    // Who has the functions' key has no part in the gateway's keys of AWS.
    let FunctionKey { id, secret } = of_functions(&[7; 32]);
    let function = Signer { id, secret: secret.expose().to_owned(), ..admin_key() };
    assert_eq!(exchange(&admin, &signed(&function, INVOKE, &[], b"{}")).await.status, 200);
    for line in [REMOTE, "GET /2015-03-31/functions/remote", "GET /2015-03-31/functions/remote/configuration"] {
        assert_eq!(exchange(&admin, &signed(&function, line, &[], b"")).await.status, 404, "{line}");
    }
    assert_eq!(names(&exchange(&admin, &signed(&function, "GET /2015-03-31/functions", &[], b"")).await), ["dessert", "soup"]);
    assert!(fake.remote.asked.lock().unwrap().is_empty());
}
