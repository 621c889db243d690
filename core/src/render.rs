//! Fills templates in. Each substitution is encoded for where it lands: one path segment, one query value, one header value.
//! Nothing that lands can become more than it was: no new segment, no new parameter, no new header.

use crate::exchange::Exchange;
use crate::fault::{Fault, Kind};
use crate::identity::Principal;
use maitred_model::{Part, Template, Variable, Who};
use maitred_wire::path;
use serde_json::Value;
use std::borrow::Cow;

/// A template whose parameters are known by index.
#[derive(Debug, Clone)]
pub struct Text {
    pieces: Box<[Piece]>,
}

#[derive(Debug, Clone)]
enum Piece {
    Literal(Box<str>),
    Param(u8),
    Variable(Variable),
}

impl Text {
    /// `params`: the names of the route's path parameters, in order. `Err` is a name that is not among them.
    pub fn compile(template: &Template, params: &[&str]) -> Result<Text, String> {
        let piece = |part: &Part| match part {
            Part::Literal(text) => Ok(Piece::Literal(text.as_str().into())),
            Part::Param(name) => match params.iter().position(|param| param == name) {
                Some(index) => Ok(Piece::Param(index as u8)),
                None => Err(name.clone()),
            },
            Part::Variable(variable) => Ok(Piece::Variable(variable.clone())),
        };
        Ok(Text { pieces: template.parts.iter().map(piece).collect::<Result<_, _>>()? })
    }

