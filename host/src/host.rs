//! The host's thread, and the way to it. Pools outlive configurations: whoever asks for the same function gets the same processes.

use crate::code::{self, Code, NotReady, Surroundings};
use crate::hint::Places;
use crate::log::{Log, since_1970};
use crate::pool::desk::{Desk, Order};
use crate::pool::desks::Desks;
use crate::pool::events::RETRIES;
use crate::pool::{Launcher, Pool, Settings, Shared};
use crate::process::Spawner;
use maitred_model::{AwsFunction, Function, FunctionPlace, Hosted, Secret};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Pools that the thread has not taken yet: more than any configuration has functions.
const BIRTHS_MAX: usize = 4096;

/// How a host is run.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Where copies of code are kept, unless whoever runs functions could not reach it there.
    pub folder: PathBuf,
    /// With what functions speak the Invoke API and the management API of connections; `None`: they do not.
    pub key: Option<FunctionKey>,
    /// What functions are told that they run in: AWS_REGION of the gateway, or `us-east-1`.
    pub region: String,
    /// Files and folders of the gateway's own that no function may read or change, whoever it runs as. The first that is hosted settles it.
    pub hidden: Vec<PathBuf>,
}

/// An access key as AWS has them, which opens nothing in AWS.
#[derive(Debug, Clone)]
pub struct FunctionKey {
    pub id: String,
    pub secret: Secret,
}

/// Where those APIs are spoken: known once somebody listens there.
#[derive(Debug, Clone, Default)]
struct Spoken(Arc<OnceLock<SocketAddr>>);

/// The thread that hosts functions. Ends with `stop`, or when it is dropped; every process of its functions ends with it.
#[derive(Debug)]
pub struct Host {
    options: HostOptions,
    spoken: Spoken,
    /// Taken when a configuration is made ready and when the host ends; no request asks for it.
    house: Mutex<House>,
}

#[derive(Debug, Default)]
struct House {
    running: Option<Running>,
    is_stopped: bool,
    /// Of the thread that is on its way out.
    stopping: Option<watch::Sender<Option<Instant>>>,
    pools: Vec<(Made, Weak<Pool>)>,
    /// Of functions that have pools, whose processes may be of any state of their code.
    logs: Vec<Weak<Log>>,
}

#[derive(Debug)]
struct Running {
    births: mpsc::Sender<Birth>,
    stop: watch::Sender<Option<Instant>>,
    thread: thread::JoinHandle<()>,
}

/// A pool on its way to the thread.
pub(crate) struct Birth {
    shared: Arc<Shared>,
    settings: Settings,
    orders: mpsc::Receiver<Order>,
}

/// What a pool is made of.
#[derive(Debug)]
struct Made {
    name: String,
    timeout: Duration,
    hosted: Hosted,
    code: Code,
}

impl Host {
    /// Starts nothing before there is a function to host.
    pub fn new(options: HostOptions) -> Host {
        Host { options, spoken: Spoken::default(), house: Mutex::default() }
    }

    /// Where functions reach the Invoke API and the management API of connections. Processes that are started from here on are told; the
    /// first address is the one that stays.
    pub fn is_spoken_to(&self, address: SocketAddr) {
        let _ = self.spoken.0.set(address);
    }

    pub fn options(&self) -> &HostOptions {
        &self.options
    }

