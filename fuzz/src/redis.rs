//! Redis' protocol, and the URL that says where its servers are: however the bytes are cut the reply is the same, and written anew it reads the same.

use crate::cuts;
use maitred_model::RedisServers;
use maitred_wire::{Reply, SLOTS, resp_command, resp_slot};

pub fn resp(data: &[u8]) {
    assert!(resp_slot(data) < SLOTS);
    let whole = Reply::read(data);
    for cut in cuts(data.len()) {
        match Reply::read(&data[..cut]) {
            Ok(None) => {}
            early @ Ok(Some(_)) => assert_eq!(early, whole, "what follows the first {cut} bytes changes it"),
            Err(_) => assert!(whole.is_err(), "the first {cut} bytes are refused, and all are not"),
        }
    }
    let Ok(Some((reply, length))) = whole else { return };
    let read = &data[..length];
    assert_eq!(Reply::read(read), Ok(Some((reply.clone(), length))), "what follows a reply changes it");
    if let Some(texts) = texts(&reply) {
        let mut out = Vec::new();
        resp_command(&mut out, &texts);
        assert_eq!(Reply::read(&out), Ok(Some((reply.clone(), out.len()))), "{}", out.escape_ascii());
    }
}

/// A list of texts, which is what a command is.
fn texts(reply: &Reply) -> Option<Vec<&[u8]>> {
    reply.list()?.iter().map(text).collect()
}

fn text(reply: &Reply) -> Option<&[u8]> {
    match reply {
        Reply::Text(text) => Some(text),
        Reply::Integer(_) | Reply::Error(_) | Reply::Nothing | Reply::List(_) => None,
    }
}

pub fn redis_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let servers = match RedisServers::parse(text) {
        Ok(servers) => servers,
        Err(error) => {
            // Of what stands before the last `@` nothing is repeated, unless it is too short to tell, or stands behind it too.
            let rest = text.split_once("://").map_or("", |(_, rest)| rest);
            if let Some((secret, place)) = rest.rsplit_once('@').map(|(before, place)| (before.trim_start_matches(':'), place))
                && secret.len() > 12
                && !place.contains(secret)
            {
                assert!(!format!("{error:?}").contains(secret), "it is repeated: {error:?}");
            }
            return;
        }
    };
    assert!(servers.hosts.iter().all(|(host, port)| *port > 0 && !host.is_empty() && !host.contains(['@', '/', ','])));
    if servers.password.is_some() {
        assert!(RedisServers::has_password(text));
        assert!(servers.to_string().contains("***"));
        return;
    }
    let told = servers.to_string();
    let again = RedisServers::parse(&told).unwrap_or_else(|error| panic!("{told}: {error:?}"));
    assert_eq!(again.to_string(), told);
    assert_eq!((again.kind, again.hosts, again.database), (servers.kind, servers.hosts, servers.database));
}
