// Qwen Code, a coding agent that speaks OpenAI's chat completions: `qwen_code.mjs direct|gateway BASE_URL KEY`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { agent } from "./agent.mjs";
import { apiKey, baseURL, run } from "./scenario.mjs";

const { folder, run: qwen } = agent("qwen", {
  OPENAI_BASE_URL: baseURL,
  OPENAI_API_KEY: apiKey,
  OPENAI_MODEL: "gpt-5.4",
});

const ask = async (prompt) => {
  const { status, text } = await qwen("--auth-type", "openai", "--yolo", "-p", prompt);
  return { status, text };
};

const scenarios = {
  async answer() {
    const task = await ask("hello");
    assert.deepEqual([task.status, task.text.trim()], [0, "You said: hello"]);
    return task;
  },

  async runs_a_command() {
    const command = { command: "echo made by the agent > made.txt", is_background: false };
    const task = await ask(`tool:run_shell_command ${JSON.stringify(command)}`);
    assert.equal(readFileSync(join(folder, "made.txt"), "utf8"), "made by the agent\n");
    assert.equal(task.status, 0);
    return task;
  },
};

await run(scenarios);
