//! A resolver that answers what a test told it to. Never asks anyone.

use super::{Answer, Lookup, Resolve};
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

    pub fn fail(&self, host: &str, reason: &str) {
        self.script().answers.insert(host.to_owned(), Err(reason.to_owned()));
    }

    pub fn silence(&self, host: &str) {
        self.script().silent.push(host.to_owned());
    }

    /// How often a name was asked for.
    pub fn lookups(&self, host: &str) -> usize {
        self.script().lookups.get(host).copied().unwrap_or(0)
    }
}

impl Resolve for Scripted {
    fn lookup<'a>(&'a self, host: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let (is_silent, answer) = {
                let mut script = self.script();
                *script.lookups.entry(host.to_owned()).or_default() += 1;
                let answer = script.answers.get(host).cloned();
                (script.silent.iter().any(|silent| silent == host), answer)
            };
            if is_silent {
                std::future::pending::<()>().await;
            }
            answer.unwrap_or_else(|| Err("no such name".to_owned()))
        })
    }
}
