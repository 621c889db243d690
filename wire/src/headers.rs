//! A head's fields as one compact list over one buffer. Not a hash map: well-known names are found by index, other names by
//! a scan of a short list. Removing leaves a hole, adding appends; the buffer is kept from one message to the next.

use crate::emit::field;
use crate::names::{COUNT, Name};

/// A piece of a head's buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slice {
    pub start: u32,
    pub len: u32,
}

impl Slice {
    pub fn new(start: usize, end: usize) -> Slice {
        debug_assert!(start <= end);
        Slice { start: start as u32, len: (end - start) as u32 }
    }

    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..(self.start + self.len) as usize]
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// One field: where its name and value are.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    name: u32,
    value: u32,
    value_len: u32,
    name_len: u16,
    pub known: Name,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Name and value, wherever they are.
    Pieces,
    /// It stands there as HTTP/1.1 writes it.
    Line,
    Removed,
}

/// The fields of one head, and the buffer that everything else in the head points into.
#[derive(Debug, Clone)]
pub struct Headers {
    pub(crate) bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// 1 + index of the first entry of each well-known name, 0 for none.
    first: [u16; COUNT],
    /// Whether a well-known name occurs more than once, a bit each.
    repeated: u64,
}

impl Default for Headers {
    fn default() -> Self {
        Headers { bytes: Vec::new(), entries: Vec::new(), first: [0; COUNT], repeated: 0 }
    }
}

