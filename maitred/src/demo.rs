//! `maitred demo`: the kitchens, the dessert station and the gateway of `examples/restaurant`, on this machine. The gateway is started
//! exactly as `run` starts it; only ports that are taken are replaced by free ones, and the function by a kitchen where nothing can run it.

use crate::cli::{Demo, Log, LogFormat};
use crate::configuration::{Source, read};
use crate::kitchen;
use crate::logging;
use crate::output::{Exit, print, say};
use crate::place::Place;
use crate::upgrade::Inheritance;
use crate::wire::{self, NotStarted, Running};
use anyhow::{Context, ensure};
use maitred_model::FunctionPlace;
use maitred_transport::is_free;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

const RESTAURANT: &str = include_str!("../../examples/restaurant/maitred.yaml");

const STATION: &str = include_str!("../../examples/restaurant/functions/desserts/app.py");

const MAINS: SocketAddr = local(9001);
/// Where there is no Python.
const DESSERTS: SocketAddr = local(9002);
const DRINKS: SocketAddr = local(9003);
const GATEWAY: SocketAddr = local(8080);
const ADMIN: SocketAddr = local(9080);
/// How the file says where the access log goes.
const LOGGED: &str = "access_log: stdout";
/// How it says what the dessert station is, and where that is asked.
const FUNCTION: &str = "functions:
  desserts:                               # Python, run by the gateway; needs python3
    runtime: python
    code: functions/desserts
    handler: app.handler

";
const CODE: &str = "code: functions/desserts";
const ASKED: &str = "function: desserts";
const UPSTREAMS: &str = "upstreams:\n";
/// For one answer, when the demo tries itself: everything is on this machine.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// Something to try: printed as a curl command, and asked by `--once`.
struct Try {
    says: &'static str,
    method: &'static str,
    path: &'static str,
    header: Option<&'static str>,
    body: Option<&'static str>,
    status: u16,
    /// What stands in the answer, head or body.
    contains: &'static str,
}

const TRIES: [Try; 8] = [
    Try { says: "the menu, from the mains", contains: "\"kitchen\":\"mains\"", ..get("/menu") },
    Try {
        says: "the same path with a condition more, from a Lambda function",
        contains: "\"desserts\"",
        ..get("/menu?course=dessert")
    },
    Try {
        says: "an order",
        method: "POST",
        body: Some("{\"dish\":\"soup\"}"),
        status: 201,
        contains: "\"order\":1",
        ..get("/orders")
    },
    Try { says: "a path rewritten on the way", contains: "\"dish\":\"risotto\"", ..get("/dishes/2") },
    Try {
        says: "another API by its host",
        header: Some("Host: bar.localhost"),
        contains: "\"kitchen\":\"drinks\"",
        ..get("/menu")
    },
    Try { says: "an answer by the gateway itself", contains: "\"open\":\"12:00\"", ..get("/hours") },
    Try { says: "a redirect", status: 301, contains: "location: /menu", ..get("/carte") },
    Try {
        says: "a method that nobody takes",
        method: "DELETE",
        status: 405,
        contains: "application/problem+json",
        ..get("/menu")
    },
];

const fn get(path: &'static str) -> Try {
    Try { says: "", method: "GET", path, header: None, body: None, status: 200, contains: "" }
}

pub fn main(arguments: &Demo) -> anyhow::Result<Exit> {
    logging::start(&Log { log_level: Some(level()), log_format: LogFormat::Text })?;
    let place = Place::new("demo").context("there is no place for the function")?;
    let (running, station) = match start(arguments.once, &place) {
        Ok(started) => started,
        Err(not_started) => return Ok(not_started.tell()),
    };
    let address = running.house().gateway.addresses().first().copied().context("the gateway has no listener")?;
    if arguments.once {
        say(&format!("{station}\n"));
        let exit = try_all(address)?;
        running.stop();
        return Ok(exit);
    }
    print(&what_to_try(address, &station))?;
    running.wait();
    Ok(Exit::Fine)
}

/// What is logged must not push what is to be tried off the screen.
fn level() -> String {
    std::env::var("MAITRED_LOG").ok().filter(|level| !level.is_empty()).unwrap_or_else(|| "warn".to_owned())
}

/// All of it, and what there is to be said of the dessert station.
fn start(once: bool, place: &Place) -> Result<(Running, String), NotStarted> {
    let usual = |address: SocketAddr| (!once).then_some(address);
    let open = |name, dishes, address| kitchen::open(name, dishes, usual(address)).context("a kitchen cannot open");
    let free = |address: SocketAddr| if !once && is_free(address).is_ok() { address } else { local(0) };
    let places = [
        (MAINS, open("mains", &["soup", "risotto", "trout"], MAINS)?),
        (DRINKS, open("drinks", &["water", "cider", "coffee"], DRINKS)?),
        (GATEWAY, free(GATEWAY)),
        (ADMIN, free(ADMIN)),
    ];
    let mut text = RESTAURANT.to_owned();
    for (usual, now) in places {
        text = text.replace(&usual.to_string(), &now.to_string());
    }
    if once {
        text = text.replace(LOGGED, "access_log: none");
    }
    text = with_function(text, place).context("there is no place for the function")?;
    let station = match interpreter(&text) {
        Some(interpreter) => format!(
            "The dessert station is a Lambda function, run by {interpreter}: examples/restaurant/functions/desserts/app.py"
        ),
        None => {
            text = without_function(&text, place, open("desserts", &["tart", "sorbet"], DESSERTS)?);
            "There is no python3 that a function could be run with, so the dessert station is a back end; with python3 it is a Lambda function."
                .to_owned()
        }
    };
    // It inherits nothing, not even how it was started: its kitchens would not outlive an upgrade.
    let running = wire::start(source(text), LogFormat::Text, Inheritance::default())?;
    Ok((running, station))
}

