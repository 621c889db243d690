//! `function`: a Lambda authorizer.

use super::super::values::{self, Name, Text};
use crate::decode::{Bool, Cx, Defs, List, Shape, record, texts, words};
use crate::document::{AuthorizerForm, ContextValue, FunctionAuthorizer, IdentitySource, KeyPlace};
use crate::span::Spanned;
use crate::values::{HeaderName, ValueError};
use crate::yaml::Node;
use serde_json::Value;
use std::time::Duration;

/// AWS's longest (reference: AWS API Gateway, `authorizerResultTtlInSeconds`).
const TTL_MAX: Duration = Duration::from_secs(3600);
/// AWS's own where nothing is said.
const TTL: Duration = Duration::from_secs(300);

/// What a function is asked about.
pub(crate) enum AuthorizerWord {
    Token,
    Request,
}

words! {
    /// What a function is asked about.
    AuthorizerWord {
        /// A token alone, as a REST API's TOKEN authorizer.
        Token = "token",
        /// The request, without its body.
        Request = "request",
    }
}

/// In which words a function is asked.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum AuthorizerEvent {
    Rest,
    V1,
    V2,
}

words! {
    /// In which words a function is asked.
    AuthorizerEvent {
        /// As a REST API.
        Rest = "rest",
        /// As an HTTP API, format 1.0.
        V1 = "v1",
        /// As an HTTP API, format 2.0.
        V2 = "v2",
    }
}

texts! {
    /// A part of a request: `header:NAME`, `query:NAME`, `cookie:NAME` or `context:NAME`.
    IdentityText => IdentitySource, parse_identity, "a part of the request such as `header:authorization`", "^(header|query|cookie|context):.+$";
}

record! {
    /// A function that says who may come in, as AWS's Lambda authorizers.
    "`function`" => struct RawFunctionAuthorizer {
        /// The function's name.
        name: Spanned<Name> = required,
        /// What it is asked about.
        kind: AuthorizerWord = "request",
        /// In which words [default: `v2`; `rest` with `kind: token`].
        event: Option<Spanned<AuthorizerEvent>> = absent,
        /// With `event: v2`: it answers yes or no, and with no policy.
        simple: Option<Spanned<Bool>> = absent,
        /// Parts of a request that it goes by; without each of them it is not asked. Its answer is remembered by them alone.
        identity: List<Spanned<IdentityText>> = "[\"header:authorization\"]",
        /// With `kind: token`: an expression that the whole token must match, or nobody is asked.
        validation: Option<Spanned<Text>> = absent,
        /// How long its answer is believed: at most 1h, and `0s` for not at all [default: 300s; `0s` without `identity`].
        ttl: Option<Spanned<values::Duration>> = absent,
    }
}

/// `function`, asked in words that go with what it is asked about.
pub(crate) struct FunctionAuthorizerShape;

impl Shape for FunctionAuthorizerShape {
    type Out = FunctionAuthorizer;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<FunctionAuthorizer> {
        if !cx.is_mapping(node, "`function`", "write `{ name: checker }`") {
            return None;
        }
        let RawFunctionAuthorizer { name, kind, event, simple, identity, validation, ttl } =
            RawFunctionAuthorizer::decode(node, cx)?;
        let form = form((&kind, event), simple, cx);
        let written = node.get("identity").map_or(node.span, |node| node.span);
        if form == AuthorizerForm::Token
            && !matches!(&identity[..], [Spanned { value: IdentitySource::Place(KeyPlace::Header(_)), .. }])
        {
            cx.error(
                "contradiction",
                written,
                "`kind: token` goes by exactly one header",
                "write `identity: [\"header:authorization\"]`",
            );
        }
        if let Some(validation) = validation.as_ref().filter(|_| form != AuthorizerForm::Token) {
            cx.error("contradiction", validation.span, "`validation` goes with `kind: token`", "remove it");
        }
        let ttl = match ttl {
            Some(ttl) if identity.is_empty() && !ttl.value.is_zero() => {
                let message = "an answer is remembered by `identity`, and there is none";
                cx.error("contradiction", ttl.span, message, "remove `ttl`, or name what the function goes by in `identity`");
                Duration::ZERO
            }
            Some(ttl) if ttl.value > TTL_MAX => {
                cx.error("out-of-range", ttl.span, "an answer is believed for an hour at most", "write `ttl: 1h` or less");
                TTL_MAX
            }
            Some(ttl) => ttl.value,
            None if identity.is_empty() => Duration::ZERO,
            None => TTL,
        };
        let identity = identity.into_iter().map(|source| source.value).collect();
        Some(FunctionAuthorizer { function: name, form, identity, validation, ttl })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawFunctionAuthorizer::schema(defs)
    }
}

fn form(
    (kind, event): (&AuthorizerWord, Option<Spanned<AuthorizerEvent>>),
    simple: Option<Spanned<bool>>,
    cx: &mut Cx<'_>,
) -> AuthorizerForm {
    let form = match (kind, event.as_ref().map(|event| event.value)) {
        (AuthorizerWord::Token, None | Some(AuthorizerEvent::Rest)) => AuthorizerForm::Token,
        (AuthorizerWord::Token, Some(AuthorizerEvent::V1 | AuthorizerEvent::V2)) => {
            if let Some(event) = &event {
                cx.error(
                    "contradiction",
                    event.span,
                    "HTTP APIs have no `kind: token`",
                    "remove `event`, or write `kind: request`",
                );
            }
            AuthorizerForm::Token
        }
        (AuthorizerWord::Request, Some(AuthorizerEvent::Rest)) => AuthorizerForm::Rest,
        (AuthorizerWord::Request, Some(AuthorizerEvent::V1)) => AuthorizerForm::HttpV1,
        (AuthorizerWord::Request, None | Some(AuthorizerEvent::V2)) => {
            return AuthorizerForm::HttpV2 { simple: simple.is_some_and(|simple| simple.value) };
        }
    };
    if let Some(simple) = simple {
        cx.error("contradiction", simple.span, "`simple` goes with `event: v2`: the others answer with a policy", "remove it");
    }
    form
}

fn parse_identity(text: &str) -> Result<IdentitySource, ValueError> {
    let hint = "write `header:NAME`, `query:NAME`, `cookie:NAME` or `context:NAME`";
    let wrong = |what: String| Err(ValueError::new(what).hint(hint));
    let Some((part, name)) = text.split_once(':').filter(|(_, name)| !name.is_empty()) else {
        return wrong(format!("`{text}` is no part of a request"));
    };
    let place = match part {
        "header" => KeyPlace::Header(HeaderName::parse(name)?),
        "query" => KeyPlace::Query(name.to_owned()),
        "cookie" if HeaderName::parse(name).is_ok() => KeyPlace::Cookie(name.to_owned()),
        "context" => {
            let known = ContextValue::ALL.into_iter().find(|value| value.name() == name);
            let names = || ContextValue::ALL.map(|value| format!("`{}`", value.name())).join(", ");
            return known.map(IdentitySource::Context).ok_or_else(|| {
                ValueError::new(format!("`{name}` is nothing that functions can go by"))
                    .hint(format!("write one of: {}", names()))
            });
        }
        "cookie" => return wrong(format!("`{name}` cannot be the name of a cookie")),
        _ => return wrong(format!("`{part}` is no part of a request")),
    };
    Ok(IdentitySource::Place(place))
}
