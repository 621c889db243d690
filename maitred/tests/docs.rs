//! The documentation runs: every whole file in it loads and compiles, every command shown with its output gives that output, every link
//! leads somewhere, every key and metric is described. Judges no prose.
//!
//! What blocks mean: `yaml` is a whole file, `yaml http3` one that a build with that feature takes, `yaml broken` one that is refused, `yaml fragment` a piece. `console` holds commands behind `$ ` and
//! what they say; they find the last file before them on their page as maitred.yaml. Other blocks are not looked at.
//! With UPDATE_GOLDEN=1 the output is written anew.

use maitred_control::functions::FunctionCounts;
use maitred_control::{ConsumerCounts, Extra, exposition};
use maitred_core::metrics::Metrics;
use maitred_dataplane::{State, compile};
use maitred_model::{Document, FunctionPlace, FunctionRuntime, Memory, load_text, render};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

struct Page {
    path: PathBuf,
    text: String,
}

struct Block {
    line: usize,
    /// What stands behind the fence.
    info: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above")
}

fn read(path: PathBuf) -> Page {
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Page { path, text }
}

/// Every page that is written by hand, and the generated ones that are there.
fn pages() -> Vec<Page> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "GLOSSARY.md", "CHANGELOG.md"].map(|name| root().join(name)).into();
    for folder in ["docs", "docs/adr"] {
        let entries = fs::read_dir(root().join(folder)).expect("the folder of the documentation");
        paths.extend(
            entries.map(|entry| entry.expect("readable").path()).filter(|path| path.extension().is_some_and(|e| e == "md")),
        );
    }
    for folder in ["policies/src", "policies/src/authenticate", "integrations/src"] {
        let entries = fs::read_dir(root().join(folder)).expect("one folder each");
        paths.extend(entries.map(|entry| entry.expect("readable").path().join("README.md")).filter(|path| path.is_file()));
    }
    paths.sort();
    paths.into_iter().map(read).collect()
}

impl Page {
    fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap_or(&self.path).display().to_string()
    }

    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (index, line) in self.text.lines().enumerate() {
            match (line.strip_prefix("```"), open.take()) {
                (Some(_), Some(block)) => blocks.push(block),
                (Some(info), None) => open = Some(Block { line: index + 1, info: info.trim().to_owned(), text: String::new() }),
                (None, Some(mut block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is never closed", self.name());
        blocks
    }

    /// Blocks that are files of their own: names and texts. "```cedar kitchen.cedar" is one.
    fn files(&self) -> Vec<(String, String)> {
        let is_file = |info: &str| ["cedar", "cedarschema", "json"].contains(&info);
        let named = |block: Block| {
            let (language, name) = block.info.split_once(' ')?;
            is_file(language).then(|| (name.to_owned(), block.text.clone()))
        };
        self.blocks().into_iter().filter_map(named).collect()
    }

    /// The text without its blocks.
    fn prose(&self) -> String {
        self.text.split("\n```").step_by(2).collect()
    }
}

/// Long enough for any secret.
const VALUE: &str = "a-value-of-no-fewer-than-thirty-two-bytes";

/// Gives each `${env:}` and `${file:}` in a text a value, and has the certificates of `tests/certs` in the folder `certs`.
fn sources(text: &str) -> Memory {
    let mut memory = Memory::default();
    for (kind, rest) in text.split("${").skip(1).filter_map(|piece| piece.split_once(':')) {
        let Some((name, _)) = rest.split_once('}') else { continue };
        // Each its own: two consumers have no key in common.
        let value = format!("{VALUE}-of-{name}");
        memory = if kind == "env" { memory.var(name, &value) } else { memory.file(name, &*value) };
    }
    memory = memory.file("users.htpasswd", fs::read(root().join("tests/config/parts/users.htpasswd")).expect("readable"));
    for (name, bytes) in certificates() {
        memory = memory.file(Path::new("certs").join(name), bytes);
    }
    memory
}

/// Names and contents of the PEM files that examples may use.
fn certificates() -> Vec<(OsString, Vec<u8>)> {
    let entries =
        fs::read_dir(root().join("tests/certs")).expect("the folder of certificates").map(|entry| entry.expect("readable"));
    let pem = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pem" || extension == "key"));
    pem.map(|entry| (entry.file_name(), fs::read(entry.path()).expect("readable"))).collect()
}

/// Puts code where a file names it for its functions, below `folder`, and leads the document there.
fn put_code(document: &mut Document, folder: &Path) {
    for function in document.functions.values_mut() {
        let FunctionPlace::Hosted(hosted) = &mut function.value.place else { continue };
        for path in std::iter::once(&mut hosted.code).chain(&mut hosted.layers) {
            path.value = folder.join(&path.value);
            fs::create_dir_all(&path.value).expect("a folder of our own");
        }
        let module = hosted.handler.as_ref().and_then(|handler| handler.rsplit_once('.')).map(|(module, _)| module);
        let file = match (hosted.runtime, module) {
            (FunctionRuntime::Python, Some(module)) => format!("{module}.py"),
            (FunctionRuntime::Node, Some(module)) => format!("{module}.mjs"),
            (FunctionRuntime::Provided, _) | (_, None) => "bootstrap".to_owned(),
        };
        let file = hosted.code.join(file);
        fs::write(&file, "").expect("writable");
        fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("executable");
    }
}

#[test]
fn every_file_in_the_documentation_means_what_it_says() {
    let code = std::env::temp_dir().join(format!("maitred-docs-code-{}", std::process::id()));
    let mut whole = 0;
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.info.split(' ').next() == Some("yaml")) {
            let place = format!("{}:{}", page.name(), block.line);
            let beside = page.files().into_iter().fold(sources(&block.text), |memory, (name, text)| memory.file(name, text));
            let loaded = load_text("maitred.yaml", &block.text, &beside);
            let words = render(&loaded.diagnostics, &loaded.files, false);
            match block.info.as_str() {
                "yaml" | "yaml http3" | "yaml cedar" => {
                    assert!(
                        // What a page shows in order to explain it may be worth a warning.
                        loaded.diagnostics.iter().all(|diagnostic| diagnostic.code == "dropped-protection"),
                        "{place}: mark it `yaml fragment` if it is no whole file\n{words}"
                    );
                    let mut document = loaded.document.unwrap_or_else(|| panic!("{place}: no document"));
                    put_code(&mut document, &code);
                    let compiled = compile(Arc::new(document), &State::new(1));
                    // A build without the feature says so, and nothing else.
                    let needed = [("yaml http3", cfg!(feature = "http3")), ("yaml cedar", cfg!(feature = "cedar"))];
                    let fits = needed.iter().all(|(info, is_built)| block.info != *info || *is_built);
                    let words = compiled.err().map(|diagnostics| diagnostics.iter().map(|one| one.code).collect::<Vec<_>>());
                    assert_eq!(words, if fits { None } else { Some(vec!["not-built"]) }, "{place}");
                    whole += 1;
                }
                "yaml broken" => assert!(loaded.document.is_none(), "{place}: nothing is wrong with it"),
                "yaml fragment" => {
                    let syntax = loaded.diagnostics.iter().find(|diagnostic| diagnostic.code.starts_with("yaml"));
                    assert!(syntax.is_none(), "{place}: {words}");
                }
                other => panic!("{place}: `{other}` is no mark that this test knows"),
            }
        }
    }
    let _ = fs::remove_dir_all(&code);
    assert!(whole > 8, "only {whole} files were found");
}

