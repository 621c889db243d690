//! gRPC passes through: HTTP/2 both sides, messages and half-closed streams in both directions, trailers that say how it ended. What
//! the gateway itself has to say, it says as gRPC does. Knows of messages no more than their five bytes of length.

use maitred_testkit::h2::{Frame, code, hpack};
use maitred_testkit::{Gateway, H2Backend, H2Broken, H2Client, H2Response, eventually, gateway, gateway_to_h2c, nobody};
use std::time::Duration;

const GRPC: [(&str, &str); 3] = [("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "kit")];

/// A message with its five bytes in front.
fn message(text: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let [0, a, b, c, d, rest @ ..] = bytes {
        let (text, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        all.push(String::from_utf8_lossy(text).into_owned());
        bytes = rest;
    }
    assert!(bytes.is_empty(), "a message that broke off");
    all
}

/// A service with one method of each kind.
fn service() -> H2Backend {
    H2Backend::new(|request, stream| {
        let ok = [("grpc-status", "0"), ("grpc-message", "")];
        match request.path.as_str() {
            "/kit.Kit/Unary" => {
                let asked = messages(&stream.body());
                stream.head(200, &[("content-type", "application/grpc")], false);
                stream.data(message(&format!("hello {}", asked.join(" "))), false);
                stream.trailers(&ok);
            }
            "/kit.Kit/Download" => {
                stream.body();
                stream.head(200, &[("content-type", "application/grpc")], false);
                for at in 0..100 {
                    stream.data(message(&at.to_string()), false);
                }
                stream.trailers(&ok);
            }
            "/kit.Kit/Upload" => {
                let mut all = Vec::new();
                while let Some(piece) = stream.piece() {
                    all.extend(piece);
                }
                stream.head(200, &[("content-type", "application/grpc")], false);
                stream.data(message(&messages(&all).len().to_string()), false);
                stream.trailers(&ok);
            }
            "/kit.Kit/Chat" => {
                stream.head(200, &[("content-type", "application/grpc")], false);
                // Each is answered before the next is asked.
                while let Some(piece) = stream.piece() {
                    for text in messages(&piece) {
                        stream.data(message(&format!("you said {text}")), false);
                    }
                }
                stream.data(message("bye"), false);
                stream.trailers(&ok);
            }
            "/kit.Kit/Refuse" => {
                // Nothing but trailers: the head ends the stream.
                stream.head(
                    200,
                    &[("content-type", "application/grpc"), ("grpc-status", "7"), ("grpc-message", "not%20you")],
                    true,
                );
            }
            _ => {
                stream.cancelled();
            }
        }
    })
}

#[track_caller]
fn call(client: &mut H2Client, path: &str, extra: &[(&str, &str)]) -> u32 {
    let headers = [&GRPC[..], extra].concat();
    client.open("POST", path, &headers)
}

/// A fault of the gateway's own, as gRPC has them: HTTP 200, nothing but trailers.
#[track_caller]
fn is_status(response: &H2Response, status: &str) {
    assert_eq!((response.status, response.body.len()), (200, 0), "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/grpc"), "{response:?}");
    let told = response.header("grpc-status").or_else(|| response.trailers.get("grpc-status"));
    assert_eq!(told, Some(status), "{response:?}");
    assert!(response.header("x-request-id").is_some());
}

#[test]
fn a_unary_call() {
    let backend = service();
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Unary", &[("x-meta", "1"), ("x-bytes-bin", "AAEC")]);
    client.data(stream, message("world"), true);
    let response = client.response(stream);
    assert_eq!((response.status, messages(&response.body)), (200, vec!["hello world".to_owned()]));
    assert_eq!((response.trailers.get("grpc-status"), response.trailers.get("grpc-message")), (Some("0"), Some("")));
    let received = backend.only();
    assert_eq!((received.header("te"), received.header("content-type")), (Some("trailers"), Some("application/grpc")));
    assert_eq!((received.header("x-meta"), received.header("x-bytes-bin")), (Some("1"), Some("AAEC")));
}

#[test]
fn the_back_end_streams() {
    let backend = service();
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Download", &[]);
    client.data(stream, message("all"), true);
    let response = client.response(stream);
    assert_eq!(messages(&response.body), (0..100).map(|at| at.to_string()).collect::<Vec<_>>());
    assert_eq!(response.trailers.get("grpc-status"), Some("0"));
}

#[test]
fn the_client_streams() {
    let backend = service();
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Upload", &[]);
    for at in 1..=50 {
        client.data(stream, message("more"), false);
        eventually("each message is there before the next is sent", || {
            backend.requests().first().is_some_and(|request| request.body.len() == at * message("more").len())
        });
    }
    client.data(stream, "", true);
    assert_eq!(messages(&client.response(stream).body), ["50"]);
}

#[test]
fn both_stream_and_each_closes_its_half() {
    let backend = service();
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Chat", &[]);
    assert_eq!(client.head(stream).status, 200, "before a message was sent");
    let mut length = 0;
    for at in 0..20 {
        client.data(stream, message(&at.to_string()), false);
        length += message(&format!("you said {at}")).len();
        client.body(stream, length);
    }
    assert!(!client.is_ended(stream));
    client.data(stream, "", true);
    let response = client.response(stream);
    assert_eq!((messages(&response.body).len(), response.trailers.get("grpc-status")), (21, Some("0")));
    assert!(backend.only().complete);
}

#[test]
fn nothing_but_trailers() {
    let backend = service();
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Refuse", &[]);
    client.data(stream, message("me?"), true);
    let response = client.response(stream);
    let told = response.header("grpc-status").or_else(|| response.trailers.get("grpc-status"));
    assert_eq!((response.status, response.body.len(), told), (200, 0, Some("7")));
    assert_eq!(response.header("grpc-message").or_else(|| response.trailers.get("grpc-message")), Some("not%20you"));
    assert_eq!(response.header("content-length"), None, "there is no body, not one of no bytes");
}

#[test]
fn a_call_that_outlives_its_deadline_is_deadline_exceeded() {
    let backend = service();
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Never", &[("grpc-timeout", "50m")]);
    client.data(stream, message("?"), true);
    // Real time passes too.
    is_status(&client.response(stream), "4");
    eventually("the back end is told", || backend.only().reset.is_some());
    assert_eq!(backend.only().header("grpc-timeout").map(|timeout| timeout.ends_with(['m', 'u', 'n'])), Some(true));
}

#[test]
fn deadlines_have_units() {
    let backend = service();
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    for (timeout, seconds) in [("2S", 3), ("1M", 61), ("20000m", 21)] {
        let count = backend.count();
        let stream = call(&mut client, "/kit.Kit/Never", &[("grpc-timeout", timeout)]);
        client.data(stream, message("?"), true);
        backend.wait_for(count + 1);
        eventually(timeout, || {
            gateway.turn(Duration::from_secs(seconds));
            client.is_ended(stream)
        });
        is_status(&client.response(stream), "4");
    }
}

#[test]
fn a_deadline_cuts_a_stream_that_has_begun() {
    let backend = H2Backend::new(|_, stream| {
        stream.head(200, &[("content-type", "application/grpc")], false);
        stream.data(message("one"), false);
        stream.cancelled();
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Half", &[("grpc-timeout", "3S")]);
    client.data(stream, "", true);
    client.body(stream, message("one").len());
    eventually("it is over", || {
        gateway.turn(Duration::from_secs(1));
        client.is_ended(stream) || client.was_reset(stream).is_some()
    });
    match client.try_response(stream) {
        Ok(response) => assert_eq!(response.trailers.get("grpc-status"), Some("4"), "{response:?}"),
        Err(broken) => assert!(matches!(broken, H2Broken::Reset(_)), "{broken:?}"),
    }
    eventually("the back end is told", || backend.only().reset.is_some());
}

#[test]
fn a_malformed_deadline_is_none() {
    let backend = service();
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    for timeout in ["", "5", "5x", "-1S", "1.5S", "999999999S"] {
        let stream = call(&mut client, "/kit.Kit/Unary", &[("grpc-timeout", timeout)]);
        client.data(stream, message("world"), true);
        let response = client.response(stream);
        assert_eq!(response.status, 200, "{timeout:?}: {response:?}");
        assert!(messages(&response.body) == ["hello world"] || response.header("grpc-status") == Some("13"), "{timeout:?}");
    }
}

fn of_nobody(route: &str) -> (Gateway, socket2::Socket) {
    let (address, held) = nobody();
    let yaml = format!(
        "upstreams: {{ kit: {{ endpoints: [\"http://$kit\"], protocol: h2c }} }}
apis: {{ all: {{ routes: [ \"POST {route}\": kit ] }} }}"
    );
    (gateway(&yaml, &[("kit", address)]), held)
}

#[test]
fn where_nobody_listens_it_is_unavailable() {
    let (gateway, _held) = of_nobody("/kit.Kit/{method}");
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Unary", &[]);
    client.data(stream, message("world"), true);
    is_status(&client.response(stream), "14");
}

#[test]
fn where_no_route_is_it_is_unimplemented() {
    let (gateway, _held) = of_nobody("/other.Other/{method}");
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Unary", &[]);
    client.data(stream, message("world"), true);
    is_status(&client.response(stream), "12");
    for content_type in ["application/grpc+proto", "application/grpc; charset=utf-8", "application/grpc+json"] {
        let stream = client.open("POST", "/kit.Kit/Unary", &[("content-type", content_type), ("te", "trailers")]);
        client.data(stream, message("world"), true);
        is_status(&client.response(stream), "12");
    }
    let plain = client.request("POST", "/kit.Kit/Unary", &[("content-type", "application/json")], "{}");
    assert_eq!((plain.status, plain.header("grpc-status")), (404, None), "who does not speak gRPC is not answered in it");
    let web = client.request("POST", "/kit.Kit/Unary", &[("content-type", "application/grpc-web+proto")], "x");
    assert_eq!(web.status, 404);
}

#[test]
fn refusals_of_policies_are_grpc_s_too() {
    let backend = service();
    let yaml = "upstreams: { kit: { endpoints: [\"http://$kit\"], protocol: h2c } }
apis:
  all:
    routes:
      - { match: \"POST /kit.Kit/{method}\", proxy: kit, ip: { deny: [127.0.0.0/8] } }
      - { match: \"POST /small.Small/{method}\", proxy: kit, body_bytes: 10B }
";
    let gateway = gateway(yaml, &[("kit", backend.address())]);
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Unary", &[]);
    client.data(stream, message("world"), true);
    is_status(&client.response(stream), "7");
    let stream = call(&mut client, "/small.Small/Unary", &[]);
    client.data(stream, message("much too long a message"), true);
    let response = client.response(stream);
    assert!(matches!(response.header("grpc-status"), Some("8" | "3" | "11")), "{response:?}");
    assert_eq!((response.status, response.body.len()), (200, 0));
}

/// PROTOCOL-HTTP2.md of gRPC, "Errors": what a client is told that is connected to the back end itself.
const RESETS: [(u32, &str); 7] = [
    (code::NO_ERROR, "13"),
    (code::PROTOCOL_ERROR, "13"),
    (code::INTERNAL_ERROR, "13"),
    (code::CANCEL, "1"),
    (code::ENHANCE_YOUR_CALM, "8"),
    (0xc, "7"),
    (0xdead_beef, "13"),
];

#[test]
fn a_call_that_the_back_end_resets_has_the_status_of_its_code() {
    let backend = H2Backend::new(|request, stream| {
        stream.body();
        if request.path == "/kit.Kit/Head" {
            stream.head(200, &[("content-type", "application/grpc")], false);
        } else if request.path == "/kit.Kit/Half" {
            stream.head(200, &[("content-type", "application/grpc")], false);
            stream.data(message("one"), false);
        }
        stream.reset(request.header("code").expect("a code").parse().expect("a number"));
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    for (code, status) in RESETS {
        for method in ["None", "Head", "Half"] {
            let stream = call(&mut client, &format!("/kit.Kit/{method}"), &[("code", &code.to_string())]);
            client.data(stream, message("world"), true);
            let response = client.response(stream);
            let found = response.header("grpc-status").or(response.trailers.get("grpc-status"));
            assert_eq!((response.status, found), (200, Some(status)), "{method}, reset with {code}: {response:?}");
        }
    }
}

#[test]
fn a_back_end_that_goes_away_is_unavailable() {
    let backend = H2Backend::new(|_, stream| {
        stream.body();
        stream.abort();
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Unary", &[]);
    client.data(stream, message("world"), true);
    is_status(&client.response(stream), "14");
}

#[test]
fn a_stream_that_breaks_off_never_looks_well_ended() {
    let backend = H2Backend::new(|_, stream| {
        stream.head(200, &[("content-type", "application/grpc")], false);
        stream.data(message("one"), false);
        stream.reset(code::INTERNAL_ERROR);
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Half", &[]);
    client.data(stream, "", true);
    match client.try_response(stream) {
        Ok(response) => assert!(!matches!(response.trailers.get("grpc-status"), None | Some("0")), "{response:?}"),
        Err(broken) => assert!(matches!(broken, H2Broken::Reset(_)), "{broken:?}"),
    }
}

#[test]
fn a_call_that_is_cancelled_is_cancelled_at_the_back_end() {
    let backend = service();
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Never", &[]);
    client.data(stream, message("?"), false);
    backend.wait_for(1);
    client.reset(stream, code::CANCEL);
    eventually("the back end is told", || backend.only().reset == Some(code::CANCEL));
    let again = call(&mut client, "/kit.Kit/Unary", &[]);
    client.data(again, message("world"), true);
    assert_eq!(client.response(again).trailers.get("grpc-status"), Some("0"));
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_message_larger_than_any_window_passes() {
    let backend = service();
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    client.flowing();
    let large = "x".repeat(3_000_000);
    let stream = call(&mut client, "/kit.Kit/Unary", &[]);
    client.flowing();
    client.data(stream, message(&large), true);
    let response = client.response(stream);
    assert_eq!(messages(&response.body)[0].len(), large.len() + 6);
}

#[test]
fn trailers_may_be_long_and_of_bytes() {
    let backend = H2Backend::new(|_, stream| {
        stream.body();
        stream.head(200, &[("content-type", "application/grpc")], false);
        let details = "A".repeat(5000);
        let fields = [("grpc-status", "13"), ("grpc-message", "it%20broke"), ("grpc-status-details-bin", &details)];
        stream.frame(Frame::headers(stream.id(), hpack::block(&fields), true));
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = call(&mut client, "/kit.Kit/Unary", &[]);
    client.data(stream, message("world"), true);
    let response = client.response(stream);
    assert_eq!(response.trailers.get("grpc-status-details-bin").map(str::len), Some(5000));
    assert_eq!(response.trailers.get("grpc-status"), Some("13"));
}

#[test]
fn health_and_other_plain_requests_live_beside_it() {
    let backend = service();
    let yaml = "upstreams: { kit: { endpoints: [\"http://$kit\"], protocol: h2c } }
apis: { all: { routes: [ { match: GET /health, respond: { text: fine } }, \"POST /kit.Kit/{method}\": kit ] } }";
    let gateway = gateway(yaml, &[("kit", backend.address())]);
    let mut client = gateway.h2();
    assert_eq!(client.get("/health").text(), "fine");
    let stream = call(&mut client, "/kit.Kit/Unary", &[]);
    client.data(stream, message("world"), true);
    assert_eq!(client.response(stream).trailers.get("grpc-status"), Some("0"));
}

#[test]
fn a_call_that_outlives_the_drain_is_told_so() {
    let backend = service();
    let mut gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let begun = call(&mut client, "/kit.Kit/Chat", &[]);
    client.data(begun, message("one"), false);
    let wanted = message("you said one");
    assert_eq!(client.body(begun, wanted.len()), wanted);
    let unanswered = call(&mut client, "/kit.Kit/Never", &[]);
    client.data(unanswered, message("?"), false);
    let ended = call(&mut client, "/kit.Kit/Chat", &[]);
    client.data(ended, message("two"), false);
    backend.wait_for(3);
    gateway.begin_drain();
    client.data(ended, message("three"), true);
    let response = client.response(ended);
    assert_eq!(
        (messages(&response.body), response.trailers.get("grpc-status")),
        (vec!["you said two".into(), "you said three".into(), "bye".into()], Some("0"))
    );
    assert!(!gateway.drain(Duration::from_millis(50)), "two are still there");
    gateway.say_goodbye();
    let response = client.response(begun);
    assert_eq!((response.status, messages(&response.body)), (200, vec!["you said one".into()]));
    assert_eq!(response.trailers.get("grpc-status"), Some("14"), "{response:?}");
    assert!(response.trailers.get("grpc-message").is_some_and(|words| words.contains("gateway")), "{response:?}");
    is_status(&client.response(unanswered), "14");
    assert_eq!(client.ending().map(|goaway| goaway.code), Some(code::NO_ERROR));
    eventually("the back end is told", || backend.requests()[1].reset == Some(code::CANCEL));
    drop(client);
    eventually("nothing is left to be cut", || gateway.open() == 0);
    gateway.stop();
}
