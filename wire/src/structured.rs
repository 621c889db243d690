//! Structured Fields (RFC 9651) as far as signatures need them: dictionaries of items and inner lists, with parameters. Strict, and stricter
//! than the RFC in two ways: a key that stands twice is refused, since two readers could take different ones, and so is a field with more
//! parts than any signature has. Display strings are not read.

use crate::base64;

/// Members of a dictionary, items of an inner list, parameters of one thing. A request is signed by one or two, over a dozen components.
pub const PARTS_MAX: usize = 64;

/// The field is not what it should be; the text is fit for a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// A bare item (§3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bare {
    Integer(i64),
    /// In thousandths.
    Decimal(i64),
    /// Without its quotes and escapes; ASCII.
    String(String),
    Token(String),
    Bytes(Vec<u8>),
    Bool(bool),
    /// Seconds since 1970.
    Date(i64),
}

impl Bare {
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Bare::Integer(number) => Some(*number),
            Bare::Decimal(_) | Bare::String(_) | Bare::Token(_) | Bare::Bytes(_) | Bare::Bool(_) | Bare::Date(_) => None,
        }
    }

    pub fn as_string(&self) -> Option<&str> {
        match self {
            Bare::String(text) => Some(text),
            Bare::Integer(_) | Bare::Decimal(_) | Bare::Token(_) | Bare::Bytes(_) | Bare::Bool(_) | Bare::Date(_) => None,
        }
    }

    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Bare::Bytes(bytes) => Some(bytes),
            Bare::Integer(_) | Bare::Decimal(_) | Bare::String(_) | Bare::Token(_) | Bare::Bool(_) | Bare::Date(_) => None,
        }
    }
}

/// Parameters in their order (§3.1.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(pub Vec<(String, Bare)>);

impl Params {
    pub fn get(&self, key: &str) -> Option<&Bare> {
        self.0.iter().find(|(own, _)| own == key).map(|(_, value)| value)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub bare: Bare,
    pub params: Params,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InnerList {
    pub items: Vec<Item>,
    pub params: Params,
}

/// A member of a dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    Item(Item),
    List(InnerList),
}

/// A dictionary in its order (§3.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dictionary(pub Vec<(String, Member)>);

impl Dictionary {
    /// Reads a field, its lines joined by commas.
    pub fn parse(field: &[u8]) -> Result<Dictionary, Malformed> {
        let mut reader = Reader { rest: trim_spaces(field) };
        let mut members: Vec<(String, Member)> = Vec::new();
        while !reader.rest.is_empty() {
            let key = reader.key()?;
            unlike(&key, members.iter().map(|(key, _)| key))?;
            let member = match reader.take(b'=') {
                true => reader.member()?,
                false => Member::Item(Item { bare: Bare::Bool(true), params: reader.params()? }),
            };
            members.push((key, member));
            reader.skip_blank();
            if reader.rest.is_empty() {
                break;
            }
            if !reader.take(b',') {
                return Err(Malformed("something other than a comma behind a member"));
            }
            reader.skip_blank();
            if reader.rest.is_empty() {
                return Err(Malformed("a comma at the end"));
            }
        }
        Ok(Dictionary(members))
    }

    pub fn get(&self, key: &str) -> Option<&Member> {
        self.0.iter().find(|(own, _)| own == key).map(|(_, member)| member)
    }

    /// Appends the one canonical text of it (§4.1.2).
    pub fn write(&self, out: &mut Vec<u8>) {
        for (at, (key, member)) in self.0.iter().enumerate() {
            if at > 0 {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(key.as_bytes());
            match member {
                Member::Item(Item { bare: Bare::Bool(true), params }) => params.write(out),
                Member::Item(_) | Member::List(_) => {
                    out.push(b'=');
                    member.write(out);
                }
            }
        }
    }
}

impl Member {
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Member::Item(item) => item.write(out),
            Member::List(list) => list.write(out),
        }
    }
}

