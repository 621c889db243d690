//! IAM policies as authorizers return them: read strictly, and evaluated against the ARN of one method. An explicit Deny wins, and what nothing
//! allows is denied. Whatever is not known here makes the whole document invalid: half a policy would be a wider door.

use maitred_model::IpNet;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// Serialised. With ARNs of at most 1600 bytes, that bounds what matching may cost.
const POLICY_BYTES_MAX: usize = 8 * 1024;
/// What a request to an API asks for: `execute-api:Invoke`. Actions have no case, and are compared in lower case.
const ACTION: &str = "execute-api:invoke";

/// What a policy comes to for one method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    ExplicitDeny,
    ImplicitDeny,
}

/// What conditions look at besides the ARN.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    pub source_ip: IpAddr,
    pub is_secure: bool,
    pub user_agent: Option<&'a str>,
    pub referer: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq)]
struct Statement {
    denies: bool,
    actions: Patterns,
    resources: Patterns,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq)]
struct Patterns {
    /// `NotAction`, `NotResource`: whatever matches none of them.
    inverted: bool,
    list: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    /// `Not…`: holds where none matches, and where there is nothing to match.
    inverted: bool,
    key: Key,
    test: Test,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    SourceIp,
    SecureTransport,
    UserAgent,
    Referer,
}

/// Any of them suffices.
#[derive(Debug, Clone, PartialEq)]
enum Test {
    Networks(Vec<IpNet>),
    Equals(Vec<String>),
    EqualsAnyCase(Vec<String>),
    Like(Vec<String>),
    Bool(Vec<bool>),
}

impl Policy {
    /// `policyDocument` of an authorizer's result. `Err`: why it is none, for the log.
    pub fn read(document: &Value) -> Result<Policy, &'static str> {
        let Value::Object(members) = document else { return Err("the policy is no object") };
        if document.to_string().len() > POLICY_BYTES_MAX {
            return Err("the policy is too large");
        }
        for name in members.keys() {
            if !["Version", "Id", "Statement"].contains(&name.as_str()) {
                return Err("the policy has an element that is not known");
            }
        }
        let statements = match members.get("Statement") {
            Some(Value::Array(list)) => list.iter().map(Statement::read).collect::<Result<_, _>>()?,
            Some(one @ Value::Object(_)) => vec![Statement::read(one)?],
            Some(_) | None => return Err("the policy has no statements"),
        };
        Ok(Policy { statements })
    }

    /// Whether there is any method that it could allow.
    pub fn may_allow(&self) -> bool {
        self.statements.iter().any(|statement| !statement.denies)
    }

    /// For the method of this ARN.
    pub fn evaluate(&self, arn: &str, circumstances: &Circumstances<'_>) -> Verdict {
        let mut verdict = Verdict::ImplicitDeny;
        for statement in &self.statements {
            if !statement.applies(arn, circumstances) {
                continue;
            }
            if statement.denies {
                return Verdict::ExplicitDeny;
            }
            verdict = Verdict::Allow;
        }
        verdict
    }
}

impl Statement {
    fn read(statement: &Value) -> Result<Statement, &'static str> {
        let Value::Object(members) = statement else { return Err("a statement is no object") };
        const KNOWN: [&str; 7] = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];
        if !members.keys().all(|name| KNOWN.contains(&name.as_str())) {
            return Err("a statement has an element that is not known");
        }
        let denies = match members.get("Effect").and_then(Value::as_str) {
            Some("Allow") => false,
            Some("Deny") => true,
            Some(_) | None => return Err("a statement neither allows nor denies"),
        };
        let mut actions = Patterns::read(members, "Action", "NotAction")?;
        actions.list.iter_mut().for_each(|pattern| pattern.make_ascii_lowercase());
        Ok(Statement {
            denies,
            actions,
            resources: Patterns::read(members, "Resource", "NotResource")?,
            conditions: conditions(members.get("Condition"))?,
        })
    }

    fn applies(&self, arn: &str, circumstances: &Circumstances<'_>) -> bool {
        self.actions.hold(|pattern| glob(pattern.as_bytes(), ACTION.as_bytes()))
            && self.resources.hold(|pattern| glob(pattern.as_bytes(), arn.as_bytes()))
            && self.conditions.iter().all(|condition| condition.holds(circumstances))
    }
}

