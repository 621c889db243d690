//! Configurations of all three programs around upstreams and routes that a scenario writes itself. Ports and folders are known only
//! when a proxy starts: until then placeholders stand for them. What is measured is not known here.

use std::path::Path;

use crate::proxies::Ports;

const PLAIN: &str = "@PLAIN@";
const ADMIN: &str = "@ADMIN@";
const FOLDER: &str = "@FOLDER@";

pub fn filled(text: &str, ports: Ports, folder: &Path) -> String {
    let Ports { plain, admin, tls: _, h2c: _ } = ports;
    let (plain, admin) = (plain.to_string(), admin.to_string());
    text.replace(PLAIN, &plain).replace(ADMIN, &admin).replace(FOLDER, &folder.display().to_string())
}

pub fn maitred(workers: usize, upstreams: &str, routes: &str) -> String {
    format!(
        "workers: {workers}
listen: 127.0.0.1:{PLAIN}
admin: {{ listen: 127.0.0.1:{ADMIN} }}
limits: {{ connections_per_ip: 20000 }}
telemetry: {{ access_log: none }}
upstreams:
{upstreams}apis:
  bench:
    routes:
{routes}"
    )
}

/// `http` is what stands beside the server, `location` what stands in its only one.
pub fn nginx(workers: usize, http: &str, location: &str) -> String {
    // SAFETY: takes and gives integers.
    let user = if unsafe { libc::geteuid() } == 0 { "user root;\n" } else { "" };
    format!(
        "daemon off;
{user}worker_processes {workers};
pid {FOLDER}/nginx.pid;
error_log /dev/null crit;
events {{
    worker_connections 16384;
}}
http {{
    access_log off;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_body_temp_path {FOLDER}/body;
    proxy_temp_path {FOLDER}/proxy;
    fastcgi_temp_path {FOLDER}/fastcgi;
    uwsgi_temp_path {FOLDER}/uwsgi;
    scgi_temp_path {FOLDER}/scgi;
{http}    server {{
        listen 127.0.0.1:{PLAIN} reuseport backlog=4096;
        location / {{
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_max_temp_file_size 0;
{location}        }}
    }}
}}
"
    )
}

/// `frontend` and `backend` are lines of those two sections.
pub fn haproxy(workers: usize, frontend: &str, backend: &str) -> String {
    format!(
        "global
    nbthread {workers}
    no strict-limits
    maxconn 12000
defaults
    mode http
    option http-keep-alive
    http-reuse always
    maxconn 12000
    timeout connect 5s
    timeout client 600s
    timeout server 600s
frontend bench
    bind 127.0.0.1:{PLAIN} backlog 4096
{frontend}    default_backend bench
backend bench
{backend}"
    )
}
