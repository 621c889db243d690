//! The dynamic table (RFC 7541 §2.3.2 and §4). Text stands in one piece of memory, in the order of insertion; what is evicted is left
//! there until its place is needed. Allocates nothing once it is warm.

use std::collections::VecDeque;

/// What an entry counts for beside its bytes (RFC 7541 §4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;

/// Above this no table may be announced: places are kept in 32 bits.
pub(super) const TABLE_BYTES_LIMIT: usize = 1 << 30;

/// The first memory that is taken: the few long-lived fields of a small client.
const TEXT_BYTES_MIN: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where its name starts, counted from the first byte that was ever inserted; wraps. The value follows.
    start: u32,
    name: u32,
    value: u32,
}

impl Entry {
    fn text_bytes(self) -> usize {
        self.name as usize + self.value as usize
    }
}

#[derive(Debug)]
pub(super) struct Table {
    /// Ends with the text of all entries; evicted text may stand before it.
    text: Vec<u8>,
    /// Where `text` starts, counted as in `Entry`.
    start: u32,
    /// The newest first.
    entries: VecDeque<Entry>,
    /// By §4.1; never above `bytes_max`.
    bytes: usize,
    bytes_max: usize,
    /// `bytes_max` never gets above this.
    announced: usize,
}

impl Table {
    pub(super) fn new(bytes_max: usize, announced: usize) -> Table {
        Table { text: Vec::new(), start: 0, entries: VecDeque::new(), bytes: 0, bytes_max, announced }
    }

    /// §4.3. `false` if it is more than what was announced; then nothing changes.
    pub(super) fn resize(&mut self, bytes_max: usize) -> bool {
        let allowed = bytes_max <= self.announced;
        if allowed {
            self.bytes_max = bytes_max;
            self.evict(0);
        }
        allowed
    }

    /// Name and value of an entry, the newest being 0.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(index)?;
        let start = entry.start.wrapping_sub(self.start) as usize;
        Some(self.text[start..start + entry.text_bytes()].split_at(entry.name as usize))
    }

    /// §4.4: an entry larger than the table empties it and is not inserted, which is no error.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let text_bytes = name.len() + value.len();
        self.evict(text_bytes + ENTRY_OVERHEAD);
        if text_bytes + ENTRY_OVERHEAD > self.bytes_max {
            return;
        }
        self.make_room(text_bytes);
        let start = self.start.wrapping_add(self.text.len() as u32);
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.entries.push_front(Entry { start, name: name.len() as u32, value: value.len() as u32 });
        self.bytes += text_bytes + ENTRY_OVERHEAD;
    }

    /// Forgets the oldest until `bytes` more fit, or none is left.
    fn evict(&mut self, bytes: usize) {
        while self.bytes + bytes > self.bytes_max {
            let Some(oldest) = self.entries.pop_back() else {
                self.text.clear();
                return;
            };
            self.bytes -= oldest.text_bytes() + ENTRY_OVERHEAD;
        }
    }

    /// Makes `text` take `bytes` more, which `bytes_max` allows. What is moved is never more than what was evicted since the last move,
    /// so that each byte is moved once on average. Memory never exceeds twice what was announced: where it doesn't suffice, less than half
    /// of it is evicted text, and the other half with `bytes` is no more than `bytes_max`.
    fn make_room(&mut self, bytes: usize) {
        if self.text.capacity() - self.text.len() >= bytes {
            return;
        }
        let living = self.bytes - self.entries.len() * ENTRY_OVERHEAD;
        let evicted = self.text.len() - living;
        if evicted >= living {
            self.text.copy_within(evicted.., 0);
            self.text.truncate(living);
            self.start = self.start.wrapping_add(evicted as u32);
        }
        let wanted = self.text.len() + bytes;
        if wanted > self.text.capacity() {
            let capacity = (2 * wanted).max(TEXT_BYTES_MIN).min(2 * self.announced);
            self.text.reserve_exact(capacity - self.text.len());
        }
    }

    /// From the newest on.
    #[cfg(test)]
    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.entries.len()).filter_map(|index| self.get(index))
    }

    /// What all entries count for (§4.1).
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.text.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(length: usize, seed: u8) -> Vec<u8> {
        (0..length).map(|at| seed.wrapping_add(at as u8)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
        #[test]
        fn the_table_is_a_plain_list_with_a_bound(
            announced in 0usize..400,
            steps in proptest::collection::vec((0u8..20, 0usize..60, 0usize..200), 0..120),
        ) {
            let mut table = Table::new(announced, announced);
            let (mut plain, mut bytes_max) = (Vec::<(Vec<u8>, Vec<u8>)>::new(), announced);
            let count = |plain: &[(Vec<u8>, Vec<u8>)]| plain.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>();
            for (kind, name, value) in steps {
                if kind == 0 {
                    prop_assert_eq!(table.resize(value), value <= announced);
                    bytes_max = if value <= announced { value } else { bytes_max };
                } else {
                    let field = (text_of(name, kind), text_of(value, kind.wrapping_mul(7)));
                    table.insert(&field.0, &field.1);
                    plain.insert(0, field);
                }
                if plain.first().is_some_and(|first| count(std::slice::from_ref(first)) > bytes_max) {
                    plain.clear();
                }
                while count(&plain) > bytes_max {
                    plain.pop();
                }
                let wanted = plain.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
                prop_assert!(table.entries().eq(wanted));
                prop_assert_eq!(table.bytes(), count(&plain));
                prop_assert!(table.memory() <= 2 * announced);
            }
        }
    }

    #[test]
    fn places_may_wrap() {
        let mut table = Table::new(200, 200);
        table.start = u32::MAX - 500;
        for round in 0..100u8 {
            table.insert(&[b'n', round], &text_of(40, round));
            let previous = [b'n', round.wrapping_sub(1)];
            assert_eq!(table.get(0), Some((&[b'n', round][..], &text_of(40, round)[..])));
            assert_eq!(table.get(1).map(|(name, _)| name), (round > 0).then_some(&previous[..]));
        }
    }
}
