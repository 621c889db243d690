//! bootstrap.py.

use super::{Post, Session, is_there};
use serde_json::{Value, json};

fn start(source: &str) -> Session {
    Session::start("python3", &[("app.py", source)], "app.handler", &[])
}

/// One event to a handler.
fn once(source: &str, event: &str) -> Post {
    start(source).run(event)
}

#[test]
fn a_result_is_what_the_handler_returned() {
    if !is_there("python3") {
        return;
    }
    let rows = [
        ("return event", "{\"dish\":\"tart\"}", json!({"dish": "tart"})),
        ("return {'dish': event['dish'].upper()}", "{\"dish\":\"crème brûlée\"}", json!({"dish": "CRÈME BRÛLÉE"})),
        ("return 'é\\U0001f370'", "{}", json!("é🍰")),
        ("return {'body': b'bytes'}", "{}", json!({"body": "bytes"})),
        ("return None", "{}", Value::Null),
        ("pass", "[1]", Value::Null),
        ("return len(event)", "\"four\"", json!(4)),
    ];
    for (body, event, expected) in rows {
        let post = once(&format!("def handler(event, context):\n    {body}\n"), event);
        assert_eq!((post.kind(), post.json()), ("response", expected), "{body}");
        assert_eq!(post.header("content-type"), "application/json", "{body}");
    }
}

#[test]
fn half_a_pair_of_surrogates_is_written_as_json_can() {
    if !is_there("python3") {
        return;
    }
    let post = once("def handler(event, context):\n    return '\\ud83c'\n", "{}");
    assert_eq!((post.kind(), post.body.as_slice()), ("response", b"\"\\ud83c\"".as_slice()));
}

#[test]
fn bytes_are_posted_as_they_are() {
    if !is_there("python3") {
        return;
    }
    let post = once("def handler(event, context):\n    return b'\\x00\\xff'\n", "{}");
    assert_eq!((post.body.as_slice(), post.header("content-type")), (b"\x00\xff".as_slice(), "application/unknown"));
}

#[test]
fn one_process_runs_one_event_after_another() {
    if !is_there("python3") {
        return;
    }
    let mut session = start("calls = 0\ndef handler(event, context):\n    global calls\n    calls += 1\n    return calls\n");
    for expected in 1..=3 {
        assert_eq!(session.run("{}").json(), json!(expected));
    }
}

#[test]
fn an_error_is_posted_with_its_trace_and_the_next_event_runs() {
    if !is_there("python3") {
        return;
    }
    let mut session = start(
        "def deeper(event):\n    raise ValueError('no ' + event['dish'])\n\ndef handler(event, context):\n    return deeper(event) if event else 1\n",
    );
    let post = session.run("{\"dish\":\"crème\"}");
    let error = post.json();
    assert_eq!(post.kind(), "error");
    assert_eq!((&error["errorType"], &error["errorMessage"]), (&json!("ValueError"), &json!("no crème")));
    assert!(post.path.contains(error["requestId"].as_str().unwrap()));
    let trace = error["stackTrace"].as_array().unwrap();
    assert_eq!(trace.len(), 2, "{trace:?}");
    assert!(trace[0].as_str().unwrap().contains("File \"app.py\", line 5, in handler\n    return deeper"), "{trace:?}");
    let output = session.output();
    assert!(output.starts_with("[ERROR] ValueError: no crème\nTraceback (most recent call last):\n  File "), "{output}");
    assert_eq!(session.run("{}").json(), json!(1));
}

#[test]
fn what_cannot_be_a_result_is_an_error_of_the_runtime() {
    if !is_there("python3") {
        return;
    }
    let rows = [
        (
            "def handler(event, context):\n    return {1, 2}\n",
            "{}",
            "Runtime.MarshalError",
            "Object of type set is not JSON serializable",
            "",
        ),
        (
            "async def handler(event, context):\n    return 1\n",
            "{}",
            "Runtime.MarshalError",
            "coroutine is not JSON",
            "leave out `async`",
        ),
        ("def handler(event, context):\n    return event\n", "{", "Runtime.UnmarshalError", "Unable to unmarshal input: ", ""),
        (
            "class Odd(Exception):\n    def __str__(self): raise 1\ndef handler(event, context):\n    raise Odd()\n",
            "{}",
            "Odd",
            "it has no text",
            "",
        ),
        ("def handler(event):\n    return event\n", "{}", "TypeError", "takes 1 positional argument but 2 were given", ""),
    ];
    for (source, event, kind, message, hint) in rows {
        let mut session = start(source);
        let post = session.run(event);
        let error = post.json();
        assert_eq!((post.kind(), error["errorType"].as_str().unwrap()), ("error", kind), "{source}");
        assert!(error["errorMessage"].as_str().unwrap().contains(message), "{error}");
        assert!(session.output().contains(hint), "{}", session.output());
    }
}

