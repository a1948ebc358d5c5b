// Runs the scenarios of one SDK and prints what it parsed, one JSON line each.
//
// A scenario is a function whose result can be dumped as JSON. It asserts what must hold on any
// path; `compare.py` then asserts that both paths agree.

import process from "node:process";

// A one-pixel PNG.
export const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

// About 3 000 tokens: longer than the least that any provider caches, so that markers are placed.
export const LONG_TEXT = Array.from(
  { length: 250 },
  (_, n) => `Rule ${n}: answer in one sentence and name the source.`,
).join("\n");

// Longer than any scenario takes; a hanging stream fails instead of holding up the run.
export const TIMEOUT_MS = 20_000;

// The path that is taken, the base URL and the key.
export const [via, baseURL, apiKey] = process.argv.slice(2);

// Collects the events of a stream.
export async function collected(stream) {
  const events = [];
  for await (const event of await stream) events.push(event);
  return events;
}

// The typed exception that a call raises.
export async function errorOf(statusError, call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof statusError)) throw error;
    const { status, error: body } = error;
    return { class: error.constructor.name, status, body, retry_after: error.headers.get("retry-after") };
  }
  throw new Error("no error was raised");
}

// What must be equal when the gateway may answer in its own words.
export const kindOf = ({ class: name, status }) => ({ class: name, status });

// Runs each scenario and prints its result or its trace.
export async function run(scenarios) {
  for (const [scenario, act] of Object.entries(scenarios)) {
    let line;
    try {
      line = { scenario, result: await act() };
    } catch (error) {
      // The next scenario may still work.
      line = { scenario, failure: String(error.stack ?? error) };
    }
    process.stdout.write(`${JSON.stringify(line)}\n`);
  }
}
