//! What a function is told of a request, in the words of AWS: field by field what functions that were written for it expect. Pure: a view of
//! the request goes in, the bytes of an event come out.

mod alb;
mod context;
mod json;
mod lists;
pub(super) mod media;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

pub(crate) use context::{Moment, OWN_NAMES};
pub(crate) use lists::Query;

use super::Form;
use json::Object;
use lists::{Groups, compare_names};
pub use maitred_core::identity::Vouched;
use maitred_core::{Principal, TlsInfo, is_vouched_for_by_aws};
use maitred_model::EventForm;
use maitred_wire::{Headers, Name};
use std::sync::Arc;
use std::time::Duration;

/// Whose account it is is nobody's: functions that look find twelve digits.
pub const ACCOUNT: &str = "000000000000";
/// The one stage that an API has, named as AWS names it: so that no library puts it before the path.
pub const STAGE: &str = "$default";
/// What an event takes besides what it tells of the request.
const FRAME_BYTES: usize = 2 * 1024;

/// A route, as events name it.
#[derive(Debug, Clone)]
pub struct Resource {
    pub function: Arc<str>,
    /// `apiId`.
    pub api: Arc<str>,
    /// None: any.
    pub methods: Vec<String>,
    /// The template of its path, without the API's base path.
    pub path: String,
    /// The template's parameters, and whether one takes all that remains.
    pub params: Vec<(String, bool)>,
    pub region: Arc<str>,
}

/// What is told of a request.
pub struct Asked<'a> {
    pub resource: &'a Resource,
    pub method: &'a [u8],
    /// With the API's base path, encoded as the client has it.
    pub path: &'a [u8],
    /// Without it.
    pub local_path: &'a [u8],
    pub query: Option<&'a [u8]>,
    pub headers: &'a Headers,
    /// By the order of `Resource::params`, encoded.
    pub params: &'a [&'a [u8]],
    /// With its port.
    pub authority: &'a [u8],
    pub host: &'a [u8],
    /// Who has passed it on before may say so.
    pub trusted: bool,
    pub forwarded_for: &'a [u8],
    pub proto: &'a [u8],
    pub port: &'a [u8],
    pub client: &'a str,
    pub tls: Option<&'a TlsInfo>,
    pub request_id: &'a [u8],
    /// As `X-Amzn-Trace-Id` has it.
    pub trace: &'a str,
    /// Since 1970.
    pub time: Duration,
    pub principal: Option<(&'a Principal, Vouched)>,
    pub body: &'a [u8],
}

/// The event. `raw` has none: its function is given the body.
pub fn write(form: &Form, asked: &Asked<'_>) -> Vec<u8> {
    let told = asked.headers.iter().map(|entry| asked.headers.name(entry).len() + asked.headers.value(entry).len() + 6);
    // Base64 takes a third more; REST says headers twice.
    let mut out = Vec::with_capacity(FRAME_BYTES + 2 * told.sum::<usize>() + asked.body.len() / 3 * 4);
    match form.event {
        EventForm::V2 => v2::write(&mut out, asked, v2::Kind::Api),
        EventForm::Url => v2::write(&mut out, asked, v2::Kind::Url),
        EventForm::V1 => v1::write(&mut out, asked, &form.binary_media_types),
        EventForm::Alb => alb::write(&mut out, asked, form.multi_value_headers),
        EventForm::Raw => out.extend_from_slice(asked.body),
    }
    out
}

impl Asked<'_> {
    fn content_type(&self) -> Option<&[u8]> {
        self.headers.known(Name::ContentType)
    }

    fn user_agent(&self) -> Option<&[u8]> {
        self.headers.known(Name::UserAgent)
    }

    /// Names and values of parameters; `write` brings a value to its form.
    fn params(&self, object: &mut Object<'_>, write: impl Fn(&mut Vec<u8>, &[u8], bool)) {
        for ((name, is_rest), value) in self.resource.params.iter().zip(self.params) {
            write(object.name(name), value, *is_rest);
        }
    }
}

/// Which names the gateway's own fields have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// As clients write them.
    Kept,
    Lower,
}

/// The fields that a function gets to see, each name with all its values.
struct Fields<'a> {
    all: Vec<(&'a [u8], &'a [u8])>,
    groups: Groups,
}

impl<'a> Fields<'a> {
    fn of(asked: &Asked<'a>, case: Case, takes: impl Fn(Name, &[u8]) -> bool) -> Fields<'a> {
        let mut all: Vec<(&[u8], &[u8])> = Vec::with_capacity(asked.headers.len() + 5);
        for entry in asked.headers.iter() {
            let (name, value) = (asked.headers.name(entry), asked.headers.value(entry));
            if passes((entry.known, name, value), asked.trusted, asked.request_id) && takes(entry.known, name) {
                all.push((spelled(entry.known, name, case), value));
            }
        }
        let own: [(&[u8], &[u8], &[u8]); 5] = [
            (b"Host", b"host", asked.authority),
            (b"X-Forwarded-For", b"x-forwarded-for", asked.forwarded_for),
            (b"X-Forwarded-Port", b"x-forwarded-port", asked.port),
            (b"X-Forwarded-Proto", b"x-forwarded-proto", asked.proto),
            (b"X-Amzn-Trace-Id", b"x-amzn-trace-id", asked.trace.as_bytes()),
        ];
        let named = own.iter().map(|&(kept, lower, value)| (if case == Case::Kept { kept } else { lower }, value));
        all.extend(named.filter(|(_, value)| !value.is_empty()));
        let groups = Groups::of(all.len(), |one, other| compare_names(all[one as usize].0, all[other as usize].0));
        Fields { all, groups }
    }

    /// Every name, spelled as it stands first, and its values.
    fn each(&self) -> impl Iterator<Item = (&'a [u8], impl Iterator<Item = &'a [u8]> + Clone)> {
        self.groups.iter().map(|run| (self.all[run[0] as usize].0, run.iter().map(|&at| self.all[at as usize].1)))
    }
}

/// REST APIs write two names in their own way, whatever a client sent.
fn spelled(known: Name, name: &[u8], case: Case) -> &[u8] {
    match (case, known) {
        (Case::Kept, Name::Authorization) => b"Authorization",
        (Case::Kept, Name::UserAgent) => b"User-Agent",
        (Case::Kept | Case::Lower, _) => name,
    }
}

/// Whether a client's field is a function's business: neither the connection's, nor one that the gateway writes, nor one that only a proxy
/// that is trusted may write.
pub(crate) fn passes((known, name, value): (Name, &[u8], &[u8]), trusted: bool, request_id: &[u8]) -> bool {
    const OTHERS: [&[u8]; 6] =
        [b"content-md5", b"max-forwards", b"proxy", b"www-authenticate", b"x-forwarded-port", b"x-amzn-trace-id"];
    match known {
        Name::ContentLength => true,
        Name::Host | Name::Server | Name::Trailer | Name::XForwardedFor | Name::XForwardedProto => false,
        Name::Forwarded => trusted,
        Name::XRequestId => value == request_id,
        _ if known.is_hop_by_hop() => false,
        _ if OTHERS.iter().any(|other| name.eq_ignore_ascii_case(other)) => false,
        _ => trusted || !is_vouched_for_by_aws(name),
    }
}
