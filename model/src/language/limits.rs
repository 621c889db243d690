//! `rate_limit`, `plans` and `quota`. How they go together with who is asked is checked when the whole document is there.

use super::values::{RateText, Timeout};
use crate::decode::{
    Cx, Defs, NamedMap, OneOrMany, ScalarOr, Shape, or_reference, record, text, texts, whole, whole_schema, words,
};
use crate::document::{
    ApiTerms, Cost, LimitBy, LimitHeaders, Period, Plan, Quota, QuotaBy, RateLimit, Terms, WeekStart,
};
use crate::span::Spanned;
use crate::values::{HeaderName, Rate, ValueError};
use crate::yaml::{Kind, Node};
use serde_json::{Value, json};
use std::num::{NonZeroU32, NonZeroU64};

texts! {
    /// Who is counted apart: `consumer`, `ip` (or `ip/56` for other than 64 bits of an IPv6 address), `header:NAME`, `claim:PATH`, `api`,
    /// `route`, or `cel:EXPRESSION`.
    LimitByText => LimitBy, parse_by, "who is counted, such as `consumer` or `ip`", "^(consumer|ip(/[0-9]+)?|api|route|(header|claim|cel):.+)$";
    /// So much in each period: a whole number and `hour`, `day`, `week` or `month`, as in `1000000/month`.
    QuotaText => (NonZeroU64, Period), parse_quota, "a quota such as `1000000/month`", "^[0-9]+/(hour|day|week|month)$";
    /// A time zone of the IANA's database, as in `Europe/Paris`, or `UTC`.
    TimeZoneText => String, parse_time_zone, "a time zone such as `Europe/Paris`", "^[A-Za-z0-9_+/-]+$";
}

fn parse_by(text: &str) -> Result<LimitBy, ValueError> {
    let wrong = || ValueError::new(format!("`{text}` is not known here"));
    if let Some((kind, rest)) = text.split_once(':') {
        return match kind {
            "header" => HeaderName::parse(rest).map(LimitBy::Header),
            "claim" if !rest.is_empty() => Ok(LimitBy::Claim(rest.to_owned())),
            "claim" => Err(wrong().hint("write the claim's path: `claim:tenant`")),
            "cel" if !rest.trim().is_empty() => Ok(LimitBy::Expression(rest.to_owned())),
            "cel" => Err(wrong().hint("write an expression: `\"cel:claims.tenant + '/' + path.id\"`")),
            _ => Err(wrong().hint("write `header:NAME`, `claim:PATH` or `cel:EXPRESSION`")),
        };
    }
    if let Some(bits) = text.strip_prefix("ip/") {
        return match bits.parse::<u8>() {
            Ok(ipv6_prefix @ 1..=128) => Ok(LimitBy::Ip { ipv6_prefix }),
            _ => Err(wrong().hint("write how many bits of an IPv6 address count, from 1 to 128: `ip/56`")),
        };
    }
    match text {
        "consumer" => Ok(LimitBy::Consumer),
        "ip" => Ok(LimitBy::Ip { ipv6_prefix: IPV6_PREFIX }),
        "api" => Ok(LimitBy::Api),
        "route" => Ok(LimitBy::Route),
        "client" | "address" | "client_ip" | "remote_addr" => Err(wrong().hint("write `ip`")),
        "user" | "credential" | "key" | "principal" => Err(wrong().hint("write `consumer`")),
        "global" | "all" | "service" => Err(wrong().hint("write `api` or `route`")),
        _ => Err(wrong().hint("write `consumer`, `ip`, `header:NAME`, `claim:PATH`, `api`, `route` or `cel:EXPRESSION`")),
    }
}

/// What one household or one machine commonly has of an IPv6 network (RFC 6177).
const IPV6_PREFIX: u8 = 64;

