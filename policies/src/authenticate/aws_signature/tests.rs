use super::super::http_signature::testing::{decide, exchange, try_exchange};
use super::*;
use aws_lc_rs::{digest, hmac};
use maitred_core::aws::sigv4::hex;
use maitred_core::aws::sigv4::stamp;
use maitred_core::testing::Fixed;
use maitred_core::{Body, Room};
use proptest::prelude::*;

// The published suite (aws-sig-v4-test-suite): its keys, its moment, its place.
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW: u64 = 1_440_938_160;
const SCOPE: &str = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
const COMMON: &str = "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z\n";

fn authorizer() -> AwsSignature {
    AwsSignature {
        name: "aws".into(),
        region: "us-east-1".into(),
        service: "service".into(),
        max_age: Duration::from_secs(300),
        unsigned_payload: false,
        keys: HashMap::from([("AKIDEXAMPLE".into(), SecretKey::new(SECRET))]),
        roll: Arc::new(Roll { configured: Default::default(), stored: Arc::default() }),
    }
}

fn header(signed: &str, signature: &str) -> String {
    format!("Authorization: {ALGORITHM} Credential={SCOPE}, SignedHeaders={signed}, Signature={signature}\n")
}

fn of(authorizer: &AwsSignature, lines: &str, body: &[u8]) -> Result<String, String> {
    decide(authorizer, &mut exchange(lines, body), &Fixed::at(NOW))
}

