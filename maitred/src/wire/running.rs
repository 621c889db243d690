//! Waits until the house is to end, drains it, and takes it apart. Knows nothing of how it was put together.

use super::{House, lock};
use crate::upgrade::{End, Stage};
use crate::watchdog::Watchdog;
use maitred_control::Admin;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How often a drain looks for the second signal.
const DRAIN_SLICE: Duration = Duration::from_millis(50);
/// For control work under way at the end, such as a list that is being written.
const CONTROL_END_TIME_MAX: Duration = Duration::from_secs(1);
/// How often is looked whether it has ended.
const CONTROL_END_LOOK: Duration = Duration::from_millis(5);

/// A house, and who must be asked to end it.
pub struct Running {
    pub(super) house: Arc<House>,
    pub(super) runtime: Runtime,
    pub(super) admin: Option<Admin>,
    pub(super) ends: Receiver<End>,
    pub(super) watchdog: Option<Watchdog>,
}

impl Running {
    pub fn house(&self) -> &House {
        &self.house
    }

    /// Where it really is, if any port was asked for.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    pub fn tell_ready(&self) {
        self.house.tell_ready();
    }

    /// Until a signal says stop, or another process serves; then drains.
    pub fn wait(mut self) {
        // An error is a runtime that is gone, and with it all that could stop us.
        let first = self.ends.recv();
        let stage = self.house.succession.conclude();
        let gateway = &self.house.gateway;
        let timeout = gateway.snapshot().document.limits.drain_timeout;
        gateway.begin_drain();
        self.house.acme.stop();
        let mut answering = match stage {
            Stage::HandedOver => {
                self.watchdog = None;
                self.leave_admin(timeout)
            }
            Stage::Stopping | Stage::Serving => {
                self.house.notifier.stopping(timeout);
                None
            }
        };
        // Whoever stops the service signals all its processes, and that is the first signal for one that is drained already.
        let mut signals = match first {
            Ok(End::HandedOver(closed)) => {
                // Nobody waits for it any more: then it took too long.
                let _ = closed.try_send(());
                2
            }
            Ok(End::Stop) | Err(_) => 1,
        };
        let until = Instant::now() + timeout;
        let left = self.drain(timeout, &mut signals);
        self.end_functions(left, &mut signals);
        let left = until.saturating_duration_since(Instant::now());
        if signals > 0 && !left.is_zero() {
            // Functions in AWS run on for who has asked here, and what those that ran here came to has to be told.
            answering = answering.or_else(|| self.leave_admin(left));
        }
        if let Some(answering) = answering {
            self.wait_for(&answering, &mut signals);
        }
        self.stop();
    }

    /// Nobody is let in there any more: after an upgrade the next process answers. Whoever asked this one is answered still: most of all,
    /// how the upgrade went.
    /// `patience`: for who waits for a function. Gives what is told when all have been answered.
    fn leave_admin(&mut self, patience: Duration) -> Option<Receiver<()>> {
        let mut admin = self.admin.take()?;
        self.runtime.block_on(admin.close());
        let (done, ended) = sync_channel(1);
        self.runtime.spawn(async move {
            admin.stop(patience).await;
            let _ = done.try_send(());
        });
        Some(ended)
    }

    /// Until it is told, or so many signals came.
    fn wait_for(&self, ended: &Receiver<()>, signals: &mut u32) {
        while *signals > 0 && ended.recv_timeout(DRAIN_SLICE) == Err(RecvTimeoutError::Timeout) {
            *signals -= self.signalled(*signals);
        }
    }

    /// Until the last connection ended, the time is over, or so many signals came. Gives the time that is left.
    fn drain(&self, timeout: Duration, signals: &mut u32) -> Duration {
        tracing::info!(?timeout, "draining; a second signal stops at once");
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.house.gateway.drain(left.min(DRAIN_SLICE)) {
                tracing::info!("stopped: every connection ended by itself");
                return until.saturating_duration_since(Instant::now());
            }
            if left.is_zero() {
                self.house.gateway.say_goodbye();
                tracing::warn!(cut = self.house.open_connections(), "stopped: the drain timeout passed");
                return Duration::ZERO;
            }
            *signals -= self.signalled(*signals);
            if *signals == 0 {
                tracing::warn!(cut = self.house.open_connections(), "stopped at once, by a second signal");
                return Duration::ZERO;
            }
        }
    }

    /// How many stop signals came of so many that are waited for.
    fn signalled(&self, signals: u32) -> u32 {
        match self.ends.try_recv() {
            Ok(End::Stop) => 1,
            Ok(End::HandedOver(_)) | Err(TryRecvError::Empty) => 0,
            Err(TryRecvError::Disconnected) => signals,
        }
    }

    /// What nobody waits for may run on in functions: until the time is over, or so many signals came. Then they end with the process.
    fn end_functions(&self, patience: Duration, signals: &mut u32) {
        if *signals == 0 || patience.is_zero() {
            return self.house.host.stop(Duration::ZERO);
        }
        let host = self.house.host.clone();
        let (done, ended) = sync_channel(1);
        let end = move || {
            host.stop(patience);
            let _ = done.send(());
        };
        if let Err(error) = std::thread::Builder::new().name("functions-end".to_owned()).spawn(end) {
            return tracing::warn!(%error, "functions end at once: no thread can be started");
        }
        self.wait_for(&ended, signals);
    }

    /// Ends everything, whatever is under way.
    pub fn stop(self) {
        let Running { house, runtime, admin, ends: _, watchdog } = self;
        house.succession.conclude();
        house.gateway.begin_drain();
        house.acme.stop();
        house.host.stop(Duration::ZERO);
        drop((admin, watchdog));
        // An upgrade that is under way sees that it comes too late, and ends what it started.
        drop(lock(&house.succession.turn));
        runtime.shutdown_timeout(CONTROL_END_TIME_MAX);
        let until = Instant::now() + CONTROL_END_TIME_MAX;
        let mut house = Some(house);
        while let Some(shared) = house.take() {
            match Arc::try_unwrap(shared) {
                // Dropping the gateway ends its workers and writes the rest of the access log.
                Ok(house) => drop(house),
                Err(shared) if Instant::now() < until => {
                    std::thread::park_timeout(CONTROL_END_LOOK);
                    house = Some(shared);
                }
                Err(_) => tracing::warn!("a reload was under way at the end; lines of the access log may be lost"),
            }
        }
    }
}
