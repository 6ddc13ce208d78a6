// The live panel: `/metrics` once a second while the page is seen, as figures and small curves.

import { request } from "./api.js";

const PERIOD_MS = 1000;
/** How long a reply may take before the server counts as out of reach. */
const PATIENCE_MS = 5000;
/** Samples that are kept: a minute. */
const SAMPLES = 60;
const SVG = "http://www.w3.org/2000/svg";

/** The figures: a series of the samples, and the text of its last value. */
const FIGURES = [
  { id: "running", name: "Running", title: "Requests in the running batch, and how many may be",
    series: (samples) => samples.map((s) => s.running),
    text: (value, limits) => (limits.max_num_seqs ? `${value} / ${limits.max_num_seqs}` : `${value}`) },
  { id: "waiting", name: "Waiting", title: "Requests accepted and not running",
    series: (samples) => samples.map((s) => s.waiting), text: (value) => `${value}` },
  { id: "kv", name: "KV cache", title: "Share of the KV cache that requests hold", top: 1,
    series: (samples) => samples.map((s) => s.kv), text: (value) => `${(100 * value).toFixed(1)} %` },
  { id: "rate", name: "Tokens/s", title: "Tokens generated per second, over all requests",
    series: rates, text: (value) => value.toFixed(1) },
  { id: "ttft", name: "TTFT", title: "Time to first token: mean of the latest requests that got one",
    series: firstTokens, text: (value) => (value === null ? "–" : seconds(value)) },
];

/** `value` seconds, for people. */
export function seconds(value) {
  return value < 1 ? `${Math.round(1000 * value)} ms` : `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

/** What a page of metrics says; several series of one name are added up. */
export function sample(page, time) {
  const sums = new Map();
  for (const line of page.split("\n")) {
    const end = line.search(/[{ ]/);
    if (line.startsWith("#") || end < 0) continue;
    const name = line.slice(0, end);
    sums.set(name, (sums.get(name) ?? 0) + Number(line.slice(line.lastIndexOf(" ") + 1)));
  }
  const value = (name) => sums.get(`vllm:${name}`) ?? 0;
  return {
    time,
    running: value("num_requests_running"),
    waiting: value("num_requests_waiting"),
    kv: value("kv_cache_usage_perc"),
    tokens: value("generation_tokens_total"),
    ttftSum: value("time_to_first_token_seconds_sum"),
    ttftCount: value("time_to_first_token_seconds_count"),
  };
}

/** Tokens per second from each sample to the next. */
function rates(samples) {
  const rate = (s, i) => (1000 * (s.tokens - samples[i].tokens)) / (s.time - samples[i].time);
  return samples.length < 2 ? [0] : samples.slice(1).map(rate);
}

/** Mean time to first token from each sample to the next; where there was none, the one before. */
function firstTokens(samples) {
  let last = null;
  return samples.map((s, i) => {
    const before = samples[i - 1] ?? { ttftSum: 0, ttftCount: 0 };
    const count = s.ttftCount - before.ttftCount;
    if (0 < count) last = (s.ttftSum - before.ttftSum) / count;
    return last;
  });
}

/** Shows the panel in `tiles`, its state in `state`; `limits` is what `/server_info` says. */
export class Panel {
  #samples = [];
  #timer = null;
  #tiles;
  #state;

  constructor(tiles, state) {
    this.#state = state;
    this.#tiles = FIGURES.map((figure) => ({ figure, ...tile(tiles, figure) }));
    this.limits = {};
    document.addEventListener("visibilitychange", () => this.start());
  }

  /** Looks now, and from then on once a second, unless the page is hidden. */
  start() {
    clearTimeout(this.#timer);
    if (document.hidden) this.#state.textContent = "paused";
    else this.#look();
  }

  async #look() {
    try {
      const reply = await request("metrics", { signal: AbortSignal.timeout(PATIENCE_MS) });
      this.#add(sample(await reply.text(), performance.now()));
      this.#tell("");
    } catch (error) {
      this.#tell(error.status === 401 ? "needs the key" : "out of reach, still trying");
      // Asking again with the wrong key would fill the server's log; the new key starts us.
      if (error.status === 401) return;
    }
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.#look(), PERIOD_MS);
  }

  /** Says how the figures are; while the page is hidden that stays said. */
  #tell(words) {
    if (!document.hidden) this.#state.textContent = words;
  }

  #add(next) {
    // Fewer tokens than before: another server.
    if (next.tokens < (this.#samples.at(-1)?.tokens ?? 0)) this.#samples = [];
    this.#samples.push(next);
    this.#samples.splice(0, this.#samples.length - SAMPLES);
    for (const { figure, value, line, area } of this.#tiles) {
      const series = figure.series(this.#samples);
      value.textContent = figure.text(series.at(-1), this.limits);
      draw(line, area, series.map((v) => v ?? 0), figure.top);
    }
  }
}

function tile(parent, { id, name, title }) {
  const element = document.createElement("div");
  element.className = "tile";
  element.title = title;
  const label = document.createElement("span");
  label.className = "name";
  label.textContent = name;
  const value = document.createElement("span");
  value.className = "value";
  value.id = `live-${id}`;
  value.textContent = "–";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${SAMPLES - 1} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const area = svg.appendChild(document.createElementNS(SVG, "polygon"));
  area.setAttribute("class", "spark-area");
  const line = svg.appendChild(document.createElementNS(SVG, "polyline"));
  line.setAttribute("class", "spark-line");
  element.append(label, value, svg);
  parent.append(element);
  return { value, line, area };
}

/** Draws `series` with its last value at the right edge; from 0 to `top`, or to its own largest. */
function draw(line, area, series, top) {
  const scale = top ?? Math.max(...series, Number.MIN_VALUE);
  const first = SAMPLES - series.length;
  const points = series.map((value, i) => `${first + i},${(19 - 18 * (value / scale)).toFixed(2)}`);
  line.setAttribute("points", points.join(" "));
  area.setAttribute("points", `${first},20 ${points.join(" ")} ${SAMPLES - 1},20`);
}
