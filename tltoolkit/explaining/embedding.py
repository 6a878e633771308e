"""embed: images as the rows of features that a classifier's head reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.artifacts import seeing
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.data import Split
from tltoolkit.explaining import looking, plane, storing
from tltoolkit.explaining.maps import predictor_of
from tltoolkit.explaining.nearest import Singles, Standard, nearest
from tltoolkit.explaining.terms import EMBED, MAP, NEIGHBOURS, TSNE
from tltoolkit.runtimes.exported import Exported


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A row that is near to another.

    Attributes:
        name: Its name, as in `Embedding.names`.
        label: Its label, as in `Embedding.labels`; None where there are none.
        similarity: The cosine of both standardised rows, in -1..1.
        row: Which row it is.
    """

    name: str
    label: str | None
    similarity: float
    row: int


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Embedding:
    """N images as features, from `tl.embed`.

    Attributes:
        features: (N, F) float32, what the head reads.
        names: N names: paths, names of the split's images, or such as `images[3]`.
        labels: N names of classes, several joined by "|"; None for images without.
        predicted: N names of the classes that the classifier answers, joined in the same way.
        class_names: Those of the classifier.
        predictor: The classifier, which further images are asked of.
    """

    features: Singles
    names: tuple[str, ...]
    labels: tuple[str, ...] | None
    predicted: tuple[str, ...]
    class_names: tuple[str, ...]
    predictor: Predictor

    @cached_property
    def _standard(self) -> Standard:
        return Standard.of(self.features)

    @cached_property
    def _rows(self) -> Singles:
        return self._standard(self.features)

    def neighbours(
        self, images: Any, k: int = 5, *, batch_size: int = 32
    ) -> tuple[tuple[Neighbour, ...], ...]:
        """The rows that are most like each of some images.

        Every row is looked at. Features are brought to mean 0 and deviation 1 over the rows, and
        then compared by their cosine. The first call keeps a copy of the rows, so scaled.

        Args:
            images: One image or a sequence of them, as `Predictor.predict` takes them; a `Split`;
                or features of the same classifier, a float array (F,) or (M, F).
            k: Neighbours of each.
            batch_size: Images per forward pass.

        Returns:
            For each image its `k` neighbours, the most alike first; of equal ones the first row.

        Raises:
            ValueError: More neighbours than rows; features of another number, or not finite; an
                image that cannot be read, named.
        """
        _checks.arguments(NEIGHBOURS, locals())
        if k > len(self.names):
            raise _checks.fail("k", f"at most {len(self.names)}, as many as there are rows", k)
        queries = self._standard(self._features_of(images, batch_size))
        return tuple(
            tuple(map(self._neighbour, found.tolist(), cosines.tolist()))
            for found, cosines in nearest(self._rows, queries, k)
        )

    def map(self, method: str = TSNE, seed: int = 0) -> Singles:
        """The rows as points of a plane, (N, 2) float32, where neighbours lie together.

        They are laid out by the scaled rows that `neighbours` compares.

        Args:
            method: `"pca"` takes the two principal directions. `"tsne"` (van der Maaten and
                Hinton 2008) and `"umap"` (McInnes et al. 2018) lay out the first 50; of fewer
                than four or five rows they are PCA.
            seed: Of all chance.

        Raises:
            ValueError: Another method.
            ImportError: `"umap"` without umap-learn.
        """
        _checks.arguments(MAP, locals())
        return plane.flat(self._rows, method, seed)

    def save(self, path: str | Path) -> Path:
        """Write a new file for other tools; text that is no UTF-8 gets escapes.

        Args:
            path: A `.npz` of the arrays `features`, `names`, `labels` (where there are any),
                `predicted` and `class_names`, which `np.load` reads without pickle; or a
                `.parquet` of the columns name, label, predicted and features, a list in each row.

        Returns:
            The path.

        Raises:
            ValueError: Another ending.
            FileExistsError: Something has the name.
            ImportError: A `.parquet` without pyarrow.
        """
        kept = ("names", "labels", "predicted", "features")
        arrays = {name: getattr(self, name) for name in kept}
        return storing.save(path, arrays, self.class_names)

    def _features_of(self, images: Any, batch_size: int) -> Singles:
        given = isinstance(images, np.ndarray) and np.issubdtype(images.dtype, np.floating)
        # Four dimensions are a stack of images, of a type that is refused as such.
        if given and images.ndim <= 2:
            rows = np.atleast_2d(images).astype(np.float32)
            if rows.shape[1] != self.features.shape[1] or not np.isfinite(rows).all():
                rule = f"finite features (M, {self.features.shape[1]}), or images"
                raise _checks.fail("images", rule, images)
            return rows
        several = [images] if not isinstance(images, Split) and seeing.is_one(images) else images
        looking.check_some(several)
        return _computed(self.predictor, several, batch_size)[0]

    def _neighbour(self, row: int, similarity: float) -> Neighbour:
        label = None if self.labels is None else self.labels[row]
        return Neighbour(name=self.names[row], label=label, similarity=similarity, row=row)

    def __repr__(self) -> str:
        rows, width = self.features.shape
        return f"Embedding({rows} rows of {width} features)"


