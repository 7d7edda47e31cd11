// The question is the only state: controls show it, the address holds it, and the server answers it. One answer is
// asked for at a time; of what changes meanwhile, only the last question is asked next.
const start = JSON.parse(document.getElementById("start").textContent);
const byId = (id) => document.getElementById(id);
const COARSE = 500; // requests while a slider is dragged
const REST = 350; // ms without a change before nearby deployments and other loads are simulated
let question = start.question;
let pinned = null;
let defaults = { settings: {}, engine: "vllm", device: "", rate: null, price: null };
let copies = { yaml: "", command: "", link: "" };
const past = [];
const future = [];
const opened = {};
const drawn = new Map(); // figures by section and shape
const shown = new Map(); // the view of the figure that a section shows
const items = new Map(); // drawings by shape

// ---- What the server is asked

async function post(what, body, signal) {
  const answer = await fetch(what, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
  });
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
  return answer.json();
}

const body = (asked) => ({ question: asked, pinned, opened, known: [...items.keys()] });
let wanted = null;
let busy = false;
let beside = null; // what is simulated beside the answers

async function ask(coarse = false) {
  beside?.abort();
  wanted = { question: structuredClone(question), coarse, began: performance.now() };
  if (busy) return;
  busy = true;
  while (wanted) {
    const now = wanted;
    wanted = null;
    byId("answer").setAttribute("aria-busy", "true");
    const late = setTimeout(() => say("Simulating … the first run of an engine compiles it, which takes half a minute."), 900);
    try {
      const number = now.question.num_requests;
      const asked = now.coarse ? { ...now.question, num_requests: Math.min(COARSE, number) } : now.question;
      const answer = await post("answer", body(asked));
      clearTimeout(late);
      if (answer.left_out) continue;
      if (answer.error) {
        refuse(answer.error);
        if (!now.coarse) post("warm", { question: asked }).catch(() => {}); // what may be asked instead
      } else {
        await present(answer, now);
        await figures(asked, now);
      }
      if (!wanted && !now.coarse && !answer.error) rest();
    } catch (problem) {
      clearTimeout(late);
      byId("answer").classList.add("stale");
      say(`No answer: ${problem.message}. Is fastsim explore still running?`, true);
    }
    document.documentElement.dataset.answered = String(1 + Number(document.documentElement.dataset.answered ?? 0));
  }
  busy = false;
  byId("answer").removeAttribute("aria-busy");
}

let waiting = 0;
function rest() {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    beside?.abort();
    beside = new AbortController();
    const { signal } = beside;
    const asked = structuredClone(question);
    try {
      post("warm", { question: asked }, signal).catch(() => {});
      const found = await post("better", { question: asked }, signal);
      if (signal.aborted || found.left_out) return;
      if (found.better) offer(found.better);
      const loads = await post("loads", body(asked), signal);
      if (signal.aborted || loads.left_out) return;
      if (loads.sections) for (const section of loads.sections) await draw(section);
      await showSecond(signal);
      document.documentElement.dataset.rested = "true";
    } catch (problem) {
      if (problem.name !== "AbortError") say(problem.message, true);
    }
  }, REST);
}

// ---- The answer

function say(text, bad = false) {
  const status = byId("status");
  status.textContent = text;
  status.classList.toggle("bad", bad);
}

function refuse(sentence) {
  byId("answer").classList.add("stale");
  const first = sentence.split(/[:\s]/, 1)[0];
  const key = first.startsWith("prices") ? "price" : first === "objective" ? "objectives"
    : sentence.includes("--too-long") ? "too_long" : first;
  const place = every(".control").find((one) => one.dataset.key === key && !one.hidden);
  clearWrong();
  if (place) {
    place.querySelector(".wrong").textContent = sentence;
    place.querySelector("[id^=c-]").setAttribute("aria-invalid", "true");
    place.closest("details").open = true;
  }
  say(`${sentence}${/[.!?]$/.test(sentence) ? "" : "."} The last answer is shown in grey.`, true);
}

function clearWrong() {
  for (const one of every(".wrong")) one.textContent = "";
  for (const one of every("[aria-invalid]")) one.removeAttribute("aria-invalid");
}

