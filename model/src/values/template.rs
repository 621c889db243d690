//! Texts with `{name}` in them, for rewrites, redirects and header values. Parses; filling in and encoding for the place where it
//! lands are done per request, elsewhere.

use super::ValueError;
use super::headers::{HeaderName, check_value};
use super::path::{literal, literal_text, param_name};
use std::fmt;

/// Text and substitutions, in order. Two literals never stand side by side.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Template {
    pub parts: Vec<Part>,
    /// As the user wrote it, with `${env:…}` where a value came from elsewhere: this may be printed.
    pub source: String,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Part {
    Literal(String),
    /// `{id}`: a parameter of the route's path.
    Param(String),
    Variable(Variable),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Variable {
    /// `{client.ip}`
    ClientIp,
    /// `{request.id}`
    RequestId,
    /// `{request.host}`
    RequestHost,
    /// `{request.method}`
    RequestMethod,
    /// `{request.path}`: canonical, as received
    RequestPath,
    /// `{request.scheme}`
    RequestScheme,
    /// `{header.x-tenant}`
    Header(HeaderName),
    /// `{query.v}`
    Query(String),
    /// `{principal.subject}`, `{consumer}`, `{claims.tenant}`
    Identity(Who),
}

/// What is known of who makes a request. It may be absent: what names it is then not said at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    Subject,
    Authorizer,
    Issuer,
    Scopes,
    Groups,
    Consumer,
    /// A claim by its path.
    Claim(String),
}

/// Those without an argument.
const FIXED: [(&str, Variable); 12] = [
    ("client.ip", Variable::ClientIp),
    ("request.id", Variable::RequestId),
    ("request.host", Variable::RequestHost),
    ("request.method", Variable::RequestMethod),
    ("request.path", Variable::RequestPath),
    ("request.scheme", Variable::RequestScheme),
    ("principal.subject", Variable::Identity(Who::Subject)),
    ("principal.authorizer", Variable::Identity(Who::Authorizer)),
    ("principal.issuer", Variable::Identity(Who::Issuer)),
    ("principal.scopes", Variable::Identity(Who::Scopes)),
    ("principal.groups", Variable::Identity(Who::Groups)),
    (CONSUMER, Variable::Identity(Who::Consumer)),
];

/// Without a dot, and no parameter all the same.
pub const CONSUMER: &str = "consumer";

