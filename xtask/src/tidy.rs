//! Runs every check and prints what they found. The rules are in the other files; here is only what they share.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::{Command, ExitCode};

/// What the checks found.
#[derive(Default)]
pub struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    /// `place`: `file:line`, a file, or a package. `what` is wrong; `remedy` is what to do about it.
    pub fn error(&mut self, place: impl std::fmt::Display, what: &str, remedy: &str) {
        self.errors.push(format!("{place}: {what}\n    {remedy}"));
    }

    pub fn warning(&mut self, place: impl std::fmt::Display, what: &str, remedy: &str) {
        self.warnings.push(format!("{place}: {what}\n    {remedy}"));
    }
}

/// The repository as git has it: tracked files and those about to be, not what lies around ignored.
pub struct Tree<'a> {
    pub root: &'a Path,
    /// Relative to the root, with `/`.
    pub files: Vec<String>,
}

impl<'a> Tree<'a> {
    pub fn read(root: &'a Path) -> Result<Tree<'a>> {
        let list = output(root, "git", &["ls-files", "--cached", "--others", "--exclude-standard", "-z"])?;
        let mut files: Vec<String> = list.split('\0').filter(|file| !file.is_empty()).map(str::to_owned).collect();
        // A file that is deleted and not yet committed is still listed.
        files.retain(|file| root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(Tree { root, files })
    }

    pub fn with_extension(&self, extension: &str) -> impl Iterator<Item = &str> {
        let dotted = format!(".{extension}");
        self.files.iter().map(String::as_str).filter(move |file| file.ends_with(&dotted))
    }

    /// `None` for a file that is no text.
    pub fn text(&self, file: &str) -> Option<String> {
        let bytes = std::fs::read(self.root.join(file)).ok()?;
        if bytes.contains(&0) { None } else { String::from_utf8(bytes).ok() }
    }
}

pub fn output(root: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(arguments).current_dir(root).output().with_context(|| format!("{program} does not run"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {} failed:\n{complaint}", arguments.join(" "));
    String::from_utf8(output.stdout).with_context(|| format!("{program} wrote what is no text"))
}

pub fn run(root: &Path) -> Result<ExitCode> {
    let tree = Tree::read(root)?;
    let mut findings = Findings::default();
    crate::floors::check(root, &mut findings)?;
    crate::graph::check(root, &mut findings)?;
    crate::sources::check(&tree, &mut findings)?;
    crate::texts::check(&tree, &mut findings)?;
    crate::docs::check(root, &mut findings);
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for error in &findings.errors {
        println!("error: {error}");
    }
    if findings.errors.is_empty() {
        println!("tidy: {} files, {} warnings", tree.files.len(), findings.warnings.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("tidy: {} errors, {} warnings", findings.errors.len(), findings.warnings.len());
    Ok(ExitCode::FAILURE)
}
