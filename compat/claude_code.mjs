// Claude Code: `claude_code.mjs direct|gateway BASE_URL KEY`.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { agent } from "./agent.mjs";
import { apiKey, baseURL, run } from "./scenario.mjs";

const { folder, run: claude } = agent("claude", {
  ANTHROPIC_BASE_URL: baseURL,
  ANTHROPIC_API_KEY: apiKey,
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
});

const options = ["--model", "claude-sonnet-4-6", "--allowedTools", "Bash,Read,Edit"];

// What is said of a whole task; times, ids and prices are left out.
function outcome({ status, text }) {
  const { result, is_error, num_turns, stop_reason, api_error_status, permission_denials, usage } = JSON.parse(text);
  return { status, result, is_error, num_turns, stop_reason, api_error_status, permission_denials, usage };
}

const ask = async (prompt, ...more) => outcome(await claude("-p", prompt, ...options, "--output-format", "json", ...more));
const call = (name, input) => `tool:${name} ${JSON.stringify(input)}`;

const scenarios = {
  async answer() {
    const task = await ask("hello");
    assert.deepEqual([task.result, task.is_error, task.num_turns], ["You said: hello", false, 1]);
    return task;
  },

  async runs_a_command() {
    const made = join(folder, "made.txt");
    const task = await ask(call("Bash", { command: "echo made by the agent > made.txt", description: "Makes a file" }));
    assert.equal(readFileSync(made, "utf8"), "made by the agent\n");
    assert.deepEqual([task.is_error, task.num_turns], [false, 2]);
    return task;
  },

  async edits_a_file() {
    const path = join(folder, "kept.txt");
    writeFileSync(path, "one\n");
    await ask(call("Read", { file_path: path }));
    const edit = { file_path: path, old_string: "one", new_string: "zwei 😀" };
    const task = await ask(call("Edit", edit), "--continue");
    assert.equal(readFileSync(path, "utf8"), "zwei 😀\n");
    return task;
  },

  async goes_on_with_its_session() {
    const turns = [await ask("the first turn")];
    for (const turn of ["second", "third"]) turns.push(await ask(`the ${turn} turn`, "--continue"));
    assert.deepEqual(turns.map((task) => task.result), ["first", "second", "third"].map((n) => `You said: the ${n} turn`));
    return turns;
  },

  // Every event of the stream, thinking included, as the agent passes it on.
  async streams() {
    const more = ["--output-format", "stream-json", "--include-partial-messages", "--verbose"];
    const { text } = await claude("-p", call("Bash", { command: "true", description: "Nothing" }), ...options, ...more);
    const lines = text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
    const events = lines.filter((line) => line.type === "stream_event").map((line) => line.event);
    const kinds = new Set(events.map(({ delta }) => delta?.type).filter(Boolean));
    assert.deepEqual([...kinds].sort(), ["input_json_delta", "signature_delta", "text_delta", "thinking_delta"]);
    return events;
  },

  async told_of_a_bad_request() {
    const task = await ask("error:400");
    assert.deepEqual([task.is_error, task.api_error_status], [true, 400]);
    return task;
  },
};

await run(scenarios);
