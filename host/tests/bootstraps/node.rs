//! bootstrap.mjs.

use super::{Post, Session, is_there};
use serde_json::{Value, json};
use std::fs;

fn start(source: &str) -> Session {
    Session::start("node", &[("app.mjs", source)], "app.handler", &[])
}

fn once(source: &str, event: &str) -> Post {
    start(source).run(event)
}

#[test]
fn a_result_comes_by_promise_by_callback_or_by_the_context() {
    if !is_there("node") {
        return;
    }
    let rows = [
        ("async (event) => event", json!({"dish": "crème 🍰"})),
        ("async () => {}", Value::Null),
        ("async () => undefined", Value::Null),
        ("(event) => Promise.resolve(event.dish)", json!("crème 🍰")),
        ("(event, context, callback) => callback(null, event.dish)", json!("crème 🍰")),
        ("(event, context, callback) => { setTimeout(() => callback(null, 'late'), 5); }", json!("late")),
        ("(event, context) => context.succeed(1)", json!(1)),
        ("(event, context) => context.done(null, 2)", json!(2)),
        // Nobody ever answers: AWS says null once nothing is left to do.
        ("(event, context, callback) => {}", Value::Null),
        ("() => new Promise(() => {})", Value::Null),
        ("async () => ({ then: undefined, at: new Date(0) })", json!({"at": "1970-01-01T00:00:00.000Z"})),
    ];
    for (handler, expected) in rows {
        let post = once(&format!("export const handler = {handler};"), "{\"dish\":\"crème 🍰\"}");
        assert_eq!((post.kind(), post.json()), ("response", expected), "{handler}");
    }
}

#[test]
fn a_callback_waits_until_nothing_is_left_to_do_unless_it_is_told_not_to() {
    if !is_there("node") {
        return;
    }
    let source = "
export const handler = (event, context, callback) => {
    context.callbackWaitsForEmptyEventLoop = event.waits;
    const said = { late: false };
    setTimeout(() => { said.late = true; }, event.waits ? 20 : 60_000);
    callback(null, said);
};
";
    assert_eq!(once(source, "{\"waits\":true}").json(), json!({"late": true}));
    assert_eq!(once(source, "{\"waits\":false}").json(), json!({"late": false}));
}

#[test]
fn a_promise_does_not_wait_for_what_else_there_is_to_do() {
    if !is_there("node") {
        return;
    }
    let source = "let calls = 0; export const handler = async () => { setInterval(() => {}, 60_000); return ++calls; };";
    let mut session = start(source);
    assert_eq!(session.run("{}").json(), json!(1));
    assert_eq!(session.run("{}").json(), json!(2));
}

#[test]
fn a_second_result_is_said_and_dropped() {
    if !is_there("node") {
        return;
    }
    let mut session = start("export const handler = (event, context) => { context.succeed(1); context.succeed(2); };");
    assert_eq!(session.run("{}").json(), json!(1));
    assert_eq!(session.run("{}").json(), json!(1));
    assert!(session.output().contains("the invocation is over already"), "{}", session.output());
}

#[test]
fn a_value_without_a_promise_is_ignored_as_in_aws_and_says_why() {
    if !is_there("node") {
        return;
    }
    let mut session = start("export const handler = () => ({ statusCode: 200 });");
    assert_eq!(session.run("{}").json(), Value::Null);
    assert!(session.output().contains("make it `async`"), "{}", session.output());
}

#[test]
fn an_error_is_posted_and_the_next_event_runs() {
    if !is_there("node") {
        return;
    }
    let rows = [
        ("async () => { throw new TypeError('crème'); }", "TypeError", "crème"),
        ("() => { throw new TypeError('crème'); }", "TypeError", "crème"),
        ("(event, context, callback) => callback(new RangeError('far'))", "RangeError", "far"),
        ("(event, context, callback) => callback('just words')", "string", "just words"),
        ("(event, context) => context.fail()", "string", "handled"),
        ("async () => { throw { code: 7 }; }", "object", "{ code: 7 }"),
        ("async () => { throw null; }", "string", "handled"),
        ("async () => 10n", "Runtime.MarshalError", "Unable to stringify response body: Do not know how to serialize a BigInt"),
        (
            "async () => { const ring = {}; ring.ring = ring; return ring; }",
            "Runtime.MarshalError",
            "Unable to stringify response body: Converting circular",
        ),
    ];
    for (handler, kind, message) in rows {
        let mut session = start(&format!("export const handler = {handler};"));
        for _ in 0..2 {
            let post = session.run("{}");
            let error = post.json();
            assert_eq!((post.kind(), error["errorType"].as_str().unwrap()), ("error", kind), "{handler}");
            assert!(error["errorMessage"].as_str().unwrap().starts_with(message), "{error}");
            assert!(error["trace"].is_array(), "{error}");
        }
        assert!(session.output().contains(message), "{}", session.output());
    }
    let post = once("function deeper() { throw new Error('no'); }\nexport const handler = async () => deeper();", "{}");
    let trace = post.json()["trace"].to_string();
    assert!(trace.contains("at deeper") && trace.contains("app.mjs:1") && !trace.contains("bootstrap.mjs"), "{trace}");
}

