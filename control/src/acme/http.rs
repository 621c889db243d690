//! HTTP for talking with an authority: https alone, by the one client of this side. Signs nothing and repeats nothing.

use crate::fetch::{self, BoxError, Place};
use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, Uri};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use maitred_core::Clock;
use rustls::ClientConfig;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// For one request, from the name lookup to the answer's last byte. Authorities answer in a second; finalizing may take some.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes of an answer: a chain is the longest, and has a few thousand.
const BODY_BYTES_MAX: usize = 1024 * 1024;

const AGENT: &str = concat!("maitred/", env!("CARGO_PKG_VERSION"), " instant-acme/0.8");

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

    async fn exchange(self, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, BoxError> {
        let Place { host, port, .. } = place(request.uri())?;
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let (parts, body) = fetch::send(request, &self.tls, BODY_BYTES_MAX).await?;
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

/// RFC 8555 §6.1: https alone, also where the directory leads.
fn place(uri: &Uri) -> Result<Place, BoxError> {
    let place = fetch::place(uri)?;
    if place.encrypted { Ok(place) } else { Err(format!("`{uri}` is not https").into()) }
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

    #[tokio::test(start_paused = true)]
    async fn an_authority_that_says_nothing_is_not_waited_for() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/directory", silent.local_addr().unwrap());
        let request = Request::get(url).body(BodyWrapper::default()).unwrap();
        let before = tokio::time::Instant::now();
        let error = http(Clock::default()).request(request).await.err().expect("no answer");
        assert_eq!((error.to_string().as_str(), before.elapsed().as_secs()), ("no answer within 30 s", 30));
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
            assert_eq!(place.as_ref().map(|place| (place.host.as_str(), place.port)), expected, "{url}");
        }
    }
}
