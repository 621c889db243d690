//! Keys of TLS 1.3's records that rustls and a stream hold together, with one count of records for both: data passes by rustls, in
//! place, and every other record is left to it. Knows no handshake, no alert and no key update: rustls makes the keys.

use aws_lc_rs::aead::{self, AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use rustls::crypto::CryptoProvider;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, Nonce, OutboundOpaqueMessage,
    OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm, UnsupportedOperationError, make_tls13_aad,
};
use rustls::{
    CipherSuite, CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion, SupportedCipherSuite,
    Tls13CipherSuite,
};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Type, version and length before every record (RFC 8446 §5.1).
pub(super) const HEADER_BYTES: usize = 5;
/// Plain bytes of a record (RFC 8446 §5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// Of all three ciphers.
const TAG_BYTES: usize = 16;
/// Records under one key before another is asked for; AES-GCM bears twice as many (RFC 8446 §5.5, rustls' limit is 2^24).
const RECORDS_MAX: u64 = 1 << 23;
const DATA: u8 = 23;

/// A key of one direction. Its count is the nonce, so it is counted here and nowhere else.
pub(super) struct RecordKey {
    key: LessSafeKey,
    iv: Iv,
    records: AtomicU64,
}

impl RecordKey {
    fn new(algorithm: &'static Algorithm, key: &AeadKey, iv: Iv) -> Arc<RecordKey> {
        let key = UnboundKey::new(algorithm, key.as_ref()).expect("rustls derives keys of the algorithm's length");
        Arc::new(RecordKey { key: LessSafeKey::new(key), iv, records: AtomicU64::new(0) })
    }

    fn nonce(&self, record: u64) -> aead::Nonce {
        aead::Nonce::assume_unique_for_key(Nonce::new(&self.iv, record).0)
    }

    /// For a record to be sealed: no other gets the same.
    fn next_nonce(&self) -> aead::Nonce {
        self.nonce(self.records.fetch_add(1, Ordering::Relaxed))
    }

    /// For the record to be opened next; the count goes on when it was.
    fn current_nonce(&self) -> aead::Nonce {
        self.nonce(self.records.load(Ordering::Relaxed))
    }

    fn opened(&self) {
        self.records.fetch_add(1, Ordering::Relaxed);
    }

    pub fn is_worn(&self) -> bool {
        self.records.load(Ordering::Relaxed) >= RECORDS_MAX
    }

    /// Appends records with the first `count` bytes of `slices`.
    pub fn seal_data(&self, slices: &[IoSlice<'_>], count: usize, output: &mut Vec<u8>) -> io::Result<()> {
        let mut slices = slices.iter();
        let mut slice: &[u8] = &[];
        let mut left = count;
        while left > 0 {
            let mut room = left.min(RECORD_BYTES_MAX);
            left -= room;
            let header = make_tls13_aad(room + 1 + TAG_BYTES);
            output.extend_from_slice(&header);
            let start = output.len();
            while room > 0 {
                if slice.is_empty() {
                    slice = slices.next().expect("`count` is at most what the slices hold");
                }
                let (piece, rest) = slice.split_at(room.min(slice.len()));
                output.extend_from_slice(piece);
                room -= piece.len();
                slice = rest;
            }
            output.push(DATA);
            let sealed = self.key.seal_in_place_separate_tag(self.next_nonce(), Aad::from(header), &mut output[start..]);
            output.extend_from_slice(sealed.map_err(|_| io::Error::other("a record cannot be encrypted"))?.as_ref());
        }
        Ok(())
    }

    /// Opens a whole record into `buffer` if it is data, is valid, and fits: how many plain bytes. `None`: rustls shall see it, as
    /// though nobody had looked; `buffer` is spoilt.
    pub fn open_data(&self, record: &[u8], buffer: &mut [u8]) -> Option<usize> {
        let (header, sealed) = record.split_at_checked(HEADER_BYTES)?;
        let length = sealed.len().checked_sub(TAG_BYTES).filter(|length| *length <= RECORD_BYTES_MAX + 1)?;
        if header != make_tls13_aad(sealed.len()) {
            return None;
        }
        let (text, tag) = sealed.split_at(length);
        let plain = buffer.get_mut(..length)?;
        self.key.open_separate_gather(self.current_nonce(), Aad::from(make_tls13_aad(sealed.len())), text, tag, plain).ok()?;
        // The type is the last byte that is not padding. An empty record counts as suspicious: rustls has the count.
        let count = plain.iter().rposition(|byte| *byte != 0).filter(|at| *at > 0 && plain[*at] == DATA)?;
        self.opened();
        Some(count)
    }
}

/// What so many plain bytes become.
pub(super) fn sealed_bytes(count: usize) -> usize {
    count + count.div_ceil(RECORD_BYTES_MAX) * (HEADER_BYTES + 1 + TAG_BYTES)
}

/// The record that `bytes` begin with, if all of it is there.
pub(super) fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let [_, _, _, high, low, ..] = bytes else { return None };
    bytes.get(..HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low])))
}

