//! One order, from the account to the certificate (RFC 8555 §7.4). Decides nothing about when, and keeps nothing.

use super::account::Authority;
use super::answers::{Answers, Posted};
use super::held::Held;
use super::http::Http;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, OrderStatus, RetryPolicy,
};
use maitred_core::Clock;
use maitred_model::{AcmeChallenge, ClientAuth, Document, ListenAddress};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// For an order in all: authorities that look from several places take half a minute.
const ORDER_TIME_MAX: Duration = Duration::from_secs(300);
/// For the authority to validate, and again for it to issue.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(Duration::from_secs(120));

/// How an authority may reach what answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Way {
    /// There is nobody to answer.
    #[default]
    None,
    /// A port that is not the one that authorities ask: something in front of us may lead there.
    Other,
    /// The port that authorities ask.
    Usual,
}

/// What this gateway can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ways {
    pub http: Way,
    pub tls: Way,
}

impl Ways {
    pub fn of(document: &Document) -> Ways {
        let mut ways = Ways::default();
        for listener in &document.listen {
            let (way, usual) = match &listener.tls {
                None => (&mut ways.http, 80),
                // An authority has no certificate to show.
                Some(tls) if tls.acme.is_none() || tls.client_ca.is_some() && tls.client_auth == ClientAuth::Required => continue,
                Some(_) => (&mut ways.tls, 443),
            };
            match &listener.address {
                ListenAddress::Tcp(address) if address.port() == usual => *way = Way::Usual,
                ListenAddress::Tcp(_) | ListenAddress::Unix(_) if *way == Way::None => *way = Way::Other,
                ListenAddress::Tcp(_) | ListenAddress::Unix(_) => {}
            }
        }
        ways
    }

    /// What is left of them where only one may be used.
    pub fn only(self, challenge: Option<AcmeChallenge>) -> Ways {
        match challenge {
            None => self,
            Some(AcmeChallenge::Http01) => Ways { tls: Way::None, ..self },
            Some(AcmeChallenge::TlsAlpn01) => Ways { http: Way::None, ..self },
        }
    }
}

/// Which challenge to meet: HTTP-01 where somebody listens on port 80, else TLS-ALPN-01 on 443, else what is offered first. After a
/// failure it is the next one's turn: what a port leads to is not known here.
fn choose(offered: &[ChallengeType], ways: Ways, failures: u32) -> Option<ChallengeType> {
    let way = |challenge: &ChallengeType| match challenge {
        ChallengeType::Http01 => ways.http,
        ChallengeType::TlsAlpn01 => ways.tls,
        _ => Way::None,
    };
    let mut possible: Vec<&ChallengeType> = offered.iter().filter(|challenge| way(challenge) != Way::None).collect();
    possible.sort_by_key(|challenge| match (way(challenge), challenge) {
        (Way::Usual, ChallengeType::Http01) => 0,
        (Way::Usual, _) => 1,
        (Way::Other | Way::None, _) => 2,
    });
    possible.get(failures as usize % possible.len().max(1)).map(|challenge| (*challenge).clone())
}

/// What an order needs.
pub(super) struct Order {
    pub authority: Arc<Authority>,
    pub domain: Arc<str>,
    pub answers: Arc<Answers>,
    pub ways: Ways,
    /// Orders for this domain that failed since the last that did not.
    pub failures: u32,
    /// What it is to replace, where the authority wants to know (RFC 9773 §5).
    pub replaces: Option<CertificateIdentifier<'static>>,
    pub clock: Clock,
}

/// Why there is no certificate, in words for the log.
#[derive(Debug)]
pub(super) struct Failure {
    pub what: String,
    /// For how many seconds the authority asked for patience.
    pub patience: Option<i64>,
}

impl Order {
    pub async fn obtain(&self) -> Result<Held, Failure> {
        let http = self.authority.http(self.clock.clone());
        let late = |_| Err(format!("the order was not done within {} s", ORDER_TIME_MAX.as_secs()));
        let obtained = timeout(ORDER_TIME_MAX, self.steps(&http)).await.unwrap_or_else(late);
        obtained.map_err(|what| Failure { what, patience: http.patience() })
    }

    async fn steps(&self, http: &Http) -> Result<Held, String> {
        let account = self.authority.account(http).await?;
        let mut order = self.begin(&account).await?;
        // Up until the authority is done with them.
        let posted = self.answer(&mut order).await?;
        let ready = order.poll_ready(&POLL).await.map_err(|error| format!("not validated: {error}"))?;
        if ready != OrderStatus::Ready {
            return Err(format!("not validated: {}", refusal(&mut order).await));
        }
        drop(posted);
        let (request, key) = self.request().map_err(|error| format!("no certificate request: {error}"))?;
        order.finalize_csr(&request).await.map_err(|error| format!("the certificate request is refused: {error}"))?;
        let chain = order.poll_certificate(&POLL).await.map_err(|error| format!("not issued: {error}"))?;
        let held = Held::read((key + &chain).into_bytes(), &self.domain);
        held.map_err(|wrong| format!("what was issued cannot be used: {wrong}"))
    }

    async fn begin(&self, account: &Account) -> Result<instant_acme::Order, String> {
        let domains = [Identifier::Dns(self.domain.to_string())];
        let mut new = NewOrder::new(&domains);
        if let Some(replaces) = &self.replaces {
            new = new.replaces(replaces.clone());
        }
        match account.new_order(&new).await {
            Ok(order) => Ok(order),
            Err(error) => {
                if is_unknown_account(&error)
                    && let Err(error) = self.authority.storage.forget_account()
                {
                    tracing::warn!(%error, "an account that the authority does not know cannot be removed");
                }
                Err(format!("no order: {error}"))
            }
        }
    }

