//! AWS's own client against the Invoke API of hosted functions: botocore, which boto3 and the AWS CLI are made of.

use crate::process::{Maitred, ask, folder, python};
use std::os::unix::fs::PermissionsExt;

const FUNCTIONS: &str = "listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
telemetry: { access_log: none }
functions:
  echo: { runtime: provided, code: code, timeout: 2s }
  one: { runtime: provided, code: code, timeout: 60s, concurrency: 1, queue: { length: 0 } }
apis:
  all:
    routes:
      - POST /echo: function echo
      - POST /one: function one
";

#[test]
fn botocore_runs_hosted_functions_as_it_runs_aws_s() {
    let Some(python) = python("botocore") else { return };
    let folder = folder();
    // Another user than the gateway's has to come to it.
    let (code, open) = (folder.path("code"), std::fs::Permissions::from_mode(0o755));
    std::fs::create_dir(&code).expect("a writable folder");
    std::fs::write(code.join("bootstrap"), include_str!("bootstrap.py")).expect("a writable folder");
    std::fs::set_permissions(code.join("bootstrap"), open.clone()).expect("our own file");
    std::fs::set_permissions(folder.path("."), open).expect("our own folder");
    let gateway = Maitred::run(&folder, FUNCTIONS);
    let token = std::fs::read_to_string(folder.path("maitred.db-token")).expect("a token is made where functions are hosted");
    let release = folder.path("release");
    ask(&python, "lambda_peer.py", &[&gateway.admin, token.trim(), release.to_str().expect("UTF-8")]);
}
