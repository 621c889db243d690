//! A document and a store beside each other.

use super::*;
use crate::store::Settings;
use maitred_core::Clock;
use maitred_model::{Memory, load_text};
use std::path::PathBuf;
use std::sync::Arc;

const TEXT: &str = "listen: 127.0.0.1:0
authorizers: { keys: { api_key: {} }, corporate: { api_key: { name: x-other } } }
consumers:
  alice: { groups: [staff], api_keys: [one, two], identities: [{ authorizer: corporate, subject: a }] }
";

fn document(text: &str) -> Document {
    load_text("test", text, &Memory::default()).document.expect("it loads")
}

struct Opened(Store, PathBuf);

fn store(test: &str) -> Opened {
    let folder = std::env::temp_dir().join(format!("maitred-consumers-{}-{test}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let store = Store::open(&folder.join("maitred.db"), Settings::default(), Arc::default(), Clock::default()).unwrap();
    Opened(store, folder)
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.1);
    }
}

fn add(name: &str, identities: &[(&str, &str)]) -> Change {
    let identity =
        |(authorizer, subject): &(&str, &str)| Name { authorizer: (*authorizer).to_owned(), subject: (*subject).to_owned() };
    Change::Add {
        name: name.to_owned(),
        groups: Vec::new(),
        plan: None,
        identities: identities.iter().map(identity).collect(),
        with_key: true,
        brought: Vec::new(),
    }
}

fn disable(name: &str) -> Change {
    Change::Set { name: name.to_owned(), groups: None, plan: None, disabled: Some(true) }
}

#[test]
fn what_the_configuration_has_is_listed_and_changed_there_alone() {
    let (document, opened) = (document(TEXT), store("file"));
    let refused = |words: Change| change(&document, &opened.0, words).unwrap_err();
    let there = NotChanged::Conflict("consumer `alice` stands in the configuration: change it there".to_owned());
    assert_eq!(refused(add("alice", &[])), there);
    assert_eq!(refused(disable("alice")), there);
    assert_eq!(refused(Change::Remove { name: "alice".to_owned() }), there);
    let taken = "`corporate` calls consumer `alice` `a`, and that one stands in the configuration";
    assert_eq!(refused(add("bob", &[("corporate", "a")])), NotChanged::Conflict(taken.to_owned()));
    let nobody = "there is no authorizer `corporat`; did you mean `corporate`?";
    assert_eq!(refused(add("bob", &[("corporat", "b")])), NotChanged::Wrong(nobody.to_owned()));
    let unknown = "there is no consumer `alic`; did you mean `alice`?";
    assert_eq!(refused(disable("alic")), NotChanged::Unknown(unknown.to_owned()));
    change(&document, &opened.0, add("bob", &[("corporate", "b")])).unwrap();
    let listed = all(&document, &opened.0);
    let short: Vec<_> = listed.iter().map(|view| (view.name.as_str(), view.source, view.keys.len(), view.hidden)).collect();
    assert_eq!(short, [("alice", Source::File, 2, false), ("bob", Source::Store, 1, false)]);
    assert_eq!(one(&document, &opened.0, "alice").unwrap(), listed[0]);
    assert_eq!(one(&document, &opened.0, "bob").unwrap(), listed[1]);
    assert_eq!(ConsumerCounts::of(&document, &opened.0), ConsumerCounts { file: 1, store: 1, store_errors: 0 });
    let told = listed.iter().map(ConsumerView::to_json).collect::<Value>().to_string();
    assert!(!told.contains("one") && !told.contains("two"), "no key is told: {told}");
}

#[test]
fn one_that_the_configuration_has_later_is_hidden_and_may_be_removed() {
    let (before, after, opened) = (document("listen: 127.0.0.1:0\n"), document(TEXT), store("hidden"));
    change(&before, &opened.0, add("alice", &[])).unwrap();
    assert!(!one(&before, &opened.0, "alice").unwrap().hidden);
    let listed = all(&after, &opened.0);
    assert_eq!(
        listed.iter().map(|view| (view.source, view.hidden)).collect::<Vec<_>>(),
        [(Source::File, false), (Source::Store, true)]
    );
    assert!(matches!(change(&after, &opened.0, disable("alice")), Err(NotChanged::Conflict(_))));
    change(&after, &opened.0, Change::Remove { name: "alice".to_owned() }).unwrap();
    assert_eq!(all(&after, &opened.0).len(), 1);
}

#[test]
fn a_plan_is_one_that_there_is_and_stays_while_somebody_has_it() {
    let with = document(&format!("{TEXT}plans: {{ gold: {{ priority: 1 }}, silver: {{}} }}\n"));
    let (without, opened) = (document(TEXT), store("plans"));
    let set = |plan: Option<&str>| Change::Set {
        name: "bob".to_owned(),
        groups: None,
        plan: Some(plan.map(str::to_owned)),
        disabled: None,
    };
    opened.0.configure(Settings { plans: ["gold".to_owned()].into(), ..Settings::default() });
    change(&with, &opened.0, add("bob", &[])).unwrap();
    let refused = |document: &Document, plan| change(document, &opened.0, set(Some(plan))).unwrap_err();
    let wrong = |words: &str| NotChanged::Wrong(words.to_owned());
    assert_eq!(refused(&with, "glod"), wrong("there is no plan `glod`; did you mean `gold`?"));
    assert_eq!(refused(&without, "gold"), wrong("there is no plan `gold`; the configuration has none"));
    assert_eq!(lost_plans(&without, &opened.0), None);
    change(&with, &opened.0, set(Some("gold"))).unwrap();
    let bob = one(&with, &opened.0, "bob").unwrap();
    assert_eq!((bob.plan.as_deref(), bob.planless), (Some("gold"), false));
    assert!(one(&without, &opened.0, "bob").unwrap().planless);
    assert_eq!(lost_plans(&with, &opened.0), None);
    let lost = lost_plans(&without, &opened.0).unwrap();
    assert!(lost.starts_with("plan `gold` is gone, and consumers in the store have it: bob; give them another"), "{lost}");
    change(&with, &opened.0, disable("bob")).unwrap();
    assert_eq!(lost_plans(&without, &opened.0), None, "who does not come in loses nothing");
    change(&with, &opened.0, set(None)).unwrap();
    assert_eq!(lost_plans(&without, &opened.0), None);
}

#[test]
fn who_makes_a_key_that_nobody_asks_for_is_told() {
    let open = "listen: 127.0.0.1:0
authorizers: { keys: { api_key: {} }, people: { jwt: { issuer: \"https://id.example.com/\" } } }
apis: { all: { policies: { authenticate: [people] }, routes: [ { match: GET /, respond: { status: 200 } } ] } }
";
    let asked = open.replace("routes: [ {", "routes: [ { authenticate: [people, keys],");
    let dropped =
        open.replace("authenticate: [people]", "authenticate: [keys]").replace("routes: [ {", "routes: [ { authenticate: none,");
    for (number, (text, is_told)) in [(open, true), (asked.as_str(), false), (dropped.as_str(), true)].into_iter().enumerate() {
        let (document, opened) = (document(text), store(&format!("unasked-{number}")));
        let rotate = Change::RotateKey { name: "bob".to_owned(), grace: std::time::Duration::ZERO };
        for words in [add("bob", &[]), Change::AddKey { name: "bob".to_owned() }, rotate] {
            assert_eq!(change(&document, &opened.0, words).unwrap().warning.is_some(), is_told, "{text}");
        }
        assert_eq!(change(&document, &opened.0, disable("bob")).unwrap().warning, None);
    }
}
