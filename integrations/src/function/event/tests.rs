//! Every row of what AWS tells a function, as a sentence; and that functions in Rust read what is told.

mod http;
mod read_by_others;
mod rest;
mod url_and_alb;

use super::*;
use maitred_core::identity::Consumer;
use maitred_model::{InvocationType, ResponseMode};
use serde_json::{Map, Value, json};

/// A request, and who makes it.
struct Request {
    resource: Resource,
    method: &'static str,
    path: &'static str,
    local_path: &'static str,
    query: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
    params: Vec<&'static str>,
    trusted: bool,
    principal: Option<(Principal, Vouched)>,
    tls: Option<TlsInfo>,
    body: &'static [u8],
}

const TRACE: &str = "Root=1-67891233-abcdef012345678912345678";
const ID: &str = "0190a8c5-7d3e-7000-8000-000000000001";

fn resource(methods: &[&str], path: &str, params: &[(&str, bool)]) -> Resource {
    Resource {
        function: "pets".into(),
        api: "zoo".into(),
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        path: path.to_owned(),
        params: params.iter().map(|(name, is_rest)| ((*name).to_owned(), *is_rest)).collect(),
        region: "eu-west-1".into(),
    }
}

/// GET /api/pets/7 at an API with the base path /api.
fn get() -> Request {
    Request {
        resource: resource(&["GET"], "/pets/{id}", &[("id", false)]),
        method: "GET",
        path: "/api/pets/7",
        local_path: "/pets/7",
        query: None,
        headers: vec![("Host", "zoo.example:8443")],
        params: vec!["7"],
        trusted: false,
        principal: None,
        tls: None,
        body: b"",
    }
}

fn with_headers(headers: &[(&'static str, &'static str)]) -> Request {
    Request { headers: headers.to_vec(), ..get() }
}

fn post(content_type: &'static str, body: &'static [u8]) -> Request {
    Request { method: "POST", body, ..with_headers(&[("content-type", content_type)]) }
}

fn by(vouched: Vouched, principal: Principal) -> Request {
    Request { principal: Some((principal, vouched)), ..get() }
}

fn form(event: EventForm) -> Form {
    Form {
        event,
        response: ResponseMode::Buffered,
        invocation: InvocationType::RequestResponse,
        binary_media_types: Vec::new(),
        multi_value_headers: false,
    }
}

impl Request {
    fn bytes(&self, form: &Form) -> Vec<u8> {
        let mut headers = Headers::default();
        for (name, value) in &self.headers {
            headers.add(name.as_bytes(), value.as_bytes());
        }
        let params: Vec<&[u8]> = self.params.iter().map(|param| param.as_bytes()).collect();
        let asked = Asked {
            resource: &self.resource,
            method: self.method.as_bytes(),
            path: self.path.as_bytes(),
            local_path: self.local_path.as_bytes(),
            query: self.query.map(str::as_bytes),
            headers: &headers,
            params: &params,
            authority: b"zoo.example:8443",
            host: b"zoo.example",
            trusted: self.trusted,
            forwarded_for: b"10.0.0.9",
            proto: b"https",
            port: b"8443",
            client: "10.0.0.9",
            tls: self.tls.as_ref(),
            request_id: ID.as_bytes(),
            trace: TRACE,
            time: Duration::from_millis(1_710_973_003_123),
            principal: self.principal.as_ref().map(|(principal, vouched)| (principal, *vouched)),
            body: self.body,
        };
        write(form, &asked)
    }

    #[track_caller]
    fn told(&self, form: &Form) -> Value {
        let bytes = self.bytes(form);
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)))
    }

    #[track_caller]
    fn v1(&self) -> Value {
        self.told(&form(EventForm::V1))
    }

    #[track_caller]
    fn v2(&self) -> Value {
        self.told(&form(EventForm::V2))
    }
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn claims(claims: Value) -> Map<String, Value> {
    let Value::Object(claims) = claims else { panic!("an object") };
    claims
}

fn alice() -> Principal {
    Principal { authorizer: "shop".into(), subject: Some("alice".into()), ..Principal::default() }
}

fn north() -> Consumer {
    Consumer { name: "north".into(), plan: None, account: Arc::default(), groups: Box::default(), disabled: false }
}
