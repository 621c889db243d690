//! Listeners: where clients connect, and who may say for whom they connect.

use super::tls::ListenerTlsShape;
use super::values::{Network, parse_address};
use crate::decode::{Bool, Cx, Defs, List, ScalarOr, Shape, named, record, text};
use crate::diagnostics::Diagnostic;
use crate::document::{ListenAddress, Listener, ProxyProtocolIn};
use crate::span::{Span, Spanned};
use crate::values::{IpNet, ValueError, parse_socket};
use crate::yaml::{Kind, Node};
use serde_json::Value;
use std::path::PathBuf;

record! {
    /// A listener in long form.
    "a listener" => struct RawListener {
        /// An IP address and a port, or a unix socket.
        address: Spanned<Where> = required,
        /// Certificates: connections are encrypted.
        tls: Option<Spanned<ListenerTlsShape>> = absent,
        /// HTTP/3 at the same port, by UDP. Needs `tls`, and a program that was built with the feature `http3`.
        http3: Bool = "false",
        /// Answers every request with a redirect to https, and ACME's challenges.
        redirect_https: Bool = "false",
        /// Connections begin with a PROXY header that says who the client is.
        proxy_protocol: Option<ProxyProtocolShape> = absent,
    }
}

record! {
    /// Whose PROXY header is believed.
    "`proxy_protocol`" => struct RawProxyProtocol {
        /// Networks of those who send it, and are believed. Required but on a unix socket, which only local processes reach.
        from: List<Spanned<Network>> = absent,
    }
}

/// An address and a port, or `unix:` and the path of a socket.
pub(crate) struct Where;

impl Shape for Where {
    type Out = ListenAddress;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<ListenAddress> {
        let address = text(node, cx, "an address such as `127.0.0.1:8080`", |scalar| parse_where(&scalar.text))?;
        match address {
            ListenAddress::Tcp(_) => Some(address),
            ListenAddress::Unix(path) => socket(path, node.span, cx).map(ListenAddress::Unix),
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        const DOC: &str = "An IP address and a port, as in `127.0.0.1:8080` or `[::1]:8080`, or the path of a socket, as in `unix:/run/maitred.sock`.";
        named(defs, "ListenAddress", &[DOC], "^(.+:[0-9]+|unix:.+)$")
    }
}

fn parse_where(text: &str) -> Result<ListenAddress, ValueError> {
    match text.strip_prefix("unix:") {
        Some(path) => parse_socket(path).map(ListenAddress::Unix),
        None => parse_address(text).map(ListenAddress::Tcp),
    }
}

/// Bytes that an address of a socket has room for, its end excluded.
const SOCKET_BYTES_MAX: usize = 107;

/// The path of a socket from the working directory on.
pub(crate) fn socket(path: PathBuf, span: Span, cx: &mut Cx<'_>) -> Option<PathBuf> {
    let path = cx.outside.path(span, path);
    if path.as_os_str().len() > SOCKET_BYTES_MAX {
        let message = format!("the path of a socket is longer than {SOCKET_BYTES_MAX} bytes");
        cx.error("bad-value", span, message, "put it into a folder with a shorter name, such as `/run`");
        return None;
    }
    Some(path)
}

/// A listener: an address, or a mapping.
pub(crate) struct ListenerForm;

struct ListenerShort;
struct ListenerLong;

impl Shape for ListenerForm {
    type Out = Listener;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Listener> {
        ScalarOr::<ListenerShort, ListenerLong>::decode(node, cx)
    }

    fn schema(defs: &mut Defs) -> Value {
        ScalarOr::<ListenerShort, ListenerLong>::schema(defs)
    }
}

impl Shape for ListenerShort {
    type Out = Listener;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Listener> {
        let address = Where::decode(node, cx)?;
        Some(Listener { address, tls: None, http3: None, redirect_https: false, proxy_protocol: None })
    }

