// The page: what the models are, the panels in the order of the path, playback and keys.

const [FIRST] = DATA.traces;
const RULER = { canvas: document.getElementById("ruler"), cursor: document.querySelector(".ruler .cursor") };

function drawRuler() {
  const [pen, width] = sized(RULER.canvas, 26);
  const [marks, digits] = ticks(width);
  pen.fillStyle = ink("--soft");
  pen.font = `11px ${ink("--mono")}`;
  pen.textAlign = "center";
  for (const t of marks) {
    pen.fillRect(Math.round(timeX(t, width)), 19, 1, 6);
    pen.fillText(`${t.toFixed(digits)} s`, Math.max(gutter() + 10, Math.min(width - 22, timeX(t, width))), 14);
  }
  hatch(pen, DATA.duration_s, LAST_S, width, 26);
}

function describeModel(one, number) {
  const pill = { true: element("span", { class: "pill trained" }, "trained"),
    false: element("span", { class: "pill untrained" }, "untrained projector") }[String(one.model.trained)];
  const kind = one.model.projector + (pill ? "" : " (its checkpoint does not say how it began)");
  const mark = NUM_TRACES > 1 ? `${MARKS[number]} · ` : "";
  const facts = [["encoder", one.model.encoder], ["projector", kind], ["decoder", one.model.decoder]];
  return element("article", { class: "model", style: `--who:${whoColor(number)}` },
    element("h2", {}, `${mark}${one.model.name}`, pill),
    element("blockquote", one.text ? {} : { class: "none" }, one.text || "nothing was written"),
    element("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
}

function describePath() {
  const answer = FIRST.answers[0], num = FIRST.answers.reduce((sum, one) => sum + one.steps.length, 0);
  const width = FIRST.audio.shape[2];
  const steps = [["#waveform", "samples_N", `[${SAMPLES.length}]`],
    ["#log-mel", FIRST.model.hears_mel ? "features_BFM" : "samples_BN", FIRST.model.hears_mel ? shapeOf(FIRST.log_mel) : `[1, ${SAMPLES.length}]`],
    ["#frames", "frames_BTE", shapeOf(FIRST.frames)], ["#stages", "projector", `${FIRST.stages.length} stages`],
    ["#audio", "audio_BPD", shapeOf(FIRST.audio)],
    ["#prompt", "embeds_BLD", `[1, ${answer.ids.length - answer.steps.length}, ${width}]`],
    ["#generation", "tokens_BL", `[1, ${num}]`]];
  const links = steps.flatMap(([to, symbol, shape]) => [element("i", { "aria-hidden": "true" }, "→"),
    element("a", { href: to }, element("b", {}, symbol), element("span", {}, shape))]);
  document.getElementById("path").append(...links.slice(1));
}

function waveform() {
  const made = panel("waveform", "Waveform", `samples_N [${SAMPLES.length}]`, "Air pressure at the microphone, 16,000 numbers a second: all that the model is given.");
  const rate = DATA.sampling_rate;
  const peak = SAMPLES.reduce((most, value) => Math.max(most, Math.abs(value)), 1) / 32768;
  timePlot(made, "waveform", 110, (pen, width, height) => {
    const y = (value) => height / 2 - (value / peak) * (height / 2 - 4);
    pen.fillStyle = pen.strokeStyle = ink("--wave");
    const per = ((VIEW.to_s - VIEW.from_s) * rate) / (width - gutter() - RIGHT);
    pen.beginPath();
    for (let x = gutter(); x < width - RIGHT; x += per < 1 ? 1 / per : 1) {
      const from = Math.floor(xTime(x, width) * rate), to = Math.max(from + 1, Math.floor(from + per));
      if (from >= SAMPLES.length) break;
      let [low, high] = [Infinity, -Infinity];
      for (let n = from; n < Math.min(to, SAMPLES.length); n++) [low, high] = [Math.min(low, SAMPLES[n]), Math.max(high, SAMPLES[n])];
      if (per > 2) pen.rect(x, y(high / 32768), 1, Math.max(1, y(low / 32768) - y(high / 32768)));
      else pen.lineTo(timeX(from / rate, width), y(SAMPLES[from] / 32768));
    }
    if (per > 2) pen.fill(); else pen.stroke();
    rowNames(pen, [`+${short(peak)}`, "0", `−${short(peak)}`], 0, height);
    hatch(pen, DATA.duration_s, LAST_S, width, height);
  }, (t) => {
    const n = Math.floor(t * rate);
    return n >= 0 && n < SAMPLES.length ? `${seconds(t)} · sample ${n}\n${(SAMPLES[n] / 32768).toFixed(5)}` : t > DATA.duration_s ? "padding" : "";
  });
}

const melHz = (row, num) => {  // the Slaney scale from 0 to 8 kHz: linear below 1 kHz
  const top = 15 + 27 * (Math.log(8) / Math.log(6.4)), mel = ((row + 1) / (num + 1)) * top;
  return mel < 15 ? (mel * 200) / 3 : 1000 * Math.exp(((mel - 15) * Math.log(6.4)) / 27);
};

function logMel() {
  const hears = DATA.traces.some((one) => one.model.hears_mel);
  const made = panel("log-mel", "Log-mel spectrogram", hears ? `features_BFM ${shapeOf(FIRST.log_mel)}` : "not in this path", hears
    ? "How loud every pitch is, 100 columns a second: what the encoder looks at, low pitches at the bottom."
    : "How loud every pitch is, for the eye only: this encoder hears the waveform itself.");
  const tracks = DATA.same.log_mel ? [FIRST.log_mel] : DATA.traces.map((one) => one.log_mel);
  const over = (pen, { num_rows: num }, height) => {
    pen.fillStyle = ink("--soft");
    pen.font = `11px ${ink("--mono")}`;
    pen.textAlign = "right";
    for (const hz of [500, 1000, 2000, 4000]) {
      const row = Array.from({ length: num }, (_, n) => n).findIndex((n) => melHz(n, num) >= hz);
      pen.fillText(hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`, gutter() - 6, height * (1 - (row + 0.5) / num) + 4);
    }
  };
  const rowName = (track, row) => `bin ${row} (${Math.round(melHz(row, track.num_rows))} Hz)`;
  const compared = compareHeat(made, tracks, { map: "viridis", height: 160, upward: true, rowName, over, same: DATA.same.log_mel });
  legend(made, "viridis", compared.range);
  compareChooser(made, [compared]);
}

const dimension = (track, row) => `dimension ${track.rows[row]}`;
const rootMean = (track) => `root mean square ${short(track.rms)}`;

function frames() {
  const made = panel("frames", "Encoder frames", `frames_BTE ${shapeOf(FIRST.frames)}`,
    `The encoder's output: the ${FIRST.frames.rows.length} most active of ${FIRST.frames.shape[2]} dimensions, the most active on top.`);
  const tracks = DATA.same.frames ? [FIRST.frames] : DATA.traces.map((one) => one.frames);
  const compared = compareHeat(made, tracks, { map: "diverging", height: 150, rowName: dimension, text: rootMean, same: DATA.same.frames });
  legend(made, "diverging", compared.range);
  compareChooser(made, [compared]);
}

function stages() {
  const made = panel("stages", "Inside the projector", `${FIRST.stages.length} stages`,
    "Every layer of the projector in the order in which it ran. Each map has its own colours, from blue below zero to red above: the root mean square says how large its numbers are.");
  const paired = NUM_TRACES > 1 && FIRST.stages.every((track, at) => DATA.traces[1].stages[at]?.name === track.name) && FIRST.stages.length === DATA.traces[1].stages.length;
  const groups = paired ? FIRST.stages.map((_, at) => DATA.traces.map((one) => one.stages[at])) : DATA.traces.flatMap((one) => one.stages.map((track) => [track]));
  compareChooser(made, groups.map((tracks) => {
    const group = element("div", { class: "stage" }, element("h3", {}, tracks[0].name));
    made.append(group);
    const text = (track) => `${rootMean(track)} · ${track.rows.length} of ${track.shape[2]} dimensions`;
    return compareHeat(group, tracks, { map: "diverging", ownRange: true, height: 64, rowName: dimension, text });
  }));
}

function audioEmbeddings() {
  const made = panel("audio", "Audio embeddings, and the words they are near", `audio_BPD ${shapeOf(FIRST.audio)}`,
    "What the decoder gets in place of words; below, the tokens whose own embeddings point most in the same direction (cosine, from 0 in violet to 1 in yellow).");
  const compared = compareHeat(made, DATA.traces.map((one) => one.audio), { map: "diverging", height: 110, rowName: dimension, text: rootMean });
  legend(made, "diverging", compared.range);
  compareChooser(made, [compared]);
  DATA.traces.forEach((one, number) => {
    made.append(who(number, "nearest tokens"));
    nearestPlot(made, one);
    made.append(spelled(one));
  });
}

function words() {
  const read = FIRST.answers.reduce((sum, one) => sum + one.ids.length, 0);
  const prompt = panel("prompt", "The prompt, as the decoder sees it", `ids_BL [1, ${read}]`,
    "Tokens with their ids; audio embeddings stand in their slots. The mask is 1 everywhere, for one clip needs no padding; underlined tokens are the answer, and only they are scored in training.");
  const generation = panel("generation", "Writing, step by step", "tokens_BL",
    "What the decoder chose at every step, what else it considered, and how undecided it was (entropy; 0 bit: no doubt).");
  const attention = panel("attention", "Where the decoder looked", "attention_KSP",
    "From every written token back to the audio: mean over heads, normalised over the audio positions; the brightest of each row is its maximum.");
  const state = { layer: -1 }, layers = FIRST.answers[0].attention.shape[0];
  attention.append(chooserOfLayers(state, layers));
  DATA.traces.forEach((one, number) => {
    one.answers.forEach((answer, at) => {
      const title = one.answers.length > 1 ? `prompt ${at + 1} of ${one.answers.length}` : "";
      if (title || NUM_TRACES > 1) [prompt, generation].forEach((made) => made.append(who(number, title)));
      prompt.append(promptTokens(one, number, answer));
      generation.append(...stepCards(answer.steps));
      if (answer.finish_reason !== "stop") generation.append(element("p", { class: "say" }, `It did not end by itself: ${answer.finish_reason}.`));
    });
    attention.append(who(number, ""));
    attentionPlot(attention, one, state);
  });
}

function chooserOfLayers(state, layers) {
  const select = element("select", { id: "layer", onchange: () => { state.layer = Number(select.value); redraw(); } },
    element("option", { value: -1 }, "mean of all layers"),
    ...Array.from({ length: layers }, (_, n) => element("option", { value: n }, `layer ${n}`)));
  return element("div", { class: "choose" }, element("label", { for: "layer" }, "Layer"), select);
}

function scale() {
  const made = panel("scale", "Scale of audio and text", "‖embedding‖",
    "Lengths of the audio embeddings beside those of the decoder's own: a fresh projector is scaled to their root mean square, and training moves it from there.");
  scaleChart(made);
}

// What training changed, in numbers.
function summary() {
  if (NUM_TRACES < 2) return;
  const made = panel("changed", "A and B in numbers", "", "The same clip through both models.");
  const mean = (values) => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
  const rows = [
    ["audio length ÷ text length (medians)", (one) => short(one.scale.audio_median / one.scale.text_median)],
    ["cosine to the nearest token, mean", (one) => mean(Array.from(one.nearest.cosines).filter((_, at) => at % one.nearest.tokens[0].length === 0)).toFixed(3)],
    ["probability of a written token, mean", (one) => percent(mean(one.answers.flatMap((answer) => answer.steps.map((step) => step.probability))))],
    ["entropy of a step, mean", (one) => `${mean(one.answers.flatMap((answer) => answer.steps.map((step) => step.entropy_bits))).toFixed(2)} bit`],
    ["attention that goes to audio, mean", (one) => percent(mean(one.answers.flatMap((answer) => Array.from(answer.share))))],
    ["tokens written", (one) => String(one.answers.reduce((sum, answer) => sum + answer.steps.length, 0))],
  ];
  const line = (kind, cells) => element("tr", {}, ...cells.map((cell, at) => element(at ? kind : "th", {}, cell)));
  made.append(element("div", { class: "table" }, element("table", { class: "compare" },
    element("thead", {}, line("th", ["", ...DATA.traces.map((one, at) => `${MARKS[at]} · ${nameOf(one)}`)])),
    element("tbody", {}, ...rows.map(([name, of]) => line("td", [name, ...DATA.traces.map(of)]))))));
}

function playback() {
  const button = document.getElementById("play");
  const follow = () => {
    moveTo(PLAYER.currentTime, false);
    if (!PLAYER.paused) requestAnimationFrame(follow);
  };
  const label = () => {
    button.textContent = PLAYER.paused ? "▶ Play" : "❚❚ Pause";
    button.setAttribute("aria-pressed", String(!PLAYER.paused));
    requestAnimationFrame(follow);
  };
  for (const event of ["play", "pause", "ended"]) PLAYER.addEventListener(event, label);
  const toggle = () => (PLAYER.paused ? PLAYER.play() : PLAYER.pause());
  button.addEventListener("click", toggle);
  document.getElementById("closer").addEventListener("click", () => { zoom(0.6); drawCursors(); });
  document.getElementById("wider").addEventListener("click", () => { zoom(1 / 0.6); drawCursors(); });
  document.getElementById("whole").addEventListener("click", () => { show(...FIRST_VIEW); drawCursors(); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, button, a")) return;
    const by = event.shiftKey ? 0.5 : 0.05;
    const keys = { " ": toggle, "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: () => show(...FIRST_VIEW),
      ArrowLeft: () => moveTo(VIEW.cursor_s - by), ArrowRight: () => moveTo(VIEW.cursor_s + by) };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
    drawCursors();
    const focused = plots.find((plot) => plot.box === document.activeElement);
    if (focused) readAtCursor(focused);
  });
}

function theme() {
  const dark = window.matchMedia("(prefers-color-scheme: dark)"), root = document.documentElement;
  const set = (on) => { root.dataset.theme = on ? "dark" : "light"; redraw(); };
  set(dark.matches);
  dark.addEventListener("change", () => set(dark.matches));
  document.getElementById("theme").addEventListener("click", () => set(root.dataset.theme !== "dark"));
}

document.getElementById("source").append(DATA.source.split("/").pop(), " ", element("small", {},
  [`${DATA.duration_s.toFixed(2)} s`, ...(FIRST.windows.length > 1 ? [`encoded in ${FIRST.windows.length} windows, cut in pauses (dotted lines)`] : [])].join(", ")));
document.title = `Trace of ${DATA.source.split("/").pop()}`;
document.getElementById("models").append(...DATA.traces.map(describeModel));
theme();
redraws.push(drawRuler);
describePath();
[summary, waveform, logMel, frames, stages, audioEmbeddings, words, scale].forEach((make) => make());
playback();
redraws.push(drawCursors);
window.addEventListener("resize", redraw);
redraw();
window.trace = { data: DATA, view: VIEW, player: PLAYER, samples: SAMPLES, plots, timeX, show, moveTo };
