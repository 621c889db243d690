//! A JWK set (RFC 7517) as keys that verify. Each key is good for the algorithms of its kind and curve, and of its own `alg` where it names
//! one; never for others. Keys of another use, of kinds that are not known, and shared secrets in a set are passed over.

use super::super::{base64url, json};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};
use maitred_model::JwtAlgorithm;
use serde_json::{Map, Value};
use std::fmt;

/// Bytes of a set: of RSA keys with their certificates, a hundred.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Keys of a set. Issuers have two or three, and one for each of their machines at most.
const KEYS_MAX: usize = 128;
/// Of RSA (RFC 8725 §3.5). Longer ones cost more than anyone's security asks for.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Bytes of a public exponent: 65537 has three.
const EXPONENT_BYTES_MAX: usize = 4;

/// All keys of an issuer at one time.
pub struct KeySet {
    keys: Vec<Key>,
    text: Box<[u8]>,
    remarks: Vec<String>,
}

/// One key, for what it is good for.
pub struct Key {
    /// Its `kid`.
    id: Option<Box<str>>,
    parts: Vec<(JwtAlgorithm, Part)>,
}

enum Part {
    Public(ParsedPublicKey),
    Shared(Box<hmac::Key>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithms", &self.algorithms().collect::<Vec<_>>()).finish()
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeySet").field(&self.keys).finish()
    }
}

impl KeySet {
    /// Why there is no key in it that could be used.
    pub fn parse(bytes: &[u8]) -> Result<KeySet, String> {
        if bytes.len() > JWKS_BYTES_MAX {
            return Err(format!("the JWK set is larger than {} KiB", JWKS_BYTES_MAX / 1024));
        }
        let set = json::object(bytes).map_err(|why| format!("no JWK set: {why}"))?;
        let Some(Value::Array(list)) = set.get("keys") else { return Err("no JWK set: it has no list `keys`".to_owned()) };
        if list.len() > KEYS_MAX {
            return Err(format!("the JWK set has more than {KEYS_MAX} keys"));
        }
        let mut keys = Vec::new();
        let (mut passed_over, mut remarks) = (None, Vec::new());
        for (number, jwk) in list.iter().enumerate() {
            let name = || match jwk.get("kid").and_then(Value::as_str) {
                Some(id) => format!("the key `{id}`"),
                None => format!("the key number {}", number + 1),
            };
            match Key::parse(jwk) {
                Ok(key) => {
                    if jwk.get("d").is_some() {
                        remarks.push(format!("{} comes with its private part, which only its owner may have", name()));
                    }
                    keys.push(key);
                }
                Err(why) => {
                    // Keys that encrypt stand in many sets.
                    if jwk.get("use").is_none_or(|purpose| purpose == "sig") {
                        remarks.push(format!("{} is passed over: {why}", name()));
                    }
                    passed_over.get_or_insert(why);
                }
            }
        }
        match (keys.is_empty(), passed_over) {
            (false, _) => Ok(KeySet { keys, text: bytes.into(), remarks }),
            (true, Some(why)) => Err(format!("the JWK set has no key that can be used; the first: {why}")),
            (true, None) => Err("the JWK set has no key".to_owned()),
        }
    }

    /// What is to be said of single keys: which are passed over, and why.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// One key that the issuer has too.
    pub fn shared(secret: &[u8], algorithms: &[JwtAlgorithm]) -> KeySet {
        let part =
            |algorithm: &JwtAlgorithm| Some((*algorithm, Part::Shared(Box::new(hmac::Key::new(hash(*algorithm)?, secret)))));
        let key = Key { id: None, parts: algorithms.iter().filter_map(part).collect() };
        KeySet { keys: vec![key], text: Box::default(), remarks: Vec::new() }
    }

