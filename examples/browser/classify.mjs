// What lies between a photograph and a .onnx file of `tltoolkit export`, and between its numbers
// and an answer: the same as `tltoolkit predict` does.

const CARD = "tltoolkit"; // the entry of the file's metadata
const METADATA = 14; // of ONNX' ModelProto: pairs of a key (1) and a value (2)
const LONGEST = 4096; // pixels: longer sides are shrunk before an image is padded
const LABEL = 0.5; // from here on a label is given, where an image may have several

/** What a file says of its classifier: class_names, image_size, preparation, decision. */
export function cardOf(bytes) {
  for (const [field, entry] of fields(bytes)) {
    if (field !== METADATA) continue;
    const pair = Object.fromEntries([...fields(entry)].map(([n, text]) => [n, new TextDecoder().decode(text)]));
    if (pair[1] === CARD) return understood(JSON.parse(pair[2]));
  }
  throw new Error("The file was not written by tltoolkit export.");
}

function understood(card) {
  // In Python they are OpenCV's and albumentations'.
  if (card.preparation?.normalise?.length) throw new Error("This page cannot normalise images as the classifier asks.");
  return card;
}

/** The fields of a Protocol Buffers message that hold bytes, as [number, bytes]. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    // By products, as shifts would cut it to 32 bits.
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      if (byte === undefined) throw new Error("The file is cut off.");
    }
  };
  while (at < bytes.length) {
    const tag = varint(), kind = tag % 8;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const size = varint();
      yield [Math.floor(tag / 8), bytes.subarray(at, at + size)];
      at += size;
    } else throw new Error("The file is no ONNX model.");
  }
}

/** Upright pixels { width, height, data: RGB, 3 numbers each } of an image file. */
export async function pixelsOf(file) {
  const image = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // where an image is transparent
  context.fillRect(0, 0, image.width, image.height);
  context.drawImage(image, 0, 0);
  const rgba = context.getImageData(0, 0, image.width, image.height).data;
  const data = new Float32Array(image.width * image.height * 3);
  for (let i = 0, j = 0; i < rgba.length; i += 4) for (let c = 0; c < 3; c++) data[j++] = rgba[i + c];
  return { width: image.width, height: image.height, data };
}

/** Pixels as the model takes them: a square of `size`, by the card's `fit`. */
export function prepared(image, size, fit = "squash") {
  if (fit === "crop") {
    const side = Math.min(image.width, image.height);
    image = placed(image, side, -Math.floor((image.width - side) / 2), -Math.floor((image.height - side) / 2));
  } else if (fit === "pad") {
    const factor = LONGEST / Math.max(image.width, image.height);
    if (factor < 1) image = scaled(image, ...[image.width, image.height].map((n) => Math.max(1, Math.round(n * factor))));
    const side = Math.max(image.width, image.height);
    image = placed(image, side, Math.floor((side - image.width) / 2), Math.floor((side - image.height) / 2));
  }
  return scaled(image, size, size);
}

/** A black square of `side` with the image in it, its corner at (left, top), which may be negative. */
function placed(image, side, left, top) {
  const data = new Float32Array(side * side * 3);
  const from = Math.max(0, -left), to = Math.min(image.width, side - left);
  for (let y = Math.max(0, -top); y < Math.min(image.height, side - top); y++) {
    const row = image.data.subarray((y * image.width + from) * 3, (y * image.width + to) * 3);
    data.set(row, ((y + top) * side + from + left) * 3);
  }
  return { width: side, height: side, data };
}

/** Sides that shrink are averaged over areas, sides that grow are interpolated linearly. */
export function scaled(image, width, height) {
  const small = { width: Math.min(width, image.width), height: Math.min(height, image.height) };
  const shrunk = rounded(along(along(image, small.width, areas), small.height, areas, true));
  return rounded(along(along(shrunk, width, lines), height, lines, true));
}

const rounded = (image) => ({ ...image, data: image.data.map(Math.round) });

/** For each new place the old places that it is made of, with their shares. */
function areas(from, to) {
  const factor = from / to;
  return Array.from({ length: to }, (_, i) => {
    const parts = [], low = i * factor, high = low + factor;
    for (let j = Math.floor(low); j < Math.min(from, high); j++) {
      const share = (Math.min(j + 1, high) - Math.max(j, low)) / factor;
      if (share > 1e-6) parts.push([j, share]);
    }
    return parts;
  });
}

function lines(from, to) {
  return Array.from({ length: to }, (_, i) => {
    const place = Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1), j = Math.floor(place);
    return j + 1 < from ? [[j, j + 1 - place], [j + 1, place - j]] : [[j, 1]];
  });
}

function along(image, length, weights, vertical = false) {
  const old = vertical ? image.height : image.width;
  if (length === old) return image;
  const width = vertical ? image.width : length, height = vertical ? length : image.height;
  const data = new Float32Array(width * height * 3), steps = vertical ? image.width * 3 : 3;
  weights(old, length).forEach((parts, i) => {
    for (let k = 0; k < (vertical ? width : height); k++) {
      const to = vertical ? (i * width + k) * 3 : (k * width + i) * 3;
      const start = vertical ? k * 3 : k * image.width * 3;
      for (const [j, share] of parts) for (let c = 0; c < 3; c++) data[to + c] += share * image.data[start + j * steps + c];
    }
  });
  return { width, height, data };
}

/** What probabilities mean: { label, probability, probabilities, abstained }. */
export function decided(raw, card) {
  const { temperature, thresholds, abstention, multi_label: several } = card.decision;
  const probabilities = temperature ? tempered(raw, temperature.value, several) : [...raw];
  const values = thresholds?.values ?? probabilities.map(() => (several ? LABEL : 1));
  let label, sure;
  if (several) {
    const given = probabilities.map((p, c) => p >= values[c]);
    label = card.class_names.filter((_, c) => given[c]);
    sure = Math.min(...probabilities.map((p, c) => (given[c] ? p : 1 - p)));
  } else {
    // Of two classes the second one is given from its threshold on; of more, whichever exceeds its own most.
    const over = probabilities.map((p, c) => p / Math.max(values[c], Number.MIN_VALUE));
    const best = thresholds && over.length === 2 ? Number(probabilities[1] >= values[1]) : over.indexOf(Math.max(...over));
    label = card.class_names[best];
    sure = probabilities[best];
  }
  return { label, probability: sure, probabilities, abstained: abstention ? sure < abstention.threshold : false };
}

function tempered(raw, heat, several) {
  const smallest = 1.1754943508222875e-38; // of float32: a 0 has no logarithm
  const log = (p) => Math.log(Math.max(p, smallest));
  if (several) return Array.from(raw, (p) => 1 / (1 + Math.exp((log(1 - p) - log(p)) / heat)));
  const logits = Array.from(raw, (p) => log(p) / heat), most = Math.max(...logits);
  const powers = logits.map((l) => Math.exp(l - most)), sum = powers.reduce((a, b) => a + b);
  return powers.map((p) => p / sum);
}
