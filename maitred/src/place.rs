//! A temporary folder for gateways that leave nothing behind: what others keep beside their store, these keep here.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Gone when this is dropped.
pub struct Place(PathBuf);

impl Place {
    /// `what` it is for stands in its name.
    pub fn new(what: &str) -> io::Result<Place> {
        let path = std::env::temp_dir().join(format!("maitred-{what}-{}", std::process::id()));
        // Functions may be another user's, and go through it to their code. Whoever made one of that name before is not trusted.
        fs::DirBuilder::new().mode(0o755).create(&path)?;
        Ok(Place(path))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is swept with the temporary folder, some day.
        let _ = remove(&self.0);
    }
}

/// Copies of code may be written to by nobody, which keeps them from being removed.
fn remove(folder: &Path) -> io::Result<()> {
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
        drop(place);
        assert!(!path.exists());
    }
}