    /// As it was read.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Whether one of them has that name.
    pub fn has(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Those that may have signed a token that names its key, or names none. A name that is not here may be that of a key without one.
    pub fn find<'a>(&'a self, id: Option<&'a str>, algorithm: JwtAlgorithm) -> impl Iterator<Item = &'a Key> {
        let named = id.filter(|id| self.has(id));
        let fits = move |key: &&Key| match (named, id) {
            (Some(name), _) => key.id.as_deref() == Some(name),
            (None, Some(_)) => key.id.is_none(),
            (None, None) => true,
        };
        self.keys.iter().filter(fits).filter(move |key| key.part(algorithm).is_some())
    }
}

impl Key {
    fn parse(jwk: &Value) -> Result<Key, String> {
        let jwk = jwk.as_object().ok_or("it is no mapping")?;
        let text = |name: &str| match jwk.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(format!("`{name}` is no text")),
        };
        let kind = text("kty")?.ok_or("it has no `kty`")?;
        if text("use")?.is_some_and(|used| used != "sig") {
            return Err("its `use` is not `sig`".to_owned());
        }
        match jwk.get("key_ops") {
            None => {}
            Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => {}
            Some(_) => return Err("its `key_ops` have no `verify`".to_owned()),
        }
        let mut parts = match kind {
            "RSA" => rsa(jwk)?,
            "EC" => ec(jwk, text("crv")?)?,
            "OKP" => okp(jwk, text("crv")?)?,
            "oct" => return Err("a shared secret (`oct`) in a JWK set is no secret".to_owned()),
            _ => return Err(format!("its `kty` {kind:?} is not known")),
        };
        if let Some(name) = text("alg")? {
            let only = JwtAlgorithm::of(name).ok_or_else(|| format!("its `alg` {name:?} is not known"))?;
            parts.retain(|(algorithm, _)| *algorithm == only);
        }
        match parts.is_empty() {
            false => Ok(Key { id: text("kid")?.map(Box::from), parts }),
            true => Err("its `alg` is none of its kind".to_owned()),
        }
    }

    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub fn algorithms(&self) -> impl Iterator<Item = JwtAlgorithm> {
        self.parts.iter().map(|(algorithm, _)| *algorithm)
    }

    fn part(&self, algorithm: JwtAlgorithm) -> Option<&Part> {
        self.parts.iter().find(|(own, _)| *own == algorithm).map(|(_, part)| part)
    }

    /// False also where the key is not for that algorithm.
    pub fn verifies(&self, algorithm: JwtAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        match self.part(algorithm) {
            Some(Part::Public(key)) => key.verify_sig(message, signature).is_ok(),
            // In constant time, and of the whole length.
            Some(Part::Shared(key)) => hmac::verify(key, message, signature).is_ok(),
            None => false,
        }
    }
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = jwk.get(name).and_then(Value::as_str).ok_or_else(|| format!("it has no `{name}`"))?;
    base64url::decode(text.as_bytes()).ok_or_else(|| format!("its `{name}` is no base64url"))
}

/// RFC 7518 §6.3.1.
fn rsa(jwk: &Map<String, Value>) -> Result<Vec<(JwtAlgorithm, Part)>, String> {
    let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    // Some issuers write the zero that keeps a number positive in ASN.1.
    let plain = |number: &[u8]| number.iter().position(|byte| *byte != 0).map(|at| number[at..].to_vec());
    let (n, e) = (plain(&n).ok_or("its `n` is 0")?, plain(&e).ok_or("its `e` is 0")?);
    let bits = n.len() * 8 - n[0].leading_zeros() as usize;
    if !RSA_BITS.contains(&bits) {
        return Err(format!("it has {bits} bits, and {} to {} are taken", RSA_BITS.start(), RSA_BITS.end()));
    }
    // With 1 everything is its own signature.
    if e.len() > EXPONENT_BYTES_MAX || e == [1] || e[e.len() - 1] % 2 == 0 || n[n.len() - 1] % 2 == 0 {
        return Err("its numbers are none of RSA".to_owned());
    }
    let components = RsaPublicKeyComponents { n, e };
    let all: [(JwtAlgorithm, &'static RsaParameters); 6] = [
        (JwtAlgorithm::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256),
        (JwtAlgorithm::Rs384, &signature::RSA_PKCS1_2048_8192_SHA384),
        (JwtAlgorithm::Rs512, &signature::RSA_PKCS1_2048_8192_SHA512),
        (JwtAlgorithm::Ps256, &signature::RSA_PSS_2048_8192_SHA256),
        (JwtAlgorithm::Ps384, &signature::RSA_PSS_2048_8192_SHA384),
        (JwtAlgorithm::Ps512, &signature::RSA_PSS_2048_8192_SHA512),
    ];
    let part = |(algorithm, parameters)| {
        let key = components.to_parsed_public_key(parameters).map_err(|_| "its numbers are none of RSA".to_owned())?;
        Ok((algorithm, Part::Public(key)))
    };
    all.into_iter().map(part).collect()
}

/// RFC 7518 §6.2.1: a point, each half as long as the curve's numbers are.
fn ec(jwk: &Map<String, Value>, curve: Option<&str>) -> Result<Vec<(JwtAlgorithm, Part)>, String> {
    let (algorithm, verifier, length): (_, &'static EcdsaVerificationAlgorithm, _) = match curve {
        Some("P-256") => (JwtAlgorithm::Es256, &signature::ECDSA_P256_SHA256_FIXED, 32),
        Some("P-384") => (JwtAlgorithm::Es384, &signature::ECDSA_P384_SHA384_FIXED, 48),
        Some("P-521") => (JwtAlgorithm::Es512, &signature::ECDSA_P521_SHA512_FIXED, 66),
        _ => return Err(format!("its curve {curve:?} is not known")),
    };
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != length || y.len() != length {
        return Err(format!("`x` and `y` have {} and {} bytes, and not {length}", x.len(), y.len()));
    }
    // SEC 1 §2.3.4: 4 is a point that is written out.
    let point = [&[4], &x[..], &y[..]].concat();
    let key = ParsedPublicKey::new(verifier, point).map_err(|_| "it is no point of its curve".to_owned())?;
    Ok(vec![(algorithm, Part::Public(key))])
}

/// The points of small order, each in every way to write it, without the sign: of such a key anybody can make signatures.
const SMALL_ORDER: [[u8; 32]; 7] = {
    const fn almost_p(low: u8) -> [u8; 32] {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, 0x7f);
        bytes
    }
    let mut one = [0; 32];
    one[0] = 1;
    let eighth = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05,
        0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ];
    let other_eighth = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa,
        0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ];
    [[0; 32], one, eighth, other_eighth, almost_p(0xec), almost_p(0xed), almost_p(0xee)]
};