/// How far the record has come that is being given away piece by piece.
#[derive(Default)]
pub(super) struct Passing {
    header: [u8; HEADER_BYTES],
    known: usize,
    left: usize,
}

impl Passing {
    /// Nothing of a record was given away, or all of it.
    pub fn is_between(&self) -> bool {
        self.known == 0
    }

    /// How many of the next bytes belong to the same record.
    pub fn within(&self, bytes: &[u8]) -> usize {
        let unknown = HEADER_BYTES - self.known;
        if unknown == 0 {
            return bytes.len().min(self.left);
        }
        let Some((rest, _)) = bytes.split_at_checked(unknown) else { return bytes.len() };
        let mut header = self.header;
        header[self.known..].copy_from_slice(rest);
        bytes.len().min(unknown + Self::length(header))
    }

    /// So many were given away, no more than `within` said.
    pub fn pass(&mut self, bytes: &[u8]) {
        let (header, rest) = bytes.split_at(bytes.len().min(HEADER_BYTES - self.known));
        self.header[self.known..][..header.len()].copy_from_slice(header);
        self.known += header.len();
        if !header.is_empty() && self.known == HEADER_BYTES {
            self.left = Self::length(self.header);
        }
        self.left -= rest.len();
        if self.known == HEADER_BYTES && self.left == 0 {
            self.known = 0;
        }
    }

    fn length([_, _, _, high, low]: [u8; HEADER_BYTES]) -> usize {
        u16::from_be_bytes([high, low]).into()
    }
}

/// What keys rustls made while it was called.
#[derive(Default)]
pub(super) struct Made {
    pub seal: Option<Arc<RecordKey>>,
    pub open: Option<Arc<RecordKey>>,
}

thread_local! {
    /// rustls says which keys it wants, and not for which connection: that is the one being called.
    static MADE: Cell<Made> = const { Cell::new(Made { seal: None, open: None }) };
}

/// Calls rustls. The last key of a direction that it made is the one in use.
pub(super) fn watch<T>(call: impl FnOnce() -> T) -> (T, Made) {
    // Others with the same provider may have left theirs.
    MADE.take();
    let done = call();
    (done, MADE.take())
}

fn remember(change: impl FnOnce(&mut Made)) {
    MADE.with(|cell| {
        let mut made = cell.take();
        change(&mut made);
        cell.set(made);
    });
}

/// aws-lc-rs as rustls has it, but for the keys of TLS 1.3.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    for suite in &mut provider.cipher_suites {
        let SupportedCipherSuite::Tls13(original) = *suite else { continue };
        let algorithm = match original.common.suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => &AES_128_GCM,
            CipherSuite::TLS13_AES_256_GCM_SHA384 => &AES_256_GCM,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => &CHACHA20_POLY1305,
            // All of its records go by way of rustls.
            _ => continue,
        };
        let CipherSuiteCommon { suite: name, hash_provider, confidentiality_limit } = original.common;
        // Once in a process: rustls wants suites that live as long as it.
        *suite = SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
            common: CipherSuiteCommon { suite: name, hash_provider, confidentiality_limit },
            hkdf_provider: original.hkdf_provider,
            aead_alg: Box::leak(Box::new(Shared { algorithm, original: original.aead_alg })),
            quic: original.quic,
        })));
    }
    provider
}

