//! What the gateway's surroundings say of AWS, read where AWS's own tools read it: the environment, `~/.aws/config` and `~/.aws/credentials`, or
//! the files that AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE name. Decides nothing.

use maitred_core::aws::{Profiles, Settings};
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Of one file. Those of whole companies have a hundred kilobytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// As they are now.
pub fn settings() -> Settings {
    let text =
        |(name, value): (std::ffi::OsString, std::ffi::OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    settings_of(std::env::vars_os().filter_map(text).filter(|(name, _)| name.starts_with("AWS_") || name == "HOME").collect())
}

/// With these variables instead of the process' own.
pub fn settings_of(variables: HashMap<String, String>) -> Settings {
    let settings = Settings { variables, profiles: Profiles::default() };
    let read = |variable: &str, usual: &str| {
        let home = || settings.variable("HOME").map(|home| Path::new(home).join(".aws").join(usual));
        let path = settings.variable(variable).map(|path| at_home(path, &settings)).or_else(home);
        path.map(|path| read_shared(&path)).unwrap_or_default()
    };
    let (config, credentials) = (read("AWS_CONFIG_FILE", "config"), read("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
    let profiles = Profiles::read(&config, &credentials);
    Settings { profiles, ..settings }
}

/// A path as a shell would take it, since that is how it is written.
fn at_home(path: &str, settings: &Settings) -> PathBuf {
    match (path.strip_prefix("~/"), settings.variable("HOME")) {
        (Some(rest), Some(home)) => Path::new(home).join(rest),
        (_, _) => PathBuf::from(path),
    }
}

/// Nothing, where there is none: most have one of the two.
fn read_shared(path: &Path) -> String {
    match read_file(path, FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the file of AWS's profiles cannot be read");
            String::new()
        }
    }
}

/// Of a longer file the beginning would be something else than the file.
pub fn read_file(path: &Path, bytes_max: u64) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max { Err(ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}
