"""Training on parts of the training images: a head on features computed once, or by a plan."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.artifacts.evaluating import evaluate
from tltoolkit.augment.labels import as_targets
from tltoolkit.data import ImageData
from tltoolkit.evaluation import Report
from tltoolkit.model import freezing
from tltoolkit.model.network import network_of, probabilities
from tltoolkit.plans.stages import Plan
from tltoolkit.runs.fine_tune import fine_tune
from tltoolkit.runs.terms import BARE
from tltoolkit.training import probe
from tltoolkit.training.caching import Examples, Features, Wanted
from tltoolkit.training.features import Storage
from tltoolkit.training.linear import l2_of, linear_head

# Of the pass that computes features, which are the same for any.
BATCH_SIZE = 32


def heads(
    model: Any, data: ImageData, on: str, from_logits: bool | str = "auto"
) -> Callable[[Any, int], Report]:
    """A function from rows of the training split and a seed to the report of a head on `on`.

    Features of all images are computed here. The head's penalty is picked on validation.

    Raises:
        ValueError: The model has other classes than the data, or its head is not one dense layer.
    """
    network = network_of(model, from_logits, data.multi_label)
    network.check_classes("data", data.class_names, data.multi_label)
    dense = linear_head(network)
    if dense is None:
        rule = "makes a model whose head is one dense layer, with no penalty but L2; or give a plan"
        raise _checks.fail("build", f"a function that {rule}", network.blocks[freezing.HEAD])
    plan = freezing.freeze_plan(network.model, network.blocks, freezing.HEAD)
    cut = freezing.boundary(network.model, plan)
    plain = network.plain
    # By name and once, as `on` may be the validation split.
    splits = {name: data.splits[name] for name in dict.fromkeys(("train", "val", on))}
    targets = {name: as_targets(split, None) for name, split in splits.items()}
    stored = Features(storage=Storage()).get(
        network.model,
        cut,
        BATCH_SIZE,
        [
            Wanted(examples=Examples(source=split, targets=targets[name]), pipeline=plain)
            for name, split in splits.items()
        ],
    )
    # The one view there is: images are shown plain.
    features = {name: np.asarray(values[0]) for name, values in zip(splits, stored, strict=True)}

    def train(rows: Any, seed: int) -> Report:
        held = features["val"], targets["val"]
        found = probe.solve(
            # Scaled within `solve`, on these rows alone, as a smaller data set would be.
            features["train"][rows],
            targets["train"][rows],
            held,
            data.multi_label,
            seed,
            l2=l2_of(dense),
        )
        # Without the model: on stored features the scores of a head are one product.
        said = probabilities(features[on] @ found.kernel + found.bias, data.multi_label)
        return Report.from_predictions(
            splits[on].labels, said, data.class_names, multi_label=data.multi_label
        )

    return train


def trainings(
    build: Callable[[], Any], data: ImageData, plan: str | Plan, on: str, options: dict[str, Any]
) -> Callable[[Any, int], Report]:
    """A function from rows of the training split and a seed to the report of a new model on `on`.

    The model is trained by a plan; `options` are further arguments of `fine_tune`.
    """
    # The data was checked as a whole.
    data, how = replace(data, duplicates="allow"), {**BARE, **options}

    def train(rows: Any, seed: int) -> Report:
        part = replace(data, train=data.train.subset(rows))
        # A new model each time: the curve is of trainings from the start.
        run = fine_tune(build(), part, plan, seed=seed, **how)
        meaning = options.get("from_logits", "auto")
        return evaluate(run.model, data.splits[on], from_logits=meaning)

    return train
