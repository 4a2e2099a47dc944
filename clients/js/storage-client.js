// Sends files to Open Workshop Storage and follows what becomes of them: docs/API.md of that project, "Resumable
// uploads" and "WS /transfer/ws/{job_id}". Runs in browsers and in Node, without any other package.
// SPDX-License-Identifier: MPL-2.0

const TUS = { "Tus-Resumable": "1.0.0" };
const SLICE_BYTES = { first: 1 << 20, least: 256 << 10, most: 64 << 20 };
const SLICE_MS = 5000;
/** Without any sign for so long a connection is taken for dead; the service sends one every 30 seconds. */
const SILENCE_MS = 45_000;
/** How long a request may go on, by the job's stage, while nothing changes; without limit in the others. */
const STUCK_MS = { uploading: 60_000, packed: 60_000, error: 5000 };
const FIRST_TRIES = 3;
const LONGEST_PAUSE_MS = 30_000;
const ELSEWHERE_PAUSE_MS = 3000;
/** Refusals with a status below 500 that hold for now only (docs/API.md, "Resumable uploads"). */
const FOR_NOW = new Set([408, 423, 429, 460]);

/** A refusal. Its message is the service's own, for people. */
export class TransferError extends Error {
  name = "TransferError";

  /**
   * @param {string} message
   * @param {number} status The answer's HTTP status; 0 if the client itself refuses.
   * @param {number} retryAfter Seconds that the service asks to wait; 0 if it does not.
   */
  constructor(message, status = 0, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
    this.isFinal = status < 500 && !FOR_NOW.has(status);
  }
}

/** Sends a file, from where an earlier call has stopped, and returns once it is packed; see storage-client.d.ts. */
export async function upload(file, { url, token, name = file.name || "file", onProgress = () => {}, signal } = {}) {
  return await new Upload(file, new Job(url, token), name, onProgress, signal).run();
}

/** Yields a transfer's state and then every change of it, until it has ended; see storage-client.d.ts. */
export async function* follow({ url, token, signal } = {}) {
  const job = new Job(url, token);
  const channels = globalThis.WebSocket ? [overWebSocket, overEvents] : [overEvents];
  for (let failures = 0; ; failures++) {
    try {
      for await (const message of channels[0](job, signal)) {
        failures = 0;
        yield message;
        if (message.event === "complete" || message.event === "error") return;
      }
    } catch (error) {
      // A refused WebSocket shows no reason; the other channel tells it.
      if (signal?.aborted || error.isFinal) throw error;
    }
    if (failures % 2) channels.reverse();
    await pause(backoff(failures), signal);
  }
}

/** Gives an unfinished upload up; see storage-client.d.ts. */
export async function cancel({ url, token } = {}) {
  const job = new Job(url, token);
  await job.request("DELETE", `/${job.id}`, {});
  job.forget();
}

/** Returns what a transfer token says, without judging it; see storage-client.d.ts. */
export function claimsOf(token) {
  try {
    const claims = JSON.parse(textOf(token.split(".")[1]));
    if (typeof claims.job_id === "string") return claims;
  } catch {
    // Said below.
  }
  throw new TransferError("This is no transfer token");
}

/** The job that a token names, at one loader. */
class Job {
  constructor(url, token) {
    this.token = token;
    this.id = encodeURIComponent(claimsOf(token).job_id);
    this.base = String(new URL(url, globalThis.location?.href)).replace(/\/+$/, "");
    this.place = `open-workshop-storage:${this.base}:${this.id}`;
  }

  /** Forgets which file the upload began with. */
  forget() {
    kept((store) => store.removeItem(this.place));
  }

  /** Sends a request of tus, and returns its answer; a refusal is thrown. */
  async request(method, path, headers, options = {}) {
    const answer = await fetch(`${this.base}/transfer/tus${path}`, {
      method,
      headers: { ...TUS, Authorization: `Bearer ${this.token}`, ...headers },
      ...options,
    });
    if (!answer.ok) throw await refusal(answer);
    return answer;
  }
}

class Upload {
  #file;
  #job;
  #name;
  #onProgress;
  #signal;
  #sliceBytes = SLICE_BYTES.first;
  /** Whether the service has ever answered. */
  #isKnown = false;
  #latest = null;
  #heardAt = 0;
  #changedAt = 0;

  constructor(file, job, name, onProgress, signal) {
    this.#file = file;
    this.#job = job;
    this.#name = name;
    this.#onProgress = onProgress;
    this.#signal = signal;
  }

