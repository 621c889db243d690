//! What policies get to see of a request and of who makes it, as values of Cedar: what the schema declares, and no more of it than a budget
//! has room for. What does not fit the schema is an error, and never made to fit.

use super::shape::{Field, PRINCIPAL, Shape};
use crate::authorize::given::{Budget, Given, TooMuch};
use cedar_policy::RestrictedExpression as Value;
use maitred_core::aws::sigv4::stamp;
use maitred_core::wire::path;
use serde_json::Value as Json;
use std::borrow::Cow;

/// Seconds of the year 9999's last moment: Cedar's dates end there.
const SECONDS_MAX: u64 = 253_402_300_799;

/// Why a request does not fit, and where. Nothing of what it holds is in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfit {
    pub at: String,
    pub why: Cow<'static, str>,
}

impl Unfit {
    fn new(why: impl Into<Cow<'static, str>>) -> Unfit {
        Unfit { at: String::new(), why: why.into() }
    }

    fn within(self, name: &str) -> Unfit {
        let at = if self.at.is_empty() { name.to_owned() } else { format!("{name}.{}", self.at) };
        Unfit { at, ..self }
    }
}

impl From<TooMuch> for Unfit {
    fn from(_: TooMuch) -> Unfit {
        Unfit::new("is more than policies may look at")
    }
}

type Found = Result<Option<Value>, Unfit>;
pub type Pairs = Vec<(String, Value)>;

/// What the schema wants in `context`.
pub fn context(fields: &[Field], given: &Given<'_>, budget: &mut Budget) -> Result<Pairs, Unfit> {
    let principal = given.principal;
    let found = record(fields, budget, &mut |field, budget| match (&*field.name, &field.shape) {
        ("request", Shape::Record(fields)) => made(record(fields, budget, &mut |field, budget| request(field, given, budget))?),
        ("path", Shape::Record(fields)) => made(record(fields, budget, &mut |field, budget| param(field, given, budget))?),
        ("claims", Shape::Record(fields)) => {
            made(record(fields, budget, &mut |field, budget| claim(field, &principal.claims, budget))?)
        }
        ("scopes", _) => texts(principal.scopes.iter().map(|scope| &**scope), budget),
        ("consumer", Shape::Record(fields)) => match &principal.consumer {
            None => Ok(None),
            Some(consumer) => made(record(fields, budget, &mut |field, budget| match &*field.name {
                "name" => text(consumer.name.as_bytes(), budget),
                "groups" => texts(consumer.groups.iter().map(|group| &**group), budget),
                _ => Ok(None),
            })?),
        },
        _ => Ok(None),
    });
    found.map_err(|unfit| unfit.within("context"))
}

/// What the schema wants of the principal, as far as the gateway knows it. The others come from the file of entities.
pub fn principal(fields: &[Field], given: &Given<'_>, budget: &mut Budget) -> Result<Pairs, Unfit> {
    let principal = given.principal;
    let known = fields.iter().filter(|field| PRINCIPAL.iter().any(|(name, _)| *name == &*field.name));
    let found = record(known, budget, &mut |field, budget| match (&*field.name, &field.shape) {
        ("authorizer", _) => text(principal.authorizer.as_bytes(), budget),
        ("issuer", _) => principal.issuer.as_ref().map_or(Ok(None), |issuer| text(issuer.as_bytes(), budget)),
        ("subject", _) => principal.subject.as_ref().map_or(Ok(None), |subject| text(subject.as_bytes(), budget)),
        ("consumer", _) => principal.consumer_name().map_or(Ok(None), |name| text(name.as_bytes(), budget)),
        ("scopes", _) => texts(principal.scopes.iter().map(|scope| &**scope), budget),
        ("groups", _) => texts(principal.groups(), budget),
        ("claims", Shape::Record(fields)) => {
            made(record(fields, budget, &mut |field, budget| claim(field, &principal.claims, budget))?)
        }
        _ => Ok(None),
    });
    found.map_err(|unfit| unfit.within("principal"))
}

fn record<'f>(
    fields: impl IntoIterator<Item = &'f Field>,
    budget: &mut Budget,
    find: &mut dyn FnMut(&Field, &mut Budget) -> Found,
) -> Result<Pairs, Unfit> {
    let mut pairs = Vec::new();
    for field in fields {
        budget.element()?;
        match find(field, budget).map_err(|unfit| unfit.within(&field.name))? {
            Some(value) => pairs.push((field.name.to_string(), value)),
            None if field.required => return Err(Unfit::new("is not there").within(&field.name)),
            None => {}
        }
    }
    Ok(pairs)
}

fn made(pairs: Pairs) -> Found {
    Value::new_record(pairs).map(Some).map_err(|_| Unfit::new("is no record"))
}

fn text(bytes: &[u8], budget: &mut Budget) -> Found {
    budget.charge(bytes.len())?;
    let text = std::str::from_utf8(bytes).map_err(|_| Unfit::new("is no UTF-8"))?;
    Ok(Some(Value::new_string(text.to_owned())))
}

fn texts<'t>(texts: impl Iterator<Item = &'t str>, budget: &mut Budget) -> Found {
    let mut values = Vec::new();
    for text in texts {
        budget.element()?;
        budget.charge(text.len())?;
        values.push(Value::new_string(text.to_owned()));
    }
    Ok(Some(Value::new_set(values)))
}

