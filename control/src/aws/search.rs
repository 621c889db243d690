//! Where keys are looked for, in the order of AWS's own tools: the environment, a role of the profile, a web identity, the profile's keys or
//! program, a container's address, an instance's metadata. What is configured and does not work is an error; the next place is not tried then,
//! since it would be somebody else who is let in.

use super::{container, process, sts};
use http::Uri;
use maitred_core::aws::{CredentialCell, Credentials, Settings};
use maitred_core::ports::{Fetch, FetchRequest, Fetched};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Profiles that name each other as their source.
const SOURCES_MAX: usize = 8;

/// One search.
pub struct Search<'a> {
    pub settings: Settings,
    /// Whose keys are looked for, and by how much AWS's clock is ahead.
    pub cell: &'a CredentialCell,
    pub fetch: &'a dyn Fetch,
    /// Since 1970, here.
    pub time: Duration,
}

/// Keys, and where they were found, for the log.
#[derive(Debug)]
pub struct Found {
    pub credentials: Credentials,
    pub from: &'static str,
}

type Finding<'a> = Pin<Box<dyn Future<Output = Result<Option<Found>, String>> + Send + 'a>>;

impl Search<'_> {
    pub async fn find(&self) -> Result<Found, String> {
        if let Some(profile) = &self.cell.source().profile {
            return match self.of_profile(profile, Vec::new()).await? {
                Some(found) => Ok(found),
                None => Err(self.nothing_in(profile)),
            };
        }
        if let Some(found) = self.of_environment()? {
            return Ok(found);
        }
        let profile = self.settings.profile();
        let get = |key| self.settings.profiles.get(profile, key);
        // Before a role that the profile does not name comes none.
        if get("role_arn").is_none()
            && let Some(found) = self.of_web_identity().await?
        {
            return Ok(found);
        }
        if let Some(found) = self.of_profile(profile, Vec::new()).await? {
            return Ok(found);
        }
        let is_named = self.settings.variable("AWS_PROFILE").or(self.settings.variable("AWS_DEFAULT_PROFILE")).is_some();
        if is_named && !self.settings.profiles.has(profile) {
            return Err(self.nothing_in(profile));
        }
        if let Some(found) = container::of_container(self).await? {
            return Ok(found);
        }
        let of_instance = container::of_instance(self).await;
        of_instance.map_err(|why| {
            format!(
                "AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE and AWS_CONTAINER_CREDENTIALS_FULL_URI are not set, the profile `{profile}` \
                 has no keys, and there is no metadata of an instance: {why}"
            )
        })
    }

    fn of_environment(&self) -> Result<Option<Found>, String> {
        let get = |name| self.settings.variable(name);
        match (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
            (Some(key_id), Some(secret)) => {
                let credentials = Credentials::new(key_id, secret, get("AWS_SESSION_TOKEN"), None)?;
                Ok(Some(Found { credentials, from: "environment" }))
            }
            (Some(_), None) => Err("AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not".to_owned()),
            (None, Some(_)) => Err("AWS_SECRET_ACCESS_KEY is set, and AWS_ACCESS_KEY_ID is not".to_owned()),
            (None, None) => Ok(None),
        }
    }

    async fn of_web_identity(&self) -> Result<Option<Found>, String> {
        let get = |name| self.settings.variable(name);
        match (get("AWS_WEB_IDENTITY_TOKEN_FILE"), get("AWS_ROLE_ARN")) {
            (Some(file), Some(role)) => {
                let session = get("AWS_ROLE_SESSION_NAME");
                let credentials = sts::web_identity(self, self.settings.profile(), (role, session), file).await?;
                Ok(Some(Found { credentials, from: "web identity" }))
            }
            (Some(_), None) => Err("AWS_WEB_IDENTITY_TOKEN_FILE is set, and AWS_ROLE_ARN is not".to_owned()),
            (None, _) => Ok(None),
        }
    }

    /// `Ok(None)`: it says nothing of keys. `before`: profiles that this one is the source of.
    fn of_profile<'a>(&'a self, profile: &'a str, before: Vec<&'a str>) -> Finding<'a> {
        Box::pin(async move {
            let get = |key| self.settings.profiles.get(profile, key);
            // One that is its own source has keys of its own.
            let is_own_source = before.last() == Some(&profile);
            if let Some(role) = get("role_arn").filter(|_| !is_own_source) {
                return self.of_role(profile, role, before).await.map(Some);
            }
            match (get("aws_access_key_id"), get("aws_secret_access_key")) {
                (Some(key_id), Some(secret)) => {
                    let credentials = Credentials::new(key_id, secret, get("aws_session_token"), None);
                    let credentials = credentials.map_err(|why| format!("the profile `{profile}`: {why}"))?;
                    return Ok(Some(Found { credentials, from: "profile" }));
                }
                (None, None) => {}
                (_, _) => return Err(format!("the profile `{profile}` has one of aws_access_key_id and aws_secret_access_key")),
            }
            if let Some(command) = get("credential_process") {
                let credentials = process::run(command).await;
                let credentials = credentials.map_err(|why| format!("credential_process of the profile `{profile}`: {why}"))?;
                return Ok(Some(Found { credentials, from: "credential_process" }));
            }
            if get("sso_session").or(get("sso_start_url")).is_some() {
                return Err(format!(
                    "the profile `{profile}` signs in by SSO, which only the AWS CLI does: add a profile with \
                     `credential_process = aws configure export-credentials --profile {profile} --format process`, and name that one"
                ));
            }
            Ok(None)
        })
    }

    /// What a role of a profile may do, by whoever its source is.
    async fn of_role<'a>(&'a self, profile: &'a str, role: &'a str, mut before: Vec<&'a str>) -> Result<Found, String> {
        let get = |key| self.settings.profiles.get(profile, key);
        if get("mfa_serial").is_some() {
            return Err(format!(
                "the profile `{profile}` asks for a code of a device (mfa_serial), and nobody is here to type it"
            ));
        }
        if before.contains(&profile) || before.len() >= SOURCES_MAX {
            return Err(format!("the profile `{profile}` is its own source, or one of too many"));
        }
        let session = get("role_session_name");
        if let Some(file) = get("web_identity_token_file") {
            let credentials = sts::web_identity(self, profile, (role, session), file).await?;
            return Ok(Found { credentials, from: "web identity" });
        }
        let base = match (get("source_profile"), get("credential_source")) {
            (Some(source), None) => {
                before.push(profile);
                match self.of_profile(source, before).await? {
                    Some(found) => found,
                    None => return Err(self.nothing_in(source)),
                }
            }
            (None, Some("Environment")) => {
                self.of_environment()?.ok_or("credential_source is Environment, and AWS_ACCESS_KEY_ID is not set")?
            }
            (None, Some("EcsContainer")) => {
                let found = container::of_container(self).await?;
                found.ok_or("credential_source is EcsContainer, and no container's address is in the environment")?
            }
            (None, Some("Ec2InstanceMetadata")) => container::of_instance(self).await?,
            (None, Some(other)) => return Err(format!("the profile `{profile}`: `{other}` is no credential_source")),
            (Some(_), Some(_)) => return Err(format!("the profile `{profile}` has both source_profile and credential_source")),
            (None, None) => return Err(format!("the profile `{profile}` has a role_arn and no source_profile")),
        };
        let credentials = sts::assume_role(self, profile, (role, session), &base.credentials).await?;
        Ok(Found { credentials, from: "role" })
    }

    fn nothing_in(&self, profile: &str) -> String {
        if self.settings.profiles.has(profile) {
            return format!("the profile `{profile}` has no keys, no role and no credential_process");
        }
        format!("there is no profile `{profile}` in ~/.aws/config or ~/.aws/credentials")
    }

    pub async fn ask(&self, request: FetchRequest) -> Result<Fetched, String> {
        let place = place(&request.url);
        self.fetch.fetch(request).await.map_err(|why| format!("{place}: {why}"))
    }
}

/// Scheme and host, for the log: what follows in a container's address is a secret of its own.
pub fn place(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    let parts = uri.as_ref().and_then(|uri| uri.scheme_str().zip(uri.host()));
    parts.map_or_else(|| "no URL".to_owned(), |(scheme, host)| format!("{scheme}://{host}"))
}
