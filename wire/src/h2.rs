//! A meter of HTTP/2 frames: counts what a client sends, so that floods can be bounded (RFC 9113 §10.5). Reads frame headers only, changes
//! nothing, keeps nine bytes; sets no bound and refuses nothing: who asks it does.

/// What a client that speaks HTTP/2 sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a connection starts with `PREFACE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preface {
    /// All of it is there.
    Yes,
    /// It is something else: no bytes behind these can change that.
    No,
    /// Too few bytes to tell.
    Maybe,
}

/// Looks at the first bytes of a connection. No HTTP/1.1 request is a `Yes`: its version would be HTTP/2.0, and its head ends before
/// the preface does.
pub fn starts_preface(input: &[u8]) -> Preface {
    let length = input.len().min(PREFACE.len());
    if input[..length] != PREFACE[..length] {
        Preface::No
    } else if length == PREFACE.len() {
        Preface::Yes
    } else {
        Preface::Maybe
    }
}

/// What was counted since the preface. Frames count when their header is whole, so that a client cannot hide one by never ending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// HEADERS frames, those with trailers too.
    pub headers: u64,
    /// Bytes of DATA frames that arrived, padding included.
    pub data_bytes: u64,
    /// DATA frames without a byte that do not end their stream: they cost the reader and no flow-control window.
    pub empty_data: u64,
    /// PRIORITY, and PRIORITY_UPDATE of RFC 9218.
    pub priorities: u64,
    /// RST_STREAM.
    pub resets: u64,
    /// Those of them that blame the peer: PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM.
    pub blames: u64,
    /// SETTINGS that want to be acknowledged.
    pub settings: u64,
    /// PING that wants to be answered.
    pub pings: u64,
    /// SETTINGS and PING that acknowledge ours.
    pub acks: u64,
    pub window_updates: u64,
    /// How many CONTINUATION frames the last frames are.
    pub continuations_in_a_row: u64,
    /// The most that `continuations_in_a_row` ever was.
    pub longest_run: u64,
    /// Frames of any other type, with those that a client has little use for: PUSH_PROMISE and GOAWAY.
    pub unknown: u64,
}

/// Length, type, flags, stream (RFC 9113 §4.1).
const HEADER_BYTES: usize = 9;

// Types, RFC 9113 §6 and RFC 9218 §7.1.
const DATA: u8 = 0x00;
const HEADERS: u8 = 0x01;
const PRIORITY: u8 = 0x02;
const RST_STREAM: u8 = 0x03;
const SETTINGS: u8 = 0x04;
const PING: u8 = 0x06;
const GOAWAY: u8 = 0x07;
const WINDOW_UPDATE: u8 = 0x08;
const CONTINUATION: u8 = 0x09;
const PRIORITY_UPDATE: u8 = 0x10;

/// The lowest flag: ACK of SETTINGS and PING, END_STREAM of DATA.
const ACK: u8 = 0x01;
const END_STREAM: u8 = 0x01;

/// What a frame's header or the values of SETTINGS break, by the codes of RFC 9113 §7. Libraries are loose about which code they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    Protocol = 0x1,
    FlowControl = 0x3,
    FrameSize = 0x6,
}

/// Payload of a frame, since we never announce more (§6.5.2).
const FRAME_BYTES_MAX: usize = 16_384;

/// Identifier and value of one setting (§6.5.1).
const SETTING_BYTES: usize = 6;

/// Of RST_STREAM (§6.4).
const CODE_BYTES: usize = 4;

const ENABLE_PUSH: u16 = 0x2;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;

/// Follows the bytes of one connection behind its preface, however they are cut. Its cost is that of its frames, not of their bytes.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    violation: Option<Violation>,
    /// A frame was seen.
    begun: bool,
    in_settings: bool,
    in_reset: bool,
    /// The setting, or the code of a reset, that is not whole yet.
    setting: [u8; SETTING_BYTES],
    setting_filled: usize,
    tally: Tally,
    /// A frame header that is not whole yet.
    header: [u8; HEADER_BYTES],
    filled: usize,
    /// Bytes of the frame's payload that are still to come.
    payload: usize,
    in_data: bool,
}

