//! `counters`: where limits and quotas are counted. What a URL of servers may be says `values/redis.rs`.

use super::tls::UpstreamTlsShape;
use super::values::{SecretText, Timeout};
use crate::decode::{Cx, Defs, ScalarOr, Shape, named, record, text, texts, words};
use crate::diagnostics::Diagnostic;
use crate::document::{Counters, CountersFailure, CountingMode, RedisCounters, RedisServers, UpstreamTls};
use crate::span::Spanned;
use crate::values::{Secret, ValueError};
use crate::yaml::{Kind, Node};
use serde_json::{Value, json};

texts! {
    /// What keys on the servers begin with, where others keep theirs too.
    PrefixText => String, parse_prefix, "a prefix such as `maitred`", "^[A-Za-z0-9._:/-]{1,64}$";
}

/// Each key carries it.
const PREFIX_BYTES_MAX: usize = 64;

fn parse_prefix(text: &str) -> Result<String, ValueError> {
    // Braces would decide on which server of a cluster a key is.
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
    if text.is_empty() || text.len() > PREFIX_BYTES_MAX || !text.bytes().all(good) {
        let hint = format!("letters, digits and `. _ : / -`, {PREFIX_BYTES_MAX} at most: `prefix: maitred`");
        return Err(ValueError::new(format!("`{text}` is no prefix of keys")).hint(hint));
    }
    Ok(text.to_owned())
}

words! {
    /// How counts that gateways share are asked.
    CountingMode {
        /// By each request.
        Exact = "exact",
        /// Ahead, slice by slice.
        LocalFirst = "local_first",
    }
}

words! {
    /// What becomes of requests while the counts cannot be asked.
    CountersFailure {
        /// Each gateway counts for itself.
        Local = "local",
        /// They pass uncounted.
        Open = "open",
        /// They are refused.
        Closed = "closed",
    }
}

/// Where servers are.
pub(crate) struct RedisUrl;

impl Shape for RedisUrl {
    type Out = RedisServers;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<RedisServers> {
        let scalar = cx.scalar(node, WHAT)?;
        if scalar.origin.is_none() && RedisServers::has_password(&scalar.text) {
            cx.plain_secrets.push(node.span);
            cx.push(
                Diagnostic::warning("plain-secret", node.span, "a secret in plain text")
                    .hint("keep it elsewhere, and write `redis://user:${env:NAME}@host`"),
            );
        }
        text(node, cx, WHAT, |scalar| RedisServers::parse(&scalar.text))
    }

    fn schema(defs: &mut Defs) -> Value {
        let doc = "Servers that speak Redis' protocol: `redis://[user:password@]host[:port][/database]`, `redis-cluster://host,host`, \
                   `redis-sentinel://host,host/name`; `rediss…` for TLS; `redis+unix:///path` for a socket.";
        named(defs, "RedisUrl", &[doc], "^redis(s?(-cluster|-sentinel)?|\\+unix)://.+$")
    }
}

const WHAT: &str = "where servers are, such as `redis://host:6379`";

record! {
    /// Counts that gateways share.
    "`counters`" => struct RawCounters {
        /// Where the servers are.
        url: Spanned<RedisUrl> = required,
        /// The password, if it does not stand in the URL.
        password: Option<SecretText> = absent,
        /// Whether each request asks, or slices are asked for ahead.
        mode: CountingMode = "exact",
        /// No request waits longer for its counts.
        timeout: Timeout = "50ms",
        /// What becomes of requests while the counts cannot be asked.
        on_failure: CountersFailure = "local",
        /// What keys on the servers begin with.
        prefix: PrefixText = "maitred",
        /// Whom to believe that it is the server, with `rediss`.
        tls: Option<Spanned<UpstreamTlsShape>> = absent,
    }
}

/// A URL, everything else as it is by default.
struct CountersShort;

