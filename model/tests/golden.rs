//! Configurations and what is said about them: each `tests/config/NAME.yaml` against `NAME.expected`. With UPDATE_GOLDEN=1 the expected
//! texts are written anew, to be read before they are committed.

use maitred_model::{Sources, load, render};
use std::io;
use std::path::{Path, PathBuf};

/// The folder of golden files, and a fixed environment.
struct Golden {
    root: PathBuf,
}

impl Sources for Golden {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // The words of the operating system are not ours to fix in a golden file.
        std::fs::read(self.root.join(path)).map_err(|error| io::Error::new(error.kind(), "no such file"))
    }

    fn env(&self, name: &str) -> Option<String> {
        match name {
            "TOKEN" => Some("hunter2-of-the-environment".to_owned()),
            "BRACED" => Some("hunter2-{with}-braces".to_owned()),
            "PORT" => Some("9001".to_owned()),
            "DOMAIN" => Some("shop.example.com".to_owned()),
            _ => None,
        }
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let found = maitred_model::Disk.glob(&self.root.join(pattern))?;
        Ok(found.iter().filter_map(|path| path.strip_prefix(&self.root).ok()).map(Path::to_owned).collect())
    }
}

fn outcome(case: &Path, golden: &Golden) -> String {
    let loaded = load(case, golden);
    let mut text = render(&loaded.diagnostics, &loaded.files, false);
    assert_eq!(loaded.document.is_some(), !loaded.diagnostics.has_errors(), "{case:?}");
    if let Some(document) = &loaded.document {
        text.push_str("ok\n");
        let printed = maitred_model::to_json(document).to_string();
        assert!(!printed.contains("hunter2"), "{case:?} prints a secret: {printed}");
        let debugged = format!("{document:?}");
        let secrets = ["hunter2-of", "PRIVATE KEY"];
        assert!(!secrets.iter().any(|secret| debugged.contains(secret)), "{case:?} prints a secret when debugged");
    }
    let secrets = ["hunter2", "BEGIN EC", "MIG"];
    assert!(!secrets.iter().any(|secret| text.contains(secret)), "{case:?} prints a secret:\n{text}");
    text
}

#[test]
fn every_configuration_gets_the_words_it_should() {
    let golden = Golden { root: Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/config") };
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&golden.root)
        .expect("tests/config is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let name = Path::new(case.file_name().expect("has a name"));
        let text = outcome(name, &golden);
        let expected_path = case.with_extension("expected");
        if update {
            std::fs::write(&expected_path, &text).expect("writable");
        } else if std::fs::read_to_string(&expected_path).unwrap_or_default() != text {
            wrong.push(format!("--- {} ---\n{text}", name.display()));
        }
    }
    assert!(wrong.is_empty(), "these differ from their `.expected`; look, then UPDATE_GOLDEN=1:\n{}", wrong.join("\n"));
}
