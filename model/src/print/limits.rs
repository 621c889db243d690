//! `rate_limit`, `plans` and `counters` as JSON.

use super::duration;
use crate::document::{
    ApiTerms, Cost, Counters, CountersFailure, CountingMode, LimitBy, LimitHeaders, Period, Plan, Quota, QuotaBy, RateLimit,
    RedisCounters, RedisKind, RedisServers, Terms, WeekStart,
};
use crate::span::Spanned;
use serde_json::{Map, Value, json};

pub(super) fn rate_limits(limits: &[Spanned<RateLimit>], with_by: bool) -> Value {
    limits.iter().map(|limit| rate_limit(limit, with_by)).collect()
}

fn rate_limit(limit: &RateLimit, with_by: bool) -> Value {
    let RateLimit { rate, burst, by, cost, wait, keys_max } = limit;
    let mut value = json!({ "rate": rate.to_string(), "burst": burst.get() });
    // Where there is one key, it is no word of the language.
    if !by.iter().all(|by| by.value.is_one()) {
        value["keys_max"] = keys_max.get().into();
    }
    if with_by {
        value["by"] = by.iter().map(|by| by.value.to_string()).collect();
    }
    value["cost"] = match cost {
        Cost::Units(units) => units.get().into(),
        Cost::ResponseHeader(name) => format!("response_header:{name}").into(),
    };
    if let Some(wait) = wait {
        value["wait"] = duration(*wait);
    }
    value
}

pub(super) fn headers(headers: &[LimitHeaders]) -> Value {
    if headers.is_empty() {
        return "none".into();
    }
    let word = |headers: &LimitHeaders| match headers {
        LimitHeaders::Draft => "draft",
        LimitHeaders::Split => "split",
        LimitHeaders::X => "x",
    };
    headers.iter().map(word).collect()
}

pub(super) fn plan(plan: &Plan) -> Value {
    let Plan { terms: own, apis } = plan;
    let mut value = terms(own);
    let api = |ApiTerms { terms: own, routes }: &ApiTerms| {
        let mut value = terms(own);
        value["routes"] = routes.iter().map(|(name, own)| (name.clone(), terms(own))).collect::<Map<_, _>>().into();
        value
    };
    value["apis"] = apis.iter().map(|(name, own)| (name.clone(), api(own))).collect::<Map<_, _>>().into();
    value
}

fn terms(terms: &Terms) -> Value {
    let Terms { rate_limit, quota, priority } = terms;
    let mut value = json!({});
    if !rate_limit.is_empty() {
        value["rate_limit"] = rate_limits(rate_limit, false);
    }
    if let Some(quota) = quota {
        value["quota"] = print_quota(quota);
    }
    if let Some(priority) = priority {
        value["priority"] = (*priority).into();
    }
    value
}

fn print_quota(quota: &Quota) -> Value {
    let Quota { limit, per, time_zone, week_starts, by } = quota;
    let by = match by {
        QuotaBy::Consumer => "consumer",
        QuotaBy::Plan => "plan",
    };
    let mut value = json!({ "limit": format!("{limit}/{}", per.name()), "time_zone": time_zone, "by": by });
    if *per == Period::Week {
        value["week_starts"] = match week_starts {
            WeekStart::Monday => "monday".into(),
            WeekStart::Sunday => "sunday".into(),
        };
    }
    value
}

pub(super) fn counters(counters: &Counters) -> Value {
    let redis = match counters {
        Counters::Memory => return "memory".into(),
        Counters::Redis(redis) => redis,
    };
    let RedisCounters { servers, mode, timeout, on_failure, prefix, tls } = &**redis;
    let mode = match mode {
        CountingMode::Exact => "exact",
        CountingMode::LocalFirst => "local_first",
    };
    let on_failure = match on_failure {
        CountersFailure::Local => "local",
        CountersFailure::Open => "open",
        CountersFailure::Closed => "closed",
    };
    let mut value = json!({ "url": servers.to_string(), "mode": mode, "timeout": duration(*timeout), "on_failure": on_failure });
    value["prefix"] = prefix.as_str().into();
    if let Some(tls) = tls {
        value["tls"] = super::print_upstream_tls(tls);
    }
    value
}

impl Period {
    pub fn name(self) -> &'static str {
        match self {
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
        }
    }
}

/// As it is written.
impl std::fmt::Display for LimitBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LimitBy::Consumer => f.write_str("consumer"),
            LimitBy::Ip { ipv6_prefix: 64 } => f.write_str("ip"),
            LimitBy::Ip { ipv6_prefix } => write!(f, "ip/{ipv6_prefix}"),
            LimitBy::Header(name) => write!(f, "header:{name}"),
            LimitBy::Claim(path) => write!(f, "claim:{path}"),
            LimitBy::Api => f.write_str("api"),
            LimitBy::Route => f.write_str("route"),
            LimitBy::Expression(source) => write!(f, "cel:{source}"),
        }
    }
}

/// The URL, its password hidden.
impl std::fmt::Display for RedisServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RedisServers { kind, is_encrypted, hosts, user, password, database } = self;
        let scheme = match (kind, is_encrypted) {
            (RedisKind::Single, false) => "redis",
            (RedisKind::Single, true) => "rediss",
            (RedisKind::Cluster, false) => "redis-cluster",
            (RedisKind::Cluster, true) => "rediss-cluster",
            (RedisKind::Sentinel(_), false) => "redis-sentinel",
            (RedisKind::Sentinel(_), true) => "rediss-sentinel",
            (RedisKind::Socket(_), _) => "redis+unix",
        };
        write!(f, "{scheme}://")?;
        match (user, password) {
            (Some(user), Some(password)) => write!(f, "{user}:{password}@")?,
            (None, Some(password)) => write!(f, ":{password}@")?,
            (Some(user), None) => write!(f, "{user}@")?,
            (None, None) => {}
        }
        for (index, (host, port)) in hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match host.contains(':') {
                true => write!(f, "{comma}[{host}]:{port}")?,
                false => write!(f, "{comma}{host}:{port}")?,
            }
        }
        match kind {
            RedisKind::Sentinel(master) => write!(f, "/{master}/{database}"),
            RedisKind::Single => write!(f, "/{database}"),
            RedisKind::Cluster => Ok(()),
            RedisKind::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}
