//! `maitred run`: serves until it is told to stop. Which configuration is meant is decided here; `wire` does the rest.

use crate::cli::{DEFAULT_FILE, Run};
use crate::configuration::Source;
use crate::logging::{self, Announcer};
use crate::output::Exit;
use crate::upgrade::Inheritance;
use crate::wire;
use anyhow::bail;
use std::path::PathBuf;

pub fn main(arguments: Run, inheritance: Inheritance) -> anyhow::Result<Exit> {
    logging::start(&arguments.log)?;
    let format = arguments.log.log_format;
    let source = source(&arguments)?;
    Announcer(format).start(&source.name());
    let running = match wire::start(source, format, inheritance) {
        Ok(running) => running,
        Err(not_started) => return Ok(not_started.tell()),
    };
    Announcer(format).line("ready");
    running.tell_ready();
    running.wait();
    Ok(Exit::Fine)
}

fn source(arguments: &Run) -> anyhow::Result<Source> {
    if let Some(url) = &arguments.upstream {
        return Ok(Source::upstream(url, arguments.listen, arguments.admin));
    }
    if let Some(file) = arguments.file.given() {
        return Ok(Source::File(file.to_owned()));
    }
    let file = PathBuf::from(DEFAULT_FILE);
    if !file.exists() {
        bail!(
            "there is no {DEFAULT_FILE} in this folder\n\n  maitred init                                    writes one that works at once\n  maitred run FILE                                if it is called otherwise\n  maitred run --upstream http://127.0.0.1:9001    needs none: everything goes there"
        );
    }
    Ok(Source::File(file))
}
