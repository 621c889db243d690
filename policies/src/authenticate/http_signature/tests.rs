use super::testing::{decide, exchange, try_exchange};
use super::*;
use aws_lc_rs::digest::{SHA256, SHA512, digest as hash};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use maitred_core::Body;
use maitred_core::testing::Fixed;
use maitred_core::wire::base64;
use maitred_model::PublicAlgorithm;
use proptest::prelude::*;

// RFC 9421 appendix B: the keys of B.1, the request of B.2, its signatures.
const RSA_PSS: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2
+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+
oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq
gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W
Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4
aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI
2wIDAQAB
-----END PUBLIC KEY-----
";
const ECC_P256: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf
w0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==
-----END PUBLIC KEY-----
";
const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
-----END PUBLIC KEY-----
";
const SHARED: &[u8] = b"uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
const REQUEST: &str = "POST /foo?param=Value&Pet=dog HTTP/1.1
Host: example.com
Date: Tue, 20 Apr 2021 02:07:55 GMT
Content-Type: application/json
Content-Digest: sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:
";
const BODY: &[u8] = b"{\"hello\": \"world\"}";
const CREATED: u64 = 1_618_884_473;

const B21: [&str; 2] = [
    "sig-b21=();created=1618884473;keyid=\"test-key-rsa-pss\";nonce=\"b3k2pp5k7z-50gnwp.yemd\"",
    "d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==",
];
const B22: [&str; 2] = [
    "sig-b22=(\"@authority\" \"content-digest\" \"@query-param\";name=\"Pet\");created=1618884473;keyid=\"test-key-rsa-pss\";tag=\"header-example\"",
    "LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==",
];
const B23: [&str; 2] = [
    "sig-b23=(\"date\" \"@method\" \"@path\" \"@query\" \"@authority\" \"content-type\" \"content-digest\" \"content-length\");created=1618884473;keyid=\"test-key-rsa-pss\"",
    "bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==",
];
const B25: [&str; 2] = [
    "sig-b25=(\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"",
    "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=",
];
const B26: [&str; 2] = [
    "sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"",
    "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==",
];
/// B.3: signed by a proxy that ends TLS, for a host of its own.
const B3: [&str; 2] = [
    "ttrp=(\"@path\" \"@query\" \"@method\" \"@authority\" \"client-cert\");created=1618884473;keyid=\"test-key-ecc-p256\"",
    "xVMHVpawaAC/0SbHrKRs9i8I3eOs5RtTMGCWXm/9nvZzoHsIg6Mce9315T6xoklyy0yzhD9ah4JHRwMLOgmizw==",
];
const CLIENT_CERT: &str = "MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=";

/// Whose keys are those of B.1, and one of our own that signs what tests want.
fn authorizer() -> HttpSignature {
    let public = |algorithm, pem: &str| Key::public(algorithm, pem.as_bytes()).expect("a key");
    HttpSignature {
        name: "hmac".into(),
        components: Box::default(),
        max_age: Duration::from_secs(300),
        label: None,
        tag: None,
        keys: HashMap::from([
            ("test-key-rsa-pss".into(), public(PublicAlgorithm::RsaPss, RSA_PSS)),
            ("test-key-ecc-p256".into(), public(PublicAlgorithm::EcdsaP256, ECC_P256)),
            ("test-key-ed25519".into(), public(PublicAlgorithm::Ed25519, ED25519)),
            ("test-shared-secret".into(), Key::hmac(&base64::decode(SHARED).unwrap())),
            ("own".into(), Key::hmac(b"own secret")),
        ]),
        seen: None,
        roll: Arc::new(Roll { configured: Default::default(), stored: Arc::default() }),
    }
}

fn demanding(components: &[&str]) -> HttpSignature {
    let component = |text: &&str| Component { name: (*text).to_owned(), param: None };
    HttpSignature { components: components.iter().map(component).collect(), ..authorizer() }
}

fn signed_lines(request: &str, [input, signature]: [&str; 2]) -> String {
    let label = input.split_once('=').unwrap().0;
    format!("{request}Signature-Input: {input}\nSignature: {label}=:{signature}:\n")
}

