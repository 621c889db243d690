//! What is signed (RFC 9421 §2.5), made anew from the request. A component that is not understood is refused and never left out, and so is
//! one that is not there.

use maitred_core::wire::path::path_and_query;
use maitred_core::wire::{base64, path, structured};
use maitred_core::{Exchange, Scheme};
use maitred_model::Component;
use structured::{Bare, Dictionary, InnerList, Item, Params};

/// Fields that are dictionaries: of these the canonical text can be made (`sf`).
const DICTIONARIES: &[&str] =
    &["content-digest", "priority", "repr-digest", "signature", "signature-input", "want-content-digest", "want-repr-digest"];

/// How a header becomes a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// Its lines, trimmed and joined.
    Plain,
    /// Its canonical text (§2.1.1).
    Structured,
    /// One member of a dictionary (§2.1.2).
    Member(String),
    /// Each line as a byte sequence (§2.1.3).
    Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Method,
    TargetUri,
    Authority,
    Scheme,
    RequestTarget,
    Path,
    Query,
    /// Its name, encoded as it is signed.
    QueryParam(String),
    Header(String, Form),
}

/// What a signature covers, in its order; nothing twice.
pub struct Covered(Vec<Part>);

impl Covered {
    pub fn read(input: &InnerList) -> Result<Covered, &'static str> {
        let mut parts = Vec::with_capacity(input.items.len());
        for item in &input.items {
            let part = part(item)?;
            if parts.contains(&part) {
                return Err("the signature covers a component twice");
            }
            parts.push(part);
        }
        Ok(Covered(parts))
    }

    /// Whether a component is covered, by itself or by what contains it.
    pub fn has(&self, wanted: &Component) -> bool {
        let name = wanted.name.as_str();
        self.0.iter().any(|part| match part {
            Part::Method => name == "@method",
            Part::TargetUri => ["@target-uri", "@scheme", "@authority", "@path", "@query", "@query-param"].contains(&name),
            Part::Authority => name == "@authority",
            Part::Scheme => name == "@scheme",
            Part::RequestTarget => ["@request-target", "@path", "@query", "@query-param"].contains(&name),
            Part::Path => name == "@path",
            Part::Query => ["@query", "@query-param"].contains(&name),
            Part::QueryParam(param) => name == "@query-param" && wanted.param.as_deref() == Some(param),
            Part::Header(own, Form::Plain | Form::Structured | Form::Bytes) => own == name,
            // What its algorithm is worth, the digest's own check knows.
            Part::Header(own, Form::Member(_)) => own == name && name == "content-digest",
        })
    }

    /// Whether Content-Digest is covered: all of it, or one member.
    pub fn digest(&self) -> Option<Option<&str>> {
        self.0.iter().find_map(|part| match part {
            Part::Header(name, form) if name == "content-digest" => Some(match form {
                Form::Member(member) => Some(member.as_str()),
                Form::Plain | Form::Structured | Form::Bytes => None,
            }),
            Part::Header(..)
            | Part::Method
            | Part::TargetUri
            | Part::Authority
            | Part::Scheme
            | Part::RequestTarget
            | Part::Path
            | Part::Query
            | Part::QueryParam(_) => None,
        })
    }

    /// The signature base. `input` is what this was read from.
    pub fn base(&self, exchange: &Exchange, input: &InnerList) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::with_capacity(512);
        for (part, item) in self.0.iter().zip(&input.items) {
            item.write(&mut out);
            out.extend_from_slice(b": ");
            let start = out.len();
            value(part, exchange, &mut out)?;
            if out[start..].contains(&b'\n') {
                return Err("a covered value has a line end in it");
            }
            out.push(b'\n');
        }
        out.extend_from_slice(b"\"@signature-params\": ");
        input.write(&mut out);
        Ok(out)
    }
}

fn part(item: &Item) -> Result<Part, &'static str> {
    let name = item.bare.as_string().ok_or("a covered component is not a string")?;
    let bare = item.params.0.is_empty();
    Ok(match name {
        "@method" if bare => Part::Method,
        "@target-uri" if bare => Part::TargetUri,
        "@authority" if bare => Part::Authority,
        "@scheme" if bare => Part::Scheme,
        "@request-target" if bare => Part::RequestTarget,
        "@path" if bare => Part::Path,
        "@query" if bare => Part::Query,
        "@query-param" => match &item.params.0[..] {
            [(key, Bare::String(param))] if key == "name" => Part::QueryParam(param.clone()),
            _ => return Err("a query parameter without its name, or with more than that"),
        },
        _ if name.starts_with('@') => return Err("a derived component that is not known, or not in requests"),
        _ if !is_field_name(name) => return Err("a covered header that is not written in lower case"),
        _ => Part::Header(name.to_owned(), form(name, &item.params)?),
    })
}

