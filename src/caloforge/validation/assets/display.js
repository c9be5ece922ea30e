"use strict";
// Showers as pictures: projections as colour maps, and voxels in three dimensions that turn.

// perceptually even, readable without colour vision (anchors of a blue-green-yellow ramp)
const RAMP = [[68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 145, 140], [40, 174, 128], [94, 201, 98], [173, 220, 48], [253, 231, 37]];

function ramp(share) {
  const at = Math.max(0, Math.min(1, share)) * (RAMP.length - 1), i = Math.min(RAMP.length - 2, Math.floor(at)), f = at - i;
  return RAMP[i].map((c, k) => Math.round(c + f * (RAMP[i + 1][k] - c)));
}

function bytes(text) { return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)); }

// 0 is an empty pixel, 1 to 255 rise with the logarithm of the energy
function drawMap(canvas, map) {
  canvas.width = map.w; canvas.height = map.h;
  const context = canvas.getContext("2d"), picture = context.createImageData(map.w, map.h), data = bytes(map.d);
  for (let row = 0; row < map.h; row++) {
    for (let column = 0; column < map.w; column++) {
      // the first row of the data is the lowest
      const value = data[(map.h - 1 - row) * map.w + column], at = 4 * (row * map.w + column);
      if (!value) continue;
      const [r, g, b] = ramp((value - 1) / 254);
      picture.data.set([r, g, b, 255], at);
    }
  }
  context.putImageData(picture, 0, 0);
}

// a projection with its axes and its colour scale, as SVG around the pixels
function drawMapFigure(map, extent, decades, title) {
  const width = 250, height = 214, left = 40, right = 200, top = 8, bottom = 178, size = 10;
  const canvas = document.createElement("canvas");
  drawMap(canvas, map);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  element("title", {}, svg).textContent = title;
  const picture = { x: left, y: top, width: right - left, height: bottom - top, preserveAspectRatio: "none", href: canvas.toDataURL() };
  element("image", { ...picture, style: "image-rendering: pixelated" }, svg);
  const [x0, x1, y0, y1] = extent.range, sx = new Scale(x0, x1, left, right, false), sy = new Scale(y0, y1, bottom, top, false);
  sx.whole = extent.x === "layer"; sy.whole = extent.y === "layer";
  drawAxes({ svg, left, right, size }, sx, sy, top, bottom, 4, true, 4);
  writeRuns(element("text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle", "font-size": size }, svg), [[extent.x, ""]], size);
  writeRuns(element("text", { "text-anchor": "middle", "font-size": size, transform: `translate(10 ${(top + bottom) / 2}) rotate(-90)` }, svg), [[extent.y, ""]], size);
  const bar = right + 8, steps = 48, step = (bottom - top) / steps;
  for (let i = 0; i < steps; i++) {
    element("rect", { x: bar, y: bottom - (i + 1) * step, width: 8, height: step + 0.5, fill: `rgb(${ramp((i + 0.5) / steps).join(",")})` }, svg);
  }
  const scale = new Scale(map.top / 10 ** decades, map.top, bottom, top, true);
  for (const [value, runs] of scale.ticks(4)) {
    writeRuns(element("text", { x: bar + 11, y: scale.at(value) + 3, "font-size": 8 }, svg), runs, 8);
  }
  element("text", { x: right + 8, y: bottom + 14, "font-size": 8 }, svg).textContent = "MeV";
  return svg;
}

