"""Compares what an SDK parsed straight from the provider with what it parsed through the gateway.

`compare.py FOLDER NAME…` reads `NAME.direct.jsonl` and `NAME.gateway.jsonl`, prints a line for each
scenario, and fails if any differs, failed on either path, or is missing on one.

Ids and times differ from call to call and are blanked. The gateway may add cache markers, so the
classes of input tokens may differ while their sum may not.
"""

import json
import pathlib
import sys

# Ids and times of one call; everything else must be equal.
VOLATILE = {
    "_request_id",
    "created",
    "id",
    "request_id",
    "requestID",
    "system_fingerprint",
    "tool_call_id",
    "tool_use_id",
}
INPUT_CLASSES = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "prompt_tokens")
OUTPUT_CLASSES = ("output_tokens", "completion_tokens")


def totals(usage):
    """Usage as its sums: the classes of OpenAI's prompt tokens are parts of them already."""
    return {
        "input": sum(usage.get(name) or 0 for name in INPUT_CLASSES),
        "output": sum(usage.get(name) or 0 for name in OUTPUT_CLASSES),
    }


def blanked(value, name=""):
    """The value without what may differ."""
    if isinstance(value, list):
        return [blanked(item) for item in value]
    if not isinstance(value, dict):
        return "(volatile)" if name in VOLATILE and value is not None else value
    if name == "usage":
        return totals(value)
    # A provider that was asked for usage says `"usage":null` on every other chunk.
    kept = {key: item for key, item in value.items() if not (key == "usage" and item is None)}
    return {key: blanked(item, key) for key, item in kept.items()}


def read(path):
    """The lines of a driver, by scenario."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return {line["scenario"]: line for line in lines}


def first_difference(direct, gateway, at="result"):
    """Where two values differ, and how."""
    if type(direct) is type(gateway) is dict and direct.keys() == gateway.keys():
        pairs = [(direct[key], gateway[key], f"{at}.{key}") for key in direct]
    elif type(direct) is type(gateway) is list and len(direct) == len(gateway):
        pairs = [(a, b, f"{at}[{index}]") for index, (a, b) in enumerate(zip(direct, gateway))]
    else:
        return None if direct == gateway else f"{at}: direct {shown(direct)}, gateway {shown(gateway)}"
    return next(filter(None, (first_difference(*pair) for pair in pairs)), None)


def shown(value):
    """A value in one line that fits a screen."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters)"


def verdict(direct, gateway):
    """What is wrong with a scenario, if anything."""
    if gateway is None:
        return "did not run through the gateway"
    for path, line in (("direct", direct), ("gateway", gateway)):
        if line and "failure" in line:
            return f"failed {path}:\n{line['failure'].rstrip()}"
    if direct is None:
        return None  # It exists through the gateway only, and asserts for itself.
    return first_difference(blanked(direct["result"]), blanked(gateway["result"]))


def main(folder, names):
    """Prints the verdicts and returns how many scenarios are wrong."""
    wrong = total = 0
    for name in names:
        direct = read(folder / f"{name}.direct.jsonl")
        gateway = read(folder / f"{name}.gateway.jsonl")
        for scenario in {**direct, **gateway}:
            fault = verdict(direct.get(scenario), gateway.get(scenario))
            print(f"{name} {scenario} … {fault or 'ok'}")
            total += 1
            wrong += fault is not None
    print(f"{total} scenarios, {wrong} wrong")
    return wrong if total else 1


if __name__ == "__main__":
    sys.exit(1 if main(pathlib.Path(sys.argv[1]), sys.argv[2:]) else 0)
