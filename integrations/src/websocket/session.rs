//! What becomes of a client that stays: the function that lets it in, the functions that its messages are for, one after the other, and the
//! one that is told of its end. A task of its own, so that who was let in is always told of, even if the client left before it knew.

use super::answer::{self, Answer, Said};
use super::connection::{Connection, Endpoint, Heard};
use super::event::{Occasion, Told, trouble};
use super::outbox::Unsaid;
use super::registry::{Desk, Listed, Seat};
use super::{Target, WebSocket};
use crate::function::run::Ran;
use crate::function::trace::Trace;
use maitred_core::function::{Finished, Invocation};
use maitred_core::{Fault, Kind};
use maitred_transport::{OpenTunnel, Worker};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What the function said at the door.
pub(super) enum Verdict {
    In { endpoint: Endpoint, protocol: Option<String> },
    Out(Answer),
}

/// What a function is to do once.
pub(super) struct Run {
    pub id: String,
    pub event: Vec<u8>,
    pub trace: Trace,
}

pub(super) struct Session {
    pub socket: Arc<WebSocket>,
    pub seat: Seat,
    pub desk: Rc<Desk>,
    pub worker: Rc<Worker>,
    pub listed: Listed,
    pub told: Told,
    /// As the client named it.
    pub host: Box<str>,
    /// Subprotocols that the client offers.
    pub offered: Vec<Box<str>>,
}

impl Session {
    /// `connect`: for whoever is at the door. Whoever waits for the verdict may go: then the connection ends at once.
    pub async fn run(self, connect: Option<Run>, verdict: oneshot::Sender<Result<Verdict, Fault>>) {
        let protocol = match self.admit(connect).await {
            Ok(Ok(protocol)) => protocol,
            Ok(Err(refusal)) => return drop(verdict.send(Ok(Verdict::Out(refusal)))),
            Err(fault) => return drop(verdict.send(Err(fault))),
        };
        let Session { socket, seat: _seat, desk, worker, listed, told, host, .. } = self;
        let connection = listed.connection.clone();
        let line = Line { socket, desk, worker, connection: connection.clone(), told };
        line.desk.list(listed);
        // An endpoint that nobody takes is dropped, which is the connection's end.
        drop(verdict.send(Ok(Verdict::In { endpoint: Endpoint(connection.clone()), protocol })));
        while let Some(heard) = poll_fn(|cx| connection.poll_message(cx)).await {
            line.message(heard).await;
        }
        line.end(&host).await;
    }

    /// The subprotocol that is chosen, if any; or the refusal.
    async fn admit(&self, connect: Option<Run>) -> Result<Result<Option<String>, Answer>, Fault> {
        let (Some(function), Some(run)) = (&self.socket.connect, connect) else { return Ok(Ok(None)) };
        let finished = invoke(&self.desk, function, run).await?;
        if let Some(failure) = finished.failure {
            return Err(failure.fault(format!("`{function}` failed at $connect")));
        }
        let malformed = |why: &str| Fault::new(Kind::FunctionMalformed, format!("`{function}` {why} at $connect"));
        let answer = answer::read(&finished.payload, false).ok_or_else(|| malformed("gave no response"))?;
        if answer.status >= 300 {
            return Ok(Err(answer));
        }
        // A browser gives up if it is told of one that it did not offer (RFC 6455 §4.1).
        if answer.protocol.as_deref().is_some_and(|chosen| !self.offered.iter().any(|offered| **offered == *chosen)) {
            return Err(malformed("chose a subprotocol that the client did not offer"));
        }
        Ok(Ok(answer.protocol))
    }
}

/// A connection that is open.
struct Line {
    socket: Arc<WebSocket>,
    desk: Rc<Desk>,
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    told: Told,
}

impl Line {
    async fn message(&self, Heard { said, mut room }: Heard) {
        let request_id = new_id(&self.worker);
        let Some((key, target)) = self.socket.route(&said) else { return self.complain("Forbidden", &request_id) };
        let occasion = Occasion { request_id: &request_id, time: self.worker.unix_time(self.worker.now()) };
        let event = self.told.message(key, &new_id(&self.worker), &said, &occasion);
        drop(said);
        // The event is as long as the message, or several times that, and waits in its place.
        if !room.resize(event.capacity() as u64) {
            return self.connection.send_away();
        }
        let run = Run { id: request_id.clone(), event, trace: Trace::begin(&self.worker) };
        match invoke(&self.desk, &target.function, run).await {
            Ok(Finished { failure: None, payload, .. }) if target.respond => self.respond(&payload, &request_id),
            Ok(Finished { failure: None, .. }) => {}
            Ok(Finished { failure: Some(failure), .. }) => {
                self.failed(&failure.fault(format!("`{}` failed at {key}", target.function)), &request_id);
            }
            Err(fault) => self.failed(&fault, &request_id),
        }
    }

