//! A function from nothing: written by `init function`, served by `run` and by `lambda serve`, as whoever tries it for the first time does.
//! Where an interpreter is missing the test says so and passes, but never in CI.

#[expect(dead_code, reason = "what follows a process that replaces itself is for upgrade.rs and systemd.rs")]
mod process;

use process::{Folder, Maitred, ask, until};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A note at home, a failure in CI.
fn has(interpreter: &str) -> bool {
    let found = Command::new(interpreter).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    assert!(found || std::env::var_os("CI").is_none(), "{interpreter} is missing; CI runs with it");
    if !found {
        println!("NOTE: {interpreter} is missing, so that its functions are not tried");
    }
    found
}

/// With ports that are free.
fn freed(text: &str) -> String {
    text.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9080", "127.0.0.1:0")
}

#[test]
fn init_function_writes_one_that_answers_at_once() {
    for (language, interpreter, file) in [("--python", "python3", "app.py"), ("--node", "node", "app.mjs")] {
        if !has(interpreter) {
            continue;
        }
        let folder = Folder::new(&format!("init{language}"));
        let done = folder.maitred(&["init", "function", language, "greeting"]);
        let wrote = format!(
            "wrote functions/greeting/{file}\nwrote maitred.yaml\n\nNext:\n  maitred run\n  curl 'http://127.0.0.1:8080/greeting?guest=Ada'\n"
        );
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, wrote.as_str(), ""));
        let gateway = folder.file("maitred.yaml", &freed(&folder.read("maitred.yaml"))).run(&["run"]);
        let answer = gateway.get("/greeting?guest=Ada");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Hello, Ada!"), "{answer}");
        assert!(gateway.get("/greeting").contains("Hello, world!"));
        assert_eq!(gateway.terminate().code, 0);
    }
}

