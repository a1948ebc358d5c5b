// The official OpenAI SDK for Node: `openai_node.mjs direct|gateway BASE_URL KEY`.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { LONG_TEXT, PIXEL, TIMEOUT_MS, apiKey, baseURL, collected, errorOf, kindOf, run, via } from "./scenario.mjs";

const model = "gpt-5.4";
const client = new OpenAI({ apiKey, baseURL, maxRetries: 0, timeout: TIMEOUT_MS });
const { completions } = client.chat;

const user = (content) => ({ role: "user", content });
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tool = (name) => ({ type: "function", function: { name, description: `The ${name}.`, parameters } });
const failure = (text) => errorOf(OpenAI.APIError, () => completions.create({ model, messages: [user(text)] }));

const scenarios = {
  async chat() {
    const answer = await completions.create({ model, messages: [user("hello")] });
    assert.match(answer.choices[0].message.content, /^You said: hello/);
    return answer;
  },

  async chat_unicode() {
    const answer = await completions.create({ model, messages: [user('naïve 😀 \u2028 "quoted"')], user: "zoë-😀" });
    assert.match(answer.choices[0].message.content, /naïve 😀/);
    return answer;
  },

  async chat_long_prompt() {
    const messages = [{ role: "system", content: LONG_TEXT }, user("first")];
    const first = await completions.create({ model, messages });
    messages.push(first.choices[0].message, user("second"));
    return [first, await completions.create({ model, messages })];
  },

  async stream() {
    const chunks = await collected(completions.create({ model, messages: [user("hello")], stream: true }));
    assert(chunks.every((chunk) => chunk.usage == null), "usage was not asked for");
    assert(chunks.every((chunk) => chunk.choices.length > 0), "a chunk without a choice was not asked for");
    return chunks;
  },

  async stream_usage() {
    const stream_options = { include_usage: true };
    const chunks = await collected(
      completions.create({ model, messages: [user("hello")], stream: true, stream_options }),
    );
    assert(chunks.at(-1).usage.completion_tokens > 0);
    return chunks;
  },

  async stream_helper() {
    const stream = completions.stream({ model, messages: [user("hello")] });
    const deltas = [];
    stream.on("content", (delta) => deltas.push(delta));
    const final = await stream.finalChatCompletion();
    assert.equal(deltas.join(""), final.choices[0].message.content);
    return { deltas, final };
  },

  async tools() {
    const tools = [tool("weather")];
    const messages = [user("tool:weather please")];
    const first = await completions.create({ model, messages, tools });
    const [call] = first.choices[0].message.tool_calls;
    assert.deepEqual([call.function.name, call.function.arguments], ["weather", '{"city":"Paris"}']);
    messages.push(first.choices[0].message, { role: "tool", tool_call_id: call.id, content: "18 degrees" });
    const second = await completions.create({ model, messages, tools });
    assert.equal(second.choices[0].finish_reason, "stop");
    return [first, second];
  },

  async tools_parallel_stream() {
    const tools = [tool("weather"), tool("time")];
    const messages = [user("tools:weather,time please")];
    const chunks = await collected(completions.create({ model, messages, tools, stream: true }));
    const calls = chunks.flatMap((chunk) => chunk.choices.flatMap((choice) => choice.delta.tool_calls ?? []));
    assert.deepEqual(calls.map((call) => call.function.name).filter(Boolean), ["weather", "time"]);
    return chunks;
  },

  async image_base64() {
    const image = { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } };
    return completions.create({ model, messages: [user([image, { type: "text", text: "what is it" }])] });
  },

  async image_url() {
    const image = { type: "image_url", image_url: { url: "https://images.example/a.png", detail: "low" } };
    return completions.create({ model, messages: [user([image, { type: "text", text: "what is it" }])] });
  },

  async embeddings() {
    const answer = await client.embeddings.create({ model: "text-embedding-3-small", input: ["one", "two"] });
    assert.deepEqual(answer.data.map((item) => item.index), [0, 1]);
    return answer;
  },

  async models() {
    const entries = await collected(client.models.list());
    assert(entries.some((entry) => entry.id === model));
    const required = ["id", "object", "created", "owned_by"];
    assert(entries.every((entry) => required.every((field) => field in entry)));
    return { object: entries[0].object }; // The gateway lists what its own providers serve.
  },

  async raw_response() {
    const { data, response } = await completions.create({ model, messages: [user("hello")] }).withResponse();
    assert.equal(response.headers.has("x-tokenwise-call"), via === "gateway");
    return { content_type: response.headers.get("content-type").split(";")[0], parsed: data };
  },

  async error_unknown_model() {
    const messages = [user("hello")];
    return kindOf(await errorOf(OpenAI.APIError, () => completions.create({ model: "no-such-model", messages })));
  },

  async error_missing_messages() {
    return kindOf(await errorOf(OpenAI.BadRequestError, () => completions.create({ model })));
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
};

// The simulator lets any key in.
if (via === "gateway") {
  scenarios.error_wrong_key = async () => {
    const stranger = client.withOptions({ apiKey: "tw-wrong" });
    const call = () => stranger.chat.completions.create({ model, messages: [user("hello")] });
    const error = await errorOf(OpenAI.AuthenticationError, call);
    assert(error.body.message);
    return kindOf(error);
  };
}

await run(scenarios);
