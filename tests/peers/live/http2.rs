//! HTTP/2 with others: every client asks for everything, of every back end, through one gateway.

use crate::process::{Maitred, Process, ask, folder, port, python, serve, start, succeeds, tool};
use maitred_testkit::Folder;

/// The back ends, each below a prefix of its own.
struct Kitchen {
    folder: Folder,
    gateway: Maitred,
    prefixes: Vec<&'static str>,
    _processes: Vec<Process>,
}

/// nginx takes HTTP/2 and passes requests on to Node.
fn nginx(folder: &Folder, port: u16, behind: u64) -> Option<Process> {
    let text = format!(
        "daemon off; master_process off; error_log stderr crit; pid nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    large_client_header_buffers 8 64k; client_max_body_size 0; proxy_buffer_size 64k; proxy_buffers 8 64k;
    server {{
        listen 127.0.0.1:{port} http2;
        location / {{
            proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
        }}
    }}
}}
"
    );
    let place = folder.path(".");
    let arguments = ["-p", place.to_str().expect("UTF-8"), "-e", "stderr", "-c"];
    Some(start(&tool("nginx", "-v")?, &arguments, folder, "nginx.conf", &text, port))
}

/// haproxy takes HTTP/2 and passes requests on to Node by HTTP/1.1.
fn haproxy(folder: &Folder, name: &str, bind: &str, server: &str, port: u16) -> Option<Process> {
    let text = format!(
        "global\n  tune.bufsize 131072\ndefaults\n  mode http\n  timeout client 30s\n  timeout server 30s\n  timeout connect 5s
frontend in\n  bind {bind}\n  default_backend out\nbackend out\n  server one {server}\n"
    );
    Some(start(&tool("haproxy", "-v")?, &["-db", "-q", "-f"], folder, name, &text, port))
}

/// All that can be had.
fn kitchen() -> Option<Kitchen> {
    let node = tool("node", "--version")?;
    let folder = folder();
    let path = |name: &str| folder.path(name).to_str().expect("UTF-8").to_owned();
    let (process, ports) = serve(&node, "http2.js", &[&path("a.pem"), &path("a.key")]);
    let mut processes = vec![process];
    let of = |name: &str| ports[name].as_u64().expect("a port");
    let h2c = |port: u64| format!("{{ endpoints: [\"http://127.0.0.1:{port}\"], protocol: h2c }}");
    let mut upstreams = vec![
        ("h1", format!("\"http://127.0.0.1:{}\"", of("h1"))),
        ("h2c", h2c(of("h2c"))),
        (
            "h2",
            format!(
                "{{ endpoints: [\"https://127.0.0.1:{}\"], protocol: h2, tls: {{ ca: ca.pem, server_name: gateway.test }} }}",
                of("h2")
            ),
        ),
    ];
    if let Some(python) = python("h2, httpx") {
        let (process, ports) = serve(&python, "http2_peer.py", &[]);
        processes.push(process);
        upstreams.push(("python", h2c(ports["h2c"].as_u64().expect("a port"))));
    }
    let (at_nginx, at_haproxy) = (port(), port());
    if let Some(process) = nginx(&folder, at_nginx, of("h1")) {
        processes.push(process);
        upstreams.push(("nginx", h2c(u64::from(at_nginx))));
    }
    let bind = format!("127.0.0.1:{at_haproxy} proto h2");
    if let Some(process) = haproxy(&folder, "server.cfg", &bind, &format!("127.0.0.1:{}", of("h1")), at_haproxy) {
        processes.push(process);
        upstreams.push(("haproxy", h2c(u64::from(at_haproxy))));
    }
    let prefixes = upstreams.iter().map(|(name, _)| *name).collect();
    let gateway = Maitred::start(&folder, &upstreams);
    Some(Kitchen { folder, gateway, prefixes, _processes: processes })
}

