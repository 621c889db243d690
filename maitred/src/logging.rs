//! Where the log goes, and panics with it: stderr, as text or as JSON. The access log is the data plane's own.

mod writer;

use crate::cli::{Log, LogFormat};
use crate::output::{in_color, say};
use anyhow::Context;
use maitred_model::ListenAddress;
use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use writer::{Lines, LogWriter};

const DEFAULT_LEVEL: &str = "info";
/// For the rest of the log at the end: whoever reads it takes that in milliseconds, and who does not read is not waited for.
const END_TIME_MAX: Duration = Duration::from_secs(2);
/// For a panic to be seen, which may be the last that this process does.
const PANIC_TIME_MAX: Duration = Duration::from_secs(1);
/// For what was logged to stand before what is printed.
const ORDER_TIME_MAX: Duration = Duration::from_millis(100);

/// Of this process, since the log of `tracing` is. None before `start`.
static WRITER: OnceLock<LogWriter> = OnceLock::new();

/// From here on everything is logged. Called once.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let level = log.log_level.clone().or_else(|| std::env::var("MAITRED_LOG").ok().filter(|level| !level.is_empty()));
    let wanted = level.as_deref().unwrap_or(DEFAULT_LEVEL);
    let filter =
        self::level(wanted).map(EnvFilter::new).map_err(|error| anyhow::anyhow!("`{wanted}` is no log level: {error}"))?;
    let writer = LogWriter::start(io::stderr()).context("cannot start the thread of the log")?;
    let lines = Lines(WRITER.get_or_init(|| writer));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).with_target(false);
    match log.log_format {
        LogFormat::Text => builder.with_ansi(in_color(&io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), "a thread panicked: {panic}");
        flush(PANIC_TIME_MAX);
    }));
    Ok(())
}

/// Among the lines of the log, where there is one: whether there is.
pub fn takes(text: &str) -> bool {
    WRITER.get().inspect(|writer| writer.take(text.as_bytes())).is_some()
}

/// What was logged is seen before what is printed from here on.
pub fn catch_up() {
    flush(ORDER_TIME_MAX);
}

/// Writes what is left of the log. To be called last.
pub fn end() {
    let until = Instant::now() + END_TIME_MAX;
    if let Some(writer) = WRITER.get() {
        writer.flush(until);
        // While that was written, it may have been said that lines were dropped.
        writer.flush(until);
    }
}

fn flush(time: Duration) {
    if let Some(writer) = WRITER.get() {
        writer.flush(Instant::now() + time);
    }
}

/// A level, or parts with theirs. The filter takes any other word for a part's name, and a slip would mean silence.
pub fn level(text: &str) -> Result<String, String> {
    let is_level = |word: &str| !word.is_empty() && (word.contains('=') || word.parse::<LevelFilter>().is_ok());
    match text.split(',').map(str::trim).find(|word| !is_level(word)) {
        Some(word) => Err(format!("`{word}` is none of off, error, warn, info, debug, trace; a part's level is `part=debug`")),
        None => EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string()),
    }
}

/// What a user waits for after a start, whatever the level: lines like the log's others, or events in JSON.
#[derive(Debug, Clone, Copy)]
pub struct Announcer(pub LogFormat);

impl Announcer {
    /// The first line.
    pub fn start(self, configuration: &str) {
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        match self.0 {
            LogFormat::Text => tell(&format!("maitred {version} starts from {configuration}, process {pid}")),
            LogFormat::Json => tracing::info!(version, configuration, pid, "maitred starts"),
        }
    }

    pub fn address(self, what: &'static str, address: SocketAddr) {
        match self.0 {
            LogFormat::Text => tell(&format!("{what} on http://{address}")),
            LogFormat::Json => tracing::info!(%address, "{what}"),
        }
    }

    pub fn listening(self, address: &ListenAddress, encrypted: bool) {
        let scheme = match address {
            ListenAddress::Unix(_) => "",
            ListenAddress::Tcp(_) if encrypted => "https://",
            ListenAddress::Tcp(_) => "http://",
        };
        match self.0 {
            LogFormat::Text => tell(&format!("listening on {scheme}{address}")),
            LogFormat::Json => tracing::info!(%address, "listening"),
        }
    }

    pub fn line(self, line: &str) {
        match self.0 {
            LogFormat::Text => tell(line),
            LogFormat::Json => tracing::info!("{line}"),
        }
    }
}

/// As the log writes its lines, so that they can be sorted and cut like those.
fn tell(line: &str) {
    let mut time = String::new();
    // A clock that cannot be written leaves the line without one.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    match in_color(&io::stderr()) {
        true => say(&format!("\x1b[2m{time}\x1b[0m \x1b[32m INFO\x1b[0m {line}\n")),
        false => say(&format!("{time}  INFO {line}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: &str = "MAITRED_TEST_PANICS";

    #[test]
    fn a_panic_is_seen_though_the_process_ends_with_it() {
        if std::env::var_os(CHILD).is_some() {
            start(&Log { log_level: Some("info".to_owned()), log_format: LogFormat::Text }).unwrap();
            tracing::info!("before");
            let _ = std::thread::Builder::new().name("plums".to_owned()).spawn(|| panic!("there are none")).unwrap().join();
            std::process::abort();
        }
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "logging::tests::a_panic_is_seen_though_the_process_ends_with_it"]).env(CHILD, "1");
        let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
        let (before, panic) = (said.find("before"), said.find("a thread panicked: "));
        assert!(before.is_some() && before < panic && said.contains("there are none") && said.contains("plums"), "{said}");
    }

    #[test]
    fn a_slip_is_no_level() {
        for fine in ["info", "WARN", "off", "info,maitred_control=debug", "maitred=trace"] {
            assert!(level(fine).is_ok(), "{fine}");
        }
        for slip in ["inof", "", "info,verbose", "maitred=loud"] {
            assert!(level(slip).is_err(), "{slip}");
        }
    }
}
