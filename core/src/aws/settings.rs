//! What the gateway's surroundings say of AWS, the variables of its environment and the shared files, and what counts where both say something.
//! Reads neither: it is given both.

use super::profiles::Profiles;
use std::collections::HashMap;
use std::fmt;

/// Variables and files, as they were at one moment.
#[derive(Default, Clone)]
pub struct Settings {
    pub variables: HashMap<String, String>,
    pub profiles: Profiles,
}

/// The variables hold secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("profiles", &self.profiles).finish_non_exhaustive()
    }
}

impl Settings {
    /// A variable; an empty one is none.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The profile that counts where a function names none.
    pub fn profile(&self) -> &str {
        self.variable("AWS_PROFILE").or_else(|| self.variable("AWS_DEFAULT_PROFILE")).unwrap_or("default")
    }

    /// The region that counts where nobody says more.
    pub fn region(&self, profile: &str) -> Option<&str> {
        let variable = self.variable("AWS_REGION").or_else(|| self.variable("AWS_DEFAULT_REGION"));
        variable.or_else(|| self.profiles.get(profile, "region"))
    }

    /// Where a service is spoken to instead of at AWS's own address: the variable of the service, that of all, the profile's `services`, the
    /// profile's own (reference: AWS SDKs and Tools, "Service-specific endpoints").
    pub fn endpoint(&self, service: &str, profile: Option<&str>) -> Option<&str> {
        let profile = profile.unwrap_or_else(|| self.profile());
        let is_true = |value: &str| value.eq_ignore_ascii_case("true");
        let ignored = self.variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(is_true)
            || self.profiles.get(profile, "ignore_configured_endpoint_urls").is_some_and(is_true);
        if ignored {
            return None;
        }
        let own = self.variable(&format!("AWS_ENDPOINT_URL_{}", service.to_ascii_uppercase()));
        own.or_else(|| self.variable("AWS_ENDPOINT_URL")).or_else(|| self.profiles.endpoint(profile, service))
    }

    /// AWS's own address of a service in a region, with the variants that are asked for.
    pub fn usual_endpoint(&self, service: &str, partition: &str, region: &str, profile: Option<&str>) -> String {
        let profile = profile.unwrap_or_else(|| self.profile());
        let wants = |variable: &str, key: &str| {
            let value = self.variable(variable).or_else(|| self.profiles.get(profile, key));
            value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
        };
        let fips = if wants("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint") { "-fips" } else { "" };
        let suffix = match (partition, wants("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")) {
            ("aws-cn", false) => "amazonaws.com.cn",
            ("aws-cn", true) => "api.amazonwebservices.com.cn",
            (_, false) => "amazonaws.com",
            (_, true) => "api.aws",
        };
        format!("https://{service}{fips}.{region}.{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let config = "[default]\nregion = eu-west-1\n[profile local]\nservices = s\nendpoint_url = http://all\n[services s]\nlambda =\n  endpoint_url = http://own\n[profile quiet]\nendpoint_url = http://all\nignore_configured_endpoint_urls = true\n";
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings { variables, profiles: Profiles::read(config, "") }
    }

    #[test]
    fn what_is_nearer_to_the_service_counts() {
        const LAMBDA: (&str, &str) = ("AWS_ENDPOINT_URL_LAMBDA", "http://lambda");
        const ALL: (&str, &str) = ("AWS_ENDPOINT_URL", "http://every");
        const LOCAL: (&str, &str) = ("AWS_PROFILE", "local");
        const NONE: (&str, &str) = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
        for (variables, profile, endpoint) in [
            (&[][..], None, None),
            (&[LAMBDA, ALL, LOCAL], None, Some("http://lambda")),
            (&[ALL, LOCAL], None, Some("http://every")),
            (&[("AWS_ENDPOINT_URL_LAMBDA", ""), LOCAL], None, Some("http://own")),
            (&[LOCAL], None, Some("http://own")),
            (&[], Some("local"), Some("http://own")),
            (&[LOCAL], Some("default"), None),
            (&[], Some("quiet"), None),
            (&[LAMBDA, LOCAL, NONE], None, None),
        ] {
            assert_eq!(settings(variables).endpoint("lambda", profile), endpoint, "{variables:?} {profile:?}");
        }
        assert_eq!(settings(&[LOCAL]).endpoint("sts", None), Some("http://all"));
    }

    #[test]
    fn aws_s_own_addresses() {
        const FIPS: (&str, &str) = ("AWS_USE_FIPS_ENDPOINT", "true");
        const DUAL: (&str, &str) = ("AWS_USE_DUALSTACK_ENDPOINT", "true");
        for (variables, partition, region, url) in [
            (&[][..], "aws", "eu-west-1", "https://lambda.eu-west-1.amazonaws.com"),
            (&[], "aws-us-gov", "us-gov-west-1", "https://lambda.us-gov-west-1.amazonaws.com"),
            (&[], "aws-cn", "cn-north-1", "https://lambda.cn-north-1.amazonaws.com.cn"),
            (&[FIPS], "aws", "us-east-1", "https://lambda-fips.us-east-1.amazonaws.com"),
            (&[DUAL], "aws", "us-east-1", "https://lambda.us-east-1.api.aws"),
            (&[DUAL, FIPS], "aws", "us-east-1", "https://lambda-fips.us-east-1.api.aws"),
        ] {
            assert_eq!(settings(variables).usual_endpoint("lambda", partition, region, None), url);
        }
    }

    #[test]
    fn regions_and_profiles_have_their_order() {
        assert_eq!(settings(&[]).region("default"), Some("eu-west-1"));
        assert_eq!(settings(&[("AWS_DEFAULT_REGION", "b")]).region("default"), Some("b"));
        assert_eq!(settings(&[("AWS_DEFAULT_REGION", "b"), ("AWS_REGION", "a")]).region("default"), Some("a"));
        assert_eq!(settings(&[]).profile(), "default");
        assert_eq!(settings(&[("AWS_DEFAULT_PROFILE", "x")]).profile(), "x");
        assert_eq!(settings(&[("AWS_DEFAULT_PROFILE", "x"), ("AWS_PROFILE", "y")]).profile(), "y");
    }
}
