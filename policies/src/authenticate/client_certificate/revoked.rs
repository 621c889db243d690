//! Lists of revoked certificates (RFC 5280 §5), read when the configuration is loaded. Fails closed: what a list might say and does not say any
//! more, nobody knows. The lists are the administrator's: their signatures are not looked at.

use super::names::rfc4514;
use std::collections::{HashMap, HashSet};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

/// By the issuer's name as it is encoded.
#[derive(Debug, Default)]
pub struct Revoked(HashMap<Box<[u8]>, List>);

#[derive(Debug, Default)]
struct List {
    serials: HashSet<Box<[u8]>>,
    /// Seconds since 1970 from which on there is to be a newer one.
    next_update: Option<i64>,
}

/// What is known of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// Until then, in seconds since 1970, if the list says.
    Good(Option<i64>),
    Revoked,
    /// In words.
    Unknown(&'static str),
}

impl Revoked {
    /// The lists of a file, in PEM or DER. `Err`: what is wrong with it, after its name.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        const LABEL: &[u8] = b"-----BEGIN ";
        if !bytes.windows(LABEL.len()).any(|window| window == LABEL) {
            return self.add_der(bytes);
        }
        let mut found = false;
        for pem in Pem::iter_from_buffer(bytes) {
            let pem = pem.map_err(|_| "is not whole PEM".to_owned())?;
            if pem.label == "X509 CRL" {
                found = true;
                self.add_der(&pem.contents)?;
            }
        }
        match found {
            true => Ok(()),
            false => Err("holds no `-----BEGIN X509 CRL-----`".to_owned()),
        }
    }

    fn add_der(&mut self, der: &[u8]) -> Result<(), String> {
        let (rest, list) =
            CertificateRevocationList::from_der(der).map_err(|_| "is no list of revoked certificates".to_owned())?;
        if !rest.is_empty() {
            return Err("has something behind its list".to_owned());
        }
        for extension in list.extensions() {
            understood(extension.parsed_extension(), extension.critical)?;
        }
        let entry = self.0.entry(list.issuer().as_raw().into()).or_default();
        // Of two lists the newer one counts as long as it holds; what either revokes is revoked.
        entry.next_update = match (entry.next_update, list.next_update().map(|time| time.timestamp())) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        entry.serials.extend(list.iter_revoked_certificates().map(|revoked| serial(revoked.raw_serial()).into()));
        Ok(())
    }

    /// `now`: seconds since 1970.
    pub fn standing(&self, certificate: &X509Certificate<'_>, now: i64) -> Standing {
        let Some(list) = self.0.get(certificate.issuer().as_raw()) else {
            return Standing::Unknown("there is no list of revoked certificates of its issuer");
        };
        if list.serials.contains(serial(certificate.raw_serial())) {
            return Standing::Revoked;
        }
        match list.next_update {
            Some(end) if end <= now => Standing::Unknown("the list of revoked certificates of its issuer has ended"),
            end => Standing::Good(end),
        }
    }

    /// Whether there is a list of whoever issued it.
    pub fn knows(&self, certificate: &X509Certificate<'_>) -> bool {
        self.0.contains_key(certificate.issuer().as_raw())
    }
}

/// Without zeros before it: encoders are of two minds.
fn serial(raw: &[u8]) -> &[u8] {
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    &raw[zeros..]
}

/// Refuses lists that say less than they seem to: those of changes, and those of a part.
fn understood(extension: &ParsedExtension<'_>, is_critical: bool) -> Result<(), String> {
    match extension {
        ParsedExtension::IssuingDistributionPoint(point)
            if point.only_contains_ca_certs
                || point.only_contains_attribute_certs
                || point.indirect_crl
                || point.only_some_reasons.is_some() =>
        {
            Err("lists a part of what is revoked; name the whole list".to_owned())
        }
        ParsedExtension::IssuingDistributionPoint(_)
        | ParsedExtension::CRLNumber(_)
        | ParsedExtension::AuthorityKeyIdentifier(_) => Ok(()),
        // Somebody else's enumeration, which grows; the list of changes is one that it does not know.
        _ if is_critical => Err("has a critical extension that is not understood: it may be a list of changes".to_owned()),
        _ => Ok(()),
    }
}

/// The issuer of a certificate, for words.
pub fn issuer(certificate: &X509Certificate<'_>) -> String {
    rfc4514(certificate.issuer())
}
