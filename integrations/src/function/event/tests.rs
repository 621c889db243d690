//! Every row of what AWS tells a function, as a sentence; and that functions in Rust read what is told.

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

mod rest {
    use super::*;

    #[test]
    fn every_key_is_there_and_null_where_there_is_nothing() {
        let event = Request { resource: resource(&[], "/pets", &[]), params: Vec::new(), ..get() }.v1();
        assert_eq!(
            keys(&event),
            [
                "body",
                "headers",
                "httpMethod",
                "isBase64Encoded",
                "multiValueHeaders",
                "multiValueQueryStringParameters",
                "path",
                "pathParameters",
                "queryStringParameters",
                "requestContext",
                "resource",
                "stageVariables",
            ],
            "and no `version`"
        );
        for absent in ["body", "multiValueQueryStringParameters", "pathParameters", "queryStringParameters", "stageVariables"] {
            assert_eq!(event[absent], Value::Null, "{absent}");
        }
        assert_eq!((&event["isBase64Encoded"], &event["httpMethod"]), (&json!(false), &json!("GET")));
    }

    #[test]
    fn the_resource_is_the_template_of_the_route() {
        let event = get().v1();
        assert_eq!(event["resource"], "/pets/{id}");
        assert_eq!(event["requestContext"]["resourcePath"], "/pets/{id}");
    }

    #[test]
    fn the_path_is_as_it_was_sent_with_the_base_path_and_without_a_stage() {
        for path in ["/api/a/test%2Balias@x", "/api/proxy-value/", "/api/a//b", "/api"] {
            let event = Request { path, ..get() }.v1();
            assert_eq!((&event["path"], &event["requestContext"]["path"]), (&json!(path), &json!(path)));
        }
    }

    #[test]
    fn parameters_are_not_decoded_and_a_greedy_one_loses_its_last_slash() {
        let greedy = || resource(&[], "/{proxy+}", &[("proxy", true)]);
        for (value, told) in [("proxy-value/", "proxy-value"), ("a//b", "a//b"), ("test%2Balias", "test%2Balias"), ("a/b", "a/b")]
        {
            let event = Request { resource: greedy(), params: vec![value], ..get() }.v1();
            assert_eq!(event["pathParameters"], json!({ "proxy": told }));
        }
        let event = Request { params: vec!["a%2Fb"], ..get() }.v1();
        assert_eq!(event["pathParameters"], json!({ "id": "a%2Fb" }));
    }

    #[test]
    fn queries_are_decoded_and_the_last_of_a_name_wins() {
        let event = Request { query: Some("a=1&b=x+y%26&a=2&c"), ..get() }.v1();
        assert_eq!(event["queryStringParameters"], json!({ "a": "2", "b": "x y&", "c": "" }));
        assert_eq!(event["multiValueQueryStringParameters"], json!({ "a": ["1", "2"], "b": ["x y&"], "c": [""] }));
        assert_eq!(Request { query: Some(""), ..get() }.v1()["queryStringParameters"], Value::Null);
    }

    #[test]
    fn names_of_headers_keep_their_case_but_for_two() {
        let event = with_headers(&[
            ("tEsT-HEADeR", "1"),
            ("authorization", "Bearer x"),
            ("USER-AGENT", "curl/8"),
            ("X-Twice", "a"),
            ("x-twice", "b, c"),
        ])
        .v1();
        let headers = &event["headers"];
        assert_eq!((&headers["tEsT-HEADeR"], &headers["Authorization"]), (&json!("1"), &json!("Bearer x")));
        assert_eq!((&headers["User-Agent"], &headers["X-Twice"]), (&json!("curl/8"), &json!("b, c")));
        // A line with commas stays one element.
        assert_eq!(event["multiValueHeaders"]["X-Twice"], json!(["a", "b, c"]));
        assert_eq!(keys(headers), keys(&event["multiValueHeaders"]));
    }