fn request(field: &Field, given: &Given<'_>, budget: &mut Budget) -> Found {
    let request = &given.exchange.request;
    match (&*field.name, &field.shape) {
        ("method", _) => text(request.method_text(), budget),
        ("path", _) => text(request.path(), budget),
        ("host", _) => text(&request.host().to_ascii_lowercase(), budget),
        ("scheme", _) => text(given.exchange.scheme.text().as_bytes(), budget),
        ("client_ip", shape) => {
            let address = given.exchange.client_ip().to_canonical().to_string();
            budget.charge(address.len())?;
            Ok(Some(if *shape == Shape::Ip { Value::new_ip(address) } else { Value::new_string(address) }))
        }
        ("time", Shape::Datetime) => datetime(given.time).map(Some),
        ("time", _) => Ok(Some(Value::new_long(given.time as i64))),
        ("headers", Shape::Record(fields)) => made(record(fields, budget, &mut |field, budget| header(field, given, budget))?),
        ("query", Shape::Record(fields)) => made(record(fields, budget, &mut |field, budget| query(field, given, budget))?),
        _ => Ok(None),
    }
}

/// The values of one name are joined by `, `, as RFC 9110 §5.3 has it.
fn header(field: &Field, given: &Given<'_>, budget: &mut Budget) -> Found {
    let headers = &given.exchange.request.headers;
    let named = headers.iter().filter(|entry| headers.name(entry).eq_ignore_ascii_case(field.name.as_bytes()));
    joined(named.map(|entry| Cow::Borrowed(headers.value(entry))), b", ", budget)
}

/// Decoded; the values of one name are joined by `,`, so that none of them passes for the only one.
fn query(field: &Field, given: &Given<'_>, budget: &mut Budget) -> Found {
    let query = given.exchange.request.query().unwrap_or_default();
    let named = query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let decoded = |text: &[u8]| {
            let mut decoded = Vec::new();
            path::decode(text, &mut decoded);
            decoded
        };
        (decoded(&pair[..at]) == field.name.as_bytes()).then(|| Cow::Owned(decoded(pair.get(at + 1..).unwrap_or_default())))
    });
    joined(named, b",", budget)
}

fn joined<'v>(values: impl Iterator<Item = Cow<'v, [u8]>>, between: &[u8], budget: &mut Budget) -> Found {
    let mut all: Option<Vec<u8>> = None;
    for value in values {
        budget.element()?;
        match &mut all {
            None => all = Some(value.into_owned()),
            Some(all) => {
                all.extend_from_slice(between);
                all.extend_from_slice(&value);
            }
        }
    }
    all.map_or(Ok(None), |all| text(&all, budget))
}

fn param(field: &Field, given: &Given<'_>, budget: &mut Budget) -> Found {
    let Some(index) = given.params.iter().position(|name| *name == field.name) else { return Ok(None) };
    let mut decoded = Vec::new();
    path::decode(given.exchange.param(index), &mut decoded);
    text(&decoded, budget)
}

fn claim(field: &Field, claims: &serde_json::Map<String, Json>, budget: &mut Budget) -> Found {
    match claims.get(&*field.name) {
        None | Some(Json::Null) => Ok(None),
        Some(value) => json(value, &field.shape, budget).map(Some),
    }
}

/// What a claim says, as the type that the schema gives it. `3` is no text, and one text is no set.
fn json(value: &Json, shape: &Shape, budget: &mut Budget) -> Result<Value, Unfit> {
    let other = || Unfit::new(format!("is no `{}`", shape.words()));
    match (shape, value) {
        (Shape::Text, Json::String(text)) => {
            budget.charge(text.len())?;
            Ok(Value::new_string(text.clone()))
        }
        (Shape::Whole, Json::Number(number)) => number.as_i64().map(Value::new_long).ok_or_else(other),
        (Shape::Flag, Json::Bool(flag)) => Ok(Value::new_bool(*flag)),
        (Shape::Ip, Json::String(text)) => {
            budget.charge(text.len())?;
            Ok(Value::new_ip(text))
        }
        (Shape::Decimal, Json::String(text)) => {
            budget.charge(text.len())?;
            Ok(Value::new_decimal(text))
        }
        // As `exp` and `auth_time` are (RFC 7519 §2).
        (Shape::Datetime, Json::Number(number)) => number.as_u64().ok_or_else(other).and_then(datetime),
        (Shape::Set(element), Json::Array(items)) => {
            let mut values = Vec::new();
            for item in items {
                budget.element()?;
                values.push(json(item, element, budget)?);
            }
            Ok(Value::new_set(values))
        }
        (Shape::Record(fields), Json::Object(entries)) => {
            let pairs = record(fields, budget, &mut |field, budget| claim(field, entries, budget))?;
            Value::new_record(pairs).map_err(|_| other())
        }
        (
            Shape::Text
            | Shape::Whole
            | Shape::Flag
            | Shape::Ip
            | Shape::Decimal
            | Shape::Datetime
            | Shape::Duration
            | Shape::Entity
            | Shape::Set(_)
            | Shape::Record(_),
            _,
        ) => Err(other()),
    }
}

fn datetime(seconds: u64) -> Result<Value, Unfit> {
    if seconds > SECONDS_MAX {
        return Err(Unfit::new("is no `datetime`"));
    }
    let stamp = stamp::format(seconds);
    let part = |from: usize, to: usize| std::str::from_utf8(&stamp[from..to]).unwrap_or_default();
    let (year, month, day, hour, minute, second) = (part(0, 4), part(4, 6), part(6, 8), part(9, 11), part(11, 13), part(13, 15));
    Ok(Value::new_datetime(format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")))
}
