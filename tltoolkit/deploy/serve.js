"use strict";
// Names come from outside: they enter the page as text nodes only.
const at = (id) => document.getElementById(id);
const percent = (value) => (value * 100).toFixed(1) + "\u00a0%";
const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
const SHOWN = 8; // classes of an answer: the rest is hardly ever worth a look
let asked = 0; // so that an answer that comes late does not replace a later one
let shown = []; // addresses of the images on the page

function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function bar(value) {
  const inner = element("div", {});
  inner.style.width = value * 100 + "%";
  return element("div", { class: "bar" }, inner);
}

function bars(probabilities) {
  const rows = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  const table = element("table", {}, element("caption", {}, "Probabilities"),
    element("tbody", {}, ...rows.slice(0, SHOWN).map(([name, value]) => element("tr", {},
      element("th", { scope: "row", title: name }, name), element("td", {}, bar(value)), element("td", {}, percent(value))))));
  const more = rows.length - SHOWN;
  return more > 0 ? [table, element("p", { class: "quiet" }, `and ${more} less probable`)] : [table];
}

function told(row) {
  if (row.error !== undefined) {
    return [element("h2", { class: "unsure" }, "Not read"), element("p", {}, row.error)];
  }
  const names = Array.isArray(row.label) ? row.label.join(", ") || "none of the classes" : row.label;
  const head = row.abstained
    ? [element("h2", { class: "unsure" }, "Not sure"), element("p", {}, `Perhaps ${names}, ${percent(row.probability)}`)]
    : [element("h2", {}, names), element("p", {}, percent(row.probability))];
  return [...head, ...bars(row.probabilities)];
}

function picture(image) {
  const address = URL.createObjectURL(image);
  shown.push(address);
  const node = element("img", { src: address, alt: image.name });
  // Some kinds are read by the server and not by every browser.
  node.addEventListener("error", () => node.replaceWith(image.name));
  return node;
}

function show(images, rows) {
  shown.forEach((address) => URL.revokeObjectURL(address));
  shown = [];
  at("answers").replaceChildren(...rows.map((row, i) =>
    element("article", {}, element("div", {}, picture(images[i])), element("div", {}, ...told(row)))));
  const only = rows.length === 1 ? rows[0] : {};
  const label = only.error ?? (only.abstained ? "not sure" : [].concat(only.label ?? []).join(", "));
  at("status").textContent = `${counted(rows.length, "image")} answered${label ? ": " + label : ""}.`;
}

async function answer(images) {
  const form = new FormData();
  images.forEach((image) => form.append("image", image, image.name));
  const response = await fetch("predict", { method: "POST", body: form }).catch(() => {
    throw new Error("The server cannot be reached.");
  });
  const said = await response.json().catch(() => ({}));
  if (!said.predictions) throw new Error(`Refused: ${said.detail ?? "status " + response.status}.`);
  return said.predictions;
}

async function ask(files) {
  const images = [...files], turn = ++asked;
  if (!images.length) return;
  at("status").textContent = `Asking about ${counted(images.length, "image")} \u2026`;
  try {
    const rows = await answer(images);
    if (turn === asked) show(images, rows);
  } catch (error) {
    if (turn === asked) at("status").textContent = error.message;
  }
}

for (const id of ["choose", "photo"]) {
  at(id).addEventListener("change", async (event) => {
    await ask(event.target.files);
    event.target.value = ""; // so that the same file can be asked about again
  });
}
// Anywhere: a miss would otherwise make the browser leave the page for the image.
addEventListener("dragover", (event) => { event.preventDefault(); at("ask").classList.add("over"); });
addEventListener("dragleave", () => at("ask").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  at("ask").classList.remove("over");
  ask(event.dataTransfer.files);
});
addEventListener("paste", (event) => ask(event.clipboardData.files));
