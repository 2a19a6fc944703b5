// In a result: the word that is being said is marked, a click on a word plays from it. The result is
// replaced with every answer, so all listeners sit on the element around it.
const timed = new WeakMap(); // sound → its words in order, and which of them is marked

function wordsOf(sound) {
  if (!timed.has(sound)) {
    const words = [...element.querySelectorAll(".ta-word[data-start]")];
    timed.set(sound, { words, starts: words.map((word) => +word.dataset.start), now: -1 });
  }
  return timed.get(sound);
}

function lastBefore(starts, time) {
  let low = 0, high = starts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (starts[middle] <= time) low = middle + 1; else high = middle;
  }
  return low - 1;
}

function mark(sound) {
  const known = wordsOf(sound), time = sound.currentTime;
  let now = lastBefore(known.starts, time);
  if (now >= 0 && time >= +known.words[now].dataset.end) now = -1; // a pause between words
  if (now === known.now) return;
  known.words[known.now]?.classList.remove("ta-now");
  known.words[now]?.classList.add("ta-now");
  known.now = now;
  if (now >= 0 && !sound.paused) show(known.words[now]);
}

function show(word) { // scrolls the text, never the page
  const box = word.closest(".ta-said"), inside = box.getBoundingClientRect(), at = word.getBoundingClientRect();
  if (at.top < inside.top || at.bottom > inside.bottom) box.scrollTop += at.top - inside.top - inside.height / 3;
}

function follow(sound) {
  mark(sound);
  if (!sound.paused && sound.isConnected) requestAnimationFrame(() => follow(sound));
}

for (const event of ["play", "seeked", "pause"]) {
  element.addEventListener(event, ({ target }) => target.matches("audio.ta-sound") && follow(target), true);
}
element.addEventListener("click", ({ target }) => {
  const piece = target.closest("[data-start]"), sound = element.querySelector("audio.ta-sound");
  if (!piece || !sound || getSelection().toString()) return;
  sound.currentTime = +piece.dataset.start;
  sound.play().catch(() => {}); // a browser that cannot play the format shows so in its controls
});
element.addEventListener("click", ({ target }) => {
  if (!target.matches("a.ta-save")) return;
  const page = element.querySelector("iframe").srcdoc.replace('<base href="about:srcdoc">', "");
  target.href = URL.createObjectURL(new Blob([page], { type: "text/html" }));
  setTimeout(() => URL.revokeObjectURL(target.href), 60000);
});
