// What the page asks of the server, and what it makes of the replies. Addresses are relative, so that
// the page also works behind a proxy that serves it in a folder.

const KEY = "millrace-key";

/** The key of this tab: kept by the browser until the tab is closed, and nowhere else. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

/** A failure in words: what happened, and after how many seconds another attempt makes sense. */
export class Failure extends Error {
  constructor(words, { status = 0, retryAfter = null } = {}) {
    super(words);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** A reply to `path`; anything but 200 is a Failure. */
export async function request(path, { body, signal } = {}) {
  const headers = {};
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  if (body) headers["content-type"] = "application/json";
  const options = { method: body ? "POST" : "GET", headers, body, signal };
  let reply;
  try {
    reply = await fetch(path, { ...options, cache: "no-store", credentials: "omit" });
  } catch (error) {
    throw connectionLost(error, "The server cannot be reached. It may have stopped, or the network may be down.");
  }
  if (!reply.ok) throw await refusal(reply);
  return reply;
}

function connectionLost(error, words) {
  return error.name === "AbortError" || error.name === "TimeoutError" ? error : new Failure(words);
}

async function refusal(reply) {
  let message = reply.statusText, code = null;
  try {
    ({ message, code } = (await reply.json()).error);
  } catch {
    // Not ours: something between the page and the server answered.
  }
  const seconds = Number.parseInt(reply.headers.get("retry-after"), 10);
  const retryAfter = Number.isNaN(seconds) ? null : seconds;
  return new Failure(words(reply.status, code, sentence(message)), { status: reply.status, retryAfter });
}

function words(status, code, message) {
  if (status === 401) return key.get() ? "The server does not take this API key." : "The server wants an API key.";
  if (status === 429) return `The server is full. ${message}`;
  if (status === 503) return `The server takes no requests now. ${message}`;
  if (code === "context_length_exceeded") {
    return `The conversation is too long. ${message} Clear it, or ask for fewer tokens.`;
  }
  return `The server refused (${status}). ${message}`;
}

/** `text` with a capital and a full stop. */
function sentence(text) {
  const trimmed = String(text || "It gave no reason").trim();
  return trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}

/** Asks for a chat completion and yields its chunks as they come. Ends only after a whole answer. */
export async function* chat(body, signal) {
  const options = { stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
  const reply = await request("v1/chat/completions", { body: JSON.stringify({ ...body, ...options }), signal });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (true) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      throw connectionLost(error, "The connection was lost in the middle of the answer.");
    }
    if (piece.done) throw new Failure("The answer broke off before its end.");
    const events = (text + piece.value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const { name, data } = fields(event);
      if (data === "[DONE]") return;
      if (name === "error") throw broken(JSON.parse(data).error);
      if (data) yield JSON.parse(data);
    }
  }
}

function broken({ message }) {
  return new Failure(`The server could not finish the answer. ${sentence(message)}`);
}

/** Name and data of a server-sent event; a comment has neither. */
function fields(event) {
  const found = { name: "", data: "" };
  for (const line of event.split("\n")) {
    if (line.startsWith("event: ")) found.name = line.slice(7);
    if (line.startsWith("data: ")) found.data = line.slice(6);
  }
  return found;
}
