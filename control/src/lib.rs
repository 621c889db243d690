//! What runs beside the traffic: the admin listener, the text of the metrics, the addresses behind names, the eyes on files,
//! certificates from authorities, keys from issuers and of AWS, AWS's API for hosted functions. It never sees a request that passes through the gateway; what it may do to the gateway, the binary
//! hands it as `Operations`.

pub mod acme;
pub mod admin;
pub mod aws;
pub mod consumers;
pub mod discovery;
mod fetch;
pub mod functions;
pub mod health;
pub mod keys;
pub mod limits;
pub mod metrics;
pub mod process;
pub mod store;
pub mod times;
pub mod upstreams;
pub mod usage;
pub mod watch;

pub use acme::{Acme, Plan};
pub use admin::{Admin, AdminConfig, NotReloaded, NotUpgraded, Operations, Readiness, Reloaded, Successor};
pub use aws::AwsKeys;
pub use consumers::{ConsumerCounts, ConsumerView};
pub use discovery::{Answer, Discovery, EndpointSpec, Request, Resolve, ServiceRecord, Services, SystemResolver, Unresolved};
pub use fetch::Fetcher;
pub use functions::{FunctionView, Later, Place, Processes, Runs, Unrun};
pub use health::{Checked, Checks, LastCheck, Watched};
pub use keys::{Keys, Unfetched, WantedKeys};
pub use metrics::{CertificateEnd, Extra, exposition};
pub use process::Process;
pub use store::{Change, Changed, Name, NotChanged, Past, Settings, Store, StoreError};
pub use upstreams::{EndpointView, Turned, Unknown, UpstreamView};
pub use usage::UsageView;
pub use watch::{Watcher, watch};
