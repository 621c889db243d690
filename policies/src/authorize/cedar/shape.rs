//! What a schema wants to know of a request: the types of principals and contexts, read from Cedar's own JSON of it. Whether the gateway
//! knows that is found out here too, when the schema is loaded.

use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Types in types.
const DEPTH_MAX: usize = 16;
/// Types of one schema, each counted wherever it is used: Cedar writes them out.
const TYPES_MAX: usize = 100_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    Text,
    Whole,
    Flag,
    Ip,
    Decimal,
    Datetime,
    Duration,
    Entity,
    Set(Box<Shape>),
    Record(Vec<Field>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: Box<str>,
    pub required: bool,
    pub shape: Shape,
}

impl Shape {
    /// As the schema has it.
    pub fn words(&self) -> &'static str {
        match self {
            Shape::Text => "String",
            Shape::Whole => "Long",
            Shape::Flag => "Bool",
            Shape::Ip => "ipaddr",
            Shape::Decimal => "decimal",
            Shape::Datetime => "datetime",
            Shape::Duration => "duration",
            Shape::Entity => "Entity",
            Shape::Set(element) if **element == Shape::Text => "Set<String>",
            Shape::Set(_) => "Set",
            Shape::Record(_) => "Record",
        }
    }
}

/// A type of entities.
#[derive(Debug, Clone, Default)]
pub struct Kind {
    pub fields: Vec<Field>,
    /// Types that it may be in.
    pub parents: Vec<String>,
    pub has_tags: bool,
}

/// All that a schema says of types, names in full.
#[derive(Debug, Default)]
pub struct Types {
    pub kinds: HashMap<String, Kind>,
    /// Contexts by action: `Ns::Action::"id"`.
    pub contexts: HashMap<(String, String), Vec<Field>>,
}

impl Types {
    /// `json`: with its types resolved. `Err`: in words.
    pub fn read(json: &Value) -> Result<Types, String> {
        let mut reader = Reader { json, left: TYPES_MAX };
        let mut types = Types::default();
        for (space, definition) in entries(json) {
            let full = |name: &str| if space.is_empty() { name.to_owned() } else { format!("{space}::{name}") };
            // Also those that nothing uses: Cedar writes them out.
            for (_, common) in entries(&definition["commonTypes"]) {
                reader.shape(common, 0)?;
            }
            for (name, entity) in entries(&definition["entityTypes"]) {
                let parents = entity["memberOfTypes"].as_array().into_iter().flatten();
                let kind = Kind {
                    fields: reader.fields(&entity["shape"])?,
                    parents: parents.filter_map(Value::as_str).map(str::to_owned).collect(),
                    has_tags: entity.get("tags").is_some(),
                };
                types.kinds.insert(full(name), kind);
            }
            for (id, action) in entries(&definition["actions"]) {
                let fields = reader.fields(&action["appliesTo"]["context"])?;
                types.contexts.insert((full("Action"), id.clone()), fields);
            }
        }
        Ok(types)
    }

    /// The types of the name `Group`, in whatever namespace, that a type may be in without being in another of them.
    pub fn groups(&self, kind: &str) -> Vec<&str> {
        let (mut groups, mut seen) = (BTreeSet::new(), HashSet::new());
        let mut next: Vec<&str> = self.above(kind).collect();
        while let Some(kind) = next.pop() {
            if kind.rsplit("::").next() == Some("Group") {
                groups.insert(kind);
            } else if seen.insert(kind) {
                next.extend(self.above(kind));
            }
        }
        groups.into_iter().collect()
    }

    fn above(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.kinds.get(kind).into_iter().flat_map(|kind| kind.parents.iter().map(String::as_str))
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

struct Reader<'j> {
    json: &'j Value,
    left: usize,
}

impl Reader<'_> {
    /// Those of a record. Nothing there is an empty one.
    fn fields(&mut self, value: &Value) -> Result<Vec<Field>, String> {
        match value {
            Value::Null => Ok(Vec::new()),
            value => match self.shape(value, 0)? {
                Shape::Record(fields) => Ok(fields),
                other => Err(format!("a record is wanted, and `{}` is there", other.words())),
            },
        }
    }

    fn shape(&mut self, value: &Value, depth: usize) -> Result<Shape, String> {
        self.left = self.left.checked_sub(1).ok_or_else(|| format!("it comes to more than {TYPES_MAX} types"))?;
        if depth > DEPTH_MAX {
            return Err(format!("types are more than {DEPTH_MAX} levels deep"));
        }
        let name = value["type"].as_str().unwrap_or_default();
        Ok(match name {
            "Set" => Shape::Set(Box::new(self.shape(&value["element"], depth + 1)?)),
            "Record" => {
                let mut fields = Vec::new();
                for (name, field) in entries(&value["attributes"]) {
                    let required = field["required"].as_bool().unwrap_or(true);
                    fields.push(Field { name: name.as_str().into(), required, shape: self.shape(field, depth + 1)? });
                }
                Shape::Record(fields)
            }
            "Entity" if value.get("name").is_some() => Shape::Entity,
            "Extension" => builtin(value["name"].as_str().unwrap_or_default())?,
            name => match common(self.json, name) {
                Some(common) => self.shape(common, depth + 1)?,
                None => builtin(name)?,
            },
        })
    }
}

