//! One nonblocking connection to a proxy, plain or under TLS, as bytes in and out. Knows nothing of HTTP, and waits for nobody:
//! whoever holds it watches the socket.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use rustls::client::ClientConnection;
use rustls::{CipherSuite, ClientConfig, HandshakeKind};

use crate::sys;
use crate::tls;

/// Room for what arrives, shared by all links of one thread.
pub struct Buffers {
    raw: Vec<u8>,
    plain: Vec<u8>,
}

impl Buffers {
    pub fn new(bytes: usize) -> Buffers {
        Buffers { raw: vec![0; bytes], plain: Vec::new() }
    }
}

pub enum Received<'a> {
    Bytes(&'a [u8]),
    /// Nothing for us: the socket was empty, or what came was TLS's own.
    Nothing,
    Closed,
}

pub struct Link {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// What a plain socket did not take.
    output: Vec<u8>,
}

impl Link {
    /// With a configuration, TLS begins with the first bytes sent.
    pub fn connect(source: Ipv4Addr, port: u16, client: Option<&Arc<ClientConfig>>) -> io::Result<Link> {
        let stream = sys::connect_from(source, sys::loopback(port))?;
        stream.set_nonblocking(true)?;
        let tls = client.map(tls::connection).transpose()?.map(Box::new);
        Ok(Link { stream, tls, output: Vec::new() })
    }

    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Whether something waits for the socket to become writable.
    pub fn blocked(&self) -> bool {
        !self.output.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Sends what it can and keeps the rest. A failed send shows up as a failed receive too, and is told there, once.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Some(tls) = &mut self.tls {
            // Writing to its buffer, which has no limit, does not fail.
            let _ = tls.writer().write_all(bytes);
            return self.flush();
        }
        let sent = if self.output.is_empty() { send_some(self.fd(), bytes) } else { 0 };
        self.output.extend_from_slice(&bytes[sent..]);
    }

    pub fn flush(&mut self) {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() && tls.write_tls(&mut &self.stream).is_ok() {}
        } else if !self.output.is_empty() {
            let sent = send_some(self.fd(), &self.output);
            self.output.drain(..sent);
        }
    }

    pub fn receive<'a>(&mut self, buffers: &'a mut Buffers) -> io::Result<Received<'a>> {
        let Some(count) = sys::receive(self.fd(), &mut buffers.raw)? else { return Ok(Received::Nothing) };
        let bytes = &buffers.raw[..count];
        if count == 0 {
            return Ok(Received::Closed);
        }
        let Some(tls) = &mut self.tls else { return Ok(Received::Bytes(bytes)) };
        buffers.plain.clear();
        let outcome = decrypt(tls, bytes, &mut buffers.plain);
        self.flush();
        match outcome? {
            _ if !buffers.plain.is_empty() => Ok(Received::Bytes(&buffers.plain)),
            true => Ok(Received::Nothing),
            false => Ok(Received::Closed),
        }
    }

    /// Says goodbye in TLS; the socket closes when this is dropped.
    pub fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            self.flush();
        }
    }

    /// Whether TLS, where there is any, came out as every contender is meant to speak it.
    pub fn is_as_agreed(&self) -> Result<(), String> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let suite = tls.negotiated_cipher_suite().map(|suite| suite.suite());
        if suite != Some(CipherSuite::TLS13_AES_128_GCM_SHA256) {
            return Err(format!("TLS came to {suite:?}"));
        }
        if tls.alpn_protocol().is_none() {
            return Err("ALPN came to nothing".into());
        }
        Ok(())
    }

    pub fn resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.handshake_kind() == Some(HandshakeKind::Resumed))
    }
}

/// How much of it the socket took.
fn send_some(fd: RawFd, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len() {
        match sys::send(fd, &bytes[sent..]) {
            Ok(Some(count)) => sent += count,
            Ok(None) | Err(_) => break,
        }
    }
    sent
}

/// `Ok(false)` once the peer has said that it will send no more.
fn decrypt(tls: &mut ClientConnection, mut bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<bool> {
    while !bytes.is_empty() {
        if tls.read_tls(&mut bytes)? == 0 {
            return Ok(false);
        }
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let (before, waiting) = (plain.len(), state.plaintext_bytes_to_read());
        if waiting > 0 {
            plain.resize(before + waiting, 0);
            tls.reader().read_exact(&mut plain[before..])?;
        }
        if state.peer_has_closed() {
            return Ok(false);
        }
    }
    Ok(true)
}
