//! The way to a file through folders and symbolic links: where a change of what the path leads to would show. Watches nothing itself.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// As many as Linux follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// Folders to watch, without symbolic links in their names.
    pub folders: BTreeSet<PathBuf>,
    /// What in them an event has to be about to concern us: the links and files on the way, and the folders themselves.
    wanted: BTreeSet<PathBuf>,
    /// Folders in which everything concerns us.
    whole: BTreeSet<PathBuf>,
}

/// A step of a path.
enum Step {
    Root,
    Up,
    Into(OsString),
}

impl Trail {
    /// Whether an event about this path may be a change of what we follow.
    pub fn leads_over(&self, path: &Path) -> bool {
        self.wanted.contains(path) || path.parent().is_some_and(|folder| self.whole.contains(folder))
    }

    /// Whether this very path is one that we follow, or on the way to one.
    pub fn is_named(&self, path: &Path) -> bool {
        self.wanted.contains(path)
    }

    /// Adds the way to one file. Where it ends early, the place where it would go on is watched.
    pub fn follow(&mut self, path: &Path) {
        // It fails for an empty path and without a working directory.
        let Ok(path) = std::path::absolute(path) else { return };
        let mut at = PathBuf::from("/");
        let mut ahead: VecDeque<Step> = steps(&path);
        let mut links = 0;
        while let Some(step) = ahead.pop_front() {
            let name = match step {
                Step::Root => {
                    at = PathBuf::from("/");
                    continue;
                }
                Step::Up => {
                    at.pop();
                    continue;
                }
                Step::Into(name) => name,
            };
            let next = at.join(name);
            let link = fs::read_link(&next);
            if link.is_ok() || ahead.is_empty() || !next.exists() {
                self.note(&at, &next);
            }
            if let Ok(target) = link {
                links += 1;
                if links > LINKS_MAX {
                    return;
                }
                for step in steps(&target).into_iter().rev() {
                    ahead.push_front(step);
                }
            } else if next.exists() {
                at = next;
            } else {
                return;
            }
        }
        if at.is_dir() {
            self.all_of(&at);
        }
    }

    /// Adds a folder in which everything concerns us.
    pub fn all_of(&mut self, folder: &Path) {
        self.wanted.insert(folder.to_owned());
        self.folders.insert(folder.to_owned());
        self.whole.insert(folder.to_owned());
    }

    fn note(&mut self, folder: &Path, inside: &Path) {
        self.wanted.insert(inside.to_owned());
        self.wanted.insert(folder.to_owned());
        self.folders.insert(folder.to_owned());
    }
}

fn steps(path: &Path) -> VecDeque<Step> {
    path.components()
        .filter_map(|component| match component {
            Component::Prefix(_) | Component::CurDir => None,
            Component::RootDir => Some(Step::Root),
            Component::ParentDir => Some(Step::Up),
            Component::Normal(name) => Some(Step::Into(name.to_owned())),
        })
        .collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::super::testing::folder;
    use super::*;
    use std::os::unix::fs::symlink;

    fn paths(set: &BTreeSet<PathBuf>, root: &Path) -> Vec<String> {
        set.iter().map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect()
    }

    #[test]
    fn every_link_on_the_way_is_watched_where_it_lies() {
        let root = folder("trail-links");
        fs::create_dir_all(root.join("mount/..1")).unwrap();
        fs::write(root.join("mount/..1/a.yaml"), "").unwrap();
        symlink("..1", root.join("mount/..data")).unwrap();
        symlink("..data/a.yaml", root.join("mount/a.yaml")).unwrap();
        let mut trail = Trail::default();
        trail.follow(&root.join("mount/a.yaml"));
        assert_eq!(paths(&trail.folders, &root), ["mount", "mount/..1"]);
        assert_eq!(paths(&trail.wanted, &root), ["mount", "mount/..1", "mount/..1/a.yaml", "mount/..data", "mount/a.yaml"]);
        assert!(!trail.leads_over(&root.join("mount/other")));
    }

    #[test]
    fn a_missing_folder_is_waited_for_where_it_would_be() {
        let root = folder("trail-missing");
        let mut trail = Trail::default();
        trail.follow(&root.join("not/there/a.yaml"));
        assert_eq!(paths(&trail.folders, &root), [""]);
        assert!(trail.leads_over(&root.join("not")));
    }

    #[test]
    fn a_circle_of_links_ends() {
        let root = folder("trail-circle");
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        let mut trail = Trail::default();
        trail.follow(&root.join("a"));
        assert!(trail.leads_over(&root.join("b")));
    }
}
