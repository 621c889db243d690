//! What a listener's TLS is over QUIC: the same certificates, the same question to clients, its own sessions.

use super::server::ServerTls;
use rustls::ServerConfig;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache};
use std::sync::Arc;

/// Sessions that may be resumed, of a listener. Each is some 200 bytes.
const SESSIONS: usize = 16 * 1024;

/// The protocol's name (RFC 9114 §3.1).
const PROTOCOL: &[u8] = b"h3";

impl ServerTls {
    /// Early data is taken where sessions are kept here, and each is good for one resumption: so nobody replays it (RFC 8446 §8.1). A
    /// listener that asks clients for certificates takes none: what is sent early is answered before they are shown.
    pub(crate) fn over_quic(&self) -> Arc<ServerConfig> {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        if !self.asks_clients {
            config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
            config.ticketer = Arc::new(NoTickets);
            // All that the windows allow: QUIC knows no other bound (RFC 9001 §4.6.1).
            config.max_early_data_size = u32::MAX;
        }
        Arc::new(config)
    }
}

/// Sessions are kept and not sealed into tickets, which could be shown twice.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}
