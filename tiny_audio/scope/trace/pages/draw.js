// Drawing: two colour maps, heat maps on the time axis, padding.

// viridis at nine places; colours between them are mixed.
const VIRIDIS = ["440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"]
  .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const COLD = [33, 102, 172], WARM = [178, 24, 43], COLD_DARK = [92, 169, 240], WARM_DARK = [244, 109, 92];
const mix = (a, b, share) => a.map((value, at) => Math.round(value + (b[at] - value) * share));

function viridis(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1), low = Math.min(Math.floor(at), 7);
  return mix(VIRIDIS[low], VIRIDIS[low + 1], at - low);
}

// Zero has the colour of the card, so what is quiet disappears in either theme.
function diverging(share) {
  const dark = document.documentElement.dataset.theme === "dark";
  const zero = dark ? [27, 31, 37] : [255, 255, 255];
  const [cold, warm] = dark ? [COLD_DARK, WARM_DARK] : [COLD, WARM];
  const signed = Math.min(Math.max(share, 0), 1) * 2 - 1;
  return mix(zero, signed < 0 ? cold : warm, Math.abs(signed) ** 0.8);
}

const MAPS = { viridis, diverging };
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const gutter = () => (window.innerWidth <= 640 ? 44 : 78);
const RIGHT = 6;
const timeX = (t, width) => gutter() + ((t - VIEW.from_s) / (VIEW.to_s - VIEW.from_s)) * (width - gutter() - RIGHT);
const xTime = (x, width) => VIEW.from_s + ((x - gutter()) / (width - gutter() - RIGHT)) * (VIEW.to_s - VIEW.from_s);

// Give a canvas its size in device pixels; draw in CSS pixels.
function sized(canvas, height) {
  const ratio = window.devicePixelRatio || 1, width = canvas.parentElement.clientWidth;
  const style = getComputedStyle(canvas.parentElement);
  const inner = width - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  canvas.style.height = `${height}px`;
  if (canvas.width !== Math.round(inner * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(inner * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, inner, height);
  return [pen, inner];
}

function ticks(width) {
  const rough = ((VIEW.to_s - VIEW.from_s) / Math.max(2, (width - gutter()) / 90));
  const power = 10 ** Math.floor(Math.log10(rough));
  const every = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let n = Math.ceil(VIEW.from_s / every); n * every <= VIEW.to_s; n++) found.push(n * every);
  return [found, Math.max(0, Math.min(4, -Math.floor(Math.log10(every) + 1e-9)))];
}

function grid(pen, width, height) {
  pen.fillStyle = ink("--grid");
  for (const t of ticks(width)[0]) pen.fillRect(Math.round(timeX(t, width)), 0, 1, height);
  pen.fillStyle = ink("--ink");  // where the encoder's next window begins
  for (const [start] of DATA.traces[0].windows) {
    const x = Math.round(timeX(start, width));
    if (start > 0 && x > gutter()) for (let y = 0; y < height; y += 6) pen.fillRect(x, y, 1, 3);
  }
}

// Hatched: what was computed from padding, from the end of a track to the end of its window.
function hatch(pen, from_s, to_s, width, height) {
  const left = Math.max(gutter(), timeX(from_s, width)), right = Math.min(width - RIGHT, timeX(to_s, width));
  if (right - left < 0.5) return;
  pen.save();
  pen.beginPath();
  pen.rect(left, 0, right - left, height);
  pen.clip();
  pen.strokeStyle = ink("--hatch");
  pen.lineWidth = 2;
  pen.beginPath();
  for (let x = left - height - ((left - height) % 9); x < right; x += 9) {
    pen.moveTo(x, height);
    pen.lineTo(x + height, 0);
  }
  pen.stroke();
  if (right - left > 70) {
    pen.fillStyle = ink("--soft");
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.fillText("padding", (left + right) / 2, height / 2 + 4);
  }
  pen.restore();
}

// What a colour map spans: ± the 99th percentile of what is signed, else from the 1st to the 99th.
function rangeOf(matrices, map) {
  const values = [];
  for (const matrix of matrices) {
    const stride = Math.max(1, Math.floor(matrix.bytes.length / 20000));
    for (let at = 0; at < matrix.bytes.length; at += stride) {
      values.push(matrix.value(Math.floor(at / matrix.num_steps), at % matrix.num_steps));
    }
  }
  const sorted = Float64Array.from(values, map === "diverging" ? Math.abs : undefined).sort();
  const high = sorted[Math.floor(0.99 * (sorted.length - 1))] || 1e-9;
  return map === "diverging" ? [-high, high] : [sorted[Math.floor(0.01 * sorted.length)], high];
}

// A matrix as pixels, row 0 at the top (or at the bottom).
function picture(matrix, map, [low, high], upward) {
  const { num_rows, num_steps } = matrix;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.max(1, num_steps), Math.max(1, num_rows)];
  const image = new ImageData(canvas.width, canvas.height);
  const table = Array.from({ length: 256 }, (_, n) => MAPS[map](n / 255));
  for (let row = 0; row < num_rows; row++) {
    for (let at = 0; at < num_steps; at++) {
      const share = (matrix.value(row, at) - low) / (high - low || 1);
      const y = upward ? num_rows - 1 - row : row;
      const color = table[Math.round(Math.min(Math.max(share, 0), 1) * 255)];
      image.data.set([...color, 255], 4 * (y * canvas.width + at));
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Every step at its own place in time: the first and the last of a window are shorter.
function heat(pen, image, track, width, top, height) {
  pen.imageSmoothingEnabled = false;
  pen.save();
  pen.beginPath();
  pen.rect(gutter(), top, width - gutter() - RIGHT, height);
  pen.clip();
  let last = -1;
  for (let at = 0; at < track.start_s.length; at++) {
    const left = Math.round(timeX(track.start_s[at], width)), right = Math.round(timeX(track.end_s[at], width));
    if (right < gutter() || left > width || right <= last) continue;
    pen.drawImage(image, at, 0, 1, image.height, left, top, Math.max(1, right - left), height);
    last = right;
  }
  pen.restore();
}

// Names of rows in the gutter, as far as there is room.
function rowNames(pen, names, top, height) {
  const each = height / names.length, every = Math.max(1, Math.ceil(13 / each));
  pen.fillStyle = ink("--soft");
  pen.font = `${window.innerWidth <= 640 ? 10 : 11}px ${ink("--mono")}`;
  pen.textAlign = "right";
  names.forEach((name, at) => {
    if (at % every) return;
    let text = String(name);
    while (text.length > 2 && pen.measureText(text).width > gutter() - 8) text = `${text.slice(0, -2)}…`;
    pen.fillText(text, gutter() - 6, top + (at + 0.5) * each + 4);
  });
}

const short = (value) => {
  const size = Math.abs(value);
  if (value === 0) return "0";
  return size >= 1000 || size < 0.001 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
};
const seconds = (t) => `${t.toFixed(3)} s`;
const percent = (share) => (share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);
