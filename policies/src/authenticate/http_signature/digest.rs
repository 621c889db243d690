//! Content-Digest (RFC 9530): what a signature says about the body is held against the body itself. Knows SHA-256 and SHA-512; a digest by
//! anything else proves nothing here.

use super::super::Refusal;
use super::base::joined;
use aws_lc_rs::digest::{Algorithm, SHA256, SHA512};
use maitred_core::body_hash;
use maitred_core::wire::structured::{Dictionary, Member};
use maitred_core::{Exchange, Ports};
use subtle::ConstantTimeEq;

const KNOWN: [(&str, &Algorithm); 2] = [("sha-256", &SHA256), ("sha-512", &SHA512)];

/// `covered`: the only member that is covered; without it all are. Every digest of a known kind must fit, covered or not, and one that is
/// covered must be among them.
pub async fn check(exchange: &mut Exchange, ports: &dyn Ports, covered: Option<&str>) -> Result<(), Refusal> {
    let dictionary = Dictionary::parse(&joined(exchange.request.headers.get_all(b"content-digest")))
        .map_err(|malformed| Refusal::invalid(format!("Content-Digest cannot be read: {}", malformed.0)))?;
    let mut wanted = Vec::new();
    for (name, algorithm) in KNOWN {
        match dictionary.get(name) {
            None => {}
            Some(Member::Item(item)) => match item.bare.as_bytes() {
                Some(bytes) => wanted.push((name, algorithm, bytes)),
                None => return Err(Refusal::invalid("Content-Digest has something else than bytes")),
            },
            Some(Member::List(_)) => return Err(Refusal::invalid("Content-Digest has something else than bytes")),
        }
    }
    if !wanted.iter().any(|(name, ..)| covered.is_none_or(|covered| covered == *name)) {
        return Err(Refusal::invalid("no covered digest is of a kind that is known"));
    }
    let body = exchange.whole_body(ports, usize::MAX).await.map_err(Refusal::Failed)?;
    for (name, algorithm, bytes) in wanted {
        let digest = body_hash::hash(algorithm, &body).await;
        if !bool::from(digest.as_ref().ct_eq(bytes)) {
            return Err(Refusal::invalid(format!("the body is not the one that {name} was made of")));
        }
    }
    Ok(())
}