struct Shared {
    algorithm: &'static Algorithm,
    original: &'static dyn Tls13AeadAlgorithm,
}

impl Tls13AeadAlgorithm for Shared {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        let key = RecordKey::new(self.algorithm, &key, iv);
        remember(|made| made.seal = Some(key.clone()));
        Box::new(Sealing(key))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        let key = RecordKey::new(self.algorithm, &key, iv);
        remember(|made| made.open = Some(key.clone()));
        Box::new(Opening(key))
    }

    fn key_len(&self) -> usize {
        self.original.key_len()
    }

    fn extract_keys(&self, key: AeadKey, iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.original.extract_keys(key, iv)
    }
}

/// Whatever rustls itself sends. Its own count knows nothing of the data that passed it by, and is not used.
struct Sealing(Arc<RecordKey>);

impl MessageEncrypter for Sealing {
    fn encrypt(&mut self, message: OutboundPlainMessage<'_>, _: u64) -> Result<OutboundOpaqueMessage, Error> {
        let length = self.encrypted_payload_len(message.payload.len());
        let mut payload = PrefixedPayload::with_capacity(length);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&[message.typ.into()]);
        let RecordKey { key, .. } = &*self.0;
        let sealed = key.seal_in_place_append_tag(self.0.next_nonce(), Aad::from(make_tls13_aad(length)), &mut payload);
        sealed.map_err(|_| Error::EncryptError)?;
        Ok(OutboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, payload))
    }

    fn encrypted_payload_len(&self, length: usize) -> usize {
        length + 1 + TAG_BYTES
    }
}

struct Opening(Arc<RecordKey>);

