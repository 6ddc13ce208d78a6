"""`openai-agents`, over chat completions and over responses, which is its default."""

import logging

import exchange
from exchange import MODEL, QUESTION, Client, Place, Weather

import anyio
import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
)
from openai.types.responses import ResponseTextDeltaEvent

# Its traces would go to OpenAI.
HERE = RunConfig(tracing_disabled=True)

# It logs the errors that it raises, too.
logging.getLogger("openai.agents").disabled = True


def run(name, form):
    tested = Client(f"openai-agents, {name}", "openai-agents")

    async def ask_async(
        question=QUESTION,
        stream=False,
        served=MODEL,
        key=exchange.KEY,
        max_retries=0,
        tools=(),
        output=None,
        **settings,
    ):
        """What the agent's run came to, and the pieces of text if it was a stream."""
        server = {"base_url": exchange.BASE_URL, "api_key": key, "max_retries": max_retries}
        async with openai.AsyncOpenAI(**server) as client:
            agent = Agent(
                name="tested",
                model=form(model=served, openai_client=client),
                model_settings=ModelSettings(**{"temperature": 0, "max_tokens": 60, **settings}),
                tools=list(tools),
                output_type=output,
            )
            if not stream:
                return await Runner.run(agent, question, run_config=HERE), []
            running = Runner.run_streamed(agent, question, run_config=HERE)
            events = [event async for event in running.stream_events()]
            raw = [event.data for event in events if event.type == "raw_response_event"]
            return running, [one.delta for one in raw if isinstance(one, ResponseTextDeltaEvent)]

    def ask(**fields):
        return anyio.run(lambda: ask_async(**fields))

    @tested.exchange
    def chat():
        reply, _ = ask()
        assert exchange.ANSWER in reply.final_output, reply
        usage = reply.context_wrapper.usage
        assert usage.input_tokens == exchange.token_count(exchange.CHAT), usage
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens, usage

    @tested.exchange
    def stream():
        whole, _ = ask()
        running, text = ask(stream=True, include_usage=True)
        assert "".join(text) == running.final_output == whole.final_output, text
        assert 3 < len(text), text
        used = [run.context_wrapper.usage.total_tokens for run in (whole, running)]
        assert used[0] == used[1], used

    @tested.exchange
    def schema():
        reply, _ = ask(output=Place)
        assert isinstance(reply.final_output, Place), reply

    @tested.exchange
    def tools():
        calls = []

        @function_tool
        def get_weather(asked: Weather) -> str:
            """Tells the weather of a city"""
            calls.append(asked)
            return exchange.WEATHER_IS

        forced = {"tools": [get_weather], "tool_choice": "required", "parallel_tool_calls": False}
        (question,) = [message["content"] for message in exchange.WEATHER_CHAT]
        for is_stream in (False, True):
            reply, _ = ask(question=question, stream=is_stream, **forced)
            made = [item.type for item in reply.new_items]
            assert made == ["tool_call_item", "tool_call_output_item", "message_output_item"], made
            assert reply.final_output, reply
        assert len(calls) == 2 and all(isinstance(call, Weather) for call in calls), calls

    @tested.exchange
    def error():
        bad = exchange.expect(openai.BadRequestError, lambda: ask(temperature=9))
        assert (bad.status_code, bad.param) == (400, "temperature"), bad
        unknown = exchange.expect(openai.NotFoundError, lambda: ask(served="gpt-9"))
        assert (unknown.status_code, unknown.code) == (404, "model_not_found"), unknown
        denied = exchange.expect(openai.AuthenticationError, lambda: ask(key=exchange.WRONG_KEY))
        assert denied.status_code == 401, denied

    @tested.exchange
    def retry():
        with exchange.full_server():
            full = exchange.expect(openai.RateLimitError, ask)
            assert (full.status_code, full.code) == (429, "queue_full"), full
            reply, _ = ask(max_retries=3)
        assert exchange.ANSWER in reply.final_output, reply

    tested.run()


run("chat completions", OpenAIChatCompletionsModel)
run("responses", OpenAIResponsesModel)
