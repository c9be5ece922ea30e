"use strict";
// Figures from their numbers, as SVG: truth filled with its statistical band, generators as lines, a ratio panel.

const SVG = "http://www.w3.org/2000/svg";
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 2", "1 3"];

function element(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (parent) parent.appendChild(node);
  return node;
}

// a title is a list of runs [text, style], style one of "", "i", "sub", "sup"
function writeRuns(text, runs, size) {
  let shift = 0;
  for (const [content, style] of runs) {
    const span = element("tspan", {}, text);
    span.textContent = content;
    const wanted = style === "sub" ? 0.28 * size : style === "sup" ? -0.38 * size : 0;
    if (wanted !== shift) span.setAttribute("dy", (wanted - shift).toFixed(1));
    shift = wanted;
    if (style === "i") span.setAttribute("font-style", "italic");
    if (style === "sub" || style === "sup") span.setAttribute("font-size", (0.75 * size).toFixed(1));
  }
}

function plainRuns(runs) { return runs.map((run) => run[0]).join(""); }

class Scale {
  constructor(low, high, from, to, log) {
    this.log = log;
    this.low = log ? Math.log10(low) : low;
    this.high = log ? Math.log10(high) : high;
    if (!(this.high > this.low)) { this.low -= 0.5; this.high += 0.5; }
    this.from = from; this.to = to;
  }
  at(value) {
    const v = this.log ? (value > 0 ? Math.log10(value) : this.low - 1) : value;
    const share = (v - this.low) / (this.high - this.low);
    return this.from + Math.max(-0.02, Math.min(1.02, share)) * (this.to - this.from);
  }
  ticks(count) {
    if (this.marks) return this.marks;
    const found = [];
    if (this.log) {
      const step = Math.max(1, Math.ceil((this.high - this.low) / count));
      for (let p = Math.ceil(this.low - 1e-9); p <= this.high + 1e-9; p += step) found.push([10 ** p, powerLabel(p)]);
      if (found.length > 1) return found;
      found.length = 0;
      const low = 10 ** this.low, high = 10 ** this.high;
      for (const v of niceTicks(low, high, count)) if (v > 0) found.push([v, numberLabel(v, high - low)]);
      return found;
    }
    return niceTicks(this.low, this.high, count, this.whole).map((v) => [v, numberLabel(v, this.high - this.low)]);
  }
}

function powerLabel(p) {
  if (p >= -2 && p <= 3) return [[String(+(10 ** p).toFixed(2)), ""]];
  return [["10", ""], [String(p).replace("-", "−"), "sup"]];
}

// edges half-way between whole numbers: counts, or numbers of layers
function wholeNumbers(figure) {
  return figure.kind !== "trend" && !figure.log_x && figure.edges.every((e) => Math.abs(e - Math.floor(e) - 0.5) < 1e-6);
}

function niceTicks(low, high, count, whole) {
  const raw = (high - low) / Math.max(count, 1), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * (whole ? Math.max(1, power) : power)).find((s) => s >= raw * 0.999 && !(whole && s % 1));
  const ticks = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) ticks.push(v);
  return ticks;
}

function numberLabel(value, range) {
  if (Math.abs(value) < range * 1e-9) return [["0", ""]];
  const size = Math.max(Math.abs(value), range / 10);
  if (size >= 1e5 || size < 1e-3) {
    const p = Math.floor(Math.log10(Math.abs(value)));
    const mantissa = +(value / 10 ** p).toFixed(2);
    return [[String(mantissa).replace("-", "−") + "·10", ""], [String(p).replace("-", "−"), "sup"]];
  }
  const digits = Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(range))));
  return [[String(+value.toFixed(digits)).replace("-", "−"), ""]];
}

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) if (Number.isFinite(v)) { if (v < low) low = v; if (v > high) high = v; }
  return [low, high];
}

// null in JSON stands for a value that is not finite
const number = (v) => (v === null ? NaN : v);

