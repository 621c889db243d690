//! Extensions: those within a function's process, and those of layers beside it.

use super::hosting::{Folder, folder, function, host, returned};
use super::*;
use maitred_model::{Function, FunctionPlace, Span, Spanned};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

const EXTENSION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/extension.py");

/// A process that is function and extension in one.
fn adapter(words: &[&str]) -> Settings {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let like = launcher("");
    let launch: Launcher = Box::new(move |api, is_ahead| {
        let mut launch = like(api, is_ahead)?;
        launch.command = [python(), "-S", "-E", EXTENSION, "adapter"].map(OsString::from).to_vec();
        launch.command.extend(words.iter().cloned());
        Ok(launch)
    });
    Settings { launch, ..at_once(1, "") }
}

#[test]
fn an_adapter_that_wants_no_events_serves_its_function() {
    block_on(async {
        let house = house(adapter(&[]));
        for number in 0..3 {
            assert_eq!(house.returned(json!({ "dish": number })).await, json!({ "dish": number }));
        }
        let told = "[('functionName', 'test'), ('functionVersion', '$LATEST'), ('handler', 'test.handler')]";
        house.until_logged(&format!("extension.py registered 200 {told}")).await;
        house.until_logged("EXTENSION Name: extension.py State: Registered Events: []").await;
    });
}

#[test]
fn the_next_event_comes_when_the_extension_is_done_with_the_last() {
    let hold = std::env::temp_dir().join(format!("maitred-hold-{}", uuid::Uuid::now_v7()));
    block_on(async {
        let house = house(adapter(&["INVOKE", &format!("hold={}", hold.display())]));
        let first = invocation(&json!(1));
        let id = first.id.clone();
        assert_eq!(whole(house.pool.invoke(first).await).payload, b"1");
        house.until_logged(&format!("extension.py heard INVOKE {id} True")).await;
        let mut second = std::pin::pin!(house.returned(json!(2)));
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut second).await.is_err(), "it is at work still");
        std::fs::write(&hold, "").unwrap();
        assert_eq!(second.await, json!(2));
    });
    std::fs::remove_file(&hold).unwrap();
}

#[test]
fn who_wants_to_know_of_the_end_is_told_and_waited_for() {
    block_on(async {
        let house = house(adapter(&["SHUTDOWN"]));
        house.returned(json!(1)).await;
        house.pool.reload();
        let lines = house.until_logged("extension.py flushed").await;
        assert!(lines.iter().any(|line| line == "extension.py heard SHUTDOWN spindown True"), "{lines:#?}");
        house.until("it has ended", |view| view.instances.is_empty()).await;
    });
}

#[test]
fn an_extension_that_fails_ends_the_process_and_its_caller_is_told() {
    block_on(async {
        let house = house(adapter(&["init-error"]));
        let finished = house.invoke(json!(1)).await;
        assert_eq!(error_of(&finished)["errorType"], "Extension.InitError", "{}", error_of(&finished));
        assert!(error_of(&finished)["errorMessage"].as_str().unwrap().contains("`extension.py` failed: Extension.Plums"));
        house.until_logged("failed: Extension.Plums there are none").await;
    });
    block_on(async {
        let house = house(adapter(&["INVOKE", "exit-error", "hold=/nowhere"]));
        // Its answer may come before the end.
        house.invoke(json!(1)).await;
        house.until_logged("failed: Extension.Plums there are none").await;
        house.until("it has ended", |view| view.instances.is_empty()).await;
    });
}

