//! Tables of values, right and wrong.

use super::*;
use std::net::IpAddr;
use std::time::Duration;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn durations_have_units() {
    for (text, ms) in [("250ms", 250), ("5s", 5_000), ("5min", 300_000), ("1h", 3_600_000), ("30d", 2_592_000_000), ("0s", 0)] {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for (text, hint) in [
        ("15", "`15s`"),
        ("5m", "`5min`"),
        ("5 s", "`5s`"),
        ("1.5s", "`1500ms`"),
        ("0.5s", "`500ms`"),
        ("0,25min", "`15s`"),
        ("0.0001s", "`1500ms`"),
        ("0.5x", "`1500ms`"),
        ("s", "`15s`"),
        ("", "`15s`"),
        ("-1s", "`15s`"),
    ] {
        let error = parse_duration(text).expect_err(text);
        assert!(error.hint.as_ref().is_some_and(|given| given.contains(hint)), "{text}: {error}");
    }
    for text in ["99999999999999999999s", "400000d", "5S5", "1s "] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn sizes_have_units() {
    for (text, bytes) in
        [("512B", 512), ("64KiB", 65_536), ("10MiB", 10_485_760), ("1GiB", 1 << 30), ("1KB", 1_000), ("2MB", 2_000_000)]
    {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for text in ["64", "64k", "64kib", "ten", "", "99999999999TiB"] {
        assert!(parse_size(text).is_err(), "{text}");
    }
}

#[test]
fn a_network_contains_its_addresses_also_when_mapped() {
    for (net, address, inside) in [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("10.0.0.0/8", "::ffff:10.1.2.3", true),
        ("::ffff:10.0.0.0/104", "10.1.2.3", true),
        ("0.0.0.0/0", "1.2.3.4", true),
        ("0.0.0.0/0", "::1", false),
        ("::/0", "::1", true),
        ("::/0", "1.2.3.4", false),
        ("2001:db8::/32", "2001:db8:ffff::1", true),
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "127.0.0.2", false),
    ] {
        assert_eq!(IpNet::parse(net).expect(net).contains(ip(address)), inside, "{net} {address}");
    }
    assert!(IpNet::parse("10.0.0.1/8").expect_err("host bits").hint.is_some_and(|hint| hint.contains("10.0.0.0/8")));
    assert_eq!(IpNet::parse("10.0.0.0/8").map(|net| net.to_string()), Ok("10.0.0.0/8".to_owned()));
}

#[test]
fn headers_are_tokens_and_lines() {
    assert_eq!(HeaderName::parse("X-Request-Id").map(|name| name.to_string()), Ok("x-request-id".to_owned()));
    for text in ["", "a b", "a:", "ä", "a\n"] {
        assert!(HeaderName::parse(text).is_err(), "{text:?}");
    }
    assert_eq!(HeaderValue::parse(" a\tb ").map(|value| value.as_str().to_owned()), Ok("a\tb".to_owned()));
    for text in ["a\nb", "a\rb", "a\0b", "a\u{7f}"] {
        assert!(HeaderValue::parse(text).is_err(), "{text:?}");
    }
    let secret = HeaderValue::parse("hunter2").expect("good").shown_as("${env:X}");
    assert_eq!((format!("{secret} {secret:?}"), secret.as_str()), ("${env:X} \"${env:X}\"".to_owned(), "hunter2"));
}

#[test]
fn hosts_are_exact_or_end_in_a_suffix() {
    assert_eq!(HostPattern::parse("API.example.com"), Ok(HostPattern::Exact("api.example.com".to_owned())));
    let wildcard = HostPattern::parse("*.Example.com").expect("good");
    assert_eq!(wildcard, HostPattern::Wildcard("example.com".to_owned()));
    for (host, fits) in [
        ("a.example.com", true),
        ("a.b.example.com", true),
        ("example.com", false),
        (".example.com", false),
        ("xexample.com", false),
    ] {
        assert_eq!(wildcard.matches(host), fits, "{host}");
    }
    for text in ["*", "", "a:80", "http://a", "ä.example", "a.*.b", "::1", "[::1", "a..b", "a.", "*.127.0.0.1", "*.[::1]"] {
        assert!(HostPattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_path_template_is_canonical() {
    let parse = |text| PathTemplate::parse(text).map(|template| template.segments);
    let literal = |text: &str| Segment::Literal(text.to_owned());
    assert_eq!(parse("/"), Ok(vec![literal("")]));
    assert_eq!(parse("/a//"), Ok(vec![literal("a"), literal(""), literal("")]));
    assert_eq!(
        parse("/%7Eann/%2f/{id}/{rest+}"),
        Ok(vec![literal("~ann"), literal("%2F"), Segment::Param("id".to_owned()), Segment::Rest("rest".to_owned())])
    );
    for text in [
        "",
        "a",
        "/v{id}",
        "/{id",
        "/id}",
        "/{a}{b}",
        "/{rest+}/x",
        "/{a}/{a}",
        "/{1}",
        "/{}",
        "/{+}",
        "/..",
        "/%2e%2E",
        "/a?b",
        "/a#",
        "/a b",
        "/%",
        "/%0",
        "/%+1",
        "/%00",
        "/%5C",
        "/\\",
    ] {
        assert!(PathTemplate::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_template_has_parts() {
    let parts = |text| Template::parse(text).map(|template| template.parts);
    let literal = |text: &str| Part::Literal(text.to_owned());
    assert_eq!(parts(""), Ok(vec![]));
    assert_eq!(parts("{{a}}"), Ok(vec![literal("{a}")]));
    assert_eq!(parts("a{id}b"), Ok(vec![literal("a"), Part::Param("id".to_owned()), literal("b")]));
    assert_eq!(parts("{query.q}"), Ok(vec![Part::Variable(Variable::Query("q".to_owned()))]));
    assert_eq!(parts("{header.X-Y}"), Ok(vec![Part::Variable(Variable::Header(HeaderName::parse("x-y").expect("good")))]));
    for text in ["{", "}", "{a", "a}", "{}", "{a b}", "{client.port}", "{header.}", "{query.}", "{rest+}", "{a{b}}"] {
        assert!(Template::parse(text).is_err(), "{text}");
    }
    let rewrite = Template::parse_rewrite("/%7e/{a}.{b}/%2f").expect("good");
    assert_eq!(rewrite.parts[0], literal("/~/"));
    for text in ["", "x", "/x?y", "/../{a}", "/{a}/..", "/ä{a}"] {
        assert!(Template::parse_rewrite(text).is_err(), "{text}");
    }
}

#[test]
fn a_redirect_leads_where_the_file_says() {
    for text in [
        "/",
        "/x/{id}",
        "https://a.example",
        "https://a.example/{id}",
        "http://{request.host}/x",
        "https://{request.host}{request.path}",
        "https://{request.host}",
    ] {
        assert!(Template::parse_redirect(text).is_ok(), "{text}");
    }
    for text in [
        "",
        "x",
        "//x",
        "{id}",
        "https://",
        "https:///x",
        "https://{id}",
        "https://{id}.example.com/",
        "https://a.example{id}",
        "https://{request.host}{id}",
        "https://{header.x}/",
        "ftp://x",
    ] {
        assert!(Template::parse_redirect(text).is_err(), "{text}");
    }
}

#[test]
fn a_share_is_a_percentage_and_says_so() {
    for (text, ppm) in [
        ("100%", 1_000_000),
        ("5%", 50_000),
        ("0.1%", 1_000),
        ("0.0001%", 1),
        ("99.9999%", 999_999),
        ("12.50%", 125_000),
        ("007%", 70_000),
        ("1.00000%", 10_000),
    ] {
        assert_eq!(Share::parse(text).map(Share::ppm), Ok(ppm), "{text}");
    }
    for text in
        ["", "%", "5", "0.05", "0%", "0.0%", "100.0001%", "101%", "18446744073709551616%", "0.00001%", "-1%", "+1%", "1e1%"]
    {
        assert!(Share::parse(text).is_err(), "{text}");
    }
    for text in [".5%", "5.%", "5 %", "5%%", " 5%", "5‰", "1.2.3%", "five%"] {
        assert!(Share::parse(text).is_err(), "{text}");
    }
    assert_eq!(Share::ALL.to_string(), "100%");
    for text in ["12.5%", "0.0001%", "7%", "0.03%"] {
        assert_eq!(Share::parse(text).map(|share| share.to_string()), Ok(text.to_owned()));
    }
}

#[test]
fn a_socket_is_the_path_of_a_file() {
    for (text, path) in
        [("/run/app.sock", "/run/app.sock"), ("app.sock", "app.sock"), ("./app.sock", "app.sock"), ("../x", "../x")]
    {
        assert_eq!(parse_socket(text), Ok(path.into()), "{text}");
    }
    for text in ["", "//run/app.sock", "///run/app.sock", "@app", "a\0b"] {
        assert!(parse_socket(text).is_err(), "{text}");
    }
}

#[test]
fn methods_are_upper_case_tokens() {
    for text in ["GET", "PURGE", "M-SEARCH"] {
        assert_eq!(parse_method(text), Ok(text.to_owned()));
    }
    for text in ["get", "CONNECT", "", "G T", "G,T"] {
        assert!(parse_method(text).is_err(), "{text}");
    }
}

#[test]
fn a_secret_is_mute() {
    let secret = Secret::new("hunter2");
    assert_eq!((format!("{secret} {secret:?}"), secret.expose()), ("*** ***".to_owned(), "hunter2"));
}
