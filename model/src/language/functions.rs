//! `functions`: Lambda code that runs here, or in AWS.

use super::endpoints::EndpointUrl;
use super::tls::file_path;
use super::values::{Text, Timeout};
use crate::decode::{Bool, Cx, Defs, FromZero, Json, List, Shape, UpTo, record, texts, words};
use crate::diagnostics::Diagnostic;
use crate::document::{
    AwsFunction, EventForm, Function, FunctionPlace, FunctionQueue, FunctionRuntime, Hosted, InvocationType, ResponseMode,
};
use crate::span::{Span, Spanned};
use crate::values::{FunctionArn, Secret, ValueError, parse_size};
use crate::yaml::{Kind, Node};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time;

/// AWS's longest, and long enough for whoever waits at a gateway (reference: AWS Lambda quotas).
const TIMEOUT_MAX: time::Duration = time::Duration::from_secs(900);
const HOSTED_TIMEOUT: time::Duration = time::Duration::from_secs(3);
const AWS_TIMEOUT: time::Duration = time::Duration::from_secs(30);
/// bytes; below it no interpreter gets as far as its first line, and each process would be killed at its start.
const MEMORY_MIN: u64 = 16 << 20;
/// Numbers up to this are megabytes to who comes from AWS, where they need no unit (reference: AWS Lambda quotas).
const AWS_MEMORY_MB_MAX: u64 = 10_240;
/// Base64 of a client context (reference: AWS Lambda, Invoke, `X-Amz-Client-Context`).
const CLIENT_CONTEXT_BASE64_MAX: usize = 3583;
/// What the platform says, and no user may.
const RESERVED: &[&str] = &[
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
    // Python would fork that many pollers, and only the parent would be ours to end.
    "AWS_LAMBDA_MAX_CONCURRENCY",
];

words! {
    /// What runs the code.
    FunctionRuntime {
        /// Python's handlers, by `awslambdaric` where it can be imported.
        Python = "python",
        /// Handlers of Node.js.
        Node = "node",
        /// An executable named `bootstrap` that speaks the Runtime API, as Rust's and Go's do.
        Provided = "provided",
    }
}

words! {
    /// What a function is told of a request, and how its result becomes a response.
    EventForm {
        /// As an HTTP API of AWS API Gateway, payload format 2.0.
        V2 = "v2",
        /// As a REST API, payload format 1.0.
        V1 = "v1",
        /// As an Application Load Balancer.
        Alb = "alb",
        /// As a Function URL.
        Url = "url",
        /// The body of the request as it is; the result is the body of the response.
        Raw = "raw",
    }
}

words! {
    /// Whether a function's result is sent on whole.
    ResponseMode {
        /// Whole, 6 MB at most.
        Buffered = "buffered",
        /// As it is written.
        Streamed = "streamed",
    }
}

words! {
    /// Whether anybody waits for a function's result.
    InvocationType {
        /// The client waits.
        RequestResponse = "request_response",
        /// The client is answered 202 at once.
        Event = "event",
    }
}

texts! {
    /// The ARN of a function, with its version or alias if you like.
    ArnText => FunctionArn, FunctionArn::parse, "the ARN of a function", "^arn:aws[a-z-]*:lambda:";
    /// A media type, `type/*` or `*/*`.
    MediaType => String, parse_media_type, "a media type such as `image/*`", "^[^/ ]+/[^/ ]+$";
    /// `module.function`, as AWS Lambda has it.
    HandlerText => String, parse_handler, "a handler such as `app.handler`", "^[^ ]+$";
    /// A size of at least 16MiB: a whole number and one of the units `MiB`, `GiB`, `KiB`, `B`, or the decimal `MB`, `GB`.
    MemorySize => u64, parse_memory, "a size such as `128MiB`", "^[0-9]+([KMGT]i?B|B)$";
    /// The name of a user, or `root`.
    UserText => String, parse_user, "the name of a user", "^[a-z_][a-z0-9_-]*\\$?$";
}

record! {
    /// Invocations that wait for a process.
    "the queue of a function" => FunctionQueue {
        /// How many.
        length: Length = "100",
        /// For how long.
        timeout: Timeout = "10s",
    }
}

