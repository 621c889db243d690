//! What functions write, and what is said of them.

use super::*;
use crate::log::LogSource;
use maitred_core::function::LOG_TAIL_BYTES_MAX;

#[test]
fn lines_have_their_invocation_and_their_source() {
    block_on(async {
        let house = house(settings(""));
        for (source, name) in [(LogSource::Stdout, "stdout"), (LogSource::Stderr, "stderr")] {
            let given = invocation(&json!({name: "some\nlines\rof one"}));
            let id = given.id.clone();
            let before = house.pool.log_after(0).last().map_or(0, |line| line.number);
            whole(house.pool.invoke(given).await);
            let lines = house.pool.log_after(before);
            assert_eq!(lines.iter().map(|line| &*line.text).collect::<Vec<_>>(), ["some", "lines\nof one"], "at once");
            assert!(lines.iter().all(|line| line.source == source && line.request_id.as_deref() == Some(&*id)));
        }
    });
}

#[test]
fn the_familiar_lines_are_there_where_they_are_wanted() {
    block_on(async {
        let house = house(Settings { reports: true, memory: Some(128 << 20), ..settings("") });
        let given = invocation(&json!({"stdout": "hello"}));
        let id = given.id.clone();
        whole(house.pool.invoke(given).await);
        let lines: Vec<String> = house.pool.log_after(0).iter().map(|line| line.text.to_string()).collect();
        assert_eq!(
            lines[..3],
            [format!("START RequestId: {id} Version: $LATEST"), "hello".into(), format!("END RequestId: {id}")]
        );
        let report = &lines[3];
        assert!(report.starts_with(&format!("REPORT RequestId: {id}\tDuration: ")), "{report}");
        for part in ["\tBilled Duration: ", "\tMemory Size: 128 MB", "\tMax Memory Used: ", "\tInit Duration: "] {
            assert!(report.contains(part), "{report}");
        }
        house.invoke(json!({})).await;
        let last = house.pool.log_after(0).pop().unwrap();
        assert!(last.text.starts_with("REPORT") && !last.text.contains("Init Duration"), "only the first had to wait for it");
    });
}

#[test]
fn the_end_of_the_log_comes_with_the_result() {
    block_on(async {
        let house = house(settings(""));
        let tail = async |text: String| {
            let given = Invocation { log_tail: true, ..invocation(&json!({ "stdout": text })) };
            whole(house.pool.invoke(given).await).log_tail.unwrap()
        };
        assert_eq!(tail("hello".into()).await, b"hello\n");
        let long = tail("a".repeat(5000) + "\nend").await;
        assert_eq!(long.len(), LOG_TAIL_BYTES_MAX);
        assert!(long.ends_with(b"aaa\nend\n"));
        assert_eq!(house.invoke(json!({"stdout": "hello"})).await.log_tail, None, "where it is wanted");
    });
}

#[test]
fn each_result_has_its_own_lines_and_no_others_however_many_run_at_once() {
    block_on(async {
        let house = house(at_once(3, ""));
        let run = async |number: usize| {
            let text = format!("line of {number}");
            // Whole; or as it is written, which ends after another line.
            let (event, wanted) = match number % 2 {
                0 => (json!({"stdout": text, "stderr": text}), format!("{text}\n{text}\n")),
                _ => (json!({"stderr": text, "chunks": ["a"], "last": "the end"}), format!("the end\n{text}\n")),
            };
            let given = Invocation { log_tail: true, ..invocation(&event) };
            let tail = whole(house.pool.invoke(given).await).log_tail.unwrap();
            let mut lines: Vec<&str> = str::from_utf8(&tail).unwrap().split_inclusive('\n').collect();
            lines.sort_by_key(|line| line.starts_with("line"));
            assert_eq!(lines.concat(), wanted);
        };
        for first in (0..300).step_by(6) {
            tokio::join!(run(first), run(first + 1), run(first + 2), run(first + 3), run(first + 4), run(first + 5));
        }
    });
}

#[test]
fn what_happens_to_a_process_is_said() {
    block_on(async {
        let house = house(Settings { timeout: Duration::from_millis(300), ..at_once(1, "") });
        house.invoke(json!({"exit": 3})).await;
        house.until_logged("Runtime exited with error: exit status 3").await;
        house.invoke(json!({"sleep": 1000})).await;
        house.until_logged("Task timed out after 0.30 seconds").await;
        house.invoke(json!({"stderr": "No module named 'yaml'"})).await;
        house.until_logged("`yaml` is not there").await;
        house.invoke(json!({"error": {"errorMessage": "m"}})).await;
        assert!(
            house.pool.log_after(0).iter().all(|line| (line.source == LogSource::Failure) != line.text.starts_with("No module"))
        );
    });
}

#[test]
fn who_is_killed_for_its_memory_while_it_waits_is_told_of_it() {
    block_on(async {
        let inner = launcher("");
        let launch: Launcher = Box::new(move |api, is_ahead| Ok(Launch { memory: Some(64 << 20), ..inner(api, is_ahead)? }));
        let house = house(Settings { launch, ..at_once(1, "") });
        house.returned(json!({"child": true, "hoard": 80})).await;
        let lines = house.until_logged("Runtime.OutOfMemory: it had ").await;
        assert!(lines[0].ends_with("MiB, and `memory: 64MiB` is the most"), "{lines:?}");
    });
}
