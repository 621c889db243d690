//! Pools with real processes, which speak the Runtime API by hand: `tests/function.py` does what its events say.

mod calls;
mod extensions;
mod hosting;
mod life;
mod output;
mod streams;
mod torture;

use crate::answer::{Answer, NotRun, Piece, Streamed};
use crate::code::Code;
use crate::host::{Host, HostOptions};
use crate::pool::{Launcher, Pool, PoolView, Settings};
use crate::process::Launch;
use maitred_core::function::{Finished, Invocation};
use maitred_model::FunctionQueue;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const FUNCTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/function.py");

/// The interpreter itself, and not a script that looks for one.
fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("python3");
        String::from_utf8(output.stdout).expect("a path").trim().to_owned()
    })
}

fn launcher(mode: &str) -> Launcher {
    let mode = mode.to_owned();
    Box::new(move |api: SocketAddr, _| {
        let environment = [("AWS_LAMBDA_RUNTIME_API", api.to_string()), ("PATH", "/usr/bin:/bin".into())];
        let mark = (crate::process::MARK, format!("{}-{api}", std::process::id()));
        Ok(Launch {
            command: [python(), "-S", "-E", FUNCTION, &mode].map(OsString::from).to_vec(),
            environment: environment.into_iter().chain([mark]).map(|(name, value)| (name.into(), value.into())).collect(),
            directory: "/".into(),
            user: None,
            memory: None,
        })
    })
}

fn settings(mode: &str) -> Settings {
    Settings {
        launch: launcher(mode),
        arn: "arn:aws:lambda:eu-west-1:000000000000:function:test".into(),
        timeout: Duration::from_secs(30),
        init_timeout: Duration::from_secs(30),
        concurrency: NonZeroU32::new(10).unwrap(),
        min_instances: 0,
        idle: Duration::from_secs(600),
        queue: FunctionQueue { length: 100, timeout: Duration::from_secs(30) },
        reports: false,
        memory: None,
        handler: "test.handler".into(),
        extensions: Vec::new(),
        places: Arc::default(),
        retries: vec![Duration::from_millis(1); 2],
    }
}

/// One pool of a host of its own.
struct House {
    host: Host,
    pool: Arc<Pool>,
}

fn house(settings: Settings) -> House {
    let host = Host::new(HostOptions { folder: std::env::temp_dir(), key: None, region: "eu-west-1".into(), hidden: Vec::new() });
    let pool = host.open("test", Code::nowhere(), settings).unwrap();
    House { host, pool }
}

fn at_once(concurrency: u32, mode: &str) -> Settings {
    Settings { concurrency: NonZeroU32::new(concurrency).unwrap(), ..settings(mode) }
}

fn invocation(event: &Value) -> Invocation {
    Invocation {
        id: uuid::Uuid::now_v7().to_string().into(),
        event: event.to_string().into_bytes(),
        arn: None,
        trace: "".into(),
        client_context: None,
        streamed: false,
        log_tail: false,
    }
}

impl House {
    async fn invoke(&self, event: Value) -> Finished {
        whole(self.pool.invoke(invocation(&event)).await)
    }

    async fn returned(&self, event: Value) -> Value {
        let finished = self.invoke(event).await;
        assert_eq!(finished.failure, None, "{}", String::from_utf8_lossy(&finished.payload));
        serde_json::from_slice(&finished.payload).unwrap()
    }

    async fn stream(&self, event: Value) -> Streamed {
        let invocation = Invocation { streamed: true, ..invocation(&event) };
        match self.pool.invoke(invocation).await.unwrap() {
            Answer::Streamed(streamed) => streamed,
            Answer::Whole(finished) => panic!("not streamed: {finished:?}"),
        }
    }

    /// Until the pool looks so.
    async fn until(&self, what: &str, is_so: impl Fn(&PoolView) -> bool) -> PoolView {
        let started = std::time::Instant::now();
        loop {
            let view = self.pool.view().await;
            if is_so(&view) {
                return view;
            }
            assert!(started.elapsed() < PATIENCE, "never {what}: {view:?}");
            tokio::task::yield_now().await;
        }
    }

    async fn until_idle(&self) {
        self.until("all are idle", |view| view.instances.iter().all(|one| one.state == "idle")).await;
    }

    async fn until_logged(&self, text: &str) -> Vec<String> {
        let started = std::time::Instant::now();
        loop {
            let lines: Vec<String> = self.pool.log_after(0).iter().map(|line| line.text.to_string()).collect();
            if lines.iter().any(|line| line.contains(text)) {
                return lines;
            }
            assert!(started.elapsed() < PATIENCE, "never logged {text}: {lines:#?}");
            tokio::task::yield_now().await;
        }
    }
}

#[track_caller]
fn whole(answer: Result<Answer, NotRun>) -> Finished {
    match answer {
        Ok(Answer::Whole(finished)) => finished,
        other => panic!("no whole answer: {other:?}"),
    }
}

fn error_of(finished: &Finished) -> Value {
    serde_json::from_slice(&finished.payload).unwrap_or_else(|_| json!(String::from_utf8_lossy(&finished.payload)))
}

/// All that came, and how it ended; `None`: it was cut.
async fn collect(mut streamed: Streamed) -> (Vec<u8>, Option<Finished>) {
    let mut all = Vec::new();
    while let Some(piece) = streamed.pieces.recv().await {
        match piece {
            Piece::Data(bytes) => all.extend_from_slice(&bytes),
            Piece::End(finished) => return (all, Some(finished)),
        }
    }
    (all, None)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("it takes too long") })
}

fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
