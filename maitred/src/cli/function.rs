//! The part of the command line that is about functions that a gateway hosts. Does nothing.

use super::Place;
use clap::{Args, Subcommand};
use maitred_model::parse_address;
use std::net::SocketAddr;
use std::path::PathBuf;

const FUNCTION_HELP: &str = "\
Examples:
  maitred function list
  maitred function invoke dessert --event '{\"plum\": 1}'
  maitred function invoke dessert --event-file event.json --logs
  echo '{}' | maitred function invoke dessert -
  maitred function logs dessert -f                  what it writes, as it comes
  maitred function reload dessert                   reads its code again, for new processes

Where there is no maitred.yaml, they ask the `maitred lambda serve` that runs in this folder.

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
        /// The function
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub struct Invoke {
    /// The function
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
    /// The function
    pub name: String,
    /// Goes on with what it writes from now on, until Ctrl-C
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Of this invocation alone, by the id that `--json` tells
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Writes a line of JSON for each
    #[arg(long)]
    pub json: bool,
    /// The gateway's configuration, which names its admin listener [default: ./maitred.yaml; without one the `lambda serve` of this folder, or 127.0.0.1:9080]
    #[arg(long)]
    file: Option<PathBuf>,
    /// The gateway's admin listener
    #[arg(long, value_name = "ADDR", value_parser = parse_address, conflicts_with = "file")]
    admin: Option<SocketAddr>,
}

impl Logs {
    /// Here `-f` follows, as everywhere where logs are read.
    pub fn place(&self) -> Place {
        Place { file: self.file.clone(), admin: self.admin }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use clap::Parser;

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
}