impl Patterns {
    fn read(members: &Map<String, Value>, plain: &str, inverted: &str) -> Result<Patterns, &'static str> {
        let (inverted, value) = match (members.get(plain), members.get(inverted)) {
            (Some(value), None) => (false, value),
            (None, Some(value)) => (true, value),
            (None, None) => return Err("a statement lacks actions or resources"),
            (Some(_), Some(_)) => return Err("a statement says what it is about twice"),
        };
        let list = texts(value)?;
        if list.is_empty() {
            return Err("a statement is about nothing");
        }
        // Policy variables: what they stand for is not known here.
        if list.iter().any(|pattern| pattern.contains("${")) {
            return Err("a statement has a policy variable");
        }
        Ok(Patterns { inverted, list })
    }

    fn hold(&self, matches: impl Fn(&str) -> bool) -> bool {
        self.list.iter().any(|pattern| matches(pattern)) != self.inverted
    }
}

/// One text or a list of them.
fn texts(value: &Value) -> Result<Vec<String>, &'static str> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(list) => {
            list.iter().map(|item| item.as_str().map(str::to_owned).ok_or("a list of something else than texts")).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err("neither a text nor a list of them"),
    }
}

fn conditions(value: Option<&Value>) -> Result<Vec<Condition>, &'static str> {
    let operators = match value {
        None => return Ok(Vec::new()),
        Some(Value::Object(operators)) => operators,
        Some(_) => return Err("a condition is no object"),
    };
    let mut list = Vec::new();
    for (operator, keys) in operators {
        let Value::Object(keys) = keys else { return Err("a condition is no object") };
        for (key, values) in keys {
            list.push(Condition::read(operator, key, values)?);
        }
    }
    Ok(list)
}

impl Condition {
    fn read(operator: &str, key: &str, values: &Value) -> Result<Condition, &'static str> {
        let key = match key.to_ascii_lowercase().as_str() {
            "aws:sourceip" => Key::SourceIp,
            "aws:securetransport" => Key::SecureTransport,
            "aws:useragent" => Key::UserAgent,
            "aws:referer" => Key::Referer,
            _ => return Err("a condition looks at something that is not known"),
        };
        let values = match values {
            Value::Bool(value) => vec![value.to_string()],
            other => texts(other)?,
        };
        if values.is_empty() {
            return Err("a condition without values");
        }
        let (inverted, test) = match operator {
            "IpAddress" => (false, Test::Networks(networks(&values)?)),
            "NotIpAddress" => (true, Test::Networks(networks(&values)?)),
            "StringEquals" => (false, Test::Equals(values)),
            "StringNotEquals" => (true, Test::Equals(values)),
            "StringEqualsIgnoreCase" => (false, Test::EqualsAnyCase(values)),
            "StringNotEqualsIgnoreCase" => (true, Test::EqualsAnyCase(values)),
            "StringLike" => (false, Test::Like(values)),
            "StringNotLike" => (true, Test::Like(values)),
            "Bool" => {
                let flags = values.iter().map(|value| value.parse().map_err(|_| "a condition that is neither true nor false"));
                (false, Test::Bool(flags.collect::<Result<_, _>>()?))
            }
            _ => return Err("a condition with an operator that is not known"),
        };
        let fits = match test {
            Test::Networks(_) => key == Key::SourceIp,
            Test::Bool(_) => key == Key::SecureTransport,
            Test::Equals(_) | Test::EqualsAnyCase(_) | Test::Like(_) => matches!(key, Key::UserAgent | Key::Referer),
        };
        if !fits {
            return Err("a condition compares what cannot be compared");
        }
        Ok(Condition { inverted, key, test })
    }

    fn holds(&self, circumstances: &Circumstances<'_>) -> bool {
        let text = match self.key {
            Key::UserAgent => circumstances.user_agent,
            Key::Referer => circumstances.referer,
            Key::SourceIp | Key::SecureTransport => None,
        };
        let matches = match (&self.test, text) {
            (Test::Networks(networks), _) => networks.iter().any(|network| network.contains(circumstances.source_ip)),
            (Test::Bool(flags), _) => flags.contains(&circumstances.is_secure),
            (Test::Equals(values), Some(text)) => values.iter().any(|value| value == text),
            (Test::EqualsAnyCase(values), Some(text)) => values.iter().any(|value| value.eq_ignore_ascii_case(text)),
            (Test::Like(values), Some(text)) => values.iter().any(|value| glob(value.as_bytes(), text.as_bytes())),
            (Test::Equals(_) | Test::EqualsAnyCase(_) | Test::Like(_), None) => false,
        };
        matches != self.inverted
    }
}

fn networks(values: &[String]) -> Result<Vec<IpNet>, &'static str> {
    values.iter().map(|value| IpNet::parse(value).map_err(|_| "a condition with something that is no network")).collect()
}

