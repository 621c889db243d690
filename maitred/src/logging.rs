//! Where the log goes, and panics with it: stderr, as text or as JSON. The access log is the data plane's own.

use crate::cli::{Log, LogFormat};
use crate::output::{in_color, say};
use std::io;
use std::net::SocketAddr;
use tracing_subscriber::EnvFilter;

const DEFAULT_LEVEL: &str = "info";

/// From here on everything is logged. Called once.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let level = log.log_level.clone().or_else(|| std::env::var("MAITRED_LOG").ok().filter(|level| !level.is_empty()));
    let level = level.as_deref().unwrap_or(DEFAULT_LEVEL);
    let filter = EnvFilter::try_new(level).map_err(|error| anyhow::anyhow!("`{level}` is no log level: {error}"))?;
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

/// What a user waits for after a start: short lines in a terminal, events in JSON.
#[derive(Debug, Clone, Copy)]
pub struct Announcer(pub LogFormat);

impl Announcer {
    pub fn address(self, what: &'static str, address: SocketAddr) {
        match self.0 {
            LogFormat::Text => say(&format!("{what} on http://{address}\n")),
            LogFormat::Json => tracing::info!(%address, "{what}"),
        }
    }

    pub fn line(self, line: &str) {
        match self.0 {
            LogFormat::Text => say(&format!("{line}\n")),
            LogFormat::Json => tracing::info!("{line}"),
        }
    }
}
