//! Lists of revoked certificates (RFC 5280 §5), read when the configuration is loaded. Fails closed: what a list might say and does not say any
//! more, nobody knows. Who may have signed a list is `signed`'s affair.

use super::names::rfc4514;
use std::collections::{BTreeSet, HashMap, HashSet};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{DistributionPointName, GeneralName, IssuingDistributionPoint, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

/// By the issuer's name as it is encoded, and by what of its certificates the list speaks of.
#[derive(Debug, Default)]
pub struct Revoked(HashMap<Box<[u8]>, HashMap<Scope, List>>);

/// Which of an issuer's certificates a list speaks of: an authority with many may cut its list into shards (RFC 5280, section 6.3.3 b).
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Scope {
    /// `None`: those of every distribution point.
    points: Option<BTreeSet<Point>>,
    is_of_users_alone: bool,
}

/// The name of a distribution point, as it is encoded.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Point {
    Uri(Box<str>),
    Directory(Box<[u8]>),
}

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
        let mut scope = Scope::default();
        for extension in list.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::IssuingDistributionPoint(point) => scope = Scope::of(point)?,
                other => understood(other, extension.critical)?,
            }
        }
        let entry = self.0.entry(list.issuer().as_raw().into()).or_default().entry(scope).or_default();
        // Of two lists that speak of the same certificates the newer one counts as long as it holds; what either revokes is revoked.
        entry.next_update = match (entry.next_update, list.next_update().map(|time| time.timestamp())) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        entry.serials.extend(list.iter_revoked_certificates().map(|revoked| serial(revoked.raw_serial()).into()));
        Ok(())
    }

    /// `now`: seconds since 1970.
    pub fn standing(&self, certificate: &X509Certificate<'_>, now: i64) -> Standing {
        let Some(lists) = self.0.get(certificate.issuer().as_raw()) else {
            return Standing::Unknown("there is no list of revoked certificates of its issuer");
        };
        // An issuer gives a number once, so it does not matter which list has it.
        if lists.values().any(|list| list.serials.contains(serial(certificate.raw_serial()))) {
            return Standing::Revoked;
        }
        let points = points(certificate);
        let mut ends =
            lists.iter().filter(|(scope, _)| scope.covers(certificate, &points)).map(|(_, list)| list.next_update).peekable();
        if ends.peek().is_none() {
            return Standing::Unknown(
                "no list of revoked certificates of its issuer speaks of it; they are of other distribution points",
            );
        }
        // A certificate may name several points, each of which knows all of it: the longest holds. `None` is less than any.
        match ends.max().flatten() {
            Some(end) if end <= now => Standing::Unknown("the list of revoked certificates of its issuer has ended"),
            end => Standing::Good(end),
        }
    }

    /// When the first of its lists ends that `newer` has none of which speaks of the same and ends later, in seconds since 1970.
    pub fn ends(&self, newer: &Revoked) -> Option<i64> {
        let lists = self.0.iter().flat_map(|(issuer, lists)| lists.iter().map(move |(scope, list)| (issuer, scope, list)));
        let ends = lists.filter_map(|(issuer, scope, list)| {
            let newest = newer.0.get(issuer).and_then(|lists| lists.get(scope)).and_then(|list| list.next_update);
            list.next_update.filter(|end| newest.is_none_or(|newest| newest <= *end))
        });
        ends.min()
    }

    /// Whether there is a list, of whoever issued it, of certificates of its kind: of authorities, or of others.
    pub fn knows(&self, certificate: &X509Certificate<'_>) -> bool {
        let lists = self.0.get(certificate.issuer().as_raw());
        lists.is_some_and(|lists| lists.keys().any(|scope| scope.covers_kind(certificate)))
    }
}

impl Scope {
    /// Refuses lists that say less than a client's certificate needs.
    fn of(point: &IssuingDistributionPoint<'_>) -> Result<Scope, String> {
        if point.only_contains_ca_certs
            || point.only_contains_attribute_certs
            || point.indirect_crl
            || point.only_some_reasons.is_some()
        {
            return Err("lists a part of what is revoked; name the whole list".to_owned());
        }
        let points = match &point.distribution_point {
            Some(DistributionPointName::FullName(names)) => Some(names.iter().filter_map(Point::of).collect::<BTreeSet<_>>()),
            Some(DistributionPointName::NameRelativeToCRLIssuer(_)) => Some(BTreeSet::new()),
            None => None,
        };
        let is_of_users_alone = point.only_contains_user_certs;
        // The parser passes over what it does not understand, and the extension never says nothing (RFC 5280, section 5.2.5).
        if points.as_ref().map_or(!is_of_users_alone, BTreeSet::is_empty) {
            return Err("names its distribution point in a way that is not understood".to_owned());
        }
        Ok(Scope { points, is_of_users_alone })
    }