    /// Makes code ready and gives the pool for it: the one that there is, where name, code and all else that it is made of are the same.
    /// Blocks: for control threads. `function.place` is hosted.
    pub fn pool(&self, name: &str, function: &Function) -> Result<Arc<Pool>, NotReady> {
        let hosted = match &function.place {
            FunctionPlace::Hosted(hosted) => &**hosted,
            FunctionPlace::Aws(aws) => {
                let AwsFunction { arn, .. } = &**aws;
                return Err(NotReady { span: arn.span, message: format!("`{name}` runs in AWS"), hint: String::new() });
            }
        };
        let user = code::user_of(hosted)?;
        let code = code::ready(&self.options.folder, hosted, user)?;
        let made = Made { name: name.to_owned(), timeout: function.timeout, hosted: hosted.clone(), code: code.clone() };
        let known = {
            let mut house = self.house();
            house.pools.retain(|(_, pool)| pool.strong_count() > 0);
            house.pools.iter().find(|(other, _)| other.is_same(&made)).and_then(|(_, pool)| pool.upgrade())
        };
        if let Some(pool) = known {
            return Ok(pool);
        }
        let launch = self.launcher(name, hosted, &code, user)?;
        let mut settings = settings(name, function, hosted, &self.options.region, launch);
        settings.extensions = code.extension_names();
        let pool = self.open(name, code, settings).map_err(|message| NotReady {
            span: hosted.code.span,
            message,
            hint: "see the log of the gateway; a restart may help".into(),
        })?;
        self.house().pools.push((made, Arc::downgrade(&pool)));
        // Whatever was replaced before is needed no more.
        code::sweep(&self.options.folder, user);
        Ok(pool)
    }

    /// What starts this function's processes. Whatever can be wrong with it is wrong at once, and not at the first request.
    fn launcher(&self, name: &str, hosted: &Hosted, code: &Code, user: Option<(u32, u32)>) -> Result<Launcher, NotReady> {
        let (name, region, hosted, code) = (name.to_owned(), self.options.region.clone(), hosted.clone(), code.clone());
        let (spoken, key) = (self.spoken.clone(), self.options.key.clone());
        // Here and once: whoever waits for an interpreter to say what it is must not be the thread of all functions.
        let interpreter = code::interpreter_for(&hosted, user)?;
        let launch = move |api: SocketAddr, is_ahead: bool| {
            let id = uuid::Uuid::now_v7().simple().to_string();
            let (name, region, now) = (name.as_str(), region.as_str(), since_1970());
            let invoke = spoken.0.get().zip(key.as_ref()).map(|(address, key)| (*address, &*key.id, key.secret.expose()));
            let surroundings = Surroundings { name, region, api, invoke, is_ahead, now, id: &id };
            code::launch(&hosted, &code, user, interpreter.as_ref(), &surroundings)
        };
        launch(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), false)?;
        Ok(Box::new(move |api, is_ahead| launch(api, is_ahead).map_err(|refused| io::Error::other(refused.message))))
    }

    /// A new pool, on the thread that is there or started for it.
    pub(crate) fn open(&self, name: &str, code: Code, settings: Settings) -> Result<Arc<Pool>, String> {
        let mut house = self.house();
        if house.is_stopped {
            return Err("the host has stopped".into());
        }
        let log = log_of(&mut house.logs, name);
        let running = match &mut house.running {
            Some(running) => running,
            none => none.insert(start(&self.options).map_err(|error| format!("the host cannot start: {error}"))?),
        };
        let (pool, orders) = Pool::new(log, code);
        let birth = Birth { shared: pool.shared().clone(), settings, orders };
        running.births.try_send(birth).map_err(|_| "the host does not answer".to_owned())?;
        Ok(Arc::new(pool))
    }

    /// Waits for what is under way, no longer than that, and ends all processes. Who asks while another waits may have less patience, and
    /// does not wait for the end.
    pub fn stop(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let (running, stopping) = {
            let mut house = self.house();
            house.is_stopped = true;
            if let Some(running) = &house.running {
                house.stopping = Some(running.stop.clone());
            }
            (house.running.take(), house.stopping.clone())
        };
        if let Some(stopping) = stopping {
            stopping.send_if_modified(|last| {
                let is_sooner = last.is_none_or(|last| until < last);
                *last = last.filter(|_| !is_sooner).or(Some(until));
                is_sooner
            });
        }
        if let Some(Running { births, stop: _, thread }) = running {
            drop(births);
            if thread.join().is_err() {
                tracing::error!("the thread that hosts functions has panicked");
            }
        }
    }

    fn house(&self) -> MutexGuard<'_, House> {
        self.house.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

