"""Where the layers of a backbone lie in a .safetensors file: as Keras or PyTorch names them."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tltoolkit.backbones import table
from tltoolkit.backbones.layouts import MisfitError, Stored
from tltoolkit.backbones.row import Backbone

SUFFIX = ".safetensors"
Names = Callable[[Sequence[str]], dict[str, str]]
# Keras' order of the variables of a BatchNormalization.
_NORM = ("weight", "bias", "running_mean", "running_var")
# What torchvision's classifiers, and timm's, hold above the backbone; and counts of batches.
_UNUSED = r"(fc|classifier|head|pre_logits)\..*|.*\.num_batches_tracked"
# Of all BatchNormalization in torchvision; Keras' DenseNet adds another.
_TORCH_EPSILON = 1e-5
# PyTorch keeps (out, in, H, W), Keras (H, W, in, out).
_KERNEL_AXES = (2, 3, 1, 0)


@dataclass(frozen=True)
class Tensor:
    """An array in a file, read when NumPy asks for it.

    Attributes:
        values: reads it.
        shape: as Keras has it.
        dtype: "f4" and the like, or the file's own name of a type that NumPy lacks.
        axes: how it is transposed for Keras.
        add: what is added for Keras.
    """

    values: Callable[[], np.ndarray]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    add: float = 0.0
    axes: tuple[int, ...] | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read it from the file."""
        values = self.values()
        values = values if self.axes is None else values.transpose(self.axes)
        # Without a difference the array stays as it is, bit by bit.
        return np.asarray(values + np.float32(self.add) if self.add else values, dtype)

    def as_kernel(self) -> "Tensor":
        """The same, of a kernel of PyTorch, for Keras."""
        if len(self.shape) != len(_KERNEL_AXES):
            return self
        shape = tuple(self.shape[axis] for axis in _KERNEL_AXES)
        return Tensor(self.values, shape, self.dtype, axes=_KERNEL_AXES)

    def plus(self, add: float) -> "Tensor":
        """The same with a number added."""
        return Tensor(self.values, self.shape, self.dtype, add, self.axes)


