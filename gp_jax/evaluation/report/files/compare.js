"use strict";
// Two pictures in one place: left of a line the first, right of it the second. The line is dragged on the picture with
// mouse or finger, or moved with the keys of its slider (0 to 100).
function makeComparison(canvas, slider) {
  const context = canvas.getContext("2d");
  const move = (event) => {
    const box = canvas.getBoundingClientRect();
    slider.value = (100 * (event.clientX - box.left)) / box.width;
    slider.dispatchEvent(new Event("input"));
  };
  canvas.style.touchAction = "pan-y";
  canvas.onpointerdown = (event) => { canvas.setPointerCapture(event.pointerId); move(event); };
  canvas.onpointermove = (event) => { if (canvas.hasPointerCapture(event.pointerId)) move(event); };
  // first, second: functions that draw the whole picture into a context.
  return function draw(first, second) {
    const { width, height } = canvas, x = Math.round((width * slider.value) / 100), line = Math.max(1, width / 300);
    second(context);
    if (x <= 0) return;
    context.save();
    context.beginPath();
    context.rect(0, 0, x, height);
    context.clip();
    first(context);
    context.restore();
    context.fillStyle = "#fff";
    context.fillRect(x - line, 0, 2 * line, height);
  };
}
