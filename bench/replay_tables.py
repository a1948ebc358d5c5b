#!/usr/bin/env python3
"""Replays a folder of recorded traffic at several models and prints the tables of docs/measured.md and docs/trim.md.

    python3 bench/replay_tables.py FOLDER            the cache lever; FOLDER holds agents/*.jsonl.gz
    python3 bench/replay_tables.py FOLDER --trim     the trim lever; FOLDER holds longctx/agent_provenance.jsonl.gz, too

Needs the release binary (`cargo build --release`). Offline; standard library only."""
import json, pathlib, subprocess, sys

BINARY = pathlib.Path(__file__).resolve().parent.parent / "target" / "release" / "tokenwise"
MODELS = ["claude-sonnet-4-6", "claude-opus-5-5", "claude-haiku-4-5", "gpt-5.6-terra", "gpt-5.4"]
TRIM_MODELS = ["claude-sonnet-4-6", "claude-opus-5-5", "claude-haiku-4-5", "gemini-2.5-pro", "gpt-5"]
USD = 10**12


def replay(path, model, *more):
    run = subprocess.run([BINARY, "replay", path, "--model", model, "--json", *more], capture_output=True, text=True, check=True)
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


def kept(part):
    return f"{100 * part['kept'] / part['all']:.2f}" if part["all"] else "none recorded"


def trim_row(name, exact, folded):
    dearest = [f"{100 * (r['worst_long_task_ratio'] - 1):+.2f} %, {r['long_tasks_over_1_percent_dearer']} of {r['long_tasks']}" for r in (exact, folded)]
    return (f"| {name} | {exact['percent_saved']:.2f} | {dearest[0]} | {folded['percent_saved']:.2f} | {dearest[1]} | {kept(folded['values_needed'])} "
            f"| {kept(exact['words_cited'])} | {kept(folded['words_cited'])} | {kept(folded['paths_cited_whole'])} |")


def trim_tables(folder):
    evidence = ["--evidence", folder / "longctx" / "agent_provenance.jsonl.gz"]
    for model in TRIM_MODELS:
        print(f"### {model}\n")
        print("| file | exact, % | dearest; over 1 % | folded, % | dearest; over 1 % | values kept, folded, % | words kept, exact, % | folded, % | paths whole, folded, % |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for path in sorted((folder / "agents").glob("*.jsonl.gz")):
            levels = (replay(path, model, "--trim", level, *evidence)["trimmed"] for level in ("exact", "folded"))
            print(trim_row(path.name.split(".")[0], *levels), flush=True)
        print()


def main():
    folder = pathlib.Path(sys.argv[1])
    if "--trim" in sys.argv[2:]:
        return trim_tables(folder)
    for model in MODELS:
        print(f"### {model}\n")
        print("| file | calls | untouched $ | with the lever $ | ideal $ | saved | of the ideal's saving | $ a task | $ a success | worst task of ≥ 3 calls | of those > 101 % | shorter ones above 100 % |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for path in sorted((folder / "agents").glob("*.jsonl.gz")):
            print(row(path.name.split(".")[0], replay(path, model)), flush=True)
        print()


if __name__ == "__main__":
    main()
