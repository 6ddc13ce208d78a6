"""`llm`, the command and its library, with the server as one of its extra models."""

import itertools
import json
import os
import pathlib
import tempfile

import exchange
from exchange import MODEL, QUESTION, Client, Place

import openai

folder = tempfile.TemporaryDirectory()
os.environ["LLM_USER_PATH"] = folder.name
pathlib.Path(folder.name, "keys.json").write_text(
    json.dumps({"loopback": exchange.KEY, "other": exchange.WRONG_KEY})
)
pathlib.Path(folder.name, "extra-openai-models.yaml").write_text(
    "".join(
        f"- model_id: {name}\n"
        f"  model_name: {served}\n"
        f"  api_base: {exchange.BASE_URL}\n"
        f"  api_key_name: {key}\n"
        "  supports_schema: true\n"
        "  supports_tools: true\n"
        for name, served, key in [
            ("served", MODEL, "loopback"),
            ("unknown", "gpt-9", "loopback"),
            ("denied", MODEL, "other"),
        ]
    )
)

import llm
from click.testing import CliRunner
from llm.cli import cli

tested = Client("llm", "llm")


def prompt(text=QUESTION, name="served", **fields):
    return llm.get_model(name).prompt(text, **{"temperature": 0, "max_tokens": 60, **fields})


def get_weather(city: str) -> str:
    """Tells the weather of a city"""
    called.append(city)
    return exchange.WEATHER_IS


called = []


@tested.exchange
def chat():
    reply = prompt(stream=False)
    assert exchange.ANSWER in reply.text(), reply.text()
    assert reply.usage().input == exchange.token_count(exchange.CHAT), reply.usage()
    assert reply.response_json["choices"][0]["finish_reason"] == "stop", reply.response_json
    command = ["--model", "served", "--option", "temperature", "0", "--no-stream", QUESTION]
    ran = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert ran.exit_code == 0 and ran.stdout.strip() == reply.text(), ran.output


@tested.exchange
def stream():
    whole = prompt(stream=False)
    streamed = prompt(stream=True)
    pieces = list(streamed)
    assert "".join(pieces) == whole.text() and 3 < len(pieces), pieces
    assert streamed.usage().output == whole.usage().output, streamed.usage()
    assert streamed.usage().input == whole.usage().input, streamed.usage()


@tested.exchange
def schema():
    Place.model_validate_json(prompt(schema=Place).text())


@tested.exchange
def tools():
    for streamed in (False, True):
        called.clear()
        chain = llm.get_model("served").chain(
            exchange.PLEASE_CALL,
            tools=[get_weather],
            stream=streamed,
            options={"temperature": 0, "max_tokens": 60},
        )
        # Left to itself, the model repeats its call for ever.
        asked, answered = itertools.islice(chain.responses(), 2)
        (call,) = asked.tool_calls()
        assert (call.name, call.arguments) == ("get_weather", exchange.CALL_ARGUMENTS), call
        assert called == ["Paris"] and answered.usage().input > asked.usage().input, called


@tested.exchange
def error():
    bad = exchange.expect(openai.BadRequestError, lambda: prompt(top_p=0.0).text())
    assert (bad.status_code, bad.param) == (400, "top_p"), bad
    unknown = exchange.expect(openai.NotFoundError, lambda: prompt(name="unknown").text())
    assert (unknown.status_code, unknown.code) == (404, "model_not_found"), unknown
    denied = exchange.expect(openai.AuthenticationError, lambda: prompt(name="denied").text())
    assert denied.status_code == 401, denied


@tested.exchange
def retry():
    with exchange.full_server():
        assert exchange.ANSWER in prompt(stream=False).text()


tested.run()
