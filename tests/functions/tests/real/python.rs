//! `awslambdaric` from PyPI, and a FastAPI app behind `mangum`.

use crate::{folder, hosting, is_there, json, layer};

const PYTHON: &str = "/usr/bin/python3";

fn python(app: &maitred_testkit::Folder, handler: &str, more: &str) -> maitred_testkit::Gateway {
    let (code, layer) = (app.path("").display().to_string(), layer().display().to_string());
    hosting(&format!("    runtime: python\n    code: {code}\n    layers: [{layer}]\n    handler: {handler}\n{more}"))
}

const APP: &str = r#"
import sys, os, json

def handler(event, context):
    what = event.get("rawPath", event.get("path", ""))
    if what == "/raise":
        raise ValueError("it was asked to")
    if what == "/exit":
        sys.exit(3)
    return {"statusCode": 200, "headers": {"x-client": "awslambdaric" if "awslambdaric" in sys.modules else "bundled"},
            "body": json.dumps({"id": context.aws_request_id, "left": context.get_remaining_time_in_millis(),
                                "name": context.function_name, "arn": context.invoked_function_arn,
                                "region": os.environ["AWS_REGION"], "path": what})}
"#;

#[test]
fn a_handler_runs_under_the_client_that_is_installed() {
    if !is_there(PYTHON, &["-c", "import awslambdaric"], "awslambdaric") {
        return;
    }
    let app = folder(&[("app.py", APP)]);
    let gateway = python(&app, "app.handler", "");
    let response = gateway.ask("GET", "/menu", "", "");
    assert_eq!((response.status, response.header("x-client")), (200, Some("awslambdaric")));
    let told = json(&response.body);
    assert_eq!((&told["name"], &told["path"]), (&"it".into(), &"/menu".into()));
    assert!(told["left"].as_u64().is_some_and(|left| (1..=20_000).contains(&left)), "{told}");
    for path in ["/raise", "/exit"] {
        assert_eq!(gateway.ask("GET", path, "", "").status, 502, "{path}");
        assert_eq!(gateway.ask("GET", "/", "", "").status, 200, "after {path}");
    }
}

const FASTAPI: &str = r#"
from fastapi import FastAPI, Response
from mangum import Mangum

app = FastAPI()

@app.get("/items/{item}")
def item(item: int, q: str = ""):
    return {"item": item, "q": q}

@app.post("/upload")
async def upload(response: Response, body: dict):
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return {"keys": sorted(body)}

handler = Mangum(app, lifespan="off")
"#;

#[test]
fn a_fastapi_app_behind_mangum_answers_in_both_formats() {
    if !is_there(PYTHON, &["-c", "import fastapi, mangum, awslambdaric"], "fastapi and mangum") {
        return;
    }
    let app = folder(&[("main.py", FASTAPI)]);
    for event in ["v2", "v1", "alb"] {
        let gateway = python(&app, "main.handler", &format!("    event: {event}\n"));
        let response = gateway.ask("GET", "/items/3?q=a%20b", "", "");
        assert_eq!((response.status, json(&response.body)), (200, serde_json::json!({ "item": 3, "q": "a b" })), "{event}");
        let wrong = gateway.ask("GET", "/items/x", "", "");
        assert_eq!(wrong.status, 422, "{event}");
        let response = gateway.ask("POST", "/upload", "Content-Type: application/json\r\n", r#"{"z":1,"a":2}"#);
        assert_eq!((response.status, json(&response.body)), (200, serde_json::json!({ "keys": ["a", "z"] })), "{event}");
        if event != "alb" {
            assert_eq!(response.headers.all("set-cookie").len(), 2, "{event}: {:?}", response.headers);
        }
    }
}
