//! Results that are written piece by piece.

use super::*;
use maitred_core::function::{Failure, PAYLOAD_BYTES_MAX};

const PRELUDE_KIND: &str = "application/vnd.awslambda.http-integration-response";

#[test]
fn pieces_come_as_they_are_written() {
    block_on(async {
        let house = house(settings(""));
        let event = json!({"chunks": ["{\"statusCode\":200}", "\0\0\0\0\0\0\0\0", "data"], "type": PRELUDE_KIND, "wait": 1.5});
        let mut streamed = house.stream(event).await;
        assert_eq!(streamed.content_type.as_deref(), Some(PRELUDE_KIND));
        let started = std::time::Instant::now();
        let mut all = Vec::new();
        while all.len() < 30 {
            let Some(Piece::Data(bytes)) = streamed.pieces.recv().await else { panic!("it ended") };
            all.extend_from_slice(&bytes);
        }
        assert_eq!(all, b"{\"statusCode\":200}\0\0\0\0\0\0\0\0data");
        assert!(started.elapsed() < Duration::from_millis(1400), "before the function was done");
        let (rest, end) = collect(streamed).await;
        assert_eq!((rest.len(), end.unwrap().failure), (0, None));
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
    });
}

#[test]
fn a_stream_that_nobody_wants_as_such_is_gathered() {
    block_on(async {
        let house = house(at_once(1, ""));
        let finished = house.invoke(json!({"chunks": ["a", "b"], "type": PRELUDE_KIND})).await;
        assert_eq!((finished.payload.as_slice(), finished.content_type.as_deref()), (&b"ab"[..], Some(PRELUDE_KIND)));
        let finished = house.invoke(json!({"chunks": [], "megabytes": 7})).await;
        assert_eq!(finished.failure, Some(Failure::TooLarge));
        for end in ["trailers", "quirk"] {
            let finished = house.invoke(json!({"chunks": ["a"], "end": end})).await;
            assert_eq!((&error_of(&finished)["errorType"], finished.failure), (&json!("T"), Some(Failure::Raised)), "{end}");
        }
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
    });
}

#[test]
fn a_result_that_is_whole_stays_whole_where_a_stream_was_wanted() {
    block_on(async {
        let house = house(settings(""));
        let finished = whole(house.pool.invoke(Invocation { streamed: true, ..invocation(&json!({"return": 1})) }).await);
        assert_eq!(finished.payload, b"1");
    });
}

#[test]
fn more_than_six_megabytes_may_be_streamed() {
    block_on(async {
        let house = house(settings(""));
        let (all, end) = collect(house.stream(json!({"chunks": [], "megabytes": 9})).await).await;
        assert_eq!((all.len(), end.unwrap().failure), (9 << 20, None));
        const { assert!(PAYLOAD_BYTES_MAX < 9 << 20) };
    });
}

#[test]
fn an_error_in_the_middle_is_told_by_trailers_or_as_rust_tells_it() {
    block_on(async {
        let house = house(at_once(1, ""));
        for (end, more) in [("trailers", 0), ("quirk", 0), ("trailers", 50_000), ("quirk", 50_000)] {
            let (all, finished) = collect(house.stream(json!({"chunks": ["data"], "end": end, "more": more})).await).await;
            let finished = finished.unwrap();
            assert_eq!((all.as_slice(), finished.failure), (&b"data"[..], Some(Failure::Raised)), "{end}");
            assert_eq!(error_of(&finished)["errorType"], "T");
        }
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
    });
}

#[test]
fn a_stream_that_is_cut_is_truncated() {
    block_on(async {
        let house = house(settings(""));
        let (all, finished) = collect(house.stream(json!({"chunks": ["data"], "end": "cut"})).await).await;
        let finished = finished.unwrap();
        assert_eq!((all.as_slice(), finished.failure), (&b"data"[..], Some(Failure::Raised)));
        assert_eq!(error_of(&finished)["errorType"], "Runtime.TruncatedResponse");
    });
}

#[test]
fn another_mode_is_refused_and_fails_the_invocation() {
    block_on(async {
        let house = house(settings(""));
        let finished = house.invoke(json!({"chunks": ["a"], "mode": "sideways", "print": true})).await;
        assert_eq!(error_of(&finished)["errorType"], "Runtime.InvalidResponseModeHeader");
        let lines = house.until_logged("answered 400").await;
        assert!(lines.iter().any(|line| line.contains("InvalidFunctionResponseMode")), "{lines:?}");
    });
}

#[test]
fn a_slow_reader_holds_the_function_back_and_the_deadline_runs_on() {
    block_on(async {
        let house = house(Settings { timeout: Duration::from_secs(1), ..at_once(1, "") });
        let mut streamed = house.stream(json!({"chunks": ["a"], "megabytes": 64})).await;
        house.until_logged("Task timed out after 1.00 seconds").await;
        let (mut all, mut ended_well) = (0, false);
        while let Some(piece) = streamed.pieces.recv().await {
            match piece {
                Piece::Data(bytes) => all += bytes.len(),
                Piece::End(finished) => ended_well = finished.failure.is_none(),
            }
        }
        assert!(all < 8 << 20, "{all} bytes were kept for nobody");
        assert!(!ended_well);
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1), "and the process was replaced");
    });
}

#[test]
fn a_stream_whose_reader_has_gone_ends_for_nobody() {
    block_on(async {
        let house = house(at_once(1, ""));
        drop(house.stream(json!({"chunks": ["a"], "megabytes": 16, "print": true})).await);
        house.until_logged("answered 202").await;
        assert_eq!(house.returned(json!({"return": 1})).await, json!(1));
        assert_eq!(house.pool.figures().starts.load(std::sync::atomic::Ordering::Relaxed), 1, "by the same process");
    });
}
