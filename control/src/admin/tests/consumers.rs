//! What is asked over HTTP arrives as a change, and what came of it as an answer.

use super::*;
use crate::consumers::{KeyView, Source};
use crate::store::Name;

pub(super) fn alice() -> ConsumerView {
    let key = KeyView { id: Some("k1".to_owned()), prefix: Some("mk_k1".to_owned()), created: Some(0), ..KeyView::default() };
    ConsumerView {
        name: "alice".to_owned(),
        source: Source::Store,
        groups: vec!["staff".to_owned()],
        plan: Some("gold".to_owned()),
        planless: false,
        disabled: true,
        hidden: false,
        created: Some(0),
        changed: Some(1_500),
        keys: vec![KeyView { ends: Some(86_400_000), ..key }],
        identities: vec![named("corporate", "a")],
    }
}

fn named(authorizer: &str, subject: &str) -> Name {
    Name { authorizer: authorizer.to_owned(), subject: subject.to_owned() }
}

async fn write(admin: &Admin, line: &str, body: &str) -> Answered {
    let length = body.len();
    let address = admin.address();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\nX-Maitred: 1\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    read(send(address, &request).await).await
}

#[tokio::test]
async fn each_way_to_ask_is_one_change() {
    let fake: Arc<Fake> = Arc::default();
    let admin = start(None, fake.clone()).await;
    let name = || "alice".to_owned();
    let add = |groups: &[&str], identities: Vec<Name>, with_key| Change::Add {
        name: name(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        plan: None,
        identities,
        with_key,
        brought: Vec::new(),
    };
    let set = |plan: Option<Option<&str>>, disabled| {
        let plan = plan.map(|plan| plan.map(str::to_owned));
        Change::Set { name: name(), groups: None, plan, disabled }
    };
    let rotate = |seconds| Change::RotateKey { name: name(), grace: Duration::from_secs(seconds) };
    for (line, body, status, change) in [
        ("POST /consumers", r#"{"name":"alice"}"#, 201, add(&[], Vec::new(), true)),
        (
            "POST /consumers",
            r#"{"name":"alice","groups":["a","b"],"identities":[{"authorizer":"corporate","subject":"a"}],"key":false}"#,
            201,
            add(&["a", "b"], vec![named("corporate", "a")], false),
        ),
        ("PATCH /consumers/alice", r#"{"disabled":true}"#, 200, set(None, Some(true))),
        ("PATCH /consumers/alice", r#"{"plan":"gold"}"#, 200, set(Some(Some("gold")), None)),
        ("PATCH /consumers/alice", r#"{"plan":null,"disabled":false}"#, 200, set(Some(None), Some(false))),
        (
            "PATCH /consumers/alice",
            r#"{"groups":[]}"#,
            200,
            Change::Set { name: name(), groups: Some(Vec::new()), plan: None, disabled: None },
        ),
        ("DELETE /consumers/alice", "", 200, Change::Remove { name: name() }),
        ("POST /consumers/alice/keys", "", 201, Change::AddKey { name: name() }),
        ("DELETE /consumers/alice/keys/k1", "", 200, Change::RemoveKey { name: name(), id: "k1".to_owned() }),
        ("POST /consumers/alice/rotate-key", "", 201, rotate(0)),
        ("POST /consumers/alice/rotate-key", r#"{"grace":null}"#, 201, rotate(0)),
        ("POST /consumers/alice/rotate-key", r#"{"grace":"24h"}"#, 201, rotate(86_400)),
        (
            "POST /consumers/alice/identities",
            r#"{"authorizer":"corporate","subject":"a&b"}"#,
            201,
            Change::AddIdentity { name: name(), identity: named("corporate", "a&b") },
        ),
        (
            "DELETE /consumers/alice/identities?authorizer=corporate&subject=a%26b",
            "",
            200,
            Change::RemoveIdentity { name: name(), identity: named("corporate", "a&b") },
        ),
    ] {
        let answer = write(&admin, line, body).await;
        assert_eq!((answer.status, fake.changes.lock().unwrap().pop()), (status, Some(change)), "{line} {body}: {}", answer.body);
        assert_eq!(answer.json()["consumer"]["name"], "alice", "{line}");
    }
    assert!(fake.changes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_key_that_was_made_is_in_the_answer_and_nowhere_else() {
    let fake: Arc<Fake> = Arc::default();
    let admin = start(None, fake.clone()).await;
    *fake.change.lock().unwrap() =
        Ok(Changed { key: Some(("k2".to_owned(), Secret::new("mk_k2_secret"))), warning: Some("words") });
    let made = write(&admin, "POST /consumers/alice/keys", "").await;
    made.has("cache-control: no-store");
    assert_eq!((&made.json()["key"], &made.json()["key_id"]), (&json!("mk_k2_secret"), &json!("k2")));
    assert_eq!(made.json()["warning"], "words");
    let shown = ask(&admin, "GET /consumers/alice", "").await;
    assert_eq!(
        shown.json(),
        json!({
            "name": "alice",
            "source": "store",
            "groups": ["staff"],
            "plan": "gold",
            "plan_unknown": false,
            "disabled": true,
            "hidden": false,
            "created": "1970-01-01T00:00:00.000Z",
            "changed": "1970-01-01T00:00:01.500Z",
            "api_keys": [{
                "id": "k1",
                "prefix": "mk_k1",
                "created": "1970-01-01T00:00:00.000Z",
                "ends": "1970-01-02T00:00:00.000Z",
                "unusable": false,
            }],
            "identities": [{ "authorizer": "corporate", "subject": "a" }],
        })
    );
    assert_eq!(ask(&admin, "GET /consumers", "").await.json(), json!([shown.json()]));
    let metrics = ask(&admin, "GET /metrics", "").await.body;
    for line in ["maitred_consumers{source=\"file\"} 2", "maitred_consumers{source=\"store\"} 3", "maitred_store_errors_total 4"]
    {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_changes_nothing() {
    let fake: Arc<Fake> = Arc::default();
    let admin = start(None, fake.clone()).await;
    let long = format!(r#"{{"name":"{}"}}"#, "a".repeat(65_000));
    for (line, body, status) in [
        ("POST /consumers", "", 400),
        ("POST /consumers", "{", 400),
        ("POST /consumers", "[]", 400),
        ("POST /consumers", r#"["alice", [], [], true]"#, 400),
        ("POST /consumers", r#"{"name":"alice","identities":["corporate"]}"#, 400),
        ("POST /consumers", "\"alice\"", 400),
        ("PATCH /consumers/alice", "[null, true]", 400),
        ("POST /consumers", r#"{"groups":["a"]}"#, 400),
        ("POST /consumers", r#"{"name":"alice","api_keys":"mine"}"#, 400),
        ("POST /consumers", r#"{"name":7}"#, 400),
        ("PATCH /consumers/alice", "{}", 400),
        ("PATCH /consumers/alice", r#"{"plan":7}"#, 400),
        ("PATCH /consumers/alice", r#"{"disabled":"yes"}"#, 400),
        ("PATCH /consumers/alice", r#"{"name":"bob"}"#, 400),
        ("POST /consumers/alice/rotate-key", r#"{"grace":"soon"}"#, 400),
        ("POST /consumers/alice/rotate-key", r#"{"grace":24}"#, 400),
        ("POST /consumers/alice/identities", r#"{"authorizer":"corporate"}"#, 400),
        ("DELETE /consumers/alice/identities?authorizer=corporate", "", 400),
        ("DELETE /consumers/alice/identities", "", 400),
        ("PUT /consumers/alice", "{}", 405),
        ("GET /consumers/bob", "", 404),
        ("GET /consumers/alice/keys/k1", "", 405),
        ("DELETE /consumers/alice/nothing", "", 404),
    ] {
        let answer = write(&admin, line, body).await;
        assert_eq!(answer.status, status, "{line} {body}: {}", answer.body);
        answer.has("content-type: application/problem+json");
        assert!(!answer.body.contains("struct"), "{body}: {}", answer.body);
    }
    assert_eq!(write(&admin, "POST /consumers", &long).await.status, 201, "the store says what a name is");
    assert_eq!(fake.changes.lock().unwrap().drain(..).count(), 1);
    for (not_done, status) in [
        (NotChanged::Unknown("words".to_owned()), 404),
        (NotChanged::Wrong("words".to_owned()), 422),
        (NotChanged::Conflict("words".to_owned()), 409),
        (NotChanged::Failed("words".to_owned()), 503),
    ] {
        *fake.change.lock().unwrap() = Err(not_done);
        let answer = write(&admin, "DELETE /consumers/alice", "").await;
        assert_eq!((answer.status, &answer.json()["detail"]), (status, &json!("words")));
    }
}

#[tokio::test]
async fn the_gate_stands_before_consumers_too() {
    let fake: Arc<Fake> = Arc::default();
    let (open, closed) = (start(None, fake.clone()).await, start(Some("token"), fake.clone()).await);
    for line in ["POST /consumers/alice/keys", "DELETE /consumers/alice", "PATCH /consumers/alice", "POST /consumers"] {
        assert_eq!(ask(&open, line, "").await.status, 403, "{line} without the mark of a write");
        assert_eq!(ask(&open, line, "X-Maitred: 1\r\nOrigin: http://evil.example\r\n").await.status, 403, "{line}");
        assert_eq!(ask(&closed, line, "X-Maitred: 1\r\n").await.status, 401, "{line}");
    }
    assert_eq!(ask(&closed, "GET /consumers", "").await.status, 401);
    assert_eq!(ask(&closed, "GET /consumers", "Authorization: Bearer token\r\n").await.status, 200);
    assert!(fake.changes.lock().unwrap().is_empty());
}