impl Kitchen {
    /// URL, authority or `-`, and the prefixes, as clients are asked to.
    fn everything(&self, url: &str) -> Vec<String> {
        let ca = self.folder.path("ca.pem").to_str().expect("UTF-8").to_owned();
        let ca = if url.starts_with("https") { ca } else { "-".to_owned() };
        let prefixes = self.prefixes.iter().map(|name| format!("/{name}"));
        [url.to_owned(), ca].into_iter().chain(prefixes).collect()
    }
}

fn all(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn node_asks_for_everything() {
    let Some(kitchen) = kitchen() else { return };
    let node = tool("node", "--version").expect("the kitchen has it");
    for url in [&kitchen.gateway.plain, &kitchen.gateway.tls] {
        ask(&node, "http2.js", &all(&kitchen.everything(url)));
    }
}

#[test]
fn python_asks_for_everything() {
    let (Some(kitchen), Some(python)) = (kitchen(), python("h2, httpx")) else { return };
    for url in [&kitchen.gateway.plain, &kitchen.gateway.tls] {
        ask(&python, "http2_peer.py", &all(&kitchen.everything(url)));
    }
}

#[test]
fn curl_asks_as_its_users_do() {
    let (Some(kitchen), Some(curl)) = (kitchen(), tool("curl", "--version")) else { return };
    let ca = kitchen.folder.path("ca.pem").to_str().expect("UTF-8").to_owned();
    let body = kitchen.folder.path("upload");
    let bytes: Vec<u8> = (0..2_000_000u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(&body, &bytes).expect("a writable folder");
    let upload = format!("@{}", body.display());
    let tls = kitchen.gateway.tls.replace("127.0.0.2", "gateway.test");
    let port = tls.rsplit(':').next().expect("a port");
    let resolve = format!("gateway.test:{port}:127.0.0.2");
    let (plain, secure) = (["--http2-prior-knowledge"], ["--http2", "--cacert", &ca, "--resolve", &resolve]);
    for (url, how) in [(&kitchen.gateway.plain, &plain[..]), (&tls, &secure[..])] {
        for name in &kitchen.prefixes {
            let at = |path: &str| format!("{url}/{name}{path}");
            let run = |rest: &[&str]| succeeds(&curl, &[&["-sS", "--fail-with-body", "--max-time", "20"], how, rest].concat());
            let format = "%{http_version} %{response_code} %{size_download} %{num_connects}\n";
            assert_eq!(run(&["-o", "/dev/null", "-w", format, &at("/204")]), "2 204 0 1\n", "{name}");
            // Without TLS curl 7.88 fails at the second request of a connection, whoever answers.
            let two = [at("/bytes?n=1000000"), at("/bytes?n=7")];
            let asked = if how == plain { &two[..1] } else { &two[..] };
            let told = run(&[&["-o", "/dev/null", "-o", "/dev/null", "-w", format][..], &all(asked)].concat());
            assert_eq!(told, if how == plain { "2 200 1000000 1\n" } else { "2 200 1000000 1\n2 200 7 0\n" }, "{name}");
            let back = kitchen.folder.path("back");
            run(&["--data-binary", &upload, "-H", "expect:", "-o", back.to_str().expect("UTF-8"), &at("/echo")]);
            assert!(std::fs::read(&back).expect("an answer") == bytes, "{name}: other bytes came back");
            let head = run(&["-I", &at("/bytes?n=777")]);
            assert!(head.contains("content-length: 777"), "{name}: {head}");
            if how == plain {
                continue;
            }
            let parallel = at("/bytes?n=[1000-1030]");
            let told = run(&["-Z", "--parallel-max", "20", "-o", "/dev/null", "-w", "%{response_code}\n", &parallel]);
            assert_eq!(told.lines().filter(|line| *line == "200").count(), 31, "{name}: {told}");
        }
    }
    // The way of old, by an upgrade from HTTP/1.1, is not taken.
    let told = succeeds(
        &curl,
        &[
            "-sS",
            "--http2",
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{response_code}",
            &format!("{}/h1/204", kitchen.gateway.plain),
        ],
    );
    assert_eq!(told, "1.1 204");
}

#[test]
fn nghttp2_asks_much_at_once() {
    let (Some(kitchen), Some(nghttp), Some(h2load)) = (kitchen(), tool("nghttp", "--version"), tool("h2load", "--version"))
    else {
        return;
    };
    let body = kitchen.folder.path("upload");
    std::fs::write(&body, vec![b'x'; 300_000]).expect("a writable folder");
    let body = body.to_str().expect("UTF-8");
    for name in &kitchen.prefixes {
        for url in [&kitchen.gateway.plain, &kitchen.gateway.tls] {
            let at = |path: &str| format!("{url}/{name}{path}");
            let told = succeeds(&h2load, &["-n", "400", "-c", "4", "-m", "40", &at("/bytes?n=5000")]);
            assert!(told.contains("400 succeeded, 0 failed, 0 errored, 0 timeout"), "{name}: {told}");
            let told = succeeds(&h2load, &["-n", "40", "-c", "2", "-m", "10", "-w", "14", "-W", "16", "-d", body, &at("/echo")]);
            assert!(told.contains("40 succeeded, 0 failed, 0 errored, 0 timeout"), "{name}: {told}");
        }
        // With priorities, padding, a small window, and no table of headers.
        let at = |path: &str| format!("{}/{name}{path}", kitchen.gateway.plain);
        let odd = ["-ns", "-m", "5", "-b", "100", "-w", "10", "-W", "12", "-c", "0", "--color", "--no-content-length"];
        let told = succeeds(&nghttp, &[&odd[..], &["-d", body, &at("/echo")]].concat());
        assert_eq!(told.lines().filter(|line| line.contains(" 200 ")).count(), 5, "{name}: {told}");
        let verbose = succeeds(
            &nghttp,
            &["-nv", "--trailer", "x-end: yes", "--no-content-length", "-d", body, "-H", "te: trailers", &at("/trailers")],
        );
        assert!(*name == "nginx" || verbose.contains("x-said: yes"), "{name}: {verbose}");
    }
}

#[test]
fn haproxy_asks_by_http_2() {
    let (Some(kitchen), Some(curl)) = (kitchen(), tool("curl", "--version")) else { return };
    let port = port();
    let server = format!("unix@{} proto h2", kitchen.gateway.socket.display());
    let Some(_haproxy) = haproxy(&kitchen.folder, "client.cfg", &format!("127.0.0.1:{port}"), &server, port) else { return };
    let body = kitchen.folder.path("upload");
    std::fs::write(&body, vec![b'x'; 3_000_000]).expect("a writable folder");
    let upload = format!("@{}", body.display());
    for name in &kitchen.prefixes {
        let at = |path: &str| format!("http://127.0.0.1:{port}/{name}{path}");
        let run = |rest: &[&str]| succeeds(&curl, &[&["-sS", "--fail-with-body", "--max-time", "20"], rest].concat());
        // Large bodies one way at a time: of both at once some versions of haproxy lose themselves, whoever is behind them.
        assert_eq!(run(&["--data-binary", &upload, "-H", "expect:", &at("/count")]), "3000000", "{name}");
        let told = run(&["-o", "/dev/null", "-w", "%{size_download}", &at("/bytes?n=5000000")]);
        assert_eq!(told, "5000000", "{name}");
        assert_eq!(run(&["--data-binary", "hello", &at("/echo")]), "hello", "{name}");
        let format = "%{response_code} %{size_download}\n";
        let parallel = at("/bytes?n=[20000-20060]");
        let told = run(&["-Z", "--parallel-max", "40", "-o", "/dev/null", "-w", format, &parallel]);
        assert_eq!(told.lines().filter(|line| line.starts_with("200 200")).count(), 61, "{name}: {told}");
    }
}
