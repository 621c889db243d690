//! gRPC as its users run it: grpcio on both sides, with nginx in between where it is.

use crate::process::{Maitred, ask, folder, port, python, serve, start, tool};

#[test]
fn grpcio_calls_through_the_gateway() {
    let Some(python) = python("grpc") else { return };
    let folder = folder();
    let (_server, ports) = serve(&python, "grpc_peer.py", &[]);
    let how = format!("{{ endpoints: [\"http://127.0.0.1:{}\"], protocol: h2c }}", ports["plain"].as_u64().expect("a port"));
    let gateway = Maitred::start(&folder, &[("grpc", how)]);
    let plain = gateway.plain.trim_start_matches("http://");
    ask(&python, "grpc_peer.py", &[plain, "-"]);
    let ca = folder.path("ca.pem");
    ask(&python, "grpc_peer.py", &[gateway.tls.trim_start_matches("https://"), ca.to_str().expect("UTF-8")]);
    let Some(nginx) = tool("nginx", "-v") else { return };
    let port = port();
    let text = format!(
        "daemon off; master_process off; error_log stderr crit; pid grpc.pid;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    client_max_body_size 0; large_client_header_buffers 8 64k; grpc_buffer_size 64k;
    server {{
        listen 127.0.0.1:{port} http2;
        location / {{ grpc_pass grpc://unix:{}; }}
    }}
}}
",
        gateway.socket.display()
    );
    let place = folder.path(".");
    let arguments = ["-p", place.to_str().expect("UTF-8"), "-e", "stderr", "-c"];
    let _nginx = start(&nginx, &arguments, &folder, "grpc.conf", &text, port);
    ask(&python, "grpc_peer.py", &[&format!("127.0.0.1:{port}"), "-", "behind-nginx"]);
}
