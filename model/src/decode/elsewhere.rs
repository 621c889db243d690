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
    Elsewhere {
        theirs: &["cors", "ip", "maintenance", "gateway_responses", "hosts", "base_path"],
        ours: "authenticate",
        hint: "it stands at the API itself, beside `policies`",
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
        theirs: &["cert", "key", "certificate", "certfile", "keyfile"],
        ours: "certificates",
        hint: "it stands in `certificates`: `certificates: { cert: certs/api.pem, key: certs/api.key }`",
    },
    Elsewhere {
        theirs: &["queue"],
        ours: "concurrency",
        hint: "it stands in `concurrency`, whose line it is: `concurrency: { limit: 20, queue: { length: 500 } }`",
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
    // What limits are called by nginx, Kong, AWS, Envoy, Traefik and APISIX. A plan, which has no `by`, stands before the rest.
    Elsewhere { theirs: LIMIT_WORDS, ours: "quota", hint: "here it is `rate_limit: { rate: 100/s, burst: 200 }`" },
    Elsewhere {
        theirs: LIMIT_WORDS,
        ours: "rate_limit",
        hint: "here it is `rate_limit: { rate: 10/s, burst: 20, by: consumer }`",
    },
    Elsewhere { theirs: &["tz", "zone", "utc"], ours: "time_zone", hint: "here it is `time_zone: Europe/Paris`" },
    Elsewhere {
        theirs: &["period", "per", "interval", "unit", "window"],
        ours: "time_zone",
        hint: "it stands in the limit: `limit: 1000000/month`",
    },
    Elsewhere { theirs: &["offset"], ours: "time_zone", hint: "remove it: every period has the whole of its quota" },
    Elsewhere { theirs: &["by"], ours: "keys_max", hint: "remove it: what a plan gives is each consumer's own" },
    Elsewhere {
        theirs: &["routes", "methods", "stages", "api_stages", "apiStages"],
        ours: "quota",
        hint: "routes stand below their API: `apis: { shop: { routes: { get-order: { rate_limit: { rate: 5/s } } } } }`",
    },
    Elsewhere {
        theirs: &["limit_conn", "limit-conn", "concurrency_limit", "in_flight_req", "inFlightReq", "max_connections"],
        ours: "rate_limit",
        hint: "how many at once is said in the upstream, `concurrency: { limit: 20 }`, and of connections under `limits`",
    },
    Elsewhere {
        theirs: &["quota", "quotas"],
        ours: "rate_limit_headers",
        hint: "it stands in a plan: `plans: { gold: { quota: 1000000/month } }`, which consumers have: `plan: gold`",
    },
    Elsewhere {
        theirs: &["plan", "plans", "usage_plan"],
        ours: "rate_limit_headers",
        hint: "consumers have plans: `plan: gold`; and a plan says what it is here: `plans: { gold: { apis: { shop: … } } }`",
    },
    Elsewhere {
        theirs: &["limit_req_status", "limit_req_zone"],
        ours: "rate_limit_headers",
        hint: "remove it: who comes too often gets 429 and a problem; `gateway_responses` of the API has AWS's words",
    },
    Elsewhere {
        theirs: &["usage_plan", "usagePlan", "tier", "rate_limit", "quota", "limits"],
        ours: "api_keys",
        hint: "here it is `plan: gold`, and the plan says it: `plans: { gold: { rate_limit: { rate: 100/s } } }`",
    },
    Elsewhere {
        theirs: &["usage_plans", "usagePlans", "products", "tiers"],
        ours: "plans",
        hint: "here it is `plans: { gold: { rate_limit: { rate: 100/s }, quota: 1000000/month } }`",
    },
    Elsewhere {
        theirs: &["redis", "rate_limit_service", "ratelimit_storage"],
        ours: "counters",
        hint: "here it is `counters: redis://127.0.0.1:6379`",
    },
    Elsewhere {
        theirs: &["rate_limit", "rate_limits", "throttle", "limit_req_zone", "limit_req"],
        ours: "counters",
        hint: "it stands in a route, in an API's `policies`, or in a plan: `rate_limit: { rate: 10/s, by: consumer }`",
    },
    Elsewhere {
        theirs: &[
            "limit",
            "rate_limit",
            "requests",
            "requests_per_second",
            "requests_per_minute",
            "requests_per_unit",
            "rps",
            "average",
            "max_requests",
            "count",
            "second",
            "minute",
            "hour",
            "unit",
            "per",
            "period",
            "interval",
            "duration",
            "window",
            "window_size",
            "time_window",
            "fill_interval",
            "tokens_per_fill",
            "rateLimit",
        ],
        ours: "rate",
        hint: "here it is `rate: 100/s`, or `6000/min`, or `10/h`: a number and its time",
    },
    Elsewhere {
        theirs: &["burst_limit", "burstLimit", "capacity", "max_tokens", "bucket_size", "tokens", "token_bucket", "max_burst"],
        ours: "burst",
        hint: "here it is `burst: 20`: how many at once",
    },
    Elsewhere {
        theirs: &[
            "key",
            "key_type",
            "limit_by",
            "identifier",
            "source_criterion",
            "sourceCriterion",
            "descriptors",
            "actions",
            "group_by",
            "zone",
            "scope",
            "for",
            "header_name",
        ],
        ours: "by",
        hint: "here it is `by`: `consumer`, `ip`, `header:NAME`, `claim:PATH`, `api`, `route`, or a list of them",
    },
    Elsewhere {
        theirs: &["delay", "nodelay", "no_delay", "max_delay", "maxDelay", "queue", "throttle"],
        ours: "wait",
        hint: "who comes too often is refused at once; `wait: 500ms` lets a request wait so long for its turn",
    },
    Elsewhere {
        theirs: &["weight", "units", "hits_addend", "increment", "consume"],
        ours: "cost",
        hint: "here it is `cost: 5`, or `cost: response_header:x-cost`",
    },
    Elsewhere {
        theirs: &["max_keys", "size", "cache_size", "zone_size", "table_size"],
        ours: "keys_max",
        hint: "here it is `keys_max: 100000`: so many keys are counted apart",
    },
    Elsewhere {
        theirs: &["policy", "storage", "strategy", "sync_rate", "redis", "redis_host", "fault_tolerant", "shared"],
        ours: "keys_max",
        hint: "where all limits are counted stands at the top of the file: `counters: redis://127.0.0.1:6379`",
    },
    Elsewhere { theirs: &["max", "amount", "requests", "count"], ours: "limit", hint: "here it is `limit`" },
    Elsewhere {
        theirs: &["rejected_code", "rejected_msg", "error_code", "error_message", "status"],
        ours: "keys_max",
        hint: "remove it: who comes too often gets 429 and a problem; `gateway_responses` of the API has AWS's words",
    },
    Elsewhere {
        theirs: &["headers", "limit_header", "hide_client_headers", "show_limit_quota_in_header", "retry_after"],
        ours: "keys_max",
        hint: "which headers answers have stands beside it: `rate_limit_headers: draft`",
    },
];

/// What others call the whole of it.
const LIMIT_WORDS: &[&str] = &[
    "limit_req",
    "limit-req",
    "limit_count",
    "limit-count",
    "limit_rate",
    "rate-limiting",
    "rate_limiting",
    "ratelimit",
    "rateLimit",
    "rate_limits",
    "local_ratelimit",
    "throttle",
    "throttling",
    "throttle_settings",
    "spike_arrest",
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
    Elsewhere { theirs: &["draft09", "draft-09", "ietf", "standard", "RateLimit"], ours: "draft", hint: "here it is `draft`" },
    Elsewhere { theirs: &["legacy", "draft06", "draft-06", "ratelimit-limit"], ours: "split", hint: "here it is `split`" },
    Elsewhere { theirs: &["x-ratelimit", "X-RateLimit", "github"], ours: "x", hint: "here it is `x`" },
    Elsewhere { theirs: &["fail_open", "allow", "ignore"], ours: "open", hint: "here it is `open`" },
    Elsewhere { theirs: &["fail_closed", "deny", "reject", "refuse"], ours: "closed", hint: "here it is `closed`" },
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
