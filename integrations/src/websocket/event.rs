//! What functions are told, as WebSocket APIs of AWS tell it (reference: Amazon API Gateway, "WebSocket API mapping template reference" and
//! its examples of events). Pure: facts go in, the bytes of an event come out. What stays the same for a connection is written once.

use super::answer::Said;
use super::connection::End;
use crate::function::event::{Moment, OWN_NAMES, Query, STAGE, passes};
use maitred_core::{Exchange, Principal, Scheme};
use maitred_model::{CONNECT, DISCONNECT};
use maitred_wire::{Name, base64};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// An event without its message.
const FRAME_BYTES: usize = 1024;

/// What every event of a connection says alike.
pub(super) struct Facts<'a> {
    pub connection: &'a str,
    pub api: &'a str,
    pub domain: &'a str,
    pub source_ip: &'a str,
    pub user_agent: Option<&'a str>,
    /// Since 1970.
    pub connected_at: Duration,
    pub principal: Option<&'a Principal>,
}

/// Those facts, as members of `requestContext`.
pub(super) struct Told(Vec<u8>);

/// What is new with one event.
pub(super) struct Occasion<'a> {
    pub request_id: &'a str,
    /// Since 1970.
    pub time: Duration,
}

impl Told {
    pub fn new(facts: &Facts<'_>) -> Told {
        let mut identity = json!({ "sourceIp": facts.source_ip });
        if let Some(agent) = facts.user_agent {
            identity["userAgent"] = agent.into();
        }
        let mut context = json!({
            "messageDirection": "IN",
            "stage": STAGE,
            "connectedAt": Moment::of(facts.connected_at).millis(),
            "identity": identity,
            "domainName": facts.domain,
            "connectionId": facts.connection,
            "apiId": facts.api,
        });
        if let Some(principal) = facts.principal {
            context["authorizer"] = authorizer(principal);
        }
        let text = context.to_string();
        Told(text.as_bytes()[1..text.len() - 1].to_vec())
    }

    /// Before a client is let in. `trace`: of the request that asks for it.
    pub fn connect(&self, exchange: &Exchange, trace: &str, occasion: &Occasion<'_>) -> Vec<u8> {
        let mut event = self.begin(CONNECT, "CONNECT", &[], occasion);
        let (single, multi) = both(&headers(exchange, trace));
        member(&mut event, "headers", &single);
        member(&mut event, "multiValueHeaders", &multi);
        let query = query(exchange.request.query().unwrap_or_default());
        if !query.is_empty() {
            let (single, multi) = both(&query);
            member(&mut event, "queryStringParameters", &single);
            member(&mut event, "multiValueQueryStringParameters", &multi);
        }
        event.extend_from_slice(b",\"isBase64Encoded\":false}");
        event
    }

    pub fn message(&self, route: &str, id: &str, said: &Said, occasion: &Occasion<'_>) -> Vec<u8> {
        let mut event = self.begin(route, "MESSAGE", &[("messageId", id.into())], occasion);
        event.extend_from_slice(b",\"body\":");
        match said {
            Said::Text(said) => text(&mut event, said),
            Said::Bytes(bytes) => {
                event.push(b'"');
                base64::encode(bytes, &mut event);
                event.push(b'"');
            }
        }
        event.extend_from_slice(match said {
            Said::Text(_) => b",\"isBase64Encoded\":false}",
            Said::Bytes(_) => b",\"isBase64Encoded\":true}",
        });
        event
    }

    pub fn disconnect(&self, host: &str, end: &End, occasion: &Occasion<'_>) -> Vec<u8> {
        let new = [("disconnectStatusCode", end.code.into()), ("disconnectReason", end.reason.as_ref().into())];
        let mut event = self.begin(DISCONNECT, "DISCONNECT", &new, occasion);
        // AWS says these four, three of them with nothing.
        let headers = [("Host", host), ("x-api-key", ""), ("X-Forwarded-For", ""), ("x-restapi", "")];
        let (single, multi) = both(&headers.map(|(name, value)| (name.to_owned(), vec![value.to_owned()])));
        member(&mut event, "headers", &single);
        member(&mut event, "multiValueHeaders", &multi);
        event.extend_from_slice(b",\"isBase64Encoded\":false}");
        event
    }

