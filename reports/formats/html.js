"use strict";

// Charts. Each is drawn again when it comes into view, to fit its place and answer the pointer. Those that the file
// holds no picture of are drawn when there is time, so that printing finds all of them. `ast` makes Vega interpret its
// expressions, so that the page may forbid `eval`.

function draw(figure) {
  if (figure.dataset.chart) return Promise.resolve();
  figure.dataset.chart = "drawing";
  const place = figure.querySelector(".drawing"); // Vega gives it a role of its own, within that of the picture
  const specification = JSON.parse(figure.querySelector("script").textContent);
  const width = place.clientWidth || specification.width; // what is folded away has no width yet
  const series = [...new Set(specification.data.values.map((value) => value.series || ""))];
  const widest = 45 + 7 * Math.max(0, ...series.map((one) => one.length));
  const legend = { ...CONFIG.legend, columns: Math.max(1, Math.floor(width / widest)) };
  const axis = { ...CONFIG.axis, labelLimit: Math.min(CONFIG.axis.labelLimit, 0.4 * width) };
  const fitting = {
    ...specification,
    width: place.clientWidth ? "container" : width,
    autosize: { type: "fit-x", contains: "padding" },
    config: { ...CONFIG, axis, legend },
  };
  const options = { mode: "vega-lite", actions: false, renderer: "svg", ast: true, tooltip: { theme: "custom" }, logLevel: 1 };
  return vegaEmbed(place, fitting, options).then(
    () => { figure.dataset.chart = "drawn"; },
    (error) => { figure.dataset.chart = "failed"; console.error(error); },
  );
}

const later = window.requestIdleCallback || ((act) => setTimeout(act, 50));
const seen = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
  { rootMargin: "300px" },
);
const waiting = [];
for (const figure of document.querySelectorAll("figure[data-chart]")) {
  seen.observe(figure);
  if (!figure.querySelector(".drawing svg")) waiting.push(figure);
}
function drawNext() {
  const figure = waiting.shift();
  if (figure) later(() => draw(figure).then(drawNext));
}
drawNext();

// What is folded away is printed all the same.

addEventListener("beforeprint", () => document.querySelectorAll("details.more").forEach((part) => { part.open = true; }));

// Tables: a button in each heading sorts, the input above a table filters.

function keyOf(row, column) {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
}

function rank(key) { // whichever way it is sorted: figures, words, nothing
  return typeof key === "number" ? 0 : key ? 1 : 2;
}

function compare(a, b) {
  return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
}

function sort(table, column, direction) {
  const sign = direction === "descending" ? -1 : 1;
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: keyOf(row, column) }));
  rows.sort((a, b) => rank(a.key) - rank(b.key) || sign * compare(a.key, b.key));
  table.tBodies[0].append(...rows.map((item) => item.row));
}

function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  const original = [...table.tBodies[0].rows];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[heading.getAttribute("aria-sort")];
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      if (next === null) return table.tBodies[0].append(...original);
      heading.setAttribute("aria-sort", next || "ascending");
      return sort(table, column, next || "ascending");
    });
  });
}

function makeFilterable(form) {
  const table = document.getElementById(form.dataset.filters).querySelector("table");
  const [input, count] = [form.querySelector("input"), form.querySelector("output")];
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    rows.forEach((row, number) => { row.hidden = !words.every((word) => texts[number].includes(word)); });
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  input.addEventListener("input", filter);
  form.hidden = false;
  filter();
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll("[data-filters]").forEach(makeFilterable);

// Light or dark: the system's, until the button says otherwise.

const theme = document.querySelector("button.theme");
const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark"
  || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
const name = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  name();
});
theme.hidden = false;
name();
