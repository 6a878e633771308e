# ruff: noqa: D102 - the methods here are those of a Keras callback
"""What the callbacks cost: an epoch with each of them beside an epoch of a bare fit.

Command:  python benchmarks/callbacks.py [--epochs 24] [--only NAME]
Measured: on two idle cores, own time as a share of an epoch of about 1.8 s:
          ValidationMetrics 0.76 %, TrainingMonitor 2.3 %; by epoch LearningRateDecay 0.2 %; by
          step LearningRateDecay 0.82 %, MomentumSchedule 0.71 %, SpatialDropoutSchedule 0.74 %:
          0.3 ms per step, two TensorFlow calls, in steps of only 40 ms. Pairs of epochs scatter
          by 3 to 5 % even with no callback, so they bound nothing below that.

A small CNN is trained on 1,280 images of 32 x 32 and validated on 10,000. Epochs with and without
the callback take turns inside one fit, and the first ones (tracing) are dropped. The first figure
is the time spent in the callback's own methods, as a share of the rest of the epoch: other work on
the machine slows both alike. The second is the median over pairs of neighbouring epochs, with and
without, of the processor time of the whole process, with its quartiles: it also sees what the
methods cause elsewhere, but hears every neighbour on the machine.
"""

import argparse
import time
from collections.abc import Callable

import keras
import numpy as np

from tltoolkit.callbacks import (
    LearningRateDecay,
    MomentumSchedule,
    SpatialDropoutSchedule,
    TrainingMonitor,
    ValidationMetrics,
    layers,
    schedules,
)

WARM_UP = 4
METHODS = (
    *("on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_epoch_end"),
    "score",  # where ValidationMetrics works
)
CLASSES = 10


def build() -> keras.Model:
    stack: list[keras.layers.Layer] = [keras.Input((32, 32, 3))]
    for width in (16, 32, 64):
        stack += [
            keras.layers.Conv2D(width, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
        ]
    stack += [
        layers.ScheduledSpatialDropout2D(0.1),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(CLASSES, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    return model


class TakingTurns(keras.callbacks.Callback):
    """Hands every event to the callback inside in every second epoch only, and times epochs."""

    def __init__(self, inside: keras.callbacks.Callback) -> None:
        super().__init__()
        self.inside = inside
        self.on = True
        self.seconds: list[float] = []
        self.shares: list[float] = []
        self.own = 0.0
        for name in METHODS:
            if hasattr(inside, name):
                setattr(inside, name, self._timed(getattr(inside, name)))

    def _timed(self, method: Callable[..., object]) -> Callable[..., object]:
        def timed(*args: object, **kwargs: object) -> object:
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.own += time.perf_counter() - start

        return timed

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.inside.set_model(model)

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.inside.on_train_begin()
        # ValidationMetrics recognises its fit by the list of callbacks that it is in.
        self.wrapped = self.model.__dict__.get("evaluate")

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.own = 0.0
        self.start, self.wall = time.process_time(), time.perf_counter()
        self.on = epoch % 2 == 0
        if self.wrapped is not None:
            self.model.__dict__.pop("evaluate", None)
            if self.on:
                self.model.evaluate = self._as_if_inside
        if self.on:
            self.inside.on_epoch_begin(epoch)

    def _as_if_inside(self, *args: object, callbacks: object = None, **kwargs: object) -> object:
        callbacks.callbacks.append(self.inside)
        try:
            return self.wrapped(*args, callbacks=callbacks, **kwargs)
        finally:
            callbacks.callbacks.remove(self.inside)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self.on:
            self.inside.on_train_batch_begin(batch)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.on:
            self.inside.on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.on:
            self.inside.on_epoch_end(epoch, logs)
        self.seconds.append(time.process_time() - self.start)
        if self.on:
            self.shares.append(self.own / (time.perf_counter() - self.wall - self.own))


def overhead(callback: keras.callbacks.Callback, data: tuple, epochs: int) -> str:
    turns = TakingTurns(callback)
    (x, y), validation = data
    build().fit(
        x, y, batch_size=64, epochs=epochs, verbose=0, validation_data=validation, callbacks=[turns]
    )
    with_it, bare = np.array(turns.seconds[WARM_UP:]).reshape(-1, 2).T
    low, middle, high = 100 * np.quantile(with_it / bare - 1, [0.25, 0.5, 0.75])
    own = 100 * np.median(turns.shares[WARM_UP // 2 :])
    return f"{own:5.2f} %   {middle:+6.2f} % ({low:+.2f} .. {high:+.2f}) of {np.median(bare):.2f} s"


def main(epochs: int, only: str) -> None:
    rng = np.random.default_rng(0)

    def images(count: int) -> tuple:
        x = rng.normal(size=(count, 32, 32, 3)).astype("float32")
        return x, rng.integers(0, CLASSES, count)

    train, validation = images(1280), images(10_000)
    steps = 20 * epochs
    cases = {
        "nothing": keras.callbacks.Callback(),
        "ValidationMetrics": ValidationMetrics(),
        "TrainingMonitor": TrainingMonitor((train[0][:64], train[1][:64])),
        "LearningRateDecay by step": LearningRateDecay(schedules.cosine(0.01, steps), by="step"),
        "MomentumSchedule by step": MomentumSchedule(schedules.linear(0.9, steps, 0.5), by="step"),
        "SpatialDropoutSchedule by step": SpatialDropoutSchedule(
            schedules.linear(0.2, steps), by="step"
        ),
        "LearningRateDecay by epoch": LearningRateDecay(schedules.cosine(0.01, epochs)),
    }
    for name, callback in cases.items():
        if only in name:
            print(f"{name:32}{overhead(callback, (train, validation), epochs)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=24, help="an even number above 6")
    parser.add_argument("--only", default="", help="part of the name of the callbacks to measure")
    arguments = parser.parse_args()
    main(arguments.epochs, arguments.only)
