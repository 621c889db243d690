//! Who may come in: what routes demand, and the callers that are known by name.

use crate::span::Spanned;
use crate::values::Secret;

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
