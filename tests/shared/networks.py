"""Tiny networks of every kind that users have, and images for them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import tltoolkit as tl

SIZE = 8
layers = keras.layers
Head = Callable[[Any], Any]


def body(x: Any) -> Any:
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(layers.Rescaling(1 / 255)(x))
    return layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="relu")(x))


def flat(head: Head, channels: int = 3) -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, channels))
    return keras.Model(pixels, head(body(pixels)), name="theirs")


def nested(head: Head, channels: int = 3) -> keras.Model:
    pixels, inside = (keras.Input((SIZE, SIZE, channels)) for _ in range(2))
    whole = keras.Model(inside, head(body(inside)))
    return keras.Model(pixels, whole(pixels), name="theirs")


def sequential(head: Head, channels: int = 3) -> keras.Model:
    pixels, rows = keras.Input((SIZE, SIZE, channels)), keras.Input((6,))
    parts = [keras.Model(pixels, body(pixels)), keras.Model(rows, head(rows))]
    return keras.Sequential([keras.Input((SIZE, SIZE, channels)), *parts], name="theirs")


class Subclassed(keras.Model):
    """Head and body are called in `call`, so that nothing shows which comes last."""

    def __init__(self, head: Head, channels: int = 3) -> None:
        super().__init__(name="theirs")
        rows, pixels = keras.Input((6,)), keras.Input((SIZE, SIZE, channels))
        self.top = keras.Model(rows, head(rows))
        self.lower = keras.Model(pixels, body(pixels))
        self(np.zeros((1, SIZE, SIZE, channels), np.float32))

    def call(self, x: Any) -> Any:
        return self.top(self.lower(x))


KINDS = {"flat": flat, "nested": nested, "sequential": sequential, "subclassed": Subclassed}


def dense(units: int = 3, activation: Any = None, **options: Any) -> Head:
    return layers.Dense(units, activation, **options)


def then(*parts: Any) -> Head:
    """Several callables, one after the other."""

    def head(x: Any) -> Any:
        for part in parts:
            x = part(x)
        return x

    return head


def data(classes: int = 3, count: int = 36, val: float = 0.25, **options: Any) -> Any:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    images = rng.integers(0, 100, (count, SIZE, SIZE, 3)) + 70 * labels[:, None, None, None]
    return tl.data.from_arrays(images.clip(0, 255).astype(np.uint8), labels, val=val, **options)


def pixels(split: Any) -> Any:
    return np.stack([split.image(i) for i in range(len(split))])
