//! Routes: what is matched, and what answers.

use super::apis::{CorsShape, IpShape};
use super::endpoints::{EndpointUrl, is_url};
use super::identity::{AuthenticateShape, AuthorizeShape};
use super::limits::{LimitHeadersShape, Limits, RateLimitShape};
use super::protection::{MaintenanceShape, PriorityShape};
use super::values::{
    FixedHeader, HeaderTemplate, HeaderWord, Name, RedirectTemplate, RewriteTemplate, ShareText, Size, Text, Timeout,
};
use crate::decode::{
    Bool, Cx, Defs, HeaderMap, Json, List, QueryMap, ScalarOr, Setting, Shape, check_name, define, record, text, texts, whole,
    whole_schema,
};
use crate::diagnostics::Diagnostic;
use crate::document::{
    HeaderEdits, Integration, Match, Mirror, Policies, ProxyTarget, Redirect, Respond, RespondBody, Route, Transform, ValueMatch,
    WebSocket, When,
};
use crate::span::{Span, Spanned};
use crate::values::{HeaderName, PathTemplate, Template, ValueError, parse_method};
use crate::yaml::{Entry, Kind, Node, Scalar};
use serde_json::{Value, json};

texts! {
    /// Methods and a path: `GET /orders/{id}`, `GET,HEAD /x` or `ANY /x`. `{name}` takes one segment, `{rest+}` all that remain.
    MatchText => Match, parse_match, "a match such as `GET /menu`", "^[A-Z0-9!#$%&'*+.^_`|~,-]+ /";
    /// A value to be equal to, or `*` for any.
    ValueText => ValueMatch, parse_value_match, "a value, or `*`", "";
}

record! {
    /// More conditions on a request; all must hold.
    "`when`" => When {
        /// Header names, and the value each must have; `*` for any.
        headers: HeaderMap<ValueText> = absent,
        /// Query parameters, and the value each must have; `*` for any.
        query: QueryMap<ValueText> = absent,
    }
}

record! {
    /// Headers to alter, in this order: remove, set, add.
    "`headers`" => HeaderEdits {
        /// Headers to take away.
        remove: List<HeaderWord> = absent,
        /// Headers to replace.
        set: HeaderMap<Spanned<HeaderTemplate>> = absent,
        /// Headers to add to what is there.
        add: HeaderMap<Spanned<HeaderTemplate>> = absent,
    }
}

record! {
    /// What to alter.
    "one side of `transform`" => struct RawTransformSide {
        /// Headers to alter.
        headers: HeaderEdits = absent,
    }
}

record! {
    /// What to alter in requests and responses.
    "`transform`" => struct RawTransform {
        /// On the way to the upstream.
        request: Option<RawTransformSide> = absent,
        /// On the way back to the client.
        response: Option<RawTransformSide> = absent,
    }
}

record! {
    /// What every route of the API has, unless it says otherwise.
    "`policies`" => Policies {
        /// Until the head of the response.
        timeout: Option<Timeout> = absent,
        /// The longest body of a request.
        body_bytes: Option<Size> = absent,
        /// What to alter in requests and responses.
        transform: Option<Spanned<TransformShape>> = absent,
        /// Who decides who it is: authorizers, of which the first that finds its credential decides; `anonymous` as the last lets in who
        /// shows none.
        authenticate: Option<Spanned<AuthenticateShape>> = absent,
        /// What whoever comes in must be.
        authorize: Option<Setting<Spanned<AuthorizeShape>>> = absent,
        /// How often requests may come: one limit, or a list of which each must admit.
        rate_limit: Option<Setting<Limits<RateLimitShape>>> = absent,
        /// How answers say what is left of limits: one way or several, or `none`; default `draft`.
        rate_limit_headers: Option<LimitHeadersShape> = absent,
    }
}

record! {
    /// An answer from here, without upstream.
    "`respond`" => struct RawRespond {
        /// The status, 200 to 599.
        status: Status = "200",
        /// Headers of the answer.
        headers: HeaderMap<FixedHeader> = absent,
        /// A body of `text/plain`.
        text: Option<Spanned<Text>> = absent,
        /// A body of `application/json`.
        json: Option<Spanned<Json>> = absent,
    }
}

record! {
    /// A redirect.
    "`redirect`" => Redirect {
        /// A path, or an absolute URL.
        to: RedirectTemplate = required,
        /// 301, 302, 303, 307 or 308.
        status: RedirectStatus = "308",
    }
}

