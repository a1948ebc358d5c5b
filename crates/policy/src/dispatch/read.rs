//! Reads what an upstream says of its failure: a status with a body, or an error event in a stream.
//!
//! **Invariant**: codes decide before messages, and messages before the status; a body that cannot
//! be read leaves the status to decide (test `answers_become_faults`).

use std::borrow::Cow;

use wire::json::{Node, Tape};

use crate::dispatch::after;
use crate::dispatch::fault::Fault;
use crate::dispatch::words::{self, Meaning, Weight};
use crate::moment::Moment;

/// 64 KiB: providers' error bodies take a few hundred bytes; a longer one is some proxy's page.
pub const ERROR_BYTES_MAX: usize = 64 * 1024;

/// What went wrong, by the head and the body of an answer that is no success.
///
/// `header` gives a header's value by its lowercase name. Both dialects are read alike: servers
/// that are compatible with one borrow the other's codes, and no code has two meanings.
pub fn read_status<'h>(
    status: u16,
    header: impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    now: Moment,
) -> Fault {
    let told = Told::of(body);
    let exact = told.meaning(Weight::Exact);
    // A failure of the upstream's own may quote anything; a refusal speaks of the request.
    let is_refusal = (400..500).contains(&status);
    let worded = || told.wording().filter(|_| is_refusal && status != 429);
    let wait = || after::read(&header, now);
    match exact.or_else(worded) {
        Some(meaning) => fault(meaning, wait),
        None => by_status(status, wait),
    }
}

/// What went wrong, by the data of an error event in a stream.
pub fn read_event(data: &[u8]) -> Fault {
    let told = Told::of(data);
    let meaning = told.meaning(Weight::Exact);
    let meaning = meaning.or_else(|| told.wording());
    let meaning = meaning.or_else(|| told.meaning(Weight::General));
    meaning.map_or(Fault::Interrupted, |meaning| fault(meaning, || None))
}

fn fault(meaning: Meaning, wait: impl Fn() -> Option<u64>) -> Fault {
    match meaning {
        Meaning::ContextExceeded => Fault::ContextExceeded,
        Meaning::Refused => Fault::Refused,
        Meaning::Exhausted => Fault::Exhausted,
        Meaning::ModelMissing => Fault::ModelMissing,
        Meaning::PrefillRejected => Fault::PrefillRejected,
        Meaning::Denied => Fault::Denied,
        Meaning::RateLimited => Fault::RateLimited { after_ms: wait() },
        Meaning::Overloaded => Fault::Overloaded { after_ms: wait() },
        Meaning::Failed => Fault::Failed,
        Meaning::BadRequest => Fault::BadRequest,
    }
}

/// The official SDKs, too, try 408, 409, 429 and every 5xx again. Source:
/// <https://www.mintlify.com/openai/openai-python/concepts/retries>, read 2026-11-24.
fn by_status(status: u16, wait: impl Fn() -> Option<u64>) -> Fault {
    match status {
        401 | 403 => Fault::Denied,
        402 => Fault::Exhausted,
        404 => Fault::ModelMissing,
        408 | 409 | 425 => Fault::Failed,
        429 => Fault::RateLimited { after_ms: wait() },
        503 | 529 => Fault::Overloaded { after_ms: wait() },
        400..=499 => Fault::BadRequest,
        500.. => Fault::Failed,
        // A redirect or worse: not what the dialect promises.
        _ => Fault::Unreadable,
    }
}

/// The codes and the message of an error, wherever its server puts them.
#[derive(Debug, Default)]
struct Told {
    codes: [Option<String>; 4],
    message: Option<String>,
}

impl Told {
    fn of(body: &[u8]) -> Self {
        let body = body.trim_ascii();
        if body.len() > ERROR_BYTES_MAX {
            return Self::default();
        }
        Tape::read(body).map_or_else(|_| Self::default(), |tape| Self::from(tape.root()))
    }

    fn from(root: Node<'_>) -> Self {
        let error = root.get("error").unwrap_or(root);
        let text = |node: Option<Node<'_>>| Some(node?.as_str()?.into_owned());
        let within = |outer: &str, name: &str| error.get(outer)?.get(name);
        Self {
            codes: [
                text(within("details", "error_code")),
                text(within("innererror", "code")),
                text(error.get("code")),
                text(error.get("type")),
            ],
            // Some servers give the message alone.
            message: error
                .as_str()
                .map(Cow::into_owned)
                .or_else(|| text(error.get("message"))),
        }
    }

    fn meaning(&self, weight: Weight) -> Option<Meaning> {
        let known = self.codes.iter().flatten();
        let mut known = known.filter_map(|code| words::code(code));
        let row = known.find(|row| row.weight == weight)?;
        Some(row.meaning)
    }

    fn wording(&self) -> Option<Meaning> {
        words::message(self.message.as_deref()?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, read_event, read_status};
    use crate::moment::Moment;

    /// Reads an answer without, and again with, a header that asks for two seconds.
    fn check(status: u16, body: &str, expect: Fault) {
        let read = |header: fn(&str) -> Option<&'static str>| {
            read_status(status, header, body.as_bytes(), Moment(0))
        };
        assert_eq!(read(|_| None), expect, "{status} {body}");
        let after_ms = Some(2_000);
        let expect = if let Fault::RateLimited { .. } = expect {
            Fault::RateLimited { after_ms }
        } else if let Fault::Overloaded { .. } = expect {
            Fault::Overloaded { after_ms }
        } else {
            expect
        };
        let header = |name: &str| (name == "retry-after").then_some("2");
        assert_eq!(read(header), expect, "{status} {body}");
    }

