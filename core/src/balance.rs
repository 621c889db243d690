//! Which endpoint a request goes to: each algorithm is pure code over weights, what is known of the endpoints, a hash, `now` and chance.
//! Tables are built when the endpoints change; a pick allocates nothing. Opens no connection, and knows nothing of health.

mod bound;
mod draw;
mod figures;
mod load;
mod maglev;
mod ring;
mod roster;
#[cfg(test)]
mod tests;
mod wheel;
mod xxh64;

pub use figures::{FAILURE_COST, Figures, InFlight, OpenConnection};
pub use roster::{Changes, Identity, KnownFigures, Roster};
pub use wheel::{WHEEL_MAX, wheel};
pub use xxh64::hash;

use crate::Chance;
use bound::Room;
use draw::Draw;
use maglev::Maglev;
use maitred_model::Balance;
use ring::Ring;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

/// An endpoint as the tables see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// 0: never picked.
    pub weight: u32,
    /// Of what the endpoint is, the same in every process.
    pub hash: u64,
}

/// The endpoints of an upstream at one moment, made ready for picks. Its answers are indices into the members it was made of.
#[derive(Debug)]
pub enum Picker {
    /// In turn: a whole cycle of indices.
    RoundRobin(Vec<u16>),
    Random(Draw),
    LeastRequest(Draw),
    PeakEwma(Draw),
    /// The draw is for requests without a key.
    RingHash(Draw, Ring),
    Maglev(Draw, Maglev),
}

impl Default for Picker {
    fn default() -> Picker {
        Picker::RoundRobin(Vec::new())
    }
}

/// What a pick may look at.
pub struct Asked<'a> {
    pub members: &'a [Member],
    /// One for each member.
    pub figures: &'a [Arc<Figures>],
    /// Of the request's key, where it has one.
    pub hash: Option<u64>,
    pub chance: &'a Chance,
}

impl Picker {
    pub fn new(balance: Balance, members: &[Member]) -> Picker {
        match balance {
            Balance::RoundRobin => Picker::RoundRobin(wheel(&members.iter().map(|member| member.weight).collect::<Vec<_>>())),
            Balance::Random => Picker::Random(Draw::new(members)),
            Balance::LeastRequest => Picker::LeastRequest(Draw::new(members)),
            Balance::PeakEwma => Picker::PeakEwma(Draw::new(members)),
            Balance::RingHash => Picker::RingHash(Draw::new(members), Ring::new(members)),
            Balance::Maglev => Picker::Maglev(Draw::new(members), Maglev::new(members)),
        }
    }

    /// Whether it looks at how long endpoints take.
    pub fn goes_by_time(&self) -> bool {
        match self {
            Picker::PeakEwma(_) => true,
            Picker::RoundRobin(_) | Picker::Random(_) | Picker::LeastRequest(_) | Picker::RingHash(..) | Picker::Maglev(..) => {
                false
            }
        }
    }

    /// `turn`: the worker's place in the cycle. `now` is asked for only where it is needed. `None`: there is nobody to pick.
    pub fn pick(&self, turn: &Cell<usize>, now: impl Fn() -> Instant, asked: &Asked<'_>) -> Option<usize> {
        let index = match self {
            Picker::RoundRobin(wheel) => {
                if wheel.is_empty() {
                    return None;
                }
                let at = turn.get() % wheel.len();
                turn.set(at + 1);
                wheel[at]
            }
            Picker::Random(draw) => draw.one(asked.chance)?,
            Picker::LeastRequest(draw) => load::least_request(draw.two(asked.chance)?, asked),
            Picker::PeakEwma(draw) => load::peak_ewma(draw.two(asked.chance)?, draw.mean_weight(), now(), asked),
            Picker::RingHash(draw, ring) => match asked.hash {
                Some(hash) => Room::of(draw.total_weight(), asked).first(ring.walk(hash))?,
                None => draw.one(asked.chance)?,
            },
            Picker::Maglev(draw, table) => match asked.hash {
                Some(hash) => Room::of(draw.total_weight(), asked).first(table.walk(hash))?,
                None => draw.one(asked.chance)?,
            },
        };
        Some(usize::from(index))
    }
}
