//! What once went wrong, each by itself.

use super::acts::request;
use super::play::Play;
use super::runtime;
use crate::http2::channel::Channel;
use maitred_wire::{H2Code, h2_data, h2_headers, h2_reset, h2_window_update, hpack_field, hpack_status};
use std::rc::Rc;
use std::task::{Context, Waker};

fn play(server: bool) -> Play {
    Play::new(server, &runtime())
}

/// A request that goes on, of one who may send much.
fn upload(play: &mut Play) -> Rc<Channel> {
    play.begin(1);
    play.tell(|out| h2_headers(out, 1, false, |out| request(out, 1)));
    play.used[0].channel.clone()
}

#[test]
fn one_who_is_always_a_little_behind_holds_no_whole_body() {
    let mut play = play(true);
    let channel = upload(&mut play);
    (play.room, play.sides.get_mut(&1).unwrap().room) = (i64::MIN / 2, i64::MIN / 2);
    play.tell(|out| h2_data(out, 1, &[b'x'; 10_000], false));
    for _ in 0..1000 {
        play.tell(|out| h2_data(out, 1, &[b'x'; 5000], false));
        play.connection.consume(&channel, 5000);
        play.flush();
    }
    let memory = channel.inbox.borrow().capacity();
    assert!(memory < 100_000, "{memory} bytes for 10,000");
}

#[test]
fn goaway_for_an_error_takes_back_nothing() {
    let mut play = play(true);
    upload(&mut play);
    play.connection.say_goodbye();
    play.book();
    assert_eq!(play.goodbye, 1);
    play.begin(3);
    play.tell(|out| h2_headers(out, 3, false, |out| request(out, 1)));
    play.tell(|out| h2_window_update(out, 0, 0));
    assert_eq!((play.over, play.goodbye), (Some(H2Code::PROTOCOL_ERROR), 1));
}

#[test]
fn what_comes_for_streams_that_were_reset_long_ago_ends_nothing() {
    let mut play = play(false);
    for at in 0..1000 {
        let channel = play.connection.open(false);
        play.connection.send_head(&channel, true, |out| request(out, 1)).unwrap();
        play.connection.abandon(&channel);
        play.flush();
        assert!(play.connection.state.borrow().streams.is_empty(), "{at}");
    }
    play.tell(|out| h2_data(out, 1, b"late", true));
    play.tell(|out| h2_data(out, 1999, b"late", true));
    assert_eq!(play.over, None);
}

#[test]
fn a_stream_that_was_given_up_waits_in_no_queue() {
    let mut play = play(true);
    play.peer((19, 0, 1));
    play.connection.state.borrow_mut().send_window = 0;
    let channel = upload(&mut play);
    play.connection.send_head(&channel, false, |out| hpack_status(out, 200)).unwrap();
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(play.connection.poll_send(cx, &channel, b"y", true).is_pending());
    assert_eq!(play.connection.state.borrow().waiting.len(), 1);
    play.connection.abandon(&channel);
    assert!(play.connection.state.borrow().waiting.is_empty());
}

#[test]
fn windows_of_a_byte_buy_no_more_of_them() {
    let mut play = play(true);
    let channel = upload(&mut play);
    play.connection.send_head(&channel, false, |out| hpack_status(out, 200)).unwrap();
    let cx = &mut Context::from_waker(Waker::noop());
    for (window, frames) in [(1, 0), (2, 0), (3, 1), (40_000, 2)] {
        channel.send_window.set(window);
        let bytes = vec![b'y'; if window < 10 { 3 } else { 40_000 }];
        assert!(play.connection.poll_send(cx, &channel, &bytes, false).is_ready());
        assert_eq!(play.connection.state.borrow().flood.tally.sent_frames, frames, "{window}");
    }
}

#[test]
fn an_answer_to_each_piece_of_a_frame_is_given_once() {
    let mut play = play(true);
    upload(&mut play);
    play.tell(|out| h2_reset(out, 1, H2Code::CANCEL));
    for _ in 0..3 {
        play.tell(|out| h2_data(out, 1, b"late", false));
    }
    assert_eq!(play.over, None);
    assert_eq!(play.connection.state.borrow().flood.tally.resets, 2, "the peer's, and ours");
}

#[test]
fn heads_that_the_socket_does_not_take_are_bounded() {
    let mut play = play(false);
    let mut count = 0;
    while play.connection.keeps_up() {
        let channel = play.connection.open(false);
        play.connection.send_head(&channel, true, |out| hpack_field(out, b"x-large", &[b'x'; 1000])).unwrap();
        count += 1;
    }
    assert!((1000..1100).contains(&count), "{count}");
    play.flush();
    assert!(play.connection.keeps_up());
}

#[test]
fn memory_for_a_large_head_is_not_kept() {
    let mut play = play(true);
    play.begin(1);
    play.tell(|out| {
        h2_headers(out, 1, true, |out| {
            request(out, 1);
            // 24,000 times `0` in Huffman's code, of five bits each.
            out.extend_from_slice(&[0, 1, b'x', 0xff, 0x99, 0x74]);
            out.resize(out.len() + 15_000, 0);
        });
    });
    assert_eq!(play.over, None);
    let state = &mut *play.connection.state.borrow_mut();
    assert!(state.scratch.capacity() > 20_000);
    state.shrink();
    assert!(state.scratch.capacity() < 10_000);
}
