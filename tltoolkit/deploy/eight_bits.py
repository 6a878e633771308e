"""Numbers of eight bits that answer more like the floats that they stand for.

The converter takes for each tensor the range of all numbers that it saw: the more images, the
further its few largest lie out, and the coarser all others become. And what is rounded in one
layer is off in the mean, which later layers add up. Here ranges lose the outliers again, and each
bias the mean error of its layer (Nagel et al. 2019, "Data-free quantization", in its empirical
form), operation after operation, each on what those before it give now.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import interpreter
from ai_edge_litert import schema_py_generated as schema

from tltoolkit.augment.threads import cores

# Images that ranges and means are taken of, and those that judge: twice as many changed no figure
# by more than chance.
IMAGES, JUDGES = 64, 100
# Share of a tensor's numbers that may lie beyond its range, at either end.
OUTLIERS = 1e-5
LOWEST, HIGHEST, LEVELS = -128, 127, 256
_BY_NUMBER = {number: name for name, number in vars(schema.BuiltinOperator).items()}
# Operations with a bias; its unit is that of the input times that of the weights.
BIASED = frozenset(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"))
# Those whose result may have any range. Others, such as PAD, hand on the range of what they take.
FREE = BIASED | {"ADD", "SUB", "MUL", "MEAN"}
_FIXED = frozenset(("QUANTIZE", "DEQUANTIZE"))
Arrays = dict[int, list[np.ndarray]]


def refined(content: bytes, floats: bytes, images: np.ndarray) -> bytes:
    """A .tflite file of eight bits with narrower ranges and corrected biases.

    Args:
        content: The file as it was converted.
        floats: The same model in float32.
        images: (N, S, S, 3), of which at most `IMAGES` are taken, or two thirds of few. Others say
            whether the result is nearer to the floats; where it is not, `content` comes back.
    """
    made = opened(content)
    if len(made.subgraphs) != 1:  # control flow: operations are not in one order
        return content
    taken = min(IMAGES, 2 * len(images) // 3)
    few, others = images[:taken], images[taken : taken + JUDGES]
    _Refining(made, _means(floats, few)).run(few)
    better = packed(made)
    said = [_outputs(one, others) for one in (floats, content, better)]
    errors = [float(np.abs(one - said[0]).mean()) for one in said[1:]]
    return better if errors[1] < errors[0] else content


def opened(content: bytes) -> Any:
    """A .tflite file as objects that can be changed."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))