    /// Up to the end of `requestContext`.
    fn begin(&self, route: &str, kind: &str, new: &[(&str, Value)], occasion: &Occasion<'_>) -> Vec<u8> {
        let mut event = Vec::with_capacity(FRAME_BYTES + self.0.len());
        event.extend_from_slice(b"{\"requestContext\":{\"routeKey\":");
        text(&mut event, route);
        for (name, value) in [("eventType", kind), ("requestId", occasion.request_id), ("extendedRequestId", occasion.request_id)]
        {
            name_of(&mut event, name);
            text(&mut event, value);
        }
        name_of(&mut event, "requestTime");
        let moment = Moment::of(occasion.time);
        text(&mut event, &moment.text());
        name_of(&mut event, "requestTimeEpoch");
        maitred_wire::decimal(&mut event, moment.millis());
        for (name, value) in new {
            member(&mut event, name, value);
        }
        event.push(b',');
        event.extend_from_slice(&self.0);
        event.push(b'}');
        event
    }
}

/// What a client is told whose message nobody answers, in AWS's words.
pub(super) fn trouble(message: &str, connection: &str, request_id: &str) -> String {
    let mut out = b"{\"message\":".to_vec();
    text(&mut out, message);
    for (name, value) in [("connectionId", connection), ("requestId", request_id)] {
        name_of(&mut out, name);
        text(&mut out, value);
    }
    out.push(b'}');
    String::from_utf8(out).unwrap_or_default()
}

