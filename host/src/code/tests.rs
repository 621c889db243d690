//! Folders as users have them, in the temporary folder. As root the drop to another user is tested too.

use super::*;
use crate::process::Launch;
use maitred_model::{FunctionQueue, Secret};
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Everybody may look into it, as into a checkout. Gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBERS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("maitred-code-{}-{}", std::process::id(), NUMBERS.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn write(&self, path: &str, text: &str) -> &Folder {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn mode(&self, path: &str, mode: u32) -> &Folder {
        fs::set_permissions(self.0.join(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        copies::remove(&self.0);
    }
}

fn is_root() -> bool {
    user::effective() == 0
}

fn hosted(runtime: FunctionRuntime, code: PathBuf, handler: Option<&str>) -> Hosted {
    Hosted {
        runtime,
        code: Spanned::builtin(code),
        handler: handler.map(|handler| Spanned::builtin(handler.to_owned())),
        init_timeout: Duration::from_secs(10),
        concurrency: NonZeroU32::MIN,
        min_instances: 0,
        idle: Duration::from_secs(600),
        queue: FunctionQueue { length: 100, timeout: Duration::from_secs(10) },
        environment: Vec::new(),
        memory: None,
        user: None,
        layers: Vec::new(),
        reports: false,
    }
}

fn python(folder: &Folder) -> Hosted {
    folder.write("code/app.py", "def handler(event, context): return event\n");
    hosted(FunctionRuntime::Python, folder.at("code"), Some("app.handler"))
}

fn made(folder: &Folder, hosted: &Hosted) -> Code {
    ready(&folder.at("copies"), hosted, user_of(hosted).unwrap()).unwrap_or_else(|error| panic!("{error:?}"))
}

fn copies_in(folder: &Folder) -> usize {
    fs::read_dir(folder.at("copies")).unwrap().count()
}

#[test]
fn a_copy_has_all_of_it_and_nobody_may_write_to_it() {
    let folder = Folder::new();
    let hosted = python(&folder);
    folder
        .write("code/pkg/tool", "#!/bin/sh\n")
        .mode("code/pkg/tool", 0o700)
        .write("code/.git/HEAD", "ref")
        .mode("code/app.py", 0o600);
    folder.write("code/pkg/__pycache__/x.pyc", "compiled").write("secret", "s");
    for (target, link) in [
        ("app.py", "same.py"),
        ("../app.py", "pkg/up.py"),
        ("../secret", "out"),
        ("/etc/passwd", "far"),
        ("nothing", "broken"),
        (".git/HEAD", "head"),
    ] {
        symlink(target, folder.at("code").join(link)).unwrap();
    }
    symlink(folder.at("code/pkg"), folder.at("code/absolute")).unwrap();
    let code = made(&folder, &hosted);
    assert_eq!(code.root, folder.at("copies").canonicalize().unwrap().join(&code.hash));
    let mode = |path: &str| fs::symlink_metadata(code.root.join(path)).unwrap().mode() & 0o7777;
    let modes = [("", 0o555), ("app.py", 0o444), ("pkg", 0o555), ("pkg/tool", 0o555), ("pkg/__pycache__/x.pyc", 0o444)];
    for (path, wanted) in modes {
        assert_eq!(mode(path), wanted, "{path}");
    }
    for (link, target) in [("same.py", "app.py"), ("pkg/up.py", "../app.py"), ("absolute", "pkg")] {
        assert_eq!(fs::read_link(code.root.join(link)).unwrap(), Path::new(target));
    }
    for left_out in [".git", "out", "far", "broken", "head"] {
        assert!(fs::symlink_metadata(code.root.join(left_out)).is_err(), "{left_out}");
    }
    let modified = |path: PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(modified(code.root.join("app.py")), modified(folder.at("code/app.py")));
    assert_eq!(fs::read(code.runtime.join("bootstrap.py")).unwrap(), BOOTSTRAPS[0].1);
    assert_eq!(made(&folder, &hosted), code);
    assert_eq!(copies_in(&folder), 2, "code and runtime, and nothing unfinished");
}

#[test]
fn the_hash_goes_by_names_modes_and_bytes_and_by_nothing_else() {
    let folder = Folder::new();
    let hosted = python(&folder);
    folder.write("code/a/b", "1");
    let hash = || made(&folder, &hosted).hash;
    let first = hash();
    assert!(first.len() == 64 && first.bytes().all(|digit| digit.is_ascii_hexdigit()));
    folder.write("code/a/b", "1").write("code/.git/x", "").write("code/a/__pycache__/b.pyc", "any");
    assert_eq!(hash(), first, "written again, with the same in it");
    let mut seen = vec![first];
    let mut other = |what: &str| {
        let hash = hash();
        assert!(!seen.contains(&hash), "{what}");
        seen.push(hash);
    };
    folder.write("code/a/b", "2");
    other("other bytes of the same length");
    folder.mode("code/a/b", 0o755);
    other("a program");
    fs::rename(folder.at("code/a/b"), folder.at("code/ab")).unwrap();
    other("another name");
    symlink("app.py", folder.at("code/link")).unwrap();
    other("a link");
    fs::create_dir(folder.at("code/empty")).unwrap();
    other("an empty folder");
}

#[test]
fn a_layer_is_part_of_the_hash_and_has_its_own_copy() {
    let folder = Folder::new();
    let mut hosted = python(&folder);
    let without = made(&folder, &hosted);
    folder.write("layer/python/tool.py", "x = 1\n").write("other/bin/run", "");
    hosted.layers = ["layer", "other"].map(|layer| Spanned::builtin(folder.at(layer))).to_vec();
    let with = made(&folder, &hosted);
    assert_eq!((with.layers.len(), &with.root), (2, &without.root));
    assert_ne!(with.hash, without.hash);
    assert_eq!(fs::read_to_string(with.layers[0].join("python/tool.py")).unwrap(), "x = 1\n");
    hosted.layers.reverse();
    assert_ne!(made(&folder, &hosted).hash, with.hash, "their order counts");
}

#[test]
fn copies_go_when_nobody_holds_them() {
    let folder = Folder::new();
    let hosted = python(&folder);
    let sweep = || super::sweep(&folder.at("copies"), user_of(&hosted).unwrap());
    // A process that another test starts at the moment holds what this one holds, until it is what it is to be.
    let sweep_until = |left: usize| {
        let until = Instant::now() + Duration::from_secs(20);
        while copies_in(&folder) != left {
            assert!(Instant::now() < until, "{} copies are left", copies_in(&folder));
            sweep();
        }
    };
    let first = made(&folder, &hosted);
    folder.write("code/app.py", "changed = True\n");
    let second = made(&folder, &hosted);
    fs::create_dir(folder.at("copies/kept-by-a-user")).unwrap();
    fs::create_dir(folder.at("copies/.unfinished-0-1")).unwrap();
    let clone = first.clone();
    drop(first);
    sweep();
    assert!(clone.root.exists() && second.root.exists() && second.runtime.exists());
    assert!(!folder.at("copies/.unfinished-0-1").exists(), "there is no process 0");
    drop(clone);
    // Code, runtime and the folder that is none of ours.
    sweep_until(3);
    assert!(second.root.exists() && second.runtime.exists());
    drop(second);
    sweep_until(1);
    assert!(made(&folder, &hosted).root.exists());
}

#[test]
fn what_cannot_be_made_ready_says_what_to_do() {
    let folder = Folder::new();
    folder
        .write("code/main.py", "")
        .write("code/index.mjs", "")
        .write("code/bootstrap", "")
        .write("file", "")
        .write("empty/readme", "");
    folder
        .write("code/pkg/__init__.py", "")
        .write("code/nested/mod.py", "")
        .write("code/native.cpython-312-x86_64-linux-gnu.so", "");
    use FunctionRuntime::{Node, Provided, Python};
    let cases: &[(FunctionRuntime, &str, Option<&str>, &str)] = &[
        (Python, "code", Some("main.handler"), ""),
        (Python, "code", Some("pkg.handler"), ""),
        (Python, "code", Some("nested/mod.handler"), ""),
        (Python, "code", Some("nested.mod.handler"), ""),
        (Python, "code", Some("native.handler"), ""),
        (Node, "code", Some("index.handler"), ""),
        (Node, "code", Some("index.api.get"), ""),
        (Python, "code", Some("app.handler"), "there is no module `app` in"),
        (Python, "code", Some("app.handler"), "there is main.py; for `handler` in the first write `handler: main.handler`"),
        (Python, "empty", Some("app.handler"), "name the file without its end"),
        (Node, "code", Some("main.handler"), "there is index.mjs; for"),
        (Python, "nowhere", Some("app.handler"), "there is no "),
        (Python, "file", Some("app.handler"), "`runtime: python` takes a folder"),
        (Provided, "code", None, "chmod +x"),
        (Provided, "empty", None, "there is no `bootstrap` in"),
        (Provided, "file", None, "is not executable"),
    ];
    for (runtime, code, handler, wanted) in cases {
        let said = match check(&hosted(*runtime, folder.at(code), *handler)) {
            Ok(()) => String::new(),
            Err(NotReady { message, hint, .. }) => format!("{message}\n{hint}"),
        };
        assert!(if wanted.is_empty() { said.is_empty() } else { said.contains(wanted) }, "{code} {handler:?}: {said:?}");
    }
    assert!(!folder.at("copies").exists(), "nothing is copied");
    let mut layered = python(&folder);
    layered.layers = vec![Spanned::builtin(folder.at("file"))];
    assert!(check(&layered).unwrap_err().message.contains("is a file"));
    folder.write("layer/python/lib/python3.12/site-packages/wrapper/handler.py", "");
    layered.layers = vec![Spanned::builtin(folder.at("layer"))];
    layered.handler = Some(Spanned::builtin("wrapper.handler.handler".into()));
    check(&layered).unwrap();
    folder.mode("code/bootstrap", 0o755).mode("file", 0o755);
    check(&hosted(Provided, folder.at("code"), None)).unwrap();
    let single = hosted(Provided, folder.at("file"), None);
    assert!(made(&folder, &single).root.join("bootstrap").is_file());
}

#[test]
fn a_handler_may_lie_where_the_users_own_variable_leads() {
    let folder = Folder::new();
    folder
        .write("code/lib/inner.py", "")
        .write("code/lib/inner.mjs", "")
        .write("shared/outer.py", "")
        .write("shared/pkg/__init__.py", "")
        .write("shared/outer.js", "")
        .write("shared/pkg/index.js", "")
        .write("packed.zip", "");
    let at = |path: &str| folder.at(path).display().to_string();
    let (shared, packed) = (at("shared"), at("packed.zip"));
    use FunctionRuntime::{Node, Python};
    let rows: [(FunctionRuntime, &str, &str, bool); 12] = [
        (Python, "lib", "inner.handler", true),
        (Python, "./lib/", "inner.handler", true),
        (Python, &format!("/nowhere:{shared}"), "outer.handler", true),
        (Python, &shared, "pkg.handler", true),
        (Python, &shared, "pkg/missing.handler", false),
        (Python, &shared, "inner.handler", false),
        (Python, "../shared", "outer.handler", false),
        (Python, "", "inner.handler", false),
        // What is in an archive is for Python to say.
        (Python, &packed, "any.handler", true),
        (Node, &shared, "outer.handler", true),
        (Node, &format!("lib:{shared}"), "pkg.handler", true),
        (Node, "lib", "outer.handler", false),
    ];
    for (runtime, list, handler, is_found) in rows {
        let mut hosted = hosted(runtime, folder.at("code"), Some(handler));
        let name = if runtime == Python { "PYTHONPATH" } else { "NODE_PATH" };
        hosted.environment = vec![(name.into(), Secret::new(list))];
        match check(&hosted) {
            Ok(()) => assert!(is_found, "{list} {handler}"),
            Err(error) => {
                let told = error.message.contains(&format!("nor where `{name}` leads"));
                assert!(!is_found && told, "{list} {handler}: {error:?}");
            }
        }
    }
}

#[test]
fn there_is_a_limit_of_depth_and_of_bytes() {
    let folder = Folder::new();
    let hosted = python(&folder);
    let deep = "d/".repeat(tree::DEPTH_MAX + 1);
    fs::create_dir_all(folder.at("code").join(&deep)).unwrap();
    assert!(check(&hosted).unwrap_err().message.contains("folders deep"));
    fs::remove_dir_all(folder.at("code/d")).unwrap();
    // It has the size and takes no place on the disk.
    fs::File::create(folder.at("code/large")).unwrap().set_len(tree::BYTES_MAX + 1).unwrap();
    let error = check(&hosted).unwrap_err();
    assert!(error.message.contains("more than 512 MB"), "{error:?}");
}

#[test]
fn a_folder_of_copies_that_others_may_write_to_is_not_used() {
    let folder = Folder::new();
    let hosted = python(&folder);
    fs::create_dir(folder.at("copies")).unwrap();
    folder.mode("copies", 0o777);
    let code = made(&folder, &hosted);
    assert!(!code.root.starts_with(&folder.0) && code.root.starts_with(std::env::temp_dir().canonicalize().unwrap()), "{code:?}");
    // As far as other tests do not hold theirs.
    super::sweep(&folder.at("copies"), user_of(&hosted).unwrap());
    let planted = folder.at("copies").join(&code.hash);
    folder.mode("copies", 0o755);
    fs::create_dir(&planted).unwrap();
    fs::set_permissions(&planted, fs::Permissions::from_mode(0o777)).unwrap();
    let error = ready(&folder.at("copies"), &hosted, user_of(&hosted).unwrap()).unwrap_err();
    assert!(error.message.contains("not made by this gateway"), "{error:?}");
}

#[test]
fn where_the_user_cannot_go_the_copies_are_elsewhere() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let hosted = python(&folder);
    fs::create_dir(folder.at("closed")).unwrap();
    folder.mode("closed", 0o700);
    let wanted = folder.at("closed/copies");
    let code = ready(&wanted, &hosted, user_of(&hosted).unwrap()).unwrap();
    assert!(code.root.starts_with(std::env::temp_dir().canonicalize().unwrap()) && !code.root.starts_with(&folder.0), "{code:?}");
    let for_root = ready(&wanted, &hosted, Some((0, 0))).unwrap();
    assert!(for_root.root.starts_with(&folder.0));
}

fn told<'a>() -> Surroundings<'a> {
    Surroundings {
        name: "dessert",
        region: "eu-west-3",
        api: "127.0.0.1:40123".parse().unwrap(),
        invoke: Some(("127.0.0.1:9901".parse().unwrap(), "KEY", "SECRET")),
        is_ahead: false,
        now: Duration::from_secs(1_700_000_000),
        id: "0123456789abcdef0123456789abcdef",
    }
}

fn launch(hosted: &Hosted, code: &Code, user: Option<(u32, u32)>, told: &Surroundings<'_>) -> Result<Launch, NotReady> {
    super::launch(hosted, code, user, interpreter_for(hosted, user)?.as_ref(), told)
}

fn told_to(hosted: &Hosted, code: &Code, told: &Surroundings<'_>) -> BTreeMap<String, String> {
    let launch = launch(hosted, code, None, told).unwrap_or_else(|error| panic!("{error:?}"));
    let text = |text: std::ffi::OsString| text.into_string().unwrap();
    let all: Vec<_> = launch.environment.into_iter().map(|(name, value)| (text(name), text(value))).collect();
    let map: BTreeMap<_, _> = all.iter().cloned().collect();
    assert_eq!(map.len(), all.len(), "no name twice: {all:?}");
    map
}

/// All of section 2 of what is known about the Runtime API.
#[test]
fn the_environment_is_all_of_lambdas_and_nothing_of_the_gateways() {
    let folder = Folder::new();
    folder.write("code/bootstrap", "").mode("code/bootstrap", 0o755).write("layer/bin/x", "");
    let mut hosted = hosted(FunctionRuntime::Provided, folder.at("code"), None);
    hosted.layers = vec![Spanned::builtin(folder.at("layer"))];
    let code = made(&folder, &hosted);
    let (root, layer) = (code.root.display(), code.layers[0].display());
    let wanted = [
        ("AWS_ACCESS_KEY_ID", "KEY".to_owned()),
        ("AWS_DEFAULT_REGION", "eu-west-3".to_owned()),
        ("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "http://127.0.0.1:9901".to_owned()),
        ("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9901".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "3008".to_owned()),
        ("AWS_LAMBDA_FUNCTION_NAME", "dessert".to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/dessert".to_owned()),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "2023/11/14/[$LATEST]0123456789abcdef0123456789abcdef".to_owned()),
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:40123".to_owned()),
        ("AWS_REGION", "eu-west-3".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "SECRET".to_owned()),
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR".to_owned()),
        ("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:2000".to_owned()),
        ("LAMBDA_RUNTIME_DIR", code.runtime.display().to_string()),
        ("LAMBDA_TASK_ROOT", root.to_string()),
        ("LANG", "en_US.UTF-8".to_owned()),
        ("LD_LIBRARY_PATH", format!("{root}:{root}/lib:{layer}/lib")),
        ("PATH", format!("/usr/local/bin:/usr/bin:/bin:{layer}/bin")),
        ("TZ", ":UTC".to_owned()),
        ("_HANDLER", "bootstrap".to_owned()),
    ];
    let wanted: BTreeMap<_, _> = wanted.map(|(name, value)| (name.to_owned(), value)).into();
    assert_eq!(told_to(&hosted, &code, &told()), wanted);
}

#[test]
fn a_user_says_otherwise_where_aws_lets_him() {
    let folder = Folder::new();
    folder.write("code/bootstrap", "").mode("code/bootstrap", 0o755);
    let mut hosted = hosted(FunctionRuntime::Provided, folder.at("code"), None);
    let code = made(&folder, &hosted);
    let own = [
        ("TZ", "Europe/Paris"),
        ("PATH", "/own/bin"),
        ("AWS_REGION", "us-west-2"),
        ("AWS_PROFILE", "mine"),
        ("LAMBDA_TASK_ROOT", "/x"),
        ("COLOUR", "red"),
    ];
    hosted.environment = own.map(|(name, value)| (name.to_owned(), Secret::new(value))).to_vec();
    hosted.memory = Some(256 * 1024 * 1024);
    let told = Surroundings { is_ahead: true, ..told() };
    let environment = told_to(&hosted, &code, &told);
    let cases = [
        ("TZ", Some("Europe/Paris")),
        ("PATH", Some("/own/bin:/usr/local/bin:/usr/bin:/bin")),
        ("AWS_REGION", Some("us-west-2")),
        ("AWS_DEFAULT_REGION", Some("us-west-2")),
        ("COLOUR", Some("red")),
        ("LAMBDA_TASK_ROOT", code.root.to_str()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", Some("256")),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", Some("provisioned-concurrency")),
        // His profile is for AWS, and so are his calls.
        ("AWS_ACCESS_KEY_ID", None),
        ("AWS_ENDPOINT_URL_LAMBDA", None),
        ("AWS_EXECUTION_ENV", None),
    ];
    for (name, wanted) in cases {
        assert_eq!(environment.get(name).map(String::as_str), wanted, "{name}");
    }
}

#[test]
fn interpreters_are_given_the_bootstrap_and_the_handler() {
    let folder = Folder::new();
    let mut hosted = python(&folder);
    folder.write("layer/python/x.py", "").write("layer/wrap", "#!/bin/sh\n").write("code/app.mjs", "");
    hosted.layers = vec![Spanned::builtin(folder.at("layer"))];
    hosted.memory = Some(400 * 1024 * 1024);
    let code = made(&folder, &hosted);
    let user = user_of(&hosted).unwrap();
    for runtime in [FunctionRuntime::Python, FunctionRuntime::Node] {
        hosted.runtime = runtime;
        hosted.environment = Vec::new();
        let found = match launch(&hosted, &code, user, &told()) {
            Ok(found) => found,
            Err(error) => {
                eprintln!("not tested: {error:?}");
                continue;
            }
        };
        let bootstrap = if runtime == FunctionRuntime::Python { "bootstrap.py" } else { "bootstrap.mjs" };
        let program = PathBuf::from(&found.command[0]);
        assert!(user::can_reach(&program.canonicalize().unwrap(), user), "{program:?}");
        let mut wanted = vec![program.clone().into_os_string()];
        let variable = |name: &str| found.environment.iter().find(|(own, _)| own == name).unwrap().1.to_str().unwrap();
        let execution = variable("AWS_EXECUTION_ENV");
        let layer = code.layers[0].display();
        match runtime {
            FunctionRuntime::Python => {
                let version = execution.strip_prefix("AWS_Lambda_python").unwrap();
                assert!(version.starts_with("3."), "{version}");
                let modules =
                    format!("{layer}/python:{layer}/python/lib/python{version}/site-packages:{}", code.runtime.display());
                assert_eq!(variable("PYTHONPATH"), modules);
            }
            FunctionRuntime::Node | FunctionRuntime::Provided => {
                wanted.push("--max-old-space-size=300".into());
                let version = execution.strip_prefix("AWS_Lambda_nodejs").and_then(|end| end.strip_suffix(".x")).unwrap();
                assert!(
                    variable("NODE_PATH")
                        .starts_with(&format!("{layer}/nodejs/node{version}/node_modules:{layer}/nodejs/node_modules:"))
                );
            }
        }
        wanted.extend([code.runtime.join(bootstrap).into(), "app.handler".into()]);
        assert_eq!(found.command, wanted);
        assert_eq!((found.directory, found.user, found.memory), (code.root.clone(), user, hosted.memory));
        assert_eq!(variable("_HANDLER"), "app.handler");
        hosted.environment = vec![("AWS_LAMBDA_EXEC_WRAPPER".into(), Secret::new("/opt/wrap"))];
        let wrapped = launch(&hosted, &code, user, &told()).unwrap().command;
        assert_eq!(wrapped[0], code.layers[0].join("wrap").into_os_string());
        assert_eq!(wrapped[1..], wanted);
        hosted.environment = vec![("AWS_LAMBDA_EXEC_WRAPPER".into(), Secret::new("/opt/missing"))];
        assert!(launch(&hosted, &code, user, &told()).unwrap_err().message.contains("which is not there"));
    }
}

#[test]
fn an_interpreter_that_cannot_be_run_is_passed_over_and_named() {
    let folder = Folder::new();
    let mut hosted = python(&folder);
    folder
        .write("bin/python3", "#!/bin/sh\nexit 1\n")
        .mode("bin/python3", 0o755)
        .write("late/python3", "#!/bin/sh\necho /late/python\necho 3.99\n")
        .mode("late/python3", 0o755);
    let path = |folders: &[&str]| folders.iter().map(|name| folder.at(name).display().to_string()).collect::<Vec<_>>().join(":");
    hosted.environment = vec![("PATH".into(), Secret::new(path(&["none", "bin"])))];
    let code = made(&folder, &hosted);
    let error = launch(&hosted, &code, user_of(&hosted).unwrap(), &told()).unwrap_err();
    assert!(error.message.contains("no python3") && error.hint.contains("bin/python3: it ends with"), "{error:?}");
    hosted.environment = vec![("PATH".into(), Secret::new(path(&["bin", "late"])))];
    let found = launch(&hosted, &code, user_of(&hosted).unwrap(), &told()).unwrap();
    assert_eq!(found.command[0], "/late/python");
    let user = user_of(&hosted).unwrap();
    let interpreter = interpreter_for(&hosted, user).unwrap();
    folder.write("late/python3", "#!/bin/sh\nexit 1\n");
    let found = super::launch(&hosted, &code, user, interpreter.as_ref(), &told()).unwrap();
    assert_eq!(found.command[0], "/late/python", "it is not asked for each process");
    if is_root() {
        fs::create_dir(folder.at("closed")).unwrap();
        fs::copy(folder.at("late/python3"), folder.at("closed/python3")).unwrap();
        folder.mode("closed", 0o700);
        hosted.environment = vec![("PATH".into(), Secret::new(path(&["closed"])))];
        let error = launch(&hosted, &code, user_of(&hosted).unwrap(), &told()).unwrap_err();
        assert!(error.hint.contains("may not be run by that user"), "{error:?}");
    }
}

#[test]
fn a_user_that_is_not_there_is_told() {
    let folder = Folder::new();
    let mut hosted = python(&folder);
    hosted.user = Some(Spanned::builtin("nobody-of-that-name".into()));
    match user_of(&hosted) {
        Ok(user) => assert!(!is_root() && user.is_none()),
        Err(error) => assert!(is_root() && error.hint.contains("useradd"), "{error:?}"),
    }
    hosted.user = Some(Spanned::builtin("root".into()));
    assert_eq!(user_of(&hosted).unwrap(), is_root().then_some((0, 0)));
}
