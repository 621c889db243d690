//! What an HTTP API tells, row by row.

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
    let said = claims(json!({ "seat": 4, "consumer": "south", "principalId": "owner", "authorizer": "other" }));
    for (consumer, mut told) in [
        (Some(Arc::new(north())), json!({ "seat": 4, "consumer": "north", "principalId": "alice" })),
        (None, json!({ "seat": 4, "principalId": "alice" })),
    ] {
        told["authorizer"] = "shop".into();
        let event = by(Vouched::Other, Principal { consumer, claims: said.clone(), ..alice() }).v2();
        assert_eq!(event["requestContext"]["authorizer"], json!({ "lambda": told }), "no claim says who it is");
    }
}