#[test]
fn every_command_with_its_output_gives_that_output() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let folder = std::env::temp_dir().join(format!("maitred-docs-{}", std::process::id()));
    fs::create_dir_all(folder.join("certs")).expect("a folder of our own");
    for (name, bytes) in certificates() {
        fs::write(folder.join("certs").join(name), bytes).expect("writable");
    }
    let mut blocks = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        let mut text = page.text.clone();
        for block in page.blocks() {
            match block.info.as_str() {
                "yaml" | "yaml http3" | "yaml cedar" | "yaml broken" => {
                    fs::write(folder.join("maitred.yaml"), &block.text).expect("writable");
                    if let Some(mut document) = load_text("maitred.yaml", &block.text, &sources(&block.text)).document {
                        put_code(&mut document, &folder);
                    }
                }
                "console" => {
                    blocks += 1;
                    let said = session(&block.text, &folder);
                    if said != block.text {
                        wrong.push(format!("{}:{}: it says now\n{said}", page.name(), block.line));
                        text = text.replace(&format!("```console\n{}```", block.text), &format!("```console\n{said}```"));
                    }
                }
                _ => {}
            }
        }
        if update && text != page.text {
            fs::write(&page.path, text).expect("writable");
        }
    }
    fs::remove_dir_all(&folder).expect("ours to remove");
    assert!(blocks > 3, "only {blocks} blocks were found");
    assert!(update || wrong.is_empty(), "these differ; look, then UPDATE_GOLDEN=1:\n{}", wrong.join("\n"));
}

/// The commands of a block, each with what it says now.
fn session(block: &str, folder: &Path) -> String {
    let commands = block.lines().filter_map(|line| line.strip_prefix("$ "));
    commands.map(|command| format!("$ {command}\n{}\n", run(command, folder).trim_end())).collect()
}

/// What a command writes to both streams, stderr first. Words may be quoted with `'`.
fn run(line: &str, folder: &Path) -> String {
    let words: Vec<String> = line
        .split('\'')
        .enumerate()
        .flat_map(|(index, piece)| match index % 2 {
            0 => piece.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
            _ => vec![piece.to_owned()],
        })
        .collect();
    let ("maitred", arguments) = words.split_first().map_or(("", &[][..]), |(name, rest)| (name, rest)) else {
        panic!("`{line}` is not ours to run: write it in a block of `sh`")
    };
    let output =
        Command::new(env!("CARGO_BIN_EXE_maitred")).args(arguments).current_dir(folder).output().expect("the binary starts");
    String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned()
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        let folder = page.path.parent().expect("a page is in a folder");
        for target in page.prose().split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || file.contains("://");
            assert!(elsewhere || folder.join(file).exists(), "{}: nothing is at {target}", page.name());
        }
    }
}

#[test]
fn every_key_of_the_language_is_described() {
    let page = read(root().join("docs/configuration.md"));
    let mut keys = BTreeSet::new();
    gather(&maitred_model::schema(), &mut keys);
    let missing: Vec<&String> = keys.iter().filter(|key| !page.text.contains(key.as_str())).collect();
    assert!(keys.len() > 40 && missing.is_empty(), "not in docs/configuration.md: {missing:?}");
}

fn gather(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            members.values().for_each(|member| gather(member, keys));
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, keys)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_metric_is_described() {
    let page = read(root().join("docs/metrics.md"));
    let text = exposition(
        &Metrics::new(1),
        &Extra::now(Vec::new(), Vec::new(), ConsumerCounts::default(), vec![FunctionCounts::default()]),
    );
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let missing: Vec<&&str> = names.iter().filter(|name| !page.text.contains(**name)).collect();
    assert!(names.len() > 15 && missing.is_empty(), "not in docs/metrics.md: {missing:?}");
}
