// opencode, a coding agent on the AI SDK's OpenAI-compatible provider: `opencode.mjs direct|gateway BASE_URL KEY`.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { agent } from "./agent.mjs";
import { apiKey, baseURL, run } from "./scenario.mjs";

// No list of models and no update is fetched from its makers.
const { folder, read } = agent("opencode", { OPENCODE_DISABLE_MODELS_FETCH: "1" });

const provider = {
  npm: "@ai-sdk/openai-compatible",
  options: { baseURL, apiKey },
  models: { "gpt-5.4": {}, "gpt-5.4-mini": {} },
};
const settings = { model: "its/gpt-5.4", small_model: "its/gpt-5.4-mini", autoupdate: false, share: "disabled" };
writeFileSync(join(folder, "opencode.json"), JSON.stringify({ ...settings, provider: { its: provider } }));

const ask = async (prompt) => {
  const { status, text } = await read(prompt, "run");
  return { status, text };
};

const scenarios = {
  async answer() {
    const task = await ask("hello");
    assert.deepEqual([task.status, task.text.trim()], [0, "You said: hello"]);
    return task;
  },

  async runs_a_command() {
    const command = { command: "echo made by the agent > made.txt", description: "Makes a file" };
    const task = await ask(`tool:bash ${JSON.stringify(command)}`);
    assert.equal(readFileSync(join(folder, "made.txt"), "utf8"), "made by the agent\n");
    assert.equal(task.status, 0);
    return task;
  },
};

await run(scenarios);
