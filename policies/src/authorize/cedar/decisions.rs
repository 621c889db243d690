//! The decision log: one event a decision, written by a thread of its own. A worker never waits for it: what does not fit is dropped, and
//! the log says how many were. Which decisions are worth it, the configuration says.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// Decisions on their way to the writer: some MiB at worst.
const WAITING_MAX: usize = 1024;
/// Names of policies and errors that one event has.
pub const NAMED_MAX: usize = 16;
/// Bytes of what a request brings to an event.
pub const TEXT_BYTES_MAX: usize = 256;

/// What was decided, and by what.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    pub request_id: String,
    pub api: Arc<str>,
    pub route: Arc<str>,
    pub authorizer: Arc<str>,
    pub subject: String,
    pub action: Arc<str>,
    pub resource: String,
    pub permitted: bool,
    /// Those that decided it, at most `NAMED_MAX`.
    pub policies: Vec<Arc<str>>,
    /// What could not be evaluated, or why nothing was.
    pub errors: Vec<String>,
}

/// Takes decisions from all workers. The thread is started for the first of them.
#[derive(Default)]
pub struct Decisions {
    writer: OnceLock<Option<Writer>>,
    dropped: Arc<AtomicU64>,
}

struct Writer {
    sender: Option<SyncSender<Decision>>,
    thread: Option<JoinHandle<()>>,
}

impl Decisions {
    /// Whoever will tell decisions says so when it is loaded, so that no request starts a thread.
    pub fn start(&self) {
        self.writer.get_or_init(|| {
            let (sender, receiver) = sync_channel(WAITING_MAX);
            let dropped = self.dropped.clone();
            let start = std::thread::Builder::new().name("decisions".into()).spawn(move || write_all(&receiver, &dropped));
            match start {
                Ok(thread) => Some(Writer { sender: Some(sender), thread: Some(thread) }),
                Err(error) => {
                    tracing::error!(%error, "there is no thread for the decision log, and so no log");
                    None
                }
            }
        });
    }

    pub fn tell(&self, decision: Decision) {
        let Some(Some(Writer { sender: Some(sender), .. })) = self.writer.get() else { return };
        if sender.try_send(decision).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What was handed over is written before it ends.
impl Drop for Decisions {
    fn drop(&mut self) {
        if let Some(Some(writer)) = self.writer.get_mut() {
            writer.sender = None;
            if let Some(thread) = writer.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
impl Decisions {
    /// Nobody writes; whoever has the other end sees what was told.
    pub fn held() -> (Arc<Decisions>, Receiver<Decision>) {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let writer = OnceLock::from(Some(Writer { sender: Some(sender), thread: None }));
        (Arc::new(Decisions { writer, dropped: Arc::default() }), receiver)
    }
}

fn write_all(receiver: &Receiver<Decision>, dropped: &AtomicU64) {
    while let Ok(decision) = receiver.recv() {
        write(&decision);
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(target: "maitred::decisions", lost, "decisions came faster than they could be logged");
        }
    }
}

fn write(decision: &Decision) {
    let Decision { request_id, api, route, authorizer, subject, action, resource, permitted, policies, errors } = decision;
    let (policies, errors) = (policies.join(", "), errors.join("; "));
    tracing::info!(
        target: "maitred::decisions",
        decision = if *permitted { "permit" } else { "deny" },
        request_id = request_id.as_str(),
        api = &**api,
        route = &**route,
        authorizer = &**authorizer,
        subject = subject.as_str(),
        action = &**action,
        resource = resource.as_str(),
        policies = policies.as_str(),
        errors = errors.as_str(),
        "cedar"
    );
}

/// No longer than the log has room for.
pub fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;
    use std::sync::{Mutex, PoisonError};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    /// Keeps what is logged, as `level field=value …`.
    #[derive(Default, Clone)]
    struct Log(Arc<Mutex<Vec<String>>>);

    impl Log {
        fn lines(&self) -> Vec<String> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
    }

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0.push_str(&format!(" {}={value:?}", field.name()));
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "maitred::decisions"
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    fn seventh() -> Decision {
        Decision {
            request_id: "r-1".into(),
            api: "all".into(),
            route: "GET /orders/{id}".into(),
            authorizer: "keys".into(),
            subject: "alice".into(),
            action: "Action::\"GetOrder\"".into(),
            resource: "Order::\"7\"".into(),
            permitted: true,
            policies: vec!["own".into(), "staff".into()],
            errors: vec!["x is odd".into(), "y too".into()],
        }
    }

    #[test]
    fn a_line_has_all_of_a_decision() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            write(&seventh());
            write(&Decision::default());
        });
        let permit = concat!(
            r#"INFO message=cedar decision="permit" request_id="r-1" api="all" route="GET /orders/{id}" authorizer="keys" "#,
            r#"subject="alice" action="Action::\"GetOrder\"" resource="Order::\"7\"" policies="own, staff" errors="x is odd; y too""#,
        );
        let lines = log.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (2, permit));
        assert!(lines[1].starts_with(r#"INFO message=cedar decision="deny" "#), "{}", lines[1]);
        let cut = cut(&"é".repeat(200));
        assert_eq!((cut.len(), cut.chars().count()), (256, 128));
    }

    /// It never waits, and the log says how many it did without.
    #[test]
    fn one_that_is_full_drops_and_counts() {
        let (decisions, receiver) = Decisions::held();
        for _ in 0..WAITING_MAX + 3 {
            decisions.tell(seventh());
        }
        let dropped = decisions.dropped.clone();
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
        drop(decisions);
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || write_all(&receiver, &dropped));
        let lines = log.lines();
        assert_eq!(lines.len(), WAITING_MAX + 1);
        let lost: Vec<&String> = lines.iter().filter(|line| line.starts_with("WARN")).collect();
        assert_eq!(lost, ["WARN message=decisions came faster than they could be logged lost=3"]);
    }
}
