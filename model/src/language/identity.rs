//! `authenticate`, `authorize` and `consumers`.

use super::cedar::CedarShape;
use super::values::{Name, SecretText, Text};
use crate::decode::{Cx, Defs, Json, List, OneOrMany, Shape, record};
use crate::document::{Authenticate, Authorize, ClaimDemand, Consumer, Demand, Identity};
use crate::span::Spanned;
use crate::yaml::{Kind, Node};
use serde_json::{Value, json};

/// Names that no authorizer has.
pub(crate) const ANONYMOUS: &str = "anonymous";
pub(crate) const NONE: &str = "none";

/// `none`, or a list of authorizers.
pub(crate) struct AuthenticateShape;

impl Shape for AuthenticateShape {
    type Out = Authenticate;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Authenticate> {
        if matches!(&node.kind, Kind::Scalar(scalar) if scalar.text == NONE) {
            return Some(Authenticate::Open);
        }
        if let Kind::Scalar(scalar) = &node.kind
            && scalar.text == ANONYMOUS
        {
            let hint = "write `authenticate: none` to let in everyone, or name an authorizer before it: `[name, anonymous]`";
            cx.error("missing-value", node.span, "`anonymous` stands behind an authorizer", hint);
            return None;
        }
        let Kind::Sequence(items) = &node.kind else {
            return List::<Spanned<Name>>::decode(node, cx).map(|_| Authenticate::Open);
        };
        let names = List::<Spanned<Name>>::decode(node, cx)?;
        // A list that lost a name to a mistake must not become a wider door.
        if names.len() < items.len() {
            return None;
        }
        let (anonymous, authorizers): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.value == ANONYMOUS);
        if authorizers.is_empty() {
            let hint = "name an authorizer, or write `authenticate: none` if everyone may come in";
            cx.error("missing-value", node.span, "`authenticate` names no authorizer", hint);
            return None;
        }
        if let Some(none) = authorizers.iter().find(|name| name.value == NONE) {
            let hint = "write `authenticate: none` to open it, or `anonymous` to let in who shows nothing";
            cx.error("contradiction", none.span, "`none` stands alone", hint);
            return None;
        }
        Some(Authenticate::Any { authorizers, anonymous: !anonymous.is_empty() })
    }

    fn schema(defs: &mut Defs) -> Value {
        let names = List::<Name>::schema(defs);
        json!({ "anyOf": [{ "const": NONE }, names] })
    }
}

record! {
    /// Words to have: each of `all`, and one of `any`.
    "a demand" => struct RawDemand {
        /// Each of them.
        all: List<Text> = absent,
        /// At least one of them.
        any: List<Text> = absent,
    }
}

/// A list of which each is demanded, or `{ any: […] }`.
pub(crate) struct DemandShape;

impl Shape for DemandShape {
    type Out = Demand;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Demand> {
        for list in [Some(node), node.get("all"), node.get("any")].into_iter().flatten() {
            nothing(list, cx);
        }
        match &node.kind {
            Kind::Mapping(_) => RawDemand::decode(node, cx).map(|RawDemand { all, any }| Demand { all, any }),
            Kind::Scalar(_) | Kind::Sequence(_) | Kind::Poisoned => {
                List::<Text>::decode(node, cx).map(|all| Demand { all, any: Vec::new() })
            }
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        let list = List::<Text>::schema(defs);
        json!({ "anyOf": [list, RawDemand::schema(defs)] })
    }
}

/// Who demands nothing lets everybody in, and did not mean that.
fn nothing(node: &Node, cx: &mut Cx<'_>) {
    let is_empty = match &node.kind {
        Kind::Sequence(items) => items.is_empty(),
        Kind::Mapping(entries) => entries.is_empty(),
        Kind::Scalar(_) | Kind::Poisoned => false,
    };
    if is_empty {
        cx.error(
            "missing-value",
            node.span,
            "nothing is demanded here: everybody would meet it",
            "say what is, or remove the key",
        );
    }
}

/// `authorize`, which must demand something.
pub(crate) struct AuthorizeShape;

impl Shape for AuthorizeShape {
    type Out = Authorize;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Authorize> {
        for part in [Some(node), node.get("claims"), node.get("condition")].into_iter().flatten() {
            nothing(part, cx);
        }
        Authorize::decode(node, cx)
    }

