//! The one HTTP client of the control side: one connection for each request, bounded in time and size. Follows no redirect, repeats
//! nothing, and keeps nothing. Requests of clients never come this way.

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, HeaderValue, USER_AGENT};
use http::response::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use maitred_core::aws::clock;
use maitred_core::ports::{Asks, Fetch, FetchRequest, Fetched, Fetching};
use maitred_transport::{ClientTls, ClientTlsSpec, tls_words};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For one document, from the name lookup to its last byte.
const GET_TIME_MAX: Duration = Duration::from_secs(5);
/// For one address of several.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

const AGENT: &str = concat!("maitred/", env!("CARGO_PKG_VERSION"));

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a document. Whatever is not 200 is none, redirects too: who answers for another address is not who was asked.
pub(crate) async fn get(url: &str, tls: &Arc<ClientConfig>, bytes_max: usize) -> Result<Bytes, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
    let request = Request::get(uri).header(ACCEPT, "application/json").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let late = |_| format!("no answer within {} s", GET_TIME_MAX.as_secs());
    let sent = timeout(GET_TIME_MAX, send(request, tls, bytes_max)).await.map_err(late)?;
    let (head, body) = sent.map_err(|error| error.to_string())?;
    match head.status {
        StatusCode::OK => Ok(body),
        status if status.is_redirection() => Err(format!("the answer is {status}, and redirects are not followed")),
        status => Err(format!("the answer is {status}")),
    }
}

/// Fetches for those who have no sockets, on a runtime of the control side.
pub struct Fetcher {
    runtime: Handle,
    /// Made when the first request comes: it reads the system's authorities.
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Fetcher {
    pub fn new(runtime: Handle) -> Fetcher {
        Fetcher { runtime, tls: OnceLock::new() }
    }
}

impl Fetch for Fetcher {
    fn fetch(&self, request: FetchRequest) -> Fetching {
        let make = || ClientTls::new(&ClientTlsSpec::default()).map(|tls| tls.config()).map_err(|problem| problem.what);
        let tls = self.tls.get_or_init(make).clone();
        // It ends by its time, also where nobody waits for it any more.
        let fetched = self.runtime.spawn(async move { fetched(request, tls?).await });
        Box::pin(async move { fetched.await.map_err(|error| error.to_string())? })
    }
}

async fn fetched(request: FetchRequest, tls: Arc<ClientConfig>) -> Result<Fetched, String> {
    let FetchRequest { url, headers, asks, time_max, body_bytes_max } = request;
    let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
    let (mut builder, body) = match asks {
        Asks::Get => (Request::get(uri), String::new()),
        Asks::Put => (Request::put(uri).header(CONTENT_LENGTH, 0), String::new()),
        Asks::Form(form) => (Request::post(uri).header(CONTENT_TYPE, "application/x-www-form-urlencoded"), form),
    };
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    let body = Full::new(Bytes::from(body));
    let request = builder.body(body).map_err(|error| error.to_string())?;
    let late = |_| format!("no answer within {} ms", time_max.as_millis());
    let sent = timeout(time_max, send(request, &tls, body_bytes_max)).await.map_err(late)?;
    let (head, body) = sent.map_err(|error| error.to_string())?;
    let date = head.headers.get(DATE).and_then(|date| clock::seconds(date.to_str().ok()?));
    Ok(Fetched { status: head.status.as_u16(), date, body: body.to_vec() })
}

/// One request, over a connection of its own. Takes as long as it takes.
pub(crate) async fn send<B>(request: Request<B>, tls: &Arc<ClientConfig>, bytes_max: usize) -> Result<(Parts, Bytes), BoxError>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let Place { host, port, encrypted } = place(request.uri())?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = connect(bare, port).await.map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
    let request = prepared(request)?;
    if !encrypted {
        return over(TokioIo::new(stream), request, bytes_max).await;
    }
    let name = ServerName::try_from(bare.to_owned())?;
    let connected = TlsConnector::from(tls.clone()).connect(name, stream).await;
    let stream = connected.map_err(|error| format!("no TLS with {host}:{port}: {}", tls_words(&error)))?;
    over(TokioIo::new(stream), request, bytes_max).await
}

