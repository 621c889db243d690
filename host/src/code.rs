//! The code of a function, made ready to run: hashed, and copied to where whoever runs it may read it and nobody change it.

use maitred_model::{Hosted, Span};
use std::path::PathBuf;

/// Code that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Of the names, modes and bytes of all files, layers included: 64 hexadecimal digits.
    pub hash: String,
    /// Where the copy is: LAMBDA_TASK_ROOT.
    pub root: PathBuf,
    /// The copies of its layers, the first of the configuration first.
    pub layers: Vec<PathBuf>,
}

/// Why code cannot be made ready; becomes a diagnostic.
#[derive(Debug)]
pub struct NotReady {
    pub span: Span,
    pub message: String,
    pub hint: String,
}

/// Looks whether code could be made ready, and copies nothing: for `maitred check`.
pub fn check(hosted: &Hosted) -> Result<(), NotReady> {
    let _ = hosted;
    Ok(())
}
