//! HTTP/3 with a client that has been written by others, down to the datagrams: Python's aioquic.

use crate::peer::{missing, python, works};
use maitred_testkit::{Authority, Backend, Folder, gateway_with};
use serde_json::Value;
use std::collections::HashMap;
use std::process::Command;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/http3.py");
const YAML: &str = "
listen: [ { address: \"127.0.0.1:0\", http3: true, tls: { certificates: { cert: a.pem, key: a.key } } } ]
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ ANY /: kitchen, \"ANY /{path+}\": kitchen ] } }";

#[test]
fn aioquic_is_served() {
    let python = python();
    if !works(&python, &["-c", "import aioquic"]) {
        return missing("Python's aioquic");
    }
    let authority = Authority::new("the test's");
    let identity = authority.server(&["a.test", "127.0.0.1"]);
    let backend = Backend::new(|request, conn| {
        let body = conn.body();
        match request.target.as_str() {
            "/mirror" => conn.answer(200, "", body),
            "/trailers" => {
                conn.chunked_head(200, "trailer: x-sum\r\n");
                conn.chunk("abc");
                conn.send("0\r\nx-sum: 42\r\n\r\n")
            }
            target => conn.answer(200, "", target.to_owned()),
        };
    });
    let files = [("a.pem", identity.cert.clone()), ("a.key", identity.key.clone())];
    let gateway = gateway_with(YAML, &[("kitchen", backend.address())], &files);
    let folder = Folder::new();
    let pem = folder.path("authority.pem");
    std::fs::write(&pem, authority.pem()).expect("a folder of our own");
    let script = crate::peer::folder().join("with_aioquic.py");
    let output =
        Command::new(&python).arg(script).arg(gateway.address().port().to_string()).arg(&pem).output().expect("python runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let told: HashMap<String, Value> = said
        .lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).expect("a line of JSON");
            (value["what"].as_str().expect("what it tried").to_owned(), value)
        })
        .collect();
    assert_eq!((&told["get"]["status"], &told["get"]["body"]), (&"200".into(), &"/a?b".into()));
    assert_eq!((&told["post"]["same"], &told["post"]["length"]), (&true.into(), &"2048000".into()));
    assert_eq!(told["trailers"]["trailers"]["x-sum"], "42");
    assert_eq!(told["many"]["statuses"], Value::from(vec!["200"]));
    // H3_MESSAGE_ERROR.
    assert_eq!((&told["malformed"]["reset"], &told["malformed"]["closed"]), (&0x10e.into(), &Value::Null));
    assert_eq!(told["after"]["status"], "200");
    assert_eq!((&told["early"]["status"], &told["early"]["accepted"]), (&"200".into(), &true.into()));
    let example = Command::new(&python).arg(EXAMPLE).arg(format!("https://{}/example", gateway.address())).arg(&pem).output();
    let said = String::from_utf8_lossy(&example.expect("python runs").stdout).into_owned();
    assert!(said.starts_with(":status: 200\n") && said.ends_with("\n\n/example"), "{said}");
    let received = backend.requests();
    assert!(received.iter().any(|request| request.trailers.get("x-check") == Some("7")));
}
