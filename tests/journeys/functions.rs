//! Functions that answer routes: what they are told of a request, and what clients get of what they return. The functions are real processes:
//! a few lines of Python that speak the Runtime API, as any runtime does.

use maitred_testkit::{Backend, Folder, Gateway, Response, gateway};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

/// A runtime: calls `handler` with each event and the headers that came with it. A `Stream` it streams.
const RUNTIME: &str = r#"#!/usr/bin/env python3
import base64, http.client, json, os, sys, time, urllib.request

NULS = b"\0" * 8
PRELUDE = "application/vnd.awslambda.http-integration-response"

class Stream:
    def __init__(self, pieces, content_type=PRELUDE):
        self.pieces, self.content_type = pieces, content_type

class Bytes(bytes):
    pass

HANDLER

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

def call(method, path, body=None, headers={}):
    connection.request(method, "/2018-06-01/runtime" + path, body, headers)
    answer = connection.getresponse()
    return answer.headers, answer.read()

while True:
    headers, raw = call("GET", "/invocation/next")
    here = "/invocation/" + headers["Lambda-Runtime-Aws-Request-Id"]
    try:
        result = handler(json.loads(raw), headers)
    except Exception as error:
        said = {"errorType": type(error).__name__, "errorMessage": str(error)}
        call("POST", here + "/error", json.dumps(said))
        continue
    if isinstance(result, Stream):
        told = {"Lambda-Runtime-Function-Response-Mode": "streaming", "Content-Type": result.content_type}
        call("POST", here + "/response", result.pieces, told)
    else:
        call("POST", here + "/response", result if isinstance(result, Bytes) else json.dumps(result))
"#;

/// Says what it was told.
const ECHO: &str = "
def handler(event, headers):
    return {'statusCode': 200, 'headers': {'content-type': 'application/json'}, 'body': json.dumps({'event': event, 'headers': dict(headers)})}
";

/// Returns what it is sent.
const RETURN: &str = "
def handler(event, headers):
    body = event.get('body') or ''
    return Bytes(base64.b64decode(body) if event.get('isBase64Encoded') else body.encode())
";

struct Hosted {
    gateway: Gateway,
    folder: Folder,
}

impl std::ops::Deref for Hosted {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}

/// An API `shop` at /shop, whose every path is the function's.
#[track_caller]
fn hosted(handler: &str, keys: &str) -> Hosted {
    hosted_with(handler, keys, "", &[])
}

