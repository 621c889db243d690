//! How a back end is asked for: whom to believe that it is itself, and what to show it of us.

use super::server::{chain, private_key, roots};
use super::words::unfit;
use super::{Part, TlsProblem, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::{Arc, OnceLock};

/// What an upstream is configured with, as PEM.
#[derive(Default)]
pub struct ClientTlsSpec<'a> {
    /// Instead of the system's authorities.
    pub ca: Option<&'a [u8]>,
    /// Our own certificate chain and its key.
    pub identity: Option<(&'a [u8], &'a [u8])>,
    /// Instead of the endpoint's own name.
    pub server_name: Option<&'a str>,
    pub skip_verification: bool,
    /// HTTP/2 is wanted, else HTTP/1.1.
    pub h2: bool,
}

/// An upstream's TLS, shared by all workers, sessions to be resumed included.
pub struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    pub fn new(spec: &ClientTlsSpec<'_>) -> Result<ClientTls, TlsProblem> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has suites for both versions");
        let builder = if spec.skip_verification {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone))
        } else {
            builder.with_root_certificates(match spec.ca {
                Some(pem) => Arc::new(roots(pem)?),
                None => system_roots(),
            })
        };
        let mut config = match spec.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder.with_client_auth_cert(chain(certificate)?, private_key(key)?).map_err(unfit)?,
        };
        config.alpn_protocols = vec![if spec.h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let server_name = match spec.server_name {
            None => None,
            Some(name) => {
                let malformed = |_| TlsProblem::new(Part::Certificate, format!("`{name}` is no name of a server"));
                Some(ServerName::try_from(name.to_owned()).map_err(malformed)?)
            }
        };
        Ok(ClientTls { config: Arc::new(config), server_name })
    }

    /// For those who speak no HTTP: some servers refuse whoever offers what they do not know.
    pub(crate) fn without_alpn(self) -> ClientTls {
        let mut config = self.config;
        Arc::make_mut(&mut config).alpn_protocols.clear();
        ClientTls { config, ..self }
    }

    /// For those who speak HTTP to others than back ends.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// Whom the certificate must stand for: the configured name, else the endpoint's own host.
    pub(crate) fn name_for(&self, host: &str) -> Option<ServerName<'static>> {
        let own = || ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned()).ok();
        self.server_name.clone().or_else(own)
    }
}

/// Read once: they change with the system, not with our configuration.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "an authority of this system cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!("this system has no authorities: https upstreams without a `ca` of their own will not be believed");
        }
        Arc::new(roots)
    };
    ROOTS.get_or_init(read).clone()
}

/// Believes everyone. Asked for by a name that says so, and warned of at every load.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
