//! The order of policies, in one place: the order of these lines is the order of execution, and users do not sort it.

use crate::authenticate::{Authenticate, Authorizer, Choice, Failures, Login, Sessions};
use crate::authorize::Demands;
use crate::quota::Quotas;
use crate::rate_limit::Limits;
use maitred_core::{Chain, Policy};
use maitred_model::{Cors, HeaderEdits, IpRules, Maintenance};
use std::sync::Arc;

/// What a route has after API and route were added up.
#[derive(Default)]
pub struct Configured<'a> {
    pub body_bytes: u64,
    /// Each must admit.
    pub ip: Vec<&'a IpRules>,
    pub cors: Option<&'a Cors>,
    pub maintenance: Option<&'a Maintenance>,
    /// `None`: nobody is asked who it is.
    pub authenticate: Option<Authentication>,
    /// Each must admit.
    pub authorize: Vec<Demands<'a>>,
    /// Those of API, route and plans. `None`: there are none, and nobody has a plan.
    pub limits: Option<Arc<Limits>>,
    /// What plans give in a period. Empty where nobody is asked who it is.
    pub quotas: Quotas,
    /// The names of the route's path parameters.
    pub params: &'a [&'a str],
    pub transform: Option<Transforms<'a>>,
}

/// Who decides who it is.
pub enum Authentication {
    Demanded {
        choices: Vec<Choice>,
        /// Who shows no credential comes in as nobody.
        anonymous: bool,
        /// Who was wrong too often is not looked at.
        failures: Option<Failures>,
        /// Whose credentials are the gateway's own.
        sessions: Box<[Arc<dyn Authorizer>]>,
        /// There are plans that consumers can have.
        has_plans: bool,
    },
    /// Nobody is asked, and sessions of other routes stay here.
    Open { sessions: Box<[Arc<dyn Authorizer>]> },
    /// The route is a step of finding it out.
    Login(Login),
}

/// Header edits of both sides.
#[derive(Debug)]
pub struct Transforms<'a> {
    pub request: &'a HeaderEdits,
    pub response: &'a HeaderEdits,
}

/// Names in order of execution on the way in.
pub const NAMES: &[&str] = &[
    crate::body_bytes::NAME,
    crate::ip::NAME,
    crate::cors::NAME,
    crate::maintenance::NAME,
    crate::rate_limit::NAME,
    crate::authenticate::NAME,
    crate::authenticate::SESSIONS,
    crate::authorize::NAME,
    crate::rate_limit::PLAN,
    crate::quota::NAME,
    crate::transform::NAME,
];

/// The chain of a route. `Err`: a template names this parameter, which the path lacks.
pub fn chain(configured: &Configured<'_>) -> Result<Chain, String> {
    let mut policies: Vec<Box<dyn Policy>> = Vec::with_capacity(NAMES.len());
    // First, since it costs one comparison: a declared size needs no identity to be refused.
    policies.push(Box::new(crate::body_bytes::BodyBytes::compile(configured.body_bytes)));
    // Before a route does anything: a denied address learns no more than which routes there are.
    policies.extend(crate::ip::Ip::compile(&configured.ip).map(|ip| Box::new(ip) as Box<dyn Policy>));
    // Before identity: a preflight carries no credentials.
    policies.extend(configured.cors.map(|cors| Box::new(crate::cors::CorsPolicy::compile(cors)) as Box<dyn Policy>));
    // After CORS: a browser may read that the API is closed. Before whatever costs anything.
    let maintenance = configured.maintenance.and_then(crate::maintenance::Maintenance::compile);
    policies.extend(maintenance.map(|maintenance| Box::new(maintenance) as Box<dyn Policy>));
    // Before identity, which costs more to find out than to count: so guesses are bounded too. After whatever closes a route to everybody.
    let limits = configured.limits.as_ref();
    policies.extend(limits.and_then(Limits::early).map(|limits| Box::new(limits) as Box<dyn Policy>));
    // Before whatever asks who it is.
    policies.extend(configured.authenticate.as_ref().map(|configured| match configured {
        Authentication::Demanded { choices, anonymous, failures, sessions, has_plans } => {
            Box::new(Authenticate::compile(choices, *anonymous, failures.clone(), sessions, *has_plans)) as Box<dyn Policy>
        }
        Authentication::Open { sessions } => Box::new(Sessions(sessions.clone())),
        Authentication::Login(login) => Box::new(login.clone()),
    }));
    // After identity, which it judges.
    let choices = match &configured.authenticate {
        Some(Authentication::Demanded { choices, .. }) => &choices[..],
        Some(Authentication::Login(_) | Authentication::Open { .. }) | None => &[],
    };
    let authorize = crate::authorize::Authorize::compile(&configured.authorize, choices, configured.params);
    policies.extend(authorize.map(|authorize| Box::new(authorize) as Box<dyn Policy>));
    // After it: whoever may not come in takes nothing of what a caller or his plan has.
    policies.extend(limits.and_then(Limits::late).map(|limits| Box::new(limits) as Box<dyn Policy>));
    // After all that may refuse: what was refused costs nobody's quota.
    policies.extend(crate::quota::Quota::compile(&configured.quotas, limits).map(|quota| Box::new(quota) as Box<dyn Policy>));
    // Last: what is set here may use what the others learned, and nobody after it can be fooled by it.
    if let Some(transforms) = &configured.transform {
        policies.push(Box::new(crate::transform::Transform::compile(
            transforms.request,
            transforms.response,
            configured.params,
        )?));
    }
    Ok(Chain::new(policies))
}
