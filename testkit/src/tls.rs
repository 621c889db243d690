//! TLS for tests: authorities and certificates made on the spot, both sides of a handshake with every choice open. Nothing here
//! outlives the test, and no key is ever a file of the repository.

use crate::stream::Stream;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion, version,
};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

fn provider() -> Arc<CryptoProvider> {
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
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect::<Result<_, _>>().expect("PEM that was just made")
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM that was just made")
    }
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
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

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM that was just made")).expect("a certificate");
        roots
    }
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
    config: OnceLock<Arc<ClientConfig>>,
}

impl ClientTls {
    /// Believes in `authority`, asks for `name`, and offers what is customary: both versions, no ALPN.
    pub fn new(authority: &Authority, name: &str) -> ClientTls {
        ClientTls {
            roots: authority.roots(),
            name: name.to_owned(),
            sni: true,
            alpn: Vec::new(),
            versions: vec![TlsVersion::V13, TlsVersion::V12],
            identity: None,
            resumption: true,
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

    fn config(&self) -> Arc<ClientConfig> {
        let make = || {
            let versions: Vec<_> = self.versions.iter().map(|version| version.supported()).collect();
            let builder = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&versions)
                .expect("versions that the provider knows")
                .with_root_certificates(self.roots.clone());
            let mut config = match &self.identity {
                Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.private_key()).expect("a fitting key"),
                None => builder.with_no_client_auth(),
            };
            config.enable_sni = self.sni;
            config.alpn_protocols = self.alpn.clone();
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
