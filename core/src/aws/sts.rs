//! Answers of AWS's Security Token Service: temporary keys, or why there are none, as XML. Reads elements and their text, and nothing else of
//! XML: a document type, a section of character data or an entity of one's own is no answer of STS.

use super::clock;
use super::credentials::{Credentials, moment};

/// Elements of an answer; there are about ten.
const ELEMENTS_MAX: usize = 200;
/// Elements in elements; there are four.
const DEPTH_MAX: usize = 16;

/// The keys of `AssumeRole` or `AssumeRoleWithWebIdentity`, or why there are none.
pub fn read(status: u16, body: &[u8]) -> Result<Credentials, String> {
    let texts = std::str::from_utf8(body).map_err(|_| "it is no text").and_then(leaves);
    let texts = texts.map_err(|why| format!("STS answered {status}, and not in XML: {why}"))?;
    let text = |ending: &str| {
        let mut found = texts.iter().filter(|(path, _)| path.ends_with(ending));
        match (found.next(), found.next()) {
            (Some((_, text)), None) => Ok(text.as_str()),
            (None, _) => Err(format!("STS answered {status} without `{ending}`")),
            (Some(_), Some(_)) => Err(format!("STS answered {status} with `{ending}` twice")),
        }
    };
    if status != 200 {
        let (code, message) = (text("Error/Code")?, text("Error/Message").unwrap_or_default());
        return Err(format!("STS says {}: {}", code.escape_debug(), message.escape_debug()));
    }
    let expires = moment(text("Credentials/Expiration")?)?;
    let (key_id, secret) = (text("Credentials/AccessKeyId")?, text("Credentials/SecretAccessKey")?);
    Credentials::new(key_id, secret, Some(text("Credentials/SessionToken")?), Some(expires))
}

/// Whether an answer refuses a request for its time alone.
pub fn is_refused_for_time(status: u16, body: &[u8]) -> bool {
    let texts = std::str::from_utf8(body).ok().and_then(|text| leaves(text).ok()).unwrap_or_default();
    let text = |ending: &str| texts.iter().find(|(path, _)| path.ends_with(ending)).map_or("", |(_, text)| text.as_str());
    clock::is_refused_for_time(status, text("Error/Code"), text("Error/Message"))
}

/// Of each element that has no elements in it, its path and its text.
pub fn leaves(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut leaves = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    // The innermost one is a leaf so far, and begins there.
    let mut began = None;
    let (mut rest, mut elements) = (text.trim_start_matches('\u{feff}'), 0);
    while let Some(at) = rest.find('<') {
        let (before, markup) = rest.split_at(at);
        if open.is_empty() && !before.trim().is_empty() {
            return Err("text outside of every element");
        }
        let after = |mark: &str| markup.find(mark).map(|end| &markup[end + mark.len()..]).ok_or("markup without an end");
        if markup.starts_with("<!--") {
            began = None;
            rest = after("-->")?;
            continue;
        }
        if markup.starts_with("<?") {
            rest = after("?>")?;
            continue;
        }
        let end = markup.find('>').ok_or("an element without an end")?;
        let (tag, behind) = (&markup[1..end], &markup[end + 1..]);
        rest = behind;
        if let Some(name) = tag.strip_prefix('/') {
            if open.last() != Some(&name.trim_end()) {
                return Err("an element that is not closed where it should be");
            }
            if began.take().is_some() {
                leaves.push((open.join("/"), decoded(before)?));
            }
            open.pop();
            continue;
        }
        let name = tag.strip_suffix('/').unwrap_or(tag).split_ascii_whitespace().next().unwrap_or_default();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        elements += 1;
        if name.is_empty() || !name.bytes().all(is_name) || elements > ELEMENTS_MAX || open.len() >= DEPTH_MAX {
            return Err("an element that no answer has");
        }
        began = None;
        if !tag.ends_with('/') {
            open.push(name);
            began = Some(());
        }
    }
    if !open.is_empty() || !rest.trim().is_empty() || elements == 0 {
        return Err("it is not whole");
    }
    Ok(leaves)
}

/// The five entities that XML has of itself.
fn decoded(text: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let entities = [("&lt;", '<'), ("&gt;", '>'), ("&amp;", '&'), ("&quot;", '"'), ("&apos;", '\'')];
        let (entity, letter) = entities.iter().find(|(entity, _)| rest[at..].starts_with(entity)).ok_or("an unknown entity")?;
        out.push(*letter);
        rest = &rest[at + entity.len()..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const GOOD: &str = r#"<?xml version="1.0"?>
<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult>
    <AssumedRoleUser><AssumedRoleId>AROA:maitred</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/demo/maitred</Arn></AssumedRoleUser>
    <Credentials>
      <AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId>
      <SecretAccessKey>wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY</SecretAccessKey>
      <SessionToken>AQoDYXdz&amp;==</SessionToken>
      <Expiration>2026-11-22T22:30:00Z</Expiration>
    </Credentials><PackedPolicySize>6</PackedPolicySize>
  </AssumeRoleResult><ResponseMetadata><RequestId>c6104cbe</RequestId></ResponseMetadata>
</AssumeRoleResponse>"#;

    #[test]
    fn the_keys_of_a_role_are_read() {
        let credentials = read(200, GOOD.as_bytes()).expect("credentials");
        assert_eq!((&*credentials.key_id, credentials.token.as_deref()), ("ASIAIOSFODNN7EXAMPLE", Some("AQoDYXdz&==")));
        assert_eq!(credentials.expires, Some(Duration::from_secs(1_795_386_600)));
    }

    #[test]
    fn why_there_are_none_is_told() {
        let denied = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not &lt;you&gt;\n</Message></Error><RequestId>x</RequestId></ErrorResponse>";
        assert_eq!(read(403, denied.as_bytes()).unwrap_err(), "STS says AccessDenied: not <you>\\n");
        let twice =
            GOOD.replace("<PackedPolicySize>6</PackedPolicySize>", "<Credentials><AccessKeyId>x</AccessKeyId></Credentials>");
        for bad in [
            "",
            "not xml",
            "<a>",
            "<a></b>",
            "<a>&unknown;</a>",
            "<!DOCTYPE x [<!ENTITY a \"b\">]><a>&a;</a>",
            "<a><![CDATA[x]]></a>",
            "<a/>",
            "<a",
            &GOOD.replace("<SessionToken>", "<Session>").replace("</SessionToken>", "</Session>"),
            &GOOD.replace("2026-11-22T22:30:00Z", "never"),
            &twice,
            &format!("{}{}", "<a>".repeat(20), "</a>".repeat(20)),
        ] {
            assert!(read(200, bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read(500, b"\xff").is_err());
    }
}