    /// Whether it says something of who makes a request.
    pub fn says_who(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Variable(Variable::Identity(_))))
    }

    /// Appends a path. A result with a dot segment, or anything else that is not canonical, is refused.
    pub fn path(&self, exchange: &Exchange, out: &mut Vec<u8>) -> Result<(), Fault> {
        let start = out.len();
        self.encoded(exchange, out, unknown)?;
        rewritten(&out[start..])
    }

    /// The same where nobody was asked who makes the request: what depends on that stays as it is written. For eyes, and no back end.
    pub fn path_unasked(&self, exchange: &Exchange) -> Result<Vec<u8>, Fault> {
        let mut anybody = Vec::new();
        self.encoded(exchange, &mut anybody, |_, out| {
            out.push(b'x');
            Ok(())
        })?;
        rewritten(&anybody)?;
        let mut shown = Vec::new();
        self.encoded(exchange, &mut shown, |variable, out| {
            out.extend_from_slice(format!("{{{variable}}}").as_bytes());
            Ok(())
        })?;
        Ok(shown)
    }

    /// Appends a URL or path with perhaps a query.
    pub fn url(&self, exchange: &Exchange, out: &mut Vec<u8>) -> Result<(), Fault> {
        let start = out.len();
        self.encoded(exchange, out, unknown)?;
        let whole = &out[start..];
        let end = memchr(b'?', whole).unwrap_or(whole.len());
        // Behind "scheme://authority", or from the start where the target is a path.
        let authority = whole[..end].windows(3).position(|w| w == b"://").map_or(0, |at| at + 3);
        if whole.starts_with(b"//") {
            // A browser reads `//elsewhere` as another host.
            return Err(Fault::new(Kind::BadRequest, "a redirect target that begins with two slashes"));
        }
        let slash = memchr(b'/', &whole[authority..end]).map_or(end, |at| authority + at);
        if slash < end && !is_canonical(&whole[slash..end]) {
            return Err(Fault::new(Kind::BadRequest, "a redirect target that is not canonical"));
        }
        Ok(())
    }

    /// `absent`: what becomes of that which says who makes the request where it is not known.
    fn encoded(
        &self,
        exchange: &Exchange,
        out: &mut Vec<u8>,
        absent: impl Fn(&Variable, &mut Vec<u8>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut in_query = false;
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => {
                    out.extend_from_slice(text.as_bytes());
                    in_query |= text.contains('?');
                }
                // `&` and `=` are ordinary in a segment and are not in a query.
                Piece::Param(index) if in_query => {
                    let mut decoded = Vec::new();
                    path::decode(exchange.param(*index as usize), &mut decoded);
                    path::encode(&decoded, out);
                }
                // A segment of a canonical path is encoded already, and so is a remainder, slashes and all.
                Piece::Param(index) => out.extend_from_slice(exchange.param(*index as usize)),
                // So is the whole path.
                Piece::Variable(Variable::RequestPath) if !in_query => out.extend_from_slice(exchange.request.path()),
                Piece::Variable(variable) => {
                    if !with_variable(variable, exchange, |text| path::encode(text, out)) {
                        absent(variable, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A header's value; `None`: it says something of who makes the request that is not known, and there is no header then. A control
    /// character, as an escape may hide in a parameter, is refused.
    pub fn header(&self, exchange: &Exchange) -> Result<Option<Vec<u8>>, Fault> {
        let mut out = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Param(index) => path::decode(exchange.param(*index as usize), &mut out),
                Piece::Variable(variable) => {
                    if !with_variable(variable, exchange, |text| out.extend_from_slice(text)) {
                        return Ok(None);
                    }
                }
            }
        }
        if out.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
            return Err(Fault::new(Kind::BadRequest, "a control character on its way into a header"));
        }
        Ok(Some(out))
    }
}

/// Half a path leads somewhere else.
fn unknown(variable: &Variable, _: &mut Vec<u8>) -> Result<(), Fault> {
    Err(Fault::new(Kind::Forbidden, format!("the address needs `{{{variable}}}`, which is not there")))
}

fn rewritten(path: &[u8]) -> Result<(), Fault> {
    match is_canonical(path) {
        true => Ok(()),
        false => Err(Fault::new(Kind::BadRequest, "a rewritten path that is not canonical")),
    }
}

/// Whether a path with escapes in it is as the gateway would write it.
fn is_canonical(path: &[u8]) -> bool {
    if path::is_canonical(path) {
        return true;
    }
    let mut canonical = Vec::with_capacity(path.len());
    path::canonical(path, &mut canonical).is_ok() && canonical == path
}

fn memchr(byte: u8, text: &[u8]) -> Option<usize> {
    text.iter().position(|&b| b == byte)
}

/// Whether it is there. Only what says who makes the request may be absent; anything else is empty then.
fn with_variable(variable: &Variable, exchange: &Exchange, mut then: impl FnMut(&[u8])) -> bool {
    match variable {
        Variable::ClientIp => then(exchange.client_ip().to_string().as_bytes()),
        Variable::RequestId => then(exchange.request_id()),
        Variable::RequestHost => then(exchange.request.host()),
        Variable::RequestMethod => then(exchange.request.method_text()),
        Variable::RequestPath => then(exchange.request.path()),
        Variable::RequestScheme => then(exchange.scheme.text().as_bytes()),
        Variable::Header(name) => then(exchange.request.headers.get(name.as_str().as_bytes()).unwrap_or_default()),
        Variable::Query(name) => {
            let mut decoded = Vec::new();
            if let Some(value) = query_value(exchange.request.query().unwrap_or_default(), name.as_bytes()) {
                path::decode(value, &mut decoded);
            }
            then(&decoded);
        }
        Variable::Identity(who) => {
            let Some(text) = exchange.principal.as_deref().and_then(|principal| said(who, principal)) else { return false };
            then(text.as_bytes());
        }
    }
    true
}

/// What a back end gets to know of a principal: nothing rather than something that could be read as another's.
fn said<'a>(who: &Who, principal: &'a Principal) -> Option<Cow<'a, str>> {
    let text = match who {
        Who::Subject => Cow::Borrowed(principal.subject.as_deref()?),
        Who::Authorizer => Cow::Borrowed(&*principal.authorizer),
        Who::Issuer => Cow::Borrowed(principal.issuer.as_deref()?),
        Who::Scopes => Cow::Owned(joined(principal.scopes.iter().map(|scope| Cow::Borrowed(&**scope)))?),
        Who::Groups => Cow::Owned(joined(principal.groups().map(Cow::Borrowed))?),
        Who::Consumer => Cow::Borrowed(principal.consumer_name()?),
        Who::Claim(path) => match principal.claim(path)? {
            Value::Array(items) => Cow::Owned(joined(items.iter().map(scalar).collect::<Option<Vec<_>>>()?.into_iter())?),
            value => scalar(value)?,
        },
    };
    // White space at an end is lost on the way, and ` alice` would arrive as `alice`.
    (!text.is_empty() && text.trim() == text).then_some(text)
}

fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `None` where an element could be read as two.
fn joined<'a>(items: impl Iterator<Item = Cow<'a, str>>) -> Option<String> {
    let mut out = String::new();
    for item in items {
        if item.is_empty() || item.contains(',') || item.trim() != item {
            return None;
        }
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&item);
    }
    Some(out)
}

/// The first value of a query parameter, still encoded. Names are compared decoded.
pub fn query_value<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query_values(query, name).next()
}

/// Every value of a query parameter, still encoded.
pub fn query_values<'a>(query: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    query.split(|&byte| byte == b'&').filter_map(move |pair| {
        let (key, value) = key_and_value(pair);
        is_key(key, name).then_some(value)
    })
}

/// A query without that parameter; the others stay as they were.
pub fn query_without(query: &[u8], name: &[u8]) -> Vec<u8> {
    let others = query.split(|&byte| byte == b'&').filter(|pair| !is_key(key_and_value(pair).0, name));
    others.collect::<Vec<_>>().join(&b'&')
}

fn key_and_value(pair: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr(b'=', pair).unwrap_or(pair.len());
    (&pair[..at], pair.get(at + 1..).unwrap_or_default())
}

fn is_key(key: &[u8], name: &[u8]) -> bool {
    if key == name || !key.contains(&b'%') {
        return key == name;
    }
    let mut decoded = Vec::new();
    path::decode(key, &mut decoded);
    decoded == name && !decoded.is_empty()
}