function valueRange(figure) {
  const all = [figure.truth, ...figure.generated];
  const points = figure.kind === "trend";
  if (figure.log_y) {
    const positive = all.flatMap((s) => s.value.map(number)).filter((v) => v > 0);
    if (!positive.length) return [0.1, 1];
    const [low, high] = extent(positive);
    return [Math.max(low, high * 1e-6) / 1.5, high * 2];
  }
  const [low, high] = extent(all.flatMap((s) => s.value.flatMap((y, i) => [number(y) - number(s.error[i]), number(y) + number(s.error[i])])));
  if (!Number.isFinite(low)) return [0, 1];
  if (!points && low >= -0.05 * high) return [0, high * 1.08 || 1];
  const pad = (high - low) * 0.08 || Math.abs(high) * 0.05 || 1;
  return [low - pad, high + pad];
}

// a value as the lower panel shows it: over the truth, or less the truth where that may be zero
function againstTruth(figure, i, value, error) {
  const t = number(figure.truth.value[i]);
  if (figure.difference) return [value - t, error];
  return t === 0 ? [NaN, NaN] : [value / t, Math.abs(error / t)];
}

// half height of the lower panel: what the points need, errors of empty bins ignored
function panelReach(figure) {
  const away = [], level = figure.difference ? 0 : 1;
  for (const s of figure.generated) {
    s.value.forEach((y, i) => {
      const [at, error] = againstTruth(figure, i, number(y), number(s.error[i]));
      const own = againstTruth(figure, i, 0, number(figure.truth.error[i]))[1], both = Math.hypot(error, own);
      if (Number.isFinite(at) && (figure.difference || both < 0.25)) away.push(Math.abs(at - level) + both);
    });
  }
  away.sort((a, b) => a - b);
  const reach = away.length ? away[Math.floor(0.97 * (away.length - 1))] * 1.15 : 0.5;
  return figure.difference ? reach || 1 : Math.min(1, Math.max(0.02, reach));
}

function panelTicks(level, reach) {
  const power = 10 ** Math.floor(Math.log10(reach)), step = [5, 2, 1].map((f) => f * power).find((s) => s <= reach);
  return [level - step, level, level + step].map((v) => [v, numberLabel(v, 2 * step)]);
}

function stairs(edges, values, sx, sy, base) {
  let path = "";
  const bottom = base === null ? null : sy.at(base).toFixed(1);
  if (bottom !== null) path += `M${sx.at(edges[0]).toFixed(1)} ${bottom}`;
  values.forEach((v, i) => {
    const y = (Number.isFinite(v) ? sy.at(v) : sy.from).toFixed(1);
    path += `${path ? "L" : "M"}${sx.at(edges[i]).toFixed(1)} ${y}L${sx.at(edges[i + 1]).toFixed(1)} ${y}`;
  });
  if (bottom !== null) path += `L${sx.at(edges[edges.length - 1]).toFixed(1)} ${bottom}Z`;
  return path;
}

function bandPath(xs, low, high, sx, sy, steps) {
  const up = [], down = [];
  for (let i = 0; i < low.length; i++) {
    if (!Number.isFinite(low[i]) || !Number.isFinite(high[i])) continue;
    const cells = steps ? [xs[i], xs[i + 1]] : [xs[i]];
    for (const x of cells) {
      up.push(`${sx.at(x).toFixed(1)} ${sy.at(high[i]).toFixed(1)}`);
      down.push(`${sx.at(x).toFixed(1)} ${sy.at(low[i]).toFixed(1)}`);
    }
  }
  return up.length ? `M${up.join("L")}L${down.reverse().join("L")}Z` : "";
}

function colour(index) { return `var(--g${index % 6})`; }

