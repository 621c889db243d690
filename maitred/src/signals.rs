//! Signals, translated: SIGHUP is a reload, SIGUSR2 an upgrade, SIGTERM and SIGINT a stop. Acts on none of them.

use crate::reload::Cause;
use crate::upgrade::End;
use std::io;
use std::sync::mpsc::SyncSender;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

pub fn listen(runtime: &Handle, reloads: SyncSender<Cause>, upgrades: SyncSender<()>, ends: SyncSender<End>) -> io::Result<()> {
    forward(runtime, SignalKind::hangup(), reloads, || Cause::Signal)?;
    forward(runtime, SignalKind::user_defined2(), upgrades, || ())?;
    forward(runtime, SignalKind::terminate(), ends.clone(), || End::Stop)?;
    forward(runtime, SignalKind::interrupt(), ends, || End::Stop)
}

fn forward<T: Send + 'static>(runtime: &Handle, kind: SignalKind, to: SyncSender<T>, event: fn() -> T) -> io::Result<()> {
    let _context = runtime.enter();
    let mut signals = signal(kind)?;
    runtime.spawn(async move {
        while signals.recv().await.is_some() {
            // Full means that as many were sent already and nobody looked yet.
            let _ = to.try_send(event());
        }
    });
    Ok(())
}
