//! TLS on both sides: certificates and keys, whom to trust, and certificates by ACME. Files are read here and looked at from afar: whether
//! a key fits its certificate is not known on this floor.

use super::values::Text;
use crate::decode::{Bool, Cx, Defs, List, OneOrMany, Shape, define, named, or_reference, record, texts, words};
use crate::diagnostics::Diagnostic;
use crate::document::{Acme, AcmeChallenge, CertificateFiles, ClientAuth, ListenerTls, PemFile, TlsVersion, UpstreamTls};
use crate::span::Spanned;
use crate::values::{HostPattern, ValueError};
use crate::yaml::Node;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::PathBuf;

texts! {
    /// A domain to have a certificate for, without wildcard.
    AcmeDomain => String, parse_domain, "a domain such as `api.example.com`", "^[A-Za-z0-9.-]+$";
    /// An address for mail.
    Email => String, parse_email, "an address such as `ops@example.com`", "^[^@ ]+@[^@ ]+$";
    /// The URL of an ACME directory.
    DirectoryUrl => String, parse_directory, "a URL such as `https://acme-v02.api.letsencrypt.org/directory`", "^https://[^/?#]+";
    /// The name that a certificate must have.
    ServerName => String, parse_server_name, "a name such as `orders.internal`", "^[A-Za-z0-9._:-]+$";
}

words! {
    /// Whether a client without a certificate is served.
    ClientAuth {
        /// It is not.
        Required = "required",
        /// It is; a certificate that it has is verified.
        Optional = "optional",
    }
}

words! {
    /// How the authority is shown that a domain is ours.
    AcmeChallenge {
        /// A token on port 80.
        Http01 = "http-01",
        /// A certificate on port 443.
        TlsAlpn01 = "tls-alpn-01",
    }
}

record! {
    /// A certificate and its key.
    "a certificate" => CertificateFiles {
        /// The path of a PEM file: the certificate, and those between it and its authority.
        cert: Spanned<CertificatePem> = required,
        /// The path of a PEM file: the private key, not encrypted.
        key: Spanned<KeyPem> = required,
    }
}

record! {
    /// Certificates from an authority, fetched and renewed by themselves.
    "`acme`" => struct RawAcme {
        /// Domains to have a certificate for.
        domains: Spanned<List<Spanned<AcmeDomain>>> = required,
        /// Where the authority writes when a certificate is about to end.
        email: Option<Email> = absent,
        /// The authority's directory. Let's Encrypt by default.
        directory: DirectoryUrl = "https://acme-v02.api.letsencrypt.org/directory",
        /// The path of a PEM file: whom to trust for the directory's own TLS, if not whom the system trusts.
        ca: Option<Spanned<CertificatePem>> = absent,
        /// A folder for the account and the certificates.
        storage: Folder = "./acme",
        /// The only way in which the authority may validate. By default either, whichever can be answered.
        challenge: Option<AcmeChallenge> = absent,
    }
}

record! {
    /// TLS for clients: `certificates`, or `acme`, or both.
    "`tls`" => struct RawListenerTls {
        /// One certificate, or a list from which clients choose by name.
        certificates: OneOrMany<Spanned<CertificateShape>> = absent,
        /// Certificates from an authority, fetched and renewed by themselves.
        acme: Option<Spanned<AcmeShape>> = absent,
        /// The path of a PEM file: who signs the certificates of clients.
        client_ca: Option<Spanned<CertificatePem>> = absent,
        /// Whether a client without a certificate is served; with `client_ca`.
        client_auth: Spanned<ClientAuth> = "required",
        /// The oldest version of TLS that is spoken.
        min_version: MinVersion = "1.2",
    }
}

record! {
    /// How the endpoints of an upstream are believed, and what is shown to them.
    "`tls`" => struct RawUpstreamTls {
        /// The path of a PEM file: whom to trust, instead of whom the system trusts.
        ca: Option<Spanned<CertificatePem>> = absent,
        /// The path of a PEM file: the gateway's own certificate, with `key`.
        cert: Option<Spanned<CertificatePem>> = absent,
        /// The path of a PEM file: the key of `cert`.
        key: Option<Spanned<KeyPem>> = absent,
        /// The name that is asked for and verified, instead of the endpoint's own.
        server_name: Option<Spanned<ServerName>> = absent,
        /// Believe whoever answers: anyone on the way can read and alter everything.
        dangerously_skip_verification: Bool = "false",
    }
}

pub(crate) struct CertificateShape;

