//! What a worker verified a moment ago, so that it need not be verified again: bounded, until it ends, or until keys or consumers
//! change. A credential is found by its last bytes and compared whole, in constant time.

use super::Principal;
use crate::chance::Chance;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

/// Places in which a credential may be looked for, each with room for `WAYS`: 4096 credentials in all.
const SETS: usize = 512;
const WAYS: usize = 8;
/// Ways for who was let in. The last one is for what was refused, so that there is room for it however many are known.
const VALID_WAYS: usize = WAYS - 1;
/// A longer credential is verified each time; so 16 MiB is the most that all of them take.
const CREDENTIAL_BYTES_MAX: usize = 4 * 1024;
/// Bytes by which a credential is found: the end of a signature or of a key, which is as good as random.
const TAIL: usize = 16;

/// What a verdict rests on besides the credential: when one of them moves it is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Generations {
    /// Of the keys that signatures are verified with.
    pub keys: u64,
    /// Of the consumers.
    pub consumers: u64,
}

/// What was found out about a credential.
#[derive(Debug, Clone)]
pub enum Remembered {
    Valid(Arc<Principal>),
    /// Only where finding out is costly.
    Refused,
}

#[derive(Debug)]
struct Verdict {
    authorizer: u64,
    credential: Box<[u8]>,
    until: Instant,
    generations: Generations,
    remembered: Remembered,
}

/// The memory of one worker.
#[derive(Debug)]
pub struct Verdicts {
    seed: u64,
    chance: Chance,
    /// Made when the first verdict comes.
    sets: Vec<Vec<Verdict>>,
}

impl Default for Verdicts {
    fn default() -> Verdicts {
        let chance = Chance::default();
        Verdicts { seed: chance.next(), chance, sets: Vec::new() }
    }
}

impl Verdicts {
    /// `authorizer`: the number that it was compiled with.
    pub fn get(&self, authorizer: u64, credential: &[u8], generations: Generations, now: Instant) -> Option<&Remembered> {
        let set = self.sets.get(self.place(authorizer, credential))?;
        let found = set.iter().find(|verdict| {
            let same = verdict.authorizer == authorizer && verdict.generations == generations && now < verdict.until;
            same && is_same(&verdict.credential, credential)
        })?;
        Some(&found.remembered)
    }

    /// `until`: no later than the credential's own end.
    pub fn put(
        &mut self,
        authorizer: u64,
        credential: &[u8],
        generations: Generations,
        remembered: Remembered,
        (now, until): (Instant, Instant),
    ) {
        if credential.len() > CREDENTIAL_BYTES_MAX || until <= now {
            return;
        }
        if self.sets.is_empty() {
            self.sets.resize_with(SETS, Vec::new);
        }
        let place = self.place(authorizer, credential);
        let set = &mut self.sets[place];
        set.retain(|verdict| {
            let own = verdict.authorizer == authorizer;
            let is_past = own && verdict.generations != generations;
            let same = own && *verdict.credential == *credential;
            now < verdict.until && !is_past && !same
        });
        // Whoever guesses, from however many addresses, makes nobody unknown who was let in: of those only others who are let in take the place,
        // and what was refused has places that they leave, one at least.
        let is_valid = |verdict: &Verdict| matches!(verdict.remembered, Remembered::Valid(_));
        let valid = set.iter().filter(|verdict| is_valid(verdict)).count();
        let valid_leaves = match remembered {
            Remembered::Valid(_) if valid == VALID_WAYS => Some(true),
            Remembered::Valid(_) | Remembered::Refused => (set.len() == WAYS).then_some(false),
        };
        if let Some(valid_leaves) = valid_leaves {
            let start = self.chance.below(set.len());
            let mut places = (start..set.len()).chain(0..start);
            if let Some(at) = places.find(|&at| is_valid(&set[at]) == valid_leaves) {
                set.swap_remove(at);
            }
        }
        set.push(Verdict { authorizer, credential: credential.into(), until, generations, remembered });
    }

    fn place(&self, authorizer: u64, credential: &[u8]) -> usize {
        let tail = credential.last_chunk().copied().unwrap_or_else(|| {
            let mut bytes = [0u8; TAIL];
            bytes[..credential.len()].copy_from_slice(credential);
            bytes
        });
        let number = u128::from_le_bytes(tail);
        let (low, high) = (number as u64, (number >> 64) as u64);
        let mix = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            product as u64 ^ (product >> 64) as u64
        };
        let folded = mix(low ^ self.seed, high ^ 0xa076_1d64_78bd_642f);
        mix(folded ^ authorizer, self.seed ^ 0xe703_7ed1_a0b4_28db ^ credential.len() as u64) as usize % SETS
    }
}

