//! `http_signature` and `aws_signature`: what a signature must cover, and the keys that may sign. Whether a file holds the key that its
//! algorithm wants is not known on this floor.

use super::super::tls::PublicKeyPem;
use super::super::values::{SecretText, Text, Timeout};
use crate::decode::{Bool, Cx, Defs, List, Shape, record, texts, words};
use crate::document::{AwsSignature, Component, HttpSignature, PublicAlgorithm, Replay, SignatureKey};
use crate::span::Spanned;
use crate::values::{HeaderName, ValueError};
use crate::yaml::{Kind, Node};
use indexmap::IndexMap;
use serde_json::{Value, json};
use std::marker::PhantomData;

/// Most bytes of a key id: it becomes the subject of a principal.
const KEY_ID_BYTES_MAX: usize = 128;

/// Derived components of requests (RFC 9421 §2.2), but @query-param.
const DERIVED: &[&str] = &["@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query"];

texts! {
    /// A header, or a derived component of RFC 9421: `@method`, `@path`, `@query-param;name="id"`.
    ComponentText => Component, parse_component, "a component such as `@method` or `content-digest`", "^[@A-Za-z0-9!#$%&'*+.^_`|~-]+(;name=\"[^\"]+\")?$";
    /// A region or a service, as credential scopes have it.
    ScopeText => String, parse_scope, "a name such as `eu-west-1`", "^[A-Za-z0-9-]{1,64}$";
}

fn parse_component(text: &str) -> Result<Component, ValueError> {
    let hint = format!("write a header's name, or one of {}, `@query-param;name=\"id\"`", DERIVED.join(", "));
    let (name, param) = match text.split_once(';') {
        None => (text, None),
        Some((name, rest)) => {
            let param = rest.strip_prefix("name=\"").and_then(|rest| rest.strip_suffix('"'));
            match param {
                Some(param) if name == "@query-param" && !param.is_empty() && !param.contains(['"', '\\']) => (name, Some(param)),
                Some(_) | None => return Err(ValueError::new(format!("`{text}` is no component")).hint(hint)),
            }
        }
    };
    let known = match name.starts_with('@') {
        true => DERIVED.contains(&name) || param.is_some(),
        false => HeaderName::parse(name).is_ok(),
    };
    if !known {
        return Err(ValueError::new(format!("`{text}` is no component of a request")).hint(hint));
    }
    Ok(Component { name: name.to_ascii_lowercase(), param: param.map(str::to_owned) })
}

fn parse_scope(text: &str) -> Result<String, ValueError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if plain && (1..=64).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(ValueError::new(format!("`{text}` is not a name of letters, digits and `-`")).hint("write `eu-west-1`"))
}

words! {
    /// What becomes of a signature that was seen before.
    Replay {
        /// It is refused: a signature is good for one request.
        Refuse = "refuse",
        /// It is good until it is too old.
        Allow = "allow",
    }
}

pub(crate) enum Algorithm {
    Hmac,
    Ed25519,
    EcdsaP256,
    EcdsaP384,
    RsaPss,
    RsaPkcs1,
}

words! {
    /// What a key signs with.
    Algorithm {
        /// A secret that both sides have.
        Hmac = "hmac-sha256",
        /// EdDSA on Curve25519.
        Ed25519 = "ed25519",
        /// ECDSA on P-256.
        EcdsaP256 = "ecdsa-p256-sha256",
        /// ECDSA on P-384.
        EcdsaP384 = "ecdsa-p384-sha384",
        /// RSA with PSS.
        RsaPss = "rsa-pss-sha512",
        /// RSA as of old.
        RsaPkcs1 = "rsa-v1_5-sha256",
    }
}

record! {
    /// A key that signs, and the one algorithm that it is for.
    "a key" => struct RawKey {
        /// The algorithm; a signature that claims another is refused.
        algorithm: Spanned<Algorithm> = required,
        /// The secret of `hmac-sha256`: `${env:NAME}` or `${file:path}`.
        secret: Option<SecretText> = absent,
        /// The path of a PEM file with the public key, of all other algorithms.
        public_key: Option<Spanned<PublicKeyPem>> = absent,
    }
}

pub(crate) struct KeyShape;

impl Shape for KeyShape {
    type Out = SignatureKey;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<SignatureKey> {
        if !cx.is_mapping(node, "a key", "write `{ algorithm: ed25519, public_key: keys/partner.pem }`") {
            return None;
        }
        let RawKey { algorithm, secret, public_key } = RawKey::decode(node, cx)?;
        let public = match algorithm.value {
            Algorithm::Hmac => {
                if let Some(other) = node.get("public_key") {
                    let hint = "write `secret: ${env:NAME}`, or another algorithm";
                    cx.error("contradiction", other.span, "`hmac-sha256` has a secret and no public key", hint);
                } else if node.get("secret").is_none() {
                    cx.error("missing-key", node.span, "`hmac-sha256` needs the key `secret`", "add `secret: ${env:NAME}`");
                }
                return secret.map(SignatureKey::Hmac);
            }
            Algorithm::Ed25519 => PublicAlgorithm::Ed25519,
            Algorithm::EcdsaP256 => PublicAlgorithm::EcdsaP256,
            Algorithm::EcdsaP384 => PublicAlgorithm::EcdsaP384,
            Algorithm::RsaPss => PublicAlgorithm::RsaPss,
            Algorithm::RsaPkcs1 => PublicAlgorithm::RsaPkcs1,
        };
        if let Some(other) = node.get("secret") {
            let message = format!("`{}` has a public key and no secret", public.name());
            cx.error("contradiction", other.span, message, "write `public_key: keys/partner.pem`, or `algorithm: hmac-sha256`");
            return None;
        }
        if node.get("public_key").is_none() {
            let message = format!("`{}` needs the key `public_key`", public.name());
            cx.error("missing-key", node.span, message, "add `public_key: keys/partner.pem`");
        }
        public_key.map(|file| SignatureKey::Public(public, file))
    }

