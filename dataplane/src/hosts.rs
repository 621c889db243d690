//! Finds the API for a host and a path: an exact host beats the longest wildcard beats no host at all; within a host the longest
//! base path by segments wins. A host without a fitting base path leaves the request to the next less specific; once an API is found
//! nothing falls through to another.

use maitred_model::HostPattern;
use std::collections::HashMap;

/// No host name is longer (RFC 1035 §2.3.4); longer ones match only APIs without hosts.
const HOST_BYTES_MAX: usize = 255;

/// APIs are known by their index.
#[derive(Default)]
pub struct Hosts {
    exact: HashMap<Box<[u8]>, Bases>,
    /// By what stands behind `*`, with its dot.
    wildcard: HashMap<Box<[u8]>, Bases>,
    any: Bases,
}

/// Base paths, the longest first.
#[derive(Default)]
struct Bases {
    list: Vec<(Box<[u8]>, u32)>,
    /// Beyond a few they are found by hash.
    by_path: HashMap<Box<[u8]>, u32>,
}

const SCAN_MAX: usize = 8;

impl Hosts {
    /// `hosts` empty: any host.
    pub fn add<'a>(&mut self, hosts: impl IntoIterator<Item = &'a HostPattern>, base_path: &str, api: u32) {
        let mut any = true;
        for host in hosts {
            any = false;
            let bases = match host {
                HostPattern::Exact(host) => self.exact.entry(host.as_bytes().into()),
                HostPattern::Wildcard(suffix) => self.wildcard.entry(format!(".{suffix}").into_bytes().into()),
            };
            bases.or_default().add(base_path, api);
        }
        if any {
            self.any.add(base_path, api);
        }
    }

    /// The API, and the length of its base path.
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<(u32, usize)> {
        if self.exact.is_empty() && self.wildcard.is_empty() {
            return self.any.find(path);
        }
        let mut lower = [0u8; HOST_BYTES_MAX];
        let Some(lower) = lower.get_mut(..host.len()) else { return self.any.find(path) };
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        // A name may be written with its final dot (RFC 3986 §3.2.2); it is the same name.
        let host = lower.strip_suffix(b".").unwrap_or(lower);
        if let Some(found) = self.exact.get(host).and_then(|bases| bases.find(path)) {
            return Some(found);
        }
        if !self.wildcard.is_empty() {
            let dots = host.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
            for at in dots {
                if let Some(found) = self.wildcard.get(&host[at..]).and_then(|bases| bases.find(path)) {
                    return Some(found);
                }
            }
        }
        self.any.find(path)
    }
}

impl Bases {
    fn add(&mut self, base_path: &str, api: u32) {
        let at = self.list.partition_point(|(other, _)| other.len() >= base_path.len());
        self.list.insert(at, (base_path.as_bytes().into(), api));
        self.by_path.insert(base_path.as_bytes().into(), api);
    }

    fn find(&self, path: &[u8]) -> Option<(u32, usize)> {
        if self.list.len() <= SCAN_MAX {
            return self.list.iter().find(|(base, _)| is_prefix(base, path)).map(|(base, api)| (*api, base.len()));
        }
        let mut end = path.len();
        loop {
            if let Some(api) = self.by_path.get(&path[..end]) {
                return Some((*api, end));
            }
            end = path[..end].iter().rposition(|&byte| byte == b'/')?;
        }
    }
}

/// By whole segments.
fn is_prefix(base: &[u8], path: &[u8]) -> bool {
    path.starts_with(base) && matches!(path.get(base.len()), None | Some(b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_base_paths() {
        let pattern = |text: &str| HostPattern::parse(text).unwrap();
        let mut hosts = Hosts::default();
        hosts.add(&[pattern("a.example")], "", 0);
        hosts.add(&[pattern("*.a.example")], "", 1);
        hosts.add(&[pattern("*.b.a.example")], "", 2);
        hosts.add(&[], "/shop", 3);
        hosts.add(&[], "/shop/old", 4);
        hosts.add(&[pattern("c.example")], "/only", 5);
        let find = |host: &str, path: &str| hosts.find(host.as_bytes(), path.as_bytes());
        assert_eq!(find("A.Example", "/shop"), Some((0, 0)));
        assert_eq!(find("a.example.", "/"), Some((0, 0)));
        assert_eq!(find("x.a.example", "/"), Some((1, 0)));
        assert_eq!(find("y.x.a.example", "/"), Some((1, 0)));
        assert_eq!(find("x.b.a.example", "/"), Some((2, 0)));
        assert_eq!(find("b.example", "/shop/x"), Some((3, 5)));
        assert_eq!(find("b.example", "/shop"), Some((3, 5)));
        assert_eq!(find("b.example", "/shop/old/x"), Some((4, 9)));
        assert_eq!(find("b.example", "/shopping"), None);
        assert_eq!(find("c.example", "/shop"), Some((3, 5)), "a host without a fitting base path leaves it to the next");
        assert_eq!(find("", "/shop"), Some((3, 5)));
    }

    #[test]
    fn many_base_paths_are_found_by_hash() {
        let mut hosts = Hosts::default();
        for api in 0..100 {
            hosts.add(&[], &format!("/api{api}"), api);
        }
        hosts.add(&[], "/api7/v2", 100);
        hosts.add(&[], "", 101);
        assert_eq!(hosts.find(b"", b"/api7/x/y"), Some((7, 5)));
        assert_eq!(hosts.find(b"", b"/api7/v2/y"), Some((100, 8)));
        assert_eq!(hosts.find(b"", b"/other"), Some((101, 0)));
        assert_eq!(hosts.find(b"", b"*"), None);
    }
}
