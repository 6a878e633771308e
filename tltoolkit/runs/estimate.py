"""What a training run would take, before it is begun: parameters, time, memory."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import psutil

from tltoolkit.augment import threads
from tltoolkit.augment.labels import reader
from tltoolkit.imbalance import Imbalance
from tltoolkit.layers import graph
from tltoolkit.model import freezing
from tltoolkit.model.network import RGB
from tltoolkit.plans import ready
from tltoolkit.plans.stages import Plan, Stage
from tltoolkit.plans.terms import LBFGS
from tltoolkit.runs import auto
from tltoolkit.runs.preparing import Prepared, prepare
from tltoolkit.solving.heads import MOST_ROWS
from tltoolkit.training import closed, correcting, features, gradient, objective, probe
from tltoolkit.training.job import Job, Task, task_of
from tltoolkit.training.sweep import training_step
from tltoolkit.training.untouched import untouched

# Images decoded, and rows of features solved, to measure how long one takes.
DECODED, SOLVED = 8, 256
# A pass that learns computes about three times as much as one that only looks.
LEARNS = 3
_FLOAT = 4  # bytes of a float32, in which Keras keeps an optimizer's slots


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """What one stage would take.

    Attributes:
        stage: The stage.
        trains: Parameters that train.
        views: Versions of each image whose activations are stored.
        seconds: Wall-clock time.
        gib: Memory at its peak, that of the process as it is included.
    """

    stage: Stage
    trains: int
    views: int
    seconds: float
    gib: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take. Prints as a table.

    Attributes:
        plan: Its stages; after `plan="auto"` those that most data sets get.
        parameters: Of the model.
        counts: Split name -> images of each class, in the order of `class_names`.
        class_names: The classes.
        stages: One for each stage.
    """

    plan: Plan
    parameters: int
    counts: dict[str, tuple[int, ...]]
    class_names: tuple[str, ...]
    stages: tuple[StageEstimate, ...]

    @property
    def seconds(self) -> float:
        """Wall-clock time of all stages."""
        return sum(one.seconds for one in self.stages)

    @property
    def gib(self) -> float:
        """Memory at its peak."""
        return max(one.gib for one in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        told = dataclasses.asdict(self) | {"plan": self.plan.to_dict()}
        told["stages"] = [s | {"stage": s["stage"]["name"]} for s in told["stages"]]
        return {**told, "seconds": self.seconds, "gib": self.gib}

    def __str__(self) -> str:
        return "\n".join((str(self.plan), "", *self._classes(), "", *self._stages()))

    def _classes(self) -> Iterator[str]:
        width = max(map(len, ("images", *self.class_names)))
        yield f"{'images':<{width}}" + "".join(f"{split:>8}" for split in self.counts)
        for c, name in enumerate(self.class_names):
            yield f"{name:<{width}}" + "".join(f"{row[c]:>8}" for row in self.counts.values())

    def _stages(self) -> Iterator[str]:
        width = max(8, *(len(one.stage.name) for one in self.stages))
        yield f"{'estimate':<{width}}{'trains':>14}{'views':>7}{'time':>10}{'memory':>11}"
        for one in self.stages:
            trains, memory = f"{one.trains:,}", f"{one.gib:.1f} GiB"
            shown = f"{trains:>14}{one.views:>7}{_clock(one.seconds):>10}{memory:>11}"
            yield f"{one.stage.name:<{width}}{shown}"
        total, memory = f"of {self.parameters:,}", f"{self.gib:.1f} GiB"
        yield f"{'in all':<{width}}{total:>14}{'':>7}{_clock(self.seconds):>10}{memory:>11}"
        yield "Measured on one warm step of each kind and multiplied: expect half to twice as much."


def estimate(
    model: Any,
    data: Any,
    plan: str | Plan = "auto",
    augment: Any = "auto",
    *,
    imbalance: str | Imbalance = "none",
    batch_size: int = 32,
    seed: int = 0,
    cache_gb: float = 2.0,
    cache_dtype: str = "float32",
    from_logits: bool | str = "auto",
    budget: float | str | None = None,
) -> Estimate:
    """Time and memory that `fine_tune` would take with these arguments, which see.

    One step of every kind is taken and timed; the model is afterwards as it was, and nothing is
    written. Which images can be read is not looked at.

    Raises:
        ValueError: As `fine_tune`.
    """
    prepared = prepare(
        *(model, data, plan, augment, imbalance),
        batch_size=batch_size,
        seed=seed,
        cache_gb=cache_gb,
        cache_dtype=cache_dtype,
        from_logits=from_logits,
        budget=budget,
    )
    job = dataclasses.replace(prepared.job, val=None)  # only what trains is measured
    begun = prepared.begun.stages
    held = 0 if data.val is None else len(data.val)
    look = partial(_stage, job, held=held, decoding=_decoding_seconds(job))
    # Steps are taken for real, and change weights and random states.
    with untouched(prepared.trained):
        found = [look(s, i) for i, s in enumerate(begun)]
        more = _more(prepared, found[0].seconds)
        found += [look(s, i) for i, s in enumerate(more, len(begun))]
    return Estimate(
        plan=Plan((*begun, *more)),
        parameters=prepared.trained.count_params(),
        counts={name: tuple(split.class_counts.tolist()) for name, split in data.splits.items()},
        class_names=data.class_names,
        stages=tuple(found),
    )


def _more(prepared: Prepared, spent: float) -> tuple[Stage, ...]:
    """What usually follows the stages that a run begins with, the first of them in so long."""
    begun, job = prepared.begun.stages, prepared.job
    per_class = len(job.train.source) / job.train.targets.shape[1]
    if prepared.compares:
        return ready.after_solved(
            tunes=prepared.plan == "auto",
            images_per_class=per_class,
            # Not known before the head is solved. NaN is above no limit and rules nothing out.
            held_out=math.nan,
            validated=prepared.data.val is not None,
            epochs=auto.epochs_within(prepared.budget, spent),
        )[0]
    # The score is not known yet; one between the limits gets the usual stages.
    middle = (ready.NEAR + ready.FAR) / 2
    usual = ready.after_head(per_class, middle)[0] if prepared.plan == "auto" else ()
    return (*usual, *correcting.last_stages(job, (*begun, *usual)))


def _stage(job: Job, stage: Stage, number: int, held: int, decoding: float) -> StageEstimate:
    plan = freezing.freeze_plan(job.model, job.network.blocks, stage.unfreeze, stage.batch_norm)
    freezing.apply_freeze(job.model, plan)
    task = task_of(job, stage, number, 0, plan)
    count = len(job.train.source)
    trains = sum(math.prod(v.shape) for v in job.model.trainable_variables)
    below = _frozen_seconds(task) if task.views else 0.0
    if stage.solved:
        learning, slots = _solving_seconds(task, count * task.views), 0
    else:
        step, slots = _step(task)
        # Validation looks at its images and learns nothing from them.
        looks = held / job.batch_size / LEARNS
        learning = step * stage.epochs * (job.steps + looks)
    # What is stored is decoded once per view, what is not once per epoch.
    passes = (task.views or stage.epochs) * count + (1 if task.views else stage.epochs) * held
    seconds = learning + passes * (decoding + below / job.batch_size)
    return StageEstimate(
        stage=stage,
        trains=trains,
        views=task.views,
        seconds=seconds,
        gib=_resident() + (_bytes(task, held, trains) + slots) / 2**30,
    )


def _bytes(task: Task, held: int, trains: int) -> float:
    """Gradients, the best weights, stored features and the activations of a step."""
    job, storage = task.job, task.job.features.storage
    stored = 0.0
    if task.tensor is not None:
        row = math.prod(task.tensor.shape[1:]) * np.dtype(storage.dtype).itemsize
        stored = row * (task.views * len(job.train.source) + held)
    best = _FLOAT * job.model.count_params()
    activations = 2 * _FLOAT * job.batch_size * _values(task)
    return _FLOAT * trains + best + min(stored, storage.memory_gb * 2**30) + activations


def _values(task: Task) -> int:
    """Values of all layers' outputs for one image, in the part that is computed at every step."""
    if task.job.network.output is None:
        return 0  # its graph is not known
    shapes = [t.shape[1:] for node in graph.nodes(task.trainer()) for t in node.outputs]
    return sum(math.prod(size or 1 for size in shape) for shape in shapes)


def _step(task: Task) -> tuple[float, int]:
    """Seconds of a training step, and bytes that the optimizer keeps."""
    job, rng = task.job, np.random.default_rng(0)
    trainer = task.trainer()
    # A step takes as long at any rate; at this one it hardly moves the weights.
    optimizer = gradient.optimizer_of(trainer, task, lambda factor: 1e-6)
    step = training_step(trainer, objective.loss_of(task), optimizer)
    known = job.network.output is not None
    shape = trainer.inputs[0].shape[1:] if known else _image(job, job.network.channels)
    x = rng.random((job.batch_size, *shape), np.float32)
    y = job.train.targets[rng.integers(0, len(job.train.targets), job.batch_size)]
    seconds = _warm(lambda: step((x, y)))
    return seconds, sum(_FLOAT * math.prod(v.shape) for v in optimizer.variables)


def _image(job: Job, channels: int) -> tuple[int, int, int]:
    return (job.network.image_size, job.network.image_size, channels)


def _frozen_seconds(task: Task) -> float:
    """Seconds of a batch through the frozen part."""
    count = len(task.job.train.source)
    function = features.frozen_function(task.job.model, task.tensor, count)
    images = np.zeros((task.job.batch_size, *_image(task.job, RGB)), np.uint8)
    return _warm(lambda: function(images))


def _solving_seconds(task: Task, count: int) -> float:
    """Seconds of solving the head on so many rows."""
    rng, job = np.random.default_rng(0), task.job
    rows = min(SOLVED, len(job.train.targets))
    assert task.tensor is not None
    x = rng.random((rows, task.tensor.shape[-1]), np.float32)
    # From all over the split, which may be sorted by class: solving takes several of them.
    chosen = np.linspace(0, len(job.train.targets) - 1, rows).astype(int)
    targets = job.train.targets[chosen]
    started = time.perf_counter()
    if task.stage.optimizer == LBFGS:
        probe.solve(x, targets, None, job.multi_label)
        return (time.perf_counter() - started) / rows * count
    closed.choose(task, x, targets, np.arange(rows), None)
    # Between the products of the rows and their inverse, which grow with the square and the cube.
    return float(time.perf_counter() - started) * (min(count, MOST_ROWS) / rows) ** 2


def _decoding_seconds(job: Job) -> float:
    """Seconds of an image from its file through the pipeline, with all cores at work."""
    count = min(DECODED, len(job.train.source))
    image = reader(job.train.source, job.network.image_size)
    started = time.perf_counter()
    for i in range(count):
        job.augmented(image(i), 0, i)
    return (time.perf_counter() - started) / count / threads.cores()


def _warm(call: Callable[[], Any]) -> float:
    """Seconds of a call's second time; the first one builds what the others use."""
    call()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _resident() -> float:
    """GiB that this process holds now."""
    return float(psutil.Process().memory_info().rss) / 2**30


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
