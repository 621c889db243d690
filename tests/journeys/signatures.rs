//! Signed requests: RFC 9421 with a digest of the body, AWS's Signature Version 4, bodies that must be read before anybody comes in.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use maitred_core::wire::base64;
use maitred_testkit::{Backend, Client, Folder, Gateway, Latch, eventually, gateway, gateway_with};
use std::sync::Barrier;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SIGNED: &str = "workers: 2
upstreams: { kitchen: \"http://$kitchen\" }
authorizers:
  partner:
    http_signature:
      components: [\"@method\", \"@authority\", \"@path\", \"@query\", content-digest]
      keys: { partner-1: { algorithm: hmac-sha256, secret: the-secret-of-partner-1 } }
    strip: true
  often: { http_signature: { replay: allow, keys: { partner-1: { algorithm: hmac-sha256, secret: the-secret-of-partner-1 } } } }
  aws:
    aws_signature: { region: eu-west-1, keys: { AKIDPARTNER: the-secret-of-akid } }
    strip: true
consumers:
  bakery: { groups: [staff], identities: [{ authorizer: partner, subject: partner-1 }, { authorizer: aws, subject: AKIDPARTNER }] }
limits: { buffered_bytes: 1MiB, failed_credentials: { rate: 1000/s, burst: 1000 } }
apis:
  all:
    policies: { authenticate: [partner, aws] }
    routes:
      - { match: ANY /, proxy: kitchen }
      - { match: ANY /staff, authorize: { groups: [staff] }, proxy: kitchen }
      - { match: ANY /small, body_bytes: 10B, proxy: kitchen }
      - { match: ANY /large, body_bytes: 10MiB, proxy: kitchen }
      - { match: ANY /often, authenticate: [often], proxy: kitchen }
";

fn kitchen() -> (Backend, Gateway) {
    let backend = Backend::new(|_, conn| {
        let body = conn.body();
        conn.answer(200, "", body);
    });
    let gateway = gateway(SIGNED, &[("kitchen", backend.address())]);
    (backend, gateway)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn text(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    base64::encode(bytes, &mut text);
    String::from_utf8(text).expect("ASCII")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// The headers of a request to `gateway.test` that partner-1 signed. `nonce`: makes it another than the last.
fn signed(method: &str, target: &str, body: &[u8], nonce: &str) -> [(&'static str, String); 3] {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let field = format!("sha-256=:{}:", text(digest(&SHA256, body).as_ref()));
    let input = format!(
        "(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\");created={};keyid=\"partner-1\";nonce=\"{nonce}\"",
        now()
    );
    let base = format!(
        "\"@method\": {method}\n\"@authority\": gateway.test\n\"@path\": {path}\n\"@query\": ?{query}\n\"content-digest\": {field}\n\"@signature-params\": {input}"
    );
    let signature = format!("s=:{}:", text(&mac(b"the-secret-of-partner-1", &base)));
    [("content-digest", field), ("signature-input", format!("s={input}")), ("signature", signature)]
}

fn lines(headers: &[(&str, String)]) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

#[test]
fn a_signed_request_comes_in_and_one_that_is_altered_does_not() {
    let (backend, gateway) = kitchen();
    let headers = lines(&signed("GET", "/staff?a=1", b"", "1"));
    for (method, target, headers, status) in [
        ("GET", "/staff?a=1", "", 401),
        ("GET", "/staff?a=2", &*headers, 401),
        ("GET", "/staff", &headers, 401),
        ("PUT", "/staff?a=1", &headers, 401),
        ("GET", "/?a=1", &headers, 401),
        ("GET", "/%73taff?a=1", &headers, 401),
        ("GET", "/staff?a=1", &headers.replace("partner-1", "partner-2"), 401),
        ("GET", "/staff?a=1", &headers, 200),
    ] {
        assert_eq!(gateway.ask(method, target, headers, "").status, status, "{method} {target} {headers}");
    }
    let received = backend.only();
    assert!(
        !received.headers.has("signature") && !received.headers.has("signature-input") && received.headers.has("content-digest")
    );
    let told = gateway.ask("GET", "/", "", "");
    assert_eq!(
        told.headers.all("www-authenticate"),
        [
            "Signature components=\"@method @authority @path @query content-digest\"",
            "AWS4-HMAC-SHA256 region=\"eu-west-1\", service=\"execute-api\""
        ]
    );
}

/// It opens to whoever reads the log, for as long as it says.
#[test]
fn a_presigned_address_is_logged_without_what_opens() {
    let folder = Folder::new();
    let log = folder.path("access.log");
    let kitchen = Backend::status(200);
    let yaml = format!("telemetry: {{ access_log: {{ to: {} }} }}\n{SIGNED}", log.display());
    let gateway = gateway_with(&yaml, &[("kitchen", kitchen.address())], &[]);
    let query = "v=1&X-Amz-Expires=300&X-Amz-Signature=0123456789abcdef&X-Amz-Security-Token=t0ken";
    assert_eq!(gateway.ask("GET", &format!("/?{query}"), "", "").status, 401);
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    eventually("a line", || read().ends_with('\n'));
    let shown = "\"path\":\"/?v=1&X-Amz-Expires=300&X-Amz-Signature=***&X-Amz-Security-Token=***\"";
    assert!(read().contains(shown), "{}", read());
}

#[test]
fn an_old_signature_opens_nothing() {
    let (_backend, gateway) = kitchen();
    let headers = lines(&signed("GET", "/", b"", "1"));
    gateway.turn(Duration::from_secs(302));
    assert_eq!(gateway.ask("GET", "/", &headers, "").status, 401);
}

#[test]
fn a_body_is_held_against_its_digest_and_forwarded_whole() {
    let (backend, gateway) = kitchen();
    let body: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
    let mut altered = body.clone();
    altered[150_000] ^= 1;
    for (round, (sent, status)) in [(&body, 200), (&altered, 401), (&body, 200)].into_iter().enumerate() {
        let headers = |how: &str| signed("POST", "/", &body, &format!("{how}{round}"));
        // By its length.
        let mut client = gateway.client();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: gateway.test\r\n{}Content-Length: {}\r\n\r\n",
            lines(&headers("length")),
            sent.len()
        ));
        client.send(sent);
        let answer = client.response();
        assert_eq!((answer.status, status == 401 || answer.body == body), (status, true), "length, {round}");
        // In chunks.
        let mut client = gateway.client();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: gateway.test\r\n{}Transfer-Encoding: chunked\r\n\r\n",
            lines(&headers("chunked"))
        ));
        for piece in sent.chunks(30_000) {
            client.send(format!("{:x}\r\n", piece.len()));
            client.send(piece);
            client.send("\r\n");
        }
        client.send("0\r\nX-Trailer: 1\r\n\r\n");
        let answer = client.response();
        assert_eq!((answer.status, status == 401 || answer.body == body), (status, true), "chunked, {round}");
        if status == 200 {
            assert_eq!(backend.last().trailers.get("x-trailer"), Some("1"));
        }
        // By HTTP/2, with and without its length.
        for length in [None, Some(sent.len().to_string())] {
            let how = if length.is_some() { "h2 length" } else { "h2" };
            let headers = headers(how);
            let mut fields: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            fields.extend(length.as_deref().map(|length| ("content-length", length)));
            let mut client = gateway.h2();
            client.flowing();
            let answer = client.request("POST", "/", &fields, sent);
            assert_eq!((answer.status, status == 401 || answer.body == body), (status, true), "{how}, {round}");
        }
    }
    assert_eq!(backend.count(), 8, "of what was altered the back end gets nothing");
}

#[test]
fn a_body_that_waits_to_be_asked_for_is_asked_for_here() {
    let (backend, gateway) = kitchen();
    let headers = lines(&signed("POST", "/", b"hello", "1"));
    let mut client = gateway.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: gateway.test\r\n{headers}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"));
    assert_eq!(client.head().start[1], "100");
    client.send("hello");
    assert_eq!((client.response().text().as_str(), backend.only().header("expect")), ("hello", None));
    // Who is not known is not asked for a body.
    let wrong = headers.replace("partner-1", "partner-2");
    client.send(format!("POST / HTTP/1.1\r\nHost: gateway.test\r\n{wrong}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"));
    assert_eq!(client.head().start[1], "401");
}

#[test]
fn a_body_over_its_limit_is_refused_before_all_of_it_is_read() {
    let (backend, gateway) = kitchen();
    let headers = lines(&signed("POST", "/small", b"hello world", "1"));
    assert_eq!(gateway.ask("POST", "/small", &headers, "hello world").status, 413);
    let mut client = gateway.client();
    client.send(format!(
        "POST /small HTTP/1.1\r\nHost: gateway.test\r\n{headers}Transfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n"
    ));
    assert_eq!(client.response().status, 413);
    assert_eq!(backend.count(), 0);
}

static LARGE: [u8; 900_000] = [b'x'; 900_000];

/// Asks with a large body of its own.
fn ask_large(gateway: &Gateway, nonce: u32, headers: &str) -> Client {
    let signed = lines(&signed("POST", "/large", &LARGE, &nonce.to_string()));
    let mut client = gateway.client();
    let length = LARGE.len();
    client.send(format!("POST /large HTTP/1.1\r\nHost: gateway.test\r\n{headers}{signed}Content-Length: {length}\r\n\r\n"));
    let _ = client.try_send(LARGE);
    client
}

#[test]
fn bodies_held_whole_have_so_much_room_and_no_more() {
    let (backend, gateway) = kitchen();
    let signed = signed("POST", "/large", &LARGE, "0");
    let mut fields: Vec<(&str, &str)> = signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let length = LARGE.len().to_string();
    fields.push(("content-length", &length));
    let mut first = gateway.h2();
    first.flowing();
    let id = first.open("POST", "/large", &fields);
    // What the window let through was read, and is held: all but the last 64 KiB at least.
    assert!(first.data(id, &LARGE[1..], false));
    let answer = ask_large(&gateway, 1, "").response();
    assert_eq!((answer.status, backend.count()), (503, 0));
    assert!(answer.text().contains("buffer_full"), "{}", answer.text());
    assert!(first.data(id, "x", true));
    assert_eq!(first.response(id).body.len(), LARGE.len());
    let mut nonces = 2..;
    eventually("room is given back", || {
        let mut client = ask_large(&gateway, nonces.next().expect("another"), "");
        matches!(client.try_response("POST"), Ok(answer) if answer.status == 200)
    });
}

#[test]
fn a_body_that_was_sent_on_takes_no_room_while_its_answer_is_awaited() {
    let latch = Latch::new();
    let opened = latch.clone();
    let backend = Backend::new(move |received, conn| {
        let body = conn.body();
        if received.header("x-slow").is_none() || conn.wait(&opened) {
            conn.answer(200, "", body.len().to_string());
        }
    });
    let gateway = gateway(SIGNED, &[("kitchen", backend.address())]);
    let mut slow = ask_large(&gateway, 0, "X-Slow: 1\r\n");
    backend.wait_for(1);
    let mut nonces = 1..;
    eventually("the first has made room", || {
        let mut client = ask_large(&gateway, nonces.next().expect("another"), "");
        matches!(client.try_response("POST"), Ok(answer) if answer.text() == "900000")
    });
    latch.open();
    assert_eq!(slow.response().text(), "900000");
}

#[test]
fn a_signature_opens_once_whichever_worker_it_comes_to() {
    const CLIENTS: usize = 16;
    let (backend, gateway) = kitchen();
    for round in 0..5 {
        let headers = lines(&signed("GET", "/", b"", &round.to_string()));
        let barrier = Barrier::new(CLIENTS);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let ask = || {
                let mut client = gateway.client();
                barrier.wait();
                client.request("GET", "/", &headers, "").status
            };
            let asking: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|asked| asked.join().expect("an answer")).collect()
        });
        let good = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!((good, statuses.iter().all(|status| [200, 401].contains(status))), (1, true), "{statuses:?}");
        assert_eq!(backend.count(), round + 1);
    }
}

