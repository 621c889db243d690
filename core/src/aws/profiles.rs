//! The shared files of AWS's tools, `~/.aws/config` and `~/.aws/credentials` (reference: AWS SDKs and Tools, "Format of the shared config and
//! credentials files"). Reads text; what no line of them should be is passed over, as those tools pass over what they do not know.

use std::collections::BTreeMap;
use std::fmt;

/// Lines of one file that are read.
const LINES_MAX: usize = 100_000;

/// Keys in lower case, and what they are.
type Section = BTreeMap<String, String>;

/// What both files say.
#[derive(Default, Clone, PartialEq, Eq)]
pub struct Profiles {
    profiles: BTreeMap<String, Section>,
    /// `[services NAME]`: keys are `service` and `service.key`.
    services: BTreeMap<String, Section>,
}

/// They hold secrets.
impl fmt::Debug for Profiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.profiles.keys()).finish()
    }
}

impl Profiles {
    /// What both say of a profile, the file of credentials says.
    pub fn read(config: &str, credentials: &str) -> Profiles {
        let mut profiles = Profiles::default();
        let mut plain_default = Section::new();
        for (header, section) in sections(config) {
            let (kind, name) = match header.split_once(char::is_whitespace) {
                Some((kind, name)) => (kind, unquoted(name.trim())),
                None => ("", unquoted(&header)),
            };
            match kind {
                "" if name == "default" => plain_default.extend(section),
                "profile" => profiles.profiles.entry(name).or_default().extend(section),
                "services" => profiles.services.entry(name).or_default().extend(section),
                // Of other tools.
                _ => {}
            }
        }
        if !plain_default.is_empty() {
            let default = profiles.profiles.entry("default".to_owned()).or_default();
            // `[profile default]` counts for more than `[default]`.
            plain_default.extend(std::mem::take(default));
            *default = plain_default;
        }
        for (name, section) in sections(credentials) {
            profiles.profiles.entry(unquoted(&name)).or_default().extend(section);
        }
        profiles
    }

    pub fn has(&self, profile: &str) -> bool {
        self.profiles.contains_key(profile)
    }

    /// A key of a profile; an empty value is none.
    pub fn get(&self, profile: &str, key: &str) -> Option<&str> {
        self.profiles.get(profile)?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Where a profile says that a service is.
    pub fn endpoint(&self, profile: &str, service: &str) -> Option<&str> {
        let services = self.get(profile, "services").and_then(|name| self.services.get(name));
        let own = services.and_then(|section| section.get(&format!("{service}.endpoint_url"))).map(String::as_str);
        own.filter(|url| !url.is_empty()).or_else(|| self.get(profile, "endpoint_url"))
    }
}

/// Each section's header and keys. One that stands twice comes twice.
fn sections(text: &str) -> Vec<(String, Section)> {
    let mut sections: Vec<(String, Section)> = Vec::new();
    // The last key, whose value may go on in indented lines.
    let mut last: Option<String> = None;
    for line in text.trim_start_matches('\u{feff}').lines().take(LINES_MAX) {
        let is_indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = line.strip_prefix('[').filter(|_| !is_indented) {
            last = None;
            if let Some((name, _)) = header.split_once(']') {
                sections.push((name.trim().to_owned(), Section::new()));
            }
            continue;
        }
        let (Some((_, section)), Some((key, value))) = (sections.last_mut(), line.split_once('=')) else { continue };
        let (key, value) = (key.trim().to_ascii_lowercase(), without_comment(value).trim().to_owned());
        match &last {
            Some(above) if is_indented => drop(section.insert(format!("{above}.{key}"), value)),
            Some(_) | None => {
                section.insert(key.clone(), value);
                last = Some(key);
            }
        }
    }
    sections
}

/// A comment behind a value has a space before it: secrets have `#` and `;` in them.
fn without_comment(value: &str) -> &str {
    let ends = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    &value[..ends.unwrap_or(value.len())]
}

fn unquoted(name: &str) -> String {
    let name = name.trim();
    let inner = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.or_else(|| name.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''))).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\u{feff}# of the shop
[default]
region = eu-west-1 ; here
output=json

[profile kitchen]
Role_Arn = arn:aws:iam::123456789012:role/kitchen
source_profile = default
services = local
s3 =
    max_concurrent_requests = 20

[profile \"with space\"] # quoted
region = us-east-1
[profile broken
nothing
[services local]
lambda =
  endpoint_url = http://localhost:4566
sts =
  endpoint_url = http://localhost:4567
[sso-session x]
sso_region = eu-west-1
[profile everywhere]
endpoint_url = http://localhost:1
";

    #[test]
    fn profiles_are_read_as_the_tools_read_them() {
        let credentials = "[default]\naws_access_key_id = AKIA\naws_secret_access_key=a#b;c=d/e+f\n\n[other]\nregion = us-west-2\n[default]\nregion = eu-west-9\n";
        let profiles = Profiles::read(CONFIG, credentials);
        for (profile, key, value) in [
            ("default", "region", Some("eu-west-9")),
            ("default", "output", Some("json")),
            ("default", "aws_secret_access_key", Some("a#b;c=d/e+f")),
            ("kitchen", "role_arn", Some("arn:aws:iam::123456789012:role/kitchen")),
            ("kitchen", "source_profile", Some("default")),
            ("kitchen", "s3", None),
            ("kitchen", "s3.max_concurrent_requests", Some("20")),
            ("with space", "region", Some("us-east-1")),
            ("other", "region", Some("us-west-2")),
            ("other", "nothing", None),
            ("nobody", "region", None),
        ] {
            assert_eq!(profiles.get(profile, key), value, "{profile} {key}");
        }
        assert!(profiles.has("everywhere") && !profiles.has("x") && !profiles.has("local") && !profiles.has("broken"));
        assert!(!format!("{profiles:?}").contains("a#b"));
    }

    #[test]
    fn endpoints_are_of_the_service_and_then_of_all() {
        let profiles = Profiles::read(CONFIG, "");
        for (profile, service, url) in [
            ("kitchen", "lambda", Some("http://localhost:4566")),
            ("kitchen", "sts", Some("http://localhost:4567")),
            ("kitchen", "s3", None),
            ("everywhere", "lambda", Some("http://localhost:1")),
            ("default", "lambda", None),
        ] {
            assert_eq!(profiles.endpoint(profile, service), url, "{profile} {service}");
        }
    }

    #[test]
    fn the_longer_name_of_the_default_profile_counts() {
        for config in
            ["[default]\nregion = a\n[profile default]\nregion = b\n", "[profile default]\nregion = b\n[default]\nregion = a\n"]
        {
            assert_eq!(Profiles::read(config, "").get("default", "region"), Some("b"));
        }
    }
}
