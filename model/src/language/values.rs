//! The forms of single values: durations, sizes, addresses, names, secrets.

use crate::decode::{Cx, Defs, Shape, check_name, named, text, texts};
use crate::diagnostics::Diagnostic;
use crate::values::{
    HeaderName, HeaderValue, HostPattern, IpNet, Rate, Secret, Share, Template, ValueError, canonical_path, parse_duration,
    parse_method, parse_size,
};
use crate::yaml::{Node, Scalar};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time;

texts! {
    /// A duration: a whole number and one of the units `ms`, `s`, `min`, `h`, `d`, as in `250ms` or `5min`.
    Duration => time::Duration, parse_duration, "a duration such as `15s`", "^[0-9]+(ms|s|min|h|d)$";
    /// A duration above nothing: a whole number and one of the units `ms`, `s`, `min`, `h`, `d`.
    Timeout => time::Duration, parse_timeout, "a duration such as `15s`", "^[0-9]*[1-9][0-9]*(ms|s|min|h|d)$";
    /// A size: a whole number and one of the units `B`, `KiB`, `MiB`, `GiB`, `TiB`, or the decimal `KB`, `MB`, `GB`, `TB`.
    Size => u64, parse_size, "a size such as `10MiB`", "^[0-9]+([KMGT]i?B|B)$";
    /// A size from 1B to 1GiB.
    SmallSize => NonZeroU32, parse_small_size, "a size such as `64KiB`", "^[0-9]+([KMG]i?B|B)$";
    /// A flow control window, from 65535B to 16MiB.
    WindowSize => NonZeroU32, parse_window, "a size such as `256KiB`", "^[0-9]+([KM]i?B|B)$";
    /// A share of a whole, as in `5%` or `0.1%`.
    ShareText => Share, Share::parse, "a share such as `5%`", "^[0-9]+(\\.[0-9]+)?%$";
    /// So many in each second, minute or hour, as in `100/s`, `6000/min` or `10/h`.
    RateText => Rate, Rate::parse, "a rate such as `100/s`", "^[0-9]+/(s|min|h)$";
    /// A share of a whole, as in `5%`, or `0%` for never.
    ShareOrNever => Share, Share::parse_or_none, "a share such as `5%`", "^[0-9]+(\\.[0-9]+)?%$";
    /// An IP address and a port, as in `127.0.0.1:8080` or `[::1]:8080`.
    Address => SocketAddr, parse_address, "an address such as `127.0.0.1:8080`", "^.+:[0-9]+$";
    /// A network such as `10.0.0.0/8`, or one address.
    Network => IpNet, IpNet::parse, "a network such as `10.0.0.0/8`", "^[0-9A-Fa-f:.]+(/[0-9]+)?$";
    /// A host such as `api.example.com`, or `*.example.com` for every name below it.
    Host => HostPattern, HostPattern::parse, "a host such as `api.example.com`", "^(\\*\\.)?[A-Za-z0-9._-]+$|^\\[[0-9A-Fa-f:.]+\\]$";
    /// The name of a header.
    HeaderWord => HeaderName, HeaderName::parse, "a header name such as `x-request-id`", "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";
    /// A method, in upper case.
    Method => String, parse_method, "a method such as `GET`", "^[A-Z0-9!#$%&'*+.^_`|~-]+$";
    /// A path without trailing slash, as in `/shop`, or nothing.
    BasePath => String, parse_base_path, "a path such as `/shop`", "^(/.*[^/])?$";
    /// An origin as browsers send it, such as `https://app.example.com`, or `*` for any.
    Origin => String, parse_origin, "an origin such as `https://app.example.com`", "^(\\*|[a-z][a-z0-9+.-]*://[^/]+)$";
    /// A header name, or `*` for any.
    HeaderOrAny => String, parse_header_or_any, "a header name, or `*`", "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";
    /// Letters, digits, `-` and `_`, at most 64.
    Name => String, parse_name, "a name such as `kitchen`", "^[A-Za-z0-9_-]{1,64}$";
    /// Free text.
    Text => String, |text: &str| Ok::<String, ValueError>(text.to_owned()), "text", "";
}

fn parse_timeout(text: &str) -> Result<time::Duration, ValueError> {
    match parse_duration(text)? {
        time::Duration::ZERO => Err(ValueError::new("a time limit of nothing lets nothing through").hint("write at least `1ms`")),
        duration => Ok(duration),
    }
}

/// Above this a head would be a body.
const SMALL_SIZE_MAX: u64 = 1 << 30;

