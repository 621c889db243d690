//! The command line as a user reads it: verbs, arguments, help. Does nothing: each verb has a file of its own.

mod lambda;

use crate::logging;
use crate::output::{Exit, print};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use maitred_model::parse_address;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use lambda::{EventWord, Init, InitFunction, InitVerb, Lambda, LambdaVerb, Serve};

/// The file that is meant where none is named.
pub const DEFAULT_FILE: &str = "maitred.yaml";

const EXIT_CODES: &str = "\
Exit codes:
  0  fine
  1  the configuration has errors, or a check failed
  2  the command line is wrong
  3  it could not start, for example because an address is in use

Colours appear on a terminal only, and never when NO_COLOR is set.";

/// An API gateway: one file, one door.
#[derive(Debug, Parser)]
#[command(name = "maitred", version, propagate_version = true, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serves: from a file, or everything to one back end
    Run(Run),
    /// Has the installed program take over from the gateway that runs, without a lost connection
    Upgrade(Remote),
    /// Shows the endpoints of the gateway that runs, takes one out, or lets it in again
    Upstream(Upstream),
    /// Shows the rate limits of the gateway that runs, what they said, and whom they refuse most often
    Limits(Limits),
    /// Registered callers of the gateway that runs: lists, adds and disables them, makes their keys
    Consumer(Consumer),
    /// Shows what consumers of the gateway that runs used of their plans' quotas, or has one begin anew
    Usage(Usage),
    /// Functions that the gateway hosts: lists them, runs one, shows what it wrote, starts its processes anew
    Function(Function),
    /// Asks the gateway that runs whether it is well; exits with 0 or 1
    Healthy(Healthy),
    /// Reads a configuration and says all that is wrong with it
    Check(Check),
    /// Says which route takes a request, why, and where it would go; asks nobody
    Explain(Explain),
    /// Says whether an authorizer takes a JWT, and of each rule whether it holds
    Token(Token),
    /// Lists the routes of a configuration
    Routes(Routes),
    /// Writes a first maitred.yaml that works at once, or a Lambda function
    Init(Init),
    /// Runs a Lambda function here, with no file
    Lambda(Lambda),
    /// A restaurant on this machine, to try things out: two back ends, a function and a gateway
    Demo(Demo),
    /// Prints the JSON Schema of the configuration, for editors
    Schema,
    /// Prints a completion script for a shell
    Completions(Completions),
    /// Prints the version, and what it was built for
    Version,
}

const RUN_HELP: &str = "\
Examples:
  maitred run                                       serves ./maitred.yaml
  maitred run /etc/maitred/gateway.yaml
  maitred run --upstream http://127.0.0.1:9001      no file: everything goes there

A changed file is loaded by itself; `kill -HUP` and `POST /reload` on the admin listener do the same. \
A file with errors changes nothing.

SIGTERM and Ctrl-C let what is under way end, for `limits.drain_timeout` at most; a second one stops at once. \
SIGUSR2 has the installed program take over, as `maitred upgrade` does.";

#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub struct Run {
    #[command(flatten)]
    pub file: File,
    /// Sends everything to this back end; needs no file
    #[arg(long, value_name = "URL", conflicts_with_all = ["file", "named"])]
    pub upstream: Option<String>,
    /// Where to listen, with --upstream
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = parse_address, requires = "upstream")]
    pub listen: SocketAddr,
    /// Where the admin listener is, with --upstream
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9080", value_parser = parse_address, requires = "upstream")]
    pub admin: SocketAddr,
    #[command(flatten)]
    pub log: Log,
}

/// The configuration, for verbs that have no other argument: by its place, and as the other verbs take it.
#[derive(Debug, Args)]
pub struct File {
    /// The configuration [default: ./maitred.yaml]
    file: Option<PathBuf>,
    /// The same, as every verb takes it
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "file")]
    named: Option<PathBuf>,
}

impl File {
    pub fn given(&self) -> Option<&Path> {
        self.file.as_deref().or(self.named.as_deref())
    }

