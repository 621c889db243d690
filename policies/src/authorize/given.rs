//! What conditions get to see of a request and of who makes it, as values of CEL: only what the expression names, and no more of it than
//! a budget has room for. Judges nothing.

use super::kind::Kind;
use cel::Value;
use maitred_core::wire::path;
use maitred_core::{Exchange, Principal};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Elements of lists and maps that a condition is given, all together.
const ELEMENTS_MAX: u64 = 1_000;
/// Bytes of text that it is given, all together: as much as a head may be.
const TEXT_BYTES_MAX: u64 = 64 * 1024;
/// How deep a claim may be.
const NESTING_MAX: usize = 16;

pub const VARIABLES: [&str; 5] = ["request", "principal", "claims", "path", "consumer"];

const REQUEST: [&str; 8] = ["method", "path", "host", "scheme", "headers", "query", "client_ip", "time"];
const PRINCIPAL: [&str; 6] = ["authorizer", "issuer", "subject", "scopes", "groups", "anonymous"];
const CONSUMER: [&str; 2] = ["name", "groups"];

/// What there is of a variable; `None`: that is not known before there is a request.
pub fn fields_of(variable: &str) -> Option<&'static [&'static str]> {
    match variable {
        "request" => Some(&REQUEST),
        "principal" => Some(&PRINCIPAL),
        "consumer" => Some(&CONSUMER),
        _ => None,
    }
}

/// Of what kind a field is, where that is always the same.
pub fn kind_of(variable: &str, field: &str) -> Kind {
    match (variable, field) {
        ("request", "headers" | "query") => Kind::Map,
        ("request", "time") => Kind::Number,
        ("principal", "scopes" | "groups") | ("consumer", "groups") => Kind::List,
        ("principal", "anonymous") => Kind::Boolean,
        ("request" | "principal" | "consumer" | "path", _) => Kind::Text,
        _ => Kind::Unknown,
    }
}

/// What an expression names of a variable.
#[derive(Debug)]
pub enum Fields {
    All,
    /// And whether it does without.
    Named(BTreeMap<String, bool>),
}

impl Fields {
    pub fn has(&self, name: &str) -> bool {
        match self {
            Fields::All => true,
            Fields::Named(names) => names.contains_key(name),
        }
    }
}

/// There is more than a condition may look at.
#[derive(Debug)]
pub struct TooMuch;

#[derive(Debug, Default)]
pub struct Budget {
    elements: u64,
    bytes: u64,
}

impl Budget {
    pub fn elements(&self) -> u64 {
        self.elements
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn element(&mut self) -> Result<(), TooMuch> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX { Err(TooMuch) } else { Ok(()) }
    }

    pub fn charge(&mut self, bytes: usize) -> Result<(), TooMuch> {
        self.bytes += bytes as u64;
        if self.bytes > TEXT_BYTES_MAX { Err(TooMuch) } else { Ok(()) }
    }

    /// What is no UTF-8 becomes U+FFFD, which no condition asks for.
    fn text(&mut self, bytes: &[u8]) -> Result<Value, TooMuch> {
        self.charge(bytes.len())?;
        Ok(Value::String(Arc::new(String::from_utf8_lossy(bytes).into_owned())))
    }

    fn list<'t>(&mut self, texts: impl Iterator<Item = &'t str>) -> Result<Value, TooMuch> {
        let list: Result<Vec<Value>, TooMuch> = texts
            .map(|text| {
                self.element()?;
                self.text(text.as_bytes())
            })
            .collect();
        Ok(Value::from(list?))
    }

    fn json(&mut self, value: &serde_json::Value, depth: usize) -> Result<Value, TooMuch> {
        use serde_json::Value as Json;
        if depth > NESTING_MAX {
            return Err(TooMuch);
        }
        Ok(match value {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::Int(number),
                (None, Some(number)) => Value::UInt(number),
                (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => self.text(text.as_bytes())?,
            Json::Array(items) => {
                let mut list = Vec::with_capacity(items.len().min(ELEMENTS_MAX as usize));
                for item in items {
                    self.element()?;
                    list.push(self.json(item, depth + 1)?);
                }
                Value::from(list)
            }
            Json::Object(entries) => {
                let mut map = HashMap::new();
                for (name, value) in entries {
                    self.element()?;
                    self.charge(name.len())?;
                    map.insert(name.clone(), self.json(value, depth + 1)?);
                }
                Value::from(map)
            }
        })
    }
}

/// A request, and who makes it.
pub struct Given<'a> {
    pub exchange: &'a Exchange,
    pub principal: &'a Principal,
    /// Names of the route's path parameters, in order.
    pub params: &'a [Box<str>],
    /// Seconds since 1970.
    pub time: u64,
}

type Map = HashMap<String, Value>;

