//! WebSockets with Python's `websockets` on both sides: what one sends, the other gets, frame by frame.

use crate::process::{Maitred, ask, folder, python, serve};

#[test]
fn python_s_websockets_talk_through_the_gateway() {
    let Some(python) = python("websockets") else { return };
    let folder = folder();
    let (_server, ports) = serve(&python, "websocket_peer.py", &[]);
    let how = format!("\"http://127.0.0.1:{}\"", ports["plain"].as_u64().expect("a port"));
    let gateway = Maitred::start(&folder, &[("ws", how)]);
    // Not over TLS: there one handshake in a hundred of this client's stands still, with its own server as well.
    ask(&python, "websocket_peer.py", &[&gateway.plain.replacen("http", "ws", 1), "-"]);
}
