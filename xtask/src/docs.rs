//! Pages that are written from the code: the schema and the table of faults. Whoever changes the code runs `cargo xtask docs`, and
//! `tidy` fails until then.

use crate::tidy::Findings;
use anyhow::{Context, Result};
use maitred_core::Kind;
use maitred_core::aws::Words;
use maitred_core::fault::Side;
use maitred_model::GatewayResponses;
use std::fmt::Write;
use std::path::Path;

type Page = (&'static str, fn() -> String);

const PAGES: [Page; 2] = [("docs/schema.json", schema), ("docs/faults.md", faults)];

pub fn write(root: &Path) -> Result<()> {
    std::fs::create_dir_all(root.join("docs")).context("docs/ can't be made")?;
    for (file, page) in PAGES {
        std::fs::write(root.join(file), page()).with_context(|| format!("{file} can't be written"))?;
        println!("wrote {file}");
    }
    Ok(())
}

pub fn check(root: &Path, findings: &mut Findings) {
    for (file, page) in PAGES {
        let there = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        let wanted = page();
        if there != wanted {
            let line = 1 + there.lines().zip(wanted.lines()).take_while(|(there, wanted)| there == wanted).count();
            findings.error(
                format!("{file}:{line}"),
                "it is generated, and no longer what the code says",
                "run `cargo xtask docs` and commit what it writes",
            );
        }
    }
}

/// As `maitred schema` prints it.
fn schema() -> String {
    // Pretty-printing a value fails for no value.
    let mut text = serde_json::to_string_pretty(&maitred_model::schema()).unwrap_or_default();
    text.push('\n');
    text
}

fn faults() -> String {
    let mut page = String::from(
        "<!-- Written by `cargo xtask docs` from core/src/fault.rs; change that. -->\n\
         # Faults\n\n\
         Whatever can go wrong with a request is in this table. The kind is the last part of the problem's `type`, the label of the \
         metric and the\nfield of the access log; the title is what the client is told. What else is known goes to the log and never out.\n\n\
         A gRPC client gets the code of the third column as its `grpc-status`, the title as its `grpc-message`, and status 200.\n\n\
         | kind | status | gRPC | whose side | may be sent again | title |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for kind in Kind::ALL {
        let side = match kind.side() {
            Side::Client => "client",
            Side::Gateway => "gateway",
            Side::Upstream => "upstream",
        };
        let again = if kind.is_unsent() { "yes: no back end acted on it" } else { "" };
        // Writing to a string fails never.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {side} | {again} | {} |",
            kind.name(),
            kind.status(),
            kind.grpc().number(),
            kind.title()
        );
    }
    page.push_str(
        "\n## In AWS's words\n\n\
         An API with `gateway_responses: aws_rest` or `aws_http` speaks of the same faults as AWS API Gateway does, to clients that were \
         written against it;\nlogs and metrics keep the kind. A REST API names the error type in `x-amzn-errortype`. gRPC clients get \
         what stands above.\n\n\
         | kind | `aws_rest` | error type | `aws_http` |\n\
         | --- | --- | --- | --- |\n",
    );
    for &kind in Kind::ALL {
        let words = |form| Words::of(kind, form).map(|words| (format!("{} `{}`", words.status, words.body()), words.error_type));
        let (rest, error_type) = words(GatewayResponses::AwsRest).unwrap_or_default();
        let (http, _) = words(GatewayResponses::AwsHttp).unwrap_or_default();
        let _ = writeln!(page, "| `{}` | {rest} | {} | {http} |", kind.name(), error_type.unwrap_or_default());
    }
    page
}
