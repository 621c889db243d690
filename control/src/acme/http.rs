//! HTTP for talking with an authority: https alone, one connection for each request, bounded in time and size. Signs nothing and
//! repeats nothing.

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use maitred_core::Clock;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For one request, from the name lookup to the answer's last byte. Authorities answer in a second; finalizing may take some.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// For one address of several.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of an answer: a chain is the longest, and has a few thousand.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

const AGENT: &str = concat!("maitred/", env!("CARGO_PKG_VERSION"), " instant-acme/0.8");

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The client of one order: what it was told about patience is told to nobody else.
#[derive(Clone)]
pub(super) struct Http {
    tls: Arc<ClientConfig>,
    clock: Clock,
    patience: Arc<Mutex<Option<i64>>>,
}

impl Http {
    pub fn new(tls: Arc<ClientConfig>, clock: Clock) -> Http {
        Http { tls, clock, patience: Arc::default() }
    }

    /// For how many seconds the last refusal asked for patience.
    pub fn patience(&self) -> Option<i64> {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, BoxError> {
        let (host, port) = place(request.uri())?;
        let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned())?;
        let stream = connect(&host, port).await.map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
        let connected = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
        let stream = connected.map_err(|error| format!("no TLS with {host}:{port}: {error}"))?;
        let mut builder = http1::Builder::new();
        let (mut sender, connection) = builder.max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await?;
        let _driver = Driver(tokio::spawn(async move { drop(connection.await) }));
        let response = sender.send_request(prepared(request)?).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
        if parts.status.is_client_error() || parts.status.is_server_error() {
            let told = parts.headers.get(RETRY_AFTER).and_then(|value| self.seconds(value));
            *self.patience.lock().unwrap_or_else(PoisonError::into_inner) = told;
            // A problem document is for those who asked; whatever else an outage answers with is not.
            if serde_json::from_slice::<serde_json::Value>(&body).is_err() {
                return Err(format!("{host}:{port} answers {}", parts.status).into());
            }
        }
        Ok(BytesResponse { parts, body: Box::new(body) })
    }

    /// RFC 9110 §10.2.3: seconds, or a date.
    fn seconds(&self, value: &HeaderValue) -> Option<i64> {
        let text = value.to_str().ok()?.trim();
        match text.parse::<u32>() {
            Ok(seconds) => Some(i64::from(seconds)),
            Err(_) => {
                let then = httpdate::parse_http_date(text).ok()?;
                Some(then.duration_since(self.clock.wall()).map_or(0, |wait| wait.as_secs() as i64))
            }
        }
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let exchange = self.clone().exchange(request);
        Box::pin(async move {
            let late = |_| format!("no answer within {} s", REQUEST_TIME_MAX.as_secs()).into();
            timeout(REQUEST_TIME_MAX, exchange).await.map_err(late).flatten().map_err(Error::Other)
        })
    }
}

/// The connection's own task, ended with the request.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// RFC 8555 §6.1: https alone, also where the directory leads.
fn place(uri: &Uri) -> Result<(String, u16), BoxError> {
    if uri.scheme() != Some(&Scheme::HTTPS) {
        return Err(format!("`{uri}` is not https").into());
    }
    let host = uri.host().ok_or("a URL without a host")?;
    Ok((host.to_owned(), uri.port_u16().unwrap_or(443)))
}

/// As it is sent to the server itself: path and Host.
fn prepared(mut request: Request<BodyWrapper<Bytes>>) -> Result<Request<BodyWrapper<Bytes>>, BoxError> {
    let uri = std::mem::take(request.uri_mut());
    let authority = uri.authority().ok_or("a URL without a host")?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    *request.uri_mut() = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")).into();
    Ok(request)
}

/// The first of its addresses that answers.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host.trim_start_matches('[').trim_end_matches(']'), port)).await? {
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

    fn http(clock: Clock) -> Http {
        let spec = maitred_transport::ClientTlsSpec::default();
        Http::new(maitred_transport::ClientTls::new(&spec).unwrap().config(), clock)
    }

    #[test]
    fn patience_is_asked_for_in_seconds_or_until_a_date() {
        let clock = Clock::default();
        let http = http(clock.clone());
        let date = httpdate::fmt_http_date(clock.wall() + Duration::from_secs(100));
        let read = |text: &str| http.seconds(&HeaderValue::from_str(text).unwrap());
        assert!((98..=100).contains(&read(&date).unwrap()));
        clock.turn(Duration::from_secs(1000));
        assert_eq!(read(&date), Some(0));
        for (text, seconds) in [("120", Some(120)), (" 7 ", Some(7)), ("soon", None), ("-5", None), ("99999999999", None)] {
            assert_eq!(read(text), seconds, "{text}");
        }
    }

    #[test]
    fn only_https_is_spoken() {
        for (url, expected) in [
            ("https://acme.example/x", Some(("acme.example", 443))),
            ("https://127.0.0.1:14000/dir", Some(("127.0.0.1", 14000))),
            ("https://[::1]:5/", Some(("[::1]", 5))),
            ("http://acme.example/x", None),
            ("/x", None),
        ] {
            let place = place(&url.parse().unwrap()).ok();
            assert_eq!(place.as_ref().map(|(host, port)| (host.as_str(), *port)), expected, "{url}");
        }
    }
}
