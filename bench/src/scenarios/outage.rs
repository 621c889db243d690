//! All endpoints of an upstream fail: how many attempts that makes of each request. Retries must not multiply an outage.
//! Attempts are counted by the endpoints; where they refuse connections, by the kernel, for the whole machine: an upper bound.

use std::fs;
use std::io;
use std::time::Duration;

use serde_json::json;

use crate::kitchen::remote::Kitchen;
use crate::kitchen::{Mode, Plan};
use crate::offered::{self, Offer};
use crate::report::{Bar, Row};
use crate::scenarios::Lab;
use crate::scenarios::failing::{ENDPOINTS, RATE, RETRY, SERVICE, SLOTS, setup, urls};
use crate::{sys, written};

pub const NAME: &str = "outage";

/// The budget of retries is what the gateway has by default; the rest is what was under way when counting began.
const BAR: f64 = 1.0 + 0.20 + 0.01;
/// Of the time, when what a budget saved before the outage is used up and counting begins.
const STEADY: f64 = 0.2;
const PROBE: &str = "/retry/ready";
const UPSTREAMS: [(&str, &str); 2] =
    [("retry", ""), ("retry and ejection", "    outlier_detection: { consecutive_failures: 5, eject_for: 1s }\n")];
/// After the endpoints came back, so that no connection and no ejection is left of the run before.
const PAUSE: Duration = Duration::from_secs(3);

pub fn run(lab: &mut Lab) -> io::Result<()> {
    for failure in [Mode::Erring, Mode::Killed] {
        for at in 0..UPSTREAMS.len() {
            one(lab, failure, at)?;
        }
    }
    Ok(())
}

fn one(lab: &mut Lab, failure: Mode, at: usize) -> io::Result<()> {
    let mut kitchen = Kitchen::start(Plan { endpoints: ENDPOINTS, slots: SLOTS, service: SERVICE })?;
    let (name, more) = UPSTREAMS[at];
    let upstream = format!("  kitchen:\n    endpoints: [{}]\n    retry: {{ {RETRY} }}\n{more}", urls(&kitchen, 0));
    let text = written::maitred(2, &upstream, "      - GET /{path+}: kitchen\n");
    let Some(contender) = lab.maitred_written("maitred", text, PROBE) else { return Ok(()) };
    let title = format!("{NAME}: {}, attempts / requests", if failure == Mode::Killed { "all refuse" } else { "all answer 500" });
    let (bar, folder) = (Bar::figure(BAR), lab.folder.join(NAME));
    let Some(proxy) = lab.start_all(NAME, std::slice::from_ref(&contender), &setup(&folder), bar).pop() else { return Ok(()) };
    eprintln!("{title}, {name}");
    let (target, length) = (sys::loopback(proxy.port), lab.options.outage());
    let request = |number: u64| (target, format!("/retry/{number}"));
    // Connections, and the retries that a budget has saved, as after a while of good service.
    offered::beside(&Offer::new(RATE, PAUSE, &request), |_| Ok(()))?;
    (0..ENDPOINTS).try_for_each(|endpoint| kitchen.set(endpoint, failure))?;
    kitchen.reset()?;
    let mut attempts = || match failure {
        Mode::Killed => refused_connections(),
        Mode::Well | Mode::Hung | Mode::Slow | Mode::Erring => Ok(kitchen.counts()?.iter().sum()),
    };
    let before = attempts()?;
    let steady = length.mul_f64(STEADY);
    let (told, first) = offered::beside(&Offer::new(RATE, length, &request), |began| {
        offered::sleep_until(began + steady);
        attempts()
    })?;
    let last = attempts()?;
    let offered = told.samples.len();
    let later = told.samples.iter().filter(|sample| u128::from(sample.due) >= steady.as_nanos()).count();
    let well = told.samples.iter().filter(|sample| sample.good()).count();
    let whole = (last - before) as f64 / offered as f64;
    let note = format!(
        "{name}; {} attempts for {later} requests after the first {:.1} s, {whole:.3} with them; {well} of {offered} answered well",
        last - first,
        steady.as_secs_f64(),
    );
    let raw =
        json!({ "attempts": last - before, "offered": offered, "attempts_later": last - first, "later": later, "good": well });
    lab.report.add_raw(&format!("{title}, {name}"), raw);
    lab.report.add(Row { bar: Some(bar), note, ..Row::new(&title, "maitred", "", &[(last - first) as f64 / later as f64]) });
    Ok(())
}

/// Connections that failed while they were being made, of the whole machine since it started (RFC 4022, tcpAttemptFails).
fn refused_connections() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let at = names.split(' ').position(|name| name == "AttemptFails");
    let value = at.and_then(|at| values.split(' ').nth(at)?.parse().ok());
    value.ok_or_else(|| io::Error::other("no count of failed connections"))
}
