"""A stage that is trained by gradient descent."""

from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.plans.terms import OPTIMIZERS

SIZE = 8


class Counted(keras.layers.Dense):
    """Counts how often its step is traced."""

    traced = 0

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        Counted.traced += bool(training)
        return super().call(inputs)


@pytest.mark.parametrize("decay", [1.0, 0.5], ids=["one rate", "a rate for each block"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_is_traced_once(optimizer: str, decay: float) -> None:
    labels = np.tile([0, 1, 2], 11)  # 33: a smaller batch at the end of an epoch is no new step
    pixels = np.random.default_rng(0).integers(0, 256, (33, SIZE, SIZE, 3), np.uint8)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(2, 3, name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, Counted(3, name="scores")(x))
    data = tl.data.from_arrays(pixels, labels, val=0.3)
    stage = tl.Stage(
        "all", unfreeze="all", epochs=2, learning_rate=1e-3, optimizer=optimizer, layer_decay=decay
    )
    Counted.traced = 0
    tl.fine_tune(model, data, tl.Plan((stage,)), batch_size=8, verbose=0, from_logits=True)
    assert Counted.traced == 1
