"use strict";
// A result beside its source, in step because both are drawn from the one video: left of the line the source alone, which
// the result holds pixel by pixel, right of it the result. Players of one clip play and move together.
const players = new Map(); // id of a task -> its player

function makePlayer(task) {
  const { width, height, left, top, source_width, source_height } = task.canvas;
  const root = document.createElement("div");
  root.innerHTML = `<canvas></canvas><video playsinline loop></video>
    <label>Source <input type="range" class="line" min="0" max="100" value="25"> Result</label>
    <div class="row"><button type="button" class="play">Play</button>
    <label class="wide">Frame <input type="range" class="time" min="0" value="0"><output></output></label></div>`;
  const canvas = root.querySelector("canvas"), video = root.querySelector("video");
  const line = root.querySelector(".line"), time = root.querySelector(".time");
  const button = root.querySelector("button"), output = root.querySelector("output");
  canvas.width = width;
  canvas.height = height;
  line.setAttribute("aria-label", "line between source and result");
  time.setAttribute("aria-label", "frame");
  time.max = String(task.frames - 1);
  const unknown = getComputedStyle(document.documentElement).getPropertyValue("--unknown");
  const draw = makeComparison(canvas, line);
  const player = { root, task, video, button, show, frame: -1 };

  function source(context) {
    context.fillStyle = unknown;
    context.fillRect(0, 0, width, height);
    context.save();
    context.beginPath();
    context.rect(left, top, source_width, source_height);
    context.clip();
    context.drawImage(video, 0, 0, width, height);
    context.restore();
  }

  function show(always = false) {
    if (video.readyState < 2) return;
    const frame = Math.min(task.frames - 1, Math.floor(video.currentTime * task.rate + 1e-3));
    if (frame === player.frame && !always) return;
    player.frame = frame;
    draw(source, (context) => context.drawImage(video, 0, 0, width, height));
    time.value = String(frame);
    output.textContent = `${frame + 1} / ${task.frames}`;
  }

  line.oninput = () => show(true);
  time.oninput = () => {
    for (const other of together(task)) {
      other.video.pause();
      other.video.currentTime = (Number(time.value) + 0.5) / task.rate;
    }
  };
  button.onclick = () => {
    const pausing = !video.paused, others = together(task);
    for (const other of others) {
      other.video.currentTime = video.currentTime;
      other.video.muted = other !== player; // one sound is enough
      if (pausing) other.video.pause();
      else other.video.play().catch(() => {});
    }
  };
  // Only what was sought or played is sure to be drawn.
  video.onloadeddata = () => { video.currentTime = 0.5 / task.rate; };
  video.onseeked = () => show(true);
  for (const event of ["play", "pause"]) video.addEventListener(event, () => { button.textContent = video.paused ? "Play" : "Pause"; });
  video.src = `/api/tasks/${task.id}/result`;
  players.set(task.id, player);
  return player;
}

function together(task) {
  return [...players.values()].filter((player) => player.task.clip === task.clip && player.root.isConnected);
}

(function tick() {
  for (const player of players.values()) if (!player.video.paused) player.show();
  requestAnimationFrame(tick);
})();
