//! Every verb as a user runs it: what it writes, how it exits, and a gateway that is started, reloaded and drained as a process. What
//! happens to a request in it is the journeys' affair.

#[expect(dead_code, reason = "what follows a process that replaces itself is for upgrade.rs and systemd.rs")]
mod process;

use process::{Folder, Maitred, ask, maitred};
use serde_json::Value;

const HELLO: &str = "
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
limits: { drain_timeout: 5s }
apis:
  hello:
    routes:
      - match: GET /
        respond: { text: first }
telemetry: { access_log: none }
";

fn second() -> String {
    HELLO.replace("first", "second")
}

const BAD: &str = "listen: 127.0.0.1:0\napis:\n  hello:\n    routez: []\n";

fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty()).collect()
}

#[test]
fn every_verb_has_help() {
    for verb in [
        "run",
        "upgrade",
        "upstream",
        "limits",
        "consumer",
        "usage",
        "function",
        "lambda",
        "healthy",
        "check",
        "explain",
        "token",
        "routes",
        "init",
        "demo",
        "schema",
        "completions",
        "version",
    ] {
        let done = maitred(&[verb, "--help"]);
        assert_eq!(done.code, 0, "{verb}");
        assert!(done.stdout.contains(&format!("Usage: maitred {verb}")), "{}", done.stdout);
    }
    assert!(maitred(&["--help"]).stdout.contains("Exit codes:"));
}

#[test]
fn a_wrong_command_line_is_told_apart_by_its_exit_code() {
    for arguments in [
        &["serve"][..],
        &["run", "--upstream"],
        &["run", "--listen", "127.0.0.1:0"],
        &["run", "a.yaml", "--upstream", "http://127.0.0.1:1"],
        &["run", "--log-level", "loud"],
        &["explain", "GET"],
        &["explain", "GET", "/", "-H", "nocolon"],
        &["check", "--format", "xml"],
        &["completions", "cobol"],
        &["upgrade", "maitred.yaml", "--admin", "127.0.0.1:1"],
        &["healthy", "--admin", "localhost:1"],
    ] {
        assert_eq!(maitred(arguments).code, 2, "{arguments:?}");
    }
}

/// What is packaged is not built here; but what it names is there, and the parts fit each other.
#[test]
fn what_is_packaged_fits_together() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let done = maitred(&["check", root.join("packaging/maitred.yaml").to_str().unwrap()]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{}", done.stdout);
    let (service, socket) = (read("packaging/systemd/maitred.service"), read("packaging/systemd/maitred.socket"));
    let (image, manifest) = (read("packaging/Dockerfile"), read("maitred/Cargo.toml"));
    let value = |text: &str, key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned).unwrap();
    let listen = value(&read("packaging/maitred.yaml"), "listen: ");
    assert_eq!(value(&socket, "ListenStream="), listen);
    assert!(image.contains(&format!("EXPOSE {}", listen.split(':').next_back().unwrap())), "{listen}");
    assert_eq!(value(&service, "ExecStart="), "/usr/bin/maitred run /etc/maitred/maitred.yaml");
    assert!(manifest.contains("\"usr/bin/maitred\"") && manifest.contains("\"etc/maitred/maitred.yaml\""));
    for command in image.lines().filter_map(|line| line.split_once("[\"/usr/bin/maitred\", ")).map(|(_, rest)| rest) {
        let words: Vec<&str> = command.split('"').skip(1).step_by(2).collect();
        assert_eq!(maitred(&[&words[..], &["--help"]].concat()).code, 0, "{command}");
    }
    let parts = manifest.split('"').filter(|part| part.starts_with("../packaging") || part.starts_with("../docs"));
    for part in parts.map(|part| part.trim_start_matches("../").trim_end_matches("*.md")) {
        assert!(root.join(part).exists(), "{part}");
    }
}