record! {
    /// A Lambda function: `code` for one that runs here, `arn` for one in AWS.
    "a function" => struct RawFunction {
        /// What runs the code.
        runtime: Option<Spanned<FunctionRuntime>> = absent,
        /// The folder of the code; with `provided` the executable itself will do.
        code: Option<Spanned<FolderPath>> = absent,
        /// `module.function`; not with `provided`.
        handler: Option<Spanned<HandlerText>> = absent,
        /// Until a new process first asks for work.
        init_timeout: Timeout = "10s",
        /// How many processes at most, each with one invocation at a time.
        concurrency: Concurrency = "10",
        /// How many processes are kept warm.
        min_instances: Instances = "0",
        /// A process without work for so long ends.
        idle: Timeout = "10min",
        /// Invocations that wait for a process.
        queue: FunctionQueue = empty,
        /// Variables of its environment.
        environment: Environment = absent,
        /// The most memory that one of its processes may take.
        memory: Option<MemorySize> = absent,
        /// Whom it runs as where the gateway runs as root; left out: nobody.
        user: Option<Spanned<UserText>> = absent,
        /// Folders whose `bin`, `lib`, `python` and `nodejs` it finds, as layers of AWS Lambda.
        layers: List<Spanned<FolderPath>> = absent,
        /// START, END and REPORT lines in the log.
        reports: Bool = "false",
        /// The function's ARN in AWS.
        arn: Option<Spanned<ArnText>> = absent,
        /// Where its API is spoken, if not at AWS's own address.
        endpoint: Option<Spanned<EndpointUrl>> = absent,
        /// The profile of the shared files of credentials.
        profile: Option<Text> = absent,
        /// What it is told with every invocation, beside the event.
        client_context: Option<Spanned<Json>> = absent,
        /// What it is told of a request, and how its result becomes a response.
        event: EventForm = "v2",
        /// How long one invocation may take: 3 s where it is left out, 30 s in AWS.
        timeout: Option<Spanned<Timeout>> = absent,
        /// Whether the result is sent on whole.
        response: ResponseMode = "buffered",
        /// Whether the client waits for the result.
        invocation: InvocationType = "request_response",
        /// With `event: v1`: types of bodies that are bytes and no text.
        binary_media_types: List<MediaType> = absent,
        /// With `event: alb`: headers and queries as lists of values.
        multi_value_headers: Bool = "false",
    }
}

/// What says where the code runs.
const HOSTED_KEYS: &[&str] = &[
    "runtime",
    "code",
    "handler",
    "init_timeout",
    "concurrency",
    "min_instances",
    "idle",
    "queue",
    "environment",
    "memory",
    "user",
    "layers",
    "reports",
];
const AWS_KEYS: &[&str] = &["arn", "endpoint", "profile", "client_context"];

/// A function, in one of two places.
pub(crate) struct FunctionForm;

impl Shape for FunctionForm {
    type Out = Function;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Function> {
        if !cx.is_mapping(node, "a function", "write `{ runtime: python, code: ./functions/NAME, handler: app.handler }`") {
            return None;
        }
        let mut raw = RawFunction::decode(node, cx)?;
        let is_aws = node.get("arn").is_some();
        let (foreign, place) = if is_aws { (HOSTED_KEYS, "`arn`") } else { (AWS_KEYS, "a function that runs here") };
        for key in foreign {
            if let Some(found) = node.get(key) {
                let message = format!("`{key}` does not go with {place}");
                cx.error("contradiction", found.span, message, format!("remove `{key}`"));
            }
        }
        let default = if is_aws { AWS_TIMEOUT } else { HOSTED_TIMEOUT };
        let timeout = raw.timeout.take().map(|timeout| {
            if timeout.value > TIMEOUT_MAX {
                cx.error("out-of-range", timeout.span, "a function takes 15 minutes at most", "write `timeout: 15min` or less");
            }
            timeout.value
        });
        let RawFunction { event, response, invocation, multi_value_headers, .. } = raw;
        let binary_media_types = std::mem::take(&mut raw.binary_media_types);
        misplaced(node, (event, response, invocation), cx);
        let place = if is_aws {
            let client_context = raw.client_context.and_then(|context| client_context(context, cx));
            let aws = AwsFunction { arn: raw.arn?, endpoint: raw.endpoint, profile: raw.profile, client_context };
            FunctionPlace::Aws(Box::new(aws))
        } else {
            FunctionPlace::Hosted(Box::new(hosted(node, raw, cx)?))
        };
        Some(Function {
            place,
            event,
            timeout: timeout.unwrap_or(default),
            response,
            invocation,
            binary_media_types,
            multi_value_headers,
        })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawFunction::schema(defs)
    }
}

