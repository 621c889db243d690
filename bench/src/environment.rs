//! On what a run took place: machine, kernel, versions, options. Never a host name, an address or a path.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::options::Options;
use crate::redis;
use crate::sys;

pub fn describe(options: &Options) -> Vec<(String, String)> {
    let mut facts = vec![
        ("cpu", format!("{}, {} cores used", cpu_model(), sys::cores().len())),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("load before", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("nginx", version(Path::new("nginx"), "-v")),
        ("their TLS", tls_of_nginx()),
        ("haproxy", version(Path::new("haproxy"), "-v")),
        ("redis", version(Path::new(redis::PROGRAM), "--version")),
    ];
    if let Some(binary) = &options.maitred {
        facts.push(("maitred", version(binary, "version")));
    }
    facts.push((
        "workers",
        format!("{} each in the saturated rows, 2 beside back ends that cannot, 1 elsewhere", options.workers),
    ));
    facts.push(("rounds", options.rounds.to_string()));
    facts.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".into(), |text| text.trim().to_string())
}

fn cpu_model() -> String {
    let text = read("/proc/cpuinfo");
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or_else(|| "unknown".into(), |line| line.trim_start_matches([' ', '\t', ':']).to_string())
}

/// The library that Debian's nginx and haproxy share, as it runs.
fn tls_of_nginx() -> String {
    let output = Command::new("nginx").arg("-V").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
    let line = text.lines().find(|line| line.contains("OpenSSL")).unwrap_or("unknown");
    let running = line.rsplit_once("running with ").map_or(line, |(_, running)| running);
    running.trim_start_matches("built with ").trim_end_matches(')').to_string()
}

/// The first line that a program says about itself; nginx says it to stderr.
fn version(program: &Path, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else { return "absent".into() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or("says nothing");
    let line = line.split(" - ").next().unwrap_or(line);
    // Redis tells its build too.
    line.split(" sha=").next().unwrap_or(line).to_string()
}
