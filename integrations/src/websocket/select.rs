//! Which route a message wants: what stands at one path of its JSON. Builds no tree of the message, and a message that is no JSON wants
//! none.

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A text as it is; a number or a boolean as it is written. `None`: nothing of that kind stands there.
pub(super) fn select(message: &str, path: &[String]) -> Option<String> {
    let mut json = serde_json::Deserializer::from_str(message);
    let found = At(path).deserialize(&mut json).ok()?;
    json.end().ok()?;
    found
}

/// What stands behind these keys.
struct At<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl At<'_> {
    fn found<E>(&self, text: impl Into<String>) -> Result<Option<String>, E> {
        Ok(self.0.is_empty().then(|| text.into()))
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        self.found(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        self.found(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        self.found(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        self.found(value.to_string())
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        self.found(value)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    /// Of a key that stands twice the last counts, as nearly all readers have it.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = members.next_key::<Cow<'_, str>>()? {
            match self.0 {
                [first, rest @ ..] if *first == *key => found = members.next_value_seed(At(rest))?,
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The same, by way of a tree.
    fn plainly(message: &str, path: &[String]) -> Option<String> {
        let mut at: &Value = &serde_json::from_str(message).ok()?;
        for key in path {
            at = at.as_object()?.get(key)?;
        }
        match at {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) => Some(at.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    #[test]
    fn routes_by_what_messages_say() {
        for (message, path, wanted) in [
            (r#"{"action":"join"}"#, "action", Some("join")),
            (r#"{"action":"j\u00f6in"}"#, "action", Some("jöin")),
            (r#" {"room": {"action":"no"}, "action" : "join" } "#, "action", Some("join")),
            (r#"{"what":{"kind":"join","x":[1,{"kind":"no"}]}}"#, "what.kind", Some("join")),
            (r#"{"action":7}"#, "action", Some("7")),
            (r#"{"action":-7}"#, "action", Some("-7")),
            (r#"{"action":true}"#, "action", Some("true")),
            (r#"{"action":"a","action":"b"}"#, "action", Some("b")),
            (r#"{"action":null}"#, "action", None),
            (r#"{"action":["join"]}"#, "action", None),
            (r#"{"action":{"join":1}}"#, "action", None),
            (r#"{"what":"join"}"#, "what.kind", None),
            (r#"{"other":"join"}"#, "action", None),
            (r#"["action"]"#, "action", None),
            (r#""action""#, "action", None),
            ("hello", "action", None),
            (r#"{"action":"join"} and more"#, "action", None),
            (r#"{"action":"join""#, "action", None),
            ("", "action", None),
        ] {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            assert_eq!(select(message, &path).as_deref(), wanted, "{message}");
            assert_eq!(plainly(message, &path).as_deref(), wanted, "{message}, by way of a tree");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(
            select(&format!(r#"{{"x":{deep},"action":"join"}}"#), &["action".into()]).as_deref(),
            Some("join"),
            "nothing recurses into what is skipped"
        );
    }
}
