//! How many connections there are, in all and from each address. Asked when one is accepted, never for a request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Locks for the counts by address, so that workers rarely meet at one.
const SHARDS: usize = 64;

pub(crate) struct Connections {
    open: AtomicU32,
    by_ip: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
}

impl Default for Connections {
    fn default() -> Self {
        Connections { open: AtomicU32::new(0), by_ip: std::array::from_fn(|_| Mutex::default()) }
    }
}

/// A connection that is counted until this is dropped.
pub(crate) struct Place {
    connections: Arc<Connections>,
    ip: IpAddr,
}

impl Connections {
    /// `None`: one of the limits is reached.
    pub fn enter(self: &Arc<Self>, ip: IpAddr, most: u32, most_per_ip: u32) -> Option<Place> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= most {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let ip = holder(ip);
        let mut shard = self.shard(ip).lock().unwrap_or_else(PoisonError::into_inner);
        let count = shard.entry(ip).or_insert(0);
        if *count >= most_per_ip {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        drop(shard);
        Some(Place { connections: self.clone(), ip })
    }

    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    fn shard(&self, ip: IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        let bits = match ip {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ v6.to_bits() as u64,
        };
        &self.by_ip[(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize]
    }
}

/// Whose connection it is: an IPv6 client has a whole /64 (RFC 6177), so that is what is counted.
fn holder(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        let mut shard = self.connections.shard(self.ip).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = shard.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_places_are_given_back() {
        let connections = Arc::new(Connections::default());
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = connections.enter(a, 3, 2).unwrap();
        let _second = connections.enter("::ffff:192.0.2.1".parse().unwrap(), 3, 2).unwrap();
        assert!(connections.enter(a, 3, 2).is_none(), "two from one address");
        let _third = connections.enter(b, 3, 2).unwrap();
        assert!(connections.enter(b, 3, 2).is_none(), "three in all");
        let network: Vec<_> =
            (1..=2).filter_map(|host| connections.enter(format!("2001:db8::{host}").parse().unwrap(), 9, 1)).collect();
        assert_eq!(network.len(), 1, "one network is one client");
        drop(network);
        drop(first);
        assert!(connections.enter(a, 3, 2).is_some());
        assert_eq!(connections.open(), 2);
    }
}