#[test]
fn what_keeps_a_handler_from_being_loaded_is_told_before_the_first_event() {
    if !is_there("python3") {
        return;
    }
    let fine = "def handler(event, context): pass\n";
    let rows = [
        (
            "app.py",
            fine,
            "app.handlr",
            "Runtime.HandlerNotFound",
            "Handler 'handlr' missing on module 'app'",
            "hint: the module has handler",
        ),
        (
            "app.py",
            "x = 1\n",
            "app.handler",
            "Runtime.HandlerNotFound",
            "Handler 'handler' missing on module 'app'",
            "defines no function",
        ),
        (
            "main.py",
            fine,
            "app.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'app'",
            "has no app.py, but main.py",
        ),
        (
            "app.py",
            "import nowhere_at_all\n",
            "app.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'nowhere_at_all'",
            "",
        ),
        (
            "app.py",
            "def handler(:\n",
            "app.handler",
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'app': invalid syntax (app.py, line 1)",
            "",
        ),
        (
            "app.py",
            fine,
            "app",
            "Runtime.MalformedHandlerName",
            "Bad handler 'app': not enough values to unpack (expected 2, got 1)",
            "",
        ),
        (
            "app.py",
            fine,
            "sys.handler",
            "Runtime.BuiltInModuleConflict",
            "Cannot use built-in module sys as a handler module",
            "another name",
        ),
        ("app.py", "raise KeyError('menu')\n", "app.handler", "KeyError", "'menu'", "app.py\", line 1, in <module>"),
    ];
    for (file, source, handler, kind, message, output) in rows {
        let session = Session::start("python3", &[(file, source)], handler, &[]);
        let post = session.post();
        let error = post.json();
        assert_eq!((post.path.as_str(), post.header("lambda-runtime-function-error-type")), ("init/error", kind), "{source}");
        assert_eq!((error["errorType"].as_str(), error["errorMessage"].as_str()), (Some(kind), Some(message)), "{source}");
        assert_eq!(session.exit_code(), Some(1));
        assert!(session.output().contains(output), "{}", session.output());
        assert!(!session.output().contains("importlib"), "{}", session.output());
    }
}

#[test]
fn a_thread_of_the_module_does_not_keep_what_could_not_start() {
    if !is_there("python3") {
        return;
    }
    let session = start("import threading\nthreading.Thread(target=threading.Event().wait).start()\nraise OSError('shut')\n");
    assert_eq!(session.post().json()["errorType"], "OSError");
    assert_eq!(session.exit_code(), Some(1));
}

#[test]
fn whoever_exits_posts_nothing() {
    if !is_there("python3") {
        return;
    }
    let mut session = start("import sys\ndef handler(event, context):\n    print('bye')\n    sys.exit(3)\n");
    session.give("{}");
    assert_eq!(session.exit_code(), Some(3));
    assert_eq!(session.output(), "bye\n");
    let session = start("import sys\nsys.exit(4)\n");
    assert_eq!(session.exit_code(), Some(4));
}

#[test]
fn handlers_are_found_in_folders_and_beside_themselves() {
    if !is_there("python3") {
        return;
    }
    let files = [
        ("shop/__init__.py", ""),
        ("shop/orders.py", "from helper import said\ndef handler(event, context):\n    return said\n"),
        ("helper.py", "said = 'helped'\n"),
        ("bootstrap.py", "def handler(event, context):\n    return 'own'\n"),
    ];
    for (handler, expected) in
        [("shop/orders.handler", "helped"), ("shop.orders.handler", "helped"), ("bootstrap.handler", "own")]
    {
        let mut session = Session::start("python3", &files, handler, &[]);
        assert_eq!(session.run("{}").json(), json!(expected), "{handler}");
    }
}

