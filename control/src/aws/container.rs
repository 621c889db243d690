//! Keys that the machine has: a container's, by the address that its environment names (Amazon ECS, EKS Pod Identity), and an EC2 instance's, by
//! its metadata (IMDSv2). Asks those addresses and no others: whoever could have a container's token sent elsewhere would have its keys.

use super::search::{Found, Search, place};
use super::settings::read_file;
use http::Uri;
use maitred_core::aws::Credentials;
use maitred_core::ports::{Asks, FetchRequest};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Of Amazon ECS.
const CONTAINER: &str = "http://169.254.170.2";
/// Of Amazon ECS and of EKS Pod Identity: hosts that may be asked without TLS, beside this one (reference: AWS SDKs and Tools, "Container
/// credential provider").
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
const INSTANCE: &str = "http://169.254.169.254";
/// They are on the same machine; where there are none, nobody answers at all.
const TIME_MAX: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const TOKEN_BYTES_MAX: u64 = 64 * 1024;
/// For how long a token of IMDSv2 is to be good: it is used twice.
const INSTANCE_TOKEN_SECONDS: &str = "60";

/// `Ok(None)`: this is no such container.
pub async fn of_container(search: &Search<'_>) -> Result<Option<Found>, String> {
    let get = |name| search.settings.variable(name);
    let url = match (get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), get("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
        (Some(path), _) => of_path(path)?,
        (None, Some(url)) => allowed(url)?,
        (None, None) => return Ok(None),
    };
    let token = match (get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), get("AWS_CONTAINER_AUTHORIZATION_TOKEN")) {
        (Some(file), _) => {
            let token = read_file(Path::new(file), TOKEN_BYTES_MAX);
            Some(token.map_err(|error| format!("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, {file}, cannot be read: {error}"))?)
        }
        (None, Some(token)) => Some(token.to_owned()),
        (None, None) => None,
    };
    let headers = token.map(|token| ("authorization", token.trim().to_owned())).into_iter().collect();
    let credentials = keys(search, url, headers).await.map_err(|why| format!("the container's keys: {why}"))?;
    Ok(Some(Found { credentials, from: "container" }))
}

/// The metadata of an instance, version 2: a token first, which no redirected or forged request of somebody else gets.
pub async fn of_instance(search: &Search<'_>) -> Result<Found, String> {
    let get = |name| search.settings.variable(name);
    if get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err("AWS_EC2_METADATA_DISABLED says that it is not to be asked".to_owned());
    }
    let base = get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(INSTANCE).trim_end_matches('/');
    let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", INSTANCE_TOKEN_SECONDS.to_owned());
    let token = text(search, format!("{base}/latest/api/token"), vec![ttl], Asks::Put).await?;
    let headers = vec![("x-aws-ec2-metadata-token", token.trim().to_owned())];
    let list = format!("{base}/latest/meta-data/iam/security-credentials/");
    let roles = text(search, list.clone(), headers.clone(), Asks::Get).await;
    let roles = roles.map_err(|why| format!("the instance has no role: {why}"))?;
    let role = roles.lines().next().unwrap_or_default().trim();
    // Names of roles (reference: IAM, CreateRole); anything else would be a path of its own.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    if role.is_empty() || !role.bytes().all(is_name) {
        return Err("the instance has no role".to_owned());
    }
    let credentials = keys(search, format!("{list}{role}"), headers).await?;
    Ok(Found { credentials, from: "instance" })
}

async fn keys(search: &Search<'_>, url: String, headers: Vec<(&'static str, String)>) -> Result<Credentials, String> {
    Credentials::from_json(text(search, url, headers, Asks::Get).await?.as_bytes())
}

async fn text(search: &Search<'_>, url: String, headers: Vec<(&'static str, String)>, asks: Asks) -> Result<String, String> {
    let place = place(&url);
    let request = FetchRequest { url, headers, asks, time_max: TIME_MAX, body_bytes_max: ANSWER_BYTES_MAX };
    let answer = search.ask(request).await?;
    if answer.status != 200 {
        return Err(format!("{place} answers {}", answer.status));
    }
    String::from_utf8(answer.body).map_err(|_| format!("{place} answers with no text"))
}

/// Anything else than a path would name another host, and an error further on would say it whole.
fn of_path(path: &str) -> Result<String, String> {
    let url = format!("{CONTAINER}{path}");
    let is_path = path.starts_with('/') && url.parse::<Uri>().is_ok();
    is_path.then_some(url).ok_or_else(|| "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is no path".to_owned())
}

/// Without TLS only this machine, and the addresses that Amazon has for it.
fn allowed(url: &str) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|_| "AWS_CONTAINER_CREDENTIALS_FULL_URI is no URL".to_owned())?;
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(url.to_owned()),
        Some("http") if is_here || CONTAINER_HOSTS.contains(&host) => Ok(url.to_owned()),
        Some(_) | None => Err(format!(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI, {}, is neither https nor an address of this machine: the token would go elsewhere",
            place(url)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_s_token_goes_nowhere_else() {
        for (url, good) in [
            ("http://127.0.0.1:1234/keys", true),
            ("http://127.8.8.8/keys", true),
            ("http://[::1]:80/keys", true),
            ("http://localhost/keys", true),
            ("http://169.254.170.2/v2/x", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("https://keys.example/x", true),
            ("http://keys.example/x", false),
            ("http://169.254.169.254/x", false),
            ("http://127.0.0.1.example/x", false),
            ("http://10.0.0.1/x", false),
            ("/v2/x", false),
            ("ftp://127.0.0.1/x", false),
            ("", false),
        ] {
            assert_eq!(allowed(url).is_ok(), good, "{url}");
        }
    }

    #[test]
    fn of_a_container_s_address_the_log_has_scheme_and_host_alone() {
        for (url, wanted) in [
            ("http://169.254.170.2/v2/credentials/secret?id=secret", "http://169.254.170.2"),
            ("https://secret:secret@keys.example:8443/secret", "https://keys.example"),
            ("/v2/secret", "no URL"),
            ("http://keys.example/secret secret", "no URL"),
        ] {
            assert_eq!(place(url), wanted);
            assert!(allowed(url).err().is_none_or(|why| !why.contains("secret")), "{url}");
        }
        for (path, good) in [("/v2/x?y=z", true), ("", false), ("@keys.example/secret", false), ("/secret secret", false)] {
            assert_eq!(of_path(path).is_ok(), good, "{path}");
            assert!(of_path(path).err().is_none_or(|why| !why.contains("secret")), "{path}");
        }
    }
}
