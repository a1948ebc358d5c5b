//! The demo's own traffic: agents with instructions, tools and growing conversations, and one-shot
//! calls; both dialects, streamed and not.
//!
//! **Invariant**: each call of a session repeats the call before it and adds to its end (test
//! `conversations_only_grow`).

use serde_json::{Value, json};
use wire::dialect::Dialect;

use super::prose::Draw;

/// The seed of everything: two runs send the same bytes.
const SEED: u64 = 20_261_124;

/// Words of each simulated answer, as `sim::provider::script` reads it.
const ANSWER: &str = "(words:70)";

/// A user speaks again after this many tool calls.
const CALLS_PER_QUESTION: usize = 5;

/// Every seventh call of a coding agent reads again what the last one read: of recorded ones, between
/// 1 and 19 in 100 repeat a call and get the same result.
const READ_AGAIN_EVERY: usize = 7;

/// One request, ready to send.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// How it is written.
    pub(crate) dialect: Dialect,
    /// The task that it names.
    pub(crate) task: String,
    /// Its body.
    pub(crate) body: String,
}

/// Whether an agent marks its own prompt for the provider's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marks {
    None,
    Own,
}

/// What an agent's tools answer with.
#[derive(Clone, Copy, Debug)]
enum Results {
    Records,
    Code,
}

/// An agent: what is the same in all its sessions.
#[derive(Clone, Copy, Debug)]
struct Agent {
    name: &'static str,
    dialect: Dialect,
    model: &'static str,
    streamed: bool,
    marks: Marks,
    sessions: usize,
    turns: usize,
    instruction_tokens: usize,
    tools: usize,
    results: Results,
    result_tokens: (usize, usize),
}

const AGENTS: [Agent; 4] = [
    Agent {
        name: "support",
        dialect: Dialect::AnthropicMessages,
        model: "claude-sonnet-4-6",
        streamed: false,
        marks: Marks::None,
        sessions: 4,
        turns: 14,
        instruction_tokens: 2_200,
        tools: 14,
        results: Results::Records,
        result_tokens: (120, 900),
    },
    Agent {
        name: "coder",
        dialect: Dialect::AnthropicMessages,
        model: "claude-opus-5-5",
        streamed: true,
        marks: Marks::None,
        sessions: 2,
        turns: 30,
        instruction_tokens: 3_500,
        tools: 18,
        results: Results::Code,
        result_tokens: (300, 3_000),
    },
    Agent {
        name: "marker",
        dialect: Dialect::AnthropicMessages,
        model: "claude-sonnet-4-6",
        streamed: true,
        marks: Marks::Own,
        sessions: 1,
        turns: 16,
        instruction_tokens: 3_000,
        tools: 16,
        results: Results::Code,
        result_tokens: (300, 1_500),
    },
    Agent {
        name: "analyst",
        dialect: Dialect::OpenAiChat,
        model: "gpt-5.6-terra",
        streamed: true,
        marks: Marks::None,
        sessions: 3,
        turns: 16,
        instruction_tokens: 2_500,
        tools: 10,
        results: Results::Records,
        result_tokens: (200, 1_600),
    },
];

/// One-shot calls: the same instruction, another text each time.
#[derive(Clone, Copy, Debug)]
struct Batch {
    name: &'static str,
    dialect: Dialect,
    model: &'static str,
    calls: usize,
    instruction_tokens: usize,
    text_tokens: usize,
}

const BATCHES: [Batch; 2] = [
    Batch {
        name: "classify",
        dialect: Dialect::OpenAiChat,
        model: "gpt-5.6-terra",
        calls: 24,
        // Below the smallest prefix that is cached: each of these writes nothing that is read.
        instruction_tokens: 500,
        text_tokens: 1_200,
    },
    Batch {
        name: "triage",
        dialect: Dialect::AnthropicMessages,
        model: "claude-haiku-4-5",
        calls: 24,
        instruction_tokens: 6_000,
        text_tokens: 400,
    },
];