/// Bytes compared at once, which a vector unit does in few steps: tokens are long, and every request has one.
const STRIDE: usize = 64;

/// In a time that tells nothing of where two texts of one length differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut differ = [0; STRIDE];
    let ((strides, rest), (other_strides, other_rest)) = (a.as_chunks::<STRIDE>(), b.as_chunks::<STRIDE>());
    for (a, b) in strides.iter().zip(other_strides) {
        compare(&mut differ, a, b);
    }
    match (a.last_chunk::<STRIDE>(), b.last_chunk::<STRIDE>()) {
        // What no stride is left for is seen with bytes that were.
        (Some(a), Some(b)) => compare(&mut differ, a, b),
        _ => compare(&mut differ, rest, other_rest),
    }
    let (words, _) = differ.as_chunks();
    black_box(words.iter().fold(0, |all, word| all | u64::from_le_bytes(*word))) == 0
}

/// Adds to `differ` what differs here.
#[inline]
fn compare(differ: &mut [u8; STRIDE], a: &[u8], b: &[u8]) {
    differ.iter_mut().zip(a.iter().zip(b)).for_each(|(differ, (a, b))| *differ |= a ^ b);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn valid(name: &str) -> Remembered {
        Remembered::Valid(Arc::new(Principal { subject: Some(name.into()), ..Principal::default() }))
    }

    fn name(remembered: Option<&Remembered>) -> Option<String> {
        match remembered? {
            Remembered::Valid(principal) => principal.subject.as_deref().map(str::to_owned),
            Remembered::Refused => Some("refused".to_owned()),
        }
    }

    #[test]
    fn a_verdict_holds_for_its_authorizer_its_credential_its_keys_and_its_time() {
        let mut verdicts = Verdicts::default();
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let one = Generations { keys: 1, consumers: 1 };
        verdicts.put(7, b"a token", one, valid("alice"), (now, now + second));
        let at = |verdicts: &Verdicts, authorizer, credential: &[u8], generations, now| {
            name(verdicts.get(authorizer, credential, generations, now))
        };
        assert_eq!(at(&verdicts, 7, b"a token", one, now).as_deref(), Some("alice"));
        for (authorizer, credential, generations, now) in [
            (8, &b"a token"[..], one, now),
            (7, b"b token", one, now),
            (7, b"", one, now),
            (7, b"a token", Generations { keys: 2, consumers: 1 }, now),
            (7, b"a token", Generations { keys: 1, consumers: 2 }, now),
            (7, b"a token", one, now + second),
        ] {
            assert_eq!(at(&verdicts, authorizer, credential, generations, now), None);
        }
        verdicts.put(7, b"a token", one, Remembered::Refused, (now, now + second));
        assert_eq!(at(&verdicts, 7, b"a token", one, now).as_deref(), Some("refused"));
    }

    #[test]
    fn texts_are_the_same_or_differ_anywhere() {
        for length in (0..40).chain([63, 64, 65, 127, 128, 129, 200]) {
            let text = vec![b'a'; length];
            assert!(is_same(&text, &text.clone()));
            for at in 0..length {
                let mut other = text.clone();
                other[at] ^= 1 << (at % 8);
                assert!(!is_same(&text, &other), "{length} {at}");
            }
            assert!(!is_same(&text, &vec![b'a'; length + 1]));
        }
    }

    #[test]
    fn no_number_of_refused_ones_makes_it_forget_who_was_let_in() {
        let (now, generations) = (Instant::now(), Generations::default());
        let times = (now, now + Duration::from_secs(60));
        let mut verdicts = Verdicts::default();
        let members: Vec<String> = (0..SETS).map(|at| format!("member {at}")).collect();
        for member in &members {
            verdicts.put(1, member.as_bytes(), generations, valid(member), times);
        }
        let known = |verdicts: &Verdicts| {
            members.iter().filter(|member| verdicts.get(1, member.as_bytes(), generations, now).is_some()).count()
        };
        let before = known(&verdicts);
        assert!(before > SETS / 2);
        for at in 0..40_000u32 {
            verdicts.put(2, format!("a guess {at}").as_bytes(), generations, Remembered::Refused, times);
        }
        assert_eq!(known(&verdicts), before);
        // The last guesses have their places; so has whoever is let in now.
        let refused = (39_000..40_000u32).filter(|at| {
            name(verdicts.get(2, format!("a guess {at}").as_bytes(), generations, now)).as_deref() == Some("refused")
        });
        assert!(refused.count() > 500);
        verdicts.put(1, b"one more", generations, valid("one more"), times);
        assert!(verdicts.get(1, b"one more", generations, now).is_some());
        assert!(verdicts.sets.iter().all(|set| set.len() <= WAYS));
    }

    /// Credentials that are all looked for in one place.
    fn neighbour(at: u32) -> String {
        format!("{at:6} the same tail for all")
    }

    fn kept(
        verdicts: &Verdicts,
        authorizer: u64,
        generations: Generations,
        now: Instant,
        among: std::ops::Range<u32>,
    ) -> Vec<u32> {
        among.filter(|&at| verdicts.get(authorizer, neighbour(at).as_bytes(), generations, now).is_some()).collect()
    }

    #[test]
    fn who_was_let_in_leaves_room_for_what_is_refused_and_loses_none_to_it() {
        let (now, generations) = (Instant::now(), Generations::default());
        let times = (now, now + Duration::from_secs(60));
        let mut verdicts = Verdicts::default();
        for at in 0..20 {
            verdicts.put(1, neighbour(at).as_bytes(), generations, valid("x"), times);
        }
        let members = kept(&verdicts, 1, generations, now, 0..20);
        assert_eq!(members.len(), VALID_WAYS);
        assert!(members.contains(&19), "the last one is known");
        for at in 1000..2000 {
            verdicts.put(1, neighbour(at).as_bytes(), generations, Remembered::Refused, times);
            let refused = verdicts.get(1, neighbour(at).as_bytes(), generations, now);
            assert_eq!(name(refused).as_deref(), Some("refused"), "{at}");
        }
        assert_eq!(kept(&verdicts, 1, generations, now, 0..20), members);
        for at in 20..40 {
            verdicts.put(1, neighbour(at).as_bytes(), generations, valid("x"), times);
        }
        assert_eq!(kept(&verdicts, 1, generations, now, 0..40).len(), VALID_WAYS);
        assert_eq!(kept(&verdicts, 1, generations, now, 1000..2000), [1999], "nor do they push it out");
        assert!(verdicts.sets.iter().all(|set| set.len() <= WAYS));
    }

    #[test]
    fn what_is_refused_takes_the_places_that_nobody_has() {
        let (now, generations) = (Instant::now(), Generations::default());
        let times = (now, now + Duration::from_secs(60));
        let mut verdicts = Verdicts::default();
        for at in 0..20 {
            verdicts.put(1, neighbour(at).as_bytes(), generations, Remembered::Refused, times);
        }
        assert_eq!(kept(&verdicts, 1, generations, now, 0..20).len(), WAYS);
        for at in 20..27 {
            verdicts.put(1, neighbour(at).as_bytes(), generations, valid("x"), times);
        }
        assert_eq!(kept(&verdicts, 1, generations, now, 20..27).len(), VALID_WAYS);
    }

    #[test]
    fn what_keys_and_consumers_of_the_past_let_in_takes_no_place() {
        let now = Instant::now();
        let times = (now, now + Duration::from_secs(60));
        let mut verdicts = Verdicts::default();
        let generation = |consumers| Generations { keys: 1, consumers };
        verdicts.put(2, b"another authorizer's own", generation(1), valid("x"), times);
        for consumers in 1..10 {
            let first = 10 * consumers as u32;
            for at in first..first + 4 {
                verdicts.put(1, neighbour(at).as_bytes(), generation(consumers), valid("x"), times);
            }
            assert_eq!(kept(&verdicts, 1, generation(consumers), now, first..first + 4).len(), 4);
            assert!(verdicts.sets.iter().all(|set| set.len() <= 5));
        }
        assert!(verdicts.get(2, b"another authorizer's own", generation(1), now).is_some());
    }

    #[test]
    fn it_is_bounded_whatever_comes() {
        let mut verdicts = Verdicts::default();
        let now = Instant::now();
        let times = (now, now + Duration::from_secs(60));
        for at in 0..20_000u32 {
            verdicts.put(
                1,
                format!("the same tail for all {at:5} ................").as_bytes(),
                Generations::default(),
                valid("x"),
                times,
            );
            verdicts.put(1, &at.to_le_bytes(), Generations::default(), valid("x"), times);
        }
        verdicts.put(1, &[b'x'; CREDENTIAL_BYTES_MAX + 1], Generations::default(), valid("x"), times);
        assert!(verdicts.get(1, &[b'x'; CREDENTIAL_BYTES_MAX + 1], Generations::default(), now).is_none());
        assert!(verdicts.sets.iter().all(|set| set.len() <= WAYS));
        assert!(verdicts.sets.iter().map(Vec::len).sum::<usize>() > SETS * WAYS / 2);
    }
}
