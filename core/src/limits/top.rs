//! Who is refused most often: so many keys, by the Space-Saving sketch (Metwally, Agrawal, El Abbadi, 2005). Whoever was refused more often than
//! one in 64 of all times is among them. Written on refusals alone, and by nobody who would have to wait for it.

use std::sync::{Mutex, PoisonError, TryLockError};

/// Keys that are remembered.
pub const PLACES: usize = 64;
/// Bytes of a key's text; a longer one is cut.
pub const TEXT_BYTES_MAX: usize = 64;

/// A key, and how often it was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    pub text: Box<str>,
    pub count: u64,
    /// Of these so many at most were others', whose place it took.
    pub error: u64,
}

#[derive(Debug, Default)]
pub struct TopKeys(Mutex<Vec<Top>>);

impl TopKeys {
    /// One more refusal. Where another thread writes or reads at the moment it is not counted.
    pub fn count(&self, text: &str) {
        let mut places = match self.0.try_lock() {
            Ok(places) => places,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let text = cut(text);
        if let Some(known) = places.iter_mut().find(|top| *top.text == *text) {
            known.count += 1;
        } else if places.len() < PLACES {
            places.push(Top { text: text.into(), count: 1, error: 0 });
        } else if let Some(least) = places.iter_mut().min_by_key(|top| top.count) {
            *least = Top { text: text.into(), count: least.count + 1, error: least.count };
        }
    }

    /// The most often refused first.
    pub fn read(&self) -> Vec<Top> {
        let mut tops = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tops.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.text.cmp(&b.text)));
        tops
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_text_is_cut_where_a_character_ends() {
        let keys = TopKeys::default();
        keys.count(&"ü".repeat(40));
        keys.count(&format!("x{}", "ü".repeat(40)));
        let lengths: Vec<_> = keys.read().iter().map(|top| top.text.len()).collect();
        assert_eq!(lengths, [63, 64]);
    }

    proptest! {
        #[test]
        fn a_count_is_never_too_low_and_too_high_by_no_more_than_its_error(keys in proptest::collection::vec(0u32..200, 1..3000)) {
            let (sketch, mut exact) = (TopKeys::default(), HashMap::<String, u64>::new());
            for key in &keys {
                // Some come far more often than others.
                let text = (key * key / 200).to_string();
                sketch.count(&text);
                *exact.entry(text).or_default() += 1;
            }
            let tops = sketch.read();
            prop_assert!(tops.len() <= PLACES && tops.iter().map(|top| top.count).sum::<u64>() == keys.len() as u64);
            for top in &tops {
                let count = exact[&*top.text];
                prop_assert!(top.count >= count && top.count - top.error <= count, "{top:?}, not {count}");
            }
            let often = exact.iter().filter(|(_, count)| **count > keys.len() as u64 / PLACES as u64);
            for (text, count) in often {
                prop_assert!(tops.iter().any(|top| *top.text == **text), "{text} came {count} times");
            }
        }
    }
}