    fn schema(defs: &mut Defs) -> Value {
        Authorize::schema(defs)
    }
}

/// A text, number or boolean, or a list of them of which one will do; `*` for anything.
pub(crate) struct ClaimShape;

impl Shape for ClaimShape {
    type Out = ClaimDemand;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<ClaimDemand> {
        let value = |node: &Node, cx: &mut Cx<'_>| match Json::decode(node, cx)? {
            value @ (Value::Bool(_) | Value::Number(_) | Value::String(_)) => Some(value),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                cx.expected(node, "a text, a number, a boolean, or `\"*\"`");
                None
            }
        };
        match &node.kind {
            Kind::Scalar(scalar) if scalar.text == "*" && scalar.origin.is_none() => Some(ClaimDemand::Present),
            Kind::Sequence(items) if items.is_empty() => {
                cx.error("missing-value", node.span, "no claim is one of nothing", "list what the claim may be");
                None
            }
            Kind::Sequence(items) => {
                if let Some(any) = items.iter().find(|item| matches!(&item.kind, Kind::Scalar(scalar) if scalar.text == "*")) {
                    cx.error("contradiction", any.span, "`*` stands alone", "write `\"*\"` without a list, or remove it");
                    return None;
                }
                let values = items.iter().map(|item| value(item, cx)).collect::<Vec<_>>();
                values.into_iter().collect::<Option<Vec<_>>>().map(ClaimDemand::OneOf)
            }
            Kind::Scalar(_) | Kind::Mapping(_) | Kind::Poisoned => value(node, cx).map(|one| ClaimDemand::OneOf(vec![one])),
        }
    }

    fn schema(_: &mut Defs) -> Value {
        let one = json!(["string", "number", "boolean"]);
        json!({ "anyOf": [{ "type": one }, { "type": "array", "items": { "type": one }, "minItems": 1 }] })
    }
}

/// Claims by path, to what each must be.
pub(crate) struct ClaimsShape;

impl Shape for ClaimsShape {
    type Out = Vec<(String, ClaimDemand)>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        let Kind::Mapping(entries) = &node.kind else {
            cx.expected(node, "a mapping of claims, such as `{ tenant: acme }`");
            return None;
        };
        // A demand that was lost to a mistake must not become a wider door.
        let demands = entries.iter().map(|(path, node)| Some((path.value.clone(), ClaimShape::decode(node, cx)?)));
        demands.collect::<Vec<_>>().into_iter().collect()
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({ "type": "object", "additionalProperties": ClaimShape::schema(defs) })
    }
}

/// A condition. Where the file has it as it reads its place is that of the text alone, without quotes: then a part of it can be pointed at.
pub(crate) struct ConditionShape;

impl Shape for ConditionShape {
    type Out = Spanned<String>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Spanned<String>> {
        let text = Text::decode(node, cx)?;
        let span = cx.outside.place_of(node.span, &text);
        Some(Spanned::new(text, span))
    }

    fn schema(defs: &mut Defs) -> Value {
        Text::schema(defs)
    }
}

record! {
    /// What whoever comes in must be: all of it.
    "`authorize`" => Authorize {
        /// OAuth scopes: a list of which each is needed, or `{ any: […] }`.
        scopes: DemandShape = absent,
        /// Groups, of the consumer or the credential: a list of which each is needed, or `{ any: […] }`.
        groups: DemandShape = absent,
        /// Claims by path, such as `realm.role`: what each must be, a list of what it may be, or `"*"` for anything.
        claims: ClaimsShape = absent,
        /// CEL over `request`, `principal`, `claims`, `path` and `consumer`: one, or a list of which each must hold.
        condition: OneOrMany<ConditionShape> = absent,
        /// Policies in Cedar, which must permit. Only in a build with the feature `cedar`.
        cedar: Option<Spanned<CedarShape>> = absent,
    }
}

record! {
    /// What an authorizer calls a consumer.
    "an identity" => Identity {
        /// Who vouches for it.
        authorizer: Spanned<Name> = required,
        /// What that authorizer calls it.
        subject: Text = required,
    }
}

record! {
    /// A registered caller.
    "a consumer" => Consumer {
        /// What it is given: a plan.
        plan: Option<Spanned<Name>> = absent,
        /// Groups that it belongs to.
        groups: List<Text> = absent,
        /// Its keys, by reference: `${env:NAME}` or `${file:path}`.
        api_keys: List<Spanned<SecretText>> = absent,
        /// What authorizers call it.
        identities: List<Spanned<Identity>> = absent,
    }
}
