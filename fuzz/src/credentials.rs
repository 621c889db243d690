//! What shows who somebody is: nothing is read in two ways, and nothing that others would read otherwise.

use maitred_model::{Htpasswd, PasswordHash};
use maitred_policies::authenticate::basic::header;

/// `Authorization: Basic`: what is accepted is what it says when it is written anew.
pub fn basic(data: &[u8]) {
    let Ok(read) = header::parse(data) else { return };
    assert!(header::is_basic(data), "another scheme is taken for Basic");
    assert!(!read.user.is_empty() && !read.user.contains(':'), "{:?} is no name", read.user);
    let text = format!("{}:{}", read.user, read.password);
    assert!(!text.chars().any(char::is_control), "{text:?} has a control character");
    let mut written = b"Basic ".to_vec();
    maitred_wire::base64::encode(text.as_bytes(), &mut written);
    assert!(header::parse(&written).is_ok_and(|again| again == read), "{text:?} does not come back");
    // Strictly read there is one way to write it, but for the case of the scheme and the space behind it.
    let (own, ours) = (data.trim_ascii_end(), &written["Basic ".len()..]);
    assert!(own.ends_with(ours), "{} is not {}", own.escape_ascii(), ours.escape_ascii());
}

/// A file of users: what is wrong is said of its line, and each user that is read stands there, with a hash of bounded cost.
pub fn htpasswd(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines = text.lines().count();
    match Htpasswd::parse(data) {
        Err(errors) => {
            assert!(!errors.is_empty() && errors.iter().all(|error| error.line <= lines && !error.hint.is_empty()));
        }
        Ok(file) => {
            assert!(!file.is_empty() && file.len() <= lines);
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let Some((name, _)) = line.split_once(':') else { continue };
                let hash = file.user(name).expect("a line that was passed over");
                match hash {
                    PasswordHash::Bcrypt(bcrypt) => assert!((4..=14).contains(&bcrypt.cost)),
                    PasswordHash::Argon2(argon2) => {
                        let cost = argon2.cost;
                        assert!(cost.memory_kib <= 256 * 1024 && cost.passes <= 10 && cost.lanes <= 8);
                        assert!(cost.memory_kib >= 8 * cost.lanes && cost.passes > 0 && cost.lanes > 0);
                        assert!(argon2.hash.len() >= 16 && argon2.salt.len() >= 8);
                    }
                }
            }
            assert!(file.user("").is_none());
        }
    }
}