#[test]
fn the_signatures_of_the_appendix_are_good() {
    let authorizer = authorizer();
    let proxied = REQUEST.replace("example.com", "service.internal.example") + &format!("Client-Cert: :{CLIENT_CERT}:\n");
    for (request, vector, key) in [
        (REQUEST, B21, "test-key-rsa-pss"),
        (REQUEST, B22, "test-key-rsa-pss"),
        (REQUEST, B23, "test-key-rsa-pss"),
        (REQUEST, B25, "test-shared-secret"),
        (REQUEST, B26, "test-key-ed25519"),
        (&proxied, B3, "test-key-ecc-p256"),
    ] {
        let mut exchange = exchange(&signed_lines(request, vector), BODY);
        assert!(authorizer.finds(&exchange));
        assert_eq!(decide(&authorizer, &mut exchange, &Fixed::at(CREATED)).as_deref(), Ok(key), "{}", vector[0]);
    }
}

/// B.2.4 is a response's, which gateways are not shown: its base and its key.
#[test]
fn the_response_of_the_appendix_is_good() {
    let base = "\"@status\": 200\n\"content-type\": application/json\n\"content-digest\": sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:\n\"content-length\": 23\n\"@signature-params\": (\"@status\" \"content-type\" \"content-digest\" \"content-length\");created=1618884473;keyid=\"test-key-ecc-p256\"";
    let signature =
        base64::decode(b"wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==").unwrap();
    let key = Key::public(PublicAlgorithm::EcdsaP256, ECC_P256.as_bytes()).unwrap();
    assert!(key.verifies(base.as_bytes(), &signature));
    assert!(!key.verifies(base.replace("200", "201").as_bytes(), &signature));
    let mut exchange = exchange(&signed_lines(REQUEST, ["a=(\"@status\");created=1618884473;keyid=\"own\"", "AAAA"]), BODY);
    assert!(decide(&authorizer(), &mut exchange, &Fixed::at(CREATED)).unwrap_err().contains("not in requests"));
}

/// Every byte of the head, replaced. What may then still pass is what is not covered, and what means the same.
#[test]
fn no_covered_byte_can_be_altered() {
    let authorizer = authorizer();
    for vector in [B23, B26] {
        let lines = signed_lines(REQUEST, vector) + &format!("content-length: {}\n\n", BODY.len());
        let head = lines.replace('\n', "\r\n");
        let covers_digest = vector[0].contains("content-digest");
        let mut refused = 0;
        for at in 0..head.len() {
            let mut altered = head.clone().into_bytes();
            altered[at] = if altered[at] == b'x' { b'y' } else { b'x' };
            let altered = String::from_utf8(altered).unwrap();
            let Some(mut exchange) = try_exchange(&altered, BODY) else { continue };
            match decide(&authorizer, &mut exchange, &Fixed::at(CREATED)) {
                Err(_) => refused += 1,
                Ok(_) => {
                    let start = head[..at].rfind("\r\n").map_or(0, |end| end + 2);
                    let is_open = head[start..].starts_with("Content-Digest") || start == 0 && head[..at].contains('?');
                    assert!(is_open && !covers_digest, "{at}: {altered}");
                }
            }
        }
        assert!(refused > 300, "{refused}");
    }
    let mut other_body = exchange(&signed_lines(REQUEST, B23), b"{\"hello\": \"w0rld\"}");
    assert!(decide(&authorizer, &mut other_body, &Fixed::at(CREATED)).unwrap_err().contains("sha-512"));
}

#[test]
fn a_signature_is_good_for_its_time() {
    for (now, expires, good) in [
        (CREATED, "", true),
        (CREATED + 300, "", true),
        (CREATED + 301, "", false),
        (CREATED - 30, "", true),
        (CREATED - 31, "", false),
        (CREATED + 5, ";expires=1618884483", true),
        (CREATED + 10, ";expires=1618884483", false),
        (CREATED - 20, ";expires=1618884463", false),
        (CREATED, ";expires=\"1618884483\"", false),
    ] {
        let mut exchange =
            signed("GET / HTTP/1.1\nHost: a\n", "(\"@method\")", &format!("{PARAMS}{expires}"), "\"@method\": GET\n", b"");
        assert_eq!(decide(&authorizer(), &mut exchange, &Fixed::at(now)).is_ok(), good, "{now} {expires}");
    }
}

const PARAMS: &str = ";created=1618884473;keyid=\"own\"";

/// Signed with our own key over the lines that a test wrote by hand.
fn signed(request: &str, list: &str, params: &str, lines: &str, body: &[u8]) -> Exchange {
    exchange(&own_lines(request, list, params, lines), body)
}

