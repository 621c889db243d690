//! What outlives snapshots. Each part is looked up by what it is, so that a reload finds what it still wants; what it does is its own affair.

use crate::limits::TablePlace;
use crate::secure::Tickets;
use crate::snapshot::authority;
use maitred_core::aws::{CredentialCell, CredentialSource, Settings};
use maitred_core::balance::KnownFigures;
use maitred_core::identity::{KeyCell, KeySource, Stored};
use maitred_core::limit_table::Table;
use maitred_core::metrics::Metrics;
use maitred_core::ports::{Fetch, FetchRequest, Fetching};
use maitred_core::{Clock, Compute, Registry, Remote, Room};
use maitred_host::Host;
use maitred_model as model;
use maitred_model::{Authority, Endpoint};
use maitred_policies::authenticate::ADDRESSES_MAX;
use maitred_policies::authenticate::http_signature::Seen;
use maitred_transport::{
    CountersSpec, HttpChallenges, IssuedCertificates, Order, Target, TargetCell, TicketKeys, UpstreamShared,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// What outlives snapshots.
pub struct State {
    pub metrics: Arc<Metrics>,
    /// By upstream, how it is balanced and the endpoints' text: unchanged endpoints keep their resolved addresses.
    cells: Registry<(String, Order, String), TargetCell>,
    /// What is known of endpoints, whatever list of their upstream they stand in.
    figures: KnownFigures,
    /// What workers share of upstreams, by name.
    upstreams: Registry<String, UpstreamShared>,
    /// By what they are to be: a reload that asks for the same goes on serving what was obtained.
    issued: Registry<Obtained, IssuedCertificates>,
    /// What authorities that ask in the clear are answered.
    pub challenges: Arc<HttpChallenges>,
    /// What session tickets are sealed with where no secret is configured.
    ticket_secret: [u8; 32],
    /// Consumers that were added at run time.
    pub consumers: Arc<Stored>,
    /// Asks issuers and providers; nobody, where configurations are only looked at.
    pub(crate) fetch: Arc<dyn Fetch>,
    /// Where what is too heavy for a worker is computed.
    pub compute: Arc<Compute>,
    /// Wrong credentials by address, once somebody is asked for any.
    failures: OnceLock<Arc<Table>>,
    /// Keys of issuers, by where they are fetched from: a reload goes on with those that are there.
    keys: Registry<KeySource, KeyCell>,
    /// Keys of AWS, by where they are found: a reload goes on with those that are there.
    credentials: Registry<CredentialSource, CredentialCell>,
    /// What the surroundings say of AWS; nothing, where configurations are only looked at.
    pub(crate) aws: Arc<dyn Fn() -> Settings + Send + Sync>,
    /// What is taken by bodies that are held whole.
    pub(super) room: Room,
    /// What is taken by messages of clients that stay.
    pub(super) sockets_room: Room,
    /// What rate limits count, by what is limited: a reload forgives nobody.
    pub(crate) limits: Registry<TablePlace, Table>,
    /// What their keys are made with where no other gateway makes the same.
    pub(crate) limit_seed: [u64; 2],
    /// Signatures that were used, by authorizer.
    pub(crate) seen: Registry<String, Seen>,
    /// Where decisions of policies are written down.
    #[cfg(feature = "cedar")]
    pub(crate) decisions: Arc<maitred_policies::authorize::cedar::Decisions>,
    /// How many authorizers were compiled: what is remembered of one is not another's.
    authorizers: AtomicU64,
    /// Where gateways count together: as it is first compiled, for the life of the process.
    pub(super) counters: OnceLock<Option<Arc<CountersSpec>>>,
    pub clock: Clock,
    /// What hosts functions; nobody, where configurations are only looked at.
    pub host: Option<Arc<Host>>,
}

/// Which certificates: directory, storage, domains.
type Obtained = (String, PathBuf, Vec<String>);

impl State {
    pub fn new(workers: usize) -> State {
        State::with(workers, TicketKeys::random_secret(), Clock::default())
    }

    /// `ticket_secret`: what tickets are sealed with unless a secret is configured.
    pub fn with(workers: usize, ticket_secret: [u8; 32], clock: Clock) -> State {
        let metrics = Arc::new(Metrics::new(workers));
        State {
            compute: Arc::new(Compute::new(metrics.compute.clone())),
            failures: OnceLock::new(),
            metrics,
            cells: Registry::default(),
            figures: KnownFigures::new(clock.clone()),
            upstreams: Registry::default(),
            issued: Registry::default(),
            challenges: Arc::default(),
            ticket_secret,
            consumers: Arc::default(),
            fetch: Arc::new(Nobody),
            keys: Registry::default(),
            credentials: Registry::default(),
            aws: Arc::new(Settings::default),
            room: Room::default(),
            sockets_room: Room::default(),
            limits: Registry::default(),
            limit_seed: Table::random_seed(),
            seen: Registry::default(),
            #[cfg(feature = "cedar")]
            decisions: Arc::default(),
            authorizers: AtomicU64::new(0),
            counters: OnceLock::new(),
            clock,
            host: None,
        }
    }

    /// Who asks issuers and providers.
    pub fn fetching_by(self, fetch: Arc<dyn Fetch>) -> State {
        State { fetch, ..self }
    }

    /// What says where AWS is, each time that a configuration is compiled.
    pub fn aws_by(self, aws: Arc<dyn Fn() -> Settings + Send + Sync>) -> State {
        State { aws, ..self }
    }

    /// What hosts functions.
    pub fn hosting_by(self, host: Arc<Host>) -> State {
        State { host: Some(host), ..self }
    }

    /// For the process that comes after this one.
    pub fn ticket_secret(&self) -> [u8; 32] {
        self.ticket_secret
    }

    /// The number of the next authorizer.
    pub(crate) fn number(&self) -> u64 {
        self.authorizers.fetch_add(1, Ordering::Relaxed)
    }

    /// They outlive reloads, so that a reload forgives nobody.
    pub(crate) fn failures(&self) -> Arc<Table> {
        let table = || Table::new(ADDRESSES_MAX, Table::random_seed(), self.clock.now());
        let counted = || Arc::new(table().counted_by(self.metrics.failing_addresses.clone()));
        self.failures.get_or_init(counted).clone()
    }

    /// Where the keys of that source are put.
    pub(crate) fn keys(&self, source: KeySource) -> Arc<KeyCell> {
        self.keys.of(source.clone(), || Arc::new(KeyCell::new(source, self.clock.now())))
    }

    /// Where the keys of that source are put.
    pub(crate) fn credentials(&self, source: CredentialSource) -> Arc<CredentialCell> {
        self.credentials.of(source.clone(), || Arc::new(CredentialCell::new(source, self.clock.now())))
    }

    pub(super) fn tickets(&self, configured: Option<&[u8]>) -> Tickets {
        Tickets { secret: configured.unwrap_or(&self.ticket_secret).to_vec(), clock: self.clock.clone() }
    }

    /// The address list of these endpoints. Addresses written as numbers are there at once; names wait for discovery.
    pub(super) fn cell(&self, upstream: &str, order: Order, endpoints: &[Endpoint]) -> Arc<TargetCell> {
        let key = (upstream.to_owned(), order.clone(), format!("{endpoints:?}"));
        let targets = endpoints.iter().filter_map(|endpoint| {
            let address = match &endpoint.authority {
                Authority::Address(address) => Remote::Tcp(*address),
                Authority::Unix(path) => Remote::Unix(path.as_path().into()),
                Authority::Name { .. } | Authority::Service(_) => return None,
            };
            Some(Target {
                address,
                authority: authority(endpoint).into(),
                prefix: endpoint.path.as_str().into(),
                weight: endpoint.weight.get(),
                zone: endpoint.zone.as_deref().map(Arc::from),
                priority: endpoint.priority,
            })
        });
        self.cells.of(key, || Arc::new(TargetCell::new(targets.collect(), order, self.figures.roster(upstream))))
    }

    /// What workers share of the upstream of that name.
    pub(super) fn shared(&self, name: &str) -> Arc<UpstreamShared> {
        self.upstreams.of(name.to_owned(), || Arc::new(UpstreamShared::new(self.clock.now())))
    }

    /// Where the certificates of an `acme` are put.
    pub(super) fn issued(&self, acme: &model::Acme) -> Arc<IssuedCertificates> {
        let domains = acme.domains.iter().map(|domain| domain.value.clone()).collect();
        self.issued.of((acme.directory.clone(), acme.storage.clone(), domains), Arc::default)
    }
}

/// Where nothing may be asked.
struct Nobody;

impl Fetch for Nobody {
    fn fetch(&self, _: FetchRequest) -> Fetching {
        Box::pin(async { Err("nothing is fetched here".to_owned()) })
    }
}
