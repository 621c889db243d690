//! Examples that are walked through: their keys are made, their gateway is started, and each command of their README answers what stands
//! there. The commands are a shell's, as whoever copies them has one; only ports are others. Judges no prose.
//!
//! In a README, `console` holds commands behind `$ ` and, of what they say, the lines that matter, in their order. Each command succeeds, and one of
//! which nothing is shown says nothing: what could go wrong unseen would. The block of `sh` with `maitred run` starts the gateway. Other blocks
//! are not looked at.

#[expect(dead_code, reason = "what follows a process that replaces itself is for upgrade.rs and systemd.rs")]
mod process;

use process::{Folder, Maitred};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// Where the examples listen, and where curl's commands on their pages go.
const PLAIN: &str = "127.0.0.1:8080";
const TLS: &str = "127.0.0.1:8443";
const TLS_BY_NAME: &str = "localhost:8443";
const ADMIN: &str = "127.0.0.1:9080";

/// Not whatever curl's user has configured, and no meter of its progress.
const CURLRC: &str = "silent\nshow-error\nmax-time = 60\nnoproxy = \"*\"\n";

/// The folder of the code of an example's functions.
const CODE: &str = "functions";

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    copy_files(from, to);
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_dir()) {
        copy_tree(&entry.path(), &to.join(entry.file_name()));
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// A note at home, a failure in CI.
fn has(tool: &str) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("command -v {tool}")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let found = command.status().is_ok_and(|status| status.success());
    assert!(found || std::env::var_os("CI").is_none(), "{tool} is missing; CI runs with it");
    if !found {
        println!("NOTE: {tool} is missing, so no example is walked through");
    }
    found
}

/// One reader of the page, with a shell in a copy of the example's folder.
struct Walk {
    folder: Folder,
    gateway: Option<Maitred>,
    wrong: Vec<String>,
}

impl Walk {
    /// What was made there by whoever tried it by hand does not come along.
    fn new(name: &str) -> Walk {
        let folder = Folder::new(name);
        copy_files(&example(name), &folder.path("."));
        if example(name).join(CODE).is_dir() {
            copy_tree(&example(name).join(CODE), &folder.path(CODE));
        }
        Walk { folder, gateway: None, wrong: Vec::new() }
    }

    /// The gateway has a file of its own, with ports that are free; `maitred.yaml` names the admin listener that it got, for commands that
    /// look there, and curl is told where everything is.
    fn start(&mut self) {
        let text = self.folder.read("maitred.yaml");
        // Two listeners cannot have one address, be it with a port of nobody's.
        let free = [(PLAIN, "127.0.0.1:0"), (TLS, "127.0.0.2:0"), (ADMIN, "127.0.0.1:0")];
        let free = free.iter().fold(text.clone(), |text, (usual, free)| text.replace(usual, free));
        let gateway = self.folder.file("gateway.yaml", &free).run(&["run", "gateway.yaml"]);
        let admin = gateway.address("admin").to_string();
        let mut places = vec![(PLAIN, gateway.listening().to_string()), (ADMIN, admin.clone())];
        if text.contains(TLS) {
            places.push((TLS_BY_NAME, gateway.listening_for_tls().to_string()));
        }
        let places = places.iter().map(|(usual, now)| format!("connect-to = \"{usual}:{now}\"\n"));
        self.folder.file(".curlrc", &places.fold(CURLRC.to_owned(), |text, line| text + &line));
        self.folder.file("maitred.yaml", &text.replace(ADMIN, &admin));
        self.gateway = Some(gateway);
    }

    /// Both streams of a command, as they come, and how it ended.
    fn say(&self, command: &str) -> (String, ExitStatus) {
        let program = Path::new(env!("CARGO_BIN_EXE_maitred")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec 2>&1\n{command}")).current_dir(self.folder.path(".")).stdin(Stdio::null());
        let output = shell.env("PATH", path).env("CURL_HOME", self.folder.path(".")).env_remove("MAITRED_LOG").output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status)
    }

    /// Each line of `shown` stands in what the command says, in this order; nothing shown, nothing said.
    fn step(&mut self, line: usize, command: &str, shown: &[&str]) {
        let (said, status) = self.say(command);
        let mut lines = said.lines().map(str::trim_end);
        let problem = if let Some(missing) = shown.iter().find(|wanted| !lines.any(|line| line == wanted.trim_end())) {
            format!("has no line `{missing}` where it should")
        } else if shown.is_empty() && !said.trim().is_empty() {
            "says something, of which nothing is shown".to_owned()
        } else if !status.success() {
            format!("fails ({status}), which the page does not say")
        } else {
            return;
        };
        self.wrong.push(format!("README.md:{line}: $ {command}\n{problem}; it says\n{said}"));
    }
}

/// Does as the page says, from its first line to its last. The number of commands.
fn walk_through(name: &str) -> usize {
    let page = fs::read_to_string(example(name).join("README.md")).unwrap();
    let mut walk = Walk::new(name);
    let mut block = None;
    // The line of a command, the command, and what is shown of its answer.
    let mut steps: Vec<(usize, &str, Vec<&str>)> = Vec::new();
    for (index, line) in page.lines().enumerate() {
        match (block, line.strip_prefix("```")) {
            (None, Some(info)) => block = Some(info),
            (Some(_), Some(_)) => {
                for (line, command, shown) in steps.drain(..) {
                    walk.step(line, command, &shown);
                }
                block = None;
            }
            (Some("console"), None) => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push((index + 1, command, Vec::new())),
                (None, Some((_, _, shown))) => shown.push(line),
                (None, None) => panic!("README.md:{}: nothing said this", index + 1),
            },
            (Some("sh"), None) if line.starts_with("maitred run") => walk.start(),
            (Some(_) | None, None) => {}
        }
    }
    assert!(walk.gateway.is_some(), "the page never starts the gateway");
    assert!(walk.wrong.is_empty(), "{}", walk.wrong.join("\n\n"));
    page.lines().filter(|line| line.starts_with("$ ")).count()
}

#[test]
fn who_may_come_in_goes_as_the_page_says() {
    if ["curl", "openssl"].into_iter().all(has) {
        let steps = walk_through("identity");
        assert!(steps > 40, "{steps} commands");
    }
}

#[test]
fn functions_answer_as_the_page_says() {
    if ["curl", "python3", "node"].into_iter().all(has) {
        let steps = walk_through("functions");
        assert!(steps > 8, "{steps} commands");
    }
}
