"use strict";
const every = (selector, inside = document) => [...inside.querySelectorAll(selector)];

// The style sheet sets the theme of the page; in figures, every colour is replaced by its counterpart.
const wished = matchMedia("(prefers-color-scheme: dark)");
const printing = matchMedia("print");
let chosen = null;
let paper = false;
let painted = "light";
const themeNow = () => (printing.matches || paper ? "light" : chosen ?? (wished.matches ? "dark" : "light"));

function swap(value, counterparts) {
  if (typeof value === "string") return counterparts.get(value) ?? value;
  if (Array.isArray(value)) return value.map((item) => swap(item, counterparts));
  return value;
}

// Paint documents, all of which are in the colours of the theme ``from``.
function repaint(documents, from, theme) {
  const counterparts = new Map(THEMES[from].map((colour, n) => [colour, THEMES[theme][n]]));
  for (const doc of documents) {
    for (const model of new Set(doc.roots().flatMap((root) => [...root.references()]))) {
      const changes = {};
      for (const property of model) {
        if (!/color|palette/.test(property.attr)) continue;
        const value = property.get_value();
        if (value && typeof value === "object" && "value" in value) {
          const counterpart = swap(value.value, counterparts);
          if (counterpart !== value.value) changes[property.attr] = { ...value, value: counterpart };
        } else if (typeof value === "string" || Array.isArray(value)) {
          const counterpart = swap(value, counterparts);
          if (JSON.stringify(counterpart) !== JSON.stringify(value)) changes[property.attr] = counterpart;
        }
      }
      if (Object.keys(changes).length) model.setv(changes);
    }
  }
  return counterparts;
}

function paint(theme) {
  if (theme === painted) return;
  const counterparts = repaint(Bokeh.documents, painted, theme);
  for (const swatch of every(".swatch")) {
    swatch.dataset.colour = swap(swatch.dataset.colour, counterparts);
    swatch.style.background = swatch.dataset.colour;
  }
  painted = theme;
}

function follow() {
  document.documentElement.dataset.theme = themeNow();
  paint(themeNow());
}

document.getElementById("theme").addEventListener("click", () => {
  chosen = themeNow() === "dark" ? "light" : "dark";
  follow();
});
wished.addEventListener("change", follow);
printing.addEventListener("change", follow);
addEventListener("beforeprint", () => { paper = true; follow(); });
addEventListener("afterprint", () => { paper = false; follow(); });

