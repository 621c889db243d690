//! The command line as a user reads it: verbs, arguments, help. Does nothing: each verb has a file of its own.

mod consumer;
mod function;
mod lambda;

use crate::logging;
use crate::output::{Exit, print};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use maitred_model::parse_address;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use consumer::{Consumer, ConsumerVerb, Identified, Usage, UsageVerb};
pub use function::{Function, FunctionVerb, Invoke, Logs};
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
    /// The gateway's configuration, which names its admin listener [default: ./maitred.yaml; without one the `lambda serve` of this folder, or 127.0.0.1:9080]
    file: Option<PathBuf>,
    /// The same, as every verb takes it
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "file")]
    named: Option<PathBuf>,
    /// The gateway's admin listener
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
    /// The gateway's configuration, which names its admin listener [default: ./maitred.yaml; without one the `lambda serve` of this folder, or 127.0.0.1:9080]
    #[arg(short, long, global = true)]
    pub file: Option<PathBuf>,
    /// The gateway's admin listener
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
    fn a_header_is_split_at_its_first_colon() {
        assert_eq!(header("host: a:1"), Ok(("host".to_owned(), "a:1".to_owned())));
        assert_eq!(header("x-empty:"), Ok(("x-empty".to_owned(), String::new())));
        assert!(header("nothing").is_err() && header(": x").is_err());
    }
}