// the whole figure; small ones have fewer ticks and no axis titles
function drawFigure(figure, names, options) {
  const small = options.small, width = small ? 270 : 460, height = small ? 220 : 360, size = small ? 10 : 12;
  const left = small ? 40 : 62, right = 10, top = 8, bottom = small ? 22 : 40, panel = small ? 52 : 84, gap = 7;
  const split = height - bottom - panel - gap;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const title = element("title", {}, svg);
  title.textContent = `${options.title}: ${names.join(", ")}`;
  const steps = figure.kind !== "trend";
  const ends = steps ? [figure.edges[0], figure.edges[figure.edges.length - 1]] : extent(figure.edges);
  // room around the outermost points of a trend
  const room = steps ? 0 : 0.04, pad = (ends[1] - ends[0]) * room, factor = (ends[1] / ends[0]) ** room;
  const [first, last] = figure.log_x ? [ends[0] / factor, ends[1] * factor] : [ends[0] - pad, ends[1] + pad];
  const sx = new Scale(first, last, left, width - right, figure.log_x);
  sx.whole = wholeNumbers(figure);
  const sy = new Scale(...valueRange(figure), split, top, figure.log_y);
  const reach = panelReach(figure), level = figure.difference ? 0 : 1;
  const sr = new Scale(level - reach * 1.12, level + reach * 1.12, height - bottom, height - bottom - panel, false);
  const axes = { svg, left, right: width - right, size };
  drawAxes(axes, sx, sy, top, split, small ? 3 : 5, false);
  sr.marks = panelTicks(level, reach);
  drawAxes(axes, sx, sr, height - bottom - panel, height - bottom, 2, true, small ? 4 : 6);
  const clip = `c${drawFigure.serial = (drawFigure.serial || 0) + 1}`;
  const area = element("clipPath", { id: clip }, element("defs", {}, svg));
  element("rect", { x: left, y: top, width: width - right - left, height: height - bottom - top }, area);
  const plot = element("g", { "clip-path": `url(#${clip})` }, svg);
  drawTruth(plot, figure, sx, sy, sr, steps);
  figure.generated.forEach((series, i) => drawGenerator(plot, figure, series, i, sx, sy, sr, steps, small));
  if (!small) {
    label(svg, figure.x_label, size, (left + width - right) / 2, height - 8, 0);
    label(svg, figure.y_label, size, 14, (top + split) / 2, -90);
    label(svg, [[figure.difference ? "difference" : "ratio", ""]], size, 14, height - bottom - panel / 2, -90);
  }
  return svg;
}

function label(svg, runs, size, x, y, turn) {
  // long titles shrink instead of running out of the picture
  const room = turn ? 200 : 380, scale = Math.min(1, room / (plainRuns(runs).length * size * 0.55));
  const text = element("text", { "text-anchor": "middle", "font-size": (size * scale).toFixed(1),
    transform: `translate(${x} ${y}) rotate(${turn})` }, svg);
  writeRuns(text, runs, size * scale);
}

function drawAxes(axes, sx, sy, top, bottom, yTicks, withX, xTicks) {
  const { svg, left, right, size } = axes;
  element("rect", { x: left, y: top, width: right - left, height: bottom - top, fill: "none", stroke: "var(--line)" }, svg);
  for (const [value, runs] of sy.ticks(yTicks)) {
    const y = sy.at(value);
    if (y < top - 0.5 || y > bottom + 0.5) continue;
    element("line", { x1: left - 4, x2: left, y1: y, y2: y, stroke: "var(--soft)" }, svg);
    const text = element("text", { x: left - 6, y: y + size * 0.35, "text-anchor": "end", "font-size": size * 0.9 }, svg);
    writeRuns(text, runs, size * 0.9);
  }
  if (!withX) return;
  for (const [value, runs] of sx.ticks(xTicks)) {
    const x = sx.at(value);
    if (x < left - 0.5 || x > right + 0.5) continue;
    element("line", { x1: x, x2: x, y1: bottom, y2: bottom + 4, stroke: "var(--soft)" }, svg);
    const text = element("text", { x, y: bottom + 6 + size * 0.8, "text-anchor": "middle", "font-size": size * 0.9 }, svg);
    writeRuns(text, runs, size * 0.9);
  }
}

function drawTruth(plot, figure, sx, sy, sr, steps) {
  const y = figure.truth.value.map(number), e = figure.truth.error.map(number);
  const low = y.map((v, i) => v - e[i]), high = y.map((v, i) => v + e[i]);
  if (steps) {
    const floor = figure.log_y ? 10 ** sy.low : Math.max(sy.low, Math.min(0, sy.high));
    element("path", { d: stairs(figure.edges, y, sx, sy, floor), fill: "var(--truth-fill)", stroke: "none" }, plot);
  }
  element("path", { d: bandPath(figure.edges, low, high, sx, sy, steps), fill: "var(--band)", opacity: 0.8 }, plot);
  const line = steps ? stairs(figure.edges, y, sx, sy, null) : polyline(figure.edges, y, sx, sy);
  element("path", { d: line, fill: "none", stroke: "var(--truth)", "stroke-width": 1.5 }, plot);
  const level = figure.difference ? 0 : 1, band = e.map((v, i) => againstTruth(figure, i, y[i], v)[1]);
  const below = band.map((v) => level - v), above = band.map((v) => level + v);
  element("path", { d: bandPath(figure.edges, below, above, sx, sr, steps), fill: "var(--truth-fill)" }, plot);
  element("line", { x1: sx.from, x2: sx.to, y1: sr.at(level), y2: sr.at(level), stroke: "var(--truth)" }, plot);
}

