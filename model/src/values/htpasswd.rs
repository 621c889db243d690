//! Files of users and hashed passwords, as `htpasswd -B` writes them: a user a line, `name:hash`. Only hashes that are slow to guess are
//! read, bcrypt and argon2, and none that would keep a thread for seconds. Verifies no password.

use std::collections::HashMap;

/// Users of one file. More belong into something that is asked and not read.
pub const USERS_MAX: usize = 100_000;
/// Bytes of one file: as many users, each with a long name and a long hash.
pub const HTPASSWD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a user's name.
pub const USER_BYTES_MAX: usize = 255;

/// 2^14 rounds take more than a second.
pub const BCRYPT_COST_MAX: u32 = 14;
const BCRYPT_COST_MIN: u32 = 4;
/// Memory of one hash. Each thread that computes may need it at the same time.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 256 * 1024;
pub const ARGON2_PASSES_MAX: u32 = 10;
pub const ARGON2_LANES_MAX: u32 = 8;
/// Bytes of a salt and of a hash: fewer can be found by trying, and nobody writes more.
const ARGON2_SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=64;
const ARGON2_HASH_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// Lines that are complained about; the others are most likely wrong in the same way.
const COMPLAINTS_MAX: usize = 10;

/// What a password is compared with.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordHash {
    Bcrypt(Bcrypt),
    Argon2(Argon2),
}

#[derive(Clone, PartialEq, Eq)]
pub struct Bcrypt {
    /// Rounds, as a power of two: 4 to `BCRYPT_COST_MAX`.
    pub cost: u32,
    pub salt: [u8; 16],
    pub hash: [u8; 23],
}

#[derive(Clone, PartialEq, Eq)]
pub struct Argon2 {
    pub cost: Argon2Cost,
    pub salt: Box<[u8]>,
    pub hash: Box<[u8]>,
}

/// What a hash takes, whatever it is of (RFC 9106 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Argon2Cost {
    pub kind: Argon2Kind,
    /// 16 or 19.
    pub version: u32,
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Argon2Kind {
    D,
    I,
    Id,
}

/// What it takes to find out whether a password is right: the same for all hashes that have it in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashCost {
    Bcrypt(u32),
    Argon2(Argon2Cost, usize),
}

impl PasswordHash {
    pub fn cost(&self) -> HashCost {
        match self {
            PasswordHash::Bcrypt(bcrypt) => HashCost::Bcrypt(bcrypt.cost),
            PasswordHash::Argon2(argon2) => HashCost::Argon2(argon2.cost, argon2.hash.len()),
        }
    }

    /// One that costs as much and is nobody's.
    pub fn nobodys(cost: HashCost) -> PasswordHash {
        match cost {
            HashCost::Bcrypt(cost) => PasswordHash::Bcrypt(Bcrypt { cost, salt: [0; 16], hash: [0; 23] }),
            HashCost::Argon2(cost, bytes) => {
                PasswordHash::Argon2(Argon2 { cost, salt: [0; 16].into(), hash: vec![0; bytes].into() })
            }
        }
    }
}

/// Users by name. At least one.
pub struct Htpasswd {
    users: HashMap<Box<str>, PasswordHash>,
    /// What an unknown user costs.
    usual: PasswordHash,
}

/// What is wrong with a line, counted from 1; 0 is the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HtpasswdError {
    pub line: usize,
    pub message: String,
    pub hint: String,
}

impl Htpasswd {
    pub fn parse(bytes: &[u8]) -> Result<Htpasswd, Vec<HtpasswdError>> {
        let whole =
            |message: &str, hint: &str| vec![HtpasswdError { line: 0, message: message.to_owned(), hint: hint.to_owned() }];
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(whole("it is not UTF-8", "save it as UTF-8: names of users are (RFC 7617)"));
        };
        let mut errors = Vec::new();
        let mut users: HashMap<Box<str>, PasswordHash> = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let read = user(line).and_then(|(name, hash)| match users.contains_key(name) {
                true => Err((format!("the user `{name}` stands there twice"), "remove one of the lines".to_owned())),
                false => Ok((name, hash)),
            });
            match read {
                Ok((name, hash)) => drop(users.insert(name.into(), hash)),
                Err((message, hint)) => errors.push(HtpasswdError { line: at + 1, message, hint }),
            }
            if errors.len() == COMPLAINTS_MAX {
                break;
            }
            if users.len() > USERS_MAX {
                return Err(whole("it has more than 100000 users", "ask an authorizer that looks them up, such as `forward`"));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        match usual(users.values()) {
            Some(usual) => Ok(Htpasswd { users, usual }),
            None => Err(whole("it holds no user", "add one: `htpasswd -B FILE NAME`")),
        }
    }

