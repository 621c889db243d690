//! Cedar policies that a route asks: texts that were read, and what a request is called there. What the texts say is not known here: not
//! every build has Cedar.

use crate::span::{FileId, Spanned};
use crate::values::{ActionName, EntityTemplate};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

/// `authorize.cedar`: policies that must permit.
#[derive(Debug, Clone)]
pub struct Cedar {
    /// In the order in which they are named; none twice.
    pub policies: Vec<TextFile>,
    pub schema: TextFile,
    /// Entities that are always there.
    pub entities: Option<TextFile>,
    /// The type of whoever makes a request.
    pub principal: Spanned<String>,
    /// `None`: the route's name, or the method.
    pub action: Option<Spanned<ActionName>>,
    /// `None`: `Route::"…"` with the route's name.
    pub resource: Option<Spanned<EntityTemplate>>,
    pub log: DecisionLog,
}

/// Which decisions are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecisionLog {
    Denied,
    All,
    None,
}

impl DecisionLog {
    pub fn as_str(self) -> &'static str {
        match self {
            DecisionLog::Denied => "denied",
            DecisionLog::All => "all",
            DecisionLog::None => "none",
        }
    }
}

/// A file that was read when the configuration was: problems are shown in it.
#[derive(Clone)]
pub struct TextFile {
    pub path: PathBuf,
    pub text: Arc<str>,
    /// In the files of the load.
    pub file: FileId,
}

/// The path, and by a number whether the text is another: who compares two documents wants to know.
impl fmt::Debug for TextFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hasher = DefaultHasher::new();
        self.text.hash(&mut hasher);
        write!(f, "TextFile({}, {:016x})", self.path.display(), hasher.finish())
    }
}
