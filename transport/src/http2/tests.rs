//! Properties of a connection, as server and as client. Its peer and its streams are played by chance, and all that it sends is held
//! against RFC 9113 by books of their own. No socket takes part: what is to be sent is looked at where it waits.

mod acts;
mod cases;
mod play;

use play::{Play, Side, Step, Used};
use proptest::prelude::*;
use tokio::runtime::Runtime;

fn steps(kinds: std::ops::Range<u8>) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((kinds, 0usize..6, 1u32..40_000), 1..120)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap()
}

#[test]
fn whatever_peer_and_streams_do_the_rules_are_kept() {
    let runtime = runtime();
    proptest!(ProptestConfig::with_cases(600), |(server in any::<bool>(), steps in steps(0..47))| {
        let mut play = Play::new(server, &runtime);
        for step in steps {
            if play.over.is_none() {
                play.peer(step);
            }
            play.user(step);
            play.check();
        }
        play.finish();
    });
}

#[test]
fn how_bytes_are_cut_makes_no_difference() {
    let runtime = runtime();
    proptest!(ProptestConfig::with_cases(200), |(server in any::<bool>(), steps in steps(0..26), cut in 1usize..5000)| {
        let [mut whole, mut cuts] = [Play::new(server, &runtime), Play::new(server, &runtime)];
        for play in [&mut whole, &mut cuts] {
            (0..4).for_each(|_| play.user((26, 9, 1)));
        }
        for step in steps {
            // What the connection's window has been given back by then is a matter of pieces: it is not needed.
            if whole.over.is_none() && whole.sent.len() < 50_000 {
                whole.peer(step);
            }
        }
        let settings = cuts.sent.len();
        // It keeps no books of what the peer sends.
        cuts.room = i64::MIN / 2;
        for piece in whole.sent[settings..].chunks(cut) {
            cuts.input.extend_from_slice(piece);
            cuts.sides.extend(whole.sides.keys().map(|stream| (*stream, Side { window: 0, ..Side::default() })));
            cuts.read();
        }
        // Which of two rules a frame breaks first may depend on its pieces.
        prop_assert_eq!(whole.over.is_some(), cuts.over.is_some());
        if whole.over.is_none() {
            let shown = |play: &Play| play.used.iter().map(|Used { channel, .. }| {
                let whole = channel.broken().is_none().then(|| channel.data().len());
                (channel.id, channel.broken().map(|broken| broken.by), channel.receiving.get(), whole)
            }).collect::<Vec<_>>();
            prop_assert_eq!(shown(&whole), shown(&cuts));
        }
        whole.finish();
        cuts.finish();
    });
}