impl Headers {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.first = [0; COUNT];
        self.repeated = 0;
    }

    /// Gives back memory beyond what an ordinary head needs, so that one huge head is not remembered for ever.
    pub fn shrink(&mut self, bytes_max: usize, entries_max: usize) {
        if self.bytes.capacity() > bytes_max {
            self.bytes = Vec::new();
        }
        if self.entries.capacity() > entries_max {
            self.entries = Vec::new();
        }
        self.clear();
    }

    pub fn slice(&self, slice: Slice) -> &[u8] {
        slice.of(&self.bytes)
    }

    /// Appends bytes to the buffer and says where they are. They are no field.
    pub fn stash(&mut self, bytes: &[u8]) -> Slice {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Slice::new(start, self.bytes.len())
    }

    /// Records a field whose name and value are in the buffer already.
    pub(crate) fn push_slices(&mut self, name: Slice, value: Slice) -> Name {
        let known = Name::of(name.of(&self.bytes));
        self.push_known(known, name, value);
        known
    }

    /// The same, where it is known already which name it is.
    pub(crate) fn push_known(&mut self, known: Name, name: Slice, value: Slice) {
        let index = self.entries.len() as u16 + 1;
        if known != Name::Other {
            let first = &mut self.first[known as usize];
            if *first == 0 {
                *first = index;
            } else {
                self.repeated |= crate::names::bit(known);
            }
        }
        self.entries.push(Entry {
            name: name.start,
            name_len: name.len as u16,
            value: value.start,
            value_len: value.len,
            known,
            shape: Shape::Pieces,
        });
    }

    /// Adds a field. The caller vouches for name (a token) and value (no control characters).
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let name = self.stash(name);
        let value = self.stash(value);
        self.push_slices(name, value);
    }

    /// Adds a field that stands in `line` as HTTP/1.1 writes it: `name: value`, and the end of a line. The caller vouches for that, and that the
    /// name is no well-known one.
    #[inline]
    pub fn add_line(&mut self, line: &[u8], name_len: usize) {
        self.write_line(name_len, |out| out.extend_from_slice(line));
    }

    /// The same, of a line that `write` appends.
    #[inline]
    pub fn write_line(&mut self, name_len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let name = self.bytes.len();
        write(&mut self.bytes);
        debug_assert!(self.bytes[name + name_len..].starts_with(b": ") && self.bytes.ends_with(b"\r\n"));
        debug_assert!(Name::of(&self.bytes[name..name + name_len]) == Name::Other);
        let value = name + name_len + 2;
        self.entries.push(Entry {
            name: name as u32,
            name_len: name_len as u16,
            value: value as u32,
            value_len: (self.bytes.len() - 2 - value) as u32,
            known: Name::Other,
            shape: Shape::Line,
        });
    }

    /// Writes the fields that pass, in order and as HTTP/1.1 has them. Whole lines that stand there one after the other go in one piece.
    #[inline]
    pub fn write_fields(&self, out: &mut Vec<u8>, passes: impl Fn(&Entry) -> bool) {
        let mut run = 0..0;
        for entry in self.iter().filter(|entry| passes(entry)) {
            let (name, value) = (entry.name as usize, entry.value as usize);
            let (name_end, value_end) = (name + entry.name_len as usize, value + entry.value_len as usize);
            // As nearly everyone writes it.
            let is_line = entry.shape == Shape::Line
                || self.bytes.get(value_end..value_end + 2) == Some(b"\r\n") && self.bytes.get(name_end..value) == Some(b": ");
            if !is_line || name != run.end {
                out.extend_from_slice(&self.bytes[run]);
                run = name..name;
            }
            if is_line {
                run.end = value_end + 2;
            } else {
                field(out, self.name(entry), self.value(entry));
            }
        }
        out.extend_from_slice(&self.bytes[run]);
    }

    /// Removes every field of that name, then adds one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    /// Removes every field of that name; `_` and `-` count as the same, because they are behind WSGI and CGI.
    pub fn remove(&mut self, name: &[u8]) {
        let known = Name::of(name);
        if known != Name::Other && !name.contains(&b'-') {
            return self.remove_known(known);
        }
        for index in 0..self.entries.len() {
            if same_name_folding_underscore(self.name(&self.entries[index]), name) {
                self.remove_at(index);
            }
        }
    }

    pub fn remove_known(&mut self, known: Name) {
        let first = self.first[known as usize];
        if first == 0 {
            return;
        }
        self.first[known as usize] = 0;
        for entry in &mut self.entries[first as usize - 1..] {
            if entry.known == known {
                entry.shape = Shape::Removed;
            }
        }
        self.repeated &= !crate::names::bit(known);
    }

    fn remove_at(&mut self, index: usize) {
        let known = self.entries[index].known;
        self.entries[index].shape = Shape::Removed;
        if known != Name::Other {
            self.remove_known(known);
        }
    }

    /// Removes the fields for which `doomed` says so.
    pub fn remove_where(&mut self, mut doomed: impl FnMut(&[u8]) -> bool) {
        for index in 0..self.entries.len() {
            if self.entries[index].shape != Shape::Removed && doomed(self.name(&self.entries[index])) {
                self.remove_at(index);
            }
        }
    }

    /// Fields in order, without the removed ones.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.shape != Shape::Removed)
    }

    /// How many fields there are, the removed ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn name(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.name as usize..entry.name as usize + entry.name_len as usize]
    }

    pub fn value(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.value as usize..(entry.value + entry.value_len) as usize]
    }

    /// The first value of a well-known name.
    pub fn known(&self, name: Name) -> Option<&[u8]> {
        match self.first[name as usize] {
            0 => None,
            index => Some(self.value(&self.entries[index as usize - 1])),
        }
    }

    /// Whether nothing but spaces stands around a value as it came; for fields that were parsed, not added.
    pub(crate) fn is_plainly_padded(&self, name: Name) -> bool {
        let index = self.first[name as usize];
        let Some(entry) = (index as usize).checked_sub(1).map(|index| &self.entries[index]) else { return true };
        let colon = entry.name + u32::from(entry.name_len);
        let end = (entry.value + entry.value_len) as usize;
        // As nearly everyone writes it: a space, the value, the end of the line.
        if entry.value == colon + 2 && self.bytes[colon as usize + 1] == b' ' && self.bytes.get(end) == Some(&b'\r') {
            return true;
        }
        let before = &self.bytes[colon as usize + 1..];
        let line = memchr::memchr(b'\r', before).map_or(before, |end| &before[..end]);
        let inner = self.value(entry);
        line.len() == inner.len()
            || line.iter().filter(|&&byte| byte == b'\t').count() == inner.iter().filter(|&&byte| byte == b'\t').count()
    }

    pub fn has(&self, name: Name) -> bool {
        self.first[name as usize] != 0
    }

    pub fn is_repeated(&self, name: Name) -> bool {
        self.repeated & crate::names::bit(name) != 0
    }

    /// Every value of a well-known name.
    pub fn all_known(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let entries = match self.first[name as usize] {
            0 => &[],
            index if self.is_repeated(name) => &self.entries[index as usize - 1..],
            index => &self.entries[index as usize - 1..index as usize],
        };
        entries.iter().filter(move |entry| entry.known == name && entry.shape != Shape::Removed).map(|entry| self.value(entry))
    }

    /// The first value of any name, compared without regard to case.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|entry| self.name(entry).eq_ignore_ascii_case(name)).map(|entry| self.value(entry))
    }

    /// Every value of any name.
    pub fn get_all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |entry| self.name(entry).eq_ignore_ascii_case(name)).map(|entry| self.value(entry))
    }
}

