//! What the admin listener may see and do in this process. Who may ask is decided by the listener itself.

use crate::reload::Cause;
use crate::routes;
use crate::wire::{House, lock};
use maitred_control::times::written;
use maitred_control::upstreams::{find, turn};
use maitred_control::usage::Usage;
use maitred_control::{
    CertificateEnd, Change, Changed, ConsumerCounts, ConsumerView, FunctionView, Later, NotChanged, NotReloaded, NotUpgraded,
    Operations, Place, Readiness, Reloaded, Runs, Successor, Turned, Unknown, Unrun, UpstreamView, UsageView, consumers,
};
use maitred_core::Clients;
use maitred_core::function::Invocation;
use maitred_core::limits::series::LimitView;
use maitred_core::metrics::Metrics;
use maitred_dataplane::{Errands, Snapshot};
use maitred_host::{Answer, Pool};
use maitred_model::{Counters, FunctionPlace};
use maitred_transport::Expiry;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

impl Operations for House {
    fn metrics(&self) -> Arc<Metrics> {
        self.gateway.metrics().clone()
    }

    fn certificates(&self) -> Vec<CertificateEnd> {
        let snapshot = self.gateway.snapshot();
        let ends = snapshot.certificates().flat_map(|(listener, expiries)| {
            let end = move |Expiry { name, not_after }| CertificateEnd { listener: listener.to_string(), name, not_after };
            expiries.into_iter().map(end)
        });
        ends.collect()
    }

    fn ready(&self) -> Readiness {
        if self.gateway.is_draining() {
            return Readiness::Draining;
        }
        let failed = lock(&self.last).as_ref().is_some_and(|last| last.result.is_err());
        // Anyone may read this: what was wrong is in the log and in /status.
        let failed = failed.then(|| "the last reload failed; the configuration from before is live".to_owned());
        // No reason to send no traffic: the authority must reach this gateway, or there will never be a certificate.
        let store = self.store.is_failing().then(|| "the store cannot be read; consumers stay as they were known".to_owned());
        let counters = self.counters_lost();
        let warnings: Vec<String> = failed.into_iter().chain(store).chain(counters).chain(self.acme.waiting()).collect();
        Readiness::Ready { warning: (!warnings.is_empty()).then(|| warnings.join("; ")) }
    }

    fn config(&self) -> Value {
        maitred_model::to_json(&self.gateway.snapshot().document)
    }

    fn routes(&self) -> Value {
        routes::as_json(&self.gateway.snapshot())
    }

    fn limits(&self) -> Vec<LimitView> {
        self.gateway.snapshot().rate_limits().to_vec()
    }

    fn upstreams(&self) -> Vec<UpstreamView> {
        let (snapshot, now) = (self.gateway.snapshot(), self.state.clock.now());
        snapshot.upstreams().map(|(spec, _)| UpstreamView::of(spec, &self.checks, now)).collect()
    }

    fn upstream(&self, name: &str) -> Result<UpstreamView, Unknown> {
        let snapshot = self.gateway.snapshot();
        let spec = find(snapshot.upstreams().map(|(spec, _)| spec), name)?;
        Ok(UpstreamView::of(spec, &self.checks, self.state.clock.now()))
    }

    fn turn(&self, upstream: &str, endpoint: &str, is_drained: bool) -> Result<Turned, Unknown> {
        let snapshot = self.gateway.snapshot();
        let spec = find(snapshot.upstreams().map(|(spec, _)| spec), upstream)?;
        turn(spec, endpoint, is_drained, self.state.clock.now())
    }

    fn consumers(&self) -> Vec<ConsumerView> {
        consumers::all(&self.gateway.snapshot().document, &self.store)
    }

    fn consumer(&self, name: &str) -> Result<ConsumerView, NotChanged> {
        consumers::one(&self.gateway.snapshot().document, &self.store, name)
    }

    fn change_consumer(&self, change: Change) -> Result<Changed, NotChanged> {
        consumers::change(&self.gateway.snapshot().document, &self.store, change)
    }

    fn consumer_counts(&self) -> ConsumerCounts {
        ConsumerCounts::of(&self.gateway.snapshot().document, &self.store)
    }

    fn usage(&self) -> Vec<UsageView> {
        self.with_usage(|usage| usage.all())
    }

    fn usage_of(&self, name: &str) -> Result<UsageView, NotChanged> {
        self.with_usage(|usage| usage.one(name))
    }

    fn reset_usage(&self, name: &str) -> Result<UsageView, NotChanged> {
        self.with_usage(|usage| usage.reset(name))
    }

