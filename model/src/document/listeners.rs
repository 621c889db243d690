//! Where clients connect: addresses, certificates, and who is believed about whom.

use crate::span::{Span, Spanned};
use crate::values::IpNet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listener {
    pub address: ListenAddress,
    pub tls: Option<Spanned<ListenerTls>>,
    /// HTTP/3 at the same port, and where that is said. Only with `tls`, an address with a port, and without `proxy_protocol`.
    pub http3: Option<Span>,
    /// Plain requests are answered with 308 to https (and ACME HTTP-01 challenges are answered). Never together with `tls`.
    pub redirect_https: bool,
    pub proxy_protocol: Option<ProxyProtocolIn>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    /// The path of a socket. A relative one has been made relative to the working directory.
    Unix(PathBuf),
}

/// As it is written: `127.0.0.1:8080`, `unix:/run/maitred.sock`.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Every connection begins with a PROXY header, versions 1 and 2, that says who the client is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProxyProtocolIn {
    /// Who may send the header. Empty only on a unix socket: whoever reaches it.
    pub from: Vec<IpNet>,
}

/// Has certificates, or `acme`, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenerTls {
    /// Chosen by SNI from the names that they hold; the first is for clients that name none.
    pub certificates: Vec<Spanned<CertificateFiles>>,
    pub acme: Option<Spanned<Acme>>,
    /// Who signs the certificates of clients. Without it none is asked for.
    pub client_ca: Option<Spanned<PemFile>>,
    pub client_auth: ClientAuth,
    pub min_version: TlsVersion,
}

/// Whether a client without a certificate is served. Means nothing without `client_ca`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// Default.
    Required,
    Optional,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// Default.
    Tls12,
    Tls13,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// The certificate, and those between it and its authority.
    pub cert: Spanned<PemFile>,
    pub key: Spanned<PemFile>,
}

/// Certificates by RFC 8555.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acme {
    /// One or more; lower case, no wildcards.
    pub domains: Vec<Spanned<String>>,
    /// Without `mailto:`.
    pub email: Option<String>,
    /// An https URL. Default: Let's Encrypt's.
    pub directory: String,
    /// Whom to trust for the directory's own TLS, instead of the authorities that the system trusts.
    pub ca: Option<Spanned<PemFile>>,
    /// A folder for the account and the certificates. Default `acme` beside the file.
    pub storage: PathBuf,
    /// The only proof to give; without it whichever can be given.
    pub challenge: Option<AcmeChallenge>,
}

/// How an authority is shown that a domain is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AcmeChallenge {
    /// A token, over HTTP (RFC 8555 §8.3).
    Http01,
    /// A certificate, in a handshake (RFC 8737).
    TlsAlpn01,
}

impl AcmeChallenge {
    /// As it is written in a configuration, and as authorities call it.
    pub fn name(self) -> &'static str {
        match self {
            AcmeChallenge::Http01 => "http-01",
            AcmeChallenge::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// A PEM file as it was when the configuration was loaded; the file is a dependency, so a changed one is loaded anew. It may hold a
/// private key: `Debug` tells the path only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PemFile {
    pub path: PathBuf,
    pub bytes: Arc<[u8]>,
}

impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PemFile({})", self.path.display())
    }
}
