// Puts the page together: key, model line, settings, theme, and what keys and buttons do.

import { key, request } from "./api.js";
import { Conversation } from "./chat.js";
import { Panel } from "./panel.js";

const THEME = "millrace-theme";
const SETTINGS = "millrace-settings";
const THEMES = ["auto", "light", "dark"];
const NUMBERS = ["temperature", "top_p", "top_k", "max_tokens", "seed"];
/** Pause before another attempt to reach a server that is not there. */
const RETRY_MS = 3000;
const element = (id) => document.getElementById(id);

const panel = new Panel(element("tiles"), element("live-state"));
const conversation = new Conversation(element("log"), {
  options: () => ({ system: element("system").value.trim(), sampling: sampling() }),
  tell: (words) => (element("status").textContent = words),
  scrolled: showLatest,
  changed,
  keyRefused: askForKey,
});

/** The settings that are filled in. */
function sampling() {
  const filled = NUMBERS.filter((name) => element(name).value !== "");
  return Object.fromEntries(filled.map((name) => [name, Number(element(name).value)]));
}

/** Shows what can be done now. */
function changed() {
  element("stop").hidden = !conversation.isAnswering;
  element("send").hidden = conversation.isAnswering;
  element("clear").disabled = conversation.isEmpty;
  element("empty").hidden = !conversation.isEmpty;
  showLatest();
}

function showLatest() {
  element("latest").hidden = conversation.isAtEnd();
}

/** Learns what is served; asks for the key if the server wants one. */
async function connect() {
  try {
    const info = await (await request("server_info")).json();
    element("key").hidden = true;
    describe(info);
    panel.limits = info;
    panel.start();
  } catch (error) {
    if (error.status === 401) askForKey(error.message);
    else {
      element("model").textContent = error.message;
      setTimeout(connect, RETRY_MS);
    }
  }
}

function describe(info) {
  element("model").textContent = `${info.model} · ${info.device}`;
  element("model").title = `Millrace ${info.version}, ${info.model} from ${info.root} on ${info.device}; ${info.concurrency_line}`;
  document.title = `${info.model} – Millrace`;
  for (const name of ["temperature", "top_p"]) element(name).placeholder = info.sampling_defaults[name];
  element("top_k").placeholder = info.sampling_defaults.top_k || "all";
  element("max_tokens").placeholder = `to ${info.max_model_len}`;
  element("max_tokens").max = info.max_model_len;
  element("seed").placeholder = "a new one";
}

function askForKey(words) {
  element("key").hidden = false;
  element("key-hint").textContent = `${words} It is kept in this tab only, and forgotten when the tab is closed.`;
  element("key-field").focus();
}

element("key").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(element("key-field").value.trim());
  element("key-field").value = "";
  element("question").focus();
  connect();
});

element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});

function send() {
  const question = element("question").value.trim();
  if (!question || conversation.isAnswering) return;
  if (!element("sampling").checkValidity()) {
    element("settings").open = true;
    element("sampling").reportValidity();
    return;
  }
  element("question").value = "";
  element("question").focus();
  conversation.ask(question);
}

element("question").addEventListener("keydown", (event) => {
  // Enter also ends the input of characters that are composed of several keys.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && conversation.isAnswering) stop();
});

function stop() {
  conversation.stop();
  element("question").focus();
}

element("stop").addEventListener("click", stop);
element("clear").addEventListener("click", () => {
  conversation.clear();
  element("status").textContent = "";
  element("question").focus();
});
element("latest").addEventListener("click", () => conversation.scrollToEnd());
element("log").addEventListener("scroll", showLatest, { passive: true });

element("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  localStorage.setItem(THEME, next);
  showTheme();
});

function theme() {
  const kept = localStorage.getItem(THEME);
  return THEMES.includes(kept) ? kept : "auto";
}

function showTheme() {
  document.documentElement.dataset.theme = theme();
  element("theme").textContent = `◐ ${theme()}`;
  element("theme").ariaLabel = `Colours: ${theme()}`;
}

function restoreSettings() {
  const kept = JSON.parse(sessionStorage.getItem(SETTINGS) ?? "{}");
  for (const name of ["system", ...NUMBERS]) element(name).value = kept[name] ?? "";
}

element("sampling").addEventListener("input", () => {
  const values = ["system", ...NUMBERS].map((name) => [name, element(name).value]);
  sessionStorage.setItem(SETTINGS, JSON.stringify(Object.fromEntries(values)));
});

showTheme();
restoreSettings();
element("settings").open = matchMedia("(min-width: 52rem)").matches;
conversation.restore();
connect();
