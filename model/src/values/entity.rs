//! Names of Cedar's things as routes write them: a type, an action, a resource with parameters of the path in its id. Whether a schema
//! has them is not known here.

use super::ValueError;
use super::template::{Part, Template};
use std::fmt;

/// Bytes of a type's name, namespaces included.
const TYPE_BYTES_MAX: usize = 256;

/// `GetOrder`, or `Ns::Action::"GetOrder"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ActionName {
    /// Absent: `Action`, in the namespace of the principal.
    pub kind: Option<String>,
    pub id: String,
}

/// `Order::"{tenant}/{id}"`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntityTemplate {
    pub kind: String,
    pub id: Template,
}

impl ActionName {
    pub fn parse(text: &str) -> Result<ActionName, ValueError> {
        if text.contains("::") {
            let (kind, id) = entity(text)?;
            return Ok(ActionName { kind: Some(kind), id });
        }
        check_id(text)?;
        Ok(ActionName { kind: None, id: text.to_owned() })
    }
}

impl EntityTemplate {
    /// An id has parameters of the path in it, and nothing else of a request: who makes it is the principal.
    pub fn parse(text: &str) -> Result<EntityTemplate, ValueError> {
        let (kind, id) = entity(text)?;
        let id = Template::parse(&id)?;
        if id.parts.iter().any(|part| matches!(part, Part::Variable(_))) {
            return Err(ValueError::new("only parameters of the path name a resource")
                .hint("write `Order::\"{id}\"`; policies find the rest in `principal` and `context`"));
        }
        // `{a}{b}` is the same for `1`, `23` and for `12`, `3`.
        if id.parts.windows(2).any(|pair| matches!(pair, [Part::Param(_), Part::Param(_)])) {
            return Err(ValueError::new("two parameters touch, and two resources could have one name")
                .hint("write something between them, as in `{tenant}/{id}`"));
        }
        Ok(EntityTemplate { kind, id })
    }
}

impl fmt::Display for ActionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Some(kind) => write!(f, "{kind}::\"{}\"", self.id),
            None => f.write_str(&self.id),
        }
    }
}

impl fmt::Display for EntityTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::\"{}\"", self.kind, self.id)
    }
}

/// `User`, or `Kitchen::User`.
pub fn parse_entity_type(text: &str) -> Result<String, ValueError> {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match text.len() <= TYPE_BYTES_MAX && text.split("::").all(is_name) {
        true => Ok(text.to_owned()),
        false => Err(ValueError::new(format!("`{text}` is no type of Cedar"))
            .hint("write its name as the schema does: `User`, or `Kitchen::User`")),
    }
}

/// Type and id, without its quotes.
fn entity(text: &str) -> Result<(String, String), ValueError> {
    let parts = text.split_once("::\"").and_then(|(kind, rest)| Some((kind, rest.strip_suffix('"')?)));
    let Some((kind, id)) = parts else {
        return Err(ValueError::new(format!("`{text}` is no name as Cedar has them"))
            .hint("write a type and a quoted id, as in 'Order::\"{id}\"'"));
    };
    check_id(id)?;
    Ok((parse_entity_type(kind)?, id.to_owned()))
}

fn check_id(id: &str) -> Result<(), ValueError> {
    if id.is_empty() {
        return Err(ValueError::new("an id is empty").hint("write one, as in 'Order::\"{id}\"'"));
    }
    if id.contains(['"', '\\']) || id.chars().any(char::is_control) {
        return Err(ValueError::new("an id has a `\"`, a `\\` or a control character in it")
            .hint("write it without: it is taken as it stands"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_short_or_whole() {
        for (text, kind, id) in [
            ("GetOrder", None, "GetOrder"),
            ("GET /orders", None, "GET /orders"),
            ("Action::\"GetOrder\"", Some("Action"), "GetOrder"),
            ("Kitchen::Action::\"a b\"", Some("Kitchen::Action"), "a b"),
        ] {
            let action = ActionName::parse(text).expect(text);
            assert_eq!((action.kind.as_deref(), action.id.as_str(), action.to_string().as_str()), (kind, id, text));
        }
        for text in
            ["", "Action::", "Action::GetOrder", "::\"a\"", "1a::\"b\"", "a b::\"c\"", "A::\"\"", "A::\"b", "A::\"b\"c\"", "a\\b"]
        {
            assert!(ActionName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_resource_is_named_by_the_path_alone() {
        let resource = EntityTemplate::parse("Shop::Order::\"{tenant}/{id}\"").expect("good");
        assert_eq!((resource.kind.as_str(), resource.id.params().collect::<Vec<_>>()), ("Shop::Order", vec!["tenant", "id"]));
        for (text, words) in [
            ("Order", "no name as Cedar"),
            ("Order::\"{a}{b}\"", "touch"),
            ("Order::\"{principal.subject}\"", "only parameters"),
            ("Order::\"{id\"", "never closed"),
            ("Or der::\"{id}\"", "no type"),
        ] {
            let error = EntityTemplate::parse(text).expect_err(text);
            assert!(error.message.contains(words), "{text}: {}", error.message);
        }
    }
}
