//! Reads what an authorization server says of a token (RFC 7662 §2.2), and holds it against the clock and the configuration. What cannot
//! be understood is no answer: neither yes nor no.

use maitred_core::identity::json::object;
use serde_json::{Map, Value};
use std::time::Duration;

/// What a server says of a token.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Inactive,
    Active(Box<Meaning>),
}

/// What an active token means.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Meaning {
    pub subject: Option<String>,
    pub issuer: Option<String>,
    pub audience: Vec<String>,
    pub scopes: Vec<String>,
    /// Since 1970.
    pub expires: Option<Duration>,
    pub not_before: Option<Duration>,
    /// All that was said, but for `active`.
    pub claims: Map<String, Value>,
}

/// What a token must be.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    /// One of these, where there are any.
    pub audience: Vec<String>,
    pub issuer: Option<String>,
}

/// `Err`: what is wrong with it, for the log.
pub fn read(bytes: &[u8]) -> Result<Answer, &'static str> {
    let Ok(mut claims) = object(bytes) else { return Err("the answer is no JSON object") };
    match claims.shift_remove("active") {
        Some(Value::Bool(false)) => return Ok(Answer::Inactive),
        Some(Value::Bool(true)) => {}
        Some(_) | None => return Err("`active` is neither true nor false"),
    }
    let scopes = text(&claims, "scope")?.unwrap_or_default();
    for name in ["client_id", "username", "token_type", "jti"] {
        text(&claims, name)?;
    }
    Ok(Answer::Active(Box::new(Meaning {
        subject: text(&claims, "sub")?.filter(|subject| !subject.is_empty()),
        issuer: text(&claims, "iss")?,
        audience: texts(&claims, "aud")?,
        scopes: scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
        expires: moment(&claims, "exp")?,
        not_before: moment(&claims, "nbf")?,
        claims,
    })))
}

fn text(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, &'static str> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err("a member that should be text is not")
        }
    }
}

fn texts(claims: &Map<String, Value>, name: &str) -> Result<Vec<String>, &'static str> {
    let Some(Value::Array(list)) = claims.get(name) else { return Ok(text(claims, name)?.into_iter().collect()) };
    let texts: Option<Vec<String>> = list.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    texts.ok_or("`aud` is a list of something else than texts")
}

fn moment(claims: &Map<String, Value>, name: &str) -> Result<Option<Duration>, &'static str> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let seconds = value.as_f64().ok_or("a time that is no number")?;
            // Before 1970 is long ago; what no clock will reach is for ever.
            Ok(Some(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)))
        }
    }
}

impl Meaning {
    /// Why it opens nothing, if so. `unix`: the time since 1970.
    pub fn refused(&self, demands: &Demands, unix: Duration) -> Option<&'static str> {
        if self.expires.is_some_and(|expires| expires <= unix) {
            return Some("the token has expired");
        }
        if self.not_before.is_some_and(|begins| begins > unix) {
            return Some("the token is not valid yet");
        }
        if demands.issuer.as_ref().is_some_and(|issuer| self.issuer.as_ref() != Some(issuer)) {
            return Some("the token is somebody else's");
        }
        let is_meant = demands.audience.is_empty() || demands.audience.iter().any(|wanted| self.audience.contains(wanted));
        (!is_meant).then_some("the token is for others")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(text: &str) -> Meaning {
        match read(text.as_bytes()) {
            Ok(Answer::Active(meaning)) => *meaning,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_a_server_may_say() {
        let all = meaning(
            r#"{"active":true,"sub":"alice","iss":"https://id","aud":["a","b"],"scope":"read  write","exp":1000,"nbf":10,"client_id":"c","x":{"y":1}}"#,
        );
        assert_eq!((all.subject.as_deref(), all.issuer.as_deref()), (Some("alice"), Some("https://id")));
        assert_eq!((all.audience.len(), all.scopes.len()), (2, 2));
        assert_eq!((all.expires, all.not_before), (Some(Duration::from_secs(1000)), Some(Duration::from_secs(10))));
        assert!(!all.claims.contains_key("active") && all.claims["x"]["y"] == 1);
        assert_eq!(meaning(r#"{"active":true}"#), Meaning::default());
        assert_eq!(meaning(r#"{"active":true,"sub":""}"#).subject, None);
        assert_eq!(meaning(r#"{"active":true,"aud":"a"}"#).audience, ["a"]);
        assert_eq!(meaning(r#"{"active":true,"exp":1e300,"nbf":-5}"#).expires, Some(Duration::MAX));
        assert_eq!(read(br#"{"active":false,"exp":"whatever"}"#), Ok(Answer::Inactive));
    }

    #[test]
    fn what_is_no_answer() {
        for bad in [
            "",
            "null",
            "true",
            "[]",
            "{}",
            "<html>",
            r#"{"active":"true"}"#,
            r#"{"active":1}"#,
            r#"{"active":null}"#,
            r#"{"Active":true}"#,
            r#"{"active":false,"active":true}"#,
            r#"{"active":true,"sub":"a","sub":"b"}"#,
            r#"{"active":true,"sub":7}"#,
            r#"{"active":true,"scope":["a"]}"#,
            r#"{"active":true,"aud":[1]}"#,
            r#"{"active":true,"aud":{}}"#,
            r#"{"active":true,"exp":"1000"}"#,
            r#"{"active":true} x"#,
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_held_against_clock_and_demands() {
        let unix = Duration::from_secs(1000);
        let demands = Demands { audience: vec!["kitchen".to_owned(), "bar".to_owned()], issuer: Some("https://id".to_owned()) };
        for (said, good) in [
            (r#""aud":"kitchen","iss":"https://id""#, true),
            (r#""aud":["x","bar"],"iss":"https://id","exp":1001,"nbf":1000"#, true),
            (r#""aud":"kitchen","iss":"https://id","exp":1000"#, false),
            (r#""aud":"kitchen","iss":"https://id","nbf":1000.5"#, false),
            (r#""aud":"kitchen","iss":"https://id/""#, false),
            (r#""aud":"kitchen""#, false),
            (r#""aud":"kitchens","iss":"https://id""#, false),
            (r#""iss":"https://id""#, false),
            (r#""aud":[],"iss":"https://id""#, false),
        ] {
            let text = format!("{{\"active\":true,{said}}}");
            assert_eq!(meaning(&text).refused(&demands, unix).is_none(), good, "{said}");
        }
        assert_eq!(Meaning::default().refused(&Demands::default(), unix), None);
    }
}
