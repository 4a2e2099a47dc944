// Small charts: lines over time in SVG, and amounts by name as tables with meters.

import { make, say } from "./page.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 100;

/**
 * Draws one line for each series, each an object `{name, values}`, over the same times.
 *
 * @param {(value: number) => string} told How a value is told to people.
 */
export function drawLines(target, series, told) {
  const most = Math.max(...series.flatMap(({ values }) => values), 0);
  const lines = svg("svg", { class: "lines", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  lines.setAttribute("aria-label", series.map(({ name, values }) => `${name}: now ${told(values.at(-1) ?? 0)}`).join(", "));
  lines.append(svg("path", { class: "axis", d: `M0 ${HEIGHT}H${WIDTH}M0 0H${WIDTH}` }));
  series.forEach(({ values }, index) => {
    lines.append(svg("path", { class: `series-${index}`, d: pathOf(values, most || 1) }));
  });
  const legend = make("ul", { className: "legend" });
  series.forEach(({ name, values }, index) => {
    const sample = svg("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" });
    sample.append(svg("path", { class: `series-${index}`, d: "M0 4H24" }));
    legend.append(make("li", {}, sample, `${name} ${told(values.at(-1) ?? 0)}`));
  });
  legend.append(make("li", { className: "quiet" }, `top ${told(most)}`));
  target.replaceChildren(lines, legend);
}

/** Shows amounts, pairs of name and value, the largest first. */
export function drawAmounts(target, amounts, told, none) {
  const sorted = [...amounts].sort(([, one], [, other]) => other - one);
  const most = sorted[0]?.[1] || 1;
  const rows = sorted.map(([name, value]) => {
    const meter = make("meter", { max: most, value, ariaLabel: name });
    return make("tr", {}, make("td", {}, name), make("td", { className: "number" }, told(value)), make("td", {}, meter));
  });
  if (rows.length) target.replaceChildren(make("table", { className: "amounts" }, make("tbody", {}, ...rows)));
  else target.replaceChildren(make("p", { className: "quiet" }, none));
}

/**
 * Makes a table's rows those of some items. Rows of items that stay are kept, so that focus stays where it is.
 *
 * @param {(item: any) => string} key Names an item.
 * @param {(item: any) => (string | Node)[]} cells What its cells hold; a node is taken only into a new row.
 */
export function fillRows(body, items, key, cells) {
  const kept = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const rows = items.map((item) => {
    const contents = cells(item);
    const row = kept.get(key(item)) ?? make("tr", {}, ...contents.map(() => make("td")));
    row.dataset.key = key(item);
    contents.forEach((content, index) => {
      const cell = row.cells[index];
      cell.className = body.parentElement.tHead.rows[0].cells[index].className;
      if (typeof content === "string") say(cell, content);
      else if (!cell.firstChild) cell.append(content);
    });
    return row;
  });
  for (const row of kept.values()) if (!rows.includes(row)) row.remove();
  rows.forEach((row, index) => body.rows[index] !== row && body.insertBefore(row, body.rows[index] ?? null));
}

function pathOf(values, most) {
  const step = WIDTH / Math.max(values.length - 1, 1);
  return values.map((value, index) => `${index ? "L" : "M"}${(index * step).toFixed(1)} ${y(value, most)}`).join("");
}

function y(value, most) {
  return (HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1);
}

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
