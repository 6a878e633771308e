"""What the table says of each network, against the network; none of them gets a value.

That the copies compute the same is shown on a few in test_backbones.py; here that they are copies.
"""

import functools
import gc
import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from tltoolkit import backbones
from tltoolkit.backbones import assemble, replant
from tltoolkit.backbones.preprocessing import preprocess
from tltoolkit.layers import graph, private, traits

ROWS = {name: backbones.get(name) for name in backbones.names()}
LARGER = {row.next for row in ROWS.values()}
SMALLEST = [name for name in ROWS if name not in LARGER]
OWN = [name for name in ROWS if ROWS[name].architecture is None]
# Those between the ends of a family are known by what Keras has published of them.
ENDS = [name for name in ROWS if name in (*SMALLEST, *OWN) or ROWS[name].next is None]
layers = keras.layers


@pytest.fixture(scope="module", autouse=True)
def without_collections() -> Iterator[None]:
    """They take a quarter of the time where so many layers are made."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    drawn.cache_clear()


def side(name: str) -> tuple[int, int]:
    return (ROWS[name].image_size,) * 2


@functools.cache
def drawn(name: str) -> SimpleNamespace:
    """A network as Keras builds it for its ImageNet weights, and what can be told from that."""
    fetched: list[str] = []
    row = ROWS[name]
    pretrained = row.origin == "keras"
    with pytest.MonkeyPatch.context() as patch, private.without_values():
        get = "keras.src.utils.file_utils.get_file"
        patch.setattr(get, lambda file, *_, **__: fetched.append(file) or "fetched")
        patch.setattr(keras.Model, "load_weights", lambda *_: None)
        source = assemble._source(row, side(name), pretrained)
        copied = copy(name, source) if name in SMALLEST or name in OWN else None
    parts = [part for operation in source.operations[1:] for part in replant._parts(operation)]
    fixed = replant._fixed_names(row, source)
    return SimpleNamespace(
        fetched=fetched,
        names=["preprocessing", *(fixed[part.name] for part in parts)],
        parameters=sum(p.count_params() for p in parts if isinstance(p, layers.Layer)),
        work=work(copied.model if copied else source),
        source=source if copied else None,
        copied=copied,
    )


def copy(name: str, source: keras.Model) -> SimpleNamespace:
    inputs = keras.Input((*side(name), 3))
    planted = replant.replant(ROWS[name], source, preprocess(inputs, ROWS[name].scale), 0)
    model = keras.Model(inputs, planted[-1].layer.output)
    return SimpleNamespace(planted=planted, model=model)


def work(model: keras.Model) -> int:
    """Multiply-adds of its convolutions and dense layers for one image."""
    total = 0
    for node in private.nodes(model):
        layer = node.layer
        if isinstance(layer, keras.Sequential):
            total += work(layer)
        elif isinstance(layer, layers.SeparableConv2D):
            channels, (*area, out) = node.inputs[0].shape[-1], node.outputs[0].shape[1:]
            total += math.prod(area) * channels * (math.prod(layer.kernel_size) + out)
        elif isinstance(layer, layers.DepthwiseConv2D):
            total += math.prod(node.outputs[0].shape[1:]) * math.prod(layer.kernel_size)
        elif isinstance(layer, layers.Conv2D):
            channels = node.inputs[0].shape[-1] // layer.groups
            positions = math.prod(node.outputs[0].shape[1:])
            total += positions * channels * math.prod(layer.kernel_size)
        elif isinstance(layer, layers.Dense):
            total += math.prod(node.outputs[0].shape[1:]) * node.inputs[0].shape[-1]
    return total


@pytest.mark.parametrize("name", ENDS)
def test_a_network_is_described_rightly(name: str) -> None:
    row, found = ROWS[name], drawn(name)
    assert (found.parameters, found.work) == (row.parameters, row.multiply_adds)
    assert found.fetched == ([row.weights_file] if row.origin == "keras" else [])
    blocks = backbones.blocks_of(name, found.names)
    assert tuple(blocks) == row.blocks
    assert all(blocks.values())
    assert [layer for block in blocks.values() for layer in block] == found.names
    assert len(set(found.names)) == len(found.names)
    # Heads on the last block read what all other heads do.
    assert row.tap_of(blocks[row.blocks[-1]]) == found.names[-1]


@pytest.mark.parametrize("name", ROWS)
def test_next_is_the_next_larger_one_of_its_family(name: str) -> None:
    row = ROWS[name]
    larger = [b for b in ROWS.values() if b.family == row.family and b.parameters > row.parameters]
    smallest = min(larger, key=lambda b: b.parameters, default=None)
    assert row.next == (smallest.name if smallest else None)
    assert smallest is None or smallest.multiply_adds > row.multiply_adds


# keras.io/api/applications: all parameters, and the features of the classifier of 1,000 classes.
MIDDLE = {
    "resnet101": (44_707_176, 2048),
    "resnet101v2": (44_675_560, 2048),
    "densenet169": (14_307_880, 1664),
    "efficientnet_b1": (7_856_239, 1280),
    "efficientnet_b2": (9_177_569, 1408),
    "efficientnet_v2_b1": (8.2e6, 1280),
    "efficientnet_v2_b2": (10.2e6, 1408),
    "efficientnet_v2_b3": (14.5e6, 1536),
}


def test_parameters_in_the_middle_of_a_family_are_those_that_were_published() -> None:
    assert set(MIDDLE) == set(ROWS) - set(ENDS)
    for name, (published, features) in MIDDLE.items():
        found = ROWS[name].parameters + 1000 * (features + 1)
        # EfficientNet has a few more, of the normalisation inside.
        assert found == pytest.approx(published, abs=7 if isinstance(published, int) else 5e4)


def test_weights_of_the_user_have_no_published_figure() -> None:
    for row in ROWS.values():
        assert (row.top1 is None) == (row.origin == "file")


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # torchvision's documentation, with the classifier, whose multiply-adds come on top.
        ("vgg16", 15.47e9 - 123.6e6),
        ("resnet50_torch", 4.09e9 - 2e6),
        ("densenet121", 2.83e9 - 1e6),
        ("densenet201", 4.29e9 - 1.9e6),
        ("inception_v3", 5.71e9 - 2e6),
        ("convnext_tiny", 4.46e9 - 0.8e6),
        ("efficientnet_v2_s", 8.37e9 - 1.3e6),
        # Sandler et al. 2018, Howard et al. 2019, Tan and Le 2019.
        ("mobilenet_v2", 300e6 - 1.3e6),
        ("mobilenet_v3_small", 56e6 - 1.6e6),
        ("efficientnet_b0", 0.39e9 - 1.3e6),
    ],
)
def test_multiply_adds_are_those_that_were_published(name: str, published: float) -> None:
    assert ROWS[name].multiply_adds == pytest.approx(published, rel=0.015)


# Copies


LEFT_OUT = (layers.Rescaling, layers.Normalization, layers.Dropout)


@pytest.mark.parametrize("name", SMALLEST)
def test_a_copy_has_the_same_layers_and_joins_them_alike(name: str) -> None:
    found = drawn(name)
    planted = found.copied.planted
    originals = {id(one.layer): one.original for one in planted}
    theirs = joined(found.source, lambda layer: isinstance(layer, LEFT_OUT))
    ours = joined(found.copied.model, lambda layer: layer.name == "preprocessing" or is_flip(layer))
    assert len(planted) == len(theirs)
    assert {id(one.original) for one in planted} == theirs.keys()
    for one in planted:
        makers = [maker and originals[id(maker)] for maker in ours[id(one.layer)]]
        assert [id(m) for m in makers] == [id(m) for m in theirs[id(one.original)]]
        if isinstance(one.original, layers.Layer):
            assert type(one.layer) is type(one.original)
            assert settings(one.layer) == settings(one.original)


def is_flip(operation: Any) -> bool:
    """Whether it is the reversal to BGR, the one operation that is no layer."""
    return not isinstance(operation, layers.Layer)


def joined(model: keras.Model, skipped: Callable[[Any], bool]) -> dict[int, list[Any]]:
    """id of each layer that is not skipped -> the layers that it reads; None stands for pixels."""
    nodes = [node for node in private.nodes(graph.flat(model)) if not node.is_input]
    made_by = {id(tensor): node for node in nodes for tensor in node.outputs}

    def maker(tensor: Any) -> Any:
        node = made_by.get(id(tensor))
        return maker(node.inputs[0]) if node and skipped(node.layer) else node and node.layer

    kept = [node for node in nodes if not skipped(node.layer)]
    return {id(node.layer): [maker(tensor) for tensor in node.inputs] for node in kept}


def settings(layer: Any) -> dict[str, Any]:
    """All that a layer is made of, but for its name and seeds."""
    said = {key: value for key, value in layer.get_config().items() if key != "name"}
    for key, value in said.items():
        if key.endswith("_initializer") and value:
            said[key] = (value["class_name"], {**value["config"], "seed": None})
    return said


@pytest.mark.parametrize("name", SMALLEST)
def test_a_copy_is_flat_and_draws_nothing(name: str) -> None:
    model = drawn(name).copied.model
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert model.operations == model.layers or ROWS[name].scale == "caffe"
    assert model.count_params() == ROWS[name].parameters
    assert len(model.output.shape) == 4
    assert not any(traits.is_random(layer) for layer in model.layers)
    assert not any("variable" in weight.path for weight in model.weights)


# Preprocessing


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def of_torch(images: np.ndarray) -> np.ndarray:
    return (images / 255 - MEAN) / STD


apps = keras.applications
PREPROCESSING = {
    "vgg": apps.vgg16.preprocess_input,
    "vgg_torch": of_torch,
    "resnet": apps.resnet.preprocess_input,
    "resnet_torch": of_torch,
    "resnetv2": apps.resnet_v2.preprocess_input,
    "densenet": apps.densenet.preprocess_input,
    "xception": apps.xception.preprocess_input,
    "efficientnet_lite": lambda images: (images - 127) / 128,
    "mobilenet_v2": apps.mobilenet_v2.preprocess_input,
    # The networks of these take pixels, and do inside what is said here.
    "mobilenet_v3": lambda images: images / 127.5 - 1,
    "efficientnet": of_torch,
    "efficientnet_v2": of_torch,
    "convnext": of_torch,
    "inception": apps.inception_v3.preprocess_input,
    "inception_resnet": apps.inception_resnet_v2.preprocess_input,
    "nasnet": apps.nasnet.preprocess_input,
}


@pytest.mark.parametrize("family", PREPROCESSING)
def test_preprocessing_is_that_of_keras_applications(family: str) -> None:
    (scale,) = {row.scale for row in ROWS.values() if row.family == family} - {"v2s"}
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, preprocess(inputs, scale))
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("float32")
    expected = PREPROCESSING[family](images.copy())
    np.testing.assert_allclose(model(images).numpy(), expected, rtol=0, atol=1e-5)


def test_every_family_has_its_preprocessing_and_its_taps() -> None:
    families = {row.family for row in ROWS.values()}
    assert families == set(PREPROCESSING) == {ROWS[name].family for name in TAPS}


# Taps: where heads on blocks read them, and whether what they read is activated.


TAPS = {
    "vgg16": "block1_conv2 block2_conv2 block3_conv3 block4_conv3 block5_pool",
    "vgg16_torch": "block1_conv2 block2_conv2 block3_conv3 block4_conv3 block5_pool",
    "resnet50": "conv1_relu conv2_block3_out conv3_block4_out conv4_block6_out conv5_block3_out",
    "resnet50_torch": "relu layer1_2_out layer2_3_out layer3_5_out layer4_2_out",
    "resnet50v2": "conv1_conv conv2_block2_out conv3_block3_out conv4_block5_out post_relu",
    "densenet121": "conv1_relu pool2_relu pool3_relu pool4_relu relu",
    "xception": " ".join(
        ["block1_conv2_act", *(f"block{i}_add" for i in range(2, 14)), "block14_sepconv2_act"]
    ),
    "efficientnet_lite0": "stem_relu block1_0_project_bn block2_1_add block3_1_add block4_2_add "
    "block5_2_add block6_3_add block7_0_project_bn top_relu",
    "mobilenet_v2": "Conv1_relu expanded_conv_project_BN block_2_add block_5_add block_9_add "
    "block_12_add block_15_add block_16_project_BN out_relu",
    "mobilenet_v3_small": "stem_activation_1 expanded_conv_project_bn expanded_conv_2_add "
    "expanded_conv_5_add expanded_conv_7_add expanded_conv_10_add top_activation_1",
    "efficientnet_b0": "stem_activation block1a_project_bn block2b_add block3b_add block4c_add "
    "block5c_add block6d_add block7a_project_bn top_activation",
    "efficientnet_v2_b0": "stem_activation block1a_project_activation block2b_add block3b_add "
    "block4c_add block5e_add block6h_add top_activation",
    "convnext_tiny": "convnext_tiny_stem_layernorm stage1_add_3 stage2_add_3 stage3_add_9 "
    "stage4_layer_normalization_1",
    "inception_v3": " ".join(["stem_activation_5", *(f"mixed{i}" for i in range(11))]),
    "inception_resnet_v2": "stem_activation_5 mixed_5b block35_10_ac mixed_6a block17_20_ac "
    "mixed_7a block8_custom_scale_layer_10 conv_7b_ac",
    "nasnet_mobile": "stem_bn1 normal_concat_3 normal_concat_8 stage3_activation_60",
}
# In deeper networks the last sum before the one that strides has another number.
DEEPER = {
    "resnet152v2": "conv1_conv conv2_block2_out conv3_block7_out conv4_block35_out post_relu",
    "resnet152": "conv1_relu conv2_block3_out conv3_block8_out conv4_block36_out conv5_block3_out",
}
# Families whose blocks end in what no activation follows, but for stem and top.
LINEAR = {
    "resnetv2", "xception", "efficientnet_lite", "mobilenet_v2", "mobilenet_v3", "efficientnet",
    "efficientnet_v2", "convnext", "nasnet",
}  # fmt: skip


@pytest.mark.parametrize("name", [*TAPS, *DEEPER])
def test_taps_are_those_of_the_family(name: str) -> None:
    found = backbones.taps_of(name, drawn(name).names)
    assert list(found.values()) == {**TAPS, **DEEPER}[name].split()
    assert tuple(found) == ROWS[name].blocks


@pytest.mark.parametrize("name", TAPS)
def test_a_tap_is_the_last_map_of_its_size(name: str) -> None:
    """What comes after it in its block reads it alone, and no other map of its size joins later."""
    model, row = drawn(name).copied.model, ROWS[name]
    blocks = backbones.blocks_of(name, [layer.name for layer in model.layers])
    sizes = {layer.name: graph.area(layer.output) for layer in model.layers}
    taps = [row.tap_of(layers) for layers in blocks.values()]
    assert [sizes[tap] for tap in taps] == sorted((sizes[tap] for tap in taps), reverse=True)
    for block, tap in zip(blocks.values(), taps, strict=True):
        after = list(block[block.index(tap) + 1 :])
        ends = [one for one in after if is_join(model.get_layer(one))]
        assert all(sizes[one] < sizes[tap] for one in ends), (tap, ends)


def is_join(layer: Any) -> bool:
    return isinstance(layer, (layers.Add, layers.Concatenate))


@pytest.mark.parametrize("name", TAPS)
def test_a_tap_is_activated_where_the_family_s_blocks_are(name: str) -> None:
    model, row = drawn(name).copied.model, ROWS[name]
    *inner, _ = backbones.taps_of(name, [layer.name for layer in model.layers]).values()
    activated = [not any(is_negative(model.get_layer(tap))) for tap in inner[1:]]
    assert not any(activated) if row.family in LINEAR else sum(activated) >= len(activated) - 1


def is_negative(layer: Any) -> Iterator[bool]:
    """Whether a layer's values may be below 0, as far as ReLU and joins of its outputs tell."""
    relu = getattr(layer, "activation", None) is keras.activations.relu
    if isinstance(layer, layers.ReLU) or relu:
        yield False
    elif isinstance(layer, (layers.Concatenate, layers.MaxPooling2D, layers.AveragePooling2D)):
        for tensor in private.last_call(layer).inputs:
            yield from is_negative(private.node_of(tensor).layer)
    else:
        yield True
