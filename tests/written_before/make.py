"""Write what `tests/test_written_before.py` reads: run once, at the commit that is to be kept.

    python tests/written_before/make.py DIRECTORY

Last run at commit dbfe91c. What it wrote is never written anew by a later commit: it stands for
the files that users have.
"""

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tltoolkit as tl

SIZE = 32  # the smallest of the embedded backbone, so that the files stay small
NAMES = ("glass", "metal", "paper")
PLAN = tl.Plan(
    (
        tl.Stage("head", epochs=2, learning_rate=1e-2, augment="none"),
        tl.Stage("upper", unfreeze=1, epochs=3, learning_rate=1e-3, layer_decay=0.8, warmup=0.5),
    )
)


class Broken(keras.callbacks.Callback):
    """Ends the run at the end of its fourth epoch, which is the second of the second stage."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.left = epochs

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left == 0:
            raise InterruptedError


def images() -> tuple[np.ndarray, np.ndarray]:
    """30 noisy images of three colours, uint8, and their labels."""
    labels = np.arange(30) % 3
    pixels = np.random.default_rng(0).integers(0, 170, (30, SIZE, SIZE, 3))
    pixels[np.arange(30), :, :, labels] += 60
    return pixels.astype(np.uint8), labels


def data() -> tl.data.ImageData:
    """The images, split."""
    return tl.data.from_arrays(*images(), class_names=NAMES, val=0.3, test=0.0)


def built(start: Path) -> keras.Model:
    """A classifier of the toolkit with the weights that are kept in `start`."""
    model = tl.build_classifier(
        "efficientnet_lite0", NAMES, weights=None, image_size=SIZE, trunk="block1"
    )
    with np.load(start) as kept:
        model.set_weights([kept[str(i)] for i in range(len(kept.files))])
    return model


def own(start: Path) -> keras.Model:
    """A model that the toolkit did not build."""
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="scale")(pixels)
    x = keras.layers.Conv2D(4, 3, strides=2, name="conv")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(pixels, keras.layers.Dense(3, activation="softmax", name="scores")(x))
    with np.load(start) as kept:
        model.set_weights([kept[str(i)] for i in range(len(kept.files))])
    return model


def train(model: keras.Model, run_dir: Path | None, epochs: int = 0) -> Any:
    """The run that was interrupted, finished, or goes on."""
    return tl.fine_tune(
        model, data(), PLAN, "light", batch_size=8, callbacks=[Broken(epochs)], run_dir=run_dir,
        seed=3, verbose=0,
    )  # fmt: skip


def main(target: Path) -> None:
    """Write all of it."""
    keras.utils.set_random_seed(1)
    fresh = tl.build_classifier(
        "efficientnet_lite0", NAMES, weights=None, image_size=SIZE, trunk="block1"
    )
    keep(target / "built.npz", fresh.get_weights())
    shapes = [(3, 3, 3, 4), (4,), (4,), (4,), (4,), (4,), (4, 3), (3,)]
    rng = np.random.default_rng(2)
    values = [rng.normal(0, 0.3, shape) for shape in shapes]
    keep(target / "own.npz", [*values[:5], np.abs(values[5]) + 0.5, *values[6:]])
    for name, build in (("built", built), ("own", own)):
        try:
            train(build(target / f"{name}.npz"), target / f"{name}_interrupted", 4)
        except InterruptedError:
            print("interrupted", name)
        whole = train(build(target / f"{name}.npz"), None)
        done = train(build(target / f"{name}.npz"), target / f"{name}_finished")
        said = done.model.predict(images()[0], verbose=0)
        assert np.array_equal(said, whole.model.predict(images()[0], verbose=0))
        np.save(target / f"{name}_says.npy", said)
    abstention = tl.evaluation.Abstention(threshold=0.4, coverage=0.9, accuracy=0.8)
    temperature = tl.evaluation.Temperature(value=1.7)
    decision = tl.evaluation.Decision(temperature=temperature, abstention=abstention)
    tl.save(tl.load(target / "built_finished").model, target / "artifact", decision=decision)
    predicted = tl.load(target / "artifact").predict(list(images()[0]))
    np.save(
        target / "artifact_says.npy",
        [list(said.probabilities.values()) for said in predicted],
    )


def keep(path: Path, values: list[np.ndarray]) -> None:
    """Arrays in their order."""
    np.savez(path, **{str(i): np.float32(value) for i, value in enumerate(values)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
