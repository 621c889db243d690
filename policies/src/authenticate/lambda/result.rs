//! What an authorizer function returned, read: a policy, or a plain yes or no. What cannot be understood is neither.

use super::policy::Policy;
use maitred_core::identity::json;
use serde_json::{Map, Value};

/// A policy has its own bound; the rest is context.
const RESULT_BYTES_MAX: usize = 64 * 1024;

/// What a function said, to be held against each method.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub judgement: Judgement,
    /// Of a policy.
    pub principal_id: Option<String>,
    pub context: Map<String, Value>,
    /// The API key by which usage is counted, where the API's keys come from authorizers.
    pub usage_key: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    Policy(Policy),
    Plain(bool),
}

/// How context is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// All values become texts; objects and lists make the result invalid (REST).
    Texts,
    /// Types are kept (HTTP API).
    Kept,
}

/// `Err`: why it is no result, for the log.
pub fn read_policy(bytes: &[u8], form: Context) -> Result<Said, &'static str> {
    let members = object(bytes)?;
    let Some(Value::String(principal)) = members.get("principalId") else { return Err("`principalId` is no text") };
    let policy = Policy::read(members.get("policyDocument").ok_or("there is no `policyDocument`")?)?;
    let usage_key = match members.get("usageIdentifierKey") {
        None | Some(Value::Null) => None,
        Some(Value::String(key)) => Some(key.clone()),
        Some(_) => return Err("`usageIdentifierKey` is no text"),
    };
    Ok(Said {
        judgement: Judgement::Policy(policy),
        principal_id: Some(principal.clone()),
        context: context(members.get("context"), form)?,
        usage_key,
    })
}

pub fn read_simple(bytes: &[u8]) -> Result<Said, &'static str> {
    let members = object(bytes)?;
    let Some(Value::Bool(allowed)) = members.get("isAuthorized") else { return Err("`isAuthorized` is neither true nor false") };
    let context = context(members.get("context"), Context::Kept)?;
    Ok(Said { judgement: Judgement::Plain(*allowed), principal_id: None, context, usage_key: None })
}

/// The message of an error that a function raised.
pub fn error_message(bytes: &[u8]) -> Option<String> {
    match object(bytes).ok()?.get("errorMessage") {
        Some(Value::String(message)) => Some(message.clone()),
        Some(_) | None => None,
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, &'static str> {
    if bytes.len() > RESULT_BYTES_MAX {
        return Err("the result is too large");
    }
    json::object(bytes).map_err(|_| "the result is no JSON object")
}

fn context(value: Option<&Value>, form: Context) -> Result<Map<String, Value>, &'static str> {
    let members = match value {
        None | Some(Value::Null) => return Ok(Map::new()),
        Some(Value::Object(members)) => members,
        Some(_) => return Err("`context` is no object"),
    };
    if form == Context::Kept {
        return Ok(members.clone());
    }
    let text = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Some(Ok((name.clone(), Value::from(text.as_str())))),
        Value::Number(number) => Some(Ok((name.clone(), Value::from(number.to_string())))),
        Value::Bool(flag) => Some(Ok((name.clone(), Value::from(flag.to_string())))),
        Value::Null => None,
        Value::Array(_) | Value::Object(_) => Some(Err("`context` has an object or a list in it")),
    };
    members.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(change: fn(&mut Value)) -> Vec<u8> {
        let mut value = json!({
            "principalId": "alice",
            "policyDocument": { "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*" }] },
            "context": { "tenant": "a", "level": 7, "beta": true },
            "usageIdentifierKey": "key",
        });
        change(&mut value);
        value.to_string().into_bytes()
    }

    #[test]
    fn what_a_policy_result_says() {
        let said = read_policy(&result(|_| ()), Context::Texts).unwrap();
        assert_eq!((said.principal_id.as_deref(), said.usage_key.as_deref()), (Some("alice"), Some("key")));
        assert_eq!(Value::Object(said.context), json!({ "tenant": "a", "level": "7", "beta": "true" }));
        let said = read_policy(&result(|value| value["context"]["more"] = json!({ "a": [1] })), Context::Kept).unwrap();
        assert_eq!(Value::Object(said.context), json!({ "tenant": "a", "level": 7, "beta": true, "more": { "a": [1] } }));
        for bare in
            [result(|value| value["context"] = Value::Null), result(|value| _ = value.as_object_mut().unwrap().remove("context"))]
        {
            assert!(read_policy(&bare, Context::Texts).unwrap().context.is_empty());
        }
    }

    #[test]
    fn what_is_no_policy_result() {
        for bad in [
            result(|value| value["context"]["list"] = json!([1])),
            result(|value| value["context"]["object"] = json!({})),
            result(|value| value["context"] = json!("x")),
            result(|value| _ = value.as_object_mut().unwrap().remove("principalId")),
            result(|value| value["principalId"] = json!(7)),
            result(|value| _ = value.as_object_mut().unwrap().remove("policyDocument")),
            result(|value| value["policyDocument"] = json!({})),
            result(|value| value["usageIdentifierKey"] = json!(7)),
            result(|value| value["context"]["x"] = json!("x".repeat(RESULT_BYTES_MAX))),
            b"null".to_vec(),
            b"\"Allow\"".to_vec(),
            b"{".to_vec(),
            b"".to_vec(),
            br#"{"principalId":"a","principalId":"b","policyDocument":{"Statement":[]}}"#.to_vec(),
        ] {
            assert!(read_policy(&bad, Context::Texts).is_err(), "{}", String::from_utf8_lossy(&bad));
        }
    }

    #[test]
    fn a_simple_result_says_yes_or_no_and_nothing_between() {
        for (text, wanted) in [
            (r#"{"isAuthorized":true}"#, Some(true)),
            (r#"{"isAuthorized":false,"context":{"a":[1]}}"#, Some(false)),
            (r#"{"isAuthorized":"true"}"#, None),
            (r#"{"isAuthorized":1}"#, None),
            (r#"{"IsAuthorized":true}"#, None),
            (r#"{"isAuthorized":true,"isAuthorized":false}"#, None),
            (r#"{"isAuthorized":true,"context":[]}"#, None),
            ("{}", None),
            ("true", None),
        ] {
            let said = read_simple(text.as_bytes()).ok().map(|said| said.judgement);
            assert_eq!(said, wanted.map(Judgement::Plain), "{text}");
        }
    }
}
