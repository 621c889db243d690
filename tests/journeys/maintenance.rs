//! Closed for maintenance: who is told what, who is not, and what goes on.

use maitred_testkit::{Backend, H2Backend, Latch, gateway};

const SHOP: &str = "upstreams: { kitchen: \"http://$kitchen\" }
apis:
  shop:
    cors: { origins: [\"https://app.example.com\"], expose: [retry-after] }
    maintenance: { retry_after: 90s }
    routes:
      - ANY /orders/{id}: kitchen
      - { match: GET /menu, proxy: kitchen, maintenance: false }
      - { match: GET /soon, proxy: kitchen, maintenance: { retry_after: 1500ms } }
      - { match: GET /moved, redirect: /menu }
      - { match: GET /inside, proxy: kitchen, ip: { allow: [10.0.0.0/8] } }
";

#[test]
fn a_closed_api_says_so_and_when_to_come_again() {
    let backend = Backend::status(200);
    let gateway = gateway(SHOP, &[("kitchen", backend.address())]);
    let mut client = gateway.client();
    for (method, target, wait) in
        [("GET", "/orders/7", "90"), ("DELETE", "/orders/7", "90"), ("GET", "/moved", "90"), ("GET", "/soon", "2")]
    {
        let response = client.request(method, target, "", "");
        assert_eq!((response.status, response.header("retry-after")), (503, Some(wait)), "{method} {target}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        assert_eq!(response.json()["type"], "urn:maitred:fault:maintenance");
    }
    assert_eq!(backend.count(), 0);
    assert_eq!(client.get("/menu").status, 200, "a route that says `false` stays open");
}

#[test]
fn a_request_with_a_body_is_refused_and_the_connection_kept() {
    let backend = Backend::status(200);
    let gateway = gateway(SHOP, &[("kitchen", backend.address())]);
    let mut client = gateway.client();
    assert_eq!(client.request("POST", "/orders/7", "", "two coffees").status, 503);
    assert_eq!((client.get("/menu").status, backend.count()), (200, 1));
}

#[test]
fn who_may_not_come_in_does_not_learn_that_it_is_closed() {
    let backend = Backend::status(200);
    let gateway = gateway(SHOP, &[("kitchen", backend.address())]);
    let response = gateway.get("/inside");
    assert_eq!((response.status, response.header("retry-after")), (403, None));
    assert_eq!(gateway.get("/nowhere").status, 404, "no route, no maintenance");
}

#[test]
fn a_script_of_another_origin_may_read_it() {
    let backend = Backend::status(200);
    let gateway = gateway(SHOP, &[("kitchen", backend.address())]);
    let origin = "Origin: https://app.example.com\r\n";
    let preflight = gateway.ask("OPTIONS", "/orders/7", &format!("{origin}Access-Control-Request-Method: GET\r\n"), "");
    assert_eq!(preflight.status, 204, "a browser that is refused its preflight tells the script nothing");
    let response = gateway.ask("GET", "/orders/7", origin, "");
    assert_eq!((response.status, response.header("access-control-allow-origin")), (503, Some("https://app.example.com")));
    assert_eq!(response.header("access-control-expose-headers"), Some("retry-after"));
}

#[test]
fn a_client_of_grpc_is_told_unavailable() {
    let backend = H2Backend::new(|_, stream| {
        stream.head(200, &[], true);
    });
    let gateway = gateway(
        "upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], protocol: h2c } }
apis: { kit: { maintenance: true, routes: [ \"POST /{call+}\": kitchen ] } }",
        &[("kitchen", backend.address())],
    );
    let mut client = gateway.h2();
    let stream = client.open("POST", "/kit.Kit/Unary", &[("content-type", "application/grpc"), ("te", "trailers")]);
    client.data(stream, [0, 0, 0, 0, 0], true);
    let response = client.response(stream);
    assert_eq!((response.status, response.header("grpc-status")), (200, Some("14")), "{response:?}");
    assert_eq!(backend.requests().len(), 0);
}

#[test]
fn what_was_let_in_before_goes_on_and_a_reload_opens_again() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "done");
    let open = SHOP.replace("    maintenance: { retry_after: 90s }\n", "");
    let gateway = gateway(&open, &[("kitchen", backend.address())]);
    let mut early = gateway.client();
    early.send("GET /orders/7 HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    gateway.publish(&SHOP.replace("$kitchen", &backend.address().to_string()));
    assert_eq!(gateway.get("/orders/7").status, 503);
    latch.open();
    assert_eq!(early.response().text(), "done");
    gateway.publish(&open.replace("$kitchen", &backend.address().to_string()));
    assert_eq!(gateway.get("/orders/7").status, 200);
}
