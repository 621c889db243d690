//! What a policy may reach of the worker it runs on. Policies open no socket: what they must ask others goes through here, so that it has
//! pool, timeouts, breaker and metrics like any other request.

use crate::buffered::Room;
use crate::fault::{Fault, Kind};
use crate::identity::{Flights, Verdicts};
use crate::limits::SharedCounts;
use maitred_wire::ResponseHead;
use std::cell::RefCell;
use std::future::{Future, ready};
use std::pin::Pin;
use std::time::{Duration, Instant};

/// A request of the gateway's own.
#[derive(Debug)]
pub struct Call<'a> {
    /// The index that `compile` gave the upstream.
    pub upstream: u32,
    /// In upper case.
    pub method: &'a str,
    /// Path and query, canonical; the endpoint's own path is prefixed.
    pub target: &'a [u8],
    /// Names in lower case. Host and framing are not among them. Whoever asks on behalf of a request passes its Via on: by that a circle is found.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    pub body: Vec<u8>,
    /// The whole answer must be there by then.
    pub deadline: Instant,
    /// A longer body is a fault.
    pub body_bytes_max: usize,
    /// Asking twice is harmless, whatever the method says.
    pub idempotent: bool,
}

/// What it was answered.
#[derive(Debug)]
pub struct Called {
    pub head: Box<ResponseHead>,
    pub body: Vec<u8>,
}

pub type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
pub type Calling<'a> = Pin<Box<dyn Future<Output = Result<Called, Fault>> + 'a>>;

/// What running a function came to.
#[derive(Debug, Clone)]
pub enum Invoked {
    Returned(Vec<u8>),
    /// It raised an error, which is described so.
    Raised(Vec<u8>),
}

pub type Invoking<'a> = Pin<Box<dyn Future<Output = Result<Invoked, Fault>> + 'a>>;

pub trait Ports {
    fn now(&self) -> Instant;

    /// Which of the workers this is: each writes counters of its own. A test has one.
    fn worker(&self) -> usize {
        0
    }

    /// Since 1970, at `now`.
    fn unix_time(&self, now: Instant) -> Duration;

    /// What this worker has verified. Not to be held across a wait.
    fn verdicts(&self) -> &RefCell<Verdicts>;

    /// What this worker is finding out at the moment.
    fn flights(&self) -> &Flights;

    /// Until it may take this worker's own time for what is not urgent. Of those who ask few are let through before everybody else who is ready
    /// has had a turn. A test has nobody else.
    fn turn(&self) -> Waiting<'_> {
        Box::pin(ready(()))
    }

    /// Until a moment of `now` has come.
    fn until(&self, moment: Instant) -> Waiting<'_>;

    /// Where bodies are held whole.
    fn room(&self) -> &Room;

    /// Counts that all gateways share, where there are any.
    fn shared_counts(&self) -> Option<&dyn SharedCounts> {
        None
    }

    /// Runs a function, by the index that `compile` gave it. A fault is a function that could not be run, or was not done by `deadline`.
    /// A test has none.
    fn invoke(&self, function: u32, event: Vec<u8>, deadline: Instant) -> Invoking<'_> {
        let _ = (function, event, deadline);
        Box::pin(ready(Err(Fault::new(Kind::Internal, "there are no functions here"))))
    }

    /// Asks a back end, through its upstream. Whoever drops it takes the request back.
    fn call<'a>(&'a self, call: Call<'a>) -> Calling<'a>;
}

/// What is asked of such a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asks {
    Get,
    /// PUT, with nothing in it.
    Put,
    /// POST with these fields, as `application/x-www-form-urlencoded`.
    Form(String),
}

/// A request that leaves by the control side: rare, and to a place of which only the network tells.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    pub asks: Asks,
    /// From the name lookup to the last byte.
    pub time_max: Duration,
    /// A longer answer is an error.
    pub body_bytes_max: usize,
}

#[derive(Debug, Clone)]
pub struct Fetched {
    pub status: u16,
    /// What time it is there, in seconds since 1970, as its `Date` says.
    pub date: Option<u64>,
    pub body: Vec<u8>,
}

/// `Err` says why, for the log.
pub type Fetching = Pin<Box<dyn Future<Output = Result<Fetched, String>> + Send>>;

pub trait Fetch: Send + Sync {
    fn fetch(&self, request: FetchRequest) -> Fetching;
}
