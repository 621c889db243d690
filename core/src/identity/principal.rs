//! The one outcome of every authorizer.

use super::Consumer;
use serde_json::{Map, Value};
use std::any::Any;
use std::sync::Arc;

/// By what kind of credential it is known, for functions, which AWS tells of each kind in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vouched {
    /// As no API of AWS knows it.
    #[default]
    Other,
    /// Claims of an issuer.
    Claims,
    ApiKey,
    /// AWS's signature.
    Iam,
    /// A function, and its context stands among the claims.
    Lambda,
}

/// Who a request comes from, as an authorizer vouches for it.
#[derive(Debug, Clone, Default)]
pub struct Principal {
    /// The name of who vouches; empty for nobody.
    pub authorizer: Arc<str>,
    /// Who issued the credential, where it says so: `iss` of a token.
    pub issuer: Option<Box<str>>,
    /// What authorizer and issuer call it, for good; `None` where the credential names nobody.
    pub subject: Option<Box<str>>,
    /// The registered caller behind it.
    pub consumer: Option<Arc<Consumer>>,
    /// What the credential says of it.
    pub claims: Map<String, Value>,
    pub scopes: Box<[Box<str>]>,
    /// Of the credential; a consumer has its own.
    pub groups: Box<[Box<str>]>,
    pub vouched: Vouched,
    /// The API key by which a function wants its usage counted (`usageIdentifierKey`).
    pub usage_key: Option<Box<str>>,
    /// What its authorizer must look at again at each request. Nobody else's business.
    pub said: Option<Arc<dyn Any + Send + Sync>>,
}

impl Principal {
    /// Who shows no credential where that is allowed.
    pub fn anonymous() -> Principal {
        Principal::default()
    }

    pub fn is_anonymous(&self) -> bool {
        self.authorizer.is_empty()
    }

    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|own| **own == *scope)
    }

    /// Those of the credential, and those of the consumer behind it.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        let consumer = self.consumer.iter().flat_map(|consumer| &consumer.groups);
        self.groups.iter().chain(consumer).map(|group| &**group)
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups().any(|own| own == group)
    }

    pub fn consumer_name(&self) -> Option<&str> {
        self.consumer.as_ref().map(|consumer| &*consumer.name)
    }

    /// A claim by its path: `tenant`, or `realm.roles`. A claim whose own name has the dots comes first.
    pub fn claim(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.claims.get(path) {
            return Some(value);
        }
        let (first, rest) = path.split_once('.')?;
        rest.split('.').try_fold(self.claims.get(first)?, |value, name| value.as_object()?.get(name))
    }
}
