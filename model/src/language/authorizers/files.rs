//! Files that authorizers name: read when the configuration is loaded.

use super::super::tls::file_path;
use crate::decode::Cx;
use crate::yaml::Node;
use std::path::PathBuf;
use std::sync::Arc;

/// A file's path, how it may be shown, and its bytes. `what`: "the path of …".
pub(super) fn read(node: &Node, cx: &mut Cx<'_>, what: &str, bytes_max: usize) -> Option<(PathBuf, String, Arc<[u8]>)> {
    let scalar = cx.scalar(node, what)?;
    let path = file_path(node, cx, what)?;
    // What came by `${}` is not repeated.
    let shown = scalar.origin.as_ref().map_or_else(|| path.display().to_string(), |origin| origin.written.clone());
    match cx.outside.read_up_to(&path, bytes_max) {
        Ok(bytes) => Some((path, shown, bytes)),
        Err(reason) => {
            let message = format!("the file `{shown}` cannot be read: {reason}");
            cx.error("unreadable", node.span, message, "a relative path is relative to the file that names it");
            None
        }
    }
}
