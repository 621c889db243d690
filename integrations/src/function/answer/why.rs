//! Why a result that is JSON is no response: it is read once more, member by member, where it could not be used. Repeats names and statuses of
//! the result, and never another value: what it says goes to the log.

use super::result::FIELDS_MAX;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

/// Members that are looked at; a result may have millions.
const LOOKED_AT_MAX: usize = 4096;
/// Of a name, in words for the log.
const NAME_CHARS_MAX: usize = 64;
/// Below the result itself: a map of fields, and the list of one field's values.
const DEPTH: u8 = 3;

/// `None`: it has none of the flaws that can be named.
pub fn of(result: &[u8], is_rest: bool) -> Option<String> {
    let left = Cell::new(LOOKED_AT_MAX);
    let look = Look { depth: DEPTH, left: &left };
    let whole = look.deserialize(&mut serde_json::Deserializer::from_slice(result)).ok()?;
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in &whole.members {
        let is_known = KEYS.contains(&name.as_str()) && !(is_rest && ELSEWHERE.contains(&name.as_str()));
        if is_rest && !is_known {
            let name = quoted(name);
            return Some(format!(
                "{name} is no key of a result with `event: v1`, which has statusCode, headers, multiValueHeaders, isBase64Encoded and body"
            ));
        }
        if is_known && seen.contains(&name.as_str()) {
            return Some(format!("`{name}` stands twice"));
        }
        seen.push(name);
        if let Some(flaw) = flaw(name, value) {
            return Some(flaw);
        }
    }
    None
}

const KEYS: &[&str] = &["statusCode", "statusDescription", "headers", "multiValueHeaders", "cookies", "isBase64Encoded", "body"];
/// What a REST API does not know of them.
const ELSEWHERE: &[&str] = &["statusDescription", "cookies"];

fn flaw(name: &str, value: &Seen) -> Option<String> {
    let found = value.kind.text();
    match (name, value.kind) {
        (_, Kind::Null) => None,
        ("statusCode", Kind::Whole(status)) if !(200..=599).contains(&status) => {
            Some(format!("`statusCode` must be 200 to 599; {status} is here"))
        }
        ("statusCode", Kind::Whole(_)) => None,
        ("statusCode", _) => Some(format!("`statusCode` must be a number from 200 to 599; {found} is here")),
        ("statusDescription" | "body", Kind::Text) | ("isBase64Encoded", Kind::Boolean) => None,
        ("body", _) => {
            Some(format!("`body` must be a string; {found} is here: use json.dumps (Python) or JSON.stringify (Node)"))
        }
        ("statusDescription", _) => Some(format!("`{name}` must be a string; {found} is here")),
        ("isBase64Encoded", _) => Some(format!("`{name}` must be true or false; {found} is here")),
        ("headers" | "multiValueHeaders", Kind::Object) => fields(name, value),
        ("headers" | "multiValueHeaders", _) => Some(format!("`{name}` must be an object; {found} is here")),
        ("cookies", Kind::List) => list("`cookies`", value),
        ("cookies", _) => Some(format!("`cookies` must be a list of strings; {found} is here")),
        _ => None,
    }
}

fn fields(map: &str, value: &Seen) -> Option<String> {
    if value.members.len() > FIELDS_MAX {
        return Some(format!("`{map}` has more than {FIELDS_MAX} entries"));
    }
    value.members.iter().find_map(|(name, value)| {
        let (place, found) = (format!("{} in `{map}`", quoted(name)), value.kind.text());
        match (map, value.kind) {
            (_, Kind::Null) => None,
            ("headers", Kind::List) => Some(format!("{place} must be a string; a list is here: join it by commas")),
            ("headers", Kind::Object) => Some(format!("{place} must be a string; {found} is here")),
            ("multiValueHeaders", Kind::List) => list(&place, value),
            ("multiValueHeaders", _) => Some(format!("{place} must be a list of strings; {found} is here")),
            _ => None,
        }
    })
}

fn list(place: &str, value: &Seen) -> Option<String> {
    if value.members.len() > FIELDS_MAX {
        return Some(format!("{place} has more than {FIELDS_MAX} entries"));
    }
    let wrong = value.members.iter().find(|(_, item)| matches!(item.kind, Kind::List | Kind::Object))?;
    Some(format!("{place} must be a list of strings; {} is in it", wrong.1.kind.text()))
}

/// As it may stand in one line.
fn quoted(name: &str) -> String {
    let shown: String = name.chars().take(NAME_CHARS_MAX).map(|char| if char.is_control() { ' ' } else { char }).collect();
    format!("`{shown}`")
}

/// A value without what it says.
struct Seen {
    kind: Kind,
    /// Items of a list have no name.
    members: Vec<(String, Seen)>,
}