#[track_caller]
fn hosted_with(handler: &str, keys: &str, api: &str, backends: &[(&str, SocketAddr)]) -> Hosted {
    let folder = Folder::new();
    let code = folder.path("code");
    fs::create_dir(&code).expect("a folder of our own");
    fs::write(code.join("bootstrap"), RUNTIME.replace("HANDLER", handler)).expect("writable");
    fs::set_permissions(code.join("bootstrap"), Permissions::from_mode(0o755)).expect("ours");
    let code = code.display();
    let patient = if keys.contains("timeout:") { "" } else { ", timeout: 10s" };
    let keys = if keys.is_empty() { patient.to_owned() } else { format!("{patient}, {keys}") };
    let yaml = format!(
        "functions:
  f: {{ runtime: provided, code: \"{code}\", concurrency: 2{keys} }}
authorizers:
  keys: {{ api_key: {{}} }}
consumers:
  north: {{ api_keys: [norths-key-of-thirty-two-characters] }}
apis:
  shop:
    base_path: /shop
{api}    routes:
      - GET /pets/{{id}}: function f
      - {{ match: GET /mine, authenticate: [keys], function: f }}
      - {{ match: ANY /quick, timeout: 300ms, function: f }}
      - ANY /: function f
      - ANY /{{path+}}: function f
"
    );
    Hosted { gateway: gateway(&yaml, backends), folder }
}

/// What an `ECHO` was told.
#[track_caller]
fn told(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

#[track_caller]
fn fault(response: &Response, status: u16, kind: &str) {
    assert_eq!((response.status, response.json()["type"].as_str()), (status, Some(&*format!("urn:maitred:fault:{kind}"))));
}

#[test]
fn a_request_reaches_a_function_as_the_event_of_an_http_api() {
    let gateway = hosted(ECHO, "");
    let answer =
        gateway.ask("GET", "/shop/pets/a%20b?x=1&x=2", "Cookie: a=1; b=2\r\nX-Twice: 1\r\nx-twice: 2\r\nUser-Agent: me\r\n", "");
    let told = told(&answer);
    let event = &told["event"];
    assert_eq!((&event["version"], &event["routeKey"]), (&json!("2.0"), &json!("GET /pets/{id}")));
    assert_eq!((&event["rawPath"], &event["rawQueryString"]), (&json!("/pets/a b"), &json!("x=1&x=2")));
    assert_eq!((&event["pathParameters"], &event["queryStringParameters"]), (&json!({ "id": "a b" }), &json!({ "x": "1,2" })));
    assert_eq!((&event["cookies"], &event["headers"]["x-twice"]), (&json!(["a=1", "b=2"]), &json!("1,2")));
    let address = gateway.address();
    assert_eq!(event["headers"]["host"], "gateway.test");
    assert_eq!(event["headers"]["x-forwarded-for"], "127.0.0.1");
    assert_eq!(event["headers"]["x-forwarded-port"], address.port().to_string());
    let context = &event["requestContext"];
    assert_eq!((&context["apiId"], &context["domainName"]), (&json!("shop"), &json!("gateway.test")));
    assert_eq!((&context["http"]["sourceIp"], &context["http"]["userAgent"]), (&json!("127.0.0.1"), &json!("me")));
    assert_eq!(context["requestId"].as_str(), answer.header("x-request-id"));
    assert_eq!(answer.header("apigw-requestid"), answer.header("x-request-id"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn a_trace_goes_on_from_the_client_to_the_function() {
    let gateway = hosted(ECHO, "event: v1");
    let trace = "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1";
    let answer = gateway.ask("GET", "/shop", &format!("X-Amzn-Trace-Id: {trace}\r\n"), "");
    let told = told(&answer);
    assert_eq!(told["event"]["headers"]["X-Amzn-Trace-Id"], trace);
    assert_eq!(told["headers"]["Lambda-Runtime-Trace-Id"], trace);
    assert_eq!(answer.header("x-amzn-trace-id"), Some(trace));
    assert_ne!(told["headers"]["Lambda-Runtime-Aws-Request-Id"], told["event"]["requestContext"]["requestId"]);
}

#[test]
fn each_form_tells_the_path_in_its_own_way_and_none_tells_one_that_was_not_routed() {
    for (event, sent, told_path) in [
        ("v1", "/shop/test%2balias@x/", "/shop/test%2balias@x/"),
        ("v1", "/shop/%7eann", "/shop/%7eann"),
        ("v1", "/shop/a/../b", "/shop/b"),
        ("v1", "/shop/a/%2e%2e/b", "/shop/b"),
        // It was routed so, and nothing is folded behind the router's back.
        ("v1", "/shop//x", "/shop//x"),
        ("alb", "/shop/a//b", "/shop/a//b"),
    ] {
        let gateway = hosted(ECHO, &format!("event: {event}"));
        assert_eq!(told(&gateway.get(sent))["event"]["path"], told_path, "{sent}");
    }
    let gateway = hosted(ECHO, "event: url");
    assert_eq!(told(&gateway.get("/shop/a%2Fb/../c%2Fd"))["event"]["rawPath"], "/c/d");
}

#[test]
fn a_key_s_owner_is_told_to_the_function() {
    let key = "X-Api-Key: norths-key-of-thirty-two-characters\r\n";
    let gateway = hosted(ECHO, "");
    assert_eq!(gateway.get("/shop/mine").status, 401);
    let answer = told(&gateway.ask("GET", "/shop/mine", key, ""));
    let authorizer = &answer["event"]["requestContext"]["authorizer"];
    assert_eq!(*authorizer, json!({ "lambda": { "principalId": "north", "consumer": "north", "authorizer": "keys" } }));
    let gateway = hosted(ECHO, "event: v1");
    let answer = told(&gateway.ask("GET", "/shop/mine", key, ""));
    assert_eq!(answer["event"]["requestContext"]["identity"]["apiKeyId"], "north");
}

#[test]
fn a_body_arrives_whole_and_as_text_or_as_bytes() {
    let gateway = hosted(ECHO, "");
    let text = told(&gateway.ask("POST", "/shop", "Content-Type: application/json\r\n", "{\"é\":1}"));
    assert_eq!((&text["event"]["body"], &text["event"]["isBase64Encoded"]), (&json!("{\"é\":1}"), &json!(false)));
    let mut client = gateway.client();
    client.send("POST /shop HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: image/png\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
    let bytes = told(&client.response());
    assert_eq!((&bytes["event"]["body"], &bytes["event"]["isBase64Encoded"]), (&json!("YWJj"), &json!(true)));
    assert_eq!(told(&client.get("/shop"))["event"]["requestContext"]["http"]["method"], "GET", "on the same connection");
}

#[test]
fn a_result_of_format_2_is_the_response() {
    let gateway = hosted(RETURN, "");
    let result = r#"{"statusCode":201,"headers":{"X-A":"1","Content-Length":"99"},"cookies":["a=1","b=2"],"body":"aGk=","isBase64Encoded":true}"#;
    let answer = gateway.ask("POST", "/shop", "", result);
    assert_eq!((answer.status, answer.text()), (201, "hi".to_owned()));
    assert_eq!(answer.headers.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!((answer.header("x-a"), answer.header("content-length")), (Some("1"), Some("2")));
    let inferred = gateway.ask("POST", "/shop", "", "[1, \"x\"]");
    assert_eq!(
        (inferred.status, inferred.text(), inferred.header("content-type")),
        (200, "[1, \"x\"]".to_owned(), Some("application/json"))
    );
    // Nothing follows a head that says so.
    let mut client = gateway.client();
    assert_eq!(client.request("POST", "/shop", "", r#"{"statusCode":204,"body":"none"}"#).body, b"");
    let head = client.request("POST", "/shop", "", r#"{"statusCode":304,"body":"none"}"#);
    assert_eq!((head.status, head.body.len()), (304, 0));
    assert_eq!(client.request("POST", "/shop", "", "\"still here\"").text(), "still here");
}

#[test]
fn a_result_of_format_1_is_the_response() {
    let gateway = hosted(RETURN, "event: v1, binary_media_types: [\"image/*\"]");
    let result = r#"{"statusCode":"202","headers":{"x-b":"3","Date":"never"},"multiValueHeaders":{"X-B":["1","2"]},"body":"aGk=","isBase64Encoded":true}"#;
    let answer = gateway.ask("POST", "/shop", "Accept: image/png, */*\r\n", result);
    assert_eq!((answer.status, answer.text()), (202, "hi".to_owned()));
    assert_eq!(answer.headers.all("x-b"), ["1", "2", "3"]);
    assert_eq!(answer.header("x-amzn-remapped-date"), Some("never"));
    assert_eq!(answer.header("x-amzn-requestid"), answer.header("x-request-id"));
    assert_eq!(gateway.ask("POST", "/shop", "Accept: text/html\r\n", result).text(), "aGk=");
    fault(&gateway.ask("POST", "/shop", "", r#"{"statusCode":200,"wrong":1}"#), 502, "function_malformed");
}

#[test]
fn over_http2_a_response_has_names_in_small_letters() {
    let gateway = hosted(RETURN, "");
    let answer = gateway.h2().request("POST", "/shop", &[], r#"{"statusCode":200,"headers":{"X-Camel":"1"},"body":"hi"}"#);
    assert_eq!((answer.status, answer.text(), answer.header("x-camel")), (200, "hi".to_owned(), Some("1")));
}

#[test]
fn what_goes_wrong_is_a_fault_and_its_reason_stays_inside() {
    let gateway = hosted(
        "
def handler(event, headers):
    raise KeyError('secret')
",
        "",
    );
    let answer = gateway.get("/shop");
    fault(&answer, 502, "function_failed");
    assert!(!answer.text().contains("secret"));
    let gateway = hosted(RETURN, "");
    fault(&gateway.ask("POST", "/shop", "", "no JSON"), 502, "function_malformed");
    let late = hosted(
        "
def handler(event, headers):
    time.sleep(60)
",
        "timeout: 200ms",
    );
    fault(&late.get("/shop"), 504, "function_timeout");
}

#[test]
fn a_route_waits_no_longer_than_its_timeout() {
    let gateway = hosted(
        "
def handler(event, headers):
    time.sleep(60)
",
        "timeout: 1min",
    );
    let mut client = gateway.client();
    client.send("GET /shop/quick HTTP/1.1\r\nHost: x\r\n\r\n");
    gateway.turn(std::time::Duration::from_secs(1));
    fault(&client.response(), 504, "function_timeout");
}

#[test]
fn where_the_api_speaks_as_aws_so_do_its_faults() {
    for (words, status, body, error_type) in [
        ("aws_rest", 502, "Internal server error", Some("InternalServerErrorException")),
        ("aws_http", 500, "Internal Server Error", None),
    ] {
        let gateway = hosted_with(RETURN, "", &format!("    gateway_responses: {words}\n"), &[]);
        let answer = gateway.ask("POST", "/shop", "", "no JSON");
        assert_eq!((answer.status, &answer.json()), (status, &json!({ "message": body })), "{words}");
        assert_eq!(answer.header("x-amzn-errortype"), error_type);
        let id = if words == "aws_rest" { "x-amzn-requestid" } else { "apigw-requestid" };
        assert_eq!(answer.header(id), answer.header("x-request-id"));
    }
}

#[test]
fn a_function_that_is_no_handler_takes_and_gives_json() {
    let gateway = hosted(
        "
def handler(event, headers):
    return {'statusCode': 404, 'got': event}
",
        "event: raw",
    );
    let answer = gateway.ask("POST", "/shop", "", "[1,2]");
    assert_eq!((answer.status, answer.json()), (200, json!({ "statusCode": 404, "got": [1, 2] })));
    assert_eq!(gateway.get("/shop").json()["got"], json!({}), "no body is an empty object");
    let refused = gateway.ask("POST", "/shop", "", "no JSON");
    fault(&refused, 400, "body_not_json");
    assert_eq!(refused.json()["title"], "The request's body is not JSON.");
}

/// Streams its head and `first`, then waits for the file that the request names, if it does.
fn waiting(metadata: &str) -> String {
    format!(
        "
def handler(event, headers):
    def pieces():
        yield b'{metadata}' + NULS[:3]
        yield NULS[3:] + b'first'
        while not os.path.exists(event['headers'].get('x-go', '/')):
            time.sleep(0.002)
        yield b' second'
    return Stream(pieces())
"
    )
}

#[test]
fn a_stream_goes_out_as_it_comes() {
    for event in ["url", "v2"] {
        let handler = waiting(r#"{"statusCode":201,"headers":{"content-type":"text/plain"},"cookies":["a=1"]}"#);
        let gateway = hosted(&handler, &format!("event: {event}, response: streamed"));
        let go = gateway.folder.path("go");
        let mut client = gateway.client();
        client.send(format!("GET /shop HTTP/1.1\r\nHost: x\r\nX-Go: {}\r\n\r\n", go.display()));
        let head = client.head();
        assert_eq!(head.start[1], "201");
        assert_eq!((head.fields.get("set-cookie"), head.fields.get("transfer-encoding")), (Some("a=1"), Some("chunked")));
        assert_eq!(client.read_exactly(10), b"5\r\nfirst\r\n");
        fs::write(&go, "").expect("ours");
        assert_eq!(client.read_exactly(17), b"7\r\n second\r\n0\r\n\r\n");
        assert_eq!(client.get("/shop/quick").status, 201, "the connection goes on");
    }
}

#[test]
fn a_stream_goes_out_over_http2_as_it_comes() {
    let gateway = hosted(&waiting(r#"{"statusCode":201}"#), "event: v1, response: streamed");
    let go = gateway.folder.path("go");
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/shop", &[("x-go", &go.display().to_string())]);
    assert_eq!(client.head(stream).status, 201);
    assert_eq!(client.body(stream, 5), b"first");
    fs::write(&go, "").expect("ours");
    assert_eq!(client.response(stream).text(), "first second");
}

#[test]
fn a_stream_without_its_beginning_is_all_body_or_no_response() {
    let bare = "
def handler(event, headers):
    return Stream(iter([b'all ', b'body']), 'text/plain')
";
    let answer = hosted(bare, "event: url, response: streamed").get("/shop");
    assert_eq!((answer.status, answer.text(), answer.header("content-type")), (200, "all body".to_owned(), Some("text/plain")));
    fault(&hosted(bare, "event: v1, response: streamed").get("/shop"), 502, "function_malformed");
    let endless = "
def handler(event, headers):
    return Stream(b' ' * 1000 for _ in range(100))
";
    fault(&hosted(endless, "event: url, response: streamed").get("/shop"), 502, "function_malformed");
}

#[test]
fn a_stream_that_nobody_wanted_as_one_is_read_to_its_end() {
    let handler = "
def handler(event, headers):
    return Stream(iter([b'{\"statusCode\":203}', NULS, b'whole']))
";
    let answer = hosted(handler, "event: url").get("/shop");
    assert_eq!((answer.status, answer.text(), answer.header("content-length")), (203, "whole".to_owned(), Some("5")));
}

#[test]
fn a_result_that_comes_whole_is_a_response_where_a_stream_was_hoped_for() {
    let answer = hosted(RETURN, "response: streamed").ask("POST", "/shop", "", r#"{"statusCode":203,"body":"x"}"#);
    assert_eq!((answer.status, answer.text()), (203, "x".to_owned()));
}

#[test]
fn a_function_that_breaks_off_in_the_middle_breaks_the_response_off() {
    let handler = "
def handler(event, headers):
    def pieces():
        yield b'{}' + NULS + b'some'
        while not os.path.exists(event['headers'].get('x-go', '/')):
            time.sleep(0.002)
        os._exit(3)
    return Stream(pieces())
";
    let gateway = hosted(handler, "event: url, response: streamed");
    let go = |name: &str| gateway.folder.path(name);
    let mut client = gateway.client();
    client.send(format!("GET /shop HTTP/1.1\r\nHost: x\r\nX-Go: {}\r\n\r\n", go("1").display()));
    client.head();
    assert_eq!(client.read_exactly(9), b"4\r\nsome\r\n");
    fs::write(go("1"), "").expect("ours");
    assert_eq!(client.read_to_end().0, b"", "no last chunk");
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/shop", &[("x-go", &go("2").display().to_string())]);
    assert_eq!(client.body(stream, 4), b"some");
    fs::write(go("2"), "").expect("ours");
    assert!(client.try_response(stream).is_err(), "the stream is reset");
}

#[test]
fn a_function_for_which_nobody_waits_runs_after_the_answer() {
    let backend = Backend::status(200);
    let handler = "
def handler(event, headers):
    urllib.request.urlopen(event['body'])
";
    let gateway = hosted_with(handler, "invocation: event", "", &[]);
    let answer = gateway.ask("POST", "/shop", "", &format!("http://{}/done", backend.address()));
    assert_eq!((answer.status, answer.body.len()), (202, 0));
    maitred_testkit::eventually("the function ran", || backend.requests().iter().any(|request| request.target == "/done"));
}

#[test]
fn who_finds_no_place_is_told_to_come_again() {
    let handler = "
def handler(event, headers):
    while not os.path.exists(event['headers'].get('x-go', '/')):
        time.sleep(0.002)
    return 'done'
";
    let gateway = hosted(handler, "queue: { length: 0, timeout: 10s }");
    let go = gateway.folder.path("go");
    let mut busy: Vec<_> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut busy {
        client.send(format!("GET /shop HTTP/1.1\r\nHost: x\r\nX-Go: {}\r\n\r\n", go.display()));
    }
    let refused = || {
        let answer = gateway.get("/shop");
        (answer.status == 503).then(|| answer.header("retry-after").map(str::to_owned))
    };
    // Until both have taken a place.
    let mut told = None;
    maitred_testkit::eventually("there is no place left", || {
        told = refused();
        told.is_some()
    });
    assert_eq!(told.flatten().as_deref(), Some("1"));
    fs::write(&go, "").expect("ours");
    for client in &mut busy {
        assert_eq!(client.response().text(), "done");
    }
}

#[test]
fn who_goes_away_holds_up_nobody() {
    let handler = "
def handler(event, headers):
    while not os.path.exists(event['headers'].get('x-go', '/')):
        time.sleep(0.002)
    return 'done'
";
    let gateway = hosted(handler, "queue: { length: 1, timeout: 10s }");
    let go = gateway.folder.path("go");
    for _ in 0..2 {
        let mut client = gateway.client();
        client.send(format!("GET /shop HTTP/1.1\r\nHost: x\r\nX-Go: {}\r\n\r\n", go.display()));
    }
    maitred_testkit::eventually("they are seen to have gone", || gateway.open() == 0);
    fs::write(&go, "").expect("ours");
    assert_eq!(gateway.get("/shop").text(), "done");
}

#[test]
fn a_body_that_waits_to_be_asked_for_is_asked_for() {
    let gateway = hosted(RETURN, "");
    let mut client = gateway.client();
    client.send("POST /shop HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.head().start[1], "100");
    client.send("\"hi\"");
    assert_eq!(client.response().text(), "hi");
}

#[test]
fn a_client_that_reads_slowly_slows_the_function_down() {
    const SAID: usize = 64 * 1024 * 1024;
    let handler = "
def handler(event, headers):
    def pieces():
        yield b'{}' + NULS
        for _ in range(1024):
            yield b'x' * 65536
    return Stream(pieces())
";
    let gateway = hosted(handler, "event: url, response: streamed");
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/shop", &[]);
    client.body(stream, 65_535);
    assert_eq!(client.received(stream), 65_535);
    client.flowing();
    assert_eq!(client.response(stream).body.len(), SAID, "all of it once it wants to");
}

#[test]
fn more_than_six_megabytes_reach_no_function() {
    let gateway = hosted_with(ECHO, "", "    policies: { body_bytes: 20MB }\n", &[]);
    fault(&gateway.ask("POST", "/shop", "", &"x".repeat(7_000_000)), 413, "body_too_large");
    let balanced = hosted_with(ECHO, "event: alb", "    policies: { body_bytes: 20MB }\n", &[]);
    fault(&balanced.ask("POST", "/shop", "", &"x".repeat(1_100_000)), 413, "body_too_large");
    // As text it fits, as base64 it does not.
    let bytes = "x".repeat(5_000_000);
    fault(&gateway.ask("POST", "/shop", "Content-Type: image/png\r\n", &bytes), 413, "body_too_large");
}

#[test]
fn head_is_answered_as_get_without_a_body() {
    let gateway = hosted(
        "
def handler(event, headers):
    return {'statusCode': 200, 'body': 'twelve bytes'}
",
        "",
    );
    let mut client = gateway.client();
    client.send("HEAD /shop/x HTTP/1.1\r\nHost: x\r\n\r\n");
    let head = client.response_to("HEAD");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("12"), 0));
    assert_eq!(client.get("/shop/x").text(), "twelve bytes");
}