def embed(model: Any, images: looking.Images, *, batch_size: int = 32) -> Embedding:
    """Images as what the head of a classifier reads of them, and its answers, in one pass.

    Args:
        model: A `Predictor`, a `keras.Model` of `tl.build_classifier` or your own functional one,
            or the path of a saved classifier.
        images: N images, one or more, as `Predictor.predict` takes them, or a `Split`, which has
            names and labels. They are decoded ahead and not kept.
        batch_size: Images per forward pass.

    Returns:
        The `Embedding`: `features` (N, F), `names`, `labels`, `predicted`; neighbours, a map of
        the rows, files.

    Raises:
        ValueError: An exported file, or a model whose head does not read one row of features; an
            image that cannot be read, named; what `Predictor.predict` and `tl.load` raise.
        TypeError: No classifier.
        FloatingPointError: Features that are not finite.
    """
    _checks.arguments(EMBED, locals())
    looking.check_some(images)
    predictor = predictor_of(model)
    features, probabilities = _computed(predictor, images, batch_size)
    answers = predictor.decision.decide(probabilities).labels
    split = images if isinstance(images, Split) else None
    given: Any = images  # of a sequence, where there is no split
    return Embedding(
        features=features,
        names=tuple(split.name(i) for i in range(len(split))) if split else _names(given),
        labels=None if split is None else _texts(split.labels, split.class_names),
        predicted=_texts(answers, predictor.class_names),
        class_names=tuple(predictor.class_names),
        predictor=predictor,
    )


def _computed(
    predictor: Predictor, images: looking.Images, batch_size: int
) -> tuple[Singles, np.ndarray]:
    """Features (N, F) and probabilities (N, C) of images."""
    engine = _engine(predictor)
    # Made at once: parts that are put together take twice the memory.
    features = np.empty((len(images), engine.features.shape[1]), np.float32)
    probabilities, start = [], 0
    for batch in looking.batches(engine, images, batch_size):
        said, features[start : start + len(batch)] = engine.both(batch)
        probabilities.append(said)
        start += len(batch)
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise FloatingPointError(f"the features of images[{row}] are not finite")
    return features, np.concatenate(probabilities)


def _engine(predictor: Predictor) -> Any:
    """What computes features, of Keras.

    Raises:
        ValueError: There are none.
    """
    if isinstance(predictor.model, Exported):
        rule = "a Keras model or what tl.save wrote: an exported file gives probabilities alone"
        raise _checks.fail("model", rule, predictor.model.path.name)
    engine: Any = predictor.engine
    if engine.features is None:
        rule = (
            "a functional model whose head reads one row of features for each image; a subclassed "
            "one cannot be cut, and some heads read maps or tokens"
        )
        raise _checks.fail("model", rule, predictor.model.name)
    return engine


def _names(images: Sequence[seeing.Image]) -> tuple[str, ...]:
    return tuple(
        str(image) if isinstance(image, (str, Path)) else f"images[{i}]"
        for i, image in enumerate(images)
    )


def _texts(labels: np.ndarray, class_names: Sequence[str]) -> tuple[str, ...]:
    """Labels (N,) or (N, C) as names; several are joined by "|"."""
    if labels.ndim == 1:
        return tuple(class_names[label] for label in labels)
    return tuple("|".join(class_names[int(c)] for c in np.flatnonzero(row)) for row in labels)
