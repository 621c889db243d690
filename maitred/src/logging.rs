//! Where the log goes, and panics with it: stderr, as text or as JSON. The access log is the data plane's own.

use crate::cli::{Log, LogFormat};
use crate::output::{in_color, say};
use maitred_model::ListenAddress;
use std::io;
use std::net::SocketAddr;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

const DEFAULT_LEVEL: &str = "info";

/// From here on everything is logged. Called once.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let level = log.log_level.clone().or_else(|| std::env::var("MAITRED_LOG").ok().filter(|level| !level.is_empty()));
    let wanted = level.as_deref().unwrap_or(DEFAULT_LEVEL);
    let filter =
        self::level(wanted).map(EnvFilter::new).map_err(|error| anyhow::anyhow!("`{wanted}` is no log level: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    match log.log_format {
        LogFormat::Text => builder.with_ansi(in_color(&io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), "a thread panicked: {panic}");
    }));
    Ok(())
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
