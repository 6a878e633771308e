"""Made-up rows of stored features for the rarer classes, as `Imbalance(features=...)` asks."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.imbalance import Correction, resample
from tltoolkit.model import freezing
from tltoolkit.model.network import Network
from tltoolkit.plans.stages import Stage


def rows(stored: np.ndarray, correction: Correction, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Real and made-up features (1, M, F) and their one-hot targets (M, C).

    Every stored version of an image is a row of its own.

    Args:
        stored: Activations (views, N, F).
        correction: What is done about class imbalance.
        seed: Of the sampler.
    """
    # In the order of `reshape` below: version after version.
    labels = np.tile(correction.labels, len(stored))
    flat = stored.reshape(-1, stored.shape[-1])
    made, classes = resample(flat, labels, correction.imbalance.features, seed)
    # As stored activations come: one view.
    return made[None], np.eye(len(correction.counts), dtype=np.float32)[classes]


def sample(count: int, size: int, seed: int) -> Callable[[int], np.ndarray]:
    """From the epoch to `size` of `count` rows; the epochs take turns among them."""
    # One order for all epochs, which go on in it: each row comes equally often.
    order = np.random.default_rng(seed).permutation(count)
    return lambda epoch: order[(epoch * size + np.arange(size)) % count]


def check_stage(
    network: Network, stage: Stage, correction: Correction, plan: Mapping[str, bool]
) -> None:
    """Raise ValueError if rows are to be made up and the stage stores no vectors of features.

    Args:
        network: The classifier.
        stage: The stage.
        correction: What is done about class imbalance.
        plan: The stage's freeze plan.
    """
    if correction.imbalance.features is None:
        return
    tensor: Any = None
    if network.output is not None and stage.cache_views != 0:
        moved = freezing.recalibrated(
            network.model, network.blocks, stage.unfreeze, stage.batch_norm
        )
        tensor = freezing.boundary(network.model, plan, moved)
    if tensor is None or len(tensor.shape) != 2:
        rule = (
            f"None for stage {stage.name!r}, which trains more than a head on stored vectors of "
            "features; plan='linear_probe' trains no more"
        )
        raise _checks.fail("features", rule, correction.imbalance.features)
