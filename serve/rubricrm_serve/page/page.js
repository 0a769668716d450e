"use strict";

const $ = (id) => document.getElementById(id);
const KINDS = { hard_rule: ["hard", "Hard rule"], principle: ["principle", "Principle"] };
const ENDS = {
  stop: "complete",
  length: "cut: the limit of tokens",
  timeout: "cut: the limit of time",
  repetition: "cut: it went in circles",
  cancelled: "cut: stopped",
};

let running = null; // the AbortController of the request in progress
let text = "";
let json = "";

function element(name, className, content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
}

function say(message, isBad = false) {
  $("status").textContent = message;
  $("status").classList.toggle("bad", isBad);
}

function clear() {
  text = json = "";
  for (const id of ["criteria", "issues", "facts"]) $(id).replaceChildren();
  for (const id of ["issues", "facts"]) $(id).hidden = true;
  $("copy-text").disabled = $("copy-json").disabled = true;
}

function addCriterion({ number, text: words, kind }) {
  const [className, label] = KINDS[kind] || ["untagged", "No kind"];
  const item = element("li", className);
  const tag = element("span", "kind");
  const mark = element("span", "mark");
  mark.setAttribute("aria-hidden", "true");
  tag.append(mark, label);
  item.append(element("span", "number", number === null ? "–" : `${number}.`), element("span", "words", words), tag);
  $("criteria").append(item);
  const count = $("criteria").children.length;
  say(`Writing… ${count} ${count === 1 ? "criterion" : "criteria"} so far`);
}

function addText(piece) {
  text += piece;
  $("tail").textContent = text.slice(text.lastIndexOf("\n") + 1);
  $("copy-text").disabled = false;
}

function showResult(data) {
  json = data;
  const result = JSON.parse(data);
  if ($("criteria").children.length !== result.rubric.criteria.length) {
    $("criteria").replaceChildren();
    for (const criterion of result.rubric.criteria) addCriterion(criterion);
  }
  for (const issue of result.rubric.issues) {
    $("issues").append(element("li", "", `Line ${issue.line}, ${issue.code}: ${issue.message}`));
  }
  $("issues").hidden = !result.rubric.issues.length;
  const seconds = (ms) => (ms === null ? "–" : `${(ms / 1000).toFixed(2)} s`);
  const facts = {
    Ended: ENDS[result.finish_reason] || result.finish_reason,
    "First token": seconds(result.timings_ms.first_token),
    Total: seconds(result.timings_ms.total),
    Read: `${result.usage.prompt_tokens} tokens`,
    Written: `${result.usage.completion_tokens} tokens`,
  };
  for (const [name, value] of Object.entries(facts)) {
    const group = element("div");
    group.append(element("dt", "", name), element("dd", "", value));
    $("facts").append(group);
  }
  $("facts").hidden = false;
  $("copy-text").disabled = $("copy-json").disabled = false;
  const count = result.rubric.criteria.length;
  say(`${count} ${count === 1 ? "criterion" : "criteria"}, ${facts.Ended}.`);
}

function take(name, data) {
  if (name === "text") addText(JSON.parse(data).text);
  else if (name === "criterion") addCriterion(JSON.parse(data));
  else if (name === "taken_back") $("criteria").replaceChildren();
  else if (name === "result") showResult(data);
  else if (name === "error") throw new Error(JSON.parse(data).error.message);
  return name === "result";
}

async function readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let isWhole = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const fields = {};
      for (const line of event.split("\n")) {
        const at = line.indexOf(": ");
        if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2);
      }
      if (fields.data) isWhole = take(fields.event, fields.data) || isWhole;
    }
  }
  if (!isWhole) throw new Error("The answer broke off. Try again.");
}

function headers() {
  const key = $("key").value.trim();
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

function showAnswer() {
  const answer = $("criteria").closest("section");
  if (answer.getBoundingClientRect().top < innerHeight / 2) return;
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  answer.scrollIntoView({ behavior: isCalm ? "auto" : "smooth" });
}

async function write(request) {
  running = new AbortController();
  clear();
  $("tail").textContent = "";
  $("tail").hidden = $("stop").hidden = false;
  $("write").disabled = true;
  say("Waiting for the model…");
  showAnswer();
  try {
    const body = JSON.stringify({ request, stream: true });
    const answer = await fetch("v1/rubrics", { method: "POST", headers: headers(), body, signal: running.signal });
    if (!answer.ok) {
      const refusal = await answer.json().catch(() => ({ error: { message: `The server said ${answer.status}.` } }));
      if (answer.status === 401) {
        $("access").open = true;
        $("key").focus();
      }
      throw new Error(refusal.error.message);
    }
    await readEvents(answer.body);
  } catch (error) {
    const isOurs = running.signal.aborted;
    say(isOurs ? "Stopped." : error instanceof TypeError ? "The server cannot be reached." : error.message, !isOurs);
  } finally {
    running = null;
    $("tail").hidden = $("stop").hidden = true;
    $("write").disabled = false;
    showQueue();
  }
}

async function copy(button, content) {
  const label = button.dataset.label || (button.dataset.label = button.textContent);
  let isDone = true;
  try {
    await navigator.clipboard.writeText(content);
  } catch {
    // Without HTTPS there is no such clipboard.
    const area = element("textarea");
    area.value = content;
    document.body.append(area);
    area.select();
    isDone = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = isDone ? "Copied" : "Not copied";
  setTimeout(() => (button.textContent = label), 1500);
}

async function showQueue() {
  if (document.hidden) return;
  try {
    const queue = await (await fetch("queue")).json();
    const slots = queue.max_concurrency <= 16 ? queue.max_concurrency : 0;
    $("slots").replaceChildren(...Array.from({ length: slots }, (_, n) => element("span", n < queue.running ? "on" : "")));
    const state = queue.draining ? ", shutting down" : "";
    $("queue-text").textContent = `${queue.running} of ${queue.max_concurrency} running, ${queue.waiting} waiting${state}`;
  } catch {
    $("slots").replaceChildren();
    $("queue-text").textContent = "no connection";
  }
}

async function showModel() {
  try {
    const { model } = await (await fetch("version")).json();
    $("model").textContent = model.weights ? `${model.name}, ${model.weights}` : model.name;
  } catch {
    $("model").textContent = "";
  }
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const request = $("request").value;
  if (!running && request.trim()) write(request);
});
$("request").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
$("stop").addEventListener("click", () => {
  running?.abort();
  $("request").focus();
});
for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", () => {
    $("request").value = example.textContent;
    $("request").focus();
  });
}
$("copy-text").addEventListener("click", (event) => copy(event.currentTarget, text));
$("copy-json").addEventListener("click", (event) => copy(event.currentTarget, json));
document.addEventListener("visibilitychange", showQueue);
setInterval(showQueue, 1000);
showQueue();
showModel();
