//! The key of a request: what sends it where others of the same key went. Picks nothing.

use maitred_core::balance::hash;
use maitred_core::render::query_values;
use maitred_core::wire::cookies;
use maitred_core::{Exchange, Principal};
use maitred_model::HashBy;
use std::net::IpAddr;

/// `None`: the request has no such thing, or an empty one.
pub(super) fn key(by: &HashBy, exchange: &Exchange) -> Option<u64> {
    let request = &exchange.request;
    let value = match by {
        HashBy::Header(name) => request.headers.get(name.as_str().as_bytes()),
        HashBy::Cookie(name) => cookies(&request.headers, name.as_bytes()).next(),
        HashBy::Query(name) => query_values(request.query().unwrap_or_default(), name.as_bytes()).next(),
        HashBy::Path => Some(request.path()),
        HashBy::Ip => {
            return Some(match exchange.client_ip() {
                IpAddr::V4(address) => hash(&address.octets(), 0),
                IpAddr::V6(address) => hash(&address.octets(), 0),
            });
        }
        HashBy::Consumer => return exchange.principal.as_deref().and_then(caller),
    };
    value.filter(|value| !value.is_empty()).map(|value| hash(value, 0))
}

/// A consumer is the same whoever vouches for it; a subject is somebody else's with another authorizer.
fn caller(principal: &Principal) -> Option<u64> {
    match (principal.consumer_name(), &principal.subject) {
        (Some(consumer), _) => Some(hash(consumer.as_bytes(), 0)),
        (None, Some(subject)) => Some(hash(subject.as_bytes(), hash(principal.authorizer.as_bytes(), 1))),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_core::identity::Consumer;
    use std::sync::Arc;

    #[test]
    fn a_caller_is_its_consumer_or_whom_an_authorizer_vouches_for() {
        let of = |authorizer: &str, subject: Option<&str>, consumer: Option<&str>| {
            let made = |name: &str| Consumer {
                name: name.into(),
                plan: None,
                account: Arc::default(),
                groups: [].into(),
                disabled: false,
            };
            let consumer = consumer.map(|name| Arc::new(made(name)));
            caller(&Principal {
                authorizer: authorizer.into(),
                subject: subject.map(Into::into),
                consumer,
                ..Principal::default()
            })
        };
        let alice = of("keys", Some("k1"), Some("alice"));
        assert_eq!(alice, of("staff", Some("another"), Some("alice")), "one consumer, whoever vouches");
        let subject = of("staff", Some("alice"), None);
        assert!(subject.is_some() && subject == of("staff", Some("alice"), None));
        assert_ne!(subject, of("other", Some("alice"), None), "a subject is its authorizer's");
        assert_ne!(subject, alice);
        assert_eq!(of("staff", None, None), None);
        assert_eq!(caller(&Principal::anonymous()), None);
    }
}
