//! A problem in OpenAI's words: `{"error":{"message","type","param","code"}}`.
//!
//! **Invariant**: one exhaustive match; each kind has a type that the official SDKs know (rows
//! below). Source: <https://developers.openai.com/api/docs/guides/error-codes>, read 2026-11-23.

use serde::Serialize;

use crate::problem::{Problem, ProblemKind};

#[derive(Serialize)]
struct Body<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: &'static str,
}

/// The body of an error answer.
pub(in crate::dialect) fn render(problem: &Problem) -> Vec<u8> {
    let kind = match problem.kind {
        ProblemKind::InvalidRequest | ProblemKind::NotFound | ProblemKind::TooLarge => {
            "invalid_request_error"
        }
        ProblemKind::Unauthenticated => "authentication_error",
        ProblemKind::PermissionDenied => "permission_error",
        ProblemKind::RateLimited => "rate_limit_error",
        ProblemKind::Timeout => "timeout_error",
        ProblemKind::Overloaded | ProblemKind::Upstream | ProblemKind::Internal => "server_error",
    };
    let Problem {
        code,
        message,
        param,
        ..
    } = problem;
    let error = Error {
        message,
        kind,
        param: param.as_deref(),
        code,
    };
    serde_json::to_vec(&Body { error }).unwrap_or_default()
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
                r#"{{"error":{{"message":"\"x\" is unknown","type":"{name}","param":"model","code":"model_not_found"}}}}"#
            );
            let body = Dialect::OpenAiChat.render(&problem(kind), "call_1");
            assert_eq!(String::from_utf8(body).unwrap(), expect);
            let event = Dialect::OpenAiChat.render_event(&problem(kind), "call_1");
            assert_eq!(
                String::from_utf8(event).unwrap(),
                format!("data: {expect}\n\n")
            );
        };
        check(ProblemKind::InvalidRequest, "invalid_request_error");
        check(ProblemKind::Unauthenticated, "authentication_error");
        check(ProblemKind::PermissionDenied, "permission_error");
        check(ProblemKind::NotFound, "invalid_request_error");
        check(ProblemKind::TooLarge, "invalid_request_error");
        check(ProblemKind::RateLimited, "rate_limit_error");
        check(ProblemKind::Overloaded, "server_error");
        check(ProblemKind::Timeout, "timeout_error");
        check(ProblemKind::Upstream, "server_error");
        check(ProblemKind::Internal, "server_error");
    }
}
