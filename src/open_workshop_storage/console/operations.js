// The operators' view: what all loaders do, asked for every two seconds while it is looked at.

import { drawAmounts, drawLines, fillRows } from "./charts.js";
import { BASE, bytes, duration, element, make, say } from "./page.js";

const PERIOD_MS = 2000;
const MINUTE_SECONDS = 60;
const STATES = ["all", "runs", "waits", "paused", "packed", "moved", "failed"];

/** The manage token; in memory only. */
let token = "";
let isShown = false;
let isAsking = false;
let last = null;

/** Connects the view's controls; call it once. */
export function prepare() {
  for (const state of STATES) {
    const radio = make("input", { type: "radio", name: "state", value: state, checked: state === "all" });
    radio.addEventListener("change", () => last && drawJobs(last));
    element("states").append(make("label", {}, radio, ` ${state}`));
  }
  element("unlock").addEventListener("submit", (event) => {
    event.preventDefault();
    token = element("manage-token").value;
    element("manage-token").value = "";
    ask();
  });
  setInterval(() => token && isShown && !document.hidden && ask(), PERIOD_MS);
}

/** Tells the view whether it is looked at. */
export function show(isTrue) {
  isShown = isTrue;
  if (isShown && token) ask();
}

/** Sends a request of an operator; returns its answer, or throws its text. */
async function request(method, path) {
  const answer = await fetch(`${BASE}/loader/${path}`, {
    method,
    headers: { Authorization: `Bearer ${token}` },
    cache: "no-store",
  });
  if (answer.status === 401 || answer.status === 403) token = "";
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

async function ask() {
  if (isAsking) return;
  isAsking = true;
  try {
    last = await (await request("GET", "status")).json();
    say(element("operations-failure"), "");
    draw(last);
  } catch (error) {
    say(element("operations-failure"), error instanceof TypeError ? "The service cannot be reached" : error.message);
  }
  isAsking = false;
  element("unlock").hidden = Boolean(token);
  element("overview").hidden = !token || !last;
}

/** Does what a button stands for, says what came of it, and shows what is so then. */
async function act(path, done) {
  try {
    await request("POST", path);
    say(element("operations-said"), done);
  } catch (error) {
    say(element("operations-said"), error.message);
  }
  await ask();
}

function draw(status) {
  drawTotals(status);
  drawCharts(status);
  drawJobs(status);
  drawCallbacks(status);
  fillRows(element("slots"), status.slots, ({ slot }) => slot, ({ slot, held, waiting, limit }) => [
    slot,
    limit ? `${held} of ${limit}` : `${held}, no limit`,
    String(waiting),
  ]);
  fillRows(element("workers"), status.workers, ({ name }) => name, (worker) => [
    worker.host,
    String(worker.process),
    duration(worker.age_seconds),
    String(worker.jobs),
    String(worker.sockets),
    worker.free_bytes === null ? "?" : bytes(worker.free_bytes),
  ]);
}

function drawTotals({ totals, storage, workers }) {
  const free = storage.free_bytes === null ? "unknown" : `${bytes(storage.free_bytes)} free`;
  const facts = {
    "Run or wait": totals.unfinished,
    Paused: totals.paused,
    Ended: totals.ended,
    "Callbacks wait": totals.callbacks,
    "Oldest callback": totals.callbacks ? duration(totals.oldest_callback_seconds) : "–",
    Sockets: totals.sockets,
    Workers: workers.length,
    Disk: free,
    [storage.kind === "bucket" ? "Bucket" : "Storage root"]: storage.available ? "in order" : "out of reach",
  };
  for (const [name, value] of Object.entries(facts)) {
    const id = `total-${name.toLowerCase().replaceAll(" ", "-")}`;
    if (!element(id)) element("totals").append(make("div", {}, make("dt", {}, name), make("dd", { id })));
    say(element(id), String(value));
  }
}

function drawCharts({ steps, step_seconds: seconds }) {
  const failed = steps.map((step) => sum(Object.values(step.failed)));
  const perMinute = (values) => minutes(values, seconds);
  const lines = [
    { name: "begun", values: perMinute(steps.map(({ begun }) => begun)) },
    { name: "packed", values: perMinute(steps.map(({ succeeded }) => succeeded)) },
    { name: "failed", values: perMinute(failed) },
  ];
  drawLines(element("chart-transfers"), lines, String);
  // The last step goes on.
  const rates = steps.slice(0, -1).map((step) => step.bytes / seconds);
  drawLines(element("chart-bytes"), [{ name: "received", values: rates }], (rate) => `${bytes(rate)}/s`);
  const stages = new Map();
  for (const step of steps) {
    for (const [stage, { count, seconds: spent }] of Object.entries(step.stages)) {
      const [counts, all] = stages.get(stage) ?? [0, 0];
      stages.set(stage, [counts + count, all + spent]);
    }
  }
  const averages = [...stages].map(([stage, [count, spent]]) => [stage, spent / count]);
  drawAmounts(element("chart-stages"), averages, (value) => `${value.toFixed(2)} s`, "No stage was left.");
  const reasons = new Map();
  for (const step of steps) {
    for (const [reason, count] of Object.entries(step.failed)) reasons.set(reason, (reasons.get(reason) ?? 0) + count);
  }
  drawAmounts(element("chart-failures"), reasons, String, "No transfer failed.");
}

/** Returns, for each step, the sum of the minute that ends with it. */
function minutes(values, stepSeconds) {
  const count = Math.round(MINUTE_SECONDS / stepSeconds);
  return values.map((_, index) => sum(values.slice(Math.max(0, index + 1 - count), index + 1)));
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

function drawJobs({ jobs, at }) {
  const wanted = document.querySelector("#states input:checked").value;
  const shown = jobs.filter(({ state }) => wanted === "all" || state === wanted);
  element("jobs-empty").hidden = shown.length > 0;
  fillRows(element("jobs"), shown, ({ job_id: id, state }) => `${id} ${state}`, (job) => [
    job.job_id,
    job.file_name || "–",
    [job.state, job.about].filter(Boolean).join(" "),
    job.message ? `${job.message} (${job.reason})` : job.stage + (job.percent === null ? "" : ` ${job.percent.toFixed(0)} %`),
    bytes(job.bytes) + (job.total && job.total !== job.bytes ? ` of ${bytes(job.total)}` : ""),
    duration(at - job.changed_at),
    job.host ?? "–",
    ["runs", "waits", "paused"].includes(job.state) ? cancelButton(job.job_id) : "",
  ]);
}

function drawCallbacks({ callbacks }) {
  element("callbacks-empty").hidden = callbacks.length > 0;
  fillRows(element("callbacks"), callbacks, ({ jti }) => jti, (callback) => [
    callback.job_id,
    callback.status,
    duration(callback.age_seconds),
    String(callback.attempts),
    callback.due_seconds ? `in ${duration(callback.due_seconds)}` : "now",
    button("Deliver now", `Deliver now: callback of ${callback.job_id}`, () =>
      act(`callbacks/${callback.jti}/deliver`, `The callback of ${callback.job_id} is delivered now.`),
    ),
  ]);
}

function cancelButton(id) {
  return button("Cancel", `Cancel ${id}`, () => act(`jobs/${id}/cancel`, `${id} is cancelled.`));
}

function button(text, label, action) {
  const made = make("button", { type: "button", textContent: text, ariaLabel: label });
  made.addEventListener("click", action);
  return made;
}
