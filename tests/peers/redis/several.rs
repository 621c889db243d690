//! Servers of other shapes: behind TLS, at a socket, with a replica and a sentinel, as a cluster.

use super::member::{ask, on_worker, spec};
use super::server::{Server, Teller, cluster, is_there, sentinel};
use maitred_core::limit_table::Pace;
use maitred_core::limits::Unanswered;
use maitred_testkit::{Authority, Folder, eventually};
use maitred_wire::{Reply, resp_slot};
use std::time::{Duration, Instant};

fn pace() -> Pace {
    Pace::new(100_000, Duration::from_secs(1), 100_000)
}

/// As it stands on the servers.
fn name(number: u64) -> String {
    format!("maitred:{{{:016x}:{:016x}}}", 0xabc, ask(number, pace()).key.number())
}

#[test]
fn a_server_behind_tls_is_asked_if_it_is_who_it_should_be() {
    if !is_there() {
        return;
    }
    let (authority, folder) = (Authority::new("the counters'"), Folder::new());
    let identity = authority.server(&["127.0.0.1"]);
    for (name, text) in [("ca.pem", authority.pem()), ("a.pem", identity.cert), ("a.key", identity.key)] {
        std::fs::write(folder.path(name), text).expect("a writable folder");
    }
    let files = ["--tls-cert-file", "a.pem", "--tls-key-file", "a.key", "--tls-ca-cert-file", "ca.pem"];
    let more = ["--tls-port", "$port2", "--tls-auth-clients", "no"];
    let server = Server::start_in(folder, &[&files[..], &more[..]].concat());
    let Reply::List(port) = server.say("CONFIG GET tls-port") else { panic!("it tells its port") };
    let url = format!("{{ url: \"rediss://127.0.0.1:{}\", timeout: 1s }}", port[1].text().expect("a number"));
    on_worker(&spec(&url, Some(&authority.pem())), async |member| {
        member.answers(ask(1, pace())).await;
    });
    let stranger = Authority::new("somebody else's");
    on_worker(&spec(&url, Some(&stranger.pem())), async |member| {
        assert_eq!(member.take(ask(1, pace())).await, Err(Unanswered));
    });
}

#[test]
fn a_server_at_a_socket_is_asked_there() {
    if !is_there() {
        return;
    }
    let folder = Folder::new();
    let path = folder.path("redis.sock").display().to_string();
    let _server = Server::start(&["--unixsocket", &path]);
    on_worker(&spec(&format!("redis+unix://{path}"), None), async |member| {
        member.answers(ask(1, pace())).await;
    });
}

#[test]
fn when_a_master_dies_the_one_that_the_sentinel_names_is_asked() {
    if !is_there() {
        return;
    }
    let mut master = Server::start(&[]);
    let port = master.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
    eventually("the replica follows", || has(&master, "state=online"));
    let sentinel = sentinel(&master);
    eventually("the sentinel knows both", || {
        let reply = sentinel.say("SENTINEL replicas counts");
        reply.list().is_some_and(|replicas| replicas.len() == 1)
    });
    let url = format!("{{ url: \"redis-sentinel://127.0.0.1:{}/counts\", timeout: 100ms }}", sentinel.port);
    on_worker(&spec(&url, None), async |member| {
        member.answers(ask(1, pace())).await;
        master.kill();
        while member.take(ask(1, pace())).await.is_ok() {}
        let time = member.answers(ask(1, pace())).await;
        println!("another master is asked after {time:?}");
        assert!(has(&replica, "role:master"));
    });
    // Whoever comes later is led there at once.
    on_worker(&spec(&url, None), async |member| {
        member.answers(ask(1, pace())).await;
    });
}

fn has(server: &Server, words: &str) -> bool {
    matches!(server.say("INFO replication"), Reply::Text(text) if String::from_utf8_lossy(&text).contains(words))
}

#[test]
fn keys_of_a_cluster_are_asked_where_they_are_also_while_they_move() {
    if !is_there() {
        return;
    }
    let mut servers = cluster();
    let url = format!("{{ url: \"redis-cluster://127.0.0.1:{},127.0.0.1:1\", timeout: 1s }}", servers[1].port);
    on_worker(&spec(&url, None), async |member| {
        let pace = Pace::new(1, Duration::from_secs(3600), 2);
        for number in 0..60 {
            member.answers(ask(1000 + number, pace)).await;
        }
        let counts: Vec<i64> = servers.iter().filter_map(|server| server.say("DBSIZE").integer()).collect();
        assert!(counts.iter().all(|count| *count > 5), "each has some: {counts:?}");

        // A key moves: at first some are there already and some here, then all are there.
        assert_eq!(member.take(ask(1, pace)).await, Ok(true));
        let slot = resp_slot(name(1).as_bytes());
        let from = usize::from(slot) * 3 / 16384;
        let (from, to) = (&servers[from], &servers[(from + 1) % 3]);
        let id = |server: &Server| server.say("CLUSTER MYID").text().expect("an id").to_owned();
        let (from_id, to_id) = (id(from), id(to));
        to.say(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
        from.say(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
        let moved = from.say(&format!("MIGRATE 127.0.0.1 {} {} 0 1000", to.port, name(1)));
        assert_eq!(moved, Reply::Text(b"OK".into()));
        assert_eq!(member.take(ask(1, pace)).await, Ok(true), "by way of ASK");
        assert_eq!(member.take(ask(1, pace)).await, Ok(false), "it is the same count");
        for server in [to, from] {
            assert_eq!(server.say(&format!("CLUSTER SETSLOT {slot} NODE {to_id}")), Reply::Text(b"OK".into()));
        }
        assert_eq!(member.take(ask(1, pace)).await, Ok(false), "by way of MOVED");
    });
    // One dies that nobody replaces: its keys are not answered, without a wait; those of others are.
    let dead = usize::from(resp_slot(name(2).as_bytes())) * 3 / 16384;
    let elsewhere = (3..100).find(|number| usize::from(resp_slot(name(*number).as_bytes())) * 3 / 16384 != dead).expect("one");
    servers
        .iter()
        .for_each(|server| drop(Teller::connect(server.port).say(&[b"CONFIG", b"SET", b"cluster-require-full-coverage", b"no"])));
    on_worker(&spec(&url, None), async |member| {
        member.answers(ask(2, pace())).await;
        member.answers(ask(elsewhere, pace())).await;
        servers[dead].kill();
        while member.take(ask(2, pace())).await.is_ok() {}
        let since = Instant::now();
        assert_eq!(member.take(ask(2, pace())).await, Err(Unanswered));
        assert!(since.elapsed() < Duration::from_millis(100));
        assert_eq!(member.take(ask(elsewhere, pace())).await, Ok(true));
    });
}
