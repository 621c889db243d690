//! Writes the head that a back end gets: never the client's bytes, always what was understood (RFC 9110 §7.6, RFC 7239).
//! Says who asked; believes nobody but trusted proxies.

use maitred_core::{Exchange, Scheme, is_vouched_for};
use maitred_model::UpstreamHost;
use maitred_transport::Target;
use maitred_wire::{Framing, Headers, Name, Version, decimal, field, request_line, write_timeout};
use std::time::Instant;

pub fn head(out: &mut Vec<u8>, exchange: &Exchange, host: &UpstreamHost, target: &Target, now: Instant) {
    let request = &exchange.request;
    start_line(out, exchange, target);
    let client_authority = request.authority();
    let authority = match host {
        UpstreamHost::Upstream => target.authority.as_bytes(),
        // HTTP/1.0 may come without any.
        UpstreamHost::Client if client_authority.is_empty() => target.authority.as_bytes(),
        UpstreamHost::Client => client_authority,
        UpstreamHost::Literal(host) => host.as_bytes(),
    };
    field(out, b"host", authority);
    if exchange.is_own {
        return own(out, exchange);
    }
    request.headers.write_fields(out, |entry| {
        let name = request.headers.name(entry);
        passes(entry.known, name, exchange.forwarded.trusted) && !(exchange.lifetime.is_some() && is_timeout(name))
    });
    if let Some(lifetime) = exchange.lifetime {
        out.extend_from_slice(b"grpc-timeout: ");
        write_timeout(out, lifetime.saturating_duration_since(now));
        out.extend_from_slice(b"\r\n");
    }
    framing(out, exchange);
    forwarded(out, exchange);
    out.extend_from_slice(match request.version {
        Version::Http3 => b"via: 3.0 maitred\r\n",
        Version::Http2 => b"via: 2.0 maitred\r\n",
        Version::Http11 => b"via: 1.1 maitred\r\n",
        Version::Http10 => b"via: 1.0 maitred\r\n",
    });
    field(out, b"x-request-id", exchange.request_id());
    out.extend_from_slice(b"\r\n");
}

/// A request of the gateway's own says what it was made of, and that it comes through here.
fn own(out: &mut Vec<u8>, exchange: &Exchange) {
    let headers = &exchange.request.headers;
    headers.write_fields(out, |_| true);
    framing(out, exchange);
    out.extend_from_slice(b"via: 1.1 maitred\r\n\r\n");
}

/// How long a gRPC client waits: what is left of that is told (PROTOCOL-HTTP2.md of gRPC, "Timeout").
fn is_timeout(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"grpc-timeout")
}

/// Fields that the gateway writes itself. Via is passed on and gets one more.
fn is_ours(name: Name) -> bool {
    name.is_hop_by_hop()
        || matches!(
            name,
            Name::Host | Name::XForwardedFor | Name::XForwardedProto | Name::XForwardedHost | Name::Forwarded | Name::XRequestId
        )
}

/// Whether a field goes on as it came. `Proxy` goes never: CGI makes an outgoing proxy's address of it.
fn passes(known: Name, name: &[u8], trusted: bool) -> bool {
    if known != Name::Other {
        // None of them is `Proxy`, and those that are vouched for are ours.
        return !is_ours(known);
    }
    !name.eq_ignore_ascii_case(b"proxy") && (trusted || !is_vouched_for(name))
}

fn start_line(out: &mut Vec<u8>, exchange: &Exchange, target: &Target) {
    let request = &exchange.request;
    let path: &[u8] = match (exchange.target.is_empty(), exchange.local_path()) {
        (false, _) => &exchange.target,
        (true, b"") => b"/",
        (true, path) => path,
    };
    if target.prefix.is_empty() {
        return request_line(out, request.method_text(), path, request.query());
    }
    out.extend_from_slice(request.method_text());
    out.push(b' ');
    out.extend_from_slice(target.prefix.as_bytes());
    // The path follows the prefix; an empty method leaves only the rest of the line.
    let line = out.len();
    request_line(out, b"", path, request.query());
    out.remove(line);
}

fn framing(out: &mut Vec<u8>, exchange: &Exchange) {
    let request = &exchange.request;
    match request.framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::None if request.explicit_zero => out.extend_from_slice(b"content-length: 0\r\n"),
        Framing::None | Framing::Close => {}
    }
    if request.expect_continue {
        out.extend_from_slice(b"expect: 100-continue\r\n");
    }
    if let Some(upgrade) = request.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\n");
        field(out, b"upgrade", request.headers.slice(upgrade));
    } else if request.te_trailers {
        out.extend_from_slice(b"connection: te\r\nte: trailers\r\n");
    }
}

fn forwarded(out: &mut Vec<u8>, exchange: &Exchange) {
    let headers = &exchange.request.headers;
    let trusted = exchange.forwarded.trusted;
    out.extend_from_slice(b"x-forwarded-for: ");
    if trusted {
        all_of(out, headers, Name::XForwardedFor);
    }
    let peer = exchange.peer_text.as_bytes();
    out.extend_from_slice(peer);
    out.extend_from_slice(b"\r\n");

    let kept = |name| headers.known(name).filter(|_| trusted);
    field(out, b"x-forwarded-proto", kept(Name::XForwardedProto).unwrap_or(exchange.scheme.text().as_bytes()));
    let authority = exchange.request.authority();
    let forwarded_host = kept(Name::XForwardedHost).unwrap_or(authority);
    if !forwarded_host.is_empty() {
        field(out, b"x-forwarded-host", forwarded_host);
    }

    out.extend_from_slice(b"forwarded: ");
    if trusted {
        all_of(out, headers, Name::Forwarded);
    }
    // An IPv6 address has colons and needs brackets and quotes (RFC 7239 §6).
    let v6 = peer.contains(&b':');
    out.extend_from_slice(if v6 { b"for=\"[" } else { b"for=" });
    out.extend_from_slice(peer);
    out.extend_from_slice(if v6 { b"]\"" } else { b"" });
    if !authority.is_empty() {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(authority);
        out.push(b'"');
    }
    out.extend_from_slice(match exchange.scheme {
        Scheme::Http => b";proto=http\r\n",
        Scheme::Https => b";proto=https\r\n",
    });
}

/// Every value of a list field, each with a comma behind it.
fn all_of(out: &mut Vec<u8>, headers: &Headers, name: Name) {
    for value in headers.all_known(name).filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}
