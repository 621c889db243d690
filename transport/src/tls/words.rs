//! What rustls reports, in words for people: names of Rust's types and addresses of its manual mean nothing to who runs a gateway.

use super::{Part, TlsProblem};
use rustls::{CertificateError, Error, OtherError};
use std::io;

/// What openssl makes where it is given no extensions.
const VERSION_1: &str = "UnsupportedCertVersion";
const WITH_NAMES: &str = "issue it anew with names, which makes it v3: `openssl x509 -req … -extfile FILE`, with `subjectAltName=DNS:api.example.com` in FILE";
const NOT_AN_AUTHORITY: &str = "issue it with `basicConstraints=CA:FALSE`";

/// Why TLS with a peer failed, or why something cannot be used for it.
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            format!("invalid peer certificate: {}", of_certificate(other))
        }
        Error::Other(other) => plain(&other.to_string()),
        error => error.to_string(),
    }
}

/// The same where the error came by way of a stream of another library.
pub fn tls_words(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    inner.map_or_else(|| error.to_string(), words)
}

/// The same of an error of a stream of ours.
pub(crate) fn told(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words(&error))
}

/// rustls says of an end without a farewell where its manual is.
pub(crate) fn cut(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(error.kind(), "the peer closed the connection without a close_notify of TLS")
        }
        _ => error,
    }
}

/// Why a certificate and its key cannot be shown to anybody, and which of the two is to blame.
pub(super) fn unfit(error: Error) -> TlsProblem {
    match &error {
        Error::InconsistentKeys(_) => TlsProblem::new(Part::Key, "it does not belong to the certificate"),
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            let problem = TlsProblem::new(Part::Certificate, of_certificate(other));
            match name(other).as_str() {
                VERSION_1 => problem.help(WITH_NAMES),
                "CaUsedAsEndEntity" => problem.help(NOT_AN_AUTHORITY),
                _ => problem,
            }
        }
        Error::InvalidCertificate(CertificateError::BadEncoding) => {
            TlsProblem::new(Part::Certificate, "its first certificate is malformed")
        }
        Error::InvalidCertificate(_) => TlsProblem::new(Part::Certificate, words(&error)),
        _ => TlsProblem::new(Part::Key, words(&error)),
    }
}

/// Of what the library that checks certificates has names for, and rustls has none.
fn of_certificate(other: &OtherError) -> String {
    match name(other).as_str() {
        VERSION_1 => "it is an X.509 v1 certificate, and v3 is needed".to_owned(),
        "CaUsedAsEndEntity" => "it is an authority's certificate (`CA:TRUE`), and is shown as a server's or client's".to_owned(),
        "EndEntityUsedAsCa" => "it was signed by a certificate that is no authority's (`CA:FALSE`)".to_owned(),
        "NameConstraintViolation" => "its authority may not vouch for its names".to_owned(),
        name => plain(name),
    }
}

/// The error's name, without what is in it.
fn name(other: &OtherError) -> String {
    other.to_string().chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// `PathLenConstraintViolated` as words; what is no such name stays.
fn plain(text: &str) -> String {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return text.to_owned();
    }
    let mut words = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;
    use std::sync::Arc;

    #[derive(Debug)]
    struct Named(&'static str);

    impl fmt::Display for Named {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Named {}

    #[test]
    fn no_name_of_a_type_reaches_a_user() {
        for (name, said) in [
            ("UnsupportedCertVersion", "invalid peer certificate: it is an X.509 v1 certificate, and v3 is needed"),
            ("PathLenConstraintViolated", "invalid peer certificate: path len constraint violated"),
            ("Unsupported { by: [1] }", "invalid peer certificate: unsupported"),
        ] {
            let other = OtherError(Arc::new(Named(name)));
            assert_eq!(words(&Error::InvalidCertificate(CertificateError::Other(other))), said);
        }
        let v1 = OtherError(Arc::new(Named(VERSION_1)));
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, Error::InvalidCertificate(CertificateError::Other(v1)));
        assert_eq!(tls_words(&wrapped), "invalid peer certificate: it is an X.509 v1 certificate, and v3 is needed");
        assert_eq!(words(&Error::Other(OtherError(Arc::new(Named("something went wrong"))))), "something went wrong");
        let known = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(words(&known), "invalid peer certificate: UnknownIssuer");
    }

    #[test]
    fn an_end_without_a_farewell_names_no_manual() {
        let error = cut(io::Error::new(io::ErrorKind::UnexpectedEof, "see https://docs.rs/"));
        assert_eq!((error.kind(), error.to_string().contains("docs.rs")), (io::ErrorKind::UnexpectedEof, false));
    }
}