/// `*` is any number of bytes, slashes too, and `?` is one. Goes back to the last star alone, so that it costs no more than the product of both.
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    // Behind the last star, and where in the text it was tried last.
    let mut star: Option<(usize, usize)> = None;
    while place < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, place));
            }
            Some(&byte) if byte == b'?' || byte == text[place] => {
                at += 1;
                place += 1;
            }
            Some(_) | None => {
                let Some((behind, tried)) = star else { return false };
                (at, place) = (behind, tried + 1);
                star = Some((behind, tried + 1));
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::net::Ipv4Addr;

    const ARN: &str = "arn:aws:execute-api:eu-west-1:123456789012:abc/prod/GET/pets/7";
    const NOBODY: Circumstances<'_> = Circumstances {
        source_ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)),
        is_secure: true,
        user_agent: Some("curl/8"),
        referer: None,
    };

    fn evaluate(statements: Value) -> Verdict {
        let policy = Policy::read(&json!({ "Version": "2012-10-17", "Statement": statements })).expect("a policy");
        policy.evaluate(ARN, &NOBODY)
    }

    fn statement(effect: &str, resource: &str) -> Value {
        json!({ "Effect": effect, "Action": "execute-api:Invoke", "Resource": resource })
    }

    #[test]
    fn what_a_resource_matches() {
        for (resource, allowed) in [
            (ARN, true),
            ("*", true),
            ("arn:aws:execute-api:*:*:abc/*/GET/pets/*", true),
            ("arn:aws:execute-api:*:*:*/*/GET/*", true),
            ("arn:aws:execute-api:eu-west-1:123456789012:abc/prod/*", true),
            ("arn:aws:execute-api:eu-west-1:123456789012:abc/prod/GET/pets/?", true),
            ("arn:aws:execute-api:eu-west-1:123456789012:abc/prod/GET/pets/??", false),
            ("arn:aws:execute-api:eu-west-1:123456789012:abc/prod/GET/pets", false),
            ("arn:aws:execute-api:eu-west-1:123456789012:abc/prod/get/pets/7", false),
            ("arn:aws:execute-api:eu-west-1:123456789012:abc/prod/POST/*", false),
            ("arn:aws:execute-api:eu-west-1:123456789012:xyz/*", false),
            ("", false),
        ] {
            let wanted = if allowed { Verdict::Allow } else { Verdict::ImplicitDeny };
            assert_eq!(evaluate(json!([statement("Allow", resource)])), wanted, "{resource}");
            let wanted = if allowed { Verdict::ExplicitDeny } else { Verdict::Allow };
            assert_eq!(evaluate(json!([statement("Allow", "*"), statement("Deny", resource)])), wanted, "{resource}");
        }
    }

    #[test]
    fn actions_lists_and_what_is_left_out() {
        for (statement, wanted) in [
            (json!({ "Effect": "Allow", "Action": "*", "Resource": "*" }), Verdict::Allow),
            (json!({ "Effect": "Allow", "Action": "execute-api:*", "Resource": "*" }), Verdict::Allow),
            (json!({ "Effect": "Allow", "Action": "Execute-API:invoke", "Resource": "*" }), Verdict::Allow),
            (json!({ "Effect": "Allow", "Action": ["s3:*", "execute-api:Invoke"], "Resource": ["a", "*"] }), Verdict::Allow),
            (json!({ "Effect": "Allow", "Action": "execute-api:ManageConnections", "Resource": "*" }), Verdict::ImplicitDeny),
            (json!({ "Effect": "Allow", "NotAction": "s3:*", "Resource": "*" }), Verdict::Allow),
            (json!({ "Effect": "Allow", "NotAction": "execute-api:*", "Resource": "*" }), Verdict::ImplicitDeny),
            (json!({ "Effect": "Allow", "Action": "*", "NotResource": "*/POST/*" }), Verdict::Allow),
            (json!({ "Effect": "Deny", "Action": "*", "NotResource": "*/POST/*" }), Verdict::ExplicitDeny),
            (json!({ "Effect": "Allow", "Action": "*", "NotResource": ["*/POST/*", "*/GET/*"] }), Verdict::ImplicitDeny),
        ] {
            assert_eq!(evaluate(json!([statement])), wanted, "{statement}");
            assert_eq!(evaluate(statement.clone()), wanted, "one statement without a list: {statement}");
        }
        assert_eq!(evaluate(json!([])), Verdict::ImplicitDeny);
    }

    #[test]
    fn conditions_hold_or_not() {
        for (condition, holds) in [
            (json!({ "IpAddress": { "aws:SourceIp": "10.0.0.0/8" } }), true),
            (json!({ "IpAddress": { "AWS:sourceip": ["192.168.0.0/16", "10.0.0.7"] } }), true),
            (json!({ "IpAddress": { "aws:SourceIp": "192.168.0.0/16" } }), false),
            (json!({ "NotIpAddress": { "aws:SourceIp": ["192.168.0.0/16"] } }), true),
            (json!({ "NotIpAddress": { "aws:SourceIp": ["192.168.0.0/16", "10.0.0.0/8"] } }), false),
            (json!({ "Bool": { "aws:SecureTransport": "true" } }), true),
            (json!({ "Bool": { "aws:SecureTransport": false } }), false),
            (json!({ "StringEquals": { "aws:UserAgent": "curl/8" } }), true),
            (json!({ "StringEquals": { "aws:UserAgent": "CURL/8" } }), false),
            (json!({ "StringEqualsIgnoreCase": { "aws:UserAgent": "CURL/8" } }), true),
            (json!({ "StringLike": { "aws:UserAgent": "curl/*" } }), true),
            (json!({ "StringNotLike": { "aws:UserAgent": "curl/*" } }), false),
            (json!({ "StringEquals": { "aws:Referer": "https://a/" } }), false),
            (json!({ "StringNotEquals": { "aws:Referer": "https://a/" } }), true),
            (json!({ "IpAddress": { "aws:SourceIp": "10.0.0.0/8" }, "Bool": { "aws:SecureTransport": "false" } }), false),
        ] {
            let statement = json!({ "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition });
            assert_eq!(evaluate(json!([statement])) == Verdict::Allow, holds, "{statement}");
        }
    }

    #[test]
    fn what_is_not_understood_is_no_policy() {
        let with = |change: fn(&mut Value)| {
            let mut one = statement("Allow", "*");
            change(&mut one);
            json!({ "Statement": [one] })
        };
        for bad in [
            json!(null),
            json!("*"),
            json!([]),
            json!({}),
            json!({ "Statement": "*" }),
            json!({ "statement": [] }),
            json!({ "Statement": [7] }),
            json!({ "Statement": [], "More": 1 }),
            with(|one| one["Effect"] = json!("allow")),
            with(|one| one["Effect"] = json!(["Allow"])),
            with(|one| _ = one.as_object_mut().unwrap().remove("Effect")),
            with(|one| _ = one.as_object_mut().unwrap().remove("Action")),
            with(|one| _ = one.as_object_mut().unwrap().remove("Resource")),
            with(|one| one["NotAction"] = json!("s3:*")),
            with(|one| one["NotResource"] = json!("x")),
            with(|one| one["Resource"] = json!([])),
            with(|one| one["Resource"] = json!([7])),
            with(|one| one["Resource"] = json!("arn:${aws:username}")),
            with(|one| one["Principal"] = json!("*")),
            with(|one| one["Condition"] = json!("x")),
            with(|one| one["Condition"] = json!({ "Null": { "aws:SourceIp": "true" } })),
            with(|one| one["Condition"] = json!({ "IpAddress": { "aws:VpcSourceIp": "10.0.0.0/8" } })),
            with(|one| one["Condition"] = json!({ "IpAddress": { "aws:SourceIp": "everywhere" } })),
            with(|one| one["Condition"] = json!({ "IpAddress": { "aws:SourceIp": [] } })),
            with(|one| one["Condition"] = json!({ "IpAddressIfExists": { "aws:SourceIp": "10.0.0.0/8" } })),
            with(|one| one["Condition"] = json!({ "StringLike": { "aws:SourceIp": "10.*" } })),
            with(|one| one["Resource"] = json!("x".repeat(POLICY_BYTES_MAX))),
        ] {
            assert!(Policy::read(&bad).is_err(), "{bad}");
        }
    }

    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => plainly(rest, text) || (!text.is_empty() && plainly(pattern, &text[1..])),
            (Some((&wanted, rest)), Some((&byte, others))) => (wanted == b'?' || wanted == byte) && plainly(rest, others),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn an_explicit_deny_wins_wherever_it_stands(
            effects in proptest::collection::vec((any::<bool>(), proptest::sample::select(vec!["*", "x", "*/GET/*", "*/POST/*"])), 0..12),
            at in 0usize..13,
            denied in proptest::sample::select(vec!["*", ARN, "*/GET/*", "arn:aws:execute-api:*"]),
        ) {
            let mut statements: Vec<Value> =
                effects.iter().map(|(allow, resource)| statement(if *allow { "Allow" } else { "Deny" }, resource)).collect();
            let without = evaluate(json!(statements));
            statements.insert(at.min(statements.len()), statement("Deny", denied));
            prop_assert_eq!(evaluate(json!(statements)), Verdict::ExplicitDeny);
            statements.reverse();
            prop_assert_eq!(evaluate(json!(statements)), Verdict::ExplicitDeny);
            let any_allows = effects.iter().any(|(allow, resource)| *allow && glob(resource.as_bytes(), ARN.as_bytes()));
            prop_assert!(any_allows || without != Verdict::Allow);
        }

        #[test]
        fn a_glob_matches_what_the_rules_say(pattern in "[ab*?]{0,8}", text in "[ab/]{0,10}") {
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), plainly(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