    fn schema(defs: &mut Defs) -> Value {
        Where::schema(defs)
    }
}

impl Shape for ListenerLong {
    type Out = Listener;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Listener> {
        let RawListener { address, tls, http3, redirect_https, proxy_protocol } = RawListener::decode(node, cx)?;
        let http3 = http3.then(|| node.get("http3").map_or(node.span, |node| node.span));
        if let (true, Some(tls)) = (redirect_https, &tls) {
            let span = node.get("redirect_https").map_or(node.span, |node| node.span);
            let message = "a listener with `tls` has nothing to redirect to https";
            let hint = "remove `redirect_https`, and redirect from a listener of its own: `{ address: \"0.0.0.0:80\", redirect_https: true }`";
            let diagnostic = Diagnostic::error("contradiction", span, message).hint(hint);
            cx.push(diagnostic.also(tls.span, "its `tls`"));
        }
        if let Some(span) = http3 {
            // A wrong `tls` has been complained about.
            let others =
                Beside { tls: node.get("tls").is_some(), proxy_protocol: node.get("proxy_protocol").map(|node| node.span) };
            check_http3(span, &address, others, cx);
        }
        let proxy_protocol = proxy_protocol.map(|raw| believed(raw, &address, cx));
        Some(Listener { address: address.value, tls, http3, redirect_https, proxy_protocol })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawListener::schema(defs)
    }
}

/// What else a listener says that HTTP/3 is not indifferent to.
struct Beside {
    tls: bool,
    proxy_protocol: Option<Span>,
}

fn check_http3(span: Span, address: &Spanned<ListenAddress>, beside: Beside, cx: &mut Cx<'_>) {
    match &address.value {
        ListenAddress::Unix(_) => {
            let message = "HTTP/3 is spoken by UDP, and a unix socket has none";
            cx.error("contradiction", span, message, "remove `http3`, or give the listener an address with a port");
        }
        ListenAddress::Tcp(_) if !beside.tls => {
            let message = "HTTP/3 is always encrypted, and this listener has no `tls`";
            cx.error("contradiction", span, message, "add `tls`, or remove `http3`");
        }
        ListenAddress::Tcp(_) => {}
    }
    if let Some(place) = beside.proxy_protocol {
        let message = "nobody sends a PROXY header before QUIC: every client of `http3` would have the load balancer's address";
        let diagnostic = Diagnostic::error("contradiction", span, message);
        let hint = "remove one of them, or take HTTP/3 at a listener of its own, which clients reach directly";
        cx.push(diagnostic.hint(hint).also(place, "its `proxy_protocol`"));
    }
}

/// Whose header is believed, and where that is said or is missing.
pub(crate) struct ProxyProtocolShape;

pub(crate) struct Believed {
    from: Vec<IpNet>,
    place: Span,
    /// Left out, or an empty list. A wrong one has been complained about.
    is_empty: bool,
}

impl Shape for ProxyProtocolShape {
    type Out = Believed;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Believed> {
        if !cx.is_mapping(node, "`proxy_protocol`", "write the networks of your load balancers: `{ from: [10.0.0.0/8] }`") {
            return None;
        }
        let RawProxyProtocol { from } = RawProxyProtocol::decode(node, cx)?;
        for network in from.iter().filter(|network| network.prefix() == 0) {
            let message = format!("`{network}` is everyone, who could then pass for anyone");
            let hint = "write the networks of your load balancers: `from: [10.0.0.0/8]`";
            cx.error("believes-everyone", network.span, message, hint);
        }
        let list = node.get("from");
        // A mapping with another key has been complained about.
        let is_empty = match &list.unwrap_or(node).kind {
            Kind::Sequence(items) => items.is_empty(),
            Kind::Mapping(entries) => entries.is_empty(),
            Kind::Scalar(_) | Kind::Poisoned => false,
        };
        let place = list.map_or(node.span, |list| list.span);
        Some(Believed { from: from.into_iter().map(|network| network.value).collect(), place, is_empty })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawProxyProtocol::schema(defs)
    }
}

/// Never everyone's: a PROXY header makes its sender whoever it likes. Only a unix socket says by itself who reaches it.
fn believed(Believed { from, place, is_empty }: Believed, address: &ListenAddress, cx: &mut Cx<'_>) -> ProxyProtocolIn {
    match address {
        ListenAddress::Tcp(_) if is_empty => cx.error(
            "believes-everyone",
            place,
            "a PROXY header is never believed from everyone, who could then pass for anyone",
            "write the networks of your load balancers: `proxy_protocol: { from: [10.0.0.0/8] }`",
        ),
        ListenAddress::Unix(_) if !from.is_empty() => {
            let message = "who connects to a unix socket has no address: `from` is not asked, and every local process that reaches it is believed";
            let diagnostic = Diagnostic::warning("no-effect", place, message);
            cx.push(diagnostic.hint("write `proxy_protocol: {}`; who reaches the socket is up to the folder's permissions"));
        }
        ListenAddress::Tcp(_) | ListenAddress::Unix(_) => {}
    }
    ProxyProtocolIn { from }
}
