//! `rate_limit`, `plans` and `quota`. How they go together with who is asked is checked when the whole document is there.

use super::values::RateText;
use crate::decode::{
    Cx, Defs, NamedMap, OneOrMany, ScalarOr, Shape, UpTo, or_reference, record, text, texts, whole, whole_schema, words,
};
use crate::diagnostics::Diagnostic;
use crate::document::{ApiTerms, Cost, LimitBy, LimitHeaders, Period, Plan, Quota, QuotaBy, RateLimit, Terms, WeekStart};
use crate::span::Spanned;
use crate::values::{HeaderName, Rate, ValueError, format_duration, parse_duration, parse_time_zone};
use crate::yaml::{Kind, Node};
use serde_json::{Value, json};
use std::marker::PhantomData;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

texts! {
    /// Who is counted apart: `consumer`, `ip` (or `ip/56` for other than 64 bits of an IPv6 address), `header:NAME`, `claim:PATH`, `api`,
    /// `route`, or `cel:EXPRESSION`.
    LimitByText => LimitBy, parse_by, "who is counted, such as `consumer` or `ip`", "^(consumer|ip(/[0-9]+)?|api|route|(header|claim|cel):.+)$";
    /// So much in each period: a whole number and `hour`, `day`, `week` or `month`, as in `1000000/month`.
    QuotaText => (NonZeroU64, Period), parse_quota, "a quota such as `1000000/month`", "^[0-9]+/(hour|day|week|month)$";
    /// A time zone of the IANA's database, as in `Europe/Paris`, or `UTC`.
    TimeZoneText => String, parse_time_zone, "a time zone such as `Europe/Paris`", "^[A-Za-z0-9_+/-]+$";
    /// How long a request waits at most, from `1ms` to `1min`.
    Wait => Duration, parse_wait, "a duration such as `500ms`", "^[0-9]*[1-9][0-9]*(ms|s|min)$";
}

/// A request that waits holds its connection and its memory, and nobody waits longer for an answer that may be a refusal.
const WAIT_MAX: Duration = Duration::from_secs(60);

fn parse_wait(text: &str) -> Result<Duration, ValueError> {
    match parse_duration(text)? {
        Duration::ZERO => Err(ValueError::new("a wait of nothing is none").hint("remove `wait`, or write at least `1ms`")),
        wait if wait > WAIT_MAX => {
            let most = format_duration(WAIT_MAX);
            Err(ValueError::new(format!("`{text}` is longer than a client waits")).hint(format!("write at most `{most}`")))
        }
        wait => Ok(wait),
    }
}