fn parse_quota(text: &str) -> Result<(NonZeroU64, Period), ValueError> {
    let wrong = || ValueError::new(format!("`{text}` is not a quota"));
    let Some((digits, period)) = text.split_once('/') else {
        return Err(wrong().hint(format!("say in which period: `{text}/month`")));
    };
    let meant = |period| format!("write `{digits}/{period}`");
    let period = match period {
        "hour" => Period::Hour,
        "day" => Period::Day,
        "week" => Period::Week,
        "month" => Period::Month,
        "h" | "hours" | "hourly" => return Err(wrong().hint(meant("hour"))),
        "d" | "days" | "daily" | "DAY" => return Err(wrong().hint(meant("day"))),
        "w" | "weeks" | "weekly" | "WEEK" => return Err(wrong().hint(meant("week"))),
        "months" | "monthly" | "MONTH" | "mo" => return Err(wrong().hint(meant("month"))),
        "s" | "min" => return Err(wrong().hint("what is counted by seconds or minutes is a `rate_limit`")),
        _ => return Err(wrong().hint("periods are `hour`, `day`, `week` and `month`")),
    };
    let limit = digits.parse::<u64>().ok().filter(|limit| *limit <= QUOTA_MAX);
    match limit.map(NonZeroU64::new) {
        Some(Some(limit)) => Ok((limit, period)),
        Some(None) => Err(wrong().hint("a quota of nothing lets nothing through: write at least 1")),
        None => Err(wrong().hint(format!("write a whole number up to {QUOTA_MAX}"))),
    }
}

/// What a period's count has room for.
const QUOTA_MAX: u64 = 1_000_000_000_000;

fn parse_time_zone(text: &str) -> Result<String, ValueError> {
    Ok(text.to_owned())
}

