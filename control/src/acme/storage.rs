//! The account and the certificates as files, so that they survive restarts. A file is there as a whole or not at all, and nobody but
//! the gateway's own user can read it. Does not know what is in them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a file; a chain with its key has a few thousand.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const ACCOUNT: &str = "account.json";

/// The folder of one authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    folder: PathBuf,
}

impl Storage {
    pub fn new(folder: &Path, directory: &str) -> Storage {
        Storage { folder: folder.join(file_name(directory)) }
    }

    /// Makes the folder. Better to know before an order than after it that nothing can be kept.
    pub fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let probe = self.temporary("probe");
        create(&probe).and_then(|_| std::fs::remove_file(&probe))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `None`: there is none.
    pub fn account(&self) -> io::Result<Option<Vec<u8>>> {
        self.read(ACCOUNT)
    }

    pub fn keep_account(&self, bytes: &[u8]) -> io::Result<()> {
        self.write(ACCOUNT, bytes)
    }

    pub fn forget_account(&self) -> io::Result<()> {
        std::fs::remove_file(self.folder.join(ACCOUNT))
    }

    /// A key and the chain that belongs to it, in one file: two could not be replaced at once.
    pub fn certificate(&self, domain: &str) -> io::Result<Option<Vec<u8>>> {
        self.read(&format!("{domain}.pem"))
    }

    pub fn keep_certificate(&self, domain: &str, bytes: &[u8]) -> io::Result<()> {
        self.write(&format!("{domain}.pem"), bytes)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.folder.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.temporary(name);
        let written = create(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            // A name that leads to an empty file after a power cut would be worse than the old file.
            file.sync_all()
        });
        let renamed = written.and_then(|()| std::fs::rename(&temporary, self.folder.join(name)));
        if renamed.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        renamed?;
        File::open(&self.folder)?.sync_all()
    }

    /// A name that no other process and no other write of this one has.
    fn temporary(&self, name: &str) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!(".{name}.{}.{number}", std::process::id()))
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A URL as one name of a folder; two URLs never have the same.
fn file_name(directory: &str) -> String {
    let mut name = String::new();
    for byte in directory.trim_start_matches("https://").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            // Never the first: neither hidden nor the folder above.
            b'.' if !name.is_empty() => name.push('.'),
            b'/' => name.push('_'),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::folder;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_folder_of_an_authority_is_named_after_its_url() {
        for (directory, name) in [
            ("https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org_directory"),
            ("https://127.0.0.1:14000/dir", "127.0.0.1%3a14000_dir"),
            ("https://a/b_c?d", "a_b%5fc%3fd"),
            ("https://../x", "%2e._x"),
        ] {
            assert_eq!(file_name(directory), name, "{directory}");
        }
    }

    #[test]
    fn what_was_kept_is_found_and_nobody_else_can_read_it() {
        let folder = folder("acme-storage");
        let storage = Storage::new(&folder.join("deep/er"), "https://a/b");
        assert!(storage.keep_account(b"x").is_err(), "no folder yet");
        storage.prepare().unwrap();
        assert_eq!((storage.account().unwrap(), storage.certificate("a.example.com").unwrap()), (None, None));
        for text in [b"first".as_slice(), b"second"] {
            storage.keep_account(text).unwrap();
            storage.keep_certificate("a.example.com", text).unwrap();
            assert_eq!(storage.account().unwrap().as_deref(), Some(text));
            assert_eq!(
                Storage::new(&folder.join("deep/er"), "https://a/b").certificate("a.example.com").unwrap().as_deref(),
                Some(text)
            );
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(storage.folder()), 0o700);
        let mut names: Vec<_> = std::fs::read_dir(storage.folder()).unwrap().map(|entry| entry.unwrap()).collect();
        names.sort_by_key(|entry| entry.file_name());
        assert_eq!(names.iter().map(|entry| entry.file_name()).collect::<Vec<_>>(), ["a.example.com.pem", "account.json"]);
        assert!(names.iter().all(|entry| mode(&entry.path()) == 0o600));
        storage.forget_account().unwrap();
        assert_eq!(storage.account().unwrap(), None);
    }
}
