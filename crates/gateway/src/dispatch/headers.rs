//! Which headers go upstream: the client's own, minus those of the hop and of the key.
//!
//! **Invariant**: a key of ours never leaves (test `our_keys_stay_here`).

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use policy::key;
use wire::provider::Auth;

use crate::receive::{API_KEYS, KEY_HEADER};
use crate::setup::{Access, Credential, Upstream};

/// Headers that belong to one connection (RFC 9110, section 7.6.1).
const HOP: [&str; 7] = [
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Our own headers start with this; none of them travels on.
const OURS: &str = "x-tokenwise-";

/// 8: so many headers of ours an answer seldom exceeds.
const OURS_MAX: usize = 8;

/// The headers of the upstream request.
pub fn upstream(client: &HeaderMap, upstream: &Upstream, access: Access) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(client.len());
    let named = connection_names(client);
    for (name, value) in client {
        if keeps(name) && !named.iter().any(|dropped| dropped == name.as_str()) {
            headers.append(name.clone(), value.clone());
        }
    }
    // Left out, it would leave the choice to the upstream.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    match (&upstream.credential, upstream.auth) {
        (Credential::Configured(value), Auth::Bearer | Auth::None) => {
            headers.insert(AUTHORIZATION, value.clone());
        }
        (Credential::Configured(value), Auth::Header(name)) => {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
        (Credential::FromClient, _) => from_client(client, access, &mut headers),
        (Credential::Nothing, _) => {}
    }
    headers
}

/// The headers of a request that the client knows nothing of: nothing of its own but the credential,
/// where the upstream takes that.
pub fn alone(client: &HeaderMap, to: &Upstream, access: Access) -> HeaderMap {
    let names = [AUTHORIZATION, KEY_HEADER].into_iter().chain(API_KEYS);
    let kept = names.filter_map(|name| {
        let value = client.get(&name)?.clone();
        Some((name, value))
    });
    upstream(&kept.collect(), to, access)
}

/// The client's own credential, unless it is a key of ours.
fn from_client(client: &HeaderMap, access: Access, headers: &mut HeaderMap) {
    let ours_elsewhere = client.contains_key(KEY_HEADER);
    if access == Access::Keys && !ours_elsewhere {
        return; // what came in these headers opened our door; it is not for the upstream
    }
    for name in [AUTHORIZATION].into_iter().chain(API_KEYS) {
        if let Some(value) = client.get(&name).filter(|value| !is_ours(value)) {
            headers.insert(name, value.clone());
        }
    }
}

/// Whether a credential is one of our secrets: clients that give a key twice give it away nowhere.
fn is_ours(value: &HeaderValue) -> bool {
    let text = String::from_utf8_lossy(value.as_bytes());
    let mut words = text.split_ascii_whitespace();
    words.any(|word| word.starts_with(key::PREFIX))
}

/// Whether a client's header travels on. Encodings do not: answers are read here as plain bytes.
fn keeps(name: &HeaderName) -> bool {
    let dropped = [
        ACCEPT_ENCODING,
        AUTHORIZATION,
        CONNECTION,
        CONTENT_LENGTH,
        HOST,
    ];
    let text = name.as_str();
    !HOP.contains(&text)
        && !API_KEYS.contains(name)
        && text != "x-goog-api-key"
        && !dropped.contains(name)
        && !text.starts_with(OURS)
}

/// The headers that the upstream's answer brings to the client.
pub fn answer(upstream: &HeaderMap) -> HeaderMap {
    let named = connection_names(upstream);
    let mut headers = HeaderMap::with_capacity(upstream.len() + OURS_MAX);
    for (name, value) in upstream {
        let text = name.as_str();
        let kept = !HOP.contains(&text) && name != CONNECTION && name != CONTENT_LENGTH;
        if kept && !named.iter().any(|dropped| dropped == text) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// Header names that `connection` declares to belong to the hop.
fn connection_names(headers: &HeaderMap) -> Vec<String> {
    let values = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(','));
    names.map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// A header value that never shows in logs.
pub fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