impl MessageDecrypter for Opening {
    fn decrypt<'a>(&mut self, mut message: InboundOpaqueMessage<'a>, _: u64) -> Result<InboundPlainMessage<'a>, Error> {
        let payload = &mut message.payload;
        if payload.len() < TAG_BYTES {
            return Err(Error::DecryptError);
        }
        let aad = Aad::from(make_tls13_aad(payload.len()));
        let opened = self.0.key.open_in_place(self.0.current_nonce(), aad, payload).map_err(|_| Error::DecryptError)?;
        let length = opened.len();
        self.0.opened();
        payload.truncate(length);
        message.into_tls13_unpadded_message()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection, version};
    use std::io::{Read, Write};

    const ALGORITHMS: [&Algorithm; 3] = [&AES_128_GCM, &AES_256_GCM, &CHACHA20_POLY1305];

    /// The same key for a sender and a receiver.
    fn pair(algorithm: &'static Algorithm) -> (RecordKey, RecordKey) {
        let key = || RecordKey {
            key: LessSafeKey::new(UnboundKey::new(algorithm, &vec![7; algorithm.key_len()]).unwrap()),
            iv: Iv::new([9; 12]),
            records: AtomicU64::new(0),
        };
        (key(), key())
    }

    fn sealed(key: &RecordKey, plain: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        key.seal_data(&[IoSlice::new(plain)], plain.len(), &mut output).unwrap();
        output
    }

    #[test]
    fn what_is_sealed_is_opened_in_order_and_only_then() {
        for algorithm in ALGORITHMS {
            let (ours, theirs) = pair(algorithm);
            let (first, second) = (sealed(&ours, b"first"), sealed(&ours, b"second"));
            let mut buffer = [0; 64];
            assert_eq!(theirs.open_data(&second, &mut buffer), None);
            assert_eq!(theirs.open_data(&first, &mut buffer), Some(5));
            assert_eq!(&buffer[..5], b"first");
            assert_eq!(theirs.open_data(&first, &mut buffer), None);
            assert_eq!(theirs.open_data(&second, &mut buffer), Some(6));
            assert_eq!(&buffer[..6], b"second");
        }
    }

    #[test]
    fn no_byte_of_a_record_may_be_another() {
        let (ours, theirs) = pair(&AES_128_GCM);
        let record = sealed(&ours, b"plain");
        for at in 0..record.len() {
            let mut other = record.clone();
            other[at] ^= 1;
            assert_eq!(theirs.open_data(&other, &mut [0; 64]), None, "byte {at}");
        }
        assert_eq!(theirs.open_data(&record, &mut [0; 64]), Some(5));
    }

    #[test]
    fn what_is_not_data_does_not_fit_or_is_empty_is_left_for_rustls() {
        let (ours, theirs) = pair(&AES_256_GCM);
        let record = |inner: &[u8]| {
            let header = make_tls13_aad(inner.len() + TAG_BYTES);
            let mut text = inner.to_vec();
            ours.key.seal_in_place_append_tag(ours.current_nonce(), Aad::from(header), &mut text).unwrap();
            [&header[..], &text].concat()
        };
        for inner in [&b"\x01\x00\x15"[..], b"\x18\x00\x00\x01\x00\x16", b"\x17", b"\x00\x00\x00", b""] {
            assert_eq!(theirs.open_data(&record(inner), &mut [0; 64]), None, "{inner:?}");
        }
        assert_eq!(theirs.open_data(&record(b"plain\x17"), &mut [0; 5]), None);
        assert_eq!(theirs.open_data(&record(&[1; RECORD_BYTES_MAX + 2]), &mut vec![0; 2 * RECORD_BYTES_MAX]), None);
        let mut buffer = [0; 64];
        assert_eq!(theirs.open_data(&record(b"padded\x17\x00\x00\x00"), &mut buffer), Some(6));
        assert_eq!(&buffer[..6], b"padded");
    }

    #[test]
    fn slices_fill_records_together() {
        let (ours, theirs) = pair(&CHACHA20_POLY1305);
        let (head, body) = (vec![1; 200], vec![2; 3 * RECORD_BYTES_MAX]);
        let plain = [&head[..], &body].concat();
        let count = 2 * RECORD_BYTES_MAX + 1;
        let mut output = Vec::new();
        ours.seal_data(&[IoSlice::new(&head), IoSlice::new(&[]), IoSlice::new(&body)], count, &mut output).unwrap();
        let (mut got, mut buffer) = (Vec::new(), vec![0; 2 * RECORD_BYTES_MAX]);
        let mut lengths = Vec::new();
        let mut rest = &output[..];
        while let Some(record) = whole(rest) {
            let length = theirs.open_data(record, &mut buffer).unwrap();
            got.extend_from_slice(&buffer[..length]);
            lengths.push(length);
            rest = &rest[record.len()..];
        }
        assert_eq!(lengths, [RECORD_BYTES_MAX, RECORD_BYTES_MAX, 1]);
        assert_eq!(output.len(), sealed_bytes(count));
        assert!(rest.is_empty() && got == plain[..count]);
    }

    #[test]
    fn records_are_told_apart_however_they_come_in_pieces() {
        let records: [&[u8]; 4] =
            [&[23, 3, 3, 0, 4, 1, 2, 3, 4], &[22, 3, 3, 0, 0], &[23, 3, 3, 0, 1, 9], &[21, 3, 3, 0, 2, 1, 0]];
        let stream = records.concat();
        for size in 1..=stream.len() {
            let mut passing = Passing::default();
            let (mut ends, mut at) = (Vec::new(), 0);
            for piece in stream.chunks(size) {
                let mut piece = piece;
                while !piece.is_empty() {
                    let count = passing.within(piece);
                    passing.pass(&piece[..count]);
                    piece = &piece[count..];
                    at += count;
                    if passing.is_between() {
                        ends.push(at);
                    }
                }
            }
            assert_eq!(ends, [9, 14, 20, 27], "in pieces of {size}");
        }
    }

    /// A client and a server of rustls, shaken, and the keys that the server made.
    fn shaken(suite: CipherSuite) -> (Connection, Connection, Made) {
        let identity = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der()));
        let mut ours = provider();
        ours.cipher_suites.retain(|one| one.suite() == suite);
        let builder = ServerConfig::builder_with_provider(Arc::new(ours)).with_protocol_versions(&[&version::TLS13]).unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![identity.cert.der().clone()], key).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(identity.cert.der().clone()).unwrap();
        let theirs = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(theirs).with_protocol_versions(&[&version::TLS13]).unwrap();
        let client = builder.with_root_certificates(roots).with_no_client_auth();
        let mut client: Connection = ClientConnection::new(Arc::new(client), "a.test".try_into().unwrap()).unwrap().into();
        let mut server: Connection = ServerConnection::new(Arc::new(config)).unwrap().into();
        let mut keys = Made::default();
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            carry(&mut client, &mut server, &mut keys);
            carry(&mut server, &mut client, &mut Made::default());
        }
        (client, server, keys)
    }

    fn carry(from: &mut Connection, to: &mut Connection, keys: &mut Made) {
        let mut bytes = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut bytes).unwrap();
        }
        take_in(to, &bytes, keys);
    }

    fn take_in(to: &mut Connection, mut bytes: &[u8], keys: &mut Made) {
        while !bytes.is_empty() {
            to.read_tls(&mut bytes).unwrap();
            let (done, made) = watch(|| to.process_new_packets().map(drop));
            done.unwrap();
            keys.seal = made.seal.or(keys.seal.take());
            keys.open = made.open.or(keys.open.take());
        }
    }

    fn written(connection: &mut Connection, plain: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        connection.writer().write_all(plain).unwrap();
        while connection.wants_write() {
            connection.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn read(connection: &mut Connection) -> Vec<u8> {
        let mut plain = vec![0; 100];
        let count = connection.reader().read(&mut plain).unwrap();
        plain.truncate(count);
        plain
    }

    #[test]
    fn data_may_go_by_either_way_in_any_order_also_when_keys_change() {
        for suite in [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        ] {
            let (mut client, mut server, mut keys) = shaken(suite);
            for round in 0..3 {
                let bytes = written(&mut client, b"past rustls");
                let mut buffer = [0; 100];
                assert_eq!(keys.open.as_ref().unwrap().open_data(&bytes, &mut buffer), Some(11), "{suite:?}, round {round}");
                let bytes = written(&mut client, b"by rustls");
                take_in(&mut server, &bytes, &mut keys);
                assert_eq!(read(&mut server), b"by rustls");
                let bytes = sealed(keys.seal.as_ref().unwrap(), b"past");
                take_in(&mut client, &bytes, &mut Made::default());
                assert_eq!(read(&mut client), b"past");
                let bytes = written(&mut server, b"by");
                take_in(&mut client, &bytes, &mut Made::default());
                assert_eq!(read(&mut client), b"by");
                // Whoever begins, both directions have new keys then; the server's word on its own goes before its next data.
                if round == 0 {
                    client.refresh_traffic_keys().unwrap();
                } else {
                    let (done, made) = watch(|| server.refresh_traffic_keys());
                    done.unwrap();
                    keys.seal = made.seal.or(keys.seal.take());
                    carry(&mut server, &mut client, &mut Made::default());
                    client.writer().write_all(b"x").unwrap();
                }
                let before = keys.open.clone().unwrap();
                carry(&mut client, &mut server, &mut keys);
                assert!(!Arc::ptr_eq(&before, keys.open.as_ref().unwrap()));
                let _ = server.reader().read(&mut [0; 1]);
                let bytes = written(&mut server, b"first");
                take_in(&mut client, &bytes, &mut Made::default());
                assert_eq!(read(&mut client), b"first");
            }
        }
    }
}
