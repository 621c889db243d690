//! Tokens and key sets: what is taken is written in one way alone, and nobody comes in without a signature.

use maitred_core::identity::{KeySet, base64url, json};
use maitred_model::JwtAlgorithm;
use maitred_policies::authenticate::jwt::{TOKEN_BYTES_MAX, Token};

/// Whatever is read as a token says, written anew, the same bytes; no part of it is empty, and nothing that must be understood is skipped.
pub fn jwt(data: &[u8]) {
    let Ok(token) = Token::parse(data) else { return };
    assert!(data.len() <= TOKEN_BYTES_MAX);
    let parts: Vec<&[u8]> = data.split(|byte| *byte == b'.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{} parts", parts.len()) };
    assert!([header, payload, signature].iter().all(|part| !part.is_empty()));
    assert_eq!(token.signed, [header, b".", payload].concat());
    assert_eq!(base64url::encode(&token.signature).as_bytes(), signature);
    let plain = |part: &[u8]| base64url::decode(part).map(|bytes| base64url::encode(&bytes).into_bytes());
    assert_eq!(plain(header).as_deref(), Some(header));
    assert!(token.claims().is_err() || plain(payload).as_deref() == Some(payload));
    let header = json::object(&base64url::decode(header).expect("it was read")).expect("it was read");
    assert_eq!(header["alg"].as_str(), Some(token.header.algorithm.as_str()));
    assert!(!header.contains_key("crit") && !header.contains_key("b64"));
    if let Ok(claims) = token.claims() {
        let again = json::object(serde_json::to_string(&claims).expect("JSON").as_bytes());
        // A number may be too precise to be written, and what was read of it is not.
        assert!(again.is_ok_and(|again| again.len() == claims.len()));
    }
    // No key set that strangers can write, empty signatures or a secret of nothing makes it good.
    let shared = KeySet::shared(b"a secret that the fuzzer does not know", &JwtAlgorithm::SHARED);
    for key in shared.keys() {
        assert!(JwtAlgorithm::SHARED.into_iter().all(|algorithm| !key.verifies(algorithm, token.signed, &token.signature)));
    }
}

/// What is taken has keys, each for signatures of its own kind, and is read the same way again.
pub fn jwks(data: &[u8]) {
    let Ok(set) = KeySet::parse(data) else { return };
    assert!(!set.keys().is_empty() && set.text() == data);
    for key in set.keys() {
        let algorithms: Vec<JwtAlgorithm> = key.algorithms().collect();
        assert!(!algorithms.is_empty() && algorithms.len() <= 6);
        assert!(algorithms.iter().all(|algorithm| algorithm.secret_bytes_min().is_none()), "a public key is no secret");
        for algorithm in JwtAlgorithm::SIGNATURES.into_iter().chain(JwtAlgorithm::SHARED) {
            // A key of Ed25519 may be a point of small order, of which zeros may well be a signature: who has it has no secret to keep.
            let zeros: &[&[u8]] = if algorithm == JwtAlgorithm::EdDsa {
                &[b""]
            } else {
                &[b"", &[0; 64], &[0; 96], &[0; 132], &[0; 256], &[0xff; 64]]
            };
            for signature in zeros {
                assert!(!key.verifies(algorithm, b"a message", signature), "{}", algorithm.as_str());
            }
            assert!(set.find(key.id(), algorithm).count() <= set.keys().len());
        }
    }
    assert_eq!(KeySet::parse(data).map(|again| again.keys().len()), Ok(set.keys().len()));
}
