//! Verbs that speak to a gateway that runs: where its admin listener is, and one question to it. What the answer means is the verb's
//! affair.

use crate::cli::{DEFAULT_FILE, Place};
use crate::configuration::{Source, read};
use crate::lambda::served::{self, Served};
use anyhow::{Context, bail, ensure};
use maitred_control::functions::token;
use maitred_model::Secret;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the admin listener is unless a configuration says otherwise.
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9080);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of an answer: one line, the diagnostics of a configuration, or a list of many thousand endpoints.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The status of who has no token, or a wrong one.
const UNAUTHORIZED: u16 = 401;
/// The token, where no configuration is read.
const TOKEN_VARIABLE: &str = "MAITRED_ADMIN_TOKEN";

pub struct Answer {
    pub status: u16,
    /// Null if it is no JSON.
    pub body: Value,
    pub raw: Raw,
}

/// As it came.
pub struct Raw {
    head: String,
    pub body: Vec<u8>,
}

impl Raw {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl Answer {
    /// What a problem says (RFC 9457).
    pub fn detail(&self) -> String {
        self.body["detail"].as_str().map_or_else(|| format!("it answers {}", self.status), |detail| detail.trim_end().to_owned())
    }
}

/// `time`: for the answer.
pub fn ask(place: &Place, method: &str, path: &str, time: Duration) -> anyhow::Result<Answer> {
    send(place, (method, path), None, time)
}

/// With a body.
pub fn send(place: &Place, line: (&str, &str), body: Option<&Value>, time: Duration) -> anyhow::Result<Answer> {
    let body = body.map_or_else(String::new, Value::to_string);
    carry(place, line, body.as_bytes(), time)
}

/// With a body of any kind.
pub fn carry(place: &Place, line: (&str, &str), body: &[u8], time: Duration) -> anyhow::Result<Answer> {
    let Asked { address, token, by } = asked(place)?;
    let answer = exchange(address, token.as_ref(), line, body, time)
        .with_context(|| format!("no answer from the admin listener on {address}{}", by.unanswered(token.is_some())))?;
    ensure!(answer.status != UNAUTHORIZED, "the admin listener on {address} {}", by.unauthorized(token.is_some()));
    Ok(answer)
}

/// Where to ask, and with what.
struct Asked {
    address: SocketAddr,
    token: Option<Secret>,
    by: By,
}

/// What said so.
enum By {
    Address,
    File(PathBuf),
    /// The note of a `lambda serve`.
    Serve,
    /// Nothing.
    Default,
}

impl By {
    /// What to do about it here, where nobody sends headers.
    fn unauthorized(&self, has_token: bool) -> String {
        let by_hand = format!("name it with --admin ADDRESS, and its token in {TOKEN_VARIABLE}");
        match (self, has_token) {
            (By::Address | By::Default, false) => format!(
                "wants its token: put it in {TOKEN_VARIABLE}, or name the configuration that has it with -f FILE instead of --admin"
            ),
            (By::Address | By::Default, true) => format!("does not take the token in {TOKEN_VARIABLE}"),
            (By::Serve, _) => format!("does not take the token of the `maitred lambda serve` in this folder; {by_hand}"),
            (By::File(file), false) => format!(
                "wants a token, and {} has none, nor is one beside its store; if that was changed since the gateway started, {by_hand}{}",
                file.display(),
                also_here()
            ),
            (By::File(file), true) => format!(
                "does not take the token of {}, or the one beside its store; if that was changed since the gateway started, {by_hand}{}",
                file.display(),
                also_here()
            ),
        }
    }

    fn unanswered(&self, has_token: bool) -> String {
        match self {
            By::Address | By::Serve => String::new(),
            By::Default => format!(
                ", where one is by default; this folder has no {DEFAULT_FILE}, and no `maitred lambda serve` of yours runs in it: start one, or name a gateway with -f FILE or --admin ADDRESS"
            ),
            // A gateway keeps the admin listener that it started with, whatever its file says by now.
            By::File(file) => {
                let token = if has_token { format!(", and its token in {TOKEN_VARIABLE}") } else { String::new() };
                format!(
                    ", where {} says that it is; if that was changed, the gateway that runs is still on its old address: name it with --admin ADDRESS{token}{}",
                    file.display(),
                    also_here()
                )
            }
        }
    }
}

/// Where a file is, the gateway that it is for is asked; who serves a function beside it may mean that one.
fn also_here() -> String {
    let running = here().into_iter().filter(|served| served.is_running);
    running.map(|served| format!("; for the `maitred lambda serve` in this folder, --admin {}", served.admin)).collect()
}

/// What `lambda serve` was started in this folder.
fn here() -> Vec<Served> {
    let Ok(folder) = std::env::current_dir() else { return Vec::new() };
    served::all().into_iter().filter(|served| served.folder == folder).collect()
}

/// For a segment of a path or a value of a query (RFC 3986, section 2.3): what is unreserved stays.
pub fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':');
    text.bytes().map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn exchange(
    address: SocketAddr,
    token: Option<&Secret>,
    (method, path): (&str, &str),
    body: &[u8],
    time: Duration,
) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX)?;
    stream.set_write_timeout(Some(CONNECT_TIME_MAX))?;
    stream.set_read_timeout(Some(time))?;
    let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {}\r\n", token.expose()));
    // Without a token only a loopback name is answered, and a write says that it is meant.
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nx-maitred: 1\r\n{token}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    parse(&answer).context("it is no HTTP that answers")
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = answer[end + 4..].to_vec();
    Some(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default(), raw: Raw { head: head.to_owned(), body } })
}

