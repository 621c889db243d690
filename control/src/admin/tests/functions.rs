//! Functions as an administrator sees and runs them.

use super::*;
use crate::functions::testing::line;
use maitred_core::function::{Failure, Finished};
use maitred_core::{Fault, Kind};
use maitred_host::{Answer, NotRun};

const BEARER: &str = "Authorization: Bearer s3cret\r\n";

async fn hosting() -> (Admin, Arc<Fake>) {
    let fake: Arc<Fake> = Arc::default();
    (start(Some("s3cret"), fake.clone()).await, fake)
}

async fn post(admin: &Admin, target: &str, body: &str) -> Answered {
    let length = body.len();
    let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{BEARER}Content-Length: {length}\r\n\r\n");
    read(send(admin.address(), &(head + body)).await).await
}

#[tokio::test]
async fn functions_are_listed_with_their_processes_and_without_their_secrets() {
    let (admin, _) = hosting().await;
    let list = ask(&admin, "GET /functions", BEARER).await;
    let functions = list.json();
    let names: Vec<&str> = functions.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["soup", "dessert", "remote"]);
    let dessert = &functions[1];
    for (key, value) in [
        ("runs", json!("here")),
        ("runtime", json!("python")),
        ("handler", json!("app.handler")),
        ("timeout", json!("5s")),
        ("waiting", json!(3)),
        ("instances", json!([{ "number": 1, "pid": 4711, "state": "idle", "invocations": 5 }])),
    ] {
        assert_eq!(dessert[key], value, "{key}");
    }
    assert_eq!((&dessert["code"]["hash"], &dessert["counts"]["failures"]), (&json!("c0de".repeat(16)), &json!(2)));
    assert_eq!(dessert["counts"]["duration_seconds"], json!(1.5));
    assert!(!list.body.contains("secret"), "{}", list.body);
    let remote = &functions[2];
    assert_eq!((&remote["runs"], &remote["counts"], &remote["instances"]), (&json!("aws"), &Value::Null, &Value::Null));
    assert_eq!(ask(&admin, "GET /functions/dessert", BEARER).await.json(), *dessert);
    let unknown = ask(&admin, "GET /functions/desert", BEARER).await;
    let told = unknown.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!((unknown.status, &*told), (404, "there is no function `desert`; did you mean `dessert`?"));
    assert!(ask(&admin, "GET /functions/zebra/logs", BEARER).await.body.contains("; the functions are"));
    assert_eq!(ask(&admin, "GET /functions", "").await.status, 401);
}

#[tokio::test]
async fn a_run_answers_the_result_as_it_is() {
    let (admin, fake) = hosting().await;
    let answer = post(&admin, "/functions/dessert/invoke", "{\"b\":1, \"a\":1.0}").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"b\":1, \"a\":1.0}"));
    let asked = fake.dessert.asked.lock().unwrap().pop().unwrap();
    answer.has(&format!("x-maitred-request-id: {}", asked.id)).has("content-type: application/json");
    assert!(!answer.head.contains("x-maitred-function"), "{}", answer.head);
    assert_eq!(asked.arn.as_deref(), Some("arn:aws:lambda:eu-west-1:000000000000:function:dessert"));
    assert!(!asked.log_tail && !asked.streamed);
    let answer = post(&admin, "/functions/dessert/invoke?logs=true", "").await;
    answer.has("x-maitred-function-log: U1RBUlQKRU5ECg==");
    assert_eq!(answer.body, "{}", "no event is an empty one");
}

