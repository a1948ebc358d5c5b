//! Calls that a web page makes somebody's browser send: an open gateway takes none from elsewhere.
//!
//! Whoever runs an open gateway on their own machine also visits web pages there, and any page can
//! send requests to loopback. Without this, each could spend the provider's money (a plain `POST`
//! needs no leave), and one whose name is made to lead to loopback could read the answers, too.
//!
//! **Invariant**: what names a web page beyond this machine is found; what programs and desktop
//! applications send is not (test `pages_are_told_from_programs`).

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

use crate::setup::Access;

/// The page beyond this machine that a request comes from, if it does: the `origin` that browsers
/// add, or the name by which the page has reached loopback.
pub fn elsewhere(head: &Parts) -> Option<String> {
    let origin = text(&head.headers, header::ORIGIN);
    if let Some(origin) = origin.filter(|origin| is_foreign(origin)) {
        return Some(format!("origin: {origin}"));
    }
    let host = text(&head.headers, header::HOST).or_else(|| Some(head.uri.authority()?.as_str()));
    let host = host.filter(|host| !is_near(name_of(host)))?;
    Some(format!("host: {host}"))
}

/// The page that a request comes from and that may call: any where a key is asked for, for a page has
/// none unless it was given one; pages of this machine otherwise.
pub fn welcome(headers: &HeaderMap, access: Access) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let may_call = match access {
        Access::Keys => true,
        Access::Open => !is_foreign(origin.to_str().ok()?),
    };
    may_call.then(|| origin.clone())
}

/// Whether an origin is a web page that was not loaded from this machine. `null` is one: any page
/// can hide behind it. Editors and desktop applications have schemes of their own.
fn is_foreign(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return true;
    };
    matches!(scheme, "http" | "https") && !is_here(name_of(authority))
}

/// Whether a name means this machine whoever answers for names.
fn is_here(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let address = name.parse::<IpAddr>();
    address.is_ok_and(|address| address.is_loopback())
        || name == "localhost"
        || name.ends_with(".localhost")
}

/// Whether no page on the internet can have such a name: an address, a name without a dot as hosts
/// files and containers have, or one below a domain that is kept for private use.
fn is_near(name: &str) -> bool {
    const PRIVATE: [&str; 4] = [".localhost", ".local", ".internal", ".lan"];
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    !name.contains('.')
        || name.parse::<IpAddr>().is_ok()
        || PRIVATE.iter().any(|domain| name.ends_with(domain))
}

/// The name in `name:port`; an IPv6 address without its brackets.
fn name_of(authority: &str) -> &str {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    // What is not even text names nobody that is known here.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn check(headers: &[(&str, &str)], expect: Option<&str>) {
        let mut request = Request::builder().uri("/v1/messages");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        assert_eq!(elsewhere(&head).as_deref(), expect, "{headers:?}");
    }

    #[test]
    fn pages_are_told_from_programs() {
        let here = ("host", "127.0.0.1:8787");
        for host in [
            "127.0.0.1:8787",
            "localhost:8787",
            "LOCALHOST",
            "[::1]:8787",
            "10.0.0.7:8787",
            "gateway:8787",
            "gateway.internal",
            "me.local:8787",
        ] {
            check(&[("host", host)], None);
        }
        for origin in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://[::1]:5173",
            "http://tauri.localhost",
            "vscode-webview://0a1b",
            "app://obsidian.md",
            "chrome-extension://abc",
        ] {
            check(&[here, ("origin", origin)], None);
        }
        for origin in [
            "https://evil.example",
            "http://evil.example:8787",
            "http://localhost.evil.example",
            "http://10.0.0.7",
            "null",
            "",
        ] {
            check(
                &[here, ("origin", origin)],
                Some(&format!("origin: {origin}")),
            );
        }
        // A page whose own name was made to lead here sends no `origin` when it only reads.
        check(
            &[("host", "evil.example:8787")],
            Some("host: evil.example:8787"),
        );
        check(
            &[("host", "127.0.0.1.evil.example")],
            Some("host: 127.0.0.1.evil.example"),
        );
        check(&[], None);
    }

    #[test]
    fn http_2_names_its_host_in_the_address() {
        let request = Request::builder().uri("http://evil.example:8787/v1/models");
        let (head, ()) = request.body(()).expect("a request").into_parts();
        assert_eq!(elsewhere(&head).as_deref(), Some("host: evil.example:8787"));
    }
}
