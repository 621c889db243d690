//! Lists of revoked certificates (RFC 5280 §5), read when the configuration is loaded. Fails closed: what a list might say and does not say any
//! more, nobody knows. Who may have signed a list is `signed`'s affair.

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
        Parts::of(bytes)?.lists.iter().try_for_each(|der| self.add_der(der))
    }

    fn add_der(&mut self, der: &[u8]) -> Result<(), String> {
        let list = read(der)?;
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

    /// When the first of its lists ends that `newer` has none of which ends later, in seconds since 1970.
    pub fn ends(&self, newer: &Revoked) -> Option<i64> {
        let ends = self.0.iter().filter_map(|(issuer, list)| {
            let newest = newer.0.get(issuer).and_then(|list| list.next_update);
            list.next_update.filter(|end| newest.is_none_or(|newest| newest <= *end))
        });
        ends.min()
    }

    /// Whether there is a list of whoever issued it.
    pub fn knows(&self, certificate: &X509Certificate<'_>) -> bool {
        self.0.contains_key(certificate.issuer().as_raw())
    }
}

/// What stands in a file, as DER.
#[derive(Default)]
pub struct Parts {
    pub lists: Vec<Vec<u8>>,
    pub certificates: Vec<Vec<u8>>,
}

impl Parts {
    /// `Err`: what is wrong with a file of lists, after its name.
    pub fn of(bytes: &[u8]) -> Result<Parts, String> {
        const LABEL: &[u8] = b"-----BEGIN ";
        let mut parts = Parts::default();
        if !bytes.windows(LABEL.len()).any(|window| window == LABEL) {
            parts.lists.push(bytes.to_vec());
            return Ok(parts);
        }
        for pem in Pem::iter_from_buffer(bytes) {
            let pem = pem.map_err(|_| "is not whole PEM".to_owned())?;
            match pem.label.as_str() {
                "X509 CRL" => parts.lists.push(pem.contents),
                "CERTIFICATE" => parts.certificates.push(pem.contents),
                _ => {}
            }
        }
        match parts.lists.is_empty() {
            false => Ok(parts),
            true => Err("holds no `-----BEGIN X509 CRL-----`".to_owned()),
        }
    }
}

