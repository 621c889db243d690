//! Names of functions as AWS's API takes them: alone, with a qualifier, as a part of an ARN or all of one. Here there is one account and one
//! code of each function, so that region, account and qualifier choose nothing; they are only told.

/// The account that hosted functions are told that they are in.
pub const ACCOUNT: &str = "000000000000";
/// Version of a function that has one code.
pub const LATEST: &str = "$LATEST";
/// Characters of a name with all that may stand before and behind it (AWS: 256).
const CHARACTERS_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub name: String,
    /// A version or an alias.
    pub qualifier: Option<String>,
}

impl Asked {
    pub fn arn(&self, region: &str) -> String {
        let arn = arn(region, &self.name);
        match &self.qualifier {
            Some(qualifier) => format!("{arn}:{qualifier}"),
            None => arn,
        }
    }
}

pub fn arn(region: &str, name: &str) -> String {
    format!("arn:aws:lambda:{region}:{ACCOUNT}:function:{name}")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Name,
    Qualifier,
    /// One stands in the name and another beside it.
    Two,
}

/// `qualifier`: beside the name.
pub fn parse(text: &str, qualifier: Option<&str>) -> Result<Asked, Wrong> {
    if text.len() > CHARACTERS_MAX {
        return Err(Wrong::Name);
    }
    let parts: Vec<&str> = text.split(':').collect();
    let mut rest = &parts[..];
    if let ["arn", partition, "lambda", behind @ ..] = rest {
        let is_partition = partition.strip_prefix("aws").is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        let [region, account, "function", behind @ ..] = behind else { return Err(Wrong::Name) };
        if !is_partition || !is_region(region) || !is_account(account) {
            return Err(Wrong::Name);
        }
        rest = behind;
    } else {
        // A part alone is the name, whatever it looks like.
        for is_before in [is_region, is_account, |part: &str| part == "function"] {
            match rest {
                [first, behind @ ..] if !behind.is_empty() && is_before(first) => rest = behind,
                _ => {}
            }
        }
    }
    let (name, inside) = match rest {
        [name] => (*name, None),
        [name, inside] => (*name, Some(*inside)),
        _ => return Err(Wrong::Name),
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || !name.bytes().all(|byte| is_plain(byte) || byte == b'.') {
        return Err(Wrong::Name);
    }
    let qualifier = match (inside, qualifier) {
        (Some(inside), Some(beside)) if inside != beside => return Err(Wrong::Two),
        (inside, beside) => inside.or(beside),
    };
    let is_qualifier = |text: &str| {
        matches!(text, LATEST | "$LATEST.PUBLISHED") || (!text.is_empty() && text.len() <= 128 && text.bytes().all(is_plain))
    };
    match qualifier {
        Some(qualifier) if !is_qualifier(qualifier) => Err(if inside.is_some() { Wrong::Name } else { Wrong::Qualifier }),
        qualifier => Ok(Asked { name: name.to_owned(), qualifier: qualifier.map(str::to_owned) }),
    }
}

/// `eu-west-1`, `us-gov-east-1`
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    match &parts[..] {
        [words @ .., number] => {
            words.len() >= 2
                && words.iter().all(is_word)
                && words[0].len() == 2
                && number.len() == 1
                && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        [] => false,
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_alone_or_in_all_that_aws_wraps_it_in() {
        let asked =
            |name: &str, qualifier: Option<&str>| Ok(Asked { name: name.to_owned(), qualifier: qualifier.map(str::to_owned) });
        for (text, beside, wanted) in [
            ("dessert", None, asked("dessert", None)),
            ("dessert:live", None, asked("dessert", Some("live"))),
            ("dessert:$LATEST", None, asked("dessert", Some("$LATEST"))),
            ("dessert", Some("7"), asked("dessert", Some("7"))),
            ("dessert:7", Some("7"), asked("dessert", Some("7"))),
            ("dessert:7", Some("8"), Err(Wrong::Two)),
            ("dessert", Some("a b"), Err(Wrong::Qualifier)),
            ("dessert", Some(""), Err(Wrong::Qualifier)),
            ("function:dessert", None, asked("dessert", None)),
            ("123456789012:function:dessert", None, asked("dessert", None)),
            ("123456789012:dessert:live", None, asked("dessert", Some("live"))),
            ("eu-west-1:123456789012:function:dessert", None, asked("dessert", None)),
            ("arn:aws:lambda:eu-west-1:123456789012:function:dessert", None, asked("dessert", None)),
            ("arn:aws-us-gov:lambda:us-gov-east-1:123456789012:function:dessert:live", None, asked("dessert", Some("live"))),
            ("function", None, asked("function", None)),
            ("123456789012", None, asked("123456789012", None)),
            ("arn", None, asked("arn", None)),
            ("", None, Err(Wrong::Name)),
            (":", None, Err(Wrong::Name)),
            ("a b", None, Err(Wrong::Name)),
            ("dessert:", None, Err(Wrong::Name)),
            ("dessert:live:more", None, Err(Wrong::Name)),
            ("../dessert", None, Err(Wrong::Name)),
            ("arn:aws:lambda:eu-west-1:123456789012:dessert", None, Err(Wrong::Name)),
            ("arn:aws:s3:eu-west-1:123456789012:function:dessert", None, Err(Wrong::Name)),
            ("arn:other:lambda:eu-west-1:123456789012:function:dessert", None, Err(Wrong::Name)),
            ("arn:aws:lambda:somewhere:123456789012:function:dessert", None, Err(Wrong::Name)),
            ("arn:aws:lambda:eu-west-1:1234:function:dessert", None, Err(Wrong::Name)),
        ] {
            assert_eq!(parse(text, beside), wanted, "{text} {beside:?}");
        }
        assert_eq!(parse(&"a".repeat(257), None), Err(Wrong::Name));
    }

    #[test]
    fn what_was_asked_for_is_told_as_an_arn() {
        let arn = |text: &str| parse(text, None).unwrap().arn("eu-west-1");
        assert_eq!(arn("dessert"), "arn:aws:lambda:eu-west-1:000000000000:function:dessert");
        assert_eq!(arn("dessert:live"), "arn:aws:lambda:eu-west-1:000000000000:function:dessert:live");
    }
}
