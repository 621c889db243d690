//! A resolver that answers what a test told it to. Never asks anyone.

use super::{Answer, Lookup, Resolve, ServiceLookup, ServiceRecord, Services};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Names and what they answer, changeable at any time. An unknown name fails.
#[derive(Debug, Default)]
pub struct Scripted {
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    answers: HashMap<String, Result<Answer, String>>,
    services: HashMap<String, Result<Services, String>>,
    lookups: HashMap<String, usize>,
    /// Names that are never answered.
    silent: Vec<String>,
}

impl Scripted {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Panics where an address is none: it is the test's mistake.
    pub fn answer(&self, host: &str, addresses: &[&str], ttl: Duration) {
        let address = |text: &&str| text.parse::<IpAddr>().expect("an address in a test");
        let answer = Answer { addresses: addresses.iter().map(address).collect(), ttl };
        self.script().answers.insert(host.to_owned(), Ok(answer));
    }

    /// `priority weight port host` each.
    pub fn services(&self, name: &str, records: &[&str], ttl: Duration) {
        let record = |text: &&str| {
            let fields: Vec<&str> = text.split(' ').collect();
            let number = |at: usize| fields[at].parse::<u16>().expect("a number in a test");
            ServiceRecord { priority: number(0), weight: number(1), port: number(2), host: fields[3].to_owned() }
        };
        let services = Services { records: records.iter().map(record).collect(), ttl, addresses: HashMap::new() };
        self.script().services.insert(name.to_owned(), Ok(services));
    }

    /// These addresses come with the service's records.
    pub fn add(&self, name: &str, host: &str, addresses: &[&str], ttl: Duration) {
        let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().expect("an address in a test")).collect();
        if let Some(Ok(services)) = self.script().services.get_mut(name) {
            services.addresses.insert(host.to_owned(), Answer { addresses, ttl });
        }
    }

    pub fn fail(&self, host: &str, reason: &str) {
        let mut script = self.script();
        script.answers.insert(host.to_owned(), Err(reason.to_owned()));
        script.services.insert(host.to_owned(), Err(reason.to_owned()));
    }

    pub fn silence(&self, host: &str) {
        self.script().silent.push(host.to_owned());
    }

    /// How often a name was asked for.
    pub fn lookups(&self, host: &str) -> usize {
        self.script().lookups.get(host).copied().unwrap_or(0)
    }
}

impl Scripted {
    async fn tell<T: Clone>(&self, name: &str, of: impl Fn(&Script) -> &HashMap<String, Result<T, String>>) -> Result<T, String> {
        let (is_silent, answer) = {
            let mut script = self.script();
            *script.lookups.entry(name.to_owned()).or_default() += 1;
            let answer = of(&script).get(name).cloned();
            (script.silent.iter().any(|silent| silent == name), answer)
        };
        if is_silent {
            std::future::pending::<()>().await;
        }
        answer.unwrap_or_else(|| Err("no such name".to_owned()))
    }
}

impl Resolve for Scripted {
    fn lookup<'a>(&'a self, host: &'a str) -> Lookup<'a> {
        Box::pin(self.tell(host, |script| &script.answers))
    }

    fn services<'a>(&'a self, name: &'a str) -> ServiceLookup<'a> {
        Box::pin(self.tell(name, |script| &script.services))
    }
}
