//! A document as JSON in the language's own words, defaults filled in: what the admin API shows. Secrets are `***`, PEM files are their
//! paths, and header values that came by `${}` are shown as they were written. The body of `respond` is shown: every client of that route may read it.

mod functions;
mod identity;
mod limits;
mod protection;

use crate::document::*;
use crate::span::Spanned;
use crate::values::{HeaderName, Template, format_duration, format_size};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// One function alone.
pub fn function_to_json(function: &Function) -> Value {
    functions::function(function)
}

pub fn to_json(document: &Document) -> Value {
    let Document {
        workers,
        secret_key,
        listen,
        trusted_proxies,
        zone,
        limits,
        admin,
        store,
        upstreams,
        functions,
        authorizers,
        consumers,
        plans,
        counters,
        apis,
        telemetry,
    } = document;
    let mut value = json!({
        "version": 1,
        "workers": workers.map_or(json!("auto"), |workers| json!(workers.get())),
        "listen": listen.iter().map(|listener| print_listener(listener)).collect::<Value>(),
        "trusted_proxies": texts(trusted_proxies),
        "limits": print_limits(limits),
        "admin": print_admin(admin),
        "store": store.display().to_string(),
        "upstreams": upstreams.iter().map(|(name, upstream)| (name.clone(), print_upstream(upstream))).collect::<Map<_, _>>(),
        "functions": functions.iter().map(|(name, function)| (name.clone(), functions::function(function))).collect::<Map<_, _>>(),
        "authorizers": authorizers.iter().map(|(name, authorizer)| (name.clone(), identity::authorizer(authorizer))).collect::<Map<_, _>>(),
        "consumers": consumers.iter().map(|(name, consumer)| (name.clone(), identity::consumer(consumer))).collect::<Map<_, _>>(),
        "plans": plans.iter().map(|(name, plan)| (name.clone(), limits::plan(plan))).collect::<Map<_, _>>(),
        "counters": limits::counters(counters),
        "apis": apis.iter().map(|(name, api)| (name.clone(), print_api(api))).collect::<Map<_, _>>(),
        "telemetry": { "access_log": print_access_log(&telemetry.access_log) },
    });
    if let Some(zone) = zone {
        value["zone"] = zone.as_str().into();
    }
    if let Some(key) = secret_key {
        value["secret_key"] = key.to_string().into();
    }
    value
}

fn print_listener(listener: &Listener) -> Value {
    let Listener { address, tls, http3, redirect_https, proxy_protocol } = listener;
    let mut value = json!({ "address": address.to_string(), "redirect_https": redirect_https, "http3": http3.is_some() });
    if let Some(tls) = tls {
        value["tls"] = print_listener_tls(tls);
    }
    if let Some(ProxyProtocolIn { from }) = proxy_protocol {
        value["proxy_protocol"] = json!({ "from": texts(from) });
    }
    value
}

fn print_listener_tls(tls: &ListenerTls) -> Value {
    let ListenerTls { certificates, acme, client_ca, client_auth, min_version } = tls;
    let pair = |files: &CertificateFiles| json!({ "cert": pem(&files.cert), "key": pem(&files.key) });
    let version = match min_version {
        TlsVersion::Tls12 => "1.2",
        TlsVersion::Tls13 => "1.3",
    };
    let mut value =
        json!({ "certificates": certificates.iter().map(|files| pair(files)).collect::<Value>(), "min_version": version });
    if let Some(acme) = acme {
        value["acme"] = print_acme(acme);
    }
    if let Some(ca) = client_ca {
        value["client_ca"] = pem(ca);
        value["client_auth"] = match client_auth {
            ClientAuth::Required => "required".into(),
            ClientAuth::Optional => "optional".into(),
        };
    }
    value
}

fn print_acme(acme: &Acme) -> Value {
    let Acme { domains, email, directory, ca, storage, challenge } = acme;
    let mut value = json!({ "domains": texts(domains), "directory": directory, "storage": storage.display().to_string() });
    if let Some(email) = email {
        value["email"] = email.as_str().into();
    }
    if let Some(ca) = ca {
        value["ca"] = pem(ca);
    }
    if let Some(challenge) = challenge {
        value["challenge"] = challenge.name().into();
    }
    value
}

fn pem(file: &PemFile) -> Value {
    file.path.display().to_string().into()
}

fn texts<T: std::fmt::Display>(list: &[T]) -> Value {
    list.iter().map(|item| Value::String(item.to_string())).collect()
}

fn duration(duration: Duration) -> Value {
    format_duration(duration).into()
}

