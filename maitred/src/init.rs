//! `maitred init`: a first file that works at once. Never overwrites anything.

use crate::cli::{DEFAULT_FILE, Init};
use crate::output::{Exit, print};
use anyhow::{Context, bail};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

const FIRST: &str = include_str!("first.yaml");

pub fn main(arguments: &Init) -> anyhow::Result<Exit> {
    let folder = &arguments.folder;
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = if folder == Path::new(".") { DEFAULT_FILE.into() } else { folder.join(DEFAULT_FILE) };
    let shown = path.display();
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("{shown} is there already, and is left as it is"),
        Err(error) => return Err(error).with_context(|| format!("cannot write {shown}")),
    };
    file.write_all(FIRST.as_bytes()).with_context(|| format!("cannot write {shown}"))?;
    let named = if shown.to_string() == DEFAULT_FILE { String::new() } else { format!(" {shown}") };
    print(&format!(
        "wrote {shown}\n\nNext:\n  maitred check{named}\n  maitred run{named}\n  curl http://127.0.0.1:8080/\n\nThe file says how to put a back end of your own behind it.\n"
    ))?;
    Ok(Exit::Fine)
}
