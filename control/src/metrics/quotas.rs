//! What became of requests that have a quota, by plan. Names no consumer: there may be a hundred thousand.

use super::{Page, escaped};
use maitred_core::metrics::{Metrics, QUOTA_RESULTS};

pub(super) fn write(page: &mut Page, metrics: &Metrics) {
    let quotas = metrics.quotas();
    if quotas.is_empty() {
        return;
    }
    let name = "maitred_quota_total";
    page.family(name, "counter", "Requests with a quota, by the plan that gives it and what became of them.");
    for quota in quotas {
        let label = escaped(&quota.plan);
        for (result, count) in QUOTA_RESULTS.iter().zip(quota.counts()) {
            page.line(format_args!("{name}{{plan=\"{label}\",result=\"{result}\"}} {count}"));
        }
    }
}
