use super::search::Search;
use super::settings_of;
use maitred_core::aws::sigv4::{Claim, Parts, SecretKey, stamp, verify};
use maitred_core::aws::{CredentialCell, CredentialSource, Credentials};
use maitred_core::ports::{Asks, Fetch, FetchRequest, Fetched, Fetching};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// 2026-11-22 22:30:00
const NOW: u64 = 1_795_386_600;
const KEYS_JSON: &str =
    r#"{"AccessKeyId":"ASIAJSON","SecretAccessKey":"s","Token":"t","Expiration":"2026-11-22T23:30:00Z","Code":"Success"}"#;
const KEYS_XML: &str = "<A><Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2026-11-22T23:30:00Z</Expiration></Credentials></A>";

/// Answers by the beginning of the URL, and remembers what it was asked.
#[derive(Default)]
struct Scripted {
    answers: Vec<(&'static str, u16, &'static str)>,
    asked: Mutex<Vec<FetchRequest>>,
}

impl Fetch for Scripted {
    fn fetch(&self, request: FetchRequest) -> Fetching {
        let found = self.answers.iter().find(|(url, ..)| request.url == *url);
        let answer = found.map(|(_, status, body)| Fetched { status: *status, date: None, body: body.as_bytes().to_vec() });
        self.asked.lock().unwrap().push(request);
        Box::pin(async move { answer.ok_or_else(|| "nobody is there".to_owned()) })
    }
}

/// A folder with the shared files, gone at the end.
struct Home(PathBuf);

impl Home {
    fn new(config: &str, credentials: &str) -> Home {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let home = Home(std::env::temp_dir().join(format!("maitred-aws-{}-{number}", std::process::id())));
        std::fs::create_dir_all(home.0.join(".aws")).expect("a folder");
        home.write(".aws/config", config);
        home.write(".aws/credentials", credentials);
        home
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn find(
    home: &Home,
    variables: &[(&str, &str)],
    profile: Option<&str>,
    fetch: &Scripted,
) -> Result<(Credentials, &'static str), String> {
    let mut all: HashMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    all.insert("HOME".to_owned(), home.path().display().to_string());
    let source = CredentialSource { profile: profile.map(Box::from), partition: "aws".into(), region: "eu-west-1".into() };
    let cell = CredentialCell::new(source, Instant::now());
    let search = Search { settings: settings_of(all), cell: &cell, fetch, time: Duration::from_secs(NOW) };
    search.find().await.map(|found| (found.credentials, found.from))
}

const ENVIRONMENT: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "env")];
const CONFIG: &str = "
[default]
region = eu-central-1
[profile role]
role_arn = arn:aws:iam::123456789012:role/kitchen
source_profile = base
external_id = a/b
duration_seconds = 900
role_session_name = shop
[profile of-environment]
role_arn = arn:aws:iam::123456789012:role/kitchen
credential_source = Environment
[profile of-container]
role_arn = arn:aws:iam::123456789012:role/kitchen
credential_source = EcsContainer
[profile both]
role_arn = arn:aws:iam::123456789012:role/kitchen
source_profile = base
credential_source = Environment
[profile neither]
role_arn = arn:aws:iam::123456789012:role/kitchen
[profile mfa]
role_arn = arn:aws:iam::123456789012:role/kitchen
source_profile = base
mfa_serial = arn:aws:iam::123456789012:mfa/x
[profile a]
role_arn = arn:aws:iam::123456789012:role/a
source_profile = b
[profile b]
role_arn = arn:aws:iam::123456789012:role/b
source_profile = a
[profile itself]
role_arn = arn:aws:iam::123456789012:role/kitchen
source_profile = itself
[profile program]
credential_process = sh -c 'printf \"{\\\"Version\\\":1,\\\"AccessKeyId\\\":\\\"AKIAPROGRAM\\\",\\\"SecretAccessKey\\\":\\\"s\\\"}\"'
[profile broken-program]
credential_process = false
[profile sso]
sso_start_url = https://x
[profile half]
aws_access_key_id = AKIA
[profile empty]
region = eu-west-1
";
const CREDENTIALS: &str = "
[base]
aws_access_key_id = AKIABASE
aws_secret_access_key = base
[itself]
aws_access_key_id = AKIAITSELF
aws_secret_access_key = s
";
const STS: &str = "https://sts.eu-west-1.amazonaws.com";

