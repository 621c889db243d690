//! Whether lists of revoked certificates were signed by whoever they are of: an authority that a listener's `client_ca` names, or one below it
//! whose certificate stands beside the list. Looks at no time: lists that have ended, and when, are `revoked`'s affair.

use super::names::rfc4514;
use super::revoked::{Parts, read};
use aws_lc_rs::signature::{
    ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, EcdsaVerificationAlgorithm, UnparsedPublicKey,
};
use x509_parser::asn1_rs::BitString;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::verify::verify_signature;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// `authorities`: what listeners name, in PEM. `Err`: which of the files has a list that counts for nothing, and why, after its name.
pub fn check(files: &[&[u8]], authorities: &[&[u8]]) -> Result<(), (usize, String)> {
    let parts: Vec<Parts> =
        files.iter().enumerate().map(|(at, bytes)| Parts::of(bytes).map_err(|why| (at, why))).collect::<Result<_, _>>()?;
    let roots: Vec<Vec<u8>> = authorities.iter().flat_map(|pem| certificates(pem)).collect();
    let mut known: Vec<X509Certificate<'_>> = roots.iter().filter_map(|der| parsed(der)).collect();
    let mut others: Vec<X509Certificate<'_>> =
        parts.iter().flat_map(|parts| &parts.certificates).filter_map(|der| parsed(der)).filter(is_authority).collect();
    // Each step down finds those that are signed by one that was found before.
    loop {
        let is_below = |other: &X509Certificate<'_>| {
            let above = known.iter().filter(|above| above.subject() == other.issuer());
            let signature = (&other.signature_algorithm, &other.signature_value);
            above.into_iter().any(|above| fits(signature, other.tbs_certificate.as_ref(), above.public_key()).is_ok())
        };
        let (found, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(is_below);
        others = rest;
        if found.is_empty() {
            break;
        }
        known.extend(found);
    }
    for (at, parts) in parts.iter().enumerate() {
        for der in &parts.lists {
            let list = read(der).map_err(|why| (at, why))?;
            signed(&list, &known).map_err(|why| (at, why))?;
        }
    }
    Ok(())
}

fn signed(list: &CertificateRevocationList<'_>, known: &[X509Certificate<'_>]) -> Result<(), String> {
    let issuer = || rfc4514(list.issuer());
    let mut named = known.iter().filter(|authority| authority.subject().as_raw() == list.issuer().as_raw()).peekable();
    if named.peek().is_none() {
        return Err(format!("has a list of `{}`, whom no listener's `client_ca` names", issuer()));
    }
    let mut why = format!("has a list in the name of `{}` that it did not sign", issuer());
    for authority in named.filter(|authority| may_sign_lists(authority)) {
        let signature = (&list.signature_algorithm, &list.signature_value);
        match fits(signature, list.tbs_cert_list.as_ref(), authority.public_key()) {
            Ok(()) => return Ok(()),
            Err(X509Error::SignatureUnsupportedAlgorithm) => {
                why = format!("has a list of `{}` whose signature is of a kind that is not understood", issuer());
            }
            // The crate's errors, of which it may add some.
            Err(_) => {}
        }
    }
    Err(why)
}

/// RSA with SHA-1 (RFC 8017), by its two names: two contents of one hash can be made.
const BY_SHA1: [&str; 2] = ["1.2.840.113549.1.1.5", "1.3.14.3.2.29"];
/// The curve P-521, and ECDSA by hash (RFC 5480, RFC 5758), which the handshake takes and the crate does not.
const P521: &str = "1.3.132.0.35";
const ECDSA_ON_P521: [(&str, &EcdsaVerificationAlgorithm); 3] = [
    ("1.2.840.10045.4.3.2", &ECDSA_P521_SHA256_ASN1),
    ("1.2.840.10045.4.3.3", &ECDSA_P521_SHA384_ASN1),
    ("1.2.840.10045.4.3.4", &ECDSA_P521_SHA512_ASN1),
];

fn fits(
    (algorithm, signature): (&AlgorithmIdentifier<'_>, &BitString<'_>),
    bytes: &[u8],
    key: &SubjectPublicKeyInfo<'_>,
) -> Result<(), X509Error> {
    let by = algorithm.algorithm.to_id_string();
    if BY_SHA1.contains(&&*by) {
        return Err(X509Error::SignatureUnsupportedAlgorithm);
    }
    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    if curve.is_none_or(|curve| curve.to_id_string() != P521) {
        return verify_signature(key, algorithm, signature, bytes);
    }
    let known = ECDSA_ON_P521.iter().find(|(name, _)| *name == by).ok_or(X509Error::SignatureUnsupportedAlgorithm)?;
    let key = UnparsedPublicKey::new(known.1, &key.subject_public_key.data);
    key.verify(bytes, &signature.data).map_err(|_| X509Error::SignatureVerificationError)
}

