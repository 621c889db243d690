//! A request head made of HTTP/2's parts (RFC 9113 §8.2 and §8.3), so that nothing ambiguous crosses into HTTP/1.1 (§10.3): it obeys the
//! rules of `request.rs` and those that HTTP/2 adds. Knows nothing of frames or HPACK; the driver tells pseudo-fields from fields.

use crate::field_h2::{self, FIELD_OVERHEAD, SECTION_BYTES_MAX};
use crate::headers::Slice;
use crate::host::split_authority;
use crate::names::Name;
use crate::parse::{FIELDS_MAX, HeadLimits, Refusal};
use crate::request::{Framing, Method, NOT_PROXIED, RequestHead, Version, refuse_in_target};

/// The pseudo-fields of a request (RFC 9113 §8.3.1), each as it came; empty for one that is missing.
#[derive(Debug, Clone, Copy)]
pub struct H2Parts<'a> {
    pub method: &'a [u8],
    pub scheme: &'a [u8],
    pub authority: Option<&'a [u8]>,
    pub path: &'a [u8],
    /// `:protocol` of an extended CONNECT (RFC 8441 §4).
    pub protocol: Option<&'a [u8]>,
    /// The stream ended with its header section: there is no body.
    pub end_stream: bool,
}

impl H2Parts<'_> {
    /// What the pseudo-fields count for (RFC 9113 §6.5.2).
    fn section_bytes(&self) -> usize {
        let required = [(":method", self.method.len()), (":scheme", self.scheme.len()), (":path", self.path.len())];
        let optional = [(":authority", self.authority), (":protocol", self.protocol)]
            .map(|(name, value)| value.map(|value| (name, value.len())));
        required.into_iter().chain(optional.into_iter().flatten()).map(|(name, value)| name.len() + value + FIELD_OVERHEAD).sum()
    }
}

/// What the method asks for.
enum Wish {
    Plain,
    /// A WebSocket through this stream (RFC 8441 §5).
    WebSocket,
}

impl RequestHead {
    /// Starts the head of an HTTP/2 request: forgets the last and keeps the memory. `h2_field` for each field and `finish_h2` follow.
    pub fn begin_h2(&mut self) {
        self.clear();
        self.scratch.clear();
        self.version = Version::Http2;
        self.keep_alive = true;
    }

