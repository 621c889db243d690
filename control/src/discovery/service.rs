//! Where a question leads: the addresses of a host, or the records of a service (RFC 2782) and the addresses of the hosts that they name. Asks
//! the resolver for one question at a time, and remembers nothing.

use super::{ADDRESSES_MAX, Answer, EndpointSpec, LOOKUP_TIME_MAX, Services, Shared, TARGETS_MAX};
use maitred_core::Remote;
use maitred_model::Authority;
use maitred_transport::Target;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Records used of one service.
const RECORDS_MAX: usize = 1024;
/// Until the hosts of a service that did not resolve are asked for again, if its TTL is not over before.
const MISSING_TTL: Duration = Duration::from_secs(5);

/// What a name server is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Question {
    /// A and AAAA.
    Host(Arc<str>),
    /// SRV.
    Service(Arc<str>),
}

impl Question {
    pub fn of(authority: &Authority) -> Option<Question> {
        match authority {
            Authority::Name { host, port: _, every: _ } => Some(Question::Host(host.as_str().into())),
            Authority::Service(name) => Some(Question::Service(name.as_str().into())),
            Authority::Address(_) | Authority::Unix(_) => None,
        }
    }

    pub fn name(&self) -> &Arc<str> {
        match self {
            Question::Host(name) | Question::Service(name) => name,
        }
    }
}

/// An address, and by which record of a service it was found.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub by: Option<By>,
    pub ip: IpAddr,
}

/// A record of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct By {
    /// The how manieth of the priorities that its service has: most write 10, 20 and 30.
    pub rank: u8,
    pub host: Arc<str>,
    pub port: u16,
    pub weight: u16,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            None => write!(f, "{}", self.ip),
            Some(by) => {
                write!(f, "{} ({}, priority {}, weight {})", SocketAddr::new(self.ip, by.port), by.host, by.rank, by.weight)
            }
        }
    }
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Found {
    /// Sorted: answers come in turns of their own, and the same places are no change. None where the service is said not to exist.
    pub places: Vec<Place>,
    /// The least of all that was asked.
    pub ttl: Duration,
    /// Hosts of a service that did not resolve, and why.
    pub missing: Option<String>,
}

impl Shared {
    /// `known`: what was found the last time, for hosts that do not resolve now.
    pub(super) async fn ask(self: &Arc<Self>, question: &Question, known: &[Place]) -> Result<Found, String> {
        let mut found = match question {
            Question::Host(host) => {
                let Answer { addresses, ttl } = self.host(host).await?;
                let places = addresses.into_iter().map(|ip| Place { by: None, ip }).collect();
                Found { places, ttl, missing: None }
            }
            Question::Service(name) => self.service(name, known).await?,
        };
        // IPv4 sorts before IPv6.
        found.places.sort_unstable();
        found.places.dedup();
        Ok(found)
    }

    async fn host(&self, host: &str) -> Result<Answer, String> {
        let mut answer = self.in_turn(self.resolver.lookup(host)).await?;
        if answer.addresses.is_empty() {
            return Err("the name has no address".to_owned());
        }
        answer.addresses.sort_unstable();
        answer.addresses.dedup();
        answer.addresses.truncate(ADDRESSES_MAX);
        Ok(answer)
    }

    /// One lookup, when there is room for it. Whoever needs several must not hold one turn while it waits for the next.
    async fn in_turn<T>(&self, lookup: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let _turn = self.lookups.acquire().await.map_err(|error| error.to_string())?;
        let looked_up = timeout(LOOKUP_TIME_MAX, lookup).await;
        looked_up.unwrap_or_else(|_| Err(format!("no answer within {} s", LOOKUP_TIME_MAX.as_secs())))
    }

