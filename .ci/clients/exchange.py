"""What the exchanges of all Python clients share: the server at hand, what is said, what is recorded.

A client's file imports this before the client, so that no connection of it goes unseen. It is run as
`FILE URL KEY MODEL PLACES RESULTS`: the address and key of a server that serves MODEL and takes PLACES
requests at once, and a file that gets a line of JSON for each exchange.
"""

import contextlib
import http.client
import importlib.metadata
import json
import sys
import time
import traceback
from typing import Literal
from urllib.parse import urlsplit

import anyio
from pydantic import BaseModel, ConfigDict

URL, KEY, MODEL, PLACES, RESULTS = sys.argv[1:]
BASE_URL = f"{URL}/v1"
WRONG_KEY = "sk-of-somebody-else"

QUESTION = "What is the capital of France?"
CHAT = [{"role": "user", "content": QUESTION}]
ANSWER = "Paris"

# The model is too small to see by itself when to call a function.
PLEASE_CALL = (
    "Repeat exactly, and add nothing: "
    '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'
)
CALL_CHAT = [{"role": "user", "content": PLEASE_CALL}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CALL_ARGUMENTS = {"city": "Paris"}

# It answers this with words, unless it is forced to call.
WEATHER_CHAT = [{"role": "user", "content": "What is the weather in Rome?"}]
WEATHER_IS = "It rains in Paris, 9 degrees."


class Place(BaseModel):
    """A form for the answer. The question does not ask for it: a text that fits was made to fit."""

    model_config = ConfigDict(extra="forbid")

    city: Literal["Paris", "Rome"]
    country: Literal["France", "Italy"]
    is_capital: bool


class Weather(BaseModel):
    """The arguments that WEATHER takes."""

    model_config = ConfigDict(extra="forbid")

    city: Literal["Paris", "Rome"]


outside = []


def _refuse_others(event, arguments):
    """Lets nothing but this machine's loopback be asked for, and remembers what was."""
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "localhost"
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in (None, "localhost", "127.0.0.1", "::1"):
        outside.append(host)
        raise ConnectionRefusedError(f"{host} is not on this machine's loopback")


sys.addaudithook(_refuse_others)


def ask(method, path, body=None):
    """The reply to a request of our own; its body is not read."""
    connection = http.client.HTTPConnection(urlsplit(URL).netloc, timeout=60)
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    connection.request(method, path, body and json.dumps(body), headers)
    return connection, connection.getresponse()


def token_count(messages, tools=None):
    """How many tokens the model reads of a chat, by the server's own word."""
    body = {"messages": messages, **({"tools": tools} if tools else {})}
    _, reply = ask("POST", "/tokenize", body)
    return json.load(reply)["count"]


@contextlib.contextmanager
def full_server():
    """A server without a free place, until somebody sleeps for as long as its 429 asks to."""
    body = {"messages": CHAT, "n": int(PLACES), "max_tokens": 1500, "ignore_eos": True, "stream": True}
    connection, reply = ask("POST", "/v1/chat/completions", body)
    assert reply.status == 200, f"{reply.status}: the server has not {PLACES} places"
    reply.readline()
    _, refusal = ask("POST", "/v1/chat/completions", {"messages": CHAT})
    assert refusal.status == 429, f"{refusal.status} where 429 was expected"
    asked_s = float(refusal.headers["retry-after"])
    real_sleep, real_sleep_async = time.sleep, anyio.sleep

    def sleep(seconds):
        if seconds == asked_s:
            leave(connection, real_sleep)
        real_sleep(seconds)

    async def sleep_async(seconds):
        if seconds == asked_s:
            leave(connection, real_sleep)
        await real_sleep_async(seconds)

    time.sleep, anyio.sleep = sleep, sleep_async
    try:
        yield
    finally:
        time.sleep, anyio.sleep = real_sleep, real_sleep_async
        leave(connection, real_sleep)


def leave(connection, sleep):
    """Gives up the places, and waits until the server has them back."""
    if connection.sock is not None:
        connection.close()
    for _ in range(1000):
        _, reply = ask("GET", "/load")
        if json.load(reply)["server_load"] == 0:
            return
        sleep(0.02)
    raise AssertionError("the server goes on with a request whose client has left")


def expect(error, call):
    """The error of this class that `call` ends with."""
    try:
        got = call()
    except Exception as raised:
        assert isinstance(raised, error), f"{type(raised)} where {error} was expected: {raised}"
        return raised
    raise AssertionError(f"{got!r} where {error} was expected")


class Client:
    """A client under test: its row in the table, and its exchanges in the order of their columns."""

    def __init__(self, name, package):
        self.name = name
        self.version = importlib.metadata.version(package)
        self.exchanges = []

    def exchange(self, function):
        """Registers an exchange under the name of its column."""
        self.exchanges.append(function)
        return function

    def run(self):
        """Makes all exchanges and records them."""
        for function in self.exchanges:
            failure = None
            try:
                function()
            except Exception:
                failure = traceback.format_exc()
            self.record(function.__name__, failure)
        self.record("loopback", f"it asked for {outside}" if outside else None)

    def record(self, exchange, failure):
        """Writes a line about an exchange, with the reason if it failed."""
        line = {"client": self.name, "version": self.version, "exchange": exchange, "failure": failure}
        with open(RESULTS, "a", encoding="utf-8") as results:
            results.write(json.dumps(line) + "\n")
