//! `maitred lambda serve`: one function here, and every request to it. Composes a configuration and runs it as `run --upstream` does; what
//! the function is, it looks at, and all else is the gateway's.

mod code;
pub mod served;

use crate::cli::{DEFAULT_FILE, EventWord, Lambda, LambdaVerb, Serve};
use crate::configuration::Source;
use crate::logging::{self, Announcer};
use crate::output::{self, Exit, print, say};
use crate::upgrade::Inheritance;
use crate::wire::{self, NotStarted};
use anyhow::{Context, anyhow};
use code::Code;
use maitred_model::{FunctionPlace, FunctionRuntime};
use maitred_transport::is_free;
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::path::Path;

/// What diagnostics call the configuration.
const SOURCE: &str = "lambda serve";
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9080);
/// Files and folders that say nothing of what a function in them is for; what they lie in may.
const NAMELESS: [&str; 12] =
    ["app", "lambda_function", "index", "main", "handler", "function", "bootstrap", "src", "dist", "target", "debug", "release"];
/// Of a function's name, as AWS has it.
const NAME_BYTES_MAX: usize = 64;

pub fn main(arguments: &Lambda) -> anyhow::Result<Exit> {
    let LambdaVerb::Serve(arguments) = &arguments.verb;
    serve(arguments)
}

fn serve(arguments: &Serve) -> anyhow::Result<Exit> {
    let code = code::find(&arguments.path, arguments.runtime.map(|word| word.runtime()), arguments.handler.as_deref())?;
    if let Err(error) = is_free(arguments.listen) {
        let next = SocketAddr::new(arguments.listen.ip(), arguments.listen.port().saturating_add(1));
        let path = arguments.path.display();
        output::error(&anyhow!(
            "cannot listen on {}: {error}; to listen elsewhere:\n\n  maitred lambda serve {path} --listen {next}",
            arguments.listen
        ));
        return Ok(Exit::CannotStart);
    }
    logging::start(&arguments.log)?;
    // Nothing is left where the function is.
    let place = served::new_place().context("there is no place for a copy of the code")?;
    let name = name(&arguments.path);
    let admin = arguments.admin.unwrap_or_else(|| if is_free(ADMIN).is_ok() { ADMIN } else { SocketAddr::new(ADMIN.ip(), 0) });
    let text = text(arguments, &code, &name, admin, &served::store(place.folder()));
    let source = Source::Text { name: SOURCE, text, watched: vec![code.path.clone()] };
    let format = arguments.log.log_format;
    Announcer(format).start(SOURCE);
    let running = match wire::start(source, format, Inheritance::default()) {
        Ok(running) => running,
        Err(not_started) => {
            if matches!(not_started, NotStarted::Refused(_)) {
                say(
                    "\nThese lines were made of the command line: \"code\" is the path, \"environment\" is --env, the others are called as their options.\n",
                );
            }
            return Ok(not_started.tell());
        }
    };
    let house = running.house();
    let address = house.gateway.addresses().first().copied().context("the gateway has no listener")?;
    let interpreter = match &house.gateway.snapshot().document.functions.first().map(|(_, function)| &function.place) {
        Some(FunctionPlace::Hosted(hosted)) => maitred_host::interpreter_of(hosted),
        Some(FunctionPlace::Aws(_)) | None => None,
    };
    let admin = running.admin_address().context("the gateway has no admin listener")?;
    // Without it all else works: the commands can be told.
    let _note = served::leave_note(place.folder(), admin).inspect_err(
        |error| tracing::warn!(%error, "`maitred function` does not find this by itself: it wants --admin and the token"),
    );
    print(&what_to_try(arguments, &code, address, interpreter.as_deref()))?;
    print(&what_else(&name, admin))?;
    Announcer(format).line("ready");
    running.tell_ready();
    running.wait();
    Ok(Exit::Fine)
}

