//! `maitred function`: the functions that a gateway hosts, one run of one of them, what they wrote, and other processes for them. Asks the
//! admin listener for all of it.

use crate::cli::{Function, FunctionVerb, Invoke, Logs, Place};
use crate::output::{Exit, json, print, say, table};
use crate::remote::{self, Answer, escaped};
use anyhow::{Context, ensure};
use maitred_core::wire::base64;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

/// For a list, or a part of a log.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
/// For a result: the longest that a function may take is 90 minutes, and the gateway says when it is over.
const RESULT_TIME_MAX: Duration = Duration::from_secs(2 * 3600);
/// For other processes to be there: the code may be hundreds of megabytes.
const RELOAD_TIME_MAX: Duration = Duration::from_secs(120);
/// How often a log that is followed is asked for.
const LOOK: Duration = Duration::from_millis(300);
/// Characters of a hash that tell codes apart for who reads a list.
const HASH_CHARACTERS: usize = 12;

pub fn main(arguments: &Function) -> anyhow::Result<Exit> {
    match &arguments.verb {
        FunctionVerb::List { name, json, place } => list(name.as_deref(), *json, place),
        FunctionVerb::Invoke(arguments) => invoke(arguments),
        FunctionVerb::Logs(arguments) => logs(arguments),
        FunctionVerb::Reload { name, place } => reload(name, place),
    }
}

fn asked(place: &Place, method: &str, path: &str, time: Duration) -> anyhow::Result<Answer> {
    let answer = remote::ask(place, method, path, time)?;
    ensure!(answer.status == 200, "{}", answer.detail());
    Ok(answer)
}

fn list(name: Option<&str>, is_json: bool, place: &Place) -> anyhow::Result<Exit> {
    let path = name.map_or_else(|| "/functions".to_owned(), |name| format!("/functions/{}", escaped(name)));
    let answer = asked(place, "GET", &path, ANSWER_TIME_MAX)?;
    if is_json {
        return json(&answer.body);
    }
    print(&listed(answer.body.as_array().map_or(std::slice::from_ref(&answer.body), Vec::as_slice)))?;
    Ok(Exit::Fine)
}

fn listed(functions: &[Value]) -> String {
    let heading = ["FUNCTION", "RUNS", "CODE", "BUSY", "IDLE", "STARTING", "WAITING", "INVOCATIONS", "FAILURES", "AVERAGE"];
    let rows: Vec<Vec<String>> = std::iter::once(heading.map(str::to_owned).to_vec()).chain(functions.iter().map(row)).collect();
    table(&rows)
}

fn row(function: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let counts = &function["counts"];
    let number = |key: &str| counts[key].as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string());
    let is_here = function["runs"] == "here";
    let runs = if is_here { text(&function["runtime"]) } else { text(&function["arn"]) };
    let hash = function["code"]["hash"].as_str().map_or("-", |hash| hash.get(..HASH_CHARACTERS).unwrap_or(hash));
    let average = match (counts["duration_seconds"].as_f64(), counts["invocations"].as_f64()) {
        (Some(seconds), Some(runs)) if runs > 0.0 => format!("{:.1}ms", seconds * 1000.0 / runs),
        _ => "-".to_owned(),
    };
    let mut row = vec![text(&function["name"]), runs, hash.to_owned()];
    row.extend(["busy", "idle", "starting", "waiting", "invocations", "failures"].map(number));
    row.push(average);
    row
}

fn invoke(arguments: &Invoke) -> anyhow::Result<Exit> {
    let Invoke { name, stdin, event, event_file, logs, place } = arguments;
    let event = match (stdin, event, event_file) {
        (_, Some(event), _) => event.clone().into_bytes(),
        (Some(_), None, _) => from_stdin()?,
        (None, None, Some(file)) if file == Path::new("-") => from_stdin()?,
        (None, None, Some(file)) => {
            std::fs::read(file).with_context(|| format!("cannot read the event in {}", file.display()))?
        }
        (None, None, None) => Vec::new(),
    };
    let query = if *logs { "?logs=true" } else { "" };
    let path = format!("/functions/{}/invoke{query}", escaped(name));
    let answer = remote::carry(place, ("POST", &path), &event, RESULT_TIME_MAX)?;
    // Without it nothing ran.
    ensure!(answer.raw.header("x-maitred-request-id").is_some(), "{}", answer.detail());
    if let Some(log) = answer.raw.header("x-maitred-function-log").and_then(|log| base64::decode(log.as_bytes())) {
        say(&String::from_utf8_lossy(&log));
    }
    let result = &answer.raw.body;
    // On a terminal, and for `while read`, it ends with its line.
    let end: &[u8] = if result.ends_with(b"\n") { b"" } else { b"\n" };
    written(&[result, end].concat())?;
    Ok(match answer.raw.header("x-maitred-function-failure") {
        None => Exit::Fine,
        Some(failure) => {
            say(&format!("`{name}` {}\n", failed(failure)));
            Exit::Refused
        }
    })
}

