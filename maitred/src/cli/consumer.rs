//! The part of the command line that is about registered callers, and what they used. Does nothing.

use super::Place;
use clap::{Args, Subcommand};
use std::path::PathBuf;

const CONSUMER_HELP: &str = "\
Examples:
  maitred consumer add shop-app --group partners    writes its key, once, to stdout
  maitred consumer add shop-app --key-file old.key  with the key that it has already; `-` reads it from stdin
  maitred consumer set-plan shop-app gold
  maitred consumer list
  maitred consumer disable shop-app                 its keys are right, and it does not come in
  maitred consumer rotate-key shop-app --grace 24h  a new key; those from before end tomorrow
  maitred consumer add-identity shop-app --identity corporate=shop-app@example.com

What is changed is in force at once, and kept in the store over restarts. Consumers that stand in the configuration are listed, \
and changed there.

Exits with 0 when it is done, with 1 when it is refused, or no gateway answers.";

#[derive(Debug, Args)]
#[command(after_help = CONSUMER_HELP)]
pub struct Consumer {
    #[command(subcommand)]
    pub verb: ConsumerVerb,
    /// Writes what comes of it as JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Subcommand)]
pub enum ConsumerVerb {
    /// Lists them
    List,
    /// Shows one, with its keys and identities
    Show { name: String },
    /// Adds one, and makes it a key, which is written to stdout and cannot be seen again
    Add {
        /// Letters, digits, `-` and `_`
        name: String,
        /// A group that it belongs to; may be repeated
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// What it is given, as `plans` of the configuration calls it
        #[arg(long, value_name = "PLAN")]
        plan: Option<String>,
        /// What an authorizer calls it; may be repeated
        #[arg(long = "identity", value_name = "AUTHORIZER=SUBJECT", value_parser = identity)]
        identities: Vec<(String, String)>,
        /// Makes no key
        #[arg(long)]
        no_key: bool,
        /// A file with a key that it has already, from another gateway; `-` is stdin. A line break at its end is not part of it. No other is made
        #[arg(long, value_name = "FILE", conflicts_with = "no_key")]
        key_file: Option<PathBuf>,
    },
    /// Sets the groups that it belongs to; none takes all away
    SetGroups { name: String, groups: Vec<String> },
    /// Sets what it is given, as `plans` of the configuration calls it; none takes it away
    SetPlan { name: String, plan: Option<String> },
    /// Lets it in no more, whatever it shows
    Disable { name: String },
    /// Lets it in again
    Enable { name: String },
    /// Removes it, with its keys and identities
    Remove { name: String },
    /// Makes it another key
    AddKey { name: String },
    /// Makes it a new key, and ends those from before
    RotateKey {
        name: String,
        /// They go on for so long, as in 24h [default: they end at once]
        #[arg(long, value_name = "TIME", value_parser = grace)]
        grace: Option<String>,
    },
    /// Ends one of its keys
    RemoveKey {
        name: String,
        /// As `show` tells it
        id: String,
    },
    /// Adds what an authorizer calls it
    AddIdentity(Identified),
    /// Takes that away
    RemoveIdentity(Identified),
}

#[derive(Debug, Args)]
pub struct Identified {
    pub name: String,
    #[arg(long, value_name = "AUTHORIZER=SUBJECT", value_parser = identity)]
    pub identity: (String, String),
}

fn identity(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((authorizer, subject)) if !authorizer.is_empty() && !subject.is_empty() => {
            Ok((authorizer.to_owned(), subject.to_owned()))
        }
        Some(_) | None => Err("write `authorizer=subject`".to_owned()),
    }
}

fn grace(text: &str) -> Result<String, String> {
    maitred_model::parse_duration(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

const USAGE_HELP: &str = "\
Examples:
  maitred usage                                     of every consumer that has a plan
  maitred usage shop-app                            with the periods that have passed
  maitred usage reset shop-app                      as if it had used nothing of its own quotas
  maitred usage --json --admin 127.0.0.1:9080

Exits with 0 when it is done, with 1 when it is refused, or no gateway answers.";

#[derive(Debug, Args)]
#[command(after_help = USAGE_HELP)]
pub struct Usage {
    #[command(subcommand)]
    pub verb: Option<UsageVerb>,
    /// Of this consumer alone
    pub name: Option<String>,
    /// Writes JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Subcommand)]
pub enum UsageVerb {
    /// As if a consumer had used nothing in the periods that last
    Reset { name: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_split_at_its_first_equals_sign() {
        assert_eq!(identity("corporate=cn=a,o=b"), Ok(("corporate".to_owned(), "cn=a,o=b".to_owned())));
        assert!(identity("corporate").is_err() && identity("=a").is_err() && identity("corporate=").is_err());
    }
}