words! {
    /// How answers say what is left of a limit.
    LimitHeaders {
        /// `RateLimit` and `RateLimit-Policy`, as the IETF's draft 09 has them.
        Draft = "draft",
        /// `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`, as older drafts had them.
        Split = "split",
        /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`.
        X = "x",
    }
}

words! {
    /// In which period.
    Period {
        /// From full hour to full hour.
        Hour = "hour",
        /// From midnight to midnight.
        Day = "day",
        /// Seven days.
        Week = "week",
        /// From the first of a month.
        Month = "month",
    }
}

words! {
    /// Which day a week begins with.
    WeekStart {
        /// As ISO 8601 has it.
        Monday = "monday",
        /// As in North America.
        Sunday = "sunday",
    }
}

words! {
    /// Whose a quota is.
    QuotaBy {
        /// Each consumer's own.
        Consumer = "consumer",
        /// That of all consumers of the plan together.
        Plan = "plan",
    }
}

/// `none`, or ways to say what is left.
pub(crate) struct LimitHeadersShape;

impl Shape for LimitHeadersShape {
    type Out = Vec<LimitHeaders>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Vec<LimitHeaders>> {
        match &node.kind {
            Kind::Scalar(scalar) if scalar.text == super::NONE => Some(Vec::new()),
            Kind::Scalar(_) | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Poisoned => {
                OneOrMany::<LimitHeaders>::decode(node, cx)
            }
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({ "anyOf": [{ "const": super::NONE }, OneOrMany::<LimitHeaders>::schema(defs)] })
    }
}

/// A number of units.
pub(crate) struct Units;

/// More than any burst.
const UNITS_MAX: u64 = 1_000_000;

impl Shape for Units {
    type Out = NonZeroU32;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<NonZeroU32> {
        whole(node, cx, 1, UNITS_MAX).and_then(|units| NonZeroU32::new(units as u32))
    }

    fn schema(defs: &mut Defs) -> Value {
        whole_schema(defs, 1, UNITS_MAX)
    }
}

/// A number, or `response_header:NAME`.
pub(crate) struct CostShape;

impl Shape for CostShape {
    type Out = Cost;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Cost> {
        let scalar = cx.scalar(node, "a number, or `response_header:NAME`")?;
        if scalar.text.starts_with(|first: char| first.is_ascii_digit()) {
            return Units::decode(node, cx).map(Cost::Units);
        }
        text(node, cx, "a number, or `response_header:NAME`", |scalar| match scalar.text.strip_prefix("response_header:") {
            Some(name) => HeaderName::parse(name).map(Cost::ResponseHeader),
            None => Err(ValueError::new(format!("`{}` is no cost", scalar.text))
                .hint("write a whole number, or `response_header:x-cost` for what the back end says")),
        })
    }

    fn schema(defs: &mut Defs) -> Value {
        let header = or_reference(defs, json!({ "type": "string", "pattern": "^response_header:.+$" }));
        json!({ "anyOf": [Units::schema(defs), header] })
    }
}

/// Keys of one limit.
pub(crate) struct KeysMax;

/// A GiB of counts.
const KEYS_MAX: u64 = 16_000_000;

impl Shape for KeysMax {
    type Out = NonZeroU32;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<NonZeroU32> {
        whole(node, cx, 1, KEYS_MAX).and_then(|keys| NonZeroU32::new(keys as u32))
    }

    fn schema(defs: &mut Defs) -> Value {
        whole_schema(defs, 1, KEYS_MAX)
    }
}

record! {
    /// So often, for each key.
    "`rate_limit`" => struct RawRateLimit {
        /// How often in the long run, as in `10/s`.
        rate: RateText = required,
        /// How many at once; default what a second gives.
        burst: Option<Units> = absent,
        /// Who is counted apart; several together are one key.
        by: OneOrMany<Spanned<LimitByText>> = needed,
        /// What a request takes: a number, or `response_header:NAME` for what the back end says that it was.
        cost: CostShape = "1",
        /// How long a request may wait for its turn instead of being refused.
        wait: Option<Timeout> = absent,
        /// How many keys are counted apart at the same time.
        keys_max: KeysMax = "100000",
    }
}

record! {
    /// So often, for each consumer of the plan.
    "a plan's `rate_limit`" => struct RawPlanLimit {
        /// How often in the long run, as in `100/s`.
        rate: RateText = required,
        /// How many at once; default what a second gives.
        burst: Option<Units> = absent,
        /// What a request takes: a number, or `response_header:NAME` for what the back end says that it was.
        cost: CostShape = "1",
        /// How long a request may wait for its turn instead of being refused.
        wait: Option<Timeout> = absent,
        /// How many consumers are counted apart at the same time.
        keys_max: KeysMax = "100000",
    }
}

fn burst(burst: Option<NonZeroU32>, rate: Rate) -> NonZeroU32 {
    let a_second = u64::from(rate.count.get()) / rate.per.duration().as_secs();
    burst.or_else(|| NonZeroU32::new(u32::try_from(a_second).unwrap_or(u32::MAX))).unwrap_or(NonZeroU32::MIN)
}

/// A limit of an API or a route.
pub(crate) struct RateLimitShape;

impl Shape for RateLimitShape {
    type Out = RateLimit;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<RateLimit> {
        let RawRateLimit { rate, burst: written, by, cost, wait, keys_max } = RawRateLimit::decode(node, cx)?;
        if by.is_empty() {
            // What else makes it empty is complained about already.
            if let Some(by) = node.get("by").filter(|by| matches!(&by.kind, Kind::Sequence(items) if items.is_empty())) {
                cx.error("missing-value", by.span, "`by` names nobody", "write `by: consumer` or `by: ip`");
            }
            return None;
        }
        let limit = RateLimit { rate, burst: burst(written, rate), by, cost, wait, keys_max };
        fits(&limit, node, cx).then_some(limit)
    }

    fn schema(defs: &mut Defs) -> Value {
        RawRateLimit::schema(defs)
    }
}

/// A limit of a plan.
pub(crate) struct PlanLimitShape;

impl Shape for PlanLimitShape {
    type Out = RateLimit;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<RateLimit> {
        let RawPlanLimit { rate, burst: written, cost, wait, keys_max } = RawPlanLimit::decode(node, cx)?;
        let by = vec![Spanned::new(LimitBy::Consumer, node.span)];
        let limit = RateLimit { rate, burst: burst(written, rate), by, cost, wait, keys_max };
        fits(&limit, node, cx).then_some(limit)
    }

    fn schema(defs: &mut Defs) -> Value {
        RawPlanLimit::schema(defs)
    }
}

/// What costs more than a burst never passes.
fn fits(limit: &RateLimit, node: &Node, cx: &mut Cx<'_>) -> bool {
    let Cost::Units(cost) = limit.cost else { return true };
    if cost <= limit.burst {
        return true;
    }
    let span = node.get("cost").map_or(node.span, |cost| cost.span);
    let message = format!("a request costs {cost}, and no more than {} may be taken at once: none would ever pass", limit.burst);
    cx.error("contradiction", span, message, format!("write `burst: {cost}` or more"));
    false
}

/// `1000000/month`.
pub(crate) struct QuotaShort;

impl Shape for QuotaShort {
    type Out = Quota;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Quota> {
        let (limit, per) = QuotaText::decode(node, cx)?;
        Some(Quota { limit, per, time_zone: UTC.to_owned(), week_starts: WeekStart::default(), by: QuotaBy::default() })
    }

    fn schema(defs: &mut Defs) -> Value {
        QuotaText::schema(defs)
    }
}

const UTC: &str = "UTC";

record! {
    /// So much in each period of the calendar.
    "`quota`" => struct RawQuota {
        /// How much, and in which period: `1000000/month`.
        limit: QuotaText = required,
        /// In which time zone periods begin.
        time_zone: TimeZoneText = "UTC",
        /// Which day a week begins with.
        week_starts: WeekStart = "monday",
        /// Whose it is.
        by: QuotaBy = "consumer",
    }
}

pub(crate) struct QuotaLong;

impl Shape for QuotaLong {
    type Out = Quota;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Quota> {
        let RawQuota { limit: (limit, per), time_zone, week_starts, by } = RawQuota::decode(node, cx)?;
        Some(Quota { limit, per, time_zone, week_starts, by })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawQuota::schema(defs)
    }
}

/// 0 to 15.
pub(crate) struct PlanPriority;

const PRIORITY_MAX: u64 = 15;

impl Shape for PlanPriority {
    type Out = u8;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<u8> {
        whole(node, cx, 0, PRIORITY_MAX).map(|priority| priority as u8)
    }

    fn schema(defs: &mut Defs) -> Value {
        whole_schema(defs, 0, PRIORITY_MAX)
    }
}

record! {
    /// What a plan gives on one route.
    "terms" => Terms {
        /// How often each consumer may come: one limit, or a list.
        rate_limit: OneOrMany<Spanned<PlanLimitShape>> = absent,
        /// How much in each period.
        quota: Option<Spanned<ScalarOr<QuotaShort, QuotaLong>>> = absent,
        /// Who is served first where requests wait: 0 to 15; higher ones first.
        priority: Option<PlanPriority> = absent,
    }
}

record! {
    /// What a plan gives in one API.
    "the terms of an API" => struct RawApiTerms {
        /// How often each consumer may come: one limit, or a list.
        rate_limit: OneOrMany<Spanned<PlanLimitShape>> = absent,
        /// How much in each period.
        quota: Option<Spanned<ScalarOr<QuotaShort, QuotaLong>>> = absent,
        /// Who is served first where requests wait: 0 to 15; higher ones first.
        priority: Option<PlanPriority> = absent,
        /// Other terms of single routes, by their name or as their `match` is written.
        routes: RouteTerms = absent,
    }
}

/// Terms by route.
pub(crate) struct RouteTerms;

impl Shape for RouteTerms {
    type Out = indexmap::IndexMap<String, Spanned<Terms>>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        let Kind::Mapping(entries) = &node.kind else {
            cx.expected(node, "routes with their terms, such as `get-order: { rate_limit: { rate: 5/s } }`");
            return None;
        };
        let terms = entries.iter().map(|(name, node)| Some((name.value.clone(), Spanned::<Terms>::decode(node, cx)?)));
        terms.collect::<Vec<_>>().into_iter().collect()
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({ "type": "object", "additionalProperties": Terms::schema(defs) })
    }
}

pub(crate) struct ApiTermsShape;

impl Shape for ApiTermsShape {
    type Out = ApiTerms;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<ApiTerms> {
        let RawApiTerms { rate_limit, quota, priority, routes } = RawApiTerms::decode(node, cx)?;
        Some(ApiTerms { terms: Terms { rate_limit, quota, priority }, routes })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawApiTerms::schema(defs)
    }
}

record! {
    /// What consumers are given.
    "a plan" => struct RawPlan {
        /// How often each consumer may come: one limit, or a list.
        rate_limit: OneOrMany<Spanned<PlanLimitShape>> = absent,
        /// How much in each period: `1000000/month`, or a mapping.
        quota: Option<Spanned<ScalarOr<QuotaShort, QuotaLong>>> = absent,
        /// Who is served first where requests wait: 0 to 15; higher ones first.
        priority: Option<PlanPriority> = absent,
        /// Other terms of single APIs.
        apis: NamedMap<ApiTermsShape> = absent,
    }
}

pub(crate) struct PlanShape;

impl Shape for PlanShape {
    type Out = Plan;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Plan> {
        let RawPlan { rate_limit, quota, priority, apis } = RawPlan::decode(node, cx)?;
        Some(Plan { terms: Terms { rate_limit, quota, priority }, apis })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawPlan::schema(defs)
    }
}