fn parse_small_size(text: &str) -> Result<NonZeroU32, ValueError> {
    let bytes = parse_size(text)?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| u64::from(*bytes) <= SMALL_SIZE_MAX)
        .and_then(NonZeroU32::new)
        .ok_or_else(|| ValueError::new(format!("`{text}` is out of range")).hint("write a size from `1B` to `1GiB`"))
}

/// Bytes. HTTP/2 begins with the least of it (RFC 9113, section 6.9.2), and more than the most is a buffer for each stream.
const WINDOW_MIN: u64 = 65_535;
const WINDOW_MAX: u64 = 16 << 20;

fn parse_window(text: &str) -> Result<NonZeroU32, ValueError> {
    let bytes = parse_size(text)?;
    let fits = u32::try_from(bytes).ok().filter(|_| (WINDOW_MIN..=WINDOW_MAX).contains(&bytes));
    fits.and_then(NonZeroU32::new)
        .ok_or_else(|| ValueError::new(format!("`{text}` is out of range")).hint("write a size from `65535B` to `16MiB`"))
}

/// `127.0.0.1:8080` or `[::1]:8080`; what else is written in such places is told how it is written here.
pub fn parse_address(text: &str) -> Result<SocketAddr, ValueError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let error = ValueError::new(format!("`{text}` is not an IP address and port"));
    Err(if text.starts_with("unix:") {
        ValueError::new("a unix socket cannot stand here").hint("write an address: `127.0.0.1:9080`")
    } else if text.starts_with("http://") || text.starts_with("https://") {
        error.hint("write only address and port: `127.0.0.1:8080`")
    } else if text.starts_with(':') {
        error.hint(format!("write `0.0.0.0{text}` for every IPv4 address, `[::]{text}` for every IPv6 address"))
    } else if let Some(port) = text.strip_prefix("localhost:") {
        error.hint(format!("write `127.0.0.1:{port}`"))
    } else if let Some(port) = text.strip_prefix("*:") {
        error.hint(format!("write `0.0.0.0:{port}`"))
    } else if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        error.hint(format!("write `0.0.0.0:{text}`, or `127.0.0.1:{text}` for this machine only"))
    } else {
        match text.parse::<IpAddr>() {
            Ok(address) => error.hint(format!("add the port: `{}`", SocketAddr::new(address, 8080))),
            Err(_) => error.hint("write `127.0.0.1:8080` or `[::1]:8080`; names are not looked up"),
        }
    })
}

fn parse_base_path(text: &str) -> Result<String, ValueError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    if text.contains(['{', '}']) {
        return Err(ValueError::new("a base path has no parameters").hint("put them into the routes' paths"));
    }
    let canonical = canonical_path(text).map_err(|error| {
        // What is proposed must be a base path itself.
        let proposed = canonical_path(&format!("/{}", text.trim_end_matches('/')));
        match proposed.ok().filter(|_| !text.starts_with('/') && !text.contains("://")) {
            Some(proposed) => error.hint(format!("write `{proposed}`")),
            None => error,
        }
    })?;
    if canonical == "/" {
        return Err(ValueError::new("the base path `/` is no base path").hint("remove the key"));
    }
    if canonical.ends_with('/') {
        let fixed = canonical.trim_end_matches('/');
        return Err(ValueError::new(format!("the base path `{text}` ends in a slash")).hint(format!("write `{fixed}`")));
    }
    if canonical != text {
        let message = format!("the base path `{text}` is not how requests spell it");
        return Err(ValueError::new(message).hint(format!("write `{canonical}`")));
    }
    Ok(canonical)
}

pub(crate) fn parse_origin(text: &str) -> Result<String, ValueError> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let wrong = || ValueError::new(format!("`{text}` is not an origin")).hint("write scheme and host: `https://app.example.com`");
    let (scheme, host) = text.split_once("://").ok_or_else(wrong)?;
    if let Some((host, _)) = host.split_once(['/', '?', '#']) {
        let message = format!("`{text}` has a path; an origin is scheme, host and port");
        return Err(ValueError::new(message).hint(format!("write `{scheme}://{host}`")));
    }
    if host.contains('*') {
        let message = format!("`{text}` has a wildcard");
        return Err(ValueError::new(message).hint("list each origin, or `*` alone for any"));
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        return Err(wrong());
    }
    if host.is_empty() || !host.bytes().all(good) {
        return Err(wrong());
    }
    let lower = text.to_ascii_lowercase();
    if lower != text {
        return Err(ValueError::new("browsers send origins in lower case").hint(format!("write `{lower}`")));
    }
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    if let Some(bare) = text.strip_suffix(default_port).filter(|_| scheme == "https" || scheme == "http") {
        return Err(ValueError::new("browsers leave the usual port out of an origin").hint(format!("write `{bare}`")));
    }
    Ok(lower)
}

