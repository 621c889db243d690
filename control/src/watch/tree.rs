//! A folder with all that is in it, such as the code of a function: which folders are to be watched, and what they held, as a number. Goes
//! by names, sizes and times and reads no file: there may be thousands. Follows no link.

use super::trail::Trail;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Folders of one tree that are watched, those nearest to its root first. Each costs the system a watch, of which a user has 8192 on older
/// ones; what lies deeper in a larger tree goes unseen.
const FOLDERS_MAX: usize = 1024;
/// Entries of one tree that are looked at, a hundred thousand stats being what a look may cost.
const ENTRIES_MAX: usize = 100_000;

/// What tools write beside code, and no code is; and the folder in which the gateway has copies of it.
const NOISE: [&str; 11] = [
    "__pycache__",
    ".cache",
    ".git",
    ".hg",
    ".idea",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".svn",
    ".vscode",
    "maitred-functions",
];
/// What compilers, editors and finders leave: endings of names.
const NOISY_ENDINGS: [&str; 6] = [".pyc", ".pyo", ".swp", ".swx", "~", ".DS_Store"];
/// Folders of packages, where each package is seen but nothing in it: who installs another version changes `.package-lock.json` there.
const PACKAGES: &str = "node_modules";

/// Whether a change of something of that name is none of the code.
pub fn is_noise(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    // vim tries whether it may write with a file of that name.
    NOISE.contains(&&*name)
        || NOISY_ENDINGS.iter().any(|ending| name.ends_with(ending))
        || name == "4913"
        || name.starts_with(".#")
}

/// What a tree holds. `None`: there is nothing there.
pub fn fingerprint(root: &Path) -> Option<u64> {
    fingerprint_without(root, &own_outputs())
}

fn fingerprint_without(root: &Path, outputs: &[FileId]) -> Option<u64> {
    let kind = fs::metadata(root).ok()?;
    let mut hasher = DefaultHasher::new();
    feel(&kind, &mut hasher);
    walk(root, outputs, |entry| entry.hash(&mut hasher), |_| {});
    Some(hasher.finish())
}

/// Device and number.
type FileId = (u64, u64);

fn id(kind: &Metadata) -> FileId {
    (kind.dev(), kind.ino())
}

/// Where this process writes. Should it be led into a file among the code, each line would say that the code has changed, and each
/// change is a line.
fn own_outputs() -> Vec<FileId> {
    ["/dev/stdout", "/dev/stderr"].iter().filter_map(|path| fs::metadata(path).ok()).map(|kind| id(&kind)).collect()
}

/// Adds the folders of a tree to what is watched, and the way to its root.
pub fn follow(root: &Path, trail: &mut Trail) {
    trail.follow(root);
    let Ok(root) = root.canonicalize() else { return };
    walk(&root, &[], |_| {}, |folder| trail.all_of(folder));
}

/// Breadth first, so that what is left out is what lies deepest. `held`: a number for each entry, in the order of the names.
fn walk(root: &Path, outputs: &[FileId], mut held: impl FnMut(u64), mut inside: impl FnMut(&Path)) {
    let mut folders: std::collections::VecDeque<PathBuf> = [root.to_owned()].into();
    let (mut known, mut entries) = (1, 0);
    while let Some(folder) = folders.pop_front() {
        let Ok(list) = fs::read_dir(&folder) else { continue };
        inside(&folder);
        let mut names: Vec<_> = list.flatten().map(|entry| entry.file_name()).filter(|name| !is_noise(name)).collect();
        names.sort_unstable();
        let are_packages = folder.file_name().is_some_and(|name| name == PACKAGES);
        for name in names {
            entries += 1;
            if entries > ENTRIES_MAX {
                return;
            }
            let path = folder.join(&name);
            let Ok(kind) = fs::symlink_metadata(&path) else { continue };
            if outputs.contains(&id(&kind)) {
                continue;
            }
            let mut hasher = DefaultHasher::new();
            path.strip_prefix(root).unwrap_or(&path).hash(&mut hasher);
            // The time of a folder moves with the noise in it.
            kind.mode().hash(&mut hasher);
            if !kind.is_dir() {
                feel(&kind, &mut hasher);
            } else if known < FOLDERS_MAX && !are_packages {
                known += 1;
                folders.push_back(path);
            }
            held(hasher.finish());
        }
    }
}

fn feel(kind: &Metadata, hasher: &mut DefaultHasher) {
    if !kind.is_dir() {
        (kind.size(), kind.mtime(), kind.mtime_nsec(), kind.ino()).hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::folder;
    use super::*;

    #[test]
    fn what_the_gateway_itself_writes_is_no_change() {
        let root = folder("tree-output");
        for name in ["app.py", "log"] {
            fs::write(root.join(name), "one").unwrap();
        }
        let outputs = [id(&fs::metadata(root.join("log")).unwrap())];
        let held = || fingerprint_without(&root, &outputs).unwrap();
        let before = held();
        fs::write(root.join("log"), "one and two").unwrap();
        assert_eq!(held(), before);
        fs::write(root.join("app.py"), "one and two").unwrap();
        assert_ne!(held(), before);
    }

    #[test]
    fn what_a_tree_holds_changes_with_its_code_and_not_with_noise() {
        let root = folder("tree");
        let held = || fingerprint(&root).unwrap();
        for (path, text, is_change) in [
            ("app.py", "one", true),
            ("app.py", "two!", true),
            ("__pycache__/app.pyc", "x", false),
            ("app.pyc", "x", false),
            (".git/HEAD", "x", false),
            (".app.py.swp", "x", false),
            ("app.py~", "x", false),
            ("4913", "", false),
            ("lib/deep/in/it.py", "one", true),
            ("lib/deep/in/it.py", "one more", true),
            ("node_modules/left-pad/index.js", "x", true),
            ("node_modules/left-pad/index.js", "xx", false),
            ("node_modules/.package-lock.json", "{}", true),
            (".env", "A=1", true),
        ] {
            let before = held();
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
            assert_eq!(held() != before, is_change, "{path}: {text}");
        }
        let before = held();
        fs::remove_file(root.join("app.py")).unwrap();
        assert_ne!(held(), before);
        assert_eq!(fingerprint(&root.join("nowhere")), None);
    }

    #[test]
    fn an_executable_may_stand_alone() {
        let root = folder("tree-file");
        let file = root.join("bootstrap");
        fs::write(&file, "one").unwrap();
        let before = fingerprint(&file);
        fs::write(root.join("other"), "one").unwrap();
        assert_eq!(fingerprint(&file), before);
        fs::write(&file, "another").unwrap();
        assert_ne!(fingerprint(&file), before);
    }

    #[test]
    fn a_tree_of_thousands_is_watched_near_its_root() {
        let root = folder("tree-large");
        for at in 0..FOLDERS_MAX + 50 {
            fs::create_dir_all(root.join(format!("{at:04}/deep"))).unwrap();
        }
        let mut trail = Trail::default();
        follow(&root, &mut trail);
        // And the folder that the root is in.
        assert_eq!(trail.folders.len(), FOLDERS_MAX + 1);
        assert!(trail.leads_over(&root.join("0001/app.py")) && !trail.leads_over(&root.join("0001/deep/app.py")));
    }
}