def packed(made: Any) -> bytes:
    """The inverse of `opened`."""
    builder = flatbuffers.Builder()
    # What every .tflite file has behind its first four bytes.
    builder.Finish(made.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _Refining:
    """Operations of a model, one after the other, on images that went through those before."""

    def __init__(self, made: Any, means: Mapping[bytes, np.ndarray]) -> None:
        self.made, self.graph, self.means = made, made.subgraphs[0], means
        # How much finer the unit of a tensor has become.
        self.finer: dict[int, float] = {}
        names = [self._name(one) for one in self.graph.operators]
        self.tied = {
            int(tensor)
            for name, one in zip(names, self.graph.operators, strict=True)
            if name not in FREE | _FIXED
            for tensor in (*one.inputs, *one.outputs)
        }

    def run(self, images: np.ndarray) -> None:
        (first,) = self.graph.inputs
        values: Arrays = {int(first): [image[None].astype(np.float32) for image in images]}
        last = {int(t): i for i, one in enumerate(self.graph.operators) for t in one.inputs}
        for i, one in enumerate(self.graph.operators):
            values |= self._operation(one, values)
            # Kept as long as an operation to come takes them.
            for tensor in [t for t in values if last.get(t, -1) <= i]:
                del values[tensor]

    def _operation(self, one: Any, values: Arrays) -> Arrays:
        name = self._name(one)
        if name in BIASED and (finer := self.finer.get(int(one.inputs[0]))):
            self._in_units(one, finer)
        found = self._computed(one, values)
        if name not in FREE or len(one.outputs) != 1:
            return found
        (out,) = map(int, one.outputs)
        if out not in self.tied and self._narrowed(out, found[out]):
            found = self._computed(one, values)
        if name in BIASED and self._corrected(one, found[out]):
            found = self._computed(one, values)
        return found

    def _computed(self, one: Any, values: Arrays) -> Arrays:
        """What an operation makes of each image."""
        taken = [int(t) for t in one.inputs if int(t) in values]
        outputs = [int(t) for t in one.outputs]
        before = self.graph.inputs, self.graph.outputs, self.graph.operators
        signatures, self.made.signatureDefs = self.made.signatureDefs, None
        self.graph.inputs, self.graph.outputs, self.graph.operators = taken, outputs, [one]
        compute = _interpreted(packed(self.made))
        self.graph.inputs, self.graph.outputs, self.graph.operators = before
        self.made.signatureDefs = signatures
        rows = zip(*(values[t] for t in taken), strict=True)
        made = [compute(row) for row in rows]
        return {tensor: [row[k] for row in made] for k, tensor in enumerate(outputs)}

    def _narrowed(self, tensor: int, values: list[np.ndarray]) -> bool:
        """Let a range lose its outliers; whether that makes it narrower."""
        known = self.graph.tensors[tensor]
        if known.type != schema.TensorType.INT8:
            return False
        unit, zero = float(known.quantization.scale[0]), int(known.quantization.zeroPoint[0])
        counts = sum(
            np.bincount(one.ravel().astype(np.int16) - LOWEST, minlength=LEVELS) for one in values
        )
        below = np.cumsum(counts) / np.sum(counts)
        low = LOWEST + int(np.searchsorted(below, OUTLIERS))
        high = LOWEST + int(np.searchsorted(below, 1 - OUTLIERS))
        # What was rectified begins at 0, and every range holds it.
        low = LOWEST if zero == LOWEST else min(low, zero)
        high = min(max(high, zero, low + 1), HIGHEST)
        finer = (HIGHEST - LOWEST) / (high - low)
        if finer <= 1:
            return False
        known.quantization.scale = np.array([unit / finer], np.float32)
        place = LOWEST + round((zero - low) * finer)
        known.quantization.zeroPoint = np.array([min(max(place, LOWEST), HIGHEST)], np.int64)
        self.finer[tensor] = finer
        return True

    def _corrected(self, one: Any, values: list[np.ndarray]) -> bool:
        """Take the mean error of a layer from its bias; whether it has one and it is known."""
        (out,) = map(int, one.outputs)
        known = self.graph.tensors[out]
        mean = self.means.get(known.name)
        if mean is None or not self._has_bias(one) or known.type != schema.TensorType.INT8:
            return False
        unit, zero = float(known.quantization.scale[0]), int(known.quantization.zeroPoint[0])
        error = unit * (_channel_mean(values) - zero) - mean
        bias = self.graph.tensors[one.inputs[2]]
        if error.shape != tuple(bias.shape):
            return False
        self._write(bias, self._read(bias) - error / np.asarray(bias.quantization.scale, float))
        return True

    def _in_units(self, one: Any, finer: float) -> None:
        """The bias in units that follow those of the input."""
        if self._has_bias(one):
            bias = self.graph.tensors[one.inputs[2]]
            self._write(bias, self._read(bias) * finer)
            units = np.asarray(bias.quantization.scale, float) / finer
            bias.quantization.scale = units.astype(np.float32)

    def _has_bias(self, one: Any) -> bool:
        return len(one.inputs) > 2 and one.inputs[2] >= 0

    def _read(self, bias: Any) -> np.ndarray:
        content = np.asarray(self.made.buffers[bias.buffer].data, np.uint8)
        return np.frombuffer(content.tobytes(), np.int32).astype(float)

    def _write(self, bias: Any, values: np.ndarray) -> None:
        limits = np.iinfo(np.int32)
        whole = np.clip(np.round(values), limits.min, limits.max).astype(np.int32)
        self.made.buffers[bias.buffer].data = np.frombuffer(whole.tobytes(), np.uint8)

    def _name(self, one: Any) -> str:
        return _BY_NUMBER[self.made.operatorCodes[one.opcodeIndex].builtinCode]


def _means(floats: bytes, images: np.ndarray) -> dict[bytes, np.ndarray]:
    """Name -> (channels,) mean of each tensor of a float model."""
    made = _interpreter(floats, experimental_preserve_all_tensors=True)
    made.allocate_tensors()
    (taken,) = made.get_input_details()
    graph = opened(floats).subgraphs[0]
    names = {int(t): graph.tensors[t].name for one in graph.operators for t in one.outputs}
    totals: dict[bytes, np.ndarray] = {}
    for image in images:
        made.set_tensor(taken["index"], image[None].astype(np.float32))
        made.invoke()
        for tensor, name in names.items():
            found = _channel_mean([made.get_tensor(tensor)])
            totals[name] = totals.get(name, 0) + found / len(images)
    return totals


def _outputs(content: bytes, images: np.ndarray) -> np.ndarray:
    # As whoever uses the file computes it.
    compute = _computing(interpreter.Interpreter(model_content=content, num_threads=cores()))
    return np.concatenate([compute([image[None].astype(np.float32)])[0] for image in images])


def _interpreted(content: bytes) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    return _computing(_interpreter(content))


def _computing(made: Any) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    made.allocate_tensors()
    taken, given = made.get_input_details(), made.get_output_details()

    def compute(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        for one, value in zip(taken, values, strict=True):
            made.set_tensor(one["index"], value)
        made.invoke()
        return [made.get_tensor(one["index"]) for one in given]

    return compute


def _interpreter(content: bytes, **options: Any) -> Any:
    # Without the delegate, which rounds otherwise now and then, and keeps no tensor.
    plain = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return interpreter.Interpreter(
        model_content=content, experimental_op_resolver_type=plain, **options
    )


def _channel_mean(values: list[np.ndarray]) -> np.ndarray:
    """(channels,) mean of arrays whose last axis is that of the channels."""
    rows = [np.reshape(one, (-1, np.shape(one)[-1] if np.ndim(one) else 1)) for one in values]
    return np.mean([row.mean(0, dtype=np.float64) for row in rows], axis=0)
