//! What a certificate says of itself: for which names it stands, and until when.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::IpAddr;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The names that a certificate stands for (RFC 6125 §6.4: a `*` stands for exactly one label, the leftmost).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// Lower-case, `*.example.com` included.
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
}

/// Until when a certificate is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The first name of the certificate, or its subject.
    pub name: String,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl CertificateNames {
    /// `None` where the certificate cannot be read.
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Option<(CertificateNames, Expiry)> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let mut names = CertificateNames::default();
        if let Ok(Some(alternative)) = parsed.subject_alternative_name() {
            for name in &alternative.value.general_names {
                match name {
                    GeneralName::DNSName(name) => names.dns.push(name.to_ascii_lowercase()),
                    GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        let name = names.dns.first().cloned().or_else(|| names.addresses.first().map(IpAddr::to_string));
        let name = name.unwrap_or_else(|| parsed.subject().to_string());
        Some((names, Expiry { name, not_after: parsed.validity().not_after.timestamp() }))
    }

    pub(super) fn dns(&self) -> impl Iterator<Item = &str> {
        self.dns.iter().map(String::as_str)
    }

    /// Whether the certificate stands for `host`, a name or an address without port.
    pub fn covers(&self, host: &str) -> bool {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        let host = host.to_ascii_lowercase();
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.dns.iter().any(|name| match name.strip_prefix("*.") {
            Some(suffix) => parent == Some(suffix),
            None => *name == host,
        })
    }
}

/// When the certificates in a PEM file end, each with its first name. What cannot be read is left out.
pub fn expiries(pem: &[u8]) -> Vec<Expiry> {
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    certificates.filter_map(|certificate| CertificateNames::read(&certificate).map(|(_, expiry)| expiry)).collect()
}

/// Whether a PEM file's first certificate has no name of a host and no address in its subjectAltName: nobody who asks for a name believes
/// it. `false` where it cannot be read, which others complain about.
pub fn is_nameless(pem: &[u8]) -> bool {
    let first = CertificateDer::pem_slice_iter(pem).next().and_then(Result::ok);
    let read = first.and_then(|certificate| CertificateNames::read(&certificate));
    read.is_some_and(|(names, _)| names.dns.is_empty() && names.addresses.is_empty())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        let names = CertificateNames {
            dns: vec!["api.example.com".into(), "*.shop.example.com".into()],
            addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        };
        for covered in ["api.example.com", "API.example.com", "a.shop.example.com", "127.0.0.1", "[::1]"] {
            assert!(names.covers(covered), "{covered}");
        }
        for foreign in ["shop.example.com", "a.b.shop.example.com", "example.com", "127.0.0.2", "", "*"] {
            assert!(!names.covers(foreign), "{foreign}");
        }
    }
}
