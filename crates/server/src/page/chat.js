// The conversation: its turns, the answer in the making, and what is told about each answer.

import { Failure, chat } from "./api.js";
import { copyButton, render } from "./markdown.js";
import { seconds } from "./panel.js";

const STORED = "millrace-conversation";
/** Within so many pixels of its end the reader follows the conversation. */
const NEAR_END = 40;

/**
 * A conversation in `log`. Of `hooks`: `options()` gives system prompt and sampling settings, `tell(words)`
 * shows a state, `scrolled()`, `changed()` and `keyRefused(words)` say that something happened.
 */
export class Conversation {
  #turns = [];
  #answering = null;
  #log;
  #hooks;

  constructor(log, hooks) {
    this.#log = log;
    this.#hooks = hooks;
  }

  /** Shows what this tab had before it was reloaded. */
  restore() {
    for (const { role, content, readout } of stored()) {
      const turn = this.#add(role, content);
      if (readout) show(turn.readout, readout);
    }
    this.#changed();
  }

  get isAnswering() {
    return this.#answering !== null;
  }

  get isEmpty() {
    return this.#turns.length === 0;
  }

  /** Asks `question` and shows the answer as it comes. */
  ask(question) {
    this.#forgetFailure();
    this.#add("user", question);
    this.scrollToEnd();
    return this.#answer();
  }

  /** Answers the last question again; the answer that it has stays if no other one comes. */
  again() {
    this.#forgetFailure();
    const before = this.#turns.at(-1)?.role === "assistant" ? this.#turns.pop() : null;
    before?.element.remove();
    return this.#answer(before);
  }

  stop() {
    this.#answering?.abort();
  }

  clear() {
    this.stop();
    for (const turn of this.#turns.splice(0)) turn.element.remove();
    this.#forgetFailure();
    this.#changed();
  }

  isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  scrollToEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  async #answer(before = null) {
    const options = this.#hooks.options();
    const messages = this.#messages(options.system);
    const turn = this.#add("assistant", "");
    turn.element.setAttribute("aria-busy", "true");
    const controller = new AbortController();
    this.#answering = controller;
    this.#changed();
    this.#hooks.tell("Answering …");
    const answer = new Answer();
    let frame = 0;
    const draw = () => {
      frame = 0;
      this.#draw(turn, answer);
    };
    try {
      for await (const chunk of chat({ ...options.sampling, messages }, controller.signal)) {
        answer.take(chunk);
        // A frame draws all that came since the one before.
        frame ||= requestAnimationFrame(draw);
      }
    } catch (error) {
      answer.failure = controller.signal.aborted ? null : error;
      answer.finish ??= controller.signal.aborted ? "stopped" : "failed";
    }
    cancelAnimationFrame(frame);
    this.#answering = null;
    this.#end(turn, answer, before);
  }

  #draw(turn, answer) {
    const follows = this.isAtEnd();
    turn.content = answer.text;
    if (answer.thoughts) thoughtsOf(turn).textContent = answer.thoughts;
    render(turn.text, answer.text);
    show(turn.readout, answer.readout());
    if (follows) this.scrollToEnd();
    this.#hooks.scrolled();
  }

  #end(turn, answer, before) {
    turn.element.removeAttribute("aria-busy");
    // What was cleared meanwhile stays cleared.
    if (!this.#turns.includes(turn)) return this.#changed();
    this.#draw(turn, answer);
    if (answer.tokens === 0) {
      this.#turns.pop();
      turn.element.remove();
      if (before) {
        this.#turns.push(before);
        this.#log.append(before.element);
      }
    } else if (!answer.text) {
      turn.text.textContent = "(an empty answer)";
    }
    if (answer.failure) this.#fail(answer.failure);
    const ends = { stopped: "Stopped.", failed: "" };
    this.#hooks.tell(ends[answer.finish] ?? `Answered in ${answer.tokens} tokens.`);
    this.#changed();
  }

  /** System prompt and turns; of several questions without an answer the last one. */
  #messages(system) {
    const answered = (turn, i) => turn.role !== "user" || this.#turns[i + 1]?.role !== "user";
    const turns = this.#turns.filter(answered).map(({ role, content }) => ({ role, content }));
    return system ? [{ role: "system", content: system }, ...turns] : turns;
  }

  #add(role, content) {
    const element = make("article", `turn ${role}`);
    const name = make("h3", "", role === "user" ? "You" : "Answer");
    const text = make("div", "text");
    const turn = { role, content, element, text };
    const tools = make("div", "tools");
    tools.append(copyButton(() => turn.content));
    element.append(name, text);
    if (role === "assistant") {
      render(text, content);
      turn.readout = element.appendChild(make("p", "readout"));
      turn.again = make("button", "again", "Regenerate");
      turn.again.type = "button";
      turn.again.addEventListener("click", () => this.again());
      tools.append(turn.again);
    } else {
      text.textContent = content;
    }
    element.append(tools);
    this.#log.append(element);
    this.#turns.push(turn);
    return turn;
  }

  /** Says what went wrong, below the conversation, and offers another attempt when it makes sense. */
  #fail(failure) {
    const follows = this.isAtEnd();
    const element = make("div", "failure");
    element.setAttribute("role", "alert");
    const known = failure instanceof Failure;
    element.append(make("p", "", known ? failure.message : `The page failed: ${failure.message}`));
    const button = make("button", "retry", "Try again");
    button.type = "button";
    button.addEventListener("click", () => this.again());
    element.append(button);
    this.#log.append(element);
    countDown(button, failure.retryAfter ?? 0);
    if (failure.status === 401) this.#hooks.keyRefused(failure.message);
    if (follows) this.scrollToEnd();
  }

  #forgetFailure() {
    this.#log.querySelector(".failure")?.remove();
  }

  /** Only the last answer can be made again; what is kept and what can be pressed follows the turns. */
  #changed() {
    const last = this.#turns.at(-1);
    for (const turn of this.#turns) {
      if (turn.again) turn.again.hidden = turn !== last || this.isAnswering;
    }
    if (!this.isAnswering) store(this.#turns);
    this.#hooks.changed();
  }
}

