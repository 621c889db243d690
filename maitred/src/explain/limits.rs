//! What limits a request, in the order in which it is asked, in few words. Counts nothing, and asks nobody whose plan would count.

use super::protection::Line;
use maitred_model::{Api, Cost, LimitBy, RateLimit, Route, Spanned, format_duration};
use serde_json::{Value, json};

/// A limit, and what clients are told that it is called.
struct Named<'a> {
    name: String,
    limit: &'a RateLimit,
    of_route: bool,
}

/// Those that need nobody's name are asked before anybody is.
fn in_order<'a>(api: &'a Api, route: &'a Route) -> Vec<Named<'a>> {
    let named = |kind: &'static str, limits: &'a [Spanned<RateLimit>], of_route: bool| {
        limits.iter().enumerate().map(move |(at, limit)| Named {
            name: if at == 0 { kind.to_owned() } else { format!("{kind}-{}", at + 1) },
            limit: &limit.value,
            of_route,
        })
    };
    let all = named("api", api.limits_of(route), false).chain(named("route", route.own_limits(), true));
    let (late, early): (Vec<_>, Vec<_>) = all.partition(|named| named.limit.by.iter().any(|by| by.value.needs_identity()));
    early.into_iter().chain(late).collect()
}

/// `by_plan`: who comes in may have one.
pub fn lines(api: &Api, route: &Route, by_plan: bool) -> Vec<Line> {
    let limits = in_order(api, route).into_iter().map(|named| ("limited by", words(&named)));
    limits.chain(by_plan.then(|| ("limited by", "the plan of whoever it is".to_owned()))).collect()
}

fn words(Named { name, limit, of_route }: &Named<'_>) -> String {
    let RateLimit { rate, burst, by, cost, wait, keys_max: _ } = limit;
    let cost = match cost {
        Cost::Units(units) if units.get() == 1 => String::new(),
        Cost::Units(units) => format!("; a request takes {units}"),
        Cost::ResponseHeader(header) => format!("; a request takes what {header} of the answer says"),
    };
    let wait = wait.map_or_else(String::new, |wait| format!("; requests wait up to {} for their turn", format_duration(wait)));
    format!("{name}: {rate}, at most {burst} at once, for {}{cost}{wait}", whom(by, *of_route))
}

fn whom(by: &[Spanned<LimitBy>], of_route: bool) -> String {
    let each = by.iter().filter_map(|by| match &by.value {
        LimitBy::Consumer => Some("consumer".to_owned()),
        LimitBy::Ip { ipv6_prefix: 64 } => Some("address".to_owned()),
        LimitBy::Ip { ipv6_prefix } => Some(format!("address (of IPv6 its first {ipv6_prefix} bits)")),
        LimitBy::Header(name) => Some(format!("header {name}")),
        LimitBy::Claim(path) => Some(format!("claim {path}")),
        LimitBy::Expression(source) => Some(format!("value of {}", source.split_whitespace().collect::<Vec<_>>().join(" "))),
        LimitBy::Route if !of_route => Some("route".to_owned()),
        LimitBy::Api | LimitBy::Route => None,
    });
    match each.collect::<Vec<_>>() {
        each if !each.is_empty() => format!("each {}", each.join(" and ")),
        _ if of_route => "the whole route".to_owned(),
        _ => "the whole API".to_owned(),
    }
}

pub fn as_json(api: &Api, route: &Route) -> Value {
    let one = |Named { name, limit, of_route: _ }: &Named<'_>| {
        let RateLimit { rate, burst, by, cost, wait, keys_max: _ } = limit;
        json!({
            "name": name,
            "rate": rate.to_string(),
            "burst": burst.get(),
            "by": by.iter().map(|by| by.value.to_string()).collect::<Value>(),
            "cost": match cost {
                Cost::Units(units) => units.get().into(),
                Cost::ResponseHeader(header) => Value::from(format!("response_header:{header}")),
            },
            "wait": wait.map(format_duration),
        })
    };
    in_order(api, route).iter().map(one).collect()
}