/// What the function is called: in logs, and by itself.
fn name(path: &Path) -> String {
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let named = whole.ancestors().map(stem).find(|name| !NAMELESS.contains(&name.as_str())).unwrap_or_default();
    let good = |letter: char| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' };
    let name: String = named.chars().map(good).take(NAME_BYTES_MAX).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "function".to_owned() } else { name.to_owned() }
}

fn text(arguments: &Serve, code: &Code, name: &str, admin: SocketAddr, store: &Path) -> String {
    let mut function = Map::new();
    let mut set = |key: &str, value: Value| drop(function.insert(key.to_owned(), value));
    set("runtime", code.runtime.as_str().into());
    set("code", plain(&code.path.display().to_string()));
    if let Some(handler) = &code.handler {
        set("handler", plain(handler));
    }
    // Started before the first request, so that what is wrong with it shows at once.
    set("min_instances", 1.into());
    set("event", arguments.event.as_str().into());
    if arguments.streamed {
        set("response", "streamed".into());
    }
    if let Some(timeout) = &arguments.timeout {
        set("timeout", plain(timeout));
    }
    let environment: Map<String, Value> =
        arguments.environment.iter().map(|(name, value)| (name.clone(), plain(value))).collect();
    if !environment.is_empty() {
        set("environment", environment.into());
    }
    let target = format!("function {name}");
    // JSON is YAML.
    let whole = json!({
        "listen": arguments.listen.to_string(),
        "admin": { "listen": admin.to_string() },
        "store": plain(&store.display().to_string()),
        "functions": { name: function },
        "apis": { "all": { "routes": [{ "ANY /": target }, { "ANY /{path+}": target }] } },
    });
    format!("{whole:#}\n")
}

/// A text that means nothing but itself.
fn plain(text: &str) -> Value {
    text.replace("${", "$${").into()
}

fn what_to_try(arguments: &Serve, code: &Code, address: SocketAddr, interpreter: Option<&str>) -> String {
    let path = arguments.path.display();
    let what = match &code.handler {
        Some(handler) => format!("`{handler}` of {path}"),
        None => path.to_string(),
    };
    let by = match (code.runtime, interpreter) {
        (FunctionRuntime::Provided, _) | (_, None) => String::new(),
        (FunctionRuntime::Python | FunctionRuntime::Node, Some(interpreter)) => format!(", run by {interpreter}"),
    };
    let url = format!("http://{address}");
    let tries: &[String] = match arguments.event {
        EventWord::Raw => &[format!("curl -d '{{\"dish\": \"soup\"}}' {url}/")],
        EventWord::V2 | EventWord::V1 | EventWord::Alb | EventWord::Url => &[
            format!("curl -i {url}/"),
            format!("curl -i -H 'content-type: application/json' -d '{{\"dish\": \"soup\"}}' '{url}/orders?table=4'"),
        ],
    };
    format!(
        "\n{what} answers at {url}/{by}\n\n  {}\n\nOf each request it is told {}. A change of the code is in force as soon as it is\nsaved. What the function writes, and each request, is logged below. Ctrl-C ends.\n",
        tries.join("\n  "),
        arguments.event.says(),
    )
}

/// What finds it from another terminal.
fn what_else(name: &str, admin: SocketAddr) -> String {
    // Where there is a file, commands ask the gateway that it is for.
    let place = if Path::new(DEFAULT_FILE).exists() { format!(" --admin {admin}") } else { String::new() };
    format!(
        "\nIn this folder, from another terminal:\n\n  maitred function invoke {name} --event-file FILE{place}\n  maitred function logs {name} -f{place}\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_called_as_what_names_it() {
        let rows = [
            ("/shop/orders.py", "orders"),
            ("/shop/app.py", "shop"),
            ("/shop/hello/target/release/bootstrap", "hello"),
            ("/my shop/größe.mjs", "gr--e"),
            ("/app.py", "function"),
            ("/shop/.py", "py"),
        ];
        for (path, expected) in rows {
            assert_eq!(name(Path::new(path)), expected, "{path}");
        }
    }
}
