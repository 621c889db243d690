//! TLS for tests: authorities and certificates made on the spot, both sides of a handshake with every choice open. Nothing here
//! outlives the test, and no key is ever a file of the repository.

use crate::stream::Stream;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, RevokedCertParams, SanType, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, HandshakeKind, ProtocolVersion, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion, version,
};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

/// Signs certificates: a CA of the test's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, both as PEM.
#[derive(Clone)]
pub struct Identity {
    pub cert: String,
    pub key: String,
}

impl Identity {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect::<Result<_, _>>().expect("PEM that was just made")
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM that was just made")
    }
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let params = authority(name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Another one, which this one vouches for.
    pub fn below(&self, name: &str) -> Authority {
        let mut params = authority(name);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key");
        let pem = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    /// For a server of these names or addresses; `*.example.com` is one.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.sign(names, ExtendedKeyUsagePurpose::ServerAuth, |_| {})
    }

    /// Was good until 2001.
    pub fn expired_server(&self, names: &[&str]) -> Identity {
        self.sign(names, ExtendedKeyUsagePurpose::ServerAuth, expire)
    }

    /// For a client, whose name stands in it as common name and as DNS name.
    pub fn client(&self, name: &str) -> Identity {
        self.sign(&[name], ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    pub fn expired_client(&self, name: &str) -> Identity {
        self.sign(&[name], ExtendedKeyUsagePurpose::ClientAuth, expire)
    }

    /// That ends then (seconds since 1970).
    pub fn client_until(&self, name: &str, end: u64) -> Identity {
        self.sign(&[name], ExtendedKeyUsagePurpose::ClientAuth, |params| {
            params.not_after = (UNIX_EPOCH + Duration::from_secs(end)).into()
        })
    }

    /// For a client with a name of each kind.
    pub fn client_also(&self, name: &str, uri: &str, email: &str) -> Identity {
        let ascii = |text: &str| text.try_into().expect("ASCII");
        self.sign(&[name], ExtendedKeyUsagePurpose::ClientAuth, |params| {
            params.subject_alt_names.extend([SanType::URI(ascii(uri)), SanType::Rfc822Name(ascii(email))]);
        })
    }

    /// The list of what it revoked, which holds until then (seconds since 1970), as PEM.
    pub fn revoked(&self, identities: &[&Identity], next_update: u64) -> String {
        let time = |seconds: u64| (UNIX_EPOCH + Duration::from_secs(seconds)).into();
        let revoked = identities.iter().map(|identity| {
            let chain = identity.chain();
            let (_, certificate) = X509Certificate::from_der(&chain[0]).expect("a certificate");
            let serial_number = SerialNumber::from_slice(certificate.raw_serial());
            RevokedCertParams { serial_number, revocation_time: time(1), reason_code: None, invalidity_date: None }
        });
        let params = CertificateRevocationListParams {
            this_update: time(1),
            next_update: time(next_update),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }

    fn sign(&self, names: &[&str], usage: ExtendedKeyUsagePurpose, alter: impl Fn(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names that may stand in a certificate");
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("nobody", String::as_str));
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        alter(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Identity { cert, key: key.serialize_pem() }
    }

    /// What a certificate request (RFC 2986) asks for, if it is for these names and no others; `life` in seconds since 1970.
    pub(crate) fn issue(&self, request: &[u8], names: &[String], life: (i64, i64)) -> Result<String, String> {
        let (_, request) = X509CertificationRequest::from_der(request).map_err(|error| format!("no request: {error}"))?;
        let asked = request.requested_extensions().into_iter().flatten().find_map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
        let asked: Vec<String> = asked.into_iter().flatten().map(|name| name.to_string()).collect();
        if asked != names.iter().map(|name| format!("DNSName({name})")).collect::<Vec<_>>() {
            return Err(format!("a request for {asked:?}, where {names:?} were ordered"));
        }
        let mut params = CertificateParams::new(names.to_vec()).map_err(|error| error.to_string())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds as u64);
        (params.not_before, params.not_after) = (time(life.0).into(), time(life.1).into());
        let key = Asked(request.certification_request_info.subject_pki.subject_public_key.data.to_vec());
        params.signed_by(&key, &self.issuer).map(|certificate| certificate.pem()).map_err(|error| error.to_string())
    }

    fn roots(&self) -> RootCertStore {
        roots(&self.pem)
    }
}

#[track_caller]
fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("a certificate");
    roots
}

/// The key of a certificate request.
struct Asked(Vec<u8>);

impl PublicKeyData for Asked {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn expire(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2001, 1, 1);
}

/// The versions that TLS is spoken in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    V12,
    V13,
}

impl TlsVersion {
    fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            TlsVersion::V12 => &version::TLS12,
            TlsVersion::V13 => &version::TLS13,
        }
    }
}