class Display {
  constructor(canvas, voxels, geometry, view) {
    this.canvas = canvas; this.view = view; this.geometry = geometry;
    this.context = canvas.getContext("2d");
    this.energy = Float32Array.from(voxels.e, (e) => 10 ** (e / 100));
    this.points = voxels.p; this.count = voxels.e.length;
    const logs = voxels.e.map((e) => e / 100), top = view.top, low = view.low;
    this.share = logs.map((l) => (top > low ? Math.max(0, Math.min(1, (l - low) / (top - low))) : 1));
    canvas.width = 600; canvas.height = 520;
  }
  // rotation about the vertical axis and tilt, then perspective
  project(x, y, z) {
    const { turn, tilt } = this.view, size = this.geometry.size, far = 2.6 * size;
    const cx = Math.cos(turn), sx = Math.sin(turn), ct = Math.cos(tilt), st = Math.sin(tilt);
    const z0 = z - this.geometry.depth / 2, a = cx * z0 + sx * x, b = -sx * z0 + cx * x;
    const c = ct * y - st * b, d = st * y + ct * b, scale = 1180 / (far + d);
    return [300 + a * scale, 260 - c * scale, d, scale];
  }
  draw() {
    const { context, canvas } = this, style = getComputedStyle(document.documentElement);
    context.clearRect(0, 0, canvas.width, canvas.height);
    this.box(style.getPropertyValue("--line"));
    const shown = [];
    for (let i = 0; i < this.count; i++) {
      if (this.energy[i] < this.view.threshold) continue;
      const p = this.project(this.points[3 * i] / 10, this.points[3 * i + 1] / 10, this.points[3 * i + 2] / 10);
      shown.push([p, i]);
    }
    shown.sort((a, b) => b[0][2] - a[0][2]);
    for (const [p, i] of shown) {
      const share = this.share[i], side = this.geometry.cell * p[3] * (0.35 + 0.6 * share);
      const [r, g, b] = ramp(share);
      context.globalAlpha = 0.35 + 0.6 * share;
      context.fillStyle = `rgb(${r},${g},${b})`;
      context.fillRect(p[0] - side / 2, p[1] - side / 2, side, side);
    }
    context.globalAlpha = 1;
    canvas.dataset.turn = this.view.turn.toFixed(3);
  }
  box(colour_) {
    const { half, depth } = this.geometry, context = this.context;
    context.strokeStyle = colour_; context.lineWidth = 1.2; context.beginPath();
    for (const [x, y] of [[-half, -half], [half, -half], [half, half], [-half, half]]) {
      const a = this.project(x, y, 0), b = this.project(x, y, depth);
      context.moveTo(a[0], a[1]); context.lineTo(b[0], b[1]);
    }
    for (const z of [0, depth]) {
      const corners = [[-half, -half], [half, -half], [half, half], [-half, half], [-half, -half]].map(([x, y]) => this.project(x, y, z));
      corners.forEach((p, i) => (i ? context.lineTo(p[0], p[1]) : context.moveTo(p[0], p[1])));
    }
    context.stroke();
    // where the particle comes from
    const tip = this.project(0, 0, 0), tail = this.project(0, 0, -0.18 * depth);
    context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    context.lineWidth = 2.5; context.beginPath(); context.moveTo(tail[0], tail[1]); context.lineTo(tip[0], tip[1]); context.stroke();
  }
}

// several displays that turn together
class Turntable {
  constructor(displays, view) {
    this.displays = displays; this.view = view; this.running = false; this.visible = false;
    for (const display of displays) this.listen(display.canvas);
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) this.visible = entry.isIntersecting;
      if (this.visible) this.draw();
      if (this.visible && this.running) this.loop();
    });
    watch.observe(displays[0].canvas);
  }
  listen(canvas) {
    let held = null;
    canvas.addEventListener("pointerdown", (event) => { held = [event.clientX, event.clientY]; canvas.setPointerCapture(event.pointerId); this.stop(); });
    canvas.addEventListener("pointermove", (event) => {
      if (!held) return;
      this.rotate((event.clientX - held[0]) * 0.01, (event.clientY - held[1]) * 0.01);
      held = [event.clientX, event.clientY];
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { held = null; });
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
      if (move) { event.preventDefault(); this.stop(); this.rotate(...move); }
    });
  }
  rotate(turn, tilt) {
    this.view.turn += turn;
    this.view.tilt = Math.max(-1.5, Math.min(1.5, this.view.tilt + tilt));
    this.draw();
  }
  draw() { for (const display of this.displays) display.draw(); }
  start() { this.running = true; this.last = performance.now(); this.loop(); if (this.changed) this.changed(); }
  stop() { this.running = false; if (this.changed) this.changed(); }
  loop() {
    if (this.looping) return;
    this.looping = true;
    const step = (now) => {
      if (!this.running || !this.visible) { this.looping = false; return; }
      this.view.turn += Math.min(60, now - this.last) * 0.0005; this.last = now;
      this.draw();
      requestAnimationFrame(step);
    };
    this.last = performance.now();
    requestAnimationFrame(step);
  }
}
