//! The `maitred` command: one file for each verb, and the wiring between the crates. Decides nothing about a request: that is the
//! data plane's, and what a configuration means is the model's.

mod admin;
mod changes;
mod check;
mod cli;
mod configuration;
mod consumers;
mod demo;
mod explain;
mod functions;
mod healthy;
mod hosting;
mod init;
mod kitchen;
mod lambda;
mod limits;
mod logging;
mod output;
mod place;
mod reload;
mod remote;
mod routes;
mod run;
mod signals;
mod sockets;
mod systemd;
mod token;
mod upgrade;
mod upstreams;
mod usage;
mod version;
mod watchdog;
mod wire;

use clap::Parser;
use cli::{Cli, Verb};
use output::Exit;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(arguments) => {
            // SAFETY: nothing was started yet, so that this is the only thread.
            let inheritance = unsafe { upgrade::Inheritance::take() };
            inheritance.and_then(|inheritance| run::main(arguments, inheritance))
        }
        Verb::Upgrade(arguments) => upgrade::main(&arguments),
        Verb::Upstream(arguments) => upstreams::main(&arguments),
        Verb::Limits(arguments) => limits::main(&arguments),
        Verb::Consumer(arguments) => consumers::main(&arguments),
        Verb::Usage(arguments) => usage::main(&arguments),
        Verb::Function(arguments) => functions::main(&arguments),
        Verb::Healthy(arguments) => healthy::main(&arguments),
        Verb::Check(arguments) => check::main(&arguments),
        Verb::Explain(arguments) => explain::main(&arguments),
        Verb::Token(arguments) => token::main(&arguments),
        Verb::Routes(arguments) => routes::main(&arguments),
        Verb::Init(arguments) => init::main(&arguments),
        Verb::Lambda(arguments) => lambda::main(&arguments),
        Verb::Demo(arguments) => demo::main(&arguments),
        Verb::Schema => output::json(&maitred_model::schema()),
        Verb::Completions(arguments) => cli::completions(&arguments),
        Verb::Version => version::main(),
    };
    let exit = done.unwrap_or_else(|error| {
        output::error(&error);
        Exit::Refused
    });
    logging::end();
    exit.into()
}
