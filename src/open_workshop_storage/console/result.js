// What became of a transfer: the stored file, its digest, and what is in it.

import { drawBlurHash } from "./blurhash.js";
import { BASE, bytes, element, make, say } from "./page.js";

const TRIES = 15;
const MOST_ENTRIES = 500;

/** Empties and hides the result. */
export function hideResult() {
  for (const id of ["result", "picture", "download-line", "contents"]) element(id).hidden = true;
  for (const id of ["facts", "entries"]) element(id).replaceChildren();
  say(element("entries-left"), "");
  element("image").className = "";
  element("image").removeAttribute("src");
}

/** Shows the file that a transfer became, once the Manager has moved it. */
export async function showResult(claims, signal) {
  hideResult();
  element("result").hidden = false;
  const path = pathOf(claims);
  const address = addressOf("download", path);
  fact("Stored as", path);
  const answer = await stored(address, signal);
  if (!answer.ok) {
    // Answers to HEAD have no text.
    const text = answer.status === 404 ? "Not there: the workshop may have put it elsewhere" : await textOf(address, signal);
    fact("File", text);
    return;
  }
  fact("Size", bytes(Number(answer.headers.get("Content-Length"))));
  const unpacked = answer.headers.get("X-Unpacked-Bytes");
  if (unpacked) fact("Unpacked", bytes(Number(unpacked)));
  fact("SHA-256", hexOf(answer.headers.get("Repr-Digest")) ?? "not known");
  element("download").href = address;
  element("download").download = path.split("/").pop();
  element("download-line").hidden = false;
  await (claims.transfer_kind === "img" ? showPicture(path, address, signal) : showContents(path, signal));
}

/** Returns where the Manager of Open Workshop moves a file, relative to the storage root. */
function pathOf(claims) {
  const type = claims.transfer_kind === "img" ? claims.storage_type : "archive";
  return `${type}/${claims.target_path || `mods/${claims.mod_id}/main.zip`}`;
}

function addressOf(route, path) {
  return `${BASE}/${route}/${path.split("/").map(encodeURIComponent).join("/")}`;
}

async function stored(address, signal) {
  for (let tries = 1; ; tries++) {
    const answer = await fetch(address, { method: "HEAD", cache: "no-store", signal });
    if (answer.status !== 404 || tries === TRIES) return answer;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function textOf(address, signal) {
  const answer = await fetch(address, { cache: "no-store", signal });
  return answer.ok ? "" : await answer.text();
}

function fact(name, value) {
  element("facts").append(make("dt", { textContent: name }), make("dd", { textContent: value }));
}

function hexOf(digest) {
  const base64 = /sha-256=:([^:]+):/.exec(digest ?? "")?.[1];
  return base64 && [...atob(base64)].map((letter) => letter.charCodeAt(0).toString(16).padStart(2, "0")).join("");
}

async function showPicture(path, address, signal) {
  const body = JSON.stringify({ paths: [`download/${path}`] });
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`${BASE}/blurhashes`, { method: "POST", headers, body, signal });
  const { blurhash, width, height } = answer.ok ? (await answer.json()).items[0] : {};
  if (!blurhash) return;
  fact("Pixels", `${width} × ${height}`);
  fact("BlurHash", blurhash);
  drawBlurHash(element("blurhash"), blurhash);
  element("blurhash").style.aspectRatio = `${width} / ${height}`;
  element("picture").hidden = false;
  const image = element("image");
  image.onload = () => (image.className = "loaded");
  // The address may have led to another picture before.
  image.src = `${address}?${Date.now()}`;
}

async function showContents(path, signal) {
  const answer = await fetch(addressOf("contents", path), { cache: "no-store", signal });
  if (!answer.ok) return;
  const { entries, unpacked_bytes: unpacked } = await answer.json();
  fact("Files", `${entries.length}, ${bytes(unpacked)} unpacked`);
  const rows = entries.slice(0, MOST_ENTRIES).map(({ name, bytes: size, crc32 }) => {
    const cells = [make("td", {}, name), make("td", { className: "number" }, bytes(size)), make("td", {}, crc32)];
    return make("tr", {}, ...cells);
  });
  element("entries").replaceChildren(...rows);
  const left = entries.length - rows.length;
  say(element("entries-left"), left ? `and ${left} more` : "");
  element("contents").hidden = false;
}