#[test]
fn an_event_that_is_no_json_is_an_error() {
    if !is_there("node") {
        return;
    }
    assert_eq!(once("export const handler = async (event) => event;", "{").json()["errorType"], "SyntaxError");
}

#[test]
fn modules_of_every_kind_are_loaded() {
    if !is_there("node") {
        return;
    }
    let esm = "import { said } from './said.js';\nexport const handler = async () => said;\n";
    let cjs = "exports.handler = async () => require('./said.js').said; exports.deep = { er: { run: async () => 'deep' } };";
    let said_esm = ("said.js", "export const said = 'esm';");
    let said_cjs = ("said.js", "exports.said = 'cjs';");
    let is_module = ("package.json", "{\"type\":\"module\"}");
    let package = ("node_modules/shop/package.json", "{\"name\":\"shop\",\"exports\":{\"./run\":\"./lib.js\"}}");
    type Files<'a> = &'a [(&'a str, &'a str)];
    let rows: [(Files, &str, &str); 9] = [
        (&[("app.js", esm), said_esm, is_module], "app.handler", "esm"),
        (&[("app.mjs", "export const handler = async () => 'mjs';")], "app.handler", "mjs"),
        (&[("app.mjs", "export default { handler: async () => 'default' };")], "app.handler", "default"),
        (
            &[("app.mjs", "const late = await Promise.resolve('awaited');\nexport const handler = async () => late;")],
            "app.handler",
            "awaited",
        ),
        (&[("app.js", cjs), said_cjs], "app.handler", "cjs"),
        (&[("app.cjs", cjs), said_cjs], "app.handler", "cjs"),
        (&[("app.js", cjs), said_cjs], "app.deep.er.run", "deep"),
        (&[("src/shop/app.js", "module.exports.handler = async () => 'nested';")], "src/shop/app.handler", "nested"),
        (&[package, ("node_modules/shop/lib.js", "exports.handler = async () => 'package';")], "shop/run.handler", "package"),
    ];
    for (files, handler, expected) in rows {
        let mut session = Session::start("node", files, handler, &[]);
        assert_eq!(session.run("{}").json(), json!(expected), "{handler}");
    }
}

#[test]
fn what_keeps_a_handler_from_being_loaded_is_told_before_the_first_event() {
    if !is_there("node") {
        return;
    }
    let fine = "export const handler = async () => {};";
    let rows = [
        (
            "app.mjs",
            fine,
            "app.handlr",
            "Runtime.HandlerNotFound",
            "app.handlr is undefined or not exported",
            "hint: app.mjs exports handler",
        ),
        ("app.mjs", "export const handler = 1;", "app.handler", "Runtime.HandlerNotFound", "app.handler is not a function", ""),
        (
            "main.mjs",
            fine,
            "app.handler",
            "Runtime.ImportModuleError",
            "Error: Cannot find module 'app'",
            "hint: the function's folder has main.mjs",
        ),
        (
            "app.cjs",
            "require('nowhere-at-all');",
            "app.handler",
            "Runtime.ImportModuleError",
            "Error: Cannot find module 'nowhere-at-all'",
            "",
        ),
        (
            "app.mjs",
            "import 'nowhere-at-all';",
            "app.handler",
            "Runtime.ImportModuleError",
            "Error: Cannot find package 'nowhere-at-all'",
            "",
        ),
        (
            "app.mjs",
            "export const handler = (;",
            "app.handler",
            "Runtime.UserCodeSyntaxError",
            "SyntaxError: Unexpected token ';'",
            "app.mjs:1",
        ),
        ("app.mjs", fine, "app", "Runtime.MalformedHandlerName", "Bad handler", "hint: write file and export"),
        ("app.mjs", "throw new RangeError('menu');", "app.handler", "RangeError", "menu", "at app.mjs:1:7"),
        ("app.mjs", "await new Promise(() => {});", "app.handler", "Runtime.ExitError", "app.handler waits at its top level", ""),
        (
            "app.mjs",
            "Promise.reject(new Error('lost')); await new Promise(() => setTimeout(() => {}, 60_000));",
            "app.handler",
            "Runtime.UnhandledPromiseRejection",
            "Error: lost",
            "",
        ),
    ];
    for (file, source, handler, kind, message, output) in rows {
        let session = Session::start("node", &[(file, source)], handler, &[]);
        let post = session.post();
        let error = post.json();
        assert_eq!((post.path.as_str(), post.header("lambda-runtime-function-error-type")), ("init/error", kind), "{source}");
        assert_eq!(error["errorType"], kind, "{source}");
        assert!(error["errorMessage"].as_str().unwrap().starts_with(message), "{error}");
        assert_ne!(session.exit_code(), Some(0));
        assert!(session.output().contains(output), "{}", session.output());
    }
}

