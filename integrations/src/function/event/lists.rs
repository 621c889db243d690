//! Names and values as a request has them, gathered by name: in an event each name stands once. Knows no event.

use maitred_wire::path;
use std::cmp::Ordering;

/// The pairs of a query, decoded or as they came. A pair without `=` has an empty value; empty ones are none.
pub(crate) struct Query {
    text: Vec<u8>,
    /// Where in `text` a name begins, where its value, and where that ends.
    pairs: Vec<(u32, u32, u32)>,
}

impl Query {
    /// `+` is a space, as forms have it.
    pub fn decoded(query: &[u8]) -> Query {
        Query::read(query, |piece, out| {
            for (at, words) in piece.split(|&byte| byte == b'+').enumerate() {
                if at > 0 {
                    out.push(b' ');
                }
                path::decode(words, out);
            }
        })
    }

    pub fn as_it_came(query: &[u8]) -> Query {
        Query::read(query, |piece, out| out.extend_from_slice(piece))
    }

    fn read(query: &[u8], copy: impl Fn(&[u8], &mut Vec<u8>)) -> Query {
        let (mut text, mut pairs) = (Vec::with_capacity(query.len()), Vec::new());
        for pair in query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
            let equals = pair.iter().position(|&byte| byte == b'=');
            let (name, value) = equals.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
            let start = text.len() as u32;
            copy(name, &mut text);
            let middle = text.len() as u32;
            copy(value, &mut text);
            pairs.push((start, middle, text.len() as u32));
        }
        Query { text, pairs }
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub fn name(&self, at: u32) -> &[u8] {
        let (start, middle, _) = self.pairs[at as usize];
        &self.text[start as usize..middle as usize]
    }

    pub fn value(&self, at: u32) -> &[u8] {
        let (_, middle, end) = self.pairs[at as usize];
        &self.text[middle as usize..end as usize]
    }

    pub fn groups(&self) -> Groups {
        Groups::of(self.pairs.len(), |one, other| self.name(one).cmp(self.name(other)))
    }
}

/// Indices of what has one name, in order; the groups in the order of their first. Sorted and not compared each with each, since clients
/// choose how many there are.
pub(crate) struct Groups {
    order: Vec<u32>,
    /// The first of a group, and where in `order` it stands.
    runs: Vec<(u32, u32, u32)>,
}

impl Groups {
    pub fn of(count: usize, compare: impl Fn(u32, u32) -> Ordering) -> Groups {
        let mut order: Vec<u32> = (0..count as u32).collect();
        order.sort_by(|&one, &other| compare(one, other));
        let mut runs = Vec::with_capacity(count);
        let mut at = 0;
        for run in order.chunk_by(|&one, &other| compare(one, other).is_eq()) {
            runs.push((run[0], at, at + run.len() as u32));
            at += run.len() as u32;
        }
        runs.sort_unstable();
        Groups { order, runs }
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.runs.iter().map(|&(_, from, to)| &self.order[from as usize..to as usize])
    }
}

/// Names of headers have no case.
pub(super) fn compare_names(one: &[u8], other: &[u8]) -> Ordering {
    one.iter().map(u8::to_ascii_lowercase).cmp(other.iter().map(u8::to_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_once_with_its_values_in_order() {
        let query = Query::decoded(b"b=1&a=2&&b=x+y%2B&c&=3&a=%C3%A9");
        let found: Vec<(&[u8], Vec<&[u8]>)> =
            query.groups().iter().map(|run| (query.name(run[0]), run.iter().map(|&at| query.value(at)).collect())).collect();
        assert_eq!(
            found,
            [(&b"b"[..], vec![&b"1"[..], b"x y+"]), (b"a", vec![b"2", "é".as_bytes()]), (b"c", vec![b""]), (b"", vec![b"3"]),]
        );
        assert!(Query::decoded(b"").is_empty() && Query::decoded(b"&").is_empty());
        assert_eq!(Query::as_it_came(b"a=%20+").value(0), b"%20+");
    }
}
