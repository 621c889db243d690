//! Roles, taken on by asking AWS's Security Token Service, with keys or with a token that somebody else has signed.

use super::search::Search;
use super::settings::read_file;
use http::Uri;
use maitred_core::aws::sigv4::{Parts, Signing, authorization, hash, stamp};
use maitred_core::aws::{Credentials, sts};
use maitred_core::ports::{Asks, FetchRequest, Fetched};
use maitred_core::wire::path;
use std::path::Path;
use std::time::Duration;

const TIME_MAX: Duration = Duration::from_secs(10);
/// Of an answer; there are two kilobytes in it.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Of a web identity's token (reference: AWS STS, AssumeRoleWithWebIdentity).
const TOKEN_BYTES_MAX: u64 = 20_000;

/// `AssumeRole`, with these keys. The role, and what the session is to be called.
pub async fn assume_role(
    search: &Search<'_>,
    profile: &str,
    (role, session): (&str, Option<&str>),
    keys: &Credentials,
) -> Result<Credentials, String> {
    let get = |key| search.settings.profiles.get(profile, key);
    let (session, duration) = (session_name(search, session), get("duration_seconds"));
    let mut fields = vec![("Action", "AssumeRole"), ("RoleArn", role), ("RoleSessionName", &session)];
    fields.extend(get("external_id").map(|id| ("ExternalId", id)));
    fields.extend(duration.map(|seconds| ("DurationSeconds", seconds)));
    let (region, url) = place(search, profile);
    let form = form(&fields);
    let ask_once = async |skew: i64| {
        // Of what was learned before by whoever asks AWS with these keys.
        let time = search.time.as_secs().saturating_add_signed(skew);
        let headers = signed(&url, &region, form.as_bytes(), (keys, time))?;
        ask(search, url.clone(), headers, form.clone()).await
    };
    let skew = search.cell.skew();
    let mut answer = ask_once(skew).await?;
    if let Some(theirs) = answer.date.filter(|_| sts::is_refused_for_time(answer.status, &answer.body))
        && search.cell.learn_time(theirs, search.time.as_secs(), skew)
    {
        answer = ask_once(search.cell.skew()).await?;
    }
    read(role, &answer)
}

/// `AssumeRoleWithWebIdentity`, with the token in a file, which whoever issues it renews.
pub async fn web_identity(
    search: &Search<'_>,
    profile: &str,
    (role, session): (&str, Option<&str>),
    file: &str,
) -> Result<Credentials, String> {
    let token = read_file(Path::new(file), TOKEN_BYTES_MAX);
    let token = token.map_err(|error| format!("the token of a web identity in {file} cannot be read: {error}"))?;
    let session = session_name(search, session);
    let (_, url) = place(search, profile);
    let fields = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("RoleArn", role),
        ("RoleSessionName", &session),
        ("WebIdentityToken", token.trim()),
    ];
    read(role, &ask(search, url, Vec::new(), form(&fields)).await?)
}

async fn ask(search: &Search<'_>, url: String, headers: Vec<(&'static str, String)>, form: String) -> Result<Fetched, String> {
    let request = FetchRequest { url, headers, asks: Asks::Form(form), time_max: TIME_MAX, body_bytes_max: ANSWER_BYTES_MAX };
    search.ask(request).await
}

fn read(role: &str, answer: &Fetched) -> Result<Credentials, String> {
    sts::read(answer.status, &answer.body).map_err(|why| format!("the role {role}: {why}"))
}

fn session_name(search: &Search<'_>, configured: Option<&str>) -> String {
    configured.map_or_else(|| format!("maitred-{}", search.time.as_secs()), str::to_owned)
}

/// The region that is asked, and its URL.
fn place(search: &Search<'_>, profile: &str) -> (String, String) {
    let (settings, source) = (&search.settings, search.cell.source());
    let region = settings.region(profile).unwrap_or(&source.region).to_owned();
    let url = match settings.endpoint("sts", Some(profile)) {
        Some(url) => url.to_owned(),
        None => settings.usual_endpoint("sts", &source.partition, &region, Some(profile)),
    };
    (region, url)
}

/// The headers of a request to STS that is signed with these keys.
fn signed(
    url: &str,
    region: &str,
    body: &[u8],
    (keys, time): (&Credentials, u64),
) -> Result<Vec<(&'static str, String)>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut headers = vec![("x-amz-date", String::from_utf8_lossy(&stamp::format(time)).into_owned())];
    headers.extend(keys.token.as_ref().map(|token| ("x-amz-security-token", token.to_string())));
    let parts: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let parts = Parts { method: b"POST", path: uri.path().as_bytes(), query: b"", host: host.as_bytes(), headers: &parts };
    let signing = Signing { key_id: &keys.key_id, secret: &keys.secret, region, service: "sts", time };
    headers.push(("authorization", authorization(&parts, &signing, &hash(body))?));
    Ok(headers)
}

/// As `application/x-www-form-urlencoded`, with the version of the API.
fn form(fields: &[(&str, &str)]) -> String {
    let mut out = b"Version=2011-06-15".to_vec();
    for (name, value) in fields {
        out.push(b'&');
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        path::encode(value.as_bytes(), &mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}
