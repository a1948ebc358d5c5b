//! Which path asks for what, and in which dialect its answer is expected.
//!
//! **Invariant**: every path has a dialect, also a wrong one, so that its error can be worded
//! (test `every_path_has_a_dialect`).

use http::request::Parts;
use http::{HeaderMap, Method};
use policy::refusal::{Reason, Refusal};
use wire::dialect::Dialect;

use crate::percent::legible;
use crate::setup::Setup;

/// What a call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An answer to a conversation, in the dialect's main endpoint.
    Generate {
        /// The dialect spoken.
        dialect: Dialect,
        /// The upstream, where the path names one.
        pinned: Option<String>,
    },
    /// The size of a conversation (Anthropic `count_tokens`).
    CountTokens {
        /// The upstream, where the path names one.
        pinned: Option<String>,
    },
    /// Embeddings (OpenAI).
    Embed {
        /// The upstream, where the path names one.
        pinned: Option<String>,
    },
    /// What a client says of an answer that it got.
    Feedback {
        /// The dialect of its errors.
        dialect: Dialect,
    },
    /// The list of models.
    Models {
        /// The dialect of the list.
        dialect: Dialect,
    },
    /// What is known of one model.
    Model {
        /// The dialect of the answer.
        dialect: Dialect,
        /// The model.
        name: String,
    },
    /// Anything else that an upstream offers: checked and metered, never shaped.
    Passthrough {
        /// The upstream.
        provider: String,
        /// The path behind its base address, with the leading slash.
        rest: String,
    },
}

/// A path, understood as far as possible.
#[derive(Debug)]
pub struct Place {
    /// The dialect in which the caller expects its answer.
    pub dialect: Dialect,
    /// What is asked for, or why nothing can be.
    pub endpoint: Result<Endpoint, Refusal>,
}

const SERVED: &str = "POST /v1/chat/completions, POST /v1/messages, POST /v1/messages/count_tokens, \
                      POST /v1/embeddings, GET /v1/models, POST /v1/feedback, and /PROVIDER/… for \
                      everything else";

/// Understands a request line.
pub fn find(setup: &Setup, head: &Parts) -> Place {
    let path = head.uri.path();
    if let Some(place) = main(path, &head.method, &head.headers, None) {
        return place;
    }
    if let Some((provider, rest)) = split_provider(setup, path) {
        return pinned(setup, provider, rest, head);
    }
    let dialect = guess(path, &head.headers);
    if let Some(provider) = home(setup, dialect).filter(|_| path.starts_with("/v1/")) {
        let (provider, rest) = (provider.to_owned(), path.to_owned());
        let endpoint = Ok(Endpoint::Passthrough { provider, rest });
        return Place { dialect, endpoint };
    }
    let refusal = Refusal::new(
        Reason::UnknownRoute,
        format!("no route `{} {path}`; served here: {SERVED}", head.method),
    );
    Place {
        dialect,
        endpoint: Err(refusal),
    }
}

/// The endpoints of our own, with or without `/v1`.
fn main(path: &str, method: &Method, headers: &HeaderMap, pin: Option<&str>) -> Option<Place> {
    let pinned = pin.map(str::to_owned);
    // What else is done to models, as to delete a tuned one, is the provider's own.
    let reads = pin.is_none() && *method == Method::GET;
    let (dialect, wants, endpoint) = match path.strip_prefix("/v1").unwrap_or(path) {
        "/chat/completions" => {
            let dialect = Dialect::OpenAiChat;
            (
                dialect,
                Method::POST,
                Endpoint::Generate { dialect, pinned },
            )
        }
        "/messages" => {
            let dialect = Dialect::AnthropicMessages;
            (
                dialect,
                Method::POST,
                Endpoint::Generate { dialect, pinned },
            )
        }
        "/messages/count_tokens" => (
            Dialect::AnthropicMessages,
            Method::POST,
            Endpoint::CountTokens { pinned },
        ),
        "/embeddings" => (
            Dialect::OpenAiChat,
            Method::POST,
            Endpoint::Embed { pinned },
        ),
        "/feedback" if pin.is_none() => {
            let dialect = guess(path, headers);
            (dialect, Method::POST, Endpoint::Feedback { dialect })
        }
        "/models" if reads => {
            let dialect = guess(path, headers);
            (dialect, Method::GET, Endpoint::Models { dialect })
        }
        other => match other.strip_prefix("/models/") {
            Some(name) if reads && !name.is_empty() => {
                let (dialect, name) = (guess(path, headers), legible(name));
                (dialect, Method::GET, Endpoint::Model { dialect, name })
            }
            Some(_) | None => return None,
        },
    };
    let endpoint = if *method == wants {
        Ok(endpoint)
    } else {
        let message = format!("`{path}` takes {wants}, not {method}");
        Err(Refusal {
            allowed_method: Some(wants.to_string()),
            ..Refusal::new(Reason::MethodNotAllowed, message)
        })
    };
    Some(Place { dialect, endpoint })
}

/// `/PROVIDER/…`: the provider's main endpoints are shaped like ours, the rest passes through.
fn pinned(setup: &Setup, provider: &str, rest: &str, head: &Parts) -> Place {
    let native = setup.upstream(provider).map(|upstream| upstream.dialect);
    if let Some(place) = main(rest, &head.method, &head.headers, Some(provider)) {
        // The other dialect's path at this provider is one of its own, not one of ours.
        if native == Some(place.dialect) {
            return place;
        }
    }
    let dialect = native.unwrap_or_else(|| guess(rest, &head.headers));
    let endpoint = Endpoint::Passthrough {
        provider: provider.to_owned(),
        rest: rest.to_owned(),
    };
    Place {
        dialect,
        endpoint: Ok(endpoint),
    }
}