    fn covers(&self, certificate: &X509Certificate<'_>, points: &BTreeSet<Point>) -> bool {
        self.covers_kind(certificate) && self.points.as_ref().is_none_or(|own| !own.is_disjoint(points))
    }

    fn covers_kind(&self, certificate: &X509Certificate<'_>) -> bool {
        !(self.is_of_users_alone && certificate.is_ca())
    }
}

impl Point {
    /// Names of other kinds lead nowhere.
    fn of(name: &GeneralName<'_>) -> Option<Point> {
        match name {
            GeneralName::URI(uri) => Some(Point::Uri((*uri).into())),
            GeneralName::DirectoryName(name) => Some(Point::Directory(name.as_raw().into())),
            _ => None,
        }
    }
}

/// Where its issuer itself lists it for every reason.
fn points(certificate: &X509Certificate<'_>) -> BTreeSet<Point> {
    let named = certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLDistributionPoints(points) => Some(&points.points),
        _ => None,
    });
    let whole = named.flatten().filter(|point| point.reasons.is_none() && point.crl_issuer.is_none());
    let names = whole.filter_map(|point| match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => Some(names),
        Some(DistributionPointName::NameRelativeToCRLIssuer(_)) | None => None,
    });
    names.flatten().filter_map(Point::of).collect()
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