record! {
    /// A copy of requests to another upstream, whose answers nobody sees.
    "`mirror`" => struct RawMirror {
        /// The upstream that gets the copies: its name, or a URL.
        to: Spanned<Target> = required,
        /// How many of the requests.
        share: ShareText = "100%",
    }
}

record! {
    /// A route in long form. Exactly one of `proxy`, `function`, `websocket`, `respond` and `redirect`.
    "a route" => struct RawRoute {
        /// Methods and path.
        matcher as "match": Spanned<MatchText> = required,
        /// A name for logs and metrics, unique in its API.
        name: Option<Spanned<Name>> = absent,
        /// More conditions; the most specific route wins.
        when: When = absent,
        /// The upstream that answers: its name, or a URL.
        proxy: Option<Spanned<Target>> = absent,
        /// The function that answers: its name.
        function: Option<Spanned<Name>> = absent,
        /// Clients that stay, and functions that answer what they say.
        websocket: Option<Spanned<WebSocket>> = absent,
        /// An answer from here, without upstream.
        respond: Option<Spanned<RespondShape>> = absent,
        /// A redirect: where to, or a mapping.
        redirect: Option<Spanned<ScalarOr<RedirectShort, Redirect>>> = absent,
        /// The path sent to the upstream.
        rewrite: Option<Spanned<RewriteTemplate>> = absent,
        /// Until the head of the response.
        timeout: Option<Timeout> = absent,
        /// The longest body of a request.
        body_bytes: Option<Size> = absent,
        /// What to alter in requests and responses; replaces the API's.
        transform: Option<Spanned<TransformShape>> = absent,
        /// Who decides who it is; replaces the API's. `none` opens the route.
        authenticate: Option<Spanned<AuthenticateShape>> = absent,
        /// What whoever comes in must be, beside what the API demands; `none` drops that.
        authorize: Option<Setting<Spanned<AuthorizeShape>>> = absent,
        /// How often requests may come, beside what the API says; `none` drops that.
        rate_limit: Option<Setting<Limits<RateLimitShape>>> = absent,
        /// How answers say what is left of limits; replaces the API's.
        rate_limit_headers: Option<LimitHeadersShape> = absent,
        /// Cross-origin rules; replace the API's, or `none`.
        cors: Option<Setting<Spanned<CorsShape>>> = absent,
        /// Address rules beside the API's, or `none`.
        ip: Option<Setting<Spanned<IpShape>>> = absent,
        /// A copy of requests to another upstream; with `proxy`.
        mirror: Option<MirrorShape> = absent,
        /// Who is served first where requests wait for their upstream: 0 to 15, or `header:NAME` of trusted proxies. Higher ones first.
        priority: Option<PriorityShape> = absent,
        /// Whether a request may be repeated, whatever its method says.
        idempotent: Option<Bool> = absent,
        /// Answers 503 instead of asking the back end; replaces the API's.
        maintenance: Option<MaintenanceShape> = absent,
    }
}

/// A route, in either form.
pub(crate) struct RouteForm;