/// The whole workload, sessions side by side as they would arrive.
pub(crate) fn workload() -> Vec<Request> {
    let mut lanes: Vec<std::vec::IntoIter<Request>> = Vec::new();
    let mut draw = Draw::new(SEED);
    for agent in &AGENTS {
        let shared = Shared::new(agent, &mut draw);
        for session in 1..=agent.sessions {
            lanes.push(shared.session(session, &mut draw).into_iter());
        }
    }
    for batch in &BATCHES {
        lanes.push(one_shots(batch, &mut draw).into_iter());
    }
    let mut requests = Vec::new();
    loop {
        let before = requests.len();
        requests.extend(lanes.iter_mut().filter_map(Iterator::next));
        if requests.len() == before {
            return requests;
        }
    }
}

/// Conversations of the support agent alone, one after the other, in a dialect.
pub(crate) fn support(dialect: Dialect, sessions: usize) -> Vec<Request> {
    let mut draw = Draw::new(SEED);
    let [support, ..] = AGENTS;
    let agent = Agent { dialect, ..support };
    let shared = Shared::new(&agent, &mut draw);
    (1..=sessions)
        .flat_map(|session| shared.session(session, &mut draw))
        .collect()
}

/// What an agent sends with every call.
struct Shared<'a> {
    agent: &'a Agent,
    instruction: String,
    tools: Vec<Value>,
}

impl<'a> Shared<'a> {
    fn new(agent: &'a Agent, draw: &mut Draw) -> Self {
        let instruction = draw.prose(agent.instruction_tokens);
        let tools = (0..agent.tools)
            .map(|index| tool(agent.dialect, index, draw))
            .collect();
        Self {
            agent,
            instruction,
            tools,
        }
    }

    /// All calls of one session.
    fn session(&self, number: usize, draw: &mut Draw) -> Vec<Request> {
        let agent = self.agent;
        let mut messages = vec![user(&format!("{}{ANSWER}", draw.prose(60)))];
        let mut requests = Vec::with_capacity(agent.turns);
        let mut files = Vec::new();
        for turn in 0..agent.turns {
            requests.push(Request {
                dialect: agent.dialect,
                task: format!("{}-{number}", agent.name),
                body: self.body(&messages).to_string(),
            });
            if turn % CALLS_PER_QUESTION == CALLS_PER_QUESTION - 1 {
                messages.push(json!({"role": "assistant", "content": draw.prose(90)}));
                messages.push(user(&format!("{}{ANSWER}", draw.prose(40))));
            } else {
                let result = self.result(turn, draw, &mut files);
                self.tool_call((turn, result), draw, &mut messages);
            }
        }
        requests
    }

    /// What a tool answers with: what it finds, or a file, now and then one that was read before.
    fn result(&self, turn: usize, draw: &mut Draw, files: &mut Vec<String>) -> String {
        let (low, high) = self.agent.result_tokens;
        let tokens = draw.between(low, high);
        match (self.agent.results, files.first()) {
            (Results::Records, _) => draw.records(tokens),
            (Results::Code, Some(file)) if turn % READ_AGAIN_EVERY == READ_AGAIN_EVERY - 1 => {
                file.clone()
            }
            (Results::Code, _) => {
                let file = draw.code(tokens);
                files.insert(0, file.clone());
                file
            }
        }
    }

    /// A tool call and its result, as the dialect writes them.
    fn tool_call(
        &self,
        (turn, result): (usize, String),
        draw: &mut Draw,
        messages: &mut Vec<Value>,
    ) {
        let (id, name) = (
            format!("call_{turn:04}"),
            tool_name(turn % self.agent.tools),
        );
        let input = json!({"query": draw.prose(12)});
        match self.agent.dialect {
            Dialect::AnthropicMessages => {
                messages.push(json!({"role": "assistant", "content": [
                    {"type": "text", "text": draw.prose(30)},
                    {"type": "tool_use", "id": id, "name": name, "input": input},
                ]}));
                messages.push(json!({"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": id, "content": result},
                ]}));
            }
            Dialect::OpenAiChat => {
                messages.push(
                    json!({"role": "assistant", "content": draw.prose(30), "tool_calls": [
                        {"id": id, "type": "function",
                         "function": {"name": name, "arguments": input.to_string()}},
                    ]}),
                );
                messages.push(json!({"role": "tool", "tool_call_id": id, "content": result}));
            }
        }
    }

    fn body(&self, messages: &[Value]) -> Value {
        let agent = self.agent;
        let mut body = request(agent.dialect, agent.model, &self.instruction, messages);
        body["tools"] = self.tools.clone().into();
        if agent.streamed {
            body["stream"] = true.into();
        }
        if agent.marks == Marks::Own {
            mark(&mut body);
        }
        body
    }
}

