//! How the gateway's own parser frames a stream of requests.

use maitred_wire::{Chunked, ChunkedStep, Framing, HeadLimits, Parsed, RequestHead, Version};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
    pub upgrade: bool,
    pub http10: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Every byte belongs to a message.
    Over,
    /// More bytes are needed; `body`: the head is whole, and says that there are.
    Partial {
        body: bool,
    },
    Refused(String),
    /// The last message said that nothing follows.
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framed {
    pub messages: Vec<Message>,
    pub end: Ended,
}

const LIMITS: HeadLimits = HeadLimits { head_bytes: 64 * 1024, fields: 100, target_bytes: 16 * 1024, drop_underscores: true };

pub fn frame(mut input: &[u8]) -> Framed {
    let mut messages = Vec::new();
    let end = loop {
        if input.is_empty() {
            break Ended::Over;
        }
        match next(&mut input) {
            Ok((message, keep_alive)) => {
                messages.push(message);
                if !keep_alive {
                    break Ended::Closed;
                }
            }
            Err(Cut::Partial { body }) => break Ended::Partial { body },
            Err(Cut::Refused(why)) => break Ended::Refused(why),
        }
    };
    Framed { messages, end }
}

/// Why there is no whole message.
enum Cut {
    Partial { body: bool },
    Refused(String),
}

/// The next message, and whether another may follow.
fn next(input: &mut &[u8]) -> Result<(Message, bool), Cut> {
    let mut head = RequestHead::default();
    let length = match head.parse(input, &LIMITS).map_err(|refusal| Cut::Refused(format!("{refusal:?}")))? {
        Parsed::Complete(length) => length,
        Parsed::Partial => return Err(Cut::Partial { body: false }),
    };
    let mut message = Message {
        method: latin1(head.method_text()),
        target: latin1(head.target()),
        upgrade: head.upgrade.is_some(),
        http10: head.version == Version::Http10,
        ..Message::default()
    };
    let mut rest = &input[length..];
    match head.framing {
        Framing::None => {}
        Framing::Close => return Err(Cut::Refused("a request until close".to_owned())),
        Framing::Length(length) => {
            let Some((body, after)) = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) else {
                return Err(Cut::Partial { body: true });
            };
            message.body = body.to_vec();
            rest = after;
        }
        Framing::Chunked => {
            let mut decoder = Chunked::default();
            loop {
                match decoder.step(rest).map_err(|error| Cut::Refused(error.0.to_owned()))? {
                    ChunkedStep::More { .. } => return Err(Cut::Partial { body: true }),
                    ChunkedStep::Data { skip, len } => {
                        message.body.extend_from_slice(&rest[skip..skip + len]);
                        rest = &rest[skip + len..];
                        decoder.taken(len);
                    }
                    ChunkedStep::End { skip, .. } => {
                        rest = &rest[skip..];
                        break;
                    }
                }
            }
        }
    }
    *input = rest;
    Ok((message, head.keep_alive))
}

pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| byte as char).collect()
}
