//! A WebSocket API as its users have one: Python's `websockets` as clients, a function in a process of its own behind the routes, and botocore
//! for who writes to clients from elsewhere.

use crate::process::{Maitred, ask, folder, python};
use std::os::unix::fs::PermissionsExt;

/// One process, which remembers what it was told.
const FUNCTIONS: &str = "listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
telemetry: { access_log: none }
functions:
  chat: { runtime: provided, code: code, timeout: 30s, concurrency: 1 }
apis:
  all:
    routes:
      - match: GET /chat
        websocket:
          binary: true
          select: $request.body.do.what
          routes:
            $connect: chat
            $disconnect: chat
            $default: { function: chat, respond: true }
            seen: { function: chat, respond: true }
            call: { function: chat, respond: true }
            silent: chat
";

#[test]
fn python_s_websockets_talk_to_functions() {
    let Some(python) = python("websockets, botocore") else { return };
    let folder = folder();
    // Another user than the gateway's has to come to it.
    let (code, open) = (folder.path("code"), std::fs::Permissions::from_mode(0o755));
    std::fs::create_dir(&code).expect("a writable folder");
    std::fs::write(code.join("bootstrap"), include_str!("websocket_bootstrap.py")).expect("a writable folder");
    std::fs::set_permissions(code.join("bootstrap"), open.clone()).expect("our own file");
    std::fs::set_permissions(folder.path("."), open).expect("our own folder");
    let gateway = Maitred::run(&folder, FUNCTIONS);
    let token = std::fs::read_to_string(folder.path("maitred.db-token")).expect("a token is made where functions are hosted");
    let url = gateway.plain.replacen("http", "ws", 1);
    ask(&python, "websocket_functions_peer.py", &[&url, &gateway.admin, token.trim()]);
}
