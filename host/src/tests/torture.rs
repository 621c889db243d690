//! Everything that can go wrong, at random and all at once: each caller gets exactly one right answer, and nothing is left behind.

use super::*;
use maitred_core::function::{Failure, PAYLOAD_BYTES_MAX};
use std::path::Path;

const SHORT: usize = 200;
const LONG: usize = 1000;
const AT_ONCE: usize = 24;

/// What is done, and what must come of it.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Well,
    Streamed,
    Raises,
    Exits,
    Dies,
    Hangs,
    Garbage,
    Oversized,
    Half,
    Cut,
    Leaves,
}

const KINDS: [Kind; 11] = [
    Kind::Well,
    Kind::Streamed,
    Kind::Raises,
    Kind::Exits,
    Kind::Dies,
    Kind::Hangs,
    Kind::Garbage,
    Kind::Oversized,
    Kind::Half,
    Kind::Cut,
    Kind::Leaves,
];

/// As random as it must be, and the same each time.
fn kind_of(number: usize) -> Kind {
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    // Half of them go well.
    if mixed & 1 == 0 { Kind::Well } else { KINDS[(mixed >> 1) as usize % KINDS.len()] }
}

async fn one(house: &House, number: usize) {
    let kind = kind_of(number);
    let fails = async |event: Value, failure: Failure, name: &str| {
        let finished = house.invoke(event).await;
        assert_eq!(finished.failure, Some(failure), "{number} {kind:?} {}", error_of(&finished));
        assert_eq!(error_of(&finished)["errorType"], name, "{number} {kind:?}");
    };
    match kind {
        Kind::Well => assert_eq!(house.returned(json!({ "return": number })).await, json!(number)),
        Kind::Streamed => {
            let text = number.to_string();
            let (all, end) = collect(house.stream(json!({"chunks": [text, "x"], "megabytes": 1})).await).await;
            assert!(all.starts_with((text + "x").as_bytes()) && end.unwrap().failure.is_none(), "{number}");
        }
        Kind::Raises => {
            let finished = house.invoke(json!({"error": {"errorMessage": number}})).await;
            assert_eq!((&error_of(&finished)["errorMessage"], finished.failure), (&json!(number), Some(Failure::Raised)));
        }
        Kind::Exits => fails(json!({"exit": number % 4}), Failure::Exited, "Runtime.ExitError").await,
        Kind::Dies => fails(json!({"child": true, "signal": 11}), Failure::Exited, "Runtime.ExitError").await,
        Kind::Hangs => fails(json!({"child": true, "sleep": 1000}), Failure::TimedOut, "Sandbox.Timedout").await,
        Kind::Garbage => fails(json!({"garbage": "POST nonsense\r\n\r\n"}), Failure::Exited, "Runtime.ExitError").await,
        Kind::Oversized => {
            let event = json!({"bytes": PAYLOAD_BYTES_MAX + 1, "dies": number.is_multiple_of(2)});
            fails(event, Failure::TooLarge, "Function.ResponseSizeTooLarge").await;
        }
        Kind::Half => fails(json!({"half": true}), Failure::Raised, "Runtime.TruncatedResponse").await,
        Kind::Cut => {
            let (all, end) = collect(house.stream(json!({"chunks": ["a"], "end": "cut"})).await).await;
            assert_eq!((all.as_slice(), end.unwrap().failure), (&b"a"[..], Some(Failure::Raised)));
        }
        Kind::Leaves => {
            let given = invocation(&json!({"return": number, "sleep": 0.05}));
            let _ = tokio::time::timeout(Duration::from_millis(number as u64 % 60), house.pool.invoke(given)).await;
        }
    }
}

/// What each of them leads to.
fn descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    entries.map(|entry| format!("{:?}", std::fs::read_link(entry.path()).unwrap_or_default())).collect()
}

/// Processes whose environment says that they are this test's.
fn left(mark: &str) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_ours = |pid: &u32| {
        let environment = std::fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    pids.filter(is_ours).collect()
}

#[test]
fn each_caller_gets_one_right_answer_whatever_happens_and_nothing_is_left() {
    let invocations = if std::env::var_os("MAITRED_LONG").is_some() { LONG } else { SHORT };
    // A process of its own, so that no other test's descriptors are counted.
    if std::env::var_os("MAITRED_TORTURE").is_none() {
        let own = std::env::current_exe().unwrap();
        let name = "tests::torture::each_caller_gets_one_right_answer_whatever_happens_and_nothing_is_left";
        let output = Command::new(own).args(["--exact", name, "--nocapture"]).env("MAITRED_TORTURE", "1").output().unwrap();
        assert!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What the first one opens for the whole process stays open.
    drop(runtime());
    let before = descriptors();
    let runtime = runtime();
    let queue = FunctionQueue { length: invocations as u32, timeout: Duration::from_secs(600) };
    let house = Arc::new(house(Settings { timeout: Duration::from_secs(2), queue, ..at_once(6, "") }));
    let mark = format!("{}={}-", crate::process::MARK, std::process::id());
    runtime.block_on(async {
        let room = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
        let local = tokio::task::LocalSet::new();
        let tasks: Vec<_> = (0..invocations)
            .map(|number| {
                let (house, room) = (house.clone(), room.clone());
                local.spawn_local(async move {
                    let _place = room.acquire().await.unwrap();
                    tokio::time::timeout(10 * PATIENCE, one(&house, number)).await.expect("an answer that never comes");
                })
            })
            .collect();
        local
            .run_until(async {
                for task in tasks {
                    task.await.unwrap();
                }
            })
            .await;
        house
            .until("all have asked again", |view| view.waiting == 0 && view.instances.iter().all(|one| one.state == "idle"))
            .await;
    });
    assert!(!left(&mark).is_empty(), "the mark is found at all");
    drop(runtime);
    drop(house);
    assert_eq!(left(&mark), Vec::<u32>::new());
    assert_eq!(descriptors(), before);
}
