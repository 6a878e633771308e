"""The names of the methods and what their settings may be; loads nothing."""

from typing import Any

from tltoolkit._checks import Integer, Number, OneOf, Table

SAMPLINGS = ("oversample", "undersample", "sqrt", "balanced", "progressive")
# name -> class of imbalanced-learn, and its parameter for the neighbours of a row
SYNTHETIC = {
    "smote": ("SMOTE", "k_neighbors"),
    "borderline_smote": ("BorderlineSMOTE", "k_neighbors"),
    "svm_smote": ("SVMSMOTE", "k_neighbors"),
    "adasyn": ("ADASYN", "n_neighbors"),
}
WEIGHTS = ("balanced", "effective")
LOSSES = ("cross_entropy", "focal", "balanced_focal", "logit_adjusted", "ldam", "asymmetric")
ADJUSTMENTS = ("logit", "retrain")
METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    **{name: {"sampling": name} for name in SAMPLINGS},
    **{name: {"features": name} for name in SYNTHETIC},
    **{name: {"loss": name} for name in LOSSES[1:]},
    **{name: {"adjust": name} for name in ADJUSTMENTS},
    # Both weights and sampling can be balanced; the bare name is that of the weights, as elsewhere.
    **{name: {"weights": name} for name in WEIGHTS},
}

EPOCH_ROWS: Table = {"epoch": Integer(0), "epochs": Integer(1), "seed": Integer(0)}
LONG_TAIL: Table = {"ratio": Number(1), "seed": EPOCH_ROWS["seed"]}
IMBALANCE: Table = {
    "loss": OneOf(*LOSSES),
    "adjust": OneOf(None, *ADJUSTMENTS),
    "beta": Number(above=0, below=1),
    "gamma": Number(0),
    "tau": Number(above=0),
    "margin": Number(above=0),
}
