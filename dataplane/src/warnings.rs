//! What compiles and yet may not work for long: certificates that end, and authorities that could not ask. Changes nothing; the time
//! is an argument.

use jiff::Timestamp;
use maitred_model::{
    AcmeChallenge, AuthorizerKind, ClientAuth, Diagnostic, Diagnostics, Document, ListenAddress, ListenerTls, PemFile, Spanned,
};
use maitred_policies::authenticate::client_certificate::lists_end;
use maitred_transport::{expiries, is_nameless};
use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Who is warned has two weeks, holidays included.
const SOON: Duration = Duration::from_secs(14 * DAY);
const DAY: u64 = 24 * 3600;

/// What whoever wrote this document should know at `now`.
pub fn warnings(document: &Document, now: SystemTime) -> Diagnostics {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let mut diagnostics = Diagnostics::new();
    let listeners = document.listen.iter().filter_map(|listener| listener.tls.as_ref());
    let shown_to_clients = listeners.clone().flat_map(|tls| &tls.certificates).map(|files| (&files.cert, "clients"));
    let upstreams = document.upstreams.values().filter_map(|upstream| upstream.tls.as_ref());
    let shown_to_back_ends = upstreams.filter_map(|tls| tls.cert.as_ref()).map(|cert| (cert, "back ends"));
    let mut told = HashSet::new();
    // Listeners may share one: what it is told of once is true for all.
    for (file, others) in shown_to_clients.chain(shown_to_back_ends).filter(|(file, others)| told.insert((&file.path, *others))) {
        if let Some(diagnostic) = ending(file, others, now) {
            diagnostics.push(diagnostic);
        }
    }
    let mut told = HashSet::new();
    for tls in listeners.clone() {
        for file in
            tls.certificates.iter().map(|files| &files.cert).filter(|file| told.insert((&file.path, tls.client_ca.is_some())))
        {
            if let Some(diagnostic) = nameless(file, tls) {
                diagnostics.push(diagnostic);
            }
        }
    }
    for tls in listeners {
        if let Some(diagnostic) = unanswerable(document, tls) {
            diagnostics.push(diagnostic);
        }
    }
    for authorizer in document.authorizers.values() {
        let AuthorizerKind::ClientCertificate(certificate) = &authorizer.kind else { continue };
        diagnostics.extend(ended_lists(&certificate.crl, now));
    }
    diagnostics
}

/// What was revoked since nobody knows: fails closed.
fn ended_lists(files: &[Spanned<PemFile>], now: i64) -> Diagnostics {
    let bytes: Vec<&[u8]> = files.iter().map(|file| &file.bytes[..]).collect();
    let mut diagnostics = Diagnostics::new();
    for (file, end) in files.iter().zip(lists_end(&bytes)) {
        let Some(end) = end.filter(|end| *end <= now) else { continue };
        let message =
            format!("`{}` has ended on {}: certificates of its issuer are answered 503", file.path.display(), date(end));
        let hint = "put the newer list there; a running gateway takes it over by itself";
        diagnostics.push(Diagnostic::warning("list-ended", file.span, message).hint(hint));
    }
    diagnostics
}

/// The first certificate of a chain that ends ends it all.
fn ending(file: &Spanned<PemFile>, others: &str, now: i64) -> Option<Diagnostic> {
    let end = expiries(&file.bytes).iter().map(|expiry| expiry.not_after).min()?;
    let left = end - now;
    if left > SOON.as_secs() as i64 {
        return None;
    }
    let (path, date) = (file.path.display(), date(end));
    let message = match u64::try_from(left).map(|left| left / DAY) {
        Err(_) => format!("`{path}` has ended on {date}: {others} refuse it"),
        Ok(0) => format!("`{path}` ends today, on {date}"),
        Ok(1) => format!("`{path}` ends tomorrow, on {date}"),
        Ok(days) => format!("`{path}` ends in {days} days, on {date}"),
    };
    let diagnostic = Diagnostic::warning("certificate-ends", file.span, message);
    Some(diagnostic.hint("put a new certificate there; a running gateway takes it over by itself"))
}