impl Meter {
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The first thing wrong that was seen.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// Counts the next bytes of the connection.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            let passed = self.payload.min(bytes.len());
            self.payload -= passed;
            if self.in_settings {
                self.read_settings(&bytes[..passed]);
            } else if self.in_reset {
                self.read_reset(&bytes[..passed]);
            }
            if self.in_data {
                self.tally.data_bytes += passed as u64;
            }
            bytes = &bytes[passed..];
            if bytes.is_empty() {
                return;
            }
            match bytes.split_first_chunk::<HEADER_BYTES>() {
                Some((header, rest)) if self.filled == 0 => {
                    bytes = rest;
                    self.begin(*header);
                }
                Some(_) | None => {
                    let taken = (HEADER_BYTES - self.filled).min(bytes.len());
                    self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                    self.filled += taken;
                    bytes = &bytes[taken..];
                    if self.filled < HEADER_BYTES {
                        return;
                    }
                    self.filled = 0;
                    self.begin(self.header);
                }
            }
        }
    }

    /// Lengths that every frame of a type has (§4.2 and §6); the first is SETTINGS (§3.4).
    fn misshapen(&self, kind: u8, flags: u8) -> Option<Violation> {
        if !self.begun && (kind != SETTINGS || flags & ACK != 0) {
            return Some(Violation::Protocol);
        }
        let fits = match kind {
            PRIORITY => self.payload == 5,
            RST_STREAM | WINDOW_UPDATE => self.payload == 4,
            PING => self.payload == 8,
            GOAWAY => self.payload >= 8,
            SETTINGS if flags & ACK != 0 => self.payload == 0,
            SETTINGS => self.payload.is_multiple_of(SETTING_BYTES),
            _ => true,
        };
        (!fits || self.payload > FRAME_BYTES_MAX).then_some(Violation::FrameSize)
    }

    fn read_settings(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = (SETTING_BYTES - self.setting_filled).min(bytes.len());
            self.setting[self.setting_filled..self.setting_filled + taken].copy_from_slice(&bytes[..taken]);
            self.setting_filled += taken;
            bytes = &bytes[taken..];
            if self.setting_filled == SETTING_BYTES {
                self.setting_filled = 0;
                let [a, b, value @ ..] = self.setting;
                if let Some(violation) = out_of_bounds(u16::from_be_bytes([a, b]), u32::from_be_bytes(value)) {
                    self.violation.get_or_insert(violation);
                }
            }
        }
    }

    fn read_reset(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().take(CODE_BYTES.saturating_sub(self.setting_filled)) {
            self.setting[self.setting_filled] = byte;
            self.setting_filled += 1;
            if self.setting_filled == CODE_BYTES {
                let [a, b, c, d, ..] = self.setting;
                self.tally.blames += u64::from(matches!(u32::from_be_bytes([a, b, c, d]), 0x1 | 0x3 | 0x5 | 0x6 | 0x7));
            }
        }
    }

    /// A frame begins.
    fn begin(&mut self, header: [u8; HEADER_BYTES]) {
        let [high, middle, low, kind, flags, ..] = header;
        self.payload = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.in_data = kind == DATA;
        self.in_settings = kind == SETTINGS;
        self.in_reset = kind == RST_STREAM;
        self.setting_filled = 0;
        if let Some(violation) = self.misshapen(kind, flags) {
            self.violation.get_or_insert(violation);
        }
        self.begun = true;
        let tally = &mut self.tally;
        if kind == CONTINUATION {
            tally.continuations_in_a_row += 1;
            tally.longest_run = tally.longest_run.max(tally.continuations_in_a_row);
            return;
        }
        tally.continuations_in_a_row = 0;
        match kind {
            DATA => tally.empty_data += u64::from(self.payload == 0 && flags & END_STREAM == 0),
            HEADERS => tally.headers += 1,
            PRIORITY | PRIORITY_UPDATE => tally.priorities += 1,
            RST_STREAM => tally.resets += 1,
            SETTINGS | PING if flags & ACK != 0 => tally.acks += 1,
            SETTINGS => tally.settings += 1,
            PING => tally.pings += 1,
            WINDOW_UPDATE => tally.window_updates += 1,
            _ => tally.unknown += 1,
        }
    }
}

