//! What plans give, compiled: every quota of every plan with where it is counted, and for each route which of them counts. Counts nothing.

use crate::compile::State;
use crate::limits::fleet_seed;
use maitred_core::limit_table::Table;
use maitred_core::quota::{Grant, SlotKey};
use maitred_model::{Closest, Counters, Document, Quota, Route};
use maitred_policies::quota::{Offered, Quotas, Shared};
use std::collections::HashMap;
use std::sync::Arc;

/// Where in a plan a quota stands: plan, API, and the word for the route.
type Place = (String, Option<String>, Option<String>);

#[derive(Default)]
pub(crate) struct Plans {
    by_place: HashMap<Place, Offered>,
    /// The same, in the order of the document.
    pub grants: Vec<Arc<Grant>>,
    pub shared: Option<Shared>,
}

impl Plans {
    pub fn compile(document: &Document, state: &State) -> Plans {
        let mut plans = Plans { shared: shared(document, state), ..Plans::default() };
        let seed = fleet_seed(document);
        for (name, plan) in &document.plans {
            let mut add = |api: Option<&str>, route: Option<&str>, quota: &Quota| {
                let slot = state.consumers.accounts.fleet_slot(SlotKey::new(name, api, route, quota), seed);
                let grant = Arc::new(Grant { most: quota.limit.get(), slot });
                plans.grants.push(grant.clone());
                let offered = Offered { grant, series: state.metrics.quota(&name.as_str().into()) };
                plans.by_place.insert(place(name, api, route), offered);
            };
            if let Some(quota) = &plan.terms.quota {
                add(None, None, quota);
            }
            for (api, terms) in &plan.apis {
                if let Some(quota) = &terms.terms.quota {
                    add(Some(api), None, quota);
                }
                for (route, terms) in &terms.routes {
                    terms.quota.iter().for_each(|quota| add(Some(api), Some(route), quota));
                }
            }
        }
        plans
    }

    /// What each plan gives on a route.
    pub fn quotas(&self, document: &Document, name: &str, route: &Route) -> Quotas {
        let offered = |plan: &str, given: &maitred_model::Plan| {
            let (closest, _) = given.terms_of(name, route).quota?;
            let place = match closest {
                Closest::Plan => place(plan, None, None),
                Closest::Api => place(plan, Some(name), None),
                Closest::Route => place(plan, Some(name), Some(word(given, name, route)?)),
            };
            self.by_place.get(&place).cloned()
        };
        let plans = document.plans.iter().filter_map(|(plan, given)| offered(plan, given)).collect();
        Quotas { plans, shared: self.shared.clone() }
    }
}

fn place(plan: &str, api: Option<&str>, route: Option<&str>) -> Place {
    (plan.to_owned(), api.map(str::to_owned), route.map(str::to_owned))
}

/// How a plan calls a route.
fn word<'a>(plan: &'a maitred_model::Plan, api: &str, route: &Route) -> Option<&'a str> {
    plan.apis.get(api)?.routes.keys().map(String::as_str).find(|word| route.is_called(word))
}

/// Where gateways share their counts, consumers have the same fingerprints on all, and no name leaves the process.
fn shared(document: &Document, state: &State) -> Option<Shared> {
    let Counters::Redis(redis) = &document.counters else { return None };
    let keys = Table::new(1, fleet_seed(document), state.clock.now());
    Some(Shared { key: Arc::new(move |name| keys.key(name.as_bytes())), on_failure: redis.on_failure })
}
