//! Words of other gateways, and what they are called here: for hints, where no word of ours is near enough to be a slip. Decides nothing:
//! a foreign word is refused like any other.

/// What another gateway calls it, a word of ours that must be known at the place, and what to type instead.
struct Elsewhere {
    theirs: &'static [&'static str],
    ours: &'static str,
    hint: &'static str,
}

const KEYS: &[Elsewhere] = &[
    Elsewhere {
        theirs: &["authenticate", "authorize", "timeout", "body_bytes", "transform", "rate_limit", "rate_limit_headers"],
        ours: "policies",
        hint: "it stands in `policies`, which holds for all routes of the API, or at a route",
    },
    Elsewhere { theirs: &["servers", "targets", "backends", "url", "urls"], ours: "endpoints", hint: "here it is `endpoints`" },
    Elsewhere { theirs: &["retries", "retry_policy"], ours: "retry", hint: "here it is `retry: { attempts: 2 }`" },
    Elsewhere {
        theirs: &["lb", "lb_policy", "load_balancing", "load_balancer", "algorithm", "strategy"],
        ours: "balance",
        hint: "here it is `balance: least_request`",
    },
    Elsewhere {
        theirs: &["priority"],
        ours: "endpoints",
        hint: "it stands at an endpoint, `{ url: …, priority: 1 }`, or at a route",
    },
    Elsewhere {
        theirs: &["insecure_skip_verify", "insecure", "skip_verify", "verify", "tls_verify", "ssl_verify"],
        ours: "dangerously_skip_verification",
        hint: "here it is `dangerously_skip_verification: true`; better is `ca: certs/ca.pem`, with who signed its certificate",
    },
    Elsewhere {
        theirs: &["path", "paths", "uri", "prefix", "method", "methods"],
        ours: "match",
        hint: "here methods and path are one: `match: GET /menu`",
    },
    Elsewhere {
        theirs: &["upstream", "backend", "service", "proxy_pass", "target", "to"],
        ours: "proxy",
        hint: "here it is `proxy`, with the name of an upstream",
    },
    Elsewhere {
        theirs: &["retry", "retries", "hedge", "circuit_breaker", "concurrency", "health_check"],
        ours: "match",
        hint: "it stands in the upstream, for all of its routes",
    },
    Elsewhere {
        theirs: &["http2", "h2", "h2c", "protocol", "protocols", "alpn"],
        ours: "http3",
        hint: "remove it: HTTP/2 needs no key, and is spoken by ALPN with `tls` and by prior knowledge without",
    },
];

const WORDS: &[Elsewhere] = &[
    Elsewhere {
        theirs: &["http2", "http/2", "HTTP2", "2", "grpc"],
        ours: "h2c",
        hint: "write `h2c`, or `h2` where its endpoints are `https`",
    },
    Elsewhere {
        theirs: &["least_conn", "least_connections", "leastconn"],
        ours: "least_request",
        hint: "here it is `least_request`",
    },
    Elsewhere { theirs: &["ewma"], ours: "peak_ewma", hint: "here it is `peak_ewma`" },
    Elsewhere { theirs: &["ip_hash", "hash", "consistent", "chash"], ours: "maglev", hint: "write `maglev`, and `hash_by: ip`" },
];

/// A hint for a key of others, where this is one.
pub(super) fn key(word: &str, known: &[&str]) -> Option<&'static str> {
    find(KEYS, word, known).map(|found| found.hint)
}

/// The same for one of a list of words.
pub(super) fn word(word: &str, known: &[&str]) -> Option<&'static str> {
    find(WORDS, word, known).map(|found| found.hint)
}

/// Whether a key of others is what would be `ours`.
pub(super) fn stands_for(word: &str, ours: &str) -> bool {
    find(KEYS, word, &[ours]).is_some()
}

fn find(table: &'static [Elsewhere], word: &str, known: &[&str]) -> Option<&'static Elsewhere> {
    table.iter().find(|entry| entry.theirs.contains(&word) && known.contains(&entry.ours))
}
