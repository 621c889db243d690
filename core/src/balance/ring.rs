//! Ketama's ring: each endpoint stands at many points of a circle, and a key belongs to the next point. Who leaves, leaves its keys to
//! many others and moves no more than those.

use super::{Member, hash};

/// Points of the heaviest endpoint; others have fewer by weight. Shares of equal endpoints differ by some 3% of a share.
const POINTS: u64 = 2048;
/// Points of a whole ring, 10 bytes each. With more endpoints than that is good for each has fewer.
const RING_MAX: u64 = 1 << 21;

#[derive(Debug)]
pub struct Ring {
    /// Sorted.
    points: Vec<u64>,
    owners: Vec<u16>,
}

impl Ring {
    pub(super) fn new(members: &[Member]) -> Ring {
        let weighted = || members.iter().enumerate().filter(|(_, member)| member.weight > 0);
        let count = weighted().count().max(1) as u64;
        let most = POINTS.min(RING_MAX / count).max(1);
        let heaviest = u64::from(members.iter().map(|member| member.weight).max().unwrap_or(1).max(1));
        let mut ring: Vec<(u64, u64, u16)> = Vec::new();
        for (index, member) in weighted() {
            let points = (u64::from(member.weight) * most / heaviest).max(1);
            ring.extend((0..points).map(|point| (hash(&point.to_le_bytes(), member.hash), member.hash, index as u16)));
        }
        // By hash, and where two points meet by who they are, so that the order in the file does not count.
        ring.sort_unstable();
        Ring { points: ring.iter().map(|(point, ..)| *point).collect(), owners: ring.iter().map(|(.., owner)| *owner).collect() }
    }

    /// Owners from the key's place on, once around.
    pub(super) fn walk(&self, hash: u64) -> impl Iterator<Item = u16> {
        let start = self.points.partition_point(|&point| point < hash);
        self.owners[start..].iter().chain(&self.owners[..start]).copied()
    }
}