#[test]
fn whoever_is_no_extension_is_refused() {
    let step = |method: &str, path: &str, fields: &[&str], body: &str| json!({ "method": method, "path": format!("/2020-01-01/extension/{path}"), "fields": fields, "body": body });
    let (name, id) = ("Lambda-Extension-Name: one", "Lambda-Extension-Identifier: 0192f0c1-5b1a-7cc3-9d65-0f3c2b7a9e11");
    let long = "x".repeat(300 * 1024);
    let mut rows = vec![
        (step("POST", "register", &[], "{}"), 403, "Extension.InvalidExtensionName"),
        (step("POST", "register", &[name], "no JSON"), 403, "InvalidRequestFormat"),
        (step("POST", "register", &[name], r#"{"events":["SLEEP"]}"#), 403, "Extension.InvalidEventType"),
        (step("POST", "register", &[name], &long), 413, "RequestEntityTooLarge"),
        (step("GET", "register", &[name], ""), 405, "MethodNotAllowed"),
        (step("POST", "register", &[name], "{}"), 200, "functionName"),
        (step("POST", "register", &[name], "{}"), 403, "Extension.InvalidExtensionState"),
        (step("GET", "event/next", &[], ""), 403, "Extension.MissingExtensionIdentifier"),
        (step("GET", "event/next", &["Lambda-Extension-Identifier: me"], ""), 403, "Extension.InvalidExtensionIdentifier"),
        (step("GET", "event/next", &[id], ""), 403, "Extension.UnknownExtensionIdentifier"),
        (step("POST", "exit/error", &[id], ""), 403, "Extension.UnknownExtensionIdentifier"),
        (step("POST", "init/error", &[], ""), 403, "Extension.MissingExtensionIdentifier"),
        (step("GET", "event", &[id], ""), 404, "NotFound"),
        (json!({ "method": "PUT", "path": "/2020-08-15/logs" }), 202, "Logs.NotSupported"),
        (json!({ "method": "PUT", "path": "/2022-07-01/telemetry" }), 202, "Telemetry.NotSupported"),
    ];
    for number in 2..=10 {
        let name = format!("Lambda-Extension-Name: {number}");
        rows.push((step("POST", "register", &[&name, "Lambda-Extension-Accept-Feature: accountId"], "{}"), 200, "000000000000"));
    }
    rows.push((step("POST", "register", &["Lambda-Extension-Name: more"], "{}"), 403, "Extension.TooManyExtensions"));
    block_on(async {
        let house = house(at_once(1, ""));
        let calls: Vec<&Value> = rows.iter().map(|(step, _, _)| step).collect();
        let seen = house.returned(json!({ "calls": calls })).await;
        let seen = seen.as_array().unwrap();
        assert_eq!(seen.len(), rows.len());
        for (seen, (step, status, words)) in seen.iter().zip(&rows) {
            assert!(seen[0] == *status && seen[1].as_str().unwrap().contains(words), "{} {seen}", step["path"]);
        }
    });
}

/// A function with a layer that has this extension in it.
fn layered(folder: &Folder, words: &str) -> Function {
    let place = folder.0.join("layer/extensions/outer");
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, include_str!("extension.py")).unwrap();
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(folder.0.join("layer/extensions/README"), "not executable").unwrap();
    std::fs::write(folder.0.join("layer/outer.words"), words).unwrap();
    let mut function = function(folder);
    if let FunctionPlace::Hosted(hosted) = &mut function.place {
        hosted.layers = vec![Spanned::new(folder.0.join("layer"), Span::none())];
        hosted.concurrency = NonZeroU32::new(1).unwrap();
    }
    function
}

async fn until_logged(pool: &Pool, words: &str) -> Vec<String> {
    let started = Instant::now();
    loop {
        let lines: Vec<String> = pool.log_after(0).iter().map(|line| line.text.to_string()).collect();
        if lines.iter().any(|line| line.contains(words)) {
            return lines;
        }
        assert!(started.elapsed() < PATIENCE, "never logged {words}: {lines:#?}");
        tokio::task::yield_now().await;
    }
}

#[test]
fn those_of_layers_are_started_before_the_function_and_told_what_it_is_told() {
    let folder = folder();
    let host = host(&folder);
    let pool = host.pool("layered", &layered(&folder, "INVOKE SHUTDOWN")).unwrap();
    block_on(async {
        let pid = returned(&pool, json!({ "pid": true })).await.as_u64().unwrap();
        let lines = until_logged(&pool, "outer heard INVOKE").await;
        assert!(lines[0].contains("outer State: Registered Events: [INVOKE, SHUTDOWN]"), "{lines:#?}");
        assert_eq!(pool.view().await.instances[0].pid, pid as u32, "the function is the process itself");
        pool.reload();
        let lines = until_logged(&pool, "outer flushed").await;
        assert!(lines.iter().any(|line| line.contains("outer heard SHUTDOWN spindown")), "{lines:#?}");
        assert_eq!(returned(&pool, json!({ "return": 1 })).await, json!(1));
    });
}

/// As Lambda Web Adapter comes: the function knows nothing of events, and the extension of its layer serves the Runtime API for it.
#[test]
fn one_of_a_layer_may_serve_the_runtime_api_for_its_function() {
    let folder = folder();
    let function = layered(&folder, "adapter");
    std::fs::write(folder.0.join("code/bootstrap"), "#!/bin/sh\necho serving\nexec sleep 1000\n").unwrap();
    let host = host(&folder);
    let pool = host.pool("adapted", &function).unwrap();
    block_on(async {
        assert_eq!(returned(&pool, json!({ "dish": "soup" })).await, json!({ "dish": "soup" }));
        until_logged(&pool, "serving").await;
        let pid = pool.view().await.instances[0].pid;
        pool.reload();
        assert_eq!(returned(&pool, json!(2)).await, json!(2));
        let started = Instant::now();
        while is_running(pid) {
            assert!(started.elapsed() < PATIENCE, "it has not ended");
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn at_a_deadline_the_function_stops_at_once_and_its_extensions_may_finish() {
    let folder = folder();
    let host = host(&folder);
    let mut function = layered(&folder, "INVOKE SHUTDOWN slow");
    function.timeout = Duration::from_millis(1500);
    let pool = host.pool("late", &function).unwrap();
    block_on(async {
        let finished = whole(pool.invoke(invocation(&json!({ "sleep": 1.7, "print": true }))).await);
        assert_eq!(error_of(&finished)["errorType"], "Sandbox.Timedout");
        let lines = until_logged(&pool, "outer flushed").await;
        assert!(!lines.iter().any(|line| line.starts_with("answered")), "it went on: {lines:#?}");
        assert!(lines.iter().any(|line| line.contains("outer heard SHUTDOWN timeout")), "{lines:#?}");
        assert_eq!(returned(&pool, json!({ "return": 1 })).await, json!(1), "by another process");
    });
}

#[test]
fn one_that_never_comes_is_named() {
    let folder = folder();
    let host = host(&folder);
    let mut function = layered(&folder, "silent");
    function.timeout = Duration::from_millis(500);
    if let FunctionPlace::Hosted(hosted) = &mut function.place {
        hosted.init_timeout = Duration::from_millis(500);
    }
    let pool = host.pool("silent", &function).unwrap();
    block_on(async {
        let finished = whole(pool.invoke(invocation(&json!({}))).await);
        assert_eq!(error_of(&finished)["errorType"], "Sandbox.Timedout", "{}", error_of(&finished));
        until_logged(&pool, "These extensions had not registered or not asked for an event: outer").await;
    });
}

#[test]
fn more_than_aws_allows_are_refused_before_anything_runs() {
    let folder = folder();
    let host = host(&folder);
    let function = layered(&folder, "INVOKE");
    for number in 0..10 {
        let place = folder.0.join(format!("layer/extensions/{number}"));
        std::fs::write(&place, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let refused = host.pool("many", &function).unwrap_err();
    let FunctionPlace::Hosted(hosted) = &function.place else { panic!("it is hosted") };
    assert_eq!(crate::code::check(hosted).unwrap_err().message, refused.message);
    assert_eq!(refused.message, "its layers have 11 extensions; a function may have 10");
}