#[test]
fn whoever_exits_posts_nothing() {
    if !is_there("node") {
        return;
    }
    let mut session = start("export const handler = async () => { console.log('bye'); process.exit(3); };");
    session.give("{}");
    assert_eq!(session.exit_code(), Some(3));
    assert!(session.output().ends_with("bye\n"), "{}", session.output());
}

#[test]
fn what_nobody_catches_fails_the_invocation_and_ends_the_process() {
    if !is_there("node") {
        return;
    }
    let rows = [
        ("Promise.reject(new RangeError('lost'));", "Runtime.UnhandledPromiseRejection", "RangeError: lost", 128),
        ("Promise.reject('words');", "Runtime.UnhandledPromiseRejection", "words", 128),
        ("setTimeout(() => { throw new RangeError('thrown'); }, 1);", "RangeError", "thrown", 129),
    ];
    for (statement, kind, message, code) in rows {
        let source =
            format!("export const handler = () => {{ {statement} return new Promise((over) => setTimeout(over, 60_000)); }};");
        let mut session = start(&source);
        let post = session.run("{}");
        let error = post.json();
        assert_eq!(
            (post.kind(), &error["errorType"], &error["errorMessage"]),
            ("error", &json!(kind), &json!(message)),
            "{statement}"
        );
        assert_eq!(session.exit_code(), Some(code), "{statement}");
        assert!(session.output().contains(message), "{}", session.output());
    }
}

