"""What keeps any network from learning, found before it trains. Each gives a sentence, or ""."""

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from tltoolkit._checks import listed
from tltoolkit.check.memorise import Subject
from tltoolkit.layers import graph
from tltoolkit.model import freezing
from tltoolkit.model.network import Network
from tltoolkit.training.job import Job

# Rows of the batch that are looked at: a mixed-up one shows in a few, and each costs a pass
# backwards. And names in a sentence.
ROWS, SHOWN = 5, 3


def of_layers(network: Network) -> str:
    """Nothing trains, or the head does not."""
    if not network.model.trainable_variables:
        return "nothing trains: every layer is frozen (see tl.freeze)"
    head, labels = set(network.blocks[freezing.HEAD]), graph.labels(network.model)
    layers = [layer for layer in network.model.layers if labels[id(layer)] in head]
    frozen = [
        weight.path
        for layer in layers
        if layer.weights and not layer.trainable_variables
        for weight in layer.weights
    ]
    if any(layer.trainable_variables for layer in layers):
        return ""
    return f"the head is frozen: {listed(frozen, SHOWN)} do not train (see tl.freeze)"


def of_images(job: Job) -> str:
    """Images that come differently each time, or that have two labels."""
    source = job.train.source
    # Read twice: a generator behind `source` may give another image for the same number.
    first, second = (_digests(job) for _ in range(2))
    changed = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    if changed:
        # The same pictures in another order point to an unstable listing, others to chance.
        swapped = set(first) == set(second)
        what = "other images' pixels" if swapped else "other pixels"
        return (
            f"images and labels are not paired: read a second time, {len(changed)} of "
            f"{len(first)} images have {what}, such as {source.name(changed[0])}"
        )
    seen: dict[str, int] = {}
    for i, digest in enumerate(first):
        other = seen.setdefault(digest, i)
        if not np.array_equal(job.train.targets[i], job.train.targets[other]):
            return (
                f"one image has two labels: {source.name(other)} ({source.label_text(other)}) and "
                f"{source.name(i)} ({source.label_text(i)}) are the same to the model"
            )
    return ""


def of_gradients(subject: Subject) -> str:
    """Variables that train and get no gradient."""
    # Here and below, as a call moves batch statistics and random states.
    subject.reset()
    variables = subject.trainer.trainable_variables
    with tf.GradientTape() as tape:
        value = subject.loss(subject.y, subject.trainer(subject.x, training=True))
    gradients = tape.gradient(value, variables)
    subject.reset()
    missing = [v.path for v, g in zip(variables, gradients, strict=True) if g is None]
    if missing:
        return f"no gradient reaches {listed(missing, SHOWN)}: the loss does not depend on them"
    if not np.isfinite(float(value)):
        return f"the loss of the first step is {float(value)}; look at the range of the inputs"
    if not any(np.any(tf.convert_to_tensor(g).numpy()) for g in gradients):
        return "all gradients are zero: dead units, or outputs that are saturated from the start"
    return ""


def of_rows(subject: Subject) -> str:
    """Outputs that belong to another row of the batch than their own, or to none.

    Row i of the outputs must depend most on row i of the inputs.
    """
    rows = range(min(ROWS, len(subject.y)))
    subject.reset()
    x = tf.convert_to_tensor(subject.x)
    # Persistent for a gradient of each row; a Jacobian would be of all by all.
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = subject.trainer(x, training=True)
        # The sum of a softmax is always 1, its squares are not.
        parts = [tf.reduce_sum(tf.square(outputs[i])) for i in rows]
    depends = [tape.gradient(part, x) for part in parts]
    subject.reset()
    if any(gradient is None for gradient in depends):
        return ""  # a preprocessing without gradients says nothing
    strength = np.array([_strength(gradient) for gradient in depends])
    if not strength.any():
        return "the outputs do not depend on the images: dead units, or layers that forget them"
    # A row behind dead units depends on nothing, which says nothing about mixing.
    alive = strength.any(1)
    astray = int((strength.argmax(1) != np.arange(len(strength)))[alive].sum())
    # Most of them: batch statistics let a few depend more on others by chance.
    if 2 * astray > alive.sum():
        return (
            "a layer mixes up the images of a batch: in training, outputs depend on the images "
            f"of other rows ({astray} of {int(alive.sum())} rows), so labels are not paired"
        )
    return ""


def _strength(gradient: Any) -> Any:
    """How much each row of the inputs matters: (N,)."""
    flat = tf.reshape(gradient, (len(gradient), -1))
    return tf.norm(flat, axis=1).numpy()


def _digests(job: Job) -> list[str]:
    """SHA-256 of each image as the model gets it."""
    batches = job.train.batches(job.augmented, job.batch_size)
    return [
        # Hashes, so that two passes over the images need not be held to compare them.
        hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()
        for images, _ in batches
        for image in images
    ]
