//! The one path on which a running gateway gets another configuration: a changed file, SIGHUP and the admin API all come here. What is
//! wrong changes nothing.

use crate::changes::changes;
use crate::check::summary;
use crate::configuration::{compiled, read};
use crate::hosting::settle;
use crate::wire::{
    House, fetch, follow, leads_to_admin, lock, now, plan, resolve, settings, warn_unfetched, warn_unresolved, workers,
};
use jiff::Timestamp;
use maitred_control::consumers;
use maitred_dataplane::LogTarget;
use maitred_model::Document;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    File,
    Signal,
    Admin,
}

impl Cause {
    pub fn words(self) -> &'static str {
        match self {
            Cause::File => "a file changed",
            Cause::Signal => "SIGHUP",
            Cause::Admin => "the admin API",
        }
    }
}

/// How the last reload went.
#[derive(Debug, Clone)]
pub struct LastReload {
    pub time: Timestamp,
    pub cause: Cause,
    /// What changed, or what was wrong.
    pub result: Result<String, String>,
}

impl LastReload {
    pub fn cause(&self) -> &'static str {
        self.cause.words()
    }
}

struct Done {
    generation: u64,
    change: String,
}

impl House {
    /// The generation that is live now, or what is wrong.
    pub fn reload(&self, cause: Cause) -> Result<u64, String> {
        let _turn = lock(&self.turn);
        if self.gateway.is_draining() {
            return Err("the gateway is draining".to_owned());
        }
        self.notifier.reloading();
        let done = catch_unwind(AssertUnwindSafe(|| self.try_reload()));
        let done = done.unwrap_or_else(|_| Err("the reload panicked; the log says where".to_owned()));
        let (metrics, cause_words) = (self.gateway.metrics(), cause.words());
        match &done {
            Ok(Done { generation, change }) => {
                metrics.reloads_ok.fetch_add(1, Ordering::Relaxed);
                tracing::info!(generation, cause = cause_words, "reloaded: {change}");
            }
            Err(wrong) => {
                metrics.reloads_failed.fetch_add(1, Ordering::Relaxed);
                let live = metrics.generation.load(Ordering::Relaxed);
                // No fields: they would stand behind the last line of the diagnostics.
                tracing::error!("not reloaded ({cause_words}); generation {live} goes on\n{}", wrong.trim_end());
            }
        }
        if cause == Cause::Signal && done.is_err() {
            self.reopen_log();
        }
        let result = done.as_ref().map(|done| done.change.clone()).map_err(String::clone);
        *lock(&self.last) = Some(LastReload { time: now(), cause, result });
        self.tell_ready();
        done.map(|done| done.generation)
    }

    fn try_reload(&self) -> Result<Done, String> {
        let mut read = read(&self.source);
        // Of a wrong configuration too: whoever puts a file of it right expects that to be seen.
        follow(self.watcher.as_ref(), std::mem::take(&mut read.watched));
        if let Some(document) = &read.document {
            settle(&self.token, document).map_err(|error| format!("{error:#}"))?;
        }
        let Some(snapshot) = compiled(&mut read, &self.state) else { return Err(read.render(false)) };
        if !read.diagnostics.is_empty() {
            tracing::warn!("the configuration has warnings\n{}", read.render(false).trim_end());
        }
        warn_unresolved(&self.runtime.block_on(resolve(&self.discovery, &snapshot)));
        if let Some(wrong) = leads_to_admin(&snapshot).or_else(|| consumers::lost_plans(&snapshot.document, &self.store)) {
            return Err(wrong);
        }
        warn_unfetched(&self.runtime.block_on(fetch(&self.keys, &snapshot)));
        self.aws.keep(snapshot.credentials());
        let log = LogTarget::open(&snapshot.document.telemetry.access_log)
            .map_err(|error| format!("cannot open the access log: {error}"))?;
        for key in self.needs_restart(&snapshot.document) {
            tracing::warn!("`{key}` changed, which needs a restart; the rest is taken over");
        }
        let change = format!("{} ({})", summary(&snapshot), changes(&self.gateway.snapshot(), &snapshot));
        let certificates = self.acme.prepare(plan(&snapshot))?;
        let generation = self.gateway.publish(snapshot, log).map_err(|error| error.to_string())?;
        self.acme.apply(certificates);
        self.check_endpoints();
        let live = self.gateway.snapshot();
        self.store.configure(settings(&live.document));
        consumers::warn_hidden(&live.document, &self.store);
        Ok(Done { generation, change })
    }

    /// Tells systemd that traffic may come, and of what.
    pub fn tell_ready(&self) {
        let failed = lock(&self.last).as_ref().is_some_and(|last| last.result.is_err());
        let warning = if failed { "; the last reload failed, see the log" } else { "" };
        self.notifier.ready(&format!("{}{warning}", summary(&self.gateway.snapshot())));
    }

    /// The keys whose value differs from what is running, and cannot change while it does.
    pub fn needs_restart(&self, document: &Document) -> Vec<&'static str> {
        let (first, admin) = (&self.admin, &document.admin);
        let same_token = match (&first.token, &admin.token) {
            (Some(first), Some(token)) => first.expose() == token.expose(),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let same_admin = first.listen.value == admin.listen.value && first.metrics == admin.metrics && same_token;
        let same_workers = self.state.metrics.workers.len() == workers(document.workers);
        let same_store = self.store.path() == document.store;
        let same_counters = self.counters.is_same(&document.counters);
        let keys = [("workers", same_workers), ("admin", same_admin), ("store", same_store), ("counters", same_counters)];
        keys.iter().filter(|(_, same)| !same).map(|(key, _)| *key).collect()
    }

    /// SIGHUP means "I moved your log file" as well, and that has nothing to do with the configuration.
    fn reopen_log(&self) {
        match LogTarget::open(&self.gateway.snapshot().document.telemetry.access_log) {
            Ok(log) => self.gateway.set_log(log),
            Err(error) => tracing::error!(%error, "cannot open the access log again; lines go where they went before"),
        }
    }
}
