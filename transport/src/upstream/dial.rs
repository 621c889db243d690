//! How a connection to a back end is made: the stream, a PROXY header before everything, TLS. Sends no request.

use crate::socket::Socket;
use crate::tls::{ClientTls, TlsStream, words};
use crate::worker::Worker;
use maitred_core::{Fault, Kind, Remote};
use maitred_wire::{write_proxy_v1, write_proxy_v1_unknown, write_proxy_v2, write_proxy_v2_local};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::net::{TcpStream, UnixStream};

/// Which form of the PROXY header a back end is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

/// What all connections of an upstream have in common.
#[derive(Default)]
pub struct Dial {
    /// HTTP/2, by ALPN where there is TLS, by prior knowledge where there is none.
    pub http2: bool,
    pub tls: Option<ClientTls>,
    /// A connection that tells its client's address can serve no other client.
    pub proxy: Option<ProxyVersion>,
    /// What it is configured with, in short: connections made otherwise are not shared.
    pub identity: u64,
}

impl Dial {
    /// A stream on which requests may be sent. `host`: the endpoint's own name, with its port. `client`: its two ends, for a PROXY
    /// header; the gateway itself has none.
    pub(crate) async fn connect(
        &self,
        remote: &Remote,
        host: &str,
        client: Option<(SocketAddr, SocketAddr)>,
        worker: &Rc<Worker>,
    ) -> Result<Socket, Fault> {
        let unreachable =
            |error: io::Error| Fault::new(Kind::UpstreamUnreachable, format!("cannot connect to {remote}: {error}"));
        let socket = match remote {
            Remote::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                let _ = stream.set_nodelay(true);
                Socket::from(stream)
            }
            Remote::Unix(path) => Socket::from(UnixStream::connect(path).await.map_err(unreachable)?),
        };
        if let Some(version) = self.proxy {
            introduce(&socket, version, client).await.map_err(unreachable)?;
        }
        match &self.tls {
            None => Ok(socket),
            Some(tls) => self.secure(tls, socket, remote, host, worker).await,
        }
    }

    async fn secure(
        &self,
        tls: &ClientTls,
        socket: Socket,
        remote: &Remote,
        host: &str,
        worker: &Rc<Worker>,
    ) -> Result<Socket, Fault> {
        let fault = |why: String| Fault::new(Kind::UpstreamUnreachable, format!("no TLS with {remote}: {why}"));
        let host = host_of(host);
        let name = tls.name_for(host).ok_or_else(|| fault(format!("`{host}` is no name of a server")))?;
        let connection = rustls::ClientConnection::new(tls.config.clone(), name).map_err(|error| fault(words(&error)))?;
        let raw = socket.into_raw().ok_or_else(|| fault("it is encrypted already".to_owned()))?;
        let mut stream = TlsStream::new(raw, connection, worker.clone());
        poll_fn(|cx| stream.poll_handshake(cx)).await.map_err(|error| fault(error.to_string()))?;
        if self.http2 && stream.connection().alpn_protocol() != Some(b"h2") {
            return Err(fault("the back end does not speak HTTP/2 there: set `protocol: http1`".to_owned()));
        }
        Ok(stream.into())
    }
}

/// Without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => authority,
    }
}

async fn introduce(socket: &Socket, version: ProxyVersion, client: Option<(SocketAddr, SocketAddr)>) -> io::Result<()> {
    let mut header = Vec::new();
    match (version, client) {
        (ProxyVersion::V1, Some((source, destination))) => write_proxy_v1(&mut header, source, destination),
        (ProxyVersion::V1, None) => write_proxy_v1_unknown(&mut header),
        (ProxyVersion::V2, Some((source, destination))) => write_proxy_v2(&mut header, source, destination),
        (ProxyVersion::V2, None) => write_proxy_v2_local(&mut header),
    }
    let mut written = 0;
    while written < header.len() {
        written += poll_fn(|cx| socket.poll_write(cx, &header[written..])).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_part_of_the_name() {
        for (authority, host) in
            [("a.example:443", "a.example"), ("a.example", "a.example"), ("[::1]:8443", "[::1]"), ("[::1]", "[::1]")]
        {
            assert_eq!(host_of(authority), host);
        }
    }
}