    /// Puts up an answer for every authorization that is pending, and tells the authority.
    async fn answer(&self, order: &mut instant_acme::Order) -> Result<Vec<Posted>, String> {
        let mut posted = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| format!("no authorization: {error}"))?;
            match authorization.status {
                // From an order not long ago.
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Invalid
                | AuthorizationStatus::Revoked
                | AuthorizationStatus::Expired
                | AuthorizationStatus::Deactivated => return Err(format!("an authorization is {:?}", authorization.status)),
            }
            let offered: Vec<ChallengeType> = authorization.challenges.iter().map(|one| one.r#type.clone()).collect();
            let kind = choose(&offered, self.ways, self.failures).ok_or_else(|| no_way(&offered))?;
            tracing::debug!(domain = &*self.domain, challenge = ?kind, "the authority may ask");
            let mut challenge = authorization.challenge(kind).ok_or("a challenge is gone")?;
            let proof = challenge.key_authorization();
            posted.push(self.answers.post(&self.domain, &challenge.token, (proof.as_str(), proof.digest().as_ref()))?);
            challenge.set_ready().await.map_err(|error| format!("the challenge is refused: {error}"))?;
        }
        Ok(posted)
    }

    /// A certificate request, and a new key as PEM: one that leaked is gone with its certificate.
    fn request(&self) -> Result<(Vec<u8>, String), rcgen::Error> {
        let mut params = CertificateParams::new([self.domain.to_string()])?;
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate()?;
        Ok((params.serialize_request(&key)?.der().to_vec(), key.serialize_pem()))
    }
}

fn is_unknown_account(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist"))
}

fn no_way(offered: &[ChallengeType]) -> String {
    format!(
        "the authority offers {offered:?}: HTTP-01 needs a listener without TLS, TLS-ALPN-01 one that asks for no certificate, and \
         `challenge` allows only what it names"
    )
}

/// What the authority says that it saw: it stands in the challenge, not in the order.
async fn refusal(order: &mut instant_acme::Order) -> String {
    let mut words = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        words.extend(state.challenges.iter().filter_map(|challenge| {
            let problem = challenge.error.as_ref()?;
            Some(format!("{:?}: {problem}", challenge.r#type))
        }));
    }
    if words.is_empty() { "the authority does not say why".to_owned() } else { words.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways_of(listen: &str) -> Ways {
        let files = maitred_model::Memory::default().file("ca.pem", "-----BEGIN CERTIFICATE-----");
        let loaded = maitred_model::load_text("test.yaml", &format!("listen: [{listen}]"), &files);
        Ways::of(&loaded.document.expect("a good configuration"))
    }

    #[test]
    fn what_can_be_answered_follows_from_the_listeners() {
        let acme =
            |port: u16, more: &str| format!("{{ address: \"0.0.0.0:{port}\", tls: {{ acme: {{ domains: [a.test] }}{more} }} }}");
        for (listen, http, tls) in [
            ("\"0.0.0.0:80\"".to_owned(), Way::Usual, Way::None),
            ("{ address: \"0.0.0.0:80\", redirect_https: true }, \"0.0.0.0:81\"".to_owned(), Way::Usual, Way::None),
            ("\"0.0.0.0:8080\"".to_owned(), Way::Other, Way::None),
            (acme(443, ""), Way::None, Way::Usual),
            (acme(8443, "") + ", " + &acme(443, "") + ", " + &acme(9443, ""), Way::None, Way::Usual),
            (acme(8443, "") + ", unix:/run/a.sock", Way::Other, Way::Other),
            (acme(443, ", client_ca: ca.pem"), Way::None, Way::None),
            (acme(443, ", client_ca: ca.pem, client_auth: optional"), Way::None, Way::Usual),
        ] {
            assert_eq!(ways_of(&listen), Ways { http, tls }, "{listen}");
        }
    }

    #[test]
    fn the_usual_ports_come_first_and_a_failure_gives_the_next_its_turn() {
        use ChallengeType::{Dns01, Http01, TlsAlpn01};
        let usual = Ways { http: Way::Usual, tls: Way::Usual };
        let mapped = Ways { http: Way::Other, tls: Way::Other };
        let only_tls = Ways { http: Way::None, tls: Way::Other };
        let other_http = Ways { http: Way::Other, tls: Way::Usual };
        for (offered, ways, failures, chosen) in [
            (vec![Dns01, TlsAlpn01, Http01], usual, 0, Some(Http01)),
            (vec![Dns01, TlsAlpn01, Http01], usual, 1, Some(TlsAlpn01)),
            (vec![Dns01, TlsAlpn01, Http01], usual, 2, Some(Http01)),
            (vec![Http01, TlsAlpn01], other_http, 0, Some(TlsAlpn01)),
            (vec![Http01, TlsAlpn01], other_http, 1, Some(Http01)),
            (vec![TlsAlpn01, Http01], mapped, 0, Some(TlsAlpn01)),
            (vec![Http01, TlsAlpn01], mapped, 0, Some(Http01)),
            (vec![Http01, TlsAlpn01], only_tls, 5, Some(TlsAlpn01)),
            (vec![Http01], only_tls, 0, None),
            (vec![Dns01], usual, 3, None),
            (vec![], usual, 0, None),
            (vec![Http01, TlsAlpn01], usual.only(Some(AcmeChallenge::TlsAlpn01)), 1, Some(TlsAlpn01)),
            (vec![Http01, TlsAlpn01], other_http.only(Some(AcmeChallenge::Http01)), 0, Some(Http01)),
            (vec![TlsAlpn01], usual.only(Some(AcmeChallenge::Http01)), 0, None),
        ] {
            assert_eq!(choose(&offered, ways, failures), chosen, "{offered:?} {ways:?} {failures}");
        }
    }
}
