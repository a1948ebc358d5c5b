// The official Anthropic SDK for Node: `anthropic_node.mjs direct|gateway BASE_URL KEY`.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { LONG_TEXT, PIXEL, TIMEOUT_MS, apiKey, baseURL, collected, errorOf, kindOf, run, via } from "./scenario.mjs";

const model = "claude-sonnet-4-6";
const client = new Anthropic({ apiKey, baseURL, maxRetries: 0, timeout: TIMEOUT_MS });
const { messages } = client;
const thinking = { type: "enabled", budget_tokens: 1024 };

const user = (content) => ({ role: "user", content });
const ask = (content, more = {}) => ({ model, max_tokens: 2048, messages: [user(content)], ...more });
const input_schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tool = (name) => ({ name, description: `The ${name}.`, input_schema });
const failure = (text) => errorOf(Anthropic.APIError, () => messages.create(ask(text)));

const scenarios = {
  async chat() {
    const answer = await messages.create(ask("hello"));
    assert.match(answer.content[0].text, /^You said: hello/);
    return answer;
  },

  async chat_unicode() {
    const answer = await messages.create(ask('naïve 😀 \u2028 "quoted"', { metadata: { user_id: "zoë-😀" } }));
    assert.match(answer.content[0].text, /naïve 😀/);
    return answer;
  },

  async chat_long_prompt() {
    const first = await messages.create(ask("first", { system: LONG_TEXT }));
    const turns = [user("first"), { role: "assistant", content: first.content }, user("second")];
    return [first, await messages.create(ask("", { system: LONG_TEXT, messages: turns }))];
  },

  async stream() {
    const events = await collected(messages.create(ask("hello", { stream: true })));
    assert.deepEqual([events[0].type, events.at(-1).type], ["message_start", "message_stop"]);
    return events;
  },

  async stream_helper() {
    const stream = messages.stream(ask("hello"));
    const deltas = [];
    stream.on("text", (delta) => deltas.push(delta));
    const final = await stream.finalMessage();
    assert.equal(deltas.join(""), final.content[0].text);
    return { deltas, final };
  },

  async tools() {
    const tools = [tool("weather")];
    const first = await messages.create(ask("tool:weather please", { tools }));
    const call = first.content.find((block) => block.type === "tool_use");
    assert.deepEqual([call.name, call.input, first.stop_reason], ["weather", { city: "Paris" }, "tool_use"]);
    const result = { type: "tool_result", tool_use_id: call.id, content: "18 degrees" };
    const turns = [user("tool:weather please"), { role: "assistant", content: first.content }, user([result])];
    const second = await messages.create(ask("", { tools, messages: turns }));
    assert.equal(second.stop_reason, "end_turn");
    return [first, second];
  },

  async tools_parallel_stream() {
    const tools = [tool("weather"), tool("time")];
    const stream = messages.stream(ask("tools:weather,time please", { tools }));
    const events = await collected(stream);
    const final = await stream.finalMessage();
    const names = final.content.filter((block) => block.type === "tool_use").map((block) => block.name);
    assert.deepEqual(names, ["weather", "time"]);
    return { kinds: events.map((event) => event.type), final };
  },

  async image_base64() {
    const image = { type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } };
    return messages.create(ask([image, { type: "text", text: "what is it" }]));
  },

  async image_url() {
    const image = { type: "image", source: { type: "url", url: "https://images.example/a.png" } };
    return messages.create(ask([image, { type: "text", text: "what is it" }]));
  },

  async thinking() {
    const first = await messages.create(ask("think", { thinking }));
    assert.equal(first.content[0].type, "thinking");
    assert(first.content[0].signature);
    const turns = [user("think"), { role: "assistant", content: first.content }, user("again")];
    return [first, await messages.create(ask("", { thinking, messages: turns }))];
  },

  async thinking_stream() {
    const events = await collected(messages.create(ask("think", { thinking, stream: true })));
    const deltas = events.filter((event) => event.type === "content_block_delta").map((event) => event.delta.type);
    assert(deltas.includes("thinking_delta") && deltas.includes("signature_delta"), deltas.join());
    return events;
  },

  async cache_control() {
    const system = [{ type: "text", text: LONG_TEXT, cache_control: { type: "ephemeral", ttl: "1h" } }];
    const text = [{ type: "text", text: "hello", cache_control: { type: "ephemeral" } }];
    const answers = [await messages.create(ask(text, { system })), await messages.create(ask(text, { system }))];
    assert(answers[1].usage.cache_read_input_tokens > 0);
    return answers;
  },

  async count_tokens() {
    const answer = await messages.countTokens({ model, messages: [user("hello")], system: LONG_TEXT });
    assert(answer.input_tokens > 0);
    return answer;
  },

  async models() {
    const entries = await collected(client.models.list());
    assert(entries.some((entry) => entry.id === model));
    const required = ["id", "type", "display_name", "created_at"];
    assert(entries.every((entry) => required.every((field) => field in entry)));
    return { type: entries[0].type }; // The gateway lists what its own providers serve.
  },

  async raw_response() {
    const { data, response } = await messages.create(ask("hello")).withResponse();
    assert.equal(response.headers.has("x-tokenwise-call"), via === "gateway");
    return { content_type: response.headers.get("content-type").split(";")[0], parsed: data };
  },

  async error_unknown_model() {
    return kindOf(await errorOf(Anthropic.APIError, () => messages.create(ask("hello", { model: "no-such-model" }))));
  },

  async error_missing_messages() {
    const nothing = ask("", { messages: undefined });
    return kindOf(await errorOf(Anthropic.BadRequestError, () => messages.create(nothing)));
  },

  async error_rate_limit() {
    const error = await failure("error:429");
    assert.deepEqual([error.class, error.retry_after], ["RateLimitError", "1"]);
    return error;
  },

  async error_server() {
    const error = await failure("error:500");
    assert.equal(error.class, "InternalServerError");
    return error;
  },

  async error_overloaded() {
    const error = await failure("error:529");
    assert.deepEqual([error.status, error.body.error.type], [529, "overloaded_error"]);
    return error;
  },
};

// The simulator lets any key in.
if (via === "gateway") {
  scenarios.error_wrong_key = async () => {
    const stranger = client.withOptions({ apiKey: "tw-wrong" });
    const error = await errorOf(Anthropic.AuthenticationError, () => stranger.messages.create(ask("hello")));
    assert.equal(error.body.error.type, "authentication_error");
    return kindOf(error);
  };
}

await run(scenarios);