fn print_limits(limits: &Limits) -> Value {
    let Limits {
        connections,
        connections_per_ip,
        header_bytes,
        headers,
        uri_bytes,
        body_bytes,
        buffered_bytes,
        websocket_bytes,
        header_timeout,
        body_timeout,
        write_timeout,
        idle_timeout,
        drain_timeout,
        handshake_timeout,
        handshakes,
        h2_streams,
        h2_window,
        h2_resets,
        h2_control_frames,
        tunnel_idle_timeout,
        tunnel_lifetime,
        half_close,
        underscores,
        failed_credentials: FailedCredentials { rate, burst },
    } = limits;
    json!({
        "connections": connections.get(),
        "connections_per_ip": connections_per_ip.get(),
        "header_bytes": format_size(header_bytes.get().into()),
        "headers": headers.get(),
        "uri_bytes": format_size(uri_bytes.get().into()),
        "body_bytes": format_size(*body_bytes),
        "buffered_bytes": format_size(*buffered_bytes),
        "websocket_bytes": format_size(*websocket_bytes),
        "header_timeout": duration(*header_timeout),
        "body_timeout": duration(*body_timeout),
        "write_timeout": duration(*write_timeout),
        "idle_timeout": duration(*idle_timeout),
        "drain_timeout": duration(*drain_timeout),
        "handshake_timeout": duration(*handshake_timeout),
        "handshakes": handshakes.get(),
        "h2_streams": h2_streams.get(),
        "h2_window": format_size(h2_window.get().into()),
        "h2_resets": h2_resets.get(),
        "h2_control_frames": h2_control_frames.get(),
        "tunnel_idle_timeout": duration(*tunnel_idle_timeout),
        "tunnel_lifetime": duration(*tunnel_lifetime),
        "half_close": match half_close {
            HalfClose::Deliver => "deliver",
            HalfClose::Abort => "abort",
        },
        "underscores": match underscores {
            Underscores::Drop => "drop",
            Underscores::Allow => "allow",
        },
        "failed_credentials": { "rate": rate.to_string(), "burst": burst.get() },
    })
}

fn print_admin(admin: &Admin) -> Value {
    let Admin { listen, token, metrics } = admin;
    let mut map = Map::new();
    map.insert("listen".to_owned(), listen.value.to_string().into());
    if let Some(token) = token {
        map.insert("token".to_owned(), token.to_string().into());
    }
    let metrics = match metrics {
        MetricsAccess::Open => "open",
        MetricsAccess::Protected => "protected",
    };
    map.insert("metrics".to_owned(), metrics.into());
    Value::Object(map)
}

fn print_upstream(upstream: &Upstream) -> Value {
    let Upstream { endpoints, balance, hash_by, host, timeouts, protocol, tls, proxy_protocol, affinity, protection } = upstream;
    let UpstreamTimeouts { connect, response, idle } = timeouts;
    let host = match host {
        UpstreamHost::Upstream => "upstream",
        UpstreamHost::Client => "client",
        UpstreamHost::Literal(host) => host,
    };
    let protocol = match protocol {
        UpstreamProtocol::Http1 => "http1",
        UpstreamProtocol::H2 => "h2",
        UpstreamProtocol::H2c => "h2c",
    };
    let mut value = json!({
        "endpoints": endpoints.iter().map(|endpoint| print_endpoint(endpoint)).collect::<Value>(),
        "balance": balance.as_str(),
        "protocol": protocol,
        "host": host,
        "timeouts": { "connect": duration(*connect), "response": duration(*response), "idle": duration(*idle) },
    });
    if let Some(by) = hash_by {
        value["hash_by"] = by.to_string().into();
    }
    if let Some(tls) = tls {
        value["tls"] = print_upstream_tls(tls);
    }
    if let Some(version) = proxy_protocol {
        value["proxy_protocol"] = match version {
            ProxyVersion::V1 => "v1".into(),
            ProxyVersion::V2 => "v2".into(),
        };
    }
    if let Some(Affinity { cookie, ttl }) = affinity {
        value["affinity"] = match ttl {
            Some(ttl) => json!({ "cookie": cookie, "ttl": duration(*ttl) }),
            None => json!({ "cookie": cookie }),
        };
    }
    protection::add(protection, &mut value);
    value
}

fn print_upstream_tls(tls: &UpstreamTls) -> Value {
    let UpstreamTls { ca, cert, key, server_name, dangerously_skip_verification } = tls;
    let mut value = json!({ "dangerously_skip_verification": dangerously_skip_verification });
    for (name, file) in [("ca", ca), ("cert", cert), ("key", key)] {
        if let Some(file) = file {
            value[name] = pem(file);
        }
    }
    if let Some(name) = server_name {
        value["server_name"] = name.value.as_str().into();
    }
    value
}

