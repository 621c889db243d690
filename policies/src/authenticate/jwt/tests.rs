//! Vectors of the standards, and of the attacks on them (RFC 8725).

use super::rules::Claims;
use super::*;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::{hmac, rand, rsa, signature};
use maitred_core::identity::{KeySet, base64url};
use maitred_model::{AuthorizerKind, JwtAlgorithm, Memory, load_text};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// RFC 7515 appendix A: the same claims in all of them.
const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const A1_KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const A1_HEADER: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9";
const A1_SIGNATURE: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const A2_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const A2_HEADER: &str = "eyJhbGciOiJSUzI1NiJ9";
const A2_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const A3_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const A3_HEADER: &str = "eyJhbGciOiJFUzI1NiJ9";
const A3_SIGNATURE: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const A2_EXPONENT: &str = "AQAB";
/// Before the end of appendix A's claims.
const THEN: Duration = Duration::from_secs(1_300_819_000);
const NOW: Duration = Duration::from_secs(2_000_000_000);

fn a2_key() -> String {
    format!(r#"{{"kty":"RSA","n":"{A2_N}","e":"{A2_EXPONENT}"}}"#)
}

fn jwks(keys: &[String]) -> String {
    format!("{{\"keys\":[{}]}}", keys.join(","))
}

/// By way of the configuration, as users write it.
fn rules(options: &str, keys: &str) -> Rules {
    let text = format!("listen: 127.0.0.1:0\nauthorizers: {{ a: {{ jwt: {{ jwks: keys.json{options} }} }} }}\napis: {{}}\n");
    let loaded = load_text("test.yaml", &text, &Memory::default().file("keys.json", keys));
    let document = loaded.document.unwrap_or_else(|| panic!("{text}"));
    let AuthorizerKind::Jwt(jwt) = &document.authorizers["a"].kind else { unreachable!("written above") };
    Rules::new(jwt)
}

fn shared_rules() -> Rules {
    let text = "listen: 127.0.0.1:0\nauthorizers: { a: { jwt: { secret: \"0123456789012345678901234567890123456789012345678901234567890123\", algorithms: [HS256, HS384, HS512] } } }\napis: {}\n";
    let document = load_text("test.yaml", text, &Memory::default()).document.expect("loads");
    let AuthorizerKind::Jwt(jwt) = &document.authorizers["a"].kind else { unreachable!("written above") };
    Rules::new(jwt)
}

fn verify(rules: &Rules, keys: &KeySet, text: &[u8], now: Duration) -> Result<Claims, Flaw> {
    let token = Token::parse(text)?;
    rules.typ(&token.header)?;
    let algorithm = rules.algorithm(&token.header)?;
    rules.signature(&token, algorithm, keys)?;
    let claims = token.claims()?;
    rules.claims(&claims, now)?;
    rules.principal(claims.clone()).map(|_| claims)
}

/// An issuer with one key of each kind.
struct Issuer {
    rsa: signature::RsaKeyPair,
    p256: signature::EcdsaKeyPair,
    p384: signature::EcdsaKeyPair,
    p521: signature::EcdsaKeyPair,
    ed: signature::Ed25519KeyPair,
    jwks: String,
    keys: KeySet,
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let rsa = signature::RsaKeyPair::generate(rsa::KeySize::Rsa2048).expect("a key");
    let p256 = signature::EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let p384 = signature::EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
    let p521 = signature::EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_FIXED_SIGNING).expect("a key");
    let ed = signature::Ed25519KeyPair::generate().expect("a key");
    let point = |name: &str, curve: &str, point: &[u8]| {
        let (x, y) = point[1..].split_at(point.len() / 2);
        json!({"kty": "EC", "crv": curve, "kid": name, "x": base64url::encode(x), "y": base64url::encode(y)}).to_string()
    };
    // RFC 8017 §A.1.1: the number stands behind nine bytes of ASN.1, the last of them a zero, and before five of the exponent.
    let der = rsa.public_key().as_ref();
    let n = base64url::encode(&der[9..der.len() - 5]);
    let jwks = jwks(&[
        json!({"kty": "RSA", "kid": "rsa", "n": n, "e": A2_EXPONENT}).to_string(),
        point("p256", "P-256", p256.public_key().as_ref()),
        point("p384", "P-384", p384.public_key().as_ref()),
        point("p521", "P-521", p521.public_key().as_ref()),
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": base64url::encode(ed.public_key().as_ref())}).to_string(),
    ]);
    let keys = KeySet::parse(jwks.as_bytes()).expect("keys");
    Issuer { rsa, p256, p384, p521, ed, jwks, keys }
});

