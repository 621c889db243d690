//! Who may come in: what routes demand, and the callers that are known by name.

use super::{Cedar, Document, HeaderEdits, KeyPlace, Policies};
use crate::span::Spanned;
use crate::values::{HeaderName, Secret};

/// `authenticate`: who decides who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authenticate {
    /// `none`: everyone may come in, and nobody is asked.
    Open,
    /// The first of them whose credential the request carries decides. `anonymous`: without any it comes in as nobody.
    Any { authorizers: Vec<Spanned<String>>, anonymous: bool },
}

/// `authorize`: what whoever comes in must be. All of it.
#[derive(Debug, Clone, Default)]
pub struct Authorize {
    pub scopes: Demand,
    pub groups: Demand,
    /// By the path of each claim.
    pub claims: Vec<(String, ClaimDemand)>,
    /// In CEL. Each must hold.
    pub condition: Vec<Spanned<String>>,
    /// Policies that must permit.
    pub cedar: Option<Spanned<Cedar>>,
}

/// What a claim must be. One that is a list is it if one of its elements is.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimDemand {
    /// `*`: there, whatever it is.
    Present,
    /// One of these: texts, numbers, booleans.
    OneOf(Vec<serde_json::Value>),
}

/// Words that a principal must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// Each of them.
    pub all: Vec<String>,
    /// At least one, where there are any.
    pub any: Vec<String>,
}

/// A registered caller.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// What it is given.
    pub plan: Option<Spanned<String>>,
    pub groups: Vec<String>,
    pub api_keys: Vec<Spanned<Secret>>,
    pub identities: Vec<Spanned<Identity>>,
}

/// What an authorizer calls a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub authorizer: Spanned<String>,
    pub subject: String,
}

impl Document {
    /// Headers by which back ends are told who makes a request, wherever in the document: no client may send them.
    pub fn identity_headers(&self) -> Vec<HeaderName> {
        let policies = self
            .apis
            .values()
            .flat_map(|api| std::iter::once(&api.value.policies).chain(api.routes.iter().map(|route| &route.value.policies)));
        let set = policies.flat_map(Policies::identity_headers).map(|header| header.value.clone());
        let told = self.authorizers.values().flat_map(|authorizer| authorizer.kind.tells().iter().cloned());
        let mut names: Vec<HeaderName> = set.chain(told).collect();
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        names
    }

    /// Parameters of the query in which credentials come: no log shows them.
    pub fn credential_queries(&self) -> Vec<String> {
        let places = self.authorizers.values().flat_map(|authorizer| authorizer.kind.places());
        let mut names: Vec<String> = places
            .filter_map(|place| match place {
                KeyPlace::Query(name) => Some(name),
                KeyPlace::Header(_) | KeyPlace::Cookie(_) => None,
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

impl Policies {
    /// Headers of requests whose value says who makes them.
    pub fn identity_headers(&self) -> impl Iterator<Item = Spanned<HeaderName>> {
        self.transform.iter().flat_map(|transform| transform.request.identity_headers())
    }
}

impl HeaderEdits {
    fn identity_headers(&self) -> impl Iterator<Item = Spanned<HeaderName>> {
        let told = self.set.iter().chain(&self.add).filter(|(_, template)| template.identity().next().is_some());
        told.map(|(name, template)| Spanned::new(name.clone(), template.span))
    }
}
