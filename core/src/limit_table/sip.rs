//! SipHash-1-3 (Aumasson and Bernstein) over whole words: keyed, so that nobody can tell which keys share a bucket, and cheap for the short keys
//! of limits. The standard library has it too, with a key of its own choosing, and for bytes that come in any pieces.

#[derive(Debug, Clone, Copy)]
pub(super) struct Sip([u64; 4]);

impl Sip {
    #[inline]
    pub fn new([a, b]: [u64; 2]) -> Sip {
        Sip([a ^ 0x736f_6d65_7073_6575, b ^ 0x646f_7261_6e64_6f6d, a ^ 0x6c79_6765_6e65_7261, b ^ 0x7465_6462_7974_6573])
    }

    #[inline]
    pub fn word(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    #[inline]
    pub fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        for _ in 0..3 {
            self.round();
        }
        let [v0, v1, v2, v3] = self.0;
        v0 ^ v1 ^ v2 ^ v3
    }

    #[inline]
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.0;
        *v0 = v0.wrapping_add(*v1);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v3);
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.wrapping_add(*v3);
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.wrapping_add(*v1);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v2 = v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::Sip;
    use std::hash::{DefaultHasher, Hasher};

    #[test]
    fn it_is_siphash_1_3() {
        // That of the standard library has the key 0, and ends with a word of the length.
        for words in [&[][..], &[0], &[1, 2, 3], &[u64::MAX, 0x0123_4567_89ab_cdef]] {
            let (mut own, mut other) = (Sip::new([0, 0]), DefaultHasher::new());
            for word in words {
                own.word(*word);
                other.write(&word.to_le_bytes());
            }
            own.word(((words.len() * 8) as u64) << 56);
            assert_eq!(own.finish(), other.finish(), "{words:?}");
        }
        assert_ne!(Sip::new([0, 1]).finish(), Sip::new([1, 0]).finish());
    }
}
