//! What an instance does for its extensions: tells them of events and of its end, and waits for them there. Without any it does nothing.

use super::super::extensions::After;
use super::super::job::Run;
use super::{End, GRACE, Instance, StartFailure, State, VERSION, errors, since_1970};
use crate::api::extensions::{Reason, Wants, invoke, registered, shutdown};
use crate::log::LINE_BYTES_MAX;
use crate::process::Process;
use tokio::time::Instant as Moment;
use uuid::Uuid;

impl Instance {
    pub(super) fn invoked(&self, run: &Run) -> String {
        let Run { invocation, deadline_wall, .. } = run;
        let arn = invocation.arn.as_deref().unwrap_or(&self.desk.settings.arn);
        invoke(&invocation.id, arn, &invocation.trace, *deadline_wall)
    }

    /// What an extension that registered is told.
    pub fn write_registered(&self, id: Uuid, features: Option<&[u8]>, out: &mut Vec<u8>) {
        registered(out, id, (&self.desk.shared.name, VERSION, &self.desk.settings.handler), features);
    }

    /// An extension asked, or left: what waits for it looks again.
    pub fn extension_moved(&self) {
        if self.is_ending() {
            self.wake.notify_one();
        }
    }

    /// SIGTERM; where extensions want to know, after they did.
    pub(super) fn end_gently(&self, process: &Process) {
        let deadline = since_1970() + GRACE;
        if !self.extensions.shut_down(After::Terminate, || shutdown(Reason::Spindown, deadline)) {
            process.terminate();
        }
        self.due.set(Some(Moment::now() + GRACE));
    }

    /// SIGKILL; where extensions beside it want to know, after they did, and until then it does nothing more.
    pub(super) fn end_late(&self, process: &Process) {
        let deadline = since_1970() + GRACE;
        if !self.extensions.shut_down(After::Kill, || shutdown(Reason::Timeout, deadline)) {
            return process.kill();
        }
        process.stop();
        self.due.set(Some(Moment::now() + GRACE));
    }

    /// Goes on with an end as soon as the extensions are done with it, or too late.
    pub(super) fn extended_end(&self, process: &Process) {
        let is_late = || self.due.get().is_some_and(|due| due <= Moment::now());
        if self.extensions.are_ending() && !is_late() {
            return;
        }
        match self.extensions.take_after() {
            Some(After::Terminate) => {
                process.terminate();
                self.due.set(Some(Moment::now() + GRACE));
            }
            Some(After::Kill) => process.kill(),
            None => {}
        }
    }

    /// Says which extension it was that was waited for.
    pub(super) fn blame(&self) {
        if let Some(names) = self.extensions.waited_for() {
            self.output.complain(&format!("These extensions had not registered or not asked for an event: {names}"));
        }
    }

    pub fn extension_registered(&self, name: &str, wants: Wants) {
        let events = [("INVOKE", wants.invoke), ("SHUTDOWN", wants.shutdown)];
        let events: Vec<&str> = events.into_iter().filter(|(_, is_wanted)| *is_wanted).map(|(event, _)| event).collect();
        self.output.say(&format!("EXTENSION Name: {name} State: Registered Events: [{}]", events.join(", ")));
    }

    /// It says that it cannot go on, and what it watches over does not without it.
    pub fn extension_failed(&self, id: Uuid, (name, kind): (&str, &str), payload: &[u8]) {
        // One line, as long as one may be.
        let told = &payload[..payload.len().min(LINE_BYTES_MAX / 2)];
        self.output.complain(&format!("EXTENSION Name: {name} failed: {kind} {}", String::from_utf8_lossy(told)));
        if self.is_ending() {
            self.extensions.left(id);
            return self.extension_moved();
        }
        if !self.is_starting() {
            // Whoever waits for what is under way is told when the process has ended.
            self.wanted.set(Some(End::Now));
            return self.wake.notify_one();
        }
        self.set(State::Ending);
        self.wanted.set(Some(End::Now));
        self.wake.notify_one();
        let failure = StartFailure::Told(errors::of_extension(name, kind));
        self.desk.start_failed(self.start, &failure);
    }
}
