//! Whom functions run as, and where they can go: users of /etc/passwd, and the mode bits of folders. Access control lists are not looked at;
//! who has some of them sees what the kernel says when a function is started.

use super::NotReady;
use maitred_model::Hosted;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whom root runs functions as, where nobody is named. Its number on every system that does not list it (Linux, `overflowuid`).
const NOBODY: &str = "nobody";
const NOBODY_IDS: (u32, u32) = (65534, 65534);
const USERS: &str = "/etc/passwd";

/// User and group.
pub(super) type User = Option<(u32, u32)>;

/// `None`: the gateway's own, since it is not root.
pub(crate) fn user_of(hosted: &Hosted) -> Result<User, NotReady> {
    if effective() != 0 {
        if let Some(user) = &hosted.user {
            tracing::debug!(user = user.value, "the gateway is not root: its functions run as its own user");
        }
        return Ok(None);
    }
    let users = fs::read_to_string(USERS).unwrap_or_default();
    let Some(named) = &hosted.user else {
        return Ok(Some(find(&users, NOBODY).unwrap_or(NOBODY_IDS)));
    };
    match find(&users, &named.value) {
        Some(ids) => Ok(Some(ids)),
        None => Err(NotReady {
            span: named.span,
            message: format!("there is no user `{}` in {USERS}", named.value),
            hint: format!("make it: `useradd --system {}`, or leave `user` out, for `{NOBODY}`", named.value),
        }),
    }
}

/// The gateway's own.
pub(super) fn effective() -> u32 {
    // SAFETY: takes nothing and returns a number.
    unsafe { libc::geteuid() }
}

/// passwd(5).
fn find(users: &str, name: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// Whether the user may go through all folders above `path`, which is canonical, and run it, where it is a file.
pub(super) fn can_reach(path: &Path, user: User) -> bool {
    path.ancestors().all(|part| fs::metadata(part).is_ok_and(|metadata| may_execute(&metadata, user)))
}

fn may_execute(metadata: &fs::Metadata, user: User) -> bool {
    let mode = metadata.mode();
    match user {
        // Root may go everywhere, and run what anybody may run.
        Some((0, _)) => metadata.is_dir() || mode & 0o111 != 0,
        Some((user, _)) if metadata.uid() == user => mode & 0o100 != 0,
        Some((_, group)) if metadata.gid() == group => mode & 0o010 != 0,
        Some(_) => mode & 0o001 != 0,
        // It is the user that asks; its groups are many.
        None => metadata.is_dir() || mode & 0o111 != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let users = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533::/:/bin/false\nbad:x:y:0::/:\nshort:x:7\n";
        let cases =
            [("root", Some((0, 0))), ("nobody", Some((65534, 65533))), ("no", None), ("bad", None), ("short", None), ("", None)];
        for (name, ids) in cases {
            assert_eq!(find(users, name), ids, "{name}");
        }
    }
}
