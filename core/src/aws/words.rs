//! How AWS API Gateway words what goes wrong, for clients that were written against it: status, body and error type of each fault, of a REST
//! API and of an HTTP API. Knows the defaults of AWS and no template of an API's own.

use crate::fault::Kind;
use maitred_model::GatewayResponses;

/// A fault in AWS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    pub status: u16,
    /// The member is `message` nearly everywhere, `Message` where an authorizer denies.
    pub member: &'static str,
    /// `None`: null.
    pub message: Option<&'static str>,
    /// `x-amzn-errortype`; HTTP APIs have none.
    pub error_type: Option<&'static str>,
}

impl Words {
    /// `None`: the API speaks as the gateway does.
    pub fn of(kind: Kind, form: GatewayResponses) -> Option<Words> {
        match form {
            GatewayResponses::Problem => None,
            GatewayResponses::AwsRest => Some(rest(kind)),
            GatewayResponses::AwsHttp => Some(http(kind)),
        }
    }

    /// All parts are ours, and need no escapes.
    pub fn body(&self) -> String {
        match self.message {
            Some(message) => format!(r#"{{"{}":"{message}"}}"#, self.member),
            None => format!(r#"{{"{}":null}}"#, self.member),
        }
    }
}

fn rest(kind: Kind) -> Words {
    let words =
        |status, message, error_type| Words { status, member: "message", message: Some(message), error_type: Some(error_type) };
    match kind {
        Kind::BadRequest | Kind::BodyNotJson | Kind::HttpVersion => words(400, "Bad Request", "BadRequestException"),
        Kind::Unauthenticated => words(401, "Unauthorized", "UnauthorizedException"),
        Kind::Forbidden => {
            let denied = words(403, "User is not authorized to access this resource", "AccessDeniedException");
            Words { member: "Message", ..denied }
        }
        Kind::AddressDenied => words(403, "Forbidden", "ForbiddenException"),
        // There is no 404 and no 405: what no method takes looks as if a token were missing.
        Kind::NoRoute | Kind::MethodNotAllowed => {
            words(403, "Missing Authentication Token", "MissingAuthenticationTokenException")
        }
        Kind::RequestTimeout | Kind::ClientGone => words(408, "Request Timeout", "RequestTimeoutException"),
        Kind::BodyTooLarge => words(413, "Request Too Long", "RequestTooLargeException"),
        Kind::UriTooLong => words(414, "Request URI too long", "RequestTooLargeException"),
        Kind::Misdirected => words(421, "Misdirected Request", "BadRequestException"),
        Kind::UpgradeRequired => words(426, "Upgrade Required", "BadRequestException"),
        Kind::TooManyFailures | Kind::RateLimited => words(429, "Too Many Requests", "TooManyRequestsException"),
        Kind::QuotaExceeded => words(429, "Limit Exceeded", "LimitExceededException"),
        Kind::HeadTooLarge => words(431, "Request Header Fields Too Large", "RequestTooLargeException"),
        Kind::AuthorizerFailed | Kind::AuthorizerUnavailable => {
            let failed = words(500, "", "AuthorizerConfigurationException");
            Words { message: None, ..failed }
        }
        Kind::Internal | Kind::NotImplemented | Kind::LoopDetected => {
            words(500, "Internal server error", "InternalServerErrorException")
        }
        Kind::UpstreamReset
        | Kind::UpstreamProtocol
        | Kind::FunctionFailed
        | Kind::FunctionMalformed
        | Kind::FunctionUnavailable => words(502, "Internal server error", "InternalServerErrorException"),
        Kind::CutOff
        | Kind::Maintenance
        | Kind::CountersUnavailable
        | Kind::BufferFull
        | Kind::Overloaded
        | Kind::QueueFull
        | Kind::FunctionBusy
        | Kind::CircuitOpen => words(503, "Service Unavailable", "ServiceUnavailableException"),
        Kind::UpstreamUnreachable | Kind::NoEndpoint => {
            words(504, "Network error communicating with endpoint", "InternalServerErrorException")
        }
        Kind::ConnectTimeout | Kind::UpstreamTimeout | Kind::FunctionTimeout | Kind::QueueTimeout => {
            words(504, "Endpoint request timed out", "InternalServerErrorException")
        }
    }
}

fn http(kind: Kind) -> Words {
    let words = |status, message| Words { status, member: "message", message: Some(message), error_type: None };
    match kind {
        Kind::BadRequest | Kind::BodyNotJson | Kind::HttpVersion => words(400, "Bad Request"),
        Kind::Unauthenticated => words(401, "Unauthorized"),
        Kind::Forbidden | Kind::AddressDenied => words(403, "Forbidden"),
        Kind::NoRoute | Kind::MethodNotAllowed => words(404, "Not Found"),
        Kind::RequestTimeout | Kind::ClientGone => words(408, "Request Timeout"),
        Kind::BodyTooLarge => words(413, "Request Entity Too Large"),
        Kind::UriTooLong => words(414, "Request URI too long"),
        Kind::Misdirected => words(421, "Misdirected Request"),
        Kind::UpgradeRequired => words(426, "Upgrade Required"),
        Kind::TooManyFailures | Kind::RateLimited => words(429, "Too Many Requests"),
        Kind::QuotaExceeded => words(429, "Limit Exceeded"),
        Kind::HeadTooLarge => words(431, "Request Header Fields Too Large"),
        Kind::AuthorizerFailed
        | Kind::AuthorizerUnavailable
        | Kind::Internal
        | Kind::NotImplemented
        | Kind::LoopDetected
        | Kind::UpstreamProtocol
        | Kind::FunctionFailed
        | Kind::FunctionMalformed
        | Kind::FunctionUnavailable => words(500, "Internal Server Error"),
        Kind::UpstreamReset
        | Kind::UpstreamUnreachable
        | Kind::NoEndpoint
        | Kind::CutOff
        | Kind::Maintenance
        | Kind::CountersUnavailable
        | Kind::BufferFull
        | Kind::Overloaded
        | Kind::QueueFull
        | Kind::QueueTimeout
        | Kind::CircuitOpen
        | Kind::ConnectTimeout
        | Kind::FunctionBusy
        | Kind::FunctionTimeout
        | Kind::UpstreamTimeout => words(503, "Service Unavailable"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_json_and_of_the_fault_s_own_class() {
        for &kind in Kind::ALL {
            for form in [GatewayResponses::AwsRest, GatewayResponses::AwsHttp] {
                let words = Words::of(kind, form).expect("words for every fault");
                assert_eq!(words.status / 100, if kind == Kind::HttpVersion { 4 } else { kind.status() / 100 }, "{kind:?}");
                let body: serde_json::Value = serde_json::from_str(&words.body()).expect("JSON");
                assert_eq!(body.as_object().map(serde_json::Map::len), Some(1));
                assert_eq!(words.error_type.is_some(), form == GatewayResponses::AwsRest);
            }
            assert_eq!(Words::of(kind, GatewayResponses::Problem), None);
        }
    }
}