/// The markers of an agent that looks after its own cache: behind the instruction, and behind the
/// last message.
fn mark(body: &mut Value) {
    let marker = json!({"type": "ephemeral"});
    body["system"][0]["cache_control"] = marker.clone();
    let last = body["messages"]
        .as_array_mut()
        .and_then(|messages| messages.last_mut());
    let Some(last) = last else { return };
    if let Some(text) = last["content"].as_str() {
        last["content"] = json!([{"type": "text", "text": text}]);
    }
    let block = last["content"]
        .as_array_mut()
        .and_then(|blocks| blocks.last_mut());
    if let Some(block) = block {
        block["cache_control"] = marker;
    }
}

fn one_shots(batch: &Batch, draw: &mut Draw) -> Vec<Request> {
    let instruction = draw.prose(batch.instruction_tokens);
    let requests = (0..batch.calls).map(|_| {
        let messages = [user(&format!("{}(words:3)", draw.prose(batch.text_tokens)))];
        let body = request(batch.dialect, batch.model, &instruction, &messages);
        Request {
            dialect: batch.dialect,
            task: batch.name.to_owned(),
            body: body.to_string(),
        }
    });
    requests.collect()
}

fn request(dialect: Dialect, model: &str, instruction: &str, messages: &[Value]) -> Value {
    match dialect {
        Dialect::AnthropicMessages => json!({
            "model": model,
            "max_tokens": 4_096,
            "system": [{"type": "text", "text": instruction}],
            "messages": messages,
        }),
        Dialect::OpenAiChat => {
            let mut all = vec![json!({"role": "system", "content": instruction})];
            all.extend_from_slice(messages);
            json!({"model": model, "messages": all})
        }
    }
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn tool_name(index: usize) -> String {
    format!("tool_{index:02}")
}

fn tool(dialect: Dialect, index: usize, draw: &mut Draw) -> Value {
    let (name, description) = (tool_name(index), draw.prose(60));
    let schema = json!({"type": "object", "properties": {
        "query": {"type": "string", "description": draw.prose(15)},
        (draw.name()): {"type": "integer", "description": draw.prose(15)},
    }});
    match dialect {
        Dialect::AnthropicMessages => {
            json!({"name": name, "description": description, "input_schema": schema})
        }
        Dialect::OpenAiChat => json!({"type": "function", "function": {
            "name": name, "description": description, "parameters": schema,
        }}),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn conversations_only_grow() {
        let mut latest: HashMap<String, Value> = HashMap::new();
        let mut grown = 0;
        for request in workload() {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            if request.task.starts_with("marker") || !request.task.contains('-') {
                continue;
            }
            if let Some(before) = latest.get(&request.task) {
                assert_eq!(before["tools"], body["tools"]);
                let (before, now) = (&before["messages"], &body["messages"]);
                let (before, now) = (before.as_array().unwrap(), now.as_array().unwrap());
                assert!(
                    now.len() > before.len() && now.starts_with(before),
                    "{}",
                    request.task
                );
                grown += 1;
            }
            latest.insert(request.task, body);
        }
        assert!(grown > 100, "{grown}");
    }

    #[test]
    fn two_runs_send_the_same_bytes() {
        let (one, two) = (workload(), workload());
        assert_eq!(one.len(), two.len());
        assert!(one.iter().zip(&two).all(|(one, two)| one.body == two.body));
    }
}
