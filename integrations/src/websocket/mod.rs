//! Answers a route by a WebSocket whose messages functions answer: a WebSocket API, as AWS API Gateway has them. A client is let in before
//! it is told so; its messages are taken in their order, one at a time; and of its end a function is told once. Speaks no extension.

mod answer;
mod connection;
mod event;
mod outbox;
mod registry;
mod select;
mod session;

pub use registry::{Connections, Desk, Letter, Letters};

use crate::Reach;
use crate::function::trace::Trace;
use connection::{Connection, Stay};
use event::{Facts, Occasion, Told, trouble};
use maitred_core::{Body, Exchange, Fault, Kind, Permit, Principal, Response, while_wanted};
use maitred_transport::Timer;
use maitred_wire::{Method, Name, accept_key, is_websocket_key, reason};
use registry::{Listed, Seat};
use session::{Run, Session, Verdict};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

/// RFC 6455's own.
const VERSION: &[u8] = b"13";

/// What answers a route. Functions go by their names: connections outlive configurations.
pub struct WebSocket {
    pub api: Arc<str>,
    /// Where a message says which route is its: keys, from the message's own inwards.
    pub select: Vec<String>,
    pub connect: Option<Arc<str>>,
    pub disconnect: Option<Arc<str>>,
    pub default: Option<Target>,
    pub routes: HashMap<Box<str>, Target>,
    pub idle: Duration,
    pub lifetime: Duration,
    /// Messages may be bytes.
    pub binary: bool,
}

/// Who answers messages of one route.
pub struct Target {
    pub function: Arc<str>,
    /// The body of its result goes back.
    pub respond: bool,
}

impl WebSocket {
    pub async fn invoke(
        self: &Arc<Self>,
        exchange: &mut Exchange,
        _permit: Permit,
        reach: &Rc<Reach>,
    ) -> Result<Response, Fault> {
        let accept = handshake(exchange)?;
        let seat = reach.sockets.seat();
        let seat = seat.ok_or_else(|| Fault::new(Kind::Overloaded, "a worker has as many WebSockets as it may"))?;
        let (session, connect) = self.session(exchange, reach, seat);
        let id = session.listed.connection.id.clone();
        let (tell, told) = oneshot::channel();
        spawn_local(session.run(connect, tell));
        let client = exchange.client.clone();
        let verdict = while_wanted(client, before(exchange, reach, told)).await???;
        match verdict {
            Verdict::In { endpoint, protocol } => {
                let mut response = Response::with_body(exchange.take_head(), 101, Body::Tunnel(Rc::new(endpoint)));
                let headers = &mut response.head.headers;
                headers.add(b"upgrade", b"websocket");
                headers.add(b"sec-websocket-accept", &accept);
                if let Some(protocol) = protocol {
                    headers.add(b"sec-websocket-protocol", protocol.as_bytes());
                }
                Ok(response)
            }
            Verdict::Out(answer) => {
                let request_id = String::from_utf8_lossy(exchange.request_id()).into_owned();
                let body = match answer.body {
                    Some(body) => body.as_bytes().into(),
                    None => trouble(reason(answer.status), &id, &request_id).into_bytes().into(),
                };
                let mut response = Response::with_body(exchange.take_head(), answer.status, Body::Bytes(body));
                let content_type = answer.content_type.as_deref().unwrap_or("application/json");
                response.head.headers.add(b"content-type", content_type.as_bytes());
                Ok(response)
            }
        }
    }

    /// With the event for the door, if there is a function at it.
    fn session(self: &Arc<Self>, exchange: &Exchange, reach: &Rc<Reach>, seat: Seat) -> (Session, Option<Run>) {
        let (worker, desk) = (&reach.worker, &reach.sockets);
        let stay = Stay { idle: self.idle, lifetime: self.lifetime };
        let connection = Connection::new(desk.new_id(), worker, &stay, self.binary, &reach.sockets_room);
        let headers = &exchange.request.headers;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (source_ip, domain) = (exchange.client_ip().to_string(), text(exchange.request.host()));
        let user_agent = headers.known(Name::UserAgent).map(text);
        let connected_at = worker.unix_time(worker.now());
        let told = Told::new(&Facts {
            connection: &connection.id,
            api: &self.api,
            domain: &domain,
            source_ip: &source_ip,
            user_agent: user_agent.as_deref(),
            connected_at,
            principal: exchange.principal.as_deref().filter(|principal| !Principal::is_anonymous(principal)),
        });
        let connect = self.connect.as_ref().map(|_| {
            let request_id = text(exchange.request_id());
            let trace = Trace::of_request(exchange, worker);
            let event = told.connect(exchange, &trace.header, &Occasion { request_id: &request_id, time: connected_at });
            // A client may have chosen the request's id: of two runs that are called the same nobody could tell one.
            Run { id: session::new_id(worker), event, trace }
        });
        let offered = headers.get_all(b"sec-websocket-protocol").flat_map(|value| value.split(|&byte| byte == b','));
        let session = Session {
            socket: self.clone(),
            seat,
            desk: desk.clone(),
            worker: worker.clone(),
            listed: Listed { connection, connected_at, source_ip: source_ip.into(), user_agent: user_agent.map(Into::into) },
            told,
            host: text(exchange.request.authority()).into(),
            offered: offered.map(|name| text(name.trim_ascii()).into()).collect(),
        };
        (session, connect)
    }
}

/// The answer to the client's key; refuses what begins no WebSocket (RFC 6455 §4.2.1).
fn handshake(exchange: &Exchange) -> Result<[u8; 28], Fault> {
    let request = &exchange.request;
    let needed = |why: &'static str| {
        let mut fault = Fault::new(Kind::UpgradeRequired, why);
        fault.headers.push((b"sec-websocket-version", VERSION.to_vec()));
        fault
    };
    if !request.is_websocket() || request.method != Method::Get {
        return Err(needed("the request begins no WebSocket"));
    }
    let one = |name: &'static [u8]| {
        let mut values = request.headers.get_all(name);
        values.next().filter(|_| values.next().is_none())
    };
    if one(b"sec-websocket-version") != Some(VERSION) {
        return Err(needed("Sec-WebSocket-Version is not 13"));
    }
    match one(b"sec-websocket-key") {
        Some(key) if is_websocket_key(key) => Ok(accept_key(key)),
        Some(_) | None => Err(Fault::new(Kind::BadRequest, "there is not one Sec-WebSocket-Key of 16 bytes in base64")),
    }
}

/// What comes before the request's own deadline.
async fn before<T>(exchange: &Exchange, reach: &Reach, told: oneshot::Receiver<T>) -> Result<T, Fault> {
    let timer = Timer::new(&reach.worker.timers);
    if let Some(deadline) = exchange.deadline {
        timer.arm(deadline);
    }
    let mut told = pin!(told);
    poll_fn(|cx| {
        if let Poll::Ready(told) = told.as_mut().poll(cx) {
            // The session's task is dropped with its worker alone.
            return Poll::Ready(told.map_err(|_| Fault::new(Kind::CutOff, "the worker ends")));
        }
        timer.poll(cx).map(|()| Err(Fault::new(Kind::FunctionTimeout, "$connect took longer than the route's `timeout`")))
    })
    .await
}
