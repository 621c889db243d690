//! Identity sources: what of a request an authorizer goes by. Without each of them nobody is asked.

use super::Request;
use serde_json::Value;
use std::borrow::Cow;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Header(String),
    Query(String),
    StageVariable(String),
    /// Of the request's context, by its path.
    Context(String),
}

impl Source {
    /// As a REST API writes it: `method.request.header.X`, `method.request.querystring.X`, `stageVariables.X`, `context.X`.
    pub fn parse_rest(text: &str) -> Option<Source> {
        Source::parse(text, ["method.request.header.", "method.request.querystring.", "stageVariables.", "context."])
    }

    /// As an HTTP API writes it: `$request.header.X`, `$request.querystring.X`, `$stageVariables.X`, `$context.X`.
    pub fn parse_http(text: &str) -> Option<Source> {
        Source::parse(text, ["$request.header.", "$request.querystring.", "$stageVariables.", "$context."])
    }

    fn parse(text: &str, [header, query, variable, context]: [&str; 4]) -> Option<Source> {
        let named = |prefix: &str| text.strip_prefix(prefix).filter(|name| !name.is_empty()).map(str::to_owned);
        named(header)
            .map(Source::Header)
            .or_else(|| named(query).map(Source::Query))
            .or_else(|| named(variable).map(Source::StageVariable))
            .or_else(|| named(context).map(Source::Context))
    }

    /// What stands there. `None`: nothing, or nothing in it, or several, of which the function might read another than is remembered.
    pub fn value<'a>(&self, request: &Request<'a>) -> Option<Cow<'a, str>> {
        let value = match self {
            Source::Header(name) => only(request.headers, |other| other.eq_ignore_ascii_case(name)),
            Source::Query(name) => only(request.query, |other| other == name),
            Source::StageVariable(name) => only(request.stage_variables, |other| other == name),
            Source::Context(path) => {
                let found = path.split('.').try_fold(None, |at: Option<&'a Value>, name| match at {
                    None => request.context.get(name).map(Some),
                    Some(value) => value.get(name).map(Some),
                });
                match found.flatten() {
                    Some(Value::String(text)) => Some(Cow::Borrowed(text.as_str())),
                    Some(Value::Number(number)) => Some(Cow::Owned(number.to_string())),
                    Some(Value::Bool(flag)) => Some(Cow::Owned(flag.to_string())),
                    Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => None,
                }
            }
        };
        value.filter(|value| !value.is_empty())
    }
}

fn only<'a>(list: &'a [(String, String)], is_it: impl Fn(&str) -> bool) -> Option<Cow<'a, str>> {
    let mut found = list.iter().filter(|(name, _)| is_it(name));
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Some(Cow::Borrowed(value.as_str())),
        (None, _) | (Some(_), Some(_)) => None,
    }
}