impl Shape for CertificateShape {
    type Out = CertificateFiles;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<CertificateFiles> {
        if !cx.is_mapping(node, "a certificate", "write `{ cert: certs/api.pem, key: certs/api.key }`") {
            return None;
        }
        CertificateFiles::decode(node, cx)
    }

    fn schema(defs: &mut Defs) -> Value {
        CertificateFiles::schema(defs)
    }
}

pub(crate) struct ListenerTlsShape;

impl Shape for ListenerTlsShape {
    type Out = ListenerTls;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<ListenerTls> {
        let hint = "write `{ certificates: { cert: certs/api.pem, key: certs/api.key } }`";
        if !cx.is_mapping(node, "`tls`", hint) {
            return None;
        }
        let RawListenerTls { certificates, acme, client_ca, client_auth, min_version } = RawListenerTls::decode(node, cx)?;
        if certificates.is_empty() && acme.is_none() {
            refuse_bare(node, cx);
            return None;
        }
        if client_ca.is_none() && node.get("client_ca").is_none() && !client_auth.span.is_none() {
            let message = "`client_auth` goes with `client_ca`: nobody is trusted to vouch for clients";
            cx.error("contradiction", client_auth.span, message, "add `client_ca: certs/clients.pem`, or remove `client_auth`");
        }
        Some(ListenerTls { certificates, acme, client_ca, client_auth: client_auth.value, min_version })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawListenerTls::schema(defs)
    }
}

/// Nothing is there to show to clients. What could not be decoded has been complained about.
fn refuse_bare(node: &Node, cx: &mut Cx<'_>) {
    use crate::yaml::Kind;
    let hint = "add `certificates: { cert: certs/api.pem, key: certs/api.key }`, or `acme: { domains: [api.example.com] }`";
    match node.get("certificates").map(|list| (&list.kind, list.span)) {
        Some((Kind::Sequence(items), span)) if items.is_empty() => {
            cx.error("missing-value", span, "no certificate to show to clients", hint);
        }
        Some(_) => {}
        None if node.get("acme").is_some() => {}
        None => cx.error("missing-key", node.span, "`tls` needs `certificates` or `acme`", hint),
    }
}

pub(crate) struct AcmeShape;

impl Shape for AcmeShape {
    type Out = Acme;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Acme> {
        if !cx.is_mapping(node, "`acme`", "write `{ domains: [api.example.com], email: ops@example.com }`") {
            return None;
        }
        let RawAcme { domains, email, directory, ca, storage, challenge } = RawAcme::decode(node, cx)?;
        if domains.value.is_empty() {
            let listed = node
                .get("domains")
                .is_some_and(|list| matches!(&list.kind, crate::yaml::Kind::Sequence(items) if items.is_empty()));
            if listed {
                cx.error("missing-value", domains.span, "no domain to have a certificate for", "write `[api.example.com]`");
            }
            return None;
        }
        let domains = domains.value;
        for (at, domain) in domains.iter().enumerate() {
            if let Some(first) = domains[..at].iter().find(|first| first.value == domain.value) {
                let diagnostic = Diagnostic::error("duplicate-name", domain.span, "the domain stands twice");
                cx.push(diagnostic.hint("remove one of them").also(first.span, "first written here"));
            }
        }
        Some(Acme { domains, email, directory, ca, storage, challenge })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawAcme::schema(defs)
    }
}

pub(crate) struct UpstreamTlsShape;

impl Shape for UpstreamTlsShape {
    type Out = UpstreamTls;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<UpstreamTls> {
        if !cx.is_mapping(node, "`tls`", "write `{ ca: certs/ca.pem }`; without `tls`, `https://` trusts whom the system trusts")
        {
            return None;
        }
        let RawUpstreamTls { ca, cert, key, server_name, dangerously_skip_verification } = RawUpstreamTls::decode(node, cx)?;
        match (node.get("cert"), node.get("key")) {
            (Some(cert), None) => {
                cx.error("missing-key", cert.span, "`cert` needs its `key`", "add `key: certs/me.key`");
            }
            (None, Some(key)) => {
                cx.error("missing-key", key.span, "`key` needs its `cert`", "add `cert: certs/me.pem`");
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        if dangerously_skip_verification {
            let span = node.get("dangerously_skip_verification").map_or(node.span, |node| node.span);
            let message = "nothing is verified: whoever is on the way to this upstream can read and alter everything";
            cx.push(
                Diagnostic::warning("unverified-upstream", span, message)
                    .hint("write `ca: certs/ca.pem` with who signed its certificate"),
            );
        }
        Some(UpstreamTls { ca, cert, key, server_name, dangerously_skip_verification })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawUpstreamTls::schema(defs)
    }
}

/// What a PEM file is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Certificate,
    Key,
    PublicKey,
}

/// The path of a PEM file with certificates.
pub(crate) struct CertificatePem;

/// The path of a PEM file with a private key.
pub(crate) struct KeyPem;

/// The path of a PEM file with a public key.
pub(crate) struct PublicKeyPem;

impl Shape for PublicKeyPem {
    type Out = PemFile;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<PemFile> {
        pem(node, cx, Holds::PublicKey)
    }

