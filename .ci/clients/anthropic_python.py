"""The official `anthropic` client for Python."""

import exchange
from exchange import CHAT, MODEL, Client, Place, Weather

import anthropic

client = anthropic.Anthropic(base_url=exchange.URL, api_key=exchange.KEY, max_retries=0)
tested = Client("anthropic for Python", "anthropic")
GET_WEATHER = {
    "name": "get_weather",
    "description": exchange.WEATHER["function"]["description"],
    "input_schema": exchange.WEATHER["function"]["parameters"],
}


# The client has no name for it any more.
GREEDY = {"temperature": 0}


def ask(client=client, **fields):
    return client.messages.create(
        **{"model": MODEL, "messages": CHAT, "max_tokens": 60, "extra_body": GREEDY, **fields}
    )


@tested.exchange
def chat():
    reply = ask()
    (block,) = reply.content
    assert block.type == "text" and exchange.ANSWER in block.text, reply
    assert (reply.type, reply.role, reply.stop_reason) == ("message", "assistant", "end_turn"), reply
    counted = client.messages.count_tokens(model=MODEL, messages=CHAT).input_tokens
    used = reply.usage.input_tokens + (reply.usage.cache_read_input_tokens or 0)
    assert used == counted == exchange.token_count(CHAT), reply.usage
    cut = ask(max_tokens=3)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 3), cut


@tested.exchange
def stream():
    whole = ask()
    with client.messages.stream(
        model=MODEL, messages=CHAT, max_tokens=60, extra_body=GREEDY
    ) as events:
        pieces = list(events.text_stream)
        final = events.get_final_message()
    assert "".join(pieces) == whole.content[0].text == final.content[0].text, pieces
    assert 3 < len(pieces) and final.stop_reason == "end_turn", final
    assert final.usage.output_tokens == whole.usage.output_tokens, final.usage


@tested.exchange
def schema():
    reply = client.messages.parse(
        model=MODEL, messages=CHAT, max_tokens=60, extra_body=GREEDY, output_format=Place
    )
    assert isinstance(reply.parsed_output, Place) and reply.stop_reason == "end_turn", reply


@tested.exchange
def tools():
    asked = exchange.WEATHER_CHAT
    choice = {"type": "any", "disable_parallel_tool_use": True}
    reply = ask(messages=asked, tools=[GET_WEATHER], tool_choice=choice)
    (call,) = reply.content
    assert (call.type, call.name, reply.stop_reason) == ("tool_use", "get_weather", "tool_use"), reply
    Weather.model_validate(call.input)
    with client.messages.stream(
        model=MODEL,
        messages=asked,
        max_tokens=60,
        extra_body=GREEDY,
        tools=[GET_WEATHER],
        tool_choice=choice,
    ) as events:
        assert events.get_final_message().content[0].input == call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": exchange.WEATHER_IS}
    messages = [
        *asked,
        {"role": "assistant", "content": reply.content},
        {"role": "user", "content": [result]},
    ]
    answer = ask(messages=messages, tools=[GET_WEATHER], tool_choice={"type": "none"})
    assert answer.content[0].type == "text" and answer.content[0].text, answer


@tested.exchange
def error():
    bad = exchange.expect(anthropic.BadRequestError, lambda: ask(extra_body={"temperature": 9}))
    assert bad.status_code == 400 and bad.body["type"] == "error", bad
    assert bad.body["error"]["type"] == "invalid_request_error", bad
    assert "temperature" in bad.body["error"]["message"], bad
    unknown = exchange.expect(anthropic.NotFoundError, lambda: ask(model="claude-9"))
    assert unknown.body["error"]["type"] == "not_found_error", unknown
    stranger = client.with_options(api_key=exchange.WRONG_KEY)
    denied = exchange.expect(anthropic.AuthenticationError, lambda: ask(stranger))
    assert denied.body["error"]["type"] == "authentication_error", denied


@tested.exchange
def retry():
    with exchange.full_server():
        full = exchange.expect(anthropic.RateLimitError, ask)
        assert full.body["error"]["type"] == "rate_limit_error", full
        reply = ask(client.with_options(max_retries=3))
    assert exchange.ANSWER in reply.content[0].text, reply


tested.run()