#[test]
fn init_function_overwrites_nothing_and_says_what_to_add() {
    let folder = Folder::new("init-function-again");
    folder.maitred(&["init"]);
    let first = folder.read("maitred.yaml");
    let done = folder.maitred(&["init", "function", "--rust", "orders"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(folder.read("maitred.yaml"), first);
    for line in [
        "functions/orders/src/main.rs",
        "  orders:\n    runtime: provided\n    code: ./functions/orders/target/release/bootstrap\n",
        "- ANY /orders: function orders",
        "  cargo build --release --manifest-path functions/orders/Cargo.toml\n",
    ] {
        assert!(done.stdout.contains(line), "{line}: {}", done.stdout);
    }
    let again = folder.maitred(&["init", "function", "--rust", "orders"]);
    assert!(again.code == 1 && again.stderr.contains("functions/orders/Cargo.toml is there already"), "{}", again.stderr);
    // Beside it another language has its own files; what both would write stays the first one's.
    assert_eq!(folder.maitred(&["init", "function", "--python", "orders"]).code, 0);
}

#[test]
fn lambda_serve_runs_a_file_and_takes_its_changes_over() {
    if !has("python3") {
        return;
    }
    let folder = Folder::new("serve");
    fs::create_dir(folder.path("code")).unwrap();
    folder.file(
        "code/orders.py",
        "import os\ndef handler(event, context):\n    return {'path': event['rawPath'], 'shop': os.environ['SHOP']}\n",
    );
    let serve =
        ["lambda", "serve", "./code/orders.py", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--env", "SHOP=a${b}=c"];
    let gateway = folder.run(&serve);
    for path in ["/", "/a/b?x=1"] {
        let answer = gateway.get(path);
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("a${b}=c") && answer.contains(path.split('?').next().unwrap()),
            "{answer}"
        );
    }
    folder.file("code/orders.py", "def handler(event, context):\n    return 'changed'\n");
    until(|| gateway.get("/").ends_with("changed"));
    assert_eq!(gateway.terminate().code, 0);
    let left = fs::read_dir(folder.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["code"], "nothing is left beside it");
}

#[test]
fn lambda_serve_takes_plain_json_and_names_the_interpreter() {
    if !has("node") {
        return;
    }
    let folder = Folder::new("serve-raw");
    folder.file("double.mjs", "export const handler = async (event) => event.n * 2;\n");
    let gateway = folder.run(&[
        "lambda",
        "serve",
        ".",
        "--handler",
        "double.handler",
        "--event",
        "raw",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    let answer =
        ask(gateway.listening(), "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\nconnection: close\r\n\r\n{\"n\":21}");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("42"), "{answer}");
    let said = gateway.terminate().stdout;
    for words in [
        "`double.handler` of . answers at http://127.0.0.1:",
        "run by Node.js ",
        "  curl -d '{\"dish\": \"soup\"}' http://",
        "it is told its body, as it is",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn lambda_serve_says_what_is_wrong_before_it_starts() {
    let folder = Folder::new("serve-wrong");
    folder.file("main.py", "def greet(event, context): pass\n").file("notes.txt", "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let rows: [(&[&str], &str); 5] = [
        (&["app.py"], "there is no app.py; beside it there is main.py"),
        (&["main.py"], "main.py has no function `handler`, but greet\n\n  maitred lambda serve main.py --handler main.greet"),
        (&["notes.txt"], "notes.txt is neither a handler"),
        (&["main.py", "--handler", "mian.greet"], "mian"),
        (
            &["main.py", "--handler", "main.greet", "--listen", &address],
            "to listen elsewhere:\n\n  maitred lambda serve main.py --listen 127.0.0.1:",
        ),
    ];
    for (arguments, words) in rows {
        let done = folder.maitred(&[&["lambda", "serve"], arguments].concat());
        let code = if arguments.contains(&"--listen") { 3 } else { 1 };
        assert!(done.code == code && done.stderr.contains(words), "{arguments:?}: {} {}", done.code, done.stderr);
    }
    let done = folder.maitred(&["lambda", "serve", "main.py", "--handler", "main.greet", "--timeout", "0s"]);
    assert!(done.code == 1 && done.stderr.contains("the others are called as their options"), "{}", done.stderr);
}

const ORDERS: &str = "def handler(event, context):\n    print('heard', event['dish'])\n    return event['dish'] + ' it is'\n";
const SERVE: [&str; 7] = ["lambda", "serve", "./orders.py", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// Where it keeps what others keep beside their file.
fn place(gateway: &Maitred) -> PathBuf {
    std::env::temp_dir().join(format!("maitred-lambda-{}", gateway.pid()))
}

#[test]
fn the_commands_find_a_lambda_serve_that_runs_in_their_folder() {
    if !has("python3") {
        return;
    }
    let folder = Folder::new("serve-found");
    let gateway = folder.file("orders.py", ORDERS).run(&SERVE);
    let invoke = ["function", "invoke", "orders", "--event", "{\"dish\": \"soup\"}"];
    let done = folder.maitred(&invoke);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "\"soup it is\"\n", ""));
    assert!(folder.maitred(&["function", "list"]).stdout.contains("\norders "));
    assert!(folder.maitred(&["function", "logs", "orders"]).stdout.contains("stdout heard soup"));
    for name in ["served", "maitred.db-token"] {
        assert_eq!(fs::metadata(place(&gateway).join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
    }

    // From elsewhere by its address, and beside a file that is for another gateway.
    let elsewhere = Folder::new("serve-elsewhere");
    let admin = gateway.address("admin").to_string();
    assert_eq!(elsewhere.maitred(&[&invoke[..], &["--admin", &admin]].concat()).stdout, "\"soup it is\"\n");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    folder.file("maitred.yaml", &format!("listen: 127.0.0.1:0\nadmin: {{ listen: \"{free}\" }}\napis: {{}}\n"));
    let done = folder.maitred(&invoke);
    assert!(done.code == 1 && done.stderr.contains(&format!("in this folder, --admin {admin}")), "{}", done.stderr);
    fs::remove_file(folder.path("maitred.yaml")).unwrap();

    let second = folder.run(&SERVE);
    let done = folder.maitred(&invoke);
    let (one, other) = (format!("\n  --admin {admin}"), format!("\n  --admin {}", second.address("admin")));
    assert!(done.code == 1 && done.stderr.contains("more than one"), "{}", done.stderr);
    assert!(done.stderr.contains(&one) && done.stderr.contains(&other), "{}", done.stderr);
    assert_eq!(second.terminate().code, 0);
    assert_eq!(folder.maitred(&invoke).code, 0);
    let said = gateway.terminate().stdout;
    assert!(said.contains("  maitred function logs orders -f\n"), "{said}");
}

#[test]
fn a_lambda_serve_that_was_killed_is_not_taken_for_one_that_runs() {
    if !has("python3") {
        return;
    }
    let folder = Folder::new("serve-killed");
    folder.file("orders.py", ORDERS).file("tmp/.keep", "");
    // A temporary folder of its own: the next one of any other test would tidy up there.
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maitred"));
        command.args(arguments).current_dir(folder.path(".")).env("TMPDIR", folder.path("tmp")).stdout(Stdio::piped());
        command
    };
    let list = || {
        let output = command(&["function", "list"]).output().unwrap();
        (output.status.code(), [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()))
    };
    let gateway = folder.start(command(&SERVE));
    let left = folder.path("tmp").join(format!("maitred-lambda-{}", gateway.pid()));
    assert!(list().1[0].contains("\norders "));
    gateway.signal(libc::SIGKILL);
    gateway.end();
    let (code, [out, words]) = list();
    let wanted = format!("was killed, and left {}", left.display());
    assert!(code == Some(1) && out.is_empty() && words.contains(&wanted), "{words}");
    // The next one tidies up, and is found.
    let gateway = folder.start(command(&SERVE));
    assert!(!left.exists());
    assert!(list().1[0].contains("\norders "));
    assert_eq!(gateway.terminate().code, 0);
}
