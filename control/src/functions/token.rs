//! The admin token where functions are hosted and the configuration has none: whoever may run code on this machine, as every function does,
//! could ask a listener that answers to all of loopback. It is made once, in a file beside the store that only its owner may read.

use crate::store::characters;
use maitred_model::{Document, FunctionPlace, Secret};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// As 32 random bytes.
const CHARACTERS: usize = 43;
/// Bytes of the file: a token that somebody put there himself, and a line break.
const BYTES_MAX: u64 = 1024;
/// Shorter ones could be guessed.
const BYTES_MIN: usize = 32;
const PRIVATE: u32 = 0o600;

/// Why there is no token though there is a file, or should be.
#[derive(Debug)]
pub struct Unusable {
    pub message: String,
    pub hint: String,
    /// Whoever asks may not read it, and so cannot say whether it is good.
    pub is_denied: bool,
}

impl Unusable {
    fn new(path: &Path, what: &str, hint: impl Into<String>) -> Unusable {
        let message = format!("the admin token in {} {what}", path.display());
        Unusable { message, hint: hint.into(), is_denied: false }
    }

    fn failed(path: &Path, what: &str, error: &io::Error) -> Unusable {
        let is_denied = error.kind() == ErrorKind::PermissionDenied;
        Unusable { is_denied, ..Unusable::new(path, what, error.to_string()) }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.hint)
    }
}

impl std::error::Error for Unusable {}

/// What callers of the admin listener show, from the moment that there is one. It is never taken away: that needs a restart.
#[derive(Debug, Clone, Default)]
pub struct Token(Arc<OnceLock<Secret>>);

impl Token {
    pub fn new(configured: Option<Secret>) -> Token {
        let token = Token::default();
        if let Some(configured) = configured {
            let _ = token.0.set(configured);
        }
        token
    }

    pub fn get(&self) -> Option<&Secret> {
        self.0.get()
    }

    /// From here on one is asked for, if this configuration hosts functions. Called before their first process is started. The file
    /// that was read or made, if it was.
    pub fn settle(&self, document: &Document) -> Result<Option<PathBuf>, Unusable> {
        if self.get().is_some() || !hosts_functions(document) {
            return Ok(None);
        }
        let token = match read(&document.store)? {
            Some(token) => token,
            None => make(&document.store)?,
        };
        let _ = self.0.set(token);
        Ok(Some(path(&document.store)))
    }
}

/// Whether functions run in processes here.
pub fn hosts_functions(document: &Document) -> bool {
    document.functions.values().any(|function| match function.place {
        FunctionPlace::Hosted(_) => true,
        FunctionPlace::Aws(_) => false,
    })
}

/// Where it is kept: `maitred.db-token` beside `maitred.db`, as SQLite names what is beside it.
pub fn path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push("-token");
    PathBuf::from(name)
}

/// The token that was made for a gateway with this store; `None` where none was.
pub fn read(store: &Path) -> Result<Option<Secret>, Unusable> {
    let path = path(store);
    let (mode, text) = match open(&path) {
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Unusable::failed(&path, "cannot be read", &error)),
    };
    if mode & 0o077 != 0 {
        let hint = "`chmod 600` it, or remove it and another is made at the next start";
        return Err(Unusable::new(&path, "may be read by others than its owner", hint));
    }
    let token = text.trim_ascii();
    if token.len() < BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Unusable::new(&path, "is none", "remove the file, and another is made at the next start"));
    }
    Ok(Some(Secret::new(token)))
}

/// Its mode, and what it holds.
fn open(path: &Path) -> io::Result<(u32, String)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok((mode, text))
}

/// There as a whole or not at all; if another process was faster, that one's is taken.
fn make(store: &Path) -> Result<Secret, Unusable> {
    let path = path(store);
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".new-{}", std::process::id()));
    let new = PathBuf::from(new);
    let made = characters::<CHARACTERS>().map_err(io::Error::other).and_then(|token| put(&new, &path, token));
    let _ = std::fs::remove_file(&new);
    match made {
        Ok(Some(token)) => Ok(Secret::new(token)),
        Ok(None) => read(store)?.ok_or_else(|| Unusable::new(&path, "comes and goes", "see who removes it")),
        Err(error) => Err(Unusable::failed(&path, "cannot be made", &error)),
    }
}

/// `None`: there is one.
fn put(new: &Path, path: &Path, token: String) -> io::Result<Option<String>> {
    // One that is there is of a process that died in the middle.
    let _ = std::fs::remove_file(new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(new)?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    match std::fs::hard_link(new, path) {
        Ok(()) => Ok(Some(token)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        // Not every file system has links.
        Err(_) => std::fs::rename(new, path).map(|()| Some(token)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_model::{Memory, load_text};
    use std::os::unix::fs::PermissionsExt;

    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("maitred-token-{}-{test}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Folder(folder)
        }

        fn store(&self) -> PathBuf {
            self.0.join("maitred.db")
        }

        fn document(&self, functions: &str) -> Document {
            let text = format!(
                "listen: 127.0.0.1:0\nstore: {}\nfunctions: {functions}\napis: {{ a: {{ routes: [ {{ match: GET /, respond: {{ status: 200 }} }} ] }} }}",
                self.store().display()
            );
            let loaded = load_text("test.yaml", &text, &Memory::default());
            loaded.document.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const HOSTED: &str = "{ f: { runtime: provided, code: /bin } }";
    const IN_AWS: &str = "{ f: { arn: \"arn:aws:lambda:eu-west-1:123456789012:function:f\" } }";

    #[test]
    fn it_is_made_once_where_functions_are_hosted_and_only_its_owner_may_read_it() {
        let folder = Folder::new("made");
        let [first, second] = [Token::default(), Token::default()];
        assert!(first.settle(&folder.document(IN_AWS)).unwrap().is_none() && first.get().is_none());
        let document = folder.document(HOSTED);
        let file = first.settle(&document).unwrap().unwrap();
        assert_eq!(file, folder.0.join("maitred.db-token"));
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        second.settle(&document).unwrap().unwrap();
        let token = first.get().unwrap().expose();
        assert_eq!((token.len(), second.get().unwrap().expose()), (CHARACTERS, token));
        assert_eq!(read(&folder.store()).unwrap().unwrap().expose(), token);
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "nothing else is left");
        // A configuration that hosts none any more does not open the listener again.
        assert!(first.settle(&folder.document(IN_AWS)).unwrap().is_none() && first.get().is_some());
    }

    #[test]
    fn a_token_of_the_configuration_is_the_only_one() {
        let folder = Folder::new("configured");
        let token = Token::new(Some(Secret::new("s3cret")));
        assert!(token.settle(&folder.document(HOSTED)).unwrap().is_none());
        assert!(!path(&folder.store()).exists() && token.get().unwrap().expose() == "s3cret");
    }

    #[test]
    fn a_file_that_others_may_read_or_that_holds_none_is_refused() {
        let folder = Folder::new("refused");
        let (store, file) = (folder.store(), path(&folder.store()));
        for (text, mode, words) in [
            ("0123456789abcdef0123456789abcdef\n", 0o640, "may be read by others"),
            ("0123456789abcdef0123456789abcdef\n", 0o604, "may be read by others"),
            ("short\n", 0o600, "is none"),
            ("", 0o600, "is none"),
            ("0123456789abcdef 0123456789abcdef\n", 0o600, "is none"),
        ] {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = read(&store).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
            assert!(Token::default().settle(&folder.document(HOSTED)).is_err());
        }
    }
}
