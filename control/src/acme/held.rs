//! A certificate that was obtained, with its key: whether it can be used, for whom, and until when. Keeps no files.

use super::schedule::Life;
use instant_acme::CertificateIdentifier;
use maitred_transport::{IssuedCertificates, TlsProblem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// One that fits its key and stands for its domain.
#[derive(Clone)]
pub(super) struct Held {
    /// The key, then the chain.
    pem: Arc<[u8]>,
    pub life: Life,
    /// What an authority calls it when it is asked about renewal (RFC 9773 §4.1).
    pub id: Option<CertificateIdentifier<'static>>,
}

/// A key is no thing to print.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({:?})", self.life)
    }
}

impl Held {
    pub fn read(pem: Vec<u8>, domain: &str) -> Result<Held, String> {
        let wrong = |(_, problem): (usize, TlsProblem)| problem.what;
        IssuedCertificates::default().set(&[(&pem, &pem)]).map_err(wrong)?;
        let unreadable = || "its first certificate is malformed".to_owned();
        let certificate = CertificateDer::from_pem_slice(&pem).map_err(|_| unreadable())?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| unreadable())?;
        if !stands_for(&parsed, domain) {
            return Err(format!("it does not stand for {domain}"));
        }
        let validity = parsed.validity();
        let life = Life { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() };
        let id = CertificateIdentifier::try_from(&certificate).ok().map(CertificateIdentifier::into_owned);
        Ok(Held { pem: pem.into(), life, id })
    }

    pub fn pem(&self) -> &[u8] {
        &self.pem
    }
}

fn stands_for(certificate: &X509Certificate<'_>, domain: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(name) if name.eq_ignore_ascii_case(domain)))
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::time::{Duration, UNIX_EPOCH};

    /// A key and a certificate that it signed for itself.
    pub fn pem(domain: &str, life: Life) -> Vec<u8> {
        let mut params = CertificateParams::new([domain.to_owned()]).unwrap();
        params.not_before = (UNIX_EPOCH + Duration::from_secs(life.not_before as u64)).into();
        params.not_after = (UNIX_EPOCH + Duration::from_secs(life.not_after as u64)).into();
        let key = KeyPair::generate().unwrap();
        (key.serialize_pem() + &params.self_signed(&key).unwrap().pem()).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_certificate_that_fits_is_held() {
        let life = Life { not_before: 1_600_000_000, not_after: 1_700_000_000 };
        let good = testing::pem("a.example.com", life);
        let held = Held::read(good.clone(), "a.example.com").unwrap();
        assert_eq!((held.life, held.pem()), (life, &good[..]));
        assert!(!format!("{held:?}").contains("KEY"));
        let text = String::from_utf8(good).unwrap();
        let other = String::from_utf8(testing::pem("a.example.com", life)).unwrap();
        let certificate = text.find("-----BEGIN CERTIFICATE").unwrap();
        let mixed = other[..other.find("-----BEGIN CERTIFICATE").unwrap()].to_owned() + &text[certificate..];
        for (pem, domain) in [
            (text.as_str(), "b.example.com"),
            (&text[..certificate], "a.example.com"),
            (&text[certificate..], "a.example.com"),
            (&mixed, "a.example.com"),
            ("", "a.example.com"),
        ] {
            assert!(Held::read(pem.as_bytes().to_vec(), domain).is_err(), "{pem}");
        }
    }
}