fn hosted(node: &Node, raw: RawFunction, cx: &mut Cx<'_>) -> Option<Hosted> {
    for (key, example) in [("runtime", "runtime: python"), ("code", "code: ./functions/NAME")] {
        if node.get(key).is_none() {
            let message = format!("a function needs the key `{key}`, or `arn` for one in AWS");
            cx.error("missing-key", node.span, message, format!("add `{example}`"));
        }
    }
    let runtime = raw.runtime?;
    match (runtime.value, &raw.handler) {
        (FunctionRuntime::Provided, Some(handler)) => {
            let message = "`provided` runs `bootstrap`, which knows its handler itself";
            cx.error("contradiction", handler.span, message, "remove `handler`");
        }
        (FunctionRuntime::Python | FunctionRuntime::Node, None) if node.get("handler").is_none() => {
            let message = format!("`runtime: {}` needs to know what to call", runtime.value.as_str());
            cx.error("missing-key", runtime.span, message, "add `handler: app.handler`, for `handler` in the file `app`");
        }
        (FunctionRuntime::Provided, None) | (FunctionRuntime::Python | FunctionRuntime::Node, _) => {}
    }
    if raw.min_instances > raw.concurrency.get() {
        let span = node.get("min_instances").map_or(node.span, |node| node.span);
        let message = format!("{} instances are to be kept, of at most {}", raw.min_instances, raw.concurrency);
        cx.error("contradiction", span, message, format!("write `concurrency: {}`, or keep fewer", raw.min_instances));
    }
    Some(Hosted {
        runtime: runtime.value,
        code: raw.code?,
        handler: raw.handler,
        init_timeout: raw.init_timeout,
        concurrency: raw.concurrency,
        min_instances: raw.min_instances,
        idle: raw.idle,
        queue: raw.queue,
        environment: raw.environment,
        memory: raw.memory,
        user: raw.user,
        layers: raw.layers,
        reports: raw.reports,
    })
}

/// Keys that mean something with another form of event alone.
fn misplaced(node: &Node, (event, response, invocation): (EventForm, ResponseMode, InvocationType), cx: &mut Cx<'_>) {
    if let Some(types) = node.get("binary_media_types").filter(|_| event != EventForm::V1) {
        let message = "`binary_media_types` goes with `event: v1`: the other forms go by the type of the body";
        cx.error("contradiction", types.span, message, "remove it, or write `event: v1`");
    }
    if let Some(multi) = node.get("multi_value_headers").filter(|_| event != EventForm::Alb) {
        let message = "`multi_value_headers` goes with `event: alb`";
        cx.error("contradiction", multi.span, message, "remove it, or write `event: alb`");
    }
    if let Some(streamed) = node.get("response").filter(|_| response == ResponseMode::Streamed) {
        if invocation == InvocationType::Event {
            cx.error("contradiction", streamed.span, "nobody waits for the result of an `event`", "remove `response`");
        } else if event == EventForm::Alb {
            cx.error("contradiction", streamed.span, "a load balancer takes no streamed result", "write another `event`");
        }
    }
}

fn client_context(context: Spanned<Value>, cx: &mut Cx<'_>) -> Option<Value> {
    if !context.value.is_object() {
        let message = "a client context is a JSON object";
        cx.error("wrong-kind", context.span, message, "write `client_context: { custom: { shop: north } }`");
        return None;
    }
    let base64 = context.value.to_string().len().div_ceil(3) * 4;
    if base64 > CLIENT_CONTEXT_BASE64_MAX {
        let message = format!("a client context is {CLIENT_CONTEXT_BASE64_MAX} bytes of base64 at most, this one is {base64}");
        cx.error("out-of-range", context.span, message, "say less, or say it in the event");
        return None;
    }
    Some(context.value)
}

