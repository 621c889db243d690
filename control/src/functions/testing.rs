//! A function without processes: what it is to answer is said beforehand, and what it was asked is kept.

use super::{FunctionView, Later, Place, Processes, Runs, Seen, Unrun};
use maitred_core::Fault;
use maitred_core::function::{Finished, Invocation};
use maitred_host::{Answer, Figures, InstanceView, LogLine, LogSource, NotRun};
use maitred_model::{Document, Memory, load_text};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

pub(crate) struct Scripted {
    hash: String,
    figures: Figures,
    /// The next one is the first; with none left, the event comes back.
    pub answers: Mutex<VecDeque<Result<Answer, Unrun>>>,
    pub asked: Mutex<Vec<Invocation>>,
    pub later: Mutex<Vec<Invocation>>,
    pub lines: Mutex<Vec<LogLine>>,
    /// Until that comes the next run goes on.
    pub hold: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Default for Scripted {
    fn default() -> Scripted {
        let figures = Figures::default();
        for (figure, value) in
            [(&figures.invocations, 5), (&figures.failures, 2), (&figures.idle, 1), (&figures.duration, 1_500_000)]
        {
            figure.store(value, Relaxed);
        }
        Scripted {
            hash: "c0de".repeat(16),
            figures,
            answers: Mutex::default(),
            asked: Mutex::default(),
            later: Mutex::default(),
            lines: Mutex::default(),
            hold: Mutex::default(),
        }
    }
}

impl Scripted {
    pub fn answer(&self, answer: Result<Answer, NotRun>) {
        self.answers.lock().unwrap().push_back(answer.map_err(Unrun::Here));
    }

    /// As AWS refuses.
    pub fn refuse(&self, fault: Fault) {
        self.answers.lock().unwrap().push_back(Err(Unrun::Away(fault)));
    }
}

impl Runs for Scripted {
    fn invoke(&self, invocation: Invocation) -> Later<'_, Result<Answer, Unrun>> {
        let echo = Finished { payload: invocation.event.clone(), ..Finished::default() };
        let tail = invocation.log_tail.then(|| b"START\nEND\n".to_vec());
        self.asked.lock().unwrap().push(invocation);
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.unwrap_or(Ok(Answer::Whole(Finished { log_tail: tail, ..echo })));
        let hold = self.hold.lock().unwrap().take();
        Box::pin(async move {
            if let Some(hold) = hold {
                hold.await.unwrap();
            }
            answer
        })
    }

    fn submit(&self, invocation: Invocation) -> Later<'_, Result<(), Unrun>> {
        self.later.lock().unwrap().push(invocation);
        let answer = self.answers.lock().unwrap().pop_front();
        Box::pin(async move { answer.map_or(Ok(()), |answer| answer.map(drop)) })
    }
}

impl Processes for Scripted {
    fn view(&self) -> Later<'_, Seen> {
        let instances = vec![InstanceView { number: 1, pid: 4711, state: "idle", invocations: 5 }];
        Box::pin(async move { Seen { instances, waiting: 3 } })
    }

    fn code(&self) -> (&str, &Path) {
        (&self.hash, Path::new("/var/lib/maitred/c0de"))
    }

    fn figures(&self) -> &Figures {
        &self.figures
    }

    fn log_after(&self, number: u64) -> Vec<LogLine> {
        self.lines.lock().unwrap().iter().filter(|line| line.number > number).cloned().collect()
    }

    fn reload(&self) {}
}

pub(crate) fn line(number: u64, request_id: Option<&str>, text: &str) -> LogLine {
    LogLine {
        number,
        time: Duration::from_millis(1_700_000_000_000 + number),
        source: LogSource::Stdout,
        request_id: request_id.map(Into::into),
        instance: 1,
        text: text.into(),
    }
}

/// `dessert` and `soup` run here, `remote` in AWS.
pub(crate) fn document() -> Arc<Document> {
    let text = "listen: 127.0.0.1:0
functions:
  soup: { runtime: provided, code: /bin }
  dessert: { runtime: python, code: /bin, handler: app.handler, timeout: 5s, memory: 128MiB, environment: { PASSWORD: secret } }
  remote: { arn: \"arn:aws:lambda:eu-west-1:123456789012:function:remote:live\" }
apis: { a: { routes: [ { match: GET /, respond: { status: 200 } } ] } }
";
    let loaded = load_text("test.yaml", text, &Memory::default());
    Arc::new(loaded.document.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics)))
}

pub(crate) fn views(document: &Arc<Document>, dessert: &Arc<Scripted>, remote: &Arc<Scripted>) -> Vec<FunctionView> {
    let soup: Arc<dyn Processes> = Arc::new(Scripted::default());
    FunctionView::all(document, |index| match index {
        0 => Some(Place::Here(soup.clone())),
        1 => Some(Place::Here(dessert.clone())),
        _ => Some(Place::Away(remote.clone())),
    })
}
