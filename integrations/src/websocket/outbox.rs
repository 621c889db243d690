//! Frames that wait for one client. Holds so many bytes and no more, each of them counted in the room that all clients share; what has no
//! place is refused to whoever has something to say.

use maitred_core::Taken;
use maitred_wire::{Opcode, close_frame, websocket_frame};

/// More are refused.
pub(super) const UNSENT_BYTES_MAX: usize = 1024 * 1024;
/// That every connection has without asking for room: so a client that pings is answered, however little there is.
const OWN_BYTES: usize = 256;
/// What a frame has besides its payload, at most: start, length, mask.
const HEADER_BYTES: usize = 14;

/// Why something is not said to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsaid {
    Gone,
    /// The client takes nothing, and as much waits for it as may.
    Full,
    /// As much is held for all clients as may.
    NoRoom,
}

#[derive(Debug)]
pub(super) struct Outbox {
    frames: Vec<u8>,
    /// So much of it was sent.
    sent: usize,
    room: Taken,
}

impl Outbox {
    /// `room`: with nothing in it.
    pub fn new(room: Taken) -> Outbox {
        Outbox { frames: Vec::new(), sent: 0, room }
    }

    pub fn write(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Unsaid> {
        // What was sent is forgotten before more is added, so that a client that never catches up costs no more than the bound.
        self.frames.drain(..std::mem::take(&mut self.sent));
        let length = self.frames.len() + payload.len();
        if length > UNSENT_BYTES_MAX {
            return Err(Unsaid::Full);
        }
        let (wanted, has) = (length + HEADER_BYTES, self.frames.capacity());
        if wanted > has {
            // Where twice as much has no room, what is wanted may have it still.
            let sizes = [wanted.max(2 * has), wanted];
            let fits = |size: &usize| self.room.resize(size.saturating_sub(OWN_BYTES) as u64);
            let size = sizes.into_iter().find(fits).ok_or(Unsaid::NoRoom)?;
            self.frames.reserve_exact(size - self.frames.len());
        }
        websocket_frame(opcode, payload, None, &mut self.frames);
        Ok(())
    }

    /// The last frame: there is always a place for it. `None`: without a code.
    pub fn close(&mut self, code: Option<u16>, reason: &str) {
        self.frames.reserve_exact(HEADER_BYTES + size_of::<u16>() + reason.len());
        match code {
            Some(code) => close_frame(code, reason, None, &mut self.frames),
            None => websocket_frame(Opcode::Close, b"", None, &mut self.frames),
        }
    }

    /// Nobody is there to be sent anything.
    pub fn clear(&mut self) {
        self.frames = Vec::new();
        self.sent = 0;
        self.room.resize(0);
    }

    pub fn unsent(&self) -> &[u8] {
        &self.frames[self.sent..]
    }

    pub fn consume(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.frames.len() {
            // A quiet connection holds no buffer.
            self.clear();
        }
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.frames.capacity()
    }
}
