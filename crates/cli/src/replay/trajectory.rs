//! Agent trajectories: a pool of chat messages, and for each step the ranges of it that were sent.
//!
//! Tasks follow one another; within a task, recorded times keep their distances and calls without a
//! time are three seconds apart.
//!
//! **Invariant**: a step's request holds exactly the messages that its ranges name (test `formats_replay` in
//! `replay`).

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use policy::moment::Moment;
use serde::Deserialize;
use serde_json::Value;
use sim::replay::{Call, FIRST_TOKEN_MS, Input};
use wire::dialect::Dialect;
use wire::usage::Tokens;

use super::body::{self, Rendered};
use super::{Player, Recorded};
use crate::tokens::O200k;

/// Between calls without a time, and between tasks.
pub(super) const STEP_MS: u64 = 3_000;

/// Tool schemas beside the folder of the trajectories.
const TOOLS_FILE: &str = "tools.json";

/// One line of such a file.
#[derive(Debug, Deserialize)]
pub(crate) struct Trajectory {
    pub(crate) id: String,
    /// What was to be done; several models and trials may share it.
    #[serde(default)]
    pub(crate) task_id: String,
    /// The model that was recorded.
    #[serde(default)]
    pub(crate) model: String,
    pub(crate) success: Option<bool>,
    tools: Option<String>,
    pub(crate) messages: Vec<Value>,
    pub(crate) steps: Vec<Step>,
}

/// One call: which messages of the pool it sent, and which one answered it.
#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    pub(crate) ctx: Vec<(usize, usize)>,
    reply: Option<usize>,
    ts: Option<f64>,
}

/// Tool schemas by name; empty if there is no file with them.
pub(crate) fn tool_schemas(path: &Path) -> anyhow::Result<HashMap<String, Vec<Value>>> {
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    for folder in [folder.clone(), folder.join("..")] {
        let file = folder.join(TOOLS_FILE);
        if file.is_file() {
            let shown = file.display();
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {shown}"))?;
            return serde_json::from_str(&text).with_context(|| format!("cannot read {shown}"));
        }
    }
    Ok(HashMap::new())
}

/// Plays one line.
pub(super) fn play(
    line: &str,
    schemas: &HashMap<String, Vec<Value>>,
    player: &mut Player<'_>,
) -> anyhow::Result<()> {
    let trajectory: Trajectory = serde_json::from_str(line)?;
    let (dialect, model) = (player.dialect, player.model);
    let mut clock = player.clock;
    trajectory.each_call(schemas, (dialect, model), &mut clock, |call, reply| {
        player.play(call, &reply.map_or_else(String::new, said))
    })?;
    player.clock = clock;
    player.recorded.push(Recorded {
        id: trajectory.id,
        success: trajectory.success,
    });
    Ok(())
}

impl Trajectory {
    /// Visits its calls as a client of this dialect and model would send them, with what was replied;
    /// the clock moves on, past the end of the task.
    pub(crate) fn each_call(
        &self,
        schemas: &HashMap<String, Vec<Value>>,
        (dialect, model): (Dialect, &str),
        clock: &mut Moment,
        mut visit: impl FnMut(&Call<'_>, Option<&Value>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let schemas = self.tools.as_ref().and_then(|name| schemas.get(name));
        let tools = schemas.and_then(|schemas| body::tools(dialect, schemas));
        let rendered: Vec<Rendered> = self
            .messages
            .iter()
            .map(|message| body::render(dialect, message))
            .collect();
        let mut last_ts: Option<f64> = None;
        for (index, step) in self.steps.iter().enumerate() {
            if index > 0 {
                let pause = step
                    .ts
                    .zip(last_ts)
                    .map_or(STEP_MS, |(ts, last)| millis(ts - last));
                // An agent reacts to an answer, so that its next call cannot come before that
                // began; recorded clocks are coarser.
                *clock = clock.after(pause.max(FIRST_TOKEN_MS));
            }
            last_ts = step.ts.or(last_ts);
            let sent: Vec<_> = step
                .ctx
                .iter()
                .flat_map(|(from, to)| rendered.get(*from..*to).unwrap_or_default())
                .collect();
            let bytes = body::body(dialect, model, tools.as_deref(), &sent);
            let reply = step.reply.and_then(|reply| self.messages.get(reply));
            let call = Call {
                task: Some(&self.id),
                at: *clock,
                input: Input::Body {
                    dialect,
                    bytes: bytes.as_bytes(),
                },
                output: Tokens(reply.map_or(0, reply_tokens)),
                session: None,
            };
            visit(&call, reply)?;
        }
        *clock = clock.after(STEP_MS);
        Ok(())
    }
}

/// Whole milliseconds of a pause in seconds; clocks that ran backwards give none.
fn millis(seconds: f64) -> u64 {
    let duration = std::time::Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Tokens of a recorded answer: its text and its calls.
fn reply_tokens(reply: &Value) -> u64 {
    let text = reply["content"].as_str().map_or(0, O200k::count);
    let calls = reply["tool_calls"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let called = calls.iter().map(|call| {
        let part = |name: &str| call["function"][name].as_str().map_or(0, O200k::count);
        part("name") + part("arguments")
    });
    text + called.sum::<u64>()
}

/// What a recorded answer says: its text and the arguments of its calls.
fn said(reply: &Value) -> String {
    let calls = reply["tool_calls"].as_array().map(Vec::as_slice);
    let arguments = calls
        .unwrap_or_default()
        .iter()
        .filter_map(|call| call["function"]["arguments"].as_str());
    let texts = reply["content"].as_str().into_iter().chain(arguments);
    texts.collect::<Vec<_>>().join("\n")
}

/// Where virtual time begins.
pub(crate) const BEGIN: Moment = Moment(0);

/// The dialect in which a provider's requests are written.
pub(crate) fn dialect_of(provider: &str) -> Dialect {
    match provider {
        "anthropic" => Dialect::AnthropicMessages,
        _ => Dialect::OpenAiChat,
    }
}
