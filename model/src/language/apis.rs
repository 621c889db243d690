//! APIs: which hosts and paths, and the rules that all their routes share.

use super::protection::MaintenanceShape;
use super::routes::RouteForm;
use super::values::{BasePath, Duration, HeaderOrAny, Host, Method, Network, Origin};
use crate::decode::{Bool, Cx, Defs, List, Shape, record, words};
use crate::document::{Api, Cors, GatewayResponses, IpRules, Policies};
use crate::span::Spanned;
use crate::yaml::Node;
use serde_json::Value;

record! {
    /// Which origins scripts in browsers may call from, and with what.
    "`cors`" => Cors {
        /// Origins such as `https://app.example.com`, or `*` for any.
        origins: List<Origin> = required,
        /// Methods allowed.
        methods: List<Method> = "[GET, HEAD, POST]",
        /// Request headers allowed; `*` allows whatever is asked for.
        headers: List<HeaderOrAny> = absent,
        /// Response headers that scripts may read.
        expose: List<HeaderOrAny> = absent,
        /// Whether cookies and credentials may be sent along.
        credentials: Bool = "false",
        /// How long a browser may remember the answer to a preflight.
        max_age: Option<Duration> = absent,
    }
}

record! {
    /// Which client addresses may come in.
    "`ip`" => IpRules {
        /// Networks that may; empty for everyone who is not denied.
        allow: List<Network> = absent,
        /// Networks that may not; wins over `allow`.
        deny: List<Network> = absent,
    }
}

words! {
    /// How an API speaks of what goes wrong before or instead of a back end's answer.
    GatewayResponses {
        /// Problem details (RFC 9457).
        Problem = "problem",
        /// As a REST API of AWS API Gateway.
        AwsRest = "aws_rest",
        /// As an HTTP API of AWS API Gateway.
        AwsHttp = "aws_http",
    }
}

record! {
    /// A named set of routes.
    "an API" => Api {
        /// Hosts that it answers; left out for any.
        hosts: List<Spanned<Host>> = absent,
        /// A path before those of the routes, stripped before matching and forwarding.
        base_path: Spanned<BasePath> = "",
        /// Cross-origin rules of every route that has none of its own.
        cors: Option<Spanned<CorsShape>> = absent,
        /// Address rules of every route.
        ip: Option<Spanned<IpShape>> = absent,
        /// What every route has, unless it says otherwise.
        policies: Policies = absent,
        /// Answers 503 instead of asking back ends.
        maintenance: Option<MaintenanceShape> = absent,
        /// How the API speaks of what goes wrong before or instead of a back end's answer.
        gateway_responses: GatewayResponses = "problem",
        /// The routes; the most specific match wins, whatever the order.
        routes: List<Spanned<RouteForm>> = needed,
    }
}

/// `cors`, with what browsers would refuse refused here.
pub(crate) struct CorsShape;

impl Shape for CorsShape {
    type Out = Cors;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Cors> {
        let cors = Cors::decode(node, cx)?;
        let origins = node.get("origins").map_or(node.span, |origins| origins.span);
        let any = cors.origins.iter().any(|origin| origin == "*");
        if any && cors.credentials {
            let message = "`*` with `credentials: true` would let every site act as its visitor";
            cx.error("contradiction", origins, message, "list the origins, or remove `credentials`");
        }
        if any && cors.origins.len() > 1 {
            cx.error(
                "contradiction",
                origins,
                "`*` is every origin, and stands alone",
                "write `[\"*\"]`, or list the origins without it",
            );
        }
        Some(cors)
    }

    fn schema(defs: &mut Defs) -> Value {
        Cors::schema(defs)
    }
}

/// `ip`, which must say something.
pub(crate) struct IpShape;

impl Shape for IpShape {
    type Out = IpRules;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<IpRules> {
        let rules = IpRules::decode(node, cx)?;
        if node.get("allow").is_none() && node.get("deny").is_none() {
            cx.error("missing-value", node.span, "`ip` allows and denies nobody", "add `allow: [10.0.0.0/8]`, or remove it");
        }
        Some(rules)
    }

    fn schema(defs: &mut Defs) -> Value {
        IpRules::schema(defs)
    }
}
