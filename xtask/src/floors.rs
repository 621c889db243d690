//! The floors of the house: a crate may use what lies below it, and nothing beside or above. See ARCHITECTURE.md.

use crate::tidy::{Findings, output};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

const PREFIX: &str = "maitred-";

/// `None`: beside the house. Such a crate may use every floor, and no floor uses it.
fn floor(name: &str) -> Option<Option<u8>> {
    Some(match name {
        "maitred" => Some(5),
        "maitred-dataplane" => Some(4),
        "maitred-policies" | "maitred-integrations" | "maitred-control" => Some(3),
        "maitred-transport" | "maitred-host" => Some(2),
        "maitred-core" => Some(1),
        "maitred-model" | "maitred-wire" => Some(0),
        "maitred-testkit" | "maitred-functions" | "maitred-fuzz" | "maitred-bench" | "xtask" => None,
        _ => return None,
    })
}

/// Floor 0 is pure: whatever brings a runtime or sockets is no part of it.
const NOT_BELOW: &[&str] = &["tokio", "mio", "socket2", "hyper", "h2", "axum"];

/// What only one crate may know, and why.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("quinn", &["maitred-transport"], "QUIC is sockets, and those are the transport's affair"),
    ("h3", &[], "of the crate h3 the tests alone make use: docs/adr/0016-http3.md"),
    ("h3-quinn", &[], "of the crate h3 the tests alone make use: docs/adr/0016-http3.md"),
    ("cedar-policy", &["maitred-policies"], "what Cedar decides is a policy: docs/adr/0021-cedar.md"),
];

pub fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    let metadata = output(root, env!("CARGO"), &["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata writes JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let folder = name.strip_prefix(PREFIX).unwrap_or(name);
        let manifest = format!("{folder}/Cargo.toml");
        let Some(mine) = floor(name) else {
            findings.error(
                manifest,
                &format!("{name} stands on no floor"),
                "name it in the table of ARCHITECTURE.md and in xtask/src/floors.rs",
            );
            continue;
        };
        let text = std::fs::read_to_string(root.join(&manifest)).unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = dependency["name"].as_str().unwrap_or_default();
            let dev = dependency["kind"] == "dev";
            let line = 1 + text.lines().position(|line| line.trim_start().starts_with(other)).unwrap_or(0);
            let place = format!("{manifest}:{line}");
            if mine == Some(0) && NOT_BELOW.contains(&other) && !dev {
                findings.error(
                    &place,
                    &format!("{name} depends on {other}"),
                    "floor 0 is pure: what needs sockets or a runtime stands in transport or above",
                );
            }
            let Some(mine) = mine else { continue };
            if let Some((_, users, why)) = ONLY_IN.iter().find(|(only, ..)| *only == other)
                && !users.contains(&name)
            {
                findings.error(&place, &format!("{name} depends on {other}"), why);
            }
            match floor(other) {
                Some(None) if other != "maitred-testkit" || !dev => findings.error(
                    &place,
                    &format!("{name} depends on {other}, which stands beside the house"),
                    "move what both need to a floor below",
                ),
                Some(Some(theirs)) if theirs >= mine => findings.error(
                    &place,
                    &format!("{name} (floor {mine}) depends on {other} (floor {theirs})"),
                    "imports go strictly down: declare a trait or type in core and let the binary bring both together",
                ),
                // Below, the testkit in tests, or a crate from elsewhere.
                Some(_) | None => {}
            }
        }
    }
    Ok(())
}
