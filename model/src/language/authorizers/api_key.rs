//! `api_key`: where the key is.

use super::super::values::Text;
use crate::decode::{Cx, Defs, Shape, record, words};
use crate::document::{ApiKey, KeyPlace};
use crate::span::Spanned;
use crate::values::HeaderName;
use crate::yaml::Node;
use serde_json::Value;

pub(crate) enum Place {
    Header,
    Query,
    Cookie,
}

words! {
    /// In what part of a request the key is.
    Place {
        /// In a header.
        Header = "header",
        /// In the query, where logs of others may keep it.
        Query = "query",
        /// In a cookie.
        Cookie = "cookie",
    }
}

record! {
    /// A key that a consumer was given.
    "`api_key`" => struct RawApiKey {
        /// In what part of a request it is.
        place as "in": Place = "header",
        /// The name of the header, the query parameter or the cookie.
        name: Spanned<Text> = "x-api-key",
    }
}

/// `api_key`, with a name that can stand where it is to be.
pub(crate) struct ApiKeyShape;

impl Shape for ApiKeyShape {
    type Out = ApiKey;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<ApiKey> {
        if !cx.is_mapping(node, "`api_key`", "write `{ in: header, name: x-api-key }`") {
            return None;
        }
        let RawApiKey { place, name } = RawApiKey::decode(node, cx)?;
        let is_token = |text: &str| HeaderName::parse(text).is_ok();
        let place = match place {
            Place::Header => match HeaderName::parse(&name.value) {
                Ok(name) => KeyPlace::Header(name),
                Err(error) => {
                    cx.error("bad-value", name.span, error.message, error.hint.unwrap_or_else(|| "write `x-api-key`".to_owned()));
                    return None;
                }
            },
            // RFC 6265 §4.1.1: the name of a cookie is a token.
            Place::Cookie if !is_token(&name.value) => {
                let message = format!("`{}` cannot be the name of a cookie", name.value);
                cx.error("bad-value", name.span, message, "write letters, digits and `-`");
                return None;
            }
            Place::Cookie => KeyPlace::Cookie(name.value),
            Place::Query if name.value.is_empty() => {
                cx.error("bad-value", name.span, "the name of a query parameter is empty", "write `api_key`");
                return None;
            }
            Place::Query => KeyPlace::Query(name.value),
        };
        Some(ApiKey { place })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawApiKey::schema(defs)
    }
}
