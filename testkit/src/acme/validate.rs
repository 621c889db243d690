//! What an authority sees of a domain: HTTP-01 (RFC 8555 §8.3) and TLS-ALPN-01 (RFC 8737), by connecting to where the domain leads.

use crate::stream::Stream;
use crate::tls::{Anyone, provider};
use crate::wait::PATIENCE;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// id-pe-acmeIdentifier.
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

pub fn http(place: SocketAddr, domain: &str, token: &str, proof: &str) -> Result<(), String> {
    let answer = ask(place, domain, token).map_err(|error| format!("{place}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("not 200: {}", head.lines().next().unwrap_or_default()));
    }
    if !head.to_ascii_lowercase().contains("content-type: application/octet-stream") {
        return Err(format!("the wrong type: {head}"));
    }
    if body == proof { Ok(()) } else { Err(format!("{body:?} proves nothing")) }
}

fn ask(place: SocketAddr, domain: &str, token: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&place, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request =
        format!("GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {domain}\r\nConnection: close\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub fn tls(place: SocketAddr, domain: &str, digest: &[u8]) -> Result<(), String> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.expect("the provider has it").dangerous().with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let name = ServerName::try_from(domain.to_owned()).map_err(|error| error.to_string())?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let shaken = Stream::connect(place).and_then(|stream| stream.secure(connection));
    let stream = shaken.map_err(|error| format!("{place}: no handshake: {error}"))?;
    let handshake = stream.handshake().ok_or("no handshake")?;
    if handshake.alpn.as_deref() != Some("acme-tls/1") {
        return Err(format!("the protocol is {:?}", handshake.alpn));
    }
    let [certificate] = handshake.peer() else { return Err("not one certificate".to_owned()) };
    proves(certificate, domain, digest)?;
    // Nobody speaks HTTP here: the other side has nothing to wait for.
    match stream.read(&mut [0; 16]) {
        Ok(0) => Ok(()),
        other => Err(format!("the connection goes on: {other:?}")),
    }
}

/// RFC 8737 §3.
fn proves(certificate: &[u8], domain: &str, digest: &[u8]) -> Result<(), String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?.ok_or("no names")?;
    match &names.value.general_names[..] {
        [GeneralName::DNSName(name)] if name.eq_ignore_ascii_case(domain) => {}
        others => return Err(format!("the names {others:?}")),
    }
    let mut identifiers = parsed.extensions().iter().filter(|extension| extension.oid.to_id_string() == ACME_IDENTIFIER);
    let (Some(identifier), None) = (identifiers.next(), identifiers.next()) else {
        return Err("not one acmeIdentifier".to_owned());
    };
    // An OCTET STRING of 32 bytes.
    let wanted = [&[0x04, 0x20], digest].concat();
    if !identifier.critical || identifier.value != wanted {
        return Err(format!("the acmeIdentifier {identifier:?}"));
    }
    if parsed.issuer() == parsed.subject() { Ok(()) } else { Err("not signed by itself".to_owned()) }
}
