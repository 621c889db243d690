use super::*;
use std::time::Duration;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2026-11-22 22:30:00
const NOW: u64 = 1_795_386_600;
const STAMP: &[u8] = b"20261122T223000Z";
const TOKEN: &[u8] = b"IQoJb3JpZ2luX2VjEXAMPLETOKEN//////////";

type Header<'a> = (&'a [u8], &'a [u8]);

/// What a client asked, as it was on the wire, and how it was signed.
struct Vector<'a> {
    region: &'a str,
    path: &'a str,
    query: &'a str,
    host: &'a str,
    headers: Vec<Header<'a>>,
    body: &'a str,
    authorization: &'a str,
}

/// By botocore 1.44.5: `create_client("lambda", …)` with the keys above, `botocore.auth.get_current_datetime` set to `NOW`, the request taken
/// in the event `before-send` of `invoke` and `invoke_with_response_stream`.
fn botocore() -> Vec<Vector<'static>> {
    vec![
        Vector {
            region: "eu-west-1",
            path: "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Abill%3Alive/invocations",
            query: "",
            host: "lambda.eu-west-1.amazonaws.com",
            headers: vec![
                (b"X-Amz-Invocation-Type", b"RequestResponse"),
                (b"X-Amz-Log-Type", b"Tail"),
                (b"X-Amz-Client-Context", b"eyJjdXN0b20iOnt9fQ=="),
                (b"X-Amz-Date", STAMP),
            ],
            body: r#"{"a":1}"#,
            authorization: "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/eu-west-1/lambda/aws4_request, SignedHeaders=host;x-amz-client-context;x-amz-date;x-amz-invocation-type;x-amz-log-type, Signature=0ba5a609ac551f911ae7bdad2dcd05a33d7e94fc55c2b7a65f85f2f3220c27e7",
        },
        Vector {
            region: "eu-west-1",
            path: "/2015-03-31/functions/bill/invocations",
            query: "Qualifier=%24LATEST",
            host: "127.0.0.1:37699",
            headers: vec![(b"X-Amz-Invocation-Type", b"Event"), (b"X-Amz-Date", STAMP), (b"X-Amz-Security-Token", TOKEN)],
            body: "",
            authorization: "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/eu-west-1/lambda/aws4_request, SignedHeaders=host;x-amz-date;x-amz-invocation-type;x-amz-security-token, Signature=3638bc69caa2faf7713d29caf50e2c49c10e99ed076925614610f3f4eca08fb9",
        },
        Vector {
            region: "us-east-1",
            path: "/2021-11-15/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Abill%3A%24LATEST/response-streaming-invocations",
            query: "",
            host: "lambda.us-east-1.amazonaws.com",
            headers: vec![(b"X-Amz-Date", STAMP)],
            body: r#"{"größe":"ü"}"#,
            authorization: "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/lambda/aws4_request, SignedHeaders=host;x-amz-date, Signature=fbe69a49838369ede9b426e890eea2d0503762ef48bbf65c7223134ce26989ff",
        },
    ]
}

impl Vector<'_> {
    fn parts<'a>(&'a self, headers: &'a [Header<'a>]) -> Parts<'a> {
        let (path, query, host) = (self.path.as_bytes(), self.query.as_bytes(), self.host.as_bytes());
        Parts { method: b"POST", path, query, host, headers }
    }
}

#[test]
fn what_botocore_signs_is_signed_so_here() {
    let secret = SecretKey::new(SECRET);
    for vector in botocore() {
        let signing = Signing { key_id: "AKIDEXAMPLE", secret: &secret, region: vector.region, service: "lambda", time: NOW };
        let hash = hash(vector.body.as_bytes());
        let signed = authorization(&vector.parts(&vector.headers), &signing, &hash);
        assert_eq!(signed.as_deref(), Ok(vector.authorization));
    }
}