#[test]
fn the_context_says_what_the_host_said() {
    if !is_there("python3") {
        return;
    }
    let source = "
import os
def handler(event, context):
    left = context.get_remaining_time_in_millis()
    client = context.client_context
    return {
        'id': context.aws_request_id, 'arn': context.invoked_function_arn, 'name': context.function_name,
        'version': context.function_version, 'memory': context.memory_limit_in_mb, 'group': context.log_group_name,
        'stream': context.log_stream_name, 'left': 0 < left <= 3000, 'trace': os.environ.get('_X_AMZN_TRACE_ID'),
        'custom': client and client.custom, 'env': client and client.env, 'title': client and client.client and client.client.app_title,
        'cognito': context.identity.cognito_identity_id, 'pool': context.identity.cognito_identity_pool_id, 'tenant': context.tenant_id,
        'root': os.environ['LAMBDA_TASK_ROOT'] == os.getcwd(),
    }
";
    let mut session = start(source);
    let headers = [
        ("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"),
        (
            "Lambda-Runtime-Client-Context",
            "{\"custom\":{\"shop\":\"nörd\"},\"env\":{\"a\":1},\"client\":{\"app_title\":\"till\"}}",
        ),
        ("Lambda-Runtime-Cognito-Identity", "{\"cognitoIdentityId\":\"i\",\"cognitoIdentityPoolId\":\"p\"}"),
        ("Lambda-Runtime-Aws-Tenant-Id", "t"),
    ];
    let id = session.give_with("{}", &headers);
    let expected = json!({
        "id": id, "arn": "arn:aws:lambda:us-east-1:000000000000:function:dessert", "name": "dessert", "version": "$LATEST",
        "memory": "128", "group": "/aws/lambda/dessert", "stream": "2026/11/22/[$LATEST]0", "left": true,
        "trace": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
        "custom": {"shop": "nörd"}, "env": {"a": 1}, "title": "till", "cognito": "i", "pool": "p", "tenant": "t", "root": true,
    });
    assert_eq!(session.post().json(), expected);
    let bare = session.run("{}").json();
    for absent in ["trace", "custom", "env", "title", "cognito", "pool", "tenant"] {
        assert_eq!(bare[absent], Value::Null, "{absent}: nothing is left from before");
    }
}

#[test]
fn lines_of_the_log_name_their_invocation() {
    if !is_there("python3") {
        return;
    }
    let source = "
import logging
logging.getLogger().setLevel(logging.INFO)
logging.basicConfig(format='never')
def handler(event, context):
    print('plain é \\udcff')
    logging.info('%d tarts', 3)
    logging.getLogger('shop').warning('few', extra={'left': 1})
";
    let mut session = start(source);
    session.give("{}");
    session.post();
    let output = session.output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "plain é \\udcff");
    assert_eq!(lines[1..], ["[INFO] 3 tarts", "[WARNING] few"]);

    let mut session = Session::start("python3", &[("app.py", source)], "app.handler", &[("AWS_LAMBDA_LOG_FORMAT", "Text")]);
    let id = session.give("{}");
    session.post();
    let output = session.output();
    let parts: Vec<&str> = output.lines().nth(1).unwrap().split('\t').collect();
    assert_eq!((parts[0], parts[2], parts[3]), ("[INFO]", id.as_str(), "3 tarts"));
    assert!(parts[1].len() == "2026-11-22T10:00:00.000Z".len() && parts[1].ends_with('Z'), "{}", parts[1]);

    let json_logs = [("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("AWS_LAMBDA_LOG_LEVEL", "WARN")];
    let mut session = Session::start(
        "python3",
        &[("app.py", &source.replace("logging.getLogger().setLevel(logging.INFO)", ""))],
        "app.handler",
        &json_logs,
    );
    let id = session.give("{}");
    session.post();
    let output = session.output();
    let line: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(output.lines().count(), 2, "{output}");
    let expected = json!({"timestamp": line["timestamp"], "level": "WARNING", "message": "few", "logger": "shop", "left": 1, "requestId": id});
    assert_eq!(line, expected);
}

#[test]
fn a_refused_result_is_said_and_the_next_event_runs() {
    if !is_there("python3") {
        return;
    }
    let mut session = start("def handler(event, context):\n    return 'x' * event\n");
    session.give("7000000");
    assert_eq!(session.post_answered("413 Payload Too Large").body.len(), 7_000_002);
    assert_eq!(session.run("1").json(), json!("x"));
    assert!(session.output().contains("[ERROR] the result (7000002 bytes) was refused: 413"), "{}", session.output());
}

#[test]
fn an_installed_awslambdaric_runs_the_handler() {
    if !is_there("python3") {
        return;
    }
    let ric = "def main(args):\n    print('ric', args[1])\n";
    let files =
        [("app.py", "def handler(event, context): pass\n"), ("awslambdaric/__init__.py", ""), ("awslambdaric/__main__.py", ric)];
    let session = Session::start("python3", &files, "app.handler", &[]);
    assert_eq!(session.exit_code(), Some(0));
    assert_eq!(session.output(), "ric app.handler\n");

    let broken = [files[0], files[1], ("awslambdaric/__main__.py", "import of_another_python\n")];
    let mut session = Session::start("python3", &broken, "app.handler", &[]);
    assert_eq!(session.run("{}").kind(), "response");
    assert!(
        session.output().contains("awslambdaric cannot be imported (No module named 'of_another_python')"),
        "{}",
        session.output()
    );
}