    fn schema(defs: &mut Defs) -> Value {
        RawKey::schema(defs)
    }
}

/// Keys by their ids, as signatures name them. At least one.
pub(crate) struct KeyMap<S>(PhantomData<S>);

impl<S: Shape> Shape for KeyMap<S> {
    type Out = IndexMap<String, Spanned<S::Out>>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        let Kind::Mapping(entries) = &node.kind else {
            cx.expected(node, "a mapping from key ids to keys");
            return None;
        };
        if entries.is_empty() {
            cx.error("missing-value", node.span, "without a key nobody can sign", "add a key under its id");
            return None;
        }
        let mut map = IndexMap::with_capacity(entries.len());
        for (id, node) in entries {
            let plain = id.value.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && !matches!(byte, b'"' | b'\\' | b',' | b'/'));
            if !plain || !(1..=KEY_ID_BYTES_MAX).contains(&id.value.len()) {
                let message =
                    "a key id has 1 to 128 visible ASCII characters, none of them a quote, a comma, a slash or a backslash";
                cx.error("bad-name", id.span, message, "write the id that stands in the signature, such as `partner-1`");
            }
            if let Some(key) = S::decode(node, cx) {
                map.insert(id.value.clone(), Spanned::new(key, id.span));
            }
        }
        Some(map)
    }

    fn schema(defs: &mut Defs) -> Value {
        let key = S::schema(defs);
        json!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": r"^[!#-+.0-\[\]-~-]{1,128}$" },
            "additionalProperties": key,
        })
    }
}

record! {
    /// Requests signed by RFC 9421.
    "`http_signature`" => HttpSignature {
        /// What a signature must cover at least; `content-digest` only of requests with a body.
        components: List<ComponentText> = "[\"@method\", \"@authority\", \"@path\", \"@query\"]",
        /// A signature is no older.
        max_age: Timeout = "5min",
        /// Only the signature of that name counts.
        label: Option<Text> = absent,
        /// Only signatures with that `tag` count.
        tag: Option<Text> = absent,
        /// What becomes of a signature that was seen before.
        replay: Replay = "refuse",
        /// Keys that may sign, by key id.
        keys: KeyMap<KeyShape> = required,
    }
}

pub(crate) struct HttpSignatureShape;

impl Shape for HttpSignatureShape {
    type Out = HttpSignature;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<HttpSignature> {
        let hint = "write `{ keys: { partner-1: { algorithm: ed25519, public_key: keys/partner.pem } } }`";
        if !cx.is_mapping(node, "`http_signature`", hint) {
            return None;
        }
        let decoded = HttpSignature::decode(node, cx)?;
        if let Some(list) = node.get("components")
            && matches!(&list.kind, Kind::Sequence(items) if items.is_empty())
        {
            let hint = "write `[\"@method\", \"@authority\", \"@path\"]`, or remove `components`";
            cx.error("missing-value", list.span, "a signature that need cover nothing proves nothing", hint);
            return None;
        }
        Some(decoded)
    }

    fn schema(defs: &mut Defs) -> Value {
        HttpSignature::schema(defs)
    }
}

record! {
    /// Requests signed as AWS's are, by keys that are registered here.
    "`aws_signature`" => AwsSignature {
        /// The region that signatures must name.
        region: ScopeText = required,
        /// The service that signatures must name.
        service: ScopeText = "execute-api",
        /// A signature is no older, and no further ahead.
        max_age: Timeout = "5min",
        /// Take `UNSIGNED-PAYLOAD` for an answer: whoever is on the way may alter bodies of such requests.
        unsigned_payload: Bool = "false",
        /// Secrets by access key id.
        keys: KeyMap<SecretText> = required,
    }
}

pub(crate) struct AwsSignatureShape;

impl Shape for AwsSignatureShape {
    type Out = AwsSignature;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<AwsSignature> {
        if !cx.is_mapping(node, "`aws_signature`", "write `{ region: eu-west-1, keys: { AKIDEXAMPLE: \"${env:SECRET}\" } }`") {
            return None;
        }
        AwsSignature::decode(node, cx)
    }

    fn schema(defs: &mut Defs) -> Value {
        AwsSignature::schema(defs)
    }
}
