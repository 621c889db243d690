//! What it costs to find out who somebody is whom the gateway has not met: each way by itself, each request with a credential that was never shown before,
//! against the same gateway that asks nobody. User instructions by callgrind, and CPU time; passwords, which are hashed slowly on purpose, by time alone.

use std::fs;
use std::io;
use std::path::Path;

use crate::credentials::{self, AUDIENCE, ISSUER, REGION};
use crate::http::{self, Request};
use crate::load::{self, Client, Job, Pace, Until};
use crate::process;
use crate::proxies::{Backend, Contender, Proxy, Setup};
use crate::report::{Bar, Row, Table};
use crate::routes::{self, Routes};
use crate::scenarios::counting;
use crate::scenarios::{CONNECTIONS, Lab, interleave};
use crate::signing::{self, Scheme, Signer};
use crate::stats::Spread;

pub const NAME: &str = "cold";

const FEW: usize = 10;
const PLAIN: &str = "plain";
/// Keys that are known, so that each is shown once: more than any part of a run shows.
const KEYS: u64 = 2_500;
const USER: &str = "alice";
const PASSWORD: &str = "a password of the bench, which keeps no secrets";
const AWS_KEY: &str = "AKIDBENCH";
const AWS_SECRET: &str = "a secret of the bench, which has none to keep";
/// The files that authorizers read: keys in a JWK set or in PEM, users.
const FILE: &str = "identity";

const TOKENS: [(&str, Scheme); 7] = [
    ("HS256", Scheme::Hmac),
    ("RS256", Scheme::RsaSha256),
    ("PS256", Scheme::RsaPssSha256),
    ("ES256", Scheme::P256),
    ("ES384", Scheme::P384),
    ("ES512", Scheme::P521),
    ("EdDSA", Scheme::Ed25519),
];

const MESSAGES: [(&str, Scheme); 6] = [
    ("hmac-sha256", Scheme::Hmac),
    ("rsa-v1_5-sha256", Scheme::RsaSha256),
    ("rsa-pss-sha512", Scheme::RsaPssSha512),
    ("ecdsa-p256-sha256", Scheme::P256),
    ("ecdsa-p384-sha384", Scheme::P384),
    ("ed25519", Scheme::Ed25519),
];

const BCRYPT_COSTS: [u32; 2] = [10, 12];

/// The header lines of the request of this number, for this path.
type Show = Box<dyn Fn(u64, &str) -> io::Result<String>>;

/// A way to say who somebody is.
struct Way {
    name: String,
    /// What the gateway calls it, with `@FILE@` for the path of the file.
    authorizer: String,
    /// More lines of its configuration.
    lines: String,
    file: String,
    show: Show,
    /// It takes tens of milliseconds, on purpose.
    is_slow: bool,
}

impl Way {
    fn new(name: &str, authorizer: String, file: String, show: Show) -> Way {
        Way { name: name.into(), authorizer, lines: String::new(), file, show, is_slow: false }
    }

    /// Those of these numbers.
    fn requests(&self, numbers: std::ops::Range<u64>) -> io::Result<Vec<Request>> {
        let request = |number: u64| {
            let path = routes::path(number as usize % FEW);
            let lines = (self.show)(number, &path)?;
            Ok(http::with_lines(&http::get(&path, 1024), &lines))
        };
        numbers.map(request).collect()
    }

    fn identity(&self, file: &Path) -> String {
        match self.authorizer.is_empty() {
            true => String::new(),
            false => {
                let authorizer = self.authorizer.replace("@FILE@", &format!("{:?}", file.display().to_string()));
                format!("authorizers: {{ bench: {{ {authorizer} }} }}\n{}", self.lines)
            }
        }
    }
}

