//! Without an authority: what is in the folder, what is said, what is due. Orders are the journeys'.

use super::held::testing::pem;
use super::schedule::Life;
use super::storage::Storage;
use super::*;
use crate::watch::testing::{Folder, folder};
use maitred_model::{Memory, load_text};
use std::time::Instant;

const DAY: i64 = 24 * 3600;
/// Nobody listens there.
const NOBODY: &str = "https://127.0.0.1:1/directory";

fn document(folder: &Folder, domains: &str) -> Document {
    let text = format!(
        "listen: {{ address: 127.0.0.1:0, tls: {{ acme: {{ domains: [{domains}], directory: \"{NOBODY}\", storage: {} }} }} }}",
        folder.display()
    );
    load_text("test.yaml", &text, &Memory::default()).document.expect("a good configuration")
}

struct Gateway {
    acme: Acme,
    issued: Arc<IssuedCertificates>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// As a gateway starts with this configuration.
fn start(folder: &Folder, domains: &str) -> Gateway {
    let (clock, metrics, document) = (Clock::default(), Arc::new(Metrics::new(1)), document(folder, domains));
    let acme = Acme::start(&Handle::current(), clock.clone(), metrics.clone(), Arc::default());
    let configured = document.listen[0].tls.as_ref().and_then(|tls| tls.acme.as_ref()).expect("acme");
    let issued = Arc::default();
    let prepared = acme.prepare(Plan::new(&document, [(&configured.value, &issued)].into_iter())).expect("a folder");
    acme.apply(prepared);
    Gateway { acme, issued, clock, metrics }
}

fn now() -> i64 {
    Clock::default().wall().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn put(folder: &Folder, domain: &str, life: Life) {
    let storage = Storage::new(folder, NOBODY);
    storage.prepare().unwrap();
    storage.keep_certificate(domain, &pem(domain, life)).unwrap();
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < patience, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn what_is_in_the_folder_is_served_even_if_it_has_ended() {
    let (folder, now) = (folder("acme"), now());
    put(&folder, "old.example.com", Life { not_before: now - 90 * DAY, not_after: now - DAY });
    put(&folder, "new.example.com", Life { not_before: now - DAY, not_after: now + 89 * DAY });
    let gateway = start(&folder, "old.example.com, new.example.com, none.example.com");
    let mut ends: Vec<_> = gateway.issued.expiries().into_iter().map(|expiry| expiry.not_after - now).collect();
    ends.sort_unstable();
    assert_eq!(ends, [-DAY, 89 * DAY]);
    assert_eq!(gateway.acme.waiting().as_deref(), Some("waiting for a certificate for none.example.com"));
    let failed = || gateway.metrics.acme_failed.load(Ordering::Relaxed);
    eventually("the two that need one were ordered", || failed() == 2).await;
    assert_eq!(gateway.issued.expiries().len(), 2);
}

#[tokio::test]
async fn a_broken_file_is_no_certificate() {
    let folder = folder("acme");
    let storage = Storage::new(&folder, NOBODY);
    storage.prepare().unwrap();
    storage.keep_certificate("a.example.com", b"-----BEGIN CERTIFICATE-----").unwrap();
    let gateway = start(&folder, "a.example.com");
    assert!(gateway.acme.waiting().is_some() && gateway.issued.expiries().is_empty());
}

#[tokio::test]
async fn what_another_gateway_has_put_into_the_folder_is_taken_instead_of_ordered() {
    let (folder, now) = (folder("acme"), now());
    put(&folder, "a.example.com", Life { not_before: now - DAY, not_after: now + 89 * DAY });
    let gateway = start(&folder, "a.example.com");
    let theirs = Life { not_before: now + 60 * DAY, not_after: now + 150 * DAY };
    put(&folder, "a.example.com", theirs);
    gateway.clock.turn(Duration::from_secs(62 * DAY as u64));
    gateway.acme.look_again();
    eventually("it is taken over", || gateway.issued.expiries()[0].not_after == theirs.not_after).await;
    assert_eq!(gateway.metrics.acme_failed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn of_many_domains_some_are_named() {
    for (count, words) in [(1, "d0.test"), (3, "d0.test, d1.test, d2.test"), (4, "d0.test, d1.test, d2.test and 1 other")] {
        let folder = folder("acme");
        let domains: Vec<String> = (0..count).map(|number| format!("d{number}.test")).collect();
        let gateway = start(&folder, &domains.join(", "));
        assert_eq!(gateway.acme.waiting(), Some(format!("waiting for a certificate for {words}")));
    }
}
