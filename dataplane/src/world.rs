//! A worker's hold on a snapshot, with what only this worker has: its upstreams and their pools.

use crate::gateway::Shared;
use crate::snapshot::Snapshot;
use maitred_core::metrics::RouteSeries;
use maitred_core::{Chain, Held, Matched, Ports};
use maitred_integrations::Reach;
use maitred_integrations::proxy::mirror::UnderWay;
use maitred_integrations::websocket::Desk;
use maitred_model::{HalfClose, Limits, Underscores};
use maitred_transport::{Counters, H2Limits, Pools, ServerLimits, Upstream, Worker};
use maitred_wire::HeadLimits;
use std::rc::Rc;
use std::sync::Arc;

pub(crate) struct World {
    pub snapshot: Arc<Snapshot>,
    pub limits: Rc<ServerLimits>,
    pub reach: Rc<Reach>,
    shared: Arc<Shared>,
}

impl World {
    pub fn new(
        snapshot: Arc<Snapshot>,
        worker: &Rc<Worker>,
        (pools, mirrors, counters, sockets): (&Rc<Pools>, &UnderWay, &Option<Rc<Counters>>, &Rc<Desk>),
        shared: Arc<Shared>,
    ) -> Rc<World> {
        let limits = server_limits(snapshot.limits(), snapshot.metrics.workers.len());
        let upstreams = snapshot.upstreams.iter().map(|upstream| Upstream::new(upstream.spec.clone(), worker, pools)).collect();
        let (worker, mirrors, counters, sockets) = (worker.clone(), mirrors.clone(), counters.clone(), sockets.clone());
        let (room, sockets_room) = (snapshot.room.clone(), snapshot.sockets_room.clone());
        let functions = snapshot.functions.clone();
        let reach = Rc::new(Reach {
            worker,
            upstreams,
            functions,
            sockets,
            head_limits: limits.head,
            mirrors,
            room,
            sockets_room,
            counters,
        });
        reach.sockets.renew(&reach);
        Rc::new(World { snapshot, limits: Rc::new(limits), reach, shared })
    }
}

impl Held for World {
    fn chain(&self, route: u32) -> &Chain {
        &self.snapshot.routes[route as usize].chain
    }

    fn series(&self, route: u32) -> &Arc<RouteSeries> {
        &self.snapshot.series[route as usize]
    }

    fn ports(&self) -> &dyn Ports {
        &*self.reach
    }

    fn matched(&self, route: u32) -> Option<Matched<'_>> {
        let (api, position) = self.snapshot.routes[route as usize].place;
        let (name, api) = self.snapshot.document.apis.get_index(api as usize)?;
        let matcher = &api.routes.get(position as usize)?.matcher;
        Some(Matched { api: name, methods: &matcher.methods, path: &matcher.path })
    }
}

impl Drop for World {
    /// A snapshot of 100,000 routes takes a while to free: not here.
    fn drop(&mut self) {
        self.shared.retire(self.snapshot.clone());
    }
}

fn server_limits(limits: &Limits, workers: usize) -> ServerLimits {
    ServerLimits {
        head: head_limits(limits),
        header_timeout: limits.header_timeout,
        body_timeout: limits.body_timeout,
        write_timeout: limits.write_timeout,
        idle_timeout: limits.idle_timeout,
        handshake_timeout: limits.handshake_timeout,
        handshakes: limits.handshakes.get().div_ceil(workers as u32),
        tunnel_idle_timeout: limits.tunnel_idle_timeout,
        tunnel_lifetime: limits.tunnel_lifetime,
        h2: H2Limits {
            streams: limits.h2_streams.get(),
            window: limits.h2_window.get(),
            resets: limits.h2_resets.get(),
            control_frames: limits.h2_control_frames.get(),
        },
        half_close_aborts: limits.half_close == HalfClose::Abort,
    }
}

/// What the configuration says of heads, as the parser wants it.
pub(crate) fn head_limits(limits: &Limits) -> HeadLimits {
    HeadLimits {
        head_bytes: limits.header_bytes.get() as usize,
        fields: limits.headers.get() as usize,
        target_bytes: limits.uri_bytes.get() as usize,
        drop_underscores: limits.underscores == Underscores::Drop,
    }
}
