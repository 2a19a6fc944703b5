// Panels on the time axis: what they draw, and what they read out.

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") made.style.cssText = value; // the demo's policy forbids the attribute
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
};
const whoColor = (number) => (number ? "var(--other)" : "var(--accent)");
const MARKS = ["A", "B"];
const nameOf = (one) => one.model.name.split("/").pop() || one.model.name;
const NUM_TRACES = DATA.traces.length;
const plots = [];
const TIP = document.getElementById("tip");

function tell(text, x, y) {
  TIP.hidden = !text;
  if (!text) return;
  TIP.textContent = text;
  const box = TIP.getBoundingClientRect();
  TIP.style.left = `${Math.max(6, Math.min(x + 14, window.innerWidth - box.width - 6))}px`;
  TIP.style.top = `${y + 18 + box.height > window.innerHeight ? y - box.height - 12 : y + 18}px`;
}

// A section with a title, the symbol of the path, its shape and one sentence.
function panel(id, title, symbol, sentence) {
  const head = element("div", { class: "head" }, element("h2", {}, title), element("code", {}, symbol));
  const made = element("section", { class: "panel", id, "aria-label": title }, head,
    element("p", { class: "say" }, sentence));
  document.getElementById("panels").append(made);
  return made;
}

// `draw(pen, width, height)`, and `read(t, y)` with y from 0 at the top to 1.
function timePlot(holder, label, height, draw, read) {
  const canvas = element("canvas", { style: `height:${height}px` });
  const [cursor, hover] = [element("i", { class: "cursor" }), element("i", { class: "hover" })];
  const box = element("div", { class: "plot", tabindex: 0, role: "img", "aria-label": label }, canvas, cursor, hover);
  holder.append(box);
  const plot = { box, canvas, cursor, hover, read, seen: true };
  plot.draw = () => {
    const [pen, width] = sized(canvas, height);
    grid(pen, width, height);
    draw(pen, width, height);
  };
  new IntersectionObserver(([entry]) => {
    plot.seen = entry.isIntersecting;
    if (plot.seen) plot.draw();
  }, { rootMargin: "200px" }).observe(box);
  redraws.push(() => { if (plot.seen) plot.draw(); });
  plots.push(plot);
  followPointer(plot);
  return plot;
}

function drawCursors() {
  for (const plot of [...plots, RULER]) {
    const width = plot.canvas.clientWidth;
    const place = (mark, t) => {
      const x = timeX(t, width);
      mark.style.transform = `translateX(${x + plot.canvas.offsetLeft}px)`;
      mark.style.visibility = t == null || x < gutter() - 1 || x > width - RIGHT + 1 ? "hidden" : "visible";
    };
    place(plot.cursor, VIEW.cursor_s);
    if (plot.hover) place(plot.hover, VIEW.hover_s);
  }
  document.getElementById("now").textContent = `${VIEW.cursor_s.toFixed(2)} / ${DATA.duration_s.toFixed(2)} s`;
  drawSlots();
}

// Hover reads out, a drag pans, two fingers or Ctrl and the wheel zoom, a click moves the cursor.
function followPointer(plot) {
  const { box, canvas } = plot, fingers = new Map();
  let start = null, moved = false;
  const at = (event) => {
    const area = canvas.getBoundingClientRect();
    return [xTime(event.clientX - area.left, area.width), (event.clientY - area.top) / area.height];
  };
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return [Math.max(20, Math.abs(a - b)), (a + b) / 2];
  };
  box.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, event.clientX);
    box.setPointerCapture(event.pointerId);
    [start, moved] = [[event.clientX, VIEW.from_s, VIEW.to_s, fingers.size === 2 ? spread() : null], fingers.size > 1];
  });
  box.addEventListener("pointermove", (event) => {
    const [t, y] = at(event), width = canvas.clientWidth - gutter() - RIGHT;
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, event.clientX);
    if (start && fingers.size === 2 && start[3]) {
      const [now] = spread(), length = (start[2] - start[1]) * (start[3][0] / now);
      const share = (start[3][1] - canvas.getBoundingClientRect().left - gutter()) / width;
      const fixed = start[1] + share * (start[2] - start[1]);
      show(fixed - share * length, fixed + (1 - share) * length);
    } else if (start && fingers.size === 1 && (moved || Math.abs(event.clientX - start[0]) > 4)) {
      moved = true;
      box.classList.add("dragging");
      const by = ((start[0] - event.clientX) / width) * (start[2] - start[1]);
      show(start[1] + by, start[2] + by);
    }
    if (event.pointerType === "mouse" || moved) {
      VIEW.hover_s = t;
      tell(plot.read?.(t, y), event.clientX, event.clientY);
    }
    drawCursors();
  });
  const end = (event) => {
    if (start && !moved && event.type === "pointerup") {
      const [t, y] = at(event);
      moveTo(t);
      if (event.pointerType !== "mouse") tell(plot.read?.(t, y), event.clientX, event.clientY);
    }
    fingers.delete(event.pointerId);
    if (!fingers.size) [start, moved] = [null, false];
    box.classList.remove("dragging");
  };
  box.addEventListener("pointerup", end);
  box.addEventListener("pointercancel", end);
  box.addEventListener("pointerleave", () => { VIEW.hover_s = null; tell(""); drawCursors(); });
  box.addEventListener("wheel", (event) => {
    const along = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.ctrlKey || event.metaKey) zoom(Math.exp(event.deltaY * 0.004), at(event)[0]);
    else if (Math.abs(along) > 2 * Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      const by = (along / canvas.clientWidth) * (VIEW.to_s - VIEW.from_s);
      show(VIEW.from_s + by, VIEW.to_s + by);
    } else return;
    event.preventDefault();
    drawCursors();
  }, { passive: false });
  box.addEventListener("dblclick", () => show(...FIRST_VIEW));
  box.addEventListener("focus", () => readAtCursor(plot));
  box.addEventListener("blur", () => tell(""));
}

