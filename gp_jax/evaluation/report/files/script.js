"use strict";
// Each clip has one video that holds all its pictures as tiles. The tiles are copied to their places from there, so that
// the pictures of a clip are always of the same moment. Only clips on the screen are decoded and played.
const RATE = 24;
const clips = [...document.querySelectorAll(".clip")].map(makeClip);
const all = { playing: true, speed: 1 };

function makeClip(root) {
  const video = root.querySelector("video");
  const clip = {
    root, video,
    frames: Number(root.dataset.frames),
    columns: Number(root.dataset.columns),
    canvases: [...root.querySelectorAll("figure canvas")],
    now: [...root.querySelectorAll(".now")].map((place) => ({ place, texts: JSON.parse(place.dataset.values || "[]") })),
    slider: root.querySelector(".player input"),
    label: root.querySelector(".player output"),
    compare: makeCompare(root.querySelector(".compare")),
    button: root.querySelector("button"),
    plots: [...root.querySelectorAll("svg")].map((svg) => ({ svg, head: svg.querySelector(".playhead") })),
    visible: false, paused: false, shown: -1,
  };
  clip.button.onclick = () => { clip.paused = !clip.paused; update(clip); };
  clip.slider.oninput = () => seek(clip, Number(clip.slider.value));
  for (const { svg } of clip.plots) {
    svg.onpointermove = (event) => {
      const box = svg.getBoundingClientRect(), { left, right } = svg.dataset;
      const at = (((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width - left) / (right - left);
      seek(clip, Math.round(Math.min(1, Math.max(0, at)) * (clip.frames - 1)));
    };
  }
  clip.compare.redraw = () => clip.compare.draw(clip);
  for (const figure of root.querySelectorAll("figure")) figure.onclick = () => figure.classList.toggle("large");
  return clip;
}

// Two of the clip's pictures in one place, with a line between them.
function makeCompare(root) {
  const canvas = root.querySelector("canvas"), line = root.querySelector(".line");
  const chosen = [root.querySelector(".left"), root.querySelector(".right")];
  const compare = { draw, redraw: () => {} }, drawTwo = makeComparison(canvas, line);
  function draw({ canvases }) {
    if (!root.open) return;
    drawTwo(...chosen.map(({ value }) => (context) => context.drawImage(canvases[Number(value)], 0, 0)));
  }
  for (const part of [line, ...chosen]) part.oninput = () => compare.redraw();
  root.ontoggle = () => compare.redraw();
  return compare;
}

function update(clip) {
  const playing = clip.visible && all.playing && !clip.paused;
  clip.button.textContent = clip.paused ? "▶" : "❚❚";
  clip.video.playbackRate = all.speed;
  if (clip.visible && !clip.video.src) clip.video.src = clip.video.dataset.src;
  if (playing) clip.video.play().catch(() => {});
  else clip.video.pause();
}

function seek(clip, frame) {
  clip.paused = true;
  update(clip);
  clip.video.currentTime = (frame + 0.5) / RATE;
}

function draw(clip) {
  const { video, columns } = clip;
  if (video.readyState < 2 || video.seeking) return;
  const frame = Math.min(clip.frames - 1, Math.floor(video.currentTime * RATE + 1e-3));
  if (frame === clip.shown) return;
  clip.shown = frame;
  clip.canvases.forEach((canvas, tile) => {
    const { width, height } = canvas, column = tile % columns, row = Math.floor(tile / columns);
    canvas.getContext("2d").drawImage(video, column * width, row * height, width, height, 0, 0, width, height);
  });
  clip.compare.draw(clip);
  for (const { place, texts } of clip.now) place.textContent = texts[frame] ?? "";
  clip.slider.value = frame;
  clip.label.textContent = `${frame + 1} / ${clip.frames}`;
  for (const { svg, head } of clip.plots) {
    const { left, right } = svg.dataset, x = Number(left) + ((right - left) * frame) / Math.max(1, clip.frames - 1);
    head.setAttribute("x1", x);
    head.setAttribute("x2", x);
  }
}

function tick() {
  for (const clip of clips) if (clip.visible) draw(clip);
  requestAnimationFrame(tick);
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const clip = clips.find(({ root }) => root === entry.target);
    clip.visible = entry.isIntersecting;
    update(clip);
  }
}, { rootMargin: "200px" });
for (const clip of clips) watcher.observe(clip.root);

const chosen = document.getElementById("case");
function choose() {
  for (const { root } of clips) root.hidden = chosen.value !== "" && root.dataset.case !== chosen.value;
}
chosen.onchange = choose;
// A link to a clip of another case shows that case.
window.addEventListener("hashchange", () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.hidden) { chosen.value = target.dataset.case; choose(); target.scrollIntoView(); }
});
document.getElementById("speed").onchange = (event) => { all.speed = Number(event.target.value); clips.forEach(update); };
document.getElementById("play").onclick = (event) => {
  all.playing = !all.playing;
  event.target.textContent = all.playing ? "Pause" : "Play";
  clips.forEach(update);
};
choose();
tick();
