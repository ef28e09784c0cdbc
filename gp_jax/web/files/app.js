"use strict";
// The page: a clip, its frame, how it is to be outpainted, and what became of all that was asked for.
const by = (id) => document.getElementById(id);
const state = { offered: null, clip: null, cards: new Map(), timer: 0 };
const editor = makeEditor(by("stage"), tellSize);

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer: is it still running?");
  }
  if (answer.status === 204) return null;
  const value = answer.headers.get("content-type")?.includes("json") ? await answer.json() : { error: await answer.text() };
  if (!answer.ok) throw new Error(value.error || `the server answered ${answer.status}`);
  return value;
}

function post(path, value) {
  return ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) });
}

// Runs something that may fail, and says in `place` how.
async function told(place, work) {
  by(place).textContent = "";
  try {
    return await work();
  } catch (error) {
    by(place).textContent = error.message;
    return null;
  }
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// --- the clip

function upload(file) {
  return told("clip-wrong", () => new Promise((resolve, reject) => {
    if (file.size > state.offered.most_bytes) {
      reject(new Error(`${file.name} is larger than ${Math.floor(state.offered.most_bytes / 2 ** 20)} MiB, which is the most here`));
      return;
    }
    const request = new XMLHttpRequest(), bar = by("upload");
    request.open("POST", `/api/clips?name=${encodeURIComponent(file.name)}`);
    request.upload.onprogress = (event) => { bar.value = event.loaded / event.total; };
    by("clip-told").textContent = "reading";
    request.onloadend = () => { bar.hidden = true; by("clip-told").textContent = ""; };
    request.onerror = () => reject(new Error("the upload broke off"));
    request.onload = () => {
      let value = {};
      try { value = JSON.parse(request.responseText); } catch { /* told below */ }
      if (request.status === 201) resolve(openClip(value));
      else reject(new Error(value.error || `the server answered ${request.status}`));
    };
    bar.hidden = false;
    bar.value = 0;
    request.send(file);
  }));
}

function openClip(clip) {
  state.clip = clip;
  history.replaceState(null, "", `#${clip.id}`); // a reload finds it again
  const notes = clip.notes.length ? ` (${clip.notes.join("; ")})` : "";
  const many = clip.frames > 1 ? `${clip.frames} frames` : "1 frame";
  by("clip-told").textContent = `${clip.name}: ${clip.width} x ${clip.height} pixels, ${many}, ${clip.seconds.toFixed(1)} s${notes}`;
  by("frame").hidden = by("how").hidden = false;
  editor.open(`/api/clips/${clip.id}/picture`, clip.width, clip.height);
  snap(clip.width < clip.height * 1.7 ? "16:9" : "9:16");
}

async function snap(aspect) {
  const pads = await told("how-wrong", () => ask(`/api/clips/${state.clip.id}/frame?aspect=${encodeURIComponent(aspect)}`));
  if (pads) editor.set(pads);
}

function tellSize(pads) {
  const clip = state.clip;
  if (!clip) return;
  const width = clip.width + pads.left + pads.right, height = clip.height + pads.top + pads.bottom;
  const odd = width % 2 || height % 2 ? "; odd sizes are stored with full colour, which not every player shows" : "";
  const sides = ["left", "right", "top", "bottom"].filter((side) => pads[side]).map((side) => `${side} ${pads[side]}`);
  by("size").textContent = `${width} x ${height} pixels: ${sides.length ? sides.join(", ") : "nothing is added"}${odd}`;
}

// --- how

function chosenMethod() { return state.offered.methods.find(({ name }) => name === by("method").value); }

function fillMethods() {
  for (const { name, title, networks } of state.offered.methods) {
    if (networks && !state.offered.checkpoints.some(({ method }) => method === name)) continue;
    by("method").append(element("option", { value: name, textContent: `${name}: ${title}` }));
  }
  by("method").onchange = fillCheckpoints;
  by("checkpoint").onchange = fillOptions;
  for (let count = 1; count <= state.offered.most_seeds; count++) by("count").append(element("option", { value: count, textContent: count }));
  fillCheckpoints();
}

function fillCheckpoints() {
  const method = chosenMethod(), fitting = state.offered.checkpoints.filter((checkpoint) => checkpoint.method === method.name);
  by("checkpoint-row").hidden = !method.networks;
  by("checkpoint").replaceChildren(...fitting.map(({ name }) => element("option", { value: name, textContent: name })));
  fillOptions();
}

function fillOptions() {
  const method = chosenMethod(), checkpoint = state.offered.checkpoints.find(({ name }) => name === by("checkpoint").value);
  const useless = (name) => state.offered.of_text.includes(name) && method.networks && !checkpoint?.reads_text;
  const fields = method.options.filter(({ name }) => !useless(name)).map((option) => [option.name, makeField(option)]);
  const atOnce = ["seed", "prompt"];
  by("main-options").replaceChildren(...fields.filter(([name]) => atOnce.includes(name)).map(([, field]) => field));
  by("options").replaceChildren(...fields.filter(([name]) => !atOnce.includes(name)).map(([, field]) => field));
  by("loras").replaceChildren(...(method.name === "globalpaint" ? state.offered.loras : []).map(makeLora));
  by("more").hidden = !by("options").childElementCount && !by("loras").childElementCount;
  by("count-row").hidden = !method.options.some(({ name }) => name === "seed");
}

function makeField({ name, kind, help, choices, default: value }) {
  let input;
  if (choices.length) {
    input = element("select", {}, ...["", ...choices].map((choice) => element("option", { value: choice, textContent: choice || "by default" })));
  } else if (kind === "switch") {
    input = element("input", { type: "checkbox" });
  } else {
    input = element("input", { type: "text", inputMode: { seed: "numeric", count: "numeric", whole: "numeric", number: "decimal" }[kind] || "text" });
    if (kind === "seed") input.value = value;
  }
  input.name = name;
  input.dataset.option = kind;
  const title = name.replaceAll("_", " ");
  const label = kind === "switch" ? element("label", {}, input, ` ${title}`) : element("label", {}, title[0].toUpperCase() + title.slice(1), input);
  label.append(element("small", { textContent: help }));
  return label;
}

function makeLora(name) {
  const input = element("input", { type: "text", inputMode: "decimal", value: "0" });
  input.dataset.lora = name;
  return element("label", {}, `LoRA ${name}, strength`, input);
}

function wish() {
  const options = {}, loras = {}, fields = by("how").querySelectorAll("[data-option]");
  for (const field of fields) {
    const value = field.type === "checkbox" ? field.checked : field.value.trim();
    if (value !== "" && value !== false) options[field.name] = value;
  }
  for (const field of by("how").querySelectorAll("[data-lora]")) if (Number(field.value) !== 0) loras[field.dataset.lora] = field.value;
  const first = options.seed === undefined ? 0n : /^\d{1,20}$/.test(options.seed) ? BigInt(options.seed) : null;
  const count = by("count-row").hidden ? 0 : Number(by("count").value);
  const seeds = count > 1 && first !== null ? Array.from({ length: count }, (_, n) => String(first + BigInt(n))) : [];
  return { clip: state.clip.id, pads: editor.pads, method: by("method").value, checkpoint: by("checkpoint").value, options, loras, seeds };
}

function send(only_estimate) {
  return told("how-wrong", async () => {
    const asked = wish();
    await post("/api/tasks", only_estimate ? { ...asked, seeds: [], only_estimate } : asked);
    await refresh();
    by("results").scrollIntoView({ behavior: "smooth", block: "nearest" });
  });
}

// --- results

const OVER = ["done", "failed", "cancelled"];

async function refresh() {
  clearTimeout(state.timer);
  let busy = true;
  try {
    const tasks = await ask("/api/tasks");
    by("results").hidden = tasks.length === 0;
    for (const [id, card] of state.cards) {
      if (tasks.some((task) => task.id === id)) continue;
      card.root.remove();
      players.delete(id);
      state.cards.delete(id);
    }
    for (const task of tasks) {
      if (!state.cards.has(task.id)) {
        state.cards.set(task.id, makeCard(task));
        by("tasks").prepend(state.cards.get(task.id).root);
      }
      state.cards.get(task.id).update(task);
    }
    busy = tasks.some((task) => !OVER.includes(task.state));
  } catch { /* it is asked again */ }
  state.timer = setTimeout(refresh, busy ? 500 : 4000);
}

function makeCard(first) {
  const title = element("h3"), line = element("p"), bar = element("progress", { max: 1, value: 0 }), wrong = element("p", { className: "wrong" });
  const picture = element("img", { hidden: true, alt: "newest frame that was made" }), place = element("div"), row = element("div", { className: "row" });
  const root = element("article", { className: "task" }, title, line, bar, picture, place, wrong, row);
  line.setAttribute("aria-live", "polite");
  const { width, height } = first.canvas, seed = first.seed === null ? "" : `, seed ${first.seed}`;
  title.textContent = `${first.name}: ${first.method}${seed}, ${width} x ${height}`;
  bar.setAttribute("aria-label", "progress");
  const button = element("button", { type: "button" });
  button.onclick = async () => {
    button.disabled = true;
    const over = OVER.includes(button.dataset.state);
    try {
      await ask(`/api/tasks/${first.id}${over ? "" : "/cancel"}`, { method: over ? "DELETE" : "POST" });
    } catch (error) {
      wrong.textContent = error.message;
    }
    button.disabled = false;
    refresh();
  };
  row.append(button);
  let seen = -1, isDone = false;

  function update(task) {
    const is = task.state, over = OVER.includes(is), estimate = task.estimate ? `, ${task.estimate}` : "";
    const label = { waiting: "waits for its turn", preparing: task.label, running: task.label, done: task.only_estimate ? "would take" : "done", cancelled: "cancelled", failed: "failed" }[is];
    line.textContent = is === "done" && task.only_estimate ? `would take ${task.estimate || "a moment"}` : `${label}${over ? "" : estimate}`;
    if (is === "failed") wrong.textContent = task.label;
    bar.hidden = over || is === "waiting";
    if (task.total) bar.value = task.done / task.total;
    else bar.removeAttribute("value");
    button.dataset.state = is;
    button.textContent = over ? "Remove" : "Cancel";
    if (is === "running" && task.made !== seen && task.made) {
      seen = task.made;
      picture.src = `/api/tasks/${task.id}/picture?frame=${seen}`;
      picture.hidden = false;
      line.textContent += `, ${task.made} of ${task.frames} frames`;
    }
    if (over) picture.hidden = true;
    if (is === "done" && !task.only_estimate && !isDone) {
      isDone = true;
      place.append(makePlayer(task).root);
      row.prepend(element("a", { className: "button", href: `/api/tasks/${task.id}/result?download=1`, textContent: "Download" }));
    }
  }
  return { root, update };
}

// --- the start

(async function begin() {
  state.offered = await told("clip-wrong", () => ask("/api/offered"));
  if (!state.offered) return;
  fillMethods();
  by("samples").append(...state.offered.samples.map((name) => element("button", {
    type: "button", textContent: name,
    onclick: () => told("clip-wrong", async () => openClip(await post(`/api/samples/${name}`, {}))),
  })));
  by("aspects").append(...state.offered.aspects.map((aspect) => element("button", { type: "button", textContent: aspect, onclick: () => snap(aspect) })));
  by("file").onchange = () => { if (by("file").files.length) upload(by("file").files[0]); by("file").value = ""; };
  const drop = by("drop");
  for (const event of ["dragover", "drop"]) document.addEventListener(event, (dragged) => dragged.preventDefault());
  drop.ondragenter = drop.ondragover = () => drop.classList.add("over");
  drop.ondragleave = () => drop.classList.remove("over");
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    const files = event.dataTransfer?.files ?? [];
    if (files.length > 1) by("clip-wrong").textContent = "one clip at a time: the first of them is taken";
    if (files.length) upload(files[0]);
  });
  by("how").onsubmit = (event) => { event.preventDefault(); send(false); };
  by("estimate").onclick = () => send(true);
  if (/^#[0-9a-f]{16}$/.test(location.hash)) {
    const clip = await ask(`/api/clips/${location.hash.slice(1)}`).catch(() => null);
    if (clip) openClip(clip);
  }
  refresh();
})();