    pub fn user(&self, name: &str) -> Option<&PasswordHash> {
        self.users.get(name)
    }

    /// Nobody's hash, which costs what most of the users' do.
    pub fn usual(&self) -> &PasswordHash {
        &self.usual
    }

    pub fn len(&self) -> usize {
        self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

fn usual<'a>(hashes: impl Iterator<Item = &'a PasswordHash>) -> Option<PasswordHash> {
    let mut counts: HashMap<HashCost, usize> = HashMap::new();
    for hash in hashes {
        *counts.entry(hash.cost()).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(cost, _)| PasswordHash::nobodys(cost))
}

/// Message and hint.
type Wrong = (String, String);

fn user(line: &str) -> Result<(&str, PasswordHash), Wrong> {
    let Some((name, hash)) = line.split_once(':') else {
        return Err(("it is no user and hash with `:` between them".to_owned(), "make it with `htpasswd -B`".to_owned()));
    };
    if name.is_empty() || name.len() > USER_BYTES_MAX || name.chars().any(char::is_control) {
        let hint = format!("a name has 1 to {USER_BYTES_MAX} bytes and no control character");
        return Err(("the name of the user cannot be one".to_owned(), hint));
    }
    let anew = || format!("make it anew: `htpasswd -B FILE {name}`");
    if let Some(what) = weak(hash) {
        return Err((format!("the password of `{name}` is kept as {what}; bcrypt and argon2 are read here"), anew()));
    }
    let parsed = if hash.starts_with("$argon2") { argon2(hash) } else { bcrypt(hash) };
    parsed.map(|hash| (name, hash)).map_err(|why| (format!("the hash of `{name}` {why}"), anew()))
}

/// What is not read, by name.
fn weak(hash: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 9] = [
        ("$apr1$", "MD5 (apr1)"),
        ("$1$", "MD5 (crypt)"),
        ("$5$", "SHA-256 (crypt)"),
        ("$6$", "SHA-512 (crypt)"),
        ("$7$", "scrypt"),
        ("$y$", "yescrypt"),
        ("$2x$", "bcrypt of a broken version"),
        ("{SHA}", "SHA-1"),
        ("{", "something that is not bcrypt or argon2"),
    ];
    if let Some((_, what)) = KNOWN.iter().find(|(prefix, _)| hash.starts_with(prefix)) {
        return Some(what);
    }
    (!hash.starts_with('$')).then_some("crypt or plain text")
}

fn bcrypt(hash: &str) -> Result<PasswordHash, String> {
    const SHAPE: &str = "is not bcrypt's `$2y$`, two digits, `$` and 53 more characters";
    let rest =
        ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| hash.strip_prefix(prefix)).ok_or("is neither bcrypt nor argon2")?;
    let (digits, rest) = rest.split_once('$').ok_or(SHAPE)?;
    let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let cost: u32 = digits.parse().ok().filter(|_| is_number).ok_or(SHAPE)?;
    if !(BCRYPT_COST_MIN..=BCRYPT_COST_MAX).contains(&cost) {
        return Err(format!("has cost {cost}; it may be {BCRYPT_COST_MIN} to {BCRYPT_COST_MAX}"));
    }
    let (salt, hash) = rest.split_at_checked(22).filter(|(_, hash)| hash.len() == 31).ok_or(SHAPE)?;
    let decoded = base64(salt, BCRYPT).zip(base64(hash, BCRYPT)).ok_or(SHAPE)?;
    let (Ok(salt), Ok(hash)) = (decoded.0.try_into(), decoded.1.try_into()) else { return Err(SHAPE.to_owned()) };
    Ok(PasswordHash::Bcrypt(Bcrypt { cost, salt, hash }))
}