fn own_lines(request: &str, list: &str, params: &str, lines: &str) -> String {
    let base = format!("{lines}\"@signature-params\": {list}{params}");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"own secret"), base.as_bytes());
    let mut text = Vec::new();
    base64::encode(tag.as_ref(), &mut text);
    format!("{request}Signature-Input: s={list}{params}\nSignature: s=:{}:\n", String::from_utf8(text).unwrap())
}

fn own(authorizer: &HttpSignature, request: &str, list: &str, lines: &str) -> Result<String, String> {
    decide(authorizer, &mut signed(request, list, PARAMS, lines, b""), &Fixed::at(CREATED))
}

#[test]
fn components_have_the_values_of_the_standard() {
    let get = "GET /a%2fb/../c?x=1&y=a+b%20c&z&Q%C3%A4=%7E*é HTTP/1.1\nHost: WWW.Example.com:80\nA:  1 \nB: \nA: 2,3\nD: b=?1, c=( 1  2 );p\n";
    let get = &get.replace('é', "%C3%A9");
    for (request, list, lines) in [
        (&**get, "(\"@method\" \"@scheme\")", "\"@method\": GET\n\"@scheme\": http\n"),
        (get, "(\"@authority\")", "\"@authority\": www.example.com\n"),
        (get, "(\"@path\")", "\"@path\": /a%2fb/../c\n"),
        (get, "(\"@query\")", "\"@query\": ?x=1&y=a+b%20c&z&Q%C3%A4=%7E*%C3%A9\n"),
        (get, "(\"@request-target\")", "\"@request-target\": /a%2fb/../c?x=1&y=a+b%20c&z&Q%C3%A4=%7E*%C3%A9\n"),
        (get, "(\"@target-uri\")", "\"@target-uri\": http://www.example.com/a%2fb/../c?x=1&y=a+b%20c&z&Q%C3%A4=%7E*%C3%A9\n"),
        (get, "(\"@query-param\";name=\"y\")", "\"@query-param\";name=\"y\": a%20b%20c\n"),
        (get, "(\"@query-param\";name=\"z\")", "\"@query-param\";name=\"z\": \n"),
        (get, "(\"@query-param\";name=\"Q%C3%A4\")", "\"@query-param\";name=\"Q%C3%A4\": %7E*%C3%A9\n"),
        (get, "(\"a\" \"b\")", "\"a\": 1, 2,3\n\"b\": \n"),
        (get, "(\"a\";bs)", "\"a\";bs: :MQ==:, :MiwzA==:\n".replace("MiwzA==", "Miwz").leak()),
        (get, "(\"d\";key=\"c\")", "\"d\";key=\"c\": (1 2);p\n"),
        (get, "(\"d\";key=\"b\")", "\"d\";key=\"b\": ?1\n"),
        ("GET / HTTP/1.1\nHost: a\nPriority:  u=1,i\n", "(\"priority\";sf)", "\"priority\";sf: u=1, i\n"),
        ("GET / HTTP/1.1\nHost: a\n", "(\"@query\")", "\"@query\": ?\n"),
        ("GET /? HTTP/1.1\nHost: a\n", "(\"@query\" \"@target-uri\")", "\"@query\": ?\n\"@target-uri\": http://a/?\n"),
        ("OPTIONS * HTTP/1.1\nHost: a\n", "(\"@request-target\" \"@path\")", "\"@request-target\": *\n\"@path\": *\n"),
        ("GET http://a:8080?q HTTP/1.1\nHost: a:8080\n", "(\"@path\" \"@query\")", "\"@path\": /\n\"@query\": ?q\n"),
        ("GET http://a:8080?q HTTP/1.1\nHost: a:8080\n", "(\"@request-target\")", "\"@request-target\": http://a:8080?q\n"),
        ("GET http://a:8080?q HTTP/1.1\nHost: a:8080\n", "(\"@target-uri\")", "\"@target-uri\": http://a:8080/?q\n"),
        ("GET / HTTP/1.1\nHost: a:443\n", "(\"@authority\")", "\"@authority\": a:443\n"),
    ] {
        assert_eq!(own(&authorizer(), request, list, lines).as_deref(), Ok("own"), "{list} of {request}");
    }
}