    fn respond(&self, result: &[u8], request_id: &str) {
        match answer::read(result, self.socket.binary) {
            Some(Answer { body: Some(body), .. }) => self.say(&body),
            Some(Answer { body: None, .. }) => {}
            None => self.failed(&Fault::new(Kind::FunctionMalformed, "a route's response is no response"), request_id),
        }
    }

    /// As AWS: the client is told, and stays.
    fn failed(&self, fault: &Fault, request_id: &str) {
        self.worker.shard().fault(fault.kind);
        tracing::debug!(fault = fault.kind.name(), detail = %fault.detail, connection = &*self.connection.id, request_id, "a message was not answered");
        let timed_out = fault.kind == Kind::FunctionTimeout;
        self.complain(if timed_out { "Endpoint request timed out" } else { "Internal server error" }, request_id);
    }

    fn complain(&self, message: &str, request_id: &str) {
        self.say(&Said::Text(trouble(message, &self.connection.id, request_id)));
    }

    fn say(&self, said: &Said) {
        match self.connection.say(said) {
            // Whoever takes nothing misses it.
            Ok(()) | Err(Unsaid::Gone | Unsaid::Full) => {}
            Err(Unsaid::NoRoom) => self.connection.send_away(),
        }
    }

    /// Nobody is there to be told what goes wrong here.
    async fn end(&self, host: &str) {
        self.desk.forget(&self.connection.id);
        let Some(function) = &self.socket.disconnect else { return };
        // A gateway that goes waits a moment for what is told of those who left.
        let _open = OpenTunnel::new(&self.worker);
        let request_id = new_id(&self.worker);
        let occasion = Occasion { request_id: &request_id, time: self.worker.unix_time(self.worker.now()) };
        let event = self.told.disconnect(host, &self.connection.end(), &occasion);
        let run = Run { id: request_id.clone(), event, trace: Trace::begin(&self.worker) };
        let fault = match invoke(&self.desk, function, run).await {
            Ok(Finished { failure: None, .. }) => return,
            Ok(Finished { failure: Some(failure), .. }) => failure.fault(format!("`{function}` failed at $disconnect")),
            Err(fault) => fault,
        };
        self.worker.shard().fault(fault.kind);
        tracing::debug!(fault = fault.kind.name(), detail = %fault.detail, connection = &*self.connection.id, "an end was not told");
    }
}

impl WebSocket {
    /// For which route a message is; `None`: for none, and there is no `$default`.
    fn route(&self, said: &Said) -> Option<(&str, &Target)> {
        let wanted = match said {
            Said::Text(text) if !self.routes.is_empty() => super::select::select(text, &self.select),
            Said::Text(_) | Said::Bytes(_) => None,
        };
        let found = wanted.and_then(|wanted| self.routes.get_key_value(&*wanted)).map(|(key, target)| (&**key, target));
        found.or_else(|| self.default.as_ref().map(|target| (maitred_model::DEFAULT, target)))
    }
}

pub(super) fn new_id(worker: &Worker) -> String {
    worker.new_id(worker.now()).to_string()
}

/// Runs the function of that name which is in force now: an open connection holds no old configuration.
async fn invoke(desk: &Desk, function: &str, Run { id, event, trace }: Run) -> Result<Finished, Fault> {
    let reach = desk.reach().ok_or_else(|| Fault::new(Kind::FunctionUnavailable, "the worker ends"))?;
    let runner = reach.functions.iter().find(|runner| *runner.name == *function);
    let runner = runner.ok_or_else(|| Fault::new(Kind::FunctionUnavailable, format!("there is no `{function}` any more")))?;
    let invocation = Invocation {
        id: id.into(),
        event,
        arn: None,
        trace: trace.whole.into(),
        client_context: None,
        streamed: false,
        log_tail: false,
    };
    match runner.run(invocation, &reach).await? {
        Ran::Whole(finished) => Ok(finished),
        Ran::Streamed { .. } => Err(Fault::new(Kind::Internal, "a result that nobody wanted as a stream")),
    }
}
