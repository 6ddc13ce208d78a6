"""`pydantic-ai`, over chat completions."""

import asyncio

import exchange
from exchange import MODEL, QUESTION, Client, Place, Weather

import openai
from pydantic_ai import Agent, NativeOutput, exceptions
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

tested = Client("pydantic-ai", "pydantic-ai-slim")


def model(name=MODEL, key=exchange.KEY, max_retries=0):
    client = openai.AsyncOpenAI(base_url=exchange.BASE_URL, api_key=key, max_retries=max_retries)
    return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))


def ask(served=None, output_type=str, **settings):
    agent = Agent(served or model(), output_type=output_type)
    return agent.run_sync(QUESTION, model_settings={"temperature": 0, "max_tokens": 60, **settings})


@tested.exchange
def chat():
    reply = ask()
    assert exchange.ANSWER in reply.output and reply.response.finish_reason == "stop", reply
    assert reply.usage.input_tokens == exchange.token_count(exchange.CHAT), reply.usage


@tested.exchange
def stream():
    async def pieces():
        settings = {"temperature": 0, "max_tokens": 60}
        served = model()
        # Its connections end with the loop that they belong to.
        async with (
            served.client,
            Agent(served).run_stream(QUESTION, model_settings=settings) as reply,
        ):
            return [piece async for piece in reply.stream_text(delta=True, debounce_by=None)]

    got = asyncio.run(pieces())
    assert "".join(got) == ask().output and 3 < len(got), got


@tested.exchange
def schema():
    assert isinstance(ask(output_type=NativeOutput(Place)).output, Place)


@tested.exchange
def tools():
    # An object as the output is a function that the model is forced to call.
    assert isinstance(ask(output_type=Place).output, Place)
    assert isinstance(ask(output_type=Weather).output, Weather)


@tested.exchange
def error():
    bad = exchange.expect(exceptions.ModelRequestRejectedError, lambda: ask(temperature=9))
    assert (bad.status_code, bad.body["param"]) == (400, "temperature"), bad
    unknown = exchange.expect(exceptions.ModelNotFoundError, lambda: ask(model("gpt-9")))
    assert (unknown.status_code, unknown.body["code"]) == (404, "model_not_found"), unknown
    stranger = model(key=exchange.WRONG_KEY)
    denied = exchange.expect(exceptions.ModelAuthenticationError, lambda: ask(stranger))
    assert denied.status_code == 401, denied


@tested.exchange
def retry():
    with exchange.full_server():
        full = exchange.expect(exceptions.ModelRateLimitError, ask)
        assert (full.status_code, full.body["code"]) == (429, "queue_full"), full
        assert exchange.ANSWER in ask(model(max_retries=3)).output


tested.run()
