//! What floods of wrong credentials cost those who have right ones: a client goes on asking at a steady pace with a key, a token and a password,
//! in calm and while others guess as fast as they can, and waits at most twice as long. Nobody who guesses comes in. The gateway alone is asked this.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::credentials::{self, AUDIENCE, ISSUER};
use crate::guesses::{self, Flood, From, Told};
use crate::http::{self, Request};
use crate::load::{self, Client, Job, Outcome, Pace, Until};
use crate::offered::BROKEN;
use crate::proxies::{Backend, Contender, Proxy};
use crate::report::{Bar, Row};
use crate::scenarios::{Lab, Sample, apart, figures, interleave};
use crate::signing::{self, Scheme, Signer};
use crate::stats::Spread;
use crate::sys::{self, Rank};
use crate::written;

pub const NAME: &str = "credentials";

const BAR: f64 = 2.0;
/// Of the client that means well, over its connections.
const PER_SECOND: f64 = 1000.0;
const CLIENT_CONNECTIONS: usize = 8;
/// Of those who guess.
const CONNECTIONS: usize = 32;
/// Where each guess is hashed: more than there are places for passwords that wait for it.
const CONNECTIONS_HASHED: usize = 96;
/// A machine on which the client waits longer in calm says nothing of floods.
const CALM_US_MAX: f64 = 1500.0;
/// A client's first password is hashed before its requests are measured.
const FIRST_HASH: Duration = Duration::from_millis(400);
const PROBE: &str = "/1k";
const ANSWER_BYTES: usize = 1024;

const USER: &str = "alice";
const PASSWORD: &str = "a password of the bench, which keeps no secrets";
const API_KEY: &str = "a-key-of-the-bench-that-is-as-long-as-keys-are";
const BCRYPT_COST: u32 = 10;
/// Tokens of each algorithm that a stranger signed, shown again and again: that one is refused is not remembered.
const FORGED: u64 = 200;

/// Keys of the issuer: what signs with them, and their ids.
const ALGORITHMS: [(&str, Scheme); 3] = [("RS256", Scheme::RsaSha256), ("ES256", Scheme::P256), ("EdDSA", Scheme::Ed25519)];

/// What is shown in the request of this number.
type Guess = Box<dyn Fn(u64) -> Vec<u8> + Sync>;

struct Guessing {
    name: String,
    guess: Guess,
    connections: usize,
    /// They show a right one: what a crowd costs in any case.
    is_right: bool,
}

/// What is right, and everything that looks like it.
struct Secrets {
    keys: String,
    bcrypt: String,
    argon2: String,
    client: Vec<Request>,
    guessing: Vec<Guessing>,
}

fn request(path: &str, lines: &str) -> Request {
    http::with_lines(&http::get(path, ANSWER_BYTES), lines)
}

impl Secrets {
    fn make() -> io::Result<Secrets> {
        let signers = ALGORITHMS.map(|(algorithm, scheme)| Signer::new(scheme).map(|signer| (algorithm, signer)));
        let signers = signers.into_iter().collect::<io::Result<Vec<_>>>()?;
        let keys: Vec<String> = signers.iter().map(|(id, signer)| signer.jwk(id)).collect();
        let token = credentials::token(&signers[0].1, "RS256", "RS256", 0)?;
        let client = vec![
            request("/key/x", &format!("X-Api-Key: {API_KEY}\r\n")),
            request("/token/x", &credentials::bearer(&token)),
            request("/bcrypt/x", &credentials::password(USER, PASSWORD, 0)),
        ];
        Ok(Secrets {
            keys: credentials::key_set(&keys),
            bcrypt: signing::bcrypt_user(USER, PASSWORD, BCRYPT_COST)?,
            argon2: signing::argon2_user(USER, PASSWORD)?,
            client,
            guessing: guessing()?,
        })
    }

    /// Where the gateway will look for them.
    fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("keys.json"), &self.keys)?;
        fs::write(folder.join("bcrypt"), &self.bcrypt)?;
        fs::write(folder.join("argon2"), &self.argon2)
    }
}