/// As `argon2 -e` writes it: `$argon2id$v=19$m=65536,t=3,p=4$salt$hash`.
fn argon2(text: &str) -> Result<PasswordHash, String> {
    const SHAPE: &str = "is not argon2's `$argon2id$v=19$m=65536,t=3,p=4$`, salt, `$` and hash";
    let mut parts = text.split('$').skip(1);
    let kind = match parts.next() {
        Some("argon2d") => Argon2Kind::D,
        Some("argon2i") => Argon2Kind::I,
        Some("argon2id") => Argon2Kind::Id,
        Some(_) | None => return Err(SHAPE.to_owned()),
    };
    let mut next = parts.next().ok_or(SHAPE)?;
    let mut version = 16;
    if let Some(written) = next.strip_prefix("v=") {
        version = number(written).filter(|version| [16, 19].contains(version)).ok_or("is of a version other than 16 and 19")?;
        next = parts.next().ok_or(SHAPE)?;
    }
    let mut costs = next.split(',');
    let mut cost = |prefix: &str| costs.next()?.strip_prefix(prefix).and_then(number);
    let (Some(memory_kib), Some(passes), Some(lanes)) = (cost("m="), cost("t="), cost("p=")) else {
        return Err(SHAPE.to_owned());
    };
    let (Some(salt), Some(hash), None, None) = (parts.next(), parts.next(), parts.next(), costs.next()) else {
        return Err(SHAPE.to_owned());
    };
    if memory_kib > ARGON2_MEMORY_KIB_MAX || passes > ARGON2_PASSES_MAX || lanes > ARGON2_LANES_MAX {
        return Err(format!("costs more than `m={ARGON2_MEMORY_KIB_MAX},t={ARGON2_PASSES_MAX},p={ARGON2_LANES_MAX}`"));
    }
    if passes == 0 || lanes == 0 || memory_kib < 8 * lanes {
        return Err("has costs that argon2 does not know".to_owned());
    }
    let (salt, hash) = base64(salt, STANDARD).zip(base64(hash, STANDARD)).ok_or(SHAPE)?;
    if !ARGON2_SALT_BYTES.contains(&salt.len()) || !ARGON2_HASH_BYTES.contains(&hash.len()) {
        return Err("has a salt of fewer than 8 bytes or a hash of fewer than 16, or more than 64".to_owned());
    }
    let cost = Argon2Cost { kind, version, memory_kib, passes, lanes };
    Ok(PasswordHash::Argon2(Argon2 { cost, salt: salt.into(), hash: hash.into() }))
}

