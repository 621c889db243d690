//! What becomes of each result, as AWS documents it and as it was recorded there. `Err`: 502 in a REST API, 500 in an HTTP API, and
//! `function_malformed` here.

use super::*;
use maitred_model::{InvocationType, ResponseMode};

fn form(event: EventForm) -> Form {
    Form {
        event,
        response: ResponseMode::Buffered,
        invocation: InvocationType::RequestResponse,
        binary_media_types: Vec::new(),
        multi_value_headers: false,
    }
}

/// Status, fields as lines, and the body.
type Seen = (u16, Vec<String>, String);

fn seen(head: &ResponseHead, body: Vec<u8>) -> Seen {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let lines =
        head.headers.iter().map(|entry| format!("{}: {}", text(head.headers.name(entry)), text(head.headers.value(entry))));
    (head.status, lines.collect(), text(&body))
}

fn read(form: &Form, result: &str, accept: Option<&str>) -> Result<Seen, Malformed> {
    let mut head = ResponseHead::default();
    let body = whole(form, result.as_bytes().to_vec(), accept.map(str::as_bytes), &mut head)?;
    Ok(seen(&head, body))
}

#[track_caller]
fn check(event: EventForm, result: &str, status: u16, lines: &[&str], body: &str) {
    let found = read(&form(event), result, None).unwrap_or_else(|why| panic!("{result}: {}", why.0));
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    assert_eq!(found, (status, lines, body.to_owned()), "{result}");
}

#[track_caller]
fn refused(event: EventForm, result: &str) {
    assert!(read(&form(event), result, None).is_err(), "{result} was believed");
}

const JSON: &str = "content-type: application/json";

mod rest {
    use super::*;
    use EventForm::V1;

