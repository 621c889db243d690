//! `maitred routes`, and the same list for the admin listener. Lists; explains nothing.

use crate::cli::Routes;
use crate::configuration::offline;
use crate::output::{Exit, json, print, table};
use maitred_dataplane::{RouteView, Snapshot};
use serde_json::{Value, json};

pub fn main(arguments: &Routes) -> anyhow::Result<Exit> {
    let Some(snapshot) = offline(arguments.file.path()) else { return Ok(Exit::Refused) };
    if arguments.json {
        return json(&as_json(&snapshot));
    }
    let heading = ["API", "HOSTS", "MATCH", "WHEN", "GOES TO", "POLICIES"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(snapshot.routes().map(|view| row(&view))).collect();
    print(&table(&rows))?;
    Ok(Exit::Fine)
}

fn row(view: &RouteView<'_>) -> Vec<String> {
    let hosts = if view.hosts.is_empty() { "any".to_owned() } else { view.hosts.join(", ") };
    let when = if view.when.is_empty() { "-".to_owned() } else { view.when.join(", ") };
    vec![view.api.to_owned(), hosts, matched(view), when, view.integration.clone(), view.policies.join(", ")]
}

/// `GET /shop/orders/{id}`: the path as a client writes it.
pub fn matched(view: &RouteView<'_>) -> String {
    format!("{} {}{}", view.methods, view.base_path, view.path)
}

pub fn as_json(snapshot: &Snapshot) -> Value {
    snapshot.routes().map(|view| one(&view)).collect()
}

pub fn one(view: &RouteView<'_>) -> Value {
    let RouteView { api, hosts, base_path, name, methods, path, when, integration, policies } = view;
    json!({
        "api": api,
        "hosts": hosts,
        "base_path": base_path,
        "route": name,
        "match": format!("{methods} {path}"),
        "when": when,
        "integration": integration,
        "policies": policies,
    })
}
