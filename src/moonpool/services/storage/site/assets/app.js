// The web client: one conversation with one model, over the same API that every client has.
// No build step, nothing from elsewhere. The key lives in this tab's sessionStorage and nowhere else.

import { ApiError, listModels, streamChat } from "/assets/api.js";
import { renderText } from "/assets/text.js";

const KEY = "moonpool.key";
const MODEL = "moonpool.model";
const $ = (id) => document.getElementById(id);

const ui = {
  conversation: $("conversation"), welcome: $("welcome"), status: $("status"),
  composer: $("composer"), question: $("question"), send: $("send"), stop: $("stop"),
  model: $("model"), fresh: $("new"), changeKey: $("change-key"),
  error: $("error"), errorTitle: $("error-title"), errorMessage: $("error-message"), dismiss: $("dismiss"),
  dialog: $("key-dialog"), keyForm: $("key-form"), key: $("key"), keyError: $("key-error"),
  forget: $("forget"), cancel: $("cancel"),
};

/** What was said so far, as the API takes it. */
let messages = [];
/** The AbortController of the running answer, or null. */
let running = null;

// ── key and models ────────────────────────────────────────────────────────────────────────────────

function askForKey(reason = "") {
  const held = sessionStorage.getItem(KEY) !== null;
  ui.keyError.textContent = reason;
  ui.key.value = "";
  ui.forget.hidden = ui.cancel.hidden = !held;
  if (!ui.dialog.open) ui.dialog.showModal();
  ui.key.focus();
}

async function useKey(key) {
  const models = await listModels(key);
  sessionStorage.setItem(KEY, key);
  const wanted = sessionStorage.getItem(MODEL);
  ui.model.replaceChildren(...models.map((id) => new Option(id, id, false, id === wanted)));
  if (!models.length) ui.model.replaceChildren(new Option("No models here", ""));
  ui.model.disabled = !models.length;
  if (ui.dialog.open) ui.dialog.close();
  hideError();
  ui.question.focus();
}

ui.keyForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  ui.keyError.textContent = "";
  const submit = ui.keyForm.querySelector("[type=submit]");
  submit.disabled = true;
  try {
    await useKey(ui.key.value.trim());
  } catch (error) {
    ui.keyError.textContent = describe(error);
    ui.key.select();
  } finally {
    submit.disabled = false;
  }
});

ui.dialog.addEventListener("cancel", (event) => {
  if (sessionStorage.getItem(KEY) === null) event.preventDefault(); // nothing works without a key
});
ui.cancel.addEventListener("click", () => ui.dialog.close());
ui.forget.addEventListener("click", () => {
  sessionStorage.clear();
  location.reload();
});
ui.changeKey.addEventListener("click", () => askForKey());
ui.model.addEventListener("change", () => sessionStorage.setItem(MODEL, ui.model.value));

// ── conversation ──────────────────────────────────────────────────────────────────────────────────

function addArticle(kind, heading) {
  ui.welcome.hidden = true;
  ui.fresh.disabled = false;
  const article = document.createElement("article");
  article.className = kind;
  const title = document.createElement("h2");
  title.textContent = heading;
  const body = document.createElement("div");
  body.className = "body";
  article.append(title, body);
  ui.conversation.append(article);
  return { article, body };
}

function nearEnd() {
  const { scrollHeight, scrollTop, clientHeight } = ui.conversation;
  return scrollHeight - scrollTop - clientHeight < 80;
}

function toEnd() {
  ui.conversation.scrollTop = ui.conversation.scrollHeight;
}

/** Shows a growing answer, at most once a frame however fast its tokens come. */
class AnswerView {
  constructor(model) {
    Object.assign(this, addArticle("answer running", model));
    this.content = "";
    this.reasoning = "";
    this.drawn = false;
  }

  add(delta) {
    this.content += delta.content ?? "";
    this.reasoning += delta.reasoning_content ?? "";
    if (!this.drawn) {
      this.drawn = true;
      requestAnimationFrame(() => { this.drawn = false; this.draw(); });
    }
  }

  draw() {
    const follow = nearEnd();
    if (this.reasoning && !this.thoughts) {
      const details = document.createElement("details");
      details.className = "reasoning";
      const summary = document.createElement("summary");
      summary.textContent = "Thoughts";
      this.thoughts = document.createElement("div");
      details.append(summary, this.thoughts);
      this.body.before(details);
    }
    if (this.thoughts) this.thoughts.textContent = this.reasoning;
    this.body.replaceChildren(renderText(this.content));
    if (follow) toEnd();
  }