#[test]
fn what_is_not_understood_or_not_there_is_refused() {
    let get = "GET /?a=1&a=2&b=1 HTTP/1.1\nHost: a\nX: 1\n";
    for (list, lines) in [
        ("(\"@method\";req)", "\"@method\";req: GET\n"),
        ("(\"x\";tr)", "\"x\";tr: 1\n"),
        ("(\"x\";req)", "\"x\";req: 1\n"),
        ("(\"x\";sf)", "\"x\";sf: 1\n"),
        ("(\"x\";bs;key=\"a\")", "\"x\";bs;key=\"a\": 1\n"),
        ("(\"x\";bs=?0)", "\"x\";bs=?0: :MQ==:\n"),
        ("(\"x\";new)", "\"x\";new: 1\n"),
        ("(\"x\";key=\"a\")", "\"x\";key=\"a\": 1\n"),
        ("(\"X\")", "\"X\": 1\n"),
        ("(x)", "x: 1\n"),
        ("(\"y\")", "\"y\": \n"),
        ("(\"\")", "\"\": \n"),
        ("(\"x\" \"x\")", "\"x\": 1\n\"x\": 1\n"),
        ("(\"@status\")", "\"@status\": 200\n"),
        ("(\"@signature-params\")", "\"@signature-params\": \n"),
        ("(\"@query-param\")", "\"@query-param\": 1\n"),
        ("(\"@query-param\";name=\"a\")", "\"@query-param\";name=\"a\": 1\n"),
        ("(\"@query-param\";name=\"c\")", "\"@query-param\";name=\"c\": \n"),
        ("(\"@query-param\";name=\"b\";x)", "\"@query-param\";name=\"b\";x: 1\n"),
    ] {
        assert!(own(&authorizer(), get, list, lines).is_err(), "{list}");
    }
    assert!(own(&authorizer(), get, "(\"x\")", "\"x\": 1\n").is_ok());
}

#[test]
fn what_must_be_covered_is_covered_by_itself_or_by_what_contains_it() {
    let get = "GET /p?q=1 HTTP/1.1\nHost: a\nX: 1\n";
    for (wanted, list, lines, good) in [
        (&["@method"][..], "(\"@method\")", "\"@method\": GET\n", true),
        (&["@method", "@path"], "(\"@method\")", "\"@method\": GET\n", false),
        (&["@path", "@query", "@authority", "@scheme"], "(\"@target-uri\")", "\"@target-uri\": http://a/p?q=1\n", true),
        (&["@method"], "(\"@target-uri\")", "\"@target-uri\": http://a/p?q=1\n", false),
        (&["@path", "@query"], "(\"@request-target\")", "\"@request-target\": /p?q=1\n", true),
        (&["@authority"], "(\"@request-target\")", "\"@request-target\": /p?q=1\n", false),
        (&["@target-uri"], "(\"@path\" \"@query\")", "\"@path\": /p\n\"@query\": ?q=1\n", false),
        (&["@query"], "(\"@query-param\";name=\"q\")", "\"@query-param\";name=\"q\": 1\n", false),
        (&["x"], "(\"x\";bs)", "\"x\";bs: :MQ==:\n", true),
        (&["content-digest"], "()", "", true),
    ] {
        assert_eq!(own(&demanding(wanted), get, list, lines).is_ok(), good, "{wanted:?} of {list}");
    }
    // With a body its digest is wanted.
    let mut post = signed("POST / HTTP/1.1\nHost: a\n", "()", PARAMS, "", b"x");
    assert!(decide(&demanding(&["content-digest"]), &mut post, &Fixed::at(CREATED)).unwrap_err().contains("content-digest"));
}

fn digest_field(algorithm: &'static aws_lc_rs::digest::Algorithm, body: &[u8]) -> String {
    let mut text = b":".to_vec();
    base64::encode(hash(algorithm, body).as_ref(), &mut text);
    text.push(b':');
    String::from_utf8(text).unwrap()
}

