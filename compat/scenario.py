"""Runs the scenarios of one SDK and prints what it parsed, one JSON line each.

A scenario is a function that takes the client's maker and returns what can be dumped as JSON.
It asserts what must hold on any path; `compare.py` then asserts that both paths agree.
"""

import asyncio
import inspect
import json
import sys
import traceback

# A one-pixel PNG.
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

# About 3 000 tokens: longer than the least that any provider caches, so that markers are placed.
LONG_TEXT = "\n".join(f"Rule {n}: answer in one sentence and name the source." for n in range(250))

# Longer than any scenario takes; a hanging stream fails instead of holding up the run.
TIMEOUT_S = 20


def arguments():
    """The path that is taken, the base URL and the key."""
    via, base_url, key = sys.argv[1:4]
    return via, base_url, key


def plain(value):
    """A parsed object as JSON, only with the fields that were sent."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if hasattr(value, "to_dict"):
        return value.to_dict(mode="json")
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    return value


def error_of(status_error, call):
    """The typed exception that a call raises."""
    try:
        call()
    except status_error as error:
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "body": error.body,
            "retry_after": error.response.headers.get("retry-after"),
        }
    raise AssertionError("no error was raised")


def kind_of(error):
    """What must be equal when the gateway may answer in its own words."""
    return {"class": error["class"], "status": error["status"]}


def run(scenarios, *given):
    """Runs each scenario and prints its result or its traceback."""
    for scenario in scenarios:
        name = scenario.__name__
        try:
            result = scenario(*given)
            if inspect.isawaitable(result):
                result = asyncio.run(result)
            line = {"scenario": name, "result": plain(result)}
        except Exception:  # The next scenario may still work.
            line = {"scenario": name, "failure": traceback.format_exc(limit=-3)}
        print(json.dumps(line), flush=True)
