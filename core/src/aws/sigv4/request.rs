//! A request as its signature sees it: an exchange's, or one that is made of its parts. Changes nothing about it.

use crate::Exchange;
use maitred_wire::path::path_and_query;

pub trait Request {
    fn method(&self) -> &[u8];

    /// As it came, with its escapes; `/` where there is none.
    fn path(&self) -> &[u8];

    /// Likewise, without the `?`.
    fn query(&self) -> &[u8];

    /// As the client named it, with the port if it did.
    fn host(&self) -> &[u8];

    /// Of headers, in whatever case and however often.
    fn names(&self) -> impl Iterator<Item = &[u8]>;

    /// Of one header, line by line. `name` is in lower case.
    fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]>;
}

/// As it was before anything of it was taken off or made canonical.
impl Request for Exchange {
    fn method(&self) -> &[u8] {
        self.request.method_text()
    }

    fn path(&self) -> &[u8] {
        path_and_query(self.request.target()).0
    }

    fn query(&self) -> &[u8] {
        path_and_query(self.request.target()).1.unwrap_or_default()
    }

    fn host(&self) -> &[u8] {
        self.request.authority()
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        let headers = &self.request.headers;
        headers.iter().map(|entry| headers.name(entry))
    }

    fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.request.headers.get_all(name)
    }
}

/// A request of one's own, or another server's.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    pub method: &'a [u8],
    pub path: &'a [u8],
    pub query: &'a [u8],
    pub host: &'a [u8],
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

impl Request for Parts<'_> {
    fn method(&self) -> &[u8] {
        self.method
    }

    fn path(&self) -> &[u8] {
        if self.path.is_empty() { b"/" } else { self.path }
    }

    fn query(&self) -> &[u8] {
        self.query
    }

    fn host(&self) -> &[u8] {
        self.host
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().map(|(name, _)| *name)
    }

    fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}