impl Shape for RouteForm {
    type Out = Route;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Route> {
        let entries = match &node.kind {
            Kind::Mapping(entries) => entries,
            Kind::Scalar(scalar) if scalar.text.contains(" /") => {
                let hint = match scalar.shown().split_once(": ") {
                    // All of it in quotes is one text.
                    Some((matcher, target)) if matcher.contains('{') => {
                        format!("quote the first part alone: `\"{matcher}\": {target}`")
                    }
                    Some((matcher, target)) => format!("leave the quotes away: `{matcher}: {target}`"),
                    None => format!("write `{}: kitchen`, with the name of an upstream", scalar.shown()),
                };
                cx.error("missing-value", node.span, "the route says not what answers it", hint);
                return None;
            }
            Kind::Scalar(_) | Kind::Sequence(_) | Kind::Poisoned => {
                cx.expected(node, "a route such as `GET /menu: kitchen`");
                return None;
            }
        };
        match entries.iter().find(|(key, _)| is_short(&key.value)) {
            Some(short) if entries.len() == 1 => short_form(short, cx),
            Some((key, _)) => {
                let hint = format!("write `match: {}`, and `proxy: …` for what it is sent to", key.value);
                cx.error("mixed-forms", key.span, "a route in short form has no other keys", hint);
                None
            }
            None => long_form(node, cx),
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        let target = Target::schema(defs);
        let long = RawRoute::schema(defs);
        let short = define(defs, "ShortRoute", |_| {
            json!({
                "description": "A route in short form: `GET /menu: kitchen`.",
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "patternProperties": { "^[A-Z0-9!#$%&'*+.^_`|~,-]+ /": { "anyOf": [target, { "type": "string", "pattern": "^function [A-Za-z0-9_-]{1,64}$" }] } },
                "additionalProperties": false,
            })
        });
        json!({ "anyOf": [short, long] })
    }
}

/// No key of the long form has a space or a slash.
fn is_short(key: &str) -> bool {
    key.contains([' ', '/'])
}

fn short_form((key, value): &Entry, cx: &mut Cx<'_>) -> Option<Route> {
    if matches!(value.kind, Kind::Mapping(_)) {
        let hint = format!("write `match: {}`, and the rest beside it", key.value);
        cx.error("mixed-forms", key.span, "a route in short form names an upstream or a function, and nothing else", hint);
        return None;
    }
    let integration = short_integration(value, cx);
    let matcher = match parse_match(&key.value) {
        Ok(matcher) => Spanned::new(matcher, key.span),
        Err(error) => {
            cx.push(Diagnostic { hint: error.hint, ..Diagnostic::error("bad-value", key.span, error.message) });
            return None;
        }
    };
    Some(Route {
        matcher,
        name: None,
        when: When::default(),
        integration: integration?,
        rewrite: None,
        policies: Policies::default(),
        cors: None,
        ip: None,
        mirror: None,
        priority: None,
        idempotent: None,
        maintenance: None,
    })
}

/// The word before the name of a function in short form.
const FUNCTION_WORD: &str = "function ";

/// The name of an upstream, a URL, or `function NAME`.
fn short_integration(value: &Node, cx: &mut Cx<'_>) -> Option<Spanned<Integration>> {
    let Kind::Scalar(Scalar { text: written, .. }) = &value.kind else {
        return Spanned::<Target>::decode(value, cx).map(|target| target.map(Integration::Proxy));
    };
    let Some(name) = written.strip_prefix(FUNCTION_WORD) else {
        return Spanned::<Target>::decode(value, cx).map(|target| target.map(Integration::Proxy));
    };
    match check_name(name.trim()) {
        Ok(()) => Some(Spanned::new(Integration::Function(name.trim().to_owned()), value.span)),
        Err((message, hint)) => {
            cx.error("bad-name", value.span, message, hint);
            None
        }
    }
}

fn long_form(node: &Node, cx: &mut Cx<'_>) -> Option<Route> {
    let RawRoute {
        matcher,
        name,
        when,
        proxy,
        function,
        websocket,
        respond,
        redirect,
        rewrite,
        timeout,
        body_bytes,
        transform,
        authenticate,
        authorize,
        rate_limit,
        rate_limit_headers,
        cors,
        ip,
        mirror,
        priority,
        idempotent,
        maintenance,
    } = RawRoute::decode(node, cx)?;
    let is_proxy = proxy.is_some();
    let choices = [
        proxy.map(|proxy| proxy.map(Integration::Proxy)),
        function.map(|function| function.map(Integration::Function)),
        websocket.map(|websocket| websocket.map(|websocket| Integration::WebSocket(Box::new(websocket)))),
        respond.map(|respond| respond.map(Integration::Respond)),
        redirect.map(|redirect| redirect.map(Integration::Redirect)),
    ];
    let mut chosen = choices.into_iter().flatten();
    let Some(integration) = chosen.next() else {
        if ["proxy", "function", "websocket", "respond", "redirect"].iter().all(|key| node.get(key).is_none()) {
            let message = "the route says not what answers it";
            cx.error(
                "missing-key",
                matcher.span,
                message,
                "add `proxy: …`, `function: …`, `websocket: …`, `respond: …` or `redirect: …`",
            );
        }
        return None;
    };
    if let Some(second) = chosen.next() {
        let message = "a route has exactly one of `proxy`, `function`, `websocket`, `respond` and `redirect`";
        let diagnostic = Diagnostic::error("contradiction", second.span, message).hint("remove one of them");
        cx.push(diagnostic.also(integration.span, "the other stands here"));
        return None;
    }
    if let Integration::WebSocket(_) = &integration.value
        && !(matcher.methods.is_empty() || matcher.methods.iter().any(|method| method == "GET"))
    {
        let message = "a WebSocket begins with a GET, which this route does not take";
        cx.error("contradiction", matcher.span, message, format!("write `GET {}`", matcher.path));
    }
    if let Some(rewrite) = rewrite.as_ref().filter(|_| !is_proxy) {
        cx.error("contradiction", rewrite.span, "`rewrite` goes with `proxy`: nothing is sent on here", "remove `rewrite`");
    }
    for key in ["mirror", "priority", "idempotent"] {
        if let Some(found) = node.get(key).filter(|_| !is_proxy) {
            let message = format!("`{key}` goes with `proxy`: nothing is sent on here");
            cx.error("contradiction", found.span, message, format!("remove `{key}`"));
        }
    }
    let policies = Policies { timeout, body_bytes, transform, authenticate, authorize, rate_limit, rate_limit_headers };
    Some(Route { matcher, name, when, integration, rewrite, policies, cors, ip, mirror, priority, idempotent, maintenance })
}

fn parse_match(text: &str) -> Result<Match, ValueError> {
    let (methods, path) = match text.split_once(' ') {
        Some((methods, path)) => (methods, path),
        None if text.starts_with('/') => {
            return Err(ValueError::new(format!("`{text}` names no method")).hint(format!("write `GET {text}` or `ANY {text}`")));
        }
        None => return Err(ValueError::new(format!("`{text}` is not a match")).hint("write method and path: `GET /menu`")),
    };
    if let Some(method) = methods.strip_suffix(',') {
        return Err(ValueError::new("methods are separated by a comma alone").hint(format!("write `{method},{path}`")));
    }
    let path = PathTemplate::parse(path.trim_start_matches(' '))?;
    if methods == "ANY" {
        return Ok(Match { methods: Vec::new(), path });
    }
    let mut list = Vec::new();
    for method in methods.split(',') {
        let method = parse_method(method).map_err(|error| match methods.to_ascii_uppercase() {
            upper if upper != methods && parse_method(&method.to_ascii_uppercase()).is_ok() => {
                error.hint(format!("write `{upper} {path}`"))
            }
            _ => error,
        })?;
        if method == "ANY" {
            return Err(ValueError::new("`ANY` stands alone").hint(format!("write `ANY {path}`")));
        }
        if list.contains(&method) {
            return Err(ValueError::new(format!("the method `{method}` stands twice")).hint("remove one of them"));
        }
        list.push(method);
    }
    Ok(Match { methods: list, path })
}

fn parse_value_match(text: &str) -> Result<ValueMatch, ValueError> {
    Ok(if text == "*" { ValueMatch::Present } else { ValueMatch::Exact(text.to_owned()) })
}

/// The name of an upstream, or a URL.
pub(crate) struct Target;

impl Shape for Target {
    type Out = ProxyTarget;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<ProxyTarget> {
        if matches!(&node.kind, Kind::Scalar(scalar) if is_url(&scalar.text)) {
            return EndpointUrl::decode(node, cx).map(ProxyTarget::Url);
        }
        text(node, cx, "the name of an upstream, or a URL", |scalar: &Scalar| match check_name(&scalar.text) {
            Ok(()) => Ok(ProxyTarget::Named(scalar.text.clone())),
            Err((message, _)) => Err(ValueError::new(message).hint("write the name of an upstream, or `http://127.0.0.1:9001`")),
        })
    }

