// Definitions on hover, on focus and on a tap.
const tip = Object.assign(document.createElement("div"), { id: "tip", role: "tooltip", hidden: true });
document.body.append(tip);
function showTip(term) {
  tip.textContent = term.dataset.tip;
  tip.hidden = false;
  const at = term.getBoundingClientRect();
  tip.style.left = `${Math.max(12, Math.min(at.left, innerWidth - tip.offsetWidth - 12))}px`;
  const below = at.bottom + 8 + tip.offsetHeight < innerHeight;
  tip.style.top = `${below ? at.bottom + 8 : at.top - tip.offsetHeight - 8}px`;
}
for (const term of every(".term")) {
  for (const name of ["mouseenter", "focus"]) term.addEventListener(name, () => showTip(term));
  for (const name of ["mouseleave", "blur"]) term.addEventListener(name, () => { tip.hidden = true; });
}
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

// Tabs.
for (const tabs of every(".tabs")) {
  const buttons = every(":scope > [role=tablist] > [role=tab]", tabs);
  const open = (button) => {
    for (const other of buttons) {
      other.setAttribute("aria-selected", String(other === button));
      other.tabIndex = other === button ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).classList.toggle("away", other !== button);
    }
  };
  buttons.forEach((button, n) => {
    button.addEventListener("click", () => open(button));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = buttons[(n + step + buttons.length) % buttons.length];
      next.focus();
      open(next);
    });
  });
}

// A click on a heading sorts a table; a filter keeps the rows that hold all its words.
const content = (row, column) => {
  const cell = row.cells[column];
  const box = cell.querySelector("input");
  if (box) return Number(!box.checked);
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
};
function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a.localeCompare(b, undefined, { numeric: true });
}
for (const table of every("table")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (body.rows.length && body.rows[0].cells[column].classList.contains("number")) head.classList.add("number");
    head.querySelector("button")?.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => (up ? 1 : -1) * compare(content(a, column), content(b, column)));
      body.append(...rows);
    });
  });
}
for (const box of every(".table > input[type=search]")) {
  const rows = every("tbody tr", box.parentElement);
  const count = box.parentElement.querySelector(".count");
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      left += row.hidden ? 0 : 1;
    }
    count.textContent = left === rows.length ? `${left} rows` : `${left} of ${rows.length} rows`;
  });
}

// Figures show the lines of the ticked rows; each line has its own colour as long as there are enough colours.
function choose(boxes) {
  const names = boxes.filter((box) => box.checked).map((box) => box.dataset.line);
  const slots = new Map();
  for (const box of boxes) {
    const swatch = box.nextElementSibling;
    if (box.checked && swatch.dataset.slot === "") {
      const taken = new Set(boxes.map((other) => other.nextElementSibling.dataset.slot));
      swatch.dataset.slot = THEMES.slots.find((slot) => !taken.has(slot)) ?? THEMES.slots[0];
    } else if (!box.checked) swatch.dataset.slot = "";
    slots.set(box.dataset.line, swatch.dataset.slot);
    swatch.dataset.colour = box.checked ? THEMES[painted][Number(swatch.dataset.slot)] : "transparent";
    swatch.style.background = swatch.dataset.colour;
  }
  for (const doc of Bokeh.documents) {
    const source = doc.get_model_by_name("chosen");
    if (!source) continue;
    const indices = names.map((name) => source.get("name").indexOf(name)).filter((index) => index >= 0);
    source.data = { ...source.data, slot: source.get("name").map((name) => slots.get(name) || "0") };
    doc.get_model_by_name("choice").indices = indices;
  }
}

// Figures.
async function draw() {
  for (const plot of every(".plot")) {
    const data = JSON.parse(plot.firstElementChild.textContent);
    plot.replaceChildren();
    await Bokeh.embed.embed_item(data, plot);
  }
  const boxes = every("input[data-line]");
  if (boxes.length) choose(boxes);
  for (const box of boxes) box.addEventListener("change", () => choose(boxes));
  follow();
  document.documentElement.dataset.drawn = "true";
}
document.documentElement.dataset.theme = themeNow();
draw();