  end(note) {
    this.draw();
    this.article.classList.remove("running");
    if (note) {
      const meta = document.createElement("p");
      meta.className = "meta";
      meta.textContent = note;
      this.article.append(meta);
    }
    if (nearEnd()) toEnd();
  }
}

function setRunning(controller) {
  running = controller;
  ui.send.hidden = controller !== null;
  ui.stop.hidden = controller === null;
  ui.conversation.setAttribute("aria-busy", String(controller !== null));
  ui.status.textContent = controller ? "The model is answering." : "";
}

async function ask(text) {
  const model = ui.model.value;
  const turns = messages; // "New chat" may replace them meanwhile
  turns.push({ role: "user", content: text });
  addArticle("question", "You").body.textContent = text;
  toEnd();
  const controller = new AbortController();
  setRunning(controller);
  const view = new AnswerView(model);
  const started = performance.now();
  let outcome = "The answer is complete.";
  try {
    const key = sessionStorage.getItem(KEY);
    const end = await streamChat(key, { model, messages: turns }, controller.signal, (delta) => view.add(delta));
    view.end(figures(end, performance.now() - started));
  } catch (error) {
    const stopped = error.name === "AbortError";
    view.end(stopped ? "Stopped" : view.content ? "Broke off" : "");
    outcome = stopped ? "The answer was stopped." : "";
    if (!stopped) fail(error, text, view);
  } finally {
    if (view.content) turns.push({ role: "assistant", content: view.content });
    else turns.pop(); // a question without any answer is not sent again with the next one
    if (running === controller) {
      setRunning(null);
      ui.status.textContent = outcome;
      ui.question.focus();
    }
  }
}

function fail(error, text, view) {
  if (!view.content) {
    view.article.previousElementSibling?.remove();
    view.article.remove();
    if (!ui.question.value) ui.question.value = text;
    grow();
    ui.welcome.hidden = messages.length > 1;
  }
  if (error.status === 401) askForKey(describe(error));
  else showError(error);
}

function figures({ usage, finish }, milliseconds) {
  const parts = [];
  if (usage) {
    parts.push(`${usage.completion_tokens} tokens`);
    parts.push(`${(usage.completion_tokens / (milliseconds / 1000)).toFixed(1)} tokens/s`);
  }
  parts.push(`${(milliseconds / 1000).toFixed(1)} s`);
  if (finish === "length") parts.push("cut at its longest");
  return parts.join(" · ");
}

// ── errors ────────────────────────────────────────────────────────────────────────────────────────

const TITLES = {
  0: "No connection.", 401: "The key was refused.", 402: "The balance is spent.", 403: "Not allowed.",
  429: "Too much at once.", 502: "The model failed.", 503: "Not available now.", 504: "It took too long.",
};

function describe(error) {
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  return error.message + wait;
}

function showError(error) {
  ui.errorTitle.textContent = TITLES[error.status] ?? "That did not work.";
  const id = error.requestId ? ` (request ${error.requestId})` : "";
  ui.errorMessage.textContent = describe(error) + id;
  ui.error.hidden = false;
}

function hideError() {
  ui.error.hidden = true;
}

ui.dismiss.addEventListener("click", () => { hideError(); ui.question.focus(); });

// ── composer ──────────────────────────────────────────────────────────────────────────────────────

function grow() {
  ui.question.style.height = "auto";
  ui.question.style.height = `${ui.question.scrollHeight}px`;
}

ui.question.addEventListener("input", grow);

ui.question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    ui.composer.requestSubmit();
  }
});

ui.composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = ui.question.value.trim();
  if (!text || running) return;
  if (sessionStorage.getItem(KEY) === null) return askForKey();
  if (!ui.model.value) return showError(new ApiError(0, "There is no model to ask. Is one configured?"));
  hideError();
  ui.question.value = "";
  grow();
  ask(text);
});

ui.stop.addEventListener("click", () => running?.abort());

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running && !ui.dialog.open) running.abort();
});

ui.fresh.addEventListener("click", () => {
  running?.abort();
  setRunning(null);
  messages = [];
  ui.conversation.replaceChildren(ui.welcome);
  ui.welcome.hidden = false;
  ui.fresh.disabled = true;
  hideError();
  ui.question.focus();
});

// ── start ─────────────────────────────────────────────────────────────────────────────────────────

const held = sessionStorage.getItem(KEY);
if (held === null) {
  askForKey();
} else {
  useKey(held).catch((error) => (error.status === 401 ? askForKey(describe(error)) : showError(error)));
}
