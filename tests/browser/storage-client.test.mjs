// The JavaScript client in Node, against services that pytest runs: tests/browser/test_js_client.py.
import assert from "node:assert/strict";
import { openAsBlob } from "node:fs";
import { test } from "node:test";

import { cancel, follow, TransferError, upload } from "../../clients/js/storage-client.js";

const { loader, cutting, closed, tokens, mod, encrypted } = JSON.parse(process.env.SCENE);
const file = new File([await openAsBlob(mod)], "mod.zip", { lastModified: 1 });

function kept() {
  const items = new Map();
  globalThis.localStorage = {
    items,
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => items.set(key, value),
    removeItem: (key) => items.delete(key),
  };
  return items;
}

/** Sends a file's first slice. */
async function begun(token) {
  const pausing = new AbortController();
  const watched = new File([file], file.name, { lastModified: file.lastModified });
  watched.slice = (start, end) => {
    if (start > 0) pausing.abort();
    return file.slice(start, end);
  };
  await assert.rejects(upload(watched, { url: loader, token, signal: pausing.signal }), { name: "AbortError" });
}

test("an upload survives cuts and tells its progress", async () => {
  const heard = [];
  const result = await upload(file, { url: cutting, token: tokens.cut, onProgress: (one) => heard.push(one) });
  assert.deepEqual(result, { job_id: result.job_id, bytes: file.size, total: file.size });
  assert.ok(heard.some(({ event }) => event === "retry"));
  const bytes = heard.filter(({ stage }) => stage === "uploading").map((message) => message.bytes);
  assert.ok(new Set(bytes).size > 2);
  assert.deepEqual(bytes, [...bytes].sort((one, other) => one - other));
});

test("an upload that was stopped goes on where it was, and forgets its place at the end", async () => {
  const places = kept();
  await begun(tokens.paused);
  assert.equal(places.size, 1);
  const heard = [];
  await upload(file, { url: loader, token: tokens.paused, onProgress: (one) => heard.push(one) });
  assert.ok(heard[0].bytes > 0, "it began afresh");
  assert.equal(places.size, 0);
});

test("an upload does not go on with another file", async () => {
  kept();
  await begun(tokens.mixed);
  const other = new File([Buffer.alloc(file.size)], "other.zip", { lastModified: 1 });
  await assert.rejects(upload(other, { url: loader, token: tokens.mixed }), {
    name: "TransferError",
    message: "The upload began with another file: mod.zip",
  });
  await upload(file, { url: loader, token: tokens.mixed });
});

test("an empty file is sent", async () => {
  const result = await upload(new Blob([]), { url: loader, token: tokens.empty, name: "empty" });
  assert.equal(result.bytes, 0);
});

test("a refusal carries the service's words", async () => {
  const refused = { name: "TransferError", message: "Encrypted zip not allowed", status: 400, isFinal: true };
  const archive = await openAsBlob(encrypted);
  await assert.rejects(upload(archive, { url: loader, token: tokens.encrypted }), refused);
  const events = [];
  for await (const { event, message } of follow({ url: loader, token: tokens.encrypted })) events.push([event, message]);
  assert.deepEqual(events, [["error", "Encrypted zip not allowed"]]);
});

test("a token that is not right is refused", async () => {
  const refused = { name: "TransferError", message: "Access denied", status: 403 };
  await assert.rejects(upload(file, { url: loader, token: tokens.expired }), refused);
  await assert.rejects(follow({ url: loader, token: tokens.expired }).next(), refused);
  await assert.rejects(upload(file, { url: loader, token: "abc" }), new TransferError("This is no transfer token"));
});

test("an upload that was given up is gone", async () => {
  await begun(tokens.cancelled);
  await cancel({ url: loader, token: tokens.cancelled });
  await assert.rejects(cancel({ url: loader, token: tokens.cancelled }), { status: 410 });
});

test("a service that never answers is given up", async () => {
  await assert.rejects(upload(file, { url: closed, token: tokens.unsent }), TypeError);
});
