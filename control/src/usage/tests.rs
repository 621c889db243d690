//! A document, a store and counts beside each other.

use super::*;
use crate::store::{Change, Settings};
use maitred_core::Clock;
use maitred_core::identity::Stored;
use maitred_core::quota::SlotKey;
use maitred_model::{Memory, load_text};

const TEXT: &str = "listen: 127.0.0.1:0
plans:
  gold: { quota: 10/day }
  shared: { quota: { limit: 20/month, by: plan } }
  free: {}
consumers:
  alice: { plan: gold }
  carol: { plan: shared }
  dave: {}
  erin: { plan: free }
";

struct Opened {
    document: Document,
    grants: Vec<Arc<Grant>>,
    store: Store,
    stored: Arc<Stored>,
    folder: std::path::PathBuf,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Opened {
    fn new(test: &str, text: &str) -> Opened {
        let folder = std::env::temp_dir().join(format!("maitred-usage-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let loaded = load_text("test", text, &Memory::default());
        let document = loaded.document.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        let stored: Arc<Stored> = Arc::default();
        let grant = |(name, plan): (&String, &maitred_model::Spanned<maitred_model::Plan>)| {
            let quota = plan.terms.quota.as_ref()?;
            let slot = stored.accounts.slot(SlotKey::new(name, None, None, quota));
            Some(Arc::new(Grant { most: quota.limit.get(), slot }))
        };
        let grants = document.plans.iter().filter_map(grant).collect();
        let settings = Settings { plans: document.plans.keys().cloned().collect(), ..Settings::default() };
        let store = Store::open(&folder.join("maitred.db"), settings, stored.clone(), Clock::default()).unwrap();
        Opened { document, grants, store, stored, folder }
    }

    fn usage(&self) -> Usage<'_> {
        Usage {
            document: &self.document,
            grants: &self.grants,
            store: &self.store,
            accounts: &self.stored.accounts,
            now: SystemTime::now(),
            rates: &|_, _| Vec::new(),
            elsewhere: &|_| panic!("nothing is counted elsewhere"),
        }
    }

    fn spend(&self, consumer: &str, grant: usize, units: u64) {
        let (grant, account) = (&self.grants[grant], self.stored.accounts.of(consumer));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        grant.count(&account).meter.spend(grant.slot.calendar.period(now), units, grant.most).unwrap();
    }

    fn add(&self, name: &str, plan: Option<&str>) {
        let plan = plan.map(str::to_owned);
        let add = Change::Add {
            name: name.to_owned(),
            groups: Vec::new(),
            plan,
            identities: Vec::new(),
            with_key: false,
            brought: Vec::new(),
        };
        self.store.change(add).unwrap();
    }
}

fn used(view: &UsageView) -> (String, Option<String>, Vec<u64>) {
    (view.consumer.clone(), view.plan.clone(), view.quotas.iter().map(|quota| quota.used).collect())
}

#[test]
fn whoever_has_a_plan_is_listed_with_what_was_used_of_it() {
    let opened = Opened::new("all", TEXT);
    opened.add("bob", Some("gold"));
    opened.add("frank", None);
    // Hidden by the configuration's.
    opened.add("alice", Some("shared"));
    opened.spend("alice", 0, 3);
    opened.spend("bob", 0, 4);
    opened.spend("carol", 1, 5);
    let told: Vec<_> = opened.usage().all().iter().map(used).collect();
    let one = |name: &str, plan: &str, used: &[u64]| (name.to_owned(), Some(plan.to_owned()), used.to_vec());
    assert_eq!(
        told,
        [one("alice", "gold", &[3]), one("carol", "shared", &[5]), one("erin", "free", &[]), one("bob", "gold", &[4])]
    );
    assert_eq!(used(&opened.usage().one("dave").unwrap()), ("dave".to_owned(), None, Vec::new()));
    let unknown = opened.usage().one("alise").unwrap_err();
    assert_eq!(unknown.to_string(), "there is no consumer `alise`; did you mean `alice`?");
}

#[test]
fn what_is_a_consumers_own_can_be_reset_and_what_others_share_cannot() {
    let opened = Opened::new("reset", TEXT);
    opened.spend("alice", 0, 3);
    assert_eq!(used(&opened.usage().reset("alice").unwrap()).2, [0]);
    assert_eq!(used(&opened.usage().one("alice").unwrap()).2, [0]);
    for (name, words) in [
        ("carol", "the quotas of plan `shared` belong to all its consumers together: they begin anew with their periods"),
        ("dave", "consumer `dave` has no plan, and so no quota"),
        ("erin", "plan `free` has no quota"),
    ] {
        assert_eq!(opened.usage().reset(name).unwrap_err(), NotChanged::Conflict(words.to_owned()));
    }
    assert!(matches!(opened.usage().reset("nobody"), Err(NotChanged::Unknown(_))));
}

#[test]
fn what_gateways_count_together_is_asked_where_it_is_counted_or_told_as_stale() {
    let shared = format!("{TEXT}secret_key: 0123456789abcdef0123456789abcdef\ncounters: redis://127.0.0.1:6379\n");
    let opened = Opened::new("shared", &shared);
    opened.spend("alice", 0, 3);
    let told = |views: &[UsageView]| -> Vec<(u64, bool)> {
        views.iter().flat_map(|view| &view.quotas).map(|quota| (quota.used, quota.is_stale)).collect()
    };
    let silent = |_: &[(&Grant, &str)]| None;
    assert_eq!(told(&Usage { elsewhere: &silent, ..opened.usage() }.all()), [(3, true), (0, true)]);
    let speaking = |asked: &[(&Grant, &str)]| {
        let names: Vec<_> = asked.iter().map(|(grant, name)| (&*grant.slot.key.plan, *name)).collect();
        assert_eq!(names, [("gold", "alice"), ("shared", "carol")], "erin's plan has no quota");
        Some(vec![12, 7])
    };
    assert_eq!(told(&Usage { elsewhere: &speaking, ..opened.usage() }.all()), [(12, false), (7, false)]);
    assert_eq!(told(&[Usage { elsewhere: &silent, ..opened.usage() }.one("alice").unwrap()]), [(12, true)], "heard last");
    let one = |_: &[(&Grant, &str)]| Some(vec![15]);
    let view = Usage { elsewhere: &one, ..opened.usage() }.one("alice").unwrap();
    assert_eq!((view.to_json()["quotas"][0]["used"].clone(), told(&[view])), (15.into(), vec![(15, false)]));
}
