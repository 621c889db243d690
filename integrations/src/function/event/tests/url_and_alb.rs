//! What Function URLs and load balancers tell, and who is told nothing of HTTP.

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
    assert_eq!((&event["headers"]["content-length"], &event["headers"]["x-amzn-tls-version"]), (&json!("5"), &json!("TLSv1.3")));
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("LS14LS0="), &json!(true)));
    // Not even who is trusted says it a second time.
    request.headers.push(("X-Amzn-TLS-Version", "forged"));
    for trusted in [false, true] {
        request.trusted = trusted;
        let text = String::from_utf8(request.bytes(&form(EventForm::Url))).expect("text");
        assert_eq!((text.matches("x-amzn-tls-version").count(), text.contains("forged")), (1, false), "{text}");
    }
}

#[test]
fn what_a_load_balancer_of_aws_vouches_for_no_stranger_says() {
    let mut request = with_headers(&[
        ("X-Amzn-Oidc-Identity", "forged"),
        ("x_amzn_oidc_data", "forged"),
        ("X-Amzn-Mtls-Clientcert", "forged"),
        ("X-Amzn-Tls-Cipher-Suite", "forged"),
        ("X-Real-IP", "forged"),
    ]);
    for event in [EventForm::Url, EventForm::V1, EventForm::V2, EventForm::Alb] {
        for trusted in [false, true] {
            request.trusted = trusted;
            let text = String::from_utf8(request.bytes(&form(event))).expect("text");
            assert_eq!(text.contains("forged"), trusted, "{text}");
        }
    }
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