    #[test]
    fn what_concerns_a_connection_never_arrives() {
        let gone = [
            "Connection",
            "Content-Length",
            "Content-MD5",
            "Expect",
            "Max-Forwards",
            "Proxy-Authenticate",
            "Server",
            "TE",
            "Transfer-Encoding",
            "Trailer",
            "Upgrade",
            "WWW-Authenticate",
            "Keep-Alive",
            "Proxy",
        ];
        let headers: Vec<_> = gone.iter().map(|name| (*name, "x")).collect();
        let event = with_headers(&headers).v1();
        assert_eq!(
            keys(&event["headers"]),
            ["Host", "X-Amzn-Trace-Id", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto"]
        );
    }

    #[test]
    fn the_gateway_s_own_headers_are_added_and_nobody_else_s_are_believed() {
        let forged = [
            ("x-forwarded-for", "1.2.3.4"),
            ("X-Forwarded-Proto", "gopher"),
            ("X-Forwarded-Port", "1"),
            ("X-Forwarded-Host", "elsewhere"),
            ("X-Real-IP", "1.2.3.4"),
            ("Forwarded", "for=1.2.3.4"),
            ("x-amzn-trace-id", "Root=x"),
            ("X-Request-ID", "not the gateway's"),
        ];
        assert_eq!(
            with_headers(&forged).v1()["headers"],
            json!({
                "Host": "zoo.example:8443",
                "X-Forwarded-For": "10.0.0.9",
                "X-Forwarded-Port": "8443",
                "X-Forwarded-Proto": "https",
                "X-Amzn-Trace-Id": TRACE,
            })
        );
        let trusted = Request { trusted: true, ..with_headers(&[("X-Forwarded-Host", "front"), ("X-Request-ID", ID)]) }.v1();
        assert_eq!(trusted["headers"]["X-Forwarded-Host"], "front");
        assert_eq!(trusted["headers"]["X-Request-ID"], ID);
    }

    #[test]
    fn a_missing_accept_or_user_agent_stays_missing() {
        let event = get().v1();
        assert_eq!((&event["headers"]["Accept"], &event["headers"]["User-Agent"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn a_body_is_text_unless_its_type_is_called_binary() {
        let binary = Form { binary_media_types: vec!["image/*".to_owned()], ..form(EventForm::V1) };
        for (content_type, body, told, is_base64) in [
            ("application/json", &b"{\"a\":\"\xc3\xa9\"}"[..], "{\"a\":\"é\"}", false),
            ("application/x-www-form-urlencoded", b"a=1", "a=1", false),
            ("image/png", b"\x89PNG", "iVBORw==", true),
            ("image/svg+xml; charset=utf-8", b"<svg/>", "PHN2Zy8+", true),
            // AWS loses what is no UTF-8; here nothing is lost.
            ("application/octet-stream", b"\xff\x00", "/wA=", true),
        ] {
            let event = post(content_type, body).told(&binary);
            assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!(told), &json!(is_base64)), "{content_type}");
        }
    }

    #[test]
    fn the_context_has_what_aws_has() {
        let event = with_headers(&[("User-Agent", "curl/8")]).v1();
        let context = &event["requestContext"];
        assert_eq!(
            keys(context),
            [
                "accountId",
                "apiId",
                "deploymentId",
                "domainName",
                "domainPrefix",
                "extendedRequestId",
                "httpMethod",
                "identity",
                "path",
                "protocol",
                "requestId",
                "requestTime",
                "requestTimeEpoch",
                "resourceId",
                "resourcePath",
                "stage",
            ],
            "and neither an authorizer nor a canary"
        );
        assert_eq!(context["requestTime"], "20/Mar/2024:22:16:43 +0000");
        assert_eq!(context["requestTimeEpoch"], 1_710_973_003_123_u64);
        assert_eq!(context["requestId"], ID);
        assert_eq!((&context["domainName"], &context["domainPrefix"]), (&json!("zoo.example"), &json!("zoo")));
        assert_eq!((&context["protocol"], &context["stage"]), (&json!("HTTP/1.1"), &json!("$default")));
        assert_eq!((&context["accountId"], &context["apiId"]), (&json!("000000000000"), &json!("zoo")));
        assert_eq!(context["resourceId"].as_str().map(str::len), Some(10));
    }

    #[test]
    fn the_identity_of_nobody_is_null_and_not_absent() {
        let event = with_headers(&[("User-Agent", "curl/8")]).v1();
        assert_eq!(
            event["requestContext"]["identity"],
            json!({
                "accessKey": null, "accountId": null, "caller": null, "cognitoAuthenticationProvider": null,
                "cognitoAuthenticationType": null, "cognitoIdentityId": null, "cognitoIdentityPoolId": null,
                "principalOrgId": null, "sourceIp": "10.0.0.9", "user": null, "userAgent": "curl/8", "userArn": null,
            })
        );
    }

    #[test]
    fn a_key_is_told_by_its_owner_s_name_and_itself_where_it_is_seen_anyway() {
        let principal = Principal { consumer: Some(Arc::new(north())), ..alice() };
        let mut request = by(Vouched::ApiKey, principal);
        let identity = request.v1()["requestContext"]["identity"].take();
        assert_eq!((&identity["apiKeyId"], &identity["apiKey"]), (&json!("north"), &Value::Null));
        request.headers.push(("X-Api-Key", "k"));
        let event = request.v1();
        assert_eq!(event["requestContext"]["identity"]["apiKey"], "k");
        assert_eq!(event["requestContext"].get("authorizer"), None);
    }

    #[test]
    fn who_has_signed_is_told_as_iam_s_user() {
        let identity =
            by(Vouched::Iam, Principal { subject: Some("AKID".into()), ..alice() }).v1()["requestContext"]["identity"].take();
        assert_eq!((&identity["accessKey"], &identity["caller"]), (&json!("AKID"), &json!("AKID")));
        assert_eq!(
            (&identity["accountId"], &identity["userArn"]),
            (&json!(ACCOUNT), &json!("arn:aws:iam::000000000000:user/AKID"))
        );
    }

    #[test]
    fn claims_are_texts_as_cognito_s() {
        let said = claims(json!({ "sub": "alice", "exp": 17, "groups": ["a", "b"], "ok": true, "address": { "city": "X" } }));
        let event = by(Vouched::Claims, Principal { claims: said, ..alice() }).v1();
        let told = json!({ "sub": "alice", "exp": "17", "groups": "a,b", "ok": "true", "address": "{\"city\":\"X\"}" });
        assert_eq!(event["requestContext"]["authorizer"], json!({ "claims": told }));
    }

    #[test]
    fn what_a_function_says_of_a_caller_is_texts_beside_its_id() {
        let event = by(Vouched::Lambda, Principal { claims: claims(json!({ "tenant": 7, "is": true })), ..alice() }).v1();
        assert_eq!(
            event["requestContext"]["authorizer"],
            json!({ "principalId": "alice", "integrationLatency": 0, "tenant": "7", "is": "true" })
        );
    }

    #[test]
    fn a_certificate_is_told_as_pem_and_by_its_names() {
        let tls = TlsInfo {
            version: "TLSv1.3",
            server_name: None,
            client_chain: vec![vec![1; 60].into()],
            covers: None,
            offers_h3: false,
        };
        let said = json!({ "subject": "CN=a", "issuer": "CN=b", "serial": "0a", "fingerprint": "f", "not_after": 784_111_777 });
        let mut request = by(Vouched::Other, Principal { claims: claims(said), ..alice() });
        request.tls = Some(tls);
        let certificate = request.v1()["requestContext"]["identity"]["clientCert"].take();
        let base64 = format!("{}\n{}", "AQEB".repeat(16), "AQEB".repeat(4));
        assert_eq!(
            certificate,
            json!({
                "clientCertPem": format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----"),
                "subjectDN": "CN=a",
                "issuerDN": "CN=b",
                "serialNumber": "0a",
                "validity": { "notAfter": "Nov  6 08:49:37 1994 GMT" },
            })
        );
        assert_eq!(request.v2()["requestContext"]["authentication"]["clientCert"], certificate);
    }
}

mod http {
    use super::*;

    #[test]
    fn what_is_empty_is_absent() {
        let event = Request { resource: resource(&[], "/pets", &[]), params: Vec::new(), ..get() }.v2();
        assert_eq!(
            keys(&event),
            ["headers", "isBase64Encoded", "rawPath", "rawQueryString", "requestContext", "routeKey", "version"]
        );
        assert_eq!((&event["version"], &event["routeKey"]), (&json!("2.0"), &json!("ANY /pets")));
        assert_eq!((&event["isBase64Encoded"], &event["rawQueryString"]), (&json!(false), &json!("")));
        assert_eq!(get().v2()["routeKey"], "GET /pets/{id}");
    }

    #[test]
    fn the_raw_path_is_decoded_and_without_the_base_path() {
        let event = Request { local_path: "/pets/a%20b%2Fc%C3%A9", ..get() }.v2();
        assert_eq!(event["rawPath"], "/pets/a b/cé");
        assert_eq!(event["requestContext"]["http"]["path"], "/pets/a b/cé");
    }

    #[test]
    fn the_raw_query_is_raw_and_the_parameters_are_decoded_and_joined() {
        let event = Request { query: Some("a=1&b=%2Fx+y&a=2"), ..get() }.v2();
        assert_eq!(event["rawQueryString"], "a=1&b=%2Fx+y&a=2");
        assert_eq!(event["queryStringParameters"], json!({ "a": "1,2", "b": "/x y" }));
    }

    #[test]
    fn names_of_headers_are_small_and_duplicates_are_joined() {
        let event = with_headers(&[("X-Twice", "a"), ("x-tWICE", "b,c"), ("User-Agent", "curl/8")]).v2();
        assert_eq!(
            event["headers"],
            json!({
                "host": "zoo.example:8443", "user-agent": "curl/8", "x-amzn-trace-id": TRACE, "x-forwarded-for": "10.0.0.9",
                "x-forwarded-port": "8443", "x-forwarded-proto": "https", "x-twice": "a,b,c",
            })
        );
    }

    #[test]
    fn cookies_stand_apart_and_in_no_header() {
        let event = with_headers(&[("Cookie", "a=1; b=2"), ("cookie", "c=\"3\"")]).v2();
        assert_eq!(event["cookies"], json!(["a=1", "b=2", "c=\"3\""]));
        assert_eq!(event["headers"].get("cookie"), None);
    }

    #[test]
    fn parameters_are_decoded() {
        let event = Request { params: vec!["test%2Balias"], ..get() }.v2();
        assert_eq!(event["pathParameters"], json!({ "id": "test+alias" }));
    }

    #[test]
    fn a_body_is_text_by_its_type_and_a_form_is_bytes() {
        for (content_type, body, told, is_base64) in [
            ("application/json", &b"{}"[..], "{}", false),
            ("text/plain", b"a\r\n", "a\r\n", false),
            ("application/vnd.api+json", b"1", "1", false),
            ("application/x-www-form-urlencoded", b"a=1", "YT0x", true),
            ("multipart/form-data; boundary=x", b"--x--", "LS14LS0=", true),
            ("text/plain", b"\xff", "/w==", true),
        ] {
            let event = post(content_type, body).v2();
            assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!(told), &json!(is_base64)), "{content_type}");
        }
        let event = Request { body: b"x", ..with_headers(&[]) }.v2();
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("x"), &json!(false)), "no type is text");
    }

    #[test]
    fn the_context_has_what_aws_has() {
        let event = with_headers(&[("User-Agent", "curl/8")]).v2();
        assert_eq!(
            event["requestContext"],
            json!({
                "accountId": "000000000000", "apiId": "zoo", "domainName": "zoo.example", "domainPrefix": "zoo",
                "http": {
                    "method": "GET", "path": "/pets/7", "protocol": "HTTP/1.1", "sourceIp": "10.0.0.9", "userAgent": "curl/8",
                },
                "requestId": ID, "routeKey": "GET /pets/{id}", "stage": "$default", "time": "20/Mar/2024:22:16:43 +0000",
                "timeEpoch": 1_710_973_003_123_u64,
            })
        );
    }

    #[test]
    fn claims_of_a_token_are_texts_and_lists_stand_in_brackets() {
        let said = claims(json!({ "sub": "alice", "exp": 17, "groups": ["a", "b"] }));
        let mut principal = Principal { claims: said, ..alice() };
        let told = json!({ "sub": "alice", "exp": "17", "groups": "[a b]" });
        let authorizer = by(Vouched::Claims, principal.clone()).v2()["requestContext"]["authorizer"].take();
        assert_eq!(authorizer, json!({ "jwt": { "claims": told, "scopes": null } }));
        principal.scopes = ["read", "write"].map(Box::from).into();
        let authorizer = by(Vouched::Claims, principal).v2()["requestContext"]["authorizer"].take();
        assert_eq!(authorizer["jwt"]["scopes"], json!(["read", "write"]));
    }

    #[test]
    fn what_a_function_says_of_a_caller_keeps_its_types() {
        let said = json!({ "tenant": 7, "is": true, "list": [1, "a"], "none": null });
        let event = by(Vouched::Lambda, Principal { claims: claims(said.clone()), ..alice() }).v2();
        assert_eq!(event["requestContext"]["authorizer"], json!({ "lambda": said }));
    }

    #[test]
    fn who_has_signed_is_told_as_iam_s_user() {
        let event = by(Vouched::Iam, Principal { subject: Some("AKID".into()), ..alice() }).v2();
        assert_eq!(
            event["requestContext"]["authorizer"]["iam"],
            json!({
                "accessKey": "AKID", "accountId": ACCOUNT, "callerId": "AKID", "cognitoIdentity": null, "principalOrgId": null,
                "userArn": "arn:aws:iam::000000000000:user/AKID", "userId": "AKID",
            })
        );
    }

    #[test]
    fn what_no_api_of_aws_knows_is_told_as_a_function_s_words() {
        let principal = Principal { consumer: Some(Arc::new(north())), claims: claims(json!({ "consumer": "own" })), ..alice() };
        let event = by(Vouched::Other, principal).v2();
        let told = json!({ "consumer": "own", "principalId": "alice", "authorizer": "shop" });
        assert_eq!(event["requestContext"]["authorizer"], json!({ "lambda": told }));
    }
}