    fn schema(defs: &mut Defs) -> Value {
        crate::decode::named(
            defs,
            "Target",
            &["The name of an upstream, or a URL."],
            "^([A-Za-z0-9_-]{1,64}|https?://.+|unix:.+)$",
        )
    }
}

pub(crate) struct MirrorShape;

impl Shape for MirrorShape {
    type Out = Spanned<Mirror>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Spanned<Mirror>> {
        if !cx.is_mapping(node, "`mirror`", "write `{ to: kitchen, share: 10% }`") {
            return None;
        }
        let RawMirror { to, share } = RawMirror::decode(node, cx)?;
        Some(Spanned::new(Mirror { to: to.value, share }, to.span))
    }

    fn schema(defs: &mut Defs) -> Value {
        RawMirror::schema(defs)
    }
}

/// Where to, with the usual status.
pub(crate) struct RedirectShort;

impl Shape for RedirectShort {
    type Out = Redirect;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Redirect> {
        RedirectTemplate::decode(node, cx).map(|to| Redirect { to, status: 308 })
    }

    fn schema(defs: &mut Defs) -> Value {
        RedirectTemplate::schema(defs)
    }
}

pub(crate) struct Status;

impl Shape for Status {
    type Out = u16;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<u16> {
        whole(node, cx, 200, 599).and_then(|number| u16::try_from(number).ok())
    }

