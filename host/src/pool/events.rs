//! Invocations for which nobody waits: tried again when they fail, as AWS does with those of type `Event`. One that waits goes to the pool
//! of the code in force when its own is put out of use. Keeps nothing over a stop of the gateway.

use super::desk::{Desk, EVENTS_BYTES_MAX, EVENTS_MAX};
use super::job::Job;
use crate::answer::{Answer, NotRun};
use crate::log::LogSource;
use maitred_core::function::Invocation;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

/// Twice, after one minute and after two (reference: AWS Lambda, asynchronous invocation).
pub(crate) const RETRIES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];
/// The longest that one waits for its turn: AWS forgets an event after six hours.
const AGE_MAX: Duration = Duration::from_secs(6 * 60 * 60);
/// Bytes of such an event (reference: AWS Lambda quotas, asynchronous invocation).
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Takes one, where there is room for it.
pub(super) fn submit(desk: &Rc<Desk>, invocation: Invocation) -> Result<(), NotRun> {
    if desk.is_closed() {
        return Err(NotRun::Closed);
    }
    let bytes = invocation.event.len();
    if bytes > EVENT_BYTES_MAX {
        return Err(NotRun::TooLarge);
    }
    let (open, open_bytes) = desk.desks.open_events(&desk.shared.name);
    if open >= EVENTS_MAX || open_bytes + bytes > EVENTS_BYTES_MAX {
        return Err(NotRun::QueueFull);
    }
    let place = Place::at(desk.clone(), bytes);
    spawn_local(run(place, invocation));
    Ok(())
}

/// Where an event is, and counts.
struct Place {
    desk: Rc<Desk>,
    bytes: usize,
}

impl Place {
    fn at(desk: Rc<Desk>, bytes: usize) -> Place {
        desk.open_events.set(desk.open_events.get() + 1);
        desk.open_event_bytes.set(desk.open_event_bytes.get() + bytes);
        Place { desk, bytes }
    }

    /// To where the code in force is; `false`: it is there, or nowhere.
    fn follows(&mut self) -> bool {
        let Some(desk) = self.desk.successor() else { return false };
        *self = Place::at(desk, self.bytes);
        true
    }

    /// Waits for the next try.
    async fn rest(&mut self, pause: Duration) -> Result<(), &'static str> {
        let until = Instant::now() + pause;
        loop {
            self.follows();
            let desk = self.desk.clone();
            let turned = desk.turned.notified();
            if desk.is_stopping.get() {
                return Err("The host stops: an event that failed is not tried again");
            }
            tokio::select! {
                () = turned => {}
                () = sleep_until(until) => break,
            }
        }
        self.follows();
        match self.desk.is_retired.get() {
            true => Err("The function is not configured any more: an event that failed is not tried again"),
            false => Ok(()),
        }
    }

    fn say(&self, id: &str, text: &str) {
        self.desk.shared.log.push(LogSource::Failure, 0, Some(id), text);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.desk.open_events.set(self.desk.open_events.get() - 1);
        self.desk.open_event_bytes.set(self.desk.open_event_bytes.get() - self.bytes);
        self.desk.notice();
    }
}

async fn run(mut place: Place, invocation: Invocation) {
    let born = Instant::now();
    let mut tries = 0;
    loop {
        place.follows();
        let (reply, answer) = oneshot::channel();
        let until = born + AGE_MAX;
        place.desk.take(Job { invocation: invocation.clone(), reply, until, failed_starts: 0, given: 0, is_event: true });
        match answer.await {
            Ok(Ok(Answer::Whole(finished))) if finished.failure.is_none() => return,
            Ok(Ok(Answer::Whole(_) | Answer::Streamed(_))) => {}
            // It waited in a pool that was put out of use, and nobody ran it.
            Ok(Err(_)) | Err(_) if place.follows() => continue,
            Ok(Err(_)) | Err(_) => return place.say(&invocation.id, "The host stops: an event was not run"),
        }
        let Some(pause) = place.desk.settings.retries.get(tries).filter(|_| born.elapsed() < AGE_MAX).copied() else { break };
        tries += 1;
        if let Err(why) = place.rest(pause).await {
            return place.say(&invocation.id, why);
        }
    }
    place.say(&invocation.id, "An event failed as often as it is tried and is given up");
}