impl Given<'_> {
    /// What is not there is not in the map either: to compare it is an error, and an error is a deny.
    pub fn variable(&self, name: &str, fields: &Fields, budget: &mut Budget) -> Result<Value, TooMuch> {
        let mut map = Map::new();
        match name {
            "request" => self.request(&mut map, fields, budget)?,
            "principal" => self.principal(&mut map, fields, budget)?,
            "consumer" => self.consumer(&mut map, budget)?,
            "claims" => self.claims(&mut map, fields, budget)?,
            _ => {
                for (index, name) in self.params.iter().enumerate().filter(|(_, name)| fields.has(name)) {
                    let mut decoded = Vec::new();
                    path::decode(self.exchange.param(index), &mut decoded);
                    map.insert(name.to_string(), budget.text(&decoded)?);
                }
            }
        }
        Ok(Value::from(map))
    }

    fn request(&self, map: &mut Map, fields: &Fields, budget: &mut Budget) -> Result<(), TooMuch> {
        let request = &self.exchange.request;
        for field in REQUEST.into_iter().filter(|field| fields.has(field)) {
            let value = match field {
                "method" => budget.text(request.method_text())?,
                "path" => budget.text(request.path())?,
                "host" => budget.text(&request.host().to_ascii_lowercase())?,
                "scheme" => budget.text(self.exchange.scheme.text().as_bytes())?,
                "headers" => self.headers(budget)?,
                "query" => query(request.query().unwrap_or_default(), budget)?,
                "client_ip" => budget.text(self.exchange.client_ip().to_string().as_bytes())?,
                _ => Value::Int(self.time as i64),
            };
            map.insert(field.to_owned(), value);
        }
        Ok(())
    }

    /// By name in lower case; the values of one name are joined by `, `, as RFC 9110 §5.3 has it.
    fn headers(&self, budget: &mut Budget) -> Result<Value, TooMuch> {
        let headers = &self.exchange.request.headers;
        let pairs = headers.iter().map(|entry| (headers.name(entry).to_ascii_lowercase(), headers.value(entry).to_vec()));
        joined(pairs, ", ", budget)
    }

    fn principal(&self, map: &mut Map, fields: &Fields, budget: &mut Budget) -> Result<(), TooMuch> {
        let principal = self.principal;
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        for field in PRINCIPAL.into_iter().filter(|field| fields.has(field)) {
            let text = match field {
                "authorizer" => known(&principal.authorizer),
                "issuer" => principal.issuer.as_deref().and_then(known),
                "subject" => principal.subject.as_deref().and_then(known),
                _ => None,
            };
            let value = match (field, text) {
                ("scopes", _) => budget.list(principal.scopes.iter().map(|scope| &**scope))?,
                ("groups", _) => budget.list(principal.groups())?,
                ("anonymous", _) => Value::Bool(principal.is_anonymous()),
                (_, Some(text)) => budget.text(text.as_bytes())?,
                (_, None) => continue,
            };
            map.insert(field.to_owned(), value);
        }
        Ok(())
    }

    fn consumer(&self, map: &mut Map, budget: &mut Budget) -> Result<(), TooMuch> {
        if let Some(consumer) = &self.principal.consumer {
            map.insert("name".to_owned(), budget.text(consumer.name.as_bytes())?);
            map.insert("groups".to_owned(), budget.list(consumer.groups.iter().map(|group| &**group))?);
        }
        Ok(())
    }

    fn claims(&self, map: &mut Map, fields: &Fields, budget: &mut Budget) -> Result<(), TooMuch> {
        for (name, value) in self.principal.claims.iter().filter(|(name, _)| fields.has(name)) {
            budget.element()?;
            budget.charge(name.len())?;
            map.insert(name.clone(), budget.json(value, 0)?);
        }
        Ok(())
    }
}

/// Names and values, decoded. The values of one name are joined by `,`: what a back end would read differently equals nothing here.
fn query(query: &[u8], budget: &mut Budget) -> Result<Value, TooMuch> {
    let pairs = query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let (mut name, mut value) = (Vec::new(), Vec::new());
        path::decode(&pair[..at], &mut name);
        path::decode(pair.get(at + 1..).unwrap_or_default(), &mut value);
        (name, value)
    });
    joined(pairs, ",", budget)
}

fn joined(pairs: impl Iterator<Item = (Vec<u8>, Vec<u8>)>, between: &str, budget: &mut Budget) -> Result<Value, TooMuch> {
    let mut map: HashMap<String, String> = HashMap::new();
    for (name, value) in pairs {
        budget.element()?;
        budget.charge(name.len() + value.len() + between.len())?;
        let value = String::from_utf8_lossy(&value).into_owned();
        map.entry(String::from_utf8_lossy(&name).into_owned())
            .and_modify(|before| {
                before.push_str(between);
                before.push_str(&value);
            })
            .or_insert(value);
    }
    Ok(Value::from(map))
}