#[test]
fn a_reload_does_not_forget_which_signatures_were_used() {
    let (backend, gateway) = kitchen();
    let headers = lines(&signed("GET", "/", b"", "1"));
    assert_eq!(gateway.ask("GET", "/", &headers, "").status, 200);
    let changed = SIGNED.replace("strip: true", "strip: false").replace("$kitchen", &backend.address().to_string());
    gateway.publish(&changed);
    assert_eq!(gateway.ask("GET", "/", &headers, "").status, 401);
    assert_eq!(gateway.ask("GET", "/", &lines(&signed("GET", "/", b"", "2")), "").status, 200);
}

#[test]
fn where_that_is_allowed_a_signature_opens_until_it_is_old() {
    let (backend, gateway) = kitchen();
    let headers = lines(&signed("GET", "/often", b"", "1"));
    for _ in 0..3 {
        assert_eq!(gateway.ask("GET", "/often", &headers, "").status, 200);
    }
    assert!(backend.last().headers.has("signature"));
}

/// `20150830T123600Z` of a moment.
fn stamp(time: u64) -> String {
    let (mut days, second) = (time / 86_400, time % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 0;
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year:04}{:02}{:02}T{:02}{:02}{:02}Z", month + 1, days + 1, second / 3600, second / 60 % 60, second % 60)
}