fn asked(place: &Place) -> anyhow::Result<Asked> {
    match (&place.admin, &place.file) {
        (Some(address), _) => at(*address, By::Address),
        (None, Some(file)) => configured(file),
        (None, None) if Path::new(DEFAULT_FILE).exists() => configured(&PathBuf::from(DEFAULT_FILE)),
        (None, None) => unconfigured(),
    }
}

/// By the token that somebody said, or the one of this user's `lambda serve` that is there.
fn at(address: SocketAddr, by: By) -> anyhow::Result<Asked> {
    let address = reachable(address);
    let token = match std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()) {
        Some(token) => Some(Secret::new(token)),
        None => {
            let is_there = |served: &Served| served.is_running && reachable(served.admin) == address;
            served::all().into_iter().find(is_there).map(|served| served.token()).transpose()?.flatten()
        }
    };
    Ok(Asked { address, token, by })
}

/// Where there is no file: the `lambda serve` of this folder, or whoever listens where most do.
fn unconfigured() -> anyhow::Result<Asked> {
    let (mut running, ended): (Vec<Served>, Vec<Served>) = here().into_iter().partition(|served| served.is_running);
    match (running.pop(), running.is_empty(), ended.first()) {
        (Some(only), true, _) => Ok(Asked { address: reachable(only.admin), token: only.token()?, by: By::Serve }),
        (Some(one), false, _) => {
            let all: String = running.iter().chain([&one]).map(|served| format!("\n  --admin {}", served.admin)).collect();
            bail!("more than one `maitred lambda serve` runs in this folder; say which one is meant:\n{all}")
        }
        // Who listens where it was is somebody else.
        (None, _, Some(ended)) => bail!(
            "the `maitred lambda serve` of this folder was killed, and left {}; start it again, remove that, or name a gateway with -f FILE or --admin ADDRESS",
            ended.place.display()
        ),
        (None, _, None) => at(DEFAULT_ADMIN, By::Default),
    }
}

fn configured(file: &Path) -> anyhow::Result<Asked> {
    let read = read(&Source::File(file.to_owned()));
    let words = read.render(false);
    let Some(document) = read.document else {
        bail!(
            "{} has errors; name the admin listener with --admin to ask it nevertheless\n\n{}",
            file.display(),
            words.trim_end()
        );
    };
    let address = document.admin.listen.value;
    ensure!(address.port() != 0, "the admin listener of {} takes any port; name it with --admin", file.display());
    let token = match document.admin.token {
        Some(token) => Some(token),
        // Made at a start, where functions are hosted; it stays there when they are gone.
        None => token::read(&document.store)?,
    };
    Ok(Asked { address: reachable(address), token, by: By::File(file.to_owned()) })
}

/// A listener on every address is asked on this machine's own.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_asked_on_this_machine() {
        for (address, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("192.0.2.1:1", "192.0.2.1:1"), ("[::1]:1", "[::1]:1")]
        {
            assert_eq!(reachable(address.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn who_has_no_right_token_is_told_where_to_put_it() {
        let file = || By::File("gate.yaml".into());
        for (has_token, by, words) in [
            (false, By::Address, ["put it in MAITRED_ADMIN_TOKEN", "-f FILE"]),
            (true, By::Default, ["does not take", "the token in MAITRED_ADMIN_TOKEN"]),
            (false, file(), ["gate.yaml has none", "its token in MAITRED_ADMIN_TOKEN"]),
            (true, file(), ["the token of gate.yaml", "its token in MAITRED_ADMIN_TOKEN"]),
        ] {
            let said = by.unauthorized(has_token);
            assert!(words.iter().all(|part| said.contains(part)), "{said}");
        }
    }

    #[test]
    fn what_means_something_else_in_a_url_is_escaped() {
        assert_eq!(escaped("10.0.1.1:9000"), "10.0.1.1:9000");
        assert_eq!(escaped("http://[::1]:9000/a?b&c#d%"), "http:%2F%2F%5B::1%5D:9000%2Fa%3Fb%26c%23d%25");
    }

    #[test]
    fn an_answer_is_a_status_and_what_it_says() {
        let answer = parse(b"HTTP/1.1 409 Conflict\r\na: b\r\n\r\n{\"detail\":\"no\\n\"}").unwrap();
        assert_eq!((answer.status, answer.detail().as_str()), (409, "no"));
        assert_eq!((answer.raw.header("A"), answer.raw.header("b")), (Some("b"), None));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\nwell").unwrap().detail(), "it answers 200");
        for other in ["SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK", "HTTP/1.1 20é\r\n\r\n", ""] {
            assert!(parse(other.as_bytes()).is_none(), "{other}");
        }
    }
}