    fn schema(defs: &mut Defs) -> Value {
        path_schema(defs)
    }
}

impl Shape for CertificatePem {
    type Out = PemFile;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<PemFile> {
        pem(node, cx, Holds::Certificate)
    }

    fn schema(defs: &mut Defs) -> Value {
        path_schema(defs)
    }
}

impl Shape for KeyPem {
    type Out = PemFile;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<PemFile> {
        pem(node, cx, Holds::Key)
    }

    fn schema(defs: &mut Defs) -> Value {
        path_schema(defs)
    }
}

fn path_schema(defs: &mut Defs) -> Value {
    named(
        defs,
        "PemFile",
        &["The path of a PEM file, relative to the file that names it. It is read when the configuration is loaded."],
        "^[^\\n]+$",
    )
}

fn pem(node: &Node, cx: &mut Cx<'_>, holds: Holds) -> Option<PemFile> {
    let scalar = cx.scalar(node, "the path of a PEM file")?;
    if scalar.text.contains("-----BEGIN ") {
        if scalar.origin.is_none() {
            cx.plain_secrets.push(node.span);
        }
        cx.error(
            "bad-value",
            node.span,
            "this is the content of a PEM file, where its path belongs",
            "write the path alone: `certs/api.pem`",
        );
        return None;
    }
    let path = file_path(node, cx, "the path of a PEM file")?;
    // What came by `${}` is not repeated.
    let shown = scalar.origin.as_ref().map_or_else(|| path.display().to_string(), |origin| origin.written.clone());
    match cx.outside.read(&path) {
        Ok(bytes) => match refuse_other(&bytes, &shown, holds) {
            None => Some(PemFile { path, bytes }),
            Some((message, hint)) => {
                cx.error("bad-pem", node.span, message, hint);
                None
            }
        },
        Err(reason) => {
            let message = format!("the file `{shown}` cannot be read: {reason}");
            cx.error("unreadable", node.span, message, "a relative path is relative to the file that names it");
            None
        }
    }
}

/// Whether a file plainly holds something else than it should: message and hint.
fn refuse_other(bytes: &[u8], path: &str, holds: Holds) -> Option<(String, &'static str)> {
    let has = |label: &[u8]| memchr::memmem::find(bytes, label).is_some();
    let (has_certificate, has_key) = (|| has(b"-----BEGIN CERTIFICATE-----"), || has(b" PRIVATE KEY-----"));
    match holds {
        Holds::PublicKey if has(b"-----BEGIN PUBLIC KEY-----") => None,
        Holds::PublicKey if has_key() => Some((
            format!("`{path}` holds a private key, which only its owner should have"),
            "take the public one: `openssl pkey -in api.key -pubout -out api.pem`",
        )),
        Holds::PublicKey => {
            Some((format!("`{path}` holds no public key in PEM"), "name the file that holds `-----BEGIN PUBLIC KEY-----`"))
        }
        Holds::Certificate if has_certificate() => None,
        Holds::Certificate if has_key() => Some((
            format!("`{path}` holds a private key and no certificate"),
            "name the file that holds `-----BEGIN CERTIFICATE-----`",
        )),
        Holds::Certificate => Some((
            format!("`{path}` holds no certificate in PEM"),
            "from DER: `openssl x509 -inform der -in api.der -out api.pem`",
        )),
        Holds::Key if has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED") => Some((
            format!("the key in `{path}` is encrypted, and there is nobody to type its password"),
            "decrypt it: `openssl pkey -in encrypted.key -out api.key`",
        )),
        Holds::Key if has_key() => None,
        Holds::Key if has_certificate() => Some((
            format!("`{path}` holds a certificate and no private key"),
            "name the file that holds `-----BEGIN PRIVATE KEY-----`",
        )),
        Holds::Key => Some((
            format!("`{path}` holds no private key in PEM"),
            "from DER: `openssl pkey -inform der -in api.der -out api.key`",
        )),
    }
}

