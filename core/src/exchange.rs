//! The request, the response to be, and what was learned on the way. Kept from request to request by its worker: a steady
//! stream of requests allocates nothing here.

use crate::address::{Forwarded, Remote};
use crate::body::Body;
use crate::fault::{Fault, Kind};
use crate::identity::Principal;
use crate::limits::TakenList;
use crate::metrics::RouteSeries;
use crate::policy::Chain;
use crate::ports::Ports;
use maitred_model::{GatewayResponses, PathTemplate};
use maitred_wire::{Name, RequestHead, ResponseHead, Slice, is_grpc};
use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Most parameters one path template may have; they live inside the exchange.
pub const PARAMS_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    pub fn text(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The client's side of the exchange while a back end is asked.
pub trait Client {
    /// Queues an interim (1xx) response; it goes out at the next chance.
    fn interim(&self, head: &ResponseHead);

    /// Sends what is queued.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;

    /// Ready when nobody waits for the answer any more.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// The same while nothing was sent on and nobody reads the request's body: then a FIN is a goodbye too.
    fn poll_gone_unread(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_gone(cx)
    }

    /// Bytes of a body that could be sent at the moment, as far as is known: what goes no further need not be read.
    fn room(&self) -> usize {
        usize::MAX
    }
}

/// Waits for it as long as the client does; then it is dropped.
pub async fn while_wanted<T>(client: Option<Rc<dyn Client>>, work: impl Future<Output = T>) -> Result<T, Fault> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if client.as_ref().is_some_and(|client| client.poll_gone_unread(cx).is_ready()) {
            return Poll::Ready(Err(Fault::new(Kind::ClientGone, "the client went away while another was asked")));
        }
        work.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// Whoever owns a route: its policies and its counters.
pub trait Held {
    fn chain(&self, route: u32) -> &Chain;
    fn series(&self, route: u32) -> &Arc<RouteSeries>;
    /// What its policies may reach.
    fn ports(&self) -> &dyn Ports;
    /// How it is written.
    fn matched(&self, route: u32) -> Option<Matched<'_>>;
}

/// A route as the configuration has it, for who tells others of it.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'a> {
    pub api: &'a str,
    /// Empty: any.
    pub methods: &'a [String],
    /// Without the API's base path.
    pub path: &'a PathTemplate,
}

/// What the exchange keeps alive until it is recorded. While a short answer is written that is the whole world, which costs
/// nothing; a stream or an upgrade lets go of it and keeps only its route's counters.
#[derive(Default)]
pub enum Hold {
    #[default]
    Nothing,
    World(Rc<dyn Held>, u32),
    Series(Arc<RouteSeries>),
}

impl Hold {
    pub fn series(&self) -> Option<&RouteSeries> {
        match self {
            Hold::Nothing => None,
            Hold::World(world, route) => Some(world.series(*route)),
            Hold::Series(series) => Some(series),
        }
    }

    /// Lets go of the world.
    pub fn narrow(&mut self) {
        if let Hold::World(world, route) = self {
            *self = Hold::Series(world.series(*route).clone());
        }
    }
}

/// An IP address as text, in place.
#[derive(Debug, Clone, Copy)]
pub struct AddressText {
    text: [u8; ADDRESS_TEXT_MAX],
    len: u8,
}

/// `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255` is the longest.
const ADDRESS_TEXT_MAX: usize = 45;

impl AddressText {
    pub fn new(address: IpAddr) -> AddressText {
        let mut text = [0u8; ADDRESS_TEXT_MAX];
        let mut room = &mut text[..];
        let _ = write!(room, "{address}");
        let len = ADDRESS_TEXT_MAX - room.len();
        AddressText { text, len: len as u8 }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len as usize]
    }
}

/// How a client's connection is protected, and what it proved.
pub struct TlsInfo {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The name that the client asked for.
    pub server_name: Option<Box<str>>,
    /// The client's verified certificate chain as DER, its own first; empty where it showed none.
    pub client_chain: Vec<Box<[u8]>>,
    /// Whether our certificate on this connection stands for a host. Only where clients are asked for certificates: what was
    /// proved for one name must not open another.
    pub covers: Option<Covers>,
    /// The listener speaks HTTP/3 too, and this connection is none: the client is to know.
    pub offers_h3: bool,
}

/// Answers whether a host is one that a certificate stands for.
pub type Covers = Box<dyn Fn(&str) -> bool>;

/// The id of a request, as text in the request's buffer.
pub type RequestId = Slice;

