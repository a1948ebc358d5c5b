//! What browsers ask before a page may call, and must hear before it may read (CORS).
//!
//! The providers' own APIs answer pages, so that their SDKs work in browsers; behind this gateway they
//! do, too.
//!
//! **Invariant**: only pages that may call are told so, and programs get no header for it (test
//! `pages_with_a_key_can_call`).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::relay::reply::ReplyBody;

/// Browsers ask for this before a page of the internet calls a private address.
const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");

const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

/// 600 s: browsers ask again after that at the earliest; some keep it no longer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The answer to a browser that asks whether a page may call; `None` if the request is none such.
pub fn preflight<B>(request: &Request<B>, origin: &HeaderValue) -> Option<Response<ReplyBody>> {
    let asked = request.headers();
    if request.method() != Method::OPTIONS || !asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = Response::new(ReplyBody::whole(Vec::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, HEAD");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    if asked.contains_key(REQUEST_PRIVATE_NETWORK) {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    tell(headers, origin);
    Some(response)
}

/// Lets a page read an answer, its headers included; what an upstream said of it does not hold here.
pub fn tell(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    headers.append(VARY, HeaderValue::from_name(ORIGIN));
}
