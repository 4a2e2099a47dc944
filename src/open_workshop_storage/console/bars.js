// Bars for the parts of a transfer, each with how fast it goes and how long it will take.

import { bytes, duration, element, say } from "./page.js";

const WINDOW_MS = 6000;
const LEAST_MS = 500;
/** Which bar shows a stage; stages in the order that they come in. */
const BAR_OF_STAGE = {
  uploading: "upload",
  downloading: "upload",
  uploaded: "upload",
  downloaded: "upload",
  extracting: "extraction",
  repacking: "repack",
  processing: "repack",
};
const BARS = ["upload", "extraction", "repack"];

export class Bars {
  #samples = [];
  #current = "";
  #drawn = new Set();

  /** Names the bars for one kind of transfer, and empties them. */
  constructor(isImage, isFetched) {
    element("bar-extraction").hidden = isImage;
    this.#name("upload", isFetched ? "Download" : "Upload");
    this.#name("repack", isImage ? "Preparation" : "Repacking");
    for (const bar of BARS) this.#set(bar, 0, "");
  }

  show({ stage, bytes: done, total, percent }) {
    const bar = BAR_OF_STAGE[stage];
    if (!bar) return;
    if (bar !== this.#current) this.#samples = [];
    this.#current = bar;
    this.#drawn.add(bar);
    for (const earlier of BARS.slice(0, BARS.indexOf(bar))) this.#finish(earlier);
    if (bar === "upload") {
      const rest = this.#pace(done, total, (rate) => `${bytes(rate)}/s`);
      const isWhole = stage.endsWith("ed");
      this.#set(bar, isWhole ? 1 : total ? done / total : null, `${bytes(done)} of ${total ? bytes(total) : "?"}${isWhole ? "" : rest}`);
    } else if (percent === null) {
      this.#set(bar, null, "");
    } else {
      this.#set(bar, percent / 100, `${percent.toFixed(0)} %${this.#pace(percent, 100, (rate) => `${rate.toFixed(1)} %/s`)}`);
    }
  }

  /** Fills what was needed, and says of the rest that it was not. */
  complete() {
    for (const bar of BARS) {
      if (this.#drawn.has(bar) || bar === "upload") this.#finish(bar);
      else this.#set(bar, 1, "not needed: a sound ZIP stays as it is");
    }
  }

  /** Forgets how fast it went, after a pause. */
  rest() {
    this.#samples = [];
  }

  #pace(value, end, named) {
    const now = Date.now();
    this.#samples.push({ now, value });
    while (now - this.#samples[0].now > WINDOW_MS) this.#samples.shift();
    const [first] = this.#samples;
    if (now - first.now < LEAST_MS || value <= first.value) return "";
    const rate = ((value - first.value) * 1000) / (now - first.now);
    return ` · ${named(rate)}${end ? ` · ${duration((end - value) / rate)} left` : ""}`;
  }

  #finish(bar) {
    const text = element(`bar-${bar}`).querySelector("span").textContent;
    this.#set(bar, 1, text.split(" · ")[0].replace(/^\d+ %$/, "100 %"));
  }

  #name(bar, name) {
    say(element(`bar-${bar}`).querySelector("label"), name);
  }

  /** Shows a share of 1; `null` for work without a measure. */
  #set(bar, share, text) {
    const progress = element(`${bar}-progress`);
    if (share === null) progress.removeAttribute("value");
    else progress.value = share;
    say(element(`bar-${bar}`).querySelector("span"), text);
  }
}
