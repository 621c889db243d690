use super::*;
use crate::websocket::outbox::UNSENT_BYTES_MAX;
use maitred_core::Clock;
use maitred_core::metrics::Metrics;
use maitred_wire::{close_frame, websocket_frame};
use std::sync::Arc;

const MASK: [u8; 4] = [9, 8, 7, 6];

fn open(takes_bytes: bool) -> Endpoint {
    open_in(&Room::default(), takes_bytes)
}

fn open_in(room: &Room, takes_bytes: bool) -> Endpoint {
    let worker = Worker::new(0, Clock::default(), Arc::new(Metrics::new(1)));
    let stay = Stay { idle: Duration::from_secs(600), lifetime: Duration::from_secs(7200) };
    Endpoint(Connection::new("id".into(), &worker, &stay, takes_bytes, room))
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    websocket_frame(opcode, payload, Some(MASK), &mut out);
    out
}

/// How many bytes are taken.
fn write(endpoint: &Endpoint, bytes: &[u8]) -> Option<usize> {
    match endpoint.poll_write(&mut cx(), bytes) {
        Poll::Ready(Ok(count)) => Some(count),
        Poll::Ready(Err(fault)) => panic!("{fault:?}"),
        Poll::Pending => None,
    }
}

/// What the client is sent, and whether that is all for ever.
fn sent(endpoint: &Endpoint) -> (Vec<Incoming>, bool) {
    let mut reader = MessageReader::new(Side::Server, MessageLimits { frame: MESSAGE_BYTES_MAX, message: MESSAGE_BYTES_MAX });
    let mut all = Vec::new();
    loop {
        match endpoint.poll_ready(&mut cx()) {
            Poll::Pending => return (all, false),
            Poll::Ready(Ok(Progress::End)) => return (all, true),
            Poll::Ready(Ok(Progress::Data)) => {
                let data = endpoint.data().to_vec();
                // A few bytes at a time, as a slow client takes them.
                let piece = &data[..data.len().min(1000)];
                endpoint.consume(piece.len());
                let mut rest = piece;
                while !rest.is_empty() {
                    let (taken, result) = reader.feed(rest);
                    rest = &rest[taken..];
                    all.extend(result.expect("a server breaks no rule"));
                }
            }
            Poll::Ready(Err(fault)) => panic!("{fault:?}"),
        }
    }
}

fn next(endpoint: &Endpoint) -> Poll<Option<Said>> {
    endpoint.0.poll_message(&mut cx()).map(|heard| heard.map(|heard| heard.said))
}

fn text(text: &str) -> Said {
    Said::Text(text.to_owned())
}

#[test]
fn messages_go_both_ways() {
    let endpoint = open(true);
    assert!(next(&endpoint).is_pending());
    let bytes = [frame(Opcode::Text, b"hello"), frame(Opcode::Ping, b"?"), frame(Opcode::Binary, b"\xff")].concat();
    assert_eq!(write(&endpoint, &bytes[..3]), Some(3));
    assert!(next(&endpoint).is_pending());
    assert_eq!(write(&endpoint, &bytes[3..]), Some(bytes.len() - 3));
    assert_eq!(next(&endpoint), Poll::Ready(Some(text("hello"))));
    assert_eq!(next(&endpoint), Poll::Ready(Some(Said::Bytes(vec![0xff]))));
    assert_eq!(endpoint.0.say(&text("and you")), Ok(()));
    assert_eq!(endpoint.0.say(&Said::Bytes(vec![1])), Ok(()));
    let wanted = vec![Incoming::Pong, Incoming::Text("and you".into()), Incoming::Binary(vec![1])];
    assert_eq!(sent(&endpoint), (wanted, false));
    assert_eq!(endpoint.0.outbox.borrow().capacity(), 0, "a quiet connection holds no buffer");
}

#[test]
fn every_way_to_end() {
    let mut goodbye = Vec::new();
    close_frame(4001, "bye", Some(MASK), &mut goodbye);
    let mut unmasked = Vec::new();
    websocket_frame(Opcode::Text, b"x", None, &mut unmasked);
    let long = frame(Opcode::Text, &[b'x'; FRAME_BYTES_MAX + 1]);
    for (why, bytes, told, code) in [
        ("goodbye", goodbye, Some(4001), 4001),
        ("goodbye without a word", frame(Opcode::Close, b""), None, 1005),
        ("no mask", unmasked, Some(1002), 1002),
        ("no text", frame(Opcode::Text, b"\xff"), Some(1007), 1007),
        ("a frame too long", long, Some(1009), 1009),
        ("bytes where none are taken", frame(Opcode::Binary, b"x"), Some(1003), 1003),
    ] {
        let endpoint = open(false);
        assert_eq!(write(&endpoint, &frame(Opcode::Text, b"before")), Some(12));
        let behind = [&bytes[..], b"whatever"].concat();
        assert_eq!(write(&endpoint, &behind), Some(behind.len()), "{why}: what comes behind the end is nobody's");
        let (frames, is_over) = sent(&endpoint);
        assert!(is_over, "{why}");
        assert!(matches!(&frames[..], [Incoming::Close(code, _)] if *code == told), "{why}: {frames:?}");
        assert_eq!(next(&endpoint), Poll::Ready(Some(text("before"))), "{why}: what was said before the end is heard");
        assert_eq!(next(&endpoint), Poll::Ready(None), "{why}");
        assert_eq!(endpoint.0.end().code, code, "{why}");
        assert_eq!(endpoint.0.say(&text("late")), Err(Unsaid::Gone), "{why}");
    }
    let endpoint = open(false);
    assert!(endpoint.poll_shutdown(&mut cx()).is_ready());
    assert_eq!((next(&endpoint), endpoint.0.end().code), (Poll::Ready(None), ABNORMAL));
    let endpoint = open(false);
    endpoint.0.dismiss();
    assert_eq!(
        (sent(&endpoint), endpoint.0.end().code),
        ((vec![Incoming::Close(Some(1000), "Connection deleted".into())], true), 1000)
    );
    let connection = open(false).0.clone();
    assert_eq!(connection.end().code, ABNORMAL, "its tunnel is gone");
}