#[test]
fn a_covered_digest_must_be_the_bodys() {
    let (right, wrong) = (digest_field(&SHA256, b"body"), digest_field(&SHA256, b"other"));
    let long = digest_field(&SHA512, b"body");
    for (field, list, good) in [
        (format!("sha-256={right}"), "(\"content-digest\")", true),
        (format!("sha-512={long}"), "(\"content-digest\")", true),
        (format!("sha-256={right}, sha-512={long}"), "(\"content-digest\")", true),
        (format!("md5=:AAAA:, sha-256={right}"), "(\"content-digest\")", true),
        (format!("sha-256={wrong}"), "(\"content-digest\")", false),
        (format!("sha-256={wrong}, sha-512={long}"), "(\"content-digest\")", false),
        (format!("sha-512={long}, sha-256={wrong}"), "(\"content-digest\")", false),
        ("md5=:AAAA:".to_owned(), "(\"content-digest\")", false),
        ("sha-256=\"x\"".to_owned(), "(\"content-digest\")", false),
        ("sha-256=::".to_owned(), "(\"content-digest\")", false),
        ("sha-256".to_owned(), "(\"content-digest\")", false),
        (String::new(), "(\"content-digest\")", false),
        (format!("sha-256={right}, sha-512={long}"), "(\"content-digest\";key=\"sha-256\")", true),
        (format!("md5=:AAAA:, sha-256={right}"), "(\"content-digest\";key=\"md5\")", false),
    ] {
        let value = match list.contains("key") {
            false => field.clone(),
            true => field
                .split(", ")
                .find_map(|member| {
                    let (name, value) = member.split_once('=')?;
                    list.contains(name).then(|| value.to_owned())
                })
                .unwrap(),
        };
        let name = &list[1..list.len() - 1];
        let request = format!("POST / HTTP/1.1\nHost: a\nContent-Digest: {field}\n");
        let mut exchange = signed(&request, list, PARAMS, &format!("{name}: {value}\n"), b"body");
        let decision = decide(&demanding(&["content-digest"]), &mut exchange, &Fixed::at(CREATED));
        assert_eq!(decision.is_ok(), good, "{field} {list} {decision:?}");
        if good {
            assert!(matches!(&exchange.body, Body::Stream(stream) if &*stream.data() == b"body"), "it is there to be forwarded");
        }
    }
}

#[test]
fn a_body_is_not_read_before_its_signature_is_verified() {
    let request = format!("POST / HTTP/1.1\nHost: a\nContent-Digest: sha-256={}\n", digest_field(&SHA256, b"body"));
    let ports = Fixed { room: maitred_core::Room::default().with(0), ..Fixed::at(CREATED) };
    let value = digest_field(&SHA256, b"body");
    let mut good = signed(&request, "(\"content-digest\")", PARAMS, &format!("\"content-digest\": sha-256={value}\n"), b"body");
    assert_eq!(decide(&authorizer(), &mut good, &ports).unwrap_err(), "buffer_full");
    let mut bad = signed(&request, "(\"content-digest\")", PARAMS, "\"content-digest\": sha-256=::\n", b"body");
    assert!(decide(&authorizer(), &mut bad, &ports).unwrap_err().contains("does not fit"));
}

#[test]
fn the_algorithm_is_the_keys_and_no_claim_changes_it() {
    let get = "GET / HTTP/1.1\nHost: a\n";
    for (alg, good) in [("hmac-sha256", true), ("ed25519", false), ("none", false), ("HMAC-SHA256", false)] {
        let params = format!("{PARAMS};alg=\"{alg}\"");
        let mut exchange = signed(get, "()", &params, "", b"");
        assert_eq!(decide(&authorizer(), &mut exchange, &Fixed::at(CREATED)).is_ok(), good, "{alg}");
    }
    // The bytes of a public key are nobody's secret.
    let base = format!("\"@signature-params\": ();created={CREATED};keyid=\"test-key-ed25519\"");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, ED25519.as_bytes()), base.as_bytes());
    let mut text = Vec::new();
    base64::encode(tag.as_ref(), &mut text);
    let lines = format!(
        "{get}Signature-Input: s=();created={CREATED};keyid=\"test-key-ed25519\"\nSignature: s=:{}:\n",
        String::from_utf8(text).unwrap()
    );
    assert!(decide(&authorizer(), &mut exchange(&lines, b""), &Fixed::at(CREATED)).is_err());
}