/// What is logged and counted when the exchange is over.
#[derive(Debug)]
pub struct Record {
    /// When its first byte was read; when its head was complete, if that took more than one read.
    pub started: Instant,
    /// From the request on its way to the response head.
    pub upstream_time: Option<Duration>,
    /// The endpoint that answered, or was tried last.
    pub endpoint: Option<Remote>,
    /// Where it stood in its upstream's list then: one address may stand there by several names.
    pub endpoint_at: usize,
    pub attempts: u32,
    /// In the upstream's queue, where it had to wait.
    pub queued: Option<Duration>,
    /// A second request was sent beside the first: whether it was answered first.
    pub hedge_won: Option<bool>,
    /// Bytes of bodies.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub status: u16,
    pub fault: Option<(Kind, Cow<'static, str>)>,
}

impl Record {
    pub fn new(now: Instant) -> Record {
        Record {
            started: now,
            upstream_time: None,
            endpoint: None,
            endpoint_at: 0,
            attempts: 0,
            queued: None,
            hedge_won: None,
            bytes_in: 0,
            bytes_out: 0,
            status: 0,
            fault: None,
        }
    }
}

pub struct Exchange {
    pub request: RequestHead,
    pub body: Body,
    pub client: Option<Rc<dyn Client>>,
    pub peer: SocketAddr,
    /// The peer's address as text, without its port: made once per connection.
    pub peer_text: AddressText,
    /// The address that was connected to.
    pub local: SocketAddr,
    pub scheme: Scheme,
    pub tls: Option<Rc<TlsInfo>>,
    /// The listener answers with redirects to https alone.
    pub to_https: bool,
    pub forwarded: Forwarded,
    pub request_id: RequestId,
    /// The path without the API's base path: what routes match.
    pub local_path: Slice,
    /// The values of the route's path parameters, in the request's buffer.
    pub params: [Slice; PARAMS_MAX],
    pub params_len: u8,
    /// How many policies were entered.
    pub entered: u8,
    /// How the API speaks of what goes wrong, once it is known which.
    pub gateway_responses: GatewayResponses,
    /// Path and query for the back end; empty: the request's own.
    pub target: Vec<u8>,
    /// The response head must be there by then.
    pub deadline: Option<Instant>,
    /// Everything must be over by then: a gRPC client said so.
    pub lifetime: Option<Instant>,
    /// The gateway asks for itself: no client stands behind it, and nothing is said of one.
    pub is_own: bool,
    /// Who it comes from, once that is known.
    pub principal: Option<Arc<Principal>>,
    /// What limits took of its client.
    pub taken: TakenList,
    /// That of its caller's plan, where requests wait; a route may have a higher one.
    pub priority: u8,
    /// Set-Cookie lines that the answer has, whoever answers.
    pub set_cookies: Vec<String>,
    pub record: Record,
    pub hold: Hold,
    spare: Option<Box<ResponseHead>>,
}

impl Exchange {
    pub fn new(now: Instant) -> Exchange {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Exchange {
            request: RequestHead::default(),
            body: Body::Empty,
            client: None,
            peer: nowhere,
            peer_text: AddressText::new(nowhere.ip()),
            local: nowhere,
            scheme: Scheme::Http,
            tls: None,
            to_https: false,
            forwarded: Forwarded { client: IpAddr::V4(Ipv4Addr::UNSPECIFIED), trusted: false },
            request_id: Slice::default(),
            local_path: Slice::default(),
            params: [Slice::default(); PARAMS_MAX],
            params_len: 0,
            entered: 0,
            gateway_responses: GatewayResponses::Problem,
            target: Vec::new(),
            deadline: None,
            lifetime: None,
            is_own: false,
            principal: None,
            taken: TakenList::default(),
            priority: 0,
            set_cookies: Vec::new(),
            record: Record::new(now),
            hold: Hold::Nothing,
            spare: None,
        }
    }

    /// Forgets the request, keeps the memory up to what an ordinary one needs.
    pub fn clear(&mut self) {
        self.request.clear();
        self.request.headers.shrink(16 * 1024, 128);
        self.body = Body::Empty;
        self.client = None;
        self.tls = None;
        self.request_id = Slice::default();
        self.local_path = Slice::default();
        self.params_len = 0;
        self.entered = 0;
        self.gateway_responses = GatewayResponses::Problem;
        self.target.clear();
        self.deadline = None;
        self.lifetime = None;
        self.is_own = false;
        self.principal = None;
        self.taken.clear();
        self.priority = 0;
        self.set_cookies.clear();
        self.hold = Hold::Nothing;
        if let Some(spare) = &mut self.spare {
            spare.headers.shrink(16 * 1024, 128);
        }
        let record = &mut self.record;
        record.upstream_time = None;
        record.endpoint = None;
        record.attempts = 0;
        record.queued = None;
        record.hedge_won = None;
        record.bytes_in = 0;
        record.bytes_out = 0;
        record.status = 0;
        record.fault = None;
    }

    #[inline]
    pub fn client_ip(&self) -> IpAddr {
        self.forwarded.client
    }

    /// The client speaks gRPC: it looks for a status in its own place.
    pub fn is_grpc(&self) -> bool {
        self.request.headers.known(Name::ContentType).is_some_and(is_grpc)
    }

    pub fn request_id(&self) -> &[u8] {
        self.request.headers.slice(self.request_id)
    }

    pub fn local_path(&self) -> &[u8] {
        self.request.headers.slice(self.local_path)
    }

    /// The route that was chosen; `None` before that, and once the exchange let go of the world.
    pub fn matched(&self) -> Option<Matched<'_>> {
        match &self.hold {
            Hold::World(world, route) => world.matched(*route),
            Hold::Nothing | Hold::Series(_) => None,
        }
    }

    /// The value of the route's n-th path parameter, as it stands in the canonical path.
    pub fn param(&self, index: usize) -> &[u8] {
        self.request.headers.slice(self.params[index])
    }

    /// Takes over what another exchange would send to a back end: all but its body and its client.
    pub fn copy_request(&mut self, other: &Exchange) {
        self.request.clone_from(&other.request);
        self.peer = other.peer;
        self.peer_text = other.peer_text;
        self.local = other.local;
        self.scheme = other.scheme;
        self.forwarded = other.forwarded;
        self.request_id = other.request_id;
        self.local_path = other.local_path;
        self.params = other.params;
        self.params_len = other.params_len;
        self.target.clone_from(&other.target);
        // Nobody waits for its body to be asked for.
        self.request.expect_continue = false;
    }

    /// An empty response head, the last one's memory where there is one.
    pub fn take_head(&mut self) -> Box<ResponseHead> {
        let mut head = self.spare.take().unwrap_or_default();
        head.clear();
        head
    }

    /// Gives a head's memory back.
    pub fn keep_head(&mut self, head: Box<ResponseHead>) {
        self.spare = Some(head);
    }
}