/// Clients do not read the common name, and neither do we.
fn nameless(file: &Spanned<PemFile>, tls: &ListenerTls) -> Option<Diagnostic> {
    if !is_nameless(&file.bytes) {
        return None;
    }
    let path = file.path.display();
    let then = match tls.client_ca {
        None => "clients that verify it refuse it, whatever its common name says",
        Some(_) => "clients refuse it, whatever its common name says, and with `client_ca` their requests get 421",
    };
    let message = format!("`{path}` stands for no host and no address: it has no subjectAltName that names one; {then}");
    let hint = "issue it anew with one: `openssl x509 -req … -extfile FILE`, with `subjectAltName=DNS:api.example.com` in FILE";
    Some(Diagnostic::warning("certificate-without-names", file.span, message).hint(hint))
}

fn date(seconds: i64) -> String {
    let day = |time: Timestamp| time.to_string().split('T').next().unwrap_or_default().to_owned();
    Timestamp::from_second(seconds).map_or_else(|_| "a day beyond all calendars".to_owned(), day)
}

/// An authority has no certificate to show, so where all clients must show one it can only ask in the clear.
fn unanswerable(document: &Document, tls: &ListenerTls) -> Option<Diagnostic> {
    let acme = tls.acme.as_ref()?;
    let is_plain = |listener: &Spanned<maitred_model::Listener>| match listener.address {
        ListenAddress::Tcp(_) => listener.tls.is_none(),
        ListenAddress::Unix(_) => false,
    };
    let is_open = tls.client_ca.is_none() || tls.client_auth == ClientAuth::Optional;
    let has_plain = document.listen.iter().any(is_plain);
    let (message, hint) = match acme.challenge {
        None if is_open || has_plain => return None,
        Some(AcmeChallenge::Http01) if has_plain => return None,
        Some(AcmeChallenge::TlsAlpn01) if is_open => return None,
        None => (
            "the authority cannot reach anything: clients must show certificates here, and no listener is plain",
            "add `- { address: 0.0.0.0:80, redirect_https: true }` to `listen`",
        ),
        Some(AcmeChallenge::Http01) => (
            "the authority cannot reach anything: `challenge: http-01` needs a listener without TLS",
            "add `- { address: 0.0.0.0:80, redirect_https: true }` to `listen`, or remove `challenge`",
        ),
        Some(AcmeChallenge::TlsAlpn01) => (
            "the authority cannot reach anything: `challenge: tls-alpn-01`, but clients must show certificates here",
            "remove `challenge`, and have a listener without TLS; or write `client_auth: optional`",
        ),
    };
    Some(Diagnostic::warning("acme-unreachable", acme.span, message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_model::{Memory, load_text, render};

    const DAYS: i64 = DAY as i64;

    /// The warnings of a document, with their places, so many seconds before the certificates of the tests end.
    fn words(text: &str, before_the_end: i64) -> String {
        let read = |name: &str| std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/certs/").to_owned() + name).unwrap();
        let files = ["api.pem", "api.key", "ca.pem", "revoked.pem", "nameless.pem", "nameless.key"];
        let files = files.iter().fold(Memory::default(), |files, name| files.file(name, read(name)));
        let loaded = load_text("test.yaml", text, &files);
        let document = loaded.document.expect("a good configuration");
        let now = expiries(&read("api.pem"))[0].not_after - before_the_end;
        render(&warnings(&document, UNIX_EPOCH + Duration::from_secs(now as u64)), &loaded.files, false)
    }

    #[test]
    fn a_certificate_is_warned_of_for_two_weeks_and_ever_after() {
        let text = "listen:
  address: 127.0.0.1:0
  tls: { certificates: { cert: api.pem, key: api.key } }
upstreams: { a: { endpoints: [\"https://a\"], tls: { cert: api.pem, key: api.key } } }";
        assert_eq!(words(text, DAYS * 15), "");
        for (left, said) in [
            (DAYS * 14, "`api.pem` ends in 14 days, on 2120-01-01"),
            (DAYS * 2, "`api.pem` ends in 2 days, on 2120-01-01"),
            (DAYS, "`api.pem` ends tomorrow, on 2120-01-01"),
            (1, "`api.pem` ends today, on 2120-01-01"),
            (-1, "`api.pem` has ended on 2120-01-01"),
            (DAYS * -1000, "`api.pem` has ended on 2120-01-01"),
        ] {
            let words = words(text, left);
            assert_eq!(words.matches(said).count(), 2, "{words}");
            assert!(words.contains("test.yaml:3:32") && words.contains("test.yaml:4:58"), "{words}");
        }
    }

    #[test]
    fn one_file_of_several_listeners_is_warned_of_once() {
        let text = "listen:
  - { address: 127.0.0.1:0, tls: { certificates: { cert: api.pem, key: api.key } } }
  - { address: 127.0.0.1:1, tls: { certificates: { cert: api.pem, key: api.key } } }";
        assert_eq!(words(text, 1).matches("certificate-ends").count(), 1);
    }

    #[test]
    fn a_certificate_without_names_is_warned_of() {
        let text = |more: &str| {
            format!(
                "listen:
  address: 127.0.0.1:0
  tls: {{ certificates: [ {{ cert: api.pem, key: api.key }}, {{ cert: nameless.pem, key: nameless.key }} ]{more} }}"
            )
        };
        for (more, is_421) in [("", false), (", client_ca: ca.pem", true)] {
            let words = words(&text(more), DAYS * 99);
            assert_eq!(words.matches("certificate-without-names").count(), 1, "{words}");
            assert!(words.contains("`nameless.pem` stands for no host") && words.contains("test.yaml:3:67"), "{words}");
            assert!(words.contains("subjectAltName=DNS:") && words.contains("421") == is_421, "{words}");
        }
    }

    #[test]
    fn a_list_of_revoked_certificates_that_has_ended_is_warned_of() {
        let text = "listen:
  address: 127.0.0.1:0
  tls: { certificates: { cert: api.pem, key: api.key }, client_ca: ca.pem }
authorizers: { machines: { client_certificate: { principal: san_dns, crl: revoked.pem } } }";
        // It ends when the certificates do.
        assert!(!words(text, 1).contains("list-ended"));
        let words = words(text, 0);
        assert!(words.contains("warning[list-ended]: `revoked.pem` has ended on 2120-01-01"), "{words}");
        assert!(words.contains("test.yaml:4:75"), "{words}");
    }

    #[test]
    fn a_challenge_that_nobody_could_answer_is_warned_of() {
        let listen = |challenge: &str, more: &str, other: &str| {
            let acme = format!("acme: {{ domains: [a.example.com], challenge: {challenge} }}");
            words(&format!("listen: [{{ address: \"127.0.0.1:0\", tls: {{ {acme}{more} }} }}{other}]"), DAYS * 99)
        };
        let (closed, plain) = (", client_ca: ca.pem", ", \"127.0.0.1:80\"");
        for (challenge, more, other, wrong) in [
            ("http-01", "", "", "needs a listener without TLS"),
            ("http-01", closed, "", "needs a listener without TLS"),
            ("tls-alpn-01", closed, plain, "clients must show certificates here"),
        ] {
            let words = listen(challenge, more, other);
            assert!(words.contains("acme-unreachable") && words.contains(wrong), "{challenge}: {words}");
        }
        for (challenge, more, other) in [("http-01", closed, plain), ("tls-alpn-01", "", ""), ("tls-alpn-01", "", plain)] {
            assert_eq!(listen(challenge, more, other), "", "{challenge}");
        }
    }

    #[test]
    fn an_authority_that_could_ask_nobody_is_warned_of() {
        let acme = "acme: { domains: [a.example.com] }";
        let closed = format!("{{ address: \"127.0.0.1:0\", tls: {{ {acme}, client_ca: ca.pem }} }}");
        assert!(words(&format!("listen: [{closed}]"), DAYS * 99).contains("acme-unreachable"));
        for reachable in [
            format!("listen: [{closed}, \"127.0.0.1:80\"]"),
            format!("listen: [{{ address: \"127.0.0.1:0\", tls: {{ {acme} }} }}]"),
            format!("listen: [{}]", closed.replace("client_ca", "client_auth: optional, client_ca")),
        ] {
            assert_eq!(words(&reachable, DAYS * 99), "", "{reachable}");
        }
    }
}