impl Item {
    /// Reads one item that stands alone.
    pub fn parse(text: &[u8]) -> Result<Item, Malformed> {
        let mut reader = Reader { rest: trim_spaces(text) };
        let item = reader.item()?;
        if reader.rest.is_empty() { Ok(item) } else { Err(Malformed("something behind an item")) }
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        self.bare.write(out);
        self.params.write(out);
    }
}

impl InnerList {
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'(');
        for (at, item) in self.items.iter().enumerate() {
            if at > 0 {
                out.push(b' ');
            }
            item.write(out);
        }
        out.push(b')');
        self.params.write(out);
    }
}

impl Params {
    pub fn write(&self, out: &mut Vec<u8>) {
        for (key, value) in &self.0 {
            out.push(b';');
            out.extend_from_slice(key.as_bytes());
            if *value != Bare::Bool(true) {
                out.push(b'=');
                value.write(out);
            }
        }
    }
}

impl Bare {
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Bare::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Bare::Decimal(thousandths) => {
                let (sign, size) = (if *thousandths < 0 { "-" } else { "" }, thousandths.unsigned_abs());
                let text = format!("{sign}{}.{:03}", size / 1000, size % 1000);
                let short = text.trim_end_matches('0');
                out.extend_from_slice(short.as_bytes());
                if short.ends_with('.') {
                    out.push(b'0');
                }
            }
            Bare::String(text) => {
                out.push(b'"');
                for byte in text.bytes() {
                    if matches!(byte, b'"' | b'\\') {
                        out.push(b'\\');
                    }
                    out.push(byte);
                }
                out.push(b'"');
            }
            Bare::Token(text) => out.extend_from_slice(text.as_bytes()),
            Bare::Bytes(bytes) => {
                out.push(b':');
                base64::encode(bytes, out);
                out.push(b':');
            }
            Bare::Bool(truth) => out.extend_from_slice(if *truth { b"?1" } else { b"?0" }),
            Bare::Date(seconds) => out.extend_from_slice(format!("@{seconds}").as_bytes()),
        }
    }
}

fn trim_spaces(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&byte| byte != b' ').unwrap_or(text.len());
    let end = text.iter().rposition(|&byte| byte != b' ').map_or(start, |at| at + 1);
    &text[start..end]
}

