#!/usr/bin/env python3
"""Replays a folder of recorded traffic at several models and prints the tables of docs/measured.md.

    python3 bench/replay_tables.py FOLDER            FOLDER holds agents/*.jsonl.gz and serving/*.jsonl.gz

Needs the release binary (`cargo build --release`). Offline; standard library only."""
import json, pathlib, subprocess, sys

BINARY = pathlib.Path(__file__).resolve().parent.parent / "target" / "release" / "tokenwise"
MODELS = ["claude-sonnet-4-6", "claude-opus-5-5", "claude-haiku-4-5", "gpt-5.6-terra", "gpt-5.4"]
USD = 10**12


def replay(path, model):
    run = subprocess.run([BINARY, "replay", path, "--model", model, "--json"], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def row(name, r):
    untouched, policy, ideal = (r[k] / USD for k in ("untouched_pico_usd", "policy_pico_usd", "ideal_cache_pico_usd"))
    possible, saved = untouched - ideal, untouched - policy
    share = f"{100 * saved / possible:.2f} %" if possible > 0 else "–"
    success = r["tasks_succeeded"]
    each = f"{policy / success:.4f}" if success else "–"
    worst = r["worst_long_task"]
    ratio = f"{100 * worst['ratio']:.1f} %" if worst else "–"
    dearer = f"{r['short_tasks_dearer']} (${r['short_tasks_extra_pico_usd'] / USD:.3f})"
    return (f"| {name} | {r['calls']} | {untouched:.2f} | {policy:.2f} | {ideal:.2f} | {100 * saved / untouched:.1f} % | {share} "
            f"| {policy / r['tasks']:.4f} | {each} | {ratio} | {r['long_tasks_over_1_percent_dearer']} | {dearer} |")


def main():
    folder = pathlib.Path(sys.argv[1])
    for model in MODELS:
        print(f"### {model}\n")
        print("| file | calls | untouched $ | with the lever $ | ideal $ | saved | of the ideal's saving | $ a task | $ a success | worst task of ≥ 3 calls | of those > 101 % | shorter ones above 100 % |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for path in sorted((folder / "agents").glob("*.jsonl.gz")):
            print(row(path.name.split(".")[0], replay(path, model)), flush=True)
        print()


if __name__ == "__main__":
    main()