    fn functions(&self) -> Vec<FunctionView> {
        let snapshot = self.gateway.snapshot();
        FunctionView::all(&snapshot.document, |index| self.place(&snapshot, index))
    }

    fn function(&self, name: &str) -> Option<FunctionView> {
        let snapshot = self.gateway.snapshot();
        FunctionView::one(&snapshot.document, name, |index| self.place(&snapshot, index))
    }

    fn reload_function(&self, name: &str) -> Result<Reloaded, NotReloaded> {
        let before = self.pool(name)?;
        // Its code is part of what is loaded: where that has changed, so have the processes.
        House::reload(self, Cause::Admin).map_err(NotReloaded::Wrong)?;
        let after = self.pool(name)?;
        if Arc::ptr_eq(&before, &after) {
            after.reload();
        }
        let (old, new) = (&before.code().hash, &after.code().hash);
        Ok(Reloaded { hash: new.clone(), has_changed: old != new })
    }

    fn clients(&self) -> Arc<dyn Clients> {
        Arc::new(self.gateway.websockets().clone())
    }

    fn status(&self) -> Value {
        let last = lock(&self.last).clone();
        let last = last.map(|last| {
            let (result, message) = match &last.result {
                Ok(message) => ("ok", message),
                Err(message) => ("failed", message),
            };
            json!({ "time": written(last.time), "cause": last.cause(), "result": result, "message": message })
        });
        let (started, since) = self.started;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "configuration": self.source.name(),
            "generation": self.gateway.metrics().generation.load(Ordering::Relaxed),
            "started": written(started),
            "uptime_seconds": since.elapsed().as_secs(),
            "workers": self.gateway.metrics().workers.len(),
            "listeners": self.gateway.listeners().iter().map(|address| json!(address.to_string())).collect::<Value>(),
            "draining": self.gateway.is_draining(),
            "needs_restart": self.needs_restart(&self.gateway.snapshot().document),
            "last_reload": last,
        })
    }

    fn reload(&self) -> Result<u64, String> {
        House::reload(self, Cause::Admin)
    }

    fn upgrade(&self) -> Result<Successor, NotUpgraded> {
        House::upgrade(self, Cause::Admin.words())
    }
}

/// A function in AWS: a worker asks for it, as it does for its clients.
struct Away {
    errands: Errands,
    name: String,
}

impl Runs for Away {
    fn invoke(&self, invocation: Invocation) -> Later<'_, Result<Answer, Unrun>> {
        Box::pin(async { self.errands.run(&self.name, invocation).await.map_err(Unrun::Away) })
    }

    fn submit(&self, invocation: Invocation) -> Later<'_, Result<(), Unrun>> {
        Box::pin(async { self.errands.send(&self.name, invocation).await.map_err(Unrun::Away) })
    }
}

impl House {
    fn place(&self, snapshot: &Snapshot, function: usize) -> Option<Place> {
        if let Some(pool) = snapshot.pool(function) {
            return Some(Place::Here(pool.clone()));
        }
        let (name, function) = snapshot.document.functions.get_index(function)?;
        let away = || Away { errands: self.gateway.errands().clone(), name: name.clone() };
        matches!(function.place, FunctionPlace::Aws(_)).then(|| Place::Away(Arc::new(away())))
    }

    fn pool(&self, name: &str) -> Result<Arc<Pool>, NotReloaded> {
        let snapshot = self.gateway.snapshot();
        let index = snapshot.document.functions.get_index_of(name).ok_or(NotReloaded::Unknown)?;
        snapshot.pool(index).cloned().ok_or(NotReloaded::Elsewhere)
    }

    /// Where gateways count together and some worker cannot ask.
    fn counters_lost(&self) -> Option<String> {
        let Counters::Redis(counters) = &self.counters else { return None };
        let is_lost = self.gateway.metrics().workers.iter().any(|worker| worker.counters_lost.get() > 0);
        is_lost.then(|| format!("the counts that gateways share cannot be asked: {}", counters.on_failure.words()))
    }

    fn with_usage<T>(&self, then: impl FnOnce(&Usage<'_>) -> T) -> T {
        let snapshot = self.gateway.snapshot();
        let accounts = &self.state.consumers.accounts;
        let now = self.state.clock.wall();
        let unix = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        then(&Usage {
            document: &snapshot.document,
            grants: snapshot.quotas(),
            store: &self.store,
            accounts,
            now,
            rates: &|plan, consumer| snapshot.rates_left(plan, consumer, self.state.clock.now()),
            elsewhere: &|asked| self.gateway.used_elsewhere(&snapshot.quotas_elsewhere(asked, unix)?),
        })
    }
}
