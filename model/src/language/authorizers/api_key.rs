//! `api_key`: where the key is.

use super::super::values::Text;
use super::place::{Place, Usual, place};
use crate::decode::{Cx, Defs, Shape, record};
use crate::document::ApiKey;
use crate::span::Spanned;
use crate::yaml::Node;
use serde_json::Value;

record! {
    /// A key that a consumer was given.
    "`api_key`" => struct RawApiKey {
        /// In what part of a request it is.
        place as "in": Spanned<Place> = "header",
        /// The name of the header, the query parameter or the cookie [default: in a header, `x-api-key`].
        name: Option<Spanned<Text>> = absent,
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
        // A name that was wrong is no reason to look for another.
        if name.is_none() && node.get("name").is_some() {
            return None;
        }
        let usual = Usual { header: "x-api-key", query: None, example: "api_key" };
        Some(ApiKey { place: place(part, name, &usual, cx)? })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawApiKey::schema(defs)
    }
}