#[test]
fn nothing_grows_without_a_bound() {
    // Who sends more than functions take is not read from.
    let endpoint = open(false);
    let one = frame(Opcode::Text, b"x");
    let many = one.repeat(2 * WAITING_MAX);
    let taken = write(&endpoint, &many);
    assert_eq!(taken, Some(WAITING_MAX * one.len()));
    assert_eq!(write(&endpoint, &one), None);
    assert_eq!(next(&endpoint), Poll::Ready(Some(text("x"))));
    assert_eq!(write(&endpoint, &many), Some(one.len()));
    // The same by bytes.
    let endpoint = open(false);
    let large = frame(Opcode::Text, &[b'x'; FRAME_BYTES_MAX]);
    while write(&endpoint, &large) == Some(large.len()) {}
    assert!(endpoint.0.waiting_bytes.get() <= WAITING_BYTES_MAX + FRAME_BYTES_MAX);
    // A client that takes nothing.
    let said = Said::Text("x".repeat(MESSAGE_BYTES_MAX));
    let endpoint = open(false);
    let fits = (0..100).take_while(|_| endpoint.0.say(&said).is_ok()).count();
    assert_eq!((fits, endpoint.0.say(&said)), (UNSENT_BYTES_MAX / MESSAGE_BYTES_MAX - 1, Err(Unsaid::Full)));
    assert!(endpoint.0.is_open());
    for _ in 0..100_000 {
        assert!(write(&endpoint, &frame(Opcode::Ping, &[7; 125])).is_some());
    }
    assert!(endpoint.0.outbox.borrow().unsent().len() <= UNSENT_BYTES_MAX + 200, "pongs are dropped where they do not fit");
    // One that takes a little of much.
    endpoint.consume(MESSAGE_BYTES_MAX + 20);
    assert_eq!(endpoint.0.say(&said), Ok(()));
}

/// The first frame of a message that goes on, and on.
fn beginning(length: usize) -> Vec<u8> {
    let mut frame = frame(Opcode::Binary, &vec![7; length]);
    frame[0] &= !0x80;
    frame
}

#[test]
fn all_clients_together_hold_no_more_than_there_is_room_for() {
    const MOST: u64 = 1024 * 1024;
    let room = Room::default().with(MOST);
    // Each begins a message and never ends it.
    let half = beginning(FRAME_BYTES_MAX);
    let all: Vec<Endpoint> = (0..200).map(|_| open_in(&room, true)).collect();
    for endpoint in &all {
        for piece in half.chunks(1000) {
            assert_eq!(write(endpoint, piece), Some(piece.len()));
            assert!(room.taken() <= MOST);
        }
    }
    let (stayed, left): (Vec<&Endpoint>, Vec<&Endpoint>) = all.iter().partition(|endpoint| endpoint.0.is_open());
    assert!((MOST / (2 * FRAME_BYTES_MAX as u64)..=MOST / FRAME_BYTES_MAX as u64).contains(&(stayed.len() as u64)));
    for endpoint in &left {
        assert_eq!(endpoint.0.end().code, TRY_AGAIN_LATER);
        assert!(matches!(&sent(endpoint).0[..], [Incoming::Close(Some(TRY_AGAIN_LATER), _)]));
        assert_eq!(endpoint.0.worker.shard().faults.of(Kind::BufferFull).get(), 1);
        assert_eq!(endpoint.0.reader.borrow().held(), 0, "who was sent away holds nothing");
    }
    // Others are told nothing either, and what is for them is refused, until somebody goes.
    let (large, message) = (Said::Bytes(vec![0; MESSAGE_BYTES_MAX]), frame(Opcode::Binary, &[0; FRAME_BYTES_MAX]));
    let told = open_in(&room, true);
    assert_eq!((told.0.say(&large), told.0.is_open()), (Err(Unsaid::NoRoom), true));
    assert!(write(&told, &frame(Opcode::Ping, b"?")).is_some());
    assert_eq!(sent(&told), (vec![Incoming::Pong], false), "who pings is answered");
    let says = open_in(&room, true);
    assert_eq!((write(&says, &message), says.0.end().code), (Some(message.len()), TRY_AGAIN_LATER));
    drop((says, all));
    assert_eq!(room.taken(), 0);
    assert_eq!(told.0.say(&large), Ok(()));
    assert!(room.taken() > MESSAGE_BYTES_MAX as u64 / 2);
    sent(&told);
    assert_eq!(room.taken(), 0, "what is sent takes no room");
    // What a function has under way is counted until it is done.
    assert_eq!(write(&told, &message), Some(message.len()));
    let heard = told.0.poll_message(&mut cx());
    assert!(heard.is_ready() && room.taken() >= FRAME_BYTES_MAX as u64);
    drop(heard);
    assert_eq!(room.taken(), 0);
}

#[test]
fn empty_messages_are_counted_too() {
    let room = Room::default().with(1000);
    let endpoint = open_in(&room, false);
    assert!(write(&endpoint, &frame(Opcode::Text, b"").repeat(WAITING_MAX)).is_some());
    assert_eq!(endpoint.0.end().code, TRY_AGAIN_LATER);
}
