// The view of one transfer: opens a link, sends the file, shows what becomes of it.

import { Bars } from "./bars.js";
import { BASE, bytes, element, make, say } from "./page.js";
import { hideResult, showResult } from "./result.js";
import { cancel, claimsOf, follow, TransferError, upload } from "./storage-client.js";

/** Of this tab only, so that a reload finds the transfer again: a token is good for one file and for minutes. */
const KEPT = "open-workshop-storage:token";
const TOKEN = /eyJ[\w-]*\.[\w-]+\.[\w-]+/;
const MOST_EVENTS = 500;

let token = "";
let claims = {};
let file = null;
let bars = null;
let state = "";
let logged = "";
/** Ends what goes on: sending, or watching. */
let ending = new AbortController();

/** Opens what a link or a text holds; returns whether that is a token. */
export function open(text) {
  const found = TOKEN.exec(text)?.[0];
  try {
    claims = claimsOf(found ?? "");
  } catch {
    return false;
  }
  token = found;
  file = null;
  sessionStorage.setItem(KEPT, token);
  element("job").hidden = false;
  element("open").hidden = true;
  say(element("job-title"), `Transfer ${claims.job_id}`);
  say(element("job-about"), described());
  element("drop").hidden = Boolean(claims.download_url);
  element("fetch").hidden = !claims.download_url;
  element("log").replaceChildren();
  begin();
  watch();
  return true;
}

/** Opens the transfer that this tab had before it was loaded again. */
export function reopen() {
  const kept = sessionStorage.getItem(KEPT);
  if (kept) open(kept);
}

function begin() {
  ending.abort();
  ending = new AbortController();
  bars = new Bars(claims.transfer_kind === "img", Boolean(claims.download_url));
  logged = "";
  hideResult();
  say(element("failure"), "");
  enter("ready");
}

function described() {
  const kind = claims.transfer_kind === "img" ? "An image" : `An archive${claims.mod_id ? ` of mod ${claims.mod_id}` : ""}`;
  const limit = claims.max_bytes ? `, at most ${bytes(claims.max_bytes)}` : "";
  const source = claims.download_url ? `, from ${claims.download_url}` : "";
  return `${kind}${limit}${source}. The link is good until ${new Date(claims.exp * 1000).toLocaleTimeString()}.`;
}

/** `ready`, `sending`, `paused` or `ended`. */
function enter(next) {
  state = next;
  element("pause").hidden = state !== "sending";
  element("resume").hidden = state !== "paused" || !file;
  element("cancel").hidden = state !== "sending" && state !== "paused";
  element("file").disabled = state === "sending" || state === "ended";
  if (!claims.download_url) element("drop").hidden = element("file").disabled;
}

/** Shows what goes on with the job, whoever sends its file. */
async function watch() {
  const { signal } = ending;
  try {
    for await (const message of follow({ url: BASE, token, signal })) show(message);
  } catch (error) {
    if (!signal.aborted) fail(error);
  }
}

async function send(chosen) {
  file = chosen;
  begin();
  const { signal } = ending;
  enter("sending");
  element("pause").focus();
  say(element("said"), `Sending ${file.name}, ${bytes(file.size)}.`);
  try {
    await upload(file, { url: BASE, token, onProgress: show, signal });
    await done(signal);
  } catch (error) {
    if (!signal.aborted) fail(error);
  }
}

function pause() {
  ending.abort();
  ending = new AbortController();
  bars.rest();
  enter("paused");
  say(element("said"), "Paused.");
  log("paused here");
  element("resume").focus();
  watch();
}

async function giveUp() {
  ending.abort();
  try {
    await cancel({ url: BASE, token });
    fail(new TransferError("Upload cancelled"));
  } catch (error) {
    fail(error);
  }
}

async function fetchIt() {
  element("fetch").hidden = true;
  const answer = await fetch(`${BASE}/transfer/start`, { method: "POST", body: new URLSearchParams({ token }) });
  if (!answer.ok) fail(new TransferError(await answer.text(), answer.status));
}

function show(message) {
  if (message.event === "retry") {
    bars.rest();
    say(element("said"), `${message.message}. Trying again.`);
    log(`${message.message}; again in ${message.seconds.toFixed(1)} s`);
    return;
  }
  if (message.event === "error") {
    // The upload ends with the same words.
    if (state !== "sending") fail(new TransferError(message.message, 400));
    return;
  }
  bars.show(message);
  if (message.event === "complete") {
    log(`packed, ${bytes(message.bytes)} received`);
    bars.complete();
    if (state !== "sending") done(ending.signal);
  } else if (message.stage !== logged) {
    logged = message.stage;
    log(message.stage === "pending" ? "waiting" : `${message.stage}, ${bytes(message.bytes)}`);
    if (message.stage !== "pending") say(element("said"), `${message.stage[0].toUpperCase()}${message.stage.slice(1)}.`);
    // Another page may have begun it, or this one before it was loaded again.
    if (message.stage === "uploading" && state === "ready" && message.bytes) {
      enter("paused");
      say(element("drop-hint"), "or drop it here: the same file goes on where it was");
    }
  }
}

async function done(signal) {
  if (state === "ended") return;
  bars.complete();
  enter("ended");
  say(element("said"), "Done: the file is packed and in its place.");
  try {
    await showResult(claims, signal);
  } catch (error) {
    if (!signal.aborted) log(String(error));
  }
}

function fail(error) {
  const isRefused = error instanceof TransferError;
  const text = isRefused ? error.message : "The service cannot be reached";
  log(text);
  say(element("said"), "");
  say(element("failure"), text);
  enter(isRefused ? "ready" : "paused");
}

function log(text) {
  const time = new Date().toLocaleTimeString();
  const list = element("log");
  list.append(make("li", { textContent: `${time}  ${text}` }));
  if (list.children.length > MOST_EVENTS) list.firstChild.remove();
  list.parentElement.scrollTop = list.parentElement.scrollHeight;
}

/** Connects the view's controls; call it once. */
export function prepare() {
  element("open").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = element("link");
    const isToken = open(field.value);
    field.setCustomValidity(isToken ? "" : "This is no transfer link.");
    field.reportValidity();
    field.value = isToken ? "" : field.value;
    if (isToken) (claims.download_url ? element("fetch") : element("file")).focus();
  });
  element("link").addEventListener("input", () => element("link").setCustomValidity(""));
  element("file").addEventListener("change", (event) => event.target.files.length && send(event.target.files[0]));
  element("pause").addEventListener("click", pause);
  element("resume").addEventListener("click", () => send(file));
  element("cancel").addEventListener("click", giveUp);
  element("fetch").addEventListener("click", fetchIt);
  const drop = element("drop");
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", () => drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const [dropped] = event.dataTransfer.files;
    if (dropped && !drop.hidden && token) send(dropped);
  });
}
