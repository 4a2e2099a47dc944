// What both views share: elements, and numbers for people.

/** Where the services are; the page lies two levels below. */
export const BASE = new URL("..", location.href).href.replace(/\/$/, "");

export function element(id) {
  return document.getElementById(id);
}

/** Makes an element with properties, and with children or text. */
export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Sets an element's text only if it is another one, so that nobody hears or loses what stays. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function bytes(count) {
  for (const [size, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "KB"]]) {
    if (count >= size) return `${(count / size).toFixed(1)} ${unit}`;
  }
  return `${Math.round(count)} bytes`;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 100) return `${whole} s`;
  if (whole < 6000) return `${Math.round(whole / 60)} min`;
  return whole < 172800 ? `${Math.round(whole / 3600)} h` : `${Math.round(whole / 86400)} days`;
}
