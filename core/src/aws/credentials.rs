//! The keys that requests to AWS are signed with, and the cell in which workers find those of the moment. They are found and put there by the
//! control side; nothing here touches the network, and nothing prints a secret.

use super::sigv4::SecretKey;
use crate::identity::keys::{Asking, Bell};
use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Characters of an access key id, a secret or a token. A session token has a thousand or two.
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Farther off is no clock.
const SKEW_SECONDS_MAX: i64 = 24 * 3600;

/// One set of keys.
#[derive(Debug)]
pub struct Credentials {
    pub key_id: Box<str>,
    pub secret: SecretKey,
    /// Of keys that do not last.
    pub token: Option<Box<str>>,
    /// Since 1970; `None`: they last.
    pub expires: Option<Duration>,
}

impl Credentials {
    /// `Err` says what is wrong with them.
    pub fn new(key_id: &str, secret: &str, token: Option<&str>, expires: Option<Duration>) -> Result<Credentials, String> {
        let is_header = |text: &str| text.len() <= TEXT_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        if key_id.is_empty() || !is_header(key_id) || key_id.contains(['/', ',']) {
            return Err("the access key id is none".to_owned());
        }
        if secret.is_empty() || secret.len() > TEXT_BYTES_MAX {
            return Err("the secret access key is empty or too long".to_owned());
        }
        let token = token.filter(|token| !token.is_empty());
        if token.is_some_and(|token| !is_header(token)) {
            return Err("the session token is none".to_owned());
        }
        Ok(Credentials { key_id: key_id.into(), secret: SecretKey::new(secret), token: token.map(Box::from), expires })
    }

    /// As containers, EC2 and programs say them: `AccessKeyId`, `SecretAccessKey`, `Token` or `SessionToken`, `Expiration`.
    pub fn from_json(text: &[u8]) -> Result<Credentials, String> {
        let object: Map<String, Value> = serde_json::from_slice(text).map_err(|_| "the answer is no JSON object".to_owned())?;
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let lacking = |name: &str| format!("the answer has no `{name}`");
        let key_id = text("AccessKeyId").ok_or_else(|| lacking("AccessKeyId"))?;
        let secret = text("SecretAccessKey").ok_or_else(|| lacking("SecretAccessKey"))?;
        let expires = text("Expiration").map(moment).transpose()?;
        Credentials::new(key_id, secret, text("SessionToken").or(text("Token")), expires)
    }

    /// Whether AWS takes them at that moment, since 1970.
    pub fn are_good_at(&self, now: Duration) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// A moment as AWS writes it, since 1970: `2026-11-22T23:30:00Z`.
pub fn moment(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{}` is no time", text.escape_debug());
    let timestamp: Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(timestamp.as_second()).map(Duration::from_secs).map_err(|_| wrong())
}

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CredentialSource {
    /// Of the shared files; `None`: as the environment says.
    pub profile: Option<Box<str>>,
    /// The first part of ARNs: `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: Box<str>,
    /// Of the functions: where roles are asked for, unless something else is configured.
    pub region: Box<str>,
}

/// The keys of one source, for as long as anyone wants them.
#[derive(Debug)]
pub struct CredentialCell {
    source: CredentialSource,
    found: ArcSwapOption<Credentials>,
    /// Why there are none.
    lacking: ArcSwapOption<String>,
    asking: Asking,
    /// What AWS's clock is ahead of ours, in seconds, as it said.
    skew: AtomicI64,
}

impl CredentialCell {
    /// Empty until somebody finds them.
    pub fn new(source: CredentialSource, now: Instant) -> CredentialCell {
        CredentialCell {
            source,
            found: ArcSwapOption::empty(),
            lacking: ArcSwapOption::empty(),
            asking: Asking::new(now),
            skew: AtomicI64::new(0),
        }
    }

    pub fn source(&self) -> &CredentialSource {
        &self.source
    }

    pub fn load(&self) -> Option<Arc<Credentials>> {
        self.found.load_full()
    }

    /// Why there are none, or no newer ones.
    pub fn lacking(&self) -> Option<Arc<String>> {
        self.lacking.load_full()
    }

    /// Rings when a request wants others than there are.
    pub fn wanted(&self) -> &Arc<Bell> {
        self.asking.wanted()
    }

    /// Rings when a search is over, however it went.
    pub fn told(&self) -> &Bell {
        self.asking.over()
    }

    /// A request wants others than there are. Whether a search is under way that may bring them.
    pub fn ask(&self, now: Instant) -> bool {
        self.asking.ask(now)
    }

    /// A search begins, asked for or not.
    pub fn begin(&self) {
        self.asking.begin();
    }

    /// A search is over. Where it brought nothing, what was there stays until it expires.
    pub fn end(&self, found: Result<Credentials, String>) {
        match found {
            Ok(credentials) => {
                self.found.store(Some(Arc::new(credentials)));
                self.lacking.store(None);
            }
            Err(why) => self.lacking.store(Some(Arc::new(why))),
        }
        self.asking.end();
    }

