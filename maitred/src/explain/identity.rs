//! Who is asked who makes a request, and what that one must be, in few words. Whether a credential is a good one is not found out here:
//! nobody is asked anything.

use super::protection::Line;
use maitred_dataplane::Asked;
use maitred_model::{Authorize, Cedar, ClaimDemand, Demand};
use serde_json::{Value, json};

pub fn lines(asked: Option<&Asked<'_>>) -> Vec<Line> {
    let Some(asked) = asked else { return vec![("identity", "nobody is asked".to_owned())] };
    let Asked { authorizers, anonymous, decides, is_always_asked, login, demands } = asked;
    let anyone = if *anonymous { ", else anonymous" } else { "" };
    let decided = match decides {
        Some(name) if *is_always_asked => format!("{name}, which is asked about every request"),
        Some(name) => format!("{name}, whose credential the request has"),
        None if *anonymous => "nobody: the request has no credential, and comes in as anonymous".to_owned(),
        None => {
            let login = login.map(|name| format!("; who opens a page is sent to log in by {name}"));
            format!("nobody: the request has no credential, and is answered with 401{}", login.unwrap_or_default())
        }
    };
    let first = [("identity", authorizers.join(", then ") + anyone), ("decided by", decided)];
    first.into_iter().chain(demands.iter().flat_map(|demand| demanded(demand)).map(|words| ("demands", words))).collect()
}

fn demanded(authorize: &Authorize) -> Vec<String> {
    let Authorize { scopes, groups, claims, condition, cedar } = authorize;
    let mut words: Vec<String> = words(scopes, "scope").chain(words(groups, "group")).collect();
    words.extend(claims.iter().map(|(path, demand)| match demand {
        ClaimDemand::Present => format!("the claim {path}"),
        ClaimDemand::OneOf(values) => {
            let values: Vec<String> = values.iter().map(Value::to_string).collect();
            format!("the claim {path}: {}", values.join(" or "))
        }
    }));
    words.extend(
        condition.iter().map(|condition| format!("that {}", condition.value.split_whitespace().collect::<Vec<_>>().join(" "))),
    );
    words.extend(cedar.iter().map(|cedar| policies(cedar)));
    words
}

/// "that a policy of policies/kitchen.cedar permits the action GetOrder on Order::"{id}"".
fn policies(cedar: &Cedar) -> String {
    let files: Vec<String> = cedar.policies.iter().map(|file| file.path.display().to_string()).collect();
    let action = cedar.action.as_ref().map(|action| format!(" the action {}", action.value)).unwrap_or_default();
    let resource = cedar.resource.as_ref().map(|resource| format!(" on {}", resource.value)).unwrap_or_default();
    let what = if action.is_empty() && resource.is_empty() { " it" } else { "" };
    format!("that a policy of {} permits{what}{action}{resource}, and none forbids it", files.join(", "))
}

fn words(demand: &Demand, what: &str) -> impl Iterator<Item = String> {
    let Demand { all, any } = demand;
    let all = (!all.is_empty()).then(|| format!("the {what} {}", all.join(" and ")));
    let any = (!any.is_empty()).then(|| format!("the {what} {}", any.join(" or ")));
    all.into_iter().chain(any)
}

pub fn as_json(asked: &Asked<'_>) -> Value {
    let Asked { authorizers, anonymous, decides, is_always_asked: _, login, demands } = asked;
    json!({
        "authorizers": authorizers,
        "anonymous": anonymous,
        "decides": decides,
        "login": login,
        "status": asked.is_refused().then_some(401),
        "demands": demands.iter().map(|demand| one(demand)).collect::<Value>(),
    })
}

fn one(authorize: &Authorize) -> Value {
    let Authorize { scopes, groups, claims, condition, cedar } = authorize;
    let words = |Demand { all, any }: &Demand| json!({ "all": all, "any": any });
    let claim = |demand: &ClaimDemand| match demand {
        ClaimDemand::Present => "*".into(),
        ClaimDemand::OneOf(values) => Value::Array(values.clone()),
    };
    let mut value = json!({
        "scopes": words(scopes),
        "groups": words(groups),
        "claims": claims.iter().map(|(path, demand)| (path.clone(), claim(demand))).collect::<serde_json::Map<_, _>>(),
        "conditions": condition.iter().map(|condition| condition.value.as_str()).collect::<Value>(),
    });
    if let Some(cedar) = cedar {
        value["cedar"] = policies(cedar).into();
    }
    value
}