fn parse_by(text: &str) -> Result<LimitBy, ValueError> {
    let wrong = || ValueError::new(format!("`{text}` is not known here"));
    if let Some((kind, rest)) = text.split_once(':') {
        return match kind {
            "header" if !rest.is_empty() => HeaderName::parse(rest).map(LimitBy::Header),
            "header" => Err(wrong().hint("write the header's name: `header:x-tenant`")),
            "claim" if !rest.is_empty() => Ok(LimitBy::Claim(rest.to_owned())),
            "claim" => Err(wrong().hint("write the claim's path: `claim:tenant`")),
            "cel" if !rest.trim().is_empty() => Ok(LimitBy::Expression(rest.to_owned())),
            "cel" => Err(wrong().hint("write an expression: `\"cel:claims.tenant + '/' + path.id\"`")),
            "query" => Err(wrong().hint(format!("write `cel:request.query['{rest}']`"))),
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
        "consumer" => return Ok(LimitBy::Consumer),
        "ip" => return Ok(LimitBy::Ip { ipv6_prefix: IPV6_PREFIX }),
        "api" => return Ok(LimitBy::Api),
        "route" => return Ok(LimitBy::Route),
        _ => {}
    }
    Err(match text.to_ascii_lowercase().trim_start_matches('$') {
        "header" => wrong().hint("write which one: `header:x-tenant`"),
        "claim" | "jwt" | "token" => wrong().hint("write which claim: `claim:tenant`; or `consumer` for whoever the token names"),
        "cel" | "expression" => wrong().hint("write the expression behind it: `\"cel:path.id\"`"),
        "path" | "uri" => wrong().hint("write `route`; or `cel:request.path`, by which each path is counted apart"),
        "ip" | "client" | "address" | "client_ip" | "remote_addr" | "remote_address" | "binary_remote_addr" | "source_ip" => {
            wrong().hint("write `ip`")
        }
        "consumer" | "user" | "credential" | "key" | "principal" | "api_key" | "sub" | "subject" | "consumer_name" => {
            wrong().hint("write `consumer`")
        }
        "global" | "all" | "service" | "server_name" | "host" => {
            wrong().hint("write `api` under the API's `policies`, or `route`")
        }
        lower if lower.contains(',') || lower.contains(' ') => wrong().hint("several are a list: `by: [consumer, ip]`"),
        _ => wrong().hint("write `consumer`, `ip`, `header:NAME`, `claim:PATH`, `api`, `route` or `cel:EXPRESSION`"),
    })
}

/// What one household or one machine commonly has of an IPv6 network (RFC 6177).
const IPV6_PREFIX: u8 = 64;

/// `by` in its words; what YAML makes a mapping of because of a space is told so.
pub(crate) struct LimitByShape;

impl Shape for LimitByShape {
    type Out = LimitBy;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<LimitBy> {
        if let Kind::Mapping(entries) = &node.kind
            && let [(key, value)] = &entries[..]
            && let Kind::Scalar(scalar) = &value.kind
            && ["header", "claim", "cel"].contains(&key.value.as_str())
        {
            let hint = format!("write `\"{}:{}\"`, without a space behind the colon", key.value, scalar.shown());
            cx.error("wrong-kind", node.span, "expected who is counted, found a mapping", hint);
            return None;
        }
        LimitByText::decode(node, cx)
    }

    fn schema(defs: &mut Defs) -> Value {
        LimitByText::schema(defs)
    }
}

fn parse_quota(text: &str) -> Result<(NonZeroU64, Period), ValueError> {
    let wrong = || ValueError::new(format!("`{text}` is not a quota"));
    let Some((digits, period)) = text.split_once('/') else {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        return Err(wrong().hint(match text {
            "none" | "unlimited" => "remove the key: a plan without `quota` has none".to_owned(),
            _ if is_number => format!("say in which period: `{text}/month`"),
            _ => "write a whole number and a period: `1000000/month`".to_owned(),
        }));
    };
    let meant = |period| format!("write `{}/{period}`", digits.trim());
    let period = match period {
        "hour" => Period::Hour,
        "day" => Period::Day,
        "week" => Period::Week,
        "month" => Period::Month,
        _ => {
            return Err(match period.trim().to_ascii_lowercase().as_str() {
                "h" | "hr" | "hour" | "hours" | "hourly" => wrong().hint(meant("hour")),
                "d" | "day" | "days" | "daily" => wrong().hint(meant("day")),
                "w" | "week" | "weeks" | "weekly" => wrong().hint(meant("week")),
                "mo" | "month" | "months" | "monthly" => wrong().hint(meant("month")),
                "m" => wrong().hint(format!("{}, or a `rate_limit` for what is counted by minutes", meant("month"))),
                "s" | "sec" | "second" | "seconds" | "min" | "minute" | "minutes" => {
                    wrong().hint("what is counted by seconds or minutes is a `rate_limit`")
                }
                _ => wrong().hint("periods are `hour`, `day`, `week` and `month`"),
            });
        }
    };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    let limit = digits.parse::<u64>().ok().filter(|limit| is_number && *limit <= QUOTA_MAX);
    match limit.map(NonZeroU64::new) {
        Some(Some(limit)) => Ok((limit, period)),
        Some(None) => Err(wrong().hint("a quota of nothing lets nothing through: write at least 1")),
        None => Err(wrong().hint(format!("write a whole number from 1 to {QUOTA_MAX}"))),
    }
}

/// What a period's count has room for.
const QUOTA_MAX: u64 = 1_000_000_000_000;

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

/// A number of units: no more than any burst has.
type Units = UpTo<{ BURST_MAX.get() }>;
const BURST_MAX: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

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

/// Keys of one limit: a GiB of counts.
type KeysMax = UpTo<16_000_000>;

record! {
    /// So often, for each key.
    "`rate_limit`" => struct RawRateLimit {
        /// How often in the long run, as in `10/s`.
        rate: RateText = required,
        /// How many at once; default the number in `rate`.
        burst: Option<Units> = absent,
        /// Who is counted apart; several together are one key.
        by: OneOrMany<Spanned<LimitByShape>> = (needed "say who is counted apart: `by: consumer`, `by: ip`, or `by: api` for all together"),
        /// What a request takes: a number, or `response_header:NAME` for what the back end says that it was.
        cost: CostShape = "1",
        /// How long a request may wait for its turn instead of being refused.
        wait: Option<Wait> = absent,
        /// How many keys are counted apart at the same time.
        keys_max: KeysMax = "100000",
    }
}

record! {
    /// So often, for each consumer of the plan.
    "a plan's `rate_limit`" => struct RawPlanLimit {
        /// How often in the long run, as in `100/s`.
        rate: RateText = required,
        /// How many at once; default the number in `rate`.
        burst: Option<Units> = absent,
        /// What a request takes: a number, or `response_header:NAME` for what the back end says that it was.
        cost: CostShape = "1",
        /// How long a request may wait for its turn instead of being refused.
        wait: Option<Wait> = absent,
        /// How many consumers are counted apart at the same time.
        keys_max: KeysMax = "100000",
    }
}

/// Who may come ten times an hour may do so at once.
fn burst(burst: Option<NonZeroU32>, rate: Rate) -> NonZeroU32 {
    burst.unwrap_or(rate.count).min(BURST_MAX)
}

/// One limit, or a list of those that must all admit.
pub(crate) struct Limits<S>(PhantomData<S>);

impl<S: Shape<Out = RateLimit>> Shape for Limits<S> {
    type Out = Vec<Spanned<RateLimit>>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        if matches!(&node.kind, Kind::Sequence(items) if items.is_empty()) {
            cx.error("missing-value", node.span, "no limit stands here", "write one, or remove `rate_limit`");
            return None;
        }
        let limits = OneOrMany::<Spanned<S>>::decode(node, cx)?;
        for (at, limit) in limits.iter().enumerate() {
            if let Some(first) = limits[..at].iter().find(|first| first.value == limit.value) {
                let diagnostic = Diagnostic::error("limit-twice", limit.span, "the same limit stands twice");
                cx.push(diagnostic.hint("remove one of them").also(first.span, "first written here"));
            }
        }
        Some(limits)
    }

    fn schema(defs: &mut Defs) -> Value {
        OneOrMany::<S>::schema(defs)
    }
}

