"""`langchain-openai`: `ChatOpenAI`."""

import exchange
from exchange import MODEL, QUESTION, Client, Place, Weather

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models import base as errors

tested = Client("langchain-openai", "langchain-openai")


def model(**fields):
    return ChatOpenAI(
        **{
            "model": MODEL,
            "base_url": exchange.BASE_URL,
            "api_key": exchange.KEY,
            "temperature": 0,
            "max_tokens": 60,
            "max_retries": 0,
            **fields,
        }
    )


@tool
def get_weather(city: str) -> str:
    """Tells the weather of a city"""
    return exchange.WEATHER_IS


@tested.exchange
def chat():
    reply = model().invoke(QUESTION)
    assert exchange.ANSWER in reply.content, reply
    assert reply.response_metadata["finish_reason"] == "stop", reply
    usage = reply.usage_metadata
    assert usage["input_tokens"] == exchange.token_count(exchange.CHAT), usage
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"], usage
    cut = model(max_tokens=3).invoke(QUESTION)
    assert cut.response_metadata["finish_reason"] == "length", cut
    assert cut.usage_metadata["output_tokens"] == 3, cut


@tested.exchange
def stream():
    whole = model().invoke(QUESTION)
    chunks = list(model(stream_usage=True).stream(QUESTION))
    assert 3 < len([chunk for chunk in chunks if chunk.content]), chunks
    joined = chunks[0]
    for chunk in chunks[1:]:
        joined += chunk
    assert joined.content == whole.content, joined
    assert joined.response_metadata["finish_reason"] == "stop", joined
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        assert joined.usage_metadata[name] == whole.usage_metadata[name], joined


@tested.exchange
def schema():
    place = model().with_structured_output(Place, method="json_schema").invoke(QUESTION)
    assert isinstance(place, Place), place


@tested.exchange
def tools():
    able = model().bind_tools([get_weather])
    asked = HumanMessage(exchange.PLEASE_CALL)
    reply = able.invoke([asked])
    (call,) = reply.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", exchange.CALL_ARGUMENTS), reply
    assert reply.response_metadata["finish_reason"] == "tool_calls", reply
    chunks = list(able.stream([asked]))
    joined = chunks[0]
    for chunk in chunks[1:]:
        joined += chunk
    assert joined.tool_calls[0]["args"] == exchange.CALL_ARGUMENTS, joined
    for choice in ("any", "get_weather"):
        forced = model().bind_tools([exchange.WEATHER], tool_choice=choice, parallel_tool_calls=False)
        (must,) = forced.invoke(exchange.WEATHER_CHAT).tool_calls
        Weather.model_validate(must["args"])
    place = model().with_structured_output(Place, method="function_calling")
    assert isinstance(place.invoke(QUESTION), Place)
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage), result
    silent = model().bind_tools([get_weather], tool_choice="none")
    assert silent.invoke([asked, reply, result]).content


@tested.exchange
def error():
    def ask(question=QUESTION, **fields):
        return lambda: model(**fields).invoke(question)

    bad = exchange.expect(errors.OpenAIInvalidRequestError, ask(temperature=9))
    assert (bad.status_code, bad.param) == (400, "temperature"), bad
    long = exchange.expect(errors.OpenAIContextOverflowError, ask("word " * 20_000))
    assert long.code == "context_length_exceeded", long
    unknown = exchange.expect(errors.OpenAIModelNotFoundError, ask(model="gpt-9"))
    assert (unknown.status_code, unknown.code) == (404, "model_not_found"), unknown
    denied = exchange.expect(errors.OpenAIAuthenticationError, ask(api_key=exchange.WRONG_KEY))
    assert denied.status_code == 401, denied


@tested.exchange
def retry():
    with exchange.full_server():
        full = exchange.expect(errors.OpenAIRateLimitError, lambda: model().invoke(QUESTION))
        assert full.status_code == 429, full
        reply = model(max_retries=3).invoke(QUESTION)
    assert exchange.ANSWER in reply.content, reply


tested.run()