mod url_and_alb {
    use super::*;

    fn url(request: &Request) -> Value {
        request.told(&form(EventForm::Url))
    }

    fn alb(request: &Request, multi_value_headers: bool) -> Value {
        request.told(&Form { multi_value_headers, ..form(EventForm::Alb) })
    }

    #[test]
    fn a_function_url_has_one_route_and_no_parameters() {
        let event = url(&Request { query: Some("q=foo&q=%2Fbar"), ..get() });
        assert_eq!((&event["routeKey"], &event["requestContext"]["routeKey"]), (&json!("$default"), &json!("$default")));
        assert_eq!((event.get("pathParameters"), event.get("stageVariables")), (None, None));
        assert_eq!(event["queryStringParameters"], json!({ "q": "foo,/bar" }));
        assert_eq!(event["requestContext"]["stage"], "$default");
    }

    #[test]
    fn a_function_url_tells_the_length_and_the_version_of_tls() {
        let mut request = post("multipart/form-data; boundary=x", b"--x--");
        request.headers.push(("Content-Length", "5"));
        request.tls =
            Some(TlsInfo { version: "TLSv1.3", server_name: None, client_chain: Vec::new(), covers: None, offers_h3: false });
        let event = url(&request);
        assert_eq!(
            (&event["headers"]["content-length"], &event["headers"]["x-amzn-tls-version"]),
            (&json!("5"), &json!("TLSv1.3"))
        );
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("LS14LS0="), &json!(true)));
    }

    #[test]
    fn a_load_balancer_tells_the_last_value_of_each_name_and_decodes_nothing() {
        let request = Request { query: Some("a=1&b=%2Fx+y&a=2"), ..with_headers(&[("X-Twice", "a"), ("x-twice", "b")]) };
        let event = alb(&request, false);
        assert_eq!(
            keys(&event),
            ["body", "headers", "httpMethod", "isBase64Encoded", "path", "queryStringParameters", "requestContext"]
        );
        assert_eq!(event["queryStringParameters"], json!({ "a": "2", "b": "%2Fx+y" }));
        assert_eq!(event["headers"]["x-twice"], "b");
        assert_eq!((&event["body"], &event["path"]), (&json!(""), &json!("/api/pets/7")));
        let arn = event["requestContext"]["elb"]["targetGroupArn"].as_str().unwrap();
        assert!(arn.starts_with("arn:aws:elasticloadbalancing:eu-west-1:000000000000:targetgroup/pets/"), "{arn}");
    }

    #[test]
    fn a_load_balancer_that_is_set_to_lists_tells_lists_alone() {
        let request = Request { query: Some("a=1&a=%20"), ..with_headers(&[("X-Twice", "a"), ("x-twice", "b")]) };
        let event = alb(&request, true);
        assert_eq!((event.get("headers"), event.get("queryStringParameters")), (None, None));
        assert_eq!(event["multiValueQueryStringParameters"], json!({ "a": ["1", "%20"] }));
        assert_eq!(event["multiValueHeaders"]["x-twice"], json!(["a", "b"]));
        assert_eq!(event["multiValueHeaders"]["x-forwarded-for"], json!(["10.0.0.9"]));
    }

    #[test]
    fn a_load_balancer_s_body_is_bytes_where_it_is_encoded() {
        assert_eq!(alb(&post("application/json", b"{}"), false)["isBase64Encoded"], false);
        assert_eq!(alb(&post("application/octet-stream", b"{}"), false)["body"], "e30=");
        let mut encoded = post("application/json", b"{}");
        encoded.headers.push(("Content-Encoding", "gzip"));
        assert_eq!(alb(&encoded, false)["isBase64Encoded"], true);
    }

    #[test]
    fn a_function_that_is_no_http_handler_is_given_the_body() {
        assert_eq!(post("application/json", b"{\"a\": 1}").bytes(&form(EventForm::Raw)), b"{\"a\": 1}");
    }
}

