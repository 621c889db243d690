//! From the configuration of listeners and upstreams to what their connections need: doors and dials. What certificates and keys
//! say is found wrong here, at the file's place in the document.

use maitred_core::Clock;
use maitred_model::{
    CertificateFiles, ClientAuth, Diagnostic, Diagnostics, Document, Limits, Listener, ListenerTls, PemFile, RedisCounters, Span,
    Spanned, TlsVersion, Upstream, UpstreamProtocol, UpstreamTls,
};
use maitred_transport::{
    ClientTls, ClientTlsSpec, CountersSpec, Dial, Door, IssuedCertificates, Part, ProxySources, ProxyVersion, ServerTls,
    ServerTlsSpec, TicketKeys, TlsProblem,
};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// What the keys of session tickets follow from.
pub(crate) struct Tickets {
    pub secret: Vec<u8>,
    pub clock: Clock,
}

impl Tickets {
    /// The same for every listener that asks clients for the same, before and after a reload.
    fn keys(&self, tls: &ListenerTls) -> Arc<TicketKeys> {
        let asked = match &tls.client_ca {
            None => Vec::new(),
            Some(ca) => [&[1, u8::from(tls.client_auth == ClientAuth::Required)], &ca.bytes[..]].concat(),
        };
        TicketKeys::from_secret(&self.secret, &asked, self.clock.clone())
    }
}

/// What files of certificates and keys say of a document that is wrong elsewhere.
pub(crate) fn check(document: &Document, tickets: &Tickets, diagnostics: &mut Diagnostics) {
    for upstream in document.upstreams.values() {
        if let Some(tls) = &upstream.tls
            && let Err(wrong) = client(Some(tls), upstream.span, false)
        {
            diagnostics.push(wrong);
        }
    }
    for tls in document.listen.iter().filter_map(|listener| listener.tls.as_ref()) {
        if let Err(wrong) = server(tls, tickets, None, false) {
            diagnostics.push(wrong);
        }
    }
}

/// `None`: what is wrong was added to `diagnostics`.
pub(crate) fn door(
    listener: &Listener,
    tickets: &Tickets,
    issued: Option<Arc<IssuedCertificates>>,
    limits: &Limits,
    diagnostics: &mut Diagnostics,
) -> Option<Door> {
    if let Some(span) = listener.http3
        && cfg!(not(feature = "http3"))
    {
        let message = "this program was built without HTTP/3";
        let hint = "build it with `cargo build --release -p maitred --features http3`, or remove `http3`";
        diagnostics.push(Diagnostic::error("not-built", span, message).hint(hint));
    }
    let tls = match &listener.tls {
        None => None,
        Some(tls) => {
            let offers_h3 = listener.http3.is_some();
            Some(server(tls, tickets, issued, offers_h3).map_err(|diagnostic| diagnostics.push(diagnostic)).ok()?)
        }
    };
    #[cfg(feature = "http3")]
    let quic = match (&tls, &listener.tls) {
        (Some(server), Some(tls)) if listener.http3.is_some() => {
            Some(quic(server, limits).map_err(|problem| diagnostics.push(diagnostic(None, tls.span, &problem))).ok()?)
        }
        _ => None,
    };
    #[cfg(not(feature = "http3"))]
    let _ = limits;
    let proxies = listener.proxy_protocol.as_ref().map(|incoming| match incoming.from.is_empty() {
        true => ProxySources::All,
        false => ProxySources::From(incoming.from.clone()),
    });
    Some(Door {
        tls,
        proxies,
        to_https: listener.redirect_https,
        #[cfg(feature = "http3")]
        quic,
    })
}

#[cfg(feature = "http3")]
fn quic(tls: &ServerTls, limits: &Limits) -> Result<maitred_transport::Quic, TlsProblem> {
    let limits = maitred_transport::QuicLimits {
        streams: limits.h2_streams.get(),
        window: limits.h2_window.get(),
        idle: limits.idle_timeout,
    };
    maitred_transport::Quic::new(tls, &limits)
}

