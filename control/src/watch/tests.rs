//! Real files, real events.

use super::testing::folder;
use super::*;
use std::sync::mpsc::channel;

/// A change is seen within this, on the slowest machine.
const SOON: Duration = Duration::from_secs(20);
/// No change is seen within this: a few times what it takes to see one.
const QUIET_FOR: Duration = Duration::from_millis(500);

fn watched(files: &[PathBuf]) -> (Watcher, Receiver<()>) {
    let (sender, receiver) = channel();
    let watcher = watch(files.to_vec(), move || sender.send(()).unwrap()).unwrap();
    (watcher, receiver)
}

#[test]
fn a_written_file_is_a_change_and_a_touched_one_is_not() {
    let folder = folder("written");
    let file = folder.join("a.yaml");
    fs::write(&file, "one").unwrap();
    let (_watcher, changes) = watched(std::slice::from_ref(&file));
    fs::write(&file, "one").unwrap();
    assert!(changes.recv_timeout(QUIET_FOR).is_err());
    fs::write(&file, "two").unwrap();
    changes.recv_timeout(SOON).unwrap();
    assert!(changes.recv_timeout(QUIET_FOR).is_err(), "once");
}

#[test]
fn several_files_written_together_are_one_change() {
    let folder = folder("together");
    let files = [folder.join("a"), folder.join("b"), folder.join("c")];
    let (_watcher, changes) = watched(&files);
    for file in &files {
        fs::write(file, "x").unwrap();
    }
    changes.recv_timeout(SOON).unwrap();
    assert!(changes.recv_timeout(QUIET_FOR).is_err());
}

#[test]
fn an_editor_renames_a_new_file_over_the_old() {
    let folder = folder("editor");
    let file = folder.join("a.yaml");
    fs::write(&file, "one").unwrap();
    let (_watcher, changes) = watched(std::slice::from_ref(&file));
    for text in ["two", "three"] {
        fs::write(folder.join("a.yaml~"), text).unwrap();
        fs::rename(folder.join("a.yaml~"), &file).unwrap();
        changes.recv_timeout(SOON).unwrap();
    }
}

#[test]
fn a_file_may_go_and_come_back_with_its_folder() {
    let folder = folder("come-and-go");
    let file = folder.join("conf/a.yaml");
    let (_watcher, changes) = watched(std::slice::from_ref(&file));
    for _ in 0..2 {
        fs::create_dir(folder.join("conf")).unwrap();
        fs::write(&file, "one").unwrap();
        changes.recv_timeout(SOON).unwrap();
        fs::remove_dir_all(folder.join("conf")).unwrap();
        changes.recv_timeout(SOON).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn kubernetes_swaps_a_link_to_a_folder() {
    use std::os::unix::fs::symlink;
    let mount = folder("configmap");
    let version = |name: &str, text: &str| {
        fs::create_dir(mount.join(name)).unwrap();
        fs::write(mount.join(name).join("a.yaml"), text).unwrap();
    };
    let swap = |name: &str| {
        symlink(name, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    version("..1", "one");
    swap("..1");
    symlink("..data/a.yaml", mount.join("a.yaml")).unwrap();
    let (_watcher, changes) = watched(&[mount.join("a.yaml")]);
    for (name, before, text) in [("..2", "..1", "two"), ("..3", "..2", "three")] {
        version(name, text);
        swap(name);
        fs::remove_dir_all(mount.join(before)).unwrap();
        changes.recv_timeout(SOON).unwrap();
    }
    version("..4", "three");
    swap("..4");
    assert!(changes.recv_timeout(QUIET_FOR).is_err(), "another folder with the same content");
}

#[test]
fn other_files_of_the_folder_are_no_change() {
    let folder = folder("others");
    let file = folder.join("a.yaml");
    fs::write(&file, "one").unwrap();
    let (_watcher, changes) = watched(&[file]);
    fs::write(folder.join("access.log"), "line").unwrap();
    assert!(changes.recv_timeout(QUIET_FOR).is_err());
}

#[test]
fn a_folder_stands_for_the_names_in_it() {
    let folder = folder("names");
    let (_watcher, changes) = watched(std::slice::from_ref(&*folder));
    fs::write(folder.join("b.yaml"), "one").unwrap();
    changes.recv_timeout(SOON).unwrap();
    fs::write(folder.join("b.yaml"), "two").unwrap();
    assert!(changes.recv_timeout(QUIET_FOR).is_err(), "the name is the same");
}

#[test]
fn after_set_the_new_ones_count_and_no_change_of_the_old_is_lost() {
    let folder = folder("set");
    let [a, b, c] = ["a", "b", "c"].map(|name| folder.join(name));
    for file in [&a, &b, &c] {
        fs::write(file, "one").unwrap();
    }
    let (watcher, changes) = watched(&[a.clone(), b.clone()]);
    watcher.set(vec![b.clone(), c.clone()], Vec::new()).unwrap();
    fs::write(&a, "two").unwrap();
    assert!(changes.recv_timeout(QUIET_FOR).is_err(), "a is no longer watched");
    fs::write(&c, "two").unwrap();
    changes.recv_timeout(SOON).unwrap();
    fs::write(&b, "two").unwrap();
    watcher.set(vec![b, c], Vec::new()).unwrap();
    changes.recv_timeout(SOON).unwrap();
}

#[test]
fn a_reload_may_set_the_files_from_within() {
    let folder = folder("within");
    let file = folder.join("a");
    let slot: Arc<Mutex<Option<Watcher>>> = Arc::default();
    let (sender, changes) = channel();
    let (inner, again) = (slot.clone(), file.clone());
    let watcher = watch(vec![file.clone()], move || {
        if let Some(watcher) = &*inner.lock().unwrap() {
            watcher.set(vec![again.clone()], Vec::new()).unwrap();
        }
        sender.send(()).unwrap();
    });
    *slot.lock().unwrap() = Some(watcher.unwrap());
    for text in ["one", "two"] {
        fs::write(&file, text).unwrap();
        changes.recv_timeout(SOON).unwrap();
    }
}

#[test]
fn a_dropped_watcher_is_silent() {
    let folder = folder("dropped");
    let file = folder.join("a");
    let (watcher, changes) = watched(std::slice::from_ref(&file));
    drop(watcher);
    fs::write(&file, "one").unwrap();
    // The other end goes with the thread.
    assert_eq!(changes.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_tree_is_watched_with_all_that_is_in_it_and_will_be() {
    let folder = folder("tree-events");
    let code = folder.join("functions/dessert");
    fs::create_dir_all(code.join("lib")).unwrap();
    fs::write(code.join("lib/sugar.py"), "one").unwrap();
    let (watcher, changes) = watched(&[]);
    watcher.set(Vec::new(), vec![code.clone()]).unwrap();
    fs::write(code.join("lib/sugar.py"), "two!").unwrap();
    changes.recv_timeout(SOON).unwrap();
    fs::create_dir(code.join("new")).unwrap();
    changes.recv_timeout(SOON).unwrap();
    fs::write(code.join("new/menu.py"), "one").unwrap();
    changes.recv_timeout(SOON).unwrap();
    fs::create_dir(code.join("__pycache__")).unwrap();
    fs::write(code.join("__pycache__/dessert.pyc"), "one").unwrap();
    assert!(changes.recv_timeout(QUIET_FOR).is_err(), "noise");
    fs::rename(folder.join("functions"), folder.join("gone")).unwrap();
    changes.recv_timeout(SOON).unwrap();
    fs::rename(folder.join("gone"), folder.join("functions")).unwrap();
    changes.recv_timeout(SOON).unwrap();
}