impl Made {
    /// All that a process would notice, or whoever waits for one. Where it is written is nothing of that.
    fn is_same(&self, other: &Made) -> bool {
        let Made { name, timeout, hosted, code } = self;
        let Hosted {
            runtime,
            // Its hash says which it is, wherever it lies.
            code: _,
            handler,
            init_timeout,
            concurrency,
            min_instances,
            idle,
            queue,
            environment,
            memory,
            user,
            layers: _,
            reports,
        } = hosted;
        let theirs = &other.hosted;
        let variables = |hosted: &Hosted| -> Vec<(String, String)> {
            hosted.environment.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()
        };
        let value = |text: &Option<maitred_model::Spanned<String>>| text.as_ref().map(|text| text.value.clone());
        *name == other.name
            && *timeout == other.timeout
            && *code == other.code
            && *runtime == theirs.runtime
            && value(handler) == value(&theirs.handler)
            && *init_timeout == theirs.init_timeout
            && *concurrency == theirs.concurrency
            && *min_instances == theirs.min_instances
            && *idle == theirs.idle
            && *queue == theirs.queue
            && environment.len() == theirs.environment.len()
            && variables(hosted) == variables(theirs)
            && *memory == theirs.memory
            && value(user) == value(&theirs.user)
            && *reports == theirs.reports
    }
}

fn settings(name: &str, function: &Function, hosted: &Hosted, region: &str, launch: Launcher) -> Settings {
    Settings {
        launch,
        arn: format!("arn:aws:lambda:{region}:000000000000:function:{name}"),
        timeout: function.timeout,
        init_timeout: hosted.init_timeout,
        concurrency: hosted.concurrency,
        min_instances: hosted.min_instances.min(hosted.concurrency.get()),
        idle: hosted.idle,
        queue: hosted.queue,
        reports: hosted.reports,
        memory: hosted.memory,
        handler: hosted.handler.as_ref().map_or("bootstrap", |handler| &handler.value).to_owned(),
        extensions: Vec::new(),
        places: Arc::new(Places::of(hosted)),
        retries: RETRIES.to_vec(),
    }
}

/// The one that there is, so that numbers of lines go on where pools change.
fn log_of(logs: &mut Vec<Weak<Log>>, name: &str) -> Arc<Log> {
    logs.retain(|log| log.strong_count() > 0);
    if let Some(log) = logs.iter().filter_map(Weak::upgrade).find(|log| &**log.function() == name) {
        return log;
    }
    let log = Arc::new(Log::new(name.into()));
    logs.push(Arc::downgrade(&log));
    log
}

fn start(options: &HostOptions) -> io::Result<Running> {
    let spawner = Spawner::hiding(options.hidden.clone(), Some(options.folder.clone()))?;
    let (births, inbox) = mpsc::channel(BIRTHS_MAX);
    let (stop, stopped) = watch::channel(None);
    let thread = thread::Builder::new().name("functions".into()).spawn(move || run(spawner, inbox, stopped))?;
    Ok(Running { births, stop, thread })
}

fn run(spawner: Spawner, mut births: mpsc::Receiver<Birth>, mut stop: watch::Receiver<Option<Instant>>) {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "no function is hosted: the runtime cannot start"),
    };
    runtime.block_on(async move {
        let (spawner, desks) = (Rc::new(spawner), Rc::new(Desks::default()));
        let mut pools = JoinSet::new();
        loop {
            tokio::select! {
                birth = births.recv() => match birth {
                    Some(Birth { shared, settings, orders }) => {
                        let desk = Desk::new(shared, settings, spawner.clone(), &desks);
                        pools.spawn_local(desk.run(orders, stop.clone()));
                    }
                    None => break,
                },
                Some(_) = pools.join_next() => {}
                Ok(()) = stop.changed() => break,
            }
        }
        // Each knows by when it has to be over.
        while pools.join_next().await.is_some() {}
    });
}