    async fn service(self: &Arc<Self>, name: &str, known: &[Place]) -> Result<Found, String> {
        let services = self.in_turn(self.resolver.services(name)).await?;
        let ttl = services.ttl;
        let records = ranked(&services)?;
        if records.is_empty() {
            return Ok(Found { places: Vec::new(), ttl, missing: None });
        }
        let mut hosts: Vec<Arc<str>> = records.iter().map(|record| record.host.clone()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let mut found = Found { places: Vec::new(), ttl, missing: None };
        let mut asking = JoinSet::new();
        for host in hosts {
            // What came with the answer need not be asked for.
            let given = services.addresses.get(&*host).filter(|given| !given.addresses.is_empty()).cloned();
            let shared = self.clone();
            asking.spawn(async move {
                let answer = match given {
                    Some(given) => Ok(given),
                    None => shared.host(&host).await,
                };
                (host, answer)
            });
        }
        while let Some(asked) = asking.join_next().await {
            let (host, answer) = asked.map_err(|error| error.to_string())?;
            found.take(&host, answer, &records, known);
        }
        match found {
            Found { places, missing: Some(reason), .. } if places.is_empty() => Err(reason),
            found => Ok(found),
        }
    }
}

impl Found {
    fn take(&mut self, host: &Arc<str>, answer: Result<Answer, String>, records: &[By], known: &[Place]) {
        let addresses = match answer {
            Ok(answer) => {
                self.ttl = self.ttl.min(answer.ttl);
                answer.addresses
            }
            Err(reason) => {
                self.ttl = self.ttl.min(MISSING_TTL);
                self.missing.get_or_insert(format!("{host}: {reason}"));
                let of_host = |place: &&Place| place.by.as_ref().is_some_and(|by| by.host == *host);
                known.iter().filter(of_host).map(|place| place.ip).collect()
            }
        };
        let records = records.iter().filter(|record| record.host == *host);
        let places = records.flat_map(|by| addresses.iter().map(|ip| Place { by: Some(by.clone()), ip: *ip }));
        // A thousand records of a host with a thousand addresses are a million.
        self.places.extend(places.take(TARGETS_MAX.saturating_sub(self.places.len())));
    }
}

/// None of them: the service is decidedly not available (a target of `.`).
fn ranked(services: &Services) -> Result<Vec<By>, String> {
    if services.records.is_empty() {
        return Err("the name has no SRV record".to_owned());
    }
    let offered = services.records.iter().filter(|record| !matches!(&*record.host, "" | "."));
    let mut priorities: Vec<u16> = offered.clone().map(|record| record.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let by = |record: &super::ServiceRecord| By {
        rank: priorities.partition_point(|priority| *priority < record.priority).min(usize::from(u8::MAX)) as u8,
        host: record.host.strip_suffix('.').unwrap_or(&record.host).into(),
        port: record.port,
        weight: record.weight,
    };
    Ok(offered.take(RECORDS_MAX).map(by).collect())
}

/// The targets of one endpoint at these places.
pub(super) fn targets<'a>(spec: &'a EndpointSpec, places: &'a [Place]) -> impl Iterator<Item = Target> + 'a {
    let EndpointSpec { authority, authority_text, prefix, weight, scheme, zone, priority } = spec;
    let target = |address, weight| Target {
        address,
        authority: authority_text.clone(),
        prefix: prefix.clone(),
        weight,
        zone: zone.clone(),
        priority: *priority,
    };
    let fixed = match authority {
        Authority::Address(address) => Some(target(Remote::Tcp(*address), weight.get())),
        Authority::Unix(path) => Some(target(Remote::Unix(path.as_path().into()), weight.get())),
        Authority::Name { .. } | Authority::Service(_) => None,
    };
    let found = places.iter().enumerate().map(move |(index, Place { by, ip })| {
        let (port, every) = match authority {
            Authority::Name { host: _, port, every } => (*port, *every),
            Authority::Address(_) | Authority::Unix(_) | Authority::Service(_) => (scheme.default_port(), true),
        };
        match by {
            // Of a plain name the first address has the turns. The others stand right behind it, where they are tried next.
            None => target(Remote::Tcp(SocketAddr::new(*ip, port)), if every || index == 0 { weight.get() } else { 0 }),
            Some(by) => Target {
                address: Remote::Tcp(SocketAddr::new(*ip, by.port)),
                authority: if by.port == scheme.default_port() {
                    by.host.clone()
                } else {
                    format!("{}:{}", by.host, by.port).into()
                },
                prefix: prefix.clone(),
                // A weight of 0 is a very small chance, and no chance only beside nobody.
                weight: u32::from(by.weight.max(1)).saturating_mul(weight.get()),
                zone: zone.clone(),
                priority: priority.saturating_add(by.rank),
            },
        }
    });
    fixed.into_iter().chain(found)
}