/// Whether a limit is a mapping. Who writes `10/s`, or wants none, is told how.
fn is_limit(node: &Node, cx: &mut Cx<'_>, by: &str) -> bool {
    let rate = match &node.kind {
        Kind::Scalar(scalar) if scalar.origin.is_none() && Rate::parse(&scalar.text).is_ok() => scalar.text.as_str(),
        Kind::Scalar(_) | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Poisoned => "10/s",
    };
    let hint = match &node.kind {
        Kind::Scalar(scalar) if NO_LIMIT.contains(&scalar.text.as_str()) && !by.is_empty() => {
            "write `none` in a route to drop what its API says, or remove `rate_limit`".to_owned()
        }
        Kind::Scalar(scalar) if NO_LIMIT.contains(&scalar.text.as_str()) => {
            "remove `rate_limit`: who has the plan is counted by what the whole plan or the API says, and else not".to_owned()
        }
        _ if by.is_empty() => format!("write `{{ rate: {rate} }}`"),
        Kind::Scalar(_) | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Poisoned => {
            format!("write `{{ rate: {rate}{by} }}`, or `by: ip` where nobody is asked who it is")
        }
    };
    cx.is_mapping(node, "a limit", &hint)
}

/// How others write that there is none.
const NO_LIMIT: [&str; 9] = ["none", "off", "false", "no", "disabled", "unlimited", "inf", "-1", "0"];

/// A limit of an API or a route.
pub(crate) struct RateLimitShape;

impl Shape for RateLimitShape {
    type Out = RateLimit;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<RateLimit> {
        if !is_limit(node, cx, ", by: consumer") {
            return None;
        }
        let RawRateLimit { rate, burst: written, by, cost, wait, keys_max } = RawRateLimit::decode(node, cx)?;
        if by.is_empty() {
            // What else makes it empty is complained about already.
            if let Some(by) = node.get("by").filter(|by| matches!(&by.kind, Kind::Sequence(items) if items.is_empty())) {
                cx.error("missing-value", by.span, "`by` names nobody", "write `by: consumer` or `by: ip`");
            }
            return None;
        }
        for (at, who) in by.iter().enumerate() {
            if let Some(first) = by[..at].iter().find(|first| first.value == who.value) {
                let diagnostic = Diagnostic::error("duplicate-key", who.span, format!("`{who}` stands twice"));
                cx.push(diagnostic.hint("remove one of them").also(first.span, "first written here"));
            }
        }
        if let Some(keys) = node.get("keys_max").filter(|_| by.iter().all(|by| by.value.is_one())) {
            let message = "`keys_max` does nothing: all requests together are one key";
            cx.push(Diagnostic::warning("no-effect", keys.span, message).hint("remove it"));
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
        if !is_limit(node, cx, "") {
            return None;
        }
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
        if let Some(start) = node.get("week_starts").filter(|_| per != Period::Week) {
            let message = format!("`week_starts` does nothing: this quota counts by the {}", per.name());
            cx.push(Diagnostic::warning("no-effect", start.span, message).hint("remove it"));
        }
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
        rate_limit: Limits<PlanLimitShape> = absent,
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
        rate_limit: Limits<PlanLimitShape> = absent,
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
        let terms =
            entries.iter().map(|(name, node)| Some((name.value.clone(), Spanned::new(Terms::decode(node, cx)?, name.span))));
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
        rate_limit: Limits<PlanLimitShape> = absent,
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
