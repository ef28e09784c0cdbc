"use strict";
// The frame around a clip's first picture: its four borders are dragged with mouse or finger, or moved by keys.
//
//   const editor = makeEditor(stage, (pads) => ...);
//   editor.open("/api/clips/ID/picture", 176, 144);
//   editor.set({ left: 40, right: 40, top: 0, bottom: 0 });
const MOST = 4096; // pixels of a side
const OUTWARDS = { left: ["ArrowLeft", "ArrowRight"], right: ["ArrowRight", "ArrowLeft"], top: ["ArrowUp", "ArrowDown"], bottom: ["ArrowDown", "ArrowUp"] };
const OPPOSITE = { left: "right", right: "left", top: "bottom", bottom: "top" };

function makeEditor(stage, changed) {
  const canvas = document.createElement("div"), picture = document.createElement("img");
  canvas.className = "canvas";
  picture.alt = "first frame of the clip";
  canvas.append(picture);
  stage.replaceChildren(canvas);
  const editor = { width: 0, height: 0, pads: { left: 0, right: 0, top: 0, bottom: 0 }, scale: 1, open, set };
  const handles = Object.fromEntries(Object.keys(OPPOSITE).map((side) => [side, makeHandle(side)]));

  function makeHandle(side) {
    const handle = document.createElement("div");
    handle.className = `handle ${side}`;
    handle.tabIndex = 0;
    handle.setAttribute("role", "slider");
    handle.setAttribute("aria-label", `${side} border`);
    handle.setAttribute("aria-valuemin", "0");
    handle.setAttribute("aria-orientation", isAcross(side) ? "horizontal" : "vertical");
    let start = null;
    handle.onpointerdown = (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.focus();
      start = { at: isAcross(side) ? event.clientX : event.clientY, pad: editor.pads[side], scale: editor.scale };
      event.preventDefault();
    };
    handle.onpointermove = (event) => {
      if (!start) return;
      const way = (isAcross(side) ? event.clientX : event.clientY) - start.at;
      const outwards = side === "left" || side === "top" ? -way : way;
      move(side, start.pad + outwards / start.scale, true);
    };
    handle.onpointerup = handle.onpointercancel = () => { start = null; fit(); };
    handle.onkeydown = (event) => {
      const [out, back] = OUTWARDS[side], step = event.shiftKey ? 20 : 2;
      const by = { [out]: step, [back]: -step, PageUp: 20, PageDown: -20, Home: -MOST }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      move(side, editor.pads[side] + by);
    };
    canvas.append(handle);
    return handle;
  }

  function isAcross(side) { return side === "left" || side === "right"; }

  // An even number of pixels in all, as video codecs want it, wherever this side alone can make it so.
  function move(side, pad, still = false) {
    const rest = (isAcross(side) ? editor.width : editor.height) + editor.pads[OPPOSITE[side]];
    let wanted = Math.max(0, Math.min(Math.round(pad), MOST - rest));
    if (wanted > 0 && (rest + wanted) % 2) wanted -= 1;
    editor.pads[side] = wanted;
    show(still);
  }

  function set(pads) {
    Object.assign(editor.pads, pads);
    show();
  }

  function open(source, width, height) {
    picture.src = source;
    Object.assign(editor, { width, height });
    set({ left: 0, right: 0, top: 0, bottom: 0 });
  }

  function fit() {
    const { left, right, top, bottom } = editor.pads, edge = 36;
    const room = { width: stage.clientWidth - edge, height: stage.clientHeight - edge };
    editor.scale = Math.min(room.width / (editor.width + left + right), room.height / (editor.height + top + bottom), 4);
    place();
  }

  function place() {
    const { left, right, top, bottom } = editor.pads, s = editor.scale;
    const width = (editor.width + left + right) * s, height = (editor.height + top + bottom) * s;
    const x = (stage.clientWidth - width) / 2, y = (stage.clientHeight - height) / 2;
    put(canvas, { left: x, top: y, width, height });
    put(picture, { left: left * s, top: top * s, width: editor.width * s, height: editor.height * s });
    put(handles.left, { left: -15, top: 0, height });
    put(handles.right, { left: width - 15, top: 0, height });
    put(handles.top, { left: 0, top: -15, width });
    put(handles.bottom, { left: 0, top: height - 15, width });
  }

  function put(element, box) {
    for (const [name, pixels] of Object.entries(box)) element.style[name] = `${pixels}px`;
  }

  function show(still = false) {
    for (const [side, handle] of Object.entries(handles)) {
      const size = isAcross(side) ? editor.width : editor.height;
      handle.setAttribute("aria-valuemax", String(MOST - size - editor.pads[OPPOSITE[side]]));
      handle.setAttribute("aria-valuenow", String(editor.pads[side]));
      handle.setAttribute("aria-valuetext", `${editor.pads[side]} pixels`);
    }
    if (still) place(); // the scale stays as it is while a border is dragged
    else fit();
    changed(editor.pads);
  }

  new ResizeObserver(() => editor.width && fit()).observe(stage);
  return editor;
}
