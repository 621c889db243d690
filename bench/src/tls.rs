//! TLS for the measurements: one certificate made at run time, and how the client offers TLS 1.3. Every contender gets the same
//! certificate and sees the same offer: TLS_AES_128_GCM_SHA256 over X25519, so that nobody is compared with another cipher.
//! Not a client to copy: it holds the certificate against the one it knows and leaves the signature unverified.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, version};

/// The name in the certificate, in SNI and in every request.
pub const HOST: &str = "bench.test";
/// Where a contender finds them: beside the folder that it runs in. haproxy wants both in one file.
pub const CERTIFICATE: &str = "../certificate.pem";
pub const KEY: &str = "../key.pem";
pub const BOTH: &str = "../both.pem";

/// Tickets that one client keeps; a server sends two at a time.
const TICKETS_MAX: usize = 8;

/// A self-signed ECDSA P-256 certificate, and what a client needs to know it again.
pub struct Identity {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl Identity {
    /// Leaves certificate and key where the contenders that run in folders within `folder` look for them.
    pub fn make(folder: &Path) -> io::Result<Identity> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        let parameters = rcgen::CertificateParams::new([HOST.to_string()]).map_err(io::Error::other)?;
        let certificate = parameters.self_signed(&key).map_err(io::Error::other)?;
        fs::create_dir_all(folder)?;
        let (public, private) = (certificate.pem(), key.serialize_pem());
        for (name, text) in [(CERTIFICATE, &public), (KEY, &private), (BOTH, &format!("{public}{private}"))] {
            fs::write(folder.join(name.trim_start_matches("../")), text)?;
        }
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        Ok(Identity { certificate: certificate.der().clone(), provider: Arc::new(provider) })
    }

    /// A client that offers this one protocol and resumes nothing.
    pub fn client(&self, protocol: &[u8]) -> io::Result<Arc<ClientConfig>> {
        let known = Arc::new(Known { certificate: self.certificate.clone() });
        let builder = ClientConfig::builder_with_provider(self.provider.clone());
        let builder = builder.with_protocol_versions(&[&version::TLS13]).map_err(io::Error::other)?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(known).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// The same client, with an empty store of its own for the tickets it will be given.
pub fn remembering(client: &ClientConfig) -> Arc<ClientConfig> {
    let mut client = client.clone();
    client.resumption = Resumption::in_memory_sessions(TICKETS_MAX);
    Arc::new(client)
}

pub fn connection(client: &Arc<ClientConfig>) -> io::Result<ClientConnection> {
    let host = ServerName::try_from(HOST).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(client.clone(), host).map_err(io::Error::other)?;
    // Who fills it waits for answers between two requests; that is the limit.
    connection.set_buffer_limit(None);
    Ok(connection)
}

#[derive(Debug)]
struct Known {
    certificate: CertificateDer<'static>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::Error::General("another certificate".into())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".into()))
    }

    /// Not verified: it would cost the generator as much as all the rest of a handshake, and says nothing about cost.
    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
