"use strict";
// Names come from outside: they enter the page as text nodes only, and Plotly through plain().
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const config = { displayModeBar: false, responsive: true };
const plots = []; // functions that draw a plot in the colours of the moment

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") node.addEventListener("click", value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const figure = (value, digits = 3) => (value === null ? "–" : value.toFixed(digits));
const percent = (value) => (value * 100).toFixed(value > 0.9995 || value < 0.0005 ? 0 : 1) + "\u00a0%";
const whole = (value) => value.toLocaleString("en-US");
const range = (pair) => (pair && pair[0] !== null ? `${figure(pair[0])} – ${figure(pair[1])}` : "");

function drawSummary() {
  const images = data.decided ? `${whole(data.rows)} of ${whole(data.asked)} images answered` : `${whole(data.rows)} images`;
  at("size").textContent = `${images}, ${whole(data.classes.length)} classes`
    + (data.multiLabel ? ", several labels per image" : "");
  for (const section of document.querySelectorAll("main section:not([hidden])")) {
    at("nav").append(element("a", { href: "#" + section.id }, section.querySelector("h2").textContent));
  }
  for (const name of data.headline) {
    const scalar = data.scalars.find((item) => item.name === name);
    at("headline").append(element("div", {},
      element("div", { class: "figure-label" }, scalar.label),
      element("div", { class: "figure-value" }, figure(scalar.value)),
      element("div", { class: "figure-range" }, range(scalar.interval))));
  }
  at("notes").append(...data.notes.map((note) => element("p", { class: "note" }, note)));
  const half = Math.ceil(data.scalars.length / 2);
  const columns = [data.scalars.slice(0, half), data.scalars.slice(half)].map((part) =>
    element("table", { class: "wide" }, element("caption", {}, "Figures of the whole test set"),
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Figure"),
        element("th", { scope: "col" }, "Value"), element("th", { scope: "col" }, "95 % interval"),
        data.decided ? element("th", { scope: "col" }, "Raw, before the decision") : null)),
      element("tbody", {}, ...part.map((scalar) => element("tr", {}, element("th", { scope: "row" }, scalar.label),
        element("td", {}, figure(scalar.value)), element("td", {}, range(scalar.interval) || "–"),
        data.decided ? element("td", {}, figure(scalar.raw)) : null)))));
  at("scalars").append(element("div", { class: "columns" }, ...columns));
}

// A table whose headings sort it; its first column names the rows.
// columns: [heading, value of row i, text of a value, class, hint].
function sortableTable(caption, columns, count) {
  const body = element("tbody");
  let rows = [...Array(count).keys()];
  const show = () => body.replaceChildren(...rows.map((i) => element("tr", {}, ...columns.map(
    ([, value, text, kind, hint], column) => element(column ? "td" : "th",
      { scope: column ? null : "row", class: kind, title: hint?.(i) }, text(value(i)))))));
  const headings = columns.map(([name, value, , kind]) => {
    const heading = element("th", { scope: "col", class: kind, "aria-sort": "none" });
    heading.append(element("button", { type: "button", onclick: () => {
      const falling = heading.getAttribute("aria-sort") === (kind ? "ascending" : "none");
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      rows.sort((i, j) => compare(value(i), value(j), falling));
      show();
    } }, name));
    return heading;
  });
  show();
  return element("table", { class: "wide" }, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...headings)), body);
}

// What is wider than the window is moved by the keyboard too.
const scrolling = (name, child) =>
  element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, child);

function compare(a, b, falling) {
  if (a === null || b === null) return (a === null) - (b === null); // undefined ones stay last
  const order = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
  return falling ? -order : order;
}