async function present(answer, asked) {
  clearWrong();
  byId("answer").classList.remove("stale");
  byId("headline").innerHTML = answer.headline;
  defaults = answer.defaults;
  if (!asked.coarse) copies = answer.copies;
  fill();
  terms(byId("headline"));
  await new Promise(requestAnimationFrame);
  const ms = performance.now() - asked.began;
  const notes = answer.warnings.length ? ` Note: ${answer.warnings.join("; ")}` : "";
  const { met, text, figures } = answer.verdict;
  const verdict = document.createElement("b");
  verdict.className = met === null ? "" : met ? "good" : "bad";
  verdict.textContent = text;
  say("");
  const time = asked.coarse ? `coarse, of ${Math.min(COARSE, asked.question.num_requests)} requests` : `${ms.toFixed(0)} ms`;
  const subject = document.createElement("span");
  subject.className = "subject";
  subject.textContent = ` · ${answer.subject}`;
  byId("status").append(verdict, figures ? `: ${figures}` : "", subject, ` · ${time}.${notes}`);
  if (!asked.coarse) history.replaceState(null, "", `?${answer.copies.link}`);
  document.documentElement.dataset.ms = ms.toFixed(1);
  document.documentElement.dataset.exact = String(!asked.coarse);
}

// Draws the charts of the answer on show. Stops if another question is waiting, except while a slider is being dragged.
async function figures(asked, { coarse, began }) {
  const outdated = () => wanted && !coarse;
  if (outdated()) return;
  const { sections } = await post("figures", body(asked));
  if (!sections) return;
  for (const section of sections) {
    if (outdated()) return;
    await draw(section);
  }
  for (const gone of every("#charts > section")) {
    const still = sections.some((section) => section.name === gone.dataset.name);
    if (!still && gone.dataset.name !== LOADS && gone.dataset.name !== SECOND) gone.remove();
  }
  document.documentElement.dataset.drawn = (performance.now() - began).toFixed(1);
}

function terms(inside) {
  for (const term of every(".term", inside)) term.title = term.dataset.tip;
}

function offer(found) {
  const section = byId("better");
  const choices = section.querySelector(".choices");
  choices.replaceChildren(
    ...found.map((each) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: each.text });
      button.addEventListener("click", () => change(() => { question = each.question; }));
      return button;
    }),
  );
  if (!found.length) {
    const none = document.createElement("span");
    none.textContent = "No change of a single setting is cheaper or faster and meets as many objectives.";
    choices.append(none);
  }
  section.hidden = false;
}

// ---- Figures

const LOADS = "Cost and latency against load";
const SECOND = "Timeline of a second";

function unpack(column) {
  if (Array.isArray(column)) return column;
  const bytes = Uint8Array.from(atob(column.float32), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

function place(section) {
  let found = every("#charts > section").find((one) => one.dataset.name === section.name);
  if (found) return found;
  found = document.createElement("section");
  found.dataset.name = section.name;
  found.innerHTML = '<h2></h2><div role="tablist"></div><figure><div class="plot" role="img"></div><div class="legend"></div>'
    + '<figcaption></figcaption><div class="save"><button type="button">PNG</button><button type="button">SVG</button></div></figure>';
  found.querySelector("h2").textContent = section.name;
  const [png, svg] = every(".save button", found);
  png.setAttribute("aria-label", `Save ${section.name} as PNG`);
  svg.setAttribute("aria-label", `Save ${section.name} as SVG`);
  png.addEventListener("click", () => save(section.name, "png"));
  svg.addEventListener("click", () => save(section.name, "svg"));
  byId("charts").append(found);
  if (section.name === SECOND) choices(found);
  return found;
}

// Which second is shown: the box, and the ones before and after it.
let chosenSecond = null; // null: that in which most requests wait
function choices(section) {
  section.querySelector("[role=tablist]").remove();
  const bar = document.createElement("div");
  bar.className = "second";
  bar.innerHTML = '<button type="button" aria-label="The second before">‹</button><label>from <input type="number" min="0" step="any"> s</label>'
    + '<button type="button" aria-label="The next second">›</button><button type="button">Where most wait</button>';
  section.querySelector("h2").after(bar);
  const [before, after, most] = every("button", bar);
  const input = bar.querySelector("input");
  const go = (second) => { chosenSecond = second; showSecond(); };
  before.addEventListener("click", () => go(Math.max(0, Number(input.value) - 1)));
  after.addEventListener("click", () => go(Number(input.value) + 1));
  most.addEventListener("click", () => go(null));
  input.addEventListener("change", () => go(input.value === "" ? null : Math.max(0, Number(input.value))));
}

async function showSecond(signal) {
  const found = await post("second", { ...body(question), second: chosenSecond }, signal);
  if (!found.sections) return;
  for (const section of found.sections) await draw(section);
  every("#charts > section").find((one) => one.dataset.name === SECOND).querySelector("input").value = String(found.second);
}

function tabs(list, section) {
  if (!list) return;
  const old = every("[role=tab]", list);
  if (old.map((tab) => tab.textContent).join("\n") !== section.tabs.join("\n")) {
    list.replaceChildren(...section.tabs.map((name) => {
      const tab = Object.assign(document.createElement("button"), { type: "button", textContent: name });
      tab.setAttribute("role", "tab");
      tab.addEventListener("click", () => open(section.name, name));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const all = every("[role=tab]", list);
        const next = all[(all.indexOf(tab) + step + all.length) % all.length];
        next.focus();
        open(section.name, next.textContent);
      });
      return tab;
    }));
  }
  for (const tab of every("[role=tab]", list)) {
    tab.setAttribute("aria-selected", String(tab.textContent === section.open));
    tab.tabIndex = tab.textContent === section.open ? 0 : -1;
  }
}

