// What the exchanges of all JavaScript clients share; the same as exchange.py, which has the reasons.
//
// A client's file imports this before the client. It is run as `FILE URL KEY MODEL PLACES RESULTS`.

import assert from "node:assert/strict";
import { appendFileSync, readFileSync } from "node:fs";
import net from "node:net";

export const [URL, KEY, MODEL, PLACES, RESULTS] = process.argv.slice(2);
export const BASE_URL = `${URL}/v1`;
export const WRONG_KEY = "sk-of-somebody-else";

export const QUESTION = "What is the capital of France?";
export const CHAT = [{ role: "user", content: QUESTION }];
export const ANSWER = /Paris/;

export const PLEASE_CALL =
  "Repeat exactly, and add nothing: " +
  '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>';
export const CALL_CHAT = [{ role: "user", content: PLEASE_CALL }];
export const WEATHER_ABOUT = "Tells the weather of a city";
export const CALL_ARGUMENTS = { city: "Paris" };
export const WEATHER_CHAT = [{ role: "user", content: "What is the weather in Rome?" }];
export const WEATHER_IS = "It rains in Paris, 9 degrees.";

const outside = [];
const connect = net.Socket.prototype.connect;

net.Socket.prototype.connect = function (...given) {
  const { host, path } = net._normalizeArgs(given.flat(1))[0];
  if (!path && ![undefined, "localhost", "127.0.0.1", "::1"].includes(host)) {
    outside.push(host);
    throw new Error(`${host} is not on this machine's loopback`);
  }
  return connect.apply(this, given);
};

/** The reply to a request of our own. */
export function ask(method, path, body, signal) {
  const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };
  return fetch(URL + path, { method, headers, body: body && JSON.stringify(body), signal });
}

/** How many tokens the model reads of a chat, by the server's own word. */
export async function tokenCount(messages) {
  return (await (await ask("POST", "/tokenize", { messages })).json()).count;
}

/** Runs `during` at a server without a free place, until somebody waits for as long as its 429 asks to. */
export async function atFullServer(during) {
  const stay = new AbortController();
  const body = { messages: CHAT, n: Number(PLACES), max_tokens: 1500, ignore_eos: true, stream: true };
  const stream = await ask("POST", "/v1/chat/completions", body, stay.signal);
  assert.equal(stream.status, 200);
  const refusal = await ask("POST", "/v1/chat/completions", { messages: CHAT });
  assert.equal(refusal.status, 429);
  const askedMs = 1000 * Number(refusal.headers.get("retry-after"));
  const { setTimeout } = globalThis;
  globalThis.setTimeout = (callback, ms, ...rest) => {
    if (ms === askedMs) stay.abort();
    return setTimeout(callback, ms, ...rest);
  };
  try {
    await during();
  } finally {
    globalThis.setTimeout = setTimeout;
    stay.abort();
  }
}

/** The error of this class that `call` ends with. */
export async function expectError(kind, call) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, error);
    return error;
  }
  assert.fail(`no ${kind.name} where one was expected`);
}

/** Makes the exchanges of a client, each under the name of its column, and records them. */
export async function run(client, folder, exchanges) {
  const { version } = JSON.parse(readFileSync(`node_modules/${folder}/package.json`));
  const record = (exchange, failure) =>
    appendFileSync(RESULTS, JSON.stringify({ client, version, exchange, failure }) + "\n");
  for (const [name, exchange] of Object.entries(exchanges)) {
    await exchange().then(
      () => record(name, null),
      (error) => record(name, error.stack),
    );
  }
  record("loopback", outside.length ? `it asked for ${outside}` : null);
}
