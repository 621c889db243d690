//! What a listener offers: its certificates, chosen by the name that the client asks for, whom it asks for a certificate, and the
//! keys of its tickets. Shared by all workers, kept until a reload brings another.

use super::names::{CertificateNames, Expiry};
use super::tickets::TicketKeys;
use super::words::{unfit, words};
use super::{Part, TlsProblem, provider};
use arc_swap::ArcSwap;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, version};
use std::collections::HashMap;
use std::sync::Arc;

/// The protocol of ACME's TLS-ALPN-01 challenge (RFC 8737 §6.2).
pub(crate) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// What a listener is configured with, as PEM.
#[derive(Default)]
pub struct ServerTlsSpec<'a> {
    /// Certificate chains with their keys; the first answers clients that name nobody known.
    pub certificates: Vec<(&'a [u8], &'a [u8])>,
    pub client_ca: Option<&'a [u8]>,
    /// Clients without a certificate are let in too.
    pub client_optional: bool,
    /// Refuses TLS 1.2.
    pub only_tls13: bool,
    /// Certificates that come and go while the listener serves: ACME's.
    pub issued: Option<Arc<IssuedCertificates>>,
    /// Clients are told that HTTP/3 is spoken at the same port.
    pub offers_h3: bool,
}

/// The names and keys of a set of certificates.
#[derive(Debug, Default)]
struct Certificates {
    first: Option<Arc<Certified>>,
    exact: HashMap<String, Arc<Certified>>,
    /// By what follows the `*.`.
    wildcard: HashMap<String, Arc<Certified>>,
}

#[derive(Debug)]
struct Certified {
    key: Arc<CertifiedKey>,
    names: CertificateNames,
    expiry: Expiry,
}

impl Certificates {
    fn add(&mut self, certified: Certified) {
        let certified = Arc::new(certified);
        for name in certified.names.dns() {
            // The first that stands for a name answers to it.
            match name.strip_prefix("*.") {
                Some(suffix) => self.wildcard.entry(suffix.to_owned()).or_insert_with(|| certified.clone()),
                None => self.exact.entry(name.to_owned()).or_insert_with(|| certified.clone()),
            };
        }
        self.first.get_or_insert(certified);
    }

    fn named(&self, name: &str) -> Option<&Arc<Certified>> {
        let name = name.to_ascii_lowercase();
        self.exact.get(&name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }
}

/// Certificates that another part obtains while the listener serves, and its answers to challenges.
#[derive(Debug, Default)]
pub struct IssuedCertificates {
    live: ArcSwap<Certificates>,
    challenges: ArcSwap<HashMap<String, Arc<CertifiedKey>>>,
}

impl IssuedCertificates {
    /// Replaces all certificates.
    pub fn set(&self, certificates: &[(&[u8], &[u8])]) -> Result<Vec<Expiry>, (usize, TlsProblem)> {
        let set = certificates_of(certificates)?;
        let expiries = certificates_expiries(&set);
        self.live.store(Arc::new(set));
        Ok(expiries)
    }

    /// Answers the TLS-ALPN-01 challenge for each name with a certificate of its own.
    pub fn set_challenges(
        &self,
        certificates: &[(String, CertificateDer<'static>, PrivateKeyDer<'static>)],
    ) -> Result<(), TlsProblem> {
        let mut challenges = HashMap::new();
        for (name, certificate, key) in certificates {
            // Not held against its key: the check knows no critical acmeIdentifier, and refuses what has one.
            let key = provider().key_provider.load_private_key(key.clone_key()).map_err(unfit)?;
            challenges.insert(name.to_ascii_lowercase(), Arc::new(CertifiedKey::new(vec![certificate.clone()], key)));
        }
        self.challenges.store(Arc::new(challenges));
        Ok(())
    }

    pub fn expiries(&self) -> Vec<Expiry> {
        certificates_expiries(&self.live.load())
    }
}

fn certificates_expiries(set: &Certificates) -> Vec<Expiry> {
    let mut all: Vec<Expiry> = set.exact.values().chain(set.wildcard.values()).map(|one| one.expiry.clone()).collect();
    all.extend(set.first.iter().map(|one| one.expiry.clone()));
    all.sort_by(|a, b| (&a.name, a.not_after).cmp(&(&b.name, b.not_after)));
    all.dedup();
    all
}

#[derive(Debug)]
struct Resolver {
    certificates: Certificates,
    issued: Option<Arc<IssuedCertificates>>,
}

impl Resolver {
    /// The certificate that a client that asked for `name` got, or would get.
    fn choose(&self, name: Option<&str>) -> Option<Arc<Certified>> {
        let issued = self.issued.as_ref().map(|issued| issued.live.load());
        let named = name.and_then(|name| {
            self.certificates.named(name).cloned().or_else(|| issued.as_ref().and_then(|issued| issued.named(name).cloned()))
        });
        named.or_else(|| self.certificates.first.clone()).or_else(|| issued.as_ref().and_then(|issued| issued.first.clone()))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(issued) = &self.issued
            && hello.alpn().is_some_and(|mut offered| offered.next() == Some(ACME_PROTOCOL) && offered.next().is_none())
        {
            return issued.challenges.load().get(&hello.server_name()?.to_ascii_lowercase()).cloned();
        }
        self.choose(hello.server_name()).map(|certified| certified.key.clone())
    }
}

/// A listener's TLS, ready to be used by every worker.
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
    /// Clients are asked for certificates: what was proved for one name says nothing of another.
    pub asks_clients: bool,
    pub(crate) offers_h3: bool,
}

