//! What authorities are answered while they validate: each pending challenge in both ways at once, a token for whoever asks in the
//! clear, and a certificate for whoever shakes hands. Which way was agreed upon does not matter here.

use maitred_transport::{HttpChallenges, IssuedCertificates};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) struct Answers {
    http: Arc<HttpChallenges>,
    board: Mutex<Board>,
}

#[derive(Default)]
struct Board {
    next: u64,
    pending: BTreeMap<u64, Answer>,
    /// Every listener with ACME answers for every domain: nobody knows to which of them the authority's way leads.
    listeners: Vec<Arc<IssuedCertificates>>,
}

struct Answer {
    token: String,
    proof: Arc<[u8]>,
    domain: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// An answer that is up for as long as this lives.
pub(super) struct Posted {
    answers: Arc<Answers>,
    number: u64,
}

impl Answers {
    pub fn new(http: Arc<HttpChallenges>) -> Arc<Answers> {
        Arc::new(Answers { http, board: Mutex::default() })
    }

    /// From here on these listeners answer.
    pub fn follow(&self, listeners: Vec<Arc<IssuedCertificates>>) {
        let mut board = self.board();
        board.listeners = listeners;
        if let Err(problem) = self.show(&board) {
            tracing::error!(problem, "challenges cannot be answered");
        }
    }

    /// `proof`: the key authorization, and its SHA-256.
    pub fn post(self: &Arc<Self>, domain: &str, token: &str, proof: (&str, &[u8])) -> Result<Posted, String> {
        let (certificate, key) = certificate(domain, proof.1).map_err(|error| format!("no certificate as an answer: {error}"))?;
        let answer =
            Answer { token: token.to_owned(), proof: proof.0.as_bytes().into(), domain: domain.to_owned(), certificate, key };
        let mut board = self.board();
        let number = board.next;
        board.next += 1;
        board.pending.insert(number, answer);
        let posted = Posted { answers: self.clone(), number };
        let shown = self.show(&board);
        // What is dropped takes the answer down, and needs the board.
        drop(board);
        shown.map(|()| posted)
    }

    fn show(&self, board: &Board) -> Result<(), String> {
        let tokens: HashMap<String, Arc<[u8]>> =
            board.pending.values().map(|answer| (answer.token.clone(), answer.proof.clone())).collect();
        self.http.set(tokens);
        let certificate = |answer: &Answer| (answer.domain.clone(), answer.certificate.clone(), answer.key.clone_key());
        let certificates: Vec<_> = board.pending.values().map(certificate).collect();
        for listener in &board.listeners {
            listener.set_challenges(&certificates).map_err(|problem| format!("no certificate as an answer: {}", problem.what))?;
        }
        Ok(())
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        let mut board = self.answers.board();
        board.pending.remove(&self.number);
        // What was shown with it can be shown without.
        let _ = self.answers.show(&board);
    }
}

/// RFC 8737 §3: signed by itself, for the one domain, with the digest in a critical extension.
fn certificate(domain: &str, digest: &[u8]) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let mut params = CertificateParams::new([domain.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().clone(), key.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_up_for_as_long_as_its_order_waits() {
        let http = Arc::new(HttpChallenges::default());
        let answers = Answers::new(http.clone());
        answers.follow(vec![Arc::default()]);
        let path = |token: &str| format!("/.well-known/acme-challenge/{token}").into_bytes();
        let digest = [7; 32];
        let first = answers.post("a.example.com", "one", ("one.thumb", &digest)).unwrap();
        let second = answers.post("a.example.com", "two", ("two.thumb", &digest)).unwrap();
        assert_eq!(http.answer(&path("one")).as_deref(), Some(b"one.thumb".as_slice()));
        drop(first);
        assert!(http.answer(&path("one")).is_none() && http.answer(&path("two")).is_some());
        drop(second);
        assert!(http.answer(&path("two")).is_none());
    }
}