/// Plain decimal digits.
fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BCRYPT: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Without padding. Bits that are left over count for nothing: some writers of hashes leave chance in them.
fn base64(text: &str, digits: &[u8; 64]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.as_bytes().chunks(4) {
        if group.len() == 1 {
            return None;
        }
        let mut word = 0u32;
        for at in 0..4 {
            let value = match group.get(at) {
                Some(byte) => digits.iter().position(|digit| digit == byte)?,
                None => 0,
            };
            word = word << 6 | value as u32;
        }
        let [_, bytes @ ..] = word.to_be_bytes();
        out.extend_from_slice(&bytes[..group.len() - 1]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT_OF: &str = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";
    const ARGON2_OF: &str = "$argon2id$v=19$m=19456,t=2,p=1$gZiV/M1gPc22ElAH/Jh1Hw$CWOrkoo7oJBQ/iyh7uJ0LO2aLEfrHwTWllSAxT0zRno";

    fn wrong(text: &str) -> Vec<(usize, String)> {
        let errors = Htpasswd::parse(text.as_bytes()).err().expect("a file that is refused");
        assert!(errors.iter().all(|error| !error.hint.is_empty()));
        errors.into_iter().map(|error| (error.line, error.message)).collect()
    }

    #[test]
    fn users_are_found_by_name() {
        let text = format!("# people\n\nalice:{BCRYPT_OF}\r\nbob:{ARGON2_OF}  \ncarol:{}\n", BCRYPT_OF.replace("$2y$", "$2a$"));
        let file = Htpasswd::parse(text.as_bytes()).expect("a good file");
        assert_eq!(file.len(), 3);
        assert!(file.user("alice").is_some_and(|hash| hash.cost() == HashCost::Bcrypt(5)));
        let cost = Argon2Cost { kind: Argon2Kind::Id, version: 19, memory_kib: 19456, passes: 2, lanes: 1 };
        assert!(file.user("bob").is_some_and(|hash| hash.cost() == HashCost::Argon2(cost, 32)));
        assert!(file.user("Alice").is_none() && file.user("").is_none());
        assert_eq!(file.usual().cost(), HashCost::Bcrypt(5), "two of three cost that");
    }

    #[test]
    fn what_is_easily_guessed_is_refused_by_name() {
        for (hash, what) in [
            ("$apr1$x$y", "MD5 (apr1)"),
            ("{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", "SHA-1"),
            ("{SSHA}x", "not bcrypt or argon2"),
            ("$6$salt$hash", "SHA-512"),
            ("rqXexS6ZhobKA", "crypt or plain text"),
            ("secret", "crypt or plain text"),
            ("", "crypt or plain text"),
            ("$2x$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe", "broken"),
            ("$9$abc", "neither bcrypt nor argon2"),
        ] {
            let errors = wrong(&format!("alice:{BCRYPT_OF}\nbob:{hash}"));
            assert!(
                matches!(&errors[..], [(2, message)] if message.contains(what) && message.contains("bob")),
                "{hash}: {errors:?}"
            );
        }
    }

    #[test]
    fn what_costs_too_much_or_is_not_whole_is_refused() {
        let bcrypt = |from: &str, to: &str| BCRYPT_OF.replace(from, to);
        let argon2 = |from: &str, to: &str| ARGON2_OF.replace(from, to);
        for hash in [
            bcrypt("$05$", "$15$"),
            bcrypt("$05$", "$03$"),
            bcrypt("$05$", "$5$"),
            bcrypt("$05$", "$+5$"),
            bcrypt("Fpe", "Fp"),
            bcrypt("Fpe", "Fpee"),
            bcrypt("Fpe", "Fp!"),
            bcrypt("Fpe", "Fpe:x"),
            bcrypt("$bvIG", "$é"),
            argon2("m=19456", "m=262145"),
            argon2("t=2", "t=11"),
            argon2("p=1", "p=9"),
            argon2("t=2", "t=0"),
            argon2("m=19456", "m=7"),
            argon2("t=2", "t=02"),
            argon2("v=19", "v=18"),
            argon2("p=1", "p=1,keyid=x"),
            argon2("gZiV/M1gPc22ElAH/Jh1Hw", "gZiV"),
            argon2("CWOrkoo7oJBQ/iyh7uJ0LO2aLEfrHwTWllSAxT0zRno", "CWOrkoo7"),
            format!("{ARGON2_OF}$"),
            argon2("argon2id", "argon2x"),
        ] {
            let errors = wrong(&format!("alice:{hash}"));
            assert!(matches!(&errors[..], [(1, message)] if message.contains("alice")), "{hash}: {errors:?}");
        }
        assert!(Htpasswd::parse(format!("alice:{}", argon2("v=19$", "")).as_bytes()).is_ok(), "its version is 16 then");
    }

    #[test]
    fn a_file_is_refused_with_the_numbers_of_its_lines() {
        assert_eq!(wrong("")[0].0, 0);
        assert_eq!(wrong("# nobody\n\n")[0].0, 0);
        assert_eq!(Htpasswd::parse(b"a\xff:x").err().expect("refused")[0].line, 0);
        let text = format!("alice:{BCRYPT_OF}\nnobody\n:{BCRYPT_OF}\nalice:{ARGON2_OF}\na\u{7}b:{BCRYPT_OF}\n");
        assert_eq!(wrong(&text).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!(wrong(&"x\n".repeat(1000)).len(), COMPLAINTS_MAX);
    }

    #[test]
    fn a_hundred_thousand_users_are_read_and_one_more_is_not() {
        let mut text: String = (0..USERS_MAX).map(|number| format!("user{number}:{BCRYPT_OF}\n")).collect();
        assert_eq!(Htpasswd::parse(text.as_bytes()).expect("a good file").len(), USERS_MAX);
        text.push_str(&format!("more:{BCRYPT_OF}\n"));
        assert_eq!(wrong(&text)[0].0, 0);
    }
}
