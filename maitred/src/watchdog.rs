//! Tells systemd that this process is alive for as long as every worker reads its mail. Repairs nothing: who falls silent is restarted.

use crate::systemd::Notifier;
use maitred_dataplane::Pulse;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Ends when it is dropped.
#[derive(Debug)]
pub struct Watchdog {
    _ends: SyncSender<()>,
}

impl Watchdog {
    pub fn start(interval: Duration, pulse: Pulse, notifier: Arc<Notifier>) -> io::Result<Watchdog> {
        let (ends, ended) = sync_channel(0);
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            loop {
                let silent = pulse.silent(interval);
                if silent.is_empty() {
                    notifier.alive();
                } else {
                    tracing::error!(workers = ?silent, "workers do not answer; systemd is not told that all is well");
                }
                if ended.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Watchdog { _ends: ends })
    }
}