/// What functions in Rust read, and whether they would write the same.
mod read_by_others {
    use super::*;
    use aws_lambda_events::event::alb::AlbTargetGroupRequest;
    use aws_lambda_events::event::apigw::{ApiGatewayProxyRequest, ApiGatewayV2httpRequest};
    use aws_lambda_events::event::lambda_function_urls::LambdaFunctionUrlRequest;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    fn everything() -> Request {
        let principal = Principal {
            claims: claims(json!({ "sub": "alice", "groups": ["a", "b"] })),
            scopes: ["read"].map(Box::from).into(),
            ..alice()
        };
        Request {
            method: "POST",
            query: Some("a=1&a=2&b=x%20y"),
            principal: Some((principal, Vouched::Claims)),
            body: "{\"é\":1}".as_bytes(),
            ..with_headers(&[("content-type", "application/json"), ("cookie", "a=1; b=2"), ("x-twice", "1"), ("x-twice", "2")])
        }
    }

    /// Members of ours that did not come back as they were.
    fn lost(ours: &Value, theirs: Option<&Value>, place: &str, out: &mut Vec<String>) {
        match (ours, theirs) {
            (Value::Object(members), Some(Value::Object(others))) => {
                for (name, value) in members {
                    let found = others.get(name);
                    // Headers are maps of theirs, with names in small letters.
                    let found = found.or_else(|| others.get(&name.to_ascii_lowercase()));
                    lost(value, found, &format!("{place}/{name}"), out);
                }
            }
            (Value::Null, None) => {}
            (ours, theirs) if theirs == Some(ours) => {}
            _ => out.push(place.to_owned()),
        }
    }