    fn schema(defs: &mut Defs) -> Value {
        whole_schema(defs, 200, 599)
    }
}

pub(crate) struct RedirectStatus;

const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

impl Shape for RedirectStatus {
    type Out = u16;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<u16> {
        let number = whole(node, cx, 301, 308).and_then(|number| u16::try_from(number).ok())?;
        if !REDIRECTS.contains(&number) {
            cx.error("out-of-range", node.span, format!("{number} is not a redirect"), "write 301, 302, 303, 307 or 308");
            return None;
        }
        Some(number)
    }

    fn schema(defs: &mut Defs) -> Value {
        crate::decode::or_reference(defs, json!({ "enum": REDIRECTS }))
    }
}

/// Headers that frame the message or belong to one connection: whoever set them would break what others rely on.
pub(super) const FRAMING: [&str; 9] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"];

fn refuse_framing(name: &HeaderName, span: Span, cx: &mut Cx<'_>) {
    if FRAMING.contains(&name.as_str()) {
        let message = format!("the header `{name}` belongs to the connection, and is written by the gateway");
        cx.error("framing-header", span, message, "remove it");
    }
}

fn key_span(map: Option<&Node>, name: &HeaderName) -> Option<Span> {
    match &map?.kind {
        Kind::Mapping(entries) => {
            entries.iter().find(|(key, _)| key.value.eq_ignore_ascii_case(name.as_str())).map(|(key, _)| key.span)
        }
        Kind::Scalar(_) | Kind::Sequence(_) | Kind::Poisoned => None,
    }
}

pub(crate) struct RespondShape;

impl Shape for RespondShape {
    type Out = Respond;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Respond> {
        let RawRespond { status, headers, text, json } = RawRespond::decode(node, cx)?;
        for (name, _) in &headers {
            refuse_framing(name, key_span(node.get("headers"), name).unwrap_or(node.span), cx);
        }
        let place = text.as_ref().map(|text| text.span).or(json.as_ref().map(|json| json.span));
        let body = match (text, json) {
            (Some(text), Some(json)) => {
                let diagnostic = Diagnostic::error("contradiction", json.span, "an answer has either `text` or `json`");
                cx.push(diagnostic.hint("remove one of them").also(text.span, "the other stands here"));
                return None;
            }
            (Some(text), None) => RespondBody::Text(text.value),
            (None, Some(json)) => RespondBody::Json(json.value),
            (None, None) => RespondBody::Empty,
        };
        if let (204 | 205 | 304, Some(span)) = (status, place) {
            cx.error(
                "contradiction",
                span,
                format!("an answer of status {status} has no body"),
                "remove the body, or change `status`",
            );
        }
        Some(Respond { status, headers, body })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawRespond::schema(defs)
    }
}

pub(crate) struct TransformShape;

impl Shape for TransformShape {
    type Out = Transform;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Transform> {
        let RawTransform { request, response } = RawTransform::decode(node, cx)?;
        let request = request.map(|side| side.headers).unwrap_or_default();
        let response = response.map(|side| side.headers).unwrap_or_default();
        for edits in [&request, &response] {
            for (name, value) in edits.set.iter().chain(&edits.add) {
                refuse_framing(name, value.span, cx);
            }
        }
        for (name, value) in request.set.iter().chain(&request.add).filter(|(name, _)| name.as_str() == "host") {
            let message = format!("the header `{name}` is chosen by the upstream");
            cx.error("framing-header", value.span, message, "write `host: …` in the upstream");
        }
        refuse_clash(&request, cx);
        refuse_clash(&response, cx);
        Some(Transform { request, response })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawTransform::schema(defs)
    }
}

/// `add` after `set` of the same name is one header sent twice, which nobody means.
fn refuse_clash(edits: &HeaderEdits, cx: &mut Cx<'_>) {
    for (name, value) in &edits.add {
        if let Some((_, set)) = edits.set.iter().find(|(other, _)| other == name) {
            clash(name, value, set, cx);
        }
    }
}

fn clash(name: &HeaderName, added: &Spanned<Template>, set: &Spanned<Template>, cx: &mut Cx<'_>) {
    let diagnostic = Diagnostic::error("contradiction", added.span, format!("the header `{name}` is both set and added"));
    cx.push(diagnostic.hint("keep one of them").also(set.span, "set here"));
}