#[test]
fn one_signature_counts() {
    let get = "GET / HTTP/1.1\nHost: a\n";
    let lines = own_lines(get, "()", &format!("{PARAMS};tag=\"app\""), "");
    let two = |first: &str| {
        lines.replace("Signature-Input: ", &format!("Signature-Input: {first}")).replace("Signature: ", "Signature: o=:AAAA:, ")
    };
    let stranger = two("o=();created=1;keyid=\"stranger\", ");
    let of = |authorizer: &HttpSignature, lines: &str| decide(authorizer, &mut exchange(lines, b""), &Fixed::at(CREATED));
    let label = |label: &str| HttpSignature { label: Some(label.into()), ..authorizer() };
    let tag = |tag: &str| HttpSignature { tag: Some(tag.into()), ..authorizer() };
    assert!(of(&authorizer(), &lines).is_ok() && of(&authorizer(), &stranger).is_ok());
    assert!(of(&label("s"), &stranger).is_ok() && of(&label("o"), &stranger).is_err() && of(&label("t"), &lines).is_err());
    assert!(of(&tag("app"), &lines).is_ok() && of(&tag("other"), &lines).is_err());
    // The first by a known key decides alone, whatever stands behind it.
    assert!(of(&authorizer(), &two("o=();created=1618884473;keyid=\"own\", ")).is_err());
    for broken in [
        lines.replace("Signature: s=", "Signature: t="),
        lines.replace("Signature: s=:", "Signature: s="),
        lines.replace("keyid=\"own\"", "keyid=own"),
        lines.replace("keyid", "id"),
        lines.replace("created=1618884473;", ""),
        lines.replace("s=()", "s=\"\""),
        lines.replace("Signature: ", "X-Signature: "),
        lines.replace("Signature-Input: ", "X-Signature-Input: "),
        lines.replace("Signature-Input: ", "Signature-Input: s=(), "),
        lines.replace(";tag=\"app\"", ";tag=app"),
    ] {
        assert!(of(&authorizer(), &broken).is_err(), "{broken}");
        assert!(authorizer().finds(&exchange(&broken, b"")));
    }
    assert!(!authorizer().finds(&exchange(get, b"")));
}

#[test]
fn a_signature_is_used_once_and_not_used_up_by_a_wrong_body() {
    let seen = Arc::new(Seen::default());
    seen.remember_for(Duration::from_secs(330));
    let authorizer = HttpSignature { seen: Some(seen), ..authorizer() };
    let ports = Fixed::at(CREATED);
    let lines = signed_lines(REQUEST, B23);
    assert!(decide(&authorizer, &mut exchange(&lines, b"{\"hello\": \"w0rld\"}"), &ports).is_err());
    assert!(decide(&authorizer, &mut exchange(&lines, BODY), &ports).is_ok());
    for _ in 0..2 {
        assert!(decide(&authorizer, &mut exchange(&lines, BODY), &ports).unwrap_err().contains("before"));
    }
    // Another spelling of the same is the same.
    let spaced = lines.replace("Signature-Input: sig-b23=(", "Signature-Input: sig-b23=(  ");
    assert!(decide(&authorizer, &mut exchange(&spaced, BODY), &ports).unwrap_err().contains("before"));
}

/// Too short for anybody to trust.
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----\n\
             MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDFvAdQOUUmpWWeJ4WMnQ/qPOmF\n\
             JjG6iaNJf+ZtG0kXD01P4RmTYLtfZpLg5C11wbBBTiYzxMH8CCzwdFy75wBNfLva\n\
             gT7MH3lDeuc1+WrKme+iQZ5gd1qTkqM/dJhWYTAwSsZnhM79kXhUkNDL3BeVrOuB\n\
             rTRsJiL/TKh3eX4XwQIDAQAB\n\
             -----END PUBLIC KEY-----";

