// Panels of tokens: nearest words, prompt, generation, attention, scale.

// Cells of a strip with the token inside, as far as there is room for it.
function nearestPlot(holder, one) {
  const { tokens, cosines } = one.nearest, each = tokens[0]?.length ?? 0, track = one.audio;
  const tall = [34, 20, 20].slice(0, each), height = tall.reduce((a, b) => a + b, 0);
  timePlot(holder, "nearest tokens", height, (pen, width) => {
    for (let at = 0; at < tokens.length; at++) {
      const left = timeX(track.start_s[at], width), right = timeX(track.end_s[at], width);
      if (right < gutter() || left > width - RIGHT) continue;
      let top = 0;
      for (let rank = 0; rank < each; rank++) {
        nearestCell(pen, tokens[at][rank], cosines[at * each + rank], Math.max(left, gutter()),
          Math.min(right, width - RIGHT), top, tall[rank]);
        top += tall[rank];
      }
    }
    rowNames(pen, ["1st", "2nd", "3rd"].slice(0, each), 0, height);
    hatch(pen, track.end_s[track.end_s.length - 1], track.padded_to_s, width, height);
  }, (t) => {
    const at = stepAt(track, t);
    if (at < 0) return t > DATA.duration_s ? "padding" : "";
    const near = tokens[at].map((token, rank) => `${token}  cosine ${cosines[at * each + rank].toFixed(3)}`);
    return [`position ${at} · ${span(track, at)}`, ...near, `length ${short(one.scale.norms[at])}`].join("\n");
  });
}

function nearestCell(pen, token, cosine, left, right, top, tall) {
  const color = viridis(cosine), bright = 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2] > 140;
  pen.fillStyle = `rgb(${color})`;
  pen.fillRect(left + 0.5, top, Math.max(0.5, right - left - 1), tall - 1);
  pen.font = `${tall > 30 ? "600 13px" : "11px"} ${ink("--mono")}`;
  const room = Math.floor((right - left - 2) / pen.measureText("m").width);
  if (room < 1) return;
  pen.fillStyle = bright ? "#14171b" : "#ffffff";
  pen.textAlign = "center";
  const text = [...token];
  const shown = text.length <= room ? token : room > 2 ? `${text.slice(0, room - 1).join("")}…` : text.slice(0, room).join("");
  pen.fillText(shown, (left + right) / 2, top + tall / 2 + 4);
}

// Equal neighbours said once, as one would read them aloud.
function spelled(one) {
  const first = one.nearest.tokens.map((row) => row[0]), runs = [];
  for (const token of first) if (runs[runs.length - 1] !== token) runs.push(token);
  return element("p", { class: "spelled" }, element("span", {}, "read along: "),
    element("b", {}, runs.slice(0, 160).join(" ")), runs.length > 160 ? " …" : "");
}

const slotMarks = [];
let lastSlots = "";

// The audio positions that hold the cursor's time light up in the prompt.
function drawSlots() {
  const now = DATA.traces.map((one) => stepAt(one.audio, VIEW.cursor_s));
  if (lastSlots === String(now)) return;
  lastSlots = String(now);
  for (const [number, at, mark] of slotMarks) mark.classList.toggle("now", now[number] === at);
}

function promptTokens(one, number, answer) {
  const box = element("div", { class: "tokens" });
  for (let at = 0; at < answer.ids.length; at++) {
    const slot = answer.slots.find(([start]) => start === at);
    if (slot) {
      box.append(audioSlot(one, number, answer, slot));
      at += slot[1] - 1;
      continue;
    }
    const scored = answer.labels[at] >= 0;
    const text = `position ${at} · id ${answer.ids[at]}\nmask 1 · label ${answer.labels[at]}${scored ? "" : ", not scored"}`;
    box.append(element("span", { class: scored ? "token scored" : "token", onpointerenter: (e) => tell(text, e.clientX, e.clientY),
      onpointerleave: () => tell("") }, answer.tokens[at], element("small", {}, String(answer.ids[at]))));
  }
  return box;
}

function audioSlot(one, number, answer, [start, length]) {
  const squares = element("div");
  for (let at = 0; at < length; at++) {
    const position = answer.first_position + at;
    const mark = element("i");
    slotMarks.push([number, position, mark]);
    mark.addEventListener("pointerenter", (event) => {
      VIEW.hover_s = (one.audio.start_s[position] + one.audio.end_s[position]) / 2;
      drawCursors();
      tell(`position ${start + at} · audio embedding ${position}\n${span(one.audio, position)}\nnearest ${one.nearest.tokens[position][0]}\nmask 1 · label −100, not scored`, event.clientX, event.clientY);
    });
    mark.addEventListener("pointerleave", () => { VIEW.hover_s = null; tell(""); drawCursors(); });
    squares.append(mark);
  }
  return element("span", { class: "slot" },
    element("small", {}, `${length} audio embeddings, positions ${start}–${start + length - 1}, id ${answer.ids[start]}`), squares);
}

function stepCard(step, number) {
  const rows = step.alternatives.map(([token, probability]) => element("div",
    { class: token === step.token ? "choice taken" : "choice", style: `--p:${100 * probability}%` },
    element("span", {}, token), element("span", {}, percent(probability))));
  return element("div", { class: "step", tabindex: 0, "aria-label": `step ${number}: ${step.token}, ${percent(step.probability)}` },
    element("small", {}, `step ${number} · ${step.entropy_bits.toFixed(2)} bit`), element("h3", {}, step.token), ...rows);
}

