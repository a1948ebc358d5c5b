"""The official Anthropic SDK for Python: `anthropic_python.py direct|gateway BASE_URL KEY`."""

import anthropic

from scenario import LONG_TEXT, PIXEL, TIMEOUT_S, arguments, error_of, kind_of, run

VIA, BASE_URL, KEY = arguments()
MODEL = "claude-sonnet-4-6"
OPTIONS = {"api_key": KEY, "base_url": BASE_URL, "max_retries": 0, "timeout": TIMEOUT_S}
CLIENT = anthropic.Anthropic(**OPTIONS)
THINKING = {"type": "enabled", "budget_tokens": 1024}


def user(content):
    return {"role": "user", "content": content}


def ask(content, **more):
    return {"model": MODEL, "max_tokens": 2048, "messages": [user(content)]} | more


def tool(name):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"name": name, "description": f"The {name}.", "input_schema": schema}


def failure(text):
    return error_of(anthropic.APIStatusError, lambda: CLIENT.messages.create(**ask(text)))


def chat():
    answer = CLIENT.messages.create(**ask("hello"))
    assert answer.content[0].text.startswith("You said: hello"), answer
    return answer


def chat_unicode():
    answer = CLIENT.messages.create(**ask("naïve 😀 \u2028 \"quoted\"", metadata={"user_id": "zoë-😀"}))
    assert "naïve 😀" in answer.content[0].text, answer
    return answer


def chat_long_prompt():
    first = CLIENT.messages.create(**ask("first", system=LONG_TEXT))
    turns = [user("first"), {"role": "assistant", "content": first.to_dict()["content"]}, user("second")]
    return [first, CLIENT.messages.create(**ask("", system=LONG_TEXT) | {"messages": turns})]


async def chat_async():
    async with anthropic.AsyncAnthropic(**OPTIONS) as client:
        return await client.messages.create(**ask("hello"))


def stream():
    events = list(CLIENT.messages.create(**ask("hello"), stream=True))
    assert events[0].type == "message_start" and events[-1].type == "message_stop", events
    return events


async def stream_async():
    async with anthropic.AsyncAnthropic(**OPTIONS) as client:
        events = await client.messages.create(**ask("hello"), stream=True)
        return [event async for event in events]


def stream_helper():
    with CLIENT.messages.stream(**ask("hello")) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert "text" in kinds, kinds
    return {"kinds": kinds, "final": final}


def tools():
    given = [tool("weather")]
    first = CLIENT.messages.create(**ask("tool:weather please", tools=given))
    call = next(block for block in first.content if block.type == "tool_use")
    assert (call.name, call.input, first.stop_reason) == ("weather", {"city": "Paris"}, "tool_use"), first
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "18 degrees"}
    turns = [
        user("tool:weather please"),
        {"role": "assistant", "content": first.to_dict()["content"]},
        user([result]),
    ]
    second = CLIENT.messages.create(**ask("", tools=given) | {"messages": turns})
    assert second.stop_reason == "end_turn", second
    return [first, second]


def tools_parallel_stream():
    given = [tool("weather"), tool("time")]
    with CLIENT.messages.stream(**ask("tools:weather,time please", tools=given)) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_message()
    names = [block.name for block in final.content if block.type == "tool_use"]
    assert names == ["weather", "time"], final
    return {"kinds": events, "final": final}


def image_base64():
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    image = {"type": "image", "source": source}
    return CLIENT.messages.create(**ask([image, {"type": "text", "text": "what is it"}]))


def image_url():
    image = {"type": "image", "source": {"type": "url", "url": "https://images.example/a.png"}}
    return CLIENT.messages.create(**ask([image, {"type": "text", "text": "what is it"}]))


def thinking():
    first = CLIENT.messages.create(**ask("think", thinking=THINKING))
    block = first.content[0]
    assert block.type == "thinking" and block.signature, first
    turns = [user("think"), {"role": "assistant", "content": first.to_dict()["content"]}, user("again")]
    return [first, CLIENT.messages.create(**ask("", thinking=THINKING) | {"messages": turns})]


def thinking_stream():
    events = list(CLIENT.messages.create(**ask("think", thinking=THINKING), stream=True))
    deltas = [event.delta.type for event in events if event.type == "content_block_delta"]
    assert "thinking_delta" in deltas and "signature_delta" in deltas, deltas
    return events


def cache_control():
    system = [{"type": "text", "text": LONG_TEXT, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    text = [{"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}]
    answers = [CLIENT.messages.create(**ask(text, system=system)) for _ in range(2)]
    assert answers[1].usage.cache_read_input_tokens > 0, answers[1]
    return answers


def count_tokens():
    answer = CLIENT.messages.count_tokens(model=MODEL, messages=[user("hello")], system=LONG_TEXT)
    assert answer.input_tokens > 0, answer
    return answer


def models():
    entries = list(CLIENT.models.list())
    assert MODEL in [entry.id for entry in entries], entries
    assert all(entry.to_dict().keys() >= {"id", "type", "display_name", "created_at"} for entry in entries), entries
    return {"type": entries[0].type}  # The gateway lists what its own providers serve.


def raw_response():
    raw = CLIENT.messages.with_raw_response.create(**ask("hello"))
    has_call_id = bool(raw.headers.get("x-tokenwise-call"))
    assert has_call_id == (VIA == "gateway"), dict(raw.headers)
    return {"content_type": raw.headers["content-type"].split(";")[0], "parsed": raw.parse()}


def error_unknown_model():
    unknown = ask("hello") | {"model": "no-such-model"}
    return kind_of(error_of(anthropic.APIStatusError, lambda: CLIENT.messages.create(**unknown)))


def error_missing_messages():
    nothing = ask("") | {"messages": anthropic.omit}
    return kind_of(error_of(anthropic.BadRequestError, lambda: CLIENT.messages.create(**nothing)))


def error_rate_limit():
    error = failure("error:429")
    assert error["class"] == "RateLimitError" and error["retry_after"] == "1", error
    return error


def error_server():
    error = failure("error:500")
    assert error["class"] == "InternalServerError", error
    return error


def error_overloaded():
    error = failure("error:529")
    assert error["class"] == "OverloadedError" and error["body"]["type"] == "error", error
    return error


def error_wrong_key():
    client = CLIENT.with_options(api_key="tw-wrong")
    error = error_of(anthropic.AuthenticationError, lambda: client.messages.create(**ask("hello")))
    assert error["body"]["error"]["type"] == "authentication_error", error
    return kind_of(error)


SCENARIOS = [
    chat,
    chat_unicode,
    chat_long_prompt,
    chat_async,
    stream,
    stream_async,
    stream_helper,
    tools,
    tools_parallel_stream,
    image_base64,
    image_url,
    thinking,
    thinking_stream,
    cache_control,
    count_tokens,
    models,
    raw_response,
    error_unknown_model,
    error_missing_messages,
    error_rate_limit,
    error_server,
    error_overloaded,
]
# The simulator lets any key in.
GATEWAY_ONLY = [error_wrong_key] if VIA == "gateway" else []

run(SCENARIOS + GATEWAY_ONLY)