/// RFC 9113 §6.5.2 and RFC 8441 §3.
fn out_of_bounds(setting: u16, value: u32) -> Option<Violation> {
    match setting {
        ENABLE_PUSH | ENABLE_CONNECT_PROTOCOL if value > 1 => Some(Violation::Protocol),
        INITIAL_WINDOW_SIZE if value > i32::MAX as u32 => Some(Violation::FlowControl),
        MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => Some(Violation::Protocol),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, high, middle, low] = (payload as u32).to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        // 0xff, so that a payload read for a header is noticed.
        frame.resize(HEADER_BYTES + payload, 0xff);
        frame
    }

    fn tally(frames: &[Vec<u8>]) -> Tally {
        let mut meter = Meter::default();
        meter.feed(&frames.concat());
        *meter.tally()
    }

    #[test]
    fn what_is_misshapen_is_named() {
        let settings = |setting: u16, value: u32| {
            let payload = [&setting.to_be_bytes()[..], &value.to_be_bytes()].concat();
            [&[0, 0, 6, SETTINGS, 0, 0, 0, 0, 0][..], &payload].concat()
        };
        let first = settings(1, 4096);
        for (behind, wanted) in [
            (settings(4, 1 << 31), Some(Violation::FlowControl)),
            (settings(4, (1 << 31) - 1), None),
            (settings(2, 2), Some(Violation::Protocol)),
            (settings(8, 2), Some(Violation::Protocol)),
            (settings(5, 16_383), Some(Violation::Protocol)),
            (settings(5, 16_384), None),
            (settings(9, u32::MAX), None),
            (frame(SETTINGS, 0, 5), Some(Violation::FrameSize)),
            (frame(SETTINGS, ACK, 6), Some(Violation::FrameSize)),
            (frame(PING, 0, 7), Some(Violation::FrameSize)),
            (frame(RST_STREAM, 0, 5), Some(Violation::FrameSize)),
            (frame(WINDOW_UPDATE, 0, 3), Some(Violation::FrameSize)),
            (frame(PRIORITY, 0, 4), Some(Violation::FrameSize)),
            (frame(DATA, 0, 16_384), None),
            (frame(DATA, 0, 16_385), Some(Violation::FrameSize)),
            (frame(0x42, 0, 16_385), Some(Violation::FrameSize)),
        ] {
            for cut in 0..20 {
                let bytes = [&first[..], &behind].concat();
                let mut meter = Meter::default();
                meter.feed(&bytes[..cut]);
                meter.feed(&bytes[cut..]);
                assert_eq!(meter.violation(), wanted, "{behind:?}, cut at {cut}");
            }
        }
        for (alone, wanted) in [
            (settings(4, 1), None),
            (frame(SETTINGS, ACK, 0), Some(Violation::Protocol)),
            (frame(PING, 0, 8), Some(Violation::Protocol)),
        ] {
            let mut meter = Meter::default();
            meter.feed(&alone);
            assert_eq!(meter.violation(), wanted);
        }
    }

    #[test]
    fn resets_that_blame_the_peer_are_told_from_others() {
        let reset = |code: u8| vec![0, 0, 4, RST_STREAM, 0, 0, 0, 0, 1, 0, 0, 0, code];
        let all: Vec<u8> = (0..14).flat_map(reset).collect();
        for cut in 0..all.len() {
            let mut meter = Meter::default();
            meter.feed(&all[..cut]);
            meter.feed(&all[cut..]);
            assert_eq!((meter.tally().resets, meter.tally().blames), (14, 5), "cut at {cut}");
        }
    }

    #[test]
    fn each_frame_counts_as_what_it_is() {
        let none = Tally::default();
        for (frame, wanted) in [
            (frame(DATA, 0, 70_000), Tally { data_bytes: 70_000, ..none }),
            (frame(DATA, 0, 0), Tally { empty_data: 1, ..none }),
            (frame(DATA, END_STREAM, 0), none),
            (frame(DATA, 0x08, 0), Tally { empty_data: 1, ..none }),
            (frame(HEADERS, 0x04, 20), Tally { headers: 1, ..none }),
            (frame(PRIORITY, 0, 5), Tally { priorities: 1, ..none }),
            (frame(RST_STREAM, 0, 4), Tally { resets: 1, ..none }),
            (frame(SETTINGS, 0, 6), Tally { settings: 1, ..none }),
            (frame(SETTINGS, ACK, 0), Tally { acks: 1, ..none }),
            (frame(0x05, 0, 4), Tally { unknown: 1, ..none }),
            (frame(PING, 0, 8), Tally { pings: 1, ..none }),
            (frame(PING, ACK, 8), Tally { acks: 1, ..none }),
            (frame(0x07, 0, 8), Tally { unknown: 1, ..none }),
            (frame(WINDOW_UPDATE, 0, 4), Tally { window_updates: 1, ..none }),
            (frame(CONTINUATION, 0, 4), Tally { continuations_in_a_row: 1, longest_run: 1, ..none }),
            (frame(PRIORITY_UPDATE, 0, 4), Tally { priorities: 1, ..none }),
            (frame(0xff, 0xff, 4), Tally { unknown: 1, ..none }),
        ] {
            assert_eq!(tally(std::slice::from_ref(&frame)), wanted, "{}", frame[..HEADER_BYTES].escape_ascii());
        }
    }

    #[test]
    fn a_run_of_continuations_ends_with_another_frame() {
        let next = || frame(CONTINUATION, 0, 0);
        let mut frames = vec![frame(HEADERS, 0, 1), next(), next(), next(), frame(HEADERS, 0, 1), next()];
        assert_eq!(tally(&frames), Tally { headers: 2, continuations_in_a_row: 1, longest_run: 3, ..Tally::default() });
        frames.push(frame(DATA, END_STREAM, 0));
        assert_eq!(tally(&frames), Tally { headers: 2, longest_run: 3, ..Tally::default() });
    }

    #[test]
    fn a_frame_counts_before_its_payload_has_come_and_its_data_as_it_comes() {
        let mut meter = Meter::default();
        let ping = frame(PING, 0, 8);
        meter.feed(&ping[..8]);
        assert_eq!(meter.tally().pings, 0);
        meter.feed(&ping[8..9]);
        assert_eq!(meter.tally().pings, 1);
        meter.feed(&ping[9..]);
        let data = frame(DATA, 0, 100);
        meter.feed(&data[..HEADER_BYTES + 40]);
        assert_eq!((meter.tally().pings, meter.tally().data_bytes), (1, 40));
    }

    #[test]
    fn the_preface_is_told_from_requests() {
        for length in 0..PREFACE.len() {
            assert_eq!(starts_preface(&PREFACE[..length]), Preface::Maybe);
        }
        assert_eq!(starts_preface(PREFACE), Preface::Yes);
        assert_eq!(starts_preface(&[&PREFACE[..], b"\0\0"].concat()), Preface::Yes);
        for other in
            ["G", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/1.1\r\n", "PRI * HTTP/2.0\r\nHost: a\r\n\r\n", "\r\n", "pri", "PRI /"]
        {
            assert_eq!(starts_preface(other.as_bytes()), Preface::No, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            frames in proptest::collection::vec((0u8..0x12, any::<u8>(), 0usize..40), 0..12),
            piece in 1usize..30,
        ) {
            let frames: Vec<_> = frames.into_iter().map(|(kind, flags, payload)| frame(kind, flags, payload)).collect();
            let mut meter = Meter::default();
            for bytes in frames.concat().chunks(piece) {
                meter.feed(bytes);
            }
            prop_assert_eq!(*meter.tally(), tally(&frames));
        }

        #[test]
        fn no_request_is_a_preface(method in "[A-Z]{1,8}|PRI", target in "[*]|/[a-z]{0,3}", version in "HTTP/1[.][01]|HTTP/2[.]0", rest in "(\r\n|Host: a|SM){0,6}") {
            let request = format!("{method} {target} {version}\r\n{rest}");
            let accepted = crate::RequestHead::default().parse(
                request.as_bytes(),
                &crate::HeadLimits { head_bytes: 1000, fields: 10, target_bytes: 1000, drop_underscores: true },
            );
            let is_request = matches!(accepted, Ok(crate::Parsed::Complete(_)));
            prop_assert!(!is_request || starts_preface(request.as_bytes()) == Preface::No);
        }
    }
}
