//! A simulated provider: it answers requests of both dialects as the real ones do, on virtual time.
//!
//! What it says follows from the request alone ([`script`]); what it reports as used follows from
//! the cache model, so a test sees the usage that a real provider would have reported.
//!
//! **Invariant**: the same requests at the same moments get the same bytes (test
//! `the_same_requests_get_the_same_bytes`), and a streamed answer says what the whole one says
//! (property `streams_say_what_whole_answers_say`).

use policy::moment::Moment;
use serde_json::{Value, json};
use wire::dialect::Dialect;
use wire::dialect::request::Request;
use wire::usage::Usage;

pub mod anthropic_messages;
pub mod embeddings;
pub mod meter;
pub mod openai_chat;
pub mod script;
#[cfg(test)]
mod tests;

use crate::provider::meter::{Count, Meter, Metered};

/// Models that `GET /v1/models` lists in the OpenAI dialect.
const OPENAI_MODELS: [&str; 4] = [
    "gpt-5.4",
    "gpt-5.4-mini",
    "gpt-5.6-terra",
    "text-embedding-3-small",
];

/// Models that `GET /v1/models` lists in the Anthropic dialect.
const ANTHROPIC_MODELS: [&str; 3] = ["claude-haiku-4-5", "claude-opus-5-5", "claude-sonnet-4-6"];

/// A model whose name begins like this does not exist; every other name does.
const UNKNOWN_MODEL: &str = "no-such";

/// The date that every listed model claims to be from: 2026-01-01T00:00:00Z, in seconds.
const MODEL_CREATED_S: u64 = 1_767_225_600;

/// One request, as far as the provider looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path, with its query if there is one.
    pub path: &'a str,
    /// The header `authorization`.
    pub authorization: Option<&'a str>,
    /// The header `x-api-key`.
    pub x_api_key: Option<&'a str>,
    /// The header `anthropic-version`.
    pub anthropic_version: Option<&'a str>,
    /// The body as it arrived.
    pub body: &'a [u8],
    /// When it arrived.
    pub at: Moment,
}

impl Ask<'_> {
    /// The key that it came with, from either header; what caches are kept apart by.
    pub fn key(&self) -> Option<&str> {
        let bearer = self
            .authorization
            .and_then(|value| value.strip_prefix("Bearer "));
        self.x_api_key
            .or(bearer)
            .map(str::trim)
            .filter(|key| !key.is_empty())
    }

    fn route(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// Paths that both dialects know are told apart by the headers that only Anthropic's clients
    /// send.
    fn dialect(&self) -> Dialect {
        let messages = self.route().starts_with("/v1/messages");
        if messages || self.x_api_key.is_some() || self.anthropic_version.is_some() {
            Dialect::AnthropicMessages
        } else {
            Dialect::OpenAiChat
        }
    }
}

/// A piece of a stream that leaves in one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One server-sent event, blank line included.
    pub bytes: Vec<u8>,
    /// How long after the previous frame it leaves.
    pub delay_ms: u64,
}

/// What an answer carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A JSON document.
    Whole(Vec<u8>),
    /// Server-sent events, in order.
    Stream(Vec<Frame>),
}

impl Body {
    /// All bytes, in order.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Whole(bytes) => bytes.clone(),
            Self::Stream(frames) => frames
                .iter()
                .flat_map(|frame| frame.bytes.clone())
                .collect(),
        }
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers, lowercase.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Body,
}

/// How fast a simulated stream runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// From the request to the first frame.
    pub first_frame_ms: u64,
    /// From one frame to the next.
    pub next_frame_ms: u64,
}

/// Why a request is not answered, before a dialect gives it its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    status: u16,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Fault {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
            code: None,
        }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    fn coded(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    fn unknown_model(model: &str) -> Self {
        let message = format!("the model `{model}` does not exist or you have no access to it");
        Self::new(404, message).at("model").coded("model_not_found")
    }

    /// The failure that a request asked for by name.
    fn wished(status: u16) -> Self {
        let (message, code) = match status {
            429 => (
                "rate limit reached for requests",
                Some("rate_limit_exceeded"),
            ),
            529 => ("overloaded", None),
            _ => ("the request could not be served", None),
        };
        Self {
            status,
            message: message.into(),
            param: None,
            code,
        }
    }
}

/// A JSON document, or frames of a stream.
enum Said {
    Whole(Value),
    Stream(Vec<Vec<u8>>),
}

/// A provider with its cache and its accounting.
pub struct Provider {
    count: Count,
    meter: Box<dyn Meter + Send>,
    pace: Pace,
    served: u64,
    unbound: u64,
}

impl Provider {
    /// A provider that counts tokens with `count` and meters with `meter`.
    pub fn new(count: Count, meter: Box<dyn Meter + Send>) -> Self {
        Self {
            count,
            meter,
            pace: Pace::default(),
            served: 0,
            unbound: 0,
        }
    }