fn aws_signature(stamp: &str, canonical: &str) -> String {
    let scope = [&stamp[..8], "eu-west-1", "execute-api", "aws4_request"];
    let key = scope.iter().fold(b"AWS4the-secret-of-akid".to_vec(), |key, part| mac(&key, part));
    let hash = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
    hex(&mac(&key, &format!("AWS4-HMAC-SHA256\n{stamp}\n{}\n{hash}", scope.join("/"))))
}

#[test]
fn requests_signed_as_awss_come_in() {
    let (backend, gateway) = kitchen();
    let stamp = stamp(now());
    let body = "{\"a\": 1}";
    let hash = hex(digest(&SHA256, body.as_bytes()).as_ref());
    let signed = "host;x-amz-date";
    let canonical = format!("POST\n/staff\na=1&b=2\nhost:gateway.test\nx-amz-date:{stamp}\n\n{signed}\n{hash}");
    let credential = format!("AKIDPARTNER/{}/eu-west-1/execute-api/aws4_request", &stamp[..8]);
    let headers = format!(
        "X-Amz-Date: {stamp}\r\nAuthorization: AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={}\r\n",
        aws_signature(&stamp, &canonical)
    );
    for (target, headers, body, status) in [
        ("/staff?b=2&a=1", &*headers, "{\"a\": 2}", 401),
        ("/staff?b=2&a=2", &headers, body, 401),
        ("/staff?b=2&a=1", &headers.replace("AKIDPARTNER", "AKIDNOBODY"), body, 401),
        ("/staff?b=2&a=1", &format!("{headers}X-Amz-Security-Token: x\r\n"), body, 401),
        ("/staff?b=2&a=1", &headers, body, 200),
        // AWS takes one as often as it comes, and so is it here.
        ("/staff?b=2&a=1", &headers, body, 200),
    ] {
        assert_eq!(gateway.ask("POST", target, headers, body).status, status, "{target} {headers} {body}");
    }
    assert_eq!((backend.count(), backend.last().body), (2, body.as_bytes().to_vec()));
    assert!(!backend.last().headers.has("authorization"));
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={stamp}&X-Amz-Expires=3600&X-Amz-SignedHeaders=host",
        credential.replace('/', "%2F")
    );
    let empty = hex(digest(&SHA256, b"").as_ref());
    let signature = aws_signature(&stamp, &format!("GET\n/\n{query}\nhost:gateway.test\n\nhost\n{empty}"));
    let target = format!("/?{query}&X-Amz-Signature={signature}");
    assert_eq!(gateway.get(&target).status, 200);
    assert_eq!(backend.last().target, "/");
    assert_eq!(gateway.h2().get(&target).status, 200);
    assert_eq!(gateway.get(&target.replace("3600", "3601")).status, 401);
    gateway.turn(Duration::from_secs(3601));
    assert_eq!(gateway.get(&target).status, 401);
}

#[test]
fn a_key_that_is_not_of_its_algorithm_is_found_when_the_configuration_is_loaded() {
    const PEM: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
-----END PUBLIC KEY-----
";
    let yaml = |algorithm: &str| {
        format!(
            "authorizers: {{ partner: {{ http_signature: {{ keys: {{ a: {{ algorithm: {algorithm}, public_key: a.pem }} }} }} }} }}
apis: {{ all: {{ policies: {{ authenticate: [partner] }}, routes: [ {{ match: GET /, respond: {{ status: 200 }} }} ] }} }}"
        )
    };
    let gateway = gateway_with(&yaml("ed25519"), &[], &[("a.pem", PEM.to_owned())]);
    assert_eq!(gateway.get("/").status, 401);
    let words = gateway.try_publish(&yaml("rsa-pss-sha512")).expect_err("another kind of key");
    assert!(words.contains("bad-pem") && words.contains("`rsa-pss-sha512`"), "{words}");
}
