//! HTTP/3 towards clients.

use crate::tls::{Secured, files};
use maitred_testkit::{Authority, Backend, ClientTls, Gateway, H3Client, H3Raw, gateway_with};

fn yaml(more: &str, tls: &str) -> String {
    format!(
        "listen: [ {{ address: \"127.0.0.1:0\", http3: true, tls: {{ certificates: [ {{ cert: certs/a.pem, key: certs/a.key }} ]{tls} }} }} ]
{more}
upstreams: {{ kitchen: \"http://$kitchen\" }}
apis: {{ all: {{ routes: [ ANY /: kitchen, \"ANY /{{path+}}\": kitchen ] }} }}"
    )
}

fn secured_with(more: &str, tls: &str, backend: Backend) -> Secured {
    let authority = Authority::new("the test's");
    let identity = authority.server(&["a.test"]);
    let gateway = gateway_with(&yaml(more, tls), &[("kitchen", backend.address())], &files(&identity));
    Secured { authority, identity, backend, gateway }
}

fn secured() -> Secured {
    secured_with("", "", Backend::echo())
}

#[test]
fn a_request_is_answered() {
    let secured = secured();
    let mut client = H3Client::connect(secured.gateway.address(), &secured.tls().h3());
    let response = client.get("/a?b");
    assert_eq!(response.status, 200);
    let received = secured.backend.last();
    assert_eq!(received.headers.members("via"), ["3.0 maitred"]);
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
}