#[test]
fn every_example_compiles_without_a_warning() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut checked = 0;
    let mut folders = vec![std::path::PathBuf::from(examples)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                // What has keys to be made first is walked through in examples.rs.
                if !path.with_file_name("make-keys").exists() {
                    let done = maitred(&["check", path.to_str().unwrap()]);
                    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{}", path.display());
                }
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(text.starts_with("# "), "{} says what it shows", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked >= 5, "{checked} examples");
}

#[test]
fn a_build_without_a_feature_says_how_to_get_it() {
    let folder = Folder::new("check-features");
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/certs");
    let http3 = format!(
        "listen: {{ address: \"127.0.0.1:8443\", http3: true, tls: {{ certificates: {{ cert: {certs}/api.pem, key: {certs}/api.key }} }} }}
apis: {{ a: {{ routes: [ {{ match: GET /, respond: {{ text: hello }} }} ] }} }}"
    );
    let cedar = "listen: 127.0.0.1:8080\nauthorizers: { keys: { api_key: {} } }
apis: { a: { policies: { authenticate: [keys], authorize: { cedar: { policies: p, schema: s } } }, routes: [ { match: GET /, respond: { text: hello } } ] } }";
    folder.file("p", "permit (principal, action, resource);");
    folder.file("s", "entity User, Route; action GET appliesTo { principal: User, resource: Route };");
    let version = maitred(&["version"]).stdout;
    for (text, name, feature, has) in
        [(http3.as_str(), "HTTP/3", "http3", cfg!(feature = "http3")), (cedar, "Cedar", "cedar", cfg!(feature = "cedar"))]
    {
        let done = folder.file("maitred.yaml", text).maitred(&["check"]);
        assert_eq!((done.code == 0, version.contains(feature)), (has, has), "{}\n{version}", done.stderr);
        let told =
            ["not-built".to_owned(), format!("without {name}"), format!("cargo build --release -p maitred --features {feature}")];
        assert!(has || told.iter().all(|words| done.stderr.contains(words)), "{}", done.stderr);
    }
}

#[test]
fn check_counts_what_is_there() {
    let folder = Folder::new("check-ok");
    let done = folder.file("maitred.yaml", HELLO).maitred(&["check"]);
    assert_eq!(
        (done.code, done.stdout.as_str(), done.stderr.as_str()),
        (0, "maitred.yaml: ok, 1 route in 1 API, 0 upstreams\n", "")
    );
    let done = folder.maitred(&["check", "--format", "json"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "[]\n"));
}

#[test]
fn check_says_where_and_what_to_type_instead() {
    let folder = Folder::new("check-bad");
    let done = folder.file("maitred.yaml", BAD).maitred(&["check"]);
    assert_eq!(done.code, 1);
    assert!(done.stdout.is_empty() && !done.stderr.contains('\x1b'), "{}", done.stderr);
    for part in ["maitred.yaml:4:5", "routez", "routes"] {
        assert!(done.stderr.contains(part), "{part} in {}", done.stderr);
    }
    let done = folder.maitred(&["check", "--format", "json"]);
    assert_eq!(done.code, 1);
    let list: Value = serde_json::from_str(&done.stdout).unwrap();
    let unknown = list.as_array().unwrap().iter().find(|one| one["code"] == "unknown-key").unwrap();
    assert_eq!((&unknown["severity"], &unknown["file"]), (&"error".into(), &"maitred.yaml".into()));
    assert_eq!((&unknown["line"], &unknown["column"]), (&4.into(), &5.into()));
    assert!(unknown["message"].is_string() && unknown["hint"].is_string());
    assert_eq!(folder.maitred(&["check", "nowhere.yaml"]).code, 1);
}

