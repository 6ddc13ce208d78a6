"""The official `openai` client for Python, over chat completions."""

import json

import exchange
from exchange import CHAT, MODEL, Client, Place, Weather

import openai

client = openai.OpenAI(base_url=exchange.BASE_URL, api_key=exchange.KEY, max_retries=0)
tested = Client("openai for Python", "openai")


def ask(**fields):
    return client.chat.completions.create(
        **{"model": MODEL, "messages": CHAT, "temperature": 0, "max_completion_tokens": 30, **fields}
    )


@tested.exchange
def chat():
    assert [model.id for model in client.models.list()] == [MODEL]
    reply = ask()
    choice = reply.choices[0]
    assert exchange.ANSWER in choice.message.content and choice.message.role == "assistant", reply
    assert choice.finish_reason == "stop" and reply.object == "chat.completion", reply
    assert reply.model == MODEL and reply._request_id, reply
    assert reply.usage.prompt_tokens == exchange.token_count(CHAT), reply.usage
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    cut = ask(max_completion_tokens=3)
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 3, cut
    assert choice.message.content.startswith(cut.choices[0].message.content), (reply, cut)


@tested.exchange
def stream():
    whole = ask()
    chunks = ask(stream=True, stream_options={"include_usage": True})
    assert chunks.response.headers["content-type"].startswith("text/event-stream")
    *chunks, last = chunks
    text = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(text) == whole.choices[0].message.content, text
    assert 3 < len(text) and chunks[0].choices[0].delta.role == "assistant", text
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"], reasons
    counts = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert all(getattr(last.usage, name) == getattr(whole.usage, name) for name in counts), last
    assert last.choices == [] and {chunk.id for chunk in chunks} == {last.id}, last


@tested.exchange
def schema():
    reply = client.chat.completions.parse(
        model=MODEL, messages=CHAT, temperature=0, max_tokens=60, response_format=Place
    )
    place = reply.choices[0].message.parsed
    assert isinstance(place, Place) and reply.choices[0].finish_reason == "stop", reply
    assert json.loads(reply.choices[0].message.content) == place.model_dump(), reply


@tested.exchange
def tools():
    fields = {"messages": exchange.CALL_CHAT, "tools": [exchange.WEATHER], "max_completion_tokens": 60}
    reply = ask(**fields)
    assert reply.usage.prompt_tokens == exchange.token_count(exchange.CALL_CHAT, [exchange.WEATHER])
    said = reply.choices[0].message
    assert reply.choices[0].finish_reason == "tool_calls" and said.content is None, reply
    (call,) = said.tool_calls
    assert call.type == "function" and call.function.name == "get_weather" and call.id, call
    assert json.loads(call.function.arguments) == exchange.CALL_ARGUMENTS, call
    with client.chat.completions.stream(model=MODEL, temperature=0, **fields) as events:
        streamed = events.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls", streamed
    assert streamed.message.tool_calls[0].function.arguments == call.function.arguments, streamed
    for choice, reason in [
        ("required", "tool_calls"),
        ({"type": "function", "function": {"name": "get_weather"}}, "stop"),
    ]:
        forced = {
            "messages": exchange.WEATHER_CHAT,
            "tools": [exchange.WEATHER],
            "tool_choice": choice,
            "parallel_tool_calls": False,
        }
        whole = ask(**forced, max_completion_tokens=60).choices[0]
        assert whole.finish_reason == reason and whole.message.content is None, whole
        arguments = whole.message.tool_calls[0].function.arguments
        Weather.model_validate_json(arguments)
        with client.chat.completions.stream(model=MODEL, temperature=0, **forced) as events:
            streamed = events.get_final_completion().choices[0]
        assert streamed.message.tool_calls[0].function.arguments == arguments, streamed
    result = {"role": "tool", "tool_call_id": call.id, "content": exchange.WEATHER_IS}
    answer = ask(messages=[*exchange.CALL_CHAT, said, result], tools=fields["tools"], tool_choice="none")
    assert answer.choices[0].message.content and not answer.choices[0].message.tool_calls, answer


@tested.exchange
def error():
    bad = exchange.expect(openai.BadRequestError, lambda: ask(temperature=9))
    assert (bad.status_code, bad.param, bad.code) == (400, "temperature", None), bad
    assert bad.type == "invalid_request_error" and "9" in bad.message, bad
    long = [{"role": "user", "content": "word " * 20_000}]
    long = exchange.expect(openai.BadRequestError, lambda: ask(messages=long))
    assert long.code == "context_length_exceeded", long
    unknown = exchange.expect(openai.NotFoundError, lambda: ask(model="gpt-9"))
    assert (unknown.status_code, unknown.code) == (404, "model_not_found"), unknown
    stranger = client.with_options(api_key=exchange.WRONG_KEY)
    denied = exchange.expect(openai.AuthenticationError, lambda: stranger.models.list())
    assert (denied.status_code, denied.code) == (401, "invalid_api_key"), denied


@tested.exchange
def retry():
    with exchange.full_server():
        full = exchange.expect(openai.RateLimitError, ask)
        assert (full.status_code, full.code) == (429, "queue_full"), full
        patient = client.with_options(max_retries=3)
        reply = patient.chat.completions.create(model=MODEL, messages=CHAT, temperature=0, max_tokens=30)
    assert exchange.ANSWER in reply.choices[0].message.content, reply


tested.run()
