//! Real files in folders of their own. Where time passes, it is the clock that is turned.

mod used;

use super::*;
use maitred_core::Chance;
use maitred_core::identity::Roll;
use rusqlite::Connection;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

/// For another handle to see a change: it looks twice a second.
const PATIENCE: Duration = Duration::from_secs(10);

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("maitred-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("maitred.db")
    }

    fn names(&self) -> Vec<String> {
        std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::set_permissions(&self.0, PermissionsExt::from_mode(0o700));
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A store, and what authorizers see of it.
struct Opened {
    store: Store,
    roll: Roll,
    clock: Clock,
}

fn opened_with(path: &Path, secret_key: Option<&[u8]>) -> Opened {
    let (roll, clock) = (Roll::default(), Clock::default());
    let store = Store::open(
        path,
        Settings { secret_key: secret_key.map(<[u8]>::to_vec), ..Settings::default() },
        roll.stored.clone(),
        clock.clone(),
    )
    .unwrap();
    Opened { store, roll, clock }
}

fn keyed(secret_key: &[u8]) -> Settings {
    Settings { secret_key: Some(secret_key.to_vec()), ..Settings::default() }
}

fn opened(path: &Path) -> Opened {
    opened_with(path, None)
}

impl Opened {
    fn key(&self, change: Change) -> String {
        let (_, key) = self.store.change(change).unwrap().key.unwrap();
        key.expose().to_owned()
    }

    /// Whose key it is, and `!` if that one may not come in.
    fn who(&self, key: &str) -> Option<String> {
        let consumer = self.roll.by_key(key.as_bytes())?;
        Some(format!("{}{}", consumer.name, if consumer.disabled { "!" } else { "" }))
    }

    fn names(&self) -> Vec<String> {
        self.store.consumers().into_iter().map(|consumer| consumer.name).collect()
    }
}

fn add(name: &str) -> Change {
    Change::Add {
        name: name.to_owned(),
        groups: vec!["staff".to_owned()],
        plan: None,
        identities: Vec::new(),
        with_key: true,
        brought: Vec::new(),
    }
}

fn disabled(name: &str, disabled: bool) -> Change {
    Change::Set { name: name.to_owned(), groups: None, plan: None, disabled: Some(disabled) }
}

fn rotate(name: &str, grace: Duration) -> Change {
    Change::RotateKey { name: name.to_owned(), grace }
}

fn named(authorizer: &str, subject: &str) -> Name {
    Name { authorizer: authorizer.to_owned(), subject: subject.to_owned() }
}

#[track_caller]
fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came true");
        std::thread::yield_now();
    }
}