/// RFC 5280, section 6.3.3 (f).
fn may_sign_lists(authority: &X509Certificate<'_>) -> bool {
    authority.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()))
}

fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    certificate.is_ca()
}

fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    let blocks = Pem::iter_from_buffer(pem).filter_map(Result::ok);
    blocks.filter(|block| block.label == "CERTIFICATE").map(|block| block.contents).collect()
}

fn parsed(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
        KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA256, PKCS_ECDSA_P521_SHA512,
        PKCS_ED25519, SerialNumber, date_time_ymd,
    };

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Authority {
        fn new(name: &str, usages: &[KeyUsagePurpose], above: Option<&Authority>) -> Authority {
            Authority::with(name, usages, above, KeyPair::generate().expect("a key"))
        }

        fn with(name: &str, usages: &[KeyUsagePurpose], above: Option<&Authority>, key: KeyPair) -> Authority {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = usages.to_vec();
            let certificate = match above {
                None => params.self_signed(&key),
                Some(above) => params.signed_by(&key, &above.issuer),
            };
            let pem = certificate.expect("a certificate").pem();
            Authority { issuer: Issuer::new(params, key), pem }
        }

        fn list(&self) -> String {
            let params = CertificateRevocationListParams {
                this_update: date_time_ymd(2001, 1, 1),
                next_update: date_time_ymd(2010, 1, 1),
                crl_number: SerialNumber::from(1),
                issuing_distribution_point: None,
                revoked_certs: Vec::new(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
        }
    }

    #[test]
    fn a_list_counts_if_whoever_it_is_of_signed_it_and_is_vouched_for() {
        let one = Authority::new("one", &[], None);
        let impostor = Authority::new("one", &[], None);
        let other = Authority::new("other", &[], None);
        let below = Authority::new("below", &[], Some(&one));
        let lower = Authority::new("lower", &[], Some(&below));
        let elsewhere = Authority::new("below", &[], Some(&impostor));
        let with = |authority: &Authority, beside: &[&Authority]| {
            beside.iter().fold(authority.list(), |list, beside| list + &beside.pem)
        };
        let both = one.pem.clone() + &other.pem;
        for (files, authorities, wrong) in [
            (vec![one.list()], &one.pem, None),
            (vec![one.list(), other.list()], &both, None),
            (vec![one.list() + &other.list()], &both, None),
            (vec![other.list()], &one.pem, Some((0, "has a list of `CN=other`, whom no"))),
            (vec![one.list(), impostor.list()], &one.pem, Some((1, "in the name of `CN=one` that it did not sign"))),
            (vec![below.list()], &one.pem, Some((0, "has a list of `CN=below`, whom no"))),
            (vec![with(&below, &[&below])], &one.pem, None),
            (vec![below.list(), with(&lower, &[&lower, &below])], &one.pem, None),
            (vec![with(&lower, &[&lower])], &one.pem, Some((0, "has a list of `CN=lower`, whom no"))),
            (vec![with(&elsewhere, &[&elsewhere])], &one.pem, Some((0, "has a list of `CN=below`, whom no"))),
            (vec![with(&elsewhere, &[&below])], &one.pem, Some((0, "that it did not sign"))),
            (vec![one.pem.clone()], &one.pem, Some((0, "holds no"))),
        ] {
            let files: Vec<&[u8]> = files.iter().map(String::as_bytes).collect();
            let outcome = check(&files, &[authorities.as_bytes()]);
            match (outcome, wrong) {
                (Ok(()), None) => {}
                (Err((at, why)), Some((index, words))) => assert!(at == index && why.contains(words), "{at}: {why}"),
                (outcome, wrong) => panic!("{outcome:?}, not {wrong:?}"),
            }
        }
    }

    #[test]
    fn every_kind_of_key_that_the_handshake_takes_may_sign_lists() {
        for algorithm in
            [&PKCS_ED25519, &PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA256, &PKCS_ECDSA_P521_SHA512]
        {
            let key = || KeyPair::generate_for(algorithm).expect("a key");
            let (one, impostor) = (Authority::with("one", &[], None, key()), Authority::with("one", &[], None, key()));
            let below = Authority::with("below", &[], Some(&one), key());
            assert_eq!(check(&[one.list().as_bytes()], &[one.pem.as_bytes()]), Ok(()), "{algorithm:?}");
            assert_eq!(check(&[(below.list() + &below.pem).as_bytes()], &[one.pem.as_bytes()]), Ok(()), "{algorithm:?}");
            assert!(check(&[impostor.list().as_bytes()], &[one.pem.as_bytes()]).is_err(), "{algorithm:?}");
        }
    }

    #[test]
    fn rsa_signs_lists_by_either_of_its_paddings_and_never_with_sha1() {
        for list in [RSA_LIST, RSA_PSS_LIST] {
            assert_eq!(check(&[list.as_bytes()], &[RSA.as_bytes()]), Ok(()));
            let mut altered = Parts::of(list.as_bytes()).expect("a list").lists.remove(0);
            *altered.last_mut().expect("a byte") ^= 1;
            let (_, why) = check(&[&altered], &[RSA.as_bytes()]).expect_err("somebody else's");
            assert!(why.contains("that it did not sign"), "{why}");
        }
        let (_, why) = check(&[RSA_SHA1_LIST.as_bytes()], &[RSA.as_bytes()]).expect_err("SHA-1");
        assert!(why.contains("of a kind that is not understood"), "{why}");
    }

    #[test]
    fn an_authority_that_may_not_sign_lists_signs_none() {
        let able = Authority::new("one", &[KeyUsagePurpose::CrlSign], None);
        assert_eq!(check(&[able.list().as_bytes()], &[able.pem.as_bytes()]), Ok(()));
        let list = able.list();
        // The same key and name, and another certificate.
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "one");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let unable = params.self_signed(able.issuer.key()).expect("a certificate").pem();
        assert!(check(&[list.as_bytes()], &[unable.as_bytes()]).is_err());
    }

    /// Of one RSA key of 2048 bits, which is in nobody's hands any more: rcgen makes none. Made with `openssl ca -gencrl`, for a century.
    const RSA: &str = "-----BEGIN CERTIFICATE-----
MIIC/zCCAeegAwIBAgIUQMj3AlWeQjHepL0wsRj6++51DV0wDQYJKoZIhvcNAQEL
BQAwDjEMMAoGA1UEAwwDb25lMCAXDTI2MTEyMjIwNTM1M1oYDzIxMjYxMDI5MjA1
MzUzWjAOMQwwCgYDVQQDDANvbmUwggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEK
AoIBAQCzfGYl6JAmG08GYPj2EhRcpQiNcG+B/rl6mHg+ukEAuM70fQ3EXRe4Bf0s
ha/iWR9jFVwtFe8grQYdbC9VTR1O2SzHpm86lG8KfWVGwwjY4VTecZ7q0D8daxws
gbY6j3kasrzgyJnIzjsD1BTEC8Lvsai+O7OIiyl3CF3ihob1ty/gGeT8E8mXjsHx
DobltqcwbYRjZyvhE+We8CxI9EyVqUHK4tfIKjvnuMvDPUwRTKAMH9JwbmrztTcE
QTAld8gUmYEI2A1UT30qpvbhYNyZaVVO+3qDEF2Ju/KLMcA4SudG1zzAfrP4fN1s
wqRNWHTfLpEacCxT51/yljr0VTmhAgMBAAGjUzBRMB0GA1UdDgQWBBTLqjQno/cB
1YHlVMyCjgtL5qcqkDAfBgNVHSMEGDAWgBTLqjQno/cB1YHlVMyCjgtL5qcqkDAP
BgNVHRMBAf8EBTADAQH/MA0GCSqGSIb3DQEBCwUAA4IBAQAxG/zd57i0KnSdHVyz
cBjKgHGQXVql49WgIXdfu55wH8js7ZrJ/1gJ/NzlnLL4J5KIuU7CRv0baUmlsgdU
DG4xtJDU1tG8c3n4Pgk6YBx054OloHsAT6FeuxfytxbsujESannpfnUszOKgNYOL
CUiJP01z1UsGXTJeUJJE/7Z2jSeZPo9Yve1oRYw6ZCBYFWf0b0dd2lIl0GftL47m
CIWnr6UxP8xDf2aKh4zHYWdLftWkho2YpVBLJvULL9behTwOVEuH1ROJZck0S3K7
dCshRRcTTa3xvOc0sEvBTld8nzi2HSYEzzyIiLADCUmYzj7/p/A/L0p9P3CvNvrE
zysk
-----END CERTIFICATE-----
";
    /// PKCS#1 v1.5 with SHA-256.
    const RSA_LIST: &str = "-----BEGIN X509 CRL-----
MIIBaDBSAgEBMA0GCSqGSIb3DQEBCwUAMA4xDDAKBgNVBAMMA29uZRcNMjYxMTIy
MjA1MzUzWhgPMjEyNjEwMjkyMDUzNTNaoA4wDDAKBgNVHRQEAwIBATANBgkqhkiG
9w0BAQsFAAOCAQEAbP2R2RQr9bPUUlmeR02k995K1bm1s4jXuVdr3ogYWxh92qIE
Tkiys1pbyindOUgp0tBMxeSF9t0JTOFrP6wWUzjvGkONWpb8NGB3H6zlQ9ZWuM8l
KhXG6aNGfPbJdL4KEvHqxn7TKjceNIZ7OXnEmQiMWbQ+LLdvh0gpS1kNWxFI2WCT
NlBW4DBb9NOcQR1J/5I0iciOGOf+D8DE8LDeIx0ti3mu2+I+0hS8l46yw3O1gtAJ
GOpXsxdGj2x2rfYRlO72eftXxLMs+7f34R2yKbXIOeGJeVBipTb9pKbdJlHonFQZ
5iW1glys0MUhlDsx4ta2DWVjiS9eisgu5gCdBg==
-----END X509 CRL-----
";
    /// PSS with SHA-256 and 32 bytes of salt.
    const RSA_PSS_LIST: &str = "-----BEGIN X509 CRL-----
MIIB0TCBhgIBATBBBgkqhkiG9w0BAQowNKAPMA0GCWCGSAFlAwQCAQUAoRwwGgYJ
KoZIhvcNAQEIMA0GCWCGSAFlAwQCAQUAogMCASAwDjEMMAoGA1UEAwwDb25lFw0y
NjExMjIyMDUzNTNaGA8yMTI2MTAyOTIwNTM1M1qgDjAMMAoGA1UdFAQDAgECMEEG
CSqGSIb3DQEBCjA0oA8wDQYJYIZIAWUDBAIBBQChHDAaBgkqhkiG9w0BAQgwDQYJ
YIZIAWUDBAIBBQCiAwIBIAOCAQEArkhzzWKoCcV2afEbJEzM+8T2nKW0CGOqVFac
QDYdDrofvLKcrqtRpnSFYdRtSit2EQA2oUw5ckkDnCOfNCkCCw5fWHuR91GLz3/d
ZawvciG/xKdy/8TPdlUQKJKV3hDGh09ANngeyDSgO5Z1/xagP6RZPbM4NIhcokOz
Cqb8B8VLyJz6D/xb6MpzOv1NmdOK7ZQLU740vucwr2a/CrysIgt8vboILp4ZXNMu
ipOShcITEkcobpmJiTH51tiuS2C5Oy1Pe4oG4yeg75upN4tRClnavyhLRCuMsEXR
vmjJ+LADF62r0PzpudKcFoODDuiwzkGZGR4Rleb+xbtNkghnrw==
-----END X509 CRL-----
";
    /// PKCS#1 v1.5 with SHA-1.
    const RSA_SHA1_LIST: &str = "-----BEGIN X509 CRL-----
MIIBaDBSAgEBMA0GCSqGSIb3DQEBBQUAMA4xDDAKBgNVBAMMA29uZRcNMjYxMTIy
MjA1MzUzWhgPMjEyNjEwMjkyMDUzNTNaoA4wDDAKBgNVHRQEAwIBAzANBgkqhkiG
9w0BAQUFAAOCAQEAnqYKFKO5qz17s8sQDZDTeoIwiAjRGi8OPWpUyRjY8WOq3T/D
rbzobsYiZOQsQ483M4qoHscdV4Rb81EqW7EveWiu52RT2Csexu2+25jbW/y5Hf9h
qHmVk1jj+AKOQBNegVSg77Tfeza0mKE5fd/Q5Hifq+VyQaxRSoCLm6geKh44Dw4A
1DiLcsQxWV1FM4uk9WUVd8n7xPnKXNkgyqPGPqCJk6lYAEcb3tnRLJXiSElZ7AQ3
BGlfhLRlPL8q853capK3vJvIO7DnfJrT/mo+Rimq1fFy3QlTbwKd3yPU95AQtI8w
BBbSRBV4FCuHsSn1HG2GT9YNS2GtXKKo9MWkMA==
-----END X509 CRL-----
";
}
