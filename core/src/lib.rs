//! What every floor above shares: the exchange, its body, faults, the trait of policies, the clock, counters. Opens no sockets,
//! and knows no configuration file.

pub mod address;
pub mod aws;
pub mod balance;
pub mod body;
pub mod body_hash;
pub mod buffered;
pub mod chance;
pub mod clients;
pub mod clock;
pub mod compute;
pub mod exchange;
pub mod fault;
pub mod function;
pub mod health;
pub mod identity;
pub mod limit_table;
pub mod limits;
pub mod metrics;
pub mod percentile;
pub mod policy;
pub mod ports;
pub mod problem;
pub mod queue;
pub mod quota;
pub mod registry;
pub mod render;
pub mod response;
pub mod retry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use address::{Forwarded, Remote, ipv6_network, is_vouched_for, is_vouched_for_by_aws};
pub use body::{Body, Duplex, Progress, Stream, Whole};
pub use buffered::{Held as HeldBody, Room, Taken};
pub use chance::Chance;
pub use clients::{Clients, ConnectionView, Reaching, Unreached};
pub use clock::Clock;
pub use compute::Compute;
pub use exchange::{AddressText, Client, Exchange, Held, Hold, Matched, Record, RequestId, Scheme, TlsInfo, while_wanted};
pub use fault::{Fault, Kind};
pub use identity::Principal;
pub use policy::{Chain, Flow, Hook, Permit, Policy};
pub use ports::{Call, Called, Calling, Invoked, Invoking, Ports, Waiting};
pub use registry::Registry;
pub use response::{Response, is_bodiless};

pub use maitred_wire as wire;
