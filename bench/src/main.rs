//! Measures the CPU, latency, memory and patience of Maitred beside nginx and haproxy: README.md says how to read it.
//! Depends on none of Maitred's crates: what is measured here is the program, as a user runs it.

mod attack;
mod backend;
mod credentials;
mod environment;
mod guesses;
mod h2;
mod http;
mod kitchen;
mod link;
mod load;
mod offered;
mod options;
mod process;
mod proxies;
mod redis;
mod report;
mod routes;
mod scenarios;
mod signing;
mod stats;
mod sys;
mod tls;
mod websocket;
mod written;

use std::fs;
use std::io;
use std::process::ExitCode;

use options::{Command, Options};
use report::{Bar, Report, Row};
use scenarios::{
    Lab, cold, counting, failing, fleet, floods, footprint, functions, guessing, keys, latency, limits, outage, overload,
    protocols, reload, saturated, stalled, together,
};

/// Ten thousand idle connections: the client's ends are ours, the proxies inherit the limit for theirs.
const OPEN_FILES: u64 = 65_536;

fn main() -> ExitCode {
    let outcome = match options::parse(std::env::args().skip(1)) {
        Err(wrong) => Err(io::Error::other(wrong)),
        Ok(Command::Help) => {
            print!("{}", options::help());
            Ok(true)
        }
        Ok(Command::Backend { stalling }) => backend::serve(stalling).map(|()| true),
        Ok(Command::Kitchen(plan)) => kitchen::serve(plan).map(|()| true),
        Ok(Command::Measure(options)) => measure(options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Answers whether all bars held.
fn measure(mut options: Options) -> io::Result<bool> {
    process::end_all_on_signals();
    sys::sharpen_timers();
    sys::raise_open_files(OPEN_FILES);
    fs::create_dir_all(&options.out)?;
    let out = options.out.canonicalize()?;
    let mut report = Report::default();
    report.environment = environment::describe(&options);
    if let Some(missing) = options.maitred.take_if(|path| !path.is_file()) {
        report.notes.push(format!("no gateway at {}: it was left out", missing.display()));
    }
    options.maitred = options.maitred.map(|path| path.canonicalize()).transpose()?;
    if options.quick {
        report.notes.push("--quick: windows too short for figures to be believed".into());
    }
    let mut lab = Lab { folder: out.join("work"), options, report };
    run(&mut lab);
    print(&lab, &out)
}

type Measurement = fn(&mut Lab) -> io::Result<()>;

/// A scenario that cannot be measured is a row that says so; the others go on.
fn run(lab: &mut Lab) {
    let scenarios: [(&str, Measurement); 22] = [
        ("saturated", saturated::run),
        (together::NAME, together::run),
        ("protocols", protocols::run),
        (protocols::TICKETS, protocols::tickets),
        (latency::NAME, latency::run),
        (footprint::IDLE, footprint::idle),
        (footprint::START, footprint::start),
        (footprint::ROUTES, footprint::routes),
        (reload::NAME, reload::run),
        (floods::NAME, floods::run),
        (guessing::NAME, guessing::run),
        (stalled::NAME, stalled::run),
        (limits::NAME, limits::run),
        (fleet::NAME, fleet::run),
        (keys::NAME, keys::run),
        (overload::NAME, overload::run),
        (failing::NAME, failing::run),
        (outage::NAME, outage::run),
        (counting::SYSCALLS, counting::syscalls),
        (counting::INSTRUCTIONS, counting::instructions),
        (cold::NAME, cold::run),
        (functions::NAME, functions::run),
    ];
    for (name, scenario) in scenarios {
        if !["saturated", "protocols"].contains(&name) && !lab.wants(name) {
            continue;
        }
        if let Err(error) = scenario(lab) {
            eprintln!("{name}: {error}");
            lab.report.add(Row::failed(name, "all", Some(Bar::figure(0.0)), &error.to_string()));
        }
    }
}

fn print(lab: &Lab, out: &std::path::Path) -> io::Result<bool> {
    fs::write(out.join("results.json"), format!("{:#}\n", lab.report.json()))?;
    fs::write(out.join("results.md"), lab.report.markdown())?;
    match lab.options.markdown {
        true => print!("{}", lab.report.markdown()),
        false => print!("{}", lab.report.text()),
    }
    eprintln!("raw figures and configurations: {}", out.join("results.json").display());
    Ok(!lab.report.missed())
}