/// Refuses lists that say less than they seem to, such as those of changes.
fn understood(extension: &ParsedExtension<'_>, is_critical: bool) -> Result<(), String> {
    match extension {
        ParsedExtension::CRLNumber(_) | ParsedExtension::AuthorityKeyIdentifier(_) => Ok(()),
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
        certificate_of(issuer, serial, &[], IsCa::NoCa)
    }

    fn at(point: &str) -> CrlDistributionPoint {
        CrlDistributionPoint { uris: vec![format!("http://crl.test/{point}")] }
    }

    fn certificate_of(issuer: &Issuer<'static, KeyPair>, serial: &[u8], points: &[&str], is_ca: IsCa) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.crl_distribution_points = points.iter().map(|point| at(point)).collect();
        params.is_ca = is_ca;
        params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(DnType::CommonName, "oven");
        params.serial_number = Some(SerialNumber::from_slice(serial));
        params.signed_by(&KeyPair::generate().expect("a key"), issuer).expect("a certificate").der().to_vec()
    }

    fn list(issuer: &Issuer<'static, KeyPair>, serials: &[&[u8]], year: i32) -> (Vec<u8>, String) {
        list_of(issuer, serials, year, None)
    }

    fn list_of(
        issuer: &Issuer<'static, KeyPair>,
        serials: &[&[u8]],
        year: i32,
        point: Option<(&str, Option<CrlScope>)>,
    ) -> (Vec<u8>, String) {
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
            issuing_distribution_point: point
                .map(|(point, scope)| CrlIssuingDistributionPoint { distribution_point: at(point), scope }),
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
        let (der, pem) = list(&one, &[&[0x81, 2], &[3]], 2010);
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
        let pems = [list(&one, &[&[1]], 2010), list(&other, &[&[2]], 2010), list(&one, &[&[2]], 2020)];
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
        let (older, newer) = (list(&one, &[], 2010).1, list(&one, &[], 2020).1);
        let others = list(&other, &[], 2010).1;
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
        let shard = |point, year| list_of(&one, &[], year, Some((point, None))).1;
        let ended = read(&[shard("a", 2010)]);
        assert_eq!(ended.ends(&read(&[shard("a", 2010), shard("b", 2020)])), Some(Y2010), "the other is of others");
        assert_eq!(ended.ends(&read(&[shard("a", 2010), shard("a", 2020)])), None);
        assert_eq!(read(&[shard("b", 2020), shard("a", 2010)]).ends(&Revoked::default()), Some(Y2010));
    }

    #[test]
    fn what_is_no_whole_list_is_refused() {
        let one = authority("one");
        let (der, pem) = list(&one, &[&[1]], 2010);
        let (part, _) = list_of(&one, &[&[1]], 2010, Some(("a", Some(CrlScope::CaCertsOnly))));
        let trailing = [&der[..], &[0]].concat();
        let cut = pem.replace("-----END", "-----EDN").into_bytes();
        let key = one.key().serialize_pem().into_bytes();
        for bytes in [&part, &trailing, &cut, &key, &certificate(&one, &[1]), &der[..der.len() - 1].to_vec(), &Vec::new()] {
            assert!(Revoked::default().add(bytes).is_err());
        }
        // Its point's name is of a kind that nobody looks for (`[2]`, a host), or is none.
        let (point, _) = list_of(&one, &[&[1]], 2010, Some(("a", None)));
        let uri = point.windows(2).rposition(|bytes| bytes == [0x86, 17]).expect("the name");
        for tag in [0x82, 0x5f] {
            let mut other = point.clone();
            other[uri] = tag;
            assert!(Revoked::default().add(&other).is_err());
        }
        assert!(Revoked::default().add(&point).is_ok());
    }

    #[test]
    fn a_list_of_a_distribution_point_speaks_of_its_certificates_alone() {
        let one = authority("one");
        let [in_a, in_b, in_both, nowhere] =
            [&["a"][..], &["b"], &["a", "b"], &[]].map(|points| certificate_of(&one, &[5], points, IsCa::NoCa));
        let lists = |lists: &[(u8, i32, Option<&str>)]| {
            let mut revoked = Revoked::default();
            for (serial, year, point) in lists {
                let (der, _) = list_of(&one, &[&[*serial]], *year, point.map(|point| (point, None)));
                revoked.add(&der).expect("a list");
            }
            revoked
        };
        let unknown = |revoked: &Revoked, der: &[u8], now: i64| matches!(standing(revoked, der, now), Standing::Unknown(_));

        let shard = lists(&[(1, 2010, Some("a"))]);
        assert_eq!(standing(&shard, &in_a, NOW), Standing::Good(Some(Y2010)));
        assert_eq!(standing(&shard, &in_both, NOW), Standing::Good(Some(Y2010)));
        assert!(unknown(&shard, &in_b, NOW) && unknown(&shard, &nowhere, NOW));

        let shards = lists(&[(1, 2010, Some("a")), (2, 2020, Some("b"))]);
        assert_eq!(standing(&shards, &in_a, NOW), Standing::Good(Some(Y2010)));
        assert!(unknown(&shards, &in_a, Y2010), "the other list does not hold for it");
        assert_eq!(standing(&shards, &in_b, Y2010), Standing::Good(Some(Y2020)));
        assert_eq!(standing(&shards, &in_both, Y2010), Standing::Good(Some(Y2020)));
        assert!(unknown(&shards, &nowhere, NOW));

        let with_whole = lists(&[(1, 2010, Some("a")), (2, 2020, None)]);
        for der in [&in_a, &in_b, &in_both, &nowhere] {
            assert_eq!(standing(&with_whole, der, Y2010), Standing::Good(Some(Y2020)));
        }
        let elsewhere = lists(&[(1, 2020, Some("a")), (5, 2010, Some("b"))]);
        assert_eq!(standing(&elsewhere, &in_a, NOW), Standing::Revoked, "one issuer gives a number once");
    }

    #[test]
    fn a_list_of_users_says_nothing_of_authorities() {
        let one = authority("one");
        let user = certificate_of(&one, &[5], &["a"], IsCa::NoCa);
        let below = certificate_of(&one, &[6], &["a"], IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
        let (users, _) = list_of(&one, &[], 2010, Some(("a", Some(CrlScope::UserCertsOnly))));
        let mut revoked = Revoked::default();
        revoked.add(&users).expect("clients are users");
        let knows = |revoked: &Revoked| revoked.knows(&X509Certificate::from_der(&below).expect("a certificate").1);
        assert_eq!(standing(&revoked, &user, NOW), Standing::Good(Some(Y2010)));
        assert!(matches!(standing(&revoked, &below, NOW), Standing::Unknown(_)) && !knows(&revoked));
        revoked.add(&list_of(&one, &[], 2020, Some(("b", None))).0).expect("a list");
        assert!(matches!(standing(&revoked, &below, NOW), Standing::Unknown(_)) && knows(&revoked), "it is in another shard");
    }

    #[test]
    fn a_name_is_written_from_its_end() {
        let der = certificate(&authority("one"), &[1]);
        let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
        assert_eq!(rfc4514(certificate.subject()), "O=Example\\, Inc.,CN=oven");
        assert_eq!(issuer(&certificate), "CN=one");
    }
}