function drawClasses() {
  const per = data.perClass;
  const number = (name, key) => [name, (i) => per[key][i], (value) => figure(value), null,
    (i) => data.undefined[`${key}[${data.classes[i]}]`]];
  at("class-table").append(sortableTable("Classes", [
    ["Class", (i) => data.classes[i], (value) => value, "text name", (i) => data.classes[i]],
    ["Images", (i) => per.support[i], whole],
    number("Precision", "precision"), number("Recall", "recall"), number("F1", "f1"),
    number("Avg. precision", "average_precision"), number("ROC-AUC", "roc_auc"),
    ["Reading", (i) => per.reading[i], (value) => value, "text"],
  ], data.classes.length));
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

function layout(title, x, y, more = {}) {
  const axis = (name) => ({ title: { text: name }, gridcolor: colour("line"), zeroline: false, linecolor: colour("line") });
  return {
    title: { text: title, font: { size: 14 }, x: 0.01, xanchor: "left" }, showlegend: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
    margin: { l: 55, r: 12, t: 40, b: 48 },
    xaxis: { ...axis(x), ...more.x }, yaxis: { ...axis(y), ...more.y },
  };
}

function plot(id, draw) {
  const redraw = () => Plotly.react(at(id), ...draw(), config);
  plots.push(redraw);
  redraw();
  return redraw;
}

const line = (x, y, name, more = {}) =>
  ({ x, y, mode: "lines", name: plain(name), line: { color: colour("accent"), width: 2 }, ...more });
const square = { range: [-0.02, 1.02] };

// Counts of class c at step s of the slider, as Report counts them.
function countsAt(c, s) {
  const tp = data.slider.true[c][s], fp = data.slider.false[c][s];
  const positives = data.slider.true[c][0], negatives = data.slider.false[c][0];
  const share = (part, total) => (total ? part / total : null);
  return { tp, fp, fn: positives - tp, tn: negatives - fp, precision: share(tp, tp + fp),
    recall: share(tp, positives), fpr: share(fp, negatives),
    f1: share(2 * tp, positives + tp + fp) };
}

function drawOperating() {
  const choice = at("class-choice"), slider = at("threshold");
  choice.append(...data.classes.map((name, c) => element("option", { value: c }, name)));
  if (data.classes.length === 2) choice.value = 1;
  slider.max = data.slider.steps;
  slider.value = data.slider.steps / 2;
  const now = () => countsAt(Number(choice.value), Number(slider.value));
  const point = (x, y) => ({ x: [x], y: [y], mode: "markers", name: "threshold",
    marker: { size: 12, color: colour("wrong"), line: { color: colour("paper"), width: 2 } } });
  const curve = (kind, x, y, name) => () => {
    const drawn = data.curves[choice.value][kind], [px, py] = [now()[x], now()[y]];
    const others = data.classes.length > 20 ? [] : data.classes.map((_, c) => c).filter((c) => String(c) !== choice.value);
    const traces = others.filter((c) => data.curves[c][kind]).map((c) => line(...data.curves[c][kind], data.classes[c],
      { line: { color: colour("faint"), width: 1 }, hoverinfo: "name" }));
    if (drawn) traces.push(line(drawn[0], drawn[1], name));
    if (px !== null && py !== null) traces.push(point(px, py));
    return traces;
  };
  const pr = curve("pr", "recall", "precision", "precision and recall");
  const roc = curve("roc", "fpr", "recall", "ROC");
  const axes = { x: square, y: square };
  const redraws = [
    plot("pr-plot", () => [pr(), layout("Precision and recall", "Recall", "Precision", axes)]),
    plot("roc-plot", () => [roc(), layout("ROC", "False positive rate", "True positive rate", axes)]),
  ];
  const update = () => {
    const c = now();
    at("threshold-value").textContent = (slider.value / data.slider.steps).toFixed(3);
    slider.setAttribute("aria-valuetext", at("threshold-value").textContent);
    const shown = [["Found", "tp", whole], ["Missed", "fn", whole], ["Wrongly given", "fp", whole],
      ["Rightly left out", "tn", whole], ["Precision", "precision", figure], ["Recall", "recall", figure],
      ["F1", "f1", figure]];
    at("operating-counts").replaceChildren(element("dl", { class: "outcomes" }, ...shown.map(
      ([name, key, text]) => element("div", {}, element("dt", {}, name),
        element("dd", { "data-count": key }, text(c[key]))))));
    redraws.forEach((redraw) => redraw());
  };
  slider.addEventListener("input", update);
  choice.addEventListener("change", update);
  update();
}

function picture(row) {
  const [name, truth, given, probability] = data.listed[row], source = data.images[row];
  const label = `${name}: is ${truth}, taken for ${given}`;
  return element("figure", { "data-row": row },
    source ? element("div", { class: "picture" }, element("img", { src: source, alt: label, title: name }),
      data.maps[row] ? element("img", { class: "map", src: data.maps[row], alt: "" }) : null) : null,
    element("figcaption", {}, element("span", {}, truth), " → ",
      element("span", { class: truth === given ? "" : "given" }, given), ` ${percent(probability)}`,
      element("br"), element("span", { class: "file" }, name)));
}

// The same switch stands above each gallery, and all of them turn together.
function drawSwitches() {
  const switches = [...document.querySelectorAll(".maps-switch")];
  for (const label of switches) {
    label.hidden = !Object.keys(data.maps).length;
    label.firstElementChild.addEventListener("change", (event) => {
      document.body.classList.toggle("with-maps", event.target.checked);
      switches.forEach((other) => { other.firstElementChild.checked = event.target.checked; });
    });
  }
}

const gallery = (rows) => element("div", { class: "images" }, ...rows.map(picture));

function drawGrid() {
  const { shown, columns, counts } = data.grid, table = at("grid");
  const meaning = (r, c) => data.multiLabel ? `${data.classes[shown[r]]}: ${columns[c]}`
    : r === c ? `${data.classes[shown[r]]}, recognised` : `${data.classes[shown[r]]} taken for ${columns[c]}`;
  const open = (r, c, button) => {
    table.querySelector("[aria-pressed=true]")?.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", "true");
    const rows = data.cells[`${r},${c}`], total = counts[r][c];
    const more = total > rows.length ? `, the ${rows.length} of the highest loss` : "";
    at("cell-images").hidden = false;
    at("cell-title").textContent = `${meaning(r, c)}: ${whole(total)} ${total === 1 ? "image" : "images"}${more}`;
    at("cell-gallery").replaceChildren(gallery(rows));
  };
  const cell = (r, c) => {
    const count = counts[r][c], total = data.perClass.support[shown[r]];
    if (!count) return element("td", {}, "·");
    const right = data.multiLabel ? c === 0 : r === c, depth = 0.1 + 0.5 * Math.sqrt(Math.min(1, count / Math.max(total, 1)));
    const button = element("button", { type: "button", tabindex: "-1", "aria-pressed": "false",
      "data-cell": `${r},${c}`, "aria-label": `${meaning(r, c)}: ${count}`, title: `${meaning(r, c)}: ${count}`,
      style: `background: rgba(var(--${right ? "accent" : "wrong"}-rgb), ${depth.toFixed(3)})`,
      onclick: () => open(r, c, button) }, String(count));
    return element("td", {}, button);
  };
  table.classList.toggle("slanted", !data.multiLabel && (columns.length > 8 || columns.some((name) => name.length > 9)));
  table.classList.toggle("dense", columns.length > 20);
  table.append(element("caption", {}, "Confusion matrix"),
    element("thead", {}, element("tr", {}, element("td"), ...columns.map((name) =>
      element("th", { scope: "col", title: name }, element("span", {}, name))))),
    element("tbody", {}, ...counts.map((row, r) => element("tr", {},
      element("th", { scope: "row", title: data.classes[shown[r]] }, data.classes[shown[r]]),
      ...row.map((_, c) => cell(r, c))))));
  const errors = (button) => { // of errors, by number
    const [r, c] = button.dataset.cell.split(",").map(Number);
    return c === (data.multiLabel ? 0 : r) ? 0 : counts[r][c];
  };
  const buttons = [...table.querySelectorAll("button")];
  const first = buttons.reduce((best, button) => (errors(button) > errors(best) ? button : best), buttons[0]);
  first?.setAttribute("tabindex", "0");
  first?.click();
  table.addEventListener("keydown", moveInGrid);
  const part = shown.length < data.classes.length ? ` Shown are the ${shown.length} classes with the most errors; report.json holds all.` : "";
  at("grid-note").textContent = (data.multiLabel ? "Rows are classes." : "Rows are true classes, columns those given.")
    + " Choose a cell to see its images; arrow keys move between cells." + part;
  if (!data.confused.length) return;
  at("pairs").append(element("h3", {}, "Most confused"), scrolling("Most confused", sortableTable("Most confused", [
    ["True class", (i) => data.confused[i].true, (value) => value, "text name"],
    ["Taken for", (i) => data.confused[i].predicted, (value) => value, "text name"],
    ["Images", (i) => data.confused[i].count, whole],
    ["Share of the class", (i) => data.confused[i].share, percent],
  ], data.confused.length)));
}

function moveInGrid(event) {
  const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
  if (!step || !event.target.dataset.cell) return;
  event.preventDefault();
  let [r, c] = event.target.dataset.cell.split(",").map(Number);
  let next = null;
  while (!next && data.grid.counts[r += step[0]]?.[c += step[1]] !== undefined) {
    next = event.currentTarget.querySelector(`[data-cell="${r},${c}"]`);
  }
  if (!next) return;
  event.target.setAttribute("tabindex", "-1");
  next.setAttribute("tabindex", "0");
  next.focus();
}

function drawConfidence() {
  const bins = data.reliability, cover = data.coverage;
  plot("reliability-plot", () => [[
    line([0, 1], [0, 1], "perfect", { line: { color: colour("quiet"), width: 1, dash: "dot" }, hoverinfo: "skip" }),
    line(bins.confidence, bins.accuracy, "bins", { mode: "lines+markers", marker: { size: 7 }, connectgaps: true,
      text: bins.count.map((count) => whole(count) + " decisions"), hovertemplate: "%{x:.3f} stated, %{y:.3f} true<br>%{text}<extra></extra>" }),
  ], layout("Reliability", "Stated probability", "Share that is true", { x: square, y: square })]);
  plot("coverage-plot", () => [[
    line(cover.coverage, cover.accuracy, "coverage", { text: cover.threshold.map((value) => figure(value)),
      hovertemplate: "%{x:.1%} answered, %{y:.3f} right<br>from confidence %{text}<extra></extra>" }),
  ], layout("Answering only when sure", "Share answered", "Share right", { x: square, y: { rangemode: "normal" } })]);
  at("coverage-note").textContent = `Averaged over all shares answered, ${figure(cover.area)} is right.`;
}

function drawWorst() {
  at("thumbnail-note").textContent = data.thumbnailNote;
  at("gallery").append(data.worst.length ? gallery(data.worst) : element("p", {}, "No errors."));
}

function drawCosts() {
  if (!data.costs) return;
  const rows = data.costs.rows, kind = (row) => row.format + (row.quantize ? " " + row.quantize : "");
  const speed = (row, threads, size) => row.speeds.find((one) => one.threads === threads && one.batch_size === size);
  const sizes = [...new Set(rows[0].speeds.map((one) => one.batch_size))];
  const bars = (threads, name, shade) => ({ type: "bar", orientation: "h", name, marker: { color: colour(shade) },
    y: rows.map((row) => plain(row.name)), x: rows.map((row) => speed(row, threads, 1).median_ms),
    hovertemplate: "%{x:.1f} ms<extra>" + name + "</extra>" });
  at("costs-plot").style.height = `${130 + 50 * rows.length}px`; // so that bars of many files stay apart
  plot("costs-plot", () => [[bars(1, "one thread", "accent"), bars(0, "all threads", "series2")], {
    ...layout("One image", "Milliseconds", "", { y: { automargin: true, autorange: "reversed", title: {} }, x: { rangemode: "tozero" } }),
    barmode: "group", showlegend: true, legend: { orientation: "h", x: 1, xanchor: "right", y: 1.02, yanchor: "bottom" } }]);
  const times = [1, 0].flatMap((threads) => sizes.map((size) => [`ms: ${threads ? "1 thread" : "all"}, ${size}`,
    (i) => speed(rows[i], threads, size).median_ms, (value) => figure(value, 1), null,
    (i) => `95 % stay below ${figure(speed(rows[i], threads, size).p95_ms, 1)} ms`]));
  const scores = data.costs.images ? [["Accuracy", "accuracy"], ["Macro F1", "f1_macro"], ["Log loss", "log_loss"]] : [];
  at("costs-table").append(scrolling("Costs", sortableTable("Costs", [
    ["File", (i) => rows[i].name, (value) => value, "text name"], ["Format", (i) => kind(rows[i]), (value) => value, "text"],
    ["MB", (i) => rows[i].size / 1e6, (value) => figure(value, 1)], ["Start, s", (i) => rows[i].start_s, (value) => figure(value, 2)],
    ["MB held", (i) => rows[i].memory / 1e6, (value) => figure(value, 0)], ...times,
    ...scores.map(([name, key]) => [name, (i) => rows[i][key], (value) => figure(value, 4)]),
  ], rows.length)));
  at("costs-note").textContent = `Milliseconds an image without decoding, median of the passes, by threads and images at once, `
    + `on ${data.costs.cores} cores; the start is that of a whole process until its first answer.`
    + (data.costs.images ? ` Scores are of the same ${whole(data.costs.images)} images.` : "");
}

const asText = (value) => (value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));

