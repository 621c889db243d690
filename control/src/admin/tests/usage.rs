//! What was used is read by whoever may read, and reset by whoever may write.

use super::*;
use crate::store::Past;
use crate::usage::{Details, QuotaView};
use maitred_core::limit_table::Verdict;
use maitred_core::limits::series::{LimitName, RateLeft};
use maitred_core::quota::{Accounts, Grant, SlotKey};
use maitred_model::{Period, QuotaBy, WeekStart};

pub(super) fn alice() -> UsageView {
    let key = SlotKey {
        plan: "gold".into(),
        api: Some("shop".into()),
        route: None,
        by: QuotaBy::Consumer,
        per: Period::Day,
        time_zone: "Europe/Paris".to_owned(),
        week_starts: WeekStart::Monday,
    };
    let grant = Arc::new(Grant { most: 10, slot: Accounts::default().slot(key) });
    let period = grant.slot.calendar.period(1_795_375_800);
    let (start, end) = (86_400_000, 172_800_000);
    let past = Past { plan: "silver".to_owned(), api: None, route: None, start, end, used: 3 };
    let name = LimitName { api: "shop".into(), route: "".into(), limit: "plan:gold".into() };
    let verdict = Verdict { allowed: true, retry_nanos: 0, remaining: 7, full_nanos: 1_500_000_000 };
    let rate = RateLeft { name, burst: 10, verdict };
    UsageView {
        consumer: "alice".to_owned(),
        plan: Some("gold".to_owned()),
        quotas: vec![QuotaView { grant, used: 4, period, is_shared: false, is_stale: false }],
        details: Some(Details { rates: vec![rate], past: vec![past] }),
    }
}

#[tokio::test]
async fn what_was_used_is_told_and_reset_by_a_write() {
    let fake: Arc<Fake> = Arc::default();
    let admin = start(None, fake.clone()).await;
    let shown = ask(&admin, "GET /usage/alice", "").await;
    assert_eq!(
        shown.json(),
        json!({
            "consumer": "alice",
            "plan": "gold",
            "quotas": [{
                "api": "shop",
                "route": null,
                "by": "consumer",
                "limit": 10,
                "used": 4,
                "left": 6,
                "per": "day",
                "time_zone": "Europe/Paris",
                "began": "2026-11-21T23:00:00.000Z",
                "resets_at": "2026-11-22T23:00:00.000Z",
                "shared": false,
                "stale": false,
            }],
            "rate_limits": [{
                "limit": "plan:gold",
                "api": "shop",
                "route": null,
                "burst": 10,
                "left": 7,
                "full_in_seconds": 2,
            }],
            "past": [{
                "plan": "silver",
                "api": null,
                "route": null,
                "began": "1970-01-02T00:00:00.000Z",
                "ended": "1970-01-03T00:00:00.000Z",
                "used": 3,
            }],
        })
    );
    assert_eq!(ask(&admin, "GET /usage", "").await.json(), json!([shown.json()]), "the fake has details for all");
    assert_eq!(ask(&admin, "GET /usage/bob", "").await.status, 404);
    assert_eq!(ask(&admin, "GET /usage/alice/reset", "").await.status, 405);
    assert_eq!(ask(&admin, "POST /usage/alice/reset", "").await.status, 403, "a write is marked");
    assert!(fake.resets.lock().unwrap().is_empty());
    assert_eq!(ask(&admin, "POST /usage/alice/reset", "X-Maitred: 1\r\n").await.status, 200);
    assert_eq!(*fake.resets.lock().unwrap(), ["alice"]);
}