impl From<Kind> for Seen {
    fn from(kind: Kind) -> Seen {
        Seen { kind, members: Vec::new() }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Null,
    Boolean,
    Whole(i64),
    Number,
    Text,
    List,
    Object,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "true or false",
            Kind::Whole(_) | Kind::Number => "a number",
            Kind::Text => "a string",
            Kind::List => "a list",
            Kind::Object => "an object",
        }
    }
}

#[derive(Clone, Copy)]
struct Look<'a> {
    depth: u8,
    left: &'a Cell<usize>,
}

impl Look<'_> {
    /// What is one deeper, where that is looked at.
    fn deeper(self) -> Option<Self> {
        let depth = self.depth.checked_sub(1)?;
        self.left.set(self.left.get().checked_sub(1)?);
        Some(Look { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Kind::Null.into())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(Kind::Boolean.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Seen, E> {
        Ok(i64::try_from(number).map_or(Kind::Number, Kind::Whole).into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Seen, E> {
        Ok(Kind::Whole(number).into())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Kind::Number.into())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Seen, E> {
        Ok(Kind::Text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Seen, A::Error> {
        let mut members = Vec::new();
        loop {
            let Some(deeper) = self.deeper() else {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                break;
            };
            match items.next_element_seed(deeper)? {
                Some(item) => members.push((String::new(), item)),
                None => break,
            }
        }
        Ok(Seen { kind: Kind::List, members })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Seen, A::Error> {
        let mut members = Vec::new();
        loop {
            let Some(deeper) = self.deeper() else {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                break;
            };
            match entries.next_key()? {
                Some(name) => members.push((name, entries.next_value_seed(deeper)?)),
                None => break,
            }
        }
        Ok(Seen { kind: Kind::Object, members })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_what_is_wanted() {
        for (result, wanted) in [
            (
                r#"{"statusCode":200,"body":{"a":1}}"#,
                "`body` must be a string; an object is here: use json.dumps (Python) or JSON.stringify (Node)",
            ),
            (r#"{"body":7}"#, "`body` must be a string; a number is here: use json.dumps (Python) or JSON.stringify (Node)"),
            (r#"{"statusCode":99}"#, "`statusCode` must be 200 to 599; 99 is here"),
            (r#"{"statusCode":-5}"#, "`statusCode` must be 200 to 599; -5 is here"),
            (r#"{"statusCode":"secret"}"#, "`statusCode` must be a number from 200 to 599; a string is here"),
            (r#"{"statusCode":200.5}"#, "`statusCode` must be a number from 200 to 599; a number is here"),
            (r#"{"statusCode":200,"statusCode":201}"#, "`statusCode` stands twice"),
            (r#"{"headers":["a"]}"#, "`headers` must be an object; a list is here"),
            (r#"{"headers":{"x":"1","a":["x"]}}"#, "`a` in `headers` must be a string; a list is here: join it by commas"),
            (r#"{"headers":{"a":{}}}"#, "`a` in `headers` must be a string; an object is here"),
            (r#"{"multiValueHeaders":{"x":"a"}}"#, "`x` in `multiValueHeaders` must be a list of strings; a string is here"),
            (r#"{"multiValueHeaders":{"x":[["a"]]}}"#, "`x` in `multiValueHeaders` must be a list of strings; a list is in it"),
            (r#"{"cookies":"a=1"}"#, "`cookies` must be a list of strings; a string is here"),
            (r#"{"isBase64Encoded":"true"}"#, "`isBase64Encoded` must be true or false; a string is here"),
        ] {
            assert_eq!(of(result.as_bytes(), false).as_deref(), Some(wanted), "{result}");
        }
        let known = of(br#"{"statusCode":200,"wrong\n":1}"#, true).unwrap();
        assert!(known.starts_with("`wrong ` is no key of a result with `event: v1`, which has statusCode, "), "{known}");
        assert!(of(br#"{"cookies":[]}"#, true).unwrap().starts_with("`cookies` is no key"));
    }

    #[test]
    fn what_is_well_has_no_flaw_and_what_is_large_is_not_kept() {
        for result in [r#"{"statusCode":200,"body":null,"headers":{"a":1,"b":null},"other":[{}]}"#, "{", "no JSON", r#""text""#] {
            assert_eq!(of(result.as_bytes(), false), None, "{result}");
        }
        let many = (0..=FIELDS_MAX).map(|number| format!(r#""x{number}":1"#)).collect::<Vec<_>>().join(",");
        assert_eq!(of(format!(r#"{{"headers":{{{many}}}}}"#).as_bytes(), false).unwrap(), "`headers` has more than 256 entries");
        let large = format!(r#"{{"other":[{}1],"body":[]}}"#, "1,".repeat(2 * LOOKED_AT_MAX));
        assert_eq!(of(large.as_bytes(), false), None);
    }
}
