//! The demo's client: plain HTTP calls to the gateway, answers read to the end.
//!
//! **Invariant**: an answer that is not whole is a failure, never a figure (test
//! `whole_answers_are_told_from_cut_ones`).

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use gateway::receive::names::TASK_HEADER;
use http::{Request as HttpRequest, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use wire::dialect::Dialect;

use super::workload::Request;

/// What the simulated providers are paid with; they take any key.
const KEY: &str = "sk-demo";

/// Sends requests to one gateway.
pub(super) struct Driver {
    client: Client<HttpConnector, Full<Bytes>>,
    gateway: SocketAddr,
}

impl Driver {
    /// A driver of the gateway at this address.
    pub(super) fn new(gateway: SocketAddr) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            gateway,
        }
    }

    /// Sends one request and reads its answer to the end.
    pub(super) async fn send(&self, request: Request) -> anyhow::Result<()> {
        let (path, header, value) = match request.dialect {
            Dialect::AnthropicMessages => ("/v1/messages", "x-api-key", KEY.to_owned()),
            Dialect::OpenAiChat => (
                "/v1/chat/completions",
                "authorization",
                format!("Bearer {KEY}"),
            ),
        };
        let call = HttpRequest::post(format!("http://{}{path}", self.gateway))
            .header("content-type", "application/json")
            .header("anthropic-version", "2023-06-01")
            .header(header, value)
            .header(TASK_HEADER, &request.task)
            .body(Full::new(Bytes::from(request.body)))
            .context("a request of the demo cannot be written")?;
        let answer = self
            .client
            .request(call)
            .await
            .context("the gateway cannot be called")?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .context("an answer broke off")?
            .to_bytes();
        let text = String::from_utf8_lossy(&body);
        if status != StatusCode::OK {
            bail!(
                "a call of {} was answered with {status}: {text}",
                request.task
            );
        }
        if !is_whole(&text) {
            bail!("an answer to {} is not whole", request.task);
        }
        Ok(())
    }
}

/// Whether an answer came to its end: a JSON document, or a stream with its last event.
fn is_whole(text: &str) -> bool {
    let text = text.trim_end();
    text.ends_with('}') && text.starts_with('{')
        || text.ends_with("data: [DONE]")
        || text
            .rsplit("\n\n")
            .next()
            .is_some_and(|event| event.contains("message_stop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_told_from_cut_ones() {
        for (text, expect) in [
            ("{\"a\":1}", true),
            ("{\"a\":", false),
            ("data: {}\n\ndata: [DONE]\n\n", true),
            ("data: {}\n\n", false),
            (
                "event: a\ndata: {}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
                true,
            ),
            ("event: a\ndata: {}\n\n", false),
            ("", false),
        ] {
            assert_eq!(is_whole(text), expect, "{text}");
        }
    }
}
