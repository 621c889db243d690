use maitred_dataplane::{Gateway, LogTarget, Options, State, compile};
use std::sync::Arc;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let path = std::env::args().nth(2).unwrap();
    let loaded = maitred_model::load(path.as_ref(), &maitred_model::Disk);
    eprint!("{}", maitred_model::render(&loaded.diagnostics, &loaded.files, false));
    let document = loaded.document.unwrap();
    let workers = document.workers.map_or(2, |w| w.get() as usize);
    let state = State::new(workers);
    let t = std::time::Instant::now();
    let snapshot = compile(Arc::new(document), &state).map_err(|d| maitred_model::render(&d, &loaded.files, false)).unwrap_or_else(|e| panic!("{e}"));
    eprintln!("compiled in {:?}", t.elapsed());
    let log = LogTarget::open(&snapshot.document.telemetry.access_log).unwrap();
    let gateway = Gateway::start(snapshot, log, Options::default()).unwrap();
    eprintln!("{:?}", gateway.addresses());
    loop { std::thread::park(); }
}