#[test]
fn what_botocore_signs_is_good_and_altered_it_is_not() {
    let secret = SecretKey::new(SECRET);
    for vector in botocore() {
        let authorization: Header<'_> = (b"Authorization", vector.authorization.as_bytes());
        // Keys with a session token are nobody's here.
        let has_token = vector.headers.iter().any(|(_, value)| *value == TOKEN);
        let headers: Vec<Header<'_>> = vector.headers.iter().copied().chain([authorization]).collect();
        let parts = vector.parts(&headers);
        let claim = Claim::read(&parts);
        assert_eq!(claim.is_err(), has_token);
        let Ok(claim) = claim else { continue };
        assert_eq!((&*claim.key_id, &*claim.region, &*claim.service), ("AKIDEXAMPLE", vector.region, "lambda"));
        assert_eq!(verify(&parts, &claim, &secret, vector.body.as_bytes()), Ok(()));
        let elsewhere = Parts { host: b"lambda.eu-west-2.amazonaws.com", ..parts.clone() };
        let other = Parts { path: b"/2015-03-31/functions/other/invocations", ..parts.clone() };
        let asking = Parts { query: b"Qualifier=7", ..parts.clone() };
        let got = Parts { method: b"GET", ..parts.clone() };
        for altered in [elsewhere, other, asking, got] {
            assert!(verify(&altered, &claim, &secret, vector.body.as_bytes()).is_err(), "{altered:?}");
        }
        assert!(verify(&parts, &claim, &secret, b"another body").is_err());
        assert!(verify(&parts, &claim, &SecretKey::new("another"), vector.body.as_bytes()).is_err());
        let other_date: Vec<Header<'_>> =
            headers.iter().map(|&(name, value)| (name, if value == STAMP { &b"20261122T223001Z"[..] } else { value })).collect();
        let altered = vector.parts(&other_date);
        assert!(verify(&altered, &Claim::read(&altered).unwrap(), &secret, vector.body.as_bytes()).is_err());
    }
}

#[test]
fn the_stated_hash_is_that_of_the_body() {
    let secret = SecretKey::new(SECRET);
    let signing = Signing { key_id: "AKID", secret: &secret, region: "r", service: "lambda", time: NOW };
    for (stated, good) in [(&hash(b"body")[..], true), (&hash(b"other")[..], false), (UNSIGNED, false), (b"STREAMING-X", false)] {
        let headers: [Header<'_>; 2] = [(b"x-amz-date", STAMP), (b"x-amz-content-sha256", stated)];
        let parts = Parts { method: b"POST", path: b"/", query: b"", host: b"h", headers: &headers };
        let mut signed_over = [0; 64];
        signed_over[..stated.len()].copy_from_slice(stated);
        let authorization = authorization(&parts, &signing, &signed_over).unwrap();
        let headers: Vec<Header<'_>> = headers.into_iter().chain([(&b"authorization"[..], authorization.as_bytes())]).collect();
        let parts = Parts { headers: &headers, ..parts };
        let claim = Claim::read(&parts).unwrap();
        assert_eq!(verify(&parts, &claim, &secret, b"body").is_ok(), good, "{}", stated.escape_ascii());
    }
}

#[test]
fn the_published_first_request_of_the_suite() {
    let secret = SecretKey::new(SECRET);
    let headers: [Header<'_>; 1] = [(b"X-Amz-Date", b"20150830T123600Z")];
    let parts = Parts { method: b"GET", path: b"", query: b"", host: b"example.amazonaws.com", headers: &headers };
    let signing =
        Signing { key_id: "AKIDEXAMPLE", secret: &secret, region: "us-east-1", service: "service", time: 1_440_938_160 };
    let signed = authorization(&parts, &signing, &hash(b"")).unwrap();
    assert!(signed.ends_with("Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"), "{signed}");
}

#[test]
fn a_signature_has_its_time() {
    let vector = &botocore()[0];
    let claim = Claim::from_header(vector.authorization.as_bytes(), NOW).unwrap();
    let max = Duration::from_secs(300);
    for (now, good) in [(NOW - 301, false), (NOW - 300, true), (NOW, true), (NOW + 300, true), (NOW + 301, false)] {
        assert_eq!(claim.check_time(Duration::from_secs(now), max).is_ok(), good, "{now}");
    }
}