    /// Takes one field in, which is no pseudo-field. After a refusal the head is good for a log and nothing else.
    pub fn h2_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        self.section_bytes += name.len() + value.len() + FIELD_OVERHEAD;
        if self.section_bytes > SECTION_BYTES_MAX || self.headers.len() >= FIELDS_MAX {
            return Err(Refusal::HeadTooLarge);
        }
        let known = field_h2::check(name, value).map_err(Refusal::Malformed)?;
        if known == Name::Te && value != b"trailers" {
            return Err(Refusal::Malformed("a TE other than trailers"));
        }
        if known == Name::Cookie {
            self.add_crumb(value);
        } else {
            self.headers.add(name, value);
        }
        Ok(())
    }

    /// Clients cut Cookie in pieces to compress them better; HTTP/1.1 has one (RFC 9113 §8.2.3).
    fn add_crumb(&mut self, crumb: &[u8]) {
        if crumb.is_empty() {
            return;
        }
        if !self.scratch.is_empty() {
            self.scratch.extend_from_slice(b"; ");
        }
        self.scratch.extend_from_slice(crumb);
    }

    /// Decides all the rest, when every field is in. `limits` count what they count in HTTP/1, the head by RFC 9113 §6.5.2.
    pub fn finish_h2(&mut self, parts: H2Parts<'_>, limits: &HeadLimits) -> Result<(), Refusal> {
        if self.section_bytes + parts.section_bytes() > limits.head_bytes {
            return Err(Refusal::HeadTooLarge);
        }
        if parts.path.len() > limits.target_bytes {
            return Err(Refusal::TargetTooLong);
        }
        let wish = self.read_start(&parts)?;
        self.end_fields(limits);
        let authority = self.keep_authority(&parts)?;
        if self.headers.len() > limits.fields.min(FIELDS_MAX) {
            return Err(Refusal::HeadTooLarge);
        }
        if !parts.scheme.eq_ignore_ascii_case(b"http") && !parts.scheme.eq_ignore_ascii_case(b"https") {
            return Err(Refusal::Malformed("a :scheme other than http and https"));
        }
        if !self.is_path_or_asterisk() {
            return Err(Refusal::Malformed("a :path that does not start with a slash"));
        }
        self.read_path(self.target)?;
        self.read_host(authority)?;
        match wish {
            Wish::Plain => self.read_framing_h2(parts.end_stream)?,
            Wish::WebSocket => self.begin_websocket()?,
        }
        self.read_expect()?;
        self.read_te();
        Ok(())
    }

    /// What a log wants of a head that is refused.
    pub(crate) fn keep_start(&mut self, parts: &H2Parts<'_>) {
        let _ = self.read_start(parts);
    }

    /// Method and target, and whether such a request is served at all.
    fn read_start(&mut self, parts: &H2Parts<'_>) -> Result<Wish, Refusal> {
        if !field_h2::is_token(parts.method) {
            return Err(Refusal::Malformed("a malformed :method"));
        }
        // What is kept from here on is logged, even of a request that is refused.
        refuse_in_target(parts.path)?;
        let (wish, method) = match (parts.method, parts.protocol) {
            (b"CONNECT", Some(protocol)) if protocol.eq_ignore_ascii_case(b"websocket") => (Ok(Wish::WebSocket), &b"GET"[..]),
            (b"CONNECT", Some(_)) => (Err(Refusal::NotImplemented("only WebSocket is proxied by CONNECT")), parts.method),
            (method, Some(_)) => (Err(Refusal::Malformed(":protocol without CONNECT")), method),
            (method @ (b"CONNECT" | b"TRACE"), None) => (Err(NOT_PROXIED), method),
            (method, None) => (Ok(Wish::Plain), method),
        };
        self.method = Method::of(method);
        self.method_text = self.headers.stash(method);
        self.target = self.headers.stash(parts.path);
        wish
    }

    /// Cookie becomes one field, and what HTTP/1 would drop is dropped.
    fn end_fields(&mut self, limits: &HeadLimits) {
        if !self.scratch.is_empty() {
            self.headers.add(b"cookie", &self.scratch);
        }
        if limits.drop_underscores {
            self.headers.remove_where(|name| name.contains(&b'_'));
        }
    }

    /// `:authority` becomes the field Host where there is none, so that whoever reads fields finds it. Where there is one, gives the
    /// place of `:authority`, to hold the one against the other (RFC 9113 §8.3.1).
    fn keep_authority(&mut self, parts: &H2Parts<'_>) -> Result<Option<Slice>, Refusal> {
        let Some(authority) = parts.authority else { return Ok(None) };
        if self.headers.has(Name::Host) {
            return Ok(Some(self.headers.stash(authority)));
        }
        if split_authority(authority).is_none() {
            return Err(Refusal::Malformed("a malformed :authority"));
        }
        self.headers.add(b"host", authority);
        Ok(None)
    }

    /// RFC 9113 §8.1.1: a length that cannot be true makes the request malformed. Without one, only the stream's end ends the body.
    fn read_framing_h2(&mut self, end_stream: bool) -> Result<(), Refusal> {
        self.framing = match (self.headers.known(Name::ContentLength), end_stream) {
            (None, true) => Framing::None,
            (None, false) => Framing::Chunked,
            (Some(value), _) => self.read_length(value)?,
        };
        self.explicit_zero = self.headers.has(Name::ContentLength) && self.framing == Framing::None;
        if end_stream && self.framing != Framing::None {
            return Err(Refusal::Malformed("a Content-Length in a request that has no body"));
        }
        Ok(())
    }

    /// An extended CONNECT becomes the GET that an HTTP/1.1 back end understands (RFC 8441 §5). The key of its handshake is chosen by who
    /// forwards it, for only there is it answered.
    fn begin_websocket(&mut self) -> Result<(), Refusal> {
        if self.headers.has(Name::ContentLength) {
            return Err(Refusal::Malformed("a Content-Length in a CONNECT"));
        }
        self.headers.remove(b"sec-websocket-key");
        self.upgrade = Some(self.headers.stash(b"websocket"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Parsed, decimal, field, request_line};
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits { head_bytes: 65536, fields: 100, target_bytes: 16384, drop_underscores: true };
    const GET: H2Parts<'static> =
        H2Parts { method: b"GET", scheme: b"https", authority: Some(b"a.example"), path: b"/", protocol: None, end_stream: true };
    const POST: H2Parts<'static> = H2Parts { method: b"POST", end_stream: false, ..GET };
    const WEBSOCKET: H2Parts<'static> = H2Parts { method: b"CONNECT", protocol: Some(b"websocket"), end_stream: false, ..GET };

    fn build(parts: H2Parts<'_>, fields: &[(&str, &str)]) -> Result<RequestHead, Refusal> {
        within(&LIMITS, parts, fields)
    }

    fn within(limits: &HeadLimits, parts: H2Parts<'_>, fields: &[(&str, &str)]) -> Result<RequestHead, Refusal> {
        let mut head = RequestHead::default();
        head.begin_h2();
        for (name, value) in fields {
            head.h2_field(name.as_bytes(), value.as_bytes())?;
        }
        head.finish_h2(parts, limits)?;
        Ok(head)
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_plain_request() {
        let parts = H2Parts { authority: Some(b"A.example:8443"), path: b"/a/%7eb/../c?x=1&y", ..GET };
        let head = build(parts, &[("x-a", "1"), ("under_score", "1"), ("te", "trailers")]).unwrap();
        assert_eq!((head.method, head.version, head.framing), (Method::Get, Version::Http2, Framing::None));
        assert_eq!((text(head.method_text()), text(head.target())), ("GET", "/a/%7eb/../c?x=1&y"));
        assert_eq!((text(head.path()), head.query().map(text)), ("/a/c", Some("x=1&y")));
        assert_eq!((text(head.authority()), text(head.host())), ("A.example:8443", "A.example"));
        assert_eq!(head.headers.get(b"host").map(text), Some("A.example:8443"));
        assert_eq!(head.headers.get(b"x-a").map(text), Some("1"));
        assert_eq!(head.headers.get(b"under_score"), None);
        assert!(head.keep_alive && head.te_trailers && !head.explicit_zero && head.upgrade.is_none());
    }

    #[test]
    fn the_end_of_the_stream_and_the_length_make_the_framing() {
        for (parts, length, wanted) in [
            (GET, None, Ok((Framing::None, false))),
            (GET, Some("0"), Ok((Framing::None, true))),
            (GET, Some("1"), Err(())),
            (POST, None, Ok((Framing::Chunked, false))),
            (POST, Some("7"), Ok((Framing::Length(7), false))),
            (POST, Some("0"), Ok((Framing::None, true))),
            (POST, Some(""), Err(())),
            (POST, Some("+7"), Err(())),
            (POST, Some("7, 7"), Err(())),
            (POST, Some("0x7"), Err(())),
            (POST, Some("99999999999999999999"), Err(())),
        ] {
            let fields: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
            let framing = build(parts, &fields).map(|head| (head.framing, head.explicit_zero)).map_err(|_| ());
            assert_eq!(framing, wanted, "{length:?}, end_stream: {}", parts.end_stream);
        }
        assert!(build(POST, &[("content-length", "7"), ("content-length", "7")]).is_err());
    }

    #[test]
    fn host_and_authority_are_one() {
        let none = H2Parts { authority: None, ..GET };
        for (parts, hosts, wanted) in [
            (GET, &[][..], Some("a.example")),
            (GET, &["A.Example"], Some("A.Example")),
            (GET, &["a.example:443"], None),
            (GET, &["b.example"], None),
            (GET, &["a.example", "a.example"], None),
            (none, &["b.example:1"], Some("b.example:1")),
            (none, &["u@b.example"], None),
            (none, &[""], None),
            (none, &[], None),
            (H2Parts { authority: Some(b""), ..GET }, &[], None),
            (H2Parts { authority: Some(b"u:p@a.example"), ..GET }, &[], None),
            (H2Parts { authority: Some(b"u@a.example"), ..GET }, &["u@a.example"], None),
            (H2Parts { authority: Some(b"a.example\r\nx: y"), ..GET }, &[], None),
            (H2Parts { authority: Some(b"[::1]:8080"), ..GET }, &[], Some("[::1]:8080")),
        ] {
            let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let head = build(parts, &fields);
            let authority = head.as_ref().ok().map(|head| text(head.authority()));
            assert_eq!(authority, wanted, "{:?} and {hosts:?}", parts.authority);
            if let Ok(head) = head {
                assert_eq!(head.headers.all_known(Name::Host).map(text).collect::<Vec<_>>(), [wanted.unwrap()]);
            }
        }
    }

    #[test]
    fn what_http1_could_read_differently_is_refused() {
        for (why, parts) in [
            ("no method", H2Parts { method: b"", ..GET }),
            ("a line in the method", H2Parts { method: b"GET / HTTP/1.1\r\nx: y", ..GET }),
            ("no scheme", H2Parts { scheme: b"", ..GET }),
            ("another scheme", H2Parts { scheme: b"ftp", ..GET }),
            ("no path", H2Parts { path: b"", ..GET }),
            ("a URL", H2Parts { path: b"http://b.example/", ..GET }),
            ("the asterisk of another method", H2Parts { path: b"*", ..GET }),
            ("a blank in the path", H2Parts { path: b"/ HTTP/1.1", ..GET }),
            ("a line in the path", H2Parts { path: b"/\r\nx: y", ..GET }),
            ("a fragment", H2Parts { path: b"/#a", ..GET }),
            ("beyond ASCII", H2Parts { path: "/é".as_bytes(), ..GET }),
            ("above the root", H2Parts { path: b"/../a", ..GET }),
            ("a protocol without CONNECT", H2Parts { protocol: Some(b"websocket"), ..GET }),
            ("a WebSocket nowhere", H2Parts { path: b"*", ..WEBSOCKET }),
        ] {
            assert!(matches!(build(parts, &[]), Err(Refusal::Bad(_) | Refusal::Malformed(_))), "{why}");
        }
        for (name, value) in [("te", "gzip"), ("te", "trailers, gzip"), ("te", ""), ("connection", "te"), (":path", "/")] {
            assert!(matches!(build(GET, &[(name, value)]), Err(Refusal::Bad(_) | Refusal::Malformed(_))), "{name}: {value}");
        }
        assert!(matches!(
            build(POST, &[("expect", "100-continue"), ("expect", "x")]),
            Err(Refusal::Bad(_) | Refusal::Malformed(_))
        ));
        for (why, parts) in [
            ("a tunnel", H2Parts { method: b"CONNECT", scheme: b"", path: b"", ..GET }),
            ("a mirror", H2Parts { method: b"TRACE", ..GET }),
            ("another protocol", H2Parts { protocol: Some(b"connect-udp"), ..WEBSOCKET }),
        ] {
            assert!(matches!(build(parts, &[]), Err(Refusal::NotImplemented(_))), "{why}");
        }
    }

    #[test]
    fn crumbs_become_one_cookie() {
        let head = build(GET, &[("cookie", "a=b"), ("x-a", "1"), ("cookie", ""), ("cookie", "c=d; e=f")]).unwrap();
        assert_eq!(head.headers.all_known(Name::Cookie).map(text).collect::<Vec<_>>(), ["a=b; c=d; e=f"]);
        // The path needs the same scratch memory.
        let head = build(H2Parts { path: b"/a/../b", ..GET }, &[("cookie", "a=b")]).unwrap();
        assert_eq!((text(head.path()), head.headers.known(Name::Cookie).map(text)), ("/b", Some("a=b")));
    }

    #[test]
    fn limits_have_their_own_answers() {
        let section = 3 * 32 + ":methodGET:schemehttps:path/".len() + 32 + ":authoritya.example".len();
        let of = |bytes| HeadLimits { head_bytes: bytes, ..LIMITS };
        assert!(within(&of(section), GET, &[]).is_ok());
        assert_eq!(within(&of(section - 1), GET, &[]).unwrap_err(), Refusal::HeadTooLarge);
        assert!(within(&of(section + 36), GET, &[("x", "abc")]).is_ok());
        assert_eq!(within(&of(section + 35), GET, &[("x", "abc")]).unwrap_err(), Refusal::HeadTooLarge);
        assert_eq!(within(&of(section + 35), GET, &[("cookie", "")]).unwrap_err(), Refusal::HeadTooLarge);
        // Host is one of the three, as it is in HTTP/1; all crumbs are one.
        let three = HeadLimits { fields: 3, ..LIMITS };
        assert!(within(&three, GET, &[("x", "1"), ("cookie", "a"), ("cookie", "b")]).is_ok());
        assert_eq!(within(&three, GET, &[("x", "1"), ("y", "2"), ("z_z", "3")]).unwrap_err(), Refusal::HeadTooLarge);
        assert_eq!(build(GET, &[("x", "1"); 257]).unwrap_err(), Refusal::HeadTooLarge);
        let long = H2Parts { path: b"/abcdefgh", ..GET };
        assert!(within(&HeadLimits { target_bytes: 9, ..LIMITS }, long, &[]).is_ok());
        assert_eq!(within(&HeadLimits { target_bytes: 8, ..LIMITS }, long, &[]).unwrap_err(), Refusal::TargetTooLong);
    }

    #[test]
    fn an_extended_connect_becomes_an_upgrade() {
        let fields = [("sec-websocket-version", "13"), ("sec-websocket-key", "x"), ("origin", "https://a.example")];
        let head = build(WEBSOCKET, &fields).unwrap();
        assert_eq!((head.method, text(head.method_text()), head.framing), (Method::Get, "GET", Framing::None));
        assert_eq!(head.upgrade.map(|slice| text(head.headers.slice(slice))), Some("websocket"));
        assert_eq!(head.headers.get(b"sec-websocket-key"), None);
        assert_eq!(head.headers.get(b"sec-websocket-version").map(text), Some("13"));
        assert!(build(WEBSOCKET, &[("content-length", "0")]).is_err());
    }

    #[test]
    fn a_reused_head_forgets_the_last() {
        let mut head = build(POST, &[("cookie", "a=b"), ("expect", "100-continue"), ("te", "trailers")]).unwrap();
        assert!(head.expect_continue);
        head.begin_h2();
        head.finish_h2(GET, &LIMITS).unwrap();
        assert_eq!(head.headers.get(b"cookie"), None);
        assert!(!head.expect_continue && !head.te_trailers);
        assert_eq!(head.framing, Framing::None);
        assert!(matches!(head.parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &LIMITS), Ok(Parsed::Complete(_))));
        assert_eq!((head.version, head.section_bytes), (Version::Http11, 0));
    }

    /// As the proxy forwards it: fields that are not for one connection, then framing and upgrade as they were understood.
    fn emit(head: &RequestHead) -> Vec<u8> {
        let mut out = Vec::new();
        request_line(&mut out, head.method_text(), head.path(), head.query());
        for entry in head.headers.iter().filter(|entry| !entry.known.is_hop_by_hop()) {
            field(&mut out, head.headers.name(entry), head.headers.value(entry));
        }
        match head.framing {
            Framing::Length(length) => {
                out.extend_from_slice(b"content-length: ");
                decimal(&mut out, length);
                out.extend_from_slice(b"\r\n");
            }
            Framing::Chunked => field(&mut out, b"transfer-encoding", b"chunked"),
            Framing::None if head.explicit_zero => field(&mut out, b"content-length", b"0"),
            Framing::None | Framing::Close => {}
        }
        if head.expect_continue {
            field(&mut out, b"expect", b"100-continue");
        }
        if let Some(upgrade) = head.upgrade {
            field(&mut out, b"connection", b"upgrade");
            field(&mut out, b"upgrade", head.headers.slice(upgrade));
        } else if head.te_trailers {
            field(&mut out, b"connection", b"te");
            field(&mut out, b"te", b"trailers");
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    fn fields_of(head: &RequestHead) -> Vec<(&[u8], &[u8])> {
        let forwarded = head.headers.iter().filter(|entry| !entry.known.is_hop_by_hop());
        forwarded.map(|entry| (head.headers.name(entry), head.headers.value(entry))).collect()
    }

    fn a_field() -> impl Strategy<Value = (String, String)> {
        let name = prop_oneof![
            Just("content-length".to_owned()),
            Just("host".to_owned()),
            Just("expect".to_owned()),
            Just("te".to_owned()),
            Just("cookie".to_owned()),
            Just("sec-websocket-key".to_owned()),
            "[a-z_-]{1,4}",
        ];
        let value = prop_oneof![
            "[0-9]{1,2}",
            Just("a".to_owned()),
            Just("100-continue".to_owned()),
            Just("trailers".to_owned()),
            "[ -~\t\r\né]{0,6}",
        ];
        (name, value)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn what_is_accepted_is_the_same_request_in_http1(
            method in prop_oneof![Just("GET"), Just("POST"), Just("OPTIONS"), Just("CONNECT"), Just("x!"), Just("G T")],
            path in prop_oneof!["/[a-c./%2eEfF5?; ]{0,12}", Just("*".to_owned()), "[ -~]{0,6}"],
            authority in prop_oneof![Just(None), Just(Some("a".to_owned())), "[a-c.:@0-9]{0,5}".prop_map(Some)],
            websocket in any::<bool>(),
            end_stream in any::<bool>(),
            fields in proptest::collection::vec(a_field(), 0..5),
        ) {
            let parts = H2Parts {
                method: method.as_bytes(),
                scheme: b"https",
                authority: authority.as_deref().map(str::as_bytes),
                path: path.as_bytes(),
                protocol: (websocket && method == "CONNECT").then_some(b"websocket"),
                end_stream,
            };
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let Ok(head) = build(parts, &fields) else { return Ok(()) };
            let out = emit(&head);
            let mut again = RequestHead::default();
            prop_assert_eq!(again.parse(&out, &LIMITS), Ok(Parsed::Complete(out.len())), "{}", out.escape_ascii());
            prop_assert_eq!((again.method, again.method_text()), (head.method, head.method_text()));
            prop_assert_eq!((again.path(), again.query()), (head.path(), head.query()));
            prop_assert_eq!((again.authority(), again.host()), (head.authority(), head.host()));
            prop_assert_eq!((again.framing, again.explicit_zero), (head.framing, head.explicit_zero));
            prop_assert_eq!((again.keep_alive, again.expect_continue), (true, head.expect_continue));
            let upgrade = |head: &RequestHead| head.upgrade.map(|slice| head.headers.slice(slice).to_vec());
            prop_assert_eq!(upgrade(&again), upgrade(&head));
            prop_assert_eq!(again.te_trailers, head.te_trailers && head.upgrade.is_none());
            prop_assert_eq!(fields_of(&again), fields_of(&head));
        }
    }
}