/// A home, variables and profile; the key that is found, and where.
type Row<'a> = (&'a Home, Vec<(&'a str, String)>, Option<&'a str>, &'a str, &'a str);

#[tokio::test]
async fn keys_are_found_where_aws_s_tools_find_them() {
    let home = Home::new(CONFIG, CREDENTIALS);
    let with_default =
        Home::new(CONFIG, &format!("{CREDENTIALS}[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = s\n"));
    let token = home.write("token", "a.signed.token\n");
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &*token),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/web"),
        ("AWS_REGION", "eu-west-1"),
    ];
    let container = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/keys")];
    let fetch = || Scripted {
        answers: vec![
            (STS, 200, KEYS_XML),
            ("http://169.254.170.2/v2/keys", 200, KEYS_JSON),
            ("http://169.254.169.254/latest/api/token", 200, "a-token"),
            ("http://169.254.169.254/latest/meta-data/iam/security-credentials/", 200, "my-role\n"),
            ("http://169.254.169.254/latest/meta-data/iam/security-credentials/my-role", 200, KEYS_JSON),
        ],
        ..Scripted::default()
    };
    let region = ("AWS_REGION", "eu-west-1");
    let all = |more: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        more.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    };
    let environment_and_all = [&all(&ENVIRONMENT)[..], &all(&container)].concat();
    let rows: Vec<Row<'_>> = vec![
        (&with_default, environment_and_all, None, "AKIAENV", "environment"),
        (&with_default, all(&ENVIRONMENT), Some("base"), "AKIABASE", "profile"),
        (&with_default, all(&web), None, "ASIAROLE", "web identity"),
        (&with_default, all(&container), None, "AKIADEFAULT", "profile"),
        (&home, all(&[("AWS_PROFILE", "role"), region]), None, "ASIAROLE", "role"),
        (&home, all(&[region]), Some("role"), "ASIAROLE", "role"),
        (&home, all(&[ENVIRONMENT[0], ENVIRONMENT[1], region]), Some("of-environment"), "ASIAROLE", "role"),
        (&home, all(&[container[0], region]), Some("of-container"), "ASIAROLE", "role"),
        (&home, all(&[region]), Some("itself"), "ASIAROLE", "role"),
        (&home, Vec::new(), Some("program"), "AKIAPROGRAM", "credential_process"),
        (&home, all(&container), None, "ASIAJSON", "container"),
        (&home, Vec::new(), None, "ASIAJSON", "instance"),
    ];
    for (home, variables, profile, key_id, from) in rows {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
        let found = find(home, &variables, profile, &fetch()).await;
        let found = found.map(|(credentials, from)| (credentials.key_id.to_string(), from));
        assert_eq!(found, Ok((key_id.to_owned(), from)), "{profile:?} {variables:?}");
    }
}

