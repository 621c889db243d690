//! Invocations for which nobody waits: tried again when they fail, as AWS does with those of type `Event`.

use super::desk::{Desk, EVENTS_BYTES_MAX, EVENTS_MAX};
use super::job::Job;
use crate::answer::{Answer, NotRun};
use crate::log::LogSource;
use maitred_core::function::Invocation;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

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
    if desk.open_events.get() >= EVENTS_MAX || desk.open_event_bytes.get() + bytes > EVENTS_BYTES_MAX {
        return Err(NotRun::QueueFull);
    }
    desk.open_events.set(desk.open_events.get() + 1);
    desk.open_event_bytes.set(desk.open_event_bytes.get() + bytes);
    let desk = desk.clone();
    spawn_local(async move {
        run(&desk, invocation).await;
        desk.open_events.set(desk.open_events.get() - 1);
        desk.open_event_bytes.set(desk.open_event_bytes.get() - bytes);
        desk.notice();
    });
    Ok(())
}

async fn run(desk: &Rc<Desk>, invocation: Invocation) {
    let born = Instant::now();
    let say = |text: &str| desk.shared.log.push(LogSource::Platform, 0, Some(&invocation.id), text);
    for again in desk.settings.retries.iter().map(Some).chain([None]) {
        let (reply, answer) = oneshot::channel();
        let until = born + AGE_MAX;
        desk.take(Job { invocation: invocation.clone(), reply, until, failed_starts: 0, given: 0, is_event: true });
        match answer.await {
            Ok(Ok(Answer::Whole(finished))) if finished.failure.is_none() => return,
            Ok(Ok(Answer::Whole(_) | Answer::Streamed(_))) => {}
            Ok(Err(_)) | Err(_) => return say("The host stops: an event was not run"),
        }
        let Some(pause) = again else { break };
        if born.elapsed() >= AGE_MAX {
            break;
        }
        rest(desk, *pause).await;
    }
    say("An event failed as often as it is tried and is given up");
}

/// Nobody waits for a pool that is on its way out.
async fn rest(desk: &Desk, pause: Duration) {
    let retired = desk.retired.notified();
    if desk.is_retired.get() {
        return;
    }
    tokio::select! {
        () = retired => {}
        () = sleep(pause) => {}
    }
}
