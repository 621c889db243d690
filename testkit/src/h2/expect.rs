//! How a connection or a stream must end: what a client of a test waits for when it has broken a rule.

use super::client::H2Client;
use super::frame::code;
use super::protocol::Goaway;
use super::response::H2Broken;
use crate::wait::PATIENCE;
use std::time::Instant;

impl H2Client {
    /// The other side ends the connection with this code, and closes it; the last stream that it took up.
    #[track_caller]
    pub fn expect_goaway(&mut self, code: u32) -> u32 {
        let goaway = self.ending();
        assert_eq!(goaway.map(|goaway| goaway.code), Some(code), "the code of GOAWAY");
        goaway.map_or(0, |goaway| goaway.last)
    }

    /// Waits for the end of the connection, and gives the last GOAWAY before it.
    #[track_caller]
    pub fn ending(&mut self) -> Option<Goaway> {
        self.try_ending().unwrap_or_else(|broken| panic!("the connection should end: {broken:?}, {:?}", self.protocol.goaway))
    }

    /// The same, or why it does not end.
    pub fn try_ending(&mut self) -> Result<Option<Goaway>, H2Broken> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.step(deadline.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(H2Broken::Closed(goaway)) => return Ok(goaway),
                Err(broken) => return Err(broken),
            }
        }
    }

    /// The other side closes, with or without a word.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        self.ending();
    }

    /// The other side resets this stream with this code; the connection lives.
    #[track_caller]
    pub fn expect_reset(&mut self, id: u32, code: u32) {
        let outcome = self.try_response(id);
        assert!(matches!(outcome, Err(H2Broken::Reset(found)) if found == code), "a reset with {code}: {outcome:?}");
        self.ping();
    }

    /// An error of a stream, which section 5.4.2 lets anybody treat as one of the connection; its code, whatever was said before.
    #[track_caller]
    pub fn stream_error(&mut self, id: u32) -> Option<u32> {
        loop {
            if let Some(code) = self.protocol.streams.get(&id).and_then(|side| side.reset) {
                return Some(code);
            }
            match self.step(PATIENCE) {
                Ok(()) => {}
                Err(H2Broken::Closed(goaway)) => return goaway.map(|goaway| goaway.code),
                Err(broken) => panic!("an error on stream {id}: {broken:?}"),
            }
        }
    }

    #[track_caller]
    pub fn expect_stream_error(&mut self, id: u32, code: u32) {
        assert_eq!(self.stream_error(id), Some(code), "the code of the error on stream {id}");
    }

    /// A malformed request (section 8.1.1): reset with PROTOCOL_ERROR, or told so with 400.
    #[track_caller]
    pub fn expect_malformed(&mut self, id: u32) {
        match self.try_response(id) {
            Ok(response) => assert_eq!(response.status, 400, "{response:?}"),
            Err(H2Broken::Reset(found)) => assert_eq!(found, code::PROTOCOL_ERROR, "the code of the reset"),
            other => panic!("a malformed request should be refused, and the connection go on: {other:?}"),
        }
    }
}