    pub fn path(&self) -> &Path {
        self.given().unwrap_or(Path::new(DEFAULT_FILE))
    }
}

#[derive(Debug, Args)]
pub struct Log {
    /// What is logged to stderr: error, warn, info, debug, trace, or by part such as `info,maitred_control=debug` [default: info] [env: MAITRED_LOG]
    #[arg(long, value_name = "LEVEL", value_parser = logging::level)]
    pub log_level: Option<String>,
    /// How it is written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

const UPGRADE_HELP: &str = "\
Examples:
  maitred upgrade                                   the gateway of ./maitred.yaml
  maitred upgrade /etc/maitred/maitred.yaml
  maitred upgrade --admin 127.0.0.1:9080

The gateway starts the program at the path from which it was started itself, hands it the listening sockets, and goes on \
until that one is ready. If it never is, nothing has changed, and this says why.

With --admin, and where there is no file, a token is taken from MAITRED_ADMIN_TOKEN.";

/// Which gateway is meant, for verbs that have no other argument.
#[derive(Debug, Args)]
#[command(after_help = UPGRADE_HELP)]
pub struct Remote {
    /// Its configuration, which names the admin listener [default: ./maitred.yaml, or 127.0.0.1:9080 where there is none]
    file: Option<PathBuf>,
    /// The same, as every verb takes it
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "file")]
    named: Option<PathBuf>,
    /// Its admin listener
    #[arg(long, value_name = "ADDR", value_parser = parse_address, conflicts_with_all = ["file", "named"])]
    admin: Option<SocketAddr>,
}

impl Remote {
    pub fn place(&self) -> Place {
        Place { file: self.file.clone().or_else(|| self.named.clone()), admin: self.admin }
    }
}

const UPSTREAM_HELP: &str = "\
Examples:
  maitred upstream list
  maitred upstream drain orders 10.0.1.1:9000       nothing new goes there; what is under way ends in peace
  maitred upstream enable orders 10.0.1.1:9000 --admin 127.0.0.1:9080

What is drained stays so over reloads and upgrades, and not over a restart.

Exits with 0 when it is done, with 1 when there is no such upstream or endpoint, or no gateway answers.";

#[derive(Debug, Args)]
#[command(after_help = UPSTREAM_HELP)]
pub struct Upstream {
    #[command(subcommand)]
    pub verb: UpstreamVerb,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Subcommand)]
pub enum UpstreamVerb {
    /// Lists the endpoints, and how they are
    List {
        /// Of this upstream alone
        name: Option<String>,
        /// Writes JSON
        #[arg(long)]
        json: bool,
    },
    /// Sends nothing new to an endpoint
    Drain(Which),
    /// Lets an endpoint in again
    Enable(Which),
}

#[derive(Debug, Args)]
pub struct Which {
    /// The upstream
    pub name: String,
    /// Its address, such as 10.0.1.1:9000, or the name that stands for several
    pub endpoint: String,
}

/// Which gateway is meant, for verbs that have arguments of their own.
#[derive(Debug, Args)]
pub struct Place {
    /// Its configuration, which names the admin listener [default: ./maitred.yaml, or 127.0.0.1:9080 where there is none]
    #[arg(short, long, global = true)]
    pub file: Option<PathBuf>,
    /// Its admin listener
    #[arg(long, value_name = "ADDR", global = true, value_parser = parse_address, conflicts_with = "file")]
    pub admin: Option<SocketAddr>,
}

const LIMITS_HELP: &str = "\
Examples:
  maitred limits
  maitred limits --json --admin 127.0.0.1:9080      with up to 64 keys of each limit

Counts are those of this gateway since it was started. A key that was refused is shown as it was made: an address, a consumer, what \
a header holds. Credentials are not shown.

Exits with 0, or with 1 when no gateway answers.";

