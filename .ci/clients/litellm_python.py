"""`litellm`, through its two providers for servers of OpenAI's interface."""

import json

import exchange
from exchange import CHAT, MODEL, Client, Place, Weather

import litellm

litellm.suppress_debug_info = True


def run(provider):
    tested = Client(f"litellm, `{provider}/`", "litellm")
    server = {"model": f"{provider}/{MODEL}", "api_base": exchange.BASE_URL, "api_key": exchange.KEY}

    def ask(**fields):
        chat = {"messages": CHAT, "temperature": 0, "max_tokens": 30, "max_retries": 0}
        return litellm.completion(**{**server, **chat, **fields})

    @tested.exchange
    def chat():
        reply = ask()
        choice = reply.choices[0]
        assert exchange.ANSWER in choice.message.content and choice.finish_reason == "stop", reply
        assert reply.usage.prompt_tokens == exchange.token_count(CHAT), reply
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
        cut = ask(max_tokens=3)
        assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 3, cut

    @tested.exchange
    def stream():
        whole = ask()
        chunks = list(ask(stream=True, stream_options={"include_usage": True}))
        text = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(text) == whole.choices[0].message.content and 3 < len(text), text
        reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
        assert [reason for reason in reasons if reason] == ["stop"], reasons
        (usage,) = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
        assert usage.completion_tokens == whole.usage.completion_tokens, usage
        assert usage.prompt_tokens == whole.usage.prompt_tokens, usage

    @tested.exchange
    def schema():
        reply = ask(response_format=Place, max_tokens=60)
        assert reply.choices[0].finish_reason == "stop", reply
        Place.model_validate_json(reply.choices[0].message.content)

    @tested.exchange
    def tools():
        fields = {"messages": exchange.CALL_CHAT, "tools": [exchange.WEATHER], "max_tokens": 60}
        reply = ask(**fields)
        assert reply.choices[0].finish_reason == "tool_calls", reply
        (call,) = reply.choices[0].message.tool_calls
        assert call.function.name == "get_weather" and call.id, call
        assert json.loads(call.function.arguments) == exchange.CALL_ARGUMENTS, call
        streamed = litellm.stream_chunk_builder(list(ask(stream=True, **fields)))
        (again,) = streamed.choices[0].message.tool_calls
        assert again.function.arguments == call.function.arguments, streamed
        forced = ask(
            messages=exchange.WEATHER_CHAT,
            tools=[exchange.WEATHER],
            tool_choice="required",
            parallel_tool_calls=False,
            max_tokens=60,
        )
        (must,) = forced.choices[0].message.tool_calls
        Weather.model_validate_json(must.function.arguments)
        result = {"role": "tool", "tool_call_id": call.id, "content": exchange.WEATHER_IS}
        messages = [*exchange.CALL_CHAT, reply.choices[0].message, result]
        answer = ask(messages=messages, tools=fields["tools"], tool_choice="none")
        assert answer.choices[0].message.content, answer

    @tested.exchange
    def error():
        bad = exchange.expect(litellm.BadRequestError, lambda: ask(temperature=9))
        assert bad.status_code == 400 and "temperature" in bad.message, bad
        long = [{"role": "user", "content": "word " * 20_000}]
        exchange.expect(litellm.ContextWindowExceededError, lambda: ask(messages=long))
        unknown = exchange.expect(litellm.NotFoundError, lambda: ask(model=f"{provider}/gpt-9"))
        assert unknown.status_code == 404, unknown
        denied = exchange.expect(
            litellm.AuthenticationError, lambda: ask(api_key=exchange.WRONG_KEY)
        )
        assert denied.status_code == 401, denied

    def retry():
        with exchange.full_server():
            full = exchange.expect(litellm.RateLimitError, ask)
            assert full.status_code == 429, full
            reply = ask(max_retries=3)
        assert exchange.ANSWER in reply.choices[0].message.content, reply

    # The other provider sends again at once, whatever it is asked.
    if provider == "openai":
        tested.exchange(retry)
    tested.run()


run("openai")
run("hosted_vllm")
