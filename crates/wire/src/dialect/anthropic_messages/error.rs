//! A problem in Anthropic's words: `{"type":"error","error":{"type","message"},"request_id"}`.
//!
//! **Invariant**: one exhaustive match; each kind has a type that the official SDKs know (rows
//! below). Source: <https://platform.claude.com/docs/en/api/errors>, read 2026-11-23.

use serde::Serialize;

use crate::problem::{Problem, ProblemKind};

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Error<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Error<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
}

/// The body of an error answer.
pub(in crate::dialect) fn render(problem: &Problem, call_id: &str) -> Vec<u8> {
    let kind = match problem.kind {
        ProblemKind::InvalidRequest => "invalid_request_error",
        ProblemKind::Unauthenticated => "authentication_error",
        ProblemKind::PermissionDenied => "permission_error",
        ProblemKind::NotFound => "not_found_error",
        ProblemKind::TooLarge => "request_too_large",
        ProblemKind::RateLimited => "rate_limit_error",
        ProblemKind::Overloaded => "overloaded_error",
        ProblemKind::Timeout => "timeout_error",
        ProblemKind::Upstream | ProblemKind::Internal => "api_error",
    };
    let error = Error {
        kind,
        message: &problem.message,
    };
    serde_json::to_vec(&Body {
        kind: "error",
        error,
        request_id: call_id,
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::dialect::Dialect;
    use crate::problem::{Problem, ProblemKind};

    fn problem(kind: ProblemKind) -> Problem {
        let message = "\"x\" is unknown".to_owned();
        Problem {
            kind,
            code: "model_not_found",
            message,
            param: Some("model".to_owned()),
        }
    }

    #[test]
    fn problems_have_the_providers_shape() {
        let check = |kind, name: &str| {
            let expect = format!(
                r#"{{"type":"error","error":{{"type":"{name}","message":"\"x\" is unknown"}},"request_id":"call_1"}}"#
            );
            let body = Dialect::AnthropicMessages.render(&problem(kind), "call_1");
            assert_eq!(String::from_utf8(body).unwrap(), expect);
            let event = Dialect::AnthropicMessages.render_event(&problem(kind), "call_1");
            assert_eq!(
                String::from_utf8(event).unwrap(),
                format!("event: error\ndata: {expect}\n\n")
            );
        };
        check(ProblemKind::InvalidRequest, "invalid_request_error");
        check(ProblemKind::Unauthenticated, "authentication_error");
        check(ProblemKind::PermissionDenied, "permission_error");
        check(ProblemKind::NotFound, "not_found_error");
        check(ProblemKind::TooLarge, "request_too_large");
        check(ProblemKind::RateLimited, "rate_limit_error");
        check(ProblemKind::Overloaded, "overloaded_error");
        check(ProblemKind::Timeout, "timeout_error");
        check(ProblemKind::Upstream, "api_error");
        check(ProblemKind::Internal, "api_error");
    }
}
