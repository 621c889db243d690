//! Functions as others write them, hosted by a real gateway and asked over real sockets: AWS's own clients of the Runtime API, and the
//! frameworks that people put in front of them. None of them is changed for us.

mod by_shell;
mod node;
mod python;
mod rust;

use maitred_testkit::{Folder, Gateway, gateway};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What `tests/peers/setup` has put below target/: packages of functions, laid out as a layer.
fn layer() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/layer")
}

/// Whether a program can do that; where it cannot, a machine that runs CI is at fault, and elsewhere the test says that it does nothing.
fn is_there(program: &str, arguments: &[&str], what: &str) -> bool {
    let layer = layer();
    let mut command = Command::new(program);
    command.args(arguments).env("PYTHONPATH", layer.join("python")).env("NODE_PATH", layer.join("nodejs/node_modules"));
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let works = status.is_ok_and(|status| status.success());
    assert!(works || std::env::var_os("CI").is_none(), "{what} is missing: tests/peers/setup installs it");
    if !works {
        eprintln!("{what} is missing: this test does nothing; tests/peers/setup installs it");
    }
    works
}

/// A gateway with one function `it`, of these keys, on every path and method.
fn hosting(keys: &str) -> Gateway {
    gateway(
        &format!(
            "functions:
  it:
    timeout: 20s
    init_timeout: 30s
{keys}
apis:
  all:
    routes:
      - ANY /: function it
      - ANY /{{path+}}: function it
"
        ),
        &[],
    )
}

/// Its code in a folder.
fn folder(files: &[(&str, &str)]) -> Folder {
    let folder = Folder::new();
    for (name, text) in files {
        std::fs::write(folder.path(name), text).expect("a file of ours");
    }
    folder
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}