/// What both sides agreed on.
#[derive(Debug, Clone)]
pub struct Handshake {
    pub version: TlsVersion,
    pub alpn: Option<String>,
    /// With a ticket or session of an earlier connection.
    pub resumed: bool,
    /// The name that the client asked for; known to servers.
    pub sni: Option<String>,
    /// The other side's certificate and those above it, as DER.
    peer: Vec<Vec<u8>>,
}

impl Handshake {
    pub(crate) fn of(connection: &Connection) -> Handshake {
        let sni = match connection {
            Connection::Client(_) => None,
            Connection::Server(server) => server.server_name().map(str::to_owned),
        };
        Handshake {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => TlsVersion::V12,
                Some(ProtocolVersion::TLSv1_3) => TlsVersion::V13,
                other => panic!("a version of TLS that nobody offered: {other:?}"),
            },
            alpn: connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            sni,
            peer: connection.peer_certificates().unwrap_or_default().iter().map(|cert| cert.to_vec()).collect(),
        }
    }

    /// Whether the other side proved to be this.
    pub fn peer_is(&self, identity: &Identity) -> bool {
        self.peer.first().map(Vec::as_slice) == identity.chain().first().map(|cert| &**cert)
    }

    pub(crate) fn peer(&self) -> &[Vec<u8>] {
        &self.peer
    }

    /// Until when the other side's certificate is valid, in seconds since 1970.
    #[track_caller]
    pub fn peer_ends(&self) -> i64 {
        let (_, certificate) = X509Certificate::from_der(&self.peer[0]).expect("a certificate");
        certificate.validity().not_after.timestamp()
    }

    pub fn peer_is_unknown(&self) -> bool {
        self.peer.is_empty()
    }
}

/// How a client of a test shakes hands. Connections made from one of these share its sessions: the second may resume the first.
pub struct ClientTls {
    roots: RootCertStore,
    name: String,
    sni: bool,
    alpn: Vec<Vec<u8>>,
    versions: Vec<TlsVersion>,
    identity: Option<Identity>,
    resumption: bool,
    early: bool,
    ahead: Duration,
    config: OnceLock<Arc<ClientConfig>>,
}

impl ClientTls {
    /// Believes in `authority`, asks for `name`, and offers what is customary: both versions, no ALPN.
    pub fn new(authority: &Authority, name: &str) -> ClientTls {
        ClientTls::believing(&authority.pem, name)
    }

    /// The same, for an authority that is not the test's: its certificate as PEM.
    #[track_caller]
    pub fn believing(authority: &str, name: &str) -> ClientTls {
        ClientTls {
            roots: roots(authority),
            name: name.to_owned(),
            sni: true,
            alpn: Vec::new(),
            versions: vec![TlsVersion::V13, TlsVersion::V12],
            identity: None,
            resumption: true,
            early: false,
            ahead: Duration::ZERO,
            config: OnceLock::new(),
        }
    }

    /// Does not say whom it wants; still holds the certificate against the name.
    pub fn without_sni(mut self) -> ClientTls {
        self.sni = false;
        self
    }

