// The official `openai` client for JavaScript, over chat completions.

import assert from "node:assert/strict";

import * as exchange from "./exchange.mjs";

const { default: OpenAI } = await import("openai");
const { zodResponseFormat } = await import("openai/helpers/zod");
const { z } = await import("zod");

const { MODEL, CHAT } = exchange;
const options = { baseURL: exchange.BASE_URL, apiKey: exchange.KEY, maxRetries: 0 };
const client = new OpenAI(options);

const request = (fields) =>
  ({ model: MODEL, messages: CHAT, temperature: 0, max_completion_tokens: 60, ...fields });
const ask = (fields) => client.chat.completions.create(request(fields));

const Place = z.object({
  city: z.enum(["Paris", "Rome"]),
  country: z.enum(["France", "Italy"]),
  is_capital: z.boolean(),
});

const getWeather = {
  type: "function",
  function: {
    name: "get_weather",
    description: exchange.WEATHER_ABOUT,
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

await exchange.run("openai for JavaScript", "openai", {
  async chat() {
    const models = await client.models.list();
    assert.deepEqual(models.data.map((model) => model.id), [MODEL]);
    const reply = await ask();
    const [choice] = reply.choices;
    assert.match(choice.message.content, exchange.ANSWER);
    assert.equal(choice.finish_reason, "stop");
    assert.equal(reply.usage.prompt_tokens, await exchange.tokenCount(CHAT));
    const { prompt_tokens, completion_tokens, total_tokens } = reply.usage;
    assert.equal(total_tokens, prompt_tokens + completion_tokens);
    const cut = await ask({ max_completion_tokens: 3 });
    assert.equal(cut.choices[0].finish_reason, "length");
    assert.equal(cut.usage.completion_tokens, 3);
  },

  async stream() {
    const whole = await ask();
    const [pieces, reasons, usages] = [[], [], []];
    const chunks = await ask({ stream: true, stream_options: { include_usage: true } });
    for await (const chunk of chunks) {
      for (const choice of chunk.choices) {
        if (choice.delta.content) pieces.push(choice.delta.content);
        if (choice.finish_reason) reasons.push(choice.finish_reason);
      }
      if (chunk.usage) usages.push(chunk.usage);
    }
    assert.equal(pieces.join(""), whole.choices[0].message.content);
    assert.ok(pieces.length > 3);
    assert.deepEqual(reasons, ["stop"]);
    assert.deepEqual(usages.map((usage) => usage.total_tokens), [whole.usage.total_tokens]);
  },

  async schema() {
    const format = zodResponseFormat(Place, "place");
    const reply = await client.chat.completions.parse(request({ response_format: format }));
    Place.parse(reply.choices[0].message.parsed);
    assert.equal(reply.choices[0].finish_reason, "stop");
  },

  async tools() {
    const fields = { messages: exchange.CALL_CHAT, tools: [getWeather] };
    const reply = await ask(fields);
    const said = reply.choices[0].message;
    assert.equal(reply.choices[0].finish_reason, "tool_calls");
    assert.equal(said.tool_calls.length, 1);
    assert.equal(said.tool_calls[0].function.name, "get_weather");
    assert.deepEqual(JSON.parse(said.tool_calls[0].function.arguments), exchange.CALL_ARGUMENTS);
    for (const [tool_choice, reason] of [
      ["required", "tool_calls"],
      [{ type: "function", function: { name: "get_weather" } }, "stop"],
    ]) {
      const messages = exchange.WEATHER_CHAT;
      const forced = { messages, tools: [getWeather], tool_choice, parallel_tool_calls: false };
      const whole = (await ask(forced)).choices[0];
      assert.equal(whole.finish_reason, reason);
      const [must] = whole.message.tool_calls;
      assert.equal(typeof JSON.parse(must.function.arguments).city, "string");
      const streamed = await client.chat.completions.stream(request(forced)).finalChatCompletion();
      const [again] = streamed.choices[0].message.tool_calls;
      assert.equal(again.function.arguments, must.function.arguments);
    }
    const called = [];
    const run = (city) => (called.push(city), exchange.WEATHER_IS);
    const runner = client.chat.completions.runTools(
      request({
        messages: exchange.CALL_CHAT,
        stream: true,
        tools: [{
          type: "function",
          function: { ...getWeather.function, function: run, parse: JSON.parse },
        }],
      }),
      { maxChatCompletions: 2 },
    );
    await runner.done();
    assert.deepEqual(called[0], exchange.CALL_ARGUMENTS);
    const roles = runner.messages.map((message) => message.role).slice(0, 4);
    assert.deepEqual(roles, ["user", "assistant", "tool", "assistant"]);
  },

  async error() {
    const bad = await exchange.expectError(OpenAI.BadRequestError, () => ask({ temperature: 9 }));
    assert.deepEqual([bad.status, bad.param, bad.code], [400, "temperature", null]);
    const unknown = await exchange.expectError(OpenAI.NotFoundError, () => ask({ model: "gpt-9" }));
    assert.deepEqual([unknown.status, unknown.code], [404, "model_not_found"]);
    const stranger = new OpenAI({ ...options, apiKey: exchange.WRONG_KEY });
    const denied = await exchange.expectError(
      OpenAI.AuthenticationError,
      () => stranger.models.list(),
    );
    assert.deepEqual([denied.status, denied.code], [401, "invalid_api_key"]);
  },

  async retry() {
    await exchange.atFullServer(async () => {
      const full = await exchange.expectError(OpenAI.RateLimitError, () => ask());
      assert.deepEqual([full.status, full.code], [429, "queue_full"]);
      const patient = new OpenAI({ ...options, maxRetries: 5 });
      const reply = await patient.chat.completions.create(request());
      assert.match(reply.choices[0].message.content, exchange.ANSWER);
    });
  },
});
