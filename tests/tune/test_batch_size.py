"""find_batch_size: measured in another process, which may run out of memory alone."""

import math
import random
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.tune import batch_size
from tltoolkit.tune.batch_size import BatchSizes

SIZE = 32
layers = keras.layers


def data(count: int = 40) -> tl.data.ImageData:
    pixels = np.random.default_rng(0).integers(0, 255, (count, SIZE, SIZE, 3), dtype=np.uint8)
    return tl.data.from_arrays(pixels, np.arange(count) % 2, val=0.0)


def build(width: int = 4, kernel: int = 3) -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(width, kernel, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )


def test_sizes_up_to_the_data_are_measured_and_nothing_changes_here() -> None:
    model = build()
    model.compile("sgd", "mse")
    model.layers[1].trainable = False
    before = model.get_weights(), model.optimizer, [v.trainable for v in model.variables]
    state = random.getstate()
    found = tl.tune.find_batch_size(model, data(), "head")
    assert found.batch_size == 32
    assert list(found.images_per_second) == list(found.memory_gb) == [16, 32]
    assert all(speed > 0 for speed in found.images_per_second.values())
    assert "up to 32 images fit, the largest that was tried" in str(found)
    assert len(found.plot().axes) == 2
    assert random.getstate() == state
    assert model.optimizer is before[1]
    assert [v.trainable for v in model.variables] == before[2]
    for one, other in zip(before[0], model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_running_out_of_memory_ends_only_the_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its speed is not looked at: one step of each size.
    (tmp_path / "hurried.py").write_text(
        "from tltoolkit.tune import batch_child\nbatch_child.SECONDS = 0\nbatch_child.main()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(batch_size, "CHILD", "hurried")
    # 256 images of 32 x 32 x 2048 activations are 2.1 GB, 16 of them an eighth of one. A kernel
    # of one pixel makes them in a ninth of the time.
    found = tl.tune.find_batch_size(build(2048, 1), data(300), memory_gb=2.2, optimizer="sgd")
    assert found.batch_size in (16, 32, 64, 128)
    assert max(found.memory_gb.values()) < 2.2
    assert found.advice.endswith("for sgd the rate grows in proportion of the batch")


def test_not_even_the_smallest_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As the process above is ended, but in its first step.
    (tmp_path / "out_of_memory.py").write_text(
        "import os, sys\nsys.stdin.read()\nprint('{\"ready\": true}', flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(batch_size, "CHILD", "out_of_memory")
    found = tl.tune.find_batch_size(build(), data(20))
    assert found.batch_size is None
    assert "not even 16 images fit" in str(found)
    with pytest.raises(ValueError, match="`to` must be an integer >= 1"):
        found.scaled_rate(1e-3, 32)


class Script(layers.Layer):
    def call(self, x: Any) -> Any:
        return x


Script.__module__ = "__main__"


class Broken(layers.Layer):
    def call(self, x: Any) -> Any:
        return x


Broken.__module__ = "no_such_module"


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (Script(), ValueError, "another process can import; move Script to a module"),
        (Broken(), RuntimeError, "could not be trained in another process: ModuleNotFoundError"),
    ],
)
def test_layers_that_another_process_cannot_import_are_named(
    layer: Any, error: type[Exception], message: str
) -> None:
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layer, *build().layers])
    with pytest.raises(error, match=message):
        tl.tune.find_batch_size(model, data())


def test_how_the_rate_scales() -> None:
    def found(optimizer: str) -> BatchSizes:
        return BatchSizes(
            batch_size=128, images_per_second={}, memory_gb={}, optimizer=optimizer, advice=""
        )

    assert found("sgd").scaled_rate(0.1, 32) == pytest.approx(0.4)
    assert found("adamw").scaled_rate(0.1, 32) == pytest.approx(0.2)
    assert found("adamw").scaled_rate(0.1, 32, to=16) == pytest.approx(0.1 / math.sqrt(2))
    with pytest.raises(ValueError, match="`learning_rate` must be a finite number > 0"):
        found("sgd").scaled_rate(0, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unfreeze": "block77"}, "`unfreeze` must be one of"),
        ({"optimizer": "lion"}, "`optimizer` must be one of 'adamw'"),
        ({"memory_gb": 0}, "`memory_gb` must be a finite number > 0"),
        ({"data": data(10)}, "an ImageData with at least 16 training images"),
        ({"data": 1}, "`data` must be an ImageData"),
    ],
)
def test_bad_arguments_are_refused_before_any_process(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_size, "CHILD", "no.such.module")
    with pytest.raises((ValueError, TypeError), match=message):
        tl.tune.find_batch_size(**{"model": build(), "data": data(), **options})