async function open(section, tab) {
  opened[section] = tab;
  if (section === LOADS) rest();
  else await ask();
}

// A figure takes over the data of another answer; one of another shape is drawn beside it, and kept.
async function draw(section) {
  const where = place(section);
  const figure = section.figure;
  tabs(where.querySelector("[role=tablist]"), section);
  opened[section.name] = section.open;
  if (figure.item) items.set(figure.shape, figure.item);
  if (!drawn.has(section.name)) drawn.set(section.name, new Map());
  const known = drawn.get(section.name);
  let now = known.get(figure.shape);
  if (!now) {
    const holder = document.createElement("div");
    holder.style.minHeight = `${figure.height + 4}px`;
    for (const other of known.values()) other.holder.hidden = true;
    where.querySelector(".plot").append(holder);
    const views = await Bokeh.embed.embed_item(items.get(figure.shape), holder);
    const view = [...views.roots][0];
    now = { holder, view, document: view.model.document };
    known.set(figure.shape, now);
    if (painted !== "light") repaint([now.document], "light", painted);
  }
  for (const other of known.values()) other.holder.hidden = other !== now;
  shown.set(section.name, now.view);
  update(now, figure);
  where.querySelector("figcaption").textContent = figure.caption;
  where.querySelector(".plot").setAttribute("aria-label", figure.caption);
  where.querySelector(".legend").replaceChildren(...figure.names.map(([name, colour]) => {
    const entry = document.createElement("span");
    const swatch = Object.assign(document.createElement("i"), { className: "swatch" });
    swatch.dataset.colour = painted === "light" ? colour : THEMES[painted][THEMES.light.indexOf(colour)];
    swatch.style.background = swatch.dataset.colour;
    entry.append(swatch, name);
    return entry;
  }));
}

function update(now, figure) {
  const { view, document: doc } = now;
  const plot = view.model;
  for (const [range, ends] of [[plot.x_range, figure.x_range], [plot.y_range, figure.y_range]]) {
    if (!ends) continue;
    if (typeof ends[0] === "string") {
      if (ends.join("\n") !== range.factors.join("\n")) range.factors = ends;
    } else range.setv({ start: ends[0], end: ends[1], reset_start: ends[0], reset_end: ends[1] });
  }
  for (const [axis, ticks] of [[plot.below[0], figure.x_ticks], [plot.left[0], figure.y_ticks]]) {
    if (!ticks.length) continue;
    axis.ticker.ticks = ticks.map(([at]) => at);
    axis.major_label_overrides = new Map(ticks);
  }
  figure.layers.forEach((columns, n) => {
    const data = Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, unpack(column)]));
    doc.get_model_by_name(`layer${n}`).data = data;
  });
  for (let n = 0; doc.get_model_by_name(`limit${n}`); n += 1) {
    const [line, label] = [doc.get_model_by_name(`limit${n}`), doc.get_model_by_name(`text${n}`)];
    const limit = figure.limits[n];
    line.visible = label.visible = Boolean(limit);
    if (!limit) continue;
    const level = limit.axis === "y";
    const left = !level && isRight(plot, limit.at);
    line.setv({ location: limit.at, dimension: level ? "width" : "height" });
    label.setv({
      text: limit.text,
      x: level ? 4 : limit.at,
      y: level ? limit.at : 4,
      x_units: level ? "screen" : "data",
      y_units: level ? "data" : "screen",
      text_align: left ? "right" : "left",
      x_offset: left ? -4 : 4,
    });
  }
}

function isRight(plot, at) {
  const { start: low, end: high } = plot.x_range;
  if (!Number.isFinite(low) || !Number.isFinite(high)) return false;
  return at > (plot.x_scale.type === "LogScale" ? Math.sqrt(low * high) : (low + high) / 2);
}

