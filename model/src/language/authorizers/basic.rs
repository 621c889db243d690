//! `basic`: whose passwords, and what browsers show when they ask for one.

use super::files;
use crate::decode::{Cx, Defs, Shape, named, record, texts};
use crate::document::{Basic, HtpasswdFile};
use crate::values::{HTPASSWD_BYTES_MAX, Htpasswd, HtpasswdError, ValueError};
use crate::yaml::{Kind, Node};
use serde_json::Value;
use std::sync::Arc;

texts! {
    /// What browsers show when they ask for a password: ASCII without `"` and `\\`.
    Realm => String, parse_realm, "a realm such as `kitchen`", "^[ !#-\\[\\]-~]{1,128}$";
}

/// It stands in a header, and in a window.
const REALM_BYTES_MAX: usize = 128;

fn parse_realm(text: &str) -> Result<String, ValueError> {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    match !text.is_empty() && text.len() <= REALM_BYTES_MAX && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => {
            Err(ValueError::new("that cannot be a realm").hint("write a short name of ASCII without `\"` and `\\`: `kitchen`"))
        }
    }
}

record! {
    /// Name and password (RFC 7617).
    "`basic`" => Basic {
        /// What browsers show when they ask for a password.
        realm: Realm = "maitred",
        /// The path of a file of users, as `htpasswd -B` writes it: bcrypt or argon2.
        htpasswd: HtpasswdShape = required,
    }
}

/// `basic`, a mapping.
pub(crate) struct BasicShape;

impl Shape for BasicShape {
    type Out = Basic;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Basic> {
        match cx.is_mapping(node, "`basic`", "write `{ realm: kitchen, htpasswd: users.htpasswd }`") {
            true => Basic::decode(node, cx),
            false => None,
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        Basic::schema(defs)
    }
}

pub(crate) struct HtpasswdShape;

impl Shape for HtpasswdShape {
    type Out = HtpasswdFile;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<HtpasswdFile> {
        if matches!(&node.kind, Kind::Scalar(scalar) if scalar.is_hidden) {
            let message = "this is what stands in a file of users, where the path of the file belongs";
            cx.error("bad-value", node.span, message, "write the path alone: `users.htpasswd`");
            return None;
        }
        let (path, shown, bytes) = files::read(node, cx, "the path of a file of users", HTPASSWD_BYTES_MAX)?;
        match Htpasswd::parse(&bytes) {
            Ok(users) => Some(HtpasswdFile { path, bytes, users: Arc::new(users) }),
            Err(errors) => {
                for HtpasswdError { line, message, hint } in errors {
                    let place = if line == 0 { format!("`{shown}`") } else { format!("`{shown}`, line {line}") };
                    cx.error("bad-htpasswd", node.span, format!("{place}: {message}"), hint.replace("FILE", &shown));
                }
                None
            }
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        named(defs, "HtpasswdFile", &["The path of a file of users, relative to the file that names it."], "^[^\\n]+$")
    }
}
