//! Where in a request a credential is: `in` and `name`.

use super::super::values::Text;
use crate::decode::{Cx, Shape, words};
use crate::document::KeyPlace;
use crate::span::Spanned;
use crate::values::HeaderName;

pub(super) enum Place {
    Header,
    Query,
    Cookie,
}

words! {
    /// In what part of a request the credential is.
    Place {
        /// In a header.
        Header = "header",
        /// In the query, where logs of others may keep it.
        Query = "query",
        /// In a cookie.
        Cookie = "cookie",
    }
}

/// What a credential is called where nothing is written; where that is `None`, a name is demanded.
pub(super) struct Usual {
    pub header: &'static str,
    pub query: Option<&'static str>,
    /// What could be written.
    pub example: &'static str,
}

/// A name that can stand where it is to be.
pub(super) fn place(
    place: Spanned<Place>,
    name: Option<Spanned<<Text as Shape>::Out>>,
    usual: &Usual,
    cx: &mut Cx<'_>,
) -> Option<KeyPlace> {
    let (place, span, example) = (place.value, place.span, usual.example);
    let default = match place {
        Place::Header => Some(usual.header),
        Place::Query => usual.query,
        Place::Cookie => None,
    };
    let Some(name) = name.or_else(|| default.map(|name| Spanned::new(name.to_owned(), span))) else {
        cx.error("missing-key", span, "nothing says what the credential is called there", format!("add `name: {example}`"));
        return None;
    };
    let is_token = |text: &str| HeaderName::parse(text).is_ok();
    Some(match place {
        Place::Header => match HeaderName::parse(&name.value) {
            Ok(name) => KeyPlace::Header(name),
            Err(error) => {
                cx.error("bad-value", name.span, error.message, error.hint.unwrap_or_else(|| format!("write `{example}`")));
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
    })
}