function polyline(xs, ys, sx, sy) {
  let path = "";
  ys.forEach((v, i) => { if (Number.isFinite(v)) path += `${path ? "L" : "M"}${sx.at(xs[i]).toFixed(1)} ${sy.at(v).toFixed(1)}`; });
  return path;
}

function drawGenerator(plot, figure, series, index, sx, sy, sr, steps, small) {
  const y = series.value.map(number), e = series.error.map(number), stroke = colour(index);
  const line = steps ? stairs(figure.edges, y, sx, sy, null) : polyline(figure.edges, y, sx, sy);
  element("path", { d: line, fill: "none", stroke, "stroke-width": 1.8, "stroke-dasharray": DASHES[index % 6] }, plot);
  let bars = "", dots = "";
  const r = small ? 1.4 : 2.2;
  y.forEach((v, i) => {
    const x = sx.at(steps ? middle(figure.edges[i], figure.edges[i + 1], sx.log) : figure.edges[i]);
    if (!steps && Number.isFinite(v)) bars += `M${x} ${sy.at(v - e[i])}L${x} ${sy.at(v + e[i])}`;
    const [ratio, error] = againstTruth(figure, i, v, e[i]);
    if (!Number.isFinite(ratio) || (v === 0 && e[i] === 0)) return;
    bars += `M${x.toFixed(1)} ${sr.at(ratio - error).toFixed(1)}L${x.toFixed(1)} ${sr.at(ratio + error).toFixed(1)}`;
    dots += `M${(x - r).toFixed(1)} ${sr.at(ratio).toFixed(1)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
  });
  element("path", { d: bars, stroke, fill: "none", "stroke-width": 1 }, plot);
  element("path", { d: dots, fill: stroke }, plot);
}

function middle(a, b, log) { return log && a > 0 ? Math.sqrt(a * b) : (a + b) / 2; }

// numbers from -1 to 1 as coloured squares: blue below zero, orange above, both read without red and green
function drawMatrix(values, labels, title) {
  const longest = Math.max(...labels.map((label) => plainRuns(label).length)) * 5.2 + 14;
  const n = labels.length, left = longest, cell = Math.min(28, 330 / n), width = left + n * cell + 8;
  const height = n * cell + 0.87 * longest + 20;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  element("title", {}, svg).textContent = title;
  values.forEach((row, i) => {
    const name = element("text", { x: left - 6, y: (i + 0.68) * cell + 4, "text-anchor": "end", "font-size": 10 }, svg);
    writeRuns(name, labels[i], 10);
    row.forEach((value, j) => {
      const strength = Math.round(100 * Math.min(1, Math.abs(value)));
      const fill = `color-mix(in srgb, var(${value < 0 ? "--g0" : "--g1"}) ${strength}%, var(--paper))`;
      const square = element("rect", { x: left + j * cell, y: i * cell + 4, width: cell - 1, height: cell - 1, fill }, svg);
      element("title", {}, square).textContent = `${plainRuns(labels[i])} and ${plainRuns(labels[j])}: ${value}`;
      if (cell >= 24) {
        const text = element("text", { x: left + (j + 0.5) * cell, y: (i + 0.62) * cell + 4, "text-anchor": "middle", "font-size": 8 }, svg);
        text.textContent = i === j ? "" : value.toFixed(2).replace("-", "−");
      }
    });
  });
  labels.forEach((label, j) => {
    const at = `translate(${left + (j + 0.6) * cell} ${n * cell + 12}) rotate(-60)`;
    writeRuns(element("text", { transform: at, "text-anchor": "end", "font-size": 10 }, svg), label, 10);
  });
  return svg;
}
