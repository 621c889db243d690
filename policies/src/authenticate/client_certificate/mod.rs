//! The certificate that a client showed in its handshake. That whoever `client_ca` names vouches for it, and that the client has its key, the
//! handshake found; here is found who that is, and whether the certificate was revoked since.

mod names;
mod revoked;
mod signed;

use super::{Authorizer, Decision, Making, Problem, Refusal};
use maitred_core::identity::{Generations, Remembered, Roll};
use maitred_core::{Exchange, Fault, Hook, Kind, Ports, Principal};
use maitred_model::{self as model, CertificatePrincipal, PemFile, Spanned};
use names::{hex, rfc4514};
use revoked::{Revoked, Standing};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// What was found out is looked at anew after this, and when certificate or list end.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Names of one kind; others are not shown. A certificate is bounded, and a principal is kept.
const NAMES_MAX: usize = 100;

pub struct ClientCertificate {
    name: Arc<str>,
    number: u64,
    roll: Arc<Roll>,
    principal: CertificatePrincipal,
    issuers: Box<[String]>,
    /// `None`: nobody asks.
    revoked: Option<Revoked>,
}

/// What a certificate says of whom it is.
struct Facts {
    subject: String,
    issuer: String,
    common_names: Vec<String>,
    dns: Vec<String>,
    uris: Vec<String>,
    emails: Vec<String>,
    fingerprint: String,
    serial: String,
    /// Seconds since 1970.
    not_after: i64,
}

impl ClientCertificate {
    pub fn compile(
        name: Arc<str>,
        configured: &model::ClientCertificate,
        making: &Making<'_>,
    ) -> Result<ClientCertificate, Problem> {
        let mut revoked = Revoked::default();
        let problem = |file: &Spanned<PemFile>, what: String, hint| {
            let message = format!("`{}` {what}", file.path.display());
            Problem { span: file.span, message, hint }
        };
        for file in &configured.crl {
            let hint = "name a whole list: `openssl crl -in list.crl -noout -text` shows one";
            revoked.add(&file.bytes).map_err(|what| problem(file, what, hint))?;
        }
        // Where no listener asks for certificates nobody shows one.
        if !making.client_ca.is_empty() {
            let files: Vec<&[u8]> = configured.crl.iter().map(|file| &file.bytes[..]).collect();
            let hint = "name the list of an authority in `client_ca`; of one below it, put the certificate beside its list, into the file";
            signed::check(&files, making.client_ca).map_err(|(at, what)| problem(&configured.crl[at], what, hint))?;
        }
        Ok(ClientCertificate {
            name,
            number: making.number,
            roll: making.roll.clone(),
            principal: configured.principal,
            issuers: configured.issuers.clone().into(),
            revoked: (!configured.crl.is_empty()).then_some(revoked),
        })
    }

    fn generations(&self) -> Generations {
        Generations { keys: 0, consumers: self.roll.generation() }
    }

    fn look(&self, chain: &[Box<[u8]>], ports: &dyn Ports) -> Decision {
        let generations = self.generations();
        let now = ports.now();
        let seconds = ports.unix_time(now).as_secs() as i64;
        let [own, above @ ..] = chain else { return Err(Refusal::invalid("the client showed no certificate")) };
        let certificate = read(own)?;
        let facts = Facts::of(&certificate, own);
        if !self.issuers.is_empty() && !self.issuers.contains(&facts.issuer) {
            return Err(Refusal::invalid(format!("its issuer is {}, which is not among `issuers`", facts.issuer)));
        }
        // A handshake may be long ago.
        if facts.not_after < seconds {
            return Err(Refusal::invalid("the certificate has ended"));
        }
        let mut end = facts.not_after;
        if let Some(revoked) = &self.revoked {
            let list_ends = good(revoked, &certificate, seconds)?;
            end = end.min(list_ends.unwrap_or(end));
            for der in above {
                let certificate = read(der)?;
                // Of the root nobody has a list.
                if revoked.knows(&certificate) {
                    let list_ends = good(revoked, &certificate, seconds)?;
                    end = end.min(list_ends.unwrap_or(end));
                }
            }
        }
        let principal = Arc::new(self.principal(facts)?);
        let left = Duration::from_secs(end.saturating_sub(seconds).max(0) as u64);
        let until = now + left.min(REMEMBERED);
        ports.verdicts().borrow_mut().put(self.number, own, generations, Remembered::Valid(principal.clone()), (now, until));
        Ok(principal)
    }