// For the keyboard: what the focused panel says about the cursor's time.
function readAtCursor(plot) {
  if (!plot.read || !plot.box.matches(":focus-visible")) return;
  const area = plot.canvas.getBoundingClientRect();
  tell(plot.read(VIEW.cursor_s, 0.5), area.left + timeX(VIEW.cursor_s, area.width), area.top + area.height / 2);
}

function legend(made, map, [low, high], unit = "") {
  const canvas = element("canvas", { width: 90, height: 1, "aria-hidden": "true" });
  const paint = () => {
    const pen = canvas.getContext("2d");
    for (let x = 0; x < 90; x++) {
      pen.fillStyle = `rgb(${MAPS[map](x / 89)})`;
      pen.fillRect(x, 0, 1, 1);
    }
  };
  paint();
  redraws.push(paint);
  made.querySelector(".head").append(element("span", { class: "legend" }, short(low), canvas, `${short(high)}${unit}`));
}

// Whose it is, where there are two, and what is to be said about it.
function who(number, text, shape) {
  const name = NUM_TRACES > 1 ? `${MARKS[number]} · ${nameOf(DATA.traces[number])}` : "";
  const said = [name, text].filter(Boolean).join(" · ");
  if (!said) return "";
  return element("p", { class: NUM_TRACES > 1 ? "who" : "who plain", style: `--who:${whoColor(number)}` }, said,
    shape ? element("code", {}, shape) : null);
}

const shapeOf = (track) => `[${track.shape.join(", ")}]`;
const span = (track, at) => `${track.start_s[at].toFixed(3)}–${track.end_s[at].toFixed(3)} s`;

// One heat map of a track, drawn by the range it shares with its neighbours.
function heatPlot(holder, label, track, options) {
  let image = null, theme = null;
  const { map, range, height, rowName, unit = "" } = options;
  return timePlot(holder, label, height, (pen, width, tall) => {
    if (theme !== document.documentElement.dataset.theme) {
      image = picture(track, map, range, options.upward);
      theme = document.documentElement.dataset.theme;
    }
    heat(pen, image, track, width, 0, tall);
    grid(pen, width, tall);
    hatch(pen, track.end_s[track.end_s.length - 1], track.padded_to_s, width, tall);
    options.over?.(pen, track, tall);
  }, (t, y) => {
    const at = stepAt(track, t);
    if (at < 0) return t > DATA.duration_s ? "padding" : "";
    let row = Math.min(track.num_rows - 1, Math.max(0, Math.floor(y * track.num_rows)));
    if (options.upward) row = track.num_rows - 1 - row;
    return `${span(track, at)} · step ${at}\n${rowName(track, row)} = ${short(track.value(row, at))} ± ${short(track.step[row] / 2)}${unit}`;
  });
}

// B − A where both have the same rows and steps.
function difference(a, b) {
  const same = a.rows.length === b.rows.length && a.num_steps === b.num_steps && a.rows.every((n, at) => n === b.rows[at]);
  if (!same) return null;
  const made = { ...a, low: new Float32Array(a.num_rows), step: new Float32Array(a.num_rows), bytes: new Uint8Array(a.bytes.length) };
  made.value = (row, at) => b.value(row, at) - a.value(row, at);
  made.step = a.step.map((step, row) => step + b.step[row]);
  return made;
}

// The same track of every model: both, one of them, or what training changed.
function compareHeat(made, tracks, options) {
  const shared = rangeOf(tracks, options.map), groups = [];
  const group = (mark, line, track, changes) => {
    const box = element("div", {}, line);
    box.hidden = mark === "B − A";
    made.append(box);
    groups.push([mark, box]);
    heatPlot(box, `${track.name} ${tracks.length > 1 ? mark : ""}`, track, { ...options, ...changes });
  };
  tracks.forEach((track, number) => {
    const text = options.same ? "the same for both models" : options.text?.(track);
    const line = options.same ? element("p", { class: "who plain" }, text) : who(number, text, shapeOf(track));
    group(MARKS[number], line, track, { range: options.ownRange ? rangeOf([track], options.map) : shared });
  });
  const changed = tracks.length > 1 ? difference(...tracks) : null;
  if (changed) {
    const own = rangeOf([changed], "diverging");
    const line = element("p", { class: "who plain" }, `B − A, colours from ${short(own[0])} to ${short(own[1])}`);
    group("B − A", line, changed, { map: "diverging", range: own });
  }
  const select = (wanted) => groups.forEach(([mark, box]) => {
    box.hidden = wanted === "A and B" ? mark === "B − A" : mark !== wanted;
  });
  return { range: shared, select, compares: Boolean(changed) };
}

// One choice for all that is compared in a panel.
function compareChooser(made, compared) {
  if (!compared.every((one) => one.compares)) return;
  made.querySelector(".say").after(chooser(["A and B", "A", "B", "B − A"], (wanted) => compared.forEach((one) => one.select(wanted))));
}

function chooser(names, choose) {
  const buttons = names.map((name, at) => element("button", { "aria-pressed": String(at === 0), onclick: () => {
    buttons.forEach((one) => one.setAttribute("aria-pressed", String(one === buttons[at])));
    choose(name);
    redraw();
    requestAnimationFrame(drawCursors);
  } }, name));
  return element("div", { class: "choose", role: "group" }, ...buttons);
}