/** What is known of an answer, and how it is told. Times are in milliseconds. */
class Answer {
  text = "";
  thoughts = "";
  tokens = 0;
  finish = null;
  failure = null;
  #asked = performance.now();
  #first = null;
  #last = null;
  #usage = null;
  #timings = null;

  take(chunk) {
    const choice = chunk.choices[0];
    if (choice) {
      this.#last = performance.now();
      this.#first ??= this.#last;
      this.text += choice.delta.content ?? "";
      this.thoughts += choice.delta.reasoning_content ?? "";
      this.finish = choice.finish_reason ?? this.finish;
    }
    this.#usage = chunk.usage ?? this.#usage;
    this.#timings = chunk.timings ?? this.#timings;
    this.tokens = this.#usage?.completion_tokens ?? this.tokens;
  }

  /** Its figures, each a short text. */
  readout() {
    if (this.tokens === 0) return [];
    const decode = this.#timings?.decode_ms ?? this.#last - this.#first;
    const rate = (1000 * (this.tokens - 1)) / decode;
    const parts = [
      this.tokens === 1 ? "1 token" : `${this.tokens} tokens`,
      `first after ${milliseconds(this.#first - this.#asked)}`,
    ];
    if (0 < decode && 1 < this.tokens) parts.push(`${rate.toFixed(1)} tokens/s`);
    if (this.#timings) {
      const { queue_ms: queue, prefill_ms: prefill } = this.#timings;
      parts.push(`queue ${milliseconds(queue)}`, `prefill ${milliseconds(prefill)}`);
      parts.push(`decode ${milliseconds(decode)}`);
    }
    const cached = this.#timings?.cached_prompt_tokens;
    parts.push(`prompt ${this.#usage.prompt_tokens} tokens${cached ? `, ${cached} of them cached` : ""}`);
    if (this.finish) parts.push(ENDS[this.finish] ?? this.finish);
    return parts;
  }
}

const ENDS = {
  stop: "ended by itself",
  length: "cut at the limit of tokens",
  stopped: "stopped by you",
  failed: "broken off",
};

function milliseconds(value) {
  return value < 1 ? "0 ms" : seconds(value / 1000);
}

function show(readout, parts) {
  readout.replaceChildren(...parts.map((part) => make("span", "", part)));
}

function countDown(button, left) {
  button.disabled = 0 < left;
  button.textContent = 0 < left ? `Try again in ${left} s` : "Try again";
  if (0 < left) setTimeout(() => countDown(button, left - 1), 1000);
}

/** Where the thoughts before an answer are shown; made when there are any. */
function thoughtsOf(turn) {
  if (!turn.thoughts) {
    const details = make("details", "thoughts");
    turn.thoughts = make("p");
    details.append(make("summary", "", "Thoughts"), turn.thoughts);
    details.open = true;
    turn.text.before(details);
  }
  return turn.thoughts;
}

function make(name, className, text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}

/** A reload keeps the conversation; closing the tab ends it. */
function store(turns) {
  const kept = turns.map(({ role, content, readout }) => {
    const parts = readout && [...readout.children].map((part) => part.textContent);
    return { role, content, readout: parts };
  });
  try {
    sessionStorage.setItem(STORED, JSON.stringify(kept));
  } catch {
    // Larger than the browser keeps: it lasts as long as the page.
  }
}

function stored() {
  return JSON.parse(sessionStorage.getItem(STORED) ?? "[]");
}
