// The AI SDK, with its provider for servers of OpenAI's interface.

import assert from "node:assert/strict";

import * as exchange from "./exchange.mjs";

const { APICallError, Output, generateText, isStepCount, streamText, tool } = await import("ai");
const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
const { z } = await import("zod");

const { MODEL, QUESTION } = exchange;

function provider(fields) {
  return createOpenAICompatible({
    name: "loopback",
    baseURL: exchange.BASE_URL,
    apiKey: exchange.KEY,
    includeUsage: true,
    supportsStructuredOutputs: true,
    ...fields,
  });
}

const served = provider()(MODEL);
const request = (fields) =>
  ({ model: served, prompt: QUESTION, temperature: 0, maxOutputTokens: 60, maxRetries: 0, ...fields });

const Place = z.object({
  city: z.enum(["Paris", "Rome"]),
  country: z.enum(["France", "Italy"]),
  is_capital: z.boolean(),
});

await exchange.run("AI SDK, `@ai-sdk/openai-compatible`", "ai", {
  async chat() {
    const reply = await generateText(request());
    assert.match(reply.text, exchange.ANSWER);
    assert.equal(reply.finishReason, "stop");
    assert.equal(reply.usage.inputTokens, await exchange.tokenCount(exchange.CHAT));
    assert.equal(reply.usage.totalTokens, reply.usage.inputTokens + reply.usage.outputTokens);
    const cut = await generateText(request({ maxOutputTokens: 3 }));
    assert.deepEqual([cut.finishReason, cut.usage.outputTokens], ["length", 3]);
  },

  async stream() {
    const whole = await generateText(request());
    const streamed = streamText(request());
    const pieces = [];
    for await (const piece of streamed.textStream) pieces.push(piece);
    assert.equal(pieces.join(""), whole.text);
    assert.ok(pieces.length > 3);
    assert.equal(await streamed.finishReason, "stop");
    const usage = await streamed.usage;
    assert.equal(usage.inputTokens, whole.usage.inputTokens);
    assert.equal(usage.outputTokens, whole.usage.outputTokens);
  },

  async schema() {
    const reply = await generateText(request({ output: Output.object({ schema: Place }) }));
    Place.parse(reply.output);
    const streamed = streamText(request({ output: Output.object({ schema: Place }) }));
    assert.deepEqual(await streamed.output, reply.output);
  },

  async tools() {
    const called = [];
    const fields = {
      prompt: exchange.PLEASE_CALL,
      stopWhen: isStepCount(2),
      tools: {
        get_weather: tool({
          description: exchange.WEATHER_ABOUT,
          inputSchema: z.object({ city: z.string() }),
          execute: async (given) => (called.push(given), exchange.WEATHER_IS),
        }),
      },
    };
    const { tools } = fields;
    const prompt = exchange.WEATHER_CHAT[0].content;
    const forced = await generateText(request({ prompt, tools, toolChoice: "required" }));
    assert.equal(typeof forced.toolCalls[0].input.city, "string");
    called.length = 0;
    const reply = await generateText(request(fields));
    assert.deepEqual(called, [exchange.CALL_ARGUMENTS]);
    assert.equal(reply.steps.length, 2);
    assert.equal(reply.steps[0].finishReason, "tool-calls");
    const streamed = streamText(request(fields));
    await streamed.consumeStream();
    assert.deepEqual(called, [exchange.CALL_ARGUMENTS, exchange.CALL_ARGUMENTS]);
    assert.equal(await streamed.text, reply.text);
  },

  async error() {
    const failing = (fields) =>
      exchange.expectError(APICallError, () => generateText(request(fields)));
    const bad = await failing({ temperature: 9 });
    assert.deepEqual([bad.statusCode, bad.isRetryable], [400, false]);
    assert.equal(bad.data.error.param, "temperature");
    const unknown = await failing({ model: provider()("gpt-9") });
    assert.deepEqual([unknown.statusCode, unknown.data.error.code], [404, "model_not_found"]);
    const denied = await failing({ model: provider({ apiKey: exchange.WRONG_KEY })(MODEL) });
    assert.equal(denied.statusCode, 401);
  },

  async retry() {
    await exchange.atFullServer(async () => {
      const full = await exchange.expectError(APICallError, () => generateText(request()));
      assert.deepEqual([full.statusCode, full.isRetryable], [429, true]);
      const reply = await generateText(request({ maxRetries: 5 }));
      assert.match(reply.text, exchange.ANSWER);
    });
  },
});
