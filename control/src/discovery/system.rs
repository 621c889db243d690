//! Addresses as this machine knows them: numbers, /etc/hosts, localhost, then the name servers of /etc/resolv.conf. Both files are
//! looked at again when they change. Keeps no addresses itself.

use super::{Answer, Lookup, Resolve, ServiceLookup, ServiceRecord, Services};
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Hosts, ResolverBuilder, TokioResolver};
use std::collections::HashMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// What a file says has no TTL; looking at its date costs one system call.
const FILE_TTL: Duration = Duration::from_secs(10);
/// What needs no looking up never changes.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// The system's resolver. Share one: it has a cache and sockets.
pub struct SystemResolver {
    hosts: FromFile<Arc<Hosts>>,
    servers: FromFile<Servers>,
}

type Servers = Result<Arc<TokioResolver>, String>;

impl Default for SystemResolver {
    fn default() -> Self {
        SystemResolver::new()
    }
}

impl SystemResolver {
    /// Reads nothing yet, and so cannot fail: a machine without any of these files can still use addresses and localhost.
    pub fn new() -> SystemResolver {
        SystemResolver::with(Path::new("/etc/hosts"), "/etc/resolv.conf", || {
            let builder = TokioResolver::builder_tokio().map_err(|error| format!("no name server is known: {error}"))?;
            built(builder)
        })
    }

    /// `servers` is called again when the file of their addresses changes.
    fn with(hosts: &Path, resolv_conf: &str, servers: impl Fn() -> Servers + Send + Sync + 'static) -> SystemResolver {
        SystemResolver {
            hosts: FromFile::new(hosts, read_hosts),
            servers: FromFile::new(Path::new(resolv_conf), move |_| servers()),
        }
    }

    async fn resolve(&self, host: &str) -> Result<Answer, String> {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Answer { addresses: vec![address], ttl: FOREVER });
        }
        let name = Name::from_str(host).map_err(|error| format!("that is not a name: {error}"))?;
        let addresses = from_hosts(&self.hosts.get(), &name);
        if !addresses.is_empty() {
            return Ok(Answer { addresses, ttl: FILE_TTL });
        }
        if is_localhost(host) {
            return Ok(Answer { addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], ttl: FILE_TTL });
        }
        let servers = self.servers.get()?;
        let found = servers.lookup_ip(name).await.map_err(|error| error.to_string())?;
        let ttl = found.valid_until().saturating_duration_since(Instant::now());
        Ok(Answer { addresses: found.iter().collect(), ttl })
    }

    /// Only name servers know services.
    async fn resolve_service(&self, name: &str) -> Result<Services, String> {
        let name = Name::from_str(name).map_err(|error| format!("that is not a name: {error}"))?;
        let found = self.servers.get()?.lookup(name, RecordType::SRV).await.map_err(|error| error.to_string())?;
        let record = |record: &Record| match &record.data {
            RData::SRV(srv) => {
                let host = srv.target.to_ascii();
                Some(ServiceRecord { priority: srv.priority, weight: srv.weight, port: srv.port, host })
            }
            _ => None,
        };
        let records = found.answers().iter().filter_map(record).collect();
        let ttl = found.valid_until().saturating_duration_since(Instant::now());
        Ok(Services { records, ttl, addresses: given(found.additionals(), &self.hosts.get()) })
    }
}

/// The addresses that a name server sent along. A host that the file knows is looked up there.
fn given(records: &[Record], hosts: &Hosts) -> HashMap<String, Answer> {
    let mut given: HashMap<String, Answer> = HashMap::new();
    for record in records {
        let Some(address) = record.data.ip_addr() else { continue };
        if !from_hosts(hosts, &record.name).is_empty() {
            continue;
        }
        let host = record.name.to_ascii();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        let answer = given.entry(host).or_insert(Answer { addresses: Vec::new(), ttl: FOREVER });
        answer.addresses.push(address);
        answer.ttl = answer.ttl.min(Duration::from_secs(record.ttl.into()));
    }
    given
}

impl Resolve for SystemResolver {
    fn lookup<'a>(&'a self, host: &'a str) -> Lookup<'a> {
        Box::pin(self.resolve(host))
    }

    fn services<'a>(&'a self, name: &'a str) -> ServiceLookup<'a> {
        Box::pin(self.resolve_service(name))
    }
}

/// RFC 6761, section 6.3: such a name is never asked of a name server.
fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

fn from_hosts(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let records = [of(RecordType::A), of(RecordType::AAAA)];
    records.iter().flatten().flat_map(|found| found.answers()).filter_map(|record| record.data.ip_addr()).collect()
}

fn read_hosts(path: &Path) -> Arc<Hosts> {
    let mut hosts = Hosts::default();
    // A missing file is an empty one; what was read of a broken one is still right.
    if let Ok(file) = File::open(path)
        && let Err(error) = hosts.read_hosts_conf(file)
    {
        tracing::warn!(path = %path.display(), %error, "cannot read the whole file of hosts");
    }
    Arc::new(hosts)
}

