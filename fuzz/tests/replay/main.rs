//! Replays the corpus through every target, then makes inputs from it for `FUZZ_SECONDS` seconds in all (60 by default; 0 makes none).
//! `FUZZ_TARGET` picks one target, `FUZZ_SEED` another sequence of inputs, and `FUZZ_INPUT` runs one file and nothing else.

mod mutate;
mod watch;

use maitred_fuzz::{TARGETS, Target};
use mutate::Mutator;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use watch::Watch;

const SECONDS: u64 = 60;
/// The same inputs in the same order, so that a run says something about a change and not about luck. `./test --long` takes others.
const SEED: u64 = 0x6d61_6974_7265_6421;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn targets() -> Vec<Target> {
    let only = std::env::var("FUZZ_TARGET").ok();
    let targets: Vec<Target> = TARGETS.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)).collect();
    assert!(!targets.is_empty(), "FUZZ_TARGET names no target: {only:?}");
    targets
}

/// Files by name, so that the order is the same everywhere.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = folder("corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("readable"))).collect()
}

#[test]
fn one_input_when_it_is_named() {
    let Some(input) = std::env::var_os("FUZZ_INPUT") else { return };
    // Cargo runs tests in the package's folder; paths are mostly written from the root.
    let path =
        [PathBuf::from(&input), folder("..").join(&input)].into_iter().find(|path| path.exists()).expect("FUZZ_INPUT is a file");
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET says which target FUZZ_INPUT is for");
    for (target, run) in targets() {
        println!("{target}: {}", path.display());
        assert_eq!(target, name);
        run(&std::fs::read(&path).expect("readable"));
    }
}

#[test]
fn the_corpus_holds() {
    if std::env::var_os("FUZZ_INPUT").is_some() {
        return;
    }
    let mut complaints = Vec::new();
    for (target, run) in targets() {
        let files = corpus(target);
        assert!(files.len() >= 10, "{target} has {} seeds", files.len());
        for (path, data) in files {
            if std::panic::catch_unwind(|| run(&data)).is_err() {
                complaints.push(again(target, &path));
            }
        }
    }
    assert!(complaints.is_empty(), "these seeds do not hold; each alone:\n{}", complaints.join("\n"));
}

fn again(target: &str, path: &Path) -> String {
    let shown = path.strip_prefix(folder("")).unwrap_or(path);
    format!("  FUZZ_TARGET={target} FUZZ_INPUT=fuzz/{} cargo test -p maitred-fuzz --test replay", shown.display())
}

#[test]
fn inputs_made_from_the_corpus_hold() {
    let seconds = number("FUZZ_SECONDS", SECONDS);
    if seconds == 0 || std::env::var_os("FUZZ_INPUT").is_some() {
        return;
    }
    let targets = targets();
    let share = Duration::from_secs(seconds) / targets.len() as u32;
    let seed = number("FUZZ_SEED", SEED);
    println!("{} for each of {} targets, FUZZ_SEED={seed}", human(share), targets.len());
    let complaints: Vec<String> = targets.into_iter().filter_map(|target| mutate_for(target, share, seed)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn human(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// What went wrong, if anything did; the input is in fuzz/crashes then.
fn mutate_for((name, run): Target, share: Duration, seed: u64) -> Option<String> {
    let seeds: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, data)| data).collect();
    let mut mutator = Mutator::new(seed, seeds);
    let crashes = folder("crashes");
    let watch = Watch::start(name, &crashes);
    let began = Instant::now();
    let mut count = 0u64;
    while began.elapsed() < share {
        let input = mutator.next();
        watch.running(&input);
        if std::panic::catch_unwind(|| run(&input)).is_err() {
            let smallest = shrink(run, input);
            let path = watch.keep(&smallest);
            return Some(format!(
                "{name} fails, after {count} inputs, for\n  \"{}\"\n{}",
                smallest.escape_ascii(),
                again(name, &path)
            ));
        }
        count += 1;
    }
    println!("{name:14} {count:8} inputs in {}", human(began.elapsed()));
    None
}

/// Takes pieces away as long as it still fails: what is left is what matters.
fn shrink(run: fn(&[u8]), mut input: Vec<u8>) -> Vec<u8> {
    const TRIES_MAX: usize = 4000;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut tries = 0;
    let mut size = input.len().next_power_of_two();
    while size > 0 {
        let mut at = 0;
        while at < input.len() && tries < TRIES_MAX {
            let mut less = input.clone();
            less.drain(at..(at + size).min(input.len()));
            tries += 1;
            if std::panic::catch_unwind(|| run(&less)).is_err() {
                input = less;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    std::panic::set_hook(hook);
    input
}
