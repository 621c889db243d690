//! The ARN of a function: `arn:aws:lambda:eu-west-1:123456789012:function:bill:live`.

use super::ValueError;
use std::fmt;

/// Characters of a whole ARN (reference: AWS Lambda, `FunctionName` of Invoke).
const ARN_BYTES_MAX: usize = 256;
/// Characters of a function's name.
const NAME_BYTES_MAX: usize = 64;
/// Digits of an account.
const ACCOUNT_DIGITS: usize = 12;
const EXAMPLE: &str = "write `arn:aws:lambda:REGION:ACCOUNT:function:NAME`, with `:ALIAS` or `:VERSION` if you like";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionArn {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    pub region: String,
    pub account: String,
    pub name: String,
    /// A version, an alias, or `$LATEST`.
    pub qualifier: Option<String>,
}

impl FunctionArn {
    pub fn parse(text: &str) -> Result<FunctionArn, ValueError> {
        let bad = |what: &str| Err(ValueError::new(format!("`{text}` is not the ARN of a function: {what}")).hint(EXAMPLE));
        if text.len() > ARN_BYTES_MAX {
            return bad("it is longer than 256 characters");
        }
        let parts: Vec<&str> = text.split(':').collect();
        let (fixed, qualifier) = match &parts[..] {
            [fixed @ .., qualifier] if parts.len() == 8 => (fixed, Some(*qualifier)),
            all if parts.len() == 7 => (all, None),
            _ => return bad("it has seven parts, or eight with a version or alias"),
        };
        let [arn, partition, service, region, account, kind, name] = fixed else { return bad("it has too few parts") };
        if *arn != "arn" || !partition.starts_with("aws") || *service != "lambda" || *kind != "function" {
            return bad("it does not begin with `arn:aws:lambda:`, or names no `function`");
        }
        let word =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !word(region) || !word(partition) {
            return bad("the region is wrong");
        }
        if account.len() != ACCOUNT_DIGITS || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return bad("an account has twelve digits");
        }
        if !word(name) || name.len() > NAME_BYTES_MAX {
            return bad("the name is wrong");
        }
        if qualifier.is_some_and(|qualifier| qualifier != "$LATEST" && !word(qualifier)) {
            return bad("the version or alias is wrong");
        }
        Ok(FunctionArn {
            partition: (*partition).to_owned(),
            region: (*region).to_owned(),
            account: (*account).to_owned(),
            name: (*name).to_owned(),
            qualifier: qualifier.map(str::to_owned),
        })
    }
}

impl fmt::Display for FunctionArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FunctionArn { partition, region, account, name, qualifier } = self;
        write!(f, "arn:{partition}:lambda:{region}:{account}:function:{name}")?;
        match qualifier {
            Some(qualifier) => write!(f, ":{qualifier}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_read_and_written_as_it_was() {
        for text in [
            "arn:aws:lambda:eu-west-1:123456789012:function:bill",
            "arn:aws:lambda:eu-west-1:123456789012:function:bill:live",
            "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:bill:$LATEST",
            "arn:aws-cn:lambda:cn-north-1:123456789012:function:bill:7",
        ] {
            assert_eq!(FunctionArn::parse(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "bill",
            "arn:aws:lambda:eu-west-1:123456789012:function",
            "arn:aws:lambda:eu-west-1:123456789012:function:",
            "arn:aws:lambda:eu-west-1:12345678901:function:bill",
            "arn:aws:lambda::123456789012:function:bill",
            "arn:aws:s3:eu-west-1:123456789012:function:bill",
            "arn:aws:lambda:eu-west-1:123456789012:layer:bill",
            "arn:aws:lambda:eu-west-1:123456789012:function:bill:a b",
            "arn:aws:lambda:eu-west-1:123456789012:function:bill:live:more",
            &format!("arn:aws:lambda:eu-west-1:123456789012:function:{}", "x".repeat(65)),
        ] {
            assert!(FunctionArn::parse(text).is_err(), "{text}");
        }
    }
}
