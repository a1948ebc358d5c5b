"""The official OpenAI SDK for Python: `openai_python.py direct|gateway BASE_URL KEY`."""

import openai

from scenario import LONG_TEXT, PIXEL, TIMEOUT_S, arguments, error_of, kind_of, run

VIA, BASE_URL, KEY = arguments()
MODEL = "gpt-5.4"
OPTIONS = {"api_key": KEY, "base_url": BASE_URL, "max_retries": 0, "timeout": TIMEOUT_S}
CLIENT = openai.OpenAI(**OPTIONS)
USER_ID_WITH_ODD_LETTERS = "zoë-\u2028-😀"


def user(content):
    return {"role": "user", "content": content}


def tool(name):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "description": f"The {name}.", "parameters": schema}}


def failure(text):
    ask = [user(text)]
    return error_of(openai.APIStatusError, lambda: CLIENT.chat.completions.create(model=MODEL, messages=ask))


def chat():
    answer = CLIENT.chat.completions.create(model=MODEL, messages=[user("hello")])
    assert answer.choices[0].message.content.startswith("You said: hello"), answer
    return answer


def chat_unicode():
    answer = CLIENT.chat.completions.create(
        model=MODEL, messages=[user("naïve 😀 \u2028 \"quoted\"")], user=USER_ID_WITH_ODD_LETTERS
    )
    assert "naïve 😀" in answer.choices[0].message.content, answer
    return answer


def chat_long_prompt():
    messages = [{"role": "system", "content": LONG_TEXT}, user("first")]
    first = CLIENT.chat.completions.create(model=MODEL, messages=messages)
    messages += [{"role": "assistant", "content": first.choices[0].message.content}, user("second")]
    return [first, CLIENT.chat.completions.create(model=MODEL, messages=messages)]


async def chat_async():
    async with openai.AsyncOpenAI(**OPTIONS) as client:
        return await client.chat.completions.create(model=MODEL, messages=[user("hello")])


def stream():
    chunks = list(CLIENT.chat.completions.create(model=MODEL, messages=[user("hello")], stream=True))
    assert all(chunk.usage is None for chunk in chunks), "usage was not asked for"
    assert all(chunk.choices for chunk in chunks), "a chunk without a choice was not asked for"
    return chunks


async def stream_async():
    async with openai.AsyncOpenAI(**OPTIONS) as client:
        events = await client.chat.completions.create(model=MODEL, messages=[user("hello")], stream=True)
        return [event async for event in events]


def stream_usage():
    options = {"include_usage": True}
    chunks = CLIENT.chat.completions.create(
        model=MODEL, messages=[user("hello")], stream=True, stream_options=options
    )
    chunks = list(chunks)
    assert chunks[-1].usage.completion_tokens > 0, chunks[-1]
    return chunks


def stream_helper():
    with CLIENT.chat.completions.stream(model=MODEL, messages=[user("hello")]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.done" in kinds, kinds
    return {"kinds": kinds, "final": final}


def tools():
    messages = [user("tool:weather please")]
    first = CLIENT.chat.completions.create(model=MODEL, messages=messages, tools=[tool("weather")])
    call = first.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Paris"}'), first
    messages.append(first.choices[0].message.to_dict())
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "18 degrees"})
    second = CLIENT.chat.completions.create(model=MODEL, messages=messages, tools=[tool("weather")])
    assert second.choices[0].finish_reason == "stop", second
    return [first, second]


def tools_parallel_stream():
    chunks = CLIENT.chat.completions.create(
        model=MODEL,
        messages=[user("tools:weather,time please")],
        tools=[tool("weather"), tool("time")],
        stream=True,
    )
    chunks = list(chunks)
    deltas = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    names = [delta.function.name for delta in deltas if delta.function.name]
    assert names == ["weather", "time"], names
    return chunks


def image_base64():
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    return CLIENT.chat.completions.create(
        model=MODEL, messages=[user([image, {"type": "text", "text": "what is it"}])]
    )


def image_url():
    image = {"type": "image_url", "image_url": {"url": "https://images.example/a.png", "detail": "low"}}
    return CLIENT.chat.completions.create(
        model=MODEL, messages=[user([image, {"type": "text", "text": "what is it"}])]
    )


def embeddings():
    answer = CLIENT.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert [item.index for item in answer.data] == [0, 1], answer
    return answer


def models():
    entries = list(CLIENT.models.list())
    assert MODEL in [entry.id for entry in entries], entries
    assert all(entry.to_dict().keys() >= {"id", "object", "created", "owned_by"} for entry in entries), entries
    return {"object": entries[0].object}  # The gateway lists what its own providers serve.


def raw_response():
    raw = CLIENT.chat.completions.with_raw_response.create(model=MODEL, messages=[user("hello")])
    has_call_id = bool(raw.headers.get("x-tokenwise-call"))
    assert has_call_id == (VIA == "gateway"), dict(raw.headers)
    return {"content_type": raw.headers["content-type"].split(";")[0], "parsed": raw.parse()}


def error_unknown_model():
    ask = [user("hello")]
    return kind_of(
        error_of(
            openai.APIStatusError,
            lambda: CLIENT.chat.completions.create(model="no-such-model", messages=ask),
        )
    )


def error_missing_messages():
    error = error_of(
        openai.BadRequestError,
        lambda: CLIENT.chat.completions.create(model=MODEL, messages=openai.omit),
    )
    return kind_of(error)


def error_rate_limit():
    error = failure("error:429")
    assert error["class"] == "RateLimitError" and error["retry_after"] == "1", error
    return error


def error_server():
    error = failure("error:500")
    assert error["class"] == "InternalServerError", error
    return error


def error_wrong_key():
    client = CLIENT.with_options(api_key="tw-wrong")
    error = error_of(
        openai.AuthenticationError,
        lambda: client.chat.completions.create(model=MODEL, messages=[user("hello")]),
    )
    assert error["body"]["message"], error
    return kind_of(error)


SCENARIOS = [
    chat,
    chat_unicode,
    chat_long_prompt,
    chat_async,
    stream,
    stream_async,
    stream_usage,
    stream_helper,
    tools,
    tools_parallel_stream,
    image_base64,
    image_url,
    embeddings,
    models,
    raw_response,
    error_unknown_model,
    error_missing_messages,
    error_rate_limit,
    error_server,
]
# The simulator lets any key in.
GATEWAY_ONLY = [error_wrong_key] if VIA == "gateway" else []

run(SCENARIOS + GATEWAY_ONLY)
