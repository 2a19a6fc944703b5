"use strict";
// The data of the page, and the one time axis: which part is seen, where the cursor stands.

const DATA = JSON.parse(document.getElementById("data").textContent);
const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const floatsOf = (text) => new Float32Array(bytesOf(text).buffer);

// A matrix of R rows over S steps: value = low + byte × step.
function unpack(matrix) {
  Object.assign(matrix, {
    bytes: bytesOf(matrix.bytes), low: floatsOf(matrix.low), step: floatsOf(matrix.step),
  });
  matrix.num_rows = matrix.low.length;
  matrix.num_steps = matrix.bytes.length / Math.max(1, matrix.num_rows);
  matrix.value = (row, at) => matrix.low[row] + matrix.bytes[row * matrix.num_steps + at] * matrix.step[row];
  return matrix;
}

function unpackTrack(track) {
  unpack(track);
  track.start_s = floatsOf(track.start_s);
  track.end_s = floatsOf(track.end_s);
  return track;
}

for (const one of DATA.traces) {
  [one.log_mel, one.frames, one.audio, ...one.stages].forEach(unpackTrack);
  one.nearest.cosines = floatsOf(one.nearest.cosines);
  for (const name of ["edges", "norms"]) one.scale[name] = floatsOf(one.scale[name]);
  for (const answer of one.answers) {
    unpack(answer.attention);
    answer.share = floatsOf(answer.share);
  }
}

// The step of a track at a time; -1 where it has none.
function stepAt(track, t) {
  let low = 0, high = track.end_s.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (track.end_s[middle] <= t) low = middle + 1; else high = middle;
  }
  return t >= track.start_s[low] && t <= track.end_s[low] ? low : -1;
}

// PCM after the "data" mark of the WAV file, 16 bits.
const WAV = bytesOf(DATA.wav);
const SAMPLES = (() => {
  let at = 12;
  const view = new DataView(WAV.buffer);
  while (view.getUint32(at) !== 0x64617461) at += 8 + view.getUint32(at + 4, true);
  return new Int16Array(WAV.buffer.slice(at + 8, at + 8 + view.getUint32(at + 4, true)));
})();
const PLAYER = new Audio(URL.createObjectURL(new Blob([WAV], { type: "audio/wav" })));

const LAST_S = Math.max(...DATA.traces.flatMap((one) =>
  [one.log_mel, one.frames, one.audio].map((track) => track.padded_to_s)), DATA.duration_s);
// At first the clip and a little of its padding, which may be many times as long as the clip.
const FIRST_VIEW = [0, Math.min(LAST_S, DATA.duration_s * 1.03)];
const VIEW = { from_s: FIRST_VIEW[0], to_s: FIRST_VIEW[1], cursor_s: 0 };
const SHORTEST_S = 0.004;
const redraws = [];
let waiting = false;

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; redraws.forEach((draw) => draw()); });
}

function show(from_s, to_s) {
  const length = Math.min(Math.max(to_s - from_s, SHORTEST_S), LAST_S);
  const from = Math.min(Math.max(0, from_s), LAST_S - length);
  Object.assign(VIEW, { from_s: from, to_s: from + length });
  redraw();
}

function zoom(factor, around_s = VIEW.cursor_s) {
  const inside = around_s >= VIEW.from_s && around_s <= VIEW.to_s;
  const at = inside ? around_s : (VIEW.from_s + VIEW.to_s) / 2;
  const from = at - (at - VIEW.from_s) * factor, to = at + (VIEW.to_s - at) * factor;
  if (to - from >= LAST_S) show(0, LAST_S);
  else if (to - from >= SHORTEST_S) show(from, to);
}

function moveTo(t, seek = true) {
  VIEW.cursor_s = Math.min(Math.max(0, t), DATA.duration_s);
  if (seek) PLAYER.currentTime = VIEW.cursor_s;
  const length = VIEW.to_s - VIEW.from_s;
  if (VIEW.cursor_s < VIEW.from_s || VIEW.cursor_s > VIEW.to_s) {
    show(VIEW.cursor_s - 0.1 * length, VIEW.cursor_s + 0.9 * length);
  }
  drawCursors();
}