fn parse_header_or_any(text: &str) -> Result<String, ValueError> {
    if text == "*" { Ok(text.to_owned()) } else { HeaderName::parse(text).map(|name| name.as_str().to_owned()) }
}

fn parse_name(text: &str) -> Result<String, ValueError> {
    match check_name(text) {
        Ok(()) => Ok(text.to_owned()),
        Err((message, hint)) => Err(ValueError::new(message).hint(hint)),
    }
}

/// A secret: by reference, or in plain text with a warning.
pub(crate) struct SecretText;

impl Shape for SecretText {
    type Out = Secret;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Secret> {
        let scalar = cx.scalar(node, "a secret")?;
        if scalar.text.is_empty() {
            cx.error(
                "bad-value",
                node.span,
                "a secret of nothing protects nothing",
                "write `${env:NAME}` or `${file:path}`, and give it a value",
            );
            return None;
        }
        if scalar.origin.is_none() {
            cx.plain_secrets.push(node.span);
            cx.push(
                Diagnostic::warning("plain-secret", node.span, "a secret in plain text")
                    .hint("keep it elsewhere, and write `${env:NAME}` or `${file:path}`"),
            );
        }
        Some(Secret::new(scalar.text.as_str()))
    }

    fn schema(defs: &mut Defs) -> Value {
        named(defs, "Secret", &["A secret, by reference: `${env:NAME}` or `${file:path}`. Never printed."], "")
    }
}

/// Fewer could be guessed: 256 bits, as many as the hashes that are made with it.
const SECRET_KEY_BYTES_MIN: usize = 32;

/// The secret that others are derived from.
pub(crate) struct SecretKey;

impl Shape for SecretKey {
    type Out = Secret;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Secret> {
        let secret = SecretText::decode(node, cx)?;
        if secret.expose().len() < SECRET_KEY_BYTES_MIN {
            let message = format!("the secret key has fewer than {SECRET_KEY_BYTES_MIN} bytes");
            cx.error(
                "bad-value",
                node.span,
                message,
                "make one with `openssl rand -hex 32 > secret.key`, and write `${file:secret.key}`",
            );
            return None;
        }
        Some(secret)
    }

    fn schema(defs: &mut Defs) -> Value {
        SecretText::schema(defs)
    }
}

/// The value of a header, fixed.
pub(crate) struct FixedHeader;

impl Shape for FixedHeader {
    type Out = HeaderValue;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<HeaderValue> {
        text(node, cx, "a header value", |scalar| {
            let value = HeaderValue::parse(&scalar.text)?;
            Ok(match &scalar.origin {
                Some(origin) => value.shown_as(&origin.written),
                None => value,
            })
        })
    }

    fn schema(defs: &mut Defs) -> Value {
        named(defs, "HeaderValue", &["The value of a header."], "")
    }
}

/// A template: what came by `${}` is text in it, also with braces.
fn template(scalar: &Scalar, parse: fn(&str) -> Result<Template, ValueError>) -> Result<Template, ValueError> {
    match &scalar.origin {
        Some(origin) => Ok(Template { source: origin.written.clone(), ..parse(&origin.braced)? }),
        None => parse(&scalar.text),
    }
}

macro_rules! templates {
    ($($(#[doc = $doc:literal])* $name:ident => $parse:expr, $what:literal, $pattern:literal;)*) => {$(
        pub(crate) struct $name;

        impl Shape for $name {
            type Out = Template;

            fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Template> {
                text(node, cx, $what, |scalar| template(scalar, $parse))
            }

            fn schema(defs: &mut Defs) -> Value {
                named(defs, stringify!($name), &[$($doc),*], $pattern)
            }
        }
    )*};
}

templates! {
    /// A path, with `{name}` for the route's parameters and for variables such as `{request.id}`. The query is kept.
    RewriteTemplate => Template::parse_rewrite, "a path such as `/v2/{id}`", "^/[^?]*$";
    /// A path or an absolute URL, with `{name}` for the route's parameters and for variables. The query is kept unless there is one here.
    RedirectTemplate => Template::parse_redirect, "a path or an absolute URL", "^(/|https?://)";
    /// The value of a header, with `{name}` for the route's parameters and for variables such as `{client.ip}`.
    HeaderTemplate => Template::parse_header, "a header value", "";
}
