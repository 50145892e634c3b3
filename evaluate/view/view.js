"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id);
const last = data.step.length - 1;
const crashes = data.impulse.flatMap((value, row) => value > 0 && !data.impulse[row - 1] ? [row] : []);
let now = 0, clock = null, pictures = {};

function load(name) {
  return Promise.all(data[name].map(source => new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Error(`a sheet of ${name} cannot be shown`));
    picture.src = source;
  })));
}

function paint(canvas, name, alpha) {
  const sheet = (pictures[name] || [])[Math.floor(now / data.across ** 2)];
  if (!sheet) return;
  const cell = now % data.across ** 2, side = data.side, context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.globalAlpha = alpha;
  // WebP blends a pixel across the pictures' edges: it is left out.
  context.drawImage(sheet, (cell % data.across) * side + 1, Math.floor(cell / data.across) * side + 1, side - 2, side - 2,
    0, 0, canvas.width, canvas.height);
  context.globalAlpha = 1;
}

const fixed = (value, digits) => value.toFixed(digits).replace("-", "−");
const numbers = {
  time: () => `${fixed(data.seconds[now], 2)} s`,
  "simulator step": () => `${data.step[now]} of ${data.step[last]}`,
  speed: () => `${fixed(data.speed[now], 1)} m/s`,
  distance: () => `${fixed(data.distance[now], 1)} m`,
  "reward from here": () => fixed(data.reward[now], 2),
  "reward so far": () => fixed(data.total[now], 1),
  impact: () => data.impulse[now] ? `${Math.round(data.impulse[now])} N·s` : "none",
  "H_ka covers": () => data.valid[now] ? `${fixed(100 * data.covered[now], 1)} %` : "unknown",
};
for (const name of Object.keys(numbers)) {
  at("numbers").insertAdjacentHTML("beforeend", `<div><dt>${name}</dt><dd></dd></div>`);
}
const cells = [...at("numbers").querySelectorAll("dd")];

function bar(element, value, colour) {
  element.style.left = `${50 + 50 * Math.min(value, 0)}%`;
  element.style.width = `${50 * Math.abs(value)}%`;
  element.style.background = `var(${colour})`;
}

function show() {
  paint(at("frame"), "camera", 1);
  if (at("layer").value) paint(at("frame"), at("layer").value, at("opacity").value / 100);
  if (at("alone")) {
    at("alone").getContext("2d").clearRect(0, 0, at("alone").width, at("alone").height);
    paint(at("alone"), "h_ka", 1);
  }
  Object.values(numbers).forEach((text, index) => { cells[index].textContent = text(); });
  bar(at("steer"), data.steer[now], "--steer");
  bar(at("pedal"), data.pedal[now], data.pedal[now] < 0 ? "--bad" : "--good");
  at("words").textContent = data.words[now] || "the episode is over";
  const verdict = data.verdict[now], badge = at("verdict");
  badge.textContent = verdict === 1 ? "✓ judged reasonable" : verdict === 0 ? "✗ judged unreasonable" : "not judged";
  badge.style.color = `var(${verdict === 1 ? "--good" : verdict === 0 ? "--bad" : "--faint"})`;
  badge.hidden = now === last;
  at("phrases").replaceChildren(...data.phrases[now].map(phrase => {
    const chip = document.createElement("span");
    chip.textContent = phrase;
    return chip;
  }), data.note[now]);
  lanes.forEach(lane => { lane.label.textContent = lane.value(); });
  const width = charts().width;
  at("head").style.left = `${charts().left + width * now / Math.max(last, 1)}px`;
  at("timeline").setAttribute("aria-valuenow", now);
  at("timeline").setAttribute("aria-valuetext", `${data.seconds[now]} s`);
}

function go(row) {
  now = Math.max(0, Math.min(last, row));
  show();
}

function play(on) {
  clearTimeout(clock);
  clock = null;
  at("play").innerHTML = on ? "■ stop" : "▶&#xFE0E; play";
  if (!on) return;
  if (now === last) go(0);
  const tick = () => {
    if (now === last) return play(false);
    go(now + 1);
    next();
  };
  const next = () => {
    const seconds = now < last ? data.seconds[now + 1] - data.seconds[now] : 0;
    clock = setTimeout(tick, 1000 * seconds / at("rate").value);
  };
  next();
}

