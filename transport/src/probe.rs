//! Asks one endpoint one question, on a connection of its own that nobody else uses and that ends with the answer. Not for requests of clients: has
//! no pool, picks nothing, and whoever asks keeps the time.

use crate::client::{Begin, Carrier, ClientConnection, Link, LinkStream};
use crate::upstream::Dial;
use crate::worker::Worker;
use maitred_core::balance::{Figures, OpenConnection};
use maitred_core::{Body, Fault, Progress, Remote, Stream, Whole};
use maitred_wire::{Framing, HeadLimits, ResponseHead};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of an answer.
const HEAD_LIMITS: HeadLimits = HeadLimits { head_bytes: 64 * 1024, fields: 256, target_bytes: 0, drop_underscores: false };
/// Whoever asks gives up long before.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Belongs to one thread, as its worker does.
pub struct Prober {
    worker: Rc<Worker>,
    /// Connections of probes are not those of requests.
    figures: Arc<Figures>,
}

/// What to ask.
pub struct Question<'a> {
    /// As HTTP/1.1 has it; Host is the first field.
    pub head: &'a [u8],
    /// Its length stands in the head; empty for none.
    pub body: Vec<u8>,
    /// Of the answer's body; what is beyond is not read.
    pub bytes_max: usize,
    /// Whatever the upstream speaks otherwise.
    pub http2: bool,
}

#[derive(Debug, Default)]
pub struct Probed {
    pub status: u16,
    pub body: Vec<u8>,
    /// Of gRPC, from the head or the trailers.
    pub grpc_status: Option<String>,
}

impl Prober {
    pub fn new(worker: &Rc<Worker>) -> Prober {
        Prober { worker: worker.clone(), figures: Arc::new(Figures::new(worker.now())) }
    }

    /// A connection, hands shaken where there is TLS, and nothing more. `host`: the endpoint's own name, with its port.
    pub async fn connect(&self, dial: &Dial, remote: &Remote, host: &str) -> Result<(), Fault> {
        dial.connect(remote, host, None, &self.worker).await.map(drop)
    }

    /// The answer's head, and of its body what comes before it ends, breaks off, or is too long.
    pub async fn ask(&self, dial: &Dial, remote: &Remote, host: &str, question: Question<'_>) -> Result<Probed, Fault> {
        let socket = dial.connect(remote, host, None, &self.worker).await?;
        let open = OpenConnection::open(&self.figures);
        let carrier = if dial.http2 || question.http2 {
            Carrier::Http2(LinkStream::new(&Link::start(socket, &self.worker, open, None), &self.worker))
        } else {
            Carrier::Http1(ClientConnection::new(socket, &self.worker, None, open, None))
        };
        let mut begin = Some(begin(question.body, self.worker.now()));
        let mut head = ResponseHead::default();
        poll_fn(|cx| {
            if let Some(begin) = begin.take() {
                carrier.begin(cx, begin, |out| out.extend_from_slice(question.head))?;
            }
            carrier.poll_response(cx, &mut head, None, &HEAD_LIMITS)
        })
        .await
        .map_err(|failure| failure.fault)?;
        let mut probed = Probed { status: head.status, body: Vec::new(), grpc_status: None };
        let mut trailers = Vec::new();
        if head.framing != Framing::None
            && let Body::Stream(stream) = carrier.into_body()
        {
            read(&*stream, question.bytes_max, &mut probed.body).await;
            stream.trailers(&mut trailers);
        }
        let in_head = head.headers.get(b"grpc-status").map(|value| String::from_utf8_lossy(value).into_owned());
        probed.grpc_status = in_head.or_else(|| trailer(&trailers, "grpc-status"));
        Ok(probed)
    }
}

fn begin(body: Vec<u8>, started: Instant) -> Begin {
    let (framing, body) = if body.is_empty() {
        (Framing::None, Body::Empty)
    } else {
        (Framing::Length(body.len() as u64), Body::Stream(Rc::new(Whole::new(body.into()))))
    };
    Begin {
        body,
        framing,
        to_head: false,
        upgrade: false,
        expect_continue: false,
        deadline: None,
        response_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        started,
    }
}

async fn read(stream: &dyn Stream, bytes_max: usize, body: &mut Vec<u8>) {
    while body.len() < bytes_max
        && let Ok(Progress::Data) = poll_fn(|cx| stream.poll_ready(cx)).await
    {
        let data = stream.data();
        let count = data.len();
        body.extend_from_slice(&data[..count.min(bytes_max - body.len())]);
        drop(data);
        stream.consume(count);
    }
}

/// Of lines with CRLF.
fn trailer(lines: &[u8], wanted: &str) -> Option<String> {
    let lines = std::str::from_utf8(lines).ok()?;
    lines.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
    })
}
