#!/usr/bin/env python3
"""Writes one request a recorded task, as a Messages body of 160 to 240 kB: what a gateway sees of a long
conversation that it has never seen before.

    python3 bench/recorded_bodies.py FOLDER > bodies.jsonl      FOLDER holds *.jsonl.gz trajectories

Of each task the request nearest to 200 kB; tasks without one in that range are left out.
Standard library only."""
import gzip, json, pathlib, sys

LEAST, AIM, MOST = 160_000, 200_000, 240_000


def block(message):
    """A recorded message in OpenAI's form as role and blocks of the Messages dialect."""
    text = message.get("content") or ""
    if not isinstance(text, str):
        text = "\n".join(part.get("text", "") for part in text)
    if message["role"] == "tool":
        return "user", [{"type": "tool_result", "tool_use_id": message.get("tool_call_id") or "t", "content": text}]
    blocks = [{"type": "text", "text": text}] if text else []
    for call in message.get("tool_calls") or []:
        called = call["function"]
        try:
            arguments = json.loads(called.get("arguments") or "{}")
        except ValueError:
            arguments = {"arguments": called["arguments"]}
        if not isinstance(arguments, dict):
            arguments = {"arguments": arguments}
        blocks.append({"type": "tool_use", "id": call.get("id") or "t", "name": called["name"], "input": arguments})
    return ("assistant" if message["role"] == "assistant" else "user"), blocks


def body(messages):
    system = [part["text"] for m in messages if m["role"] == "system" for part in block(m)[1]]
    said = []
    for message in messages:
        if message["role"] == "system":
            continue
        role, blocks = block(message)
        if not blocks:
            continue
        if said and said[-1]["role"] == role:
            said[-1]["content"] += blocks
        else:
            said.append({"role": role, "content": blocks})
    request = {"model": "claude-sonnet-4-6", "max_tokens": 4096, "system": "\n".join(system), "messages": said}
    return json.dumps(request, ensure_ascii=False)


def main():
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            for line in lines:
                task = json.loads(line)
                pool, best = task["messages"], None
                for step in task["steps"]:
                    request = body([m for first, end in step["ctx"] for m in pool[first:end]])
                    size = len(request.encode())
                    if LEAST <= size <= MOST and (best is None or abs(size - AIM) < best[0]):
                        best = (abs(size - AIM), request)
                if best:
                    print(best[1])


if __name__ == "__main__":
    main()
