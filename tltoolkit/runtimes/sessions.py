"""The runtimes: from the content of an exported file to its card and what computes it.

Each reads content that is in memory already, so that what was checked is what is run.
"""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.augment.threads import cores
from tltoolkit.runtimes.card import KEY
from tltoolkit.runtimes.exported import Compute

# The text of a card and what computes it.
Opened = tuple[str | bytes | None, Compute]


def onnx(content: bytes, threads: int | None = None) -> Opened:
    """An ONNX file's, by ONNX Runtime.

    Args:
        content: Of the file.
        threads: To compute with; None takes all cores.
    """
    with _checks.extra("a .onnx file is read by onnxruntime", "onnx"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    # Errors alone: it warns of what it optimised.
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    card = session.get_modelmeta().custom_metadata_map.get(KEY)
    return card, lambda images: [np.asarray(one) for one in session.run(None, {name: images})]


def litert(content: bytes, threads: int | None = None) -> Opened:
    """A .tflite file's, by LiteRT; arguments as those of `onnx`."""
    with _checks.extra("a .tflite file is read by ai-edge-litert", "litert"):
        from ai_edge_litert import interpreter, schema_py_generated

    model = schema_py_generated.Model.GetRootAs(content)
    entries = (model.Metadata(i) for i in range(model.MetadataLength()))
    places = [one.Buffer() for one in entries if one.Name() == KEY.encode()]
    card = model.Buffers(places[0]).DataAsNumpy().tobytes() if places else None
    # Left to itself it takes one core.
    made = interpreter.Interpreter(model_content=content, num_threads=threads or cores())
    return card, _interpreted(made)


def _interpreted(made: Any) -> Compute:
    taken = made.get_input_details()[0]["index"]
    # In the order of the graph's outputs, which that of their names need not be.
    given = [one["index"] for one in made.get_output_details()]
    # It holds one batch at a time.
    lock = threading.Lock()
    shape: list[tuple[int, ...]] = []

    def compute(images: np.ndarray) -> list[np.ndarray]:
        with lock:
            if shape != [images.shape]:
                made.resize_tensor_input(taken, images.shape)
                made.allocate_tensors()
                shape[:] = [images.shape]
            made.set_tensor(taken, images)
            made.invoke()
            return [np.asarray(made.get_tensor(one)) for one in given]

    return compute


def openvino(content: bytes, weights: bytes, threads: int | None = None) -> Opened:
    """An OpenVINO .xml file's with its .bin, by OpenVINO; arguments as those of `onnx`."""
    with _checks.extra("an OpenVINO .xml file is read by openvino", "openvino"):
        import openvino as ov

    core = ov.Core()
    model = core.read_model(model=content, weights=weights)
    # Otherwise it computes in bfloat16 where the processor can, which is off by up to 0.1.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    compiled = core.compile_model(model, "CPU", settings)
    card = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
    return card, lambda images: list(map(np.asarray, compiled(images).to_tuple()))


def saved_model(folder: Path) -> Compute:
    """What computes a SavedModel, by TensorFlow."""
    import tensorflow as tf

    # What is kept by a name that lives as long as the function: its variables go with it.
    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]

    def compute(images: np.ndarray, _loaded: Any = loaded) -> list[np.ndarray]:
        values = serve(**{name: tf.constant(images)})
        # Keras numbers them: output_0, output_1.
        return [np.asarray(values[key]) for key in sorted(values)]

    return compute
