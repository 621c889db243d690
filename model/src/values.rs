//! The values a document is made of, parsed and never validated twice: a value of one of these types is right. Each parser says
//! what is wrong and what to type instead; where it was written is the decoder's business.

mod arn;
mod entity;
mod headers;
mod htpasswd;
mod net;
mod path;
mod rate;
mod redis;
mod selection;
mod share;
mod template;
#[cfg(test)]
mod tests;
mod units;
mod zone;

pub use arn::FunctionArn;
pub use entity::{ActionName, EntityTemplate, parse_entity_type};
pub use headers::{HeaderName, HeaderValue, parse_method};
pub use htpasswd::{
    Argon2, Argon2Cost, Argon2Kind, Bcrypt, HTPASSWD_BYTES_MAX, HashCost, Htpasswd, HtpasswdError, PasswordHash, USER_BYTES_MAX,
};
pub(crate) use net::parse_socket;
pub use net::{HostPattern, IpNet};
pub use path::{PathTemplate, Segment, canonical_path};
pub use rate::{Rate, RateUnit};
pub use selection::Selection;
pub use share::Share;
pub use template::{CONSUMER, Part, Template, Variable, Who};
pub use units::{format_duration, format_size, parse_duration, parse_size};
pub use zone::{parse_time_zone, time_zone};

use std::fmt;

/// What is wrong with a text, and what to type instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError {
    pub message: String,
    pub hint: Option<String>,
}

impl ValueError {
    pub fn new(message: impl Into<String>) -> ValueError {
        ValueError { message: message.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> ValueError {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ValueError {}

/// `FromStr` by way of the type's own `parse`, for the command line and tests.
macro_rules! from_str {
    ($($type:ty),*) => {$(
        impl std::str::FromStr for $type {
            type Err = $crate::values::ValueError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
    )*};
}

from_str!(HeaderName, HeaderValue, HostPattern, IpNet, PathTemplate, Rate, Share, Template);

/// A text that is never printed. `expose` is the only way to it, so that each use can be found by name.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: impl Into<Box<str>>) -> Secret {
        Secret(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