#[tokio::test]
async fn what_is_configured_and_does_not_work_lets_nobody_else_in() {
    let home = Home::new(CONFIG, CREDENTIALS);
    let instance = Scripted {
        answers: vec![
            ("http://169.254.169.254/latest/api/token", 200, "a-token"),
            ("http://169.254.169.254/latest/meta-data/iam/security-credentials/", 200, "../../x\n"),
            (STS, 403, "<E><Error><Code>AccessDenied</Code><Message>no</Message></Error></E>"),
        ],
        ..Scripted::default()
    };
    for (variables, profile, why) in [
        (&[("AWS_ACCESS_KEY_ID", "AKIA")][..], None, "AWS_SECRET_ACCESS_KEY is not"),
        (&[("AWS_SECRET_ACCESS_KEY", "s")], None, "AWS_ACCESS_KEY_ID is not"),
        (&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/x")], None, "AWS_ROLE_ARN is not"),
        (&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/x"), ("AWS_ROLE_ARN", "r")], None, "cannot be read"),
        (&[("AWS_PROFILE", "nobody")], None, "no profile `nobody`"),
        (&[], Some("nobody"), "no profile `nobody`"),
        (&[], Some("empty"), "has no keys"),
        (&[], Some("half"), "one of aws_access_key_id"),
        (&[], Some("sso"), "export-credentials --profile sso"),
        (&[], Some("mfa"), "mfa_serial"),
        (&[], Some("a"), "its own source"),
        (&[], Some("both"), "both source_profile"),
        (&[], Some("neither"), "no source_profile"),
        (&[], Some("of-environment"), "AWS_ACCESS_KEY_ID is not set"),
        (&[], Some("of-container"), "no container's address"),
        (&[], Some("broken-program"), "ended with"),
        (&[("AWS_REGION", "eu-west-1")], Some("role"), "AccessDenied"),
        (&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://keys.example/x")], None, "the token would go elsewhere"),
        (&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")], None, "nobody is there"),
        (&[("AWS_EC2_METADATA_DISABLED", "true")], None, "AWS_EC2_METADATA_DISABLED"),
        (&[], None, "the instance has no role"),
    ] {
        let error = find(&home, variables, profile, &instance).await.map(|(_, from)| from).expect_err(why);
        assert!(error.contains(why), "{variables:?} {profile:?}: {error}");
    }
}

#[tokio::test]
async fn a_role_is_asked_for_with_signed_words() {
    let home = Home::new(CONFIG, CREDENTIALS);
    let fetch = Scripted { answers: vec![("http://sts.local:80/", 200, KEYS_XML)], ..Scripted::default() };
    let variables = [("AWS_ENDPOINT_URL_STS", "http://sts.local:80/"), ("AWS_REGION", "us-west-2")];
    let (credentials, _) = find(&home, &variables, Some("role"), &fetch).await.expect("keys");
    assert_eq!(credentials.token.as_deref(), Some("t"));
    let request = fetch.asked.lock().unwrap().pop().expect("a request");
    let Asks::Form(form) = &request.asks else { panic!("{request:?}") };
    assert_eq!(
        form,
        "Version=2011-06-15&Action=AssumeRole&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fkitchen&RoleSessionName=shop&ExternalId=a%2Fb&DurationSeconds=900"
    );
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let parts = Parts { method: b"POST", path: b"/", query: b"", host: b"sts.local:80", headers: &headers };
    let claim = Claim::read(&parts).expect("a signature");
    assert_eq!((&*claim.key_id, &*claim.region, &*claim.service), ("AKIABASE", "us-west-2", "sts"));
    assert_eq!(verify(&parts, &claim, &SecretKey::new("base"), form.as_bytes()), Ok(()));
}

/// A service whose clock is another one, and which says so as STS does.
struct Clocked {
    time: u64,
    signed: Mutex<Vec<u64>>,
}

impl Fetch for Clocked {
    fn fetch(&self, request: FetchRequest) -> Fetching {
        let date = &request.headers.iter().find(|(name, _)| *name == "x-amz-date").expect("a date").1;
        let time = stamp::parse(date.as_bytes()).expect("a date");
        self.signed.lock().unwrap().push(time);
        let (status, body) = if time.abs_diff(self.time) <= 300 {
            (200, KEYS_XML)
        } else {
            (
                403,
                "<E><Error><Code>SignatureDoesNotMatch</Code><Message>Signature expired: x is now earlier than y</Message></Error></E>",
            )
        };
        let answer = Fetched { status, date: Some(self.time), body: body.as_bytes().to_vec() };
        Box::pin(async move { Ok(answer) })
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_set_by_the_token_service_once() {
    let home = Home::new(CONFIG, CREDENTIALS);
    let variables = [("HOME", home.path().display().to_string()), ("AWS_REGION", "eu-west-1".to_owned())];
    let settings = || settings_of(variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect());
    for time in [NOW + 3600, NOW - 3600] {
        let fetch = Clocked { time, signed: Mutex::default() };
        let source = CredentialSource { profile: Some("role".into()), partition: "aws".into(), region: "eu-west-1".into() };
        let cell = CredentialCell::new(source, Instant::now());
        let find =
            || async { Search { settings: settings(), cell: &cell, fetch: &fetch, time: Duration::from_secs(NOW) }.find().await };
        assert_eq!(&*find().await.expect("keys").credentials.key_id, "ASIAROLE");
        assert_eq!(*fetch.signed.lock().unwrap(), [NOW, time]);
        // Whoever signs with these keys knows it from now on.
        find().await.expect("keys");
        assert_eq!(*fetch.signed.lock().unwrap(), [NOW, time, time]);
        assert_eq!(cell.aws_time(Duration::from_secs(NOW)), Duration::from_secs(time));
    }
    // A service that refuses whatever it is told is asked twice and no more.
    struct Stubborn(AtomicU32);
    impl Fetch for Stubborn {
        fn fetch(&self, _: FetchRequest) -> Fetching {
            let date = Some(NOW + u64::from(self.0.fetch_add(1, Ordering::Relaxed)) * 1000 + 1000);
            let body = b"<E><Error><Code>RequestExpired</Code><Message>no</Message></Error></E>".to_vec();
            Box::pin(async move { Ok(Fetched { status: 400, date, body }) })
        }
    }
    let (fetch, source) = (
        Stubborn(AtomicU32::new(0)),
        CredentialSource { profile: Some("role".into()), partition: "aws".into(), region: "x".into() },
    );
    let cell = CredentialCell::new(source, Instant::now());
    let search = Search { settings: settings(), cell: &cell, fetch: &fetch, time: Duration::from_secs(NOW) };
    assert!(search.find().await.expect_err("it is refused").contains("RequestExpired"));
    assert_eq!(fetch.0.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_instance_is_asked_with_a_token_and_a_container_with_its_own() {
    let home = Home::new("", "");
    let fetch = Scripted {
        answers: vec![
            ("http://127.0.0.1:9/latest/api/token", 200, "a-token"),
            ("http://127.0.0.1:9/latest/meta-data/iam/security-credentials/", 200, "my-role"),
            ("http://127.0.0.1:9/latest/meta-data/iam/security-credentials/my-role", 200, KEYS_JSON),
            ("http://127.0.0.1:9/keys", 200, KEYS_JSON),
        ],
        ..Scripted::default()
    };
    let endpoint = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9/")];
    find(&home, &endpoint, None, &fetch).await.expect("keys");
    let asked: Vec<_> = std::mem::take(&mut *fetch.asked.lock().unwrap());
    assert_eq!(asked[0].asks, Asks::Put);
    assert_eq!(asked[0].headers, [("x-aws-ec2-metadata-token-ttl-seconds", "60".to_owned())]);
    let token = [("x-aws-ec2-metadata-token", "a-token".to_owned())];
    assert!(asked[1..].iter().all(|request| request.asks == Asks::Get && request.headers == token));
    let token = home.write("token", "of a pod\n");
    let container =
        [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/keys"), ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &*token)];
    find(&home, &container, None, &fetch).await.expect("keys");
    assert_eq!(fetch.asked.lock().unwrap()[0].headers, [("authorization", "of a pod".to_owned())]);
}

#[test]
fn the_files_may_be_elsewhere() {
    let home = Home::new("", "");
    home.write("mine", "[default]\nregion = eu-north-1\n");
    let variables = [("HOME", home.path().display().to_string()), ("AWS_CONFIG_FILE", "~/mine".to_owned())];
    let settings = settings_of(variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    assert_eq!(settings.region("default"), Some("eu-north-1"));
    assert!(!settings_of(HashMap::new()).profiles.has("default"));
}
