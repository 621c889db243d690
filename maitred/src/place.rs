//! A temporary folder for gateways that leave nothing behind: what others keep beside their store, these keep here.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Before the number of the process.
const PREFIX: &str = "maitred-";
/// Writable by the group or by all.
const OTHERS_WRITE: u32 = 0o022;

/// Gone when this is dropped.
pub struct Place(PathBuf);

impl Place {
    /// `what` it is for stands in its name.
    pub fn new(what: &str) -> io::Result<Place> {
        let path = std::env::temp_dir().join(format!("{PREFIX}{what}-{}", std::process::id()));
        // Functions may be another user's, and go through it to their code. Whoever made one of that name before is not trusted.
        fs::DirBuilder::new().mode(0o755).create(&path)?;
        Ok(Place(path))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn folder(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is swept with the temporary folder, some day.
        let _ = remove(&self.0);
    }
}

/// All that this user's processes made for that, those included that they left behind. In the temporary folder anybody may make one of such a
/// name: what is another's, or what others may write to, is none.
pub fn own(what: &str) -> Vec<PathBuf> {
    let prefix = format!("{PREFIX}{what}-");
    let is_named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    let is_own = |path: &PathBuf| {
        let metadata = fs::symlink_metadata(path);
        metadata.is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user() && metadata.mode() & OTHERS_WRITE == 0)
    };
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| is_named(path) && is_own(path)).collect()
}

/// Whose files this process makes.
pub fn user() -> u32 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Copies of code may be written to by nobody, which keeps them from being removed.
pub fn remove(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_it_though_it_was_read_only() {
        let place = Place::new("place-test").unwrap();
        let (folder, path) = (place.path("a"), place.0.clone());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("b"), "").unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o555)).unwrap();
        assert!(Place::new("place-test").is_err(), "it is not shared");
        assert!(own("place-test").contains(&path));
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        assert!(!own("place-test").contains(&path), "others may write to it");
        drop(place);
        assert!(!path.exists());
    }
}