fn guessing() -> io::Result<Vec<Guessing>> {
    let wrong = |name: &str, guess: Guess| Guessing { name: name.into(), guess, connections: CONNECTIONS, is_right: false };
    let hashed = |name: &str, guess: Guess| Guessing { connections: CONNECTIONS_HASHED, ..wrong(name, guess) };
    let password = |path: &'static str| -> Guess {
        Box::new(move |number| request(path, &credentials::password(USER, &format!("guess {number:09}"), 0)).bytes)
    };
    let right: Guess = Box::new(|_| request("/key/x", &format!("X-Api-Key: {API_KEY}\r\n")).bytes);
    let mut all = vec![
        Guessing { name: "right API keys".into(), guess: right, connections: CONNECTIONS, is_right: true },
        hashed("wrong passwords, bcrypt", password("/bcrypt/x")),
        hashed("wrong passwords, argon2id", password("/argon2/x")),
        hashed(
            "unknown users",
            Box::new(|number| request("/bcrypt/x", &credentials::password(&format!("user{number:09}"), "guess", 0)).bytes),
        ),
    ];
    for (algorithm, scheme) in ALGORITHMS {
        let stranger = Signer::new(scheme)?;
        let forged = forged(&stranger, algorithm, algorithm)?;
        let guess: Guess = Box::new(move |number| forged[(number % FORGED) as usize].clone());
        all.push(wrong(&format!("forged tokens, {algorithm}"), guess));
    }
    let nobodys = forged(&Signer::new(Scheme::P256)?, "ES256", "nobody")?;
    all.push(wrong("tokens of unknown keys", Box::new(move |number| nobodys[(number % FORGED) as usize].clone())));
    all.push(wrong(
        "unknown API keys",
        Box::new(|number| request("/key/x", &format!("X-Api-Key: nobodys-key-that-is-as-long-as-{number:015}\r\n")).bytes),
    ));
    all.push(wrong(
        "garbage for tokens",
        Box::new(|number| request("/token/x", &credentials::bearer(&format!("garbage.{number:09}.!"))).bytes),
    ));
    all.push(wrong(
        "unknown opaque tokens",
        Box::new(|number| request("/opaque/x", &credentials::bearer(&format!("opaque-{number:025}"))).bytes),
    ));
    Ok(all)
}

fn forged(stranger: &Signer, algorithm: &str, key: &str) -> io::Result<Vec<Vec<u8>>> {
    let token =
        |number| Ok(request("/token/x", &credentials::bearer(&credentials::token(stranger, algorithm, key, number)?)).bytes);
    (0..FORGED).map(token).collect()
}