fn ways() -> io::Result<Vec<Way>> {
    let mut ways = vec![Way::new(PLAIN, String::new(), String::new(), Box::new(|_, _| Ok(String::new()))), api_key()];
    for (algorithm, scheme) in TOKENS {
        ways.push(jwt(algorithm, Signer::new(scheme)?));
    }
    for (algorithm, scheme) in MESSAGES {
        ways.push(message(algorithm, Signer::new(scheme)?)?);
    }
    let aws = format!("aws_signature: {{ region: {REGION}, keys: {{ {AWS_KEY}: \"{AWS_SECRET}\" }} }}");
    // It is not remembered in any case, and good for five minutes.
    let show: Show = Box::new(|_, path| Ok(credentials::aws_signature(AWS_KEY, AWS_SECRET, path, credentials::unix_seconds())));
    ways.push(Way::new("AWS SigV4", aws, String::new(), show));
    for cost in BCRYPT_COSTS {
        ways.push(basic(&format!("bcrypt, cost {cost}"), signing::bcrypt_user(USER, PASSWORD, cost)?));
    }
    ways.push(basic("argon2id, m=19456, t=2, p=1", signing::argon2_user(USER, PASSWORD)?));
    Ok(ways)
}

fn api_key() -> Way {
    let key = |number: u64| format!("a-key-of-the-bench-that-is-as-long-as-keys-are-{number:06}");
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let lines = format!("consumers: {{ alice: {{ api_keys: [{}] }} }}\n", keys.join(", "));
    let show: Show = Box::new(move |number, _| Ok(format!("X-Api-Key: {}\r\n", key(number))));
    Way { lines, ..Way::new("API key", "api_key: {}".into(), String::new(), show) }
}

fn jwt(algorithm: &'static str, signer: Signer) -> Way {
    let keys = match signer.secret() {
        "" => "jwks: @FILE@".to_string(),
        secret => format!("secret: \"{secret}\""),
    };
    let authorizer = format!("jwt: {{ issuer: \"{ISSUER}\", audience: [{AUDIENCE}], algorithms: [{algorithm}], {keys} }}");
    let file = credentials::key_set(&[signer.jwk("2026-11")]);
    let show: Show =
        Box::new(move |number, _| Ok(credentials::bearer(&credentials::token(&signer, algorithm, "2026-11", number)?)));
    Way::new(&format!("JWT {algorithm}"), authorizer, file, show)
}

fn message(algorithm: &'static str, signer: Signer) -> io::Result<Way> {
    let key = match signer.secret() {
        "" => "public_key: @FILE@".to_string(),
        secret => format!("secret: \"{secret}\""),
    };
    let authorizer = format!("http_signature: {{ keys: {{ bench: {{ algorithm: {algorithm}, {key} }} }} }}");
    let file = signer.pem()?;
    let show: Show =
        Box::new(move |number, path| credentials::message_signature(&signer, path, credentials::unix_seconds(), number));
    Ok(Way::new(&format!("HTTP signature {algorithm}"), authorizer, file, show))
}

/// The gateway remembers the header as it came: the same password behind more spaces is one that it has not seen.
fn basic(name: &str, user: String) -> Way {
    let show: Show = Box::new(|number, _| Ok(credentials::password(USER, PASSWORD, number)));
    let way = Way::new(name, "basic: { htpasswd: @FILE@ }".into(), user, show);
    Way { is_slow: true, ..way }
}

