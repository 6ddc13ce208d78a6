"""The official `openai` client for Python, over its Responses API."""

import json

import exchange
from exchange import MODEL, QUESTION, Client, Place, Weather

import openai

client = openai.OpenAI(base_url=exchange.BASE_URL, api_key=exchange.KEY, max_retries=0)
tested = Client("openai for Python, `responses`", "openai")
GET_WEATHER = {"type": "function", **exchange.WEATHER["function"], "strict": True}


def ask(**fields):
    return client.responses.create(
        **{"model": MODEL, "input": QUESTION, "temperature": 0, "max_output_tokens": 60, **fields}
    )


@tested.exchange
def chat():
    reply = ask()
    assert exchange.ANSWER in reply.output_text and reply.status == "completed", reply
    assert reply.model == MODEL and reply.error is None, reply
    assert reply.usage.input_tokens == exchange.token_count(exchange.CHAT), reply.usage
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens
    cut = ask(max_output_tokens=3)
    assert cut.status == "incomplete" and cut.usage.output_tokens == 3, cut
    assert cut.incomplete_details.reason == "max_output_tokens", cut


@tested.exchange
def stream():
    whole = ask()
    with client.responses.stream(
        model=MODEL, input=QUESTION, temperature=0, max_output_tokens=60
    ) as events:
        pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
        final = events.get_final_response()
    assert "".join(pieces) == whole.output_text == final.output_text and 3 < len(pieces), pieces
    assert final.status == "completed" and final.usage.total_tokens == whole.usage.total_tokens


@tested.exchange
def schema():
    reply = client.responses.parse(
        model=MODEL, input=QUESTION, temperature=0, max_output_tokens=60, text_format=Place
    )
    assert isinstance(reply.output_parsed, Place) and reply.status == "completed", reply


@tested.exchange
def tools():
    asked = exchange.WEATHER_CHAT
    reply = ask(input=asked, tools=[GET_WEATHER], tool_choice="required", parallel_tool_calls=False)
    (call,) = reply.output
    assert (call.type, call.name) == ("function_call", "get_weather") and call.call_id, reply
    Weather.model_validate_json(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": exchange.WEATHER_IS}
    answer = ask(input=[*asked, call, result], tools=[GET_WEATHER], tool_choice="none")
    assert answer.output_text and answer.status in ("completed", "incomplete"), answer
    assert json.loads(call.arguments), call


@tested.exchange
def error():
    bad = exchange.expect(openai.BadRequestError, lambda: ask(temperature=9))
    assert (bad.status_code, bad.param) == (400, "temperature"), bad
    unknown = exchange.expect(openai.NotFoundError, lambda: ask(model="gpt-9"))
    assert (unknown.status_code, unknown.code) == (404, "model_not_found"), unknown


@tested.exchange
def retry():
    with exchange.full_server():
        full = exchange.expect(openai.RateLimitError, ask)
        assert (full.status_code, full.code) == (429, "queue_full"), full
        patient = client.with_options(max_retries=3)
        reply = patient.responses.create(model=MODEL, input=QUESTION, temperature=0)
    assert exchange.ANSWER in reply.output_text, reply


tested.run()
