//! How a process of a function is started: its command, and the whole of its environment. Nothing in it is the gateway's own. What AWS
//! Lambda says to its functions is said to ours, and what users write comes first where AWS leaves it to them.

use super::extensions;
use super::interpreter::{self, Interpreter, USUAL_PATH};
use super::user::{User, user_of};
use super::{Code, NotReady};
use crate::process::Launch;
use maitred_model::{FunctionRuntime, Hosted};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Megabytes that a function is told it has, where none are written: as AWS's own emulator says.
const MEMORY_MB: u64 = 3008;
/// Of what a process of Node.js may take, the part for its heap; the rest is buffers and the program itself.
const NODE_HEAP_PERCENT: u64 = 75;
const MEGABYTE: u64 = 1024 * 1024;
/// Names a script that is given the command of the runtime (reference: AWS Lambda, wrapper scripts).
const WRAPPER: &str = "AWS_LAMBDA_EXEC_WRAPPER";
/// Where AWS has the layers.
const LAYERS: &str = "/opt";
/// Whoever names one of these has an AWS of his own, and is given none of ours.
const AWS_OF_HIS_OWN: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_LAMBDA",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// What a process is told that is neither in its configuration nor in its code.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings<'a> {
    pub name: &'a str,
    pub region: &'a str,
    /// Where its Runtime API is spoken.
    pub api: SocketAddr,
    /// Where the Invoke API and the management API of connections are spoken, with the key and the secret for them.
    pub invoke: Option<(SocketAddr, &'a str, &'a str)>,
    /// It is started to wait, and not because somebody waits.
    pub is_ahead: bool,
    /// Since 1970.
    pub now: Duration,
    /// 32 hexadecimal digits, which no other process has: those that it leaves behind are known by them.
    pub id: &'a str,
}

/// What runs its handler; `None`: it runs by itself. The first time for an interpreter this asks it what it is, which blocks.
pub(crate) fn interpreter_for(hosted: &Hosted, user: User) -> Result<Option<Interpreter>, NotReady> {
    match hosted.runtime {
        FunctionRuntime::Provided => Ok(None),
        FunctionRuntime::Python | FunctionRuntime::Node => {
            let path = interpreter::search_path(variable(hosted, "PATH"));
            let found = interpreter::find(hosted.runtime, &path, user);
            Ok(Some(found.map_err(|passed_over| no_interpreter(hosted, &passed_over))?))
        }
    }
}

/// How to start one process of a function. Waits for nobody.
pub(crate) fn launch(
    hosted: &Hosted,
    code: &Code,
    user: User,
    interpreter: Option<&Interpreter>,
    told: &Surroundings<'_>,
) -> Result<Launch, NotReady> {
    Ok(Launch {
        command: extensions::before(&code.extensions, command(hosted, code, interpreter)?),
        environment: environment(hosted, code, interpreter, told),
        directory: code.root.clone(),
        user,
        memory: hosted.memory,
    })
}

/// What runs a handler, in words: `Python 3.11 (/usr/bin/python3.11)`. `None`: it runs by itself, or there is nothing to run it with, which
/// is said when it is made ready. Asks the interpreter what it is, the first time; blocks.
pub fn interpreter_of(hosted: &Hosted) -> Option<String> {
    let user = user_of(hosted).ok()?;
    let Interpreter { program, version } =
        interpreter::find(hosted.runtime, &interpreter::search_path(variable(hosted, "PATH")), user).ok()?;
    let name = match hosted.runtime {
        FunctionRuntime::Python => "Python",
        FunctionRuntime::Node => "Node.js",
        FunctionRuntime::Provided => return None,
    };
    Some(format!("{name} {version} ({})", program.display()))
}

fn no_interpreter(hosted: &Hosted, passed_over: &[String]) -> NotReady {
    let name = if hosted.runtime == FunctionRuntime::Python { "python3" } else { "node" };
    let install = format!("install {name} where the functions' user may run it, such as /usr/bin");
    let hint = match passed_over {
        [] => install,
        _ => format!("{install}; {}", passed_over.join("; ")),
    };
    NotReady { span: hosted.code.span, message: format!("there is no {name} that a function could be run with"), hint }
}

