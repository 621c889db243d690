//! TLS on both sides (rustls): the encrypted stream, what a listener offers, what a back end is asked for. Reads no files.

mod client;
mod names;
#[cfg(feature = "http3")]
mod quic;
mod records;
mod server;
mod stream;
mod tickets;
mod words;

pub use client::{ClientTls, ClientTlsSpec};
pub use names::{CertificateNames, Expiry, expiries, is_nameless};
pub(crate) use server::ACME_PROTOCOL;
pub use server::{IssuedCertificates, ServerTls, ServerTlsSpec};
pub(crate) use stream::TlsStream;
pub use tickets::TicketKeys;
pub use words::tls_words;
pub(crate) use words::words;

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, OnceLock};

/// The one provider of cryptography: aws-lc-rs, whose keys of TLS 1.3 the streams share.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(records::provider())).clone()
}

/// Why a certificate, a key or a set of them cannot be used. The text names no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsProblem {
    pub part: Part,
    pub what: String,
    /// What to do about it, where that is known.
    pub help: Option<&'static str>,
}

/// Which of the files is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Certificate,
    Key,
    Authorities,
}

impl TlsProblem {
    fn new(part: Part, what: impl Into<String>) -> TlsProblem {
        TlsProblem { part, what: what.into(), help: None }
    }

    fn help(self, help: &'static str) -> TlsProblem {
        TlsProblem { help: Some(help), ..self }
    }
}
