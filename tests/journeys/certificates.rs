//! Clients that are known by their certificates: what of one is the subject, and which are good no more.

use maitred_testkit::{Authority, Backend, ClientTls, Gateway, Identity, gateway_with};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

struct Club {
    authority: Authority,
    members: Authority,
    backend: Backend,
    gateway: Gateway,
}

const HOUR: u64 = 3600;

fn yaml(authorizer: &str) -> String {
    format!(
        "listen:
  address: 127.0.0.1:0
  tls: {{ certificates: [ {{ cert: a.pem, key: a.key }} ], client_ca: members.pem, client_auth: optional }}
upstreams: {{ kitchen: \"http://$kitchen\" }}
authorizers: {{ machines: {{ client_certificate: {{ {authorizer} }} }} }}
consumers: {{ ovens: {{ groups: [ovens], identities: [{{ authorizer: machines, subject: oven.test }}] }} }}
apis:
  all:
    policies: {{ authenticate: [machines] }}
    routes:
      - ANY /: kitchen
      - {{ match: GET /ovens, authorize: {{ groups: [ovens] }}, proxy: kitchen }}
"
    )
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// `revoked`: what the list of the members' authority says.
fn club(authorizer: &str, revoked: impl Fn(&Authority) -> String) -> Club {
    let (authority, members) = (Authority::new("the test's"), Authority::new("the members'"));
    let backend = Backend::echo();
    let own = authority.server(&["a.test", "gateway.test"]);
    let files = [("a.pem", own.cert), ("a.key", own.key), ("members.pem", members.pem()), ("members.crl", revoked(&members))];
    let gateway = gateway_with(&yaml(authorizer), &[("kitchen", backend.address())], &files);
    Club { authority, members, backend, gateway }
}

impl Club {
    fn stranger(&self) -> ClientTls {
        ClientTls::new(&self.authority, "a.test")
    }

    fn ask(&self, tls: &ClientTls, target: &str) -> u16 {
        self.gateway.tls_client(tls).request("GET", target, "", "").status
    }

    fn member(&self, identity: &Identity) -> u16 {
        self.ask(&self.stranger().identity(identity), "/")
    }
}

/// An authority that the members' one vouches for, and a client of it.
fn below(members: &Authority) -> (Authority, Identity) {
    let between = members.below("somebody's");
    let own = between.client("oven.test");
    let identity = Identity { cert: own.cert + &between.pem(), key: own.key };
    (between, identity)
}

fn no_list(_: &Authority) -> String {
    String::new()
}

#[test]
fn who_shows_a_certificate_comes_in_as_what_it_says() {
    for (principal, group, other) in
        [("san_dns", 200, 403), ("common_name", 200, 403), ("subject", 403, 403), ("fingerprint", 403, 403)]
    {
        let club = club(&format!("principal: {principal}"), no_list);
        let (oven, pan) = (club.members.client("oven.test"), club.members.client("pan.test"));
        assert_eq!(club.member(&oven), 200, "{principal}");
        for (identity, status) in [(&oven, group), (&pan, other), (&oven, group)] {
            assert_eq!(club.ask(&club.stranger().identity(identity), "/ovens"), status, "{principal}");
        }
    }
}

#[test]
fn who_shows_none_or_one_without_such_a_name_does_not() {
    for (principal, plain, full) in [("san_uri", 401, 200), ("san_email", 401, 200), ("san_dns", 200, 200)] {
        let club = club(&format!("principal: {principal}"), no_list);
        assert_eq!(club.member(&club.members.client("oven.test")), plain, "{principal}");
        let also = club.members.client_also("oven.test", "spiffe://test/oven", "oven@a.test");
        assert_eq!(club.member(&also), full, "{principal}");
        let answer = club.gateway.tls_client(&club.stranger()).get("/");
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("ClientCertificate")));
    }
}

#[test]
fn only_certificates_of_the_issuers_that_are_named_count() {
    let ours = club("principal: san_dns, issuers: [\"CN=the members'\"]", no_list);
    assert_eq!(ours.member(&ours.members.client("oven.test")), 200);
    let (_, below) = below(&ours.members);
    assert_eq!(ours.member(&below), 401);
    let others = club("principal: san_dns, issuers: [CN=others]", no_list);
    assert_eq!(others.member(&others.members.client("oven.test")), 401);
    assert_eq!(others.backend.count(), 0);
}

#[test]
fn a_revoked_certificate_opens_nothing_from_the_reload_on() {
    let later = now() + HOUR;
    let club = club("principal: san_dns, crl: members.crl", |members| members.revoked(&[], later));
    let (oven, pan) = (club.members.client("oven.test"), club.members.client("pan.test"));
    let tls = club.stranger().identity(&oven);
    let mut kept = club.gateway.tls_client(&tls);
    assert_eq!((kept.get("/").status, club.member(&pan)), (200, 200));
    let reload = |list: String| {
        let yaml = yaml("principal: san_dns, crl: members.crl").replace("$kitchen", &club.backend.address().to_string());
        club.gateway.try_publish_with(&yaml, &[("members.crl", list)])
    };
    reload(club.members.revoked(&[&oven], later)).expect("a good list");
    assert_eq!(kept.get("/").status, 401, "on a connection that was open before too");
    assert_eq!((club.member(&oven), club.member(&pan)), (401, 200));
    for wrong in [String::new(), "no list".to_owned(), club.members.pem()] {
        assert!(reload(wrong).expect_err("no list").contains("members.crl"));
    }
    assert_eq!((club.member(&oven), club.member(&pan)), (401, 200), "and nothing has changed");
}

#[test]
fn whoever_signed_it_may_be_revoked_too() {
    let later = now() + HOUR;
    let club = club("principal: san_dns, crl: members.crl", |members| members.revoked(&[], later));
    let (between, oven) = below(&club.members);
    assert_eq!(club.member(&oven), 503, "there is no list of its issuer");
    let yaml = yaml("principal: san_dns, crl: members.crl").replace("$kitchen", &club.backend.address().to_string());
    let both = |revoked: &[&Identity]| club.members.revoked(revoked, later) + &between.revoked(&[], later);
    let wrong = club.gateway.try_publish_with(&yaml, &[("members.crl", both(&[]))]).expect_err("nobody knows the one between");
    assert!(wrong.contains("`CN=somebody's`, whom no listener's `client_ca` names"), "{wrong}");
    let reload = |revoked: &[&Identity]| {
        club.gateway.publish_with(&yaml, &[("members.crl", both(revoked) + &between.pem())]);
        club.member(&oven)
    };
    assert_eq!(reload(&[]), 200);
    assert_eq!(reload(&[&Identity { cert: between.pem(), key: String::new() }]), 401);
}

#[test]
fn a_list_that_has_ended_lets_nobody_in_and_anothers_is_no_list() {
    let later = now() + HOUR;
    let club = club("principal: san_dns, crl: members.crl", |members| members.revoked(&[], later));
    let oven = club.members.client("oven.test");
    let mut kept = club.gateway.tls_client(&club.stranger().identity(&oven));
    assert_eq!(kept.get("/").status, 200);
    club.gateway.turn(Duration::from_secs(HOUR - 60));
    assert_eq!(club.member(&oven), 200);
    club.gateway.turn(Duration::from_secs(120));
    let answer = club.gateway.tls_client(&club.stranger().identity(&oven)).get("/");
    assert_eq!(answer.status, 503, "nobody knows what was revoked since");
    assert!(answer.text().contains("authorizer_unavailable") && answer.header("retry-after").is_some());

    let yaml = yaml("principal: san_dns, crl: members.crl").replace("$kitchen", &club.backend.address().to_string());
    for (other, words) in [("others'", "whom no listener's `client_ca` names"), ("the members'", "that it did not sign")] {
        let list = Authority::new(other).revoked(&[], now() + 24 * HOUR);
        let wrong = club.gateway.try_publish_with(&yaml, &[("members.crl", list)]).expect_err(other);
        assert!(wrong.contains("members.crl") && wrong.contains(words), "{wrong}");
    }
    assert_eq!(club.member(&oven), 503, "and nothing has changed");
}

#[test]
fn a_certificate_ends_on_an_open_connection_too() {
    let club = club("principal: san_dns", no_list);
    let oven = club.members.client_until("oven.test", now() + HOUR);
    let mut kept = club.gateway.tls_client(&club.stranger().identity(&oven));
    assert_eq!(kept.get("/").status, 200);
    // A minute at a time, so that the connection is never idle for long.
    for _ in 0..59 {
        club.gateway.turn(Duration::from_secs(60));
        assert_eq!(kept.get("/").status, 200);
    }
    club.gateway.turn(Duration::from_secs(60));
    club.gateway.turn(Duration::from_secs(5));
    assert_eq!(kept.get("/").status, 401);
}
