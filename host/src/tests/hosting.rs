//! From a function of a configuration to an answer.

use super::*;
use maitred_model::{
    EventForm, Function, FunctionPlace, FunctionRuntime, Hosted, InvocationType, ResponseMode, Secret, Span, Spanned,
};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder that goes with the test.
pub(super) struct Folder(pub(super) PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn folder() -> Folder {
    let folder = std::env::temp_dir().join(format!("maitred-hosting-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir_all(folder.join("code")).unwrap();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
    write(&folder.join("code"), "");
    Folder(folder)
}

fn write(code: &Path, more: &str) {
    let path = code.join("bootstrap");
    std::fs::write(&path, format!("#!/usr/bin/env python3\n{}{more}", include_str!("function.py"))).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

pub(super) fn function(folder: &Folder) -> Function {
    let hosted = Hosted {
        runtime: FunctionRuntime::Provided,
        code: Spanned::new(folder.0.join("code"), Span::none()),
        handler: None,
        init_timeout: Duration::from_secs(30),
        concurrency: NonZeroU32::new(2).unwrap(),
        min_instances: 0,
        idle: Duration::from_secs(60),
        queue: FunctionQueue { length: 10, timeout: Duration::from_secs(30) },
        environment: vec![("GREETING".into(), Secret::new("hello"))],
        memory: None,
        user: None,
        layers: Vec::new(),
        reports: false,
    };
    Function {
        place: FunctionPlace::Hosted(Box::new(hosted)),
        event: EventForm::V2,
        timeout: Duration::from_secs(30),
        response: ResponseMode::Buffered,
        invocation: InvocationType::RequestResponse,
        binary_media_types: Vec::new(),
        multi_value_headers: false,
    }
}

pub(super) fn host(folder: &Folder) -> Host {
    Host::new(HostOptions { folder: folder.0.join("copies"), key: None, region: "eu-west-1".into(), hidden: Vec::new() })
}

pub(super) async fn returned(pool: &Pool, event: Value) -> Value {
    let finished = whole(pool.invoke(invocation(&event)).await);
    let log: Vec<String> = pool.log_after(0).iter().map(|line| line.text.to_string()).collect();
    assert_eq!(finished.failure, None, "{} {log:#?}", error_of(&finished));
    error_of(&finished)
}

#[test]
fn a_bootstrap_answers_and_has_its_environment_and_nothing_of_the_gateways() {
    let folder = folder();
    let host = host(&folder);
    let pool = host.pool("hello", &function(&folder)).unwrap();
    block_on(async {
        assert_eq!(returned(&pool, json!({"return": "hi"})).await, "hi");
        let environment = returned(&pool, json!({"environment": true})).await;
        assert_eq!((&environment["GREETING"], &environment["AWS_REGION"]), (&json!("hello"), &json!("eu-west-1")));
        assert_eq!(environment["AWS_LAMBDA_FUNCTION_NAME"], "hello");
        assert_eq!(environment["CARGO_MANIFEST_DIR"], Value::Null, "as this test has it");
    });
    assert_eq!(pool.code().hash.len(), 64);
}

#[test]
fn numbers_of_lines_go_on_where_a_function_has_another_pool() {
    let folder = folder();
    let host = host(&folder);
    let old = host.pool("hello", &function(&folder)).unwrap();
    write(&folder.0.join("code"), "# other code\n");
    let new = host.pool("hello", &function(&folder)).unwrap();
    let other = host.pool("other", &function(&folder)).unwrap();
    assert!(!Arc::ptr_eq(&old, &new));
    block_on(async {
        returned(&old, json!({"stdout": "one\ntwo"})).await;
        let last = old.log_after(0).last().unwrap().number;
        drop(old);
        returned(&new, json!({"stdout": "three"})).await;
        let lines: Vec<String> = new.log_after(last).iter().map(|line| line.text.to_string()).collect();
        assert_eq!((lines, new.log_after(0).len()), (vec!["three".to_owned()], 3));
        assert!(other.log_after(0).is_empty());
    });
}

/// As AWS's guide to custom runtimes has it: each call is a connection of its own.
const SHELL: &str = r#"#!/bin/sh
set -eu
API="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
HEADERS="$(mktemp)"
trap 'rm -f "$HEADERS"' EXIT
while :; do
  EVENT=$(curl -sS -LD "$HEADERS" "$API/next")
  ID=$(grep -Fi Lambda-Runtime-Aws-Request-Id "$HEADERS" | tr -d '[:space:]' | cut -d: -f2)
  printf '%s' "$EVENT" | curl -sS "$API/$ID/response" --data-binary @-
done
"#;

#[test]
fn a_shell_with_curl_is_a_runtime() {
    let folder = folder();
    let path = folder.0.join("code/bootstrap");
    std::fs::write(&path, SHELL).unwrap();
    let host = host(&folder);
    let pool = host.pool("echo", &function(&folder)).unwrap();
    block_on(async {
        // curl asks before it sends the long one.
        for length in [1, 2_000_000] {
            let event = json!({"a": "x".repeat(length)});
            assert_eq!(returned(&pool, event.clone()).await, event);
        }
        // Which curl shows.
        while pool.log_after(0).len() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(pool.log_after(0).iter().all(|line| &*line.text == "{\"status\":\"OK\"}"));
    });
}

#[test]
fn the_same_function_is_the_same_pool_and_another_is_another() {
    let folder = folder();
    let host = host(&folder);
    let pool = host.pool("hello", &function(&folder)).unwrap();
    assert!(Arc::ptr_eq(&pool, &host.pool("hello", &function(&folder)).unwrap()));
    let changed = |change: &dyn Fn(&mut Hosted)| {
        let mut function = function(&folder);
        if let FunctionPlace::Hosted(hosted) = &mut function.place {
            change(hosted);
        }
        function
    };
    let others = [
        host.pool("other", &function(&folder)).unwrap(),
        host.pool("hello", &Function { timeout: Duration::from_secs(1), ..function(&folder) }).unwrap(),
        host.pool("hello", &changed(&|hosted| hosted.environment[0].1 = Secret::new("goodbye"))).unwrap(),
        host.pool("hello", &changed(&|hosted| hosted.concurrency = NonZeroU32::new(3).unwrap())).unwrap(),
        host.pool("hello", &changed(&|hosted| hosted.reports = true)).unwrap(),
    ];
    for other in &others {
        assert!(!Arc::ptr_eq(&pool, other));
    }
    // What says how requests become events is nothing that a process would notice.
    let streamed = Function { response: ResponseMode::Streamed, ..function(&folder) };
    assert!(Arc::ptr_eq(&pool, &host.pool("hello", &streamed).unwrap()));
    // Two pieces of code run side by side.
    write(&folder.0.join("code"), "# changed\n");
    let new = host.pool("hello", &function(&folder)).unwrap();
    assert_ne!(new.code().hash, pool.code().hash);
    block_on(async {
        let (old, new) = tokio::join!(returned(&pool, json!({"pid": true})), returned(&new, json!({"pid": true})));
        assert_ne!(old, new);
    });
}

#[test]
fn what_cannot_be_run_is_refused_before_anybody_asks_for_it() {
    let folder = folder();
    std::fs::remove_file(folder.0.join("code/bootstrap")).unwrap();
    let host = host(&folder);
    assert!(host.pool("hello", &function(&folder)).is_err());
    host.stop(Duration::ZERO);
    write(&folder.0.join("code"), "");
    let refused = host.pool("hello", &function(&folder)).unwrap_err();
    assert!(refused.message.contains("stopped"), "{}", refused.message);
}
