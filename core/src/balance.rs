//! Which endpoint a request goes to: each algorithm is pure code over weights, what is known of the endpoints, a hash, `now` and chance.
//! Tables are built when the endpoints change; a pick allocates nothing. Opens no connection, and asks no endpoint
//! how it is.

mod bound;
mod draw;
mod figures;
mod levels;
mod load;
mod maglev;
mod ready;
mod ring;
mod roster;
#[cfg(test)]
mod tests;
mod wheel;
mod xxh64;

pub use figures::{FAILURE_COST, Figures, InFlight, OpenConnection};
pub use ready::{Level, Ready, Rules, panics, usable};
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
    RingHash(Draw, Arc<Ring>),
    Maglev(Draw, Arc<Maglev>),
}

impl Default for Picker {
    fn default() -> Picker {
        Picker::RoundRobin(Vec::new())
    }
}

/// By latency, one pick in so many asks nobody how long it takes: who was slow or failed would not be seen to have recovered.
const LOOK_AGAIN: usize = 64;

/// What a pick may look at.
pub struct Asked<'a> {
    pub members: &'a [Member],
    /// One for each of them.
    pub figures: &'a [Arc<Figures>],
    /// Of the request's key, where it has one.
    pub hash: Option<u64>,
    pub chance: &'a Chance,
    /// Not this one, where there is another.
    pub avoid: Option<usize>,
}

impl Asked<'_> {
    fn avoids(&self, index: u16) -> bool {
        self.avoid == Some(usize::from(index))
    }
}

impl Picker {
    pub fn new(balance: Balance, members: &[Member]) -> Picker {
        match balance {
            Balance::RoundRobin => Picker::RoundRobin(wheel(&members.iter().map(|member| member.weight).collect::<Vec<_>>())),
            Balance::Random => Picker::Random(Draw::new(members)),
            Balance::LeastRequest => Picker::LeastRequest(Draw::new(members)),
            Balance::PeakEwma => Picker::PeakEwma(Draw::new(members)),
            Balance::RingHash => Picker::RingHash(Draw::new(members), Arc::new(Ring::new(members))),
            Balance::Maglev => Picker::Maglev(Draw::new(members), Arc::new(Maglev::new(members))),
        }
    }

    /// The same endpoints with other weights, 0 for those who are out. Keys keep their places: only those of who is out move.
    fn over(&self, members: &[Member]) -> Picker {
        match self {
            Picker::RoundRobin(_) => Picker::new(Balance::RoundRobin, members),
            Picker::Random(_) => Picker::new(Balance::Random, members),
            Picker::LeastRequest(_) => Picker::new(Balance::LeastRequest, members),
            Picker::PeakEwma(_) => Picker::new(Balance::PeakEwma, members),
            Picker::RingHash(_, ring) => Picker::RingHash(Draw::new(members), ring.clone()),
            Picker::Maglev(_, table) => Picker::Maglev(Draw::new(members), table.clone()),
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
                // A further try takes nobody's turn: if it did, of two endpoints every request would begin at the one that fails.
                if asked.avoid.is_some() {
                    let ahead = || (0..wheel.len()).map(|step| wheel[(turn.get() + step) % wheel.len()]);
                    return ahead().find(|&index| !asked.avoids(index)).or(ahead().next()).map(usize::from);
                }
                next_turn(wheel, turn)?
            }
            Picker::Random(draw) => by_chance(draw, asked)?,
            Picker::LeastRequest(draw) => better(draw.two(asked.chance)?, asked, |two| load::least_request(two, asked)),
            Picker::PeakEwma(draw) => better(draw.two(asked.chance)?, asked, |two| match asked.chance.below(LOOK_AGAIN) {
                0 => two.0,
                _ => load::peak_ewma(two, draw.mean_weight(), now(), asked),
            }),
            Picker::RingHash(draw, ring) => match asked.hash {
                Some(hash) => keyed(draw, asked, || ring.walk(hash))?,
                None => by_chance(draw, asked)?,
            },
            Picker::Maglev(draw, table) => match asked.hash {
                Some(hash) => keyed(draw, asked, || table.walk(hash))?,
                None => by_chance(draw, asked)?,
            },
        };
        Some(usize::from(index))
    }
}

fn next_turn(wheel: &[u16], turn: &Cell<usize>) -> Option<u16> {
    if wheel.is_empty() {
        return None;
    }
    let at = turn.get() % wheel.len();
    turn.set(at + 1);
    Some(wheel[at])
}

/// Who has no place in the table has turns only where nobody else is left: those go by chance.
fn keyed<W: Iterator<Item = u16>>(draw: &Draw, asked: &Asked<'_>, walk: impl Fn() -> W) -> Option<u16> {
    Room::of(draw.total_weight(), asked).first(walk).or_else(|| by_chance(draw, asked))
}

fn by_chance(draw: &Draw, asked: &Asked<'_>) -> Option<u16> {
    let index = draw.one(asked.chance)?;
    Some(if asked.avoids(index) { draw.other(index, asked.chance) } else { index })
}

/// The better of two, or the one that is not to be avoided.
fn better((first, second): (u16, u16), asked: &Asked<'_>, of: impl FnOnce((u16, u16)) -> u16) -> u16 {
    match (asked.avoids(first), asked.avoids(second)) {
        (true, _) => second,
        (false, true) => first,
        (false, false) => of((first, second)),
    }
}
