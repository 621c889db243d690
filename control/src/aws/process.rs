//! Keys from a program of the user's choice (`credential_process`): its words are split as a shell splits them, and no shell is asked. Bounded in
//! time and in what it says.

use maitred_core::aws::Credentials;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Signing in somewhere takes seconds.
const TIME_MAX: Duration = Duration::from_secs(30);
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

pub async fn run(command: &str) -> Result<Credentials, String> {
    let words = split(command)?;
    let (program, arguments) = words.split_first().ok_or("it is empty")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("`{program}` cannot be started: {error}"))?;
    let output = child.stdout.take().ok_or("it has no output")?;
    let mut text = Vec::new();
    let reading = async {
        output.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut text).await?;
        child.wait().await
    };
    let late = |_| format!("`{program}` took longer than {} s", TIME_MAX.as_secs());
    let status = timeout(TIME_MAX, reading).await.map_err(late)?.map_err(|error| format!("`{program}`: {error}"))?;
    if !status.success() {
        return Err(format!("`{program}` ended with {status}"));
    }
    if text.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(format!("`{program}` said more than {OUTPUT_BYTES_MAX} bytes"));
    }
    let version: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
    match version.as_ref().and_then(|answer| answer.get("Version")).and_then(serde_json::Value::as_u64) {
        Some(1) => Credentials::from_json(&text).map_err(|why| format!("`{program}`: {why}")),
        Some(_) | None => Err(format!("`{program}` did not answer in JSON with `\"Version\": 1`")),
    }
}

/// Words, with quotes and backslashes as a shell has them.
fn split(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = command.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some('"'), '\\') => match letters.next() {
                Some(escaped @ ('"' | '\\')) => word.get_or_insert_default().push(escaped),
                Some(other) => word.get_or_insert_default().extend(['\\', other]),
                None => return Err("it ends with a backslash".to_owned()),
            },
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().push(letters.next().ok_or("it ends with a backslash")?),
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (command, words) in [
            ("", Some(&[][..])),
            ("  a  b ", Some(&["a", "b"])),
            (r#""/opt/my tool/x" --name 'a b' """#, Some(&["/opt/my tool/x", "--name", "a b", ""])),
            (r#"a\ b "c\"d\e" 'f\g'"#, Some(&["a b", "c\"d\\e", "f\\g"])),
            (r#"a"b"'c'"#, Some(&["abc"])),
            ("a 'b", None),
            ("a\\", None),
            ("\"a\\", None),
        ] {
            assert_eq!(
                split(command).ok().as_deref(),
                words.map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).as_deref(),
                "{command}"
            );
        }
    }

    #[tokio::test]
    async fn a_program_says_the_keys_in_json() {
        let good = r#"sh -c 'printf "{\"Version\":1,\"AccessKeyId\":\"AKIA\",\"SecretAccessKey\":\"s\"}"'"#;
        assert_eq!(&*run(good).await.expect("keys").key_id, "AKIA");
        for (bad, why) in [
            ("", "empty"),
            ("/nowhere/to/be/found", "cannot be started"),
            ("false", "ended with"),
            ("true", "Version"),
            (r#"sh -c 'printf "{\"Version\":2}"'"#, "Version"),
            (r#"sh -c 'printf "{\"Version\":1}"'"#, "AccessKeyId"),
            ("head -c 70000 /dev/zero", ""),
        ] {
            let error = run(bad).await.expect_err(bad);
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