fn built(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Servers {
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Looked at before, and for both kinds of address together: a host that the file knows is not asked for elsewhere.
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().map(Arc::new).map_err(|error| error.to_string())
}

/// What was made of a file, until the file changes.
struct FromFile<T> {
    path: PathBuf,
    read: Box<dyn Fn(&Path) -> T + Send + Sync>,
    known: Mutex<Option<(Stamp, T)>>,
}

type Stamp = Option<(SystemTime, u64)>;

impl<T: Clone> FromFile<T> {
    fn new(path: &Path, read: impl Fn(&Path) -> T + Send + Sync + 'static) -> FromFile<T> {
        FromFile { path: path.to_owned(), read: Box::new(read), known: Mutex::default() }
    }

    fn get(&self) -> T {
        let stamp = fs::metadata(&self.path).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((as_of, value)) if *as_of == stamp => value.clone(),
            Some(_) | None => known.insert((stamp, (self.read)(&self.path))).1.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::config::{NameServerConfig, ResolverConfig};
    use tokio::net::UdpSocket;

    fn resolver(folder: &Path) -> SystemResolver {
        SystemResolver::with(&folder.join("hosts"), "/nonexistent", || Err("no name server in this test".to_owned()))
    }

    /// A name server that knows one name, by RFC 1035, section 4.1: IPv4 with a TTL of 42 s, and IPv6 with 17 s.
    async fn serve_names(socket: UdpSocket) {
        let mut query = [0; 512];
        loop {
            let (_, from) = socket.recv_from(&mut query).await.unwrap();
            let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let question = &query[12..end];
            let records: &[&[u8]] = match (question[..question.len() - 4].ends_with(b"\x06orders\x04test\0"), query[end - 3]) {
                (true, 1) => &[&[0, 0, 0, 42, 0, 4, 10, 0, 0, 2], &[0, 0, 0, 42, 0, 4, 10, 0, 0, 1]],
                (true, 28) => &[&[0, 0, 0, 17, 0, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]],
                (true, 33) => {
                    &[b"\0\0\0\x1e\0\x15\0\x0a\0\x05\x23\x28\x01a\x06orders\x04test\0", b"\0\0\0\x1e\0\x07\0\x14\0\0\0\x50\0"]
                }
                (_, _) => &[],
            };
            // Sent along: the address of the first host, for 42 s.
            let along: &[u8] =
                if query[end - 3] == 33 { b"\x01a\x06orders\x04test\0\0\x01\0\x01\0\0\0\x2a\0\x04\x0a\0\0\x07" } else { &[] };
            let additional = u8::from(!along.is_empty());
            let code = if question.starts_with(b"\x07nothing") { 0x83 } else { 0x80 };
            let mut answer = [&query[..2], &[0x81, code, 0, 1, 0, records.len() as u8, 0, 0, 0, additional], question].concat();
            for record in records {
                answer.extend_from_slice(&[0xc0, 12, 0, query[end - 3], 0, 1]);
                answer.extend_from_slice(record);
            }
            answer.extend_from_slice(along);
            socket.send_to(&answer, from).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_name_server_is_asked_for_both_kinds_and_its_ttl_is_kept() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
        server.connections[0].port = socket.local_addr().unwrap().port();
        tokio::spawn(serve_names(socket));
        let resolver = SystemResolver::with(Path::new("/nonexistent"), "/nonexistent", move || {
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server.clone()]);
            built(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
        });
        let answer = resolver.lookup("orders.test").await.unwrap();
        assert!((1..=17).contains(&answer.ttl.as_secs()), "the shortest counts: {:?}", answer.ttl);
        let mut found = addresses(Ok(answer));
        found.sort_unstable();
        assert_eq!(found, ["10.0.0.1", "10.0.0.2", "fd00::1"]);
        assert!(resolver.lookup("nothing.test").await.is_err());
        let services = resolver.services("_http._tcp.orders.test").await.unwrap();
        let record = |priority, weight, port, host: &str| ServiceRecord { priority, weight, port, host: host.to_owned() };
        assert_eq!(services.records, [record(10, 5, 9000, "a.orders.test."), record(20, 0, 80, ".")]);
        assert!((1..=30).contains(&services.ttl.as_secs()), "{:?}", services.ttl);
        let along = &services.addresses["a.orders.test"];
        assert_eq!((along.addresses.as_slice(), along.ttl), (&["10.0.0.7".parse().unwrap()][..], Duration::from_secs(42)));
    }

    fn addresses(answer: Result<Answer, String>) -> Vec<String> {
        answer.unwrap().addresses.iter().map(IpAddr::to_string).collect()
    }

    #[tokio::test]
    async fn localhost_and_numbers_need_no_file() {
        let resolver = resolver(Path::new("/nonexistent"));
        for host in ["localhost", "LOCALHOST", "localhost.", "a.localhost"] {
            assert_eq!(addresses(resolver.lookup(host).await), ["127.0.0.1", "::1"], "{host}");
        }
        assert_eq!(addresses(resolver.lookup("10.1.2.3").await), ["10.1.2.3"]);
        assert_eq!(addresses(resolver.lookup("[::2]").await), ["::2"]);
        assert!(resolver.lookup("not a name..").await.is_err());
    }

    #[tokio::test]
    async fn a_changed_file_of_hosts_is_read_again() {
        let folder = crate::watch::testing::folder("hosts");
        let resolver = resolver(&folder);
        fs::write(folder.join("hosts"), "127.0.0.9 localhost\n10.0.0.1 orders.internal orders\n::5 orders # too\n").unwrap();
        assert_eq!(addresses(resolver.lookup("orders").await), ["10.0.0.1", "::5"]);
        assert_eq!(addresses(resolver.lookup("Orders.Internal").await), ["10.0.0.1"]);
        assert_eq!(addresses(resolver.lookup("localhost").await), ["127.0.0.9"], "the file knows better");
        fs::write(folder.join("hosts"), "10.0.0.22 orders\n").unwrap();
        assert_eq!(addresses(resolver.lookup("orders").await), ["10.0.0.22"]);
    }
}
