"""A head in closed form: chosen by cross-validation over all images, solved on some of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tltoolkit._checks import listed
from tltoolkit.layers import graph
from tltoolkit.layers.spatial import SpatialStatistics
from tltoolkit.model.network import Network
from tltoolkit.solving import heads
from tltoolkit.solving.heads import Candidates
from tltoolkit.solving.rows import Parts, Rows
from tltoolkit.training.job import Task

Held = tuple[np.ndarray, np.ndarray] | None
Columns = tuple[slice, np.ndarray | None]
WHOLE = "features"  # the one part of a head that reads one vector
LAST = "the last"  # candidate: the last block alone
CALM = ("mean", "std")  # the statistics that a single odd position cannot move far


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The heads that were chosen; for each label alone where labels have weights of their own.

    Attributes:
        task: The stage.
        parts: Name -> columns of the features.
        candidates: Name -> parts that a head may read.
        choices: One, or one for each label.
        groups: Of the training rows and the validation images: equal for what belongs together.
    """

    task: Task
    parts: Parts
    candidates: Candidates
    choices: tuple[heads.Choice, ...]
    groups: np.ndarray

    @property
    def held_out(self) -> np.ndarray:
        """(N, C) logits of each row by heads that did not see it; training rows first."""
        return np.concatenate([one.held_out for one in self.choices], axis=1)

    def on(self, rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (F, C) and bias (C,) of the chosen heads, solved on these rows."""
        made = []
        pairs = zip(_labels(self.task, targets), self.choices, strict=True)
        for (columns, weights), one in pairs:
            given = np.ones(len(rows)) if weights is None else weights
            several = self.task.job.multi_label
            part = Rows(rows, targets[:, columns], given, self.parts, several)
            made.append(heads.average(part, self.candidates, one.chosen))
        # Side by side: one label, one column.
        kernels, biases = zip(*made, strict=True)
        return np.concatenate(kernels, axis=1), np.concatenate(biases)

    def usual(self, rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (F, C) and bias (C,) of a head that reads the means of the last block alone.

        Chosen and solved on the training rows.
        """
        *_, final = self.parts
        mean = f"{final.rpartition(' ')[0]} mean"
        candidates = {LAST: (mean if mean in self.parts else final,)}
        groups = self.groups[: len(rows)]
        choices = _choices(self.task, rows, targets, self.parts, candidates, groups)
        return replace(self, candidates=candidates, choices=choices).on(rows, targets)


def choose(
    task: Task, rows: np.ndarray, targets: np.ndarray, groups: np.ndarray, held: Held
) -> Choice:
    """Choose among heads by what they say of images that they have not seen.

    Args:
        task: The stage.
        rows: Features (M, F) of the training images.
        targets: Theirs, (M, C).
        groups: (M + V,) rows of equal value, such as versions of one image, are held out
            together; those of the validation images last.
        held: Features and targets of the V validation images, which have their say as well, but
            where the training images alone are as many as a choice is made on.
    """
    # Beyond that a choice takes a part of the rows anyway, and more say the same.
    if held is not None and len(rows) < heads.MOST_ROWS:
        rows, targets = np.concatenate([rows, held[0]]), np.concatenate([targets, held[1]])
    parts = parts_of(task.job.network, rows.shape[1])
    candidates = candidates_of(parts)
    # Said aloud, as figures of a choice would otherwise seem to be of all classes.
    silent = _without_say(targets, groups[: len(rows)])
    if task.job.verbose and len(silent):
        names = [task.job.correction.class_names[c] for c in silent]
        print(f"No say in the choice, since all their images are of one group: {listed(names)}")
    # Those of validation rows come last, and fall away where these were not taken in.
    choices = _choices(task, rows, targets, parts, candidates, groups[: len(rows)])
    return Choice(task=task, parts=parts, candidates=candidates, choices=choices, groups=groups)


def _choices(
    task: Task,
    rows: np.ndarray,
    targets: np.ndarray,
    parts: Parts,
    candidates: Candidates,
    groups: np.ndarray,
) -> tuple[heads.Choice, ...]:
    return tuple(
        heads.choose(
            rows,
            targets[:, columns].astype(np.float64),
            parts,
            candidates,
            multi_label=task.job.multi_label,
            kinds=(task.stage.optimizer,),
            weights=weights,
            groups=groups,
            seed=task.seed,
        )
        for columns, weights in _labels(task, targets)
    )


def _without_say(targets: np.ndarray, groups: np.ndarray) -> list[int]:
    """Classes whose images cannot be both learned and held out: those of one group, if any."""
    counts = [len(np.unique(groups[targets[:, c] > 0])) for c in range(targets.shape[1])]
    return [c for c, count in enumerate(counts) if count == 1]


def parts_of(network: Network, width: int) -> dict[str, slice]:
    """Name -> columns of a head's features: each statistic of each block that it reads."""
    found, at = {}, 0
    for node in graph.nodes(network.model):
        if not isinstance(node.layer, SpatialStatistics):
            continue
        channels = node.inputs[0].shape[-1]
        for statistic in node.layer.statistics:
            name = f"{node.layer.name.removeprefix('head_')} {statistic}"
            found[name] = slice(at, at + channels)
            at += channels
    # Features of other columns are those of a head that is not ours, or has more below it.
    return found if at == width else {WHOLE: slice(0, width)}


def candidates_of(parts: Parts) -> dict[str, tuple[str, ...]]:
    """Name -> parts that a head may read, from a few that differ in how far up they look.

    Images that are like those of the backbone's training are told apart by its last layer, others
    by what comes before; a label on a whole texture by the middle. What serves is chosen, not
    guessed.
    """
    blocks = list(dict.fromkeys(name.rpartition(" ")[0] for name in parts))
    *below, last = blocks

    def of(chosen: list[str], statistics: tuple[str, ...] | None = None) -> tuple[str, ...]:
        return tuple(
            name
            for name in parts
            if name.rpartition(" ")[0] in chosen
            and (statistics is None or name.rpartition(" ")[2] in statistics)
        )

    # Below it lie edges and colours, above its half what the backbone's own classes need.
    first = round(len(below) * 3 / 8)
    made = {
        "all blocks": of(blocks),
        "all but the last": of(below),
        "all but the last, without maxima": of(below, CALM),
        "the middle": of(below[first : first + len(below) // 2]),
        LAST: of([last]),
    }
    # One name for each set, the first; a head on one block has but one.
    different = {names: name for name, names in reversed(made.items()) if names}
    return {name: names for name, names in made.items() if different.get(names) == name}


def _labels(task: Task, targets: np.ndarray) -> Iterator[Columns]:
    """Columns of the targets that are solved together, and the weights (N,) of their rows."""
    made_up = task.job.correction.imbalance.features is not None
    # Of several labels each row has a weight for each: they are then solved one by one.
    weights = task.job.correction.solver_weights(targets, made_up)
    if weights is None or weights.ndim == 1:
        yield slice(0, targets.shape[1]), weights
        return
    for c in range(targets.shape[1]):
        yield slice(c, c + 1), weights[:, c]