// Of a long answer the first steps; the others wait to be asked for.
function stepCards(steps) {
  const most = 48, cards = steps.map(stepCard);
  const some = [element("div", { class: "steps" }, ...cards.slice(0, most))];
  if (cards.length <= most) return some;
  return [...some, element("details", {}, element("summary", {}, `${cards.length - most} more steps`),
    element("div", { class: "steps" }, ...cards.slice(most)))];
}

// Rows: written tokens; columns: audio positions at their times; of one layer, or the mean.
function attentionPlot(holder, one, state) {
  const rows = one.answers.flatMap((answer) => answer.steps.map((step, at) => ({ answer, step, at })));
  const weight = ({ answer, at }, position) => {
    const [layers, steps, num] = answer.attention.shape, p = position - answer.first_position;
    if (p < 0 || p >= num) return NaN;
    const of = (layer) => answer.attention.value(layer * steps + at, p);
    return state.layer < 0 ? Array.from({ length: layers }, (_, n) => of(n)).reduce((a, b) => a + b, 0) / layers : of(state.layer);
  };
  const share = ({ answer, at }) => {
    const [layers, steps] = answer.attention.shape;
    const of = (layer) => answer.share[layer * steps + at];
    return state.layer < 0 ? Array.from({ length: layers }, (_, n) => of(n)).reduce((a, b) => a + b, 0) / layers : of(state.layer);
  };
  const tall = Math.min(420, Math.max(60, rows.length * 20)), each = tall / Math.max(1, rows.length);
  timePlot(holder, "attention", tall, (pen, width) => {
    for (let row = 0; row < rows.length; row++) {
      const { answer } = rows[row], num = answer.attention.shape[2];
      const values = Array.from({ length: num }, (_, at) => weight(rows[row], answer.first_position + at));
      const most = Math.max(...values, 1e-9);
      for (let at = 0; at < num; at++) {
        const position = answer.first_position + at;
        const left = Math.max(gutter(), timeX(one.audio.start_s[position], width));
        const right = Math.min(width - RIGHT, timeX(one.audio.end_s[position], width));
        if (right <= left) continue;
        pen.fillStyle = `rgb(${viridis(values[at] / most)})`;
        pen.fillRect(Math.floor(left), row * each, Math.ceil(right) - Math.floor(left), each - (each > 12 ? 1 : 0));
      }
    }
    rowNames(pen, rows.map(({ step }) => step.token), 0, tall);
    hatch(pen, one.audio.end_s[one.audio.end_s.length - 1], one.audio.padded_to_s, width, tall);
  }, (t, y) => {
    const row = rows[Math.min(rows.length - 1, Math.max(0, Math.floor(y * rows.length)))], at = stepAt(one.audio, t);
    if (!row || at < 0) return t > DATA.duration_s ? "padding" : "";
    const value = weight(row, at);
    const there = Number.isNaN(value) ? "another prompt" : `${percent(value)} of its attention to audio`;
    return `${row.step.token} → ${span(one.audio, at)}\n${there}\n${percent(share(row))} of all attention goes to audio`;
  });
}

function scaleChart(made) {
  const edges = DATA.traces[0].scale.edges, bins = edges.length - 1, [W, H] = [1000, 210], base = H - 34;
  const all = [["rows of the decoder's table", "var(--soft)", DATA.traces[0].scale.text, DATA.traces[0].scale.text_median],
    ...DATA.traces.map((one, at) => [`audio embeddings${NUM_TRACES > 1 ? ` ${MARKS[at]}` : ""}`, whoColor(at), one.scale.audio, one.scale.audio_median])];
  const most = Math.max(...all.flatMap(([, , shares]) => shares)), x = (bin) => 10 + (bin / bins) * (W - 20);
  const namespace = "http://www.w3.org/2000/svg";
  const draw = (tag, attributes, text = "") => {
    const one = document.createElementNS(namespace, tag);
    for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
    one.textContent = text;
    return one;
  };
  const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img", "aria-label": "Lengths of audio embeddings and of the decoder's own" });
  for (const [, color, shares] of all) {
    const path = shares.map((share, bin) => `L${x(bin)} ${base - (share / most) * (base - 14)}L${x(bin + 1)} ${base - (share / most) * (base - 14)}`).join("");
    svg.append(draw("path", { d: `M${x(0)} ${base}${path}L${x(bins)} ${base}Z`, fill: color, "fill-opacity": 0.28, stroke: color, "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" }));
  }
  svg.append(draw("path", { d: `M10 ${base}H${W - 10}`, stroke: "var(--line)", "vector-effect": "non-scaling-stroke" }));
  const marks = element("div", { style: "display:flex;justify-content:space-between;font:12px var(--mono);color:var(--soft);margin-top:-30px" },
    ...[0, 0.25, 0.5, 0.75, 1].map((share) => element("span", {}, short(edges[Math.round(share * bins)]))));
  svg.addEventListener("pointermove", (event) => {
    const area = svg.getBoundingClientRect();
    const bin = Math.min(bins - 1, Math.max(0, Math.floor((((event.clientX - area.left) / area.width) * W - 10) / (W - 20) * bins)));
    tell([`length ${short(edges[bin])} to ${short(edges[bin + 1])}`, ...all.map(([name, , shares]) => `${percent(shares[bin])} of the ${name}`)].join("\n"), event.clientX, event.clientY);
  });
  svg.addEventListener("pointerleave", () => tell(""));
  made.append(...all.map(([name, color, , median]) => element("p", { class: "who", style: `--who:${color}` }, `${name}: median length ${short(median)}`)),
    element("div", { class: "scale" }, svg, marks));
}
