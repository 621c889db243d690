//! The generator against a TLS server of its own, which resumes sessions or does not.

use super::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpListener;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Serves one connection after another, which is how tickets of the first are known to the second. Threads end with the test.
fn server(folder: &std::path::Path, tickets: bool) -> u16 {
    let listener = TcpListener::bind(sys::loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let certificate = CertificateDer::from_pem_file(folder.join("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if tickets {
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    } else {
        config.send_tls13_tickets = 0;
    }
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = config.clone();
            std::thread::spawn(move || {
                let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                let mut head = [0; 4096];
                while let Ok(1..) = stream.read(&mut head) {
                    let _ = stream.write_all(ANSWER);
                }
            });
        }
    });
    port
}

fn run_against(name: &str, tickets: bool, life: Life, count: u64) -> Outcome {
    let folder = std::env::temp_dir().join(format!("maitred-bench-{name}-{}", std::process::id()));
    let identity = Identity::make(&folder).unwrap();
    let port = server(&folder, tickets);
    let client = Client { tls: Some(&identity), http: Http::One, life };
    let requests = [crate::http::get("/", 2)];
    let job = Job { port, connections: 1, client, requests: &requests, pace: Pace::Closed, until: Until::Count(count) };
    let outcome = run_plain(&job).unwrap().valid().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    outcome
}

#[test]
fn every_second_connection_of_a_pair_resumes() {
    let outcome = run_against("pairs", true, Life::Paired, 40);
    assert_eq!((outcome.answered, outcome.resumable, outcome.resumed), (40, 20, 20));
}

#[test]
fn every_connection_after_the_first_resumes() {
    let outcome = run_against("resumed", true, Life::Resumed, 40);
    assert_eq!((outcome.resumable, outcome.resumed), (39, 39));
}

#[test]
fn a_server_without_tickets_is_told_from_one_that_resumes() {
    let outcome = run_against("none", false, Life::Paired, 40);
    assert_eq!((outcome.resumable, outcome.resumed), (20, 0));
}

#[test]
fn a_connection_that_stays_or_begins_anew_resumes_nothing() {
    for (name, life) in [("long", Life::Long), ("once", Life::Once)] {
        let outcome = run_against(name, true, life, 20);
        assert_eq!((outcome.answered, outcome.resumable, outcome.resumed, outcome.reconnects), (20, 0, 0, 0));
    }
}