fn command(hosted: &Hosted, code: &Code, interpreter: Option<&Interpreter>) -> Result<Vec<OsString>, NotReady> {
    let Some(Interpreter { program, .. }) = interpreter else {
        let mut places = std::iter::once(&code.root).chain(&code.layers).map(|place| place.join("bootstrap"));
        let program = places.find(|place| place.is_file()).unwrap_or_else(|| code.root.join("bootstrap"));
        return Ok(vec![program.into()]);
    };
    let mut command = Vec::new();
    if let Some(wrapper) = variable(hosted, WRAPPER) {
        command.push(wrapper_of(wrapper, hosted, code)?.into());
    }
    command.push(program.into());
    if hosted.runtime == FunctionRuntime::Node {
        if let Some(memory) = hosted.memory {
            let heap = (memory / MEGABYTE * NODE_HEAP_PERCENT / 100).max(1);
            command.push(format!("--max-old-space-size={heap}").into());
        }
        command.push(code.runtime.join("bootstrap.mjs").into());
    } else {
        command.push(code.runtime.join("bootstrap.py").into());
    }
    command.extend(hosted.handler.iter().map(|handler| OsString::from(&handler.value)));
    Ok(command)
}

/// A path of AWS's `/opt` is one of a layer.
fn wrapper_of(written: &str, hosted: &Hosted, code: &Code) -> Result<PathBuf, NotReady> {
    let path = Path::new(written);
    let mut places = Vec::new();
    if let Ok(below) = path.strip_prefix(LAYERS) {
        places.extend(code.layers.iter().map(|layer| layer.join(below)));
    }
    // An absolute path stays what it is.
    places.push(code.root.join(path.strip_prefix("/var/task").unwrap_or(path)));
    places.into_iter().find(|place| place.is_file()).ok_or_else(|| NotReady {
        span: hosted.code.span,
        message: format!("{WRAPPER} names `{written}`, which is not there"),
        hint: "name an executable of the code, or of a layer as `/opt/NAME`".into(),
    })
}

/// As the user wrote it.
pub(super) fn variable<'a>(hosted: &'a Hosted, name: &str) -> Option<&'a str> {
    hosted.environment.iter().find(|(own, _)| own == name).map(|(_, value)| value.expose())
}

/// All of it, the user's own first, in an order that stays.
fn environment(
    hosted: &Hosted,
    code: &Code,
    interpreter: Option<&Interpreter>,
    told: &Surroundings<'_>,
) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> =
        hosted.environment.iter().map(|(name, value)| (name.into(), value.expose().into())).collect();
    let mut set = |name: &str, value: OsString| match all.iter_mut().find(|(own, _)| own == name) {
        Some(entry) => entry.1 = value,
        None => all.push((name.into(), value)),
    };
    for (name, value) in platform(hosted, code, interpreter, told) {
        set(name, value);
    }
    for (name, places) in lists(hosted, code, interpreter) {
        let own = variable(hosted, name).map(OsString::from);
        let parts = own.into_iter().chain(places.into_iter().map(PathBuf::into_os_string));
        let value = parts.reduce(|mut all, part| {
            all.push(":");
            all.push(part);
            all
        });
        if let Some(value) = value {
            set(name, value);
        }
    }
    for (name, value) in defaults(hosted, told) {
        if variable(hosted, name).is_none() {
            set(name, value);
        }
    }
    all
}