impl Template {
    /// `{{` and `}}` are the braces themselves.
    pub fn parse(text: &str) -> Result<Template, ValueError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
            } else if brace == "}" {
                return Err(ValueError::new("a `}` closes nothing").hint("write `}}` for the brace itself"));
            } else {
                let Some((name, after)) = rest.split_once('}') else {
                    return Err(ValueError::new("a `{` is never closed").hint("write `{{` for the brace itself"));
                };
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(substitution(name)?);
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Template { parts, source: text.to_owned() })
    }

    /// For `rewrite`: a path, without query.
    pub fn parse_rewrite(text: &str) -> Result<Template, ValueError> {
        let mut template = Template::parse(text)?;
        if !text.starts_with('/') {
            return Err(ValueError::new("a rewrite does not start with `/`").hint("write the whole path: `/v2/{id}`"));
        }
        if text.contains('?') {
            return Err(ValueError::new("a rewrite has no query").hint("remove it; the request's query is kept"));
        }
        template.canonical_literals()?;
        Ok(template)
    }

    /// For `redirect`: an absolute URL, or a path. What leads to another host is written out, and never comes from the request.
    pub fn parse_redirect(text: &str) -> Result<Template, ValueError> {
        let template = Template::parse(text)?;
        check_value(text)?;
        if text.starts_with("//") {
            return Err(ValueError::new("a redirect to `//` leads to another host").hint("write the scheme too: `https://…`"));
        }
        let after = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        match after {
            Some(host) if host.is_empty() || host.starts_with('/') => Err(ValueError::new("the redirect names no host")),
            Some(host) if !host_is_fixed(host) => {
                Err(ValueError::new("the redirect's host comes from the request, which could name any")
                    .hint("write the host out, or `{request.host}` alone: `https://{request.host}{request.path}`"))
            }
            Some(_) => Ok(template),
            None if text.starts_with('/') => Ok(template),
            None => Err(ValueError::new("a redirect is a path or an absolute URL")
                .hint("write `/new/{id}` or `https://www.example.com/`")),
        }
    }

    /// For header values: one line.
    pub fn parse_header(text: &str) -> Result<Template, ValueError> {
        let text = text.trim_matches([' ', '\t']);
        check_value(text)?;
        Template::parse(text)
    }

    /// The path parameters that it names.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Param(name) => Some(name.as_str()),
            Part::Literal(_) | Part::Variable(_) => None,
        })
    }

    /// What it says of who makes the request.
    pub fn identity(&self) -> impl Iterator<Item = &Who> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(Variable::Identity(who)) => Some(who),
            Part::Variable(_) | Part::Literal(_) | Part::Param(_) => None,
        })
    }

    /// A whole literal segment is checked as such; where it touches a substitution, only its characters are.
    fn canonical_literals(&mut self) -> Result<(), ValueError> {
        for whole in self.source.split('/').filter(|segment| !segment.contains('{')) {
            literal(whole)?;
        }
        for part in &mut self.parts {
            match part {
                Part::Literal(text) => {
                    let pieces: Result<Vec<String>, ValueError> = text.split('/').map(literal_text).collect();
                    *text = pieces?.join("/");
                }
                Part::Param(_) | Part::Variable(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether the host of an absolute URL is written out, or is the one that was asked.
fn host_is_fixed(rest: &str) -> bool {
    let rest = rest.strip_prefix("{request.host}").unwrap_or(rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let brace = rest.find('{').unwrap_or(rest.len());
    end <= brace || rest.starts_with("{request.path}")
}

fn substitution(name: &str) -> Result<Part, ValueError> {
    if let Some(rest) = name.strip_suffix('+') {
        return Err(ValueError::new(format!("`{{{name}}}` is how a path declares a parameter"))
            .hint(format!("write `{{{rest}}}` to use it")));
    }
    if let Some((_, variable)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
        return Ok(Part::Variable(variable.clone()));
    }
    let Some((family, argument)) = name.split_once('.') else {
        return param_name(name).map(Part::Param);
    };
    match family {
        "claims" if !argument.is_empty() => Ok(Part::Variable(Variable::Identity(Who::Claim(argument.to_owned())))),
        "header" => HeaderName::parse(argument).map(|name| Part::Variable(Variable::Header(name))),
        "query" if !argument.is_empty() => Ok(Part::Variable(Variable::Query(argument.to_owned()))),
        // As conditions call them.
        CONSUMER if argument == "name" => {
            Err(ValueError::new(format!("there is no variable `{{{name}}}`")).hint("write `{consumer}`, which is its name"))
        }
        CONSUMER if argument == "groups" => Err(ValueError::new(format!("there is no variable `{{{name}}}`"))
            .hint("write `{principal.groups}`, which has those of the consumer too")),
        _ => {
            let known: Vec<String> = FIXED.iter().map(|(name, _)| format!("`{{{name}}}`")).collect();
            Err(ValueError::new(format!("there is no variable `{{{name}}}`"))
                .hint(format!("known are {}, `{{claims.NAME}}`, `{{header.NAME}}` and `{{query.NAME}}`", known.join(", "))))
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// The source alone: a literal part may hold a value from the environment.
impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Literal(_) => f.write_str("Literal(…)"),
            Part::Param(name) => write!(f, "Param({name})"),
            Part::Variable(variable) => write!(f, "Variable({variable:?})"),
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Variable::ClientIp => f.write_str("client.ip"),
            Variable::RequestId => f.write_str("request.id"),
            Variable::RequestHost => f.write_str("request.host"),
            Variable::RequestMethod => f.write_str("request.method"),
            Variable::RequestPath => f.write_str("request.path"),
            Variable::RequestScheme => f.write_str("request.scheme"),
            Variable::Header(name) => write!(f, "header.{name}"),
            Variable::Query(name) => write!(f, "query.{name}"),
            Variable::Identity(who) => who.fmt(f),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Subject => f.write_str("principal.subject"),
            Who::Authorizer => f.write_str("principal.authorizer"),
            Who::Issuer => f.write_str("principal.issuer"),
            Who::Scopes => f.write_str("principal.scopes"),
            Who::Groups => f.write_str("principal.groups"),
            Who::Consumer => f.write_str(CONSUMER),
            Who::Claim(path) => write!(f, "claims.{path}"),
        }
    }
}