#[test]
fn the_context_says_what_the_host_said() {
    if !is_there("node") {
        return;
    }
    let source = "
export const handler = async (event, context) => {
    const left = context.getRemainingTimeInMillis();
    return {
        id: context.awsRequestId, arn: context.invokedFunctionArn, name: context.functionName, version: context.functionVersion,
        memory: context.memoryLimitInMB, group: context.logGroupName, stream: context.logStreamName, left: 0 < left && left <= 3000,
        trace: process.env._X_AMZN_TRACE_ID, client: context.clientContext, identity: context.identity, tenant: context.tenantId,
        root: process.env.LAMBDA_TASK_ROOT === process.cwd(),
    };
};
";
    let mut session = start(source);
    let headers = [
        ("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"),
        ("Lambda-Runtime-Client-Context", "{\"custom\":{\"shop\":\"nörd\"}}"),
        ("Lambda-Runtime-Cognito-Identity", "{\"cognitoIdentityId\":\"i\",\"cognitoIdentityPoolId\":\"p\"}"),
        ("Lambda-Runtime-Aws-Tenant-Id", "t"),
    ];
    let id = session.give_with("{}", &headers);
    let expected = json!({
        "id": id, "arn": "arn:aws:lambda:us-east-1:000000000000:function:dessert", "name": "dessert", "version": "$LATEST",
        "memory": "128", "group": "/aws/lambda/dessert", "stream": "2026/11/22/[$LATEST]0", "left": true,
        "trace": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
        "client": {"custom": {"shop": "nörd"}}, "identity": {"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}, "tenant": "t",
        "root": true,
    });
    assert_eq!(session.post().json(), expected);
    let bare = session.run("{}").json();
    for absent in ["trace", "client", "identity", "tenant"] {
        assert_eq!(bare.get(absent), None, "{absent}: nothing is left from before");
    }
}

#[test]
fn lines_of_the_log_name_their_invocation() {
    if !is_there("node") {
        return;
    }
    let source = "
console.log('loaded');
export const handler = async () => {
    console.log('%d tarts', 3, { of: 'plum' });
    console.warn('few');
    console.error(new Error('none'));
};
";
    let mut session = start(source);
    session.give("{}");
    session.post();
    let output = session.output();
    let lines: Vec<&str> = output.lines().take(4).collect();
    assert_eq!(lines, ["loaded", "3 tarts { of: 'plum' }", "[WARN] few", "[ERROR] Error: none"]);

    let mut session = Session::start("node", &[("app.mjs", source)], "app.handler", &[("AWS_LAMBDA_LOG_FORMAT", "Text")]);
    let id = session.give("{}");
    session.post();
    let output = session.output();
    let rows: Vec<Vec<&str>> = output.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows[0][1..], ["-", "INFO", "loaded"]);
    assert_eq!(rows[1][1..], [id.as_str(), "INFO", "3 tarts { of: 'plum' }"]);
    assert_eq!(rows[2][1..], [id.as_str(), "WARN", "few"]);
    assert_eq!(rows[3][1..], [id.as_str(), "ERROR", "Error: none"]);

    let json_logs = [("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("AWS_LAMBDA_LOG_LEVEL", "WARN")];
    let mut session = Session::start("node", &[("app.mjs", source)], "app.handler", &json_logs);
    let id = session.give("{}");
    session.post();
    let output = session.output();
    let line: Value = serde_json::from_str(output.lines().next().unwrap()).unwrap();
    assert_eq!((&line["level"], &line["message"], &line["requestId"]), (&json!("WARN"), &json!("few"), &json!(id)));
    assert_eq!(output.lines().count(), 2, "{output}");
}

#[test]
fn a_refused_result_is_said_and_the_next_event_runs() {
    if !is_there("node") {
        return;
    }
    let mut session = start("export const handler = async (event) => 'x'.repeat(event);");
    session.give("7000000");
    assert_eq!(session.post_answered("413 Payload Too Large").body.len(), 7_000_002);
    assert_eq!(session.run("1").json(), json!("x"));
    assert!(session.output().contains("the result (7000002 bytes) was refused: 413"), "{}", session.output());
}

#[test]
fn a_big_event_comes_whole() {
    if !is_there("node") {
        return;
    }
    let event = format!("\"{}\"", "é".repeat(2_000_000));
    assert_eq!(once("export const handler = async (event) => event.length;", &event).json(), json!(2_000_000));
}

#[test]
fn a_streamed_result_is_posted_as_it_is_written() {
    if !is_there("node") {
        return;
    }
    let source = "
import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
    stream.setContentType('text/plain');
    stream.write('first ');
    while (!existsSync('seen')) await pause(1);
    stream.write({ n: 1 });
    stream.write(new Uint8Array([0xff]));
    stream.end(context.awsRequestId);
});
";
    let mut session = start(source);
    for _ in 0..2 {
        let id = session.give("{}");
        assert_eq!(session.chunk(), b"first ");
        fs::write(session.path("seen"), "").unwrap();
        let post = session.post();
        assert_eq!(post.body, [b"first {\"n\":1}\xff", id.as_bytes()].concat());
        let headers = ["lambda-runtime-function-response-mode", "transfer-encoding", "content-type", "trailer"]
            .map(|name| post.header(name));
        let trailer = "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body";
        assert_eq!(headers, ["streaming", "chunked", "text/plain", trailer]);
        assert!(post.trailers.is_empty() && post.chunks >= 2);
        fs::remove_file(session.path("seen")).unwrap();
    }
}

#[test]
fn a_prelude_stands_before_the_bytes_with_eight_nuls_after_it() {
    if !is_there("node") {
        return;
    }
    let rows = [
        ("stream.write('tart'); stream.end();", "tart"),
        ("stream.end();", ""),
        ("await pipeline(Readable.from(['ta', 'rt']), stream);", "tart"),
        ("Readable.from(['ta', 'rt']).pipe(stream);", "tart"),
    ];
    for (writes, body) in rows {
        let source = format!(
            "import {{ pipeline }} from 'node:stream/promises';\nimport {{ Readable }} from 'node:stream';\nexport const handler = awslambda.streamifyResponse(async (event, stream) => {{\n    stream = awslambda.HttpResponseStream.from(stream, {{ statusCode: 201, cookies: ['a=é'] }});\n    {writes}\n}});\n"
        );
        let post = once(&source, "{}");
        assert_eq!(post.header("content-type"), "application/vnd.awslambda.http-integration-response");
        let expected = format!("{{\"statusCode\":201,\"cookies\":[\"a=é\"]}}\0\0\0\0\0\0\0\0{body}");
        assert_eq!(String::from_utf8(post.body).unwrap(), expected, "{writes}");
    }
}

