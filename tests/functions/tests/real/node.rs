//! An Express app behind `serverless-http`, both from the npm registry, under the bundled bootstrap.

use crate::{folder, hosting, is_there, json, layer};

const APP: &str = r#"
const express = require("express");
const serverless = require("serverless-http");
const app = express();
app.use(express.json());
app.get("/items/:item", (req, res) => res.json({ item: req.params.item, q: req.query.q, agent: req.get("user-agent") }));
app.post("/items", (req, res) => res.status(201).cookie("a", "1").cookie("b", "2").json({ keys: Object.keys(req.body) }));
app.get("/bytes", (req, res) => res.type("application/octet-stream").send(Buffer.from([0, 255, 1, 254])));
module.exports.handler = serverless(app, { binary: ["application/octet-stream"] });
"#;

#[test]
fn an_express_app_behind_serverless_http_answers_in_both_formats() {
    if !is_there("node", &["-e", "require('express'); require('serverless-http')"], "express and serverless-http") {
        return;
    }
    let app = folder(&[("index.js", APP)]);
    let (code, layer) = (app.path("").display().to_string(), layer().display().to_string());
    for event in ["v2", "v1"] {
        let binary = if event == "v1" { "    binary_media_types: [\"*/*\"]\n" } else { "" };
        let gateway = hosting(&format!(
            "    runtime: node\n    code: {code}\n    layers: [{layer}]\n    handler: index.handler\n    event: {event}\n{binary}"
        ));
        let response = gateway.ask("GET", "/items/a%20b?q=7", "User-Agent: test\r\n", "");
        let wanted = serde_json::json!({ "item": "a b", "q": "7", "agent": "test" });
        assert_eq!((response.status, json(&response.body)), (200, wanted), "{event}");
        let response = gateway.ask("POST", "/items", "Content-Type: application/json\r\n", r#"{"z":1}"#);
        assert_eq!((response.status, json(&response.body)), (201, serde_json::json!({ "keys": ["z"] })), "{event}");
        assert_eq!(response.headers.all("set-cookie").len(), 2, "{event}: {:?}", response.headers);
        let response = gateway.ask("GET", "/bytes", "", "");
        assert_eq!((response.status, &response.body[..]), (200, &[0, 255, 1, 254][..]), "{event}");
        assert_eq!(gateway.ask("GET", "/nothing", "", "").status, 404, "{event}");
    }
}