function drawRun() {
  if (!data.run) return;
  const history = data.run.history ?? {}, names = Object.keys(history).filter((name) => Array.isArray(history[name]));
  const drawn = names.filter((name) => !(name.startsWith("val_") && names.includes(name.slice(4))));
  at("history").append(...drawn.map((_, i) => element("div", { class: "plot", id: "history-" + i })));
  drawn.forEach((name, i) => {
    const epochs = history[name].map((_, epoch) => epoch + 1);
    plot("history-" + i, () => {
      const traces = [line(epochs, history[name], "training")];
      if (history["val_" + name]) traces.push(line(epochs, history["val_" + name], "validation", { line: { color: colour("series2"), width: 2 } }));
      const legend = { orientation: "h", x: 1, xanchor: "right", y: 1.02, yanchor: "bottom" };
      return [traces, { ...layout(plain(name), "Epoch", ""), showlegend: traces.length > 1, legend }];
    });
  });
  const stages = data.run.stages ?? [], keys = [...new Set(stages.flatMap((stage) => Object.keys(stage)))];
  if (stages.length) at("stages").append(element("h3", {}, "Stages"), scrolling("Stages", sortableTable(
    "Stages", keys.map((key) => [key, (i) => stages[i][key] ?? null, asText, "text"]), stages.length)));
  const settings = Object.entries(data.run.settings ?? {});
  if (settings.length) at("settings").append(element("h3", {}, "Settings"), scrolling("Settings",
    element("table", {}, element("caption", {}, "Settings"), element("tbody", {}, ...settings.map(([key, value]) => element("tr", {},
      element("th", { scope: "row", class: "key" }, key), element("td", { class: "text" }, asText(value))))))));
}

at("run").hidden = !data.run;
at("costs").hidden = !data.costs;
[drawSummary, drawClasses, drawOperating, drawGrid, drawConfidence, drawWorst, drawSwitches, drawCosts, drawRun].forEach((draw) => draw());
const redraw = () => plots.forEach((draw) => draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
// Paper is white and narrow: print in the light colours at its size, whatever the screen shows.
function dressFor(printing) {
  document.documentElement.classList.toggle("printing", printing);
  redraw();
  document.querySelectorAll(".js-plotly-plot").forEach((node) => Plotly.relayout(node, { autosize: true }));
}
addEventListener("beforeprint", () => dressFor(true));
addEventListener("afterprint", () => dressFor(false));
