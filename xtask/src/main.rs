//! Chores: `cargo xtask tidy` fails where the house rules are broken, `cargo xtask docs` writes what is generated. Builds and runs
//! nothing else; `./test` does that.

mod docs;
mod floors;
mod graph;
mod sources;
mod texts;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask tidy   fails where the rules of the house are broken; says where, what, and what to do
cargo xtask docs   writes docs/schema.json and docs/faults.md";

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy::run(root),
        ["docs"] => docs::write(root).map(|()| ExitCode::SUCCESS),
        _ => {
            eprintln!("{HELP}");
            Ok(ExitCode::from(2))
        }
    }
}
