//! Admits by the client's address: `deny` wins, an empty `allow` means everyone. The address is the peer's, or what trusted proxies
//! say. Several rules (of the API and of the route) must all admit. It is no authentication: addresses are shared and borrowed.

use maitred_core::{Exchange, Fault, Flow, Hook, Kind, Policy, Ports};
use maitred_model::IpRules;
use std::net::IpAddr;

pub const NAME: &str = "ip";

pub struct Ip {
    rules: Box<[IpRules]>,
}

impl Ip {
    pub fn compile(rules: &[&IpRules]) -> Option<Ip> {
        (!rules.is_empty()).then(|| Ip { rules: rules.iter().map(|&rules| rules.clone()).collect() })
    }

    fn admits(&self, client: IpAddr) -> bool {
        self.rules.iter().all(|rules| {
            let denied = rules.deny.iter().any(|net| net.contains(client));
            let allowed = rules.allow.is_empty() || rules.allow.iter().any(|net| net.contains(client));
            allowed && !denied
        })
    }
}

impl Policy for Ip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn enter<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        let client = exchange.client_ip();
        Hook::Ready(match self.admits(client) {
            true => Ok(Flow::Go(())),
            false => Err(Fault::new(Kind::AddressDenied, format!("{client} is not allowed by `ip`"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_model::IpNet;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| IpNet::parse(text).unwrap()).collect()
    }

    #[test]
    fn deny_wins_and_all_rules_must_admit() {
        let api = IpRules { allow: nets(&["10.0.0.0/8"]), deny: nets(&["10.6.6.0/24"]) };
        let route = IpRules { allow: nets(&["10.0.0.0/16", "10.6.0.0/16"]), deny: vec![] };
        for (client, alone, both) in [
            ("10.0.0.1", true, true),
            ("10.6.6.6", false, false),
            ("10.9.0.1", true, false),
            ("192.0.2.1", false, false),
            ("::ffff:10.0.0.1", true, true),
            ("2001:db8::1", false, false),
        ] {
            let client: IpAddr = client.parse().unwrap();
            assert_eq!(Ip::compile(&[&api]).unwrap().admits(client), alone, "{client}");
            assert_eq!(Ip::compile(&[&api, &route]).unwrap().admits(client), both, "{client}");
        }
        assert!(Ip::compile(&[]).is_none());
    }
}