fn same_name_folding_underscore(a: &[u8], b: &[u8]) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    a.len() == b.len() && a.iter().zip(b).all(|(&a, &b)| fold(a) == fold(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_added_and_removed() {
        let mut headers = Headers::default();
        headers.add(b"Host", b"a");
        headers.add(b"X-User", b"1");
        headers.add(b"x_user", b"2");
        headers.add(b"Via", b"1.0 a");
        headers.add(b"via", b"1.1 b");
        assert_eq!(headers.known(Name::Host), Some(&b"a"[..]));
        assert!(headers.is_repeated(Name::Via));
        assert_eq!(headers.all_known(Name::Via).count(), 2);
        headers.remove(b"x-user");
        assert_eq!(headers.get(b"x_user"), None, "an underscore must not hide a header from its removal");
        headers.set(b"via", b"1.1 c");
        assert_eq!(headers.all_known(Name::Via).collect::<Vec<_>>(), [b"1.1 c"]);
        assert_eq!(headers.iter().count(), 2);
    }

    #[test]
    fn a_field_is_written_the_same_whether_it_stands_in_one_piece_or_not() {
        let mut headers = Headers::default();
        headers.add(b"a", b"1");
        headers.add_line(b"ratelimit: \"x\";r=1\r\n", 9);
        headers.add(b"b", b": \r\n");
        headers.add_line(b"empty: \r\n", 5);
        headers.add(b"", b"");
        headers.add(b"c", b"");
        headers.add_line(b"d: 1\r\n", 1);
        headers.add_line(b"e: 2\r\n", 1);
        headers.add_line(b"f: 3\r\n", 1);
        let written = |passes: &dyn Fn(&Entry) -> bool| {
            let mut out = Vec::new();
            headers.write_fields(&mut out, passes);
            String::from_utf8(out).expect("text")
        };
        let lines = [
            "a: 1\r\n",
            "ratelimit: \"x\";r=1\r\n",
            "b: : \r\n\r\n",
            "empty: \r\n",
            ": \r\n",
            "c: \r\n",
            "d: 1\r\n",
            "e: 2\r\n",
            "f: 3\r\n",
        ];
        for (at, line) in lines.into_iter().enumerate() {
            assert_eq!(written(&|entry| std::ptr::eq(entry, &headers.entries[at])), line);
        }
        for passing in 0..1 << lines.len() {
            let passes = |at: usize| passing >> at & 1 == 1;
            let wanted: String = (0..lines.len()).filter(|&at| passes(at)).map(|at| lines[at]).collect();
            let at = |entry: &Entry| headers.entries.iter().position(|other| std::ptr::eq(entry, other)).expect("one of them");
            assert_eq!(written(&|entry| passes(at(entry))), wanted);
        }
        assert_eq!((headers.get(b"RateLimit"), headers.get(b"empty")), (Some(&b"\"x\";r=1"[..]), Some(&b""[..])));
        // A line that is cut off is no whole one.
        let mut cut = Headers::default();
        let name = cut.stash(b"x: 1\r");
        cut.push_slices(Slice::new(0, 1), Slice::new(3, 4));
        let mut out = Vec::new();
        cut.write_fields(&mut out, |_| true);
        assert_eq!((out.as_slice(), name.len), (&b"x: 1\r\n"[..], 5));
    }
}