/// A type that the schema gives a name.
fn common<'j>(json: &'j Value, name: &str) -> Option<&'j Value> {
    let (space, name) = name.rsplit_once("::").unwrap_or(("", name));
    json.get(space)?.get("commonTypes")?.get(name)
}

fn builtin(name: &str) -> Result<Shape, String> {
    Ok(match name.strip_prefix("__cedar::").unwrap_or(name) {
        "String" => Shape::Text,
        "Long" => Shape::Whole,
        "Bool" | "Boolean" => Shape::Flag,
        "ipaddr" => Shape::Ip,
        "decimal" => Shape::Decimal,
        "datetime" => Shape::Datetime,
        "duration" => Shape::Duration,
        other => return Err(format!("the type `{other}` is not known")),
    })
}

/// What the gateway knows under a name.
#[derive(Debug, Clone, Copy)]
pub enum Known {
    /// Each of these types will do.
    One(&'static [&'static str]),
    /// A set of texts.
    Texts,
    /// What the schema says, of names that only requests tell: all texts.
    AnyTexts,
    /// What the schema says, as far as JSON has it.
    Json,
    Record(&'static [(&'static str, Known)]),
}

const TEXT: Known = Known::One(&["String"]);

/// In `context`.
pub const CONTEXT: Known = Known::Record(&[
    (
        "request",
        Known::Record(&[
            ("method", TEXT),
            ("path", TEXT),
            ("host", TEXT),
            ("scheme", TEXT),
            ("headers", Known::AnyTexts),
            ("query", Known::AnyTexts),
            ("client_ip", Known::One(&["ipaddr", "String"])),
            ("time", Known::One(&["datetime", "Long"])),
        ]),
    ),
    ("path", Known::AnyTexts),
    ("claims", Known::Json),
    ("scopes", Known::Texts),
    ("consumer", Known::Record(&[("name", TEXT), ("groups", Known::Texts)])),
]);

/// Of the principal.
pub const PRINCIPAL: [(&str, Known); 7] = [
    ("authorizer", TEXT),
    ("issuer", TEXT),
    ("subject", TEXT),
    ("consumer", TEXT),
    ("scopes", Known::Texts),
    ("groups", Known::Texts),
    ("claims", Known::Json),
];

/// What the schema wants at a place, and the gateway does not know.
pub struct Unknown {
    pub at: String,
    pub message: String,
    pub hint: String,
}

pub fn check(at: &str, shape: &Shape, known: &Known, unknown: &mut Vec<Unknown>) {
    let mut wrong = |what: String, hint: String| unknown.push(Unknown { at: at.to_owned(), message: what, hint });
    let other =
        |words: &str| (format!("the schema has `{at}` as `{}`", shape.words()), format!("the gateway gives it as `{words}`"));
    match (known, shape) {
        (Known::One(types), shape) if types.contains(&shape.words()) => {}
        (Known::Texts, Shape::Set(element)) if **element == Shape::Text => {}
        (Known::One(types), _) => {
            let (what, hint) = other(&types.join("` or `"));
            wrong(what, hint);
        }
        (Known::Texts, _) => {
            let (what, hint) = other("Set<String>");
            wrong(what, hint);
        }
        (Known::AnyTexts, Shape::Record(fields)) => {
            for field in fields {
                check(&format!("{at}.{}", field.name), &field.shape, &TEXT, unknown);
            }
        }
        (Known::Record(names), Shape::Record(fields)) => {
            for field in fields {
                let at = format!("{at}.{}", field.name);
                match names.iter().find(|(name, _)| *name == &*field.name) {
                    Some((_, known)) => check(&at, &field.shape, known, unknown),
                    None => {
                        let message = format!("the schema wants `{at}`, which the gateway does not know");
                        let hint = maitred_model::suggest(&field.name, names.iter().map(|(name, _)| *name), "it knows");
                        unknown.push(Unknown { at, message, hint });
                    }
                }
            }
        }
        (Known::Json, shape) => json(at, shape, unknown),
        (Known::AnyTexts | Known::Record(_), _) => {
            let (what, hint) = other("Record");
            wrong(what, hint);
        }
    }
}

/// Claims are JSON, and become what the schema says where they can.
fn json(at: &str, shape: &Shape, unknown: &mut Vec<Unknown>) {
    match shape {
        Shape::Text | Shape::Whole | Shape::Flag | Shape::Ip | Shape::Decimal | Shape::Datetime => {}
        Shape::Set(element) => json(at, element, unknown),
        Shape::Record(fields) => fields.iter().for_each(|field| json(&format!("{at}.{}", field.name), &field.shape, unknown)),
        Shape::Duration | Shape::Entity => {
            let message = format!("the schema has `{at}` as `{}`, which no claim is", shape.words());
            unknown.push(Unknown {
                at: at.to_owned(),
                message,
                hint: "write `String`, `Long`, `Bool`, or a set or record of them".to_owned(),
            });
        }
    }
}
