// A .onnx file of `tltoolkit export` on a static page, computed by onnxruntime-web.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { cardOf, decided, pixelsOf, prepared } from "./classify.mjs";

const MODEL = "model.onnx";
const SHOWN = 5; // classes of an answer
const at = (id) => document.getElementById(id);
const percent = (value) => (value * 100).toFixed(1) + "\u00a0%";
// More threads need a page that its server isolates from others (COOP and COEP headers).
ort.env.wasm.numThreads = 1;

async function loaded() {
  const response = await fetch(MODEL, { cache: "no-cache" }); // asked whether it is still the same
  if (!response.ok) throw new Error(`${MODEL} is not beside this page (status ${response.status}).`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  return { card: cardOf(bytes), session: await ort.InferenceSession.create(bytes) };
}

export async function answer({ card, session }, file) {
  const size = card.image_size;
  const { data } = prepared(await pixelsOf(file), size, card.preparation?.fit ?? "squash");
  const pixels = new ort.Tensor("float32", data, [1, size, size, 3]);
  const said = await session.run({ [session.inputNames[0]]: pixels });
  return decided(said[session.outputNames[0]].data, card);
}

function element(tag, attributes, ...children) {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
}

function told(file, found, names) {
  const label = [].concat(found.label).join(", ") || "none of the classes";
  const best = names.map((name, c) => [name, found.probabilities[c]]).sort((a, b) => b[1] - a[1]);
  const bars = best.slice(0, SHOWN).map(([name, value]) =>
    element("p", {}, element("progress", { value, max: 1, ariaLabel: name }), ` ${name} ${percent(value)}`));
  const picture = element("img", { src: URL.createObjectURL(file), alt: file.name });
  const head = found.abstained ? `Not sure: perhaps ${label}` : label;
  return element("article", {}, picture, element("div", {}, element("h2", {}, head), ...bars));
}

async function ask(model, files) {
  const rows = [];
  for (const file of files) {
    const began = performance.now();
    at("status").textContent = `Looking at ${file.name} …`;
    try {
      rows.push(told(file, await answer(model, file), model.card.class_names));
      at("status").textContent = `Done, the last one in ${Math.round(performance.now() - began)} ms.`;
    } catch (error) {
      rows.push(element("article", {}, element("h2", {}, "Not read"), element("p", {}, `${file.name}: ${error.message}`)));
      at("status").textContent = `${file.name} could not be read.`;
    }
    at("answers").replaceChildren(...rows);
  }
}

try {
  const model = await loaded();
  at("choose").addEventListener("change", (event) => ask(model, [...event.target.files]));
  at("choose").disabled = false;
  at("status").textContent = `It knows ${model.card.class_names.length} classes.`;
} catch (error) {
  at("status").textContent = `The model could not be loaded: ${error.message}`;
}