function save(name, kind) {
  const view = shown.get(name);
  const layer = view.export(kind, true);
  const download = (blob) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob) });
    link.download = `${name.toLowerCase().replaceAll(" ", "-")}.${kind}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  if (kind === "svg") {
    download(new Blob([layer.ctx.get_serialized_svg(true)], { type: "image/svg+xml" }));
    return;
  }
  const { width, height } = layer.canvas;
  const paperless = Object.assign(document.createElement("canvas"), { width, height });
  const pen = paperless.getContext("2d");
  pen.fillStyle = getComputedStyle(document.body).backgroundColor;
  pen.fillRect(0, 0, width, height);
  pen.drawImage(layer.canvas, 0, 0);
  paperless.toBlob(download);
}

// ---- Controls

const OWN = ["workload", "input_len", "output_len", "rate", "users", "num_requests", "objectives", "load", "too_long"];
const box = (one) => one.querySelector("[id^=c-]");
const control = (key) => every(".control").find((one) => one.dataset.key === key);

// Do something to the question; keep what it was, for undo.
function change(what, coarse = false, from = null) {
  const before = JSON.stringify(from ?? question);
  what();
  if (!coarse && JSON.stringify(question) !== before) {
    past.push(before);
    future.length = 0;
  }
  fill();
  ask(coarse);
}

const PRICE = "prices.dollars_per_hour";
const deviceNow = () => question.settings.device ?? defaults.device;

// What is set by hand: dollars by GPU.
function pricesOf() {
  const text = question.settings[PRICE];
  return text ? Object.fromEntries(text.split(",").map((part) => part.split("="))) : {};
}

function isMix(name) { return name.includes("="); }

function mixOf(name) {
  return Object.fromEntries(isMix(name) ? name.split(",").map((part) => part.split("=")) : [[name, "100"]]);
}

function kindOfWorkload() {
  if (question.input_len !== null || question.output_len !== null) return start.fixed;
  return isMix(question.workload) ? start.mix : question.workload || "chat";
}

function value(one) {
  const input = box(one);
  if (one.dataset.kind === "toggle") return input.checked;
  const text = input.value.trim();
  if (text === "") return null;
  if (one.dataset.kind !== "number") return text;
  const number = Number(text);
  return Number.isNaN(number) ? text : number;
}

function take(one) {
  const { key } = one.dataset;
  const given = value(one);
  const known = (name) => (question.settings[name] !== undefined ? question.settings[name] : null);
  if (key.startsWith("mix.")) {
    const shares = mixOf(question.workload);
    shares[key.slice(4)] = String(given ?? 0);
    const left = Object.entries(shares).filter(([, share]) => Number(share) !== 0);
    question.workload = left.map((pair) => pair.join("=")).join(",") || `${key.slice(4)}=0`;
  } else if (key === "workload") {
    if (given === start.fixed) Object.assign(question, { workload: "", input_len: 512, output_len: 128 });
    else {
      const mixed = given === start.mix;
      Object.assign(question, { workload: mixed ? "chat=70,code=30" : given, input_len: null, output_len: null });
    }
  } else if (key === "load") {
    if (given === "users") Object.assign(question, { rate: null, users: 32 });
    else Object.assign(question, { rate: defaults.rate ?? 2, users: null });
  } else if (key === "price") {
    const amounts = pricesOf();
    if (given === null) delete amounts[deviceNow()];
    else amounts[deviceNow()] = given;
    const text = Object.entries(amounts).map((pair) => pair.join("=")).join(",");
    if (text) question.settings[PRICE] = text;
    else delete question.settings[PRICE];
  } else if (key === "objectives") {
    question.objectives = (given ?? "").split(",").map((each) => each.trim()).filter(Boolean);
  } else if (key === "num_requests") question.num_requests = given ?? 5000;
  else if (OWN.includes(key)) question[key] = given;
  else if (given === null && key !== "model") delete question.settings[key];
  else question.settings[key] = given ?? "";
  if (key === "engine") {
    const sglang = String(known("engine") ?? "").startsWith("sglang");
    for (const other of every(".control[data-engine]")) {
      if ((other.dataset.engine === "sglang") !== sglang) delete question.settings[other.dataset.key];
    }
    delete question.settings["scheduler.policy"];
  }
}

// Show the question in the controls; what it leaves open shows the value that the engine gives.
function fill() {
  const kind = kindOfWorkload();
  const shares = mixOf(question.workload);
  for (const one of every(".control")) {
    const { key } = one.dataset;
    const input = box(one);
    let shown;
    let open = null;
    if (key === "workload") shown = kind;
    else if (key === "load") shown = question.users === null ? "rate" : "users";
    else if (key === "objectives") shown = question.objectives.join(", ");
    else if (key === "price") [shown, open] = [pricesOf()[deviceNow()] ?? null, defaults.price];
    else if (key.startsWith("mix.")) shown = shares[key.slice(4)] ?? "0";
    else if (OWN.includes(key)) [shown, open] = [question[key], key === "rate" ? defaults.rate : null];
    else [shown, open] = [question.settings[key] ?? null, defaults.settings[key] ?? null];
    one.hidden = (key.startsWith("mix.") && kind !== start.mix)
      || ((key === "input_len" || key === "output_len") && kind !== start.fixed)
      || (key === "rate" && question.users !== null) || (key === "users" && question.users === null)
      || (one.dataset.engine !== undefined && one.dataset.engine !== defaults.engine);
    if (one.dataset.kind === "toggle") input.checked = Boolean(shown ?? open);
    else {
      const text = shown === null ? "" : String(shown);
      if (input !== document.activeElement || input.tagName === "SELECT" || Number(input.value) !== Number(text)) {
        if (input.value !== text) input.value = text;
      }
      if (one.dataset.kind === "number") input.placeholder = open === null ? "" : `${tidy(open)}`;
    }
    const slider = one.querySelector("input[type=range]");
    if (slider && slider !== dragged) {
      const at = Number(shown ?? open);
      slider.value = String(Number.isFinite(at) ? where(slider, at) : 0);
      slider.setAttribute("aria-valuetext", String(shown ?? open ?? ""));
    }
  }
  byId("undo").disabled = !past.length;
  byId("redo").disabled = !future.length;
}

const tidy = (number) => (typeof number === "number" ? Number(number.toPrecision(6)) : number);

// A slider's place, 0 to 1000, for a value, and the value for a place.
function where(slider, at) {
  const [low, high] = [Number(slider.dataset.low), Number(slider.dataset.high)];
  const share = "log" in slider.dataset ? Math.log(at / low) / Math.log(high / low) : (at - low) / (high - low);
  return Math.round(1000 * Math.min(1, Math.max(0, share)));
}

function at(slider) {
  const [low, high] = [Number(slider.dataset.low), Number(slider.dataset.high)];
  const share = Number(slider.value) / 1000;
  let found = "log" in slider.dataset ? low * (high / low) ** share : low + (high - low) * share;
  if ("power" in slider.dataset) found = 2 ** Math.round(Math.log2(found));
  else if (slider.dataset.step === "0.01") found = Math.round(found * 100) / 100;
  else {
    found = Number(found.toPrecision(2));
    if (slider.dataset.step === "1") found = Math.max(low, Math.round(found));
  }
  return found;
}

let dragged = null; // the slider that is dragged
let held = null; // the question before that
for (const one of every(".control")) {
  const input = box(one);
  input.addEventListener("change", () => change(() => take(one)));
  const slider = one.querySelector("input[type=range]");
  if (!slider) continue;
  slider.addEventListener("input", () => {
    held ??= structuredClone(question);
    dragged = slider;
    input.value = String(at(slider));
    change(() => take(one), true);
  });
  slider.addEventListener("change", () => {
    const before = held;
    input.value = String(at(slider));
    [held, dragged] = [null, null];
    change(() => take(one), false, before);
  });
}
byId("controls").addEventListener("submit", (event) => event.preventDefault());

// ---- Undo, pin, copies

function back(from, to) {
  if (!from.length) return;
  to.push(JSON.stringify(question));
  question = JSON.parse(from.pop());
  fill();
  ask();
}
byId("undo").addEventListener("click", () => back(past, future));
byId("redo").addEventListener("click", () => back(future, past));
addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input[type=text], input[type=number]");
  if (typing || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
  event.preventDefault();
  if (event.shiftKey) back(future, past);
  else back(past, future);
});

byId("pin").addEventListener("click", () => {
  pinned = pinned ? null : structuredClone(question);
  byId("pin").setAttribute("aria-pressed", String(Boolean(pinned)));
  byId("pin").textContent = pinned ? "Unpin" : "Pin";
  ask();
});

for (const button of every("[data-copy]")) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const kind = button.dataset.copy;
    const text = kind === "link" ? `${location.origin}${location.pathname}?${copies.link}` : copies[kind];
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      prompt(label, text);
    }
    setTimeout(() => { button.textContent = label; }, 1200);
  });
}

document.documentElement.dataset.theme = themeNow();
paint(themeNow());
if (innerWidth <= 860) every("#controls details").forEach((group, n) => { group.open = n === 0; });
fill();
ask().then(() => {
  if (start.problem) say(`The link cannot be opened: ${start.problem}`, true);
});
