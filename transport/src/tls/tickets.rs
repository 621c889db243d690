//! Session tickets (RFC 5077, RFC 8446 §4.6.1) from one secret: whoever has it, another worker, the next process or another gateway
//! of the fleet, can resume what one of them began. Keys follow from the secret and the hour, so nothing is kept and nothing is
//! exchanged; old ones cannot be made without the secret.

use arc_swap::ArcSwapOption;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use maitred_core::Clock;
use rustls::server::ProducesTickets;
use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// A key seals for so long, and opens for twice as long.
const PERIOD_SECONDS: u64 = 6 * 3600;
const EPOCH_BYTES: usize = 4;

/// Where ticket keys come from. `Debug` tells nothing of it.
pub struct TicketKeys {
    secret: [u8; 32],
    clock: Clock,
    /// The keys of the moment, so that most handshakes derive none.
    current: ArcSwapOption<Epoch>,
}

struct Epoch {
    number: u32,
    this: LessSafeKey,
    last: LessSafeKey,
}

impl TicketKeys {
    /// Keys from a secret that others may share. `asked`: whom clients had to prove to be, since a session that is resumed is not asked
    /// again; one that was begun where nobody was asked must not open a listener that asks.
    pub fn from_secret(secret: &[u8], asked: &[u8], clock: Clock) -> Arc<TicketKeys> {
        let mut own = [0; 32];
        expand(secret, &[b"session tickets ", asked].concat(), &mut own);
        Arc::new(TicketKeys { secret: own, clock, current: ArcSwapOption::empty() })
    }

    /// A secret that nobody else has.
    pub fn random_secret() -> [u8; 32] {
        let mut secret = [0; 32];
        // Without randomness no TLS is possible at all.
        rand::fill(&mut secret).expect("the system has randomness");
        secret
    }

    fn epoch(&self) -> Arc<Epoch> {
        let seconds = self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let number = (seconds / PERIOD_SECONDS) as u32;
        if let Some(epoch) = self.current.load_full().filter(|epoch| epoch.number == number) {
            return epoch;
        }
        let epoch = Arc::new(Epoch { number, this: self.key(number), last: self.key(number.wrapping_sub(1)) });
        self.current.store(Some(epoch.clone()));
        epoch
    }

    fn key(&self, number: u32) -> LessSafeKey {
        let mut key = [0; 32];
        expand(&self.secret, &number.to_be_bytes(), &mut key);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("the key has the length of its cipher"))
    }
}

/// HKDF-SHA256 (RFC 5869).
fn expand(secret: &[u8], info: &[u8], out: &mut [u8; 32]) {
    let info = [b"maitred ".as_slice(), info];
    let filled = Salt::new(HKDF_SHA256, b"").extract(secret).expand(&info, HKDF_SHA256).and_then(|okm| okm.fill(out));
    filled.expect("32 bytes are what one block of SHA-256 gives");
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys(***)")
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        PERIOD_SECONDS as u32
    }

    /// Epoch, nonce, sealed state with its tag.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let epoch = self.epoch();
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let number = epoch.number.to_be_bytes();
        let mut ticket = Vec::with_capacity(EPOCH_BYTES + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        ticket.extend_from_slice(&number);
        ticket.extend_from_slice(&nonce);
        let sealed = ticket.len();
        ticket.extend_from_slice(plain);
        let tag = epoch
            .this
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(number), &mut ticket[sealed..])
            .ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (number, rest) = cipher.split_first_chunk::<EPOCH_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let epoch = self.epoch();
        let key = match u32::from_be_bytes(*number) {
            this if this == epoch.number => &epoch.this,
            last if last == epoch.number.wrapping_sub(1) => &epoch.last,
            _ => return None,
        };
        let mut plain = sealed.to_vec();
        let length = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(*number), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn tickets_open_with_the_same_secret_until_two_periods_have_passed() {
        let clock = Clock::default();
        let keys = TicketKeys::from_secret(b"a secret of the fleet", b"", clock.clone());
        let fellow = TicketKeys::from_secret(b"a secret of the fleet", b"", clock.clone());
        let stranger = TicketKeys::from_secret(b"another", b"", clock.clone());
        let stricter = TicketKeys::from_secret(b"a secret of the fleet", b"clients of a CA", clock.clone());
        let ticket = keys.encrypt(b"state").unwrap();
        assert_eq!(fellow.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        assert_eq!(stranger.decrypt(&ticket), None);
        assert_eq!(stricter.decrypt(&ticket), None);
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(keys.decrypt(&forged), None, "byte {at}");
            assert_eq!(keys.decrypt(&ticket[..at]), None, "{at} bytes");
        }
        clock.turn(Duration::from_secs(PERIOD_SECONDS));
        assert!(keys.decrypt(&ticket).is_some());
        clock.turn(Duration::from_secs(PERIOD_SECONDS));
        assert!(keys.decrypt(&ticket).is_none());
    }
}