/// What no user can say otherwise: the configuration refuses these names.
fn platform(
    hosted: &Hosted,
    code: &Code,
    interpreter: Option<&Interpreter>,
    told: &Surroundings<'_>,
) -> Vec<(&'static str, OsString)> {
    let memory = hosted.memory.map_or(MEMORY_MB, |memory| (memory / MEGABYTE).max(1));
    let region = variable(hosted, "AWS_REGION").unwrap_or(told.region);
    let handler = hosted.handler.as_ref().map_or("bootstrap", |handler| &handler.value);
    let mut platform = vec![
        ("_HANDLER", handler.into()),
        ("AWS_REGION", region.into()),
        ("AWS_DEFAULT_REGION", region.into()),
        ("AWS_LAMBDA_FUNCTION_NAME", told.name.into()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory.to_string().into()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".into()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", if told.is_ahead { "provisioned-concurrency" } else { "on-demand" }.into()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", told.name).into()),
        (crate::process::MARK, format!("{}/[$LATEST]{}", day(told.now), told.id).into()),
        ("AWS_LAMBDA_RUNTIME_API", told.api.to_string().into()),
        ("LAMBDA_TASK_ROOT", code.root.clone().into()),
        ("LAMBDA_RUNTIME_DIR", code.runtime.clone().into()),
    ];
    if let Some(Interpreter { version, .. }) = interpreter {
        let runtime = match hosted.runtime {
            FunctionRuntime::Python => format!("AWS_Lambda_python{version}"),
            FunctionRuntime::Node | FunctionRuntime::Provided => format!("AWS_Lambda_nodejs{version}.x"),
        };
        platform.push(("AWS_EXECUTION_ENV", runtime.into()));
    }
    platform
}

/// Where things are looked for. The user's own places come before these.
fn lists(hosted: &Hosted, code: &Code, interpreter: Option<&Interpreter>) -> Vec<(&'static str, Vec<PathBuf>)> {
    let in_layers = |folders: &[&str]| -> Vec<PathBuf> {
        code.layers.iter().flat_map(|layer| folders.iter().map(|folder| layer.join(folder))).collect()
    };
    let version = interpreter.map_or("", |interpreter| interpreter.version.as_str());
    let mut path: Vec<PathBuf> = std::env::split_paths(USUAL_PATH).collect();
    if let Some(folder) = interpreter.and_then(|interpreter| interpreter.program.parent())
        && !path.iter().any(|place| place == folder)
    {
        path.insert(0, folder.to_owned());
    }
    path.extend(in_layers(&["bin"]));
    let mut libraries = vec![code.root.clone(), code.root.join("lib")];
    libraries.extend(in_layers(&["lib"]));
    let mut lists = vec![("PATH", path), ("LD_LIBRARY_PATH", libraries)];
    match hosted.runtime {
        FunctionRuntime::Python => {
            let packages = format!("python/lib/python{version}/site-packages");
            let mut modules = in_layers(&["python", &packages]);
            modules.push(code.runtime.clone());
            lists.push(("PYTHONPATH", modules));
        }
        FunctionRuntime::Node => {
            let packages = format!("nodejs/node{version}/node_modules");
            let mut modules = in_layers(&[&packages, "nodejs/node_modules"]);
            modules.extend([code.runtime.join("node_modules"), code.runtime.clone(), code.root.clone()]);
            lists.push(("NODE_PATH", modules));
        }
        FunctionRuntime::Provided => {}
    }
    lists
}

/// What a user may say otherwise.
fn defaults(hosted: &Hosted, told: &Surroundings<'_>) -> Vec<(&'static str, OsString)> {
    let mut defaults: Vec<(&'static str, OsString)> = vec![
        ("LANG", "en_US.UTF-8".into()),
        ("TZ", ":UTC".into()),
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR".into()),
        ("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:2000".into()),
    ];
    let has_own = hosted.environment.iter().any(|(name, _)| AWS_OF_HIS_OWN.contains(&name.as_str()));
    if let Some((address, key, secret)) = told.invoke.filter(|_| !has_own) {
        let endpoint = OsString::from(format!("http://{address}"));
        defaults.extend([
            ("AWS_ACCESS_KEY_ID", key.into()),
            ("AWS_SECRET_ACCESS_KEY", secret.into()),
            ("AWS_ENDPOINT_URL_LAMBDA", endpoint.clone()),
            ("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", endpoint),
        ]);
    }
    defaults
}

/// `YYYY/MM/DD`, of UTC.
fn day(now: Duration) -> String {
    let time = i64::try_from(now.as_secs()).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.unwrap_or_default().strftime("%Y/%m/%d").to_string()
}