#[test]
fn keys_that_are_not_of_their_algorithm_are_found_out() {
    for (algorithm, pem, good) in [
        (PublicAlgorithm::Ed25519, ED25519, true),
        (PublicAlgorithm::EcdsaP256, ECC_P256, true),
        (PublicAlgorithm::RsaPss, RSA_PSS, true),
        (PublicAlgorithm::RsaPkcs1, RSA_PSS, true),
        (PublicAlgorithm::EcdsaP384, ECC_P256, false),
        (PublicAlgorithm::Ed25519, ECC_P256, false),
        (PublicAlgorithm::EcdsaP256, RSA_PSS, false),
        (PublicAlgorithm::RsaPss, ED25519, false),
        (PublicAlgorithm::RsaPss, RSA_1024, false),
        (PublicAlgorithm::RsaPkcs1, RSA_1024, false),
        (PublicAlgorithm::Ed25519, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", false),
        (PublicAlgorithm::Ed25519, "-----BEGIN PUBLIC KEY-----", false),
        (PublicAlgorithm::Ed25519, "", false),
    ] {
        assert_eq!(Key::public(algorithm, pem.as_bytes()).is_ok(), good, "{algorithm:?} {pem}");
    }
}

#[test]
fn strip_leaves_nothing_of_it() {
    let mut exchange = exchange(&signed_lines(REQUEST, B25), BODY);
    authorizer().strip(&mut exchange);
    assert!(!authorizer().finds(&exchange) && exchange.request.headers.get(b"content-digest").is_some());
}

proptest! {
    /// Whatever is signed is verified, and with one byte of it altered it is not.
    #[test]
    fn what_was_signed_is_what_came(
        method in "GET|POST|PUT|PURGE", path in "(/[a-z0-9.%2]{0,5}){1,3}", query in "[a-z0-9=&+]{0,12}",
        host in "[a-z]{1,8}(\\.[a-z]{1,5})?", value in "[ -~]{0,12}", body in proptest::collection::vec(any::<u8>(), 1..40),
        alter in any::<(u8, u8)>(), ed in any::<bool>(),
    ) {
        let digest = format!("sha-256={}", digest_field(&SHA256, &body));
        let trimmed = value.trim_matches([' ', '\t']);
        let list = "(\"@method\" \"@authority\" \"@path\" \"@query\" \"x\" \"content-digest\")";
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let sign = |base: &str| match ed {
            true => pair.sign(base.as_bytes()).as_ref().to_vec(),
            false => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"secret"), base.as_bytes()).as_ref().to_vec(),
        };
        let mut authorizer = authorizer();
        let mut spki = base64::decode(b"MCowBQYDK2VwAyEA").unwrap();
        spki.extend_from_slice(pair.public_key().as_ref());
        let mut pem = b"-----BEGIN PUBLIC KEY-----\n".to_vec();
        base64::encode(&spki, &mut pem);
        pem.extend_from_slice(b"\n-----END PUBLIC KEY-----");
        let key = if ed { Key::public(PublicAlgorithm::Ed25519, &pem).unwrap() } else { Key::hmac(b"secret") };
        authorizer.keys.insert("k".into(), key);
        let params = format!(";created={CREATED};keyid=\"k\"");
        let base = format!(
            "\"@method\": {method}\n\"@authority\": {host}\n\"@path\": {path}\n\"@query\": ?{query}\n\"x\": {trimmed}\n\"content-digest\": {digest}\n\"@signature-params\": {list}{params}"
        );
        let mut text = Vec::new();
        base64::encode(&sign(&base), &mut text);
        let text = String::from_utf8(text).unwrap();
        let head = |parts: [&str; 6]| {
            let [method, path, query, host, value, text] = parts;
            let head = format!(
                "{method} {path}?{query} HTTP/1.1\nHost: {host}\nX: {value}\nContent-Digest: {digest}\nSignature-Input: s={list}{params}\nSignature: s=:{text}:\nContent-Length: {}\n\n",
                body.len()
            );
            head.replace('\n', "\r\n")
        };
        let parts = [&*method, &path, &query, &host, trimmed, &text];
        let Some(mut good) = try_exchange(&head(parts), &body) else { return Ok(()) };
        let ports = Fixed::at(CREATED);
        prop_assert_eq!(decide(&authorizer, &mut good, &ports), Ok("k".to_owned()));
        // The body.
        let mut other = body.clone();
        let at = usize::from(alter.1) % other.len();
        other[at] ^= 1 << (alter.0 % 8);
        let mut bad = try_exchange(&head(parts), &other).unwrap();
        prop_assert!(decide(&authorizer, &mut bad, &ports).is_err());
        // A part of the head.
        let which = usize::from(alter.0) % parts.len();
        let mut part = parts[which].as_bytes().to_vec();
        if !part.is_empty() {
            let at = usize::from(alter.1) % part.len();
            part[at] = if part[at].eq_ignore_ascii_case(&b'q') { b'7' } else { b'q' };
            let part = String::from_utf8(part).unwrap();
            let mut altered = parts;
            altered[which] = &part;
            if let Some(mut bad) = try_exchange(&head(altered), &body) {
                prop_assert!(decide(&authorizer, &mut bad, &ports).is_err());
            }
        }
    }
}
