//! HTTP/3's sockets: of each listener that has `http3`, one for each worker. They are not handed to the process that comes after this one:
//! it takes the port when this one has let go of it.

use crate::worker::Mail;
use maitred_model::ListenAddress;
use maitred_transport::{DatagramShare, bind_datagrams};
use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often it is looked whether the process before this one has let go of a port.
const LOOK: Duration = Duration::from_millis(250);

type Bound = Vec<(ListenAddress, Vec<UdpSocket>)>;

#[derive(Default)]
pub(crate) struct Datagrams {
    state: Mutex<State>,
    stopped: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    /// Listeners that have sockets, or wait for them.
    have: HashSet<ListenAddress>,
    /// Bound, and not yet given to the workers.
    bound: Bound,
    /// The process before this one may still have them.
    later: Vec<(ListenAddress, SocketAddr)>,
}

impl Datagrams {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds what is missing of `wanted`; `listeners` says which address each has got. `succeeds`: another process may have the ports for
    /// a while. Whatever fails fails here. Gives the listeners that have sockets and are not to have any.
    pub fn bind(
        &self,
        wanted: &[ListenAddress],
        listeners: &HashMap<ListenAddress, ListenAddress>,
        workers: usize,
        succeeds: impl Fn(&ListenAddress) -> bool,
    ) -> io::Result<Vec<ListenAddress>> {
        let mut state = self.state();
        let (mut bound, mut later) = (Bound::new(), Vec::new());
        for configured in wanted.iter().filter(|configured| !state.have.contains(configured)) {
            let Some(ListenAddress::Tcp(address)) = listeners.get(configured) else { continue };
            match bind_datagrams(*address, workers) {
                Ok(sockets) => bound.push((configured.clone(), sockets)),
                Err(error) if error.kind() == ErrorKind::AddrInUse && succeeds(configured) => {
                    later.push((configured.clone(), *address));
                }
                Err(error) => {
                    return Err(io::Error::new(error.kind(), format!("cannot listen on {address} for HTTP/3 (UDP): {error}")));
                }
            }
        }
        let gone: Vec<ListenAddress> = state.have.iter().filter(|address| !wanted.contains(address)).cloned().collect();
        state.have.retain(|address| wanted.contains(address));
        state
            .have
            .extend(bound.iter().map(|(address, _)| address.clone()).chain(later.iter().map(|(address, _)| address.clone())));
        state.bound.extend(bound);
        state.later.extend(later);
        Ok(gone)
    }

    /// Gives the workers what is bound, and what is bound later when it is.
    pub fn hand_out(&self, workers: Vec<mpsc::Sender<Mail>>) {
        let mut state = self.state();
        let (bound, later) = (std::mem::take(&mut state.bound), std::mem::take(&mut state.later));
        drop(state);
        for (address, sockets) in bound {
            give(&workers, &address, sockets);
        }
        if later.is_empty() {
            return;
        }
        let stopped = self.stopped.clone();
        let wait = move || wait_for_ports(later, &workers, &stopped);
        if let Err(error) = std::thread::Builder::new().name("datagrams".into()).spawn(wait) {
            tracing::error!(%error, "HTTP/3 is not spoken: nobody can wait for its ports");
        }
    }

    /// Waits for no port any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.state().bound.clear();
    }
}

fn wait_for_ports(mut later: Vec<(ListenAddress, SocketAddr)>, workers: &[mpsc::Sender<Mail>], stopped: &AtomicBool) {
    while !later.is_empty() && !stopped.load(Ordering::Relaxed) {
        later.retain(|(configured, address)| match bind_datagrams(*address, workers.len()) {
            Ok(sockets) => {
                tracing::info!(%address, "HTTP/3 is spoken: the process before this one has let go of the port");
                give(workers, configured, sockets);
                false
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => true,
            Err(error) => {
                tracing::error!(%error, %address, "HTTP/3 is not spoken");
                false
            }
        });
        std::thread::park_timeout(LOOK);
    }
}

fn give(workers: &[mpsc::Sender<Mail>], address: &ListenAddress, sockets: Vec<UdpSocket>) {
    for (worker, share) in workers.iter().zip(DatagramShare::all(sockets)) {
        let _ = worker.blocking_send(Mail::Datagrams(address.clone(), Box::new(share)));
    }
}
