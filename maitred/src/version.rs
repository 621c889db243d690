//! `maitred version`. A release sets MAITRED_GIT_HASH when it builds; a build without git needs nothing.

use crate::output::{Exit, print};

pub fn main() -> anyhow::Result<Exit> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let hash = option_env!("MAITRED_GIT_HASH").map(|hash| format!("{hash}, ")).unwrap_or_default();
    let features = if cfg!(feature = "http3") { ", with http3" } else { "" };
    print(&format!("maitred {} ({hash}{arch}-{os}{features})\n", env!("CARGO_PKG_VERSION")))?;
    Ok(Exit::Fine)
}