fn is_field_name(name: &str) -> bool {
    let belongs = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(belongs)
}

fn form(name: &str, params: &Params) -> Result<Form, &'static str> {
    match &params.0[..] {
        [] => Ok(Form::Plain),
        [(key, Bare::Bool(true))] if key == "bs" => Ok(Form::Bytes),
        [(key, Bare::Bool(true))] if key == "sf" && DICTIONARIES.contains(&name) => Ok(Form::Structured),
        [(key, Bare::String(member))] if key == "key" => Ok(Form::Member(member.clone())),
        _ => Err("a covered header with a parameter that is not understood, or not allowed on requests"),
    }
}

fn value(part: &Part, exchange: &Exchange, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let request = &exchange.request;
    match part {
        Part::Method => out.extend_from_slice(request.method_text()),
        Part::Scheme => out.extend_from_slice(exchange.scheme.text().as_bytes()),
        Part::RequestTarget => out.extend_from_slice(request.target()),
        Part::Authority => authority(exchange, out)?,
        Part::TargetUri => {
            out.extend_from_slice(exchange.scheme.text().as_bytes());
            out.extend_from_slice(b"://");
            authority(exchange, out)?;
            let (path, query) = path_and_query(request.target());
            out.extend_from_slice(path);
            if let Some(query) = query {
                out.push(b'?');
                out.extend_from_slice(query);
            }
        }
        Part::Path => out.extend_from_slice(path_and_query(request.target()).0),
        Part::Query => {
            out.push(b'?');
            out.extend_from_slice(path_and_query(request.target()).1.unwrap_or_default());
        }
        Part::QueryParam(name) => query_param(path_and_query(request.target()).1.unwrap_or_default(), name, out)?,
        Part::Header(name, form) => header(exchange, name, form, out)?,
    }
    Ok(())
}

/// In lower case, without the port that its scheme has anyway (§2.2.3).
fn authority(exchange: &Exchange, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let authority = exchange.request.authority();
    if authority.is_empty() {
        return Err("the request names no host");
    }
    let usual: &[u8] = match exchange.scheme {
        Scheme::Http => b":80",
        Scheme::Https => b":443",
    };
    out.extend(authority.strip_suffix(usual).unwrap_or(authority).iter().map(u8::to_ascii_lowercase));
    Ok(())
}

/// A parameter is read as forms are (`+` is a space) and written as §2.2.8 says. One that stands twice cannot be covered.
fn query_param(query: &[u8], name: &str, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut found = None;
    for pair in query.split(|&byte| byte == b'&') {
        let at = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        if form_encoded(&pair[..at]) != name.as_bytes() || pair.is_empty() {
            continue;
        }
        if found.replace(pair.get(at + 1..).unwrap_or_default()).is_some() {
            return Err("a covered query parameter stands twice in the request");
        }
    }
    out.extend(form_encoded(found.ok_or("a covered query parameter is not in the request")?));
    Ok(())
}

/// The percent-encode set of `application/x-www-form-urlencoded`, with `%20` for a space.
fn form_encoded(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    let mut decoded = Vec::with_capacity(text.len());
    path::decode(&spaced, &mut decoded);
    let mut out = Vec::with_capacity(text.len());
    for byte in decoded {
        match byte {
            b'*' => out.push(byte),
            b'~' => out.extend_from_slice(b"%7E"),
            _ => path::encode(&[byte], &mut out),
        }
    }
    out
}

fn header(exchange: &Exchange, name: &str, form: &Form, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let values = || exchange.request.headers.get_all(name.as_bytes());
    if values().next().is_none() {
        return Err("a covered header is not in the request");
    }
    let dictionary = || Dictionary::parse(&joined(values())).map_err(|_| "a covered header is no dictionary");
    match form {
        Form::Plain => out.extend(joined(values())),
        Form::Structured => dictionary()?.write(out),
        Form::Member(member) => match dictionary()?.get(member) {
            Some(member) => member.write(out),
            None => return Err("a covered member of a header is not in the request"),
        },
        Form::Bytes => {
            for (at, value) in values().enumerate() {
                out.extend_from_slice(if at > 0 { b", :" } else { b":" });
                base64::encode(value.trim_ascii(), out);
                out.push(b':');
            }
        }
    }
    Ok(())
}

/// The lines of a field as one value (§2.1).
pub fn joined<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    values.map(<[u8]>::trim_ascii).collect::<Vec<_>>().join(&b", "[..])
}
