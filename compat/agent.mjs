// Runs a coding agent's command line as its users do, in a home and a folder of its own.

import { spawn } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

// An agent takes a second or two to start; beyond this it hangs.
const TIMEOUT_MS = 60_000;

// An agent by the name of its command, with the settings that it reads from the environment.
export function agent(command, settings) {
  const place = join(here, "agents", command);
  const [home, folder] = [join(place, "home"), join(place, "folder")];
  rmSync(place, { recursive: true, force: true });
  for (const path of [home, folder]) mkdirSync(path, { recursive: true });
  // Nothing of whoever runs this: no keys, no settings, no sessions.
  const env = { PATH: process.env.PATH, HOME: home, ...settings };
  const started = (words, input) =>
    new Promise((resolve, reject) => {
      const binary = join(here, "node_modules", ".bin", command);
      const stdio = [input === undefined ? "ignore" : "pipe", "pipe", "pipe"];
      const child = spawn(binary, words, { cwd: folder, env, stdio, timeout: TIMEOUT_MS });
      child.stdin?.end(input);
      const [out, err] = [[], []];
      child.stdout.on("data", (piece) => out.push(piece));
      child.stderr.on("data", (piece) => err.push(piece));
      child.on("error", reject);
      child.on("close", (status, signal) => {
        const [text, said] = [out, err].map((pieces) => Buffer.concat(pieces).toString());
        if (signal) reject(new Error(`${command} was ended by ${signal}: ${text}${said}`));
        else resolve({ status, text, said });
      });
    });
  const run = (...words) => started(words);
  // With a prompt on its standard input.
  const read = (input, ...words) => started(words, input);
  return { folder, run, read };
}
