//! Names in certificates as text: one text for each name, so that no name passes for another.

use x509_parser::x509::X509Name;

/// Types of attributes that have a short name (RFC 4514 §3).
const TYPES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// As RFC 4514 writes it, the most particular part first: `CN=alice,O=Example`.
pub fn rfc4514(name: &X509Name<'_>) -> String {
    let rdns: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for rdn in rdns.into_iter().rev() {
        if !text.is_empty() {
            text.push(',');
        }
        for (at, attribute) in rdn.iter().enumerate() {
            if at > 0 {
                text.push('+');
            }
            let oid = attribute.attr_type().to_id_string();
            text.push_str(TYPES.iter().find(|(known, _)| *known == oid).map_or(&*oid, |(_, short)| short));
            text.push('=');
            match attribute.as_str() {
                Ok(value) => escape(value, &mut text),
                Err(_) => {
                    text.push('#');
                    text.push_str(&hex(&[attribute.attr_value().tag().0.to_be_bytes()[3]]));
                    text.push_str(&hex(attribute.as_slice()));
                }
            }
        }
    }
    text
}

/// RFC 4514 §2.4.
fn escape(value: &str, out: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => out.extend(['\\', character]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            control if control.is_control() => {
                let mut bytes = [0; 4];
                for byte in control.encode_utf8(&mut bytes).bytes() {
                    out.push('\\');
                    out.push_str(&hex(&[byte]));
                }
            }
            plain => out.push(plain),
        }
    }
}

/// In lower case.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_is_escaped() {
        for (value, text) in [
            ("alice", "alice"),
            ("Example, Inc.", "Example\\, Inc."),
            ("a=b+c", "a\\=b\\+c"),
            (" x ", "\\ x\\ "),
            (" ", "\\ "),
            ("#1 #", "\\#1 #"),
            ("a\0b", "a\\00b"),
            ("é\\\"", "é\\\\\\\""),
        ] {
            let mut out = String::new();
            escape(value, &mut out);
            assert_eq!(out, text);
        }
        assert_eq!(hex(&[0, 0xa5, 0xff]), "00a5ff");
    }
}