    #[test]
    fn answers_become_faults() {
        let rate_limited = Fault::RateLimited { after_ms: None };
        let overloaded = Fault::Overloaded { after_ms: None };
        for (status, body, expect) in [
            (429, "", rate_limited),
            (429, r#"{"error":{"code":"slow_down"}}"#, rate_limited),
            (
                429,
                r#"{"error":{"message":"quota","type":"insufficient_quota","param":null,"code":"project_spend_limit_exceeded"}}"#,
                Fault::Exhausted,
            ),
            (
                429,
                r#"{"error":{"message":"m","type":"insufficient_quota","code":"something_new"}}"#,
                Fault::Exhausted,
            ),
            (
                429,
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
                Fault::Exhausted,
            ),
            // The client's own words come back in messages; on a 429 they are not looked at.
            (
                429,
                r#"{"error":{"message":"prompt is too long to say"}}"#,
                rate_limited,
            ),
            (500, "oops", Fault::Failed),
            (
                500,
                r#"{"error":{"message":"maximum context length is 7"}}"#,
                Fault::Failed,
            ),
            (502, "<html>", Fault::Failed),
            (504, "", Fault::Failed),
            (599, "", Fault::Failed),
            (408, "", Fault::Failed),
            (409, "", Fault::Failed),
            (503, "", overloaded),
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                overloaded,
            ),
            (401, "", Fault::Denied),
            (
                403,
                r#"{"type":"error","error":{"type":"permission_error","message":"m"}}"#,
                Fault::Denied,
            ),
            (402, "", Fault::Exhausted),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
                Fault::Exhausted,
            ),
            (
                404,
                r#"{"error":{"code":"model_not_found"}}"#,
                Fault::ModelMissing,
            ),
            (
                400,
                r#"{"error":{"code":"model_not_found"}}"#,
                Fault::ModelMissing,
            ),
            (400, "", Fault::BadRequest),
            (
                400,
                r#"{"error":{"code":"unknown_parameter","message":"m"}}"#,
                Fault::BadRequest,
            ),
            (413, "", Fault::BadRequest),
            (422, r#"{"detail":[]}"#, Fault::BadRequest),
            (301, "", Fault::Unreadable),
        ] {
            check(status, body, expect);
        }
    }

    #[test]
    fn overflows_are_told_by_code_or_by_known_words() {
        for (status, body) in [
            (
                400,
                r#"{"error":{"message":"m","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 213462 tokens > 200000 maximum"}}"#,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 178902 + 32000 > 200000"}}"#,
            ),
            (
                400,
                r#"{"error":{"code":400,"type":"exceed_context_size_error","message":"m"}}"#,
            ),
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 2048 tokens.","type":"BadRequestError","code":400}}"#,
            ),
            (
                400,
                r#"{"object":"error","message":"maximum context length is 9","type":"BadRequestError","code":400}"#,
            ),
            (
                403,
                r#"{"error":{"message":"Input token count + max_tokens parameter must be less than the context length of the model"}}"#,
            ),
            (
                413,
                r#"{"error":"Please reduce the length of the messages or completion."}"#,
            ),
        ] {
            check(status, body, Fault::ContextExceeded);
        }
    }

    #[test]
    fn refusals_are_told_by_code_alone() {
        for (body, expect) in [
            (
                r#"{"error":{"code":"content_filter","message":"m"}}"#,
                Fault::Refused,
            ),
            (
                r#"{"error":{"code":"content_policy_violation"}}"#,
                Fault::Refused,
            ),
            (
                r#"{"error":{"code":null,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
                Fault::Refused,
            ),
            (
                r#"{"error":{"message":"our content policy was violated"}}"#,
                Fault::BadRequest,
            ),
        ] {
            check(400, body, expect);
        }
    }

    #[test]
    fn prefill_is_told_by_known_words() {
        for body in [
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"This model does not support assistant message prefill. The conversation must end with a user message."}}"#,
            r#"{"object":"error","message":"Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant","type":"invalid_request_error","param":null,"code":null}"#,
        ] {
            check(400, body, Fault::PrefillRejected);
        }
    }

    #[test]
    fn events_become_faults() {
        for (data, expect) in [
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Fault::Overloaded { after_ms: None },
            ),
            (
                r#"{"error":{"type":"server_error","message":"m","code":null}}"#,
                Fault::Failed,
            ),
            (
                r#"{"error":{"message":"m","code":"rate_limit_exceeded"}}"#,
                Fault::RateLimited { after_ms: None },
            ),
            (r#"{"error":{"code":"content_filter"}}"#, Fault::Refused),
            (r#"{"error":{"message":"m"}}"#, Fault::Interrupted),
            ("not json", Fault::Interrupted),
            ("", Fault::Interrupted),
        ] {
            assert_eq!(read_event(data.as_bytes()), expect, "{data}");
        }
    }

    #[test]
    fn long_bodies_are_not_read() {
        let filler = "x".repeat(super::ERROR_BYTES_MAX);
        let body = format!(r#"{{"error":{{"code":"context_length_exceeded","x":"{filler}"}}}}"#);
        check(400, &body, Fault::BadRequest);
    }
}