#[test]
fn the_published_suite_is_good() {
    let unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let unreserved_query = format!("GET /?{unreserved}={unreserved}");
    let unreserved_path = format!("GET /{unreserved}");
    let form = "Content-Type:application/x-www-form-urlencoded\n";
    let form_utf8 = "Content-Type:application/x-www-form-urlencoded; charset=utf8\n";
    const PLAIN: &str = "host;x-amz-date";
    const MINE: &str = "host;my-header1;x-amz-date";
    const VANILLA: &str = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    const POST: &str = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
    for (name, line, headers, body, signed, signature) in [
        ("get-vanilla", "GET /", "", "", PLAIN, VANILLA),
        ("get-vanilla-query", "GET /?", "", "", PLAIN, VANILLA),
        ("get-relative", "GET /example/..", "", "", PLAIN, VANILLA),
        ("get-relative-relative", "GET /example1/example2/../..", "", "", PLAIN, VANILLA),
        ("get-slash", "GET //", "", "", PLAIN, VANILLA),
        ("get-slash-dot-slash", "GET /./", "", "", PLAIN, VANILLA),
        (
            "get-slash-pointless-dot",
            "GET /./example",
            "",
            "",
            PLAIN,
            "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
        ),
        ("get-slashes", "GET //example//", "", "", PLAIN, "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        ("get-unreserved", &unreserved_path, "", "", PLAIN, "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        (
            "get-vanilla-empty-query-key",
            "GET /?Param1=value1",
            "",
            "",
            PLAIN,
            "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
        ),
        (
            "get-vanilla-query-order-key",
            "GET /?Param1=value2&Param1=Value1",
            "",
            "",
            PLAIN,
            "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
        ),
        (
            "get-vanilla-query-order-key-case",
            "GET /?Param2=value2&Param1=value1",
            "",
            "",
            PLAIN,
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "get-vanilla-query-order-value",
            "GET /?Param1=value2&Param1=value1",
            "",
            "",
            PLAIN,
            "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
        ),
        (
            "get-vanilla-query-unreserved",
            &unreserved_query,
            "",
            "",
            PLAIN,
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "get-vanilla-utf8-query",
            "GET /?%E1%88%B4=bar",
            "",
            "",
            PLAIN,
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
        (
            "get-header-key-duplicate",
            "GET /",
            "My-Header1:value2\nMy-Header1:value2\nMy-Header1:value1\n",
            "",
            MINE,
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "get-header-value-order",
            "GET /",
            "My-Header1:value4\nMy-Header1:value1\nMy-Header1:value3\nMy-Header1:value2\n",
            "",
            MINE,
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
        ),
        (
            "get-header-value-trim",
            "GET /",
            "My-Header1: value1\nMy-Header2: \"a   b   c\"\n",
            "",
            "host;my-header1;my-header2;x-amz-date",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        ("post-vanilla", "POST /", "", "", PLAIN, POST),
        (
            "post-header-key-sort",
            "POST /",
            "My-Header1:value1\n",
            "",
            MINE,
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
        ),
        (
            "post-header-value-case",
            "POST /",
            "My-Header1:VALUE1\n",
            "",
            MINE,
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        ),
        (
            "post-vanilla-query",
            "POST /?Param1=value1",
            "",
            "",
            PLAIN,
            "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
        ),
        (
            "post-x-www-form-urlencoded",
            "POST /",
            form,
            "Param1=value1",
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "post-x-www-form-urlencoded-parameters",
            "POST /",
            form_utf8,
            "Param1=value1",
            "content-type;host;x-amz-date",
            "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
        ),
    ] {
        let lines = format!("{line} HTTP/1.1\n{COMMON}{headers}{}", header(signed, signature));
        assert_eq!(of(&authorizer(), &lines, body.as_bytes()).as_deref(), Ok("AKIDEXAMPLE"), "{name}");
        let altered = lines.replace(&signature[..8], if signature.starts_with('0') { "10000000" } else { "00000000" });
        assert!(of(&authorizer(), &altered, body.as_bytes()).is_err(), "{name}");
    }
}

/// What the suite has beside that is refused before anybody looks at a signature, as HTTP or as a session token.
#[test]
fn the_rest_of_the_suite_is_refused() {
    let vanilla = header("host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    for head in ["GET /example space/ HTTP/1.1\n", "GET / HTTP/1.1\nMy-Header1:value1\n  value2\n", "GET /\u{1234} HTTP/1.1\n"] {
        let head = format!("{head}{COMMON}{vanilla}\n").replace('\n', "\r\n");
        assert!(try_exchange(&head, b"").is_none(), "{head}");
    }
    let token = "X-Amz-Security-Token:6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267\n";
    let signature = "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8";
    let lines = format!("GET / HTTP/1.1\n{COMMON}{token}{}", header("host;x-amz-date;x-amz-security-token", signature));
    assert!(of(&authorizer(), &lines, b"").unwrap_err().contains("session token"));
}

/// "Examples: Signature calculations in AWS Signature Version 4" and "Authenticating requests: query parameters", Amazon S3 API Reference.
#[test]
fn the_examples_of_s3_are_good() {
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let s3 = AwsSignature {
        service: "s3".into(),
        max_age: Duration::from_secs(300),
        unsigned_payload: true,
        keys: HashMap::from([("AKIAIOSFODNN7EXAMPLE".into(), SecretKey::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))]),
        ..authorizer()
    };
    let at = stamp::parse(b"20130524T000000Z").unwrap();
    let scope = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
    let host = "Host: examplebucket.s3.amazonaws.com\n";
    for (line, headers, body, signed, signature) in [
        (
            "GET /test.txt",
            format!("Range: bytes=0-9\nx-amz-content-sha256: {EMPTY}\nx-amz-date: 20130524T000000Z\n"),
            "",
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT /test%24file.text",
            "Date: Fri, 24 May 2013 00:00:00 GMT\nx-amz-date: 20130524T000000Z\nx-amz-storage-class: REDUCED_REDUNDANCY\nx-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072\n".to_owned(),
            "Welcome to Amazon S3.",
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET /?lifecycle",
            format!("x-amz-date: 20130524T000000Z\nx-amz-content-sha256: {EMPTY}\n"),
            "",
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET /?max-keys=2&prefix=J",
            format!("x-amz-date: 20130524T000000Z\nx-amz-content-sha256: {EMPTY}\n"),
            "",
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ] {
        let lines = format!(
            "{line} HTTP/1.1\n{host}{headers}Authorization: {ALGORITHM} Credential={scope},SignedHeaders={signed},Signature={signature}\n"
        );
        let decision = decide(&s3, &mut exchange(&lines, body.as_bytes()), &Fixed::at(at));
        assert_eq!(decision.as_deref(), Ok("AKIAIOSFODNN7EXAMPLE"), "{line}");
        if !body.is_empty() {
            let decision = decide(&s3, &mut exchange(&lines, b"Welcome to Amazon S4."), &Fixed::at(at));
            assert!(decision.unwrap_err().contains("body"));
        }
    }
    let presigned = "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\n";
    let presigned = format!("{presigned}{host}");
    for (authorizer, text, now, good) in [
        (&s3, presigned.clone(), at, true),
        (&s3, presigned.clone(), at + 86_400, true),
        (&s3, presigned.clone(), at + 86_401, false),
        (&s3, presigned.clone(), at - 301, false),
        (&s3, presigned.replace("test.txt", "test.tx"), at, false),
        (&s3, presigned.replace("86400", "86401"), at, false),
        (&s3, presigned.replace("86400", "604801"), at, false),
        (&s3, presigned.replace("=86400", "=%2B86400"), at, false),
        (&s3, presigned.replace(" HTTP", "&more=1 HTTP"), at, false),
        (&s3, presigned.replace(" HTTP", "&X-Amz-Signature= HTTP"), at, false),
        (&s3, presigned.replace("&X-Amz-SignedHeaders=host", ""), at, false),
        (&s3, format!("{presigned}X-Amz-Meta: 1\n"), at, false),
        (&AwsSignature { unsigned_payload: false, service: "s3".into(), ..authorizer() }, presigned.clone(), at, false),
    ] {
        let decision = decide(authorizer, &mut exchange(&text, b""), &Fixed::at(now));
        assert_eq!(decision.is_ok(), good, "{text} {now} {decision:?}");
    }
    let mut stripped = exchange(&presigned.replace("?", "?a=1&"), b"");
    s3.strip(&mut stripped);
    assert_eq!(stripped.request.query(), Some(&b"a=1"[..]));
}

#[test]
fn a_signature_is_good_for_its_time_and_place() {
    let signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    let lines = format!("GET / HTTP/1.1\n{COMMON}{}", header("host;x-amz-date", signature));
    for (now, good) in [(NOW - 301, false), (NOW - 300, true), (NOW, true), (NOW + 300, true), (NOW + 301, false)] {
        assert_eq!(decide(&authorizer(), &mut exchange(&lines, b""), &Fixed::at(now)).is_ok(), good, "{now}");
    }
    for (from, to) in [
        ("us-east-1", "us-east-2"),
        ("/service/", "/other/"),
        ("/service/", "//"),
        ("AKIDEXAMPLE", "AKIDEXAMPL"),
        ("AKIDEXAMPLE", ""),
        ("/20150830/", "/20150831/"),
        ("aws4_request", "aws5_request"),
        ("aws4_request", "aws4_request/x"),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=x-amz-date"),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=host"),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=x-amz-date;host"),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=Host;x-amz-date"),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=host;host;x-amz-date"),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=host;x-amz-date;"),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=host;x-amz-date;x-nothing"),
        ("Signature=5f", "Signature=5F"),
        ("Signature=5f", "Signature="),
        ("Signature=5f", "Signature=005f"),
        (", Signature", ", Nothing"),
        (", Signature", ", Signature=, Signature"),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"),
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256"),
        ("X-Amz-Date:20150830T123600Z", "X-Amz-Date:20150830T123601Z"),
        ("X-Amz-Date:20150830T123600Z", "X-Amz-Date:Sun, 30 Aug 2015 12:36:00 GMT"),
        ("X-Amz-Date:20150830T123600Z\n", ""),
        ("X-Amz-Date:20150830T123600Z\n", "X-Amz-Date:20150830T123600Z\nX-Amz-Date:20150830T123600Z\n"),
        ("X-Amz-Date:20150830T123600Z\n", "X-Amz-Date:20150830T123600Z\nX-Amz-Target: a\n"),
        ("example.amazonaws.com", "example.amazonaws.net"),
        ("GET / ", "GET /a "),
        ("GET / ", "GET /?a "),
        ("GET / ", "HEAD / "),
        ("GET / ", "GET /?X-Amz-Signature=1 "),
    ] {
        let altered = lines.replacen(from, to, 1);
        assert_ne!(altered, lines);
        assert!(authorizer().finds(&exchange(&altered, b"")), "{altered}");
        assert!(of(&authorizer(), &altered, b"").is_err(), "{from} {to}");
    }
    let two = lines.clone() + "Authorization: Basic eDp5\n";
    assert!(of(&authorizer(), &two, b"").is_err());
    let basic = exchange("GET / HTTP/1.1\nHost: a\nAuthorization: Basic eDp5\n", b"");
    assert!(!authorizer().finds(&basic));
    assert!(of(&authorizer(), &lines, b"with a body").unwrap_err().contains("does not fit"));
}

