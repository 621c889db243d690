//! What others say of who it is: answers of authorization servers, results of authorizer functions. Whatever comes is an answer or none, and
//! no policy allows what one of its statements denies.

use maitred_core::identity::json::object;
use maitred_policies::authenticate::introspection::answer::{Answer, Demands, read};
use maitred_policies::authenticate::lambda::policy::{Circumstances, Policy, Verdict, glob};
use maitred_policies::authenticate::lambda::result::{Context, Judgement, read_policy, read_simple};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub fn introspection(data: &[u8]) {
    let answer = read(data);
    let Ok(plain) = serde_json::from_slice::<Value>(data) else {
        assert!(answer.is_err(), "what is no JSON was believed");
        return;
    };
    match answer {
        Err(_) => {}
        Ok(Answer::Inactive) => assert_eq!(plain["active"], false),
        Ok(Answer::Active(meaning)) => {
            assert_eq!(plain["active"], true);
            assert_eq!(object(data).ok().map(Value::Object).as_ref(), Some(&plain), "a strict reading is another");
            // Who is called nothing is nobody.
            assert_eq!(meaning.subject.as_deref(), plain["sub"].as_str().filter(|subject| !subject.is_empty()));
            let demands = Demands { audience: Vec::new(), issuer: meaning.issuer.clone() };
            let last = meaning.expires.unwrap_or(Duration::MAX);
            assert!(meaning.expires.is_none() || meaning.refused(&demands, last).is_some(), "it outlives its end");
            let other =
                Demands { audience: Vec::new(), issuer: Some(format!("{}x", meaning.issuer.clone().unwrap_or_default())) };
            assert!(meaning.refused(&other, Duration::ZERO).is_some(), "anybody may have issued it");
        }
    }
}

pub fn authorizer_result(data: &[u8]) {
    if let Ok(said) = read_simple(data) {
        let plain: Value = serde_json::from_slice(data).expect("what was understood is JSON");
        assert_eq!(said.judgement, Judgement::Plain(plain["isAuthorized"] == true));
    }
    let (texts, kept) = (read_policy(data, Context::Texts), read_policy(data, Context::Kept));
    if let Ok(said) = &texts {
        assert!(said.context.values().all(Value::is_string));
        assert!(kept.is_ok(), "what is good for one kind of API is good for the other");
    }
    let Ok(plain) = object(data).map(Value::Object) else { return };
    let mut document = if kept.is_ok() { plain["policyDocument"].clone() } else { plain };
    let Ok(policy) = Policy::read(&document) else { return };
    const ARN: &str = "arn:aws:execute-api:eu-west-1:123456789012:abc/prod/GET/pets/7";
    let here = Circumstances {
        source_ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)),
        is_secure: true,
        user_agent: Some("curl/8"),
        referer: None,
    };
    let verdict = policy.evaluate(ARN, &here);
    let statements = match document["Statement"].take() {
        Value::Array(list) => list,
        one => vec![one],
    };
    if verdict == Verdict::Allow {
        let matches = |pattern: &Value| pattern.as_str().is_some_and(|pattern| glob(pattern.as_bytes(), ARN.as_bytes()));
        let resource = |one: &Value| {
            one.get("NotResource").is_some()
                || matches(&one["Resource"])
                || one["Resource"].as_array().is_some_and(|list| list.iter().any(matches))
        };
        assert!(statements.iter().any(|one| one["Effect"] == "Allow" && resource(one)), "nothing allows it");
    }
    let deny = json!({ "Effect": "Deny", "Action": "*", "Resource": "*" });
    for statements in [[&[deny.clone()][..], &statements].concat(), [&statements[..], &[deny]].concat()] {
        // With one more statement it may be too large.
        if let Ok(policy) = Policy::read(&json!({ "Statement": statements })) {
            assert_eq!(policy.evaluate(ARN, &here), Verdict::ExplicitDeny);
        }
    }
}
