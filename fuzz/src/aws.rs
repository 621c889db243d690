//! What AWS's tools and services write for the gateway: shared files of profiles, and answers of STS. Any bytes are read or complained about.

use maitred_core::aws::{Credentials, Profiles, sts};

/// The first half is the file of profiles, the second the one of credentials.
pub fn aws_profiles(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (config, credentials) = text.split_once('\0').unwrap_or((&text, ""));
    let profiles = Profiles::read(config, credentials);
    assert_eq!(Profiles::read(config, credentials), profiles);
    assert_eq!(Profiles::read(&config.replace('\n', "\r\n"), credentials), profiles);
    for profile in ["default", "kitchen"] {
        // What the file of credentials says counts, whatever the other says.
        let own = Profiles::read("", credentials);
        if let Some(value) = own.get(profile, "aws_secret_access_key") {
            assert_eq!(profiles.get(profile, "aws_secret_access_key"), Some(value));
        }
        assert!(profiles.get(profile, "region").is_none_or(|region| !region.is_empty() && !region.contains('\n')));
    }
}

pub fn aws_answer(data: &[u8]) {
    for credentials in [sts::read(200, data), sts::read(403, data), Credentials::from_json(data)].into_iter().flatten() {
        // They become headers.
        assert!(credentials.key_id.bytes().all(|byte| byte.is_ascii_graphic()) && !credentials.key_id.is_empty());
        assert!(credentials.token.is_none_or(|token| token.bytes().all(|byte| byte.is_ascii_graphic())));
    }
    assert!(sts::read(403, data).is_err());
    if let Some(leaves) = std::str::from_utf8(data).ok().and_then(|text| sts::leaves(text).ok()) {
        assert!(leaves.len() <= 200 && leaves.iter().all(|(path, _)| !path.is_empty()));
    }
}
