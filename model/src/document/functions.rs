//! Lambda functions: hosted here, or in AWS. Which route calls one, and what it is told, is the same for both.

use super::Endpoint;
use crate::span::Spanned;
use crate::values::{FunctionArn, Secret};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// One entry of `functions`.
#[derive(Debug, Clone)]
pub struct Function {
    pub place: FunctionPlace,
    /// What it is told of a request, and how its result becomes a response.
    pub event: EventForm,
    /// How long one invocation may take. Default 3 s hosted, 30 s in AWS, whose own limit counts there.
    pub timeout: Duration,
    pub response: ResponseMode,
    pub invocation: InvocationType,
    /// With `v1`: media types whose bodies are bytes, as `type/subtype`, `type/*` or `*/*`.
    pub binary_media_types: Vec<String>,
    /// With `alb`: headers and queries as lists of values.
    pub multi_value_headers: bool,
}

#[derive(Debug, Clone)]
pub enum FunctionPlace {
    Hosted(Box<Hosted>),
    Aws(Box<AwsFunction>),
}

/// What a function is told of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EventForm {
    /// Of an HTTP API, payload format 2.0.
    #[default]
    V2,
    /// Of a REST API, payload format 1.0.
    V1,
    /// Of an Application Load Balancer.
    Alb,
    /// Of a Function URL.
    Url,
    /// The request's body as it is; the result is the response's.
    Raw,
}

/// Whether the result comes whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResponseMode {
    #[default]
    Buffered,
    /// As it is written.
    Streamed,
}

/// Whether anybody waits for the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InvocationType {
    #[default]
    RequestResponse,
    /// The client is answered 202 at once.
    Event,
}

/// What runs the code of a hosted function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FunctionRuntime {
    Python,
    Node,
    /// An executable `bootstrap`.
    Provided,
}

impl FunctionRuntime {
    pub fn as_str(self) -> &'static str {
        match self {
            FunctionRuntime::Python => "python",
            FunctionRuntime::Node => "node",
            FunctionRuntime::Provided => "provided",
        }
    }
}

/// A function that runs here, in processes of its own.
#[derive(Debug, Clone)]
pub struct Hosted {
    pub runtime: FunctionRuntime,
    /// A folder, or with `provided` an executable too.
    pub code: Spanned<PathBuf>,
    /// `module.function`; `provided` needs none.
    pub handler: Option<Spanned<String>>,
    /// From the start of a process to its first question for work.
    pub init_timeout: Duration,
    /// Processes at once, and so invocations at once.
    pub concurrency: NonZeroU32,
    /// Kept warm.
    pub min_instances: u32,
    /// A process without work for so long ends.
    pub idle: Duration,
    pub queue: FunctionQueue,
    /// Names in the order of the file.
    pub environment: Vec<(String, Secret)>,
    /// bytes that its processes may take each
    pub memory: Option<u64>,
    /// Whom it runs as, where the gateway is root; `None`: nobody.
    pub user: Option<Spanned<String>>,
    /// Folders whose `bin`, `lib`, `python` and `nodejs` it finds.
    pub layers: Vec<Spanned<PathBuf>>,
    /// START, END and REPORT lines in the log, as AWS has them.
    pub reports: bool,
}

/// Where invocations wait for a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionQueue {
    pub length: u32,
    pub timeout: Duration,
}

/// A function in AWS, or wherever its API is spoken.
#[derive(Debug, Clone)]
pub struct AwsFunction {
    pub arn: Spanned<FunctionArn>,
    /// `None`: AWS's own, or what AWS_ENDPOINT_URL_LAMBDA and the profile say.
    pub endpoint: Option<Spanned<Endpoint>>,
    /// Of the shared files of credentials; `None`: as AWS_PROFILE says.
    pub profile: Option<String>,
    /// What every invocation is told beside its event: a JSON object.
    pub client_context: Option<serde_json::Value>,
}
