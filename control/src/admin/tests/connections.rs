//! AWS's management API of connections, signed as the Invoke API.

use super::invoke_api::{Signer, admin_key, exchange, hosting, signed};
use super::*;
use maitred_core::{ConnectionView, Reaching, Unreached};

/// `c-1` is there.
pub(super) struct OneClient;

fn reached<T: Send + 'static>(id: &str, answer: T) -> Reaching<'static, T> {
    let answer = match id {
        "c-1" => Ok(answer),
        "slow" => Err(Unreached::Full),
        "full" => Err(Unreached::NoRoom),
        _ => Err(Unreached::Gone),
    };
    Box::pin(async move { answer })
}

impl Clients for OneClient {
    fn post<'a>(&'a self, id: &'a str, message: Vec<u8>) -> Reaching<'a, ()> {
        if message.len() > 128 * 1024 {
            return Box::pin(async { Err(Unreached::TooLarge) });
        }
        assert!(message.is_empty() || message.starts_with(b"plum"));
        reached(id, ())
    }

    fn get<'a>(&'a self, id: &'a str) -> Reaching<'a, ConnectionView> {
        let time = Duration::from_secs(1_700_000_000);
        let (source_ip, user_agent) = ("192.0.2.1".to_owned(), None);
        reached(id, ConnectionView { connected_at: time, last_active_at: time, source_ip, user_agent })
    }

    fn delete<'a>(&'a self, id: &'a str) -> Reaching<'a, ()> {
        reached(id, ())
    }
}

#[tokio::test]
async fn connections_are_written_to_looked_at_and_ended_by_who_has_a_key() {
    let (admin, _) = hosting().await;
    let signer = Signer { service: "execute-api", ..admin_key() };
    let large = [b'p'; 128 * 1024 + 1];
    for (line, body, status, name) in [
        ("POST /@connections/c-1", &b"plum"[..], 200, None),
        ("GET /@connections/c-1", b"", 200, None),
        ("DELETE /@connections/c-1", b"", 204, None),
        ("POST /@connections/c-2", b"plum", 410, Some("GoneException")),
        ("GET /@connections/c-2", b"", 410, Some("GoneException")),
        ("DELETE /@connections/c-2", b"", 410, Some("GoneException")),
        ("POST /@connections/slow", b"plum", 429, Some("LimitExceededException")),
        ("POST /@connections/full", b"plum", 429, Some("LimitExceededException")),
        ("POST /@connections/c-1", &large, 413, Some("PayloadTooLargeException")),
        ("PUT /@connections/c-1", b"", 404, Some("UnknownOperationException")),
    ] {
        let answer = exchange(&admin, &signed(&signer, line, &[], body)).await;
        assert_eq!((answer.status, answer.header("x-amzn-errortype")), (status, name), "{line}");
    }
    let told = exchange(&admin, &signed(&signer, "GET /@connections/c-1", &[], b"")).await.json();
    assert_eq!((&told["connectedAt"], &told["identity"]["sourceIp"]), (&json!("2023-11-14T22:13:20Z"), &json!("192.0.2.1")));
    // What was signed for Lambda opens no connection, and nothing unsigned does.
    let answer = exchange(&admin, &signed(&admin_key(), "POST /@connections/c-1", &[], b"plum")).await;
    assert_eq!(answer.error().1, "InvalidSignatureException");
    let bare = ask(&admin, "GET /@connections/c-1", "X-Maitred: 1\r\n").await;
    assert_eq!(bare.status, 403);
    assert_eq!(ask(&admin, "GET /@connections/c-1", "Authorization: Bearer s3cret\r\n").await.status, 200);
}
