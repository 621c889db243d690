//! How the result of a function becomes a response, in each form of AWS. Pure: the bytes of a result go in; status and fields, and the body,
//! come out, or why there is no response in them.

mod fields;
mod result;
#[cfg(test)]
mod tests;
mod why;

use super::Form;
use super::event::media;
use fields::Fields;
use maitred_model::EventForm;
use maitred_wire::{Name, ResponseHead, base64};
use result::{Lists, Said, Texts, has_status};
use std::borrow::Cow;

/// A load balancer takes no more of a function, and gives it no more (reference: AWS, "Lambda functions as targets").
pub const ALB_BYTES_MAX: usize = 1024 * 1024;
/// Of what a function says went wrong, for the log.
const ERROR_CHARS_MAX: usize = 300;

/// Why a result is no response: for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub Cow<'static, str>);

impl Malformed {
    pub fn new(why: impl Into<Cow<'static, str>>) -> Malformed {
        Malformed(why.into())
    }
}

/// Reads a result that is whole. `head` is empty, and gets status and fields. `accept`: the request's.
pub fn whole(form: &Form, result: Vec<u8>, accept: Option<&[u8]>, head: &mut ResponseHead) -> Result<Vec<u8>, Malformed> {
    head.status = 200;
    match form.event {
        EventForm::V1 => rest(form, &result, accept, head),
        EventForm::V2 => http(result, head, "text/plain;charset=UTF-8"),
        EventForm::Url => http(result, head, "application/json"),
        EventForm::Alb => alb(form, &result, head),
        EventForm::Raw => {
            head.headers.add(b"content-type", b"application/json");
            Ok(result)
        }
    }
}

/// Reads what stands before a body that is streamed.
pub fn metadata(form: &Form, metadata: &[u8], head: &mut ResponseHead) -> Result<(), Malformed> {
    let said = Said::read(metadata)?;
    head.status = said.status_code.map_or(200, |status| status.0);
    let is_rest = form.event == EventForm::V1;
    let mut fields = Fields::new(&mut head.headers, is_rest);
    multi(&mut fields, said.multi_value_headers.as_ref(), said.headers.as_ref())?;
    cookies(&mut fields, &said)?;
    content_type(head, if is_rest { "application/json" } else { "application/octet-stream" });
    Ok(())
}

/// What a stream without a prelude is, where there may be one: all of it is the body.
pub fn bare_stream(form: &Form, content_type: Option<&str>, head: &mut ResponseHead) -> Result<(), Malformed> {
    head.status = 200;
    match form.event {
        EventForm::V1 | EventForm::Alb => Err(Malformed::new("a stream without the metadata that begins a response")),
        EventForm::V2 | EventForm::Url | EventForm::Raw => {
            let mut fields = Fields::new(&mut head.headers, false);
            fields.add("content-type", content_type.unwrap_or("application/octet-stream"))
        }
    }
}

/// Format 1.0.
fn rest(form: &Form, result: &[u8], accept: Option<&[u8]>, head: &mut ResponseHead) -> Result<Vec<u8>, Malformed> {
    let said = Said::read_rest(result)?;
    head.status = said.status_code.map_or(200, |status| status.0);
    let mut fields = Fields::new(&mut head.headers, true);
    multi(&mut fields, said.multi_value_headers.as_ref(), said.headers.as_ref())?;
    content_type(head, "application/json");
    // Asked for as bytes, by what the client names first; else base64 stays what it is.
    let first = accept.and_then(|accept| accept.split(|&byte| byte == b',').next());
    let wants_bytes = media::is_binary(&form.binary_media_types, first);
    body(said, wants_bytes)
}

/// Format 2.0. What has no status is the body itself.
fn http(result: Vec<u8>, head: &mut ResponseHead, default_type: &str) -> Result<Vec<u8>, Malformed> {
    if result.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    if !has_status(&result)? {
        head.headers.add(b"content-type", b"application/json");
        // A text is its characters.
        return Ok(match serde_json::from_slice::<String>(&result) {
            Ok(text) => text.into_bytes(),
            Err(_) => result,
        });
    }
    let said = Said::read(&result)?;
    head.status = said.status_code.map_or(200, |status| status.0);
    let mut fields = Fields::new(&mut head.headers, false);
    single(&mut fields, said.headers.as_ref())?;
    cookies(&mut fields, &said)?;
    if said.body.as_ref().is_some_and(|body| !body.is_empty()) {
        content_type(head, default_type);
    }
    body(said, true)
}