#[test]
fn an_error_before_the_first_byte_is_posted_as_any_other() {
    if !is_there("node") {
        return;
    }
    let rows = [
        ("async () => { throw new RangeError('early'); }", "RangeError", "early"),
        ("(event, stream) => { stream.end('x'); }", "Error", "Streaming does not support non-async handlers."),
        ("async () => {}", "Runtime.StreamNotEnded", "the handler did not end its response stream"),
        ("() => new Promise(() => {})", "Runtime.StreamNotEnded", "the handler did not end its response stream"),
    ];
    for (handler, kind, message) in rows {
        let mut session = start(&format!("export const handler = awslambda.streamifyResponse({handler});"));
        for _ in 0..2 {
            let post = session.run("{}");
            if post.kind() == "response" {
                // It was written before anybody could see that it is no promise.
                assert_eq!(kind, "Error", "{handler}");
                continue;
            }
            let error = post.json();
            assert_eq!(
                (post.kind(), &error["errorType"], &error["errorMessage"]),
                ("error", &json!(kind), &json!(message)),
                "{handler}"
            );
        }
    }
}

#[test]
fn an_error_amid_the_bytes_stands_in_the_trailers() {
    if !is_there("node") {
        return;
    }
    let rows = [
        ("stream.write('half'); throw new RangeError('amid');", "RangeError", "amid", None),
        ("stream.write('half');", "Runtime.StreamNotEnded", "did not end", None),
        ("stream.write('half'); await new Promise(() => {});", "Runtime.StreamNotEnded", "did not end", None),
        (
            "await pipeline((async function* () { yield 'half'; throw new RangeError('source'); })(), stream);",
            "RangeError",
            "source",
            None,
        ),
        ("stream.write('half'); stream.destroy();", "Error", "destroyed", None),
        (
            "stream.write('half'); Promise.reject(new Error('lost')); await new Promise((o) => setTimeout(o, 60_000));",
            "Runtime.UnhandledPromiseRejection",
            "Error: lost",
            Some(128),
        ),
    ];
    for (writes, kind, message, exit) in rows {
        let source = format!(
            "import {{ pipeline }} from 'node:stream/promises';\nimport {{ once }} from 'node:events';\nexport const handler = awslambda.streamifyResponse(async (event, stream) => {{ {writes} }});\n"
        );
        let mut session = start(&source);
        let post = session.run("{}");
        assert_eq!((post.kind(), String::from_utf8_lossy(&post.body).as_ref()), ("response", "half"), "{writes}");
        let trailer = |name: &str| post.trailers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap();
        assert_eq!(trailer("lambda-runtime-function-error-type"), kind, "{writes}");
        let error: Value = serde_json::from_slice(&base64(trailer("lambda-runtime-function-error-body"))).unwrap();
        assert!(error["errorMessage"].as_str().unwrap().contains(message), "{error}");
        match exit {
            Some(code) => assert_eq!(session.exit_code(), Some(code), "{writes}"),
            None => assert_eq!(session.run("{}").kind(), "response", "{writes}"),
        }
    }
}

#[test]
fn who_writes_more_than_is_read_waits() {
    if !is_there("node") {
        return;
    }
    let source = "
import { once } from 'node:events';
export const handler = awslambda.streamifyResponse(async (event, stream) => {
    let waits = 0;
    for (let i = 0; i < 64; i++) {
        if (!stream.write(Buffer.alloc(64 * 1024, 'x'))) { waits++; await once(stream, 'drain'); }
    }
    stream.end(waits > 0 ? 'waited' : 'never');
});
";
    let post = once(source, "{}");
    assert_eq!(post.body.len(), 64 * 64 * 1024 + "waited".len());
    assert!(post.body.ends_with(b"xwaited"));
}

fn base64(text: &str) -> Vec<u8> {
    maitred_wire::base64::decode(text.as_bytes()).unwrap()
}