fn source(text: String) -> Source {
    Source::Text { name: "examples/restaurant/maitred.yaml", text, watched: Vec::new() }
}

/// The program has the function's code in itself.
fn with_function(text: String, place: &Place) -> std::io::Result<String> {
    let code = place.path("desserts");
    fs::create_dir(&code)?;
    fs::write(code.join("app.py"), STATION)?;
    Ok(format!("{}\nstore: {}\n", text.replace(CODE, &format!("code: {}", quoted(&code))), quoted(&place.path("maitred.db"))))
}

/// A JSON string is a YAML one.
fn quoted(path: &Path) -> serde_json::Value {
    path.display().to_string().into()
}

/// What would run the function.
fn interpreter(text: &str) -> Option<String> {
    let document = read(&source(text.to_owned())).document?;
    match &document.functions.first()?.1.place {
        FunctionPlace::Hosted(hosted) => maitred_host::interpreter_of(hosted),
        FunctionPlace::Aws(_) => None,
    }
}

fn without_function(text: &str, place: &Place, desserts: SocketAddr) -> String {
    let code = format!("code: {}", quoted(&place.path("desserts")));
    let text = text.replace(&FUNCTION.replace(CODE, &code), "").replace(ASKED, "proxy: desserts");
    text.replacen(UPSTREAMS, &format!("{UPSTREAMS}  desserts: http://{desserts}\n"), 1)
}

fn what_to_try(gateway: SocketAddr, station: &str) -> String {
    let commands: Vec<String> = TRIES.iter().map(|one| curl(one, gateway)).collect();
    let width = commands.iter().map(String::len).max().unwrap_or(0);
    let mut out = "\nThe restaurant is open. In another terminal:\n\n".to_owned();
    for (one, command) in TRIES.iter().zip(&commands) {
        // A String takes whatever it is given.
        let _ = writeln!(out, "  {command:<width$}  # {}", one.says);
    }
    let _ = write!(out, "\n{station}\n");
    out.push_str("The gateway's file is examples/restaurant/maitred.yaml. Each request is logged below. Ctrl-C closes.\n\n");
    out
}

fn curl(one: &Try, gateway: SocketAddr) -> String {
    let mut command = "curl -i".to_owned();
    if one.method != "GET" && one.body.is_none() {
        let _ = write!(command, " -X {}", one.method);
    }
    if let Some(header) = one.header {
        let _ = write!(command, " -H '{header}'");
    }
    if let Some(body) = one.body {
        let _ = write!(command, " -d '{body}'");
    }
    let url = format!("http://{gateway}{}", one.path);
    // A shell reads `?` as a pattern.
    let quote = if url.contains('?') { "'" } else { "" };
    format!("{command} {quote}{url}{quote}")
}

fn try_all(gateway: SocketAddr) -> anyhow::Result<Exit> {
    let mut exit = Exit::Fine;
    for one in &TRIES {
        let verdict = match try_one(one, gateway) {
            Ok(()) => "ok".to_owned(),
            Err(error) => {
                exit = Exit::Refused;
                format!("FAILED: {error:#}")
            }
        };
        print(&format!("{} {}: {}: {verdict}\n", one.method, one.path, one.says))?;
    }
    Ok(exit)
}

fn try_one(one: &Try, gateway: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(gateway)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    let Try { method, path, .. } = one;
    let header = one.header.map_or_else(|| format!("Host: {gateway}"), str::to_owned);
    let body = one.body.unwrap_or_default();
    let length = one.body.map(|body| format!("content-length: {}\r\n", body.len())).unwrap_or_default();
    write!(stream, "{method} {path} HTTP/1.1\r\n{header}\r\n{length}connection: close\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let start = format!("HTTP/1.1 {}", one.status);
    ensure!(answer.starts_with(&start), "expected {}, got: {answer}", one.status);
    ensure!(answer.contains(one.contains), "expected {}, got: {answer}", one.contains);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_all_that_the_demo_replaces() {
        for address in [MAINS, DRINKS, GATEWAY, ADMIN] {
            assert!(RESTAURANT.contains(&address.to_string()), "{address}");
        }
        for text in [LOGGED, FUNCTION, CODE, ASKED, UPSTREAMS] {
            assert_eq!(RESTAURANT.matches(text).count(), 1, "{text}");
        }
    }

    #[test]
    fn without_python_the_station_is_a_back_end() {
        let place = Place::new("demo-test").unwrap();
        let text = with_function(RESTAURANT.to_owned(), &place).unwrap();
        let read = read(&source(without_function(&text, &place, DESSERTS)));
        let document = read.document.as_ref().unwrap_or_else(|| panic!("{}", read.render(false)));
        assert!(document.functions.is_empty() && document.upstreams.contains_key("desserts"));
    }

    #[test]
    fn what_is_to_be_tried_is_a_command_for_a_shell() {
        let lines: Vec<String> = TRIES.iter().map(|one| curl(one, GATEWAY)).collect();
        assert_eq!(lines[1], "curl -i 'http://127.0.0.1:8080/menu?course=dessert'");
        assert_eq!(lines[2], "curl -i -d '{\"dish\":\"soup\"}' http://127.0.0.1:8080/orders");
        assert_eq!(lines[4], "curl -i -H 'Host: bar.localhost' http://127.0.0.1:8080/menu");
        assert_eq!(lines[7], "curl -i -X DELETE http://127.0.0.1:8080/menu");
    }
}