def library() -> Any:
    """The package that reads the format.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import safetensors
    except ImportError as error:
        raise ImportError(
            "weights in a .safetensors file need safetensors: pip install 'tltoolkit[safetensors]'"
        ) from error
    return safetensors


@contextmanager
def opened(path: Path) -> Iterator[dict[str, Tensor]]:
    """Name -> array of a file; nothing is read before it is asked for.

    Raises:
        MisfitError: it is damaged, or holds something else.
    """
    package = library()
    try:
        with package.safe_open(path, framework="np") as file:
            yield {name: _tensor(file, name) for name in file.keys()}  # noqa: SIM118
    except package.SafetensorError as error:
        raise MisfitError(f"it is damaged or no {SUFFIX} file ({error})") from error


def _tensor(file: Any, name: str) -> Tensor:
    said = file.get_slice(name)
    kind = said.get_dtype()
    # NumPy has no bfloat16 or float8 of its own: those are refused like whole numbers.
    dtype = np.dtype({"F64": "f8", "F32": "f4", "F16": "f2"}.get(kind, "i8"))
    return Tensor(lambda: file.get_tensor(name), tuple(said.get_shape()), dtype)


def stored(arrays: Mapping[str, Tensor], backbone: Backbone, wanted: Sequence[Any]) -> list[Stored]:
    """The arrays of each layer, in the order of its variables.

    Args:
        arrays: name -> array: Keras' paths of variables, "conv1/kernel", as
            `safetensors.numpy.save_file({v.path: v.numpy() for v in model.variables}, path)`
            has them; or the state dict of a network of torchvision or timm.
        backbone: its row in the table.
        wanted: its built layers with weights, from the input up.
    """
    if any("/" in name for name in arrays):
        return _by_path(arrays, backbone, wanted)
    if backbone.torch is None:
        known = ", ".join(name for name in table.names() if table.get(name).torch)
        raise MisfitError(
            f"it has no names of Keras; those of PyTorch are known for the backbones {known}"
        )
    return _by_torch_names(arrays, TORCH_NAMES[backbone.torch], wanted)


def _by_path(
    arrays: Mapping[str, Tensor], backbone: Backbone, wanted: Sequence[Any]
) -> list[Stored]:
    names = {layer.name: [variable.path for variable in layer.weights] for layer in wanted}
    _refuse_absent(arrays, names)
    strangers = {name.split("/")[0] for name in arrays} - names.keys()
    extra = sorted(name for name in strangers if backbone.block_of(name))
    if extra:
        raise MisfitError(f"it has a layer {extra[0]}, which this backbone does not have")
    return [Stored(layer, "", [arrays[path] for path in paths]) for layer, paths in names.items()]


def _by_torch_names(
    arrays: Mapping[str, Tensor], named: Names, wanted: Sequence[Any]
) -> list[Stored]:
    # As DenseNet was written by the torchvision of 2017, whose files are still in use.
    arrays = {re.sub(r"(norm|conv)\.(\d)\.", r"\1\2.", name): arrays[name] for name in arrays}
    places = named([layer.name for layer in wanted])
    names = {
        layer.name: [f"{places[layer.name]}.{part}" for part in _parts(layer)] for layer in wanted
    }
    _refuse_absent(arrays, names)
    taken = {name for some in names.values() for name in some}
    extra = sorted(n for n in arrays.keys() - taken if not re.fullmatch(_UNUSED, n))
    if extra:
        raise MisfitError(f"it has {len(extra)} arrays that no layer takes, among them {extra[0]}")
    return [
        Stored(places[layer.name], "", _for_keras(layer, [arrays[n] for n in names[layer.name]]))
        for layer in wanted
    ]


def _refuse_absent(arrays: Mapping[str, Tensor], names: Mapping[str, Iterable[str]]) -> None:
    absent = {layer: set(some) - arrays.keys() for layer, some in names.items()}
    missing = [(layer, sorted(some)) for layer, some in absent.items() if some]
    if missing:
        layer, some = missing[0]
        raise MisfitError(
            f"it lacks the weights of {len(missing)} of {len(names)} layers, first {some[0]} of "
            f"the layer {layer}"
        )


def _parts(layer: Any) -> Sequence[str]:
    """What PyTorch calls the variables of a layer, in Keras' order."""
    return _NORM if len(layer.weights) == len(_NORM) else _NORM[: len(layer.weights)]


def _for_keras(layer: Any, arrays: list[Tensor]) -> list[Tensor]:
    if len(arrays) < len(_NORM):
        return [array.as_kernel() for array in arrays]
    # Keras adds its own epsilon: what the two add to is the same.
    return [*arrays[:-1], arrays[-1].plus(_TORCH_EPSILON - layer.epsilon)]


def _resnet(layers: Sequence[str]) -> dict[str, str]:
    return {layer: layer.replace("_", ".") for layer in layers}


def _vgg(layers: Sequence[str]) -> dict[str, str]:
    """PyTorch numbers convolutions, activations and the pooling of each block in one row."""
    blocks = [layer.split("_")[0] for layer in layers]
    return {
        layer: f"features.{2 * i + len(set(blocks[: i + 1])) - 1}" for i, layer in enumerate(layers)
    }


def _densenet(layers: Sequence[str]) -> dict[str, str]:
    ends = {"conv1_conv": "features.conv0", "conv1_bn": "features.norm0", "bn": "features.norm5"}
    inner = {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"}
    found = dict(ends)
    for layer in layers:
        if match := re.fullmatch(r"conv(\d)_block(\d+)_(\d_\w+)", layer):
            block, number, part = match.groups()
            place = f"denseblock{int(block) - 1}.denselayer{number}.{inner[part]}"
            found[layer] = f"features.{place}"
        elif match := re.fullmatch(r"pool(\d)_(bn|conv)", layer):
            part = {"bn": "norm", "conv": "conv"}[match[2]]
            found[layer] = f"features.transition{int(match[1]) - 1}.{part}"
    return found


# From names of layers to the names of their modules in PyTorch.
TORCH_NAMES: dict[str, Names] = {
    "resnet": _resnet,
    "vgg": _vgg,
    "densenet": _densenet,
}
