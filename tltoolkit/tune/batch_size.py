"""find_batch_size: which batch fits the memory and how fast it is, measured in another process."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tltoolkit import _checks
from tltoolkit.layers import graph
from tltoolkit.model import freezing
from tltoolkit.training.trial import network_for
from tltoolkit.training.untouched import untouched
from tltoolkit.tune.terms import FIND_BATCH_SIZE, SCALED_RATE

# Each twice the last, so that few measurements span what one device takes.
SIZES = (16, 32, 64, 128, 256)
# Optimizers whose step is the gradient's own size; the others scale it away.
LINEAR = ("sgd",)
CHILD = "tltoolkit.tune.batch_child"


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """What `find_batch_size` saw. Prints as its advice and a table.

    Attributes:
        batch_size: The largest that fits, or None where not even the smallest does.
        images_per_second: Batch size -> training images per second, for each that fits.
        memory_gb: Batch size -> GiB that the process held at most by then, for each that fits.
        optimizer: Whose rate `scaled_rate` scales.
        advice: One sentence.
    """

    batch_size: int | None
    images_per_second: Mapping[int, float]
    memory_gb: Mapping[int, float]
    optimizer: str
    advice: str

    def __str__(self) -> str:
        rows = [
            f"{size:5} images  {speed:9.1f} images/s  {self.memory_gb[size]:7.2f} GiB"
            for size, speed in self.images_per_second.items()
        ]
        return "\n".join([self.advice, *rows])

    def scaled_rate(self, learning_rate: float, batch_size: int, to: int | None = None) -> float:
        """The rate for another batch size.

        For `"sgd"` it grows with the batch (Goyal et al. 2017, Accurate, large minibatch SGD),
        for Adam and its likes with the square root of it (Malladi et al. 2022, On the SDEs and
        scaling rules for adaptive gradient algorithms).

        Args:
            learning_rate: A rate that is good with `batch_size`, > 0.
            batch_size: Images per step, >= 1.
            to: The other batch size; None is the one that was found.

        Raises:
            ValueError: A value out of range, or no batch size was found.
        """
        # Before the checks, which look at what is meant.
        target = self.batch_size if to is None else to
        _checks.arguments(SCALED_RATE, locals())
        _checks.integer("to", target, 1)
        ratio = int(target or 0) / batch_size
        return learning_rate * (ratio if self.optimizer in LINEAR else math.sqrt(ratio))

    def plot(self) -> Any:
        """Images per second and memory by batch size, as a matplotlib figure."""
        with _checks.extra("plots need matplotlib", "report"):
            from matplotlib.figure import Figure
        figure = Figure(figsize=(8, 3), layout="constrained")
        rows = (("images per second", self.images_per_second), ("GiB held", self.memory_gb))
        for axes, (title, values) in zip(figure.subplots(1, 2), rows, strict=True):
            axes.bar([str(size) for size in values], list(values.values()))
            axes.set(xlabel="batch size", title=title)
        return figure


def find_batch_size(
    model: Any,
    data: Any,
    unfreeze: str | int | float = "all",
    *,
    batch_norm: str = "frozen",
    optimizer: str = "adamw",
    memory_gb: float | None = None,
    from_logits: bool | str = "auto",
) -> BatchSizes:
    """Find the largest of 16, 32, ... 256 images whose training step fits the memory.

    Another process builds the same network with random weights and takes steps on random
    pixels. If it runs out of memory only that process ends; the model here is not touched.

    Args:
        model: As for `tl.fine_tune`. Layers of your own must be classes of a module that can be
            imported, not of the script that runs.
        data: An `ImageData`; no batch larger than its training images is tried.
        unfreeze: What trains, as in `tl.Stage`. The frozen part runs once per batch.
        batch_norm: As in `tl.Stage`.
        optimizer: As in `tl.Stage`; it decides how the learning rate should scale.
        memory_gb: GiB that the process may hold, > 0; None is what the machine has free. Only
            Linux can limit it; elsewhere, and on a GPU, it is what the device has.
        from_logits: As in `tl.fine_tune`.

    Raises:
        ValueError: An argument out of range, a model without variables that train or of layers
            that another process cannot import, fewer than 16 training images.
        RuntimeError: The other process failed for another reason than its memory.
    """
    _checks.arguments(FIND_BATCH_SIZE, locals())
    network = network_for(model, data, from_logits)
    # A larger batch than the data would be the same batch.
    sizes = [size for size in SIZES if size <= len(data.train)]
    if not sizes:
        rule = f"an ImageData with at least {SIZES[0]} training images"
        raise _checks.fail("data", rule, data)
    order = {
        "sizes": sizes,
        "optimizer": optimizer,
        "memory_gb": memory_gb,
        "multi_label": data.multi_label,
        **_networks(model, network, unfreeze, batch_norm),
    }
    rows = {int(row["batch_size"]): row for row in _measure(order)}
    best = max(rows, default=None)
    return BatchSizes(
        batch_size=best,
        images_per_second={size: float(row["images_per_second"]) for size, row in rows.items()},
        memory_gb={size: float(row["memory_gb"]) for size, row in rows.items()},
        optimizer=optimizer,
        advice=_advice(best, sizes, optimizer),
    )


def _networks(model: Any, network: Any, unfreeze: Any, batch_norm: str) -> dict[str, Any]:
    """The frozen and the training part as JSON, and the classes that they are made of."""
    plan = freezing.freeze_plan(network.model, network.blocks, unfreeze, batch_norm)
    # The cut of a real stage, below what it will estimate anew.
    moved = freezing.recalibrated(network.model, network.blocks, unfreeze, batch_norm)
    cut = None if network.output is None else freezing.boundary(network.model, plan, moved)
    # The freeze plan is applied for the JSON, which has `trainable` in it.
    with untouched(model):
        freezing.apply_freeze(network.model, plan)
        if not network.model.trainable_variables:
            rule = f"one with variables that train with unfreeze={unfreeze!r}"
            raise _checks.fail("model", rule, model)
        # A subclassed model is not cut: it goes over whole.
        upper, lower = network.model, None
        if network.output is not None:
            start = network.model.input if cut is None else cut
            upper = graph.part(network.model, start, network.output)
        if cut is not None:
            lower = graph.part(network.model, network.model.input, cut)
        calls = [] if network.output is None else graph.nodes(network.model)
        # JSON tells layers apart by their names.
        with graph.distinct_names(node.layer for node in calls):
            lower, upper = lower and lower.to_json(), upper.to_json()
        return {
            "lower": lower,
            "upper": upper,
            "from_logits": network.from_logits,
            "image_size": network.image_size,
            "channels": network.channels,
            "classes": _own_classes(model),
        }


def _own_classes(model: Any) -> list[tuple[str, str]]:
    kinds = {type(layer) for layer in graph.layers_inside(model)}
    own = {kind for kind in kinds if not kind.__module__.startswith("keras.")}
    # A class of the script itself would run the whole script again when imported.
    if local := sorted(kind.__name__ for kind in own if kind.__module__ == "__main__"):
        rule = f"one whose layers another process can import; move {', '.join(local)} to a module"
        raise _checks.fail("model", rule, model)
    return sorted((kind.__module__, kind.__qualname__) for kind in own)


def _measure(order: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows that the other process printed before it ended."""
    # What can be imported here must be there as well, for layers of the user's.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", CHILD]
    # No `check`: an end without memory is a result here.
    done = subprocess.run(
        command, input=json.dumps(order), env=environment, capture_output=True, text=True
    )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    # Killed or aborted after it said that the network stands, it ran out of memory.
    if not rows or done.returncode > 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuntimeError(f"the network could not be trained in another process: {last}")
    # The first line only says that the network stands.
    yield from rows[1:]


def _advice(best: int | None, sizes: list[int], optimizer: str) -> str:
    if best is None:
        return f"not even {sizes[0]} images fit: train fewer blocks, or smaller images"
    grows = "in proportion" if optimizer in LINEAR else "with the square root"
    limit = "" if best < sizes[-1] else ", the largest that was tried"
    return f"up to {best} images fit{limit}; for {optimizer} the rate grows {grows} of the batch"