async fn over<S, B>(stream: S, request: Request<B>, bytes_max: usize) -> Result<(Parts, Bytes), BoxError>
where
    S: Read + Write + Unpin + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut builder = http1::Builder::new();
    let (mut sender, connection) = builder.max_buf_size(HEAD_BYTES_MAX).handshake(stream).await?;
    let _driver = Driver(tokio::spawn(async move { drop(connection.await) }));
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, bytes_max).collect().await?.to_bytes();
    Ok((head, body))
}

/// The connection's own task, ended with the request.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// An address of IPv6 in its brackets.
    pub host: String,
    pub port: u16,
    pub encrypted: bool,
}

pub(crate) fn place(uri: &Uri) -> Result<Place, BoxError> {
    let (encrypted, usual) = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => (true, 443),
        Some(scheme) if *scheme == Scheme::HTTP => (false, 80),
        Some(_) | None => return Err(format!("`{uri}` is neither http nor https").into()),
    };
    let host = uri.host().ok_or("a URL without a host")?;
    Ok(Place { host: host.to_owned(), port: uri.port_u16().unwrap_or(usual), encrypted })
}

/// As it is sent to the server itself: path and Host.
fn prepared<B>(mut request: Request<B>) -> Result<Request<B>, BoxError> {
    let uri = std::mem::take(request.uri_mut());
    let authority = uri.authority().ok_or("a URL without a host")?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    *request.uri_mut() = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")).into();
    Ok(request)
}

/// The first of its addresses that answers.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        match timeout(CONNECT_TIME_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls() -> Arc<ClientConfig> {
        let spec = maitred_transport::ClientTlsSpec::default();
        maitred_transport::ClientTls::new(&spec).expect("a client of TLS").config()
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_not_waited_for() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", silent.local_addr().unwrap());
        let before = tokio::time::Instant::now();
        let error = get(&url, &tls(), 100).await.expect_err("no answer");
        assert_eq!((error.as_str(), before.elapsed().as_secs()), ("no answer within 5 s", 5));
    }

    #[tokio::test]
    async fn a_document_is_200_and_no_larger_than_it_may_be() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys?v=1", server.local_addr().unwrap());
        for (answer, expected) in [
            ("200 OK\r\nContent-Length: 10\r\n\r\n0123456789", Ok("0123456789")),
            ("200 OK\r\n\r\n0123456789", Ok("0123456789")),
            ("200 OK\r\nContent-Length: 11\r\n\r\n0123456789a", Err("length limit exceeded")),
            ("200 OK\r\n\r\n0123456789a", Err("length limit exceeded")),
            ("200 OK\r\nContent-Length: 11\r\n\r\n012", Err("")),
            ("204 No Content\r\n\r\n", Err("204")),
            ("302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Err("redirects are not followed")),
            ("503 Busy\r\nContent-Length: 0\r\n\r\n", Err("503")),
        ] {
            let serving = async {
                let (mut stream, _) = server.accept().await.expect("a client");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("a request"));
                }
                stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.expect("a client that reads");
                String::from_utf8(head).expect("text")
            };
            let tls = tls();
            let (head, got) = tokio::join!(serving, get(&url, &tls, 10));
            assert!(head.starts_with("GET /keys?v=1 HTTP/1.1\r\n") && head.contains("connection: close\r\n"), "{head}");
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{answer}: {got}"),
                (got, expected) => panic!("{answer}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_url_leads_to_a_host_and_a_port() {
        for (url, expected) in [
            ("https://id.example/x", Some(("id.example", 443, true))),
            ("http://id.example/x", Some(("id.example", 80, false))),
            ("https://127.0.0.1:14000/dir", Some(("127.0.0.1", 14000, true))),
            ("http://[::1]:5/", Some(("[::1]", 5, false))),
            ("ftp://id.example/x", None),
            ("/x", None),
        ] {
            let place = place(&url.parse().unwrap()).ok();
            let place = place.as_ref().map(|place| (place.host.as_str(), place.port, place.encrypted));
            assert_eq!(place, expected, "{url}");
        }
    }
}
