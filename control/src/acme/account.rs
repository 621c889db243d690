//! Who we are at an authority: made at the first order, kept in a file, shared by all orders of one directory and folder. Orders
//! nothing.

use super::http::Http;
use super::storage::Storage;
use instant_acme::{Account, AccountCredentials, NewAccount};
use maitred_core::Clock;
use maitred_model::Acme;
use maitred_transport::{ClientTls, ClientTlsSpec};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Which account: directory and folder.
pub(super) type Identity = (String, PathBuf);

/// An authority, as one `acme` of the configuration names it.
pub(super) struct Authority {
    pub directory: String,
    email: Option<String>,
    ca: Option<Arc<[u8]>>,
    tls: Arc<ClientConfig>,
    pub storage: Storage,
    /// Two orders at once must not make two accounts.
    making: Mutex<()>,
}

/// `account.json`.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Where the authority was told to write.
    email: Option<String>,
    credentials: Value,
}

impl Authority {
    pub fn new(acme: &Acme) -> Result<Authority, String> {
        let ca = acme.ca.as_ref().map(|ca| ca.bytes.clone());
        let spec = ClientTlsSpec { ca: ca.as_deref(), ..ClientTlsSpec::default() };
        let tls = ClientTls::new(&spec).map_err(|problem| problem.what)?.config();
        let storage = Storage::new(&acme.storage, &acme.directory);
        Ok(Authority { directory: acme.directory.clone(), email: acme.email.clone(), ca, tls, storage, making: Mutex::default() })
    }

    pub fn identity(acme: &Acme) -> Identity {
        (acme.directory.clone(), acme.storage.clone())
    }

    /// Whether nothing about it has changed.
    pub fn is(&self, acme: &Acme) -> bool {
        let Acme { domains: _, email, directory, ca, storage, challenge: _ } = acme;
        let same_ca = self.ca.as_deref() == ca.as_ref().map(|ca| &ca.bytes[..]);
        same_ca && self.email == *email && self.directory == *directory && self.storage == Storage::new(storage, directory)
    }

    pub fn http(&self, clock: Clock) -> Http {
        Http::new(self.tls.clone(), clock)
    }

    /// The account, made if there is none.
    pub async fn account(&self, http: &Http) -> Result<Account, String> {
        let _making = self.making.lock().await;
        if let Some(account) = self.known(http).await? {
            return Ok(account);
        }
        let builder = Account::builder_with_http(Box::new(http.clone()));
        let contact = self.contact();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        // That its terms are agreed to is what naming the directory in the configuration means: docs/acme.md says so.
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) =
            builder.create(&new, self.directory.clone(), None).await.map_err(|error| format!("no account: {error}"))?;
        tracing::info!(directory = self.directory, account = account.id(), "an account was made");
        self.keep(serde_json::to_value(&credentials).map_err(|error| error.to_string())?).await?;
        Ok(account)
    }

    /// The account of an earlier order.
    async fn known(&self, http: &Http) -> Result<Option<Account>, String> {
        let Some(kept) = self.kept().await? else { return Ok(None) };
        let credentials = AccountCredentials::deserialize(&kept.credentials).map_err(|error| self.malformed(error))?;
        let builder = Account::builder_with_http(Box::new(http.clone()));
        let account = builder.from_credentials(credentials).await.map_err(|error| format!("no directory: {error}"))?;
        if kept.email != self.email {
            let contact = self.contact();
            let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
            account.update_contacts(&contact).await.map_err(|error| format!("`email` is not taken: {error}"))?;
            self.keep(kept.credentials).await?;
        }
        Ok(Some(account))
    }

    async fn kept(&self) -> Result<Option<Kept>, String> {
        let bytes = self.storage.account().map_err(|error| format!("the account cannot be read: {error}"))?;
        bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|error| self.malformed(error))).transpose()
    }

    async fn keep(&self, credentials: Value) -> Result<(), String> {
        let kept = Kept { email: self.email.clone(), credentials };
        let bytes = serde_json::to_vec_pretty(&kept).map_err(|error| error.to_string())?;
        let storage = self.storage.clone();
        elsewhere(move || storage.keep_account(&bytes)).await.map_err(|error| format!("the account cannot be kept: {error}"))
    }

    fn contact(&self) -> Option<String> {
        self.email.as_ref().map(|email| format!("mailto:{email}"))
    }

    fn malformed(&self, error: impl std::fmt::Display) -> String {
        let folder: &Path = self.storage.folder();
        format!("account.json in {} is none ({error}); without it a new account is made", folder.display())
    }
}

/// Waits for the disk on a thread where nobody else waits.
pub(super) async fn elsewhere(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> std::io::Result<()> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
