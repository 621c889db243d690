//! The streams that a connection has beside its requests (RFC 9114 §6.2, RFC 9204 §4.2): what the client says there is read, and held
//! against the rules. None of it changes what we do.

use super::Shared;
use maitred_wire::{FrameKind, Frames, H3Code, Piece, QpackStream, check_settings, varint};
use quinn::{ReadError, RecvStream};
use std::cell::Cell;
use std::rc::Rc;
use tokio::task::spawn_local;

/// Bytes of one frame that is kept to be looked at.
const FRAME_BYTES_MAX: u64 = 4096;

/// Which of the streams have come, of which there may be one each.
#[derive(Default)]
pub(super) struct Seen {
    control: Cell<bool>,
    encoder: Cell<bool>,
    decoder: Cell<bool>,
}

type Wrong = (H3Code, &'static str);

/// Until the connection ends.
pub(super) async fn read_all(shared: Rc<Shared>) {
    while let Ok(recv) = shared.connection.accept_uni().await {
        shared.count_idle(1);
        let shared = shared.clone();
        spawn_local(async move {
            if let Err((code, why)) = read_one(&shared, recv).await {
                shared.close(code, why);
            }
        });
    }
}

/// Whose bytes are at hand.
struct Reading {
    recv: RecvStream,
    bytes: Vec<u8>,
}

impl Reading {
    /// More bytes; `false`: the end, or the connection's.
    async fn more(&mut self) -> Result<bool, ReadError> {
        let mut piece = [0; 512];
        match self.recv.read(&mut piece).await? {
            Some(count) => {
                self.bytes.extend_from_slice(&piece[..count]);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Of a stream that may not end before the connection does.
    async fn more_of_critical(&mut self) -> Result<bool, Wrong> {
        match self.more().await {
            Ok(true) => Ok(true),
            Err(ReadError::ConnectionLost(_)) => Ok(false),
            Ok(false) | Err(_) => Err((H3Code::ClosedCriticalStream, "a stream that the connection needs has ended")),
        }
    }
}

async fn read_one(shared: &Shared, recv: RecvStream) -> Result<(), Wrong> {
    let mut reading = Reading { recv, bytes: Vec::new() };
    let kind = loop {
        if let Some((kind, length)) = varint(&reading.bytes) {
            reading.bytes.drain(..length);
            break kind;
        }
        // RFC 9114 §6.2: it may end before it has said what it is.
        if !matches!(reading.more().await, Ok(true)) {
            return Ok(());
        }
    };
    let twice = (H3Code::StreamCreationError, "a second stream of a kind of which there is one");
    let seen = &shared.seen;
    match kind {
        0x00 if seen.control.replace(true) => Err(twice),
        0x02 if seen.encoder.replace(true) => Err(twice),
        0x03 if seen.decoder.replace(true) => Err(twice),
        0x00 => read_control(shared, reading).await,
        0x02 => read_qpack(reading, QpackStream::encoder).await,
        0x03 => read_qpack(reading, QpackStream::decoder).await,
        0x01 => Err((H3Code::StreamCreationError, "a client that pushes")),
        _ => {
            let _ = reading.recv.stop(super::code(H3Code::StreamCreationError));
            Ok(())
        }
    }
}

async fn read_qpack(mut reading: Reading, follow: fn(&mut QpackStream, &[u8]) -> Result<(), H3Code>) -> Result<(), Wrong> {
    let mut stream = QpackStream::default();
    loop {
        follow(&mut stream, &reading.bytes).map_err(|code| (code, "an instruction for a table without room"))?;
        reading.bytes.clear();
        if !reading.more_of_critical().await? {
            return Ok(());
        }
    }
}

/// RFC 9114 §6.2.1: SETTINGS first, then what a client may say.
async fn read_control(shared: &Shared, mut reading: Reading) -> Result<(), Wrong> {
    let mut frames = Frames::default();
    let mut settings = false;
    let mut current = FrameKind::Unknown;
    let mut payload = Vec::new();
    let mut last_goaway = u64::MAX;
    loop {
        while !reading.bytes.is_empty() {
            let (taken, begins) = match frames.next(&reading.bytes) {
                Piece::Partial => (reading.bytes.len(), true),
                Piece::Begin { kind, length, taken } => {
                    check_kind(kind, settings)?;
                    if kind != FrameKind::Unknown && length > FRAME_BYTES_MAX {
                        return Err((H3Code::ExcessiveLoad, "a frame of control that is too large"));
                    }
                    // The first SETTINGS have to come; all else says nothing.
                    if settings {
                        shared.count_idle(1);
                    }
                    current = kind;
                    payload.clear();
                    (taken, false)
                }
                Piece::Payload(count) => {
                    if current != FrameKind::Unknown {
                        payload.extend_from_slice(&reading.bytes[..count]);
                    }
                    (count, false)
                }
            };
            reading.bytes.drain(..taken);
            if !begins && frames.left() == 0 {
                take(current, &payload, &mut last_goaway)?;
                settings |= current == FrameKind::Settings;
                current = FrameKind::Unknown;
            }
        }
        if !reading.more_of_critical().await? {
            return Ok(());
        }
    }
}

fn check_kind(kind: FrameKind, settings: bool) -> Result<(), Wrong> {
    match kind {
        FrameKind::Settings if settings => Err((H3Code::FrameUnexpected, "SETTINGS that come twice")),
        FrameKind::Settings => Ok(()),
        _ if !settings => Err((H3Code::MissingSettings, "no SETTINGS first")),
        FrameKind::Goaway | FrameKind::MaxPushId | FrameKind::CancelPush | FrameKind::Unknown => Ok(()),
        FrameKind::Data | FrameKind::Headers | FrameKind::PushPromise | FrameKind::Reserved => {
            Err((H3Code::FrameUnexpected, "a frame that is none of control"))
        }
    }
}

fn take(kind: FrameKind, payload: &[u8], last_goaway: &mut u64) -> Result<(), Wrong> {
    let malformed = (H3Code::FrameError, "a malformed frame of control");
    let number = || match varint(payload) {
        Some((number, length)) if length == payload.len() => Ok(number),
        _ => Err(malformed),
    };
    match kind {
        FrameKind::Settings => check_settings(payload).map_err(|code| (code, "malformed SETTINGS")),
        FrameKind::Goaway => {
            let id = number()?;
            if id > *last_goaway {
                return Err((H3Code::IdError, "a GOAWAY that takes another back"));
            }
            *last_goaway = id;
            Ok(())
        }
        FrameKind::MaxPushId => number().map(drop),
        // Nothing was pushed.
        FrameKind::CancelPush => number().and(Err((H3Code::IdError, "a push is cancelled that never was"))),
        FrameKind::Data | FrameKind::Headers | FrameKind::PushPromise | FrameKind::Reserved | FrameKind::Unknown => Ok(()),
    }
}
