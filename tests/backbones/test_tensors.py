"""Weights in .safetensors files: PyTorch's against a plain NumPy forward pass, and Keras' own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from tltoolkit import backbones
from tltoolkit.backbones import tensors, weight_files

Arrays = dict[str, np.ndarray]
RNG = np.random.default_rng(0)
# Bottlenecks of a stage, and what a DenseNet adds by each of its layers.
RESNET, DENSENET, GROWTH = (3, 4, 6, 3), (6, 12, 24, 16), 32


# State dicts as torchvision writes them, by its source.


def conv(name: str, out: int, into: int, side: int, bias: bool = False) -> Arrays:
    """A kernel that neither lets values die nor explode."""
    spread = (2 / (into * side * side)) ** 0.5
    made = {f"{name}.weight": RNG.normal(0, spread, (out, into, side, side)).astype("float32")}
    return made | ({f"{name}.bias": RNG.normal(0, 0.1, out).astype("float32")} if bias else {})


def norm(name: str, size: int) -> Arrays:
    drawn = {
        "weight": RNG.uniform(0.5, 1.5, size),
        "bias": RNG.normal(0, 0.1, size),
        "running_mean": RNG.normal(0, 0.1, size),
        # Some so small that epsilon, in which Keras' DenseNet differs, is a part of them.
        "running_var": RNG.uniform(0.2, 2.0, size) * np.where(np.arange(size) % 7, 1, 1e-5),
    }
    arrays = {f"{name}.{part}": values.astype("float32") for part, values in drawn.items()}
    return arrays | {f"{name}.num_batches_tracked": np.array(3)}


def dense(name: str, into: int, out: int = 10) -> Arrays:
    zeros = np.zeros((out, into), "float32")
    return {f"{name}.weight": zeros, f"{name}.bias": zeros[:, 0].copy()}


def resnet50() -> Arrays:
    made, channels = conv("conv1", 64, 3, 7) | norm("bn1", 64), 64
    for stage, repeats in enumerate(RESNET, 1):
        width = 32 * 2**stage
        for i in range(repeats):
            at = f"layer{stage}.{i}"
            made |= conv(f"{at}.conv1", width, channels, 1) | norm(f"{at}.bn1", width)
            made |= conv(f"{at}.conv2", width, width, 3) | norm(f"{at}.bn2", width)
            made |= conv(f"{at}.conv3", 4 * width, width, 1) | norm(f"{at}.bn3", 4 * width)
            if i == 0:
                made |= conv(f"{at}.downsample.0", 4 * width, channels, 1)
                made |= norm(f"{at}.downsample.1", 4 * width)
            channels = 4 * width
    return made | dense("fc", channels)


def densenet121() -> Arrays:
    at = "features"
    made, channels = conv(f"{at}.conv0", 64, 3, 7) | norm(f"{at}.norm0", 64), 64
    for block, layers in enumerate(DENSENET, 1):
        for i in range(1, layers + 1):
            layer = f"{at}.denseblock{block}.denselayer{i}"
            made |= norm(f"{layer}.norm1", channels)
            made |= conv(f"{layer}.conv1", 4 * GROWTH, channels, 1)
            made |= norm(f"{layer}.norm2", 4 * GROWTH)
            made |= conv(f"{layer}.conv2", GROWTH, 4 * GROWTH, 3)
            channels += GROWTH
        if block < len(DENSENET):
            made |= norm(f"{at}.transition{block}.norm", channels)
            made |= conv(f"{at}.transition{block}.conv", channels // 2, channels, 1)
            channels //= 2
    return made | norm(f"{at}.norm5", channels) | dense("classifier", channels)


def vgg16() -> Arrays:
    plan = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
    made, channels, at = {}, 3, 0
    for size in plan:
        if size:
            made |= conv(f"features.{at}", size, channels, 3, bias=True)
            channels = size
        at += 2 if size else 1
    # As timm has it; torchvision says classifier.0, .3 and .6.
    return made | dense("pre_logits.fc1", 4) | dense("head.fc", 4)


STATES = {"resnet50_torch": resnet50, "vgg16_torch": vgg16, "densenet121": densenet121}


# The same computed by loops, in float64.


def convolved(x: np.ndarray, arrays: Arrays, name: str, stride: int = 1) -> np.ndarray:
    """(H, W, C) by a kernel (out, in, k, k), with k // 2 zeros around."""
    kernel = arrays[f"{name}.weight"].astype("float64")
    side = kernel.shape[-1]
    x = np.pad(x, [(side // 2, side // 2)] * 2 + [(0, 0)])
    rows, columns = ((n - side) // stride + 1 for n in x.shape[:2])
    out = np.zeros((rows, columns, len(kernel)))
    for i in range(side):
        for j in range(side):
            part = x[i : i + stride * rows : stride, j : j + stride * columns : stride]
            out += part[:rows, :columns] @ kernel[:, :, i, j].T
    return out + arrays.get(f"{name}.bias", np.zeros(len(kernel)))


def normed(x: np.ndarray, arrays: Arrays, name: str) -> np.ndarray:
    gamma, beta, mean, var = (
        arrays[f"{name}.{part}"].astype("float64")
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * gamma + beta


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def pooled(x: np.ndarray, how) -> np.ndarray:
    rows, columns, channels = x.shape[0] // 2, x.shape[1] // 2, x.shape[2]
    cells = x[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, channels)
    return how(cells, axis=(1, 3))


def bottleneck(x: np.ndarray, arrays: Arrays, at: str, stride: int) -> np.ndarray:
    y = relu(normed(convolved(x, arrays, f"{at}.conv1"), arrays, f"{at}.bn1"))
    y = relu(normed(convolved(y, arrays, f"{at}.conv2", stride), arrays, f"{at}.bn2"))
    y = normed(convolved(y, arrays, f"{at}.conv3"), arrays, f"{at}.bn3")
    shortcut = convolved(x, arrays, f"{at}.downsample.0", stride)
    return relu(y + normed(shortcut, arrays, f"{at}.downsample.1"))


def dense_block(x: np.ndarray, arrays: Arrays) -> np.ndarray:
    """The first block of a DenseNet and the transition after it."""
    for i in range(1, DENSENET[0] + 1):
        at = f"features.denseblock1.denselayer{i}"
        y = convolved(relu(normed(x, arrays, f"{at}.norm1")), arrays, f"{at}.conv1")
        y = convolved(relu(normed(y, arrays, f"{at}.norm2")), arrays, f"{at}.conv2")
        x = np.concatenate([x, y], axis=-1)
    x = relu(normed(x, arrays, "features.transition1.norm"))
    return pooled(convolved(x, arrays, "features.transition1.conv"), np.mean)


# Networks, each built once.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("states")


@pytest.fixture(scope="module", params=STATES)
def loaded(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[keras.Model, Arrays]]:
    name = request.param
    arrays, path = STATES[name](), folder / f"{name}.safetensors"
    save_file(arrays, path)
    inputs = keras.Input((34, 34, 3))
    yield keras.Model(inputs, backbones.build(name, inputs, weights=path), name=name), arrays
    path.unlink()


def read(arrays: Arrays, model: keras.Model, path: Path) -> Arrays:
    save_file(arrays, path / "w.safetensors")
    return weight_files.read(path / "w.safetensors", backbones.get(model.name), model.layers)


def misfit(arrays: Arrays, model: keras.Model, path: Path) -> str:
    with pytest.raises(ValueError, match=f"`weights`: {model.name} cannot take ") as caught:
        read(arrays, model, path)
    return str(caught.value)


def test_a_block_computes_what_numpy_does(loaded: tuple[keras.Model, Arrays]) -> None:
    """From one layer's output to another's, stride, padding and epsilon included."""
    model, arrays = loaded
    start, end, expected = {
        "resnet50_torch": (
            "layer1_2_out",
            "layer2_0_out",
            lambda x: bottleneck(x, arrays, "layer2.0", 2),
        ),
        "densenet121": ("pool1_pool" if "pool1_pool" in _names(model) else "pool1", "pool2_pool",
                        lambda x: dense_block(x, arrays)),
        "vgg16_torch": ("preprocessing", "block1_pool", lambda x: _vgg_block(x, arrays)),
    }[model.name]  # fmt: skip
    images = RNG.integers(0, 256, (1, 34, 34, 3)).astype("float32")
    ends = [model.get_layer(name).output for name in (start, end)]
    given, found = (a.numpy()[0].astype("float64") for a in keras.Model(model.input, ends)(images))
    if model.name == "vgg16_torch":
        deviations = np.array([0.229, 0.224, 0.225])
        pixels = (images[0] / 255 - np.array([0.485, 0.456, 0.406])) / deviations
        np.testing.assert_allclose(given, pixels, atol=1e-5)
    wanted = expected(given)
    assert found.std() > 0.1
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def _names(model: keras.Model) -> set[str]:
    return {layer.name for layer in model.layers}


def _vgg_block(x: np.ndarray, arrays: Arrays) -> np.ndarray:
    for name in ("features.0", "features.2"):
        x = relu(convolved(x, arrays, name))
    return pooled(x, np.max)


def test_every_array_but_the_classifiers_is_taken(loaded: tuple[keras.Model, Arrays]) -> None:
    """Sums over arrays, since they are transposed; each is another by its random values."""
    model, arrays = loaded
    # Arrays of torchvision's own state dicts, and of VGG16 without its third dense layer.
    assert len(arrays) == {"resnet50_torch": 320, "densenet121": 727, "vgg16_torch": 30}[model.name]
    head = ("fc.", "classifier.", "pre_logits.", "head.")
    left = {n: a for n, a in arrays.items() if not n.startswith(head) and a.ndim}
    assert len(left) == len(model.weights)
    sums = sorted(float(a.sum(dtype="float64")) for a in left.values())
    found = sorted(float(w.numpy().sum(dtype="float64")) for w in model.weights)
    np.testing.assert_allclose(found, sums, rtol=1e-4, atol=2e-4)


def test_what_does_not_fit_is_named(loaded: tuple[keras.Model, Arrays], tmp_path: Path) -> None:
    model, arrays = loaded
    first, layer, shape = {
        "resnet50_torch": ("conv1.weight", "conv1", "(7, 7, 3, 64)"),
        "densenet121": ("features.conv0.weight", "conv1_conv", "(7, 7, 3, 64)"),
        "vgg16_torch": ("features.0.weight", "block1_conv1", "(3, 3, 3, 64)"),
    }[model.name]
    kernel = arrays[first]
    said = misfit(arrays | {first: kernel[:, :, :2]}, model, tmp_path)
    assert f"the layer {layer} needs the shapes [{shape}" in said
    assert f"the file has [(2, {shape[4:]}" in said
    lacking = {name: array for name, array in arrays.items() if name != first}
    assert f"it lacks the weights of 1 of" in misfit(lacking, model, tmp_path)  # noqa: F541
    assert f"first {first} of the layer {layer}" in misfit(lacking, model, tmp_path)
    more = arrays | {"layer9.0.conv1.weight": kernel}
    assert "1 arrays that no layer takes, among them layer9.0" in misfit(more, model, tmp_path)
    for bad, reason in (
        (kernel.astype("int32"), "must hold plain arrays of floats"),
        (kernel * np.nan, "holds NaN or infinite values"),
    ):
        assert reason in misfit(arrays | {first: bad}, model, tmp_path)
    half = read(arrays | {first: kernel.astype("float16")}, model, tmp_path)
    np.testing.assert_allclose(half[layer][0], kernel.transpose(2, 3, 1, 0), atol=1e-3)


def test_names_of_older_densenets_are_known() -> None:
    class Norm:
        name, weights, epsilon = "conv2_block1_0_bn", (0,) * 4, 1e-5

    parts = ("weight", "bias", "running_mean", "running_var")
    old = {f"features.denseblock1.denselayer1.norm.1.{p}": _tensor(np.ones(3)) for p in parts}
    (stored,) = tensors.stored(old, backbones.get("densenet121"), [Norm])
    assert stored.name == "features.denseblock1.denselayer1.norm1"


def _tensor(values: np.ndarray) -> tensors.Tensor:
    return tensors.Tensor(lambda: values, values.shape, values.dtype)


# Keras' paths.


@pytest.fixture(scope="module")
def lite() -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    output = backbones.build("efficientnet_lite0", inputs, weights=None)
    return keras.Model(inputs, output, name="efficientnet_lite0")


def by_path(model: keras.Model) -> Arrays:
    return {v.path: v.numpy() for v in model.variables}


def test_arrays_by_the_paths_of_keras_return(lite: keras.Model, tmp_path: Path) -> None:
    arrays = by_path(lite) | {"logits/kernel": np.ones((3, 2), "float32")}
    found = read(arrays, lite, tmp_path)
    for layer in lite.layers:
        for a, b in zip(found.get(layer.name, []), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_other_arrays_are_refused(lite: keras.Model, tmp_path: Path) -> None:
    arrays = by_path(lite)
    lacking = {name: a for name, a in arrays.items() if name != "top_bn/gamma"}
    assert "first top_bn/gamma of the layer top_bn" in misfit(lacking, lite, tmp_path)
    more = arrays | {"block9_conv/kernel": np.ones(3), "block7_9/kernel": np.ones(3)}
    assert "it has a layer block7_9, which this backbone" in misfit(more, lite, tmp_path)
    said = misfit(conv("conv1", 64, 3, 7), lite, tmp_path)
    assert "of PyTorch are known for the backbones vgg16_torch, resnet50_torch, dense" in said


def test_a_damaged_file_is_refused(lite: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(by_path(lite), path)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[:-100]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged or no \.safetensors file"):
            weight_files.read(path, backbones.get(lite.name), lite.layers)


def test_without_the_library_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "w.safetensors").touch()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install 'tltoolkit\[safetensors\]'"):
        backbones.check_weights("vgg16", tmp_path / "w.safetensors")


def test_a_backbone_without_weights_of_its_own_asks_for_a_file() -> None:
    with pytest.raises(ValueError, match=r"None or the path of a \.safetensors file of torchvis"):
        backbones.check_weights("resnet50_torch", "imagenet")
    assert backbones.check_weights("resnet50_torch", None) is None
