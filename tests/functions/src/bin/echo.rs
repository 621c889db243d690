//! Returns its event, and tells what it knows of its run: the smallest function there is, on AWS's runtime client.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};
use std::time::Duration;

/// About what asking a database nearby takes.
const WORK: Duration = Duration::from_millis(1);

async fn echo(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let LambdaEvent { payload, context } = event;
    match payload["do"].as_str() {
        Some("fail") => Err("it was asked to fail".into()),
        Some("exit") => end(),
        Some("wait") => {
            // A process has one event at a time, so that nobody is kept waiting. The executor's timer knows whole milliseconds only.
            std::thread::sleep(WORK);
            Ok(payload)
        }
        Some("tell") => Ok(json!({
            "request_id": context.request_id,
            "arn": context.invoked_function_arn,
            "deadline": context.deadline,
            "function": context.env_config.function_name,
            "memory": context.env_config.memory,
        })),
        _ => Ok(payload),
    }
}

#[expect(clippy::disallowed_methods, reason = "it plays a function that ends in the middle")]
fn end() -> ! {
    std::process::exit(3)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(echo)).await
}