impl Shape for CountersShort {
    type Out = Counters;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Counters> {
        let scalar = cx.scalar(node, "`memory`, or where servers are")?;
        if scalar.text == MEMORY {
            return Some(Counters::Memory);
        }
        // The long form with a URL alone, so that there is one place for defaults.
        let entry = (Spanned::new("url".to_owned(), node.span), node.clone());
        let long = Node { span: node.span, kind: Kind::Mapping(vec![entry]) };
        let RawCounters { url, password: _, mode, timeout, on_failure, prefix, tls } = RawCounters::decode(&long, cx)?;
        Some(Counters::Redis(Box::new(RedisCounters { servers: url, mode, timeout, on_failure, prefix, tls })))
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({ "anyOf": [{ "const": MEMORY }, RedisUrl::schema(defs)] })
    }
}

const MEMORY: &str = "memory";

struct CountersLong;

impl Shape for CountersLong {
    type Out = Counters;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Counters> {
        let RawCounters { url, password, mode, timeout, on_failure, prefix, tls } = RawCounters::decode(node, cx)?;
        let servers = with_password(url, password, node, cx)?;
        let tls = fits(&servers, tls, cx)?;
        Some(Counters::Redis(Box::new(RedisCounters { servers, mode, timeout, on_failure, prefix, tls })))
    }

    fn schema(defs: &mut Defs) -> Value {
        RawCounters::schema(defs)
    }
}

fn with_password(
    mut url: Spanned<RedisServers>,
    password: Option<Secret>,
    node: &Node,
    cx: &mut Cx<'_>,
) -> Option<Spanned<RedisServers>> {
    let Some(password) = password else { return Some(url) };
    if url.value.password.is_some() {
        let span = node.get("password").map_or(node.span, |node| node.span);
        cx.error("contradiction", span, "the password stands in the URL already", "leave one of them out");
        return None;
    }
    url.value.password = Some(password);
    Some(url)
}

/// `None`: it was complained about.
fn fits(
    servers: &Spanned<RedisServers>,
    tls: Option<Spanned<UpstreamTls>>,
    cx: &mut Cx<'_>,
) -> Option<Option<Spanned<UpstreamTls>>> {
    match tls {
        Some(tls) if !servers.value.is_encrypted => {
            let message = "`tls` is for encrypted connections, and the URL asks for plain ones";
            cx.error("contradiction", tls.span, message, "write `rediss` in place of `redis` in the URL, or remove `tls`");
            None
        }
        tls => Some(tls),
    }
}

/// `memory`, a URL, or a mapping.
pub(crate) struct CountersShape;

impl Shape for CountersShape {
    type Out = Counters;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Counters> {
        ScalarOr::<CountersShort, CountersLong>::decode(node, cx)
    }

    fn schema(defs: &mut Defs) -> Value {
        ScalarOr::<CountersShort, CountersLong>::schema(defs)
    }
}

#[cfg(test)]
mod tests {
    use crate::document::Counters;
    use crate::{Memory, load_text};

    fn counters(written: &str, password: &str) -> Counters {
        let text = format!(
            "listen: 127.0.0.1:0\nsecret_key: \"${{env:KEY}}\"\ncounters: {written}\napis: {{ a: {{ routes: [ {{ match: GET /, respond: {{ status: 204 }} }} ] }} }}\n"
        );
        let sources = Memory::default().var("KEY", "0123456789abcdef0123456789abcdef").var("PASSWORD", password);
        load_text("test.yaml", &text, &sources).document.expect("a good configuration").counters
    }

    #[test]
    fn what_is_the_same_needs_no_restart_and_what_is_not_does() {
        let short = "\"redis://:${env:PASSWORD}@cache\"";
        let first = counters(short, "one");
        let long = "{ url: \"redis://cache:6379/0\", password: \"${env:PASSWORD}\", timeout: 50ms, prefix: maitred }";
        assert!(first.is_same(&counters(long, "one")), "said in another way");
        assert!(!first.is_same(&counters(short, "two")), "another password");
        assert!(!first.is_same(&counters("memory", "one")) && !first.is_same(&counters("redis://cache", "one")));
        for changed in ["mode: local_first", "timeout: 51ms", "on_failure: open", "prefix: other"] {
            let (one, other) = (counters("redis://cache", ""), counters(&format!("{{ url: redis://cache, {changed} }}"), ""));
            assert!(!one.is_same(&other), "{changed}");
        }
    }
}
