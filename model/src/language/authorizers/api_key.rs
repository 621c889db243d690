//! `api_key`: where the key is.

use super::super::values::Text;
use super::place::{Place, place};
use crate::decode::{Cx, Defs, Shape, record};
use crate::document::ApiKey;
use crate::span::Spanned;
use crate::yaml::Node;
use serde_json::Value;

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
        let RawApiKey { place: part, name } = RawApiKey::decode(node, cx)?;
        Some(ApiKey { place: place(part, name, "x-api-key", cx)? })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawApiKey::schema(defs)
    }
}