#[tokio::test]
async fn a_run_that_fails_says_how() {
    let (admin, fake) = hosting().await;
    for (failure, status, word) in [
        (Failure::Raised, 502, "raised"),
        (Failure::TimedOut, 504, "timed_out"),
        (Failure::Exited, 502, "exited"),
        (Failure::NotStarted, 502, "not_started"),
        (Failure::TooLarge, 502, "too_large"),
    ] {
        let payload = b"{\"errorType\":\"Oops\"}".to_vec();
        fake.dessert.answer(Ok(Answer::Whole(Finished { payload, failure: Some(failure), ..Finished::default() })));
        let answer = post(&admin, "/functions/dessert/invoke", "{}").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, "{\"errorType\":\"Oops\"}"));
        answer.has(&format!("x-maitred-function-failure: {word}"));
    }
    for (not_run, status) in [(NotRun::QueueFull, 503), (NotRun::Waited, 503), (NotRun::TooLarge, 413), (NotRun::Closed, 503)] {
        fake.dessert.answer(Err(not_run));
        let answer = post(&admin, "/functions/dessert/invoke", "{}").await;
        assert_eq!(answer.status, status);
        assert!(answer.json()["detail"].as_str().unwrap().contains("was not run") && !answer.head.contains("x-maitred-function"));
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_refused() {
    let (admin, fake) = hosting().await;
    for (target, body, status, words) in [
        ("/functions/salad/invoke", "{}", 404, "no function `salad`"),
        ("/functions/remote/reload", "", 409, "runs in AWS"),
        ("/functions/salad/reload", "", 404, "no function `salad`"),
        ("/functions/dessert/invoke", "{", 400, "not JSON"),
        ("/functions/dessert/invoke", "{} x", 400, "not JSON"),
    ] {
        let answer = post(&admin, target, body).await;
        assert!(answer.status == status && answer.json()["detail"].as_str().unwrap().contains(words), "{}", answer.body);
    }
    assert!(fake.dessert.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_function_in_aws_is_run_for_who_shows_a_token() {
    let (admin, fake) = hosting().await;
    let answer = post(&admin, "/functions/remote/invoke?logs=true", "{\"a\":1}").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"a\":1}"));
    let asked = fake.remote.asked.lock().unwrap().pop().unwrap();
    assert!(asked.log_tail && fake.dessert.asked.lock().unwrap().is_empty());
    answer.has(&format!("x-maitred-request-id: {}", asked.id)).has("x-maitred-function-log: U1RBUlQKRU5ECg==");
    for (kind, status) in [
        (Kind::FunctionUnavailable, 502),
        (Kind::FunctionBusy, 503),
        (Kind::BodyTooLarge, 413),
        (Kind::BadRequest, 400),
        (Kind::Internal, 500),
    ] {
        fake.remote.refuse(Fault::new(kind, "AWS refused to invoke `remote`: 403 AccessDenied"));
        let answer = post(&admin, "/functions/remote/invoke", "{}").await;
        assert_eq!(answer.status, status, "{kind:?}");
        // By that the command knows that nothing ran.
        assert!(!answer.head.contains("x-maitred-request-id"), "{}", answer.head);
        assert!(answer.json()["detail"].as_str().unwrap().contains("AccessDenied"), "{}", answer.body);
    }
    fake.remote.asked.lock().unwrap().clear();
    let open = start(None, fake.clone()).await;
    let head = "POST /functions/remote/invoke HTTP/1.1\r\nHost: localhost\r\nX-Maitred: 1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let answer = read(send(open.address(), head).await).await;
    assert_eq!(answer.status, 403);
    assert!(answer.json()["detail"].as_str().unwrap().contains("admin.token"), "{}", answer.body);
    assert!(fake.remote.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_log_goes_on_after_a_line_and_may_be_that_of_one_run() {
    let (admin, fake) = hosting().await;
    *fake.dessert.lines.lock().unwrap() =
        vec![line(1, None, "starting"), line(2, Some("r-1"), "one"), line(3, Some("r-2"), "two")];
    let numbers = async |query: &str| {
        let answer = ask(&admin, &format!("GET /functions/dessert/logs{query}"), BEARER).await.json();
        let numbers: Vec<u64> = answer["lines"].as_array().unwrap().iter().map(|line| line["number"].as_u64().unwrap()).collect();
        (numbers, answer["last"].as_u64().unwrap())
    };
    assert_eq!(numbers("").await, (vec![1, 2, 3], 3));
    assert_eq!(numbers("?after=1").await, (vec![2, 3], 3));
    assert_eq!(numbers("?after=3").await, (vec![], 3));
    assert_eq!(numbers("?request_id=r-1").await, (vec![2], 3));
    assert_eq!(numbers("?after=2&request_id=r%2D2").await, (vec![3], 3));
    let first = &ask(&admin, "GET /functions/dessert/logs?after=1&request_id=r-1", BEARER).await.json()["lines"][0];
    let wanted = json!({
        "number": 2, "time": "2023-11-14T22:13:20.002Z", "source": "stdout", "request_id": "r-1", "instance": 1, "text": "one",
    });
    assert_eq!(*first, wanted);
    assert_eq!(ask(&admin, "GET /functions/dessert/logs?after=x", BEARER).await.status, 400);
    assert_eq!(ask(&admin, "GET /functions/remote/logs", BEARER).await.status, 409);
}

#[tokio::test]
async fn a_function_is_reloaded_alone() {
    let (admin, fake) = hosting().await;
    let answer = post(&admin, "/functions/dessert/reload", "").await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "function": "dessert", "hash": "beef", "changed": true })));
    *fake.function_reload.lock().unwrap() = Err(NotReloaded::Wrong("line 3 is wrong".to_owned()));
    let answer = post(&admin, "/functions/dessert/reload", "").await;
    assert_eq!((answer.status, &answer.json()["detail"]), (422, &json!("line 3 is wrong")));
}