impl ServerTls {
    /// The number is that of the certificate to blame.
    pub fn new(spec: &ServerTlsSpec<'_>, tickets: Arc<TicketKeys>) -> Result<ServerTls, (usize, TlsProblem)> {
        let certificates = certificates_of(&spec.certificates)?;
        let resolver = Arc::new(Resolver { certificates, issued: spec.issued.clone() });
        let versions: &[_] = if spec.only_tls13 { &[&version::TLS13] } else { &[&version::TLS13, &version::TLS12] };
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions);
        let builder = builder.expect("the provider has suites for both versions");
        let builder = match spec.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let roots = Arc::new(roots(pem).map_err(|problem| (0, problem))?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = if spec.client_optional { verifier.allow_unauthenticated() } else { verifier };
                let problem = |error| (0, TlsProblem::new(Part::Authorities, format!("it cannot vouch for clients: {error}")));
                builder.with_client_cert_verifier(verifier.build().map_err(problem)?)
            }
        };
        let mut config = builder.with_cert_resolver(resolver.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if spec.issued.is_some() {
            config.alpn_protocols.push(ACME_PROTOCOL.to_vec());
        }
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets;
        Ok(ServerTls { config: Arc::new(config), resolver, asks_clients: spec.client_ca.is_some(), offers_h3: spec.offers_h3 })
    }

    /// Of every certificate it serves.
    pub fn expiries(&self) -> Vec<Expiry> {
        let mut all = certificates_expiries(&self.resolver.certificates);
        all.extend(self.resolver.issued.iter().flat_map(|issued| issued.expiries()));
        all
    }

    /// The names for which the certificate stands that a client asking for `server_name` got.
    pub(crate) fn names_for(&self, server_name: Option<&str>) -> Option<CertificateNames> {
        self.resolver.choose(server_name).map(|certified| certified.names.clone())
    }
}

fn certificates_of(pairs: &[(&[u8], &[u8])]) -> Result<Certificates, (usize, TlsProblem)> {
    let mut set = Certificates::default();
    for (index, (certificate, key)) in pairs.iter().enumerate() {
        set.add(certified(certificate, key).map_err(|problem| (index, problem))?);
    }
    Ok(set)
}

fn certified(certificate: &[u8], key: &[u8]) -> Result<Certified, TlsProblem> {
    let chain = chain(certificate)?;
    let unreadable = || TlsProblem::new(Part::Certificate, "its first certificate is malformed");
    let (names, expiry) = chain.first().and_then(CertificateNames::read).ok_or_else(unreadable)?;
    let key = Arc::new(certified_key(chain, private_key(key)?)?);
    Ok(Certified { key, names, expiry })
}

fn certified_key(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, TlsProblem> {
    CertifiedKey::from_der(chain, key, &provider()).map_err(unfit)
}

pub(super) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let malformed = |error| TlsProblem::new(Part::Certificate, format!("it is no PEM file: {}", broken(&error)));
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    if chain.is_empty() {
        return Err(TlsProblem::new(Part::Certificate, "it holds no certificate (`-----BEGIN CERTIFICATE-----`)"));
    }
    Ok(chain)
}

fn broken(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "what begins has no end (`-----END …-----`)".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a line with `-----BEGIN` is malformed".to_owned(),
        pem::Error::Base64Decode(_) => "what is between BEGIN and END is no base64".to_owned(),
        error => error.to_string(),
    }
}

pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsProblem> {
    let none = |_| TlsProblem::new(Part::Key, "it holds no private key (`-----BEGIN PRIVATE KEY-----`), or an encrypted one");
    PrivateKeyDer::from_pem_slice(pem).map_err(none)
}

pub(super) fn roots(pem: &[u8]) -> Result<RootCertStore, TlsProblem> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(pem).map_err(|problem| TlsProblem { part: Part::Authorities, ..problem })? {
        let refused = |error: rustls::Error| {
            TlsProblem::new(Part::Authorities, format!("one of its certificates cannot be used: {}", words(&error)))
        };
        roots.add(certificate).map_err(refused)?;
    }
    Ok(roots)
}