/// A path and its query, with `***` for the values of these parameters. Names are compared decoded.
pub fn masked<'a>(target: &'a [u8], names: &[String]) -> Cow<'a, [u8]> {
    let Some(at) = memchr(b'?', target).filter(|_| !names.is_empty()) else { return Cow::Borrowed(target) };
    let (path, query) = target.split_at(at + 1);
    let is_masked = |pair: &[u8]| names.iter().any(|name| is_key(key_and_value(pair).0, name.as_bytes()));
    if !query.split(|&byte| byte == b'&').any(is_masked) {
        return Cow::Borrowed(target);
    }
    let mut out = path.to_vec();
    for (index, pair) in query.split(|&byte| byte == b'&').enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        match is_masked(pair) {
            true => {
                out.extend_from_slice(key_and_value(pair).0);
                out.extend_from_slice(b"=***");
            }
            false => out.extend_from_slice(pair),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(claims: Value) -> Principal {
        let Value::Object(claims) = claims else { unreachable!() };
        let consumer = crate::identity::Consumer {
            name: "acme".into(),
            plan: None,
            account: Default::default(),
            groups: ["paying".into()].into(),
            disabled: false,
        };
        Principal {
            authorizer: "staff".into(),
            subject: Some("alice/../x".into()),
            consumer: Some(std::sync::Arc::new(consumer)),
            claims,
            scopes: ["a".into(), "b".into()].into(),
            groups: ["staff".into()].into(),
            ..Principal::default()
        }
    }

    fn rendered(template: &str, principal: Option<Principal>) -> Result<Option<String>, Kind> {
        let mut exchange = Exchange::new(std::time::Instant::now());
        exchange.principal = principal.map(std::sync::Arc::new);
        let text = Text::compile(&Template::parse(template).expect("a good template"), &[]).expect("no parameters");
        let value = text.header(&exchange).map_err(|fault| fault.kind)?;
        Ok(value.map(|value| String::from_utf8(value).expect("text")))
    }

    #[test]
    fn a_header_says_who_it_is_as_a_whole_or_not_at_all() {
        let claims = serde_json::json!({
            "tenant": "acme", "level": 3, "ratio": 0.5, "admin": true, "none": null, "empty": "", "spaced": " x",
            "roles": ["cook", 3, true], "no_roles": [], "sly": ["a", "b,admin"], "deep": [["a"]], "realm": { "role": "chef" },
            "split": "a\r\nx-admin: 1", "ünï": "ü",
        });
        for (template, value) in [
            ("{principal.subject}", Some("alice/../x")),
            ("{principal.authorizer}", Some("staff")),
            ("{principal.issuer}", None),
            ("{principal.scopes}", Some("a,b")),
            ("{principal.groups}", Some("staff,paying")),
            ("{consumer}", Some("acme")),
            ("{claims.tenant}", Some("acme")),
            ("{claims.level}/{claims.ratio}/{claims.admin}", Some("3/0.5/true")),
            ("{claims.realm.role}", Some("chef")),
            ("{claims.realm}", None),
            ("{claims.roles}", Some("cook,3,true")),
            ("{claims.ünï}", Some("ü")),
            ("{claims.none}", None),
            ("{claims.empty}", None),
            ("{claims.spaced}", None),
            ("{claims.no_roles}", None),
            ("{claims.sly}", None),
            ("{claims.deep}", None),
            ("{claims.other}", None),
            ("for {claims.tenant} by {claims.other}", None),
            ("{{{consumer}}}", Some("{acme}")),
        ] {
            assert_eq!(rendered(template, Some(principal(claims.clone()))), Ok(value.map(str::to_owned)), "{template}");
            assert_eq!(rendered(template, None), Ok(None), "{template} of nobody");
            assert_eq!(rendered(template, Some(Principal::anonymous())), Ok(None), "{template} of somebody unknown");
        }
        assert_eq!(rendered("{claims.split}", Some(principal(claims))), Err(Kind::BadRequest));
    }

    #[test]
    fn what_a_path_says_of_who_it_is_stays_one_segment_and_is_never_half() {
        let of = |template: &str, principal: Option<Principal>| {
            let mut exchange = Exchange::new(std::time::Instant::now());
            exchange.principal = principal.map(std::sync::Arc::new);
            let text = Text::compile(&Template::parse_rewrite(template).expect("a good template"), &[]).expect("no parameters");
            let mut out = Vec::new();
            text.path(&exchange, &mut out).map_err(|fault| fault.kind)?;
            Ok(String::from_utf8(out).expect("text"))
        };
        let claims = serde_json::json!({ "dots": "..", "tenant": "a?b#c" });
        let alice = || Some(principal(claims.clone()));
        assert_eq!(of("/u/{principal.subject}/x", alice()), Ok("/u/alice%2F..%2Fx/x".to_owned()));
        assert_eq!(of("/u/{claims.tenant}", alice()), Ok("/u/a%3Fb%23c".to_owned()));
        assert_eq!(of("/u/{claims.dots}/x", alice()), Err(Kind::BadRequest));
        assert_eq!(of("/u/{claims.other}/x", alice()), Err(Kind::Forbidden));
        assert_eq!(of("/u/{principal.subject}/x", None), Err(Kind::Forbidden));
    }

    #[test]
    fn a_credential_in_a_query_is_masked_and_nothing_else() {
        let names = ["key".to_owned(), "token".to_owned()];
        for (target, shown) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/key=1", "/key=1"),
            ("/a?b=1", "/a?b=1"),
            ("/a?key=1", "/a?key=***"),
            ("/a?b=1&key=1&key=&c&token=x=y?z", "/a?b=1&key=***&key=***&c&token=***"),
            ("/a?k%65y=1&Key=2&keys=3", "/a?k%65y=***&Key=2&keys=3"),
            ("/a?b=?key=1", "/a?b=?key=1"),
        ] {
            assert_eq!(String::from_utf8_lossy(&masked(target.as_bytes(), &names)), shown, "{target}");
            assert_eq!(masked(target.as_bytes(), &[]), target.as_bytes());
        }
    }
}