impl Issuer {
    fn rules(&self, options: &str) -> Rules {
        rules(options, &self.jwks)
    }

    fn sign(&self, algorithm: JwtAlgorithm, message: &[u8]) -> Vec<u8> {
        let random = rand::SystemRandom::new();
        let rsa = |encoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &random, message, &mut signature).expect("signed");
            signature
        };
        let ec = |key: &signature::EcdsaKeyPair| key.sign(&random, message).expect("signed").as_ref().to_vec();
        match algorithm {
            JwtAlgorithm::Rs256 => rsa(&signature::RSA_PKCS1_SHA256),
            JwtAlgorithm::Rs384 => rsa(&signature::RSA_PKCS1_SHA384),
            JwtAlgorithm::Rs512 => rsa(&signature::RSA_PKCS1_SHA512),
            JwtAlgorithm::Ps256 => rsa(&signature::RSA_PSS_SHA256),
            JwtAlgorithm::Ps384 => rsa(&signature::RSA_PSS_SHA384),
            JwtAlgorithm::Ps512 => rsa(&signature::RSA_PSS_SHA512),
            JwtAlgorithm::Es256 => ec(&self.p256),
            JwtAlgorithm::Es384 => ec(&self.p384),
            JwtAlgorithm::Es512 => ec(&self.p521),
            JwtAlgorithm::EdDsa => self.ed.sign(message).as_ref().to_vec(),
            JwtAlgorithm::Hs256 | JwtAlgorithm::Hs384 | JwtAlgorithm::Hs512 => unreachable!("nothing is shared"),
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let algorithm = header["alg"].as_str().and_then(JwtAlgorithm::of).unwrap_or(JwtAlgorithm::EdDsa);
        self.token_of(algorithm, &header.to_string(), &claims.to_string())
    }

    /// Header and claims as texts, for those that no library would write.
    fn token_of(&self, algorithm: JwtAlgorithm, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64url::encode(header.as_bytes()), base64url::encode(claims.as_bytes()));
        let signature = base64url::encode(&self.sign(algorithm, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn verify(&self, options: &str, header: &Value, claims: &Value) -> Result<Claims, Flaw> {
        verify(&self.rules(options), &self.keys, self.token(header, claims).as_bytes(), NOW)
    }
}

fn good() -> Value {
    json!({"iss": "joe", "sub": "alice", "exp": NOW.as_secs() + 60})
}

fn ed() -> Value {
    json!({"alg": "EdDSA", "kid": "ed"})
}

#[test]
fn the_tokens_of_rfc_7515_are_valid_until_their_end() {
    let secret = base64url::decode(A1_KEY.as_bytes()).expect("base64url");
    let shared = KeySet::shared(&secret, &[JwtAlgorithm::Hs256]);
    let public = |key: &str| KeySet::parse(jwks(&[key.to_owned()]).as_bytes()).expect("a set");
    let any = rules(", issuer: joe", A3_KEY);
    let hs = shared_rules();
    for (rules, keys, token) in [
        (&hs, shared, format!("{A1_HEADER}.{CLAIMS}.{A1_SIGNATURE}")),
        (&any, public(&a2_key()), format!("{A2_HEADER}.{CLAIMS}.{A2_SIGNATURE}")),
        (&any, public(A3_KEY), format!("{A3_HEADER}.{CLAIMS}.{A3_SIGNATURE}")),
    ] {
        let claims = verify(rules, &keys, token.as_bytes(), THEN).unwrap_or_else(|flaw| panic!("{token}: {flaw:?}"));
        assert_eq!((claims["iss"].as_str(), claims["exp"].as_u64()), (Some("joe"), Some(1_300_819_380)));
        let late = verify(rules, &keys, token.as_bytes(), Duration::from_secs(1_300_819_380 + 30));
        assert!(matches!(late, Err(Flaw::Expired(_))), "{late:?}");
    }
}

#[test]
fn each_algorithm_verifies_what_it_signed_and_nothing_else() {
    for algorithm in JwtAlgorithm::SIGNATURES {
        let kid = match algorithm {
            JwtAlgorithm::Es256 => "p256",
            JwtAlgorithm::Es384 => "p384",
            JwtAlgorithm::Es512 => "p521",
            JwtAlgorithm::EdDsa => "ed",
            _ => "rsa",
        };
        let name = algorithm.as_str();
        ISSUER.verify("", &json!({"alg": name, "kid": kid}), &good()).unwrap_or_else(|flaw| panic!("{name}: {flaw:?}"));
        ISSUER.verify("", &json!({"alg": name}), &good()).unwrap_or_else(|flaw| panic!("{name} without kid: {flaw:?}"));
        // Signed in one way, and said to be signed in another.
        for other in JwtAlgorithm::SIGNATURES.into_iter().filter(|other| *other != algorithm) {
            let token = ISSUER.token_of(algorithm, &json!({"alg": other.as_str(), "kid": kid}).to_string(), &good().to_string());
            assert!(verify(&ISSUER.rules(""), &ISSUER.keys, token.as_bytes(), NOW).is_err(), "{name} as {}", other.as_str());
        }
        let only = if algorithm == JwtAlgorithm::EdDsa { "RS256" } else { "EdDSA" };
        let refused = ISSUER.verify(&format!(", algorithms: [{only}]"), &json!({"alg": name, "kid": kid}), &good());
        assert!(matches!(refused, Err(Flaw::Algorithm(_))), "{refused:?}");
    }
    assert!(ISSUER.verify("", &json!({"alg": "Ed25519", "kid": "ed"}), &good()).is_ok(), "RFC 9864's name for it");
}

#[test]
fn shared_secrets_of_each_length() {
    let secret = b"0123456789012345678901234567890123456789012345678901234567890123";
    let rules = shared_rules();
    for (algorithm, hash) in [
        (JwtAlgorithm::Hs256, hmac::HMAC_SHA256),
        (JwtAlgorithm::Hs384, hmac::HMAC_SHA384),
        (JwtAlgorithm::Hs512, hmac::HMAC_SHA512),
    ] {
        let keys = KeySet::shared(secret, &JwtAlgorithm::SHARED);
        let header = json!({"alg": algorithm.as_str()}).to_string();
        let signed = format!("{}.{}", base64url::encode(header.as_bytes()), base64url::encode(good().to_string().as_bytes()));
        let tag = hmac::sign(&hmac::Key::new(hash, secret), signed.as_bytes());
        let token = |tag: &[u8]| format!("{signed}.{}", base64url::encode(tag));
        assert!(verify(&rules, &keys, token(tag.as_ref()).as_bytes(), NOW).is_ok());
        // A part of a right tag is none.
        for length in [1, 16, tag.as_ref().len() - 1] {
            assert!(verify(&rules, &keys, token(&tag.as_ref()[..length]).as_bytes(), NOW).is_err());
        }
    }
}

#[test]
fn no_signature_is_never_enough() {
    // RFC 7519 §6.1.
    let unsecured = format!("eyJhbGciOiJub25lIn0.{CLAIMS}.");
    let rules = rules("", A3_KEY);
    let keys = KeySet::parse(jwks(&[A3_KEY.to_owned()]).as_bytes()).expect("a set");
    let refused = verify(&rules, &keys, unsecured.as_bytes(), THEN);
    assert!(matches!(&refused, Err(Flaw::Malformed(why)) if why == "it has no signature"), "{refused:?}");
    for alg in ["none", "None", "NONE", "nOnE", "", "es256", "ES256 ", "HS256", "RS256\0", "ES256K", "dir", "A128KW"] {
        for signature in [A3_SIGNATURE, "AA"] {
            let header = base64url::encode(json!({"alg": alg}).to_string().as_bytes());
            let refused = verify(&rules, &keys, format!("{header}.{CLAIMS}.{signature}").as_bytes(), THEN);
            assert!(matches!(refused, Err(Flaw::Algorithm(_))), "{alg}: {refused:?}");
        }
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    // The token is signed by HMAC with what everybody knows: the public key, in each form that libraries took it in.
    let n = base64url::decode(A2_N.as_bytes()).expect("base64url");
    let keys = KeySet::parse(jwks(&[a2_key()]).as_bytes()).expect("a set");
    let rules = rules("", &jwks(&[a2_key()]));
    for secret in [n, a2_key().into_bytes(), jwks(&[a2_key()]).into_bytes()] {
        let signed = format!("{}.{CLAIMS}", base64url::encode(br#"{"alg":"HS256"}"#));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
        let token = format!("{signed}.{}", base64url::encode(tag.as_ref()));
        assert!(matches!(verify(&rules, &keys, token.as_bytes(), THEN), Err(Flaw::Algorithm(_))));
        // Even where somebody would have let HS256 in, a key of RSA verifies none.
        assert!(!keys.keys()[0].verifies(JwtAlgorithm::Hs256, signed.as_bytes(), tag.as_ref()));
    }
}

#[test]
fn a_name_of_a_key_is_a_name_and_nothing_else() {
    for kid in [
        "../../../../dev/null",
        "/etc/passwd",
        "file:///dev/null",
        "https://evil.example/keys",
        "x' UNION SELECT 'secret' --",
        "ed\0",
        "ED",
        "",
        " ed",
        "| cat /etc/passwd",
    ] {
        let refused = ISSUER.verify("", &json!({"alg": "EdDSA", "kid": kid}), &good());
        assert!(matches!(refused, Err(Flaw::UnknownKey(_))), "{kid}: {refused:?}");
    }
    for kid in [json!(1), json!(null), json!(["ed"]), json!({"a": "ed"})] {
        assert!(matches!(ISSUER.verify("", &json!({"alg": "EdDSA", "kid": kid}), &good()), Err(Flaw::Malformed(_))));
    }
    // The name of a key of another kind.
    assert!(matches!(ISSUER.verify("", &json!({"alg": "EdDSA", "kid": "rsa"}), &good()), Err(Flaw::Algorithm(_))));
}

#[test]
fn keys_that_a_token_brings_along_are_not_looked_at() {
    let own = signature::Ed25519KeyPair::generate().expect("a key");
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": base64url::encode(own.public_key().as_ref())});
    for brought in [
        json!({"alg": "EdDSA", "jwk": jwk}),
        json!({"alg": "EdDSA", "kid": "ed", "jwk": jwk}),
        json!({"alg": "EdDSA", "kid": "mine", "jku": "https://evil.example/keys"}),
        json!({"alg": "EdDSA", "x5u": "https://evil.example/cert"}),
        json!({"alg": "EdDSA", "x5c": ["MIIB"]}),
    ] {
        let signed =
            format!("{}.{}", base64url::encode(brought.to_string().as_bytes()), base64url::encode(good().to_string().as_bytes()));
        let token = format!("{signed}.{}", base64url::encode(own.sign(signed.as_bytes()).as_ref()));
        assert!(verify(&ISSUER.rules(""), &ISSUER.keys, token.as_bytes(), NOW).is_err(), "{brought}");
    }
    // Beside a right signature they are idle words.
    assert!(ISSUER.verify("", &json!({"alg": "EdDSA", "kid": "ed", "jku": "https://x", "x5t": "AA"}), &good()).is_ok());
}

#[test]
fn a_header_is_read_in_one_way_or_not_at_all() {
    let claims = good().to_string();
    for header in [
        r#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#,
        r#"{"alg":"EdDSA","crit":[]}"#,
        r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#,
        r#"{"alg":"EdDSA","b64":true}"#,
        r#"{"alg":"none","alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","\u0061lg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","kid":"x","kid":"ed"}"#,
        r#"{"alg":["EdDSA"]}"#,
        r#"{"alg":null}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"EdDSA","typ":1}"#,
        r#"["alg","EdDSA"]"#,
        r#""EdDSA""#,
        r#"{"alg":"EdDSA"}{}"#,
        "{}",
        "",
        "{",
    ] {
        let token = ISSUER.token_of(JwtAlgorithm::EdDsa, header, &claims);
        let refused = verify(&ISSUER.rules(""), &ISSUER.keys, token.as_bytes(), NOW);
        assert!(matches!(refused, Err(Flaw::Malformed(_))), "{header}: {refused:?}");
    }
}

#[test]
fn claims_are_read_in_one_way_or_not_at_all() {
    let end = NOW.as_secs() + 60;
    let bomb = format!(r#"{{"exp":{end},"a":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
    for (claims, flaw) in [
        (format!(r#"{{"exp":1,"exp":{end}}}"#), "malformed"),
        (format!(r#"{{"exp":{end},"sub":"a","sub":"b"}}"#), "malformed"),
        (format!(r#"{{"exp":{end},"a":{{"b":1,"b":2}}}}"#), "malformed"),
        (bomb, "malformed"),
        ("[]".to_owned(), "malformed"),
        ("\"text\"".to_owned(), "malformed"),
        (format!(r#"{{"exp":"{end}"}}"#), "`exp` is of the wrong kind"),
        (r#"{"exp":null}"#.to_owned(), "`exp` is of the wrong kind"),
        (r#"{"exp":true}"#.to_owned(), "`exp` is of the wrong kind"),
        (r#"{"exp":[9999999999]}"#.to_owned(), "`exp` is of the wrong kind"),
        (r#"{"exp":-1}"#.to_owned(), "`exp` is of the wrong kind"),
        (r#"{"exp":1e300}"#.to_owned(), "`exp` is of the wrong kind"),
        (r#"{"exp":1e999}"#.to_owned(), "malformed"),
        (r#"{"sub":"alice"}"#.to_owned(), "no `exp`"),
        (format!(r#"{{"exp":{end},"nbf":"0"}}"#), "`nbf` is of the wrong kind"),
        (format!(r#"{{"exp":{end},"iat":"0"}}"#), "`iat` is of the wrong kind"),
        (format!(r#"{{"exp":{end},"iss":["joe"]}}"#), "`iss` is of the wrong kind"),
        (format!(r#"{{"exp":{end},"aud":{{"kitchen":1}}}}"#), "`aud` is of the wrong kind"),
        (format!(r#"{{"exp":{end},"aud":["kitchen",1]}}"#), "`aud` is of the wrong kind"),
        (format!(r#"{{"exp":{end},"sub":7}}"#), "`sub` is of the wrong kind"),
        (format!(r#"{{"exp":{end},"scope":7}}"#), "`scope` is of the wrong kind"),
        (format!(r#"{{"exp":{end},"scope":["a",7]}}"#), "`scope` is of the wrong kind"),
        (format!(r#"{{"exp":{end},"groups":{{"admin":true}}}}"#), "`groups` is of the wrong kind"),
    ] {
        let token = ISSUER.token_of(JwtAlgorithm::EdDsa, &ed().to_string(), &claims);
        let refused = verify(&ISSUER.rules(""), &ISSUER.keys, token.as_bytes(), NOW).expect_err(&claims);
        let told = if matches!(refused, Flaw::Malformed(_)) { "malformed" } else { refused.detail() };
        assert!(told.contains(flaw), "{claims}: {refused:?}");
    }
}

#[test]
fn times_have_a_leeway() {
    let now = NOW.as_secs();
    for (claims, expected) in [
        (json!({"exp": now - 29}), "ok"),
        (json!({"exp": now - 30}), "expired"),
        (json!({"exp": now as f64 - 29.5}), "ok"),
        (json!({"exp": 0}), "expired"),
        (json!({"exp": now + 60, "nbf": now + 30}), "ok"),
        (json!({"exp": now + 60, "nbf": now + 31}), "early"),
        (json!({"exp": now + 60, "iat": now + 30}), "ok"),
        (json!({"exp": now + 60, "iat": now + 31}), "early"),
        (json!({"exp": now + 60, "nbf": 0, "iat": 0}), "ok"),
    ] {
        let told = match ISSUER.verify("", &ed(), &claims) {
            Ok(_) => "ok",
            Err(Flaw::Expired(_)) => "expired",
            Err(Flaw::TooEarly(_)) => "early",
            Err(flaw) => panic!("{claims}: {flaw:?}"),
        };
        assert_eq!(told, expected, "{claims}");
    }
    assert!(ISSUER.verify(", leeway: 0s", &ed(), &json!({"exp": now})).is_err());
    assert!(ISSUER.verify(", leeway: 0s", &ed(), &json!({"exp": now + 1})).is_ok());
}

#[test]
fn issuer_audience_and_what_is_required() {
    let with = |more: Value| {
        let mut claims = json!({"exp": NOW.as_secs() + 60});
        claims.as_object_mut().expect("a mapping").extend(more.as_object().expect("a mapping").clone());
        claims
    };
    for (options, more, is_good) in [
        (", issuer: joe", json!({"iss": "joe"}), true),
        (", issuer: joe", json!({"iss": "Joe"}), false),
        (", issuer: joe", json!({"iss": "joe/"}), false),
        (", issuer: joe", json!({}), false),
        ("", json!({"iss": "anybody"}), true),
        (", audience: kitchen", json!({"aud": "kitchen"}), true),
        (", audience: kitchen", json!({"aud": ["bar", "kitchen"]}), true),
        (", audience: [bar, kitchen]", json!({"aud": "kitchen"}), true),
        (", audience: kitchen", json!({"aud": "kitchen2"}), false),
        (", audience: kitchen", json!({"aud": []}), false),
        (", audience: kitchen", json!({}), false),
        ("", json!({"aud": "somebody else"}), false),
        ("", json!({"aud": []}), false),
        (", required_claims: [tenant]", json!({"tenant": 7}), true),
        (", required_claims: [tenant]", json!({"tenant": null}), false),
        (", required_claims: [tenant]", json!({}), false),
    ] {
        let result = ISSUER.verify(options, &ed(), &with(more.clone()));
        assert_eq!(result.is_ok(), is_good, "{options} {more}: {result:?}");
    }
}

#[test]
fn a_type_is_compared_as_media_types_are() {
    for (typ, is_good) in [
        (Some("at+jwt"), true),
        (Some("AT+JWT"), true),
        (Some("application/at+jwt"), true),
        (Some("Application/At+Jwt"), true),
        (Some("JWT"), false),
        (Some("application/application/at+jwt"), false),
        (Some("text/at+jwt"), false),
        (Some(""), false),
        (None, false),
    ] {
        let mut header = ed();
        if let Some(typ) = typ {
            header["typ"] = typ.into();
        }
        for option in [", typ: at+jwt", ", typ: application/at+jwt"] {
            assert_eq!(ISSUER.verify(option, &header, &good()).is_ok(), is_good, "{typ:?}");
        }
        assert!(ISSUER.verify("", &header, &good()).is_ok());
    }
}

#[test]
fn a_text_that_is_almost_a_token_is_none() {
    let token = ISSUER.token(&ed(), &good());
    let rules = ISSUER.rules("");
    let check = |text: &str| verify(&rules, &ISSUER.keys, text.as_bytes(), NOW);
    assert!(check(&token).is_ok());
    let (signed, signature) = token.rsplit_once('.').expect("dots");
    let (header, payload) = signed.split_once('.').expect("dots");
    // Of the last letter of 64 bytes in base64 four bits say nothing: they must be zero.
    let last = signature.chars().last().expect("letters");
    let other = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        .chars()
        .nth("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".find(last).expect("a digit") + 1)
        .expect("another");
    let uncanonical = format!("{signed}.{}{other}", &signature[..signature.len() - 1]);
    let long = format!("{}{token}", "A".repeat(TOKEN_BYTES_MAX));
    for text in [
        "",
        ".",
        "..",
        "...",
        signed,
        &format!("{signed}."),
        &format!(".{payload}.{signature}"),
        &format!("{header}..{signature}"),
        &format!("{token}."),
        &format!(".{token}"),
        &format!("{token}.{signature}"),
        &format!("{token}="),
        &format!("{token}=="),
        &format!("{header}=.{payload}.{signature}"),
        &format!("{token} "),
        &format!("{token}\n"),
        &format!("{header}.{payload}.{}", signature.replace(['-', '_'], "+")).replace('+', "/"),
        &uncanonical,
        &long,
        &"A".repeat(1_000_000),
        &".".repeat(1_000_000),
    ] {
        if *text != *token {
            assert!(check(text).is_err(), "{}", &text[..text.len().min(200)]);
        }
    }
}

#[test]
fn signatures_of_ecdsa_that_are_no_numbers() {
    let header = json!({"alg": "ES256", "kid": "p256"}).to_string();
    let signed = format!("{}.{}", base64url::encode(header.as_bytes()), base64url::encode(good().to_string().as_bytes()));
    let right = ISSUER.sign(JwtAlgorithm::Es256, signed.as_bytes());
    let (r, s) = right.split_at(32);
    let order = base64url::decode(b"_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE").expect("the order of P-256");
    let der = ISSUER_DER_LIKE.to_vec();
    for signature in [
        vec![0; 64],
        [&[0; 32], s].concat(),
        [r, &[0; 32]].concat(),
        [&order[..], s].concat(),
        [r, &order[..]].concat(),
        vec![0xff; 64],
        right[..63].to_vec(),
        [&right[..], &[0]].concat(),
        [&[0][..], &right].concat(),
        [&[0][..], r, &[0], s].concat(),
        [s, r].concat(),
        vec![0],
        der,
    ] {
        let token = format!("{signed}.{}", base64url::encode(&signature));
        let refused = verify(&ISSUER.rules(""), &ISSUER.keys, token.as_bytes(), NOW);
        assert!(matches!(refused, Err(Flaw::Signature(_))), "{signature:?}: {refused:?}");
    }
}

/// The signature r = s = 1 in ASN.1, which is not how tokens write it.
const ISSUER_DER_LIKE: [u8; 8] = [0x30, 6, 2, 1, 1, 2, 1, 1];

#[test]
fn who_it_is_stands_in_the_claims() {
    let principal = |options: &str, more: Value| {
        let rules = ISSUER.rules(options);
        rules.principal(more.as_object().expect("a mapping").clone()).expect("somebody")
    };
    let words = |words: &[Box<str>]| words.join("|");
    let who = principal("", json!({"iss": "joe", "sub": "alice", "scope": "read  write", "scp": ["x"], "groups": ["a b", "c"]}));
    assert_eq!((who.issuer.as_deref(), who.subject.as_deref()), (Some("joe"), Some("alice")));
    assert_eq!((words(&who.scopes), words(&who.groups)), ("read|write".to_owned(), "a b|c".to_owned()));
    let who = principal("", json!({"scp": ["read", "write"], "groups": "staff"}));
    assert_eq!((who.subject, words(&who.scopes), words(&who.groups)), (None, "read|write".to_owned(), "staff".to_owned()));
    assert_eq!(principal("", json!({"sub": ""})).subject, None);
    let options = ", subject_claim: email, scopes_claim: permissions, groups_claim: realm_access.roles";
    let claims = json!({"sub": "1", "email": "a@x", "permissions": "p q", "scope": "s", "realm_access": {"roles": ["r"]}});
    let who = principal(options, claims);
    assert_eq!(who.subject.as_deref(), Some("a@x"));
    assert_eq!((words(&who.scopes), words(&who.groups)), ("p|q".to_owned(), "r".to_owned()));
}

#[test]
fn the_lamp_and_the_gate_say_the_same() {
    let rules = ISSUER.rules(", issuer: joe, audience: kitchen");
    let mut claims = good();
    claims["aud"] = "kitchen".into();
    let look = |token: &str| inspect(&rules, Ok(&ISSUER.keys), token.as_bytes(), NOW);
    let right = look(&ISSUER.token(&ed(), &claims));
    assert!(right.is_valid(), "{:?}", right.checks);
    let names: Vec<_> = right.checks.iter().map(|check| check.name).collect();
    let all =
        ["form", "typ", "alg", "key", "signature", "iss", "aud", "exp", "nbf", "iat", "required", "subject", "scopes", "groups"];
    assert_eq!(names, all);
    claims["aud"] = "bar".into();
    claims["exp"] = 1.into();
    let wrong = look(&ISSUER.token(&json!({"alg": "EdDSA", "kid": "x"}), &claims));
    let failed: Vec<_> = wrong.checks.iter().filter(|check| check.result.is_err()).map(|check| check.name).collect();
    assert_eq!(failed, ["key", "signature", "aud", "exp"], "{:?}", wrong.checks);
    assert!(!look("x.y.z").is_valid() && look("x.y.z").header.is_none());
    assert!(!inspect(&rules, Err("not fetched"), ISSUER.token(&ed(), &claims).as_bytes(), NOW).is_valid());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any other text than the one that was issued is refused.
    #[test]
    fn no_mutation_of_a_token_is_a_token(at: prop::sample::Index, byte: u8, kind in 0..4u8, which in 0..3usize) {
        let (algorithm, kid) = [("EdDSA", "ed"), ("ES256", "p256"), ("RS256", "rsa")][which];
        let token = ISSUER.token(&json!({"alg": algorithm, "kid": kid}), &good()).into_bytes();
        let at = at.index(token.len());
        let mut mutated = token.clone();
        match kind {
            0 => mutated[at] = byte,
            1 => mutated.insert(at, byte),
            2 => drop(mutated.remove(at)),
            _ => mutated.truncate(at),
        }
        let rules = ISSUER.rules("");
        prop_assert_eq!(verify(&rules, &ISSUER.keys, &mutated, NOW).is_ok(), mutated == token);
    }

    #[test]
    fn any_bytes_are_refused(bytes: Vec<u8>) {
        prop_assert!(verify(&ISSUER.rules(""), &ISSUER.keys, &bytes, NOW).is_err());
    }
}
