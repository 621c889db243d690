//! A result as JSON says it, before anything is made of it: which members there are, and of which kind. Knows no HTTP but what a status is.

use super::{Malformed, why};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Fields that one response may have; AWS allows fewer bytes, and no number.
pub const FIELDS_MAX: usize = 256;
/// Bytes of all names and values: above this it is no head any more.
pub const FIELD_BYTES_MAX: usize = 64 * 1024;

/// What a function says of its response. Members that are not known are no fault, but in a REST API.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Said<'a> {
    pub status_code: Option<Status>,
    pub status_description: Option<String>,
    #[serde(borrow)]
    pub headers: Option<Texts<'a>>,
    #[serde(borrow)]
    pub multi_value_headers: Option<Lists<'a>>,
    #[serde(borrow)]
    pub cookies: Option<List<'a>>,
    pub is_base64_encoded: Option<bool>,
    pub body: Option<String>,
}

/// The same of a REST API, which knows five members and no other.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SaidRest<'a> {
    status_code: Option<Status>,
    #[serde(borrow)]
    headers: Option<Texts<'a>>,
    #[serde(borrow)]
    multi_value_headers: Option<Lists<'a>>,
    is_base64_encoded: Option<bool>,
    body: Option<String>,
}

/// Whether there is a status at all.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Probe {
    status_code: Option<Present>,
}

struct Present;

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Present, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Present)
    }
}

impl<'a> Said<'a> {
    pub fn read(result: &'a [u8]) -> Result<Said<'a>, Malformed> {
        mapping(result)?;
        serde_json::from_slice(result).map_err(|error| not_read(result, false, &error))
    }

    pub fn read_rest(result: &'a [u8]) -> Result<Said<'a>, Malformed> {
        mapping(result)?;
        let SaidRest { status_code, headers, multi_value_headers, is_base64_encoded, body } =
            serde_json::from_slice(result).map_err(|error| not_read(result, true, &error))?;
        Ok(Said { status_code, headers, multi_value_headers, is_base64_encoded, body, ..Said::default() })
    }
}

/// Whether it is a mapping with `statusCode`. What is no JSON is malformed.
pub fn has_status(result: &[u8]) -> Result<bool, Malformed> {
    if !is_mapping(result) {
        serde_json::from_slice::<IgnoredAny>(result).map_err(|error| not_read(result, false, &error))?;
        return Ok(false);
    }
    let probe: Probe = serde_json::from_slice(result).map_err(|error| not_read(result, false, &error))?;
    Ok(probe.status_code.is_some())
}

fn is_mapping(result: &[u8]) -> bool {
    result.trim_ascii_start().starts_with(b"{")
}

/// A list would be read as if its items were members.
fn mapping(result: &[u8]) -> Result<(), Malformed> {
    if is_mapping(result) { Ok(()) } else { Err(Malformed::new("the result is no JSON object")) }
}

/// Which member and where, and never the words of the error, which may repeat the result.
fn not_read(result: &[u8], is_rest: bool, error: &serde_json::Error) -> Malformed {
    let why = match error.classify() {
        serde_json::error::Category::Data => match why::of(result, is_rest) {
            Some(why) => return Malformed::new(why),
            None => "is of another kind, stands twice, or is not known there",
        },
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof | serde_json::error::Category::Io => "is no JSON",
    };
    Malformed::new(format!("what ends at line {} column {} of the result {why}", error.line(), error.column()))
}

/// A number, or the text of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16);

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Status, D::Error> {
        struct Reading;
        impl Visitor<'_> for Reading {
            type Value = Status;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status from 200 to 599")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Status, E> {
                // 1xx is no answer yet, and 101 would end HTTP.
                let good = u16::try_from(number).ok().filter(|status| (200..=599).contains(status));
                good.map(Status).ok_or_else(|| E::custom("no status"))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Status, E> {
                let digits = (text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok());
                self.visit_u64(digits.flatten().unwrap_or_default())
            }
        }
        deserializer.deserialize_any(Reading)
    }
}

/// A scalar as text; `None` is null.
struct Scalar<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scalar<'a>, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
                Ok(Scalar(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
                Ok(Scalar(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar<'de>, E> {
                Ok(Scalar(Some(Cow::Borrowed(if value { "true" } else { "false" }))))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Scalar<'de>, E> {
                Ok(Scalar(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Scalar<'de>, E> {
                Ok(Scalar(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar<'de>, E> {
                let number = serde_json::Number::from_f64(number).ok_or_else(|| E::custom("a number that is none"))?;
                Ok(Scalar(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
                Ok(Scalar(None))
            }
        }
        deserializer.deserialize_any(Reading)
    }
}

/// Texts, as many as a response may have fields.
#[derive(Debug, Default)]
pub struct List<'a>(pub Vec<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for List<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<'a>, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = List<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<'de>, A::Error> {
                let mut list = Vec::new();
                while let Some(Scalar(item)) = items.next_element()? {
                    list.extend(item);
                    if list.len() > FIELDS_MAX {
                        return Err(A::Error::custom("too many fields"));
                    }
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_seq(Reading)
    }
}

/// Names and what each has, in order. One that stands twice stands twice.
#[derive(Debug)]
pub struct Entries<'a, T>(pub Vec<(Cow<'a, str>, T)>);

pub type Texts<'a> = Entries<'a, Cow<'a, str>>;
pub type Lists<'a> = Entries<'a, List<'a>>;

/// What may stand behind a name.
trait Entry<'a>: Sized {
    type Read: Deserialize<'a>;
    fn of(read: Self::Read) -> Option<Self>;
}

impl<'de: 'a, 'a> Entry<'de> for Cow<'a, str> {
    type Read = Scalar<'a>;

    fn of(read: Scalar<'a>) -> Option<Self> {
        read.0
    }
}

impl<'de: 'a, 'a> Entry<'de> for List<'a> {
    type Read = Option<List<'a>>;

    fn of(read: Option<List<'a>>) -> Option<Self> {
        read
    }
}

impl<'de: 'a, 'a, T: Entry<'de> + 'a> Deserialize<'de> for Entries<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries<'a, T>, D::Error> {
        struct Reading<T>(std::marker::PhantomData<T>);
        impl<'de, T: Entry<'de>> Visitor<'de> for Reading<T> {
            type Value = Vec<(Cow<'de, str>, T)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(Scalar(name)) = members.next_key()? {
                    let value = T::of(members.next_value()?);
                    entries.extend(name.zip(value));
                    if entries.len() > FIELDS_MAX {
                        return Err(A::Error::custom("too many fields"));
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Reading(std::marker::PhantomData)).map(Entries)
    }
}