/// Splits `/openai/v1/files` into the configured provider and `/v1/files`.
fn split_provider<'a>(setup: &Setup, path: &'a str) -> Option<(&'a str, &'a str)> {
    let inner = path.strip_prefix('/')?;
    let (provider, rest) = inner.split_at(inner.find('/')?);
    setup.upstream(provider).map(|_| (provider, rest))
}

/// Whom a dialect's clients mean by paths that are not ours: the provider that it is named after, or
/// the only one that speaks it.
fn home(setup: &Setup, dialect: Dialect) -> Option<&str> {
    let name = match dialect {
        Dialect::AnthropicMessages => "anthropic",
        Dialect::OpenAiChat => "openai",
    };
    let mut speakers = setup.upstreams.iter().filter(|it| it.dialect == dialect);
    let named = speakers.clone().find(|it| it.id == name);
    let only = speakers.next().filter(|_| speakers.next().is_none());
    named.or(only).map(|upstream| upstream.id.as_str())
}

/// The dialect of a caller whose path does not tell.
fn guess(path: &str, headers: &HeaderMap) -> Dialect {
    let anthropic = headers.contains_key("anthropic-version")
        || (headers.contains_key("x-api-key") && !headers.contains_key("authorization"))
        || path.contains("/messages");
    if anthropic {
        Dialect::AnthropicMessages
    } else {
        Dialect::OpenAiChat
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::setup::sample;

    fn check(line: &str, headers: &[&str], dialect: Dialect, expect: &str) {
        let setup = sample::setup(vec![
            sample::upstream("openai", Dialect::OpenAiChat, &[]),
            sample::upstream("anthropic", Dialect::AnthropicMessages, &[]),
        ]);
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let mut request = Request::builder().method(method).uri(path);
        for name in headers {
            request = request.header(*name, "x");
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let place = find(&setup, &head);
        assert_eq!(place.dialect, dialect, "{line}");
        let found = match place.endpoint {
            Ok(endpoint) => format!("{endpoint:?}"),
            Err(refusal) => format!("{:?}: {}", refusal.reason, refusal.message),
        };
        assert!(found.contains(expect), "{line}: {found}");
    }

    #[test]
    fn a_dialect_is_at_home_where_that_is_clear() {
        let (openai, anthropic) = (Dialect::OpenAiChat, Dialect::AnthropicMessages);
        for (ids, expect) in [
            (&["groq", "openai"][..], Some("openai")),
            (&["groq"], Some("groq")),
            (&["groq", "mistral"], None),
            (&[], None),
        ] {
            let upstreams = ids.iter().map(|id| sample::upstream(id, openai, &[]));
            let setup = sample::setup(upstreams.collect());
            assert_eq!(home(&setup, openai), expect, "{ids:?}");
            assert_eq!(home(&setup, anthropic), None);
        }
    }

    #[test]
    fn every_path_has_a_dialect() {
        let (openai, anthropic) = (Dialect::OpenAiChat, Dialect::AnthropicMessages);
        for (line, headers, dialect, expect) in [
            ("POST /v1/chat/completions", &[][..], openai, "Generate"),
            ("POST /chat/completions", &[], openai, "Generate"),
            ("POST /v1/messages", &[], anthropic, "pinned: None"),
            (
                "POST /anthropic/v1/messages",
                &[],
                anthropic,
                "Some(\"anthropic\")",
            ),
            (
                "POST /v1/messages/count_tokens",
                &[],
                anthropic,
                "CountTokens",
            ),
            ("POST /v1/embeddings", &[], openai, "Embed"),
            ("POST /v1/feedback", &[], openai, "Feedback"),
            ("POST /v1/feedback", &["x-api-key"], anthropic, "Feedback"),
            ("GET /v1/models", &[], openai, "Models"),
            ("GET /v1/models", &["x-api-key"], anthropic, "Models"),
            ("GET /v1/models/gpt-5.4", &[], openai, "name: \"gpt-5.4\""),
            // The SDKs encode what they put into a path.
            (
                "GET /v1/models/openai%2Fgpt-5.4",
                &[],
                openai,
                "name: \"openai/gpt-5.4\"",
            ),
            ("GET /v1/models/100%25%2", &[], openai, "name: \"100%%2\""),
            // A tuned model is deleted where it lies.
            (
                "DELETE /v1/models/ft:gpt-5.4:acme",
                &[],
                openai,
                "rest: \"/v1/models/ft:gpt-5.4:acme\"",
            ),
            ("HEAD /v1/models", &[], openai, "rest: \"/v1/models\""),
            (
                "POST /openai/v1/responses",
                &[],
                openai,
                "rest: \"/v1/responses\"",
            ),
            // The other dialect's path at a provider is one of its own.
            ("POST /openai/v1/messages", &[], openai, "Passthrough"),
            (
                "GET /openai/v1/models",
                &["x-api-key"],
                openai,
                "Passthrough",
            ),
            (
                "GET /v1/messages",
                &[],
                anthropic,
                "`/v1/messages` takes POST",
            ),
            ("POST /nobody/v1/files", &[], openai, "UnknownRoute"),
            // What an SDK asks below the same base address goes to whom it was made for.
            (
                "POST /v1/responses",
                &[],
                openai,
                "provider: \"openai\", rest: \"/v1/responses\"",
            ),
            (
                "GET /v1/files?limit=1",
                &["anthropic-version"],
                anthropic,
                "provider: \"anthropic\", rest: \"/v1/files\"",
            ),
            (
                "POST /v2/complete",
                &["anthropic-version"],
                anthropic,
                "UnknownRoute",
            ),
            ("GET /v9", &[], openai, "no route `GET /v9`"),
        ] {
            check(line, headers, dialect, expect);
        }
    }
}
