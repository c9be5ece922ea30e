"use strict";
// The report: sections that switch, figures drawn when they are scrolled to, details of the verdict on demand.

const report = JSON.parse(document.getElementById("data").textContent);
const names = [report.truth, ...report.generators];
const drawn = new WeakSet();

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const key in attributes) {
    if (key === "class") node.className = attributes[key]; else node.setAttribute(key, attributes[key]);
  }
  node.append(...children);
  return node;
}

function runs(parts) {
  const span = make("span", {});
  for (const [text, style] of parts) span.append(style ? make({ i: "i", sub: "sub", sup: "sup" }[style], {}, text) : text);
  return span;
}

// ---- theme

const themeButton = document.getElementById("theme");
function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  themeButton.textContent = dark ? "Light" : "Dark";
  themeButton.setAttribute("aria-label", dark ? "switch to light colours" : "switch to dark colours");
  for (const table of turntables) table.draw();
}
const turntables = [];
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
setTheme(prefersDark.matches);
prefersDark.addEventListener("change", (event) => setTheme(event.matches));
themeButton.addEventListener("click", () => setTheme(document.documentElement.dataset.theme !== "dark"));

// ---- sections

const sections = [...document.querySelectorAll("main > section")];
function show(id) {
  const wanted = sections.some((s) => s.id === `section-${id}`) ? id : sections[0].id.slice(8);
  for (const section of sections) section.hidden = section.id !== `section-${wanted}`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${wanted}`) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  build(wanted);
}
addEventListener("hashchange", () => { show(location.hash.slice(1)); scrollTo(0, 0); });

const built = new Set();
function build(id) {
  if (built.has(id)) return;
  built.add(id);
  const section = document.getElementById(`section-${id}`);
  const cards = report.cards.filter((o) => o.section === id);
  const room = section.querySelector(".cards");
  if (room) {
    for (const observable of cards) {
      const hasFigures = report.figures.some((f) => f.observable === observable.name);
      if (hasFigures || observable.facts.length) room.append(card(observable));
    }
    for (const matrix of report.matrices.filter((m) => m.section === id)) room.append(matrixCard(matrix));
  }
  if (id === "showers") buildShowers(section);
}

// ---- figures

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); fill(entry.target); }
}, { rootMargin: "600px" });
const pending = new Map();

function figureNode(figure, observable, small, alone) {
  const where = report.bins[figure.bin];
  const caption = figure.kind === "trend" ? (alone ? "" : "mean against the incident energy") : where.label;
  const node = make("figure", {}, make("figcaption", {}, caption));
  if (figure.kind !== "trend" && figure.fails) node.className = "fails";
  node.style.minHeight = small ? "200px" : "300px";
  pending.set(node, () => {
    node.prepend(drawFigure(figure, names, { small, title: `${plainRuns(observable.title)}, ${caption}` }));
    node.style.minHeight = "";
  });
  watcher.observe(node);
  return node;
}

function fill(node) {
  const draw = pending.get(node);
  if (!draw || drawn.has(node)) return;
  drawn.add(node);
  draw();
}

function card(observable) {
  const own = report.figures.filter((f) => f.observable === observable.name);
  const node = make("article", { class: "card", id: `o-${observable.name}` });
  const status = observable.fails ? make("span", { class: "tag fail" }, "fails") : "";
  const head = make("header", {}, make("h3", {}, runs(observable.title), " ", status), make("span", { class: "facts" }, observable.name));
  const lead = make("div", { class: "lead" }), grid = make("div", { class: "grid" });
  for (const figure of own) {
    const large = figure.kind === "trend" || report.bins[figure.bin].axis === "inclusive";
    (large ? lead : grid).append(figureNode(figure, observable, !large, own.length === 1));
  }
  node.append(head, ...observable.facts.map((line) => make("div", { class: "facts" }, line)), lead);
  if (grid.children.length) node.append(grid);
  return node;
}

function matrixCard(matrix) {
  const room = make("div", { class: "lead" });
  matrix.values.forEach((values, i) => {
    const node = make("figure", {}, make("figcaption", {}, matrix.titles[i]));
    node.style.minHeight = "300px";
    pending.set(node, () => { node.prepend(drawMatrix(values, matrix.labels, matrix.titles[i])); node.style.minHeight = ""; });
    watcher.observe(node);
    room.append(node);
  });
  return make("article", { class: "card" }, room);
}

addEventListener("beforeprint", () => {
  for (const section of sections) build(section.id.slice(8));
  for (const node of pending.keys()) fill(node);
  for (const table of turntables) table.draw();
});

// ---- the verdict's details

function details(row) {
  const next = row.nextElementSibling;
  if (next && next.classList.contains("more")) { next.remove(); row.setAttribute("aria-expanded", "false"); return; }
  row.setAttribute("aria-expanded", "true");
  const list = report.judgements[row.dataset.generator][row.dataset.observable] || [];
  const titles = ["where", "metric", "value", "floor", "threshold", "beyond"];
  const head = make("tr", {}, ...["", ...titles].map((t, i) => make("th", { class: i > 2 ? "n" : "" }, t)));
  const body = list.map((j) => make("tr", {}, make("td", {}, make("span", { class: `tag ${j[0]}` }, j[0])),
    ...j.slice(1).map((text, i) => make("td", { class: i > 1 ? "n" : "", "data-label": titles[i] }, text || "–"))));
  const table = make("table", { class: "stacked" }, make("thead", {}, head), make("tbody", {}, ...body));
  const cell = make("td", { colspan: row.children.length }, make("div", { class: "scroll" }, table));
  row.after(make("tr", { class: "more" }, cell));
}
for (const row of document.querySelectorAll("tr.row")) {
  row.addEventListener("click", (event) => { if (event.target.tagName !== "A") details(row); });
  row.addEventListener("keydown", (event) => { if (event.key === "Enter") details(row); });
}
const filter = document.getElementById("only-failures");
if (filter) filter.addEventListener("change", () => {
  for (const more of document.querySelectorAll("tr.more")) more.remove();
  for (const row of document.querySelectorAll("tr.row")) row.hidden = filter.checked && row.dataset.status !== "fail";
});

// ---- showers

function mapNode(map, plane, name) {
  const node = make("figure", {}), extent = report.extents[plane];
  pending.set(node, () => node.append(drawMapFigure(map, extent, report.decades, `${name}, ${report.planes[plane]}`)));
  watcher.observe(node);
  return node;
}

function buildShowers(section) {
  const display = section.querySelector(".event"), maps = section.querySelector(".averages");
  if (report.events.length) {
    const choice = make("select", { "aria-label": "shower" }, ...report.events.map((e, i) => make("option", { value: i }, e.label)));
    const turn = make("button", { type: "button" }, "Stop");
    const cut = make("input", { type: "range", min: -30, max: 20, value: -10, "aria-label": "smallest voxel energy shown" });
    const shown = make("span", {});
    const holder = make("div", {});
    display.append(make("div", { class: "tools display-controls" }, choice, turn, make("label", {}, "voxels above ", shown, " ", cut)), holder);
    let table = null, view = { turn: 0.7, tilt: 0.35 };
    const setCut = () => { view.threshold = 10 ** (cut.value / 10); shown.textContent = `${view.threshold.toPrecision(2)} MeV`; };
    const open = () => {
      const event = report.events[choice.value];
      view.low = event.low; view.top = event.top;
      setCut();
      if (table) { table.stop(); turntables.splice(turntables.indexOf(table), 1); }
      holder.replaceChildren(eventNode(event, view, (t) => { table = t; }));
      turntables.push(table);
      table.changed = () => { turn.textContent = table.running ? "Stop" : "Turn"; };
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) table.draw(); else table.start();
    };
    cut.addEventListener("input", () => { setCut(); table.draw(); });
    turn.addEventListener("click", () => (table.running ? table.stop() : table.start()));
    choice.addEventListener("change", open);
    open();
  }
  if (report.averages.length) maps.append(make("h2", {}, "Projections"), make("p", {}, "Energy summed along the third axis, of truth and generators on one colour scale."));
  for (const average of report.averages) {
    maps.append(make("h3", {}, `Mean shower, ${average.label}`));
    maps.append(make("div", { class: "pair" }, ...average.showers.map(mapRow)));
  }
}

function mapRow(row) {
  const maps = row.maps.map((map, i) => mapNode(map, i, row.name));
  return make("div", { class: "card" }, make("h3", {}, row.name), make("div", { class: "maps" }, ...maps));
}

function eventNode(event, view, ready) {
  const canvases = [], displays = make("div", { class: "displays" }), projections = make("div", { class: "pair" });
  for (const shower of event.showers) {
    const canvas = make("canvas", { tabindex: 0, role: "img", "aria-label": `${shower.name} in three dimensions, arrow keys turn it` });
    displays.append(make("figure", {}, canvas, make("figcaption", {}, `${shower.name}: ${shower.facts}`)));
    canvases.push(new Display(canvas, shower.voxels, report.geometry, view));
    projections.append(mapRow(shower));
  }
  ready(new Turntable(canvases, view));
  return make("div", {}, displays, projections);
}

// the first page: one shower of the truth beside one of each generator
function buildFirst() {
  const room = document.querySelector("#section-verdict .first");
  if (!room || !report.events.length) return;
  const event = report.events[Math.floor(report.events.length / 2)];
  if (!event.showers[0].maps.length) return;
  // along the depth
  const side = event.showers[0].maps.length > 1 ? 1 : 0;
  room.append(make("h2", {}, `One shower: ${event.label}`));
  room.append(make("div", { class: "firsts" }, ...event.showers.map((shower) => {
    const node = mapNode(shower.maps[side], side, shower.name);
    node.prepend(make("figcaption", {}, shower.name, make("br", {}), make("span", { class: "key" }, shower.facts)));
    return node;
  })));
}

buildFirst();
show(location.hash.slice(1));
document.documentElement.dataset.ready = "yes";