/// Changes a file as another program would.
fn meddle(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn refused(path: &Path) -> String {
    Store::open(path, Settings::default(), Arc::default(), Clock::default()).unwrap_err().to_string()
}

#[test]
fn there_is_no_file_until_there_is_something_to_keep() {
    let folder = Folder::new();
    let opened = opened(&folder.path());
    assert!(opened.names().is_empty());
    for change in [disabled("alice", true), Change::Remove { name: "alice".to_owned() }, rotate("alice", Duration::ZERO)] {
        assert_eq!(opened.store.change(change).unwrap_err(), NotChanged::unknown("alice"));
    }
    assert!(matches!(opened.store.change(add("a b")), Err(NotChanged::Wrong(_))));
    assert!(folder.names().is_empty(), "{:?}", folder.names());
    opened.store.change(add("alice")).unwrap();
    let mode = |name: &str| std::fs::metadata(folder.0.join(name)).unwrap().permissions().mode() & 0o777;
    assert!(folder.names().contains(&"maitred.db".to_owned()));
    for name in folder.names() {
        assert!(!name.contains(".new") && mode(&name) == 0o600, "{name}: {:o}", mode(&name));
    }
    assert_eq!(opened.store.errors(), 0);
}

#[test]
fn a_consumer_comes_in_by_its_key_until_it_is_disabled_or_gone() {
    let folder = Folder::new();
    let opened = opened(&folder.path());
    let key = opened.key(add("alice"));
    assert_eq!(opened.who(&key).as_deref(), Some("alice"));
    let before = opened.roll.generation();
    opened.store.change(disabled("alice", true)).unwrap();
    assert_eq!(opened.who(&key).as_deref(), Some("alice!"));
    assert_ne!(opened.roll.generation(), before, "what workers remember is worth nothing now");
    opened.store.change(disabled("alice", false)).unwrap();
    assert_eq!(opened.who(&key).as_deref(), Some("alice"));
    opened.store.change(Change::Remove { name: "alice".to_owned() }).unwrap();
    assert_eq!((opened.who(&key), opened.names().len()), (None, 0));
    let again = opened.key(add("alice"));
    assert_eq!((opened.who(&again).as_deref(), opened.who(&key)), (Some("alice"), None));
}

#[test]
fn what_was_written_is_there_when_it_is_opened_again() {
    let folder = Folder::new();
    let first = opened(&folder.path());
    let (alice, bob) = (first.key(add("alice")), first.key(add("bob")));
    first.store.change(Change::AddIdentity { name: "bob".to_owned(), identity: named("corporate", "bob@x") }).unwrap();
    first.store.change(disabled("bob", true)).unwrap();
    let before = first.store.consumers();
    drop(first);
    let second = opened(&folder.path());
    assert_eq!(second.store.consumers(), before);
    assert_eq!((second.who(&alice).as_deref(), second.who(&bob).as_deref()), (Some("alice"), Some("bob!")));
    assert_eq!(&*second.roll.by_identity("corporate", "bob@x").unwrap().name, "bob");
    assert_eq!(before[0].groups, ["staff"]);
}

#[test]
fn neither_a_key_nor_its_secret_part_is_kept_and_the_hash_is_not_the_key() {
    let folder = Folder::new();
    let opened = opened(&folder.path());
    let key = opened.key(add("alice"));
    let stored = opened.store.consumer("alice").unwrap().keys.remove(0);
    assert_eq!(key.strip_prefix(&stored.prefix).map(|secret| secret.len()), Some(44));
    assert!(opened.store.is_usable(&stored));
    assert_ne!(&stored.hash[..], &key.as_bytes()[..32]);
    drop(opened);
    let secret = key.rsplit_once('_').unwrap().1;
    for name in folder.names() {
        let bytes = std::fs::read(folder.0.join(&name)).unwrap();
        assert!(!bytes.windows(secret.len() - 8).any(|window| window == &secret.as_bytes()[8..]), "{name}");
    }
}

#[test]
fn the_old_keys_end_at_once_or_when_their_grace_is_over() {
    let folder = Folder::new();
    let opened = opened(&folder.path());
    let first = opened.key(add("alice"));
    let second = opened.key(rotate("alice", Duration::ZERO));
    assert_eq!((opened.who(&first), opened.who(&second).as_deref()), (None, Some("alice")));
    let third = opened.key(rotate("alice", Duration::from_secs(3600)));
    let fourth = opened.key(rotate("alice", Duration::from_secs(7200)));
    for key in [&second, &third, &fourth] {
        assert_eq!(opened.who(key).as_deref(), Some("alice"));
    }
    let before = opened.roll.generation();
    opened.clock.turn(Duration::from_secs(3601));
    eventually(|| opened.who(&second).is_none());
    // Workers forget it too, a moment later.
    eventually(|| opened.roll.generation() != before);
    assert_eq!(opened.who(&third).as_deref(), Some("alice"), "its own hour began later or ends later");
    opened.clock.turn(Duration::from_secs(3601));
    eventually(|| opened.who(&third).is_none());
    assert_eq!(opened.who(&fourth).as_deref(), Some("alice"));
    eventually(|| opened.store.consumer("alice").unwrap().keys.len() == 1);
    assert_eq!(opened.store.consumer("alice").unwrap().keys[0].ends, None);
}

#[test]
fn two_handles_see_what_the_other_writes_from_the_making_of_the_file_on() {
    let folder = Folder::new();
    let (one, two) = (opened(&folder.path()), opened(&folder.path()));
    let alice = one.key(add("alice"));
    eventually(|| two.who(&alice).as_deref() == Some("alice"));
    let bob = two.key(add("bob"));
    eventually(|| one.who(&bob).as_deref() == Some("bob"));
    one.store.change(disabled("bob", true)).unwrap();
    eventually(|| two.who(&bob).as_deref() == Some("bob!"));
    assert!(matches!(two.store.change(add("alice")), Err(NotChanged::Conflict(_))));
    drop(one);
    two.store.change(Change::Remove { name: "alice".to_owned() }).unwrap();
    assert_eq!((two.names(), two.store.errors()), (vec!["bob".to_owned()], 0));
}

#[test]
fn two_handles_may_make_the_file_at_once_and_write_at_once() {
    let folder = Folder::new();
    let handles = [opened(&folder.path()), opened(&folder.path())];
    std::thread::scope(|scope| {
        for (at, handle) in handles.iter().enumerate() {
            for writer in 0..3 {
                scope.spawn(move || {
                    for number in 0..5 {
                        handle.key(add(&format!("c-{at}-{writer}-{number}")));
                    }
                });
            }
        }
    });
    eventually(|| handles.iter().all(|handle| handle.store.count() == 30));
    assert!(!folder.names().iter().any(|name| name.contains(".new")));
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let opened = opened(&folder.path());
    opened.store.change(add("alice")).unwrap();
    let identity = Change::AddIdentity { name: "alice".to_owned(), identity: named("corporate", "a") };
    opened.store.change(identity.clone()).unwrap();
    let conflict = |change: Change| match opened.store.change(change) {
        Err(NotChanged::Conflict(words)) => words,
        other => panic!("{other:?}"),
    };
    assert_eq!(conflict(add("alice")), "there is a consumer `alice` already");
    assert_eq!(conflict(identity), "`corporate` calls consumer `alice` `a` already");
    let half = Change::Add {
        name: "bob".to_owned(),
        groups: Vec::new(),
        plan: None,
        identities: vec![named("corporate", "b"), named("corporate", "a")],
        with_key: true,
        brought: Vec::new(),
    };
    conflict(half);
    assert_eq!(opened.names(), ["alice"], "half of it is none of it");
    assert!(opened.roll.by_identity("corporate", "b").is_none());
    let unknown = |change: Change| matches!(opened.store.change(change), Err(NotChanged::Unknown(_)));
    assert!(unknown(Change::RemoveKey { name: "alice".to_owned(), id: "nothing".to_owned() }));
    assert!(unknown(Change::RemoveIdentity { name: "alice".to_owned(), identity: named("corporate", "b") }));
    assert!(unknown(Change::AddKey { name: "bob".to_owned() }));
    let wrong = |change: Change| matches!(opened.store.change(change), Err(NotChanged::Wrong(_)));
    assert!(wrong(add("")) && wrong(add(&"x".repeat(65))) && wrong(add("a/b")));
    assert!(wrong(Change::Set { name: "alice".to_owned(), groups: Some(vec!["a\nb".to_owned()]), plan: None, disabled: None }));
    assert!(wrong(Change::AddIdentity { name: "alice".to_owned(), identity: named("corporate", "") }));
    assert!(wrong(rotate("alice", Duration::MAX)));
    let keys = (0..30).filter(|_| opened.store.change(Change::AddKey { name: "alice".to_owned() }).is_ok()).count();
    assert_eq!(keys, 19, "20 with the first");
}

#[test]
fn a_key_opens_under_the_secret_that_it_was_made_under() {
    let folder = Folder::new();
    let store = opened(&folder.path());
    let without = store.key(add("without"));
    drop(store);
    let configured = opened_with(&folder.path(), Some(b"one secret key"));
    let with = configured.key(add("with"));
    assert_eq!(configured.who(&without).as_deref(), Some("without"), "the store's own secret is still there");
    let key = configured.store.consumer("with").unwrap().keys.remove(0);
    configured.store.configure(keyed(b"another"));
    eventually(|| configured.who(&with).is_none());
    assert!(!configured.store.is_usable(&key));
    configured.store.configure(keyed(b"one secret key"));
    eventually(|| configured.who(&with).as_deref() == Some("with"));
    assert!(configured.store.is_usable(&key));
}

#[test]
fn what_is_no_store_is_refused_at_the_start_and_left_alone() {
    for (bytes, words) in [
        (
            &b"this is no database at all, but it is long enough for a header of one......................................."[..],
            "not a database",
        ),
        (b"SQLite format 3\0 and then rubbish", "not a database"),
    ] {
        let folder = Folder::new();
        std::fs::write(folder.path(), bytes).unwrap();
        let found = refused(&folder.path());
        assert!(found.contains(words), "{found}");
        assert_eq!(std::fs::read(folder.path()).unwrap(), bytes);
    }
    let folder = Folder::new();
    meddle(&folder.path(), "CREATE TABLE recipes (name TEXT)");
    assert_eq!(refused(&folder.path()), "it is the database of another program");
    std::fs::remove_file(folder.path()).unwrap();
    std::fs::create_dir(folder.path()).unwrap();
    assert!(!refused(&folder.path()).is_empty());
}

#[test]
fn a_damaged_store_is_refused_at_the_start() {
    let folder = Folder::new();
    let first = opened(&folder.path());
    for number in 0..100 {
        first.store.change(add(&format!("c{number}"))).unwrap();
    }
    drop(first);
    let mut bytes = std::fs::read(folder.path()).unwrap();
    let length = bytes.len();
    for byte in &mut bytes[4096..length.min(40_000)] {
        *byte ^= 0x5a;
    }
    std::fs::write(folder.path(), bytes).unwrap();
    let found = refused(&folder.path());
    assert!(found.contains("malformed") || found.contains("damaged"), "{found}");
}

#[test]
fn an_empty_file_becomes_a_store_and_one_of_a_newer_program_does_not() {
    let folder = Folder::new();
    std::fs::write(folder.path(), b"").unwrap();
    let first = opened(&folder.path());
    let alice = first.key(add("alice"));
    // As a newer gateway would at an upgrade.
    meddle(&folder.path(), "PRAGMA user_version = 99");
    assert!(!first.store.is_failing());
    eventually(|| first.store.is_failing() && first.store.errors() > 0);
    assert_eq!(first.who(&alice).as_deref(), Some("alice"), "what was known goes on");
    let failed = first.store.change(add("bob")).unwrap_err();
    assert!(matches!(&failed, NotChanged::Failed(words) if words.contains("newer maitred")), "{failed}");
    drop(first);
    assert!(refused(&folder.path()).starts_with("a newer maitred wrote it (its layout has version 99, this program knows 2)"));
}

#[test]
fn each_step_of_the_layout_is_made_in_one_go_and_only_once() {
    let folder = Folder::new();
    drop(opened(&folder.path()));
    let mut connection = Connection::open(folder.path()).unwrap();
    layout::bring_up(&mut connection).unwrap();
    let secret = layout::secret(&connection).unwrap();
    layout::bring_up(&mut connection).unwrap();
    assert_eq!(layout::secret(&connection).unwrap(), secret);
    layout::still_ours(&connection).unwrap();
    drop(connection);
    meddle(&folder.path(), "DELETE FROM meta");
    assert_eq!(refused(&folder.path()), "it is damaged (its secret is missing)");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_when_something_is_to_be_kept() {
    let folder = Folder::new();
    let missing = folder.0.join("nowhere").join("maitred.db");
    let store = opened(&missing);
    let failed = store.store.change(add("alice")).unwrap_err();
    assert!(matches!(&failed, NotChanged::Failed(words) if words.contains("cannot be written")), "{failed}");
    assert_eq!((store.store.errors(), store.names().len()), (1, 0));
    std::fs::create_dir(folder.0.join("nowhere")).unwrap();
    store.store.change(add("alice")).unwrap();
}

#[test]
fn a_file_that_is_taken_away_takes_nobody_with_it_until_another_is_there() {
    let folder = Folder::new();
    let opened = opened(&folder.path());
    let alice = opened.key(add("alice"));
    let aside = folder.0.join("aside");
    for suffix in ["", "-wal", "-shm"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        let _ = std::fs::rename(name(&folder.path()), name(&aside));
    }
    eventually(|| opened.store.is_failing());
    assert_eq!(opened.who(&alice).as_deref(), Some("alice"));
    let failed = opened.store.change(add("bob")).unwrap_err();
    assert!(matches!(&failed, NotChanged::Failed(words) if words.contains("its file is gone")), "{failed}");
    let other = Folder::new();
    let elsewhere = self::opened(&other.path());
    let carol = elsewhere.key(add("carol"));
    drop(elsewhere);
    std::fs::rename(other.path(), folder.path()).unwrap();
    eventually(|| opened.who(&carol).as_deref() == Some("carol"));
    assert_eq!(opened.who(&alice), None);
    eventually(|| !opened.store.is_failing());
}

#[test]
fn a_file_that_is_written_over_is_noticed_and_not_written_to() {
    for content in
        [&b"something else that is long enough to be looked at: it goes on for a while, and is no database at all"[..], b""]
    {
        let folder = Folder::new();
        let opened = opened(&folder.path());
        let alice = opened.key(add("alice"));
        assert!(!opened.store.is_failing());
        std::fs::write(folder.path(), content).unwrap();
        eventually(|| opened.store.is_failing());
        assert_eq!(opened.who(&alice).as_deref(), Some("alice"));
        let failed = opened.store.change(add("bob")).unwrap_err();
        assert!(matches!(&failed, NotChanged::Failed(words) if words.contains("was overwritten")), "{failed}");
        drop(opened);
        assert_eq!(std::fs::read(folder.path()).unwrap(), content, "it is left to who put it there");
    }
}

#[test]
fn what_is_no_id_of_a_key_is_not_repeated() {
    let folder = Folder::new();
    let opened = opened(&folder.path());
    let key = opened.key(add("alice"));
    let remove = |id: &str| opened.store.change(Change::RemoveKey { name: "alice".to_owned(), id: id.to_owned() });
    let (prefix, secret) = key.rsplit_once('_').unwrap();
    for id in [key.as_str(), prefix, secret, "", "a-b"] {
        let refused = remove(id).unwrap_err();
        let NotChanged::Wrong(words) = &refused else { panic!("{refused}") };
        assert!(words.contains("consumer show alice") && (id.is_empty() || !words.contains(id)), "{words}");
    }
    assert!(matches!(remove("unknown1"), Err(NotChanged::Unknown(_))));
    assert_eq!(opened.who(&key).as_deref(), Some("alice"));
    remove(prefix.strip_prefix("mk_").unwrap()).unwrap();
    assert_eq!(opened.who(&key), None);
}

#[test]
fn a_key_that_ended_while_no_gateway_ran_opens_nothing() {
    let folder = Folder::new();
    let first = opened(&folder.path());
    let old = first.key(add("alice"));
    let new = first.key(rotate("alice", Duration::from_secs(60)));
    drop(first);
    let (roll, clock) = (Roll::default(), Clock::default());
    clock.turn(Duration::from_secs(61));
    let store = Store::open(&folder.path(), Settings::default(), roll.stored.clone(), clock.clone()).unwrap();
    let later = Opened { store, roll, clock };
    assert_eq!((later.who(&old), later.who(&new).as_deref()), (None, Some("alice")));
}

/// What a consumer is, told without a store.
#[derive(Default)]
struct Told {
    disabled: bool,
    keys: Vec<String>,
}

/// Any change, of any of three.
fn any(opened: &Opened, chance: &Chance) -> Change {
    let name = ["alice", "bob", "carol"][chance.below(3)].to_owned();
    match chance.below(7) {
        0 => add(&name),
        1 => Change::Remove { name },
        2 | 3 => disabled(&name, chance.below(2) == 0),
        4 => Change::AddKey { name },
        5 => rotate(&name, Duration::ZERO),
        _ => {
            let first = opened.store.consumer(&name).and_then(|consumer| Some(consumer.keys.first()?.id.clone()));
            Change::RemoveKey { name, id: first.unwrap_or_default() }
        }
    }
}

#[test]
fn whatever_is_done_those_come_in_who_should_and_nobody_else() {
    let folder = Folder::new();
    let mut opened = opened(&folder.path());
    let (mut told, mut made) = (BTreeMap::<String, Told>::new(), Vec::new());
    let chance = Chance::seeded(20_261_122);
    let mut refused = 0;
    for round in 0..300 {
        let change = any(&opened, &chance);
        let name = change.name().to_owned();
        match opened.store.change(change.clone()) {
            Err(_) => refused += 1,
            Ok(Changed { key, warning: _ }) => {
                let one = told.entry(name.clone()).or_default();
                match change {
                    Change::Remove { .. } | Change::RotateKey { .. } => one.keys.clear(),
                    Change::RemoveKey { id, .. } => one.keys.retain(|key| !key.starts_with(&format!("mk_{id}_"))),
                    Change::Set { disabled, .. } => one.disabled = disabled.unwrap(),
                    Change::Add { .. } => one.disabled = false,
                    Change::AddKey { .. } | Change::AddIdentity { .. } | Change::RemoveIdentity { .. } => {}
                }
                let key = key.map(|(_, key)| key.expose().to_owned());
                one.keys.extend(key.clone());
                made.extend(key);
            }
        }
        if round % 50 == 49 {
            drop(opened);
            opened = self::opened(&folder.path());
        }
        for key in &made {
            let owner = told.iter().find(|(_, one)| one.keys.contains(key));
            let wanted = owner.map(|(name, one)| format!("{name}{}", if one.disabled { "!" } else { "" }));
            assert_eq!(opened.who(key), wanted, "after {round} changes");
        }
    }
    assert!(made.len() > 50 && refused > 20 && refused < 200, "{} keys, {refused} refused", made.len());
}
