"""A classifier of red, green and blue without a network to train, in memory and as a file."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from PIL import Image

from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.evaluation import Abstention, Decision
from tltoolkit.runtimes import seal
from tltoolkit.runtimes.card import KEY, Card
from tltoolkit.runtimes.exported import Exported

NAMES = ("red", "green", "blå <b>&amp;")
SIZE = 16
# An even grey is none of the three.
UNSURE = Decision(abstention=Abstention(threshold=0.5, coverage=1.0, accuracy=1.0))


def said(images: np.ndarray) -> np.ndarray:
    """Softmax of the mean of each colour, (B, 3)."""
    values = np.exp(images.mean(axis=(1, 2)) / 32)
    return values / values.sum(axis=1, keepdims=True)


def predictor(
    compute: Callable[[np.ndarray], np.ndarray] = said, decision: Decision = UNSURE
) -> Predictor:
    card = Card(class_names=NAMES, decision=decision, image_size=SIZE)
    made = Exported(path=Path("memory"), settings=card, compute=lambda x: [compute(x)])
    return Predictor(model=made, class_names=NAMES, decision=decision)


def write(path: Path) -> Path:
    """The same as a .onnx file, as tl.export would have written it."""
    shapes = [["batch", SIZE, SIZE, 3], ["batch", 3]]
    kinds = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in zip(("pixels", "probabilities"), shapes, strict=True)
    ]
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["mean", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    scale = numpy_helper.from_array(np.float32(32), "scale")
    graph = helper.make_graph(nodes, "colours", kinds[:1], kinds[1:], [scale])
    model: Any = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    card = Card(class_names=NAMES, decision=UNSURE, image_size=SIZE)
    helper.set_model_props(model, {KEY: card.to_text()})
    path.write_bytes(seal.sealed(model.SerializeToString()))
    return path


def file(colour: Any, kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    """An image file of one colour, with some noise."""
    noise = np.random.default_rng(0).integers(-9, 9, (*size, 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()
