#!/usr/bin/env python3
"""What a cascade does to the time until a stream's first byte.

Starts two simulated providers (`tokenwise simulate`) with paces of their own, a gateway before them
for each case, and asks one stream after another over fresh connections. One JSON object a case.
Python standard library only.

    ./cascade_ttft.py [PATH/TO/tokenwise] [CALLS]
"""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

BINARY = sys.argv[1] if len(sys.argv) > 1 else "../target/release/tokenwise"
CALLS = int(sys.argv[2]) if len(sys.argv) > 2 else 100
# Milliseconds to the first event of a stream, and between two.
CHEAP, DEAR = (200, 5), (600, 10)
# Each is an event.
WORDS = 100
HOLD_BACK_MS = 300
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
CASES = [
    # name, cascade, tools, what becomes of the cheap leg
    ("no cascade", None, None, None),
    ("accepted by its beginning", 'lever = "on"', None, "accepted"),
    ("accepted at its end", 'lever = "on"', TOOLS, "accepted"),
    ("escalated at its end", 'lever = "on"\nverify = [{ regex = "^never$" }]', None, "escalated"),
    ("held back too long", f'lever = "on"\nhold_back_ms = {HOLD_BACK_MS}', TOOLS, "escalated"),
]


def listening(arguments, **options):
    """A process that says where it listens on its first line."""
    process = subprocess.Popen(
        [BINARY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options
    )
    line = process.stdout.readline()
    address = json.loads(line)["listening"].removeprefix("http://")
    return process, address


def simulated(pace):
    first, following = (str(ms) for ms in pace)
    return listening(["simulate", "--first-frame-ms", first, "--next-frame-ms", following])


def provider(name, address):
    return (
        f'[[providers]]\nid = "{name}"\ndialect = "openai_chat"\nprices = "openai"\n'
        f'base_url = "http://{address}/v1"\napi_key = "env:SIMULATED_KEY"\nmodels = ["{name}-only"]\n'
    )


def gateway(folder, cascade, cheap, dear):
    """A gateway that is ready to serve."""
    port = free_port()
    text = f'listen = "127.0.0.1:{port}"\n[store]\npath = ":memory:"\n'
    text += provider("cheap", cheap) + provider("dear", dear)
    if cascade:
        text += '[[routes]]\nid = "r"\n[routes.cascade]\ntarget = "cheap/gpt-5.4-nano"\n' + cascade
    path = os.path.join(folder, "config.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    process = subprocess.Popen(
        [BINARY, "serve", "--config", path],
        env={"SIMULATED_KEY": "sk-simulated", "HOME": folder},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"127.0.0.1:{port}"
    for _ in range(200):
        try:
            ask(address, "GET", "/healthz", None)
            return process, address
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the gateway does not come up")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(address, method, path, body):
    """Milliseconds until the first byte of the body, and the target that answered."""
    connection = http.client.HTTPConnection(address, timeout=30)
    began = time.perf_counter()
    connection.request(method, path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    response.read(1)
    took = (time.perf_counter() - began) * 1_000
    response.read()
    connection.close()
    assert method == "GET" or response.status == 200, response.status
    return took, response.getheader("x-tokenwise-target")


def measure(name, cascade, tools, outcome):
    running = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for pace in (CHEAP, DEAR):
                running.append(simulated(pace))
            process, address = gateway(folder, cascade, running[0][1], running[1][1])
            running.append((process, address))
            times = []
            for number in range(CALLS):
                body = {
                    "model": "dear/gpt-5.4",
                    "stream": True,
                    "max_tokens": 300,
                    "messages": [{"role": "user", "content": f"question {number} words:{WORDS}"}],
                }
                if tools:
                    body["tools"], body["tool_choice"] = tools, "auto"
                took, target = ask(address, "POST", "/v1/chat/completions", json.dumps(body))
                expect = "cheap" if outcome == "accepted" else "dear"
                assert target.startswith(expect), (name, target)
                times.append(took)
        finally:
            for process, _ in running:
                process.terminate()
                process.wait()
    cuts = statistics.quantiles(times, n=10, method="inclusive")
    figures = {"p10_ms": cuts[0], "p50_ms": cuts[4], "p90_ms": cuts[8], "max_ms": max(times)}
    figures = {name: round(ms, 1) for name, ms in figures.items()}
    return {"case": name, "calls": CALLS, **figures}


if __name__ == "__main__":
    for case in CASES:
        print(json.dumps(measure(*case)), flush=True)
