// Decodes BlurHashes (github.com/woltapp/blurhash, "Algorithm").

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~";

/** Draws a BlurHash over the whole of a canvas. */
export function drawBlurHash(canvas, hash) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const { columns, factors } = factorsOf(hash);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const light = [0, 0, 0];
      factors.forEach((factor, index) => {
        const basis =
          Math.cos((Math.PI * x * (index % columns)) / width) *
          Math.cos((Math.PI * y * Math.floor(index / columns)) / height);
        factor.forEach((value, channel) => (light[channel] += value * basis));
      });
      picture.data.set([...light.map(toSrgb), 255], 4 * (y * width + x));
    }
  }
  context.putImageData(picture, 0, 0);
}

function factorsOf(hash) {
  const size = number(hash, 0, 1);
  const columns = (size % 9) + 1;
  const count = columns * (Math.floor(size / 9) + 1);
  const largest = (number(hash, 1, 2) + 1) / 166;
  const average = number(hash, 2, 6);
  const factors = [[average >> 16, (average >> 8) & 255, average & 255].map(toLight)];
  for (let index = 1; index < count; index++) {
    const value = number(hash, 4 + index * 2, 6 + index * 2);
    const parts = [Math.floor(value / 361), Math.floor(value / 19) % 19, value % 19];
    factors.push(parts.map((part) => Math.sign(part - 9) * ((part - 9) / 9) ** 2 * largest));
  }
  return { columns, factors };
}

function number(hash, start, end) {
  return [...hash.slice(start, end)].reduce((value, digit) => value * 83 + DIGITS.indexOf(digit), 0);
}

function toLight(value) {
  const share = value / 255;
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
}

function toSrgb(light) {
  const share = Math.min(Math.max(light, 0), 1);
  return Math.round(255 * (share <= 0.0031308 ? share * 12.92 : 1.055 * share ** (1 / 2.4) - 0.055));
}
