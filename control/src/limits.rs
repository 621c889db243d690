//! Rate limits as an administrator sees them: what each is, what it said, and whom it refuses most often. Changes nothing.

use maitred_core::limits::series::LimitView;
use maitred_core::limits::top::Top;
use maitred_model::{Cost, RateLimit, format_duration};
use serde_json::{Value, json};

/// `[{limit, api, route, rate, burst, by, cost, wait, keys_max, allowed, delayed, limited, top}]`
pub fn to_json(limits: &[LimitView]) -> Value {
    limits.iter().map(one).collect()
}

fn one(view: &LimitView) -> Value {
    let LimitView { series, limit: RateLimit { rate, burst, by, cost, wait, keys_max } } = view;
    let [allowed, delayed, limited] = series.counts();
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let cost = match cost {
        Cost::Units(units) => json!(units.get()),
        Cost::ResponseHeader(name) => json!(format!("response_header:{name}")),
    };
    json!({
        "limit": *series.name.limit,
        "api": named(&series.name.api),
        "route": named(&series.name.route),
        "rate": rate.to_string(),
        "burst": burst.get(),
        "by": by.iter().map(|by| by.value.to_string()).collect::<Value>(),
        "cost": cost,
        "wait": wait.map(format_duration),
        "keys_max": keys_max.get(),
        "allowed": allowed,
        "delayed": delayed,
        "limited": limited,
        "top": series.top.read().iter().map(top).collect::<Value>(),
    })
}

/// Of those counted so many at most may be others'.
fn top(top: &Top) -> Value {
    let Top { text, count, error } = top;
    json!({ "key": **text, "limited": count, "error": error })
}