fn name_of(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn member(out: &mut Vec<u8>, name: &str, value: &Value) {
    name_of(out, name);
    // Writing into memory cannot fail.
    let _ = serde_json::to_writer(out, value);
}

fn text(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

/// As an authorizer that is a function says it: everything as text. No claim says who it is.
fn authorizer(principal: &Principal) -> Value {
    let mut all = Map::new();
    all.insert("principalId".to_owned(), principal.subject.as_deref().into());
    // Not known here, and expected to be there.
    all.insert("integrationLatency".to_owned(), 0.into());
    for (name, claim) in principal.claims.iter().filter(|(name, _)| !OWN_NAMES.contains(&name.as_str())) {
        let claim = match claim {
            Value::String(text) => text.clone(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => claim.to_string(),
        };
        all.insert(name.clone(), claim.into());
    }
    Value::Object(all)
}

/// Names with all their values.
type Lists = Vec<(String, Vec<String>)>;

/// The last value of each name, and all of them.
fn both(lists: &[(String, Vec<String>)]) -> (Value, Value) {
    let single = lists.iter().map(|(name, values)| (name.clone(), values.last().cloned().into()));
    let multi = lists.iter().map(|(name, values)| (name.clone(), values.clone().into()));
    (Value::Object(single.collect()), Value::Object(multi.collect()))
}

#[derive(Default)]
struct Grouped {
    lists: Lists,
    at: BTreeMap<String, usize>,
}

impl Grouped {
    /// One name is known by its key, and spelled as it came first.
    fn add(&mut self, key: String, name: String, value: String) {
        let next = self.lists.len();
        let at = *self.at.entry(key).or_insert(next);
        if at == next {
            self.lists.push((name, Vec::new()));
        }
        self.lists[at].1.push(value);
    }
}

/// What the client has sent, without what belongs to its connection; who it is by our own word.
fn headers(exchange: &Exchange, trace: &str) -> Lists {
    let mut all = Grouped::default();
    let headers = &exchange.request.headers;
    let mut add = |name: &[u8], value: &[u8]| {
        let name = String::from_utf8_lossy(name).into_owned();
        all.add(name.to_ascii_lowercase(), name, String::from_utf8_lossy(value).into_owned());
    };
    add(b"Host", exchange.request.authority());
    for entry in headers.iter() {
        let (name, value) = (headers.name(entry), headers.value(entry));
        // There is no body whose length it could be.
        let is_length = entry.known == Name::ContentLength;
        if !is_length && passes((entry.known, name, value), exchange.forwarded.trusted, exchange.request_id()) {
            add(name, value);
        }
    }
    let mut chain = Vec::new();
    if exchange.forwarded.trusted {
        for value in headers.all_known(Name::XForwardedFor).filter(|value| !value.is_empty()) {
            chain.extend_from_slice(value);
            chain.extend_from_slice(b", ");
        }
    }
    chain.extend_from_slice(exchange.peer_text.as_bytes());
    add(b"X-Forwarded-For", &chain);
    let proto = headers.known(Name::XForwardedProto).filter(|_| exchange.forwarded.trusted);
    let proto = proto.unwrap_or(exchange.scheme.text().as_bytes());
    add(b"X-Forwarded-Port", port(exchange.request.authority(), proto == Scheme::Https.text().as_bytes()));
    add(b"X-Forwarded-Proto", proto);
    add(b"X-Amzn-Trace-Id", trace.as_bytes());
    all.lists
}

/// That of the authority, or the scheme's.
fn port(authority: &[u8], is_https: bool) -> &[u8] {
    let colon = authority.iter().rposition(|&byte| byte == b':');
    let port = colon.map(|colon| &authority[colon + 1..]).filter(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit));
    port.unwrap_or(if is_https { b"443" } else { b"80" })
}

fn query(query: &[u8]) -> Lists {
    let query = Query::decoded(query);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let groups = query.groups();
    groups.iter().map(|run| (text(query.name(run[0])), run.iter().map(|&at| text(query.value(at))).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_wire::{HeadLimits, Parsed};
    use std::time::Instant;

    const FACTS: Facts<'static> = Facts {
        connection: "AAAA1234",
        api: "restaurant",
        domain: "shop.example",
        source_ip: "192.0.2.1",
        user_agent: Some("cutlery/1"),
        connected_at: Duration::from_millis(1_707_502_303_419),
        principal: None,
    };
    const OCCASION: Occasion<'static> = Occasion { request_id: "r-1", time: Duration::from_millis(1_707_502_303_420) };

    const TRACE: &str = "Root=1-67891233-abcdef012345678912345678";

    fn value(event: &[u8]) -> Value {
        serde_json::from_slice(event).unwrap_or_else(|error| panic!("{error}: {}", event.escape_ascii()))
    }

    fn context(route: &str, kind: &str) -> Value {
        json!({
            "routeKey": route,
            "eventType": kind,
            "extendedRequestId": "r-1",
            "requestTime": "09/Feb/2024:18:11:43 +0000",
            "messageDirection": "IN",
            "stage": "$default",
            "connectedAt": 1_707_502_303_419u64,
            "requestTimeEpoch": 1_707_502_303_420u64,
            "identity": { "sourceIp": "192.0.2.1", "userAgent": "cutlery/1" },
            "requestId": "r-1",
            "domainName": "shop.example",
            "connectionId": "AAAA1234",
            "apiId": "restaurant",
        })
    }

    fn exchange(head: &str) -> Exchange {
        let mut exchange = Exchange::new(Instant::now());
        let limits = HeadLimits { head_bytes: 4096, fields: 40, target_bytes: 2048, drop_underscores: false };
        assert!(matches!(exchange.request.parse(head.as_bytes(), &limits), Ok(Parsed::Complete(_))), "{head}");
        exchange
    }

    #[test]
    fn the_event_of_a_connection() {
        let exchange = exchange(
            "GET /chat?room=a%20b&room=c+d&x=%zz&y&=z&%F0%9F HTTP/1.1\r\nHost: shop.example:8443\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nAccept: a\r\naccept: b\r\n\
             X-Forwarded-For: 10.9.9.9\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Proto: https\r\nForwarded: for=10.9.9.9\r\n\
             X-Amzn-Oidc-Identity: x\r\nX-Real-IP: x\r\nX-Amzn-Trace-Id: x\r\nProxy: x\r\nX-Odd: \u{fc}\r\n\r\n",
        );
        let event = value(&Told::new(&FACTS).connect(&exchange, TRACE, &OCCASION));
        let single = |values: &[(&str, &str)]| -> Value {
            Value::Object(values.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect())
        };
        let headers = [
            ("Host", "shop.example:8443"),
            ("Sec-WebSocket-Version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Accept", "b"),
            ("X-Odd", "\u{fc}"),
            ("X-Forwarded-For", "0.0.0.0"),
            ("X-Forwarded-Port", "8443"),
            ("X-Forwarded-Proto", "http"),
            ("X-Amzn-Trace-Id", TRACE),
        ];
        assert_eq!(event["headers"], single(&headers));
        let mut multi: Value =
            headers.iter().map(|(name, value)| ((*name).to_owned(), json!([value]))).collect::<Map<_, _>>().into();
        multi["Accept"] = json!(["a", "b"]);
        assert_eq!(event["multiValueHeaders"], multi);
        assert_eq!(
            event["queryStringParameters"],
            single(&[("room", "c d"), ("x", "%zz"), ("y", ""), ("", "z"), ("\u{fffd}", "")])
        );
        assert_eq!(event["multiValueQueryStringParameters"]["room"], json!(["a b", "c d"]));
        assert_eq!(event["requestContext"], context("$connect", "CONNECT"));
        assert_eq!(event["isBase64Encoded"], false);
        assert!(event.get("body").is_none(), "{event}");
    }

    #[test]
    fn who_is_trusted_says_whom_it_speaks_for() {
        let mut exchange = exchange("GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.9.9.9\r\nX-Forwarded-Proto: https\r\n\r\n");
        exchange.forwarded.trusted = true;
        let event = value(&Told::new(&FACTS).connect(&exchange, TRACE, &OCCASION));
        assert_eq!(event["headers"]["X-Forwarded-For"], "10.9.9.9, 0.0.0.0");
        assert_eq!(event["headers"]["X-Forwarded-Proto"], "https");
        assert_eq!(event["headers"]["X-Forwarded-Port"], "443");
        assert!(event.get("queryStringParameters").is_none(), "as AWS, which leaves out what is not there");
    }

    #[test]
    fn the_event_of_a_message() {
        let told = Told::new(&FACTS);
        let event = value(&told.message("join", "m-1", &Said::Text("say \"hi\"\n\u{1f35c}".into()), &OCCASION));
        let mut wanted = context("join", "MESSAGE");
        wanted["messageId"] = "m-1".into();
        assert_eq!(event, json!({ "requestContext": wanted, "body": "say \"hi\"\n\u{1f35c}", "isBase64Encoded": false }));
        let event = value(&told.message("$default", "m-2", &Said::Bytes(vec![0xff, 0]), &OCCASION));
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
        assert_eq!(event["requestContext"]["routeKey"], "$default");
    }

    #[test]
    fn the_event_of_an_end() {
        let end = End { code: 1001, reason: "Going away".into() };
        let event = value(&Told::new(&FACTS).disconnect("shop.example", &end, &OCCASION));
        let mut wanted = context("$disconnect", "DISCONNECT");
        wanted["disconnectStatusCode"] = 1001.into();
        wanted["disconnectReason"] = "Going away".into();
        assert_eq!(event["requestContext"], wanted);
        assert_eq!(event["headers"], json!({ "Host": "shop.example", "x-api-key": "", "X-Forwarded-For": "", "x-restapi": "" }));
        assert_eq!(event["multiValueHeaders"]["x-api-key"], json!([""]));
        assert_eq!(event["isBase64Encoded"], false);
    }

    #[test]
    fn who_was_vouched_for_is_told_in_every_event() {
        let claims = json!({
            "room": "north", "seats": 4, "vip": true, "dishes": ["soup"], "principalId": "owner", "integrationLatency": "x",
        });
        let principal = Principal {
            authorizer: "door".into(),
            subject: Some("guest".into()),
            claims: claims.as_object().cloned().unwrap_or_default(),
            ..Principal::default()
        };
        let told = Told::new(&Facts { principal: Some(&principal), ..FACTS });
        let event = value(&told.message("$default", "m", &Said::Text(String::new()), &OCCASION));
        assert_eq!(
            event["requestContext"]["authorizer"],
            json!({ "principalId": "guest", "integrationLatency": 0, "room": "north", "seats": "4", "vip": "true", "dishes": "[\"soup\"]" })
        );
    }

    #[test]
    fn trouble_is_told_in_the_words_of_aws() {
        assert_eq!(trouble("Forbidden", "c", "r"), r#"{"message":"Forbidden","connectionId":"c","requestId":"r"}"#);
    }
}