    /// By how much AWS's clock is ahead of ours, in seconds.
    pub fn skew(&self) -> i64 {
        self.skew.load(Ordering::Relaxed)
    }

    /// What time it is at AWS, since 1970, as far as that is known.
    pub fn aws_time(&self, ours: Duration) -> Duration {
        let (skew, by) = (self.skew(), Duration::from_secs(self.skew().unsigned_abs()));
        if skew < 0 { ours.saturating_sub(by) } else { ours.saturating_add(by) }
    }

    /// AWS refused for the time, and said that it is `theirs`, where it is `ours` here, in seconds since 1970. Whether that is news to a
    /// request that was signed with `used`: others may have learned it before.
    pub fn learn_time(&self, theirs: u64, ours: u64, used: i64) -> bool {
        let seconds = theirs.cast_signed().saturating_sub(ours.cast_signed());
        let seconds = seconds.clamp(-SKEW_SECONDS_MAX, SKEW_SECONDS_MAX);
        self.skew.store(seconds, Ordering::Relaxed);
        seconds != used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::keys::COOLDOWN;

    fn cell(now: Instant) -> CredentialCell {
        let source = CredentialSource { profile: None, partition: "aws".into(), region: "eu-west-1".into() };
        CredentialCell::new(source, now)
    }

    #[test]
    fn many_ask_and_one_search_follows() {
        let now = Instant::now();
        let cell = cell(now);
        assert!((0..100).all(|_| cell.ask(now)));
        assert_eq!(cell.wanted().count(), 1);
        cell.end(Err("nobody is at home".to_owned()));
        assert!(cell.load().is_none() && cell.lacking().is_some_and(|why| why.contains("at home")));
        assert!(!cell.ask(now + COOLDOWN - Duration::from_millis(1)), "too soon, and nobody is to wait");
        assert!(cell.ask(now + COOLDOWN) && cell.wanted().count() == 2);
        cell.end(Credentials::new("AKID", "secret", None, None));
        assert!(cell.load().is_some() && cell.lacking().is_none() && cell.told().count() == 2);
        cell.end(Err("later".to_owned()));
        assert!(cell.load().is_some(), "what was there stays");
    }

    #[test]
    fn keys_are_read_of_json() {
        let good = br#"{"Code":"Success","AccessKeyId":"ASIA","SecretAccessKey":"s/e","Token":"t==","Expiration":"2026-11-22T22:30:00Z"}"#;
        let credentials = Credentials::from_json(good).expect("credentials");
        assert_eq!((&*credentials.key_id, credentials.token.as_deref()), ("ASIA", Some("t==")));
        assert_eq!(credentials.expires, Some(Duration::from_secs(1_795_386_600)));
        assert!(credentials.are_good_at(Duration::from_secs(1_795_386_599)));
        assert!(!credentials.are_good_at(Duration::from_secs(1_795_386_600)));
        let lasting =
            Credentials::from_json(br#"{"Version":1,"AccessKeyId":"AKIA","SecretAccessKey":"s"}"#).expect("credentials");
        assert!(lasting.token.is_none() && lasting.are_good_at(Duration::MAX));
        assert!(!format!("{lasting:?}").contains("\"s\""));
        for bad in [
            &b""[..],
            b"[]",
            br#"{"AccessKeyId":"AKIA"}"#,
            br#"{"SecretAccessKey":"s"}"#,
            br#"{"AccessKeyId":"","SecretAccessKey":"s"}"#,
            br#"{"AccessKeyId":"a b","SecretAccessKey":"s"}"#,
            br#"{"AccessKeyId":"a\r\nx: y","SecretAccessKey":"s"}"#,
            br#"{"AccessKeyId":"a/b","SecretAccessKey":"s"}"#,
            br#"{"AccessKeyId":"a","SecretAccessKey":""}"#,
            br#"{"AccessKeyId":"a","SecretAccessKey":"s","Token":"a\nb"}"#,
            br#"{"AccessKeyId":"a","SecretAccessKey":"s","Expiration":"soon"}"#,
            br#"{"AccessKeyId":"a","SecretAccessKey":"s","Expiration":"1960-01-01T00:00:00Z"}"#,
        ] {
            assert!(Credentials::from_json(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_clock_that_is_wrong_is_learned_once() {
        let cell = cell(Instant::now());
        // Two were under way with a wrong clock: each may be signed anew, once.
        assert!(cell.learn_time(1600, 1000, 0) && cell.learn_time(1600, 1000, 0) && cell.skew() == 600);
        assert!(!cell.learn_time(1600, 1000, 600));
        let ours = Duration::from_millis(1_000_500);
        assert_eq!(cell.aws_time(ours), Duration::from_millis(1_600_500));
        assert!(cell.learn_time(0, u64::MAX / 2, 600) && cell.skew() == -SKEW_SECONDS_MAX);
        assert!(!cell.learn_time(0, u64::MAX / 2, -SKEW_SECONDS_MAX));
        assert_eq!(cell.aws_time(ours), Duration::ZERO);
    }
}