/// RFC 8037 §2.
fn okp(jwk: &Map<String, Value>, curve: Option<&str>) -> Result<Vec<(JwtAlgorithm, Part)>, String> {
    if curve != Some("Ed25519") {
        return Err(format!("its curve {curve:?} is not known"));
    }
    let x = bytes(jwk, "x")?;
    let mut unsigned = x.clone();
    if let Some(last) = unsigned.last_mut() {
        *last &= 0x7f;
    }
    if SMALL_ORDER.iter().any(|point| *point == *unsigned) {
        return Err("it is a point of small order: anybody can sign for it".to_owned());
    }
    let key = ParsedPublicKey::new(&signature::ED25519, x).map_err(|_| "it is no key of Ed25519".to_owned())?;
    Ok(vec![(JwtAlgorithm::EdDsa, Part::Public(key))])
}

fn hash(algorithm: JwtAlgorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        JwtAlgorithm::Hs256 => Some(hmac::HMAC_SHA256),
        JwtAlgorithm::Hs384 => Some(hmac::HMAC_SHA384),
        JwtAlgorithm::Hs512 => Some(hmac::HMAC_SHA512),
        JwtAlgorithm::Rs256 | JwtAlgorithm::Rs384 | JwtAlgorithm::Rs512 => None,
        JwtAlgorithm::Ps256 | JwtAlgorithm::Ps384 | JwtAlgorithm::Ps512 => None,
        JwtAlgorithm::Es256 | JwtAlgorithm::Es384 | JwtAlgorithm::Es512 | JwtAlgorithm::EdDsa => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EC: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
    const ED: &str = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

    fn rsa_of(bytes: usize, e: &str) -> String {
        let mut n = vec![0xff; bytes];
        n[0] = 0x80;
        format!(r#""kty":"RSA","n":"{}","e":"{e}""#, base64url::encode(&n))
    }

    fn parse(keys: &[&str]) -> Result<KeySet, String> {
        let keys: Vec<String> = keys.iter().map(|key| format!("{{{key}}}")).collect();
        KeySet::parse(format!("{{\"keys\":[{}]}}", keys.join(",")).as_bytes())
    }

    #[test]
    fn a_key_is_good_for_its_kind_alone() {
        let names = |set: &KeySet| set.keys[0].algorithms().map(JwtAlgorithm::as_str).collect::<Vec<_>>().join(" ");
        let rsa = rsa_of(256, "AQAB");
        for (key, good_for) in [
            (EC.to_owned(), "ES256"),
            (ED.to_owned(), "EdDSA"),
            (rsa.clone(), "RS256 RS384 RS512 PS256 PS384 PS512"),
            (rsa.clone() + r#","alg":"PS384""#, "PS384"),
            (rsa.clone() + r#","alg":"RS256","use":"sig","key_ops":["verify"],"x5u":"https://x""#, "RS256"),
            (ED.to_owned() + r#","alg":"Ed25519""#, "EdDSA"),
            (rsa_of(257, "AAEAAQ").replace("gP", "AP"), "RS256 RS384 RS512 PS256 PS384 PS512"),
            (rsa_of(1024, "Aw"), "RS256 RS384 RS512 PS256 PS384 PS512"),
        ] {
            let set = parse(&[&key]).unwrap_or_else(|why| panic!("{key}: {why}"));
            assert_eq!(names(&set), good_for, "{key}");
        }
    }

    #[test]
    fn what_is_no_key_is_passed_over() {
        for (key, why) in [
            (EC.to_owned() + r#","use":"enc""#, "`use`"),
            (EC.to_owned() + r#","use":1"#, "`use`"),
            (EC.to_owned() + r#","key_ops":["sign"]"#, "`key_ops`"),
            (EC.to_owned() + r#","alg":"RS256""#, "none of its kind"),
            (EC.to_owned() + r#","alg":"HS256""#, "none of its kind"),
            (EC.to_owned() + r#","alg":"none""#, "not known"),
            (EC.to_owned() + r#","kid":7"#, "`kid`"),
            (EC.replace("P-256", "P-384"), "bytes"),
            (EC.replace("P-256", "secp256k1"), "curve"),
            (EC.replace("f83", "g83"), "no point"),
            (ED.replace("Ed25519", "X25519"), "curve"),
            (ED.replace("11q", "11"), "base64url"),
            (ED.replace("11qY", ""), "no key of Ed25519"),
            (rsa_of(128, "AQAB"), "1024 bits"),
            (rsa_of(255, "AQAB"), "2040 bits"),
            (rsa_of(1025, "AQAB"), "8200 bits"),
            (rsa_of(256, "AQ"), "numbers"),
            (rsa_of(256, "Ag"), "numbers"),
            (rsa_of(256, "AA"), "`e` is 0"),
            (r#""kty":"oct","k":"c2VjcmV0""#.to_owned(), "`oct`"),
            (r#""kty":"AKP""#.to_owned(), "`kty`"),
            (String::new(), "`kty`"),
        ] {
            let told = parse(&[&key]).expect_err(&key);
            assert!(told.contains(why), "{key}: {told}");
            assert_eq!(parse(&[&key, ED]).expect("the other is good").keys.len(), 1);
        }
    }

    #[test]
    fn what_is_odd_about_a_key_is_remarked() {
        let (weak, private) = (rsa_of(128, "AQAB") + r#","kid":"w""#, ED.to_owned() + r#","d":"AA""#);
        let set = parse(&[&weak, &private, &(EC.to_owned() + r#","use":"enc""#), EC]).expect("two are good");
        let remarks = set.remarks();
        assert!(remarks[0].contains("the key `w` is passed over: it has 1024 bits"), "{remarks:?}");
        assert!(remarks[1].starts_with("the key number 2 comes with its private part"), "{remarks:?}");
        assert_eq!((remarks.len(), set.keys.len()), (2, 2), "a key that encrypts is nothing odd");
    }

    #[test]
    fn a_key_for_which_anybody_can_sign_is_none() {
        for point in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut x = point;
                x[31] |= sign;
                let key = format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, base64url::encode(&x));
                assert!(parse(&[&key]).expect_err("no key").contains("small order"), "{x:x?}");
            }
        }
    }

    #[test]
    fn what_is_no_set_brings_nothing() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[1,null,"x"]}"#] {
            assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(&vec![ED; KEYS_MAX]).is_ok() && parse(&vec![ED; KEYS_MAX + 1]).is_err());
        assert!(KeySet::parse(&vec![b' '; JWKS_BYTES_MAX + 1]).unwrap_err().contains("larger"));
    }

    #[test]
    fn a_name_leads_to_its_keys_or_to_those_without_a_name() {
        let ec = EC.to_owned() + r#","kid":"a""#;
        let (ed, bare) = (ED.to_owned() + r#","kid":"b""#, ED);
        let set = parse(&[&ec, &ed, bare]).unwrap();
        let count = |id, algorithm| set.find(id, algorithm).count();
        assert_eq!(count(Some("a"), JwtAlgorithm::Es256), 1);
        assert_eq!(count(Some("a"), JwtAlgorithm::EdDsa), 0, "the name is known, and the key is of another kind");
        assert_eq!(count(Some("b"), JwtAlgorithm::EdDsa), 1);
        assert_eq!(count(Some("x"), JwtAlgorithm::EdDsa), 1, "it may be the one without a name");
        assert_eq!(count(None, JwtAlgorithm::EdDsa), 2);
        assert_eq!(count(None, JwtAlgorithm::Hs256), 0);
    }
}
