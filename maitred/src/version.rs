//! `maitred version`. A release sets MAITRED_GIT_HASH when it builds; a build without git needs nothing.

use crate::output::{Exit, print};

pub fn main() -> anyhow::Result<Exit> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let hash = option_env!("MAITRED_GIT_HASH").map(|hash| format!("{hash}, ")).unwrap_or_default();
    let features: Vec<&str> = [("http3", cfg!(feature = "http3")), ("cedar", cfg!(feature = "cedar"))]
        .into_iter()
        .filter_map(|(name, is_built)| is_built.then_some(name))
        .collect();
    let features = if features.is_empty() { String::new() } else { format!(", with {}", features.join(" and ")) };
    print(&format!("maitred {} ({hash}{arch}-{os}{features})\n", env!("CARGO_PKG_VERSION")))?;
    Ok(Exit::Fine)
}