fn parse_media_type(text: &str) -> Result<String, ValueError> {
    let good = text.split_once('/').is_some_and(|(kind, subtype)| {
        !kind.is_empty() && !subtype.is_empty() && !subtype.contains('/') && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    if !good || text.contains(';') {
        return Err(ValueError::new(format!("`{text}` is not a media type")).hint("write one such as `image/png` or `image/*`"));
    }
    Ok(text.to_ascii_lowercase())
}

fn parse_memory(text: &str) -> Result<u64, ValueError> {
    if let Ok(number) = text.parse::<u64>() {
        let is_of_aws = number <= AWS_MEMORY_MB_MAX;
        let meant = if is_of_aws { format!("{}MiB", number.max(MEMORY_MIN >> 20)) } else { format!("{number}B") };
        return Err(ValueError::new(format!("a size needs a unit: `{text}` has none")).hint(format!("write `{meant}`")));
    }
    let bytes = parse_size(text)?;
    if bytes < MEMORY_MIN {
        return Err(
            ValueError::new(format!("`{text}` is less memory than a process needs to start")).hint("write at least `16MiB`")
        );
    }
    Ok(bytes)
}

fn parse_handler(text: &str) -> Result<String, ValueError> {
    let good = text.split_once('.').is_some_and(|(module, name)| !module.is_empty() && !name.is_empty());
    if !good || text.contains(char::is_whitespace) || text.contains('\0') || text.split('/').any(|part| part == "..") {
        let hint = "write module and function: `app.handler`, for `handler` in the file `app`";
        return Err(ValueError::new(format!("`{text}` is not a handler")).hint(hint));
    }
    Ok(text.to_owned())
}

fn parse_user(text: &str) -> Result<String, ValueError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-$.".contains(&byte);
    if text.is_empty() || text.len() > 32 || !text.bytes().all(good) {
        return Err(ValueError::new(format!("`{text}` is not the name of a user")).hint("write one such as `www-data`"));
    }
    Ok(text.to_owned())
}

/// A folder; that it is there is looked at when the function is made ready.
pub(crate) struct FolderPath;

impl Shape for FolderPath {
    type Out = PathBuf;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<PathBuf> {
        file_path(node, cx, "the path of a folder")
    }

    fn schema(defs: &mut Defs) -> Value {
        Text::schema(defs)
    }
}

/// Names of variables, and what they are.
pub(crate) struct Environment;

impl Shape for Environment {
    type Out = Vec<(String, Secret)>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        let Kind::Mapping(entries) = &node.kind else {
            cx.expected(node, "a mapping of variables");
            return None;
        };
        let mut variables = Vec::with_capacity(entries.len());
        for (name, node) in entries {
            if let Some(value) = variable(&name.value, name.span, node, cx) {
                variables.push((name.value.clone(), value));
            }
        }
        Some(variables)
    }

    fn schema(_: &mut Defs) -> Value {
        json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
            "additionalProperties": { "type": ["string", "number", "boolean"] },
        })
    }
}

fn variable(name: &str, span: Span, node: &Node, cx: &mut Cx<'_>) -> Option<Secret> {
    let mut letters = name.bytes();
    let starts = letters.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !starts || !letters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        let message = format!("`{name}` is not the name of a variable");
        cx.error("bad-name", span, message, "names have letters, digits and `_`");
        return None;
    }
    if RESERVED.contains(&name) {
        let message = format!("`{name}` is set by the gateway, as AWS Lambda sets it");
        cx.push(Diagnostic::error("reserved-name", span, message).hint("remove it, or give it another name"));
        return None;
    }
    let scalar = cx.scalar(node, "the value of a variable")?;
    if scalar.text.contains('\0') {
        cx.error("bad-value", node.span, "a variable cannot hold NUL", "remove it");
        return None;
    }
    Some(Secret::new(scalar.text.as_str()))
}

/// How many processes are kept, and how many invocations wait for one.
type Instances = FromZero<1_000>;
type Length = FromZero<100_000>;
/// How many processes.
type Concurrency = UpTo<1_000>;