    /// The same provider with streams that take their time.
    #[must_use]
    pub fn paced(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Thinking blocks that came back behind another prefix than the one they are bound to.
    pub const fn unbound(&self) -> u64 {
        self.unbound
    }

    /// Answers one request.
    pub fn answer(&mut self, ask: &Ask<'_>) -> Answer {
        self.served += 1;
        let dialect = ask.dialect();
        let mut answer = match self.say(ask) {
            Ok(Said::Whole(value)) => whole(200, &value),
            Ok(Said::Stream(frames)) => self.stream(frames),
            Err(fault) => self.refuse(dialect, &fault),
        };
        let name = match dialect {
            Dialect::AnthropicMessages => "request-id",
            Dialect::OpenAiChat => "x-request-id",
        };
        answer.headers.push((name, self.request_id()));
        answer
    }

    fn say(&mut self, ask: &Ask<'_>) -> Result<Said, Fault> {
        let Some(key) = ask.key() else {
            let message = "no API key was given; send it as `authorization: Bearer` or `x-api-key`";
            return Err(Fault::new(401, message));
        };
        match (ask.method, ask.route()) {
            ("POST", "/v1/chat/completions") => openai_chat::complete(self, ask, key),
            ("POST", "/v1/embeddings") => embeddings::embed(ask, self.count).map(Said::Whole),
            ("POST", "/v1/messages") => anthropic_messages::create(self, ask, key),
            ("POST", "/v1/messages/count_tokens") => {
                anthropic_messages::count_tokens(ask, self.count).map(Said::Whole)
            }
            ("GET", "/v1/models") => Ok(Said::Whole(model_list(ask.dialect()))),
            ("GET", route) if route.starts_with("/v1/models/") => {
                let model = route.trim_start_matches("/v1/models/");
                if model.starts_with(UNKNOWN_MODEL) {
                    return Err(Fault::unknown_model(model));
                }
                Ok(Said::Whole(model_entry(ask.dialect(), model)))
            }
            (
                method,
                route @ ("/v1/chat/completions"
                | "/v1/embeddings"
                | "/v1/messages"
                | "/v1/models"
                | "/v1/messages/count_tokens"),
            ) => Err(Fault::new(
                405,
                format!("`{method}` is not allowed on {route}"),
            )),
            (method, route) => Err(Fault::new(404, format!("no such path: {method} {route}"))),
        }
    }

    /// Meters the input of a request.
    fn split(&mut self, request: &Request<'_>, organisation: &str, at: Moment) -> Usage {
        let segment_tokens = &meter::segment_tokens(request, self.count);
        self.meter.split(&Metered {
            request,
            segment_tokens,
            organisation,
            at,
        })
    }

    fn stream(&self, frames: Vec<Vec<u8>>) -> Answer {
        let delays = std::iter::once(self.pace.first_frame_ms)
            .chain(std::iter::repeat(self.pace.next_frame_ms));
        let frames = frames.into_iter().zip(delays);
        let frames = frames
            .map(|(bytes, delay_ms)| Frame { bytes, delay_ms })
            .collect();
        Answer {
            status: 200,
            headers: vec![
                ("content-type", "text/event-stream; charset=utf-8".into()),
                ("cache-control", "no-cache".into()),
            ],
            body: Body::Stream(frames),
        }
    }

    fn refuse(&self, dialect: Dialect, fault: &Fault) -> Answer {
        let value = match dialect {
            Dialect::AnthropicMessages => anthropic_messages::error(fault, &self.request_id()),
            Dialect::OpenAiChat => openai_chat::error(fault),
        };
        let mut answer = whole(fault.status, &value);
        if fault.status == 429 {
            answer.headers.push(("retry-after", "1".into()));
        }
        answer
    }

    fn request_id(&self) -> String {
        format!("req_sim_{:08}", self.served)
    }
}

fn whole(status: u16, value: &Value) -> Answer {
    Answer {
        status,
        headers: vec![("content-type", "application/json".into())],
        body: Body::Whole(value.to_string().into_bytes()),
    }
}

/// The body as an object.
fn object(body: &[u8]) -> Result<Value, Fault> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Fault::bad(format!("the body is not valid JSON: {error}")))?;
    if value.is_object() {
        return Ok(value);
    }
    Err(Fault::bad("the body is JSON, but not an object"))
}

/// The same body as the gateway's own reader sees it.
fn read<'a>(dialect: Dialect, ask: &Ask<'a>) -> Result<Request<'a>, Fault> {
    dialect.read(ask.body).map_err(|error| {
        let problem = error.problem();
        Fault {
            status: 400,
            message: problem.message,
            param: problem.param,
            code: None,
        }
    })
}

/// The items of a list; none if it is something else.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn model_list(dialect: Dialect) -> Value {
    let entries = |names: &[&str]| -> Vec<Value> {
        names
            .iter()
            .map(|name| model_entry(dialect, name))
            .collect()
    };
    match dialect {
        Dialect::AnthropicMessages => json!({
            "data": entries(&ANTHROPIC_MODELS),
            "has_more": false,
            "first_id": ANTHROPIC_MODELS.first(),
            "last_id": ANTHROPIC_MODELS.last(),
        }),
        Dialect::OpenAiChat => json!({"object": "list", "data": entries(&OPENAI_MODELS)}),
    }
}

fn model_entry(dialect: Dialect, model: &str) -> Value {
    match dialect {
        Dialect::AnthropicMessages => json!({
            "type": "model",
            "id": model,
            "display_name": model,
            "created_at": "2026-01-01T00:00:00Z",
            "lifecycle": "active",
        }),
        Dialect::OpenAiChat => json!({
            "id": model,
            "object": "model",
            "created": MODEL_CREATED_S,
            "owned_by": "simulation",
        }),
    }
}
