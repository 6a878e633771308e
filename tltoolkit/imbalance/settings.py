"""What is done about class imbalance: one object, checked at birth."""

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from tltoolkit import _checks
from tltoolkit.imbalance.labels import check_counts
from tltoolkit.imbalance.synthetic import check_sampler
from tltoolkit.imbalance.terms import IMBALANCE, METHODS, SAMPLINGS, SYNTHETIC, WEIGHTS

# The largest class over the smallest one from which "auto" corrects.
RATIO = 1.5


@dataclass(frozen=True, kw_only=True)
class Imbalance:
    """What training does about classes of different size. Any of these, usually one.

    Args:
        weights: How much classes count in the loss: `"balanced"`, `"effective"`, or a mapping
            from class name or number to a weight above 0; see `imbalance.class_weights`.
        sampling: Which images an epoch shows: `"oversample"`, `"undersample"`, `"sqrt"`,
            `"balanced"`, `"progressive"` (over the epochs of a stage), or an imbalanced-learn
            sampler that selects rows by their labels; see `imbalance.epoch_rows`. A head that
            is solved takes the rates of the classes as weights instead of drawing.
        features: Makes up rows of stored features: `"smote"`, `"borderline_smote"`,
            `"svm_smote"`, `"adasyn"` or an imbalanced-learn sampler; see `imbalance.resample`.
            Needs stages that train a head on vectors, such as `plan="linear_probe"`, and is
            taken to level the classes. Epochs take turns among all rows, without `sampling`.
        loss: `"cross_entropy"`, `"focal"`, `"balanced_focal"`, `"logit_adjusted"`, `"ldam"`
            (its weights, effective ones or those given, count from the last fifth of a stage
            on, in its last epoch at least) or, for multi-label, `"asymmetric"`; see
            `tltoolkit.losses`. A head that is solved takes cross-entropy, with the weights of
            `"balanced_focal"` and the correction of `"logit_adjusted"`; a plan of nothing else
            refuses the others.
        adjust: `"logit"` subtracts what the training prior adds to the logits, by the bias of
            the model's last layer, so that scores, files and predictions all have it;
            `"retrain"` adds a last stage "retrain" that trains the head alone on balanced
            classes (Kang et al. 2020), unless the plan has one. See `imbalance.logit_offsets`.
        beta: Of effective weights, in (0, 1).
        gamma: Of `"focal"` and `"balanced_focal"`, >= 0.
        tau: Of logit adjustment, above 0: 1 corrects fully, less corrects less.
        margin: Of LDAM: that of the rarest class, above 0.

    Raises:
        ValueError: An unknown name, a value out of range, or one that the methods do not use.
        TypeError: Something of another type.

    Warns:
        UserWarning: Several of these correct the same thing; it says what to leave out.
    """

    weights: str | Mapping[Any, float] | None = None
    sampling: Any = None
    features: Any = None
    loss: str = "cross_entropy"
    adjust: str | None = None
    # As in Cui et al. 2019 and Lin et al. 2017; margin as in Cao et al. 2019.
    beta: float = 0.9999
    gamma: float = 2.0
    tau: float = 1.0
    margin: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.weights, Mapping):
            # A copy, since the mapping of the caller may change later.
            # The class is frozen, for itself too.
            object.__setattr__(self, "weights", dict(self.weights))
        elif self.weights is not None:
            rule = "None, a name or a mapping from class to weight"
            _checks.instance("weights", self.weights, str, rule)
            _checks.one_of("weights", self.weights, WEIGHTS)
        _check_method("sampling", self.sampling, SAMPLINGS)
        _check_method("features", self.features, tuple(SYNTHETIC))
        _checks.fields(IMBALANCE, self)
        self._check_used()
        self._warn()

    @classmethod
    def named(cls, method: str) -> "Imbalance":
        """The settings that one name stands for, such as "balanced" for the weights.

        Raises:
            ValueError: No such name.
        """
        _checks.one_of("imbalance", method, METHODS)
        return cls(**METHODS[method])

    @property
    def compares(self) -> bool:
        """Whether it goes by how many labels each class has."""
        # These losses know no counts, and so bear a class without images.
        alone = self.loss in ("cross_entropy", "focal", "asymmetric")
        methods = self.weights, self.sampling, self.features, self.adjust
        return not alone or any(method is not None for method in methods)

    def check_labels(self, multi_label: bool) -> None:
        """Raise ValueError where a method does not know this kind of labels."""
        if self.loss == "asymmetric" and not multi_label:
            rule = "one for single labels, such as 'focal' ('asymmetric' is for multi-label data)"
            raise _checks.fail("loss", rule, self.loss)
        if not multi_label:
            return
        if self.loss == "ldam":
            raise _checks.fail("loss", "another one for multi-label data", self.loss)
        if self.features is not None:
            raise _checks.fail("features", "None for multi-label data", self.features)
        if not isinstance(self.sampling, (str, type(None))):
            raise _checks.fail("sampling", "a name for multi-label data", self.sampling)

    def to_dict(self) -> dict[str, Any]:
        """What differs from doing nothing, as plain data; samplers as their text."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed = {name: v for name, v in values.items() if v != getattr(Imbalance, name)}
        plain = (str, float, int, type(None))
        if isinstance(self.weights, dict):
            changed["weights"] = {str(key): float(w) for key, w in self.weights.items()}
        return {n: v if isinstance(v, (*plain, dict)) else repr(v) for n, v in changed.items()}

    def _check_used(self) -> None:
        if self.features is not None and self.sampling is not None:
            rule = "None with `features`, whose rows the epochs show in turn"
            raise _checks.fail("sampling", rule, self.sampling)
        effective = self.weights == "effective" or self.loss == "balanced_focal"
        deferred = self.loss == "ldam" and self.weights is None
        used = {
            "beta": (effective or deferred, "effective weights"),
            "gamma": (self.loss in ("focal", "balanced_focal"), "a focal loss"),
            "tau": (self.adjust == "logit" or self.loss == "logit_adjusted", "logit adjustment"),
            "margin": (self.loss == "ldam", "loss='ldam'"),
        }
        for name, (counts, what) in used.items():
            value, default = getattr(self, name), getattr(Imbalance, name)
            if not counts and value != default:
                rule = f"left out (or {default}) without {what}, which alone goes by it"
                raise _checks.fail(name, rule, value)

    def _warn(self) -> None:
        # Ordered by what to keep; weights of one's own may be costs, which is another matter.
        same = {
            f"loss={self.loss!r}": self.loss in ("balanced_focal", "logit_adjusted", "ldam"),
            "adjust='logit'": self.adjust == "logit",
            f"sampling={self.sampling!r}": self.sampling is not None,
            f"features={self.features!r}": self.features is not None,
            f"weights={self.weights!r}": isinstance(self.weights, str) and self.loss != "ldam",
        }
        kept, *more = [name for name, given in same.items() if given] or [""]
        if more:
            warnings.warn(
                f"{kept} and {' and '.join(more)} correct the same imbalance more than once, "
                f"which favours rare classes too much; drop {' and '.join(more)}",
                stacklevel=4,
            )


def choose(counts: npt.ArrayLike, adjustable: bool = True) -> Imbalance:
    """What `imbalance="auto"` stands for: logit adjustment from a ratio of 1.5 upwards.

    Args:
        counts: Labels of each class, (C,).
        adjustable: Whether the model has a last bias that the adjustment can go into; if not,
            it is part of the loss.
    """
    values = check_counts(counts)
    if values.max() < RATIO * values.min():
        return Imbalance()
    return Imbalance(adjust="logit") if adjustable else Imbalance(loss="logit_adjusted")


def _check_method(name: str, value: Any, names: tuple[str, ...]) -> None:
    if isinstance(value, str):
        _checks.one_of(name, value, names)
    elif value is not None:
        check_sampler(name, value)
