//! `basic`: a realm, and the users that stand in a file.

use crate::values::Htpasswd;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Name and password (RFC 7617).
#[derive(Debug, Clone)]
pub struct Basic {
    /// Printable ASCII without `"` and `\`.
    pub realm: String,
    pub htpasswd: HtpasswdFile,
}

/// A file of users as it was when the configuration was loaded. `Debug` tells the path only.
#[derive(Clone)]
pub struct HtpasswdFile {
    pub path: PathBuf,
    pub bytes: Arc<[u8]>,
    /// What stands in `bytes`.
    pub users: Arc<Htpasswd>,
}

impl fmt::Debug for HtpasswdFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HtpasswdFile({})", self.path.display())
    }
}