fn contender(lab: &Lab, backend: u16) -> Option<Contender> {
    let upstreams = format!(
        "  backend: http://127.0.0.1:{backend}
authorizers:
  keys: {{ api_key: {{}} }}
  tokens: {{ jwt: {{ issuer: \"{ISSUER}\", audience: [{AUDIENCE}], jwks: \"@FOLDER@/keys.json\" }} }}
  bcrypt: {{ basic: {{ htpasswd: \"@FOLDER@/bcrypt\" }} }}
  argon2: {{ basic: {{ htpasswd: \"@FOLDER@/argon2\" }} }}
  opaque: {{ introspection: {{ upstream: backend, path: /introspect, client_id: bench, client_secret: none-of-the-bench }} }}
consumers: {{ alice: {{ api_keys: [{API_KEY}] }} }}
"
    );
    let mut routes = format!("      - {{ match: GET {PROBE}, proxy: backend }}\n");
    for (path, authorizer) in
        [("key", "keys"), ("token", "tokens"), ("bcrypt", "bcrypt"), ("argon2", "argon2"), ("opaque", "opaque")]
    {
        let route = format!("match: \"GET /{path}/{{rest+}}\", authenticate: [{authorizer}], proxy: backend");
        routes.push_str(&format!("      - {{ {route} }}\n"));
    }
    lab.maitred_written("maitred", written::maitred(1, &upstreams, &routes), PROBE)
}

pub fn run(lab: &mut Lab) -> io::Result<()> {
    if lab.options.maitred.is_none() {
        return Ok(());
    }
    apart(lab, NAME, Bar::ratio(BAR), pinned)
}

/// One round of one flood.
struct Seen {
    calm: f64,
    flooded: f64,
    told: Told,
}

fn pinned(lab: &mut Lab, own_core: usize, load_core: usize) -> io::Result<()> {
    sys::be(Rank::Measured);
    let backend = Backend::start(Some(load_core));
    // The gateway gets no rank: how its own threads stand to each other is a part of what is measured.
    sys::be(Rank::Ordinary);
    let backend = backend?;
    let secrets = Secrets::make()?;
    let folder = lab.folder.join(NAME);
    let Some(contender) = contender(lab, backend.port) else { return Ok(()) };
    secrets.write(&folder.join(&contender.name))?;
    let setup = crate::proxies::Setup { core: Some(own_core), ..Lab::setup(&folder, &backend, 1) };
    let sources = [From::OneAddress, From::ManyAddresses];
    let cases: Vec<(&Guessing, From)> =
        secrets.guessing.iter().flat_map(|guessing| sources.map(|from| (guessing, from))).collect();
    let names: Vec<String> = cases.iter().map(|(guessing, from)| format!("{}, {}", guessing.name, from.words())).collect();
    let mut seen: Vec<Vec<Seen>> = cases.iter().map(|_| Vec::new()).collect();
    let mut config = None;
    let rounds = lab.options.credentials_rounds();
    let samples = interleave(NAME, &names, rounds, |who| {
        let (guessing, from) = cases[who];
        let proxy = Proxy::start(&contender, &setup).map_err(|error| error.to_string())?;
        config.get_or_insert_with(|| proxy.config_text.clone());
        let one = beside(lab, &proxy, &secrets.client, guessing, from)?;
        let p99 = one.flooded;
        seen[who].push(one);
        Ok(p99)
    });
    lab.report.add_config(&format!("{NAME}/{}", contender.name), config.as_deref().unwrap_or_default());
    for (((guessing, _), name), (samples, seen)) in cases.iter().zip(&names).zip(samples.iter().zip(&seen)) {
        record(lab, name, guessing.is_right, samples, seen);
    }
    Ok(())
}

fn beside(lab: &Lab, proxy: &Proxy, client: &[Request], guessing: &Guessing, from: From) -> Result<Seen, String> {
    let until = || Until::Window { warmup: lab.options.warmup().max(FIRST_HASH), length: lab.options.credentials() };
    let calm = good(proxy, client, until())?;
    let p99 = |outcome: &Outcome| outcome.latencies.quantile(0.99) as f64 / 1000.0;
    if p99(&calm) > CALM_US_MAX {
        return Err(format!("the machine is not quiet: p99 is {:.0} µs in calm", p99(&calm)));
    }
    let over = AtomicBool::new(false);
    let flood = Flood { port: proxy.port, from, connections: guessing.connections, guess: &guessing.guess };
    let (told, flooded) = std::thread::scope(|scope| {
        let guessers = scope.spawn(|| guesses::run(&flood, &over));
        let flooded = scope.spawn(|| good(proxy, client, until())).join();
        over.store(true, Ordering::Relaxed);
        (guessers.join(), flooded)
    });
    let panicked = || "a thread panicked".to_string();
    let told = told.map_err(|_| panicked())?.map_err(|error| error.to_string())?;
    let flooded = flooded.map_err(|_| panicked())??;
    match told.of(200) {
        _ if told.all() == 0 => return Err("nobody who guesses was told anything".into()),
        0 => {}
        _ if guessing.is_right => {}
        let_in => return Err(format!("{let_in} wrong credentials were let in")),
    }
    Ok(Seen { calm: p99(&calm), flooded: p99(&flooded), told })
}

/// The client that means well.
fn good(proxy: &Proxy, requests: &[Request], until: Until) -> Result<Outcome, String> {
    sys::be(Rank::Instrument);
    let pace = Pace::Open { per_second: PER_SECOND };
    let job = Job { port: proxy.port, connections: CLIENT_CONNECTIONS, client: Client::PLAIN, requests, pace, until };
    let outcome = load::run_plain(&job).map_err(|error| error.to_string());
    sys::be(Rank::Ordinary);
    outcome?.valid()
}

fn record(lab: &mut Lab, name: &str, is_right: bool, samples: &[Sample], seen: &[Seen]) {
    let title = format!("p99 beside {name}");
    let statuses = |one: &Seen| one.told.statuses.iter().map(|(status, count)| (status.to_string(), json!(count))).collect();
    let rounds: Vec<serde_json::Map<_, _>> = seen.iter().map(statuses).collect();
    let [calm, flooded]: [Vec<f64>; 2] =
        [|one: &Seen| one.calm, |one: &Seen| one.flooded].map(|of| seen.iter().map(of).collect());
    lab.report.add_raw(&format!("{NAME}/{name}"), json!({"calm_us": calm, "flooded_us": flooded, "told": rounds}));
    let mut row = Row { bar: (!is_right).then_some(Bar::ratio(BAR)), ..Row::new(&title, "maitred", "µs", &figures(samples)) };
    row.note = note(seen, &calm);
    if let Some(why) = samples.iter().find_map(|sample| sample.as_ref().err()) {
        row = Row::failed(&title, "maitred", row.bar, why);
    } else {
        row.ratio = Spread::of(&seen.iter().map(|one| one.flooded / one.calm).collect::<Vec<_>>());
    }
    lab.report.add(row);
}

/// Over all rounds: what those who guess were told.
fn note(seen: &[Seen], calm: &[f64]) -> String {
    let seconds: f64 = seen.iter().map(|one| one.told.seconds).sum();
    let sum = |status: u16| seen.iter().map(|one| one.told.of(status)).sum::<u64>();
    let all: u64 = seen.iter().map(|one| one.told.all()).sum();
    let [ok, wrong, limited, busy, broken] = [200, 401, 429, 503, BROKEN].map(sum);
    let mut note = format!(
        "ratio to {:.0} µs in calm; {:.0} guesses/s",
        Spread::of(calm).map_or(0.0, |calm| calm.median),
        all as f64 / seconds
    );
    for (count, what) in [
        (ok, "200"),
        (wrong, "401"),
        (limited, "429"),
        (busy, "503"),
        (all - ok - wrong - limited - busy - broken, "others"),
        (broken, "broken"),
    ] {
        if count > 0 {
            note.push_str(&format!(", {count} {what}"));
        }
    }
    note
}
