//! `client_certificate`: what of a certificate is the subject, and which are good no more.

use super::super::values::Text;
use super::files;
use crate::decode::{Cx, Defs, List, OneOrMany, Shape, named, record, words};
use crate::document::{CertificatePrincipal, ClientCertificate, PemFile};
use crate::span::Spanned;
use crate::yaml::Node;
use serde_json::Value;

/// Bytes of one list: half a million revoked certificates.
const CRL_BYTES_MAX: usize = 16 * 1024 * 1024;

words! {
    /// What of a certificate is the subject of the principal.
    CertificatePrincipal {
        /// The first DNS name that it is for.
        SanDns = "san_dns",
        /// The first URI, such as a SPIFFE id.
        SanUri = "san_uri",
        /// The first address for mail.
        SanEmail = "san_email",
        /// The whole name, as RFC 4514 writes it: `CN=alice,O=Example`.
        Subject = "subject",
        /// The common name, of which it must have one.
        CommonName = "common_name",
        /// SHA-256 of the certificate, in lower-case hex.
        Fingerprint = "fingerprint",
    }
}

record! {
    /// The certificate that a client showed in its handshake.
    "`client_certificate`" => ClientCertificate {
        /// What of it is the subject.
        principal: CertificatePrincipal = required,
        /// Files with lists of revoked certificates, in PEM or DER, signed by authorities of a listener's `client_ca`. With any, there must be one
        /// of each issuer.
        crl: OneOrMany<Spanned<CrlShape>> = absent,
        /// Names of issuers as RFC 4514 writes them, such as `CN=Partners,O=Example`. Without any it is whoever `client_ca` vouches for.
        issuers: List<Text> = absent,
    }
}

/// `client_certificate`, a mapping.
pub(crate) struct ClientCertificateShape;

impl Shape for ClientCertificateShape {
    type Out = ClientCertificate;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<ClientCertificate> {
        match cx.is_mapping(node, "`client_certificate`", "write `{ principal: san_dns }`") {
            true => ClientCertificate::decode(node, cx),
            false => None,
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        ClientCertificate::schema(defs)
    }
}

pub(crate) struct CrlShape;

impl Shape for CrlShape {
    type Out = PemFile;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<PemFile> {
        let (path, _, bytes) = files::read(node, cx, "the path of a list of revoked certificates", CRL_BYTES_MAX)?;
        Some(PemFile { path, bytes })
    }

    fn schema(defs: &mut Defs) -> Value {
        named(defs, "CrlFile", &["The path of a list of revoked certificates, relative to the file that names it."], "^[^\\n]+$")
    }
}
