//! What comes on an HTTP/2 connection, frame by frame: held against how the other side must begin, and handed to the connection's state.

use super::state::State;
use crate::input::Input;
use crate::worker::Worker;
use maitred_wire::{H2Code, H2Reader, PREFACE};
use std::time::Instant;

pub(super) struct Receiving {
    pub input: Input,
    reader: H2Reader,
    /// The client's preface is still to come.
    pub preface: bool,
    /// `input` may hold whole frames.
    pub is_behind: bool,
    /// The other side speaks HTTP/2 for certain: a server's first bytes may say that it does not.
    is_certain: bool,
}

/// How an answer in HTTP/1.1 begins.
const HTTP1: &[u8] = b"HTTP/1.";

impl Receiving {
    pub fn new(input: Input, reader: H2Reader, is_server: bool) -> Receiving {
        let is_behind = !input.is_empty();
        Receiving { input, reader, preface: is_server, is_behind, is_certain: is_server }
    }

    /// Takes in whole frames and pieces of header blocks, at most `room`, which shrinks by as many.
    pub fn take_frames(&mut self, state: &mut State, room: &mut u32, worker: &Worker, now: Instant) -> Result<(), H2Code> {
        self.is_behind = false;
        if self.preface {
            let data = self.input.data();
            let length = data.len().min(PREFACE.len());
            if data[..length] != PREFACE[..length] {
                return Err(H2Code::PROTOCOL_ERROR);
            }
            if length < PREFACE.len() {
                return Ok(());
            }
            self.input.consume(PREFACE.len(), worker);
            self.preface = false;
        }
        let data = self.input.data();
        if !self.is_certain {
            let length = data.len().min(HTTP1.len());
            match data[..length] == HTTP1[..length] {
                true if length == HTTP1.len() => return Err(H2Code::HTTP_1_1_REQUIRED),
                true => return Ok(()),
                false => self.is_certain = true,
            }
        }
        let mut at = 0;
        while *room > 0 {
            let (count, frame) = self.reader.next(&data[at..])?;
            if let Some(frame) = frame {
                state.take(frame, now)?;
            } else if count == 0 {
                break;
            }
            // A piece of a header block costs as much as a frame.
            *room -= 1;
            at += count;
        }
        self.is_behind = *room == 0 && at < data.len();
        self.input.consume(at, worker);
        self.reader.shrink();
        state.shrink();
        Ok(())
    }
}