/// A signer that shares nothing with what verifies but the hash.
fn sign(scope: [&str; 4], stamp: &str, canonical: &str) -> String {
    let mac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
    let text = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let hash = text(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let key = scope.iter().fold(format!("AWS4{SECRET}").into_bytes(), |key, part| mac(&key, part));
    text(&mac(&key, &format!("AWS4-HMAC-SHA256\n{stamp}\n{}\n{hash}", scope.join("/"))))
}

const PLACE: [&str; 4] = ["20150830", "us-east-1", "service", "aws4_request"];

fn hash_text(body: &[u8]) -> String {
    String::from_utf8(hex(digest::digest(&digest::SHA256, body).as_ref()).to_vec()).unwrap()
}

#[test]
fn the_hash_of_a_body_is_what_its_header_says_or_its_own() {
    let open = AwsSignature { unsigned_payload: true, ..authorizer() };
    let body = b"a body";
    let right = hash_text(body);
    let wrong = hash_text(b"another");
    for (authorizer, stated, good) in [
        (&authorizer(), &*right, true),
        (&authorizer(), &wrong, false),
        (&authorizer(), "UNSIGNED-PAYLOAD", false),
        (&open, "UNSIGNED-PAYLOAD", true),
        (&open, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", false),
        (&open, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", false),
        (&open, &right.to_uppercase(), false),
        (&open, "", false),
    ] {
        let signed = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "POST\n/\n\nhost:example.amazonaws.com\nx-amz-content-sha256:{stated}\nx-amz-date:20150830T123600Z\n\n{signed}\n{stated}"
        );
        let signature = sign(PLACE, "20150830T123600Z", &canonical);
        let lines = format!("POST / HTTP/1.1\n{COMMON}X-Amz-Content-Sha256: {stated}\n{}", header(signed, &signature));
        let mut request = exchange(&lines, body);
        assert_eq!(decide(authorizer, &mut request, &Fixed::at(NOW)).is_ok(), good, "{stated}");
        assert!(matches!(&request.body, Body::Stream(stream) if &*stream.data() == body), "it is there to be forwarded");
        // What is stated is verified before the body is read.
        let full = Fixed { room: Room::default().with(0), ..Fixed::at(NOW) };
        let forged = lines.replace(&signature, &wrong);
        assert_ne!(decide(authorizer, &mut exchange(&forged, body), &full).unwrap_err(), "buffer_full");
    }
}

#[test]
fn where_the_body_itself_is_signed_it_is_held_last() {
    let lines = format!("POST / HTTP/1.1\n{COMMON}{}", header("host;x-amz-date", &"0".repeat(64)));
    for (from, to, is_held) in [
        ("", "", true),
        ("AKIDEXAMPLE", "AKIDNOBODY", false),
        ("us-east-1", "us-east-2", false),
        ("/service/", "/other/", false),
        ("X-Amz-Date:20150830T123600Z", "X-Amz-Date:20150830T133600Z", false),
        ("host;x-amz-date", "host;x-amz-date;x-nothing", false),
        ("host;x-amz-date", "x-amz-date", false),
    ] {
        let full = Fixed { room: Room::default().with(0), ..Fixed::at(NOW) };
        let why = decide(&authorizer(), &mut exchange(&lines.replacen(from, to, 1), b"a body"), &full).unwrap_err();
        assert_eq!(why == "buffer_full", is_held, "{from} {to}: {why}");
    }
}

#[test]
fn without_x_amz_date_the_signed_date_counts() {
    for (date, names, good) in [
        ("Sun, 30 Aug 2015 12:36:00 GMT", "date;host", true),
        ("20150830T123600Z", "date;host", true),
        ("Sun, 30 Aug 2015 12:36:01 GMT", "date;host", false),
        ("yesterday", "date;host", false),
        ("Sun, 30 Aug 2015 12:36:00 GMT", "host", false),
    ] {
        let dated = if names == "host" { String::new() } else { format!("date:{date}\n") };
        let canonical = format!("GET\n/\n\n{dated}host:example.amazonaws.com\n\n{names}\n{}", hash_text(b""));
        let signature = sign(PLACE, "20150830T123600Z", &canonical);
        let lines = format!("GET / HTTP/1.1\nHost:example.amazonaws.com\nDate: {date}\n{}", header(names, &signature));
        assert_eq!(of(&authorizer(), &lines, b"").is_ok(), good, "{date} {names}");
    }
}

#[test]
fn paths_and_queries_are_those_of_aws() {
    for (target, path, query) in [
        ("/a%20b", "/a%2520b", ""),
        ("/a%2Fb", "/a%252Fb", ""),
        ("/a/%2E%2E/b", "/a/%252E%252E/b", ""),
        ("/a/..//b/./c/", "/b/c/", ""),
        ("/(a)*~", "/%28a%29%2A~", ""),
        ("http://example.amazonaws.com", "/", ""),
        ("http://example.amazonaws.com/x?b=2&a=1", "/x", "a=1&b=2"),
        ("/?a=10&a=9&b", "/", "a=10&a=9&b="),
        ("/?x=a.b&x=a%2fb", "/", "x=a%2Fb&x=a.b"),
        ("/?q=a+b&p=a%20b", "/", "p=a%20b&q=a%2Bb"),
        ("/?a=1=2&&A=%7e", "/", "A=~&a=1%3D2"),
        ("/?%61b=1&a-=2", "/", "a-=2&ab=1"),
    ] {
        let canonical = format!(
            "GET\n{path}\n{query}\nhost:example.amazonaws.com\nx-amz-date:20150830T123600Z\n\nhost;x-amz-date\n{}",
            hash_text(b"")
        );
        let signature = sign(PLACE, "20150830T123600Z", &canonical);
        let lines = format!("GET {target} HTTP/1.1\n{COMMON}{}", header("host;x-amz-date", &signature));
        assert_eq!(of(&authorizer(), &lines, b"").as_deref(), Ok("AKIDEXAMPLE"), "{target}");
    }
}

proptest! {
    /// Whatever is signed is verified, by header and by query, and with one byte of it altered it is not.
    #[test]
    fn what_was_signed_is_what_came(
        method in "GET|POST|PUT", path in "(/[a-z0-9]{1,5}){1,3}", name in "[a-z]{1,4}", parameter in "[a-zA-Z0-9._~-]{0,6}",
        host in "[a-z]{1,8}\\.[a-z]{1,5}", value in "[!-~]{1,12}", body in proptest::collection::vec(any::<u8>(), 1..40),
        alter in any::<(u8, u8)>(), in_query in any::<bool>(),
    ) {
        let payload = hash_text(&body);
        let signed = if in_query { "host;v" } else { "host;v;x-amz-date" };
        let credential = SCOPE.replace('/', "%2F");
        let presigning = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bv"
        );
        let query = if in_query { format!("{presigning}&{name}={parameter}") } else { format!("{name}={parameter}") };
        let dated = if in_query { "" } else { "x-amz-date:20150830T123600Z\n" };
        let canonical = format!("{method}\n{path}\n{query}\nhost:{host}\nv:{value}\n{dated}\n{signed}\n{payload}");
        let signature = sign(PLACE, "20150830T123600Z", &canonical);
        let head = |parts: [&str; 7]| {
            let [method, path, name, parameter, host, value, signature] = parts;
            let (query, headers) = match in_query {
                true => (format!("{name}={parameter}&{presigning}&X-Amz-Signature={signature}"), String::new()),
                false => (format!("{name}={parameter}"), format!("X-Amz-Date: 20150830T123600Z\n{}", header(signed, signature))),
            };
            let length = body.len();
            let head = format!("{method} {path}?{query} HTTP/1.1\nHost: {host}\nV: {value}\n{headers}Content-Length: {length}\n\n");
            head.replace('\n', "\r\n")
        };
        let parts = [&*method, &path, &name, &parameter, &host, &value, &signature];
        let ports = Fixed::at(NOW);
        let mut good = try_exchange(&head(parts), &body).unwrap();
        prop_assert_eq!(decide(&authorizer(), &mut good, &ports), Ok("AKIDEXAMPLE".to_owned()));
        let mut other = body.clone();
        let at = usize::from(alter.1) % other.len();
        other[at] ^= 1 << (alter.0 % 8);
        prop_assert!(decide(&authorizer(), &mut try_exchange(&head(parts), &other).unwrap(), &ports).is_err());
        let which = usize::from(alter.0) % parts.len();
        let mut part = parts[which].as_bytes().to_vec();
        if !part.is_empty() {
            let at = usize::from(alter.1) % part.len();
            part[at] = if part[at] == b'7' { b'8' } else { b'7' };
            let part = String::from_utf8(part).unwrap();
            let mut altered = parts;
            altered[which] = &part;
            if let Some(mut bad) = try_exchange(&head(altered), &body) {
                prop_assert!(decide(&authorizer(), &mut bad, &ports).is_err(), "{}", head(altered));
            }
        }
    }
}