    #[track_caller]
    fn check<T: DeserializeOwned + Serialize>(form: &Form, unknown: &[&str]) {
        let bytes = everything().bytes(form);
        let read: T =
            serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)));
        let (ours, theirs) = (serde_json::from_slice(&bytes).unwrap(), serde_json::to_value(&read).unwrap());
        let mut found = Vec::new();
        lost(&ours, Some(&theirs), "", &mut found);
        assert_eq!(found, unknown, "{theirs:#}");
    }

    #[test]
    fn http_apis() {
        check::<ApiGatewayV2httpRequest>(&form(EventForm::V2), &[]);
    }

    #[test]
    fn function_urls() {
        // Its types leave out what is the same for all of them, and tokens, which a Function URL of AWS cannot verify.
        let unknown = ["/routeKey", "/requestContext/authorizer/jwt", "/requestContext/routeKey", "/requestContext/stage"];
        check::<LambdaFunctionUrlRequest>(&form(EventForm::Url), &unknown);
    }

    #[test]
    fn rest_apis() {
        // Its types know less than AWS says, and write an empty map for null.
        let unknown = ["/stageVariables", "/requestContext/deploymentId", "/requestContext/extendedRequestId"];
        check::<ApiGatewayProxyRequest>(&form(EventForm::V1), &unknown);
    }

    #[test]
    fn load_balancers() {
        check::<AlbTargetGroupRequest>(&form(EventForm::Alb), &[]);
        check::<AlbTargetGroupRequest>(&Form { multi_value_headers: true, ..form(EventForm::Alb) }, &[]);
    }
}