pub fn run(lab: &mut Lab) -> io::Result<()> {
    let Some(contender) = lab.maitred("maitred", Routes::Generated(FEW)) else { return Ok(()) };
    let ways = ways()?;
    let backend = Backend::start(None)?;
    let folder = lab.folder.join(NAME);
    let instructions = ways.iter().map(|way| instructions(lab, &contender, &backend, &folder, way)).collect::<Vec<_>>();
    let names: Vec<String> = ways.iter().map(|way| way.name.clone()).collect();
    let rounds = lab.options.rounds;
    let times = interleave(NAME, &names, rounds, |who| {
        cpu(lab, &contender, &backend, &folder, &ways[who]).map_err(|error| error.to_string())
    });
    lab.report.add_raw(&format!("{NAME}/CPU µs per request"), crate::scenarios::raw(&names, &times));
    let plain = instructions[0].as_ref().ok().copied().flatten();
    let mut table = Table::new(
        "Cold cost of finding out who it is, beyond a plain request",
        ["algorithm", "instructions", "CPU microseconds"],
    );
    for ((way, counted), own) in ways.iter().zip(&instructions).zip(&times) {
        let failed = counted.as_ref().err().map(io::Error::to_string);
        if let Some(why) = failed.or_else(|| own.iter().find_map(|sample| sample.as_ref().err().cloned())) {
            lab.report.add(Row::failed(NAME, &way.name, Some(Bar::figure(0.0)), &why));
            continue;
        }
        // A plain request itself stands there as it is; the others without it, of the same round.
        let is_plain = way.name == PLAIN;
        let counted = counted.as_ref().ok().copied().flatten();
        let counted = counted.map(|own| if is_plain { own } else { own - plain.unwrap_or(0.0) });
        let beyond = own.iter().zip(&times[0]).filter_map(|(own, plain)| {
            let (own, plain) = (own.as_ref().ok()?, plain.as_ref().ok()?);
            Some(if is_plain { *own } else { own - plain })
        });
        let time = Spread::of(&beyond.collect::<Vec<f64>>());
        let cell = |text: Option<String>| text.unwrap_or_else(|| "not counted".into());
        table.add([way.name.clone(), cell(counted.map(|n| format!("{n:.0}"))), cell(time.map(crate::report::show))]);
    }
    lab.report.add_table(table);
    Ok(())
}

/// Of a request; `None` where it would take callgrind minutes.
fn instructions(lab: &mut Lab, contender: &Contender, backend: &Backend, folder: &Path, way: &Way) -> io::Result<Option<f64>> {
    if way.is_slow {
        return Ok(None);
    }
    eprintln!("{NAME}: {} under callgrind", way.name);
    let (short, long) = lab.options.cold();
    let ends = [lab.options.cold_warmup(), short, long].map({
        let mut end = 0;
        move |count| {
            end += count;
            end
        }
    });
    let parts = [way.requests(0..ends[0])?, way.requests(ends[0]..ends[1])?, way.requests(ends[1]..ends[2])?];
    let (folder, identity) = place(folder, way)?;
    let setup = Setup { identity: &identity, ..Lab::setup(&folder, backend, 1) };
    let counted = counting::counted(lab, NAME, &way.name, contender, &setup, &|proxy, part| {
        each(proxy, &parts[part], &mut || Ok(0))?;
        Ok(parts[part].len() as u64)
    });
    counted.map(Some)
}

/// CPU microseconds of the gateway for each request, on a gateway that remembers nobody.
fn cpu(lab: &Lab, contender: &Contender, backend: &Backend, folder: &Path, way: &Way) -> io::Result<f64> {
    let (warmup, count) = if way.is_slow { (1, lab.options.slow()) } else { (lab.options.cold_warmup(), lab.options.timed()) };
    let (first, rest) = (way.requests(0..warmup)?, way.requests(warmup..warmup + count)?);
    let (folder, identity) = place(folder, way)?;
    let proxy = Proxy::start(contender, &Setup { identity: &identity, ..Lab::setup(&folder, backend, 1) })?;
    each(&proxy, &first, &mut || Ok(0))?;
    let nanoseconds = each(&proxy, &rest, &mut process::cpu_gauge(proxy.pid()))?;
    Ok(nanoseconds as f64 / 1000.0 / count as f64)
}

/// A folder of its own, with the file that its authorizer reads; and the configuration that names it.
fn place(folder: &Path, way: &Way) -> io::Result<(std::path::PathBuf, String)> {
    let name: String = way.name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let folder = folder.join(name);
    fs::create_dir_all(&folder)?;
    let file = folder.join(FILE);
    fs::write(&file, &way.file)?;
    let identity = way.identity(&file);
    Ok((folder, identity))
}

/// Every request once, all of them answered; says what the gauge rose by.
fn each(proxy: &Proxy, requests: &[Request], gauge: &mut dyn FnMut() -> io::Result<u64>) -> io::Result<u64> {
    let connections = CONNECTIONS.min(requests.len());
    let job = Job { port: proxy.port, connections, client: Client::PLAIN, requests, pace: Pace::Closed, until: Until::Each };
    let outcome = load::run(&job, gauge)?.valid().map_err(io::Error::other)?;
    Ok(outcome.gauge)
}