fn alb(form: &Form, result: &[u8], head: &mut ResponseHead) -> Result<Vec<u8>, Malformed> {
    if result.len() > ALB_BYTES_MAX {
        return Err(Malformed::new("the result is longer than the 1 MB of a load balancer"));
    }
    let said = Said::read(result)?;
    let status = said.status_code.ok_or_else(|| Malformed::new("the result has no `statusCode`"))?;
    head.status = status.0;
    // `200 OK`: the words behind the number.
    if let Some((_, reason)) = said.status_description.as_deref().and_then(|text| text.split_once(' '))
        && reason.bytes().all(|byte| (0x20..0x7f).contains(&byte))
    {
        head.reason = head.headers.stash(reason.as_bytes());
    }
    let mut fields = Fields::new(&mut head.headers, false);
    match form.multi_value_headers {
        true => multi(&mut fields, said.multi_value_headers.as_ref(), None)?,
        false => single(&mut fields, said.headers.as_ref())?,
    }
    if said.body.as_ref().is_some_and(|body| !body.is_empty()) {
        content_type(head, "application/octet-stream");
    }
    body(said, true)
}

fn content_type(head: &mut ResponseHead, default: &str) {
    if !head.headers.has(Name::ContentType) {
        head.headers.add(b"content-type", default.as_bytes());
    }
}

fn single(fields: &mut Fields<'_>, headers: Option<&Texts<'_>>) -> Result<(), Malformed> {
    let entries = headers.map(|headers| headers.0.as_slice()).unwrap_or_default();
    entries.iter().try_for_each(|(name, value)| fields.add(name, value))
}

/// Of a name that stands in both maps, the lists' values and spelling come first.
fn multi(fields: &mut Fields<'_>, lists: Option<&Lists<'_>>, texts: Option<&Texts<'_>>) -> Result<(), Malformed> {
    let lists = lists.map(|lists| lists.0.as_slice()).unwrap_or_default();
    let texts = texts.map(|texts| texts.0.as_slice()).unwrap_or_default();
    for (name, values) in lists {
        values.0.iter().try_for_each(|value| fields.add(name, value))?;
        for (_, value) in texts.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)) {
            fields.add(name, value)?;
        }
    }
    for (name, value) in texts {
        if !lists.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            fields.add(name, value)?;
        }
    }
    Ok(())
}

fn cookies(fields: &mut Fields<'_>, said: &Said<'_>) -> Result<(), Malformed> {
    let cookies = said.cookies.as_ref().map(|cookies| cookies.0.as_slice()).unwrap_or_default();
    cookies.iter().try_for_each(|cookie| fields.add("set-cookie", cookie))
}

fn body(said: Said<'_>, decodes: bool) -> Result<Vec<u8>, Malformed> {
    let text = said.body.unwrap_or_default().into_bytes();
    if !(decodes && said.is_base64_encoded.unwrap_or_default()) {
        return Ok(text);
    }
    base64::decode(&text).ok_or_else(|| Malformed::new("the body is called base64, and is none"))
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raised {
    error_type: String,
    error_message: String,
}

/// What a function says that went wrong, in one line.
pub fn raised(payload: &[u8]) -> String {
    let raised: Raised = serde_json::from_slice(payload).unwrap_or_default();
    let words = match (raised.error_type.as_str(), raised.error_message.as_str()) {
        ("", "") => return "the function failed and said nothing".to_owned(),
        ("", message) => message.to_owned(),
        (kind, "") => kind.to_owned(),
        (kind, message) => format!("{kind}: {message}"),
    };
    words.chars().take(ERROR_CHARS_MAX).map(|char| if char.is_control() { ' ' } else { char }).collect()
}