fn print_endpoint(endpoint: &Endpoint) -> Value {
    let Endpoint { scheme, authority, path: _, weight, zone, priority } = endpoint;
    let mut value = match authority {
        Authority::Name { host, port, every: true } => json!({ "dns": format!("{host}:{port}"), "scheme": scheme.as_str() }),
        Authority::Service(name) => json!({ "srv": name, "scheme": scheme.as_str() }),
        Authority::Name { every: false, .. } | Authority::Address(_) | Authority::Unix(_) => json!({ "url": url(endpoint) }),
    };
    value["weight"] = weight.get().into();
    value["priority"] = (*priority).into();
    if let Some(zone) = zone {
        value["zone"] = zone.as_str().into();
    }
    value
}

fn url(endpoint: &Endpoint) -> String {
    let Endpoint { scheme, authority, path, weight: _, zone: _, priority: _ } = endpoint;
    let scheme = scheme.as_str();
    match authority {
        Authority::Address(address) => format!("{scheme}://{address}{path}"),
        Authority::Name { host, port, every: _ } => format!("{scheme}://{host}:{port}{path}"),
        Authority::Service(name) => format!("srv:{name}"),
        Authority::Unix(socket) => format!("unix:{}", socket.display()),
    }
}

fn print_target(target: &ProxyTarget) -> Value {
    match target {
        ProxyTarget::Named(name) => name.as_str().into(),
        ProxyTarget::Url(endpoint) => url(endpoint).into(),
    }
}

fn print_api(api: &Api) -> Value {
    let Api { hosts, base_path, cors, ip, policies, maintenance, gateway_responses, routes } = api;
    let mut map = Map::new();
    map.insert("hosts".to_owned(), texts(hosts));
    map.insert("base_path".to_owned(), base_path.value.as_str().into());
    if let Some(cors) = cors {
        map.insert("cors".to_owned(), print_cors(cors));
    }
    if let Some(ip) = ip {
        map.insert("ip".to_owned(), print_ip(ip));
    }
    let mut shared = Map::new();
    print_policies(policies, &mut shared);
    map.insert("policies".to_owned(), Value::Object(shared));
    if let Some(maintenance) = maintenance {
        map.insert("maintenance".to_owned(), protection::maintenance(maintenance));
    }
    let responses = match gateway_responses {
        GatewayResponses::Problem => "problem",
        GatewayResponses::AwsRest => "aws_rest",
        GatewayResponses::AwsHttp => "aws_http",
    };
    map.insert("gateway_responses".to_owned(), responses.into());
    map.insert("routes".to_owned(), routes.iter().map(|route| print_route(route)).collect());
    Value::Object(map)
}

fn print_route(route: &Route) -> Value {
    let Route { matcher, name, when, integration, rewrite, policies, cors, ip, mirror, priority, idempotent, maintenance } =
        route;
    let mut map = Map::new();
    map.insert("match".to_owned(), matcher.value.to_string().into());
    if let Some(name) = name {
        map.insert("name".to_owned(), name.value.as_str().into());
    }
    print_when(when, &mut map);
    let (key, value) = print_integration(integration);
    map.insert(key.to_owned(), value);
    if let Some(rewrite) = rewrite {
        map.insert("rewrite".to_owned(), rewrite.source.as_str().into());
    }
    print_policies(policies, &mut map);
    if let Some(cors) = cors {
        map.insert("cors".to_owned(), print_setting(cors, print_cors));
    }
    if let Some(ip) = ip {
        map.insert("ip".to_owned(), print_setting(ip, print_ip));
    }
    if let Some(mirror) = mirror {
        let Mirror { to, share } = &mirror.value;
        map.insert("mirror".to_owned(), json!({ "to": print_target(to), "share": share.to_string() }));
    }
    if let Some(priority) = priority {
        map.insert("priority".to_owned(), protection::priority(priority));
    }
    if let Some(idempotent) = idempotent {
        map.insert("idempotent".to_owned(), (*idempotent).into());
    }
    if let Some(maintenance) = maintenance {
        map.insert("maintenance".to_owned(), protection::maintenance(maintenance));
    }
    Value::Object(map)
}

fn print_setting<T>(setting: &Setting<Spanned<T>>, print: fn(&T) -> Value) -> Value {
    match setting {
        Setting::None => "none".into(),
        Setting::Some(value) => print(value),
    }
}