#[tokio::test(start_paused = true)]
async fn a_function_may_take_longer_than_other_answers() {
    let (admin, fake) = hosting().await;
    let (_, soup) = (admin.address(), fake.document.functions["dessert"].value.timeout);
    assert_eq!(soup, Duration::from_secs(5));
    // Its turn, two starts and its run: the function's own times are added to what any answer has.
    let view = fake.function("dessert").unwrap();
    let patience = Patience::new();
    let before = patience.due();
    patience.extend(view.patience());
    assert_eq!(patience.due() - before, view.patience());
    patience.begin();
    assert_eq!(patience.due(), before, "the next request on the connection has no more than others");
}

#[tokio::test]
async fn functions_are_counted() {
    let (admin, _) = hosting().await;
    let metrics = ask(&admin, "GET /metrics", "").await.body;
    assert!(metrics.contains("\nmaitred_function_invocations_total{function=\"dessert\"} 5\n"), "{metrics}");
    assert!(!metrics.contains("function=\"remote\""));
}

#[tokio::test(start_paused = true)]
async fn a_run_has_the_time_of_the_drain_and_nobody_else_does() {
    for (patience, is_answered) in [(Duration::from_secs(30), true), (Duration::ZERO, false)] {
        let (admin, fake) = hosting().await;
        let address = admin.address();
        let (go, hold) = oneshot::channel();
        *fake.dessert.hold.lock().unwrap() = Some(hold);
        let head = format!("POST /functions/dessert/invoke HTTP/1.1\r\nHost: a\r\n{BEARER}Content-Length: 2\r\n\r\n{{}}");
        let mut runs = send(address, &head).await;
        while fake.dessert.asked.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        // Let in before it stops, and silent.
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&admin, "GET /functions", BEARER).await.status, 200);
        let stopping = tokio::spawn(admin.stop(patience));
        tokio::task::yield_now().await;
        // The one of both that is cut off says that the two seconds are over.
        let mut rest = Vec::new();
        let _ = silent.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        if is_answered {
            go.send(()).unwrap();
            let answer = read(runs).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
            answer.has("connection: close");
        } else {
            let _ = runs.read_to_end(&mut rest).await;
            assert!(rest.is_empty());
        }
        stopping.await.unwrap();
    }
}
