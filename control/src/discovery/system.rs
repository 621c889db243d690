//! Addresses as this machine knows them: numbers, /etc/hosts, localhost, then the name servers of /etc/resolv.conf. Both files are
//! looked at again when they change. Keeps no addresses itself.

use super::{Answer, Lookup, Resolve};
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
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
    servers: FromFile<Result<Arc<TokioResolver>, String>>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        SystemResolver::new()
    }
}

impl SystemResolver {
    /// Reads nothing yet, and so cannot fail: a machine without any of these files can still use addresses and localhost.
    pub fn new() -> SystemResolver {
        SystemResolver::with_files("/etc/hosts", "/etc/resolv.conf")
    }

    /// `resolv_conf` tells when to read the system's configuration again, not where it is.
    fn with_files(hosts: &str, resolv_conf: &str) -> SystemResolver {
        SystemResolver { hosts: FromFile::new(hosts, read_hosts), servers: FromFile::new(resolv_conf, |_| read_servers()) }
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
}

impl Resolve for SystemResolver {
    fn lookup<'a>(&'a self, host: &'a str) -> Lookup<'a> {
        Box::pin(self.resolve(host))
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

fn read_servers() -> Result<Arc<TokioResolver>, String> {
    let unusable = |error: &dyn std::fmt::Display| format!("no name server is known: {error}");
    let mut builder = TokioResolver::builder_tokio().map_err(|error| unusable(&error))?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Looked at before, and for both kinds of address together: a host that the file knows is not asked for elsewhere.
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().map(Arc::new).map_err(|error| unusable(&error))
}

/// What was made of a file, until the file changes.
struct FromFile<T> {
    path: PathBuf,
    read: fn(&Path) -> T,
    known: Mutex<Option<(Stamp, T)>>,
}

type Stamp = Option<(SystemTime, u64)>;

impl<T: Clone> FromFile<T> {
    fn new(path: &str, read: fn(&Path) -> T) -> FromFile<T> {
        FromFile { path: path.into(), read, known: Mutex::default() }
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

    fn resolver(folder: &Path) -> SystemResolver {
        SystemResolver::with_files(&folder.join("hosts").to_string_lossy(), "/nonexistent")
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