// The time line: lanes over one axis, drawn once, and a head that moves.
const x = row => 1000 * row / Math.max(last, 1);
function curve(values, low, high, colour) {
  const y = value => 38 - 36 * (value - low) / (high - low || 1);
  const points = values.map((value, row) => `${x(row).toFixed(1)},${y(value).toFixed(1)}`).join("L");
  const zero = low <= 0 && high >= 0 ? `<path class="zero" d="M0,${y(0)}H1000"/>` : "";
  return `${zero}<path class="curve" stroke="var(${colour})" d="M${points}"/>`;
}
function area(values, low, high, above, below) {
  const y = value => 38 - 36 * (value - low) / (high - low || 1), step = 1000 / Math.max(last, 1);
  return `<path class="zero" d="M0,${y(0)}H1000"/>` + [[above, value => value > 0], [below, value => value < 0]].map(
    ([colour, side]) => `<path fill="var(${colour})" d="${values.map((value, row) => side(value)
      ? `M${(x(row) - step / 2).toFixed(1)},${y(0).toFixed(1)}V${y(value).toFixed(1)}h${step.toFixed(2)}V${y(0).toFixed(1)}z`
      : "").join("")}"/>`).join("");
}
function strip(colours) {
  const step = 1000 / Math.max(last, 1);
  return colours.map((colour, row) => colour
    ? `<rect x="${(x(row) - step / 2).toFixed(1)}" y="10" width="${(step + .3).toFixed(2)}" height="20" fill="var(${colour})"/>`
    : "").join("");
}
const most = values => Math.max(...values, 1e-9), least = values => Math.min(...values, 0);
const verdictColours = data.verdict.map(value => value === null ? "" : value ? "--good" : "--bad");
const lanes = [
  { name: "speed", draw: curve(data.speed, 0, most(data.speed), "--speed"), value: numbers.speed },
  { name: "reward", draw: area(data.reward, least(data.reward), most(data.reward), "--good", "--bad"),
    value: () => fixed(data.reward[now], 2) },
  { name: "steer", draw: curve(data.steer, -1, 1, "--steer"), value: () => fixed(data.steer[now], 2) },
  { name: "pedal", draw: area(data.pedal, -1, 1, "--good", "--bad"), value: () => fixed(data.pedal[now], 2) },
  ...data.knowledge ? [
    { name: "H_ka covers", draw: area(data.covered, 0, most(data.covered), "--warm", "--warm"),
      value: numbers["H_ka covers"] },
    { name: "verdict", kind: "strip", draw: strip(verdictColours),
      value: () => ({ 1: "reasonable", 0: "unreasonable" })[data.verdict[now]] || "unknown" },
  ] : [],
];
for (const lane of lanes) {
  at("timeline").insertAdjacentHTML("beforeend", `<div class="lane ${lane.kind || ""}"><span>${lane.name}<b></b></span>
    <svg viewBox="0 0 1000 40" preserveAspectRatio="none" aria-hidden="true">${lane.draw}${crashes.map(row =>
    `<path d="M${x(row)},0V40" stroke="var(--bad)" stroke-dasharray="3 2" vector-effect="non-scaling-stroke"/>`).join("")}
    </svg></div>`);
  lane.label = at("timeline").lastElementChild.querySelector("b");
}
at("timeline").insertAdjacentHTML("beforeend", '<div id="head" class="head"></div>');
at("timeline").setAttribute("aria-valuemax", last);
function charts() {
  const chart = at("timeline").querySelector("svg").getBoundingClientRect();
  return { left: chart.left - at("timeline").getBoundingClientRect().left - 1, width: chart.width };
}
function scrub(event) {
  const { left, width } = charts(), inside = event.clientX - at("timeline").getBoundingClientRect().left - left;
  play(false);
  go(Math.round(last * inside / width));
}
at("timeline").addEventListener("pointerdown", event => {
  at("timeline").setPointerCapture(event.pointerId);
  scrub(event);
});
at("timeline").addEventListener("pointermove", event => { if (event.buttons) scrub(event); });

const moves = {
  first: () => go(0), back: () => go(now - 1), on: () => go(now + 1), last: () => go(last),
};
document.querySelectorAll("[data-go]").forEach(button => button.addEventListener("click", () => {
  play(false);
  moves[button.dataset.go]();
}));
at("play").addEventListener("click", () => play(clock === null));
at("opacity").addEventListener("input", show);
at("layer").addEventListener("change", () => { legend(); show(); });

function legend() {
  const colours = { h_ka: data.knowledge ? [["H_ka", [255, 64, 40]]] : [], truth: data.legend }[at("layer").value] || [];
  at("legend").innerHTML = colours.map(([name, rgb]) => `<i style="background:rgb(${rgb})"></i>${name}`).join("");
}

function fade(amount) {
  at("opacity").value = Number(at("opacity").value) + amount;
  show();
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input")) return;
  const far = event.shiftKey ? 10 : 1;
  const does = {
    ArrowLeft: () => { play(false); go(now - far); },
    ArrowRight: () => { play(false); go(now + far); },
    Home: moves.first, End: moves.last,
    " ": () => play(clock === null),
    ",": () => go(crashes.filter(row => row < now).pop() ?? now),
    ".": () => go(crashes.find(row => row > now) ?? now),
    m: () => { at("layer").selectedIndex = (at("layer").selectedIndex + 1) % at("layer").length; legend(); show(); },
    "[": () => fade(-10), "]": () => fade(10),
  }[event.key];
  if (!does) return;
  event.preventDefault();
  does();
});

const root = document.documentElement, prefersDark = matchMedia("(prefers-color-scheme: dark)");
function dress(dark) {
  root.dataset.theme = dark ? "dark" : "light";
  root.style.colorScheme = root.dataset.theme;
}
dress(prefersDark.matches);
prefersDark.addEventListener("change", event => dress(event.matches));
at("theme").addEventListener("click", () => dress(root.dataset.theme !== "dark"));
addEventListener("resize", show);

if (!data.h_ka.length) {
  at("layer").querySelector('[value="h_ka"]').remove();
  at("layer").value = "";
}
if (location.hash) now = Math.max(0, Math.min(last, Number(location.hash.slice(1)) || 0));
legend();
show();
Promise.all(["camera", "h_ka", "truth"].map(async name => { pictures[name] = await load(name); show(); }))
  .then(() => { root.dataset.ready = "yes"; });