    /// In order of preference.
    pub fn alpn(mut self, names: &[&str]) -> ClientTls {
        self.alpn = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    pub fn h2(self) -> ClientTls {
        self.alpn(&["h2"])
    }

    pub fn version(mut self, version: TlsVersion) -> ClientTls {
        self.versions = vec![version];
        self
    }

    pub fn identity(mut self, identity: &Identity) -> ClientTls {
        self.identity = Some(identity.clone());
        self
    }

    pub fn without_resumption(mut self) -> ClientTls {
        self.resumption = false;
        self
    }

    /// HTTP/3, which is nothing but TLS 1.3.
    pub fn h3(self) -> ClientTls {
        self.alpn(&["h3"]).version(TlsVersion::V13)
    }

    /// Sends requests with its first words, where the server has allowed it before.
    pub fn early(mut self) -> ClientTls {
        self.early = true;
        self
    }

    /// Its clock is ahead, as a gateway's that was turned.
    pub fn ahead(mut self, by: Duration) -> ClientTls {
        self.ahead = by;
        self
    }

    #[cfg(feature = "http3")]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let make = || {
            let versions: Vec<_> = self.versions.iter().map(|version| version.supported()).collect();
            let builder = ClientConfig::builder_with_details(provider(), Arc::new(Ahead(self.ahead)))
                .with_protocol_versions(&versions)
                .expect("versions that the provider knows")
                .with_root_certificates(self.roots.clone());
            let mut config = match &self.identity {
                Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.private_key()).expect("a fitting key"),
                None => builder.with_no_client_auth(),
            };
            config.enable_sni = self.sni;
            config.alpn_protocols = self.alpn.clone();
            config.enable_early_data = self.early;
            if !self.resumption {
                config.resumption = Resumption::disabled();
            }
            Arc::new(config)
        };
        self.config.get_or_init(make).clone()
    }

    /// Shakes hands over a connection that exists.
    pub fn over(&self, stream: Stream) -> io::Result<Stream> {
        let name = ServerName::try_from(self.name.clone()).expect("a name that may be asked for");
        stream.secure(ClientConnection::new(self.config(), name).expect("a configuration that works"))
    }

    /// Shakes hands, and says this with the last words of that.
    #[track_caller]
    pub fn connect_saying(&self, address: SocketAddr, first: &[u8]) -> Stream {
        let name = ServerName::try_from(self.name.clone()).expect("a name that may be asked for");
        let connection = ClientConnection::new(self.config(), name).expect("a configuration that works");
        let made = Stream::connect(address).and_then(|stream| stream.secure_saying(connection, first));
        made.unwrap_or_else(|error| panic!("no TLS with {address} as {}: {error}", self.name))
    }

    /// The same with these records of data in the handshake's last flight.
    pub fn over_saying(&self, stream: Stream, records: &[&[u8]]) -> io::Result<Stream> {
        let name = ServerName::try_from(self.name.clone()).expect("a name that may be asked for");
        let mut connection = ClientConnection::new(self.config(), name).expect("a configuration that works");
        for record in records {
            connection.writer().write_all(record)?;
        }
        stream.secure(connection)
    }

    pub fn try_connect(&self, address: SocketAddr) -> io::Result<Stream> {
        self.over(Stream::connect(address)?)
    }

    #[track_caller]
    pub fn connect(&self, address: SocketAddr) -> Stream {
        self.try_connect(address).unwrap_or_else(|error| panic!("no TLS with {address} as {}: {error}", self.name))
    }

    #[track_caller]
    pub fn connect_unix(&self, path: &Path) -> Stream {
        let made = Stream::connect_unix(path).and_then(|stream| self.over(stream));
        made.unwrap_or_else(|error| panic!("no TLS with {} as {}: {error}", path.display(), self.name))
    }
}

/// The time, and so much more.
#[derive(Debug)]
struct Ahead(Duration);

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        DefaultTimeProvider.current_time().map(|now| UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + self.0))
    }
}