fn unlike<'a>(key: &str, others: impl ExactSizeIterator<Item = &'a String>) -> Result<(), Malformed> {
    if others.len() >= PARTS_MAX {
        return Err(Malformed("more parts than are read"));
    }
    for other in others {
        if other == key {
            return Err(Malformed("a key that stands twice"));
        }
    }
    Ok(())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            Some(_) | None => false,
        }
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !belongs(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip_spaces(&mut self) {
        self.take_while(|byte| byte == b' ');
    }

    fn skip_blank(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// §4.2.3.3.
    fn key(&mut self) -> Result<String, Malformed> {
        match self.rest.first() {
            Some(byte) if byte.is_ascii_lowercase() || *byte == b'*' => {}
            Some(_) | None => return Err(Malformed("no key where one belongs")),
        }
        let key = self.take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte));
        Ok(ascii(key))
    }

    fn member(&mut self) -> Result<Member, Malformed> {
        if self.rest.first() == Some(&b'(') { self.inner_list().map(Member::List) } else { self.item().map(Member::Item) }
    }

    /// §4.2.1.2.
    fn inner_list(&mut self) -> Result<InnerList, Malformed> {
        self.take(b'(');
        let mut items = Vec::new();
        loop {
            self.skip_spaces();
            if self.take(b')') {
                return Ok(InnerList { items, params: self.params()? });
            }
            if items.len() >= PARTS_MAX {
                return Err(Malformed("more parts than are read"));
            }
            items.push(self.item()?);
            if !matches!(self.rest.first(), Some(b' ' | b')')) {
                return Err(Malformed("items that are not separated, or no end of the list"));
            }
        }
    }

    fn item(&mut self) -> Result<Item, Malformed> {
        Ok(Item { bare: self.bare()?, params: self.params()? })
    }

    /// §4.2.3.2.
    fn params(&mut self) -> Result<Params, Malformed> {
        let mut params: Vec<(String, Bare)> = Vec::new();
        while self.take(b';') {
            self.skip_spaces();
            let key = self.key()?;
            unlike(&key, params.iter().map(|(key, _)| key))?;
            let value = if self.take(b'=') { self.bare()? } else { Bare::Bool(true) };
            params.push((key, value));
        }
        Ok(Params(params))
    }

    fn bare(&mut self) -> Result<Bare, Malformed> {
        let Some(&first) = self.rest.first() else { return Err(Malformed("no value where one belongs")) };
        match first {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b':' => self.bytes(),
            b'?' => self.boolean(),
            b'@' => {
                self.take(b'@');
                match self.number()? {
                    Bare::Integer(seconds) => Ok(Bare::Date(seconds)),
                    Bare::Decimal(_) | Bare::String(_) | Bare::Token(_) | Bare::Bytes(_) | Bare::Bool(_) | Bare::Date(_) => {
                        Err(Malformed("a date that is no whole number"))
                    }
                }
            }
            byte if byte.is_ascii_alphabetic() || byte == b'*' => {
                let token = self.take_while(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte));
                Ok(Bare::Token(ascii(token)))
            }
            _ => Err(Malformed("a value of no kind that is read")),
        }
    }

    /// §4.2.4: 15 digits at most; 12 and 3 around a point.
    fn number(&mut self) -> Result<Bare, Malformed> {
        let sign = if self.take(b'-') { -1 } else { 1 };
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        let value = |digits: &[u8]| digits.iter().fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        if digits.is_empty() || digits.len() > 15 {
            return Err(Malformed("a number without digits, or with too many"));
        }
        if !self.take(b'.') {
            return Ok(Bare::Integer(sign * value(digits)));
        }
        let fraction = self.take_while(|byte| byte.is_ascii_digit());
        if digits.len() > 12 || !(1..=3).contains(&fraction.len()) {
            return Err(Malformed("a decimal with too many digits, or too few"));
        }
        let scale = [100, 10, 1][fraction.len() - 1];
        Ok(Bare::Decimal(sign * (value(digits) * 1000 + value(fraction) * scale)))
    }

    /// §4.2.5.
    fn string(&mut self) -> Result<Bare, Malformed> {
        self.take(b'"');
        let mut text = String::new();
        loop {
            text.push_str(&ascii(self.take_while(|byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\'))));
            if self.take(b'"') {
                return Ok(Bare::String(text));
            }
            if !self.take(b'\\') {
                return Err(Malformed("a string without end, or with a character that is not allowed in it"));
            }
            match self.rest.split_first() {
                Some((&escaped @ (b'"' | b'\\'), rest)) => {
                    text.push(char::from(escaped));
                    self.rest = rest;
                }
                Some(_) | None => return Err(Malformed("an escape of something else than a quote or a backslash")),
            }
        }
    }

    /// §4.2.7, without the leave to accept what is badly padded.
    fn bytes(&mut self) -> Result<Bare, Malformed> {
        self.take(b':');
        let text = self.take_while(|byte| byte != b':');
        if !self.take(b':') {
            return Err(Malformed("a byte sequence without end"));
        }
        base64::decode(text).map(Bare::Bytes).ok_or(Malformed("a byte sequence that is not base64"))
    }

    fn boolean(&mut self) -> Result<Bare, Malformed> {
        self.take(b'?');
        match (self.take(b'1'), self.rest) {
            (true, _) => Ok(Bare::Bool(true)),
            (false, _) if self.take(b'0') => Ok(Bare::Bool(false)),
            (false, _) => Err(Malformed("a boolean that is neither ?0 nor ?1")),
        }
    }
}

/// Only bytes that were looked at come here, and they are ASCII.
fn ascii(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(field: &str) -> Result<String, &'static str> {
        let dictionary = Dictionary::parse(field.as_bytes()).map_err(|malformed| malformed.0)?;
        let mut out = Vec::new();
        dictionary.write(&mut out);
        assert_eq!(Dictionary::parse(&out), Ok(dictionary), "{field:?}");
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn fields_are_read_and_written_canonically() {
        for (field, canonical) in [
            ("", ""),
            ("a=1", "a=1"),
            ("  a=1  ", "a=1"),
            ("a=1,b=2", "a=1, b=2"),
            ("a=1 \t, \t b=2", "a=1, b=2"),
            ("a", "a"),
            ("a=?1;x", "a;x"),
            ("a=?0", "a=?0"),
            ("a;x=?1;y=?0", "a;x;y=?0"),
            ("a=-0", "a=0"),
            ("a=007", "a=7"),
            ("a=999999999999999", "a=999999999999999"),
            ("a=-1.50", "a=-1.5"),
            ("a=1.0", "a=1.0"),
            ("a=0.001", "a=0.001"),
            ("a=\"x \\\" \\\\ y\"", "a=\"x \\\" \\\\ y\""),
            ("a=tok/en:1", "a=tok/en:1"),
            ("a=*", "a=*"),
            ("a=:aGk=:", "a=:aGk=:"),
            ("a=::", "a=::"),
            ("a=@1659578233", "a=@1659578233"),
            ("*a=1", "*a=1"),
            ("sig1=( \"@method\"   \"@path\" );created=1; keyid=\"k\"", "sig1=(\"@method\" \"@path\");created=1;keyid=\"k\""),
            ("sig1=();a", "sig1=();a"),
            ("a=(1 x;y);z, b=2", "a=(1 x;y);z, b=2"),
        ] {
            assert_eq!(written(field).as_deref(), Ok(canonical), "{field:?}");
        }
    }

    #[test]
    fn what_is_not_a_dictionary_is_refused() {
        for field in [
            "A=1",
            "1=1",
            "a=",
            "a=1,",
            "a=1,,b=2",
            ",a=1",
            "a=1 b=2",
            "a =1",
            "a= 1",
            "a=1;",
            "a=1;B",
            "a=1 ;b",
            "a=\"x",
            "a=\"x\\n\"",
            "a=\"\u{e9}\"",
            "a=:aGk:",
            "a=:a Gk=:",
            "a=:aGk=",
            "a=?2",
            "a=?",
            "a=-",
            "a=1.",
            "a=1.0000",
            "a=.5",
            "a=1234567890123456",
            "a=1234567890123.0",
            "a=@1.5",
            "a=%\"x\"",
            "a=(1",
            "a=(1 2",
            "a=(1,2)",
            "a=(\"x\"\"y\")",
            "a=((1))",
            "a=1, a=2",
            "a=1;x;x",
            "\ta=1",
            "a=1\n",
            "a=(1\t2)",
            "a=(1)b",
        ] {
            assert!(written(field).is_err(), "{field:?}");
        }
    }

    #[test]
    fn a_field_of_countless_parts_is_refused() {
        let many = |part: &dyn Fn(usize) -> String, between: &str| (0..=PARTS_MAX).map(part).collect::<Vec<_>>().join(between);
        assert!(Dictionary::parse(many(&|at| format!("a{at}"), ",").as_bytes()).is_err());
        assert!(Dictionary::parse(format!("a=({})", many(&|_| "1".to_owned(), " ")).as_bytes()).is_err());
        assert!(Dictionary::parse(format!("a;{}", many(&|at| format!("a{at}"), ";")).as_bytes()).is_err());
    }

    #[test]
    fn an_item_stands_alone() {
        assert!(Item::parse(b"\"@query-param\";name=\"Pet\"").is_ok());
        assert!(Item::parse(b"\"a\" \"b\"").is_err() && Item::parse(b"").is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_read_reads_the_same_when_written(field in "[a-c*=;:,()\"?@ 0-9.\\\\-]{0,24}") {
            let _ = written(&field);
        }
    }
}