    fn principal(&self, facts: Facts) -> Result<Principal, Refusal> {
        let subject = match self.principal {
            CertificatePrincipal::SanDns => facts.dns.first(),
            CertificatePrincipal::SanUri => facts.uris.first(),
            CertificatePrincipal::SanEmail => facts.emails.first(),
            CertificatePrincipal::Subject => Some(&facts.subject).filter(|subject| !subject.is_empty()),
            // Of several nobody could say which is meant.
            CertificatePrincipal::CommonName => facts.common_names.first().filter(|_| facts.common_names.len() == 1),
            CertificatePrincipal::Fingerprint => Some(&facts.fingerprint),
        };
        let subject: Box<str> = match subject {
            Some(subject) if subject.chars().any(char::is_control) => {
                return Err(Refusal::invalid("its name has a control character"));
            }
            Some(subject) if !subject.is_empty() => subject.as_str().into(),
            Some(_) | None => return Err(Refusal::invalid(format!("the certificate has no {}", self.principal.name()))),
        };
        let consumer = self.roll.by_identity(&self.name, &subject);
        let issuer = Some(facts.issuer.as_str().into());
        Ok(Principal {
            authorizer: self.name.clone(),
            issuer,
            subject: Some(subject),
            consumer,
            claims: facts.claims(),
            ..Principal::default()
        })
    }
}

/// For each of an authorizer's files: when the first of its lists ends that no other file has a newer one of, in seconds since 1970.
pub fn lists_end(files: &[&[u8]]) -> Vec<Option<i64>> {
    let read = |bytes: &[u8]| {
        let mut revoked = Revoked::default();
        // What is wrong with a file is said when it is compiled.
        let _ = revoked.add(bytes);
        revoked
    };
    let mut all = Revoked::default();
    files.iter().for_each(|bytes| drop(all.add(bytes)));
    files.iter().map(|bytes| read(bytes).ends(&all)).collect()
}

fn read(der: &[u8]) -> Result<X509Certificate<'_>, Refusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(Refusal::invalid("the certificate cannot be read")),
    }
}

/// Until when the list says so, in seconds since 1970.
fn good(revoked: &Revoked, certificate: &X509Certificate<'_>, now: i64) -> Result<Option<i64>, Refusal> {
    match revoked.standing(certificate, now) {
        Standing::Good(end) => Ok(end),
        Standing::Revoked => Err(Refusal::invalid("the certificate was revoked")),
        Standing::Unknown(why) => {
            let detail = format!("{why}: {}", revoked::issuer(certificate));
            Err(Refusal::Failed(Fault::new(Kind::AuthorizerUnavailable, detail)))
        }
    }
}

impl Facts {
    fn of(certificate: &X509Certificate<'_>, der: &[u8]) -> Facts {
        let mut facts = Facts {
            subject: rfc4514(certificate.subject()),
            issuer: rfc4514(certificate.issuer()),
            common_names: certificate
                .subject()
                .iter_common_name()
                .filter_map(|name| name.as_str().ok())
                .map(str::to_owned)
                .collect(),
            dns: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            fingerprint: hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref()),
            serial: hex(certificate.raw_serial()),
            not_after: certificate.validity().not_after.timestamp(),
        };
        let names = certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
        for name in names.flatten() {
            let (list, name) = match name {
                // Names of hosts have no case.
                GeneralName::DNSName(name) => (&mut facts.dns, name.to_ascii_lowercase()),
                GeneralName::URI(uri) => (&mut facts.uris, (*uri).to_owned()),
                GeneralName::RFC822Name(address) => (&mut facts.emails, (*address).to_owned()),
                _ => continue,
            };
            if list.len() < NAMES_MAX {
                list.push(name);
            }
        }
        facts
    }

    fn claims(self) -> Map<String, Value> {
        let Facts { subject, issuer, common_names, dns, uris, emails, fingerprint, serial, not_after } = self;
        let claims = [
            ("subject", json!(subject)),
            ("issuer", json!(issuer)),
            ("common_name", json!(common_names.first())),
            ("san_dns", json!(dns)),
            ("san_uri", json!(uris)),
            ("san_email", json!(emails)),
            ("fingerprint", json!(fingerprint)),
            ("serial", json!(serial)),
            ("not_after", json!(not_after)),
        ];
        claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn chain(exchange: &Exchange) -> &[Box<[u8]>] {
    exchange.tls.as_ref().map_or(&[], |tls| &tls.client_chain)
}

impl Authorizer for ClientCertificate {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn finds(&self, exchange: &Exchange) -> bool {
        !chain(exchange).is_empty()
    }

    /// By the certificate alone: with another chain above it, it is as good.
    fn recall(&self, exchange: &Exchange, ports: &dyn Ports) -> Option<Decision> {
        let own = chain(exchange).first()?;
        match ports.verdicts().borrow().get(self.number, own, self.generations(), ports.now())? {
            Remembered::Valid(principal) => Some(Ok(principal.clone())),
            Remembered::Refused => None,
        }
    }

    fn decide<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Decision> {
        Hook::Ready(self.look(chain(exchange), ports))
    }

    /// No scheme is registered for it, and RFC 9110 §15.5.2 wants one: clients pass over those that they do not know.
    fn challenge(&self) -> Option<String> {
        Some("ClientCertificate".to_owned())
    }

    /// It is no part of the request.
    fn strip(&self, _: &mut Exchange) {}
}