fn print_when(when: &When, map: &mut Map<String, Value>) {
    let When { headers, query } = when;
    let value = |value: &ValueMatch| match value {
        ValueMatch::Exact(text) => Value::String(text.clone()),
        ValueMatch::Present => "*".into(),
    };
    let mut conditions = Map::new();
    if !headers.is_empty() {
        let headers: Map<String, Value> = headers.iter().map(|(name, m)| (name.to_string(), value(m))).collect();
        conditions.insert("headers".to_owned(), Value::Object(headers));
    }
    if !query.is_empty() {
        let query: Map<String, Value> = query.iter().map(|(name, m)| (name.clone(), value(m))).collect();
        conditions.insert("query".to_owned(), Value::Object(query));
    }
    if !conditions.is_empty() {
        map.insert("when".to_owned(), Value::Object(conditions));
    }
}

fn print_integration(integration: &Integration) -> (&'static str, Value) {
    match integration {
        Integration::Proxy(target) => ("proxy", print_target(target)),
        Integration::Function(name) => ("function", name.as_str().into()),
        Integration::WebSocket(socket) => ("websocket", functions::websocket(socket)),
        Integration::Respond(Respond { status, headers, body }) => {
            let mut map = Map::new();
            map.insert("status".to_owned(), json!(status));
            if !headers.is_empty() {
                let headers: Map<String, Value> =
                    headers.iter().map(|(name, value)| (name.to_string(), value.shown().into())).collect();
                map.insert("headers".to_owned(), Value::Object(headers));
            }
            match body {
                RespondBody::Empty => {}
                RespondBody::Text(text) => drop(map.insert("text".to_owned(), text.as_str().into())),
                RespondBody::Json(json) => drop(map.insert("json".to_owned(), json.clone())),
            }
            ("respond", Value::Object(map))
        }
        Integration::Login(name, step) => ("login", json!(format!("{name} {}", step.name()))),
        Integration::Redirect(Redirect { to, status }) => ("redirect", json!({ "to": to.source, "status": status })),
    }
}

fn print_policies(policies: &Policies, map: &mut Map<String, Value>) {
    let Policies { timeout, body_bytes, transform, authenticate, authorize, rate_limit, rate_limit_headers } = policies;
    if let Some(timeout) = timeout {
        map.insert("timeout".to_owned(), duration(*timeout));
    }
    if let Some(bytes) = body_bytes {
        map.insert("body_bytes".to_owned(), format_size(*bytes).into());
    }
    if let Some(transform) = transform {
        let Transform { request, response } = &transform.value;
        let sides = json!({ "request": { "headers": print_edits(request) }, "response": { "headers": print_edits(response) } });
        map.insert("transform".to_owned(), sides);
    }
    if let Some(authenticate) = authenticate {
        map.insert("authenticate".to_owned(), identity::authenticate(authenticate));
    }
    if let Some(authorize) = authorize {
        map.insert("authorize".to_owned(), print_setting(authorize, identity::authorize));
    }
    if let Some(rate_limit) = rate_limit {
        map.insert("rate_limit".to_owned(), print_setting_list(rate_limit));
    }
    if let Some(headers) = rate_limit_headers {
        map.insert("rate_limit_headers".to_owned(), limits::headers(headers));
    }
}

fn print_setting_list(setting: &Setting<Vec<Spanned<RateLimit>>>) -> Value {
    match setting {
        Setting::None => "none".into(),
        Setting::Some(limits) => limits::rate_limits(limits, true),
    }
}

fn print_edits(edits: &HeaderEdits) -> Value {
    let HeaderEdits { remove, set, add } = edits;
    let map = |list: &[(HeaderName, Spanned<Template>)]| -> Map<String, Value> {
        list.iter().map(|(name, template)| (name.to_string(), template.source.as_str().into())).collect()
    };
    json!({ "remove": texts(remove), "set": map(set), "add": map(add) })
}

fn print_cors(cors: &Cors) -> Value {
    let Cors { origins, methods, headers, expose, credentials, max_age } = cors;
    let mut value =
        json!({ "origins": origins, "methods": methods, "headers": headers, "expose": expose, "credentials": credentials });
    if let Some(age) = max_age {
        value["max_age"] = duration(*age);
    }
    value
}

fn print_ip(ip: &IpRules) -> Value {
    let IpRules { allow, deny } = ip;
    json!({ "allow": texts(allow), "deny": texts(deny) })
}

fn print_access_log(log: &AccessLog) -> Value {
    match log {
        AccessLog::None => "none".into(),
        AccessLog::Stdout => json!({ "to": "stdout", "format": "json" }),
        AccessLog::Stderr => json!({ "to": "stderr", "format": "json" }),
        AccessLog::File(path) => json!({ "to": path.display().to_string(), "format": "json" }),
    }
}
