//! What an endpoint is asked, and whether its answer is a good one. Pure but for `ask`, which lets the transport do the asking.

use maitred_core::{Fault, Kind, Remote};
use maitred_model::{HealthCheck, Probe};
use maitred_transport::{Dial, Probed, Prober, Question, Target};
use std::net::SocketAddr;

/// Of an answer's body: enough for any page of health, and read only so that the back end has not written in vain.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Of gRPC's answer: two bytes of a message are meant.
const GRPC_BYTES_MAX: usize = 4 * 1024;
const USER_AGENT: &str = concat!("maitred/", env!("CARGO_PKG_VERSION"), " health check");

/// Why a check failed, in words for the log.
pub(super) type Verdict = Result<(), String>;

/// Takes as long as it takes.
pub(super) async fn ask(prober: &Prober, dial: &Dial, check: &HealthCheck, target: &Target) -> Verdict {
    let remote = place(&target.address, check.port);
    let host = &target.authority;
    match &check.probe {
        Probe::Tcp => prober.connect(dial, &remote, host).await.map_err(|fault| words(&fault, &remote)),
        Probe::Http { path, host: named, expect } => {
            let head = http_head(path, named.as_deref().unwrap_or(host));
            let question = Question { head: &head, body: Vec::new(), bytes_max: BODY_BYTES_MAX, http2: false };
            let probed = prober.ask(dial, &remote, host, question).await.map_err(|fault| words(&fault, &remote))?;
            judge_http(probed.status, expect)
        }
        Probe::Grpc { service } => {
            let body = grpc_request(service);
            let head = grpc_head(host, body.len());
            let question = Question { head: &head, body, bytes_max: GRPC_BYTES_MAX, http2: true };
            let probed = prober.ask(dial, &remote, host, question).await.map_err(|fault| words(&fault, &remote))?;
            judge_grpc(&probed)
        }
    }
}

/// A socket of this machine has no port.
fn place(address: &Remote, port: Option<u16>) -> Remote {
    match (address, port) {
        (Remote::Tcp(address), Some(port)) => Remote::Tcp(SocketAddr::new(address.ip(), port)),
        (Remote::Tcp(_) | Remote::Unix(_), _) => address.clone(),
    }
}

fn http_head(path: &str, host: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {USER_AGENT}\r\naccept: */*\r\nconnection: close\r\n\r\n")
        .into_bytes()
}

fn judge_http(status: u16, expect: &[(u16, u16)]) -> Verdict {
    if expect.iter().any(|(from, to)| (*from..=*to).contains(&status)) {
        return Ok(());
    }
    let range = |(from, to): &(u16, u16)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    Err(format!("status {status}, expected {}", expect.iter().map(range).collect::<Vec<_>>().join(", ")))
}

fn grpc_head(host: &str, length: usize) -> Vec<u8> {
    format!(
        "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: {host}\r\nuser-agent: {USER_AGENT}\r\n\
         content-type: application/grpc\r\nte: trailers\r\ncontent-length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// `HealthCheckRequest { string service = 1 }` of grpc/health/v1/health.proto, behind gRPC's prefix of five bytes.
fn grpc_request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, with a length.
        message.push(0x0a);
        varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// UNIMPLEMENTED, a server without the service of health, is not well: it would be well whatever happens.
fn judge_grpc(probed: &Probed) -> Verdict {
    if probed.status != 200 {
        return Err(format!("status {}, expected 200 of gRPC", probed.status));
    }
    match probed.grpc_status.as_deref() {
        Some("0") => {}
        Some("5") => return Err("the server does not know this service (NOT_FOUND)".to_owned()),
        Some("12") => return Err("the server has no grpc.health.v1.Health (UNIMPLEMENTED)".to_owned()),
        Some(code) => return Err(format!("grpc-status {code}, expected 0")),
        None => return Err("the answer has no grpc-status".to_owned()),
    }
    match serving_status(&probed.body) {
        Some(1) => Ok(()),
        Some(2) => Err("it says NOT_SERVING".to_owned()),
        Some(3) => Err("it says SERVICE_UNKNOWN".to_owned()),
        Some(0) => Err("it says UNKNOWN".to_owned()),
        Some(other) => Err(format!("it says {other}, which is no status of health")),
        None => Err("the answer is no HealthCheckResponse".to_owned()),
    }
}

/// `HealthCheckResponse { ServingStatus status = 1 }`; other fields are passed over. The default, 0, is not written.
fn serving_status(framed: &[u8]) -> Option<u64> {
    let (prefix, rest) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?) as usize;
    // Nobody asked for compression.
    let mut message = rest.get(..length).filter(|_| prefix[0] == 0)?;
    let mut status = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        match key & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Whom it was about stands beside it in the log.
fn words(fault: &Fault, remote: &Remote) -> String {
    let detail = fault.detail.as_ref();
    if fault.kind == Kind::UpstreamUnreachable
        && let Some(error) = detail.strip_prefix(&format!("cannot connect to {remote}: "))
    {
        // "Connection refused (os error 111)": the number is the machine's own.
        let error = error.split(" (os error").next().unwrap_or(error);
        return error.to_lowercase();
    }
    detail.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_expected_or_not() {
        let ranges = [(200, 299), (401, 401)];
        for (status, verdict) in
            [(200, Ok(())), (299, Ok(())), (401, Ok(())), (503, Err("status 503, expected 200-299, 401".to_owned()))]
        {
            assert_eq!(judge_http(status, &ranges), verdict);
        }
    }

    #[test]
    fn a_question_of_grpc_names_its_service() {
        assert_eq!(grpc_request(""), [0, 0, 0, 0, 0]);
        assert_eq!(grpc_request("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = grpc_request(&"x".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01]);
    }

    #[test]
    fn answers_of_grpc() {
        for (body, expected) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            // Another field before: 2, with a length of 1.
            (&[0, 0, 0, 0, 5, 0x12, 1, 9, 8, 1], Some(1)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 1, 8], None),
            (&[], None),
        ] {
            assert_eq!(serving_status(body), expected, "{body:?}");
        }
        let judged = |status, grpc: Option<&str>, last| {
            let probed = Probed { status, body: vec![0, 0, 0, 0, 2, 8, last], grpc_status: grpc.map(str::to_owned) };
            judge_grpc(&probed)
        };
        assert_eq!(judged(200, Some("0"), 1), Ok(()));
        assert!(judged(200, Some("0"), 2).unwrap_err().contains("NOT_SERVING"));
        assert!(judged(200, Some("12"), 1).unwrap_err().contains("UNIMPLEMENTED"));
        assert!(judged(200, None, 1).is_err() && judged(404, None, 1).is_err());
    }

    #[test]
    fn failures_are_told_without_whom_they_are_about() {
        let remote = Remote::Tcp("10.0.0.1:80".parse().unwrap());
        let fault = Fault::new(Kind::UpstreamUnreachable, "cannot connect to 10.0.0.1:80: Connection refused (os error 111)");
        assert_eq!(words(&fault, &remote), "connection refused");
        assert_eq!(words(&Fault::new(Kind::UpstreamReset, "it closed"), &remote), "it closed");
    }

    #[test]
    fn another_port_is_that_of_an_address() {
        let (tcp, unix) = (Remote::Tcp("[::1]:80".parse().unwrap()), Remote::Unix(std::path::Path::new("/a").into()));
        assert_eq!(place(&tcp, Some(81)).to_string(), "[::1]:81");
        assert_eq!(place(&tcp, None), tcp);
        assert_eq!(place(&unix, Some(81)), unix);
    }
}