fn server(
    tls: &Spanned<ListenerTls>,
    tickets: &Tickets,
    issued: Option<Arc<IssuedCertificates>>,
    offers_h3: bool,
) -> Result<ServerTls, Diagnostic> {
    let pair = |files: &Spanned<CertificateFiles>| (files.cert.bytes.clone(), files.key.bytes.clone());
    if let Some(ca) = tls.acme.as_ref().and_then(|acme| acme.ca.as_ref()) {
        let spec = ClientTlsSpec { ca: Some(&ca.bytes), ..ClientTlsSpec::default() };
        ClientTls::new(&spec).map_err(|problem| diagnostic(Some(ca), tls.span, &problem))?;
    }
    let pairs: Vec<_> = tls.certificates.iter().map(pair).collect();
    let spec = ServerTlsSpec {
        certificates: pairs.iter().map(|(certificate, key)| (&certificate[..], &key[..])).collect(),
        client_ca: tls.client_ca.as_ref().map(|ca| &ca.bytes[..]),
        client_optional: tls.client_auth == ClientAuth::Optional,
        only_tls13: tls.min_version == TlsVersion::Tls13,
        issued,
        offers_h3,
    };
    ServerTls::new(&spec, tickets.keys(tls)).map_err(|(index, problem)| {
        let files = tls.certificates.get(index);
        let file = match problem.part {
            Part::Certificate => files.map(|files| &files.cert),
            Part::Key => files.map(|files| &files.key),
            Part::Authorities => tls.client_ca.as_ref(),
        };
        diagnostic(file, tls.span, &problem)
    })
}

pub(crate) fn dial(upstream: &Upstream, span: Span, encrypted: bool, diagnostics: &mut Diagnostics) -> Option<Dial> {
    let http2 = match upstream.protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::H2 | UpstreamProtocol::H2c => true,
    };
    let proxy = upstream.proxy_protocol.map(|version| match version {
        maitred_model::ProxyVersion::V1 => ProxyVersion::V1,
        maitred_model::ProxyVersion::V2 => ProxyVersion::V2,
    });
    let tls = match encrypted {
        false => None,
        true => Some(client(upstream.tls.as_ref(), span, http2).map_err(|diagnostic| diagnostics.push(diagnostic)).ok()?),
    };
    let mut hasher = DefaultHasher::new();
    (http2, upstream.proxy_protocol, encrypted, upstream.tls.as_ref().map(|tls| &tls.value)).hash(&mut hasher);
    Some(Dial { http2, tls, proxy, identity: hasher.finish() })
}

/// How servers are asked that count for several gateways.
pub(crate) fn counters(counters: &RedisCounters, diagnostics: &mut Diagnostics) -> Option<Arc<CountersSpec>> {
    let tls = match counters.servers.value.is_encrypted {
        false => None,
        true => {
            let made = client(counters.tls.as_ref(), counters.servers.span, false);
            Some(made.map_err(|diagnostic| diagnostics.push(diagnostic)).ok()?)
        }
    };
    Some(CountersSpec::new(counters, tls))
}

fn client(tls: Option<&Spanned<UpstreamTls>>, span: Span, h2: bool) -> Result<ClientTls, Diagnostic> {
    let Some(tls) = tls else {
        let spec = ClientTlsSpec { h2, ..ClientTlsSpec::default() };
        return ClientTls::new(&spec).map_err(|problem| diagnostic(None, span, &problem));
    };
    let identity = match (&tls.cert, &tls.key) {
        (Some(certificate), Some(key)) => Some((&certificate.bytes[..], &key.bytes[..])),
        _ => None,
    };
    let spec = ClientTlsSpec {
        ca: tls.ca.as_ref().map(|ca| &ca.bytes[..]),
        identity,
        server_name: tls.server_name.as_ref().map(|name| name.value.as_str()),
        skip_verification: tls.dangerously_skip_verification,
        h2,
    };
    ClientTls::new(&spec).map_err(|problem| {
        let file = match problem.part {
            Part::Certificate => tls.cert.as_ref(),
            Part::Key => tls.key.as_ref(),
            Part::Authorities => tls.ca.as_ref(),
        };
        diagnostic(file, tls.span, &problem)
    })
}

fn diagnostic(file: Option<&Spanned<PemFile>>, otherwise: Span, problem: &TlsProblem) -> Diagnostic {
    let diagnostic = match file {
        Some(file) => {
            Diagnostic::error("bad-certificate", file.span, format!("`{}` cannot be used: {}", file.path.display(), problem.what))
        }
        None => Diagnostic::error("bad-certificate", otherwise, problem.what.clone()),
    };
    match problem.help {
        Some(help) => diagnostic.hint(help),
        None => diagnostic,
    }
}