/// The path of a folder.
pub(crate) struct Folder;

impl Shape for Folder {
    type Out = PathBuf;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<PathBuf> {
        file_path(node, cx, "the path of a folder")
    }

    fn schema(defs: &mut Defs) -> Value {
        Text::schema(defs)
    }
}

pub(crate) fn file_path(node: &Node, cx: &mut Cx<'_>, what: &str) -> Option<PathBuf> {
    let scalar = cx.scalar(node, what)?;
    if scalar.text.is_empty() || scalar.text.contains('\0') {
        cx.error("bad-value", node.span, format!("{what} is empty"), "name it, relative to this file");
        return None;
    }
    let path = scalar.text.strip_prefix("./").unwrap_or(&scalar.text);
    Some(cx.outside.path(node.span, path))
}

/// `1.2` or `1.3`, with or without quotes: YAML takes it for a number, and nobody means one.
pub(crate) struct MinVersion;

impl Shape for MinVersion {
    type Out = TlsVersion;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<TlsVersion> {
        let scalar = cx.scalar(node, "`\"1.2\"` or `\"1.3\"`")?;
        match scalar.text.as_str() {
            "1.2" => Some(TlsVersion::Tls12),
            "1.3" => Some(TlsVersion::Tls13),
            "1.0" | "1.1" | "1" => {
                let message = "versions of TLS before 1.2 are broken, and are not spoken (RFC 8996)";
                cx.error("unknown-word", node.span, message, "write `\"1.2\"`");
                None
            }
            _ => {
                let message = format!("`{}` is no version of TLS that is known here", scalar.shown());
                cx.error("unknown-word", node.span, message, "write `\"1.2\"` or `\"1.3\"`");
                None
            }
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        define(defs, "TlsVersion", |defs| or_reference(defs, json!({ "enum": ["1.2", "1.3", 1.2, 1.3] })))
    }
}

fn parse_domain(text: &str) -> Result<String, ValueError> {
    match HostPattern::parse(text)? {
        HostPattern::Wildcard(_) => Err(ValueError::new("a certificate with a wildcard cannot be had over HTTP")
            .hint("list each name: `[a.example.com, b.example.com]`")),
        HostPattern::Exact(host) if host.starts_with('[') || host.parse::<IpAddr>().is_ok() => {
            Err(ValueError::new(format!("`{text}` is an address, and no domain")).hint("write a name such as `api.example.com`"))
        }
        HostPattern::Exact(host) if host.contains('_') => {
            let hint = format!("write `{}`, if that is its name", host.replace('_', "-"));
            Err(ValueError::new(format!("`{text}` has an underscore, and no authority certifies such a name")).hint(hint))
        }
        HostPattern::Exact(host) => Ok(host),
    }
}

fn parse_email(text: &str) -> Result<String, ValueError> {
    if let Some(address) = text.strip_prefix("mailto:") {
        return Err(ValueError::new("the address stands alone").hint(format!("write `{address}`")));
    }
    let good = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@');
    match text.split_once('@') {
        Some((user, host)) if good(user) && good(host) => Ok(text.to_owned()),
        Some(_) | None => {
            Err(ValueError::new(format!("`{text}` is not an address for mail")).hint("write one such as `ops@example.com`"))
        }
    }
}

fn parse_directory(text: &str) -> Result<String, ValueError> {
    if let Some(rest) = text.strip_prefix("http://") {
        let error = ValueError::new("ACME is spoken over https alone (RFC 8555, section 6.1)");
        return Err(error.hint(format!("write `https://{rest}`; `ca:` names whom to trust for it")));
    }
    let host = text.strip_prefix("https://").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    match host {
        Some(host) if plain && !host.is_empty() && !host.contains('@') => Ok(text.to_owned()),
        Some(_) | None => Err(ValueError::new(format!("`{text}` is not the URL of a directory"))
            .hint("write one such as `https://acme-v02.api.letsencrypt.org/directory`")),
    }
}

fn parse_server_name(text: &str) -> Result<String, ValueError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    match HostPattern::parse(text)? {
        HostPattern::Wildcard(_) => Err(ValueError::new("one name is asked for, and no wildcard").hint("write the name itself")),
        HostPattern::Exact(host) if host.starts_with('[') => {
            let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            Err(ValueError::new("an address has no brackets here").hint(format!("write `{bare}`")))
        }
        HostPattern::Exact(host) => Ok(host),
    }
}
