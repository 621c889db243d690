//! What a client of HTTP/2 gets: a whole response, or why there is none.

use super::protocol::{Goaway, Side};
use crate::message::Fields;
use std::fmt;

/// One whole response.
#[derive(Clone)]
pub struct H2Response {
    pub status: u16,
    pub headers: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// 1xx that came before it.
    pub interim: Vec<(u16, Fields)>,
}

impl H2Response {
    /// The value of a field that stands there at most once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

impl fmt::Debug for H2Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}\n\n{}", self.status, self.headers, crate::message::shown(&self.body))?;
        if !self.trailers.0.is_empty() {
            write!(f, " with trailers {:?}", self.trailers)?;
        }
        Ok(())
    }
}

/// Why there is no whole response, or nothing more to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum H2Broken {
    /// RST_STREAM with this code.
    Reset(u32),
    /// The connection is over; with the last GOAWAY before that.
    Closed(Option<Goaway>),
    /// Nothing came for `PATIENCE`.
    Silent,
    /// It breaks a rule of HTTP/2.
    Malformed(String),
}

pub(super) fn status_of(fields: &Fields) -> (u16, Fields) {
    let status = fields.all(":status").first().and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, Fields(fields.0.iter().filter(|(name, _)| !name.starts_with(':')).cloned().collect()))
}

pub(super) fn response(side: &Side) -> H2Response {
    let (status, headers) = side.head.as_ref().map(status_of).unwrap_or_default();
    H2Response {
        status,
        headers,
        body: side.body.clone(),
        trailers: side.trailers.clone().unwrap_or_default(),
        interim: side.interim.iter().map(status_of).collect(),
    }
}
