//! Whether a body is text or bytes, as each form of event decides it. Knows types, and no bodies.

use super::json::{Object, text};
use maitred_wire::base64;

/// The type without its parameters.
fn essence(content_type: &[u8]) -> &[u8] {
    let end = content_type.iter().position(|&byte| byte == b';').unwrap_or(content_type.len());
    content_type[..end].trim_ascii()
}

fn begins(essence: &[u8], with: &[u8]) -> bool {
    essence.len() >= with.len() && essence[..with.len()].eq_ignore_ascii_case(with)
}

fn ends(essence: &[u8], with: &[u8]) -> bool {
    essence.len() >= with.len() && essence[essence.len() - with.len()..].eq_ignore_ascii_case(with)
}

fn is_plain_text(essence: &[u8]) -> bool {
    const TEXTS: [&[u8]; 3] = [b"application/json", b"application/javascript", b"application/xml"];
    begins(essence, b"text/") || TEXTS.iter().any(|text| essence.eq_ignore_ascii_case(text))
}

/// Of HTTP APIs and Function URLs, which have no setting for it. A form is bytes: that surprises many, and is so.
pub(super) fn is_text_v2(content_type: Option<&[u8]>) -> bool {
    let Some(essence) = content_type.map(essence) else { return true };
    is_plain_text(essence) || ends(essence, b"+json") || ends(essence, b"+xml")
}

/// Of load balancers. What is encoded is bytes, whatever it is.
pub(super) fn is_text_alb(content_type: Option<&[u8]>, is_encoded: bool) -> bool {
    !is_encoded && content_type.map(essence).is_none_or(is_plain_text)
}

/// Whether one of these types (`type/subtype`, `type/*`, `*/*`) is that of a body, or is accepted.
pub(in crate::function) fn is_binary(types: &[String], content_type: Option<&[u8]>) -> bool {
    let essence = content_type.map(essence);
    types.iter().any(|binary| match (binary.strip_suffix("/*"), essence) {
        (Some("*"), _) => true,
        (_, None) => false,
        (Some(kind), Some(essence)) => begins(essence, kind.as_bytes()) && essence.get(kind.len()) == Some(&b'/'),
        (None, Some(essence)) => essence.eq_ignore_ascii_case(binary.as_bytes()),
    })
}

/// Writes a body, as text where it is to be one and can: nothing of it is lost. Gives whether it is base64 now.
pub(super) fn body(event: &mut Object<'_>, bytes: &[u8], is_text: bool) -> bool {
    let out = event.name("body");
    if is_text && std::str::from_utf8(bytes).is_ok() {
        text(out, bytes);
        return false;
    }
    out.push(b'"');
    base64::encode(bytes, out);
    out.push(b'"');
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_http_apis() {
        for (content_type, is_text) in [
            ("text/plain", true),
            ("TEXT/html; charset=utf-8", true),
            ("application/json", true),
            ("application/json;charset=utf-8", true),
            ("application/javascript", true),
            ("application/xml", true),
            ("application/problem+json", true),
            ("image/svg+XML", true),
            ("application/x-www-form-urlencoded", false),
            ("multipart/form-data; boundary=x", false),
            ("application/octet-stream", false),
            ("image/png", false),
            ("", false),
        ] {
            assert_eq!(is_text_v2(Some(content_type.as_bytes())), is_text, "{content_type}");
        }
        assert!(is_text_v2(None), "no type at all is text");
    }

    #[test]
    fn types_of_load_balancers() {
        for (content_type, is_text) in
            [("text/csv", true), ("application/json", true), ("application/problem+json", false), ("image/png", false)]
        {
            assert_eq!(is_text_alb(Some(content_type.as_bytes()), false), is_text, "{content_type}");
            assert!(!is_text_alb(Some(content_type.as_bytes()), true));
        }
        assert!(is_text_alb(None, false));
    }

    #[test]
    fn types_that_are_called_binary() {
        let types: Vec<String> = ["image/*", "application/pdf"].map(str::to_owned).into();
        for (content_type, binary) in
            [("image/png", true), ("Application/PDF; x=y", true), ("imagex/png", false), ("application/json", false)]
        {
            assert_eq!(is_binary(&types, Some(content_type.as_bytes())), binary, "{content_type}");
        }
        assert!(!is_binary(&types, None) && !is_binary(&[], Some(b"image/png")));
        assert!(is_binary(&["*/*".to_owned()], None));
    }
}