#[derive(Debug, Args)]
#[command(after_help = LIMITS_HELP)]
pub struct Limits {
    /// Writes JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

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
        /// A file with a key that it has already, from another gateway; `-` is stdin. No other is made
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

const FUNCTION_HELP: &str = "\
Examples:
  maitred function list
  maitred function invoke dessert --event '{\"plum\": 1}'
  maitred function invoke dessert --event-file event.json --logs
  echo '{}' | maitred function invoke dessert -
  maitred function logs dessert -f                  what it writes, as it comes
  maitred function reload dessert                   reads its code again, and starts other processes

A result is written to stdout as the function gave it, a log to stderr.

Exits with 0 when it is done, with 1 when the function failed, there is none of that name, or no gateway answers.";

#[derive(Debug, Args)]
#[command(after_help = FUNCTION_HELP)]
pub struct Function {
    #[command(subcommand)]
    pub verb: FunctionVerb,
}

#[derive(Debug, Subcommand)]
pub enum FunctionVerb {
    /// Lists them, with their processes
    List {
        /// Of this function alone
        name: Option<String>,
        /// Writes JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Runs a function once, and prints its result
    Invoke(Invoke),
    /// Shows what a function wrote; the last thousand lines are kept
    Logs(Logs),
    /// Reads the code of a function again, and has other processes take the places of those that it has
    Reload {
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub struct Invoke {
    pub name: String,
    /// `-` reads the event from stdin; without any it is {}
    #[arg(value_name = "-", value_parser = ["-"], conflicts_with_all = ["event", "event_file"])]
    pub stdin: Option<String>,
    /// The event, as JSON
    #[arg(long, value_name = "JSON", conflicts_with = "event_file")]
    pub event: Option<String>,
    /// A file that holds it; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub event_file: Option<PathBuf>,
    /// Writes the end of its log to stderr, 4 KB at most
    #[arg(long)]
    pub logs: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
pub struct Logs {
    pub name: String,
    /// Goes on with what it writes from now on, until Ctrl-C
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Of this invocation alone
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Writes a line of JSON for each
    #[arg(long)]
    pub json: bool,
    /// The configuration of the gateway, which names the admin listener [default: ./maitred.yaml, or 127.0.0.1:9080 where there is none]
    #[arg(long)]
    file: Option<PathBuf>,
    /// Its admin listener
    #[arg(long, value_name = "ADDR", value_parser = parse_address, conflicts_with = "file")]
    admin: Option<SocketAddr>,
}

impl Logs {
    /// Here `-f` follows, as everywhere where logs are read.
    pub fn place(&self) -> Place {
        Place { file: self.file.clone(), admin: self.admin }
    }
}

const HEALTHY_HELP: &str = "\
Examples:
  maitred healthy --admin 127.0.0.1:9080            for an image's HEALTHCHECK
  maitred healthy --ready                           1 while it drains, too";

#[derive(Debug, Args)]
#[command(after_help = HEALTHY_HELP)]
pub struct Healthy {
    #[command(flatten)]
    pub remote: Remote,
    /// Asks whether traffic should be sent there
    #[arg(long)]
    pub ready: bool,
}

const CHECK_HELP: &str = "\
Examples:
  maitred check
  maitred check gateway.yaml --format json          for CI: an array on stdout

Problems are written to stderr, each with its line and what to type instead. Warnings alone are no failure.";

#[derive(Debug, Args)]
#[command(after_help = CHECK_HELP)]
pub struct Check {
    #[command(flatten)]
    pub file: File,
    /// How problems are written
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    pub format: CheckFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    Text,
    /// An array of {code, severity, file, line, column, message, hint}
    Json,
}

const EXPLAIN_HELP: &str = "\
Examples:
  maitred explain GET /menu
  maitred explain POST 'https://api.example.com/shop/orders?v=2' -H 'x-beta: 1'
  maitred explain GET /menu -H 'host: api.example.com' -f gateway.yaml --json

Exits with 0 when a route takes the request, with 1 when none does.";

#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_HELP)]
pub struct Explain {
    /// The method, such as GET
    pub method: String,
    /// A path, or a URL with its host
    pub url: String,
    /// A header of the request
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The configuration [default: ./maitred.yaml]
    #[arg(short, long, default_value = DEFAULT_FILE, hide_default_value = true)]
    pub file: PathBuf,
    /// Writes JSON
    #[arg(long)]
    pub json: bool,
}

const TOKEN_HELP: &str = "\
Examples:
  maitred token < token.txt                         of the only authorizer that takes tokens
  maitred token --authorizer staff --fetch - < token.txt
  maitred token --authorizer staff -f gateway.yaml --json \"$TOKEN\"

Keys in a file, and a secret, are taken from the configuration; those at a URL are asked for with --fetch alone. What is on a \
command line other users of the machine may see, and a shell keeps it: a token that still opens is better read from stdin.

Exits with 0 when the token is valid, with 1 when it is not.";

#[derive(Debug, Args)]
#[command(after_help = TOKEN_HELP)]
pub struct Token {
    /// The token, or `-` to read it from stdin
    #[arg(default_value = "-", hide_default_value = true)]
    pub token: String,
    /// The authorizer; needed where several take tokens
    #[arg(long, value_name = "NAME")]
    pub authorizer: Option<String>,
    /// Asks the issuer for its keys, where they are not in the configuration
    #[arg(long)]
    pub fetch: bool,
    /// The configuration [default: ./maitred.yaml]
    #[arg(short, long, default_value = DEFAULT_FILE, hide_default_value = true)]
    pub file: PathBuf,
    /// Writes JSON
    #[arg(long)]
    pub json: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.trim().to_owned())),
        Some(_) | None => Err("write `name: value`".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct Routes {
    #[command(flatten)]
    pub file: File,
    /// Writes JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Tries everything itself, says how it went, and exits with 0 or 1
    #[arg(long)]
    pub once: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  maitred completions bash > ~/.local/share/bash-completion/completions/maitred")]
pub struct Completions {
    pub shell: Shell,
}

pub fn completions(arguments: &Completions) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "maitred", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_that_reads_a_file_takes_it_by_the_same_option() {
        let fits = |words: &str| Cli::try_parse_from(std::iter::once("maitred").chain(words.split(' '))).is_ok();
        for verb in [
            "run",
            "check",
            "routes",
            "upgrade",
            "healthy",
            "explain GET /",
            "token",
            "upstream list",
            "consumer list",
            "function list",
            "function invoke dessert -",
            "token -",
        ] {
            for option in ["-f a.yaml", "--file a.yaml", "--file=a.yaml"] {
                assert!(fits(&format!("{verb} {option}")), "{verb} {option}");
            }
        }
        for verb in ["run", "check", "routes", "upgrade", "healthy"] {
            assert!(fits(&format!("{verb} a.yaml")) && !fits(&format!("{verb} a.yaml -f b.yaml")), "{verb}");
        }
        for words in ["run -f a.yaml --upstream http://a", "upgrade -f a.yaml --admin 127.0.0.1:1", "token --fetc"] {
            assert!(!fits(words), "{words}");
        }
    }

    #[test]
    fn an_event_is_said_in_one_way_only() {
        let fits = |words: &str| Cli::try_parse_from("maitred function".split(' ').chain(words.split(' '))).is_ok();
        for words in
            ["invoke a", "invoke a -", "invoke a --event {}", "invoke a --event-file -", "logs a -f", "logs a -f --file b"]
        {
            assert!(fits(words), "{words}");
        }
        for words in ["invoke a - --event {}", "invoke a --event {} --event-file b", "invoke a b", "logs a --file b --admin :1"] {
            assert!(!fits(words), "{words}");
        }
    }

    #[test]
    fn an_identity_is_split_at_its_first_equals_sign() {
        assert_eq!(identity("corporate=cn=a,o=b"), Ok(("corporate".to_owned(), "cn=a,o=b".to_owned())));
        assert!(identity("corporate").is_err() && identity("=a").is_err() && identity("corporate=").is_err());
    }

    #[test]
    fn a_header_is_split_at_its_first_colon() {
        assert_eq!(header("host: a:1"), Ok(("host".to_owned(), "a:1".to_owned())));
        assert_eq!(header("x-empty:"), Ok(("x-empty".to_owned(), String::new())));
        assert!(header("nothing").is_err() && header(": x").is_err());
    }
}
