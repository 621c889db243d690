//! A worker with its counts, in a thread of its own: what one core of one gateway of a fleet is.

use maitred_core::Clock;
use maitred_core::limit_table::{Key, Pace, Table};
use maitred_core::limits::{Ask, LimitId, SharedCounts, Unanswered};
use maitred_core::metrics::Metrics;
use maitred_model::{Counters as Written, Memory, load_text, render};
use maitred_transport::{ClientTls, ClientTlsSpec, Counters, CountersSpec, Worker};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, LocalOptions};

/// As the language has it, after `counters: `.
pub fn spec(counters: &str, ca: Option<&str>) -> Arc<CountersSpec> {
    let text = format!(
        "listen: 127.0.0.1:0\nsecret_key: ${{env:KEY}}\ncounters: {counters}\napis: {{ a: {{ routes: [ {{ match: GET /, respond: {{ status: 204 }} }} ] }} }}\n"
    );
    let sources = Memory::default().var("KEY", "0123456789abcdef0123456789abcdef");
    let loaded = load_text("test.yaml", &text, &sources);
    let document = loaded.document.unwrap_or_else(|| panic!("{}", render(&loaded.diagnostics, &loaded.files, false)));
    let Written::Redis(written) = document.counters else { panic!("no servers in {counters}") };
    let tls = ca.map(|ca| {
        let spec = ClientTlsSpec { ca: Some(ca.as_bytes()), ..ClientTlsSpec::default() };
        ClientTls::new(&spec).unwrap_or_else(|problem| panic!("{problem:?}"))
    });
    CountersSpec::new(&written, tls)
}

/// What a member has at hand.
pub struct Member {
    pub counters: Counters,
    pub metrics: Arc<Metrics>,
}

/// Runs to its end on a worker of its own.
pub fn on_worker<T>(spec: &Arc<CountersSpec>, work: impl AsyncFnOnce(Member) -> T) -> T {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime");
    runtime.block_on(async {
        let metrics = Arc::new(Metrics::new(1));
        let worker = Worker::new(0, Clock::default(), metrics.clone());
        let counters = Counters::start(spec, &worker);
        work(Member { counters, metrics }).await
    })
}

pub fn key(number: u64) -> Key {
    Table::new(1, [3, 4], Instant::now()).key(&number.to_le_bytes())
}

pub fn ask(number: u64, pace: Pace) -> Ask {
    Ask { limit: LimitId(0xabc), key: key(number), units: 1, pace }
}

impl Member {
    pub async fn take(&self, ask: Ask) -> Result<bool, Unanswered> {
        let verdicts = self.counters.take(&[ask]).await?;
        assert_eq!(verdicts.len(), 1);
        Ok(verdicts[0].allowed)
    }

    /// Until the servers answer; gives how long that took.
    pub async fn answers(&self, ask: Ask) -> Duration {
        let since = Instant::now();
        while self.take(ask).await.is_err() {
            assert!(since.elapsed() < maitred_testkit::PATIENCE, "waited in vain for an answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        since.elapsed()
    }
}
