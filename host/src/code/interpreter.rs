//! Python and Node.js: the first one in PATH that the function's user may run, asked what it is. A shim of a version manager is asked too,
//! and what it stands for is taken, since it would not find its way without the gateway's environment.

use super::user::{User, can_reach, effective};
use maitred_model::FunctionRuntime;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Where programs are when nobody says so.
pub(super) const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// A cold disk included; who takes longer is no interpreter for functions.
const ASK_TIME_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What it says of itself is two lines.
const ANSWER_BYTES_MAX: u64 = 8 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interpreter {
    pub program: PathBuf,
    /// `3.12` of Python, `22` of Node.js.
    pub version: String,
}

/// Which one it is, by what it can be found again.
type Key = (PathBuf, u64, i64, User);

/// Or what was found and cannot be used, each with the reason.
pub(super) fn find(runtime: FunctionRuntime, path: &OsStr, user: User) -> Result<Interpreter, Vec<String>> {
    let names: &[&str] = match runtime {
        FunctionRuntime::Python => &["python3", "python"],
        FunctionRuntime::Node => &["node"],
        FunctionRuntime::Provided => &[],
    };
    let mut passed_over = Vec::new();
    for name in names {
        for folder in std::env::split_paths(path).filter(|folder| folder.is_absolute()) {
            let program = folder.join(name);
            let Ok(real) = program.canonicalize() else { continue };
            if !real.is_file() {
                continue;
            }
            if !(can_reach(&real, user) && can_reach(&folder, user)) {
                passed_over.push(format!("{} may not be run by that user", program.display()));
                continue;
            }
            match asked(runtime, &program, user) {
                Ok(interpreter) => return Ok(interpreter),
                Err(error) => passed_over.push(format!("{}: {error}", program.display())),
            }
        }
    }
    Err(passed_over)
}

fn asked(runtime: FunctionRuntime, program: &Path, user: User) -> io::Result<Interpreter> {
    static KNOWN: Mutex<Option<HashMap<Key, Interpreter>>> = Mutex::new(None);
    let metadata = fs::metadata(program)?;
    let key = (program.to_owned(), metadata.ino(), metadata.ctime(), user);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    // An entry for each interpreter in PATH and each user of a function.
    if let Some(interpreter) = known().as_ref().and_then(|known| known.get(&key)) {
        return Ok(interpreter.clone());
    }
    let interpreter = ask(runtime, program, user)?;
    known().get_or_insert_default().insert(key, interpreter.clone());
    Ok(interpreter)
}

fn ask(runtime: FunctionRuntime, program: &Path, user: User) -> io::Result<Interpreter> {
    let arguments: &[&str] = match runtime {
        FunctionRuntime::Python => &["-I", "-c", "import sys; print(sys.executable); print('%d.%d' % sys.version_info[:2])"],
        FunctionRuntime::Node => &["-e", "console.log(process.execPath); console.log(process.versions.node.split('.')[0])"],
        FunctionRuntime::Provided => &[],
    };
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env_clear().env("PATH", USUAL_PATH);
    let is_own = user.is_none_or(|(user, _)| user == effective());
    for name in ["PATH", "HOME"].into_iter().filter(|_| is_own) {
        // What a version manager goes by. The rest of the gateway's environment is not told, since secrets are in it.
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some((user, group)) = user {
        command.gid(group).uid(user);
    }
    let said = answer(command)?;
    let mut lines = said.lines();
    match (lines.next().map(Path::new), lines.next()) {
        (Some(real), Some(version)) if real.is_absolute() && !version.is_empty() => {
            Ok(Interpreter { program: real.to_owned(), version: version.to_owned() })
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it does not say what it is")),
    }
}

fn answer(mut command: Command) -> io::Result<String> {
    let mut child = command.spawn()?;
    let until = Instant::now() + ASK_TIME_MAX;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < until => thread::sleep(LOOK_EVERY),
            None => {
                child.kill()?;
                child.wait()?;
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    };
    if !status.success() {
        return Err(io::Error::other(format!("it ends with {status}")));
    }
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        out.take(ANSWER_BYTES_MAX).read_to_string(&mut said)?;
    }
    Ok(said)
}

/// Where the function's own PATH leads, or the gateway's, or the usual places.
pub(super) fn search_path(own: Option<&str>) -> OsString {
    own.map(OsString::from)
        .or_else(|| std::env::var_os("PATH"))
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| USUAL_PATH.into())
}