    #[test]
    fn a_status_alone_is_an_empty_answer_of_json() {
        check(V1, r#"{"statusCode":200}"#, 200, &[JSON], "");
    }

    #[test]
    fn without_a_status_it_is_200() {
        check(V1, r#"{"headers":{"x":"1"}}"#, 200, &["x: 1", JSON], "");
    }

    #[test]
    fn no_usable_result_is_malformed() {
        for result in ["", " ", "null", "not JSON", "{", r#"{"statusCode":200}x"#] {
            refused(V1, result);
        }
    }

    #[test]
    fn an_unknown_key_is_malformed() {
        refused(V1, r#"{"statusCode":200,"wrongValue":"x"}"#);
        refused(V1, r#"{"statusCode":200,"cookies":["a=1"]}"#);
        refused(V1, r#"{"statusCode":200,"statusCode":201}"#);
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for result in [r#""justAString""#, "[200]", r#"[200,{"x":"1"}]"#, "1", "true"] {
            refused(V1, result);
        }
    }

    #[test]
    fn a_status_may_be_the_text_of_a_number() {
        check(V1, r#"{"statusCode":"201"}"#, 201, &[JSON], "");
        for status in
            [r#""test""#, r#""""#, r#""0201""#, r#""+20""#, "99", "101", "199", "600", "-200", "200.5", "[]", "{}", "true"]
        {
            refused(V1, &format!(r#"{{"statusCode":{status}}}"#));
        }
        check(V1, r#"{"statusCode":null}"#, 200, &[JSON], "");
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let result = r#"{"statusCode":200,"headers":null,"multiValueHeaders":null,"body":null,"isBase64Encoded":null}"#;
        check(V1, result, 200, &[JSON], "");
        check(V1, r#"{"headers":{"x":null,"y":"1"},"multiValueHeaders":{"z":null}}"#, 200, &["y: 1", JSON], "");
    }

    #[test]
    fn values_of_headers_may_be_true_and_numbers() {
        check(
            V1,
            r#"{"headers":{"a":true,"b":false,"c":7,"d":-7,"e":1.5,"f":3.0}}"#,
            200,
            &["a: true", "b: false", "c: 7", "d: -7", "e: 1.5", "f: 3.0", JSON],
            "",
        );
        refused(V1, r#"{"headers":{"a":["x"]}}"#);
        refused(V1, r#"{"headers":{"a":{}}}"#);
        refused(V1, r#"{"headers":["a"]}"#);
    }

    #[test]
    fn lists_of_values_are_a_line_each() {
        check(V1, r#"{"multiValueHeaders":{"x":["a","b"],"n":[1,true]}}"#, 200, &["x: a", "x: b", "n: 1", "n: true", JSON], "");
    }

    #[test]
    fn of_a_name_in_both_maps_the_lists_come_first_and_spell_it() {
        check(
            V1,
            r#"{"headers":{"x-both":"single","y":"1"},"multiValueHeaders":{"X-Both":["m1","m2"]}}"#,
            200,
            &["X-Both: m1", "X-Both: m2", "X-Both: single", "y: 1", JSON],
            "",
        );
    }

    #[test]
    fn a_list_that_is_none_is_malformed() {
        refused(V1, r#"{"multiValueHeaders":{"x":"a"}}"#);
        refused(V1, r#"{"multiValueHeaders":{"x":[["a"]]}}"#);
    }

    #[test]
    fn base64_is_decoded_only_for_who_accepts_bytes_first() {
        let binary = Form { binary_media_types: vec!["image/*".to_owned()], ..form(V1) };
        let result = r#"{"body":"dGVzdC1kYXRh","isBase64Encoded":true}"#;
        for (accept, body) in [
            (None, "dGVzdC1kYXRh"),
            (Some("text/html"), "dGVzdC1kYXRh"),
            (Some("text/html, image/png"), "dGVzdC1kYXRh"),
            (Some("image/png;q=0.9, text/html"), "test-data"),
        ] {
            assert_eq!(read(&binary, result, accept).unwrap().2, body, "{accept:?}");
        }
        assert_eq!(read(&form(V1), result, Some("image/png")).unwrap().2, "dGVzdC1kYXRh");
        let all = Form { binary_media_types: vec!["*/*".to_owned()], ..form(V1) };
        assert_eq!(read(&all, result, None).unwrap().2, "test-data");
        assert!(read(&all, r#"{"body":"%%","isBase64Encoded":true}"#, None).is_err());
        let plain = r#"{"body":"dGVzdC1kYXRh","isBase64Encoded":false}"#;
        assert_eq!(read(&all, plain, None).unwrap().2, "dGVzdC1kYXRh");
    }

    #[test]
    fn a_body_that_is_no_text_is_malformed() {
        for body in [r#"{"a":1}"#, "[1]", "7", "true"] {
            refused(V1, &format!(r#"{{"statusCode":200,"body":{body}}}"#));
        }
        check(V1, r#"{"body":"\u00e9\n"}"#, 200, &[JSON], "é\n");
    }

    #[test]
    fn a_type_of_the_function_s_own_stays() {
        check(V1, r#"{"headers":{"Content-Type":"text/html"},"body":"x"}"#, 200, &["Content-Type: text/html"], "x");
    }

    #[test]
    fn what_the_gateway_says_itself_goes_under_another_name() {
        check(
            V1,
            r#"{"headers":{"connection":"close","Content-Length":"99","date":"x","SERVER":"y","www-authenticate":"Basic","Transfer-Encoding":"chunked"}}"#,
            200,
            &[
                "x-amzn-Remapped-Connection: close",
                "x-amzn-Remapped-Content-Length: 99",
                "x-amzn-Remapped-Date: x",
                "x-amzn-Remapped-Server: y",
                "x-amzn-Remapped-WWW-Authenticate: Basic",
                JSON,
            ],
            "",
        );
    }
}

mod http {
    use super::*;
    use EventForm::{Url, V2};

    #[test]
    fn what_has_no_status_is_the_body() {
        for event in [V2, Url] {
            for (result, body) in [
                (r#"{"hello":"world"}"#, r#"{"hello":"world"}"#),
                (r#"["hello",3,true]"#, r#"["hello",3,true]"#),
                (r#""Hello""#, "Hello"),
                (r#""a\"\u00e9""#, "a\"é"),
                ("3", "3"),
                ("3.1", "3.1"),
                ("true", "true"),
                ("null", "null"),
                (r#"{"body":{"a":1},"headers":7}"#, r#"{"body":{"a":1},"headers":7}"#),
                (r#"{"nested":{"statusCode":404}}"#, r#"{"nested":{"statusCode":404}}"#),
            ] {
                check(event, result, 200, &[JSON], body);
            }
            check(event, "", 200, &[], "");
        }
    }

    #[test]
    fn with_a_status_it_is_as_the_function_says() {
        check(
            V2,
            r#"{"statusCode":404,"headers":{"X-A":"1"},"body":"no"}"#,
            404,
            &["X-A: 1", "content-type: text/plain;charset=UTF-8"],
            "no",
        );
        check(V2, r#"{"statusCode":201}"#, 201, &[], "");
        check(V2, r#"{"statusCode":"201","other":[1]}"#, 201, &[], "");
    }

    #[test]
    fn a_function_url_calls_everything_json_and_an_http_api_text() {
        check(Url, r#"{"statusCode":200,"body":"plain"}"#, 200, &[JSON], "plain");
        check(V2, r#"{"statusCode":200,"body":"plain"}"#, 200, &["content-type: text/plain;charset=UTF-8"], "plain");
        check(
            V2,
            r#"{"statusCode":200,"headers":{"content-type":"text/css"},"body":"x"}"#,
            200,
            &["content-type: text/css"],
            "x",
        );
    }

    #[test]
    fn cookies_are_a_line_each() {
        check(
            V2,
            r#"{"statusCode":204,"cookies":["a=1; Path=/","b=2"]}"#,
            204,
            &["set-cookie: a=1; Path=/", "set-cookie: b=2"],
            "",
        );
        refused(V2, r#"{"statusCode":200,"cookies":"a=1"}"#);
    }

    #[test]
    fn lists_of_values_are_not_looked_at() {
        check(V2, r#"{"statusCode":200,"headers":{"x":"a,b"},"multiValueHeaders":{"y":["1"]}}"#, 200, &["x: a,b"], "");
        check(V2, r#"{"statusCode":200,"multiValueHeaders":{}}"#, 200, &[], "");
    }

    #[test]
    fn base64_is_decoded_whoever_asks() {
        check(
            V2,
            r#"{"statusCode":200,"headers":{"content-type":"image/png"},"body":"dGVzdA==","isBase64Encoded":true}"#,
            200,
            &["content-type: image/png"],
            "test",
        );
        refused(V2, r#"{"statusCode":200,"body":"dGVzdA","isBase64Encoded":true}"#);
    }

    #[test]
    fn an_object_as_body_beside_a_status_is_malformed() {
        refused(V2, r#"{"statusCode":200,"body":{"a":1}}"#);
        refused(V2, r#"{"statusCode":"x"}"#);
        refused(V2, r#"{"statusCode":200"#);
        refused(V2, "nonsense");
    }

    #[test]
    fn framing_is_the_gateway_s() {
        let result = r#"{"statusCode":200,"headers":{"Content-Length":"99","Transfer-Encoding":"chunked","connection":"close","trailer":"x","date":"d"}}"#;
        check(V2, result, 200, &["date: d"], "");
    }
}

mod alb {
    use super::*;
    use EventForm::Alb;

    #[test]
    fn a_status_is_needed_and_its_words_are_sent() {
        refused(Alb, r#"{"body":"x"}"#);
        refused(Alb, r#""x""#);
        let mut head = ResponseHead::default();
        let result = br#"{"statusCode":200,"statusDescription":"200 Quite OK","headers":{"a":"1"},"body":"x"}"#;
        let body = whole(&form(Alb), result.to_vec(), None, &mut head).unwrap();
        assert_eq!(head.headers.slice(head.reason), b"Quite OK");
        assert_eq!(seen(&head, body), (200, vec!["a: 1".into(), "content-type: application/octet-stream".into()], "x".into()));
    }

    #[test]
    fn headers_come_from_the_map_that_the_target_group_is_set_to() {
        let result = r#"{"statusCode":200,"headers":{"a":"1"},"multiValueHeaders":{"a":["2","3"]}}"#;
        check(Alb, result, 200, &["a: 1"], "");
        let multi = Form { multi_value_headers: true, ..form(Alb) };
        assert_eq!(read(&multi, result, None).unwrap().1, ["a: 2", "a: 3"]);
    }

    #[test]
    fn words_that_would_break_a_line_are_not_sent() {
        let mut head = ResponseHead::default();
        let result = br#"{"statusCode":200,"statusDescription":"200 OK\r\nx: y"}"#;
        whole(&form(Alb), result.to_vec(), None, &mut head).unwrap();
        assert!(head.reason.is_empty());
    }

    #[test]
    fn more_than_a_megabyte_is_malformed() {
        let result = |length: usize| format!(r#"{{"statusCode":200,"body":"{}"}}"#, "x".repeat(length));
        assert!(read(&form(Alb), &result(ALB_BYTES_MAX - 40), None).is_ok());
        refused(Alb, &result(ALB_BYTES_MAX));
    }
}

mod streams {
    use super::*;
    use EventForm::{Raw, Url, V1, V2};

    fn begun(event: EventForm, text: &str) -> Result<Seen, Malformed> {
        let mut head = ResponseHead::default();
        metadata(&form(event), text.as_bytes(), &mut head)?;
        Ok(seen(&head, Vec::new()))
    }

    #[test]
    fn all_of_the_metadata_is_optional() {
        assert_eq!(begun(V1, "{}").unwrap(), (200, vec![JSON.into()], String::new()));
        assert_eq!(begun(Url, "{}").unwrap().1, ["content-type: application/octet-stream"]);
        let all = r#"{"statusCode":201,"headers":{"content-type":"text/plain"},"multiValueHeaders":{"x":["1","2"]},"cookies":["a=1"],"new":1}"#;
        for event in [V1, V2, Url] {
            let lines = ["x: 1", "x: 2", "content-type: text/plain", "set-cookie: a=1"];
            assert_eq!(begun(event, all).unwrap(), (201, lines.map(str::to_owned).into(), String::new()));
        }
    }

    #[test]
    fn bad_metadata_is_malformed() {
        for text in ["", "null", "[]", "{", r#"{"statusCode":99}"#, r#"{"headers":{"a\n":"1"}}"#] {
            assert!(begun(V1, text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_stream_without_metadata_is_a_response_only_where_aws_takes_it_for_one() {
        let bare = |event, content_type| {
            let mut head = ResponseHead::default();
            bare_stream(&form(event), content_type, &mut head)?;
            Ok::<_, Malformed>(seen(&head, Vec::new()))
        };
        assert!(bare(V1, Some("text/plain")).is_err());
        for event in [V2, Url, Raw] {
            assert_eq!(bare(event, Some("text/plain")).unwrap().1, ["content-type: text/plain"]);
            assert_eq!(bare(event, None).unwrap().1, ["content-type: application/octet-stream"]);
        }
        assert!(bare(Url, Some("a\r\nb: c")).is_err());
    }
}

#[test]
fn a_result_that_is_no_response_is_the_body_of_a_function_that_is_no_handler() {
    check(EventForm::Raw, r#"{"statusCode": 404}"#, 200, &[JSON], r#"{"statusCode": 404}"#);
    check(EventForm::Raw, "null", 200, &[JSON], "null");
}

/// The crate decides by the event in which family it answers.
#[test]
fn what_lambda_http_answers_is_a_response_in_each_family() {
    let rest = r#"{"statusCode":200,"headers":{},"multiValueHeaders":{"x-a":["1","2"]},"body":"hi","isBase64Encoded":false}"#;
    check(EventForm::V1, rest, 200, &["x-a: 1", "x-a: 2", JSON], "hi");
    let http = r#"{"statusCode":200,"headers":{"x-a":"1","content-type":"text/plain"},"multiValueHeaders":{},"body":"hi","isBase64Encoded":false,"cookies":["a=1"]}"#;
    for event in [EventForm::V2, EventForm::Url] {
        check(event, http, 200, &["x-a: 1", "content-type: text/plain", "set-cookie: a=1"], "hi");
    }
    let alb = r#"{"statusCode":200,"statusDescription":"200 OK","headers":{"x-a":"1"},"multiValueHeaders":{"x-a":["1"]},"body":"hi","isBase64Encoded":false}"#;
    check(EventForm::Alb, alb, 200, &["x-a: 1", "content-type: application/octet-stream"], "hi");
}

#[test]
fn nothing_of_a_header_becomes_another_header() {
    for event in [EventForm::V1, EventForm::V2, EventForm::Alb] {
        for header in [
            r#""a\r\nb":"1""#,
            r#""a":"1\r\nb: 2""#,
            r#""a":"\n""#,
            r#""a b":"1""#,
            r#""":"1""#,
            r#""a:":"1""#,
            r#""a":"\u0000""#,
            r#""a":"\u007f""#,
            r#""é":"1""#,
        ] {
            refused(event, &format!(r#"{{"statusCode":200,"headers":{{{header}}}}}"#));
        }
        refused(event, r#"{"statusCode":200,"cookies":["a\r\nb: c"],"multiValueHeaders":{"x":["\n"]},"headers":{"x":"\n"}}"#);
    }
    check(EventForm::V2, r#"{"statusCode":200,"headers":{"a":" \té\t1 "}}"#, 200, &["a: é\t1"], "");
}

#[test]
fn headers_are_bounded() {
    let many = |count: usize| (0..count).map(|at| format!(r#""x{at}":"1""#)).collect::<Vec<_>>().join(",");
    for (count, is_good) in [(result::FIELDS_MAX - 1, true), (result::FIELDS_MAX + 1, false), (100_000, false)] {
        let said = format!(r#"{{"statusCode":200,"headers":{{{}}}}}"#, many(count));
        assert_eq!(read(&form(EventForm::V2), &said, None).is_ok(), is_good, "{count}");
    }
    let long = format!(r#"{{"statusCode":200,"headers":{{"a":"{}"}}}}"#, "x".repeat(result::FIELD_BYTES_MAX));
    refused(EventForm::V2, &long);
}

#[test]
fn what_a_function_says_that_went_wrong_is_one_line() {
    for (payload, words) in [
        (r#"{"errorType":"KeyError","errorMessage":"'a'\nb","stackTrace":[]}"#, "KeyError: 'a' b"),
        (r#"{"errorMessage":"m"}"#, "m"),
        (r#"{"errorType":"T"}"#, "T"),
        ("{}", "the function failed and said nothing"),
        ("nonsense", "the function failed and said nothing"),
    ] {
        assert_eq!(raised(payload.as_bytes()), words);
    }
    let long = format!(r#"{{"errorMessage":"{}"}}"#, "é".repeat(ERROR_CHARS_MAX * 2));
    assert_eq!(raised(long.as_bytes()).chars().count(), ERROR_CHARS_MAX);
}