pub fn read(der: &[u8]) -> Result<CertificateRevocationList<'_>, String> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        Ok(_) => Err("has something behind its list".to_owned()),
        Err(_) => Err("is no list of revoked certificates".to_owned()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, DnType,
        IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };

    fn authority(name: &str) -> Issuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        Issuer::new(params, KeyPair::generate().expect("a key"))
    }

    /// A certificate with that serial number, as DER.
    fn certificate(issuer: &Issuer<'static, KeyPair>, serial: &[u8]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(DnType::CommonName, "oven");
        params.serial_number = Some(SerialNumber::from_slice(serial));
        params.signed_by(&KeyPair::generate().expect("a key"), issuer).expect("a certificate").der().to_vec()
    }

    fn list(issuer: &Issuer<'static, KeyPair>, serials: &[&[u8]], year: i32, scope: Option<CrlScope>) -> (Vec<u8>, String) {
        let distribution_point = CrlDistributionPoint { uris: vec!["http://crl.test/".to_owned()] };
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date_time_ymd(2001, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2001, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: scope.map(|scope| CrlIssuingDistributionPoint { distribution_point, scope: Some(scope) }),
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(issuer).expect("a list");
        (list.der().to_vec(), list.pem().expect("PEM"))
    }

    fn standing(revoked: &Revoked, der: &[u8], now: i64) -> Standing {
        revoked.standing(&X509Certificate::from_der(der).expect("a certificate").1, now)
    }

    /// 2005, 2010, 2020.
    const NOW: i64 = 1_104_537_600;
    const Y2010: i64 = 1_262_304_000;
    const Y2020: i64 = 1_577_836_800;

    #[test]
    fn a_certificate_is_good_until_its_list_ends_unless_it_is_listed() {
        let (one, other) = (authority("one"), authority("other"));
        let (good, bad) = (certificate(&one, &[1, 2]), certificate(&one, &[0x81, 2]));
        let (der, pem) = list(&one, &[&[0x81, 2], &[3]], 2010, None);
        for bytes in [der, [b"the list of one\n", pem.as_bytes()].concat()] {
            let mut revoked = Revoked::default();
            revoked.add(&bytes).expect("a list");
            assert_eq!(standing(&revoked, &good, NOW), Standing::Good(Some(Y2010)));
            assert_eq!(standing(&revoked, &bad, NOW), Standing::Revoked);
            assert!(matches!(standing(&revoked, &good, Y2010), Standing::Unknown(_)));
            assert_eq!(standing(&revoked, &bad, Y2010), Standing::Revoked, "a list that has ended goes on saying no");
            assert!(matches!(standing(&revoked, &certificate(&other, &[9]), NOW), Standing::Unknown(_)));
        }
    }

    #[test]
    fn lists_add_up() {
        let (one, other) = (authority("one"), authority("other"));
        let pems = [list(&one, &[&[1]], 2010, None), list(&other, &[&[2]], 2010, None), list(&one, &[&[2]], 2020, None)];
        let text: String = pems.iter().map(|(_, pem)| pem.as_str()).collect();
        let mut revoked = Revoked::default();
        revoked.add(text.as_bytes()).expect("three lists");
        for serial in [[1], [2]] {
            assert_eq!(standing(&revoked, &certificate(&one, &serial), NOW), Standing::Revoked);
        }
        assert_eq!(standing(&revoked, &certificate(&one, &[3]), NOW), Standing::Good(Some(Y2020)), "the newer one holds");
        assert_eq!(standing(&revoked, &certificate(&other, &[1]), NOW), Standing::Good(Some(Y2010)));
    }

    #[test]
    fn a_list_that_has_a_newer_one_beside_it_does_not_end() {
        let (one, other) = (authority("one"), authority("other"));
        let read = |pems: &[String]| {
            let mut revoked = Revoked::default();
            pems.iter().for_each(|pem| revoked.add(pem.as_bytes()).expect("a list"));
            revoked
        };
        let (older, newer) = (list(&one, &[], 2010, None).1, list(&one, &[], 2020, None).1);
        let others = list(&other, &[], 2010, None).1;
        for (pems, beside, end) in [
            (vec![older.clone()], vec![], Some(Y2010)),
            (vec![older.clone()], vec![newer.clone()], None),
            (vec![newer.clone()], vec![older.clone()], Some(Y2020)),
            (vec![older.clone(), newer.clone()], vec![], Some(Y2020)),
            (vec![newer.clone(), others.clone()], vec![], Some(Y2010)),
            (vec![older.clone(), others.clone()], vec![newer.clone()], Some(Y2010)),
        ] {
            let all = [&pems[..], &beside[..]].concat();
            assert_eq!(read(&pems).ends(&read(&all)), end);
        }
    }

    #[test]
    fn what_is_no_whole_list_is_refused() {
        let one = authority("one");
        let (der, pem) = list(&one, &[&[1]], 2010, None);
        let (part, _) = list(&one, &[&[1]], 2010, Some(CrlScope::CaCertsOnly));
        let trailing = [&der[..], &[0]].concat();
        let cut = pem.replace("-----END", "-----EDN").into_bytes();
        let key = one.key().serialize_pem().into_bytes();
        for bytes in [&part, &trailing, &cut, &key, &certificate(&one, &[1]), &der[..der.len() - 1].to_vec(), &Vec::new()] {
            assert!(Revoked::default().add(bytes).is_err());
        }
        let (users, _) = list(&one, &[&[1]], 2010, Some(CrlScope::UserCertsOnly));
        assert!(Revoked::default().add(&users).is_ok(), "clients are users");
    }

    #[test]
    fn a_name_is_written_from_its_end() {
        let der = certificate(&authority("one"), &[1]);
        let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
        assert_eq!(rfc4514(certificate.subject()), "O=Example\\, Inc.,CN=oven");
        assert_eq!(issuer(&certificate), "CN=one");
    }
}