/// Believes everyone: what is shown is looked at afterwards.
#[derive(Debug)]
pub(crate) struct Anyone;

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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 alone".to_owned()))
    }

    /// The key of the certificate signed, whatever else stands in there: a critical extension, such as ACME's, is nothing that the
    /// ordinary way knows.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let malformed = |_| rustls::Error::General("a malformed certificate".to_owned());
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(malformed)?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// How a back end shakes hands.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Shows `identity` to everybody and takes what is customary: both versions, HTTP/1.1 by ALPN or none.
    pub fn new(identity: &Identity) -> ServerTls {
        ServerTls::build(identity, None, &[TlsVersion::V13, TlsVersion::V12])
    }

    pub fn of_version(identity: &Identity, version: TlsVersion) -> ServerTls {
        ServerTls::build(identity, None, &[version])
    }

    /// Wants a certificate signed by `clients`.
    pub fn with_clients(identity: &Identity, clients: &Authority) -> ServerTls {
        ServerTls::build(identity, Some(clients), &[TlsVersion::V13, TlsVersion::V12])
    }

    fn build(identity: &Identity, clients: Option<&Authority>, versions: &[TlsVersion]) -> ServerTls {
        let versions: Vec<_> = versions.iter().map(|version| version.supported()).collect();
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .expect("versions that the provider knows");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), provider())
                    .build()
                    .expect("an authority to believe in"),
            ),
        };
        let mut config = builder.with_single_cert(identity.chain(), identity.private_key()).expect("a fitting key");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        ServerTls { config: Arc::new(config) }
    }

    /// In order of preference; none at all: whatever the client offers is ignored.
    pub fn alpn(mut self, names: &[&str]) -> ServerTls {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        self.config = Arc::new(config);
        self
    }

    pub(crate) fn accept(&self, stream: Stream) -> io::Result<Stream> {
        stream.secure(ServerConnection::new(self.config.clone()).expect("a configuration that works"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Client, Door, proxy_v1};

    #[test]
    fn what_was_agreed_is_told_to_both_sides() {
        let authority = Authority::new("the test's");
        let (server, client) = (authority.server(&["a.test", "*.b.test"]), authority.client("alice"));
        let backend = Backend::named_behind(Door::tls(ServerTls::with_clients(&server, &authority)), "x");
        for version in [TlsVersion::V12, TlsVersion::V13] {
            for (name, sni) in [("a.test", true), ("www.b.test", true), ("a.test", false)] {
                let tls = ClientTls::new(&authority, name).version(version).alpn(&["h2", "http/1.1"]).identity(&client);
                let tls = if sni { tls } else { tls.without_sni() };
                for resumed in [false, true] {
                    let mut visitor = Client::connect_tls(backend.address(), &tls);
                    assert_eq!(visitor.get("/").text(), "x");
                    let shaken = visitor.handshake();
                    assert_eq!((shaken.version, shaken.alpn.as_deref(), shaken.resumed), (version, Some("http/1.1"), resumed));
                    assert!(shaken.peer_is(&server));
                    let theirs = backend.handshakes().pop().expect("one").expect("a good one");
                    assert!(theirs.peer_is(&client) && !theirs.peer_is(&server));
                    assert_eq!(theirs.sni.as_deref(), sni.then_some(name));
                }
            }
        }
    }

    #[test]
    fn what_does_not_hold_is_refused() {
        let (authority, stranger) = (Authority::new("the test's"), Authority::new("a stranger's"));
        let old = Backend::named_behind(Door::tls(ServerTls::new(&authority.expired_server(&["a.test"]))), "x");
        assert!(ClientTls::new(&authority, "a.test").try_connect(old.address()).is_err());
        let backend = Backend::named_behind(Door::tls(ServerTls::with_clients(&authority.server(&["a.test"]), &authority)), "x");
        assert!(ClientTls::new(&authority, "b.test").try_connect(backend.address()).is_err(), "another name");
        for identity in [None, Some(stranger.client("eve")), Some(authority.expired_client("old"))] {
            let tls = ClientTls::new(&authority, "a.test");
            let tls = match &identity {
                Some(identity) => tls.identity(identity),
                None => tls,
            };
            // In TLS 1.3 the client learns of it with its first read.
            if let Ok(stream) = tls.try_connect(backend.address()) {
                let mut client = Client::over(stream);
                let _ = client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
                assert!(client.try_response("GET").is_err());
            }
        }
        assert_eq!(backend.count(), 0);
    }

    #[test]
    fn a_back_end_stands_behind_a_unix_socket_or_a_proxy_header() {
        let backend = Backend::named_behind(Door::unix(), "x");
        assert_eq!(Client::connect_unix(&backend.path()).get("/").text(), "x");
        let backend = Backend::named_behind(Door::plain().proxied(), "y");
        let mut client = Client::connect(backend.address());
        client.send(proxy_v1("192.0.2.1:5".parse().unwrap(), "192.0.2.2:6".parse().unwrap()));
        assert_eq!(client.get("/").text(), "y");
        let header = backend.proxy_headers().remove(0).unwrap();
        assert_eq!(header.addresses.map(|(source, _)| source.to_string()).as_deref(), Some("192.0.2.1:5"));
        let mut client = Client::connect(backend.address());
        client.send("GET / HTTP/1.1\r\n\r\n");
        client.closed();
        assert!(backend.proxy_headers()[1].is_err());
    }
}
