//! `maitred healthy`: whether a gateway answers, as an exit code. For container images, which have no curl.

use crate::cli::Healthy;
use crate::output::{Exit, print};
use crate::remote;
use anyhow::ensure;
use std::time::Duration;

/// For the answer: who takes longer is not well.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

pub fn main(arguments: &Healthy) -> anyhow::Result<Exit> {
    let (path, word) = if arguments.ready { ("/readyz", "ready") } else { ("/healthz", "healthy") };
    let answer = remote::ask(&arguments.remote.place(), "GET", path, ANSWER_TIME_MAX)?;
    ensure!(answer.status == 200, "not {word}: {}", answer.detail());
    print(&format!("{word}\n"))?;
    Ok(Exit::Fine)
}
