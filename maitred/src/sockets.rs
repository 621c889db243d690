//! What listens before this process binds anything: the sockets of the process before it, and those that systemd opened. Says who is
//! meant by which; the listeners take theirs themselves.

use crate::upgrade::{DRAINED, Predecessor, TICKET_SECRET};
use anyhow::Context;
use maitred_dataplane::Offered;
use std::os::fd::OwnedFd;

/// What listens already.
pub struct Sockets {
    pub listeners: Offered,
    /// The admin listener's, of the process before.
    admin: Offered,
    /// Of those that systemd opened: where each listens, and its name.
    units: Vec<(String, String)>,
    /// What the process before sealed session tickets with.
    pub ticket_secret: Option<[u8; 32]>,
    /// Upstreams and their endpoints that were taken out by hand.
    pub drained: Vec<(String, String)>,
}

impl Sockets {
    pub fn new(predecessor: Option<&Predecessor>, opened: Vec<(String, OwnedFd)>) -> anyhow::Result<Sockets> {
        let mut sockets = Sockets {
            listeners: Offered::default(),
            admin: Offered::default(),
            units: Vec::new(),
            ticket_secret: None,
            drained: Vec::new(),
        };
        if let Some(predecessor) = predecessor {
            let handover = predecessor.receive()?;
            for (address, of_listener) in handover.listeners {
                sockets.listeners.add(address, of_listener)?;
            }
            let secret = handover.secrets.iter().find(|(name, _)| name == TICKET_SECRET);
            sockets.ticket_secret = secret.and_then(|(_, secret)| secret.as_slice().try_into().ok());
            let drained = handover.secrets.iter().find(|(name, _)| name == DRAINED);
            sockets.drained = drained.and_then(|(_, drained)| serde_json::from_slice(drained).ok()).unwrap_or_default();
            if let Some((address, socket)) = handover.admin {
                sockets.admin.add(address, vec![socket])?;
            }
        }
        for (unit, socket) in opened {
            let place = sockets.listeners.add_unnamed(socket).with_context(|| format!("of systemd's sockets, {unit}"))?;
            sockets.units.push((place, unit));
        }
        Ok(sockets)
    }

    /// The admin listener may be one that systemd opened. Of a process before only its admin listener is meant: the name of another
    /// listener may be the same, `127.0.0.1:0`.
    pub fn take_admin(&mut self, address: &str) -> Option<OwnedFd> {
        let mut taken = self.admin.take(address);
        if taken.is_empty() && !self.units.is_empty() {
            taken = self.listeners.take(address);
        }
        taken.into_iter().next()
    }

    pub fn warn_left(&self) {
        let left = self.listeners.left();
        for (place, unit) in self.units.iter().filter(|(place, _)| left.contains(&place.as_str())) {
            tracing::warn!(unit, "systemd listens on {place}, and no listener of the configuration has that address");
        }
    }
}
