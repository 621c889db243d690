//! What a REST API tells, row by row.

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
    for (value, told) in [("proxy-value/", "proxy-value"), ("a//b", "a//b"), ("test%2Balias", "test%2Balias"), ("a/b", "a/b")] {
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
    assert_eq!(keys(&event["headers"]), ["Host", "X-Amzn-Trace-Id", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto"]);
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
    assert_eq!((&identity["accountId"], &identity["userArn"]), (&json!(ACCOUNT), &json!("arn:aws:iam::000000000000:user/AKID")));
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
    let said = claims(json!({ "tenant": 7, "is": true, "principalId": "owner", "integrationLatency": "x" }));
    let request = by(Vouched::Lambda, Principal { claims: said, ..alice() });
    assert!(!String::from_utf8_lossy(&request.bytes(&form(EventForm::V1))).contains("owner"), "it is not said twice");
    let event = request.v1();
    assert_eq!(
        event["requestContext"]["authorizer"],
        json!({ "principalId": "alice", "integrationLatency": 0, "tenant": "7", "is": "true" })
    );
}

#[test]
fn a_certificate_is_told_as_pem_and_by_its_names() {
    let tls =
        TlsInfo { version: "TLSv1.3", server_name: None, client_chain: vec![vec![1; 60].into()], covers: None, offers_h3: false };
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
