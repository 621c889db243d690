//! A request in AWS's terms, once it is known who sends it: whatever answers one takes a `Call`, and there is no other way to make one.
//! Signed with a key that is known here (Signature Version 4), or with the admin token as any other request to this listener.

use super::super::Patience;
use super::super::answers::App;
use super::super::functions::BODY_TIME_MAX;
use super::super::gate::content_length;
use super::refusal::Refusal;
use crate::functions::keys::Caller;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use http_body_util::BodyExt;
use maitred_core::aws::sigv4::{self, Claim, SecretKey, Shown};
use maitred_core::function::PAYLOAD_BYTES_MAX;
use std::time::{Duration, UNIX_EPOCH};

/// Clocks may differ by so much (reference: AWS, Signature Version 4).
const SKEW_MAX: Duration = Duration::from_secs(5 * 60);
/// Bytes of a body that is read before its sender is known without waiting for a turn at that.
const SMALL_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a body that is refused and read nevertheless: a client that still writes would see its connection fail, and not the answer.
const DRAINED_BYTES_MAX: u64 = 32 * 1024 * 1024;

pub(in crate::admin) struct Call {
    pub caller: Caller,
    pub headers: HeaderMap,
    pub uri: Uri,
    pub body: Bytes,
    pub patience: Patience,
}

impl FromRequest<App> for Call {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Call, Refusal> {
        let (parts, body) = request.into_parts();
        let patience = parts.extensions.get::<Patience>().cloned().ok_or_else(|| Refusal::service("No connection."))?;
        if app.gate.shows_token(&parts.headers) {
            let body = read(body, &parts.headers).await?;
            return Ok(Call { caller: Caller::Admin, headers: parts.headers, uri: parts.uri, body, patience });
        }
        let headers: Vec<(&[u8], &[u8])> =
            parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
        let request = as_signed(&parts, &headers);
        let (claim, key, caller) = claim(&request, app)?;
        // What may be large and nobody's waits for its turn.
        let is_small = parts.headers.contains_key(CONTENT_LENGTH) && content_length(&parts.headers) <= SMALL_BYTES_MAX;
        let _turn = match is_small {
            true => None,
            false => Some(app.unknown_bodies.acquire().await.map_err(|_| Refusal::service("No turn at bodies."))?),
        };
        let body = read(body, &parts.headers).await?;
        sigv4::verify(&request, &claim, key, &body).map_err(Refusal::wrong_signature)?;
        Ok(Call { caller, headers: parts.headers.clone(), uri: parts.uri.clone(), body, patience })
    }
}

fn as_signed<'a>(parts: &'a Parts, headers: &'a [(&'a [u8], &'a [u8])]) -> sigv4::Parts<'a> {
    let host = parts.headers.get(HOST).map_or(&[][..], |host| host.as_bytes());
    sigv4::Parts {
        method: parts.method.as_str().as_bytes(),
        path: parts.uri.path().as_bytes(),
        query: parts.uri.query().unwrap_or_default().as_bytes(),
        host: parts.uri.authority().map_or(host, |authority| authority.as_str().as_bytes()),
        headers,
    }
}

/// Who says to have signed it, and the key with which he must have. Nothing is believed yet.
fn claim<'k>(request: &sigv4::Parts<'_>, app: &'k App) -> Result<(Claim, &'k SecretKey, Caller), Refusal> {
    if !sigv4::in_header(request) && !sigv4::in_query(request) {
        let has_other = request.headers.iter().any(|(name, _)| *name == AUTHORIZATION.as_str().as_bytes());
        return Err(if has_other { Refusal::incomplete_signature("not one of AWS's") } else { Refusal::missing_signature() });
    }
    // A key of AWS's that lasts for an hour: nobody here has one.
    if request.headers.iter().any(|(name, _)| *name == sigv4::TOKEN_HEADER) {
        return Err(Refusal::unknown_key());
    }
    let claim = Claim::read(request).map_err(Refusal::incomplete_signature)?;
    if claim.shown != Shown::Header {
        return Err(Refusal::incomplete_signature("it stands in the query"));
    }
    let (key, caller) = app.keys.find(&claim.key_id).ok_or_else(Refusal::unknown_key)?;
    // What was signed for one service is of no use at another.
    let service: &[u8] = if request.path.starts_with(b"/@connections/") { b"execute-api" } else { b"lambda" };
    if claim.service.as_bytes() != service {
        return Err(Refusal::wrong_signature("its credential is scoped to another service"));
    }
    let now = app.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    claim.check_time(now, SKEW_MAX).map_err(Refusal::wrong_signature)?;
    Ok((claim, key, caller))
}

/// All of it.
async fn read(body: Body, headers: &HeaderMap) -> Result<Bytes, Refusal> {
    let most = PAYLOAD_BYTES_MAX as u64;
    if content_length(headers) > most {
        drain(body).await;
        return Err(Refusal::too_large());
    }
    match tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, PAYLOAD_BYTES_MAX)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(Refusal::too_large()),
        Err(_) => Err(Refusal::too_slow()),
    }
}

/// Takes what comes and keeps nothing of it.
async fn drain(mut body: Body) {
    if body.size_hint().lower() > DRAINED_BYTES_MAX {
        return;
    }
    let all = async { while matches!(body.frame().await, Some(Ok(_))) {} };
    let _ = tokio::time::timeout(BODY_TIME_MAX, all).await;
}