  async run() {
    this.#signal?.throwIfAborted();
    const fingerprint = JSON.stringify([this.#name, this.#file.size, this.#file.lastModified ?? 0]);
    const begun = kept((store) => store.getItem(this.#job.place));
    if (begun && begun !== fingerprint) {
      throw new TransferError(`The upload began with another file: ${JSON.parse(begun)[0]}`);
    }
    const ended = new AbortController();
    try {
      let offset = await this.#goOn(() => (begun ? this.#offset(true) : this.#begin()));
      kept((store) => store.setItem(this.#job.place, fingerprint));
      const following = this.#follow(anyOf(ended.signal, this.#signal));
      let isAnswered = this.#file.size === 0;
      while (offset < this.#file.size) {
        const sent = await this.#goOn((failed) => this.#send(failed ? null : offset));
        isAnswered = sent.isAnswered;
        offset = sent.offset;
      }
      // All bytes are there, but the answer that tells the end was lost.
      if (!isAnswered) await following;
      if (!isAnswered && this.#latest?.event === "error") throw new TransferError(this.#latest.message, 410);
      this.#job.forget();
      return { job_id: this.#job.id, bytes: offset, total: this.#file.size };
    } catch (error) {
      if (error.isFinal && error.status) this.#job.forget();
      throw error;
    } finally {
      ended.abort();
    }
  }

  /** Does something until it is done, with growing pauses, unless it is refused for good. */
  async #goOn(act) {
    for (let failures = 0; ; failures++) {
      const begunAt = Date.now();
      try {
        const result = await act(failures > 0);
        this.#isKnown = true;
        return result;
      } catch (error) {
        this.#signal?.throwIfAborted();
        this.#isKnown ||= error instanceof TransferError;
        if (error.isFinal || (!this.#isKnown && failures === FIRST_TRIES)) throw error;
        if (Date.now() - begunAt > SLICE_MS) failures = 0;
        this.#sliceBytes = SLICE_BYTES.first;
        const busy = error.status === 423 ? ELSEWHERE_PAUSE_MS : (error.retryAfter ?? 0) * 1000;
        const wait = Math.max(busy, backoff(failures));
        const message = error instanceof TransferError ? error.message : "The service cannot be reached";
        this.#onProgress({ event: "retry", message, seconds: wait / 1000 });
        await this.#untilFree(wait);
      }
    }
  }

  /** Waits; longer if another tab or device sends this file meanwhile, which a request of ours would interrupt. */
  async #untilFree(ms) {
    const quietAt = Date.now() + 1000;
    await pause(ms, this.#signal);
    while (this.#latest?.stage !== "error" && this.#changedAt > quietAt && Date.now() - this.#changedAt < 5000) {
      await pause(1000, this.#signal);
    }
  }

  /** Begins the upload, or finds the one that this token has begun, and returns how much of it is there. */
  async #begin() {
    const headers = { "Upload-Length": String(this.#file.size), "Upload-Metadata": `filename ${base64(this.#name)}` };
    const answer = await this.#job.request("POST", "/", headers, { signal: this.#signal });
    return offsetOf(answer);
  }

  /** Returns how much is there. What the service does not know, or has ended, begins afresh if `mayBegin`. */
  async #offset(mayBegin) {
    try {
      const options = { signal: this.#signal, cache: "no-store" };
      return offsetOf(await this.#job.request("HEAD", `/${this.#job.id}`, {}, options));
    } catch (error) {
      if (error.status === 404 || (error.status === 410 && mayBegin)) return await this.#begin();
      if (error.status === 410) await this.#explain(error);
      throw error;
    }
  }

  /** Answers to HEAD have no text: the job's own last message says why it has ended. */
  async #explain(error) {
    const options = { url: this.#job.base, token: this.#job.token, signal: AbortSignal.timeout(5000) };
    try {
      for await (const message of follow(options)) if (message.event === "error") error.message = message.message;
    } catch {
      error.message ||= "Upload gone";
    }
  }

  /** Sends the next slice from an offset on; `null` to ask for it first. */
  async #send(offset) {
    offset ??= await this.#offset(false);
    if (offset >= this.#file.size) return { offset, isAnswered: false };
    const end = Math.min(offset + this.#sliceBytes, this.#file.size);
    const begunAt = Date.now();
    const stuck = new AbortController();
    const watch = setInterval(() => this.#isStuck(begunAt) && stuck.abort(new TransferError("Upload stalled", 408)), 1000);
    try {
      const headers = { "Content-Type": "application/offset+octet-stream", "Upload-Offset": String(offset) };
      const answer = await this.#job.request("PATCH", `/${this.#job.id}`, headers, {
        body: this.#file.slice(offset, end),
        signal: anyOf(stuck.signal, this.#signal),
      });
      const perMs = (end - offset) / Math.max(Date.now() - begunAt, 1);
      this.#sliceBytes = Math.min(Math.max(Math.round(perMs * SLICE_MS), SLICE_BYTES.least), SLICE_BYTES.most);
      const now = offsetOf(answer);
      // Where no channel gets through, this is all that is known.
      if (!this.#heardAt) {
        const total = this.#file.size;
        this.#onProgress({ event: "progress", bytes: now, total, status: "uploading", stage: "uploading", percent: null });
      }
      return { offset: now, isAnswered: now === this.#file.size };
    } catch (error) {
      // Bytes that do not come next, from which an answer was lost or another client sends: it says where to go on.
      if (error.status === 409) error.isFinal = false;
      if (!(error instanceof TransferError)) await this.#requireFile();
      throw error;
    } finally {
      clearInterval(watch);
    }
  }

  /** A file that was changed or removed looks to `fetch` like a network that is down. */
  async #requireFile() {
    try {
      await this.#file.slice(0, 1).arrayBuffer();
    } catch {
      throw new TransferError("The file has changed or can no longer be read");
    }
  }

  async #follow(signal) {
    try {
      for await (const message of follow({ url: this.#job.base, token: this.#job.token, signal })) {
        const before = this.#latest;
        this.#heardAt = Date.now();
        if (["bytes", "stage", "percent"].some((key) => before?.[key] !== message[key])) this.#changedAt = this.#heardAt;
        this.#latest = message;
        this.#onProgress(message);
      }
    } catch {
      // The upload goes on without: what speaks against the token ends its own requests too.
    }
  }

  #isStuck(begunAt) {
    const limit = STUCK_MS[this.#latest?.stage] ?? Infinity;
    return this.#heardAt > begunAt && Date.now() - Math.max(this.#changedAt, begunAt) > limit;
  }
}

async function* overWebSocket(job, signal) {
  const address = `${job.base}/transfer/ws/${job.id}?token=${encodeURIComponent(job.token)}`;
  const socket = new WebSocket(address.replace(/^http/, "ws"));
  const heard = [];
  let isOpen = true;
  let wake = () => {};
  const leave = () => {
    isOpen = false;
    wake();
  };
  socket.onmessage = ({ data }) => {
    heard.push(JSON.parse(data));
    wake();
  };
  // Node 20 tells a refused handshake by the first of them only.
  socket.onerror = leave;
  socket.onclose = leave;
  signal?.addEventListener("abort", leave);
  try {
    while (isOpen || heard.length) {
      if (heard.length) {
        yield heard.shift();
        continue;
      }
      const silence = setTimeout(leave, SILENCE_MS);
      await new Promise((resolve) => (wake = resolve));
      clearTimeout(silence);
    }
    signal?.throwIfAborted();
  } finally {
    signal?.removeEventListener("abort", leave);
    socket.close();
  }
}

/** The same messages as Server-Sent Events (HTML standard, 9.2.6), for networks that let no WebSocket through. */
async function* overEvents(job, signal) {
  const silent = new AbortController();
  let silence;
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => silent.abort(), SILENCE_MS);
  };
  try {
    listen();
    const answer = await fetch(`${job.base}/transfer/events/${job.id}?token=${encodeURIComponent(job.token)}`, {
      headers: { Accept: "text/event-stream" },
      cache: "no-store",
      signal: anyOf(silent.signal, signal),
    });
    if (!answer.ok) throw await refusal(answer);
    let rest = "";
    for await (const text of texts(answer.body)) {
      listen();
      const events = (rest + text).split(/\r?\n\r?\n/);
      rest = events.pop();
      for (const event of events) {
        const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (data.length) yield JSON.parse(data.map((line) => line.slice("data:".length)).join("\n"));
      }
    }
  } finally {
    clearTimeout(silence);
    silent.abort();
  }
}

async function* texts(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
}

async function refusal(answer) {
  const text = (await answer.text()).trim();
  return new TransferError(text || `Status ${answer.status}`, answer.status, Number(answer.headers.get("Retry-After")));
}

function anyOf(...signals) {
  return AbortSignal.any(signals.filter(Boolean));
}

function offsetOf(answer) {
  const offset = answer.headers.get("Upload-Offset");
  // An answer of something between, such as a page to log in to a network.
  if (!/^\d+$/.test(offset ?? "")) throw new TransferError("The answer is not the service's", 502);
  return Number(offset);
}

function textOf(base64url) {
  const letters = atob(base64url.replace(/-/g, "+").replace(/_/g, "/"));
  return new TextDecoder().decode(Uint8Array.from(letters, (letter) => letter.charCodeAt(0)));
}

function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

function backoff(failures) {
  return Math.min(500 * 2 ** failures, LONGEST_PAUSE_MS) * (0.75 + Math.random() / 2);
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", leave);
      resolve();
    }, ms);
    if (signal?.aborted) leave();
    else signal?.addEventListener("abort", leave, { once: true });
  });
}

/** Uses `localStorage`. Where there is none, or it is full or forbidden, an upload goes on only within one call. */
function kept(use) {
  try {
    return use(globalThis.localStorage);
  } catch {
    return null;
  }
}