#[test]
fn a_key_that_does_not_fit_is_told_beside_mistakes_of_other_kinds() {
    let folder = Folder::new("check-all");
    for (name, text) in [
        ("api.pem", include_str!("../../tests/certs/api.pem")),
        ("api.key", include_str!("../../tests/certs/client.key")),
        ("v1.pem", include_str!("../../tests/certs/v1.pem")),
        ("v1.key", include_str!("../../tests/certs/nameless.key")),
    ] {
        folder.file(name, text);
    }
    let text = "listen: { address: 127.0.0.1:0, redirect_https: true, tls: { certificates: { cert: api.pem, key: api.key } } }
upstreams: { a: { endpoints: [https://127.0.0.1:1], tls: { cert: v1.pem, key: v1.key } } }
apis: { a: { routes: [ { match: GET /, proxy: a } ] } }
";
    let done = folder.file("maitred.yaml", text).maitred(&["check"]);
    assert_eq!(done.code, 1);
    for part in ["error[contradiction]", "does not belong to the certificate", "X.509 v1", "-extfile"] {
        assert!(done.stderr.contains(part), "{part} in {}", done.stderr);
    }
}

#[test]
fn init_writes_a_file_that_works_and_never_a_second_time() {
    let folder = Folder::new("init");
    let done = folder.maitred(&["init"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("maitred run"), "{}", done.stdout);
    let checked = folder.maitred(&["check"]);
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""));
    let text = folder.read("maitred.yaml");
    folder.file("maitred.yaml", &format!("{text}# mine\n"));
    let again = folder.maitred(&["init"]);
    assert_eq!(again.code, 1);
    assert!(folder.read("maitred.yaml").ends_with("# mine\n"));
    assert_eq!(folder.maitred(&["init", "a/b"]).code, 0);
    assert_eq!(folder.maitred(&["check", "a/b/maitred.yaml"]).code, 0);
}

/// What `init` leaves as comments is what a user tries first.
#[test]
fn what_init_suggests_compiles_too() {
    let folder = Folder::new("init-suggestions");
    folder.maitred(&["init"]);
    let text = folder.read("maitred.yaml");
    let (mut out, mut taken) = (String::new(), 0);
    for line in text.lines() {
        let bare = line.trim_start();
        let is_yaml = bare.starts_with("# ")
            && ["upstreams:", "  ", "- ", "hosts:", "base_path:"].iter().any(|start| bare[2..].starts_with(start));
        taken += usize::from(is_yaml);
        out.push_str(&if is_yaml { line.replacen("# ", "", 1) } else { line.to_owned() });
        out.push('\n');
    }
    assert!(taken >= 10, "{out}");
    let done = folder.file("maitred.yaml", &out).maitred(&["check"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{out}");
}

#[test]
fn schema_version_and_completions_are_printed() {
    let schema: Value = serde_json::from_str(&maitred(&["schema"]).stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(maitred(&["version"]).stdout.starts_with(concat!("maitred ", env!("CARGO_PKG_VERSION"))));
    for shell in ["bash", "zsh", "fish"] {
        assert!(maitred(&["completions", shell]).stdout.contains("explain"), "{shell}");
    }
}

#[test]
fn the_demo_does_what_it_says() {
    let done = maitred(&["demo", "--once"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(lines(&done.stdout).iter().all(|line| line.ends_with(": ok")), "{}", done.stdout);
}

#[test]
fn run_without_a_file_says_what_to_do() {
    let done = Folder::new("run-nothing").maitred(&["run"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("maitred init") && done.stderr.contains("--upstream"), "{}", done.stderr);
}

#[test]
fn an_address_on_the_command_line_gets_the_hints_of_one_in_the_file() {
    let done = Folder::new("run-listen").maitred(&["run", "--upstream", "http://127.0.0.1:9001", "--listen", ":18080"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("write `0.0.0.0:18080` for every IPv4 address"), "{}", done.stderr);
}

#[test]
fn run_refuses_what_check_refuses() {
    let folder = Folder::new("run-bad");
    let done = folder.file("maitred.yaml", BAD).maitred(&["run"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("maitred.yaml:4:5"), "{}", done.stderr);
}

#[test]
fn an_address_in_use_is_an_exit_code_of_its_own() {
    let folder = Folder::new("run-in-use");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for text in [
        HELLO.replacen("127.0.0.1:0", &address, 1),
        HELLO.replace("{ listen: 127.0.0.1:0 }", &format!("{{ listen: \"{address}\" }}")),
    ] {
        let done = folder.file("maitred.yaml", &text).maitred(&["run"]);
        assert_eq!(done.code, 3, "{}", done.stderr);
        assert!(done.stderr.contains(&address), "{}", done.stderr);
    }
}

#[test]
fn two_gateways_do_not_share_a_port() {
    let folder = Folder::new("run-twice");
    let first = folder.file("maitred.yaml", HELLO).run(&["run"]);
    let text = HELLO.replacen("127.0.0.1:0", &first.listening().to_string(), 1);
    let done = folder.file("maitred.yaml", &text).maitred(&["run"]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert_eq!(first.terminate().code, 0);
}

#[test]
fn a_gateway_is_reloaded_by_a_signal_and_drained_by_another() {
    let folder = Folder::new("run-hup");
    let gateway = folder.file("maitred.yaml", HELLO).run(&["run"]);
    assert!(gateway.get("/").ends_with("first"));
    folder.file("maitred.yaml", &second());
    gateway.signal(libc::SIGHUP);
    gateway.wait_for("reloaded: 1 route");
    assert!(gateway.get("/").ends_with("second"));
    let done = gateway.terminate();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("every connection ended by itself"), "{}", done.stderr);
}

#[test]
fn a_changed_file_is_loaded_and_a_bad_one_changes_nothing() {
    let folder = Folder::new("run-watch");
    let gateway = folder.file("maitred.yaml", HELLO).run(&["run", "maitred.yaml"]);
    assert_eq!(gateway.admin_json("/status")["generation"], 1);
    folder.file("maitred.yaml", BAD);
    gateway.wait_for("maitred.yaml:4:5");
    assert!(gateway.get("/").ends_with("first"));
    // The log comes before the note of it.
    gateway.eventually("/readyz", |ready| ready["warning"].is_string());
    let status = gateway.admin_json("/status");
    assert_eq!((&status["generation"], &status["last_reload"]["result"]), (&1.into(), &"failed".into()));
    assert!(gateway.admin("GET", "/metrics").contains("maitred_config_reloads_total{result=\"failed\"} 1"));
    folder.file("maitred.yaml", &second());
    gateway.eventually("/status", |status| status["generation"] == 2);
    assert!(gateway.get("/").ends_with("second"));
    gateway.eventually("/readyz", |ready| ready["warning"].is_null());
    assert_eq!(gateway.terminate().code, 0);
}

#[test]
fn a_file_that_appears_where_a_pattern_looks_is_part_of_it() {
    let folder = Folder::new("run-include");
    std::fs::create_dir(folder.path("apis")).unwrap();
    folder.file("apis/a.yaml", "apis: { a: { base_path: /a, routes: [{ match: GET /, respond: { text: a } }] } }");
    let gateway = folder.file("maitred.yaml", &format!("include: [\"apis/*.yaml\"]\n{HELLO}")).run(&["run"]);
    assert!(gateway.get("/a").ends_with('a'));
    folder.file("apis/b.yaml", "apis: { b: { base_path: /b, routes: [{ match: GET /, respond: { text: b } }] } }");
    gateway.wait_for("reloaded: 3 routes in 3 APIs, 0 upstreams (routes: 1 new (b GET /); APIs: 1 new (b))");
    assert!(gateway.get("/b").ends_with('b'));
    assert_eq!(gateway.terminate().code, 0);
}

#[test]
fn the_admin_listener_reloads_and_shows_what_is_live() {
    let folder = Folder::new("run-admin");
    let gateway = folder.file("maitred.yaml", HELLO).run(&["run"]);
    assert!(gateway.admin("POST", "/reload").contains("\"generation\":2"));
    let cores = gateway.admin_json("/status")["workers"].as_u64().unwrap();
    folder.file("maitred.yaml", &format!("workers: {}\n{}", cores + 1, second()));
    assert!(gateway.admin("POST", "/reload").contains("\"generation\":"));
    assert_eq!(gateway.admin_json("/status")["needs_restart"][0], "workers");
    assert_eq!(gateway.admin_json("/routes")[0]["match"], "GET /");
    assert_eq!(gateway.admin_json("/config")["apis"]["hello"]["routes"][0]["respond"]["text"], "second");
    folder.file("maitred.yaml", BAD);
    let refused = gateway.admin("POST", "/reload");
    assert!(refused.starts_with("HTTP/1.1 422") && refused.contains("routez"), "{refused}");
    assert_eq!(gateway.terminate().code, 0);
}

#[test]
fn a_signal_opens_the_log_again_even_when_the_file_is_bad() {
    let folder = Folder::new("run-rotate");
    let text = HELLO.replace("access_log: none", "access_log: { to: access.log }");
    let gateway = folder.file("maitred.yaml", &text).run(&["run"]);
    folder.file("maitred.yaml", BAD);
    gateway.wait_for("not reloaded");
    std::fs::rename(folder.path("access.log"), folder.path("access.log.1")).unwrap();
    gateway.signal(libc::SIGHUP);
    gateway.eventually("/status", |status| status["last_reload"]["cause"] == "SIGHUP");
    assert!(gateway.get("/").ends_with("first"));
    assert_eq!(gateway.terminate().code, 0);
    assert_eq!(folder.read("access.log").lines().count(), 1);
}

#[test]
fn a_drain_waits_for_what_is_under_way_and_a_second_signal_does_not() {
    let folder = Folder::new("run-drain");
    let gateway = folder.file("maitred.yaml", &HELLO.replace("drain_timeout: 5s", "drain_timeout: 1h")).run(&["run"]);
    let mut half = process::begin(gateway.listening());
    // Answered once, so that it is known to be accepted; then it stands open.
    assert!(half.round().ends_with("first"));
    gateway.signal(libc::SIGTERM);
    gateway.wait_for("draining");
    assert!(gateway.admin("GET", "/readyz").starts_with("HTTP/1.1 503"));
    gateway.signal(libc::SIGTERM);
    let done = gateway.end();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("by a second signal"), "{}", done.stderr);
}

#[test]
fn no_file_is_needed_for_one_back_end() {
    let back_end = process::back_end();
    let folder = Folder::new("run-upstream");
    let url = format!("http://{back_end}/base");
    let gateway = folder.run(&["run", "--upstream", &url, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert!(gateway.get("/").ends_with("GET /base/ HTTP/1.1"));
    assert!(gateway.get("/a/b?c=d").ends_with("GET /base/a/b?c=d HTTP/1.1"));
    let done = gateway.terminate();
    assert_eq!(done.code, 0);
    assert!(lines(&done.stdout)[0].contains("\"status\":200"), "{}", done.stdout);
    assert_eq!(folder.maitred(&["run", "--upstream", "ftp://nowhere"]).code, 1);
}

#[test]
fn a_name_behind_an_endpoint_is_looked_up_and_one_that_is_nowhere_is_only_a_warning() {
    let back_end = process::back_end();
    let folder = Folder::new("run-names");
    let upstreams = format!(
        "upstreams: {{ here: \"http://localhost:{}\", nowhere: \"http://nowhere.invalid:1\" }}\napis:\n  names:\n    routes:\n      - GET /here: here\n      - GET /nowhere: nowhere\n",
        back_end.port()
    );
    let text = HELLO.split("apis:").next().unwrap().to_owned() + &upstreams + "telemetry: { access_log: none }\n";
    let gateway = folder.file("maitred.yaml", &text).run(&["run"]);
    assert!(gateway.get("/here").ends_with("GET /here HTTP/1.1"));
    assert!(gateway.get("/nowhere").starts_with("HTTP/1.1 503"));
    let done = gateway.terminate();
    assert!(done.stderr.contains("nowhere.invalid"), "{}", done.stderr);
}

#[test]
fn the_log_is_json_when_asked() {
    let folder = Folder::new("run-json");
    let gateway: Maitred = folder.file("maitred.yaml", HELLO).run(&["run", "--log-format", "json"]);
    let address = gateway.listening();
    assert!(ask(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ends_with("first"));
    let done = gateway.terminate();
    for line in lines(&done.stderr) {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["level"].is_string(), "{line}");
    }
}
