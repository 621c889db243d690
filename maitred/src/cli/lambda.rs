//! The part of the command line that writes functions and runs one without a file. Does nothing.

use super::Log;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use maitred_model::{FunctionRuntime, parse_address};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where `lambda serve` listens unless it is told; the admin listener goes elsewhere by itself where its own is taken.
pub const LISTEN: &str = "127.0.0.1:8080";

const INIT_HELP: &str = "\
Examples:
  maitred init                                      ./maitred.yaml
  maitred init function --python hello              functions/hello, and a maitred.yaml for it

A file that is there is never overwritten.";

#[derive(Debug, Args)]
#[command(after_help = INIT_HELP, args_conflicts_with_subcommands = true)]
pub struct Init {
    #[command(subcommand)]
    pub verb: Option<InitVerb>,
    /// Where to write maitred.yaml
    #[arg(default_value = ".")]
    pub folder: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum InitVerb {
    /// Writes a Lambda function that works at once, and a maitred.yaml for it where there is none
    Function(InitFunction),
}

const INIT_FUNCTION_HELP: &str = "\
Examples:
  maitred init function --python                    functions/hello/app.py
  maitred init function --node orders               functions/orders/app.mjs
  maitred init function --rust orders               functions/orders, for `cargo build --release`

A file that is there is never overwritten; where there is a maitred.yaml, this says what to write to it.";

#[derive(Debug, Args)]
#[command(after_help = INIT_FUNCTION_HELP, group(ArgGroup::new("language").required(true)))]
pub struct InitFunction {
    /// What it is called, by the file and by its folder
    #[arg(default_value = "hello", value_parser = name)]
    pub name: String,
    /// A handler in Python
    #[arg(long, group = "language")]
    pub python: bool,
    /// A handler for Node.js
    #[arg(long, group = "language")]
    pub node: bool,
    /// A program in Rust
    #[arg(long, group = "language")]
    pub rust: bool,
}

/// As the model has names, and AWS those of functions.
fn name(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match text.bytes().all(good) && (1..=64).contains(&text.len()) && !text.starts_with('-') {
        true => Ok(text.to_owned()),
        false => Err("a name has letters, digits, `-` and `_`, 64 at most".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct Lambda {
    #[command(subcommand)]
    pub verb: LambdaVerb,
}

#[derive(Debug, Subcommand)]
pub enum LambdaVerb {
    /// Runs one function here, and sends every request to it; needs no file
    Serve(Serve),
}

const SERVE_HELP: &str = "\
Examples:
  maitred lambda serve ./app.py                     calls its `handler`, or its `lambda_handler`
  maitred lambda serve ./app.mjs --streamed         sends on what it writes as it comes
  maitred lambda serve ./functions/orders --handler shop/app.create
  maitred lambda serve ./target/release/bootstrap   a program that speaks the Lambda Runtime API
  maitred lambda serve ./app.py --event raw         body in, result out, without HTTP

A change of the code is in force as soon as it is saved. `maitred function list|invoke|logs`, run in the same folder, find it.";

#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub struct Serve {
    /// The handler's file, its folder, or an executable that speaks the Lambda Runtime API
    pub path: PathBuf,
    /// File and function, such as app.handler, relative to the folder [default: looked for]
    #[arg(long, value_name = "FILE.FUNCTION")]
    pub handler: Option<String>,
    /// What runs it [default: by the file's name]
    #[arg(long, value_enum)]
    pub runtime: Option<RuntimeWord>,
    /// What it is told of a request, and how its result becomes a response
    #[arg(long, value_enum, default_value_t = EventWord::V2)]
    pub event: EventWord,
    /// Sends its result on as it is written
    #[arg(long)]
    pub streamed: bool,
    /// How long one invocation may take, as in 30s [default: 3s, as in AWS]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub timeout: Option<String>,
    /// A variable of its environment, which has nothing of this one; may be repeated
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    pub environment: Vec<(String, String)>,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = LISTEN, value_parser = parse_address)]
    pub listen: SocketAddr,
    /// Where the admin listener is [default: 127.0.0.1:9080, or any free port]
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub admin: Option<SocketAddr>,
    #[command(flatten)]
    pub log: Log,
}

/// Words of the configuration, as it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RuntimeWord {
    /// Python's handlers
    Python,
    /// Handlers for Node.js
    Node,
    /// An executable
    Provided,
}

impl RuntimeWord {
    pub fn runtime(self) -> FunctionRuntime {
        match self {
            RuntimeWord::Python => FunctionRuntime::Python,
            RuntimeWord::Node => FunctionRuntime::Node,
            RuntimeWord::Provided => FunctionRuntime::Provided,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EventWord {
    /// Of an HTTP API, payload format 2.0
    V2,
    /// Of a REST API, payload format 1.0
    V1,
    /// Of an Application Load Balancer
    Alb,
    /// Of a Function URL
    Url,
    /// The request's body as it is; the result is the response's
    Raw,
}

impl EventWord {
    pub fn as_str(self) -> &'static str {
        match self {
            EventWord::V2 => "v2",
            EventWord::V1 => "v1",
            EventWord::Alb => "alb",
            EventWord::Url => "url",
            EventWord::Raw => "raw",
        }
    }

    /// What it is called where it comes from.
    pub fn says(self) -> &'static str {
        match self {
            EventWord::V2 => "an event of an HTTP API (payload format 2.0)",
            EventWord::V1 => "an event of a REST API (payload format 1.0)",
            EventWord::Alb => "an event of an Application Load Balancer",
            EventWord::Url => "an event of a Function URL",
            EventWord::Raw => "its body, as it is",
        }
    }
}

fn time(text: &str) -> Result<String, String> {
    maitred_model::parse_duration(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write `NAME=value`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::Parser;

    #[test]
    fn a_function_is_asked_for_in_one_language() {
        let fits = |words: &str| Cli::try_parse_from(std::iter::once("maitred").chain(words.split(' '))).is_ok();
        for words in ["init", "init a/b", "init function --python", "init function --rust orders", "init ./function"] {
            assert!(fits(words), "{words}");
        }
        for words in ["init function", "init function --python --node", "init function --python a/b", "init a function --node"] {
            assert!(!fits(words), "{words}");
        }
    }

    #[test]
    fn a_variable_is_split_at_its_first_equals_sign() {
        assert_eq!(variable("URL=a=b"), Ok(("URL".to_owned(), "a=b".to_owned())));
        assert!(variable("URL").is_err() && variable("=a").is_err());
    }
}