fn from_stdin() -> anyhow::Result<Vec<u8>> {
    let mut event = Vec::new();
    io::stdin().lock().read_to_end(&mut event).context("cannot read the event from stdin")?;
    Ok(event)
}

/// Any bytes, to stdout. Whether its reader wants more.
fn written(bytes: &[u8]) -> anyhow::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// In words: what the header says of a run.
fn failed(failure: &str) -> &str {
    match failure {
        "raised" => "failed",
        "timed_out" => "took longer than it may",
        "exited" => "failed: its process ended",
        "not_started" => "failed: its process did not start",
        "too_large" => "failed: its result is longer than 6 MB",
        other => other,
    }
}

fn logs(arguments: &Logs) -> anyhow::Result<Exit> {
    let Logs { name, follow, request_id, json, .. } = arguments;
    let (place, mut after) = (arguments.place(), 0);
    let wanted = request_id.as_ref().map_or_else(String::new, |id| format!("&request_id={}", escaped(id)));
    loop {
        let path = format!("/functions/{}/logs?after={after}{wanted}", escaped(name));
        let answer = asked(&place, "GET", &path, ANSWER_TIME_MAX)?;
        let lines = answer.body["lines"].as_array().map_or(&[][..], Vec::as_slice);
        let text: String = lines.iter().map(|line| if *json { format!("{line}\n") } else { told(line) }).collect();
        if !written(text.as_bytes())? || !follow {
            if let Some(id) = request_id.as_ref().filter(|_| lines.is_empty()) {
                say(&format!("`{name}` wrote nothing in an invocation {id}, or it is kept no more; `--json` tells their ids\n"));
            }
            return Ok(Exit::Fine);
        }
        after = answer.body["last"].as_u64().unwrap_or(after);
        if !has_reader(LOOK) {
            return Ok(Exit::Fine);
        }
    }
}

/// Waits for so long, or until nobody reads stdout any more, of which a function that writes nothing would never tell.
fn has_reader(time: Duration) -> bool {
    let mut stdout = libc::pollfd { fd: libc::STDOUT_FILENO, events: 0, revents: 0 };
    // SAFETY: one valid struct of ours, of which nothing is kept.
    unsafe { libc::poll(&mut stdout, 1, time.as_millis() as libc::c_int) < 1 }
}

fn told(line: &Value) -> String {
    let text = |key: &str| line[key].as_str().unwrap_or("-");
    format!("{} {} {} {}\n", text("time"), line["instance"], text("source"), text("text"))
}

fn reload(name: &str, place: &Place) -> anyhow::Result<Exit> {
    let answer = asked(place, "POST", &format!("/functions/{}/reload", escaped(name)), RELOAD_TIME_MAX)?;
    let what = if answer.body["changed"] == true { "has other code" } else { "has the same code" };
    print(&format!("{name} {what}; new processes take the places of those that it has\n"))?;
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_says_what_runs_and_how_it_goes() {
        let here = json!({
            "name": "dessert", "runs": "here", "runtime": "python", "code": { "hash": "0123456789abcdef0123" },
            "counts": {
                "busy": 1, "idle": 2, "starting": 0, "waiting": 3, "invocations": 4, "failures": 1, "duration_seconds": 0.05,
            },
        });
        let away = json!({ "name": "remote", "runs": "aws", "arn": "arn:aws:lambda:eu-west-1:123456789012:function:remote" });
        let told = listed(&[here, away]);
        let rows: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["dessert", "python", "0123456789ab", "1", "2", "0", "3", "4", "1", "12.5ms"]);
        assert_eq!(rows[2][..3], ["remote", "arn:aws:lambda:eu-west-1:123456789012:function:remote", "-"]);
        assert_eq!(rows[0].len(), rows[2].len());
    }

    #[test]
    fn a_line_of_a_log_is_one_line() {
        let line = json!({ "number": 7, "time": "2023-11-14T22:13:20.000Z", "source": "stderr", "instance": 2, "text": "plums" });
        assert_eq!(told(&line), "2023-11-14T22:13:20.000Z 2 stderr plums\n");
    }
}
