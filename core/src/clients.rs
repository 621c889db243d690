//! Clients that stay: whose connection it is that somebody has a message for, and what becomes of it. The words of AWS's `@connections`, which
//! whoever serves them and whoever has the connections share. Knows no connection itself.

use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// What is known of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionView {
    /// Since 1970.
    pub connected_at: Duration,
    /// Since 1970: when anything was said last, by either end.
    pub last_active_at: Duration,
    pub source_ip: String,
    pub user_agent: Option<String>,
}

impl ConnectionView {
    /// As `GetConnection` answers.
    pub fn to_json(&self) -> Value {
        let time = |since_1970: Duration| {
            let millis = since_1970.as_millis().try_into().unwrap_or(i64::MAX);
            jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX).to_string()
        };
        let mut identity = json!({ "sourceIp": self.source_ip });
        if let Some(agent) = &self.user_agent {
            identity["userAgent"] = agent.as_str().into();
        }
        json!({ "connectedAt": time(self.connected_at), "identity": identity, "lastActiveAt": time(self.last_active_at) })
    }
}

/// Why nothing reached a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreached {
    /// There is none of that id.
    Gone,
    /// The message has more bytes than one may have.
    TooLarge,
    /// Its client reads too slowly, and as much waits for it as may.
    Full,
    /// As much waits for all clients together as may.
    NoRoom,
}

impl Unreached {
    pub fn status(self) -> u16 {
        match self {
            Unreached::Gone => 410,
            Unreached::TooLarge => 413,
            Unreached::Full | Unreached::NoRoom => 429,
        }
    }

    /// `x-amzn-ErrorType`.
    pub fn error_type(self) -> &'static str {
        match self {
            Unreached::Gone => "GoneException",
            Unreached::TooLarge => "PayloadTooLargeException",
            Unreached::Full | Unreached::NoRoom => "LimitExceededException",
        }
    }
}

pub type Reaching<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unreached>> + Send + 'a>>;

/// The way to every connection of this process, from any thread.
pub trait Clients: Send + Sync {
    /// Sends a message: as text where it is UTF-8, as bytes else. That it is read is not known.
    fn post<'a>(&'a self, id: &'a str, message: Vec<u8>) -> Reaching<'a, ()>;

    fn get<'a>(&'a self, id: &'a str) -> Reaching<'a, ConnectionView>;

    /// Ends a connection.
    fn delete<'a>(&'a self, id: &'a str) -> Reaching<'a, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_as_get_connection_tells_of_it() {
        let view = ConnectionView {
            connected_at: Duration::from_millis(1_707_502_303_419),
            last_active_at: Duration::from_secs(1_707_502_304),
            source_ip: "192.0.2.1".into(),
            user_agent: Some("cutlery/1".into()),
        };
        let wanted = json!({
            "connectedAt": "2024-02-09T18:11:43.419Z",
            "identity": { "sourceIp": "192.0.2.1", "userAgent": "cutlery/1" },
            "lastActiveAt": "2024-02-09T18:11:44Z",
        });
        assert_eq!(view.to_json(), wanted);
        let endless = ConnectionView { connected_at: Duration::MAX, ..view };
        assert!(endless.to_json()["connectedAt"].is_string());
    }
}
