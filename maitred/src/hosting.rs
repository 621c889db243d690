//! What functions that run here are given of this machine, and what is kept from them.

use crate::configuration::Read;
use anyhow::Context;
use maitred_control::functions::keys::of_functions;
use maitred_control::functions::token::{self, Token};
use maitred_dataplane::State;
use maitred_host::HostOptions;
use maitred_model::{Document, PemFile, UpstreamTls};
use std::path::{Path, PathBuf};

/// Where copies of functions' code are kept, beside the store. Nobody's own folder has that name: what is not needed in it is removed.
const CODE_FOLDER: &str = "maitred-functions";
/// Where functions are told that they run, if nothing says so: SDKs do not work without a region.
const REGION: &str = "us-east-1";

/// Before any function is started: from then on the admin listener asks for a token, one that is made if the configuration has none.
pub fn settle(token: &Token, document: &Document) -> anyhow::Result<()> {
    let made = token.settle(document).context("functions are hosted, so that the admin listener needs a token")?;
    if let Some(file) = made {
        tracing::info!("the admin listener asks for the token in {}, since functions are hosted", file.display());
    }
    Ok(())
}

/// For the life of the process: what a reload changes of `store`, of `admin`, and of the files that are kept from functions, needs a restart here.
pub fn options(read: &Read, state: &State) -> HostOptions {
    let document = read.document.as_ref();
    let folder = document.and_then(|document| document.store.parent()).unwrap_or(Path::new("")).join(CODE_FOLDER);
    let region = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| std::env::var(name).ok());
    HostOptions {
        folder: absolute(&folder),
        key: Some(of_functions(&state.ticket_secret())),
        region: region.filter(|region| !region.is_empty()).unwrap_or_else(|| REGION.to_owned()),
        hidden: document.map(|document| hidden(document, &read.watched.files)).unwrap_or_default(),
    }
}

/// The files of the configuration, with whatever they name that is no certificate, and what the gateway keeps. Whom to trust is no secret, and
/// functions may have to read it too.
fn hidden(document: &Document, files: &[PathBuf]) -> Vec<PathBuf> {
    let listeners = document.listen.iter().filter_map(|listener| listener.tls.as_ref());
    let upstreams = document.upstreams.values().filter_map(|upstream| upstream.tls.as_ref());
    let public: Vec<&PemFile> = listeners
        .clone()
        .flat_map(|tls| tls.certificates.iter().map(|pair| &pair.cert.value).chain(tls.client_ca.as_deref()))
        .chain(upstreams.clone().flat_map(|tls| certificates(tls)))
        .collect();
    let keys: Vec<&PemFile> = listeners
        .clone()
        .flat_map(|tls| tls.certificates.iter().map(|pair| &pair.key.value))
        .chain(upstreams.filter_map(|tls| tls.key.as_deref()))
        .collect();
    // Certificate and key may be one file.
    let is_public = |file: &Path| public.iter().any(|public| public.path == file) && !keys.iter().any(|key| key.path == file);
    let is_secret = |file: &&PathBuf| file.is_file() && !is_public(file);
    let storage = listeners.filter_map(|tls| tls.acme.as_ref()).map(|acme| acme.storage.clone());
    let kept = [document.store.clone(), token::path(&document.store)].into_iter().chain(storage);
    files.iter().filter(is_secret).cloned().chain(kept).map(|path| absolute(&path)).collect()
}

fn certificates(tls: &UpstreamTls) -> impl Iterator<Item = &PemFile> {
    tls.ca.as_deref().into_iter().chain(tls.cert.as_deref())
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_model::{Disk, load_text};

    #[test]
    fn certificates_are_public_unless_their_keys_are_in_them() {
        let folder = std::env::temp_dir().join(format!("maitred-kept-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = ("-----BEGIN CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\n");
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("both.pem", &format!("{certificate}{key}"));
        write("cert.pem", certificate);
        write("key.pem", key);
        let at = folder.display();
        let text = format!(
            "listen: [ {{ address: 127.0.0.1:8443, tls: {{ certificates: [ {{ cert: {at}/cert.pem, key: {at}/key.pem }}, {{ cert: {at}/both.pem, key: {at}/both.pem }} ] }} }} ]\n\
             upstreams: {{ kitchen: http://127.0.0.1:9001 }}\napis: {{ shop: {{ routes: [ GET /menu: kitchen ] }} }}\n"
        );
        let document = load_text("test.yaml", &text, &Disk).document.unwrap();
        let kept = hidden(&document, &["both.pem", "cert.pem", "key.pem"].map(|name| folder.join(name)));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(kept[..2], ["both.pem", "key.pem"].map(|name| folder.join(name)));
        assert!(!kept.contains(&folder.join("cert.pem")));
    }
}
